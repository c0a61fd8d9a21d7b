"""bench/instructions: instructions of the hot paths, counted by callgrind, and system calls, counted by strace."""
import argparse, json, os, re, shutil, subprocess, sys, time

from . import figures
from .builders import Ours
from .measure import Failed, run, say
from .places import PROJECT, Places, add_arguments, version_of
from .tables import instructions as instructions_table
from .workloads import Workload

# Seconds after which the digest of a file that nobody touched is remembered, and one more.
SETTLED = 3
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
    """System calls of a command and of all that it starts; how often threads wait for each other is among them."""
    run("strace", "-f", "-c", "-U", "name,calls", "-o", log, *words)
    with open(log, encoding="utf-8", errors="replace") as file:
        found = re.search(r"^total\s+(\d+)", file.read(), re.MULTILINE)
    if not found:
        raise Failed("strace gave no total: see %s" % log)
    return int(found.group(1))


class Counter:
    """All counts by name; a piece that does not run under valgrind is named aloud and left out."""

    def __init__(self, places, runs):
        self.places, self.runs, self.counts, self.calls, self.skipped = places, runs, {}, {}, {}

    def take(self, name, words):
        try:
            self.counts[name] = count(words)
            say("%s: %d instructions" % (name, self.counts[name]))
        except Failed as failure:
            self.skipped[name] = "it does not run under this valgrind"
            say("SKIPPED %s: %s" % (name, failure))

    def take_calls(self, name, words, before=lambda: None):
        """The least of some runs: chance only adds."""
        found = []
        for _ in range(self.runs):
            before()
            found.append(count_calls(words, self.places.log("strace", name)))
        self.calls[name] = min(found)
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
        # Older than the time within which a file might still change unseen, which the time of its last change tells too.
        run("find", context, "-exec", "touch", "-h", "-d", "@1700000000", "{}", "+")
        time.sleep(SETTLED)
        workload = Workload("instructions", "")
        ours.make_cold(workload)
        words = ours.command(workload, context, False)
        # Twice: the second build writes down what the first could not know yet.
        for _ in range(2):
            ours.remove_output()
            run(*words)
        ours.remove_output()
        self.take("cached build", words)
        self.take_calls("cached build", words, ours.remove_output)
        for directory in (context, ours.state, ours.output, self.places.aside):
            shutil.rmtree(directory, ignore_errors=True)


def compiler_of(binary):
    """What the compiler wrote into its work about itself."""
    with open(binary, "rb") as file:
        found = re.search(rb"rustc version ([^\0\n]+)", file.read())
    return found.group(1).decode(errors="replace") if found else "unknown"


def conditions(value):
    """All that counts depend on besides the source; figures of earlier days may lack some of it."""
    machine = value["machine"]
    found = {"compiler": value.get("compiler"), "valgrind": value.get("valgrind"), "CPU": machine["cpu"], "cores": machine["usable_cores"],
             "kernel": machine["kernel"]}
    return {what: said for what, said in found.items() if said is not None}


def compare(now, recorded, percent):
    """Prints what differs by more than some per cent, and what else could be the reason; true when nothing takes more and
    nothing is missing."""
    there, here, good = conditions(recorded), conditions(now), True
    for what in there.keys() & here.keys():
        if there[what] != here[what]:
            print("another %s than recorded, which may be a reason: %s, and not %s" % (what, here[what], there[what]))
    for kind, unit in (("counts", "instructions"), ("calls", "system calls")):
        for name in sorted({*recorded[kind], *now[kind]}):
            old, new = recorded[kind].get(name), now[kind].get(name)
            if old is None or new is None:
                print("%s: %s only %s" % (name, unit, "now" if old is None else "recorded"))
                good &= new is not None
                continue
            change = 100.0 * (new - old) / old
            if abs(change) > percent:
                print("%s: %d %s, %+.1f %% of the %d recorded" % (name, new, unit, change, old))
                good &= change < 0
    print("%s takes more than %g %% more than at commit %s" % ("nothing" if good else "something is missing or", percent, recorded["commit"]))
    return good


def read_recorded(path, needed):
    """Counts to compare with; read before anything is counted, since new ones may take their place."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        if needed:
            sys.exit("bench/instructions: nothing is recorded in %s" % path)
        say("nothing is recorded in %s yet" % path)
        return None


def arguments_of(description):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, 3)
    parser.add_argument("--check", nargs="?", const="", metavar="FILE", help="compare with what is recorded (there)")
    parser.add_argument("--record", nargs="?", const="", metavar="FILE", help="keep the counts (there)")
    parser.add_argument("--percent", type=float, default=3.0)
    return parser.parse_args()


def main(description):
    arguments = arguments_of(description)
    places = Places(arguments)
    for program in ("valgrind", "strace", places.binary, places.helper):
        if not shutil.which(program):
            sys.exit("bench/instructions: no `%s` (make instructions builds and installs what is needed)" % program)
    published = figures.path(places, "instructions")
    recorded = None
    if arguments.check is not None:
        recorded = read_recorded(arguments.check or published, needed=arguments.record is None)
    run(os.path.join(PROJECT, "scripts/make-base-images"), places.images, "busybox")
    counter = Counter(places, arguments.runs)
    try:
        counter.all()
    except Failed as failure:
        sys.exit("bench/instructions: %s" % failure)
    value = {**figures.header(places), "counts": counter.counts, "calls": counter.calls, "skipped": counter.skipped,
             "compiler": compiler_of(places.binary), "valgrind": version_of("valgrind", "--version")}
    if arguments.record is not None:
        figures.write(arguments.record or published, value)
    print(instructions_table(value))
    return 0 if recorded is None or compare(value, recorded, arguments.percent) else 1
