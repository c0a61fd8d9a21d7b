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
pub fn state(dir: &Path) -> Vec<String> {
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

/// What it is: its members. `->` is a symbolic link, `==` a hard link, `=` a file, nothing a directory; `OUT` is a
/// directory outside by its absolute path, `UP` the same from the root upwards.
const ATTACKS: &str = "\
file through an absolute link: l -> OUT, l/pwned = x
file through an upward link: l -> UP, l/pwned = x
file over an absolute link: l -> OUT/canary, l = dead
directory over a link: l -> OUT, l, l/pwned = x
file with an upward name: UP/pwned = x
file with an absolute name: OUT/pwned = x
hard link to an absolute name: h == OUT/canary, h = dead
hard link to an upward name: h == UP/canary, h = dead
hard link through a link: l -> OUT, h == l/canary
hard link to a link, then a file: l -> OUT/canary, h == l, h = dead
hard link to itself: h == h
hard link to a directory: h == etc
whiteout with an upward name: UP/.wh.canary =
whiteout through a link: l -> OUT, l/.wh.canary =
opaque mark through a link: l -> OUT, l/.wh..wh..opq =
whiteout of nothing: etc/.wh. =
whiteout of the directory itself: etc/.wh.. =
whiteout of the parent: etc/.wh... =
the root as a file: ./ = x
the root as a link: . -> OUT, pwned = x
empty name: \u{20}= x
parents only: .., ../..
link in a chain: a -> b, b -> a, a/x = x
mount points as links: proc -> OUT, dev -> UP, sys -> OUT
etc as a link: etc/hosts -> OUT/canary, etc/resolv.conf -> UP/canary
passwd as a link: etc/passwd -> OUT/canary
";

fn parse(text: &str) -> Member<'_> {
    let parts = |mark: &str| text.split_once(mark).map(|(name, rest)| (name, rest.trim_start()));
    if let Some((name, target)) = parts(" -> ") {
        return (SYMLINK, name, target, b"");
    }
    if let Some((name, target)) = parts(" == ") {
        return (LINK, name, target, b"");
    }
    match parts(" =") {
        Some((name, body)) => (FILE, name, "", body.as_bytes()),
        None => (DIR, text, "", b""),
    }
}

#[test]
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
        let mut found = String::new();
        for line in ATTACKS.lines() {
            let (name, members) = line.split_once(": ").unwrap();
            let members = members.replace("OUT", out).replace("UP", &up);
            let members: Vec<Member<'_>> = members.split(", ").map(parse).collect();
            found += &format!("== {name}\n{}\n", attack(&world, &members));
            assert_eq!(state(&outside), before, "{name}");
        }
        transcript("hostile-layers", &found);
    }
}

#[test]
fn bombs_end_before_the_disk_is_full() {
    for world in World::each() {
        // Neither may be taken by its word: not in memory, not on disk.
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
