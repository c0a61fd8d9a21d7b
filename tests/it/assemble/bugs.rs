//! What dockerTools of 2017 did wrong, one test each: what it was, and that it is not so here (assemble-trust.md A2).

use super::trees::{on_merged, with_merged_base};
use super::{
    HEAD, ON_BASE, app, assemble, at, dir, file, hard, null, plain, quick, read, sha256, tar_of,
};
use crate::support::World;
use std::fs;
use std::os::unix::ffi::OsStrExt;

const FILE: &str = "contents:\n- file: {path: /f, text: new}\n";

/// JSON lists were prepended to while the base was walked upward.
#[test]
fn layers_are_not_reversed() {
    for world in World::each() {
        let world = world.with_base();
        let dockerfile =
            "FROM base\nRUN echo 1 > /f; echo 1 > /one\nRUN echo 2 > /f\nRUN rm /one\n";
        world.build(dockerfile, &["-t", "old"]).ok();
        let old = read(&world, "old");
        for form in ["docker-archive", "docker-archive-v1", "docker-archive-flat"] {
            let archive = at(&world, form);
            let args = ["image", "save", "old", "--format", form, "-o", archive.to_str().unwrap()];
            world.run(args).ok();
            let spec = format!(
                "{HEAD}from: {{image: 'docker-archive:{form}'}}\ncontents:\n- file: {{path: /g, text: x}}\n"
            );
            let made = app(&world, &spec);
            assert_eq!(made.layers[..4], old.layers, "{form}");
            assert_eq!(made.diff_ids()[..4], old.diff_ids(), "{form}");
            let listing = world.listing("app");
            assert!(!listing.iter().any(|line| line.starts_with("one ")), "{listing:?}");
            let tar = fs::read(world.path("out/listing.tar")).unwrap();
            let mut archive = tar::Archive::new(&tar[..]);
            let mut entries = archive.entries().unwrap().map(Result::unwrap);
            let found = entries.find(|entry| &*entry.path_bytes() == b"f").unwrap();
            assert_eq!(std::io::read_to_string(found).unwrap(), "2\n");
        }
    }
}

