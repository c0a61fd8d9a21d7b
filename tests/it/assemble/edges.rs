//! Long and odd names, sparse files, empty images, hard links of all kinds, a real usr-merged distribution.

use super::{HEAD, app, assemble, at, file, hard, link, tar_of};
use crate::support::World;
use crate::support::bases::bases;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;

fn paths(tar: &[u8]) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap();
    let entry = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let entry = entry.unwrap();
        (entry.path_bytes().into_owned(), entry.link_name_bytes().map(std::borrow::Cow::into_owned))
    };
    entries.map(entry).collect()
}

/// ustar has 100 bytes for a name and 155 for what is before it, when there is a slash in the right place.
#[test]
fn long_names_and_targets_are_whole() {
    let long = |n: usize, c: &str| c.repeat(n);
    for world in World::each() {
        // The lengths around both limits, and far beyond them.
        let names = [99, 100, 101, 255].map(|n| long(n, "n"));
        let deep = format!("{}/{}/{}", long(200, "d"), long(155, "e"), long(100, "f"));
        let mut contents = "contents:\n".to_owned();
        for name in &names {
            contents += &format!("- file: {{path: /{name}, text: x}}\n");
        }
        contents += &format!(
            "- file: {{path: /{deep}, text: x}}\n- symlink: {{path: /link, target: /{deep}}}\n"
        );
        let made = app(&world, &format!("{HEAD}{contents}"));
        let dirs =
            [format!("{}/", long(200, "d")), format!("{}/{}/", long(200, "d"), long(155, "e"))];
        let mut wanted: Vec<(Vec<u8>, Option<Vec<u8>>)> =
            dirs.iter().chain([&deep]).map(|path| (path.clone().into_bytes(), None)).collect();
        wanted.push((b"link".to_vec(), Some(format!("/{deep}").into_bytes())));
        wanted.extend(names.iter().map(|name| (name.clone().into_bytes(), None)));
        assert_eq!(paths(&made.layers[0]), wanted);
        // They come back out of a tar and out of a base.
        world.file("long.tar", &made.layers[0]);
        let again = app(&world, &format!("{HEAD}history: plain\ncontents: [{{tar: long.tar}}]\n"));
        assert_eq!(again.layers, made.layers);
        world.run(["image", "tag", "app", "old"]).ok();
        let same =
            app(&world, &format!("{HEAD}from: {{image: old}}\ncontents: [{{tar: long.tar}}]\n"));
        assert_eq!(same.layers.len(), 1);
        let said = assemble(
            &world,
            &format!("{HEAD}contents:\n- file: {{path: /{deep}, text: y}}\n"),
            &[],
        );
        assert!(said.ok().starts_with("app:latest@"));
    }
}

/// A path is bytes: a tar has no encoding.
#[test]
fn names_that_are_no_text_come_out_as_they_went_in() {
    let odd: &[u8] = b"caf\xe9";
    for world in World::each() {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, kind, target) in [
            (odd, tar::EntryType::Regular, None),
            (&b"hard\xff"[..], tar::EntryType::Link, Some(odd)),
            (&b"soft\xff"[..], tar::EntryType::Symlink, Some(&b"\xfe/x"[..])),
        ] {
            let mut header = tar::Header::new_ustar();
            header.as_old_mut().name[..path.len()].copy_from_slice(path);
            if let Some(target) = target {
                header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
            }
            header.set_entry_type(kind);
            header.set_mode(0o644);
            header.set_size(0);
            header.set_cksum();
            tar.append(&header, &[][..]).unwrap();
        }
        world.file("odd.tar", tar.into_inner().unwrap());
        let made = app(&world, &format!("{HEAD}contents: [{{tar: odd.tar}}]\n"));
        let wanted = [
            (odd.to_vec(), None),
            (b"hard\xff".to_vec(), Some(odd.to_vec())),
            (b"soft\xff".to_vec(), Some(b"\xfe/x".to_vec())),
        ];
        assert_eq!(paths(&made.layers[0]), wanted);
    }
}

