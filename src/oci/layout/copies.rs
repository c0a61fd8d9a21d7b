//! Many blobs of one layout for another, for an output: several at once, each verified while the kernel copies it, unless
//! this process wrote it, from which it has the digest.
//!
//! Where the file system can share data between files, nothing is copied at all. The files are never the same: whoever
//! changes an output must not change the store.

use super::{Layout, early};
use crate::{
    error::{Error, ErrorKind, Result, ResultExt},
    oci::{
        blobs::missing,
        digest::{Digest, VerifyingReader},
        spec::{self, Descriptor},
    },
};
use rustix::fs::Advice;
use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufReader, Read},
    num::NonZeroU64,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

/// Read at once for a digest.
const BUFFER: usize = 256 << 10;
/// Fewer bytes than this are not worth a thread.
const WORTH_A_THREAD: u64 = 1 << 20;
/// More than this is not copied early: a copy cannot be stopped, and a build that is stopped waits for it.
const TOO_MUCH_EARLY: u64 = 256 << 20;
/// Copies of this size and above do not stay in memory.
const LARGE: u64 = 64 << 20;
/// Bytes of them that are copied in one go.
const PART: u64 = 8 << 20;
/// Bytes behind the end of such a copy that may still be on their way to the disk.
const LAG: u64 = 4 * PART;
/// Blobs that are copied at once.
const MOST_AT_ONCE: usize = 4;

impl Layout {
    /// Copies blobs out of another layout and verifies what that did not get in this process. What is here already is
    /// written anew: it may be damaged.
    pub fn copy_blobs<'b>(
        &self,
        from: &Layout,
        blobs: impl Iterator<Item = &'b Descriptor>,
    ) -> Result<()> {
        let mut blobs: Vec<&Descriptor> = blobs.collect();
        // Taken from the end: the largest first, so that no single one is left over for the last.
        blobs.sort_by_key(|blob| blob.size());
        let total: u64 = blobs.iter().map(|blob| blob.size()).fold(0, u64::saturating_add);
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = if total < WORTH_A_THREAD { 1 } else { cores.min(MOST_AT_ONCE) };
        let queue = Mutex::new(blobs);
        let failed = AtomicBool::new(false);
        let work = || {
            while let Some(blob) = next(&queue).filter(|_| !failed.load(Ordering::Relaxed)) {
                self.copy_blob(from, blob)
                    .inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            }
            Ok(())
        };
        thread::scope(|scope| {
            let start = |_| thread::Builder::new().spawn_scoped(scope, work).ok();
            let others: Vec<_> = (1..threads).map_while(start).collect();
            let own = work();
            let died = || Err(Error::internal("a thread that copied blobs panicked"));
            let joined = others.into_iter().map(|other| other.join().unwrap_or_else(|_| died()));
            joined.fold(own, Result::and)
        })
    }

    /// Copies a blob for an output that will be written beside this directory or into it, should there be time before:
    /// into a file without a name, which [`Layout::copy_blobs`] gives one. Small and very large ones are left for then,
    /// and all where a file system has no such files. `copied` is told of a file that is complete.
    pub fn copy_early(&self, blob: &Descriptor, near: &Path, copied: impl FnOnce(&File)) {
        let Ok(digest) = spec::digest_of(blob) else { return };
        let worth = WORTH_A_THREAD..=TOO_MUCH_EARLY;
        if !worth.contains(&blob.size()) || self.early.has(&digest) {
            return;
        }
        let Some(file) = early::nameless(near) else { return };
        // What is wrong with it is told when it is really needed.
        if self.fill(&file, &digest, blob).is_ok() {
            copied(&file);
            self.early.note(digest, file);
        }
    }

    fn copy_blob(&self, from: &Layout, blob: &Descriptor) -> Result<()> {
        let digest = spec::digest_of(blob)?;
        if let Some(file) = from.early.take(&digest)
            && self.adopt(&file, &digest)
        {
            return Ok(());
        }
        let mut writer = self.blob_writer()?.trusted();
        if blob.size() < WORTH_A_THREAD {
            let (file, _) = from.open_raw(&digest)?.ok_or_else(|| missing(blob))?;
            let fail = || format!("cannot copy blob {digest}");
            let mut reader = verified(file, &digest, blob);
            io::copy(&mut reader, &mut writer).or_error(ErrorKind::Environment, fail)?;
        } else {
            from.fill(writer.as_file(), &digest, blob)?;
        }
        writer.commit(&digest)
    }

    /// Copies one of our blobs into a file.
    fn fill(&self, to: &File, digest: &Digest, blob: &Descriptor) -> Result<()> {
        let open = || self.open_raw(digest)?.ok_or_else(|| missing(blob));
        let (file, size) = open()?;
        let copied = if self.written.has(digest) && size == blob.size() {
            copy_whole(to, &file)
        } else if rustix::fs::ioctl_ficlone(to, &file).is_ok() {
            read(file, digest, blob)
        } else {
            let source = open()?.0;
            copy_and_read(to, source, || read(file, digest, blob))
        };
        copied.or_error(ErrorKind::Environment, || format!("cannot copy blob {digest}"))
    }
}

