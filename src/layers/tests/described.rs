//! What is written down about a snapshot, and when it is believed.

use crate::layers::snapshot::{Described, Form, Snapshot, Snapshots, described};
use crate::layers::whiteout::XattrFlavour;
use crate::oci::{ChainId, Digest};
use crate::sys::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

struct Store {
    dir: tempfile::TempDir,
}

impl Store {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("snapshots").join(name)
    }

    /// As the next process opens it.
    fn open(&self, flavour: &str) -> Snapshots {
        let dir = fs::open_dir_path(self.dir.path()).unwrap();
        let form = Form::Overlay(XattrFlavour::User);
        Snapshots::open(dir.as_fd(), flavour, form, &Arc::default()).unwrap()
    }

    fn finds(&self, id: &str) -> bool {
        self.open("real").find(id).is_some()
    }

    /// Puts another description in the place of a snapshot's own.
    fn describe(&self, id: &str, text: &str) {
        let meta = self.path(id).join("meta");
        std::fs::remove_file(&meta).unwrap();
        symlink(text, meta).unwrap();
    }
}

fn commit(snapshots: &Snapshots, below: Option<&Arc<Snapshot>>, devices: bool) -> Arc<Snapshot> {
    let draft = snapshots.prepare(below, false).unwrap().unwrap();
    if devices {
        draft.note_placeholders();
    }
    draft.commit().unwrap()
}

fn text_of(link: &Path) -> String {
    std::fs::read_link(link).unwrap().into_os_string().into_string().unwrap()
}

fn is_ext4(dir: &Path) -> bool {
    rustix::fs::statfs(dir).unwrap().f_type == 0xef53
}

fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    id.replace('-', "")[..12].to_owned()
}

#[test]
fn descriptions_and_names_say_everything_and_take_no_block() {
    let store = Store::new();
    let snapshots = store.open("nested");
    let one = commit(&snapshots, None, false);
    let two = commit(&snapshots, Some(&one), true);
    let chain = ChainId(Digest::of(b"chain"));
    snapshots.alias(&chain, &two).unwrap();

    let meta = |snapshot: &Snapshot| store.path(snapshot.id()).join("meta");
    let alias = store.path("chains").join(format!("nested-{}", chain.0.hex()));
    assert_eq!(text_of(&meta(&one)), format!("1:nested:{}:", boot()));
    assert_eq!(text_of(&meta(&two)), format!("1:nested:{}:{}:dev", boot(), one.id()));
    assert_eq!(text_of(&alias), format!("../{}", two.id()));
    for link in [meta(&one), meta(&two), alias.clone()] {
        // Letters that ext4 keeps in an inode.
        assert!(text_of(&link).len() < 60, "{}", text_of(&link));
        let blocks = std::fs::symlink_metadata(link).unwrap().blocks();
        assert!(blocks == 0 || !is_ext4(store.dir.path()), "{blocks}");
    }

    let seen = std::fs::symlink_metadata(store.path(two.id()).join("meta")).unwrap();
    let used = (seen.mtime(), seen.mtime_nsec() as u32);
    let parent = Some(one.id().to_owned());
    for place in [store.path(two.id()), alias] {
        assert_eq!(described(&place), Some(Described { parent: parent.clone(), used }));
    }
    assert_eq!(described(&store.path(one.id())).unwrap().parent, None);
    assert_eq!(described(&store.path("chains")), None);
    let found = store.open("nested").by_chain(&chain).unwrap();
    assert_eq!((found.id(), found.parent().unwrap().id()), (two.id(), one.id()));
    assert!(store.open("real").by_chain(&chain).is_none(), "of another map of ids");
}

#[test]
fn after_another_boot_only_what_was_synced_is_used() {
    let store = Store::new();
    let snapshots = store.open("real");
    let one = commit(&snapshots, None, false);
    let two = commit(&snapshots, Some(&one), false);
    let mode = |id: &str| std::fs::metadata(store.path(id)).unwrap().permissions().mode() & 0o7777;

    // Only what was made before the sync is marked after it.
    let before = snapshots.unsynced();
    let late = commit(&snapshots, Some(&two), false);
    snapshots.mark_synced(before);
    assert_eq!([one.id(), two.id(), late.id()].map(mode), [0o1700, 0o1700, 0o700]);
    assert_eq!(snapshots.unsynced(), [late.id()]);

    let all = [one.id(), two.id(), late.id()];
    assert_eq!(all.map(|id| store.finds(id)), [true, true, true]);
    for (id, parent) in [(one.id(), ""), (two.id(), one.id()), (late.id(), two.id())] {
        store.describe(id, &format!("1:real:ffffffffffff:{parent}"));
    }
    assert_eq!(all.map(|id| store.finds(id)), [true, true, false]);
    // And none that stands on one that is not.
    std::fs::set_permissions(store.path(one.id()), PermissionsExt::from_mode(0o700)).unwrap();
    assert_eq!(all.map(|id| store.finds(id)), [false, false, false]);
}

