"""Markdown tables of figures."""
from .builders import OURS, OWN
from .judge import ALL_PROCESSES, RIVALS, builds_of, crowd_bound, digests_of, one_digest, verdict

# Times what the layers of a store take once, packed and unpacked.
MOST_ON_DISK = 1.1
SHOWN = (OURS, "dockerd", "buildah", "podman", "buildah rootless")


def table(rows):
    """A Markdown table with aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def seconds(value):
    if value is None:
        return "–"
    return "%.3f" % value if value < 1 else "%.2f" % value if value < 100 else "%.0f" % value


def mib(value):
    return "–" if value is None else "%.0f" % (value / (1 << 20))


def modes_of(summary):
    return [mode for mode in summary.workload.modes if mode in summary.rows]


def walls(summaries):
    rows = [["workload", "mode", *SHOWN, "times faster", "target", ""]]
    for summary in summaries:
        for mode in modes_of(summary):
            ratio, target = summary.ratio(mode), summary.workload.targets.get(mode)
            judged = verdict(ratio >= target) if target and ratio else ""
            rows.append([summary.workload.name, mode, *(seconds(summary.wall(mode, name)) for name in SHOWN),
                         "%.1f" % ratio if ratio else "–", "≥ %d" % target if target else "", judged])
        if own := summary.wall("cold", OWN):
            rows.append([summary.workload.name, "cold, own handler", seconds(own)] + ["–"] * (len(SHOWN) - 1) + ["–", "", ""])
    return table(rows)


def bounds(summaries, crowd):
    rows = [["workload", "what", "measured s", "allowed s", "which is", ""]]
    for summary in summaries:
        for what, measured, allowed, why in summary.bounds():
            rows.append([summary.workload.name, what, seconds(measured), seconds(allowed), why, verdict(measured <= allowed)])
    if crowd:
        measured, allowed, why = crowd_bound(crowd)
        rows.append(["w5", "%d builds at once, wall" % crowd["runs"][0]["count"], seconds(measured), seconds(allowed), why, verdict(measured <= allowed)])
    return table(rows)


def costs(summaries):
    """CPU time and memory. Ours is the main process; a RUN's own processes are not its memory."""
    names = [name for name in SHOWN if any(name in by_builder for summary in summaries for by_builder in summary.rows.values())]
    rows = [["workload", "mode"] + ["%s CPU s" % name for name in names] + ["%s MiB" % name for name in names] + ["target", ""]]
    for summary in summaries:
        for mode in modes_of(summary):
            by_builder = summary.rows[mode]
            cpu = [seconds(by_builder[name]["cpu"]) if name in by_builder else "–" for name in names]
            memory = ["%.0f" % by_builder[name]["main" if name == OURS else "memory"] if name in by_builder else "–" for name in names]
            limit = summary.workload.memory
            judged = verdict(by_builder[OURS]["main"] <= limit) if OURS in by_builder else ""
            rows.append([summary.workload.name, mode, *cpu, *memory, "≤ %d" % limit, judged])
        if sampled := summary.rows.get(ALL_PROCESSES):
            memory = ["%.0f" % sampled[name]["memory"] if name in sampled else "–" for name in names]
            rows.append([summary.workload.name, ALL_PROCESSES] + ["–"] * len(names) + memory + ["", ""])
    return table(rows)


def sizes(summaries):
    names = [name for name in SHOWN if any("output" in row for summary in summaries
                                           for builder, row in summary.rows.get("cold", {}).items() if builder == name)]
    rows = [["workload"] + ["%s store MiB" % name for name in names] + ["%s output MiB" % name for name in names] + ["unique MiB", "allowed", "", "contents MiB"]]
    for summary in summaries:
        cold = summary.rows.get("cold", {})
        ours = cold.get(OURS, {})
        allowed = ours["layers"] * MOST_ON_DISK if "layers" in ours else None
        rows.append([summary.workload.name] + [mib(cold.get(name, {}).get(kind)) for kind in ("store", "output") for name in names] +
                    [mib(ours.get("layers")), mib(allowed), verdict(ours["store"] <= allowed) if allowed else "", mib(ours.get("contents"))])
    return table(rows)


def shortest(summary):
    """The table that a run prints at its end: our figures beside the rivals'."""
    rows = [["workload", "mode", "wall s", *RIVALS, "times faster", "CPU s", "MiB"]]
    for mode in modes_of(summary):
        row = summary.rows[mode].get(OURS)
        if row is None:
            continue
        ratio = summary.ratio(mode)
        rows.append([summary.workload.name, mode, seconds(row["wall"]), *(seconds(summary.wall(mode, name)) for name in RIVALS),
                     "%.1f" % ratio if ratio else "–", seconds(row["cpu"]), "%.0f" % row["main"]])
    return table(rows)


def growth(series, most):
    """`most` is the MiB that no size may take."""
    rows = [["what grows", "size", "wall s", "CPU s", "MiB", "wall ms per unit", "CPU ms per unit", "growth", "", "≤ %d MiB" % most]]
    for name, figures in series.items():
        if not figures["points"]:
            continue
        for point in figures["points"]:
            rows.append(["", "%d %s" % (point["size"], figures["unit"]), seconds(point["wall"]), seconds(point["cpu"]),
                         "%.0f" % point["main"], "%.3f" % (point["wall"] * 1000 / point["size"]), "%.3f" % (point["cpu"] * 1000 / point["size"]),
                         "", "", ""])
        rows[-len(figures["points"])][0] = name
        judged = {True: "**superlinear**", False: "linear", None: "too few sizes"}[figures["superlinear"]]
        rows[-1][-3:] = ["%.2f" % figures["growth"] if figures["growth"] else "–", judged,
                         verdict(max(point["main"] for point in figures["points"]) <= most)]
    failed = ["\n**Failed:** %s" % figures["failed"] for figures in series.values() if figures.get("failed")]
    return "\n".join([table(rows), *failed])


def diamond(figures):
    """A row for each number of cores, one for all builds, and the digests themselves when there is more than one."""
    settings = figures["settings"]
    rows = [["cores", "`--jobs`", "builds", "different digests", ""]]
    for cores in sorted({setting["cores"] for setting in settings}, reverse=True):
        these = [setting for setting in settings if setting["cores"] == cores]
        jobs = ", ".join(str(setting["jobs"]) for setting in these)
        rows.append([str(cores), jobs, str(builds_of(these)), str(len(digests_of(these))), ""])
    rows.append(["together", "", str(builds_of(settings)), str(len(digests_of(settings))), verdict(one_digest(figures))])
    different = sorted(digests_of(settings))
    places = ["* %s: %s" % (digest, ", ".join("%d with `--jobs %d` on %d" % (setting["digests"][digest], setting["jobs"], setting["cores"])
                                              for setting in settings if digest in setting["digests"]))
              for digest in different if len(different) > 1]
    return "\n".join([table(rows), *([""] + places if places else [])])


def instructions(found):
    counts, calls = found["counts"], found["calls"]
    names = list(dict.fromkeys([*counts, *calls]))
    return table([["path", "instructions", "system calls"]] + [
        [name, *("{:,}".format(kind[name]) if name in kind else "–" for kind in (counts, calls))] for name in names])
