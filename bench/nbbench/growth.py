"""bench/growth: cold builds of one size after the other, and whether the price of a unit grows."""
import argparse, os, shutil, statistics, sys

from . import figures
from .builders import Ours
from .measure import Failed, adopt_orphans, measure, run, say, stop_orderly
from .places import PROJECT, SMALL, Places, add_arguments
from .tables import growth as growth_table
from .workloads import Workload

# More than this from one size to a larger one, beyond the smallest, is not linear any more.
MOST = 1.3
# MiB of the main process, whatever the size.
MEMORY = 128
GIB = 1 << 30


class Series:
    """Something that grows: `dockerfile(size)` is the text, `files(context, size)` makes what it copies."""

    def __init__(self, name, unit, sizes, small, dockerfile, files=None, room=lambda size: 0):
        self.name, self.unit, self.sizes = name, unit, small if SMALL else sizes
        self.dockerfile, self.files, self.room = dockerfile, files or (lambda context, size: None), room


def run_steps(size):
    return "".join("RUN touch /f%d\n" % number for number in range(size))


def many_files(context, size):
    for number in range(size):
        if number % 500 == 0:
            directory = os.path.join(context, "tree/d%04d" % (number // 500))
            os.makedirs(directory)
        with open(os.path.join(directory, "f%d" % number), "w", encoding="ascii") as file:
            file.write("content of file %d\n" % number)


def made_files(size):
    # A thousand in each directory, as a package manager's cache would have.
    return ("RUN mkdir /made && cd /made && for d in $(seq %d); do mkdir $d; (cd $d; seq 1000 | sed s/^/some-file-name-/ | xargs touch); done\n"
            % (size // 1000))


def one_layer(size):
    # Text that compresses well and is no hole: the price is that of reading, packing and hashing it.
    return "RUN yes \"$(seq 1 2000 | tr '\\n' ' ')\" | head -c %d > /layer\n" % (size * 1_000_000)


def many_stages(size):
    stages = "".join("FROM nb-base:busybox AS s%d\nRUN echo %d > /out%d\n" % (number, number, number) for number in range(size))
    return stages + "FROM nb-base:busybox\n" + "".join("COPY --from=s%d /out%d /out/\n" % (number, number) for number in range(size))


SERIES = [
    Series("steps", "RUN steps", (10, 100, 1000), (2, 4, 8), run_steps),
    Series("files", "files copied", (1000, 10_000, 100_000, 500_000), (100, 200, 400), lambda size: "COPY tree /tree\n", many_files,
           lambda size: size * 4096 * 3),
    Series("made", "files made by a RUN", (1000, 10_000, 100_000, 500_000), (1000, 2000, 3000), made_files),
    Series("layer", "MB in a layer", (10, 100, 1000, 8000), (1, 2, 4), one_layer, room=lambda size: size * 1_000_000 * 2),
    Series("stages", "stages", (1, 4, 16, 64), (1, 2, 4), many_stages),
]


class Growing(Ours):
    """nativebuild on contexts that are made for one size and removed again."""

    def __init__(self, places):
        super().__init__(places)
        self.state, self.output = places.path("state", "growth"), places.path("output", "growth")
        self.context = places.path("growth")
        self.base = Workload("growth", "")

    def point(self, series, size, runs):
        """Median figures of one size."""
        need, free = series.room(size) * runs + GIB, shutil.disk_usage(self.places.out).free
        if need > free:
            raise Failed("%s %d: needs %.1f GiB below %s, and there are %.1f" % (series.name, size, need / GIB, self.places.out, free / GIB))
        self.leave(self.context)
        os.makedirs(self.context)
        with open(os.path.join(self.context, "Dockerfile"), "w", encoding="utf-8") as file:
            file.write(("" if series.name == "stages" else "FROM nb-base:busybox\n") + series.dockerfile(size))
        series.files(self.context, size)
        run("find", self.context, "-exec", "touch", "-h", "-d", "@1700000000", "{}", "+")
        found = []
        for number in range(runs):
            self.make_cold(self.base)
            self.remove_output()
            os.sync()
            found.append(measure(self.command(self.base, self.context, True), self.places.log("growth", series.name)))
            say("growth %s %d run %d: %.3f s, %.2f s CPU, %.0f MiB" % (
                series.name, size, number + 1, found[-1].wall, found[-1].cpu, found[-1].main))
        return {"size": size, "wall": round(statistics.median(one.wall for one in found), 4),
                "cpu": round(statistics.median(one.cpu for one in found), 4), "main": round(max(one.main for one in found), 1), "runs": runs}

    def points(self, series, runs):
        """Figures of all sizes up to one that fails, and what that said."""
        found = []
        try:
            for size in series.sizes:
                found.append(self.point(series, size, runs))
        except Failed as failure:
            say("growth of %s failed: %s" % (series.name, failure))
            return found, "%d %s: %s" % (size, series.unit, first_error(str(failure)))
        finally:
            self.leave(self.context)
            self.leave(self.state)
            shutil.rmtree(self.output, ignore_errors=True)
        return found, None

    def leave(self, directory):
        """Removes nothing: the next builds would pay for it."""
        if os.path.isdir(directory):
            self.places.put_aside(directory)


def first_error(text):
    """The line that says what went wrong, of all that a build said."""
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    return lines[0].removeprefix("error: ") if lines else text.splitlines()[0]


def grown(points):
    """Largest growth of the price of a unit from one size to a larger one, beyond the smallest, in wall or CPU time."""
    worst = 0.0
    for what in ("wall", "cpu"):
        prices = [point[what] / point["size"] for point in points[1:]]
        worst = max([worst] + [later / earlier for index, earlier in enumerate(prices) for later in prices[index + 1:] if earlier])
    return worst


def arguments_of(description):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, 3)
    names = [series.name for series in SERIES]
    parser.add_argument("series", nargs="*", metavar="SERIES", help="of %s; all by default" % ", ".join(names))
    arguments = parser.parse_args()
    if unknown := set(arguments.series) - set(names):
        parser.error("no such series: %s" % ", ".join(sorted(unknown)))
    return arguments


def main(description):
    arguments = arguments_of(description)
    if os.getuid() != 0:
        sys.exit("bench/growth: needs root")
    adopt_orphans()
    stop_orderly()
    places = Places(arguments)
    run(os.path.join(PROJECT, "scripts/make-base-images"), places.images, "busybox")
    old = figures.load(places, "growth") or {"series": {}}
    done = {name: {"commit": old["commit"], **series} for name, series in old["series"].items()}
    code, growing = 0, Growing(places)
    for series in SERIES:
        if arguments.series and series.name not in arguments.series:
            continue
        places.make_room()
        points, why = growing.points(series, arguments.runs)
        code |= why is not None
        growth = grown(points)
        head = figures.header(places)
        done[series.name] = {"unit": series.unit, "points": points, "growth": round(growth, 3), "failed": why, "commit": head["commit"],
                             "superlinear": growth > MOST if len(points) > 2 else None}
        figures.save(places, "growth", {**head, "series": done})
    places.remove_aside()
    if done:
        print(growth_table(done, MEMORY))
    return code
