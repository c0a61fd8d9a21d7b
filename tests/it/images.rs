//! Images without a server: every form that can come in or go out, the names in the store, pulling from a loopback registry.

use crate::support::registry::Registry;
use crate::support::{Said, World, base, peer};
use std::fs;
use std::process::Command;

const FORMS: [&str; 5] =
    ["oci", "oci-archive", "docker-archive", "docker-archive-v1", "docker-archive-flat"];

fn text(world: &World, name: &str) -> String {
    world.path(name).to_str().unwrap().to_owned()
}

/// A digest of all that is below a path, names included.
fn content(path: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    if path.is_file() {
        return vec![(String::new(), fs::read(path).unwrap())];
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        // The lock is of nobody's content.
        if name != ".lock" {
            found.extend(
                content(&entry.path())
                    .into_iter()
                    .map(|(below, bytes)| (format!("{name}/{below}"), bytes)),
            );
        }
    }
    found.sort();
    found
}

#[test]
fn every_form_is_written_alike_twice_and_read_again() {
    for world in World::each() {
        let world = world.with_base();
        let said = world.build("FROM base\nRUN echo 1 > /a && rm /etc/group\n", &["-t", "app"]);
        let digest = said.ok();
        let listing = world.listing("app");
        for form in FORMS {
            let paths = [1, 2].map(|n| text(&world, &format!("out/{form}-{n}")));
            for path in &paths {
                world.run(["image", "save", "app", "--format", form, "-o", path]).ok();
            }
            let [first, second] = paths.each_ref().map(|path| content(path.as_ref()));
            assert!(first == second, "{form} is not the same twice");
            let name = format!("from-{form}");
            let imported = world.run(["image", "import", &name, &paths[0]]).ok();
            assert!(imported == digest || !form.starts_with("oci"), "{form}");
            assert_eq!(world.run(["image", "validate", &paths[0]]).ok(), "valid\n");
            world.validate(&name);
            assert_eq!(world.listing(&name), listing, "{form}");
            world.build(&format!("FROM {name}\nRUN test -e /a\n"), &["-t", "next"]).ok();
            world.validate("next");
        }
    }
}

#[test]
fn root_file_systems_come_in_under_any_compression() {
    let world = World::new();
    let plain = text(&world, "base.tar");
    fs::write(&plain, base::busybox_tar()).unwrap();
    let digest = world.run(["image", "import", "plain", &plain]).ok();
    for program in ["gzip", "bzip2", "xz", "zstd"] {
        if !peer(program) {
            continue;
        }
        let packed = format!("{plain}.{program}");
        let out = fs::File::create(&packed).unwrap();
        let packed_it = Command::new(program).args(["-c", &plain]).stdout(out).status().unwrap();
        assert!(packed_it.success());
        assert_eq!(world.run(["image", "import", program, &packed]).ok(), digest, "{program}");
    }
    let mut command = world.command(crate::support::program());
    command.args(["image", "import", "stdin", "-"]).stdin(fs::File::open(&plain).unwrap());
    assert_eq!(String::from_utf8(command.output().unwrap().stdout).unwrap(), digest);
}

#[test]
fn names_are_listed_and_removed() {
    let world = World::new().with_base();
    let digest = world.build("FROM base\nLABEL a=b\n", &["-t", "app:1", "-t", "host/x/app"]).ok();
    let short = |digest: &str| digest.trim().chars().take(19).collect::<String>();
    let base = world.run(["image", "ls", "--json"]).ok();
    let base: serde_json::Value = serde_json::from_str(&base).unwrap();
    let base = base[2]["digest"].as_str().unwrap().to_owned();
    let listed = world.run(["image", "ls"]).ok();
    let names: Vec<&str> =
        listed.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(names, ["NAME", "host/x/app:latest", "app:1", "base:latest"]);
    assert!(listed.contains(&format!("{}  built", short(&digest))), "{listed}");
    assert!(listed.contains(&format!("{}  imported", short(&base))), "{listed}");
    assert_eq!(world.run(["image", "rm", "app:1", "host/x/app"]).ok(), "");
    assert_eq!(world.run(["image", "ls"]).ok().lines().count(), 2);
    assert_eq!(
        world.run(["image", "rm", "app:1"]).failed(1),
        "error: image `app:1` is not in the store\nhelp: the store has `base:latest`\n\
         help: an image in a registry is written `docker://NAME`\n"
    );
}

