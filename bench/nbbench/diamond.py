"""bench/diamond: whether the digest of a build depends on anything but its inputs."""
import argparse, os, sys

from . import figures
from .builders import Ours
from .measure import Failed, run, say, stop_orderly
from .places import Places, add_arguments
from .workloads import BY_NAME

JOBS = (1, 2, 3, 4, 8, 16)
EPOCH = "1700000000"


class Repeated(Ours):
    """The same build again and again in one store, without its cache."""

    def __init__(self, places):
        super().__init__(places)
        self.state, self.output = places.path("state", "diamond"), places.path("output", "diamond")
        self.workload = BY_NAME["diamond"]

    def digest(self, jobs, core=None):
        """Of one build, on one core when it is named: the threads take turns in another way then."""
        words = [self.places.binary, "build", "--quiet", "--root", self.state, "--network", "none", "--no-cache", "--jobs", str(jobs),
                 "--source-date-epoch", EPOCH, self.places.context("diamond")]
        return run(*([] if core is None else ["taskset", "--cpu-list", str(core)]), *words).strip()


def main(description):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, 200)
    arguments = parser.parse_args()
    if os.getuid() != 0:
        sys.exit("bench/diamond: needs root")
    stop_orderly()
    places = Places(arguments)
    repeated, found = Repeated(places), {}
    try:
        places.prepare(repeated.workload)
        repeated.make_cold(repeated.workload)
        first_core = min(os.sched_getaffinity(0))
        for number in range(arguments.runs):
            alone = number // len(JOBS) % 2 == 1
            digest = repeated.digest(JOBS[number % len(JOBS)], first_core if alone else None)
            found[digest] = found.get(digest, 0) + 1
            if (number + 1) % 50 == 0:
                say("%d builds, %d digests" % (number + 1, len(found)))
    except Failed as failure:
        sys.exit("bench/diamond: %s" % failure)
    figures.save(places, "diamond-digests", {**figures.header(places), "runs": arguments.runs, "jobs": list(JOBS), "digests": found})
    print("%d builds of the diamond: %d digest%s" % (arguments.runs, len(found), "" if len(found) == 1 else "s"))
    for digest, times in sorted(found.items()):
        print("%s %d" % (digest, times))
    return 0 if len(found) == 1 else 1
