//! Tests of the layout: blobs, names, the index, and damage done by hand.

use super::*;
use crate::oci::{media, reference::Reference};
use std::cell::Cell;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering;

fn layout() -> (tempfile::TempDir, Layout) {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::create(dir.path().join("l")).unwrap();
    (dir, layout)
}

fn files(layout: &Layout) -> Vec<String> {
    let mut all: Vec<String> = fs::read_dir(layout.blob_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    all.sort();
    all
}

#[test]
fn blobs_are_whole_or_absent() {
    let (_dir, layout) = layout();
    let digest = layout.put_blob(b"abc").unwrap();
    assert_eq!(layout.put_blob(b"abc").unwrap(), digest);
    let mut dropped = layout.blob_writer().unwrap();
    dropped.write_all(b"half").unwrap();
    drop(dropped);
    assert_eq!(files(&layout), [digest.hex()]);

    let mut wrong = layout.blob_writer().unwrap();
    wrong.write_all(b"other").unwrap();
    let error = wrong.commit(&digest).unwrap_err();
    assert!(error.message().starts_with("blob has the wrong content: expected sha256:ba78"));
    assert_eq!(files(&layout), [digest.hex()]);
    let mode = fs::metadata(layout.blob_path(&digest)).unwrap().permissions().mode();
    assert_eq!(mode & 0o444, 0o444);
}

#[test]
fn damaged_blobs_are_found_and_healed() {
    let (_dir, layout) = layout();
    let descriptor = layout.put_document(media::OCI_CONFIG, b"{}").unwrap();
    let digest = spec::digest_of(&descriptor).unwrap();
    fs::write(layout.blob_path(&digest), b"[]").unwrap();
    assert!(layout.read_blob_small(&descriptor).unwrap_err().to_string().contains("wrong content"));
    fs::write(layout.blob_path(&digest), b"{").unwrap();
    assert!(layout.read_blob_small(&descriptor).unwrap_err().to_string().contains("cut short"));
    assert!(!layout.has(&descriptor));
    layout.put_blob(b"{}").unwrap();
    assert_eq!(layout.read_blob_small(&descriptor).unwrap(), b"{}");
    layout.remove_blob(&digest).unwrap();
    layout.remove_blob(&digest).unwrap();
    let error = layout.read_blob_small(&descriptor).unwrap_err();
    assert!(
        error
            .message()
            .ends_with("(`application/vnd.oci.image.config.v1+json`, 2 bytes) is missing")
    );
}

#[test]
fn names_are_set_replaced_and_removed() {
    let (_dir, layout) = layout();
    let one = layout.put_document(media::OCI_MANIFEST, b"1").unwrap();
    let two = layout.put_document(media::OCI_MANIFEST, b"2").unwrap();
    let name = |text: &str| Reference::parse(text).unwrap();
    layout.set_name(&name("b"), &one, Origin::Built).unwrap();
    layout.set_name(&name("a"), &one, Origin::Pulled).unwrap();
    layout.set_name(&name("b"), &two, Origin::Imported).unwrap();
    let shown: Vec<String> = layout
        .names()
        .unwrap()
        .iter()
        .map(|image| format!("{} {} {}", image.name, image.descriptor.digest(), image.origin))
        .collect();
    assert_eq!(
        shown,
        [
            format!("docker.io/library/a:latest {} pulled", one.digest()),
            format!("docker.io/library/b:latest {} imported", two.digest()),
        ]
    );
    assert!(layout.remove_name(&name("a")).unwrap());
    assert!(!layout.remove_name(&name("a")).unwrap());
    assert!(layout.find(&name("a")).unwrap().is_none());
    assert!(layout.find(&name("b")).unwrap().is_some());
}

/// A build of which nothing is new does not wait for a disk that is busy.
#[test]
fn a_name_that_says_it_already_needs_no_sync() {
    let (_dir, layout) = layout();
    let config = layout.put_document(media::OCI_CONFIG, b"{}").unwrap();
    let config = serde_json::to_string(&config).unwrap();
    let manifest = |more: &str| {
        let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]{more}}}"#);
        layout.put_document(media::OCI_MANIFEST, text.as_bytes()).unwrap()
    };
    let (one, two) = (manifest(""), manifest(r#","annotations":{}"#));
    let name = Reference::parse("a").unwrap();
    layout.set_name(&name, &one, Origin::Built).unwrap();
    let set = |descriptor: &Descriptor, origin, writes: bool| {
        let again = Layout::open(layout.root()).unwrap();
        if writes {
            again.blob_writer().unwrap().commit_hashed().unwrap();
        }
        // From here on a sync fails.
        again.sync.failed.store(true, Ordering::Relaxed);
        again.set_name(&name, descriptor, origin).is_ok()
    };
    assert!(set(&one, Origin::Built, false));
    assert!(!set(&one, Origin::Built, true));
    assert!(!set(&two, Origin::Built, false));
    assert!(!set(&one, Origin::Pulled, false));
    assert!(set(&one, Origin::Built, false));
    // Somebody made a part of it again, and may not have synced it.
    let path = layout.blob_path(&Digest::of(b"{}"));
    let later = std::time::SystemTime::now() + std::time::Duration::from_mins(1);
    File::options().append(true).open(path).unwrap().set_modified(later).unwrap();
    assert!(!set(&one, Origin::Built, false));
}

#[test]
fn what_other_tools_wrote_into_the_index_stays() {
    let (_dir, layout) = layout();
    let digest = Digest::of(b"x");
    let text = format!(
        r#"{{"schemaVersion":2,"x":1,"manifests":[{{"mediaType":"m/t","digest":"{digest}","size":1,"data":"eA==","strange":[2],"annotations":{{"k":"v"}}}}]}}"#
    );
    fs::write(layout.root().join("index.json"), text).unwrap();
    let mine = layout.put_document(media::OCI_MANIFEST, b"1").unwrap();
    layout.set_name(&Reference::parse("n").unwrap(), &mine, Origin::Built).unwrap();
    let after = fs::read_to_string(layout.root().join("index.json")).unwrap();
    let expected = format!(
        r#"{{"manifests":[{{"annotations":{{"k":"v"}},"data":"eA==","digest":"{digest}","mediaType":"m/t","size":1,"strange":[2]}},{{"annotations":{{"io.nativebuild.origin":"built","org.opencontainers.image.ref.name":"docker.io/library/n:latest"}},"digest":"{}","mediaType":"application/vnd.oci.image.manifest.v1+json","size":1}}],"schemaVersion":2,"x":1}}"#,
        mine.digest()
    );
    assert_eq!(after, expected);
}

#[test]
fn a_garbage_index_is_a_clear_error_and_stays() {
    let (_dir, layout) = layout();
    for garbage in ["", "{", "[]", r#"{"schemaVersion":2,"manifests":5}"#, "\0\0"] {
        fs::write(layout.root().join("index.json"), garbage).unwrap();
        let error = layout.names().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Integrity);
        assert!(error.message().contains("index.json"), "{error}");
        assert!(error.hints()[0].contains("forget all names"));
        let descriptor = spec::descriptor("a/b".into(), &Digest::of(b""), 0);
        assert!(
            layout.set_name(&Reference::parse("n").unwrap(), &descriptor, Origin::Built).is_err()
        );
        assert_eq!(fs::read_to_string(layout.root().join("index.json")).unwrap(), garbage);
    }
    fs::write(layout.root().join("index.json"), r#"{"schemaVersion":2,"manifests":null}"#).unwrap();
    assert!(layout.names().unwrap().is_empty());
}

#[test]
fn only_layouts_are_opened_and_only_empty_directories_become_one() {
    let dir = tempfile::tempdir().unwrap();
    assert!(
        Layout::open(dir.path()).unwrap_err().message().ends_with("is not an OCI image layout")
    );
    fs::write(dir.path().join("precious"), "").unwrap();
    let error = Layout::create(dir.path()).unwrap_err();
    assert_eq!(error.causes(), ["the directory has other content: `precious`"]);
    fs::remove_file(dir.path().join("precious")).unwrap();
    Layout::create(dir.path()).unwrap();
    Layout::create(dir.path()).unwrap();
    fs::write(dir.path().join("oci-layout"), r#"{"imageLayoutVersion":"7"}"#).unwrap();
    assert!(Layout::open(dir.path()).unwrap_err().message().contains("found `7`"));
}

#[test]
fn many_writers_lose_no_name() {
    let (_dir, layout) = layout();
    let one = layout.put_document(media::OCI_MANIFEST, b"1").unwrap();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let (layout, one) = (&layout, &one);
            scope.spawn(move || {
                for count in 0..5 {
                    let name = Reference::parse(&format!("n{writer}:{count}")).unwrap();
                    layout.set_name(&name, one, Origin::Built).unwrap();
                }
            });
        }
    });
    assert_eq!(layout.names().unwrap().len(), 40);
}

