"""The commands of a workload's RUNs in a chroot, without any builder: what its work takes at least."""
import os, re, shlex

from .measure import measure, run


def stages(dockerfile):
    """Commands of each stage; RUNs of these workloads stand on one line."""
    found = []
    with open(dockerfile, encoding="utf-8") as file:
        for line in file:
            if re.match(r"FROM\s", line):
                found.append([])
            elif line.startswith("RUN "):
                found[-1].append(line[4:].strip())
    return [commands for commands in found if commands]


class Direct:
    """Stages beside each other, as in a build, in mount namespaces that have the host's /dev."""

    def __init__(self, places, workload, enter=()):
        self.places, self.workload, self.enter = places, workload, list(enter)
        self.roots, self.number = places.path("state", "direct-" + workload.name), 0
        if os.path.isdir(self.roots):
            places.put_aside(self.roots)

    def measure(self):
        """Nothing is removed between two of them, as with the builders."""
        scripts = []
        self.number += 1
        for number, commands in enumerate(stages(os.path.join(self.places.context(self.workload.name), "Dockerfile"))):
            root = os.path.join(self.roots, str(self.number), str(number))
            os.makedirs(root)
            run("tar", "-xf", os.path.join(self.places.images, self.workload.base + ".tar"), "-C", root)
            os.makedirs(root + "/dev", exist_ok=True)
            # Stands for what COPY --from brings to the last stage of w6.
            os.makedirs(root + "/out", exist_ok=True)
            with open(root + "/out/nothing", "wb"):
                pass
            inside = ["mount --rbind /dev %s/dev" % shlex.quote(root)]
            inside += ["chroot %s /bin/sh -c %s" % (shlex.quote(root), shlex.quote(command)) for command in commands]
            scripts.append(" && ".join(inside))
        waits = "".join("wait $p%d; " % number for number in range(len(scripts)))
        script = "".join("( %s ) & p%d=$!; " % (text, number) for number, text in enumerate(scripts)) + waits
        if len(scripts) == 1:
            script = scripts[0]
        os.sync()
        words = [*self.enter, "unshare", "--mount", "--propagation", "private", "sh", "-ec", script]
        return measure(words, self.places.log("direct", self.workload.name))
