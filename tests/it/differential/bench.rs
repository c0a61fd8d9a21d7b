//! Both builders on one base image: a case goes in, the facts of the image or the failure come out.

use super::cases::Case;
use super::facts::Image;
use crate::support::bases::project;
use crate::support::peers::Dockerd;
use crate::support::{Said, World, have, is_root, peer, program};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tar::{Builder, Header};

/// What comes out of a build: facts, or one line `fails: WHY`.
pub type Outcome = Vec<String>;

/// A store of ours with the base image in it.
pub struct Bench<'w> {
    world: &'w World,
    base: Image,
}

impl<'w> Bench<'w> {
    /// None where the programs that make contexts and the base are not there.
    pub fn new(world: &'w World) -> Option<Self> {
        if !["busybox", "tar", "gzip", "bzip2", "xz"].into_iter().all(peer) {
            return None;
        }
        let tar = make_base(world);
        world.run(["image", "import", "nb-base:busybox", tar.to_str().unwrap()]).ok();
        let saved = world.path("base.saved");
        world.run(["image", "save", "nb-base:busybox", "-o", saved.to_str().unwrap()]).ok();
        Some(Self { world, base: Image::read(&saved) })
    }

    /// The context of a case, as every builder gets it, and its command-line words.
    pub fn context(&self, case: &Case) -> (PathBuf, Vec<String>) {
        let source = case.materialize(&self.world.path(""));
        let context = self.world.path(&format!("context-{}", case.name));
        let mut script = Command::new(project("scripts/conformance-context"));
        Said::of(script.arg(&source).arg(&context).output().unwrap()).ok();
        let words = fs::read_to_string(source.join("args")).unwrap_or_default();
        self.world.give();
        (context, words.lines().map(str::to_owned).collect())
    }

    pub fn build(&self, case: &Case) -> Outcome {
        let (context, words) = self.context(case);
        let out = self.world.path(&format!("out/{}.oci", case.name));
        let spec = format!("type=oci,dest={}", out.display());
        let fixed = ["--network", "none", "--compression", "none", "-o", &spec];
        let said = self.run(&context, &words, &fixed);
        if said.code == 101 || said.code < 0 {
            return vec![format!("crashes: {}", said.stderr)];
        }
        if said.code != 0 {
            return failure(&said.stderr);
        }
        let facts = Image::read(&out).facts(&self.base);
        fs::remove_file(out).unwrap();
        facts
    }

    /// The program on a context.
    pub fn run(&self, context: &Path, words: &[String], options: &[&str]) -> Said {
        let mut build = self.world.command(program());
        build.args(["build", "--progress", "plain"]).args(options).args(words).arg(context);
        Said::of(build.output().unwrap())
    }
}

/// The BuildKit in Debian's dockerd, with the client of the same package: others do not speak to it without a plug-in.
pub struct BuildKit<'w> {
    daemon: Dockerd<'w>,
    world: &'w World,
    base: Image,
}

impl<'w> BuildKit<'w> {
    /// None where there is no such daemon.
    pub fn start(world: &'w World) -> Option<Self> {
        if !have("root", is_root()) || !have("peers", Path::new(CLIENT).exists()) {
            return None;
        }
        let daemon = Dockerd::start_on(world, "overlay2")?;
        let file = |name: &str| world.path(name).to_str().unwrap().to_owned();
        daemon.docker(&["import", make_base(world).to_str().unwrap(), "nb-base:busybox"]);
        daemon.docker(&["save", "nb-base:busybox", "-o", &file("base.docker")]);
        Some(Self { daemon, world, base: Image::read(&world.path("base.docker")) })
    }

    pub fn build(&self, bench: &Bench<'_>, case: &Case) -> Outcome {
        let (context, words) = bench.context(case);
        let tag = format!("case:{}", case.name.to_lowercase());
        let mut build = self.world.command(CLIENT);
        build.env("DOCKER_BUILDKIT", "1").args(["--host", &self.daemon.host()]);
        build.args(["build", "--network", "none", "-t", &tag]).args(words).arg(context);
        let said = Said::of(build.output().unwrap());
        let gone = ["connect to the Docker daemon", "unexpected EOF"];
        assert!(
            !gone.iter().any(|word| said.stderr.contains(word)),
            "{}: the daemon died",
            case.name
        );
        if said.code != 0 {
            return failure(&said.stderr);
        }
        let out = self.world.path(&format!("out/{}.docker", case.name));
        let mut save = self.world.command(CLIENT);
        save.args(["--host", &self.daemon.host(), "save", &tag, "-o"]).arg(&out);
        let said = Said::of(save.output().unwrap());
        if said.code != 0 {
            return vec![format!("cannot be saved: {}", said.stderr.trim())];
        }
        let facts = Image::read(&out).facts(&self.base);
        fs::remove_file(out).unwrap();
        facts
    }
}

const CLIENT: &str = "/usr/bin/docker";

/// The last words of a builder, without what differs from run to run.
pub fn failure(stderr: &str) -> Outcome {
    let error = stderr.lines().find(|line| line.starts_with("error: "));
    let last =
        error.or(stderr.lines().rev().find(|line| !line.trim().is_empty())).unwrap_or_default();
    let last = last.rsplit("dockerfile.v0: ").next().unwrap_or(last);
    let unsteady = ["/tmp/", "sha256:", "0xc0"];
    let steady = |word: &&str| !unsteady.iter().any(|part| word.contains(part)) && word.len() < 80;
    let words: Vec<&str> = last.split(' ').filter(steady).collect();
    vec![format!("fails: {}", words.join(" "))]
}

/// The tar of the base: what `make-busybox-rootfs` makes, and the two files that a builder mounts on, so that the
/// mount points that BuildKit 0.8 leaves in a layer are there already.
fn make_base(world: &World) -> PathBuf {
    let path = world.path("nb-base.tar");
    if path.exists() {
        return path;
    }
    let mut script = Command::new(project("scripts/make-busybox-rootfs"));
    Said::of(script.arg(&path).output().unwrap()).ok();
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    bytes.truncate(end.next_multiple_of(512));
    let mut tar = Builder::new(bytes);
    for name in ["./etc/hosts", "./etc/resolv.conf"] {
        let mut header = Header::new_ustar();
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        header.set_size(0);
        header.set_uid(0);
        header.set_gid(0);
        tar.append_data(&mut header, name, &b""[..]).unwrap();
    }
    fs::write(&path, tar.into_inner().unwrap()).unwrap();
    world.give();
    path
}
