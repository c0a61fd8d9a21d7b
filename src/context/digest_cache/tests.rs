//! Entries that come back, are moved, are dropped and survive damage.

use super::*;
use std::path::Path;

fn key(ino: u64) -> StatKey {
    StatKey { dev: 1, ino, size: 3, mtime: (-5, 6), ctime: (7, 8), rootfs: ino.is_multiple_of(2) }
}

fn hash(number: u64) -> FileHash {
    let mut hash = [9; 32];
    hash[..8].copy_from_slice(&number.to_le_bytes());
    hash
}

fn cache(dir: &Path, limit: usize) -> FileDigestCache {
    holding(dir, limit, MAX_HELD)
}

fn holding(dir: &Path, limit: usize, held: usize) -> FileDigestCache {
    FileDigestCache::with_limits(fs::open_dir_path(dir).unwrap(), b"files", limit, held)
}

fn put(cache: &FileDigestCache, numbers: std::ops::Range<u64>) {
    for number in numbers {
        cache.put(key(number), hash(number));
    }
    cache.save().unwrap();
}

/// Which of a range are remembered.
fn known(cache: &FileDigestCache, numbers: std::ops::Range<u64>) -> Vec<u64> {
    let is_known = |number: &u64| match cache.get(&key(*number)) {
        Some(found) => {
            assert_eq!(found, hash(*number));
            true
        }
        None => false,
    };
    numbers.filter(is_known).collect()
}

fn files(dir: &Path) -> Vec<(String, u64)> {
    let of = |entry: std::fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len())
    };
    let mut files: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|entry| of(entry.unwrap())).collect();
    files.sort();
    files
}

#[test]
fn entries_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let first = cache(dir.path(), MAX_KEPT);
    put(&first, 0..100);
    for cache in [first, cache(dir.path(), MAX_KEPT)] {
        assert_eq!(known(&cache, 0..120), (0..100).collect::<Vec<_>>());
        for other in [
            StatKey { dev: 2, ..key(1) },
            StatKey { size: 4, ..key(1) },
            StatKey { mtime: (-5, 7), ..key(1) },
            StatKey { mtime: (-6, 6), ..key(1) },
            StatKey { ctime: (7, 9), ..key(1) },
            StatKey { ctime: (8, 8), ..key(1) },
            StatKey { rootfs: true, ..key(1) },
        ] {
            assert_eq!(cache.get(&other), None);
        }
    }
    assert_eq!(files(dir.path()), [("files.recent".to_owned(), 2 * 4096)]);
}

#[test]
fn a_few_new_entries_do_not_write_all_again() {
    let dir = tempfile::tempdir().unwrap();
    put(&cache(dir.path(), MAX_KEPT), 0..5000);
    assert_eq!(files(dir.path()), [("files".to_owned(), 100 * 4096)]);
    put(&cache(dir.path(), MAX_KEPT), 5000..5001);
    put(&cache(dir.path(), MAX_KEPT), 5001..5003);
    let both = [("files".to_owned(), 100 * 4096), ("files.recent".to_owned(), 4096)];
    assert_eq!(files(dir.path()), both);
    assert_eq!(known(&cache(dir.path(), MAX_KEPT), 0..5010), (0..5003).collect::<Vec<_>>());
    // More than a sixteenth and a thousand: they move.
    put(&cache(dir.path(), MAX_KEPT), 5003..6320);
    assert_eq!(files(dir.path()), [("files".to_owned(), 127 * 4096)]);
    assert_eq!(known(&cache(dir.path(), MAX_KEPT), 0..6400), (0..6320).collect::<Vec<_>>());
}

#[test]
fn a_later_entry_for_the_same_state_counts() {
    for before in [10, 2000] {
        let dir = tempfile::tempdir().unwrap();
        put(&cache(dir.path(), MAX_KEPT), 0..before);
        let again = cache(dir.path(), MAX_KEPT);
        again.put(key(5), hash(77));
        assert_eq!(again.get(&key(5)), Some(hash(77)));
        again.save().unwrap();
        assert_eq!(cache(dir.path(), MAX_KEPT).get(&key(5)), Some(hash(77)));
    }
}

#[test]
fn above_the_limit_only_what_was_used_stays() {
    let dir = tempfile::tempdir().unwrap();
    put(&cache(dir.path(), 5000), 0..2000);
    put(&cache(dir.path(), 5000), 2000..2100);
    let full = cache(dir.path(), 5000);
    known(&full, 1990..2010);
    put(&full, 3000..6000);
    let expected: Vec<_> = (1990..2010).chain(3000..6000).collect();
    assert_eq!(known(&cache(dir.path(), 5000), 0..7000), expected);
    assert_eq!(files(dir.path()), [("files".to_owned(), 61 * 4096)]);
}

