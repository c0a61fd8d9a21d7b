//! Steps that are not carried out on a tree give the layers that they would give on one.

use crate::support::{Said, World, program};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

/// Starts of Dockerfiles, all with the steps in question at their end.
const CASES: &[&str] = &[
    "FROM base\nCOPY tree /new/\n",
    "FROM base\nCOPY tree /\n",
    "FROM base\nCOPY tree .\nCOPY tree .\n",
    "FROM base\nCOPY tree /a/b/c\nCOPY tree/sub /a/b\nCOPY --chown=7:8 --chmod=640 tree/file /a/b/c/file\n",
    "FROM base\nCOPY --chown=nobody tree /owned\nCOPY --chmod=u=rwX,go=rX tree /modes\n",
    "FROM base\nCOPY --chmod=700 tree /modes/deep\n",
    "FROM base\nWORKDIR /w/x\nCOPY tree/file tree/sub ./\nWORKDIR y\nCOPY tree/file renamed\n",
    "FROM base\nUSER 12:13\nWORKDIR /w/x\nCOPY tree/file .\n",
    "FROM base\nCOPY tree/*.txt tree/s* /matched/\n",
    "FROM base\nCOPY --parents tree/sub/./deep/f tree/file /parents/\n",
    "FROM base\nCOPY --exclude=*.txt tree /some\n",
    "FROM base\nCOPY --link tree /a/linked\nCOPY --link tree/file /a/linked/other/\n",
    "FROM base\nCOPY <<one <<two /texts/\n1\none\n22\ntwo\nCOPY --chmod=755 --chown=3 <<run /texts/one\nx\nrun\n",
    "FROM base\nRUN mkdir -p /real/in && ln -s /real /lnk && ln -s in /real/rel && echo old > /real/file && ln -s nowhere /real/gone\nCOPY tree/file /lnk/rel/x\nCOPY tree/file /lnk/file\nCOPY tree/file /real/gone\nCOPY tree /lnk/\n",
    "FROM base\nRUN mkdir -m 1777 /d && mkdir /d/sub && chown 5:6 /d/sub && echo a > /d/file && ln /d/file /d/other\nCOPY tree /d\n",
    "FROM base AS one\nRUN mkdir /o && echo 1 > /o/a && ln /o/a /o/b && chown 4:5 /o/a && ln -s a /o/c && mkfifo /o/p\nFROM base\nCOPY --from=one /o /o\nCOPY --from=one /o/a /o/b /z/\n",
    "FROM base AS one\nRUN mkdir /o && echo 1 > /o/a\nFROM one\nCOPY --from=one /o /o\n",
    "FROM scratch\nCOPY tree /\nCOPY tree/sub /sub/\n",
    "FROM scratch\nADD tree/file /x/y\nADD archive.tar /x\nCOPY tree /x\n",
    "FROM base\nCOPY tree /t\nFROM base\nCOPY tree /t\n",
    // Both within one tick of the clock.
    "FROM base\nCOPY <<a /h/a\n1\na\nCOPY <<a /h/a\n1\na\nCOPY tree/file /h/\nCOPY tree/file /h/\n",
    // Names of users are in a file that a link leads to.
    "FROM base\nRUN mkdir -p /etc /real-etc && ln -sf ../real-etc/users /etc/passwd\nCOPY users /real-etc/users\nCOPY --chown=somebody tree/file /f\nUSER somebody\nWORKDIR /w\n",
];