#[test]
fn the_index_lock_is_one_that_posix_record_locks_see() {
    use nix::{
        errno::Errno,
        fcntl::{FcntlArg, fcntl},
    };
    let (_dir, layout) = layout();
    let other = File::options().write(true).open(layout.root().join(".lock")).unwrap();
    let wanted = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    let held = layout.lock_index().unwrap();
    assert_eq!(fcntl(&other, FcntlArg::F_SETLK(&wanted)), Err(Errno::EAGAIN));
    drop(held);
    assert_eq!(fcntl(&other, FcntlArg::F_SETLK(&wanted)), Ok(0));
}

#[test]
fn nobody_has_a_layout_for_himself_while_another_one_writes() {
    let (_dir, layout) = layout();
    let writers = [layout.writing().unwrap(), layout.writing().unwrap()];
    assert!(layout.try_writing_alone().unwrap().is_none());
    drop(writers);
    let alone = layout.try_writing_alone().unwrap().unwrap();
    assert!(layout.try_writing_alone().unwrap().is_none());
    drop(alone);
    drop(layout.writing().unwrap());
    // It takes no file of its own.
    let entries = fs::read_dir(layout.root()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, [".lock", "blobs", "index.json", "oci-layout"]);
}

#[test]
fn blobs_are_linked_from_another_layout_and_damaged_ones_replaced() {
    let ((_dir, ours), (_other, theirs)) = (layout(), layout());
    let blob = theirs.put_document(media::OCI_CONFIG, b"{}").unwrap();
    let digest = spec::digest_of(&blob).unwrap();
    let inode = |layout: &Layout| fs::metadata(layout.blob_path(&digest)).unwrap().ino();
    ours.take_blob(&theirs, &blob, Check::Size).unwrap();
    assert_eq!(inode(&ours), inode(&theirs));
    fs::remove_file(ours.blob_path(&digest)).unwrap();
    fs::write(ours.blob_path(&digest), b"{").unwrap();
    ours.take_blob(&theirs, &blob, Check::Content).unwrap();
    assert_eq!(inode(&ours), inode(&theirs));
    assert_eq!(files(&ours), [digest.hex()]);
}

