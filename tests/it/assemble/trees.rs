//! `dir` and `tar`: trees, with links to directories in the way on both sides.

use super::{HEAD, Made, app, assemble, at, dir, file, hard, link, null, tar_of};
use crate::support::World;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

/// A base whose `/bin` and `/lib` are links, as Debian's are; and some links that lead astray.
pub fn with_merged_base(world: World) -> World {
    let members = [
        dir("usr"),
        dir("usr/bin"),
        file("usr/bin/old", "old"),
        dir("usr/lib"),
        link("bin", "usr/bin"),
        link("lib", "/usr/lib"),
        link("loop", "loop"),
        link("out", "../../etc"),
        dir("etc"),
        file("etc/conf", "base"),
        file("file", "f"),
    ];
    fs::write(world.path("merged.tar"), tar_of(&members)).unwrap();
    world.give();
    world.run(["image", "import", "merged", world.path("merged.tar").to_str().unwrap()]).ok();
    world
}

pub fn on_merged(contents: &str) -> String {
    format!("{HEAD}from: {{image: merged}}\ncontents:\n{contents}")
}

/// A directory with all kinds of things.
fn source(world: &World) {
    world.file("src/bin/tool", "tool").file("src/real/r", "r").file("src/deep/x", "x");
    fs::set_permissions(at(world, "src/bin/tool"), fs::Permissions::from_mode(0o755)).unwrap();
    for (name, target) in [
        ("src/dl", "real"),
        ("src/deep/back", "../real"),
        ("src/dangling", "nowhere"),
        ("src/fl", "real/r"),
    ] {
        symlink(target, at(world, name)).unwrap();
    }
    fs::hard_link(at(world, "src/bin/tool"), at(world, "src/bin/tool2")).unwrap();
    let made = Command::new("mkfifo").arg(at(world, "src/p")).status().unwrap();
    assert!(made.success());
    world.give();
}

#[test]
fn the_store_is_in_no_directory() {
    for world in World::each().into_iter().map(World::with_base) {
        world.file("src/a", "a").file("src/deep/b", "b");
        fs::create_dir(at(&world, "links")).unwrap();
        symlink("../src/deep", at(&world, "links/deep")).unwrap();
        world.give();
        let spec = format!(
            "{HEAD}contents:\n- dir: src\n- {{dir: links, to: /again, sourceSymlinks: expand}}\n"
        );
        let wanted = app(&world, &spec).digest;
        let store = at(&world, "src/deep/store");
        let store = store.to_str().unwrap();
        let assembled = || {
            let said = assemble(&world, &spec, &["--root", store]);
            assert_eq!(said.stderr.matches("left out").count(), 0, "{said:?}");
            assert_eq!(said.ok(), format!("app:latest@{wanted}\n"), "{:?}", world.who());
        };
        assembled();
        // With a directory that an ordinary user cannot read, a mark of a deletion, and a file that lies outside too.
        let tar = world.path("base.tar");
        world.run(["image", "import", "--root", store, "base", tar.to_str().unwrap()]).ok();
        let text =
            "FROM base\nRUN mkdir /q && chown 33:33 /q && chmod 700 /q; rm /bin/vi\nRUN true\n";
        world.file("Dockerfile", text);
        let context = world.context();
        world.run(["build", "-q", "--root", store, context.to_str().unwrap()]).ok();
        fs::remove_file(at(&world, "src/a")).unwrap();
        fs::write(at(&world, "src/deep/store/a"), "a").unwrap();
        fs::hard_link(at(&world, "src/deep/store/a"), at(&world, "src/a")).unwrap();
        assembled();
    }
}

