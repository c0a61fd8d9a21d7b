"""Many builds of w5 at once in one store, each with an environment of its own, so that each does all of the work."""
import os, shutil

from .builders import Ours
from .measure import say, together
from .workloads import BY_NAME

COUNT = 20


class Crowd(Ours):
    """nativebuild, `count` times at once."""

    def __init__(self, places, count):
        super().__init__(places)
        self.count, self.workload = count, BY_NAME["w5"]
        self.state = places.path("state", "crowd")
        self.output = places.path("output", "crowd")
        self.files = places.path("crowd")

    def dockerfile(self, number):
        path = os.path.join(self.files, "Dockerfile.%d" % number)
        os.makedirs(self.files, exist_ok=True)
        with open(os.path.join(self.places.context("w5"), "Dockerfile"), encoding="utf-8") as file:
            first, rest = file.read().split("\n", 1)
        with open(path, "w", encoding="utf-8") as file:
            file.write("%s\nENV BUILD=%d\n%s" % (first, number, rest))
        return path

    def words(self, number):
        return [self.places.binary, "build", "--root", self.state, "--network", "none", "-f", self.dockerfile(number),
                "-o", "type=oci,tar=false,dest=%s/%d" % (self.output, number), self.places.context("w5")]

    def build(self, numbers):
        """Builds at once, from a cold store."""
        self.make_cold(self.workload)
        shutil.rmtree(self.output, ignore_errors=True)
        os.makedirs(self.output)
        commands = [self.words(number) for number in numbers]
        os.sync()
        return together(commands, self.places.log("crowd"))

    def run(self, runs):
        """Pairs of figures: one build alone, and all at once."""
        self.places.prepare(self.workload)
        found = []
        for number in range(runs):
            one, all_ = self.build([0]), self.build(range(1, self.count + 1))
            found.append({"count": self.count, "one_wall": round(one.wall, 3), "one_cpu": round(one.cpu, 3), "wall": round(all_.wall, 3),
                          "cpu": round(all_.cpu, 3), "memory": round(all_.memory, 1), "main": round(all_.main, 1)})
            say("crowd run %d: one %.2f s, %.2f s CPU; %d at once %.2f s, %.2f s CPU, %.0f MiB the largest" % (
                number + 1, one.wall, one.cpu, self.count, all_.wall, all_.cpu, all_.main))
        for directory in (self.output, self.files):
            shutil.rmtree(directory, ignore_errors=True)
        return found
