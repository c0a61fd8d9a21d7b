"""docs/bench: a page of tables and one picture for each mode, made of the figures that are there and nothing else."""
import os

from . import bars, figures, judge, tables
from .builders import OURS, OWN
from .diamond import FIGURES as DIGESTS
from .growth import MEMORY
from .places import BENCH, OUT, PROJECT, SMALL
from .workloads import ALL

TITLES = {"cold": "Nothing cached but the base image", "warm": "The same build again", "edit": "One small file more in the context"}

METHOD = """\
Every builder builds the same contexts on the same base image, in turns, in one run: one build of each builder, then the next, and in each turn another one begins; what is of an earlier run is named below.
The time ends when the image lies in a file or an OCI layout of its own: nativebuild, buildah and podman pack the layers that they made with gzip, `docker image save` packs none, which is less work.
The layer of the base image is not packed to begin with: nativebuild and dockerd hand it on as it is, buildah and podman pack it in each push, which is more work (127 MB in w5, 2 MB in all others).
`cold` has a new store with the base image unpacked, on which nativebuild and dockerd have built `RUN true` once, and nothing else; stores of earlier turns stay until the end, because ext4 looks at all inodes that anybody removed in the last minute before it gives away a new one, and each store lies in a group of inodes of its own; `warm` is the same build again, for nativebuild once more without an output right after it; in `edit` one small file was put among the 50,000.
Times are medians, memory is the largest peak: of nativebuild's main process, of dockerd, of the largest process of buildah and podman.
What Python hands down to the processes it starts, some 15 MiB, is the least that can be seen.
CPU time is that of all processes of the build, in RUNs too, and of the daemon.
The target of a row is about the better of dockerd and buildah as root; podman and buildah as an ordinary user are run less often and are there to be seen.
`bench/run --help` says the rest, and `make bench` does all of it again.
"""


DISK = """\
After a cold build: the whole store with the base image, and the output.
nativebuild keeps a layer as the blob that is written and pushed, and, where a step looked at its files, as these too; dockerd and buildah make the blob anew each time.
`unique` is the sum of both for the layers of all stages, each blob, and each file and directory of a layer, once, in blocks of 4 KiB; the store may take 1.1 times as much.
In `contents` files of equal content count once, whichever layers have them: less than what a store of layers can have on a file system that shares no data between files.
Layers that no step looked into are not unpacked, so there it takes less.
"""


def summaries_of(places):
    return [judge.Summary(workload, found) for workload in ALL if (found := figures.load(places, workload.name))]


def about(summaries, others):
    """Lines about where and when."""
    # The name of the workload is that of the figures, but for the diamond's digests.
    named = [(summary.workload.name, summary.figures) for summary in summaries]
    named += [("diamond" if name == DIGESTS else name, figure) for name, figure in others.items() if figure]
    found, lines = [figure for _, figure in named], []
    for machine in unique(figure["machine"] for figure in found):
        lines.append("* %s, %d cores (%d usable), %.0f GiB, %s, Linux %s, %s" % (
            machine["cpu"], machine["cores"], machine["usable_cores"], machine["memory"] / (1 << 30), machine["system"], machine["kernel"],
            machine["file_system"]))
    versions, commits, skipped = {}, {}, {}
    for name, figure in named:
        for builder, version in figure.get("versions", {}).items():
            versions.setdefault(builder, []).append(version)
        for commit in commits_of(figure):
            commits.setdefault(commit, []).append(name)
        for missing, why in figure.get("skipped", {}).items():
            skipped.setdefault((missing, why), []).append(name)
    lines += ["* %s: %s" % (name, ", ".join(unique(filter(None, said)))) for name, said in sorted(versions.items()) if any(said)]
    lines += ["* commit %s: %s" % (commit, ", ".join(names)) for commit, names in commits.items()]
    lines.append("* measured %s to %s" % (min(figure["date"] for figure in found)[:10], max(figure["date"] for figure in found)[:10]))
    lines += ["* %s of an earlier run than nativebuild in %s" % (builder, "; ".join(rows)) for builder, rows in earlier(summaries).items()]
    lines += ["* without %s in %s: %s" % (name, ", ".join(names), why) for (name, why), names in skipped.items()]
    return "\n".join(lines)