#[test]
fn a_directory_is_copied_with_links_as_they_are() {
    for world in World::each() {
        source(&world);
        let made = app(&world, &format!("{HEAD}contents:\n- dir: src\n"));
        let wanted = [
            "bin dir 755 0:0 0",
            "bin/tool file 755 0:0 4",
            "bin/tool2 file 755 0:0 4",
            "dangling symlink 777 0:0 nowhere",
            "deep dir 755 0:0 0",
            "deep/back symlink 777 0:0 ../real",
            "deep/x file 644 0:0 1",
            "dl symlink 777 0:0 real",
            "fl symlink 777 0:0 real/r",
            "p fifo 644 0:0 0",
            "real dir 755 0:0 0",
            "real/r file 644 0:0 1",
        ];
        assert_eq!(made.list(), [wanted]);
        let below =
            app(&world, &format!("{HEAD}contents:\n- {{dir: src/real, to: /opt/./x//y}}\n"));
        let wanted = [
            "opt dir 755 0:0 0",
            "opt/x dir 755 0:0 0",
            "opt/x/y dir 755 0:0 0",
            "opt/x/y/r file 644 0:0 1",
        ];
        assert_eq!(below.list(), [wanted]);
    }
}

#[test]
fn links_of_the_source_are_expanded_when_asked() {
    for world in World::each() {
        source(&world);
        let spec = format!("{HEAD}contents:\n- {{dir: src, sourceSymlinks: expand}}\n");
        let top = app(&world, &spec).top();
        let links: Vec<_> = top
            .iter()
            .filter(|line| ["d", "f"].iter().any(|start| line.starts_with(start)))
            .collect();
        let wanted = [
            "dangling symlink 777 0:0 nowhere",
            "deep dir 755 0:0 0",
            "deep/back dir 755 0:0 0",
            "deep/back/r file 644 0:0 1",
            "deep/x file 644 0:0 1",
            "dl dir 755 0:0 0",
            "dl/r file 644 0:0 1",
            "fl symlink 777 0:0 real/r",
        ];
        assert_eq!(links, wanted);
    }
}

/// Two links in one directory that lead back to it were expanded to 2⁴⁰ directories: only the depth was limited, and the
/// kernel's own limit came first. Found by this test.
#[test]
fn links_that_lead_around_in_a_circle_are_not_expanded() {
    for world in World::each() {
        world.file("src/a/b/f", "x");
        for (name, target) in [("src/a/b/one", "../b"), ("src/a/b/two", "../../a")] {
            symlink(target, at(&world, name)).unwrap();
        }
        world.give();
        let spec = format!("{HEAD}contents:\n- {{dir: src, sourceSymlinks: expand}}\n");
        let wanted = "\
error: links in `context/src/a/b/one/one` lead around in a circle
  --> context/image.yaml:4:3
   |
 4 | - {dir: src, sourceSymlinks: expand}
   |   ^^^^
help: leave `sourceSymlinks: expand` out
";
        assert_eq!(assemble(&world, &spec, &[]).failed(1), wanted);
    }
}

#[test]
fn hard_links_are_kept_when_asked() {
    for world in World::each() {
        source(&world);
        let spec = |contents: &str| format!("{HEAD}contents:\n- {{dir: src, {contents}}}\n");
        let kept = app(&world, &spec("hardlinks: true"));
        let of_bin = |made: &Made| -> Vec<String> {
            made.top().into_iter().filter(|line| line.starts_with("bin/")).collect()
        };
        assert_eq!(of_bin(&kept), ["bin/tool file 755 0:0 4", "bin/tool2 link 755 0:0 bin/tool"]);
        let apart = app(&world, &spec("hardlinks: false"));
        assert_eq!(of_bin(&apart), ["bin/tool file 755 0:0 4", "bin/tool2 file 755 0:0 4"]);
        // A name that looks different is a file of its own.
        let perms = "perms:\n- {path: /bin/tool2, mode: '0700'}\n";
        let apart = app(&world, &(spec("hardlinks: true") + perms));
        assert_eq!(of_bin(&apart), ["bin/tool file 755 0:0 4", "bin/tool2 file 700 0:0 4"]);
    }
}

