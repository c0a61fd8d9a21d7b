//! `from`: every place that a base image can come from, and every way in which it can be the wrong one.

use super::{HEAD, Made, app, app_with, assemble, read};
use crate::errors::normal;
use crate::support::registry::Registry;
use crate::support::{Said, World, peer, program};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;

const FORMS: [&str; 5] =
    ["oci", "oci-archive", "docker-archive", "docker-archive-v1", "docker-archive-flat"];

const FILE: &str = "contents:\n- file: {path: /etc/motd, text: hi}\n";

/// Two images under the name `from`, with layers that say something about their order.
fn world(world: World) -> World {
    let world = world.with_base();
    let run = "FROM base\nRUN rm /usr/share/doc/a && echo x > /x\nCMD [\"/x\"]\n";
    world.build(run, &["-t", "from:1"]).ok();
    world.build(&format!("{run}LABEL two=2\n"), &["-t", "from:2"]).ok();
    world
}

fn save(world: &World, name: &str, form: &str, to: &str) {
    let path = world.context().join(to);
    let path = path.to_str().unwrap();
    world.run(["image", "save", name, "--format", form, "-o", path]).ok();
}

fn from(from: &str) -> String {
    format!("{HEAD}from: {{{from}}}\n{FILE}")
}

/// What stays the same whatever the archive did to the layers' compression.
fn content(made: &Made) -> (&serde_json::Value, &Vec<Vec<u8>>) {
    (&made.config, &made.layers)
}

#[test]
fn every_form_of_a_base_gives_the_same_layers_and_config() {
    for world in World::each().into_iter().map(world) {
        let stored = app(&world, &from("image: 'from:1'"));
        assert_eq!(stored.layers.len(), 3);
        assert_eq!(
            stored.top(),
            ["etc dir 755 0:0 0", "etc/motd file 644 0:0 2"],
            "the directory is the base's"
        );
        for form in FORMS {
            save(&world, "from:1", form, form);
            let transport = if form.starts_with("docker") { "docker-archive" } else { form };
            let made = app(&world, &from(&format!("image: '{transport}:{form}'")));
            assert_eq!(content(&made), content(&stored), "{form}");
            if form.starts_with("oci") || form.ends_with("flat") {
                assert_eq!(made.digest, stored.digest, "{form}");
            }
        }
        let dir = world.context().join("skopeo");
        world.run(["image", "copy", "from:1", &format!("dir:{}", dir.display())]).ok();
        assert_eq!(app(&world, &from("image: 'dir:skopeo'")), stored);
        let absolute = format!("image: 'oci:{}:1'", world.context().join("oci").display());
        assert_eq!(app(&world, &from(&absolute)), stored);
    }
}

/// Both archives in one, as `docker save A B` writes it.
fn merged(archives: [Vec<u8>; 2]) -> Vec<u8> {
    let mut members: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut manifest = Vec::new();
    for archive in &archives {
        for entry in tar::Archive::new(&archive[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            if path == "manifest.json" {
                manifest.extend(serde_json::from_slice::<Vec<serde_json::Value>>(&bytes).unwrap());
            } else {
                members.insert(path, bytes);
            }
        }
    }
    members.insert("manifest.json".to_owned(), serde_json::to_vec(&manifest).unwrap());
    let members: Vec<_> =
        members.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
    let mut tar = tar::Builder::new(Vec::new());
    for (path, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, bytes).unwrap();
    }
    tar.into_inner().unwrap()
}

