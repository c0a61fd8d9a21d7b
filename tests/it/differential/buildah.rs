//! Debian's buildah on the cases: the same facts as of BuildKit, with less of the history.
//!
//! Texts of the history are each builder's own (BuildKit's form is compared with BuildKit, to the letter), so of a step
//! only its instruction and whether it has a layer are kept.

use super::bench::{Bench, Outcome, failure};
use super::cases::Case;
use super::facts::Image;
use crate::support::bases::project;
use crate::support::{Said, World, have, is_root, peer};
use std::fs;

/// A store of buildah with the base image in it.
pub struct Buildah<'w> {
    world: &'w World,
    base: Image,
}

impl<'w> Buildah<'w> {
    /// None where there is no buildah, or nobody who may run it.
    pub fn start(world: &'w World) -> Option<Self> {
        if !have("root", is_root()) || !["buildah", "runc"].into_iter().all(peer) {
            return None;
        }
        let saved = world.path("base.saved");
        let base = format!("oci-archive:{}", saved.display());
        let buildah = |words: &[&str]| {
            let mut command = world.command("buildah");
            let state = world.path("buildah");
            command.arg("--root").arg(state.join("root")).arg("--runroot").arg(state.join("run"));
            command.args(["--storage-driver", "overlay"]).args(words);
            Said::of(command.output().unwrap()).ok()
        };
        let id = buildah(&["pull", "--quiet", &base]);
        buildah(&["tag", id.trim(), "nb-base:busybox"]);
        Some(Self { world, base: Image::read(&saved) })
    }

    pub fn build(&self, bench: &Bench<'_>, case: &Case) -> Outcome {
        let (context, words) = bench.context(case);
        let out = self.world.path(&format!("out/{}.tar", case.name.to_lowercase()));
        let mut build = self.world.command(project("scripts/build-with-buildah"));
        build.arg(self.world.path("buildah")).arg("no-other-bases").arg(context);
        let said = Said::of(build.arg(&out).args(words).output().unwrap());
        if said.code != 0 {
            return failure(&said.stderr);
        }
        let facts = Image::read(&out).facts(&self.base);
        fs::remove_file(out).unwrap();
        loosely(&facts)
    }
}

/// Facts without what one builder cannot share with the other.
pub fn loosely(facts: &[String]) -> Outcome {
    facts.iter().filter(|line| !is_of_one_builder(line)).map(|line| step(line)).collect()
}

/// Targets of buildah's own mounts, which it leaves in the layer of a RUN (docs/run-sandbox.md: ours never enter one);
/// the host name of its container; its step for each ONBUILD (§2.1: none). ArgsEscaped is BuildKit's alone (§2.2).
fn is_of_one_builder(line: &str) -> bool {
    let starts = [
        "tree /etc/hostname ",
        "tree /run ",
        "config Hostname ",
        "config ArgsEscaped ",
        "history config-only /bin/sh -c #(nop) ONBUILD ",
    ];
    starts.iter().any(|start| line.starts_with(start))
}

/// A step by its instruction. WORKDIR has a layer of its own or shares that of the next RUN, and no layer of a RUN of
/// buildah is empty, because of its mount points.
fn step(line: &str) -> String {
    let Some((kind, text)) = line.strip_prefix("history ").and_then(|rest| rest.split_once(' '))
    else {
        return line.to_owned();
    };
    let text = match text.strip_prefix("/bin/sh -c #(nop) ") {
        Some(text) => text.trim_start(),
        None if text.starts_with("/bin/sh -c ") || text.starts_with('|') => "RUN",
        None => text,
    };
    match text.split(' ').next().unwrap() {
        "WORKDIR" => "history WORKDIR".to_owned(),
        word => format!("history {} {}", kind.replace("empty", "layer"), word.to_uppercase()),
    }
}

#[test]
fn steps_of_both_builders_are_told_alike() {
    for (text, told) in [
        ("layer RUN /bin/sh -c a # buildkit", "layer RUN"),
        ("layer /bin/sh -c a b", "layer RUN"),
        ("layer |1 A=b /bin/sh -c a", "layer RUN"),
        ("config-only /bin/sh -c #(nop)  CMD [\"a\"]", "config-only CMD"),
        ("layer WORKDIR /a", "WORKDIR"),
        ("empty RUN true", "layer RUN"),
    ] {
        assert_eq!(step(&format!("history {text}")), format!("history {told}"));
    }
    assert_eq!(step("tree /a file"), "tree /a file");
}