#[test]
fn owners_and_attributes_are_the_specs_unless_they_are_kept() {
    let Some(world) = World::root() else { return };
    world.file("src/f", "f");
    let path = at(&world, "src/f");
    std::os::unix::fs::chown(&path, Some(33), Some(34)).unwrap();
    let set = Command::new("setfattr").args(["-n", "user.note", "-v", "hi"]).arg(&path).status();
    let has_attributes = set.is_ok_and(|status| status.success());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).unwrap();
    let with = |options: &str| {
        let made = app(&world, &format!("{HEAD}contents:\n- {{dir: src{options}}}\n"));
        let notes = made.of_top(|entry| {
            let headers = entry.pax_extensions().unwrap().into_iter().flatten();
            headers.map(|pair| pair.unwrap().value().unwrap().to_owned()).collect::<Vec<_>>()
        });
        (made.top(), notes)
    };
    let notes = |notes: &[&str]| {
        vec![("f".to_owned(), notes.iter().map(|note| (*note).to_owned()).collect::<Vec<_>>())]
    };
    assert_eq!(with(""), (vec!["f file 4755 0:0 1".to_owned()], notes(&[])));
    assert_eq!(with(", owners: true"), (vec!["f file 4755 33:34 1".to_owned()], notes(&[])));
    if has_attributes {
        assert_eq!(with(", xattrs: true").1, notes(&["hi"]));
    }
}

#[test]
fn a_directory_goes_where_the_links_of_the_base_lead_or_replaces_them() {
    for world in World::each() {
        let world = with_merged_base(world);
        world.file("src/bin/new", "new").file("src/lib/l", "l").file("src/out/e", "e");
        let followed = app(&world, &on_merged("- dir: src\n"));
        let wanted = [
            "etc dir 755 0:0 0",
            "etc/e file 644 0:0 1",
            "usr dir 755 0:0 0",
            "usr/bin dir 755 0:0 0",
            "usr/bin/new file 644 0:0 3",
            "usr/lib dir 755 0:0 0",
            "usr/lib/l file 644 0:0 1",
        ];
        assert_eq!(followed.top(), wanted);
        let spec = on_merged("- {dir: src, dirSymlinks: follow-base}\n");
        assert_eq!(app(&world, &spec), followed);
        let replaced = app(&world, &on_merged("- {dir: src, dirSymlinks: replace}\n"));
        let wanted = [
            "bin dir 755 0:0 0",
            "bin/new file 644 0:0 3",
            "lib dir 755 0:0 0",
            "lib/l file 644 0:0 1",
            "out dir 755 0:0 0",
            "out/e file 644 0:0 1",
        ];
        assert_eq!(replaced.top(), wanted);
        let said = assemble(&world, &on_merged("- {dir: src, dirSymlinks: error}\n"), &[]);
        let wanted = "\
error: a directory would replace the link `/bin`
  --> context/image.yaml:5:3
   |
 5 | - {dir: src, dirSymlinks: error}
   |   ^^^^
 cause: it leads to `usr/bin`
help: `dirSymlinks: follow-base` puts the files where the link leads, `replace` replaces it
";
        assert_eq!(said.failed(1), wanted);
        let below = app(&world, &on_merged("- {dir: src/lib, to: /bin/sub}\n"));
        let wanted = [
            "usr dir 755 0:0 0",
            "usr/bin dir 755 0:0 0",
            "usr/bin/sub dir 755 0:0 0",
            "usr/bin/sub/l file 644 0:0 1",
        ];
        assert_eq!(below.top(), wanted);
        let said = assemble(&world, &on_merged("- {dir: src, to: /loop}\n"), &[]).failed(1);
        let wanted = "\
error: too many links lead to `loop`
  --> context/image.yaml:5:3
   |
 5 | - {dir: src, to: /loop}
   |   ^^^^
";
        assert_eq!(said, wanted);
    }
}