/// Files of all kinds, and times that differ.
fn context(world: &World) {
    world.file("tree/file", "file\n");
    world.file("tree/a.txt", "text\n");
    world.file("tree/b.txt", "");
    world.file("tree/sub/deep/f", "deep\n");
    world.file("tree/sub.x", "beside\n");
    world.file("tree/two-names/first", "shared\n");
    let at = |name: &str| world.context().join(name);
    fs::hard_link(at("tree/two-names/first"), at("tree/two-names/second")).unwrap();
    fs::hard_link(at("tree/two-names/first"), at("tree/another")).unwrap();
    symlink("../file", at("tree/sub/link")).unwrap();
    symlink("/nowhere", at("tree/dangling")).unwrap();
    world.file("users", "somebody:x:123:45::/:/bin/sh\n");
    let mode = |name: &str, mode| {
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("tree/file", 0o4755);
    mode("tree/sub", 0o750);
    mode("tree/sub/deep", 0o2775);
    mode("tree/a.txt", 0o600);
    let mut tar = tar::Builder::new(fs::File::create(at("archive.tar")).unwrap());
    let mut header = tar::Header::new_ustar();
    header.set_size(2);
    header.set_mode(0o644);
    tar.append_data(&mut header, "from/archive", &b"a\n"[..]).unwrap();
    tar.finish().unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_234_567_890);
    for name in ["tree/file", "tree/sub/deep", "tree/two-names", "tree/two-names/first"] {
        fs::File::open(at(name)).unwrap().set_modified(old).unwrap();
    }
}

/// What the image has besides busybox.
fn listed(world: &World) -> Vec<String> {
    world.listing("app").into_iter().filter(|line| !line.starts_with("bin/")).collect()
}

#[test]
fn planned_layers_are_those_of_a_tree() {
    for world in World::each() {
        let world = world.with_base();
        context(&world);
        for text in CASES {
            let flags = ["--no-cache", "--source-date-epoch", "1700000000", "-t", "app"];
            let planned = world.build(text, &flags).ok();
            world.validate("app");
            let listing = listed(&world);
            let mut all = flags.to_vec();
            // Whoever wants the files as an output needs the tree.
            all.extend(["-o", "type=image", "-o", "type=tar,dest=/dev/null"]);
            let carried_out = world.build(text, &all).ok();
            assert_eq!(listing, listed(&world), "{text}");
            assert_eq!(planned, carried_out, "{text}");
        }
    }
}

#[test]
fn what_is_planned_makes_no_snapshot_and_can_be_built_upon() {
    for world in World::each() {
        let world = world.with_base();
        context(&world);
        let snapshots = |world: &World| {
            let entries = fs::read_dir(world.store().join("snapshots")).unwrap().flatten();
            entries.filter(|entry| entry.file_name().len() == 32).count()
        };
        let text = "FROM base\nCOPY tree /tree\nWORKDIR /tree/made\n";
        world.build("FROM base\nRUN true\n", &[]).ok();
        let before = snapshots(&world);
        world.build(text, &["-t", "app"]).ok();
        assert_eq!(snapshots(&world), before);
        let said = world.build(&format!("{text}RUN cat /tree/file; cat /tree/another; pwd\n"), &[]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        for line in ["file\n", "shared\n", "/tree/made\n"] {
            assert!(said.stderr.contains(line), "{}", said.stderr);
        }
    }
}

#[test]
fn other_bytes_at_the_same_time_are_another_layer() {
    for world in World::each() {
        let world = world.with_base();
        world.file("f", "one\n");
        let text = "FROM base\nCOPY f /f\n";
        let flags = ["--source-date-epoch", "1700000000", "-t", "app"];
        let first = world.build(text, &flags).ok();
        let path = world.context().join("f");
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        world.file("f", "two\n");
        fs::File::open(&path).unwrap().set_modified(time).unwrap();
        let second = world.build(text, &flags).ok();
        assert_ne!(first, second);
        assert_eq!(
            world.build(text, &["--no-cache", "--source-date-epoch", "1700000000"]).ok(),
            second
        );
    }
}

/// Found by copying 1,500 files by one pattern where a process may open 1,024: each had the context opened once more.
#[test]
fn a_pattern_with_many_matches_needs_few_descriptors() {
    for world in World::each() {
        fs::create_dir(world.context().join("many")).unwrap();
        for number in 0..200 {
            fs::write(world.context().join(format!("many/{number}")), "x").unwrap();
        }
        world.file("Dockerfile", "FROM scratch\nCOPY many/* /many/\n");
        let script = "ulimit -n 64; exec \"$@\"";
        let mut command = world.command("sh");
        command.args(["-c", script, "sh"]).arg(program());
        let said = Said::of(command.arg("build").arg(world.context()).output().unwrap());
        assert_eq!(said.code, 0, "{}", said.stderr);
    }
}
