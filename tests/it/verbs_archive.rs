//! `nativebuild archive merge`: archives of every form in one, read by skopeo and podman.

use crate::support::peers::Peers;
use crate::support::{Said, World, peer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;

const FORMS: [&str; 4] =
    ["docker-archive", "docker-archive-v1", "docker-archive-flat", "oci-archive"];

/// An archive of each form, with an image of its own on the common base; and what `image inspect` says its config is.
fn parts(world: &World) -> Vec<(String, Value)> {
    let mut made = Vec::new();
    for (at, form) in FORMS.iter().enumerate() {
        let name = format!("part{at}:1");
        world.build(&format!("FROM base\nRUN echo {at} > /part\n"), &["-t", &name]).ok();
        world.validate(&name);
        let path = format!("out/{at}.tar");
        world.run(["image", "save", &name, "--format", form, "-o", &path]).ok();
        made.push((name.clone(), world.config(&name)));
    }
    // A packed archive, as dockerTools makes them.
    let tar = world.path("out/2.tar");
    Said::of(world.command("gzip").arg("-n").arg(&tar).output().unwrap()).ok();
    made
}

fn members(path: &std::path::Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut found = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let mut body = Vec::new();
        entry.read_to_end(&mut body).unwrap();
        assert!(found.insert(name.clone(), body).is_none(), "{name} twice");
    }
    found
}

const SOURCES: [&str; 4] =
    ["out/0.tar", "docker-archive:out/1.tar", "out/2.tar.gz", "oci-archive:out/3.tar"];

#[test]
fn archives_of_every_form_become_one() {
    for world in World::each() {
        if !peer("gzip") {
            return;
        }
        let world = world.with_base();
        let parts = parts(&world);
        let merge = |out: &str| {
            let args = [&["archive", "merge"], &SOURCES[..], &["-o", out]].concat();
            world.run(args).ok()
        };
        assert!(merge("out/all.tar").starts_with("sha256:"));
        assert_eq!(merge("out/again.tar"), merge("out/all.tar"));
        let all = members(&world.path("out/all.tar"));
        let manifest: Vec<Value> = serde_json::from_slice(&all["manifest.json"]).unwrap();
        let names: Vec<&Value> = manifest.iter().map(|entry| &entry["RepoTags"][0]).collect();
        assert_eq!(names, parts.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>());
        // The base's layer is there once: four configs, five layers and the manifest.
        assert_eq!(all.len(), 10, "{:?}", all.keys());
        for (name, config) in &parts {
            let place = format!("docker-archive:out/all.tar:{name}");
            let text = world.run(["image", "inspect", "--config", &place]).ok();
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), *config);
            assert_eq!(world.run(["image", "validate", &place]).ok(), "valid\n");
        }
        // One of several, twice, and another name for the same image.
        world.run(["image", "copy", "part1:1", "docker-archive:out/other.tar:other:2"]).ok();
        let args = [
            "archive",
            "merge",
            "out/all.tar:part1:1",
            "out/1.tar",
            "out/other.tar",
            "-o",
            "out/one.tar",
        ];
        world.run(args).ok();
        let one = members(&world.path("out/one.tar"));
        let manifest: Value = serde_json::from_slice(&one["manifest.json"]).unwrap();
        assert_eq!(manifest[0]["RepoTags"], serde_json::json!(["part1:1", "other:2"]));
        assert_eq!((manifest.as_array().unwrap().len(), one.len()), (1, 4));
        let mut command = world.command(crate::support::program());
        command.args(["archive", "merge", "-", "out/0.tar", "-o", "-"]);
        command.stdin(fs::File::open(world.path("out/one.tar")).unwrap());
        let piped = command.env("NATIVEBUILD_ROOT", world.path("none")).output().unwrap();
        assert!(piped.status.success(), "{}", String::from_utf8_lossy(&piped.stderr));
        fs::write(world.path("out/piped.tar"), &piped.stdout).unwrap();
        assert_eq!(members(&world.path("out/piped.tar")).len(), 6);
        assert!(!world.path("none").exists());
    }
}

#[test]
fn skopeo_and_podman_find_every_image_of_the_merged_archive() {
    let Some(world) = World::root() else { return };
    if !["gzip", "skopeo", "podman"].into_iter().all(peer) {
        return;
    }
    let world = world.with_base();
    let parts = parts(&world);
    world.run([&["archive", "merge"], &SOURCES[..], &["-o", "out/all.tar"]].concat()).ok();
    let peers = Peers { world: &world };
    let archive = peers.path("out/all.tar");
    for (at, (name, config)) in parts.iter().enumerate() {
        let layout = peers.path(&format!("out/skopeo-{at}"));
        peers.skopeo(&format!("docker-archive:{archive}:{name}"), &format!("oci:{layout}:x"));
        let text = peers.run("skopeo", &["inspect", "--config", &format!("oci:{layout}:x")]);
        let found: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(found["rootfs"], config["rootfs"], "{name}");
    }
    peers.podman(&["load", "--quiet", "--input", &archive]);
    let listed = peers.podman(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let mut listed: Vec<&str> = listed.lines().collect();
    listed.sort_unstable();
    // Where podman puts short names, also those of docker's own archives.
    let wanted: Vec<String> = parts.iter().map(|(name, _)| format!("localhost/{name}")).collect();
    assert_eq!(listed, wanted);
}

#[test]
fn a_name_for_two_images_is_an_error() {
    let world = World::new().with_base();
    let mut digests = Vec::new();
    for n in [1, 2] {
        world.build(&format!("FROM base\nLABEL n={n}\n"), &["-t", "app:1"]).ok();
        world
            .run([
                "image",
                "save",
                "app:1",
                "--format",
                "docker-archive",
                "-o",
                &format!("out/{n}.tar"),
            ])
            .ok();
        let config = world.run(["image", "inspect", "--config", "app:1"]).ok();
        digests.push(nativebuild::oci::Digest::of(config.as_bytes()).to_string());
    }
    assert_eq!(
        world.run(["archive", "merge", "out/1.tar", "out/2.tar", "-o", "out/x.tar"]).failed(1),
        format!(
            "error: `app:1` means two images: of `out/1.tar` and of `out/2.tar`\n \
             cause: their configs are {} and {}\n\
             help: choose images by name, as in `FILE:NAME`, or give one another name with `image copy`\n",
            digests[0], digests[1]
        )
    );
    assert!(!world.path("out/x.tar").exists());
    for (args, said) in [
        (
            "nosuch.tar -o out/x.tar",
            "error: there is no archive `nosuch.tar`\n\
             help: archives are files; `image save` writes one of an image of the store\n",
        ),
        ("- - -o out/x.tar", "error: standard input can be only one of the archives\n"),
        (
            "out/1.tar -o oci:x",
            "error: archives cannot be merged into `oci:x`\n\
             help: the result is a docker-archive: write the path of a file\n",
        ),
    ] {
        let args: Vec<&str> = ["archive", "merge"].into_iter().chain(args.split(' ')).collect();
        assert_eq!(world.run(args).failed(2), said);
    }
}
