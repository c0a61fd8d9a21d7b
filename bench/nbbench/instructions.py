"""bench/instructions: instructions of the hot paths, counted by callgrind."""
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


def count(words, environment=None):
    """Instructions of all threads of one process; the processes it starts are not counted."""
    done = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *words], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, errors="replace", check=False, env=environment)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or not found:
        raise Failed("%s under valgrind: exit code %d\n%s" % (" ".join(words), done.returncode, "\n".join(done.stderr.splitlines()[-8:])))
    return int(found.group(1))


class Counter:
    """All counts by name; a piece that does not run under valgrind is named aloud and left out."""

    def __init__(self, places):
        self.places, self.counts, self.skipped = places, {}, {}

    def take(self, name, words, environment=None):
        try:
            self.counts[name] = count(words, environment)
            say("%s: %d instructions" % (name, self.counts[name]))
        except Failed as failure:
            self.skipped[name] = str(failure).splitlines()[-1]
            say("SKIPPED %s: %s" % (name, failure))

    def all(self):
        tree = self.places.path("instructions-tree")
        shutil.rmtree(tree, ignore_errors=True)
        run(self.places.helper, "tree", tree)
        for piece in PIECES:
            self.take(piece, [self.places.helper, piece])
        self.take("walk", [self.places.helper, "walk", tree])
        shutil.rmtree(tree)
        self.take("start", [self.places.binary, "--version"])
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
        for directory in (context, ours.state, ours.output):
            shutil.rmtree(directory, ignore_errors=True)


def compare(counts, path, percent):
    """Prints what differs by more than some per cent; true when nothing takes more."""
    with open(path, encoding="utf-8") as file:
        recorded = json.load(file)["counts"]
    good = True
    for name in sorted({*recorded, *counts}):
        old, new = recorded.get(name), counts.get(name)
        if old is None or new is None:
            print("%s: only %s" % (name, "now" if old is None else "in " + path))
            good &= new is not None
            continue
        change = 100.0 * (new - old) / old
        if abs(change) > percent:
            print("%s: %d instructions, %+.1f %% of the %d recorded" % (name, new, change, old))
            good &= change < 0
    return good


def main(description):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, 1)
    parser.add_argument("--check", metavar="FILE", help="compare with what is recorded there")
    parser.add_argument("--percent", type=float, default=3.0)
    arguments = parser.parse_args()
    places = Places(arguments)
    for program in ("valgrind", places.binary, places.helper):
        if not shutil.which(program):
            sys.exit("bench/instructions: no `%s` (make bench builds and installs what is needed)" % program)
    run(os.path.join(PROJECT, "scripts/make-base-images"), places.images, "busybox")
    counter = Counter(places)
    try:
        counter.all()
    except Failed as failure:
        sys.exit("bench/instructions: %s" % failure)
    value = {**figures.header(places), "counts": counter.counts, "skipped": counter.skipped}
    figures.save(places, "instructions", value)
    print(instructions_table(counter.counts))
    if arguments.check and not compare(counter.counts, arguments.check, arguments.percent):
        return 1
    return 0
