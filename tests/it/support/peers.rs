//! Other people's programs, each with its state below the directory of one test.

use super::bases::project;
use super::{Said, World, have, peer};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Peers that keep their state below one directory.
pub struct Peers<'a> {
    pub world: &'a World,
}

impl Peers<'_> {
    pub fn run(&self, program: &str, args: &[&str]) -> String {
        Said::of(self.world.command(program).args(args).output().unwrap()).ok()
    }

    pub fn skopeo(&self, from: &str, to: &str) {
        self.run("skopeo", &["--insecure-policy", "copy", "--quiet", from, to]);
    }

    pub fn podman(&self, args: &[&str]) -> String {
        Said::of(self.podman_command().args(args).output().unwrap()).ok()
    }

    fn podman_command(&self) -> Command {
        let conf = "[containers]\ndefault_ulimits = []\n";
        std::fs::write(self.world.path("containers.conf"), conf).unwrap();
        let mut command = self.world.command("podman");
        // Limits that this machine does not grant must not stop podman.
        command.env("CONTAINERS_CONF", self.world.path("containers.conf"));
        command.arg("--root").arg(self.world.path("podman"));
        command.arg("--runroot").arg(self.world.path("podman-run"));
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]);
        command.args(["--runtime", "runc"]);
        command
    }

    /// Podman as a service on the socket that [`podman_host`] names.
    pub fn podman_service(&self) -> Service {
        let mut command = self.podman_command();
        command.args(["--log-level", "info", "system", "service", "--time", "0"]);
        command.arg(podman_host(self.world));
        Service::start(command, "API service listening on")
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

/// A program that runs until the value is gone.
pub struct Service {
    child: Child,
}

impl Service {
    /// Starts it and waits until it has logged `ready`.
    fn start(mut command: Command, ready: &str) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let service = Self { child };
        let mut said = String::new();
        while !said.contains(ready) {
            assert!(log.read_line(&mut said).unwrap() > 0, "{command:?} does not start:\n{said}");
        }
        std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
        service
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        // Dockerd ends its containerd only when it is asked to end, not when it is killed.
        let asked =
            pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM));
        let _ended = (asked, self.child.wait());
    }
}

/// A Docker daemon without network, for one test.
pub struct Dockerd<'a> {
    world: &'a World,
    _service: Service,
}

impl<'a> Dockerd<'a> {
    /// None where there is no Docker.
    pub fn start(world: &'a World) -> Option<Self> {
        Self::start_on(world, "vfs")
    }

    /// The same with another storage driver.
    pub fn start_on(world: &'a World, driver: &str) -> Option<Self> {
        let program = Path::new("/usr/sbin/dockerd");
        if !have("peers", program.exists()) || !peer("docker") {
            return None;
        }
        let mut command = world.command(program);
        command.arg("--data-root").arg(world.path("dockerd"));
        command.arg("--exec-root").arg(world.path("dockerd-exec"));
        command.arg("--pidfile").arg(world.path("dockerd.pid"));
        command.args(["--host", &docker_host(world), "--storage-driver", driver]);
        command.args(["--iptables=false", "--ip6tables=false", "--bridge=none"]);
        Some(Self { world, _service: Service::start(command, "API listen on") })
    }

    pub fn host(&self) -> String {
        docker_host(self.world)
    }

    pub fn docker(&self, args: &[&str]) -> String {
        let mut command = self.world.command("docker");
        let output = command.args(["--host", &docker_host(self.world)]).args(args).output();
        Said::of(output.unwrap()).ok()
    }
}

/// The address of the test's Docker daemon.
pub fn docker_host(world: &World) -> String {
    format!("unix://{}", world.path("docker.sock").display())
}

/// The address of the test's podman service.
pub fn podman_host(world: &World) -> String {
    format!("unix://{}", world.path("podman.sock").display())
}