def commits_of(figure):
    """Commits of our own figures: parts are measured again by themselves."""
    parts = [part for part in figure["runs"] if part.get("builder") in (OURS, OWN)] if isinstance(figure.get("runs"), list) else []
    parts += figure.get("series", {}).values()
    return unique(part.get("commit", figure["commit"]) for part in parts) or [figure["commit"]]


def earlier(summaries):
    """Rows by builder that were not measured in turns with ours."""
    found = {}
    for summary in summaries:
        modes = {}
        for mode, builder in summary.earlier():
            modes.setdefault(builder, []).append(mode)
        for builder, these in modes.items():
            found.setdefault(builder, []).append("%s %s" % (summary.workload.name, " and ".join(these)))
    return found


def unique(values):
    found = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def panels(summaries, mode):
    for summary in summaries:
        bars_of = [(name, wall) for name in tables.SHOWN if (wall := summary.wall(mode, name))]
        if len(bars_of) > 1:
            ratio = summary.ratio(mode)
            times = "" if not ratio else ": %.1f times faster" % ratio if ratio >= 1 else ": %.1f times slower" % (1 / ratio)
            yield "%s, %s%s" % (summary.workload.name, summary.workload.what, times), bars_of


def section(parts, title, *texts):
    parts.append("## %s\n" % title)
    parts.extend(text.rstrip("\n") + "\n" for text in texts)


def write(places):
    """Makes the page; gives its path. Figures of a trial or of another --out do not make the published one."""
    docs = places.path("docs-small") if SMALL else os.path.join(PROJECT, "docs/bench") if places.out == OUT else places.path("docs")
    os.makedirs(docs, exist_ok=True)
    summaries = summaries_of(places)
    others = {name: figures.load(places, name) for name in ("crowd", "growth", "instructions", DIGESTS)}
    if not summaries and not any(others.values()):
        raise SystemExit("bench/report: no figures below %s; bench/run makes them" % places.figures)
    parts = ["# Benchmarks\n", "This page was made by `bench/report` from measured figures; it is not edited by hand.\n"]
    if SMALL:
        parts.append("**These are small workloads of a trial (SMALL=1): the figures say nothing.**\n")
    section(parts, "Method", METHOD)
    section(parts, "Machine and versions", about(summaries, others))
    if summaries:
        section(parts, "Wall time in seconds", tables.walls(summaries), *pictures(summaries, docs))
        section(parts, "Bounds", "What a build may take whatever others take.", tables.bounds(summaries, others["crowd"]))
        section(parts, "CPU time and memory", tables.costs(summaries))
        section(parts, "Bytes on disk", DISK, tables.sizes(summaries))
    add_others(parts, others)
    section(parts, "Workloads", "\n".join(workloads(summaries, others)))
    page = os.path.join(docs, "README.md")
    with open(page, "w", encoding="utf-8") as file:
        file.write("\n".join(parts))
    return page


def workloads(summaries, others):
    """Those that the page has figures of."""
    shown = {summary.workload.name for summary in summaries} | ({"diamond"} if others[DIGESTS] else set())
    lines = ["* %s: %s" % (workload.name, workload.what) for workload in ALL if workload.name in shown]
    if crowd := others["crowd"]:
        lines.append("* crowd: %d builds of w5 at once in one store, which share no step but FROM" % crowd["runs"][0]["count"])
    return lines


def pictures(summaries, docs):
    for mode, title in TITLES.items():
        if shown := list(panels(summaries, mode)):
            with open(os.path.join(docs, mode + ".svg"), "w", encoding="utf-8") as file:
                file.write(bars.picture(title + "; times are against the better of dockerd and buildah", shown, OURS))
            yield "![%s](%s.svg)" % (title, mode)


def add_others(parts, others):
    if growth := others["growth"]:
        section(parts, "Growth", "Cold builds of one size after the other. A row is superlinear when the price of a unit grows by more than 1.3 over "
                "the sizes beyond the smallest, in wall or in CPU time.", tables.growth(growth["series"], MEMORY))
    # Figures of trials may lie there from before it was kept which build had which setting.
    if (digests := others[DIGESTS]) and "settings" in digests:
        section(parts, "One digest", "The diamond built again and again, all steps each time, with the same epoch: nothing but the inputs "
                "may show in the digest.", tables.diamond(digests))
    if counts := others["instructions"]:
        section(parts, "Instructions", "Counted by callgrind and strace, so that a regression shows on a busy machine too: "
                "`make instructions` compares.", tables.instructions(counts))


def relative(path):
    return os.path.relpath(path, os.path.dirname(BENCH))
