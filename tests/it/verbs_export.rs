//! `nativebuild export`: the root file system of an image from any location, in any place, byte for byte as a build writes it.

use crate::support::environment::named;
use crate::support::{World, base, is_root};
use std::fs;

/// Deletions, a directory made again, a replaced one, links, a device, owners: in layers above each other.
pub const LAYERS: &str = "FROM base
RUN mkdir -p /d/sub /e && echo a > /d/a && ln /d/a /d/sub/b && echo e > /e/e && ln -s /d /l && mkfifo /p
RUN rm -r /d/sub /e && mkdir /e && echo new > /e/new && mknod /null c 1 3 && chown 7:8 /d/a && rm /etc/group
RUN rm -r /e && echo file > /e && ln /e /f && echo through > /l/through && chmod 1700 /home
";

pub fn text(world: &World, name: &str) -> String {
    world.path(name).to_str().unwrap().to_owned()
}

#[test]
fn an_export_is_what_a_build_writes_from_wherever_the_image_comes() {
    for world in World::each() {
        let world = world.with_base();
        world.build(LAYERS, &["-t", "app"]).ok();
        world.validate("app");
        let tar = text(&world, "out/build.tar");
        world.build("FROM app\n", &["-o", &format!("type=tar,dest={tar}")]).ok();
        let wanted = fs::read(&tar).unwrap();
        let whole = text(&world, "out/whole.tar");
        let dest = format!("type=tar,dest={whole}");
        world.build("FROM app\n", &["--snapshots", "whole", "-o", &dest]).ok();
        assert!(fs::read(&whole).unwrap() == wanted);
        let places =
            ["oci:out/l:x", "oci-archive:out/o.tar", "docker-archive:out/d.tar:a:b", "dir:out/dir"];
        for place in places {
            world.run(["image", "copy", "app", place]).ok();
        }
        for (at, place) in ["app"].into_iter().chain(places).enumerate() {
            for verb in [&["export"][..], &["image", "export"]] {
                let out = text(&world, &format!("out/{at}.tar"));
                let said = world.run([verb, &[place, "-o", &out]].concat());
                assert_eq!(
                    (said.code, said.stdout, said.stderr),
                    (0, String::new(), String::new())
                );
                assert!(fs::read(&out).unwrap() == wanted, "{verb:?} {place}");
            }
        }
        let mut command = world.command(crate::support::program());
        let said = command.args(["export", "app", "-o", "-"]).output().unwrap();
        assert!(said.status.success() && said.stdout == wanted);
        let listing = base::list_tar(&wanted);
        for line in
            ["e file 644 0:0 5", "f link 644 0:0 e", "d/a file 644 7:8 2", "null char 644 0:0 0"]
        {
            assert!(listing.iter().any(|found| found == line), "{line}: {listing:?}");
        }
        assert!(!listing.iter().any(|line| line.starts_with("d/sub") || line.starts_with("e/")));
    }
}

#[test]
fn a_tar_needs_no_privilege_and_no_store() {
    let world = World::new().with_base();
    world.build(LAYERS, &["-t", "app"]).ok();
    world.run(["image", "copy", "app", "oci:out/l:x"]).ok();
    world.run(["export", "app", "-o", "out/app.tar"]).ok();
    let wanted = fs::read(world.path("out/app.tar")).unwrap();
    if !is_root() {
        return;
    }
    for name in ["disk/upper", "disk/work"] {
        fs::create_dir_all(world.path(name)).unwrap();
    }
    for name in ["Kubernetes, restricted", "host, user, no user namespaces", "docker run"] {
        let place = named(name);
        place.give(&world);
        let said = place
            .command(&world, crate::support::program())
            .args(["export", "oci:out/l:x", "-o", "-"])
            .env("NATIVEBUILD_ROOT", world.path("none"))
            .output()
            .unwrap();
        assert!(said.status.success(), "{name}: {}", String::from_utf8_lossy(&said.stderr));
        assert!(said.stdout == wanted, "{name}");
        assert!(!world.path("none").exists());
    }
}

#[test]
fn a_directory_is_written_where_the_path_says_so() {
    let world = World::new().with_base();
    fs::create_dir(world.path("out/there")).unwrap();
    world.give();
    for args in [&["out/there"][..], &["out/new/"], &["out/flag", "--directory"]] {
        world.run([&["export", "base", "-o"], args].concat()).ok();
        let root = world.path(args[0]);
        assert_eq!(fs::read_to_string(root.join("usr/share/doc/a")).unwrap(), "a", "{args:?}");
    }
    assert_eq!(
        world.run(["export", "base", "-o", "out/there", "--owner", "1"]).failed(2),
        "error: `--owner` is for a tar\n cause: `out/there` is a directory\n"
    );
    assert_eq!(
        world.run(["export", "nosuch", "-o", "out/x.tar"]).failed(1),
        "error: image `nosuch:latest` is not in the store\nhelp: the store has `base:latest`\n\
         help: an image in a registry is written `docker://NAME`\n"
    );
    assert!(!world.path("out/x.tar").exists());
}