/// The blobs that were put into a layout by this process: their content went through a hash on its way. All clones of a
/// layout share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Written(Arc<Mutex<HashSet<Digest>>>);

impl Written {
    pub(super) fn note(&self, digest: &Digest) {
        self.digests().insert(digest.clone());
    }

    fn has(&self, digest: &Digest) -> bool {
        self.digests().contains(digest)
    }

    fn digests(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn next<'b>(queue: &Mutex<Vec<&'b Descriptor>>) -> Option<&'b Descriptor> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

fn verified(file: File, digest: &Digest, blob: &Descriptor) -> BufReader<VerifyingReader<File>> {
    BufReader::with_capacity(BUFFER, VerifyingReader::new(file, digest.clone(), blob.size()))
}

/// Reads a blob to its end, which fails when it is not what its descriptor says.
fn read(file: File, digest: &Digest, blob: &Descriptor) -> io::Result<()> {
    io::copy(&mut verified(file, digest, blob), &mut io::sink()).map(drop)
}

/// Copies a file without a look at it.
fn copy_whole(to: &File, from: &File) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    copy_all(to, from)
}

/// Copies what a file has. A large copy goes to the disk as it grows, and what is there leaves memory: nobody here reads
/// it again, and its pages serve for what comes next. Nothing waits for the disk, so of what is slower than we are more
/// stays.
fn copy_all(mut to: &File, mut from: &File) -> io::Result<()> {
    if from.metadata()?.len() < LARGE {
        return io::copy(&mut from, &mut to).map(drop);
    }
    let mut at = 0;
    loop {
        let copied = io::copy(&mut from.take(PART), &mut to)?;
        if copied == 0 {
            return Ok(());
        }
        at += copied;
        let start = at.saturating_sub(LAG);
        let _advice = rustix::fs::fadvise(to, start, NonZeroU64::new(at - start), Advice::DontNeed);
    }
}

/// Copies a file on a thread of its own, where there is one to be had, while `verify` reads it here.
fn copy_and_read(to: &File, from: File, verify: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let spare = from.try_clone()?;
    thread::scope(|scope| {
        let copying = thread::Builder::new().spawn_scoped(scope, move || copy_all(to, &from));
        if let Ok(copying) = copying {
            let seen = verify();
            let died = |_| Err(io::Error::other("the thread that copied panicked"));
            return seen.and(copying.join().unwrap_or_else(died));
        }
        copy_all(to, &spare).and_then(|()| verify())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn large_copies_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(dir.path().join(name))
                .unwrap()
        };
        for size in [LARGE - 1, LARGE, LARGE + PART / 2 + 1] {
            let (from, to) = (open(&format!("from-{size}")), open(&format!("to-{size}")));
            from.set_len(size).unwrap();
            let marks: Vec<u64> = (0..size).step_by(PART as usize).chain([size - 3]).collect();
            for at in &marks {
                from.write_all_at(&at.to_le_bytes()[..3], *at).unwrap();
            }
            copy_all(&to, &from).unwrap();
            assert_eq!(to.metadata().unwrap().len(), size);
            let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
            for at in (0..size).step_by(1 << 20) {
                let length = (size - at).min(1 << 20) as usize;
                from.read_exact_at(&mut left[..length], at).unwrap();
                to.read_exact_at(&mut right[..length], at).unwrap();
                assert!(left[..length] == right[..length], "at {at} of {size}");
            }
        }
    }
}
