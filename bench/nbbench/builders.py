"""Builders: how each gets a cold cache, the command that is measured, and where its bytes lie."""
import os, shutil

from .measure import Failed, bytes_on_disk, bytes_written, measure, run, unique_bytes
from .places import version_of

OURS = "nativebuild"
OWN = "nativebuild, own handler"


class Builder:
    """What they share. A cold build has the base image unpacked in the builder's store, and nothing else."""

    name = ""
    # Slow builders are run less often.
    slow = False
    # A daemon does the work.
    served = None

    def __init__(self, places, enter=()):
        self.places, self.enter = places, list(enter)
        label = self.name.replace(", ", "-").replace(" ", "-") + ("-inside" if enter else "")
        self.state = places.path("state", label)
        self.output = places.path("output", label)

    def missing(self):
        """Why it cannot run here; None when it can."""
        return None

    def open(self):
        """Before the first build of a workload."""
        os.makedirs(self.state, exist_ok=True)

    def close(self):
        """After the last one."""

    def version(self):
        return None

    def platform(self, workload):
        """Flags of a build for a foreign architecture."""
        return ["--platform", "linux/" + workload.foreign] if workload.foreign else []

    def make_cold(self, workload):
        """A new store with the base image in it; what was there before is put aside."""
        raise NotImplementedError

    def put_aside(self):
        """Leaves the removal of a store for the end: ext4 looks at all inodes that were removed in the last minute, for each
        new one, so that whoever builds next would pay for it."""
        if os.path.isdir(self.state):
            self.places.put_aside(self.state)

    def small_context(self, workload):
        """A build that has nothing to do with any workload's cache."""
        context = self.places.path("warm-up")
        os.makedirs(context, exist_ok=True)
        with open(os.path.join(context, "Dockerfile"), "w", encoding="utf-8") as file:
            file.write("FROM nb-base:%s\nRUN true\n" % workload.base)
        return context

    def command(self, workload, context, cold):
        """The measured words; a cold build looks at no cache, should one be left."""
        raise NotImplementedError

    def store(self):
        """The directory that holds its images and caches."""
        return self.state

    def environment(self):
        return dict(os.environ)

    def measure(self, workload, cold, sample=False, silent=False):
        """One build into an empty output; into none at all with `silent`, which only we are asked for."""
        self.remove_output()
        os.sync()
        words = self.enter + (self.silent if silent else self.command)(workload, self.places.context(workload.name), cold)
        return measure(words, self.places.log(self.name, workload.name), self.served, sample, self.environment())

    def remove_output(self):
        if os.path.isdir(self.output):
            shutil.rmtree(self.output)
        elif os.path.exists(self.output):
            os.remove(self.output)

    def sizes(self):
        """Bytes of the store and of the output."""
        return {"store": bytes_on_disk(self.store()), "output": bytes_written(self.output)}


class Ours(Builder):
    """nativebuild; the binary is started without a shell."""

    name = OURS

    def missing(self):
        return None if os.access(self.places.binary, os.X_OK) else "no `%s` (make bench builds it)" % self.places.binary

    def version(self):
        return version_of(self.places.binary, "--version")

    def make_cold(self, workload):
        self.put_aside()
        os.makedirs(self.state)
        environment = {**os.environ, "NATIVEBUILD_ROOT": self.state}
        run(*self.enter, self.places.binary, "image", "import", "nb-base:" + workload.base, self.places.layout(workload.base), env=environment)
        # This unpacks it, as a pull of the peers does.
        run(*self.enter, self.places.binary, "build", "--network", "none", *self.platform(workload), self.small_context(workload), env=environment)

    def command(self, workload, context, cold):
        return self.silent(workload, context, cold) + ["-o", "type=oci,tar=false,dest=" + self.output]

    def silent(self, workload, context, cold):
        return [self.places.binary, "build", "--root", self.state, "--network", "none", "-t", "bench:" + workload.name,
                *self.platform(workload), *["--no-cache"] * cold, context]

    def sizes(self):
        layers, contents = unique_bytes(self.state)
        return {**super().sizes(), "layers": layers, "contents": contents}


class OursWithOwnHandler(Ours):
    """nativebuild where nobody has registered a handler."""

    name = OWN

    def platform(self, workload):
        return super().platform(workload) + ["--qemu-dir", self.places.qemu]


def checked(builder):
    """Opens a builder; gives the reason when it cannot be used."""
    if reason := builder.missing():
        return reason
    try:
        builder.open()
    except (Failed, OSError) as failure:
        return str(failure)
    return None
