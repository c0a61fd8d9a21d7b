//! Layers that try to leave the root: whatever they say, nothing outside changes, and the program says why it stops.

use crate::errors::{normal, transcript};
use crate::support::{World, base};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tar::{EntryType, Header};

/// One member: type, name, link target, content.
type Member<'a> = (EntryType, &'a str, &'a str, &'a [u8]);

/// A tar member with exactly these names, however wrong they are.
fn member(tar: &mut Vec<u8>, (kind, name, link, body): Member<'_>) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_600_000_000);
    header.set_size(body.len() as u64);
    for (field, text) in [(0, name), (157, link)] {
        assert!(text.len() <= 100, "{text}");
        header.as_mut_bytes()[field..field + text.len()].copy_from_slice(text.as_bytes());
    }
    header.set_cksum();
    tar.extend_from_slice(header.as_bytes());
    tar.extend_from_slice(body);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

/// Further members behind the small base image, or behind nearly nothing.
fn with_members(whole: bool, members: &[Member<'_>]) -> Vec<u8> {
    let base = base::busybox_tar();
    let mut tar = if whole { base[..base.len() - 1024].to_vec() } else { Vec::new() };
    if !whole {
        member(&mut tar, (DIR, "etc/", "", b""));
        member(&mut tar, (FILE, "etc/file", "", b"content"));
    }
    for one in members {
        member(&mut tar, *one);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// Everything about the files outside that a layer could change.
fn state(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let stat = fs::symlink_metadata(&path).unwrap();
            lines.push(format!(
                "{} {:o} {}:{} {} {:?}",
                path.display(),
                stat.mode(),
                stat.uid(),
                stat.gid(),
                stat.nlink(),
                if stat.is_file() { fs::read(&path).unwrap() } else { Vec::new() }
            ));
            if stat.is_dir() {
                open.push(path);
            }
        }
    }
    lines.sort();
    lines
}

const FILE: EntryType = EntryType::Regular;
const LINK: EntryType = EntryType::Link;
const SYMLINK: EntryType = EntryType::Symlink;
const DIR: EntryType = EntryType::Directory;

/// What a build on the layer says after `error: ` and in its causes; `harmless` when it succeeds.
fn attack(world: &World, members: &[Member<'_>]) -> String {
    let mounts = |name: &str| ["proc", "dev", "sys", "etc/"].iter().any(|at| name.starts_with(at));
    let run = members.iter().any(|(kind, name, ..)| *kind == SYMLINK && mounts(name));
    fs::write(world.path("evil.tar"), with_members(run, members)).unwrap();
    let imported = world.run(["image", "import", "evil", "evil.tar"]);
    let said = if imported.code == 0 {
        let step = if run { "RUN [\"/bin/true\"]" } else { "WORKDIR /w" };
        world.build(&format!("FROM evil\n{step}\n"), &["-t", "used"])
    } else {
        imported
    };
    let text = normal(world, &said);
    let told = |line: &&str| line.starts_with("error: ") || line.starts_with(" cause: ");
    let lines: Vec<&str> = text.lines().filter(told).collect();
    assert_eq!(lines.is_empty(), said.code == 0, "{text}");
    if lines.is_empty() { "harmless".to_owned() } else { lines.join("\n") }
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of attacks")]
fn no_layer_reaches_outside_of_the_root() {
    for world in World::each() {
        let outside = world.path("outside");
        fs::create_dir_all(outside.join("dir")).unwrap();
        fs::write(outside.join("canary"), "alive").unwrap();
        fs::write(outside.join("dir/canary"), "alive, too").unwrap();
        world.give();
        let before = state(&outside);
        let out = outside.to_str().unwrap();
        let up = format!("{}{}", "../".repeat(12), &out[1..]);
        let canary = format!("{out}/canary");
        let canary_up = format!("{up}/canary");
        let (in_canary, in_pwned) = (format!("{up}/pwned"), format!("{out}/pwned"));
        let whiteout_up = format!("{up}/.wh.canary");
        let cases: Vec<(&str, Vec<Member<'_>>)> = vec![
            (
                "file through an absolute link",
                vec![(SYMLINK, "l", out, b""), (FILE, "l/pwned", "", b"x")],
            ),
            (
                "file through an upward link",
                vec![(SYMLINK, "l", &up, b""), (FILE, "l/pwned", "", b"x")],
            ),
            (
                "file over an absolute link",
                vec![(SYMLINK, "l", &canary, b""), (FILE, "l", "", b"dead")],
            ),
            (
                "directory over a link",
                vec![(SYMLINK, "l", out, b""), (DIR, "l", "", b""), (FILE, "l/pwned", "", b"x")],
            ),
            ("file with an upward name", vec![(FILE, &in_canary, "", b"x")]),
            ("file with an absolute name", vec![(FILE, &in_pwned, "", b"x")]),
            (
                "hard link to an absolute name",
                vec![(LINK, "h", &canary, b""), (FILE, "h", "", b"dead")],
            ),
            (
                "hard link to an upward name",
                vec![(LINK, "h", &canary_up, b""), (FILE, "h", "", b"dead")],
            ),
            (
                "hard link through a link",
                vec![(SYMLINK, "l", out, b""), (LINK, "h", "l/canary", b"")],
            ),
            (
                "hard link to a link, then a file",
                vec![(SYMLINK, "l", &canary, b""), (LINK, "h", "l", b""), (FILE, "h", "", b"dead")],
            ),
            ("hard link to itself", vec![(LINK, "h", "h", b"")]),
            ("hard link to a directory", vec![(LINK, "h", "etc", b"")]),
            ("whiteout with an upward name", vec![(FILE, &whiteout_up, "", b"")]),
            (
                "whiteout through a link",
                vec![(SYMLINK, "l", out, b""), (FILE, "l/.wh.canary", "", b"")],
            ),
            (
                "opaque mark through a link",
                vec![(SYMLINK, "l", out, b""), (FILE, "l/.wh..wh..opq", "", b"")],
            ),
            ("whiteout of nothing", vec![(FILE, "etc/.wh.", "", b"")]),
            ("whiteout of the directory itself", vec![(FILE, "etc/.wh..", "", b"")]),
            ("whiteout of the parent", vec![(FILE, "etc/.wh...", "", b"")]),
            ("the root as a file", vec![(FILE, "./", "", b"x")]),
            ("the root as a link", vec![(SYMLINK, ".", out, b""), (FILE, "pwned", "", b"x")]),
            ("empty name", vec![(FILE, "", "", b"x")]),
            ("parents only", vec![(DIR, "..", "", b""), (DIR, "../..", "", b"")]),
            (
                "link in a chain",
                vec![(SYMLINK, "a", "b", b""), (SYMLINK, "b", "a", b""), (FILE, "a/x", "", b"x")],
            ),
            (
                "mount points as links",
                vec![
                    (SYMLINK, "proc", out, b""),
                    (SYMLINK, "dev", &up, b""),
                    (SYMLINK, "sys", out, b""),
                ],
            ),
            (
                "etc as a link",
                vec![
                    (SYMLINK, "etc/hosts", &canary, b""),
                    (SYMLINK, "etc/resolv.conf", &canary_up, b""),
                ],
            ),
            ("passwd as a link", vec![(SYMLINK, "etc/passwd", &canary, b"")]),
        ];
        let mut found = String::new();
        for (name, members) in cases {
            found += &format!("== {name}\n{}\n", attack(&world, &members));
            assert_eq!(state(&outside), before, "{name}");
        }
        transcript("hostile-layers", &found);
    }
}

#[test]
fn bombs_end_before_the_disk_is_full() {
    for world in World::each() {
        // A name of a gibibyte, an archive in which everything is promised and nothing comes, and a sparse file that
        // says it is larger than any disk.
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(1 << 30);
        header.set_mode(0o644);
        header.as_mut_bytes()[0] = b'x';
        header.set_cksum();
        let mut pax = header.as_bytes().to_vec();
        pax.extend_from_slice(b"1073741824 path=");
        pax.resize(4 << 20, b'a');
        header.set_entry_type(FILE);
        header.set_size(1 << 50);
        header.set_cksum();
        let mut large = header.as_bytes().to_vec();
        large.resize(4 << 20, 0);
        let deep: String = "d/".repeat(45);
        let mut found = String::new();
        for (name, tar) in [("name of a gibibyte", pax), ("file of a pebibyte", large)] {
            fs::write(world.path("evil.tar"), tar).unwrap();
            let imported = world.run(["image", "import", "evil", "evil.tar"]);
            let said = if imported.code == 0 {
                world.build("FROM evil\nWORKDIR /w\n", &[])
            } else {
                imported
            };
            assert_eq!(said.code, 1, "{}", said.stderr);
            found += &format!("== {name}\n{}\n", normal(&world, &said));
        }
        world.file("file.tar", with_members(false, &[(FILE, &deep[..deep.len() - 1], "", b"")]));
        world.build("FROM scratch\nADD file.tar /\n", &["-t", "deep"]).ok();
        world.validate("deep");
        transcript("bombs", &found);
    }
}
