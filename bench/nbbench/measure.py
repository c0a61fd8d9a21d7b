"""One command, or several at once, measured: wall time, CPU time of all processes, peak memory; and bytes on disk."""
import ctypes, os, shlex, signal, subprocess, sys, threading, time

TICK = os.sysconf("SC_CLK_TCK")
# Daemons that this program started; everybody else who becomes its child is waited for.
KEPT = set()


class Failed(Exception):
    """A command that must work did not."""


def say(text):
    print("# " + text, file=sys.stderr, flush=True)


def run(*words, **options):
    """Runs a step that is not measured."""
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False, **options)
    if done.returncode != 0:
        raise Failed("%s: exit code %d\n%s" % (shlex.join(words), done.returncode, done.stdout.decode(errors="replace")))
    return done.stdout.decode(errors="replace")


def process_control(option, value):
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise Failed("prctl: %s" % os.strerror(ctypes.get_errno()))


def adopt_orphans():
    """Makes this process the parent of all processes whose parent ended, so that their time is counted."""
    set_child_subreaper = 36
    process_control(set_child_subreaper, 1)


def end_with_parent():
    """Ends this process when its parent does, however that came about."""
    set_parent_death_signal = 1
    process_control(set_parent_death_signal, signal.SIGTERM)


def stop_orderly():
    """Makes SIGTERM an exception, so that daemons are stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def children_of_all():
    """All processes by parent."""
    children = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        if fields := stat_fields(int(name)):
            children.setdefault(int(fields[1]), []).append(int(name))
    return children


def stat_fields(pid):
    """Fields of /proc/PID/stat from the state on; nothing for a process that is gone."""
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as file:
            return file.read().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None


def family(pid):
    """A process and all its descendants."""
    children, found, todo = children_of_all(), [], [pid]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def status_kilobytes(pid, *fields):
    try:
        with open("/proc/%d/status" % pid, encoding="utf-8", errors="replace") as file:
            return sum(int(line.split()[1]) for line in file if line.startswith(tuple(field + ":" for field in fields)))
    except OSError:
        return 0


class Sampler(threading.Thread):
    """Highest sum of anonymous memory over a process and all its descendants."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.peak, self.stopped = pid, 0, threading.Event()

    def run(self):
        while not self.stopped.wait(0.02):
            self.peak = max(self.peak, sum(status_kilobytes(pid, "RssAnon", "RssShmem") for pid in family(self.pid)))


class Served:
    """CPU time and memory of a daemon that does the work for the command that is measured."""

    def __init__(self, pid):
        self.pid = pid

    def cpu(self):
        """Of all processes that it has now, with those that they waited for."""
        return sum(sum(map(int, fields[11:15])) for pid in family(self.pid) if (fields := stat_fields(pid))) / TICK

    def forget_peak(self):
        with open("/proc/%d/clear_refs" % self.pid, "w", encoding="ascii") as file:
            file.write("5")

    def peak(self):
        return status_kilobytes(self.pid, "VmHWM") / 1024


class Measured:
    """What a command took: seconds, seconds, MiB; `main` is the memory of the started process and of those that it waited for
    itself, which nativebuild's RUNs are not, or of the daemon."""

    def __init__(self, wall, cpu, memory, main):
        self.wall, self.cpu, self.memory, self.main = wall, cpu, memory, main


def start(words, log, environment=None):
    with open(log, "ab") as file:
        return os.posix_spawnp(words[0], words, environment or os.environ, file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, file.fileno(), 1), (os.POSIX_SPAWN_DUP2, file.fileno(), 2)])


def orphans():
    """What each adopted process used; waits for their ends."""
    while adopted := [pid for pid in children_of_all().get(os.getpid(), []) if pid not in KEPT]:
        for pid in adopted:
            try:
                yield os.wait4(pid, 0)[2]
            except ChildProcessError:
                pass


def measure(words, log, served=None, sample=False, environment=None):
    """Runs one command."""
    return together([words], log, served, sample, environment)


def together(commands, log, served=None, sample=False, environment=None):
    """Runs commands at the same time; the wall time is that of the last."""
    if served:
        served.forget_peak()
        before = served.cpu()
    begun = time.monotonic()
    pids = [start(words, log, environment) for words in commands]
    sampler = Sampler(served.pid if served else pids[0]) if sample else None
    if sampler:
        sampler.start()
    ends = [os.wait4(pid, 0) for pid in pids]
    wall = time.monotonic() - begun
    usages = [usage for _, _, usage in ends]
    main = max(usage.ru_maxrss for usage in usages) / 1024
    # What the builder left to others to wait for (nativebuild's spawner, which did all RUNs) comes to us.
    usages += orphans()
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    memory = max(usage.ru_maxrss for usage in usages) / 1024
    if served:
        cpu += served.cpu() - before
        memory = max(memory, served.peak())
        main = served.peak()
    if sampler:
        sampler.stopped.set()
        sampler.join()
        memory = sampler.peak / 1024
    for words, (_, status, _) in zip(commands, ends):
        if os.waitstatus_to_exitcode(status) != 0:
            with open(log, encoding="utf-8", errors="replace") as file:
                tail = "".join(file.readlines()[-20:])
            raise Failed("%s: failed; the end of %s:\n%s" % (shlex.join(words), log, tail))
    return Measured(wall, cpu, memory, main)


def bytes_on_disk(top):
    """Blocks of all files below a path, in bytes; a file with several names counts once."""
    seen, total, todo = set(), 0, [top]
    while todo:
        path = todo.pop()
        try:
            stat = os.lstat(path)
            if (stat.st_dev, stat.st_ino) not in seen:
                seen.add((stat.st_dev, stat.st_ino))
                total += stat.st_blocks * 512
            if os.path.isdir(path) and not os.path.islink(path):
                todo += [os.path.join(path, name) for name in os.listdir(path)]
        except OSError:
            continue
    return total


def unique_bytes(store):
    """What nbbench.unique says about a store: bytes of layers, and of contents."""
    words = [sys.executable, "-m", "nbbench.unique", store]
    above = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    done = subprocess.run(words, cwd=above, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise Failed("cannot read the layers of `%s`" % store)
    return [int(word) for word in done.stdout.split()]


def bytes_written(path):
    """Sizes of the files of an output."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(top, name)) for top, _, names in os.walk(path) for name in names)
