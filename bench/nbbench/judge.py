"""From raw figures to medians, ratios and verdicts."""
import statistics

from .builders import OURS, OWN

# The builders that the targets are about, both with root's rights.
RIVALS = ("dockerd", "buildah")
# The mode in which memory of all processes together was sampled; its times do not count.
ALL_PROCESSES = "cold, all processes"
# The mode in which we were asked for no output.
SILENT = "warm, no output"


class Summary:
    """Medians of one workload: `rows[mode][builder]` has wall, cpu, memory, main, runs, at (the first), and sizes where they were taken."""

    def __init__(self, workload, figures):
        self.workload, self.figures, self.rows = workload, figures, {}
        for record in figures["runs"]:
            self.rows.setdefault(record["mode"], {}).setdefault(record["builder"], []).append(record)
        for by_builder in self.rows.values():
            for builder, records in by_builder.items():
                by_builder[builder] = summed_up(records)

    def wall(self, mode, builder=OURS):
        row = self.rows.get(mode, {}).get(builder)
        return row["wall"] if row else None

    def best_rival(self, mode):
        walls = [wall for name in RIVALS if (wall := self.wall(mode, name)) is not None]
        return min(walls) if walls else None

    def ratio(self, mode):
        """How many times faster than the best rival."""
        ours, rival = self.wall(mode), self.best_rival(mode)
        return rival / ours if ours and rival else None

    def earlier(self):
        """(mode, builder) whose figures are of an earlier run than ours beside them. We are in each run, and first in it."""
        return [(mode, builder) for mode, by_builder in self.rows.items() if OURS in by_builder
                for builder, row in by_builder.items() if row["at"] < by_builder[OURS]["at"]]

    def cores(self):
        return self.figures["machine"]["usable_cores"]

    def bounds(self):
        """What the targets besides ratios allow: (what, measured, allowed, how the allowance came about)."""
        found = []
        if self.figures["walks"] and self.wall("warm"):
            walk = statistics.median(self.figures["walks"])
            for mode in (SILENT, "warm"):
                if measured := self.wall(mode):
                    found.append((mode + " wall", measured, 0.030 + 1.2 * walk, "30 ms + 1.2 × walk of %.1f ms" % (walk * 1000)))
        direct = self.figures["direct"]
        if direct and self.workload.bound == "commands" and self.wall("cold"):
            cpu = statistics.median(run["cpu"] for run in direct)
            found.append(("cold wall", self.wall("cold"), self.workload.allowed * cpu / self.cores(),
                          "%.2f × %.2f s CPU ÷ %d cores" % (self.workload.allowed, cpu, self.cores())))
        if direct and self.workload.bound == "emulated":
            wall = statistics.median(run["wall"] for run in direct)
            for builder in (OURS, OWN):
                if measured := self.wall("cold", builder):
                    found.append(("cold wall" + ("" if builder == OURS else ", own handler"), measured, self.workload.allowed * wall,
                                  "%.1f × %.2f s directly" % (self.workload.allowed, wall)))
        return found


def summed_up(records):
    row = {"wall": statistics.median(record["wall"] for record in records), "cpu": statistics.median(record["cpu"] for record in records),
           "memory": max(record["memory"] for record in records), "main": max(record["main"] for record in records), "runs": len(records),
           "at": min(record.get("at", 0) for record in records)}
    for record in records:
        for name in ("store", "output", "layers", "contents"):
            if name in record:
                row[name] = record[name]
    return row


def verdict(met):
    return "met" if met else "**short**"


def digests_of(settings):
    """All digests that builds with some settings gave."""
    return {digest for setting in settings for digest in setting["digests"]}


def builds_of(settings):
    return sum(sum(setting["digests"].values()) for setting in settings)


def one_digest(figures):
    """Whether the digest depended on nothing: all builds of the diamond gave one, and there were several."""
    return len(digests_of(figures["settings"])) == 1 and builds_of(figures["settings"]) > 1


def crowd_bound(figures):
    """Median wall of many builds at once and what they may take, with its explanation."""
    runs, cores = figures["runs"], figures["machine"]["usable_cores"]
    cpu, count = statistics.median(run["one_cpu"] for run in runs), runs[0]["count"]
    return (statistics.median(run["wall"] for run in runs), 1.1 * cpu * count / cores, "1.1 × %.2f s CPU × %d ÷ %d cores" % (cpu, count, cores))
