"""bench/run: its flags, and one workload after the other."""
import argparse, os, sys

from . import figures, report
from .compare import PEERS, Comparison, put_aside
from .crowd import COUNT, Crowd
from .judge import Summary
from .measure import Failed, adopt_orphans, say, stop_orderly
from .places import SMALL, Places, add_arguments
from .tables import shortest
from .workloads import BY_NAME, CROWD, NAMES

MODES = ("cold", "warm", "edit")


def words_of(known):
    def parse(text):
        words = [word for word in text.split(",") if word]
        if unknown := set(words) - set(known):
            raise argparse.ArgumentTypeError("no such name: %s; there are %s" % (", ".join(sorted(unknown)), ", ".join(known)))
        return words
    return parse


def arguments_of(description):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, 5)
    parser.add_argument("--slow-runs", type=int, default=1, help="of podman and buildah as an ordinary user")
    parser.add_argument("--peers", type=words_of(PEERS), default=list(PEERS), help="of %s" % ", ".join(PEERS))
    parser.add_argument("--modes", type=words_of(MODES), default=list(MODES), help="of %s" % ", ".join(MODES))
    parser.add_argument("--user", help="ordinary user for buildah without root")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--keep", action="store_true", help="leave stores and outputs of the builders")
    parser.add_argument("--report", action="store_true", help="only make docs/bench out of the figures that are there")
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD")
    arguments = parser.parse_args()
    if unknown := set(arguments.workloads) - set(NAMES):
        parser.error("no such workload: %s; there are %s" % (", ".join(sorted(unknown)), ", ".join(NAMES)))
    return arguments


def run_one(name, places, arguments):
    """Measures a workload, writes its figures and gives the table to print."""
    if name == CROWD:
        count = 3 if SMALL else COUNT
        runs = Crowd(places, count).run(arguments.runs)
        figures.save(places, CROWD, {**figures.header(places), "workload": CROWD, "runs": runs})
        return None
    comparison = Comparison(places, BY_NAME[name], arguments)
    try:
        comparison.run()
    finally:
        comparison.undo_edit()
    figures.save_comparison(places, comparison)
    return shortest(Summary(comparison.workload, figures.load(places, name)))


def main(description):
    arguments = arguments_of(description)
    stop_orderly()
    places = Places(arguments)
    if arguments.report:
        print(report.relative(report.write(places)))
        return 0
    if os.getuid() != 0:
        sys.exit("bench/run: needs root (buildah with runc, dockerd)")
    if not os.access(places.binary, os.X_OK):
        sys.exit("bench/run: no `%s` (make bench builds it)" % places.binary)
    adopt_orphans()
    code = 0
    for number, name in enumerate(arguments.workloads or NAMES):
        if number and not arguments.keep:
            places.make_room()
        try:
            if text := run_one(name, places, arguments):
                print(text, flush=True)
        except Failed as failure:
            say("%s failed: %s" % (name, failure))
            code = 1
        finally:
            if not arguments.keep:
                put_aside(places)
    if not arguments.keep:
        places.remove_aside()
    return code
