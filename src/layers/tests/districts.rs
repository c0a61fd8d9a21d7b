//! Where the snapshots of several processes lie.

use crate::layers::snapshot::{Form, Snapshots};
use crate::layers::whiteout::XattrFlavour;
use crate::sys::fs;
use rustix::fs::{FlockOperation, IFlags, flock};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

fn open(store: &Path) -> Snapshots {
    let dir = fs::open_dir_path(store).unwrap();
    Snapshots::open(dir.as_fd(), "real", Form::Overlay(XattrFlavour::User), &Arc::default())
        .unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let list = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        list.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Where the file system spreads directories, as ext4 does.
fn is_spread(dir: &Path) -> bool {
    let opened = fs::open_dir_path(dir).unwrap();
    rustix::fs::ioctl_getflags(&opened)
        .is_ok_and(|flags| rustix::fs::ioctl_setflags(&opened, flags | IFlags::TOPDIR).is_ok())
}

/// Waits for children of other tests, which have our descriptors until they become something else.
fn wait_until_free(dir: &Path) {
    flock(fs::open_dir_path(dir).unwrap(), FlockOperation::LockExclusive).unwrap();
}

#[test]
fn each_process_makes_its_snapshots_in_a_district_of_its_own_and_leaves_it_to_the_next() {
    let trial = tempfile::tempdir().unwrap();
    let spread = is_spread(trial.path());
    if !spread {
        eprintln!("SKIPPED: districts of snapshots: the file system of temporary files has none");
    }
    let store = tempfile::tempdir().unwrap();
    let districts = store.path().join("snapshots/districts");
    let seen = || {
        assert!(spread || !districts.exists());
        if districts.exists() { names(&districts) } else { Vec::new() }
    };

    let (one, two) = (open(store.path()), open(store.path()));
    assert_eq!(seen(), [""; 0], "nobody made anything");
    let ids: Vec<String> = [&one, &two, &one]
        .map(|snapshots| snapshots.prepare(None, false).unwrap().unwrap().commit().unwrap())
        .map(|snapshot| snapshot.id().to_owned())
        .to_vec();
    let first = seen();
    assert_eq!(first.len(), if spread { 2 } else { 0 });
    for id in &ids {
        assert!(open(store.path()).find(id).is_some());
    }
    for district in &first {
        assert_eq!(names(&districts.join(district)), [""; 0], "what was made was moved out");
        // As if it had been killed in between.
        std::fs::create_dir(districts.join(district).join(&ids[0])).unwrap();
    }

    drop((one, two));
    for district in &first {
        wait_until_free(&districts.join(district));
    }
    let later = [open(store.path()), open(store.path()), open(store.path())];
    for (count, snapshots) in later.iter().enumerate() {
        snapshots.prepare(None, false).unwrap().unwrap();
        assert_eq!(seen().len(), if spread { first.len().max(count + 1) } else { 0 });
    }
    for district in seen() {
        assert_eq!(names(&districts.join(district)), [""; 0], "what was left is gone");
    }
    assert!(first.iter().all(|district| seen().contains(district)));

    // What is deleted by hand is done without.
    if spread {
        std::fs::remove_dir_all(&districts).unwrap();
    }
    let made = later[0].prepare(None, false).unwrap().unwrap().commit().unwrap();
    assert!(open(store.path()).find(made.id()).is_some());
}
