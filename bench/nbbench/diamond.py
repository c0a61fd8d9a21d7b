"""bench/diamond: whether the digest of a build depends on anything but its inputs."""
import argparse, os, shutil, sys

from . import figures
from .builders import Ours
from .judge import one_digest
from .measure import Failed, run, say, stop_orderly
from .places import Places, add_arguments
from .tables import diamond as diamond_table
from .workloads import BY_NAME

JOBS = (1, 2, 3, 4, 8, 16)
EPOCH = "1700000000"
# The comparison of builders on the same workload has the other name.
FIGURES = "diamond-digests"


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

    def settings(self, runs):
        """How many builds gave which digest, by `--jobs` and by number of cores; all cores and one take turns."""
        found, cores = {}, sorted(os.sched_getaffinity(0))
        for number in range(runs):
            jobs, alone = JOBS[number % len(JOBS)], number // len(JOBS) % 2 == 1
            digest = self.digest(jobs, cores[0] if alone else None)
            digests = found.setdefault((jobs, 1 if alone else len(cores)), {})
            digests[digest] = digests.get(digest, 0) + 1
            if (number + 1) % 50 == 0:
                say("%d builds, %d digests" % (number + 1, len({digest for digests in found.values() for digest in digests})))
        return [{"jobs": jobs, "cores": count, "digests": digests} for (jobs, count), digests in sorted(found.items())]

    def remove(self):
        """Nothing is timed here, so that it may go at once."""
        shutil.rmtree(self.state, ignore_errors=True)


def main(description):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, 200, small=2 * len(JOBS))
    arguments = parser.parse_args()
    if os.getuid() != 0:
        sys.exit("bench/diamond: needs root")
    stop_orderly()
    places = Places(arguments)
    repeated = Repeated(places)
    try:
        places.prepare(repeated.workload)
        repeated.make_cold(repeated.workload)
        settings = repeated.settings(arguments.runs)
    except Failed as failure:
        sys.exit("bench/diamond: %s" % failure)
    finally:
        repeated.remove()
    value = {**figures.header(places), "runs": arguments.runs, "settings": settings}
    figures.save(places, FIGURES, value)
    print(diamond_table(value))
    return 0 if one_digest(value) else 1
