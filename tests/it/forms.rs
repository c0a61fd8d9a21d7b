//! Forms of the result: Docker's media types, and file times that an epoch does not touch.

use crate::support::{Said, World, peer};
use serde_json::Value;
use std::fs;
use std::process::Command;

const DOCKER: &str = "application/vnd.docker.";

/// All media types of the documents behind a name.
fn types(world: &World, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![world.raw(name)];
    while let Some(document) = waiting.pop() {
        found.push(document["mediaType"].as_str().unwrap().to_owned());
        for child in document["manifests"].as_array().into_iter().flatten() {
            found.push(child["mediaType"].as_str().unwrap().to_owned());
            let digest = child["digest"].as_str().unwrap();
            let path = world.store().join("images/blobs/sha256").join(&digest["sha256:".len()..]);
            waiting.push(serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap());
        }
        let parts = [&document["config"]]
            .into_iter()
            .chain(document["layers"].as_array().into_iter().flatten());
        found.extend(parts.filter_map(|part| part["mediaType"].as_str()).map(str::to_owned));
    }
    found
}

#[test]
fn an_image_can_speak_dockers_language() {
    for world in World::each() {
        let world = world.with_base();
        let text = "FROM base\nRUN echo 1 > /a\nHEALTHCHECK CMD true\n";
        for (more, compression) in [
            (&["--format", "docker"][..], "gzip"),
            (&["-o", "type=image,oci-mediatypes=false"], "gzip"),
            (&["--format=docker", "--compression", "none"], "none"),
        ] {
            let said = world.build(text, &[&["-t", "app"], more].concat());
            assert_eq!(said.code, 0, "{}", said.stderr);
            let found = types(&world, "app");
            assert!(found.iter().all(|kind| kind.starts_with(DOCKER)), "{found:?} {compression}");
            world.validate("app");
            // The next build stands on it like on any other.
            world.build("FROM app\nRUN test -e /a\n", &["-t", "next"]).ok();
            assert!(types(&world, "next").iter().all(|kind| kind.contains(".oci.")));
        }
        let platforms =
            ["-t", "multi", "--platform", "linux/amd64,linux/arm64", "--format", "docker"];
        world.build("FROM scratch\nLABEL a=b\n", &platforms).ok();
        let found = types(&world, "multi");
        assert_eq!(found[0], "application/vnd.docker.distribution.manifest.list.v2+json");
        assert!(found.iter().all(|kind| kind.starts_with(DOCKER)), "{found:?}");
        let noted = world.build(text, &["--format", "docker", "--annotation", "a=b"]).failed(2);
        assert!(noted.contains("has no place in an image of Docker's form"), "{noted}");
        if peer("skopeo") {
            let layout = world.path("out/app");
            world.build(text, &["-t", "app", "--format", "docker"]).ok();
            world
                .run(["image", "save", "app", "--format", "oci", "-o", layout.to_str().unwrap()])
                .ok();
            let mut skopeo = Command::new("skopeo");
            skopeo.args(["inspect", "--config", "--raw", &format!("oci:{}", layout.display())]);
            let config: Value =
                serde_json::from_str(&Said::of(skopeo.output().unwrap()).ok()).unwrap();
            assert_eq!(config["config"]["Healthcheck"]["Test"][1], "true");
        }
    }
}

/// Second of the file `made` in an image.
fn time_of(world: &World, image: &str) -> u64 {
    let tar = world.path("out/time.tar");
    world.run(["image", "export", image, "-o", tar.to_str().unwrap()]).ok();
    let mut archive = tar::Archive::new(fs::File::open(tar).unwrap());
    let mut entries = archive.entries().unwrap().map(Result::unwrap);
    let made = entries.find(|entry| entry.path().unwrap().ends_with("made")).unwrap();
    made.header().mtime().unwrap()
}

#[test]
fn an_epoch_leaves_file_times_alone_when_it_is_told_to() {
    let world = World::new().with_base();
    let text = "FROM base\nRUN touch /made\n";
    let build = |more: &[&str]| {
        world.build(text, &[&["-t", "app", "--source-date-epoch", "1000"], more].concat()).ok()
    };
    let rewritten = build(&[]);
    assert_eq!(time_of(&world, "app"), 1000);
    let kept = build(&["-o", "type=image,rewrite-timestamp=false"]);
    assert!(time_of(&world, "app") > 1_600_000_000);
    assert_eq!(world.config("app")["created"], "1970-01-01T00:16:40Z");
    assert_ne!(rewritten, kept);
    // Both are kept side by side.
    assert_eq!(build(&[]), rewritten);
    assert_eq!(build(&["-o", "type=image,rewrite-timestamp=false"]), kept);
}