#[test]
fn later_items_win_and_directories_keep_what_is_in_them() {
    for world in World::each() {
        let world = with_merged_base(world);
        world.file("one/etc/conf", "one").file("one/file/x", "x").file("two/etc/conf", "two");
        symlink("/elsewhere", at(&world, "two/usr")).unwrap();
        let made = app(&world, &on_merged("- dir: one\n- dir: two\n"));
        let wanted = [
            "etc dir 755 0:0 0",
            "etc/conf file 644 0:0 3",
            "file dir 755 0:0 0",
            "file/x file 644 0:0 1",
            "usr symlink 777 0:0 /elsewhere",
        ];
        assert_eq!(made.top(), wanted);
        assert_eq!(made.bytes("etc/conf"), b"two");
        let other = app(&world, &on_merged("- dir: two\n- dir: one\n"));
        assert_eq!(other.bytes("etc/conf"), b"one");
        let listing = world.listing("app");
        assert!(!listing.iter().any(|line| line.starts_with("usr/")), "{listing:?}");
    }
}

#[test]
fn a_tar_keeps_owners_and_links_and_its_whiteouts_remove() {
    for world in World::each() {
        let world = with_merged_base(world);
        let mut tool = file("usr/bin/a", "a");
        (tool.owner, tool.mode) = ((7, 8), 0o4755);
        let tar = tar_of(&[
            file("usr/bin/.wh.old", ""),
            tool,
            hard("usr/bin/b", "usr/bin/a"),
            file("etc/early", "e"),
            file("etc/.wh..wh..opq", ""),
            file("etc/late", "l"),
            null("null"),
            file("bin/c", "c"),
        ]);
        world.file("t.tar", &tar).file("z.tar", zstd::encode_all(&tar[..], 3).unwrap());
        let made = app(&world, &on_merged("- tar: t.tar\n"));
        let wanted = [
            "etc dir 755 0:0 0",
            "etc/.wh.conf file 0 0:0 0",
            "etc/early file 644 0:0 1",
            "etc/late file 644 0:0 1",
            "null char 666 0:0 0",
            "usr dir 755 0:0 0",
            "usr/bin dir 755 0:0 0",
            "usr/bin/.wh.old file 0 0:0 0",
            "usr/bin/a file 4755 7:8 1",
            "usr/bin/b link 4755 7:8 usr/bin/a",
            "usr/bin/c file 644 0:0 1",
        ];
        assert_eq!(made.top(), wanted);
        let listing = world.listing("app");
        let packed = app(&world, &on_merged("- tar: z.tar\n"));
        assert_eq!(packed.layers, made.layers);
        assert_eq!(world.listing("app"), listing);
        let below = app(&world, &on_merged("- {tar: t.tar, to: /opt}\n"));
        let wanted = [
            "opt dir 755 0:0 0",
            "opt/bin dir 755 0:0 0",
            "opt/bin/c file 644 0:0 1",
            "opt/etc dir 755 0:0 0",
            "opt/etc/early file 644 0:0 1",
            "opt/etc/late file 644 0:0 1",
            "opt/null char 666 0:0 0",
            "opt/usr dir 755 0:0 0",
            "opt/usr/bin dir 755 0:0 0",
            "opt/usr/bin/a file 4755 7:8 1",
            "opt/usr/bin/b link 4755 7:8 opt/usr/bin/a",
        ];
        assert_eq!(below.top(), wanted);
        let replaced = app(&world, &on_merged("- {tar: t.tar, dirSymlinks: replace}\n")).top();
        assert!(replaced.contains(&"bin/c file 644 0:0 1".to_owned()), "{replaced:?}");
        let said = assemble(&world, &on_merged("- {tar: t.tar, dirSymlinks: error}\n"), &[]);
        let wanted = "\
error: cannot use the archive `t.tar`
  --> context/image.yaml:5:3
   |
 5 | - {tar: t.tar, dirSymlinks: error}
   |   ^^^^
 cause: a directory would replace the link `/bin`
 cause: it leads to `usr/bin`
help: `dirSymlinks: follow-base` puts the files where the link leads, `replace` replaces it
";
        assert_eq!(said.failed(1), wanted);
    }
}