/// An archive with several names for one image gave all of them, whichever was asked for.
#[test]
fn one_name_of_an_archive_is_loaded_alone() {
    let world = World::new().with_base();
    world.run(["image", "tag", "base", "x.example/b:1"]).ok();
    world.run(["image", "copy", "base", "oci:both:docker.io/library/base:latest"]).ok();
    world.run(["image", "copy", "base", "oci:both:x.example/b:1"]).ok();
    world.run(["image", "rm", "base", "x.example/b:1"]).ok();
    let digest = world.run(["image", "load", "both:x.example/b:1"]).ok();
    assert!(digest.ends_with(" x.example/b:1\n"), "{digest}");
    assert_eq!(world.run(["image", "ls"]).ok().lines().count(), 2);
    let by_digest = format!("both:{}", digest.split(' ').next().unwrap());
    assert_eq!(world.run(["image", "load", &by_digest]).ok().lines().count(), 2);
    world.run(["image", "copy", "base", "oci:bare:1"]).ok();
    let said = world.run(["image", "load", "bare"]).failed(2);
    let help = "help: `image import NAME SOURCE` gives it one; so does `image copy`, from `oci:`, `oci-archive:` or `docker-archive:`\n";
    assert!(said.ends_with(help), "{said}");
}

#[test]
fn many_names_are_counted() {
    let world = World::new().with_base();
    for n in 1..=9 {
        world.run(["image", "tag", "base", &format!("a:{n}")]).ok();
    }
    let said = world.run(["image", "digest", "none"]).failed(1);
    let names: Vec<String> = (1..=8).map(|n| format!("`a:{n}`")).collect();
    let help =
        format!("help: the store has {} and 2 more: `nativebuild image ls`\n", names.join(", "));
    assert!(said.contains(&help), "{said}");
}

/// A look at a registry made a store, and a wrong `--root` looked like an empty one.
#[test]
fn who_only_looks_makes_no_store() {
    for world in World::each() {
        let world = world.with_base();
        world.run(["image", "copy", "base", "oci:out/l:1"]).ok();
        let digest = world.run(["image", "digest", "base"]).ok();
        let elsewhere = |args: &[&str], root: bool| {
            let mut command = world.command(crate::support::program());
            command.arg("image").args(args).env("NATIVEBUILD_ROOT", world.path("none"));
            if root {
                command.args(["--root", "none"]);
            }
            Said::of(command.output().unwrap())
        };
        assert_eq!(elsewhere(&["ls"], false).ok(), "NAME  DIGEST  ORIGIN  PLATFORMS\n");
        assert!(elsewhere(&["du"], false).ok().ends_with("total                    0\n"));
        let empty = "error: image `app:latest` is not in the store\n\
                     help: the store is empty; `nativebuild image import NAME SOURCE` brings an image in\n";
        for args in [
            &["inspect", "app"][..],
            &["rm", "app"],
            &["save", "app", "-o", "x"],
            &["validate", "app"],
        ] {
            assert_eq!(elsewhere(args, false).failed(1), empty, "{args:?}");
            let said = elsewhere(args, true).failed(3);
            let wrong = format!(
                "error: there is no store in {}\nhelp: check the path of `--root` for typing errors\n",
                world.path("none").display()
            );
            assert_eq!(said, wrong, "{args:?}");
        }
        assert_eq!(elsewhere(&["digest", "oci:out/l:1"], true).ok(), digest);
        assert_eq!(elsewhere(&["validate", "out/l"], true).ok(), "valid\n");
        if peer("docker-registry") {
            let registry = Registry::start(&world);
            let image = format!("docker://{}/a:1", registry.address);
            world.run(["image", "copy", "base", &image]).ok();
            assert_eq!(elsewhere(&["digest", &image], true).ok(), digest);
            assert!(elsewhere(&["inspect", &image], true).ok().contains(digest.trim()));
            let repository = image.strip_suffix(":1").unwrap();
            assert_eq!(elsewhere(&["ls-tags", repository], true).ok(), "1\n");
            let said = elsewhere(&["ls-tags", &image], true).failed(2);
            let wanted = format!(
                "error: `{image}` is one image, and tags are those of a repository\nhelp: write `{repository}`\n"
            );
            assert_eq!(said, wanted);
        }
        assert!(!world.path("none").exists());
    }
}

