//! Other people's programs, each with its state below the directory of one test.

use super::bases::project;
use super::{Said, World, have, peer};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// Peers that keep their state below one directory.
pub struct Peers<'a> {
    pub world: &'a World,
}

impl Peers<'_> {
    pub fn run(&self, program: &str, args: &[&str]) -> String {
        let mut command = self.world.command(program);
        // Limits that this machine does not grant must not stop podman.
        command.env("CONTAINERS_CONF", self.world.path("containers.conf"));
        Said::of(command.args(args).output().unwrap()).ok()
    }

    pub fn skopeo(&self, from: &str, to: &str) {
        self.run("skopeo", &["--insecure-policy", "copy", "--quiet", from, to]);
    }

    pub fn podman(&self, args: &[&str]) -> String {
        let conf = "[containers]\ndefault_ulimits = []\n";
        std::fs::write(self.world.path("containers.conf"), conf).unwrap();
        let (root, run) = (self.world.path("podman"), self.world.path("podman-run"));
        let mut all = vec!["--root", root.to_str().unwrap(), "--runroot", run.to_str().unwrap()];
        all.extend([
            "--storage-driver",
            "vfs",
            "--cgroup-manager",
            "cgroupfs",
            "--runtime",
            "runc",
        ]);
        all.extend(args);
        self.run("podman", &all)
    }

    /// Where podman's storage has the tree of an image.
    pub fn mounted(&self, image: &str) -> String {
        format!("tree:{}", self.podman(&["image", "mount", image]).trim_end())
    }

    /// A name in podman's storage, for skopeo.
    pub fn storage(&self, image: &str) -> String {
        let (root, run) = (self.world.path("podman"), self.world.path("podman-run"));
        format!("containers-storage:[vfs@{}+{}]{image}", root.display(), run.display())
    }

    /// Nothing differs, as scripts/compare-images sees it.
    #[track_caller]
    pub fn same(&self, options: &[&str], a: &str, b: &str) {
        assert_eq!(self.differences(options, a, b), "", "{a} is A, {b} is B");
    }

    pub fn differences(&self, options: &[&str], a: &str, b: &str) -> String {
        let script = project("scripts/compare-images");
        let output = self.world.command(script).args(options).args([a, b]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        text(&output.stdout) + &text(&output.stderr)
    }

    pub fn path(&self, name: &str) -> String {
        self.world.path(name).to_str().unwrap().to_owned()
    }
}

/// A Docker daemon without network, for one test.
pub struct Dockerd<'a> {
    world: &'a World,
    child: Child,
}

impl<'a> Dockerd<'a> {
    /// None where there is no Docker.
    pub fn start(world: &'a World) -> Option<Self> {
        let program = Path::new("/usr/sbin/dockerd");
        if !have("peers", program.exists()) || !peer("docker") {
            return None;
        }
        let mut command = world.command(program);
        command.arg("--data-root").arg(world.path("dockerd"));
        command.arg("--exec-root").arg(world.path("dockerd-exec"));
        command.arg("--pidfile").arg(world.path("dockerd.pid"));
        command.args(["--host", &socket(world), "--storage-driver", "vfs"]);
        command.args(["--iptables=false", "--ip6tables=false", "--bridge=none"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("API listen on") {
            assert!(log.read_line(&mut said).unwrap() > 0, "dockerd does not start:\n{said}");
        }
        std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
        Some(Self { world, child })
    }

    pub fn docker(&self, args: &[&str]) -> String {
        let mut command = self.world.command("docker");
        let output = command.args(["--host", &socket(self.world)]).args(args).output();
        Said::of(output.unwrap()).ok()
    }
}

impl Drop for Dockerd<'_> {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        // It ends its containerd only when it is asked to end, not when it is killed.
        let asked =
            pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM));
        let _ended = (asked, self.child.wait());
    }
}

fn socket(world: &World) -> String {
    let path: PathBuf = world.path("docker.sock");
    format!("unix://{}", path.display())
}