#[test]
fn holes_are_zeros() {
    for world in World::each() {
        world.file("src/x", "");
        let mut sparse = fs::File::create(at(&world, "src/sparse")).unwrap();
        sparse.seek(SeekFrom::Start(5 << 20)).unwrap();
        sparse.write_all(b"end").unwrap();
        drop(sparse);
        world.give();
        let made = app(&world, &format!("{HEAD}contents: [{{dir: src}}]\n"));
        let bytes = made.bytes("sparse");
        assert_eq!((bytes.len(), &bytes[5 << 20..]), ((5 << 20) + 3, &b"end"[..]));
        assert!(bytes[..5 << 20].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn an_image_without_files_has_no_layer() {
    for world in World::each() {
        let empty = app(&world, &format!("{HEAD}contents: []\nextraCommands: 'true'\n"));
        assert_eq!(empty.layers, Vec::<Vec<u8>>::new());
        assert_eq!(empty.manifest["layers"], serde_json::json!([]));
        // And one can build on it.
        world.run(["image", "tag", "app", "empty"]).ok();
        let made = app(
            &world,
            &format!("{HEAD}from: {{image: empty}}\ncontents: [{{file: {{path: /x, text: x}}}}]\n"),
        );
        assert_eq!(made.list(), [["x file 644 0:0 1"]]);
    }
}

#[test]
fn hard_links_stay_links_within_a_layer_only() {
    for world in World::each() {
        let mut tool = file("a/tool", "tool");
        tool.mode = 0o4755;
        world.file(
            "t.tar",
            tar_of(&[tool, hard("b/again", "a/tool"), hard("c", "b/again"), link("l", "c")]),
        );
        let item = "contents: [{tar: t.tar}]\n";
        let made = app(&world, &format!("{HEAD}{item}"));
        let links: Vec<String> =
            made.top().into_iter().filter(|line| !line.contains(" dir ")).collect();
        let wanted = [
            "a/tool file 4755 0:0 4",
            "b/again link 4755 0:0 a/tool",
            "c link 4755 0:0 a/tool",
            "l symlink 777 0:0 c",
        ];
        assert_eq!(links, wanted);
        // A link cannot lead from one layer into another.
        let split = "layers: {strategy: explicit, groups: [[/a], [/b]]}\n";
        let apart = app(&world, &format!("{HEAD}{item}{split}"));
        let wanted = [
            vec!["a dir 755 0:0 0", "a/tool file 4755 0:0 4"],
            vec!["b dir 755 0:0 0", "b/again file 4755 0:0 4"],
            vec!["c file 4755 0:0 4", "l symlink 777 0:0 c"],
        ];
        assert_eq!(apart.list(), wanted);
        // One name that is removed leaves the others.
        world.file("gone.tar", tar_of(&[file("a/.wh.tool", "")]));
        let left = app(&world, &format!("{HEAD}contents: [{{tar: t.tar}}, {{tar: gone.tar}}]\n"));
        let wanted = [
            "a dir 755 0:0 0",
            "b dir 755 0:0 0",
            "b/again file 4755 0:0 4",
            "c link 4755 0:0 b/again",
            "l symlink 777 0:0 c",
        ];
        assert_eq!(left.top(), wanted);
        world.file("broken.tar", tar_of(&[hard("b", "nowhere")]));
        let said =
            assemble(&world, &format!("{HEAD}contents: [{{tar: broken.tar}}]\n"), &[]).failed(1);
        assert!(said.contains("cannot use the archive `broken.tar`"), "{said}");
    }
}

#[test]
fn a_distribution_with_merged_usr_keeps_its_programs() {
    let Some(bases) = bases() else { return };
    for world in World::each() {
        let tar = fs::File::open(bases.join("debian.tar")).unwrap();
        let mut import = world.command(crate::support::program());
        import.args(["image", "import", "debian", "-"]).stdin(tar);
        assert!(import.output().unwrap().status.success());
        world.file("src/bin/hello", "#!/bin/sh\necho hello\n").file("src/lib/nb/x", "x");
        let hello = at(&world, "src/bin/hello");
        fs::set_permissions(hello, fs::Permissions::from_mode(0o755)).unwrap();
        let spec = "from: {image: debian}
contents: [{dir: src}]
runAsRoot: |
  test -L /bin && test -L /lib && test -x /usr/bin/hello && test -f /usr/lib/nb/x
  /bin/hello > /said; dpkg -S /bin/ls > /dev/null
";
        let made = super::quick(&world, &format!("{HEAD}{spec}"));
        assert_eq!(made.bytes("said"), b"hello\n");
        let wanted = [
            "said file 644 0:0 6",
            "usr dir 755 0:0 0",
            "usr/bin dir 755 0:0 0",
            "usr/bin/hello file 755 0:0 21",
            "usr/lib dir 755 0:0 0",
            "usr/lib/nb dir 755 0:0 0",
            "usr/lib/nb/x file 644 0:0 1",
        ];
        assert_eq!(made.top(), wanted);
    }
}
