# Read by the generators in this directory. Each is called
#     wN DIRECTORY BASE
# and makes DIRECTORY with a Dockerfile in it that builds on BASE. All bytes come from fixed seeds and all times are
# the same, so that two machines measure the same work. SMALL=1 makes little ones, to try things out.
set -eu
umask 022
export LC_ALL=C
context=${1:?usage: wN DIRECTORY BASE}
base=${2:?usage: wN DIRECTORY BASE}
rm -rf "$context"
mkdir -p "$context"

# size FULL SMALL
size() { if [ -n "${SMALL:-}" ]; then echo "$2"; else echo "$1"; fi; }
finish() { find "$context" -exec touch -h -d @1700000000 {} +; }
