"""bench/instructions: instructions of the hot paths, counted by callgrind, and system calls, counted by strace."""
import argparse, json, os, re, shutil, subprocess, sys

from . import figures
from .builders import Ours
from .measure import Failed, run, say
from .places import PROJECT, Places, add_arguments
from .tables import instructions as instructions_table
from .workloads import Workload

PIECES = ("nothing", "data", "tar", "gzip", "hash", "parse", "expansion")
CACHED = """FROM nb-base:busybox
COPY tree /tree
""" + "".join("RUN touch /f%d\n" % number for number in range(30))


def count(words):
    """Instructions of all threads of one process; the processes it starts are not counted."""
    done = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *words], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, errors="replace", check=False)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or not found:
        raise Failed("%s under valgrind: exit code %d\n%s" % (" ".join(words), done.returncode, "\n".join(done.stderr.splitlines()[-8:])))
    return int(found.group(1))


def count_calls(words, log):
    """System calls of a command and of all that it starts."""
    run("strace", "-f", "-c", "-U", "name,calls", "-o", log, *words)
    with open(log, encoding="utf-8", errors="replace") as file:
        found = re.search(r"^total\s+(\d+)", file.read(), re.MULTILINE)
    if not found:
        raise Failed("strace gave no total: see %s" % log)
    return int(found.group(1))


class Counter:
    """All counts by name; a piece that does not run under valgrind is named aloud and left out."""

    def __init__(self, places):
        self.places, self.counts, self.calls, self.skipped = places, {}, {}, {}

    def take(self, name, words):
        try:
            self.counts[name] = count(words)
            say("%s: %d instructions" % (name, self.counts[name]))
        except Failed as failure:
            self.skipped[name] = "it does not run under this valgrind"
            say("SKIPPED %s: %s" % (name, failure))

    def take_calls(self, name, words):
        self.calls[name] = count_calls(words, self.places.log("strace", name))
        say("%s: %d system calls" % (name, self.calls[name]))

    def all(self):
        tree = self.places.path("instructions-tree")
        shutil.rmtree(tree, ignore_errors=True)
        run(self.places.helper, "tree", tree)
        for piece in PIECES:
            self.take(piece, [self.places.helper, piece])
        for name, words in (("walk", [self.places.helper, "walk", tree]), ("start", [self.places.binary, "--version"])):
            self.take(name, words)
            self.take_calls(name, words)
        shutil.rmtree(tree)
        self.cached_build()

    def cached_build(self):
        """The whole program on a build of which everything is cached."""
        ours = Ours(self.places)
        ours.state, ours.output = self.places.path("state", "instructions"), self.places.path("output", "instructions")
        context = self.places.path("instructions-context")
        shutil.rmtree(context, ignore_errors=True)
        os.makedirs(context)
        with open(os.path.join(context, "Dockerfile"), "w", encoding="utf-8") as file:
            file.write(CACHED)
        run(self.places.helper, "tree", context + "/tree")
        # Older than the time within which a file might still change unseen.
        run("find", context, "-exec", "touch", "-h", "-d", "@1700000000", "{}", "+")
        workload = Workload("instructions", "")
        ours.make_cold(workload)
        words = ours.command(workload, context, False)
        # Twice: the second build writes down what the first could not know yet.
        for _ in range(2):
            ours.remove_output()
            run(*words)
        ours.remove_output()
        self.take("cached build", words)
        ours.remove_output()
        self.take_calls("cached build", words)
        for directory in (context, ours.state, ours.output, self.places.aside):
            shutil.rmtree(directory, ignore_errors=True)


def compare(now, path, percent):
    """Prints what differs by more than some per cent; true when nothing takes more and nothing is missing."""
    with open(path, encoding="utf-8") as file:
        recorded = json.load(file)
    good = True
    for kind, unit in (("counts", "instructions"), ("calls", "system calls")):
        for name in sorted({*recorded[kind], *now[kind]}):
            old, new = recorded[kind].get(name), now[kind].get(name)
            if old is None or new is None:
                print("%s: %s only %s" % (name, unit, "now" if old is None else "in " + path))
                good &= new is not None
                continue
            change = 100.0 * (new - old) / old
            if abs(change) > percent:
                print("%s: %d %s, %+.1f %% of the %d recorded" % (name, new, unit, change, old))
                good &= change < 0
    return good


def main(description):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, 1)
    parser.add_argument("--check", metavar="FILE", help="compare with what is recorded there")
    parser.add_argument("--percent", type=float, default=3.0)
    arguments = parser.parse_args()
    places = Places(arguments)
    for program in ("valgrind", "strace", places.binary, places.helper):
        if not shutil.which(program):
            sys.exit("bench/instructions: no `%s` (make bench builds and installs what is needed)" % program)
    run(os.path.join(PROJECT, "scripts/make-base-images"), places.images, "busybox")
    counter = Counter(places)
    try:
        counter.all()
    except Failed as failure:
        sys.exit("bench/instructions: %s" % failure)
    value = {**figures.header(places), "counts": counter.counts, "calls": counter.calls, "skipped": counter.skipped}
    figures.save(places, "instructions", value)
    print(instructions_table(value))
    if arguments.check and not compare(value, arguments.check, arguments.percent):
        return 1
    return 0
