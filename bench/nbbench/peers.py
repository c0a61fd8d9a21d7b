"""Debian's buildah, as root and as an ordinary user, and podman. They have one store format and one way to work."""
import os, pwd, resource, shlex, shutil

from .builders import Builder
from .measure import run
from .places import version_of


def limits():
    """`--ulimit` of what this process may have itself: their default is more, which takes a privilege to set."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    return ["--ulimit", "nofile=%d:%d" % (files, files)] if files != resource.RLIM_INFINITY else []


class Containers(Builder):
    """buildah and podman."""

    program_name = ""

    def missing(self):
        for program in (self.program_name, "runc"):
            if not shutil.which(program):
                return "no `%s` installed (make bench does it)" % program
        return None

    def version(self):
        return version_of(self.program_name, "--version")

    def store(self):
        """Without the home directory of an ordinary user, where the output lies too."""
        return self.state + "/root"

    def program(self):
        """The program with its store."""
        return [self.program_name, "--root", self.state + "/root", "--runroot", self.state + "/run", "--storage-driver", "overlay"]

    def prepare_words(self, *words):
        """For steps that are not measured."""
        return self.enter + self.program() + list(words)

    def make_cold(self, workload):
        self.put_aside()
        self.open()
        environment = self.environment()
        pull = self.prepare_words("pull", "--quiet", *self.platform(workload), "oci:%s:latest" % self.places.layout(workload.base))
        run(*pull, env=environment, cwd="/")
        images = run(*self.prepare_words("images", "--quiet", "--no-trunc"), env=environment, cwd="/")
        run(*self.prepare_words("tag", images.split()[0].removeprefix("sha256:"), "nb-base:" + workload.base), env=environment, cwd="/")

    def build_flags(self):
        return ["--runtime", "runc"]

    def command(self, workload, context, cold):
        build = [*self.program(), "build", "--quiet", "--layers", "--network", "none", "--pull=never", *self.build_flags(), *limits(),
                 "-t", "bench:" + workload.name, *self.platform(workload), *["--no-cache"] * cold, context]
        push = [*self.program(), "push", "--quiet", "bench:" + workload.name, "oci:%s:latest" % self.output]
        return ["sh", "-ec", shlex.join(build) + " && " + shlex.join(push)]


class Buildah(Containers):
    """As root, with runc."""

    name = program_name = "buildah"


class RootlessBuildah(Containers):
    """As an ordinary user with subordinate ids, who can read all below the output directory."""

    name, program_name, slow = "buildah rootless", "buildah", True

    def __init__(self, places, user):
        super().__init__(places)
        self.user = user
        self.output = os.path.join(self.state, "output")

    def missing(self):
        if not self.user:
            return "no ordinary user named by --user"
        try:
            pwd.getpwnam(self.user)
        except KeyError:
            return "no user `%s` here" % self.user
        with open("/etc/subuid", encoding="utf-8") as file:
            if not any(line.startswith(self.user + ":") for line in file):
                return "user `%s` has no subordinate ids in /etc/subuid" % self.user
        return super().missing()

    def open(self):
        account = pwd.getpwnam(self.user)
        for directory in (self.state, self.state + "/home", self.state + "/runtime"):
            os.makedirs(directory, exist_ok=True)
            os.chown(directory, account.pw_uid, account.pw_gid)
        self.enter = ["setpriv", "--reuid", str(account.pw_uid), "--regid", str(account.pw_gid), "--init-groups", "--"]

    def environment(self):
        home = self.state + "/home"
        return {**super().environment(), "HOME": home, "XDG_RUNTIME_DIR": self.state + "/runtime", "USER": self.user,
                "LOGNAME": self.user, "TMPDIR": home, "XDG_DATA_HOME": home, "XDG_CONFIG_HOME": home}


class Podman(Containers):
    """As root, with runc and without systemd."""

    name, program_name, slow = "podman", "podman", True

    def open(self):
        super().open()
        # podman's default limits are more than a container may set.
        _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
        _, processes = resource.getrlimit(resource.RLIMIT_NPROC)
        values = ["%s=%d:%d" % (name, value, value) for name, value in (("nofile", min(files, 20000)), ("nproc", min(processes, 1000)))
                  if value != resource.RLIM_INFINITY]
        with open(self.state + "/containers.conf", "w", encoding="utf-8") as file:
            file.write("[containers]\ndefault_ulimits=[%s]\n" % ", ".join('"%s"' % value for value in values))

    def environment(self):
        return {**super().environment(), "CONTAINERS_CONF": self.state + "/containers.conf"}

    def program(self):
        return [*super().program(), "--tmpdir", self.state + "/tmp", "--cgroup-manager", "cgroupfs", "--runtime", "runc"]

    def build_flags(self):
        return []
