//! What counts in the digest of files, and which digests are remembered.

use super::{Fixture, Flags, select};
use crate::context::{DigestCache, FileHash, FileTree, NoDigestCache, StatKey, digest};
use crate::oci::digest::Digest;
use crate::sys::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Mutex;

#[test]
fn unreadable_files_are_named_with_what_helps() {
    if rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: root can read everything");
        return;
    }
    let fixture = Fixture::new(&["secret"]);
    std::fs::set_permissions(fixture.at("secret"), PermissionsExt::from_mode(0o000)).unwrap();
    let tree = fixture.tree("");
    let selected = select(&tree, &["secret"], Flags::default()).unwrap();
    let error = digest(&tree, &selected, &NoDigestCache).unwrap_err();
    assert_eq!(error.message(), "cannot read `secret` in the build context");
    assert_eq!(error.hints(), ["make it readable for you, or list `secret` in a .dockerignore"]);
}

fn digest_of(tree: &FileTree, sources: &[&str], flags: Flags<'_>) -> Digest {
    digest(tree, &select(tree, sources, flags).unwrap(), &NoDigestCache).unwrap()
}

#[test]
fn content_decides_the_digest_and_times_do_not() {
    let fixture = Fixture::new(&["d/f", "d/s/g", "d/l -> f", "file1", "other"]);
    let tree = fixture.tree("other");
    let of = |sources: &[&str]| digest_of(&tree, sources, Flags::default());
    let before = of(&["d"]);
    let touched = std::fs::File::options().write(true).open(fixture.at("d/f")).unwrap();
    touched.set_modified(std::time::UNIX_EPOCH).unwrap();
    fixture.add("unrelated");
    assert_eq!(of(&["d"]), before, "times and files elsewhere do not count");
    assert_eq!(of(&["d/"]), before);

    let changes: [(&str, &dyn Fn()); 6] = [
        ("mode", &|| {
            std::fs::set_permissions(fixture.at("d/f"), PermissionsExt::from_mode(0o755)).unwrap();
        }),
        ("content", &|| std::fs::write(fixture.at("d/s/g"), "new").unwrap()),
        ("name", &|| std::fs::rename(fixture.at("d/s/g"), fixture.at("d/s/h")).unwrap()),
        ("link target", &|| {
            std::fs::remove_file(fixture.at("d/l")).unwrap();
            symlink("s/h", fixture.at("d/l")).unwrap();
        }),
        ("empty directory", &|| std::fs::create_dir(fixture.at("d/empty")).unwrap()),
        ("extended attribute", &|| {
            fs::set_xattr(tree.root(), b"d/f", b"user.note", b"x").unwrap();
        }),
    ];
    let mut last = before;
    for (what, change) in changes {
        change();
        let now = of(&["d"]);
        assert_ne!(now, last, "{what}");
        last = now;
    }

    let (wildcard, plain) = (of(&["file*"]), of(&["file1"]));
    std::fs::rename(fixture.at("file1"), fixture.at("file2")).unwrap();
    assert_ne!(of(&["file*"]), wildcard, "a renamed match");
    std::fs::rename(fixture.at("file2"), fixture.at("d/file1")).unwrap();
    assert_eq!(of(&["d/file1"]), plain, "the directory of a plain source does not count");
}

#[test]
fn filtered_files_are_not_in_the_digest() {
    let fixture = Fixture::new(&["d/f", "d/x.log", "d/y.tmp"]);
    let tree = fixture.tree("**/*.log");
    let flags = Flags { exclude: &["*.tmp"], parents: false };
    let before = digest_of(&tree, &["d"], flags);
    std::fs::write(fixture.at("d/x.log"), "other").unwrap();
    std::fs::write(fixture.at("d/y.tmp"), "other").unwrap();
    assert_eq!(digest_of(&tree, &["d"], flags), before);
    assert_ne!(digest_of(&tree, &["d"], Flags::default()), before);
}

#[test]
fn owners_count_in_a_rootfs_only() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: changing owners needs root");
        return;
    }
    let fixture = Fixture::new(&["d/f"]);
    let of = |tree: FileTree| digest_of(&tree, &["d"], Flags::default());
    let (context, rootfs) = (of(fixture.tree("")), of(fixture.rootfs()));
    assert_eq!(context, rootfs, "all files are root's");
    std::os::unix::fs::chown(fixture.at("d/f"), Some(7), Some(8)).unwrap();
    assert_eq!(of(fixture.tree("")), context);
    assert_ne!(of(fixture.rootfs()), rootfs);
}

/// Counts what is asked and what is remembered.
#[derive(Default)]
struct Counting {
    known: Mutex<std::collections::HashMap<StatKey, FileHash>>,
    puts: Mutex<usize>,
}

impl DigestCache for Counting {
    fn get(&self, key: &StatKey) -> Option<FileHash> {
        self.known.lock().unwrap().get(key).copied()
    }

    fn put(&self, key: StatKey, hash: FileHash) {
        *self.puts.lock().unwrap() += 1;
        self.known.lock().unwrap().insert(key, hash);
    }
}

#[test]
fn files_that_changed_just_now_are_not_remembered() {
    let fixture = Fixture::new(&["d/f"]);
    let tree = fixture.tree("");
    let selected = select(&tree, &["d"], Flags::default()).unwrap();
    let cache = Counting::default();
    digest(&tree, &selected, &cache).unwrap();
    // The change time cannot be set back, so the file just written stays too young.
    assert_eq!(*cache.puts.lock().unwrap(), 0);
}

#[test]
fn a_remembered_digest_is_used_instead_of_reading() {
    let fixture = Fixture::new(&["d/f"]);
    let tree = fixture.tree("");
    let selected = select(&tree, &["d/f"], Flags::default()).unwrap();
    let cache = Counting::default();
    let true_digest = digest(&tree, &selected, &cache).unwrap();
    let key = StatKey::new(&selected[0].stat, false);
    cache.known.lock().unwrap().insert(key, [7; 32]);
    assert_ne!(digest(&tree, &selected, &cache).unwrap(), true_digest);
}
