//! Same inputs, same digest: over users, stores, core counts, lost snapshots and depths.

use crate::support::{Who, World, is_root, peer, program};
use std::fmt::Write as _;
use std::process::Command;

const EPOCH: &[&str] = &["--source-date-epoch", "1700000000"];

/// Touches most kinds of changes: new, changed, deleted, replaced and linked files, owners, modes, stages.
const MANY_CHANGES: &str = "\
FROM base AS tools
RUN mkdir /t && echo tool > /t/tool && chmod 4755 /t/tool && chown 33:44 /t && ln /t/tool /t/again
FROM base
ENV A=1
RUN echo one > /a && rm -rf /usr/share/doc && mkdir /usr/share/doc && echo new > /usr/share/doc/a
COPY --from=tools /t /opt/t
COPY tree /tree
RUN rm /tree/x && mv /tree/sub /tree/moved && ln -s ../a /tree/link && chown -R 7:8 /tree && mkfifo /tree/fifo
USER daemon
WORKDIR /home/work
RUN cp /etc/passwd /tmp/mine && : > /tmp/empty
LABEL done=yes
";

fn with_tree(world: World) -> World {
    let world = world.with_base();
    world.file("tree/x", "x").file("tree/sub/y", "y".repeat(3 << 20)).file("tree/z", "z");
    world
}

fn digest(world: &World, dockerfile: &str) -> String {
    let said = world.build(dockerfile, &[EPOCH, &["-t", "app"]].concat());
    let digest = said.ok();
    world.validate("app");
    digest
}

#[test]
fn two_cold_builds_of_two_users_give_one_digest() {
    let digests: Vec<(Who, String)> = World::each()
        .into_iter()
        .chain(World::each())
        .map(with_tree)
        .map(|world| (world.who(), digest(&world, MANY_CHANGES)))
        .collect();
    for (who, found) in &digests {
        assert_eq!(*found, digests[0].1, "{who:?}");
    }
}

#[test]
fn the_number_of_cores_does_not_matter() {
    if !peer("taskset") {
        return;
    }
    let mut digests = Vec::new();
    for cores in ["0", "0,1"] {
        let world = with_tree(World::new());
        world.file("Dockerfile", MANY_CHANGES);
        let context = world.context();
        for compression in ["gzip", "zstd"] {
            let mut command = world.command("taskset");
            command.args(["-c", cores]).arg(program()).args(["build", "-q", "--no-cache"]);
            command.args(EPOCH).args(["--compression", compression]).arg(&context);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            digests.push(String::from_utf8(output.stdout).unwrap());
        }
    }
    assert_eq!(digests[0..2], digests[2..4]);
    assert_ne!(digests[0], digests[1]);
}

#[test]
fn a_late_step_on_layers_rebuilt_from_blobs_gives_the_same_digest() {
    for world in World::each() {
        let world = with_tree(world);
        let longer =
            format!("{MANY_CHANGES}USER root\nRUN ls -R /tree > /list && rm -r /tree/moved\n");
        let expected = digest(&world, &longer);
        let other = with_tree(if world.who() == Who::Root {
            World::root().unwrap()
        } else {
            World::user().unwrap()
        });
        digest(&other, MANY_CHANGES);
        remove(&other, "snapshots");
        let said = other.build(&longer, EPOCH);
        assert_eq!((said.cached(), said.done()), (7, 1), "{}", said.stderr);
        assert_eq!(said.ok(), expected);
    }
}

/// Files that are there already and are copied again: whether they are in the layer does not depend on whether the tree
/// below kept their nanoseconds, or was unpacked from layers that say less.
#[test]
fn a_copy_over_the_same_files_gives_the_same_digest() {
    let below = "FROM base\nCOPY tree/x /app/x\nCOPY tree/sub /app/sub/\nRUN echo made > /made\n";
    for (epoch, last) in ["1700000000", "4000000000"].into_iter().flat_map(|epoch| {
        ["COPY tree /app/\n", "COPY tree /app/\nRUN ls -l /app > /listed\n"]
            .map(|last| (epoch, last))
    }) {
        for world in World::each() {
            let world = with_tree(world);
            let args = ["--source-date-epoch", epoch, "-t", "app"];
            let dockerfile = format!("{below}{last}");
            let kept = world.build(&dockerfile, &args).ok();
            remove(&world, "cache");
            remove(&world, "snapshots");
            world.build(below, &args).ok();
            remove(&world, "snapshots");
            let unpacked = world.build(&dockerfile, &args);
            assert_eq!(unpacked.ok(), kept, "{:?} {epoch} {last}", world.who());
            world.validate("app");
        }
    }
}

/// A step that only sets times from before the epoch has an empty layer for that epoch. Later steps see the times, and a
/// build without an epoch has them in its layer.
#[test]
fn times_that_an_epoch_hides_are_not_lost() {
    let dockerfile = "FROM base\nRUN touch -d @1600000000 /f\nRUN touch -d @1500000000 /f\n\
                      RUN stat -c 'seen %Y' /f\n";
    let layer = |world: &World| {
        let text = world.run(["image", "inspect", "--json", "app"]).ok();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let layers = value["manifest"]["layers"].as_array().unwrap();
        layers[layers.len() - 2]["digest"].as_str().unwrap().to_owned()
    };
    for (world, fresh) in World::each().into_iter().zip(World::each()) {
        let (world, fresh) = (world.with_base(), fresh.with_base());
        let said = world.build(dockerfile, &["--source-date-epoch", "1000000000"]);
        assert!(said.stderr.contains(" seen 1500000000\n"), "{}", said.stderr);
        said.ok();
        for world in [&world, &fresh] {
            world.build(dockerfile, &["-t", "app"]).ok();
            world.validate("app");
        }
        assert_eq!(layer(&world), layer(&fresh), "{:?}", world.who());
    }
}

/// Files of a range map belong to subordinate ids: root removes them, or the user inside a namespace of its own.
fn remove(world: &World, name: &str) {
    let path = world.store().join(name);
    if is_root() {
        std::fs::remove_dir_all(path).unwrap();
        return;
    }
    let map = ["--user", "--map-auto", "--map-root-user", "rm", "-rf"];
    let done = Command::new("unshare").args(map).arg(path).status();
    assert!(done.unwrap().success());
}

fn deep(layers: usize) -> String {
    let mut text = "FROM base\n".to_owned();
    for layer in 1..=layers {
        if layer % 20 == 0 {
            let gone = layer - 7;
            writeln!(text, "RUN rm /d/f{gone} && ls /d | wc -l > /count").unwrap();
        } else {
            writeln!(text, "COPY f /d/f{layer}").unwrap();
        }
    }
    text
}

#[test]
fn deep_images_are_built_and_hold_every_layer() {
    for layers in [40, 200, 600] {
        let world = World::new().with_base();
        world.file("f", "x");
        let said = world.build(&deep(layers), &[EPOCH, &["-t", "deep"]].concat());
        let warned = said.stderr.contains("Docker and containerd take at most 125");
        assert_eq!(warned, layers > 125);
        said.ok();
        world.validate("deep");
        let config = world.config("deep");
        assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), layers + 1);
        let tar = world.path("out/deep.tar");
        world.run(["image", "export", "deep", "-o", tar.to_str().unwrap()]).ok();
        let listing = crate::support::base::list_tar(&std::fs::read(tar).unwrap());
        let files = listing.iter().filter(|line| line.starts_with("d/f")).count();
        // Each twentieth layer makes none and removes one.
        assert_eq!(files, layers - 2 * (layers / 20));
    }
}