#[test]
fn one_of_several_images_is_chosen_by_name_or_number() {
    for world in World::each().into_iter().map(world) {
        let archives = ["1", "2"].map(|tag| {
            save(&world, &format!("from:{tag}"), "docker-archive", tag);
            save(&world, &format!("from:{tag}"), "oci", "layout");
            fs::read(world.context().join(tag)).unwrap()
        });
        world.file("two.tar", merged(archives));
        let mut made = ["'docker-archive:1'", "'docker-archive:2'"]
            .map(|image| app(&world, &from(&format!("image: {image}"))));
        for (one, names) in made.iter_mut().zip([["from:1", "@0"], ["from:2", "@1"]]) {
            for name in names {
                let image = format!("image: 'docker-archive:two.tar#{name}'");
                assert_eq!(&app(&world, &from(&image)), one, "{name}");
            }
            let image = format!("image: 'docker-archive:two.tar:{}'", names[0]);
            assert_eq!(&app(&world, &from(&image)), one);
        }
        for tag in ["1", "2"] {
            let by = |image: &str| app(&world, &from(&format!("image: '{image}'")));
            assert_eq!(by(&format!("oci:layout#{tag}")), by(&format!("from:{tag}")));
        }
        says(
            &world,
            "image: 'docker-archive:two.tar'",
            "\
error: cannot read an image from `context/two.tar`
  --> context/image.yaml:3:15
   |
 3 | from: {image: 'docker-archive:two.tar'}
   |               ^^^^^^^^^^^^^^^^^^^^^^^^
 cause: there are 2 images in it
help: choose one with `SOURCE:NAME`, or take all with `image load --all`: from:1, from:2
",
        );
        says(
            &world,
            "image: 'docker-archive:two.tar#@2'",
            "\
error: cannot read an image from `context/two.tar`
  --> context/image.yaml:3:15
   |
 3 | from: {image: 'docker-archive:two.tar#@2'}
   |               ^^^^^^^^^^^^^^^^^^^^^^^^^^^
 cause: there is no image `@2` in it
help: there are: from:1, from:2
",
        );
        says(
            &world,
            "image: 'from:1#2'",
            "\
error: `from:1` holds one image
  --> context/image.yaml:3:15
   |
 3 | from: {image: 'from:1#2'}
   |               ^^^^^^^^^^
help: `#NAME` chooses an image of an archive or a layout
",
        );
    }
}

/// Asserts what is said to a base, and that it fails.
#[track_caller]
fn says(world: &World, base: &str, wanted: &str) {
    let said = assemble(world, &from(base), &[]);
    assert_eq!(said.stdout, "");
    assert_ne!(said.code, 0);
    let found = normal(world, &said);
    assert_eq!(found.split_once('\n').unwrap().1, wanted);
}

#[test]
fn a_digest_is_checked_whatever_the_source() {
    for world in World::each().into_iter().map(world) {
        save(&world, "from:1", "oci", "oci");
        let digest = world.run(["image", "digest", "from:1"]).ok();
        let stored = app(&world, &from("image: 'from:1'"));
        for image in ["from:1", "oci:oci"] {
            let right = format!("image: '{image}', digest: {}", digest.trim_end());
            assert_eq!(app(&world, &from(&right)), stored);
            let zeros = "0".repeat(64);
            let wrong = format!("image: '{image}', digest: sha256:{zeros}");
            let line = from(&wrong);
            let line = line.lines().nth(2).unwrap();
            let said = assemble(&world, &from(&wrong), &[]).failed(1);
            let column = line.find("sha256:").unwrap();
            let wanted = format!(
                "error: the base image has another digest\n  --> context/image.yaml:3:{}\n   |\n 3 | {line}\n   | {}{}\n \
                 cause: expected sha256:{zeros}, found {digest}",
                column + 1,
                " ".repeat(column),
                "^".repeat(71),
            );
            assert_eq!(said, wanted);
        }
    }
}

#[test]
fn the_platform_chooses_from_an_index_and_must_be_there() {
    for world in World::each() {
        let world = world.with_base();
        let tar = world.path("base.tar");
        for platform in ["linux/amd64", "linux/arm64/v8"] {
            let args = ["image", "import", "--add", "both", tar.to_str().unwrap()];
            world.run(args.into_iter().chain(["--platform", platform])).ok();
        }
        let own = app(&world, &from("image: both"));
        let host = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        assert_eq!(own.config["architecture"], host);
        for spec in [
            from("image: both, platform: linux/arm64"),
            format!("{}architecture: arm64\n", from("image: both")),
        ] {
            let made = app(&world, &spec);
            assert_eq!(made.config["architecture"], "arm64", "{spec}");
            assert_eq!(made.layers, own.layers);
        }
        says(
            &world,
            "image: both, platform: linux/s390x",
            "\
error: the image is not made for `linux/s390x`
  --> context/image.yaml:3:15
   |
 3 | from: {image: both, platform: linux/s390x}
   |               ^^^^
help: there are: linux/amd64, linux/arm64
",
        );
        let said = assemble(&world, &from("image: base"), &["--set", "architecture=s390x"]);
        let wanted = "\
error: the base image is not made for `linux/s390x`
  --> context/image.yaml:3:15
   |
 3 | from: {image: base}
   |               ^^^^
 cause: it is made for `linux/amd64`
help: `from.platform` chooses another image of an index
";
        assert_eq!(said.failed(1), wanted);
        let said = assemble(&world, &from("image: base"), &["--set", "os=windows"]).failed(1);
        assert!(
            said.starts_with("error: the base image is not made for `windows/amd64`\n"),
            "{said}"
        );
    }
}