#[test]
fn a_store_of_somebody_else_is_no_dead_end() {
    let (Some(root), Some(user)) = (World::root(), World::user()) else { return };
    let root = root.with_base();
    fs::set_permissions(root.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let store = root.store();
    let said = user.run(["image", "ls", "--root", store.to_str().unwrap()]).failed(3);
    let wanted = format!(
        "error: cannot use the store {}\n cause: permission denied\n\
         help: choose another directory with `--root` or NATIVEBUILD_ROOT\n",
        store.display()
    );
    assert_eq!(said, wanted);
}

#[test]
fn platforms_are_merged_into_an_index_that_travels_whole() {
    let world = World::new().with_base();
    let tar = text(&world, "base.tar");
    for platform in ["linux/amd64", "linux/s390x", "linux/arm64"] {
        world.run(["image", "import", "all", &tar, "--platform", platform, "--add"]).ok();
    }
    let platforms = |name: &str| {
        let all = world.run(["image", "ls", "--json"]).ok();
        let all: serde_json::Value = serde_json::from_str(&all).unwrap();
        let full = format!("docker.io/library/{name}:latest");
        let found = all.as_array().unwrap().iter().find(|image| image["name"] == full.as_str());
        (found.unwrap()["platforms"].clone(), found.unwrap()["digest"].clone())
    };
    let whole = platforms("all");
    assert_eq!(whole.0, serde_json::json!(["linux/amd64", "linux/arm64", "linux/s390x"]));
    let archive = text(&world, "out/all.oci");
    world.run(["image", "save", "all", "-o", &archive]).ok();
    world.run(["image", "import", "again", &archive]).ok();
    assert_eq!(platforms("again"), whole);
    world.validate("again");
    let one = text(&world, "out/s390x.tar");
    let platform = ["--platform", "linux/s390x"];
    let save = ["image", "save", "all", "--format", "docker-archive", "-o", &one];
    world.run(save.into_iter().chain(platform)).ok();
    world.run(["image", "import", "foreign", &one]).ok();
    assert_eq!(platforms("foreign").0, serde_json::json!(["linux/s390x"]));
    let refused = world.build("FROM --platform=linux/ppc64le all\n", &[]).failed(1);
    assert!(refused.contains("not made for `linux/ppc64le`"), "{refused}");
    assert!(refused.contains("linux/amd64, linux/arm64, linux/s390x"), "{refused}");
}

#[test]
fn a_source_of_several_names_needs_one_of_them() {
    let world = World::new().with_base();
    world.build("FROM base\nLABEL a=1\n", &["-t", "one:1"]).ok();
    world.build("FROM base\nLABEL a=2\n", &["-t", "two:2"]).ok();
    let layout = text(&world, "out/both");
    for name in ["one:1", "two:2"] {
        world.run(["image", "save", name, "--format", "oci", "-o", &layout]).ok();
    }
    world.run(["image", "rm", "one:1", "two:2"]).ok();
    let said = world.run(["image", "import", "x", &layout]).failed(2);
    assert!(said.contains("one:1") && said.contains("two:2"), "{said}");
    world.run(["image", "import", "x", &format!("{layout}:1")]).ok();
    assert_eq!(world.config("x")["config"]["Labels"]["a"], "1");
    world.run(["image", "load", &layout]).failed(2);
    let loaded = world.run(["image", "load", "--all", &layout]).ok();
    assert_eq!(loaded.lines().count(), 2);
    assert_eq!(world.config("two:2")["config"]["Labels"]["a"], "2");
}

#[test]
fn a_base_is_pulled_asked_for_again_and_kept_when_the_registry_is_gone() {
    if !peer("docker-registry") || !peer("skopeo") {
        return;
    }
    let world = World::new().with_base();
    let registry = Registry::start(&world);
    let layout = text(&world, "out/base");
    world.run(["image", "save", "base", "--format", "oci", "-o", &layout]).ok();
    let push = |source: &str| {
        let to = format!("docker://{}/team/base:1", registry.address);
        let done = Command::new("skopeo")
            .args(["copy", "-q", "--dest-tls-verify=false", source, &to])
            .status();
        assert!(done.unwrap().success());
    };
    push(&format!("oci:{layout}:latest"));
    let dockerfile = format!("FROM {}/team/base:1\nRUN echo 1 > /a\n", registry.address);
    let first = world.build(&dockerfile, &["-t", "app"]);
    assert!(first.stderr.contains("pulling"), "{}", first.stderr);
    let digest = first.ok();
    world.validate("app");
    let again: Said = world.build(&dockerfile, &["-t", "app"]);
    assert!(!again.stderr.contains("pulling"), "{}", again.stderr);
    assert_eq!((again.cached(), again.stdout.as_str()), (1, digest.as_str()));
    world.build("FROM base\nRUN echo newer > /b\n", &["-t", "newer"]).ok();
    let newer = text(&world, "out/newer");
    world.run(["image", "save", "newer", "--format", "oci", "-o", &newer]).ok();
    push(&format!("oci:{newer}:latest"));
    let moved = world.build(&dockerfile, &["-t", "app"]);
    assert!(moved.stderr.contains("pulling"), "{}", moved.stderr);
    let moved = moved.ok();
    assert_ne!(moved, digest);
    drop(registry);
    let alone = world.build(&dockerfile, &["-t", "app"]);
    assert!(alone.stderr.contains("the stored one is used"), "{}", alone.stderr);
    assert_eq!(alone.ok(), moved);
    world.build(&dockerfile, &["--pull=always"]).failed(3);
}
