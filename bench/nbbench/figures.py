"""Raw figures as JSON, one file for each workload, with the machine, the versions, the date and the commit they belong to."""
import datetime, json, os, platform, subprocess

from .places import PROJECT, version_of


def cpu_name():
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.machine()


def memory_of_machine():
    with open("/proc/meminfo", encoding="ascii") as file:
        return int(file.readline().split()[1]) * 1024


def file_system(path):
    done = subprocess.run(["findmnt", "--noheadings", "--output", "FSTYPE", "--target", path], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def machine(out):
    with open("/etc/os-release", encoding="utf-8") as file:
        pretty = [line.split("=", 1)[1].strip().strip('"') for line in file if line.startswith("PRETTY_NAME=")]
    return {"cpu": cpu_name(), "cores": os.cpu_count(), "usable_cores": len(os.sched_getaffinity(0)), "memory": memory_of_machine(),
            "kernel": platform.release(), "system": (pretty or ["Linux"])[0], "file_system": file_system(out)}


def commit():
    """The commit that is checked out; marked when files differ from it."""
    def git(*words):
        return subprocess.run(["git", "-C", PROJECT, *words], capture_output=True, text=True, check=False).stdout.strip()
    return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/bench") else "")


def header(places):
    return {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"), "commit": commit(),
            "machine": machine(places.out), "nativebuild": version_of(places.binary, "--version")}


def path(places, name):
    return os.path.join(places.figures, name + ".json")


def load(places, name):
    try:
        with open(path(places, name), encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None


def save(places, name, value):
    write(path(places, name), value)


def write(target, value):
    temporary = target + ".new"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, sort_keys=True)
        file.write("\n")
    os.rename(temporary, target)


def save_comparison(places, comparison):
    """Puts a comparison beside what is there of the same workload: what was measured again replaces its predecessor."""
    name = comparison.workload.name
    old = load(places, name) or {}
    again = {(record["builder"], record["mode"]) for record in comparison.records}
    head = header(places)
    kept = [{"commit": old["commit"], **record} for record in old.get("runs", []) if (record["builder"], record["mode"]) not in again]
    measured = {record["builder"] for record in comparison.records}
    skipped = {builder: why for builder, why in old.get("skipped", {}).items() if builder not in measured}
    save(places, name, {
        **head, "workload": name,
        "runs": kept + [{**record, "commit": head["commit"]} for record in comparison.records],
        "walks": comparison.walks or old.get("walks", []),
        "direct": [{"wall": round(run.wall, 4), "cpu": round(run.cpu, 3)} for run in comparison.direct] or old.get("direct", []),
        "versions": {**old.get("versions", {}), **comparison.versions},
        # What failed in a later run only is told too.
        "skipped": {**skipped, **comparison.skipped},
    })
