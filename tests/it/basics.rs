//! The thin path: a Dockerfile becomes an image, and the second time nothing runs.

use crate::support::{Said, World, program, write_program};
use std::path::Path;
use std::process::Command;

#[test]
fn an_image_is_built_cached_and_valid() {
    for world in World::each() {
        let world = world.with_base();
        let dockerfile =
            "FROM base\nENV A=1\nRUN echo $A > /a\nCOPY f /dir/f\nWORKDIR /w\nCMD [\"/a\"]\n";
        world.file("f", "content");
        let first = world.build(dockerfile, &["-t", "app"]);
        assert_eq!((first.cached(), first.done()), (0, 3), "{}", first.stderr);
        let digest = first.ok();
        assert!(digest.starts_with("sha256:"), "{digest}");
        world.validate("app");
        let second = world.build(dockerfile, &["-t", "app"]);
        assert_eq!((second.cached(), second.done()), (3, 0), "{}", second.stderr);
        assert_eq!(second.ok(), digest);
        let listing = world.listing("app");
        for line in
            ["a file 644 0:0 2", "dir dir 755 0:0 0", "dir/f file 644 0:0 7", "w dir 755 0:0 0"]
        {
            assert!(listing.iter().any(|found| found == line), "{line} in {listing:#?}");
        }
    }
}

#[test]
fn a_cached_build_does_not_believe_a_layer_that_was_written_to() {
    let world = World::new().with_base();
    let build =
        || world.build("FROM base\nRUN echo 1 > /a\n", &["-t", "app", "--source-date-epoch", "1"]);
    let digest = build().ok();
    let text = world.run(["image", "inspect", "--json", "app"]).ok();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let layer = value["manifest"]["layers"][1]["digest"].as_str().unwrap()[7..].to_owned();
    let path = world.store().join("images/blobs/sha256").join(layer);
    let size = std::fs::metadata(&path).unwrap().len() as usize;
    std::fs::write(&path, vec![7; size]).unwrap();
    let again = build();
    // The layer is written again from the snapshot, which is still there.
    assert_eq!((again.cached(), again.done()), (1, 0), "{}", again.stderr);
    assert_eq!(again.ok(), digest);
    world.validate("app");
}

/// A cargo that has built already.
const CARGO: &str = r#"#!/bin/sh
target=
while [ $# -gt 0 ]; do
	[ "$1" = --target ] && target=$2/
	shift
done
mkdir -p "$CARGO_TARGET_DIR/${target}release"
cp "$BUILT" "$CARGO_TARGET_DIR/${target}release/nativebuild"
"#;

#[test]
fn what_is_installed_has_manual_pages_and_completions() {
    let world = World::new();
    let cargo = world.path("cargo");
    write_program(&cargo, CARGO);
    let mut install = Command::new("sh");
    install.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/install"));
    // Without rustup, which would ask the network for a target.
    install.env_clear().env("PATH", "/usr/bin:/bin").env("BUILT", program());
    install.env("CARGO", cargo).env("CARGO_TARGET_DIR", world.path("target"));
    install.env("DESTDIR", world.path("out")).env("PREFIX", "/usr");
    Said::of(install.output().unwrap()).ok();
    let read =
        |name: &str| std::fs::read_to_string(world.path("out/usr/share").join(name)).unwrap();
    for (shell, name) in [
        ("bash", "bash-completion/completions/nativebuild"),
        ("zsh", "zsh/site-functions/_nativebuild"),
        ("fish", "fish/vendor_completions.d/nativebuild.fish"),
    ] {
        assert_eq!(read(name), world.run(["completion", shell]).ok(), "{shell}");
    }
    assert_eq!(read("man/man1/nativebuild-build.1"), world.run(["man", "build"]).ok());
    assert!(world.path("out/usr/bin/nativebuild").is_file());
}
