//! Many programs at once: every one opens the cache for itself, as other processes would.

use super::super::{Freed, PkgCache, fixture::*};
use crate::{
    error::Result,
    oci::layout::Check,
    progress::{Emitter, Event, Sink},
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Sender, channel},
    },
    thread::ScopedJoinHandle,
    time::Duration,
};

const ARCHES: [&str; 4] = ["amd64", "arm64", "riscv64", "s390x"];

#[test]
fn builds_at_the_same_time_lose_no_name_and_no_blob() {
    let world = World::new();
    let directory = world.cache.layout().root();
    world.build("docker.io/org/all:0", "ppc64le", "before");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Somebody cleans all the time.
        let cleaner = scope.spawn(|| {
            let cache = PkgCache::open_or_create(directory).unwrap();
            let mut rounds = 0;
            while !done.load(Ordering::Relaxed) || rounds == 0 {
                cache.clean_unused(Duration::ZERO).unwrap();
                rounds += 1;
            }
        });
        // Somebody reads, and never finds less than there was: indexes that are replaced are deleted under its eyes.
        let reader = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert!(world.cache.complete("docker.io/org/all:0", &platform("ppc64le")).unwrap());
            }
        });
        let builders: Vec<_> = (0..8)
            .map(|thread| {
                let world = &world;
                scope.spawn(move || {
                    let cache = PkgCache::open_or_create(directory).unwrap();
                    for package in 0..5 {
                        let arch = ARCHES[thread % 4];
                        // Every thread has its own packages; shared ones have each architecture from two of them.
                        for (name, text) in [
                            (
                                format!("docker.io/org/own{thread}:{package}"),
                                format!("{thread} {package}"),
                            ),
                            (format!("docker.io/org/all:{package}"), format!("{arch} {package}")),
                        ] {
                            let image = world.image(arch, &text);
                            let writer = cache.writer().unwrap();
                            writer.adopt(&world.store, &image).unwrap();
                            writer.write(&name, &[(platform(arch), image)]).unwrap();
                        }
                    }
                })
            })
            .collect();
        let built: Vec<_> = builders.into_iter().map(ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        for outcome in built {
            outcome.unwrap();
        }
        cleaner.join().unwrap();
        reader.join().unwrap();
    });
    for package in 0..5 {
        for arch in ARCHES {
            let all = format!("docker.io/org/all:{package}");
            assert!(world.cache.complete(&all, &platform(arch)).unwrap(), "{all} {arch}");
        }
        for thread in 0..8 {
            let own = format!("docker.io/org/own{thread}:{package}");
            let arch = ARCHES[thread % 4];
            assert!(world.cache.complete(&own, &platform(arch)).unwrap(), "{own}");
        }
    }
    // Each own package has two names, each shared one five, one of them six.
    assert_eq!(world.cache.list().unwrap().len(), 8 * 5 * 2 + 5 * 5 + 1);
    world.validate();
    // And of every index that was replaced nothing is left.
    let freed = world.cache.clean_unused(Duration::ZERO).unwrap();
    assert_eq!(freed.files, 0);
}

/// Gives notes on.
struct Notes(Mutex<Sender<String>>);

impl Sink for Notes {
    fn event(&self, event: Event) {
        if let Event::Note { text } = event {
            self.0.lock().unwrap().send(text).unwrap();
        }
    }
}

/// `image copy` to `oci:` and `--cache-to` lock what any layout has. Found in review.
#[test]
fn blobs_that_somebody_is_about_to_name_as_in_any_layout_are_not_deleted() {
    const OTHER: &str = "docker.io/org/other:1";
    let all: [fn(&PkgCache) -> Result<Freed>; 3] = [
        PkgCache::clean,
        |cache| cache.clean_unused(Duration::ZERO),
        |cache| cache.remove(&[NAME.to_owned()]),
    ];
    for (number, delete) in all.into_iter().enumerate() {
        let world = World::new();
        let image = world.image("amd64", "1");
        world.build(NAME, "amd64", "2");
        let layout = world.cache.layout();
        let writing = layout.writing().unwrap();
        for part in world.parts(&image) {
            layout.take_blob(&world.store, &part, Check::Size).unwrap();
        }
        let (send, notes) = channel();
        let emitter = Emitter::new(Arc::new(Notes(Mutex::new(send))));
        let cache = world.cache.clone().telling(&emitter);
        std::thread::scope(|scope| {
            let deleting = scope.spawn(|| delete(&cache).unwrap());
            let note = notes.recv().unwrap();
            let dir = layout.root().display();
            assert_eq!(note, format!("waiting until others have written into {dir}"));
            assert!(world.parts(&image).iter().all(|part| layout.has(part)));
            let mut index = layout.lock_index().unwrap();
            index.set(OTHER, &image).unwrap();
            index.store().unwrap();
            drop((index, writing));
            deleting.join().unwrap();
        });
        let is_all = number == 0;
        assert_eq!(world.cache.list().unwrap().iter().any(|it| it.name == OTHER), !is_all);
        assert!(world.parts(&image).iter().all(|part| layout.has(part) != is_all));
        world.validate();
    }
}
