"""A binfmt_misc of one's own for builders that need a registered handler; the host's is not touched."""
import os, subprocess

from .measure import Failed
from .places import BENCH


class Namespaces:
    """Where a foreign architecture has a handler. They live as long as the two descriptors, without a process: one would
    be waited for as an orphan."""

    def __init__(self, qemu, arch):
        with subprocess.Popen([os.path.join(BENCH, "with-binfmt"), qemu, arch, "sh", "-c", "echo $$; exec cat"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as maker:
            pid = maker.stdout.readline().strip()
            if not pid:
                raise Failed("no binfmt_misc of its own in a user namespace here")
            self.descriptors = [os.open("/proc/%s/ns/%s" % (pid, kind), os.O_RDONLY) for kind in ("user", "mnt")]
            maker.stdin.close()
        user, mount = ("/proc/%d/fd/%d" % (os.getpid(), descriptor) for descriptor in self.descriptors)
        self.enter = ["nsenter", "--user=" + user, "--mount=" + mount, "--"]

    def close(self):
        for descriptor in self.descriptors:
            os.close(descriptor)
