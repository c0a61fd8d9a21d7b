"""What is built, in which modes, and what is asked of the figures: a table."""
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Workload:
    """`targets` are factors by which the best of dockerd and root's buildah must be slower, by mode."""
    name: str
    what: str
    base: str = "busybox"
    modes: tuple = ("cold", "warm")
    # An architecture, as images and as qemu call it.
    foreign: str = ""
    targets: dict = field(default_factory=dict)
    # Most MiB of our main process.
    memory: int = 128
    # `commands`: cold wall against the CPU time of the commands on all cores; `emulated`: against their wall time.
    bound: str = ""
    # Share of the bound that is allowed.
    allowed: float = 1.0


ALL = [
    Workload("w1", "30 RUNs that touch one file each", targets={"cold": 15, "warm": 12}, memory=48),
    Workload("w3", "COPY of 50,000 small files, 400 MB", modes=("cold", "warm", "edit"), targets={"cold": 4, "warm": 15, "edit": 4}),
    Workload("w4", "one RUN that writes 1 GiB", targets={"cold": 2, "warm": 8}),
    Workload("w5", "dpkg of some thirty packages, removals, links", base="debian", targets={"cold": 2, "warm": 10}),
    Workload("w6", "four independent stages of pure CPU work", targets={"warm": 10}, bound="commands", allowed=1.05),
    Workload("w7", "10 RUNs of linux/s390x under qemu", base="busybox-s390x", foreign="s390x", targets={"warm": 10}, memory=48,
             bound="emulated", allowed=1.1),
    Workload("w8", "100 COPYs of one file", targets={"cold": 20, "warm": 40}, memory=48),
    Workload("noise-run", "one RUN that writes 1 GiB of random bytes"),
    Workload("noise-copy", "COPY of one file of 1 GiB of random bytes"),
    Workload("files", "a context of 100,000 files: COPY of one, a RUN, COPY of all"),
    Workload("diamond", "8 stages: one, six on it, one that joins them"),
]
BY_NAME = {workload.name: workload for workload in ALL}
# Twenty builds of w5 at once are no comparison of builders: see crowd.
CROWD = "crowd"
NAMES = [*BY_NAME, CROWD]