#[test]
fn what_is_no_image_is_told_with_its_place() {
    for world in World::each().into_iter().map(world) {
        world.file("cut.tar", &crate::support::base::busybox_tar()[..1000]);
        save(&world, "from:1", "docker-archive", "whole.tar");
        let whole = fs::read(world.context().join("whole.tar")).unwrap();
        world.file("short.tar", &whole[..whole.len() / 2]);
        let mut found = String::new();
        for base in [
            "image: gone",
            "image: 'oci:gone'",
            "image: 'docker-archive:gone.tar'",
            "image: 'docker-archive:cut.tar'",
            "image: 'docker-archive:short.tar'",
            "image: 'oci-archive:short.tar'",
            "image: 'dir:.'",
            "image: 'oci:image.yaml'",
            "image: 'docker://127.0.0.1:1/x:1'",
            "image: 'A/B'",
        ] {
            let said = assemble(&world, &from(base), &[]);
            found += &format!("== {base}\n{}\n", normal(&world, &said));
        }
        crate::errors::transcript("assemble-bases", &found);
    }
}

#[test]
fn a_base_in_a_registry_needs_a_digest_and_is_pulled_once() {
    if !peer("docker-registry") {
        return;
    }
    for world in World::each().into_iter().map(world) {
        let registry = Registry::start(&world);
        let name = format!("docker://{}/team/base", registry.address);
        world.run(["image", "copy", "from:1", &format!("{name}:1")]).ok();
        let stored = app(&world, &from("image: 'from:1'"));
        let digest = world.run(["image", "digest", "from:1"]).ok();
        let digest = digest.trim_end();
        let said = assemble(&world, &from(&format!("image: '{name}:1'")), &[]).failed(2);
        let start =
            "error: a base image in a registry needs a digest\n  --> context/image.yaml:3:15\n";
        assert!(said.starts_with(start), "{said}");
        assert_eq!(
            app_with(&world, &from(&format!("image: '{name}:1'")), &["--allow-tag"]),
            stored
        );
        assert_eq!(app(&world, &from(&format!("image: '{name}@{digest}'"))), stored);
        assert_eq!(app(&world, &from(&format!("image: '{name}:1', digest: {digest}"))), stored);
        let zeros = format!("image: '{name}:1', digest: sha256:{}", "0".repeat(64));
        assemble(&world, &from(&zeros), &[]).failed(1);
        // And the other way round: an image goes to the registry of its name.
        let named = format!("{}/team/app:3", registry.address);
        let spec = from("image: 'from:1'").replace("name: app", &format!("name: {named}"));
        assemble(&world, &spec, &["--push"]).ok();
        world.run(["image", "copy", &format!("docker://{named}"), "pulled"]).ok();
        assert_eq!(read(&world, "pulled"), stored);
    }
}

/// `assemble` pulled and pushed without a word; found by reading.
#[test]
fn signatures_that_are_asked_for_are_missed() {
    if !peer("docker-registry") {
        return;
    }
    let world = world(World::new());
    let registry = Registry::start(&world);
    let name = format!("{}/team/app:1", registry.address);
    let run = |spec: &str, args: &[&str]| {
        world.file("image.yaml", spec);
        let mut command = world.command(program());
        command.args(["assemble", "-f", "context/image.yaml"]).args(args);
        Said::of(command.env("DOCKER_CONTENT_TRUST", "1").output().unwrap())
    };
    let push = from("image: 'from:1'").replace("name: app", &format!("name: {name}"));
    let said = run(&push, &["--push"]).failed(3);
    let unsigned = "error: signing is not available yet; --disable-content-trust goes on without it\n cause: DOCKER_CONTENT_TRUST=1 asks for signatures\n";
    assert!(said.ends_with(unsigned), "{said}");
    run(&push, &["--push", "--disable-content-trust"]).ok();
    let pull = from(&format!("image: 'docker://{name}'"));
    let said = run(&pull, &["--allow-tag"]).failed(3);
    assert!(said.contains("signing is not available yet"), "{said}");
    run(&pull, &["--allow-tag", "--disable-content-trust"]).ok();
}
