//! The imitated environments against containers of podman with the same settings: the same isolation is chosen there.
//!
//! The container's root file system is busybox, the program and the libraries that it needs. Docker's profile is written
//! out of the project's own table.

use crate::environments::{isolation, world};
use crate::support::environment::named;
use crate::support::{Said, World, base, copy_program, peer, program};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Environment, arguments for podman; `PROFILE` is Docker's profile, `ADMIN` the same with `SYS_ADMIN`, `VOLUME` a
/// directory outside of the container.
const CONTAINERS: &[(&str, &str)] = &[
    ("podman run", ""),
    ("podman run --user 1000", "--user 54321"),
    ("docker run", "DOCKER --security-opt seccomp=PROFILE"),
    ("docker run, store on a volume", "DOCKER --security-opt seccomp=PROFILE --read-only VOLUME"),
    ("docker run --user 1000", "DOCKER --user 54321 --security-opt seccomp=PROFILE"),
    ("docker run --security-opt seccomp=unconfined", "DOCKER --security-opt seccomp=unconfined"),
    (
        "docker run --security-opt seccomp=unconfined, store on a volume",
        "DOCKER --security-opt seccomp=unconfined VOLUME",
    ),
    (
        "docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined",
        "DOCKER --security-opt seccomp=unconfined --security-opt unmask=ALL",
    ),
    ("docker run --cap-add SYS_ADMIN", "DOCKER --cap-add SYS_ADMIN --security-opt seccomp=ADMIN"),
    ("docker run --privileged", "--privileged"),
    (
        "Kubernetes, restricted",
        "--user 54321 --cap-drop ALL --security-opt no-new-privileges --security-opt seccomp=PROFILE",
    ),
    (
        "Kubernetes, non-root, seccomp Unconfined",
        "--user 54321 --cap-drop ALL --security-opt no-new-privileges --security-opt seccomp=unconfined",
    ),
];

/// What a container does.
const SCRIPT: &str = "export NATIVEBUILD_ROOT=/store HOME=/store; nativebuild image import base /base.tar >/dev/null && \
    exec nativebuild build --progress plain /context";

const DOCKERFILE: &str = "FROM base\nRUN chown 1:1 /home && echo hello > /f\n";

/// Docker's profile in podman's form, from the rows of our table: name, rule, numbers.
fn profile(admin: bool) -> String {
    let table = include_str!("../../src/sys/seccomp/table.rs");
    let mut allowed = Vec::new();
    for line in table.lines().filter_map(|line| line.trim_start().strip_prefix("(\"")) {
        let Some((name, rest)) = line.split_once("\", ") else { continue };
        let rule = rest.split(',').next().unwrap();
        let plain = ["Allow", "Personality", "Socket", "CHROOT"].contains(&rule);
        if plain
            || (admin && ["ADMIN", "BPF", "PERFMON", "SYSLOG", "Clone", "Clone3"].contains(&rule))
        {
            allowed.push(name);
        }
    }
    assert!(allowed.len() > 300, "{} calls", allowed.len());
    let mut rules = vec![serde_json::json!({"names": allowed, "action": "SCMP_ACT_ALLOW"})];
    if !admin {
        let no_namespaces = serde_json::json!([
            {"index": 0, "value": 0x7e02_0000_u32, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
        ]);
        rules.push(serde_json::json!({"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": no_namespaces}));
        rules.push(
            serde_json::json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}),
        );
    }
    serde_json::json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]}],
        "syscalls": rules,
    })
    .to_string()
}

/// A root file system with the program in it.
fn rootfs(world: &World) {
    let root = world.path("rootfs");
    fs::create_dir(&root).unwrap();
    tar::Archive::new(base::busybox_tar()).unpack(&root).unwrap();
    for dir in ["store", "context", "run", "bin"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::set_permissions(root.join("store"), fs::Permissions::from_mode(0o1777)).unwrap();
    copy_program(program(), &root.join("bin/nativebuild"));
    fs::write(root.join("base.tar"), base::busybox_tar()).unwrap();
    fs::write(root.join("context/Dockerfile"), DOCKERFILE).unwrap();
    let libraries = Said::of(Command::new("ldd").arg(program()).output().unwrap()).stdout;
    for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        let target = root.join(&library[1..]);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(library, target).unwrap();
    }
}

fn podman(world: &World, args: &[&str]) -> Said {
    let conf = "[containers]\ndefault_ulimits = [\"nofile=20000:20000\", \"nproc=1000:1000\"]\n";
    fs::write(world.path("containers.conf"), conf).unwrap();
    let mut command = world.command("podman");
    command.env("CONTAINERS_CONF", world.path("containers.conf"));
    command.arg("--root").arg(world.path("podman"));
    command.arg("--runroot").arg(world.path("podman-run"));
    command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", "runc"]);
    Said::of(command.args(["run", "--rm", "--network", "none"]).args(args).output().unwrap())
}

/// The arguments of one container.
fn arguments(world: &World, text: &str) -> Vec<String> {
    let volume = world.path("volume");
    let _old = fs::remove_dir_all(&volume);
    fs::create_dir(&volume).unwrap();
    let text = text
        .replace("DOCKER", "--cap-add MKNOD,NET_RAW,AUDIT_WRITE")
        .replace("PROFILE", world.path("docker.json").to_str().unwrap())
        .replace("seccomp=ADMIN", &format!("seccomp={}", world.path("admin.json").display()))
        .replace("VOLUME", &format!("--volume {}:/store:nosuid,nodev", volume.display()));
    let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    words.push("--rootfs".to_owned());
    words.push(format!("{}:O", world.path("rootfs").display()));
    words.extend(["sh", "-c", SCRIPT].map(str::to_owned));
    words
}

#[test]
fn containers_of_podman_and_their_imitations_have_the_same_isolation() {
    if !peer("podman") || !peer("runc") || !Path::new("/usr/bin/ldd").exists() {
        return;
    }
    let Some(outer) = World::root() else { return };
    rootfs(&outer);
    fs::write(outer.path("docker.json"), profile(false)).unwrap();
    fs::write(outer.path("admin.json"), profile(true)).unwrap();
    for (name, text) in CONTAINERS {
        let place = named(name);
        let Some(world) = world(place) else { return };
        let imitated = place.build(&world, DOCKERFILE, &[]);
        let words = arguments(&outer, text);
        let real = podman(&outer, &words.iter().map(String::as_str).collect::<Vec<_>>());
        let what = |said: &Said| (isolation(said), said.code);
        let both = format!("{name}\n== podman\n{}\n== imitation\n{}", real.stderr, imitated.stderr);
        assert_eq!(what(&real), what(&imitated), "{both}");
    }
}
