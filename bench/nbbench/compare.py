"""Builders in turns on one workload."""
import os, shutil, subprocess, time

from .binfmt import Namespaces
from .builders import OURS, OWN, Ours, OursWithOwnHandler, checked
from .direct import Direct
from .dockerd import Docker
from .judge import ALL_PROCESSES, SILENT
from .measure import Failed, measure, say
from .peers import Buildah, Podman, RootlessBuildah

PEERS = ("buildah", "buildah-rootless", "dockerd", "podman")


def make_builders(places, workload, peers, user, namespaces):
    """All that were asked for; without the check whether they are there."""
    enter = namespaces.enter if namespaces else ()
    makers = {"buildah": lambda: Buildah(places, enter), "dockerd": lambda: Docker(places, enter)}
    if not workload.foreign:
        makers.update({"buildah-rootless": lambda: RootlessBuildah(places, user), "podman": lambda: Podman(places)})
    builders = [Ours(places, enter)] + [makers[name]() for name in peers if name in makers]
    return builders + [OursWithOwnHandler(places)] * bool(workload.foreign)


def turn(builders, number):
    """Another one begins each time, and every second time the others come the other way round, so that nobody always has the
    same one before it."""
    first = number % len(builders)
    others = builders[first + 1:] + builders[:first]
    return [builders[first], *(reversed(others) if number % 2 else others)]


class Comparison:
    """One workload. `records` are dictionaries as figures.py writes them."""

    def __init__(self, places, workload, arguments):
        self.places, self.workload, self.arguments = places, workload, arguments
        self.records, self.walks, self.direct, self.skipped, self.versions = [], [], [], {}, {}
        self.modes = [mode for mode in workload.modes if mode in arguments.modes]

    def run(self):
        self.places.prepare(self.workload)
        self.places.read_context(self.workload.name)
        namespaces = Namespaces(self.places.qemu, self.workload.foreign) if self.workload.foreign else None
        builders = []
        try:
            for builder in make_builders(self.places, self.workload, self.arguments.peers, self.arguments.user, namespaces):
                if reason := checked(builder):
                    self.skip(builder, reason)
                    continue
                self.versions[builder.name] = builder.version()
                builders.append(builder)
            self.take_turns(builders)
            if self.workload.bound:
                direct = Direct(self.places, self.workload, namespaces.enter if namespaces else ())
                self.direct = [direct.measure() for _ in range(self.arguments.runs)]
        finally:
            for builder in builders:
                builder.close()
            if namespaces:
                namespaces.close()
        return self

    def skip(self, builder, reason):
        if builder.name in (OURS, OWN):
            raise Failed("%s: %s" % (builder.name, reason))
        self.skipped[builder.name] = reason.strip().splitlines()[-1]
        say("SKIPPED %s in %s: %s" % (builder.name, self.workload.name, reason))

    def take_turns(self, builders):
        builders = list(builders)
        for number in range(self.arguments.runs):
            if number == 0 or "cold" in self.modes:
                self.each(builders, number, lambda builder: builder.make_cold(self.workload))
            order = turn(builders, number)
            if number == 0 and self.modes and "cold" not in self.modes:
                # What was asked for needs the cache that a cold build would have left; before any edit.
                self.each(order, number, lambda builder: builder.measure(self.workload, False))
            for mode in self.modes:
                if mode == "edit":
                    self.edit(number)
                self.each(order, number, lambda builder, mode=mode: self.one(builder, mode, number))
            builders = [builder for builder in builders if builder in order]
            self.undo_edit()
        if self.arguments.memory and "cold" in self.modes:
            for builder in builders:
                builder.make_cold(self.workload)
                self.record(builder, ALL_PROCESSES, 0, builder.measure(self.workload, True, sample=True))

    def each(self, builders, number, work):
        """Does something with every builder whose turn it is; one that fails is left out from then on."""
        for builder in list(builders):
            if builder.slow and number >= self.arguments.slow_runs:
                continue
            try:
                work(builder)
            except Failed as failure:
                self.skip(builder, str(failure))
                builder.close()
                builders.remove(builder)

    def one(self, builder, mode, number):
        measured = builder.measure(self.workload, mode == "cold")
        sizes = builder.sizes() if mode == "cold" and self.is_last(builder, number) else None
        self.record(builder, mode, number, measured, sizes)
        if mode == "warm" and builder.name == OURS:
            # The copy of the output is no part of what has to be looked at again.
            self.record(builder, SILENT, number, builder.measure(self.workload, False, silent=True))
            self.walk()

    def is_last(self, builder, number):
        runs = self.arguments.runs
        return number + 1 == (min(runs, self.arguments.slow_runs) if builder.slow else runs)

    def record(self, builder, mode, number, measured, sizes=None):
        record = {"mode": mode, "builder": builder.name, "run": number + 1, "wall": round(measured.wall, 4), "cpu": round(measured.cpu, 3),
                  "memory": round(measured.memory, 1), "main": round(measured.main, 1), "at": int(time.time())}
        record.update(sizes or {})
        self.records.append(record)
        say("%s %s %s run %d: %.3f s, %.2f s CPU, %.0f MiB" % (
            self.workload.name, mode, builder.name, number + 1, measured.wall, measured.cpu, measured.memory))

    def walk(self):
        """One lstat of everything in the context, beside the rebuild that has to do at least this."""
        if not os.access(self.places.helper, os.X_OK):
            say("SKIPPED walks: no `%s` (make bench builds it)" % self.places.helper)
            return
        context = self.places.context(self.workload.name)
        self.walks.append(round(measure([self.places.helper, "lstat", context], self.places.log("walk")).wall, 4))

    def edit(self, number):
        """Puts one small file into a directory, with another content in each turn."""
        with open(self.edited(), "w", encoding="utf-8") as file:
            file.write("edit %d %d\n" % (number, time.time_ns()))

    def undo_edit(self):
        if os.path.exists(self.edited()):
            os.remove(self.edited())

    def edited(self):
        return os.path.join(self.places.context(self.workload.name), "tree/d007/edited.txt")


def put_aside(places):
    """Stores of all builders; outputs are removed, which are few files."""
    # A builder that was stopped half-way leaves mounts behind.
    with open("/proc/self/mounts", encoding="utf-8", errors="replace") as file:
        mounted = [line.split()[1] for line in file]
    for point in reversed(mounted):
        if point.startswith(places.path("state") + "/"):
            subprocess.run(["umount", "--lazy", point], check=False)
    for name in os.listdir(places.path("state")):
        places.put_aside(places.path("state", name))
    shutil.rmtree(places.path("output"), ignore_errors=True)
    os.makedirs(places.path("output"), exist_ok=True)
