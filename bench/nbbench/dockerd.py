"""BuildKit inside Debian's dockerd. The daemon is started here, with directories and a socket of its own, and stopped here.

Its output is `docker image save`, the only one that its BuildKit has without an exporter of another program: layers are not
compressed in it."""
import os, shlex, shutil, subprocess, time

from .builders import Builder
from .measure import KEPT, Failed, Served, adopt_orphans, end_with_parent, run
from .places import version_of


def client():
    """Debian's client: a newer one wants a plug-in for BuildKit."""
    return os.environ.get("DOCKER") or ("/usr/bin/docker" if os.path.exists("/usr/bin/docker") else "docker")


def prepare_daemon():
    """What loses its parent below the daemon stays there: it is not ours to wait for."""
    adopt_orphans()
    end_with_parent()


class Docker(Builder):
    """dockerd with `DOCKER_BUILDKIT=1`."""

    name = "dockerd"

    def __init__(self, places, enter=()):
        super().__init__(places, enter)
        self.output += ".tar"
        self.process = None

    def missing(self):
        for program in ("dockerd", client()):
            if not shutil.which(program):
                return "no `%s` installed (make bench does it)" % program
        return None

    def version(self):
        return version_of("dockerd", "--version")

    def socket(self):
        return "unix://" + self.state + "/sock"

    def open(self):
        super().open()
        for name in ("pid", "sock"):
            if os.path.exists(os.path.join(self.state, name)):
                os.remove(os.path.join(self.state, name))
        with open(self.state + "/daemon.json", "w", encoding="utf-8") as file:
            file.write("{}\n")
        log_name = self.places.log(self.name + ("-inside" if self.enter else ""))
        with open(log_name, "wb") as log:
            self.process = subprocess.Popen(
                [*self.enter, "dockerd", "--config-file", self.state + "/daemon.json", "--data-root", self.state + "/data",
                 "--exec-root", self.state + "/exec", "--pidfile", self.state + "/pid", "--host", self.socket(),
                 "--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver", "overlay2"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=prepare_daemon)
        KEPT.add(self.process.pid)
        self.served = Served(self.process.pid)
        until = time.monotonic() + 30
        while subprocess.run([client(), "-H", self.socket(), "version"], capture_output=True, check=False).returncode != 0:
            if self.process.poll() is not None or time.monotonic() > until:
                self.close()
                with open(log_name, encoding="utf-8", errors="replace") as file:
                    raise Failed("dockerd does not start:\n" + "".join(file.readlines()[-5:]))
            time.sleep(0.1)

    def close(self):
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        KEPT.discard(self.process.pid)
        self.process = self.served = None

    def environment(self):
        return {**super().environment(), "DOCKER_BUILDKIT": "1", "DOCKER_HOST": self.socket(), "DOCKER_CONFIG": self.state + "/config"}

    def make_cold(self, workload):
        archive = self.places.archive(workload.base)
        self.close()
        self.put_aside()
        self.open()
        run(client(), "load", "--quiet", "--input", archive, env=self.environment())
        # What a daemon does but once after its start is no part of a build.
        build = [client(), "build", "--quiet", "--network", "none", *self.platform(workload), self.small_context(workload)]
        run(*build, env=self.environment())

    def command(self, workload, context, cold):
        build = [client(), "build", "--quiet", "--network", "none", "-t", "bench:" + workload.name,
                 *self.platform(workload), *["--no-cache"] * cold, context]
        save = [client(), "image", "save", "-o", self.output, "bench:" + workload.name]
        return ["sh", "-ec", shlex.join(build) + " && " + shlex.join(save)]

    def store(self):
        return self.state + "/data"

    def measure(self, workload, cold, sample=False):
        entered, self.enter = self.enter, []
        try:
            return super().measure(workload, cold, sample)
        finally:
            self.enter = entered