#[test]
fn what_is_too_much_for_memory_is_saved_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let small = holding(dir.path(), MAX_KEPT, 100);
    for number in 0..5000 {
        small.put(key(number), hash(number));
        let most = 100.max(small.lock().saved() / 8);
        assert!(small.lock().added.len() < most, "{number}");
    }
    let all: Vec<_> = (0..5000).collect();
    assert_eq!(known(&small, 0..5100), all);
    drop(small);
    let saved = known(&cache(dir.path(), MAX_KEPT), 0..5100);
    assert!(saved.len() > 4000 && saved == all[..saved.len()], "{}", saved.len());
}

#[test]
fn what_was_saved_meanwhile_counts_as_used() {
    let dir = tempfile::tempdir().unwrap();
    put(&cache(dir.path(), 500), 0..400);
    let small = holding(dir.path(), 500, 50);
    known(&small, 20..30);
    put(&small, 1000..1730);
    let expected: Vec<_> = (20..30).chain(1000..1730).collect();
    assert_eq!(known(&cache(dir.path(), 500), 0..2000), expected);
}

#[test]
fn nothing_is_dropped_before_the_end() {
    let dir = tempfile::tempdir().unwrap();
    put(&cache(dir.path(), 500), 0..400);
    let small = holding(dir.path(), 500, 50);
    for number in 1000..1730 {
        small.put(key(number), hash(number));
    }
    // Above the limit, and yet what comes late in a run is there.
    assert_eq!(known(&small, 0..300), (0..300).collect::<Vec<_>>());
    small.save().unwrap();
    let expected: Vec<_> = (0..300).chain(1000..1730).collect();
    assert_eq!(known(&cache(dir.path(), 500), 0..2000), expected);
}

#[test]
fn a_file_that_is_taken_away_meanwhile_is_still_there_for_this_run() {
    let dir = tempfile::tempdir().unwrap();
    let small = holding(dir.path(), MAX_KEPT, 50);
    for number in 0..1000 {
        small.put(key(number), hash(number));
        let _none_yet = std::fs::remove_file(dir.path().join("files"));
        let _none_yet = std::fs::remove_file(dir.path().join("files.recent"));
    }
    assert_eq!(known(&small, 0..1100), (0..1000).collect::<Vec<_>>());
}

#[test]
fn more_than_can_be_read_again_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let small = holding(dir.path(), 100, 50);
    for number in 0..1000 {
        small.put(key(number), hash(number));
    }
    assert_eq!(known(&small, 0..1100), (0..1000).collect::<Vec<_>>());
    assert!(small.lock().saved() <= 500);
}

#[test]
fn what_cannot_be_saved_meanwhile_is_held() {
    let dir = tempfile::tempdir().unwrap();
    // Nothing can be renamed onto these.
    for name in ["files/x", "files.recent/x"] {
        std::fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    let small = holding(dir.path(), MAX_KEPT, 50);
    for number in 0..3000 {
        small.put(key(number), hash(number));
    }
    assert_eq!(known(&small, 0..4000), (0..3000).collect::<Vec<_>>());
    assert!((5..9).contains(&small.lock().failures), "{}", small.lock().failures);
    assert!(small.save().is_err());
    let names: Vec<_> = files(dir.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["files", "files.recent"]);
}

#[test]
fn a_damaged_file_is_an_empty_cache_and_is_replaced() {
    for (name, count) in [("files.recent", 100), ("files", 2000)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        put(&cache(dir.path(), MAX_KEPT), 0..count);
        let good = std::fs::read(&path).unwrap();
        let mut flipped = good.clone();
        flipped[60] ^= 1;
        let foreign = b"nb-fd-1\n and what an older version wrote".to_vec();
        for bad in [flipped, good[..good.len() - 1].to_vec(), vec![0; good.len()], foreign] {
            std::fs::write(&path, &bad).unwrap();
            let damaged = cache(dir.path(), MAX_KEPT);
            assert!(known(&damaged, 0..1).is_empty());
            put(&damaged, 0..count);
            assert_eq!(std::fs::read(&path).unwrap(), good, "{name}");
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(known(&cache(dir.path(), MAX_KEPT), 0..1).is_empty());
    }
}

#[test]
fn a_damaged_large_file_is_replaced_by_a_few_entries_too() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("files"), "damaged").unwrap();
    put(&cache(dir.path(), MAX_KEPT), 0..3);
    assert_eq!(files(dir.path()), [("files".to_owned(), 4096)]);
}

#[test]
fn nothing_is_touched_before_it_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let idle = cache(dir.path(), MAX_KEPT);
    idle.save().unwrap();
    assert!(!idle.lock().is_open);
    assert!(files(dir.path()).is_empty());
}

#[test]
fn saving_replaces_what_a_killed_build_left() {
    let dir = tempfile::tempdir().unwrap();
    let left = dir.path().join(format!("files.recent.{}", std::process::id()));
    std::fs::write(&left, "half").unwrap();
    put(&cache(dir.path(), MAX_KEPT), 0..1);
    assert!(!left.exists());
    assert_eq!(known(&cache(dir.path(), MAX_KEPT), 0..1), [0]);
}