/// `gzip` without `-n` wrote the file's name and time.
#[test]
fn gzip_has_no_name_and_time() {
    for world in World::each() {
        let out = world.path("out/layer");
        let blob = |name: &str| {
            let spec = format!("{HEAD}{FILE}").replace("/f,", &format!("/{name},"));
            assemble(&world, &spec, &["--layer-only", "-o", out.to_str().unwrap()]).ok();
            fs::read(out.join("layer.tar.gz")).unwrap()
        };
        let first = blob("f");
        assert_eq!(first[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
        assert_eq!(blob("f"), first);
        assert_eq!(blob("g")[..10], first[..10]);
    }
}

/// `tar` without `--sort=name` and `--hard-dereference`: the order of the directory and links that the machine made to
/// save space changed the digest.
#[test]
fn order_and_hard_links_of_this_machine_do_not_matter() {
    for world in World::each() {
        let names = ["z", "a", "m/z", "m/a", "b", "B", "m-", "m/é"];
        for name in names {
            world.file(&format!("one/{name}"), "same");
        }
        for name in names.iter().rev() {
            world.file(&format!("two/{name}"), "same");
        }
        fs::remove_file(at(&world, "two/a")).unwrap();
        fs::hard_link(at(&world, "two/z"), at(&world, "two/a")).unwrap();
        let of =
            |dir: &str| app(&world, &format!("{HEAD}history: plain\ncontents: [{{dir: {dir}}}]\n"));
        let one = of("one");
        assert_eq!(of("two"), one);
        let order: Vec<String> = one.times().into_iter().map(|(path, _)| path).collect();
        assert_eq!(order, ["B", "a", "b", "m/", "m/a", "m/z", "m/é", "m-", "z"]);
    }
}

/// The diff id of a layer was that of `gzip -dc` of it: for a plain tar, as `docker save` writes them, of nothing.
#[test]
fn plain_tar_layers_have_their_diff_id() {
    for world in World::each() {
        let world = world.with_base();
        let archive = at(&world, "base.tar");
        let args = ["image", "save", "base", "--format", "docker-archive", "-o"];
        world.run(args.into_iter().chain([archive.to_str().unwrap()])).ok();
        let made =
            app(&world, &format!("{HEAD}from: {{image: 'docker-archive:base.tar'}}\n{FILE}"));
        let of_layers: Vec<String> = made.layers.iter().map(|layer| sha256(layer)).collect();
        assert_eq!(made.diff_ids(), of_layers);
        assert_ne!(of_layers[0], sha256(b""));
        assert_eq!(
            made.manifest["layers"][0]["mediaType"],
            "application/vnd.oci.image.layer.v1.tar"
        );
    }
}

/// `.wh..wh..opq` was taken for the whiteout of a file `.wh..opq`, and opaque directories were lost on the way out.
#[test]
fn opaque_directories_are_honoured() {
    for world in World::each() {
        let world = world.with_base();
        let opaque = tar_of(&[
            dir("usr/share/doc"),
            file("usr/share/doc/.wh..wh..opq", ""),
            file("usr/share/doc/n", "n"),
        ]);
        world.file("opaque.tar", opaque);
        let docs = |name: &str| -> Vec<String> {
            let all = world.listing(name).into_iter();
            all.filter(|line| line.starts_with("usr/share/doc")).collect()
        };
        let wanted = ["usr/share/doc dir 755 0:0 0", "usr/share/doc/n file 644 0:0 1"];
        app(&world, &format!("{ON_BASE}contents: [{{tar: opaque.tar}}]\n"));
        assert_eq!(docs("app"), wanted);
        // In a layer of the base.
        world.run(["image", "tag", "app", "old"]).ok();
        app(&world, &format!("{HEAD}from: {{image: old}}\n{FILE}"));
        assert_eq!(docs("app"), wanted);
        // Out of the commands.
        let new =
            "runAsRoot: rm -r /usr/share/doc; mkdir /usr/share/doc; echo -n n > /usr/share/doc/n\n";
        app(&world, &format!("{ON_BASE}{new}"));
        assert_eq!(docs("app"), wanted);
    }
}

/// Each character device that a script made became a whiteout.
#[test]
fn devices_are_no_whiteouts() {
    for world in World::each() {
        let world = world.with_base();
        world.file("null.tar", tar_of(&[null("usr/share/doc/b")]));
        let spec = "runAsRoot: mknod /usr/share/doc/a2 c 1 3; rm /usr/share/doc/a; mknod /usr/share/doc/a c 1 3\n\
                    contents: [{tar: null.tar}]\n";
        let made = app(&world, &format!("{ON_BASE}{spec}"));
        let wanted = [
            "usr dir 755 0:0 0",
            "usr/share dir 755 0:0 0",
            "usr/share/doc dir 755 0:0 0",
            "usr/share/doc/a char 644 0:0 0",
            "usr/share/doc/a2 char 644 0:0 0",
            "usr/share/doc/b char 666 0:0 0",
        ];
        assert_eq!(made.top(), wanted);
        world.run(["image", "tag", "app", "old"]).ok();
        app(&world, &format!("{HEAD}from: {{image: old}}\n{FILE}"));
        let listing = world.listing("app");
        assert!(wanted.iter().all(|line| listing.contains(&(*line).to_owned())), "{listing:?}");
    }
}

/// Lists of paths went through the words of a shell.
#[test]
fn names_with_spaces_newlines_quotes_survive() {
    let names: [&[u8]; 13] = [
        b" ",
        b"#x",
        b"$HOME",
        b"*",
        b"-dash",
        b".hidden",
        b"a b",
        b"back\\slash",
        b"new\nline",
        b"q'u\"o",
        b"tab\t",
        "\u{e9}".as_bytes(),
        b"\xff\xfe",
    ];
    for world in World::each() {
        let world = world.with_base();
        for name in names {
            let path = at(&world, "src").join(std::ffi::OsStr::from_bytes(name));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        world.give();
        let made = app(&world, &format!("{ON_BASE}contents: [{{dir: src, to: /odd}}]\n"));
        let paths = |tar: &[u8]| -> Vec<Vec<u8>> {
            let mut archive = tar::Archive::new(tar);
            let entries = archive.entries().unwrap();
            entries.map(|entry| entry.unwrap().path_bytes().into_owned()).collect()
        };
        let mut wanted = vec![b"odd/".to_vec()];
        wanted.extend(names.iter().map(|name| [b"odd/", *name].concat()));
        assert_eq!(paths(made.layers.last().unwrap()), wanted);
        // Each of them is known when it comes again, and is in the tree that commands see.
        world.run(["image", "tag", "app", "old"]).ok();
        let again = "contents: [{dir: src, to: /odd}]\nrunAsRoot: set -- /odd/* /odd/.h*; test $# = 13; rm -r /odd\n";
        let gone = app(&world, &format!("{HEAD}from: {{image: old}}\n{again}"));
        assert_eq!(gone.top(), [".wh.odd file 0 0:0 0"]);
        let same = app(
            &world,
            &format!("{HEAD}from: {{image: old}}\ncontents: [{{dir: src, to: /odd}}]\n"),
        );
        assert_eq!(same.layers.len(), 2);
    }
}

/// What an upper layer of the base had deleted counted as there.
#[test]
fn files_that_the_base_deleted_are_not_there() {
    for world in World::each() {
        let world = world.with_base();
        world.build("FROM base\nRUN rm -r /usr/share\n", &["-t", "old"]).ok();
        let doc = "contents:\n- file: {path: /usr/share/doc/a, text: a}\n";
        let made = app(&world, &format!("{HEAD}from: {{image: old}}\n{doc}"));
        let top = made.top();
        assert_eq!(top.last().unwrap(), "usr/share/doc/a file 644 0:0 1");
        assert!(world.listing("app").contains(top.last().unwrap()));
    }
}

/// A path was left out when the base had one of that name, whatever was there.
#[test]
fn a_path_is_new_by_content_not_by_name() {
    for world in World::each() {
        let world = world.with_base();
        let top = |single: &str| {
            let made = quick(&world, &format!("{ON_BASE}contents: [{single}]\n"));
            if made.layers.len() == 1 { None } else { made.top().pop() }
        };
        let path = "path: /usr/share/doc/a";
        let line = |rest: &str| Some(format!("usr/share/doc/a {rest}"));
        assert_eq!(top(&format!("file: {{{path}, text: a}}")), None);
        assert_eq!(top(&format!("file: {{{path}, text: b}}")), line("file 644 0:0 1"));
        assert_eq!(
            top(&format!("file: {{{path}, text: a, mode: '0600'}}")),
            line("file 600 0:0 1")
        );
        assert_eq!(top(&format!("file: {{{path}, text: a, uid: 1}}")), line("file 644 1:0 1"));
        assert_eq!(top(&format!("file: {{{path}, text: a, gid: 1}}")), line("file 644 0:1 1"));
        assert_eq!(top(&format!("symlink: {{{path}, target: b}}")), line("symlink 777 0:0 b"));
        assert_eq!(top(&format!("directory: {{{path}}}")), line("dir 755 0:0 0"));
        assert_eq!(top("directory: {path: /root, mode: '0700'}"), None);
        assert_eq!(top("directory: {path: /root}"), Some("root dir 755 0:0 0".to_owned()));
        // A hard link of the base is the file that it is a name of.
        world.file("t.tar", tar_of(&[file("one", "x"), hard("two", "one")]));
        quick(&world, &format!("{ON_BASE}contents: [{{tar: t.tar}}]\n"));
        world.run(["image", "tag", "app", "base"]).ok();
        assert_eq!(
            quick(&world, &format!("{ON_BASE}contents: [{{tar: t.tar}}]\n")).layers.len(),
            2
        );
        let two = "contents: [{file: {path: /two, text: y}}]\n";
        assert_eq!(quick(&world, &format!("{ON_BASE}{two}")).top(), ["two file 644 0:0 1"]);
    }
}

/// Two layers with one content were one file of the archive, and broke later versions.
#[test]
fn a_layer_that_is_in_the_base_twice_stays_there_twice() {
    for world in World::each() {
        let layer = world.path("out/layer");
        let args = ["--layer-only", "-o", layer.to_str().unwrap()];
        assemble(&world, &format!("version: 1\n{FILE}"), &args).ok();
        let twice = format!("layers: {{prebuilt: [{0}, {0}]}}\n", layer.display());
        let old = app(&world, &format!("{HEAD}{twice}"));
        assert_eq!(old.layers[0], old.layers[1]);
        for form in ["oci", "docker-archive", "docker-archive-v1", "docker-archive-flat"] {
            let saved = at(&world, form);
            assemble(&world, &format!("{HEAD}{twice}"), &[]).ok();
            world
                .run(["image", "save", "app", "--format", form, "-o", saved.to_str().unwrap()])
                .ok();
            let transport = if form == "oci" { "oci" } else { "docker-archive" };
            let spec = format!(
                "{HEAD}from: {{image: '{transport}:{form}'}}\ncontents: [{{file: {{path: /g, text: x}}}}]\n"
            );
            let made = app(&world, &spec);
            assert_eq!(made.layers[..2], old.layers, "{form}");
            assert_eq!(made.list().len(), 3, "{form}");
        }
    }
}

/// A new directory `/bin` hid all of a base's `/usr/bin`, to which its `/bin` was a link. Ours did so when the directory
/// itself was a member of a tar: only what lies in it was put where the link leads. Found by this test.
#[test]
fn a_base_bin_link_is_not_shadowed() {
    for world in World::each() {
        let world = with_merged_base(world);
        world.file("src/bin/new", "x").file("src/lib/x/y", "x");
        world.file("t.tar", tar_of(&[dir("bin"), file("bin/of-tar", "x")]));
        let contents = "- dir: src\n- tar: t.tar\n- file: {path: /bin/single, text: x}\n";
        let made = app(&world, &on_merged(contents));
        let top = made.top();
        assert!(
            !top.iter().any(|line| line.starts_with("bin") || line.starts_with("lib")),
            "{top:?}"
        );
        let listing = world.listing("app");
        for line in [
            "bin symlink 777 0:0 usr/bin",
            "lib symlink 777 0:0 /usr/lib",
            "usr/bin/new file 644 0:0 1",
            "usr/bin/of-tar file 644 0:0 1",
            "usr/bin/old file 644 0:0 3",
            "usr/bin/single file 644 0:0 1",
            "usr/lib/x/y file 644 0:0 1",
        ] {
            assert!(listing.contains(&line.to_owned()), "{line}: {listing:?}");
        }
    }
}

/// The base's config was dropped, its architecture was always amd64, tags were put into lower case.
#[test]
fn config_architecture_and_tag_are_not_lost() {
    for world in World::each() {
        let world = world.with_base();
        let tar = world.path("base.tar");
        let import = ["image", "import", "arm", tar.to_str().unwrap(), "--platform", "linux/arm64"];
        world.run(import).ok();
        world.build("FROM --platform=linux/arm64 arm\nENV A=b\n", &["-t", "arm"]).ok();
        let spec = format!(
            "version: 1\nname: app\ntag: V1-RC\nfrom: {{image: arm, platform: linux/arm64}}\n{FILE}"
        );
        assert!(assemble(&world, &spec, &[]).ok().starts_with("app:V1-RC@sha256:"));
        let made = read(&world, "app:V1-RC");
        assert_eq!(made.config["architecture"], "arm64");
        let env = made.config["config"]["Env"].as_array().unwrap();
        assert!(env.contains(&"A=b".into()), "{env:?}");
    }
}

/// `extraCommands` was pasted between double quotes.
#[test]
fn quotes_and_dollars_in_commands_survive() {
    for world in World::each() {
        let world = world.with_base();
        let commands = r#"x=1; printf '%s' "$x '\$' \"$(echo 'a"b')\" \\" > said"#;
        let spec = format!("{ON_BASE}extraCommands: |\n  {commands}\n");
        let made = app(&world, &spec);
        assert_eq!(String::from_utf8(made.bytes("said")).unwrap(), r#"1 '$' "a"b" \"#);
    }
}

/// A tar among the contents was ignored when it could not be unpacked.
#[test]
fn a_broken_tar_is_an_error() {
    for world in World::each() {
        let tar = tar_of(&[file("a", "a"), file("b", &"b".repeat(5000))]);
        world.file("cut.tar", &tar[..2000]);
        let said =
            assemble(&world, &format!("{HEAD}contents: [{{tar: cut.tar}}]\n"), &[]).failed(1);
        let wanted = "\
error: cannot use the archive `cut.tar`
  --> context/image.yaml:3:12
   |
 3 | contents: [{tar: cut.tar}]
   |            ^^^^
 cause: cannot unpack an archive
 cause: the archive is cut short
";
        assert_eq!(said, wanted);
    }
}

/// `runAsRoot` wanted a virtual machine with a disk whose size had to be guessed, and did not see the contents.
#[test]
fn commands_of_root_see_the_contents_and_need_no_size() {
    for world in World::each() {
        let world = world.with_base();
        let spec = "contents: [{file: {path: /bin/greet, text: \"#!/bin/sh\\necho hi\\n\", mode: '0755'}}]\n\
                    runAsRoot: greet > /said; dd if=/dev/zero of=/big bs=1M count=20 2>/dev/null; rm /big\n";
        let made = app(&world, &format!("{ON_BASE}{spec}"));
        assert_eq!(made.bytes("said"), b"hi\n");
        assert_eq!(plain(&made.layers[0]), made.layers[0]);
    }
}
