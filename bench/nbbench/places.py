"""Where things are, and how they get there: contexts and base images, the emulator, states, outputs, figures."""
import hashlib, os, shutil, subprocess, time

from .measure import run

BENCH = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROJECT = os.path.dirname(BENCH)
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(PROJECT, "target"))
BINARY = os.path.join(TARGET, "release/nativebuild")
HELPER = os.path.join(TARGET, "release/examples/hot-paths")
OUT = os.path.join(BENCH, "out")
SMALL = bool(os.environ.get("SMALL"))
# Raw figures are published beside the page that is made of them.
FIGURES = os.path.join(PROJECT, "docs/bench/figures")
# Bytes below which what is aside is removed between two workloads.
FULL = 40 << 30
# Seconds for which ext4 does not give away again an inode that was removed: one minute, and five more while that is not on the disk.
REST = 360


def add_arguments(parser, runs, small=1):
    """Flags that all commands have; `runs` is the default, and `small` that of a trial."""
    parser.add_argument("--binary", default=BINARY)
    parser.add_argument("--helper", default=HELPER, help="the example `hot-paths`, which walks directories")
    parser.add_argument("--out", default=OUT)
    parser.add_argument("--runs", type=int, default=small if SMALL else runs)


class Places:
    """All paths of one invocation."""

    def __init__(self, arguments):
        self.out = os.path.abspath(arguments.out)
        self.binary = os.path.abspath(arguments.binary)
        self.helper = os.path.abspath(arguments.helper)
        self.images = os.path.join(self.out, "images")
        self.qemu = os.path.join(self.out, "qemu")
        self.aside = os.path.join(self.out, "aside")
        self.figures = self.path("figures-small") if SMALL else FIGURES if self.out == OUT else self.path("figures")
        for directory in (self.images, self.figures, self.path("state"), self.path("output"), self.path("log")):
            os.makedirs(directory, exist_ok=True)
        # ext4 then gives every store a group of inodes of its own: nobody passes over those that others removed.
        subprocess.run(["chattr", "+T", self.path("state")], capture_output=True, check=False)

    def path(self, *names):
        return os.path.join(self.out, *names)

    def put_aside(self, directory):
        """Leaves the removal of a directory for later."""
        os.makedirs(self.aside, exist_ok=True)
        os.rename(directory, os.path.join(self.aside, "%d-%d" % (os.getpid(), len(os.listdir(self.aside)))))

    def remove_aside(self):
        for name in ("aside", "warm-up"):
            shutil.rmtree(self.path(name), ignore_errors=True)

    def make_room(self):
        """Removes what is aside when the disk is nearly full; that is not to be felt in what comes next."""
        if shutil.disk_usage(self.out).free < FULL:
            self.remove_aside()
            os.sync()
            time.sleep(0 if SMALL else REST)

    def context(self, name):
        return self.path("context-small" if SMALL else "context", name)

    def log(self, *names):
        return self.path("log", "-".join(names).replace(" ", "-").replace(",", ""))

    def layout(self, base):
        """OCI layout of a base image."""
        return os.path.join(self.images, base + ".oci")

    def archive(self, base):
        """The same for `docker load`, made when first asked for."""
        path = os.path.join(self.images, base + ".docker.tar")
        if not os.path.exists(path):
            run("skopeo", "copy", "--quiet", "oci:%s:latest" % self.layout(base), "docker-archive:%s:nb-base:%s" % (path, base))
        return path

    def prepare(self, workload):
        """Base image and context, made once."""
        if workload.foreign:
            self.prepare_foreign(workload)
        else:
            run(os.path.join(PROJECT, "scripts/make-base-images"), self.images, workload.base)
        self.make_context(workload.name, workload.base)

    def make_context(self, name, base):
        """Made anew when the generator, or what it is told, is another one than the last time."""
        context, made, wanted = self.context(name), self.context(name) + ".made", recipe(name, base)
        if os.path.exists(made):
            with open(made, encoding="ascii") as file:
                if file.read() == wanted:
                    return
            os.remove(made)
        if os.path.isdir(context):
            self.put_aside(context)
        run(os.path.join(BENCH, "workloads", name), context, "nb-base:" + base, env={**os.environ, "IMAGES": self.images})
        with open(made, "w", encoding="ascii") as file:
            file.write(wanted)

    def read_context(self, name):
        """Once, so that whoever comes first does not read it from the disk for all others."""
        run("sh", "-c", "find \"$1\" -type f -exec cat {} + > /dev/null", "sh", self.context(name))

    def prepare_foreign(self, workload):
        """The base image of another architecture, and the emulator."""
        environment = {**os.environ, "APT_CACHE": self.path("apt")}
        run(os.path.join(PROJECT, "scripts/make-foreign-bases"), self.images, workload.base, env=environment)
        run(os.path.join(PROJECT, "scripts/fetch-qemu"), self.qemu, workload.foreign, env=environment)
        if not os.path.exists(os.path.join(self.layout(workload.base), "index.json")):
            shutil.rmtree(self.layout(workload.base), ignore_errors=True)
            run(os.path.join(PROJECT, "scripts/rootfs-to-oci"), "--architecture", workload.foreign,
                os.path.join(self.images, workload.base + ".tar"), self.layout(workload.base), "latest")


def recipe(name, base):
    """A digest of all that a context follows from."""
    digest = hashlib.sha256(base.encode())
    for part in (name, "lib.sh"):
        with open(os.path.join(BENCH, "workloads", part), "rb") as file:
            digest.update(file.read())
    told = ["%s=%s" % (variable, os.environ.get(variable, "")) for variable in ("STEPS", "FILES", "MB", "LINES", "PLATFORM", "PACKAGES")]
    digest.update("\n".join(told).encode())
    return digest.hexdigest()


def version_of(*words):
    """First line that a program says about itself."""
    try:
        said = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    except OSError:
        return None
    return said.strip().splitlines()[0] if said.strip() else None