#[test]
fn what_others_could_change_is_copied_and_checked() {
    let ((_dir, ours), (_other, theirs)) = (layout(), layout());
    let blob = theirs.put_document(media::OCI_CONFIG, b"{}").unwrap();
    let digest = spec::digest_of(&blob).unwrap();
    let (from, to) = (theirs.blob_path(&digest), ours.blob_path(&digest));
    fs::set_permissions(&from, fs::Permissions::from_mode(0o666)).unwrap();
    ours.take_blob(&theirs, &blob, Check::Size).unwrap();
    assert_ne!(fs::metadata(&to).unwrap().ino(), fs::metadata(&from).unwrap().ino());
    fs::remove_file(&to).unwrap();

    fs::rename(&from, theirs.root().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(theirs.root().join("elsewhere"), &from).unwrap();
    ours.take_blob(&theirs, &blob, Check::Size).unwrap();
    assert!(fs::symlink_metadata(&to).unwrap().is_file());
    fs::remove_file(&to).unwrap();

    fs::write(theirs.root().join("elsewhere"), b"[]").unwrap();
    let wrong = |check| ours.take_blob(&theirs, &blob, check).unwrap_err().to_string();
    let message = format!("blob has the wrong content: expected {digest}, found ");
    assert!(wrong(Check::Content).contains(&message), "{}", wrong(Check::Content));
    assert!(wrong(Check::Size).contains(&message));
    fs::write(theirs.root().join("elsewhere"), b"[").unwrap();
    let size = format!("blob {digest} has the wrong size: expected 2 bytes, found 1");
    assert_eq!(wrong(Check::Size), size);
    fs::remove_file(&from).unwrap();
    assert!(wrong(Check::Size).ends_with("2 bytes) is missing"));
    assert_eq!(files(&ours), Vec::<String>::new());
}

#[test]
fn blobs_that_this_process_did_not_write_are_verified_while_they_are_copied() {
    let ((_dir, ours), (_other, theirs)) = (layout(), layout());
    let bytes = vec![7; 3 << 20];
    let blob = theirs.put_document(media::OCI_LAYER, &bytes).unwrap();
    let digest = spec::digest_of(&blob).unwrap();
    let opened = Layout::open(theirs.root()).unwrap();
    for from in [&theirs, &opened] {
        ours.copy_blobs(from, [&blob].into_iter()).unwrap();
        assert_eq!(fs::read(ours.blob_path(&digest)).unwrap(), bytes);
        ours.remove_blob(&digest).unwrap();
    }
    let damage = |bytes: &[u8]| fs::write(theirs.blob_path(&digest), bytes).unwrap();
    damage(&vec![8; 3 << 20]);
    ours.copy_blobs(&opened, [&blob].into_iter()).unwrap_err();
    damage(&vec![7; 2 << 20]);
    ours.copy_blobs(&theirs, [&blob].into_iter()).unwrap_err();
    assert_eq!(files(&ours), Vec::<String>::new());
}

/// The kernel tells of a failure once, and perhaps to another thread.
#[test]
fn a_sync_that_failed_once_fails_again() {
    let (_dir, layout) = layout();
    let clone = layout.clone();
    layout.sync().unwrap();
    layout.sync.failed.store(true, Ordering::Relaxed);
    let error = clone.sync().unwrap_err();
    assert!(error.message().ends_with("/l` durable"), "{}", error.message());
    Layout::open(layout.root()).unwrap().sync().unwrap();
}

#[test]
fn what_was_copied_early_needs_no_second_look_at_the_blob() {
    let ((dir, ours), (_other, theirs)) = (layout(), layout());
    let bytes = vec![7; 3 << 20];
    let blob = theirs.put_document(media::OCI_LAYER, &bytes).unwrap();
    let small = theirs.put_document(media::OCI_LAYER, b"small").unwrap();
    let digest = spec::digest_of(&blob).unwrap();
    let damage = |bytes: &[u8]| fs::write(theirs.blob_path(&digest), bytes).unwrap();
    let opened = || Layout::open(theirs.root()).unwrap();
    let complete = Cell::new(0);
    let early = |from: &Layout, blob: &Descriptor, near: &Path| {
        from.copy_early(blob, near, |file| {
            assert_eq!(file.metadata().unwrap().len(), blob.size());
            complete.set(complete.get() + 1);
        });
    };

    // Of what is damaged there is no copy, and of what is small.
    let from = opened();
    damage(&vec![8; 3 << 20]);
    early(&from, &blob, dir.path());
    damage(&bytes);
    early(&from, &small, dir.path());
    damage(&vec![8; 3 << 20]);
    ours.copy_blobs(&from, [&blob].into_iter()).unwrap_err();
    ours.copy_blobs(&from, [&small].into_iter()).unwrap();

    damage(&bytes);
    early(&from, &blob, dir.path());
    early(&from, &blob, dir.path());
    assert_eq!((fs::read_dir(dir.path()).unwrap().count(), complete.get()), (1, 1));
    damage(&vec![8; 3 << 20]);
    ours.copy_blobs(&from.clone(), [&blob].into_iter()).unwrap();
    let placed = ours.blob_path(&digest);
    assert_eq!(fs::read(&placed).unwrap(), bytes);
    let found = fs::metadata(&placed).unwrap();
    assert_eq!((found.mode() & 0o7777, found.nlink()), (0o644, 1));
    // It was for one output.
    ours.copy_blobs(&from, [&blob].into_iter()).unwrap_err();

    damage(&bytes);
    let elsewhere = opened();
    early(&elsewhere, &blob, Path::new("/proc/self"));
    early(&elsewhere, &blob, &dir.path().join("nowhere"));
    // In another file system it is of no use, and copied anew.
    early(&elsewhere, &blob, Path::new("/dev/shm"));
    fs::remove_file(&placed).unwrap();
    ours.copy_blobs(&elsewhere, [&blob].into_iter()).unwrap();
    assert_eq!(fs::read(&placed).unwrap(), bytes);
    assert_eq!(files(&ours).len(), 2);
}