#[test]
fn a_union_of_another_boot_is_used_when_it_was_synced_and_made_again_otherwise() {
    let store = Store::new();
    let unite = |top: Option<&str>| {
        let snapshots = store.open("real").uniting(2);
        let made = || commit(&snapshots, Some(&commit(&snapshots, None, false)), false);
        let top = top.map_or_else(made, |id| snapshots.find(id).unwrap());
        snapshots.prepare(Some(&top), false).unwrap().unwrap().discard();
        snapshots.mark_synced(snapshots.unsynced());
        top.id().to_owned()
    };
    let top = unite(None);
    let union = format!("{top}/union-2");
    let ours = format!("1:real:{}:", boot());
    assert_eq!(text_of(&store.path(&union).join("meta")), ours);
    let inode = || std::fs::metadata(store.path(&union)).unwrap().ino();
    let made = inode();

    store.describe(&union, "1:real:ffffffffffff:");
    unite(Some(&top));
    assert_eq!(
        (text_of(&store.path(&union).join("meta")).as_str(), inode()),
        ("1:real:ffffffffffff:", made)
    );

    std::fs::set_permissions(store.path(&union), PermissionsExt::from_mode(0o700)).unwrap();
    unite(Some(&top));
    assert_eq!(text_of(&store.path(&union).join("meta")), ours);
    assert_ne!(inode(), made);
}

#[test]
fn an_alias_that_leads_elsewhere_is_none_and_is_replaced() {
    let store = Store::new();
    let snapshots = store.open("real");
    let one = commit(&snapshots, None, false);
    let chain = ChainId(Digest::of(b"chain"));
    let alias = store.path("chains").join(format!("real-{}", chain.0.hex()));
    let id = one.id();
    let absolute = store.path(id).into_os_string().into_string().unwrap();
    for text in
        [id, &format!("../chains/../{id}"), &format!("./../{id}"), "../", "..", "../0", &absolute]
    {
        symlink(text, &alias).unwrap();
        assert!(store.open("real").by_chain(&chain).is_none(), "{text}");
        snapshots.alias(&chain, &one).unwrap();
        assert_eq!(text_of(&alias), format!("../{id}"));
        std::fs::remove_file(&alias).unwrap();
    }
    // As it was before names were links.
    std::fs::write(&alias, id).unwrap();
    assert!(snapshots.by_chain(&chain).is_none());
    snapshots.alias(&chain, &one).unwrap();
    assert_eq!(snapshots.by_chain(&chain).unwrap().id(), id);
    // The first one stays.
    let two = commit(&snapshots, None, false);
    snapshots.alias(&chain, &two).unwrap();
    assert_eq!(snapshots.by_chain(&chain).unwrap().id(), id);
}

#[test]
fn a_mark_brings_nothing_back() {
    let store = Store::new();
    let snapshots = store.open("real");
    let one = commit(&snapshots, None, false);
    let before = snapshots.unsynced();
    std::fs::rename(store.path(one.id()), store.path("away")).unwrap();
    snapshots.mark_synced(before);
    assert!(!store.path(one.id()).exists());
    assert_eq!(std::fs::metadata(store.path("away")).unwrap().permissions().mode() & 0o7777, 0o700);
}

#[test]
fn what_is_no_description_is_none() {
    let store = Store::new();
    let one = commit(&store.open("real"), None, false);
    let (id, boot) = (one.id(), boot());
    let meta = store.path(id).join("meta");
    let whole = text_of(&meta);
    for text in [
        format!("2:real:{boot}:"),
        format!("1:real:{boot}"),
        format!("1:real:{boot}::"),
        format!("1:real:{boot}::dev:"),
        format!("1:real:{boot}::other"),
        format!("1:real:{boot}:..:dev"),
        format!("1:real:{boot}:{id}"),
        "1".to_owned(),
        ":::".to_owned(),
        "..".to_owned(),
        "x".repeat(1000),
    ] {
        store.describe(id, &text);
        assert!(!store.finds(id), "{text}");
    }
    std::fs::remove_file(&meta).unwrap();
    for make in [
        // As it was before descriptions were links.
        (|meta: &Path| std::fs::write(meta, "{}").unwrap()) as fn(&Path),
        |meta| std::fs::create_dir(meta).unwrap(),
        |_nothing| {},
    ] {
        make(&meta);
        assert!(!store.finds(id));
        let _dir = std::fs::remove_dir(&meta);
        let _file = std::fs::remove_file(&meta);
    }
    symlink(whole, &meta).unwrap();
    assert!(store.finds(id));
}
