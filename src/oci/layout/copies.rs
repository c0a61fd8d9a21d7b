//! Many blobs of one layout for another, for an output: several at once, each verified while the kernel copies it, unless
//! this process wrote it, from which it has the digest.
//!
//! Where the file system can share data between files, nothing is copied at all. The files are never the same: whoever
//! changes an output must not change the store.

use super::{BlobReader, Layout, early};
use crate::{
    error::{Error, ErrorKind, Result, ResultExt},
    oci::{
        blobs::missing,
        digest::Digest,
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
/// Copies of this size and above that nobody reads again mostly do not stay in memory.
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
        if self.fill(&file, &digest, blob, copy_plainly).is_ok() {
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
            let fail = || format!("cannot copy blob {digest}");
            let mut reader = buffered(from.open_blob(blob)?);
            io::copy(&mut reader, &mut writer).or_error(ErrorKind::Environment, fail)?;
        } else {
            from.fill(writer.as_file(), &digest, blob, copy_and_forget)?;
        }
        writer.commit(&digest)
    }

    /// Copies one of our blobs into a file.
    fn fill(&self, to: &File, digest: &Digest, blob: &Descriptor, copy: CopyFile) -> Result<()> {
        let open = || self.open_raw(digest)?.ok_or_else(|| missing(blob));
        let (file, size) = open()?;
        let verify = |file| read(self.reader(file, digest, blob.size()));
        let copied = if self.written.has(digest) && size == blob.size() {
            copy_whole(to, &file, copy)
        } else if rustix::fs::ioctl_ficlone(to, &file).is_ok() {
            verify(file)
        } else {
            let source = open()?.0;
            copy_and_read(to, source, copy, || verify(file))
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

    pub(super) fn is_empty(&self) -> bool {
        self.digests().is_empty()
    }

    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.digests().contains(digest)
    }

    fn digests(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn next<'b>(queue: &Mutex<Vec<&'b Descriptor>>) -> Option<&'b Descriptor> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

fn buffered(blob: BlobReader) -> BufReader<BlobReader> {
    BufReader::with_capacity(BUFFER, blob)
}

/// Reads a blob to its end, which fails when it is not what its descriptor says.
fn read(blob: BlobReader) -> io::Result<()> {
    io::copy(&mut buffered(blob), &mut io::sink()).map(drop)
}

/// How to copy what a file has into another.
type CopyFile = fn(&File, &File) -> io::Result<()>;

/// Copies a file without a look at it.
fn copy_whole(to: &File, from: &File, copy: CopyFile) -> io::Result<()> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    copy(to, from)
}

fn copy_plainly(mut to: &File, mut from: &File) -> io::Result<()> {
    io::copy(&mut from, &mut to).map(drop)
}

/// Copies a file that nobody here reads again: a large one goes to the disk as it grows, and what is there leaves memory,
/// so that its pages serve for what comes next. Pages that are not written yet when the copy is [`LAG`] further, or done,
/// stay; it is not waited for them.
fn copy_and_forget(to: &File, from: &File) -> io::Result<()> {
    if from.metadata()?.len() < LARGE {
        return copy_plainly(to, from);
    }
    copy_in_parts(to, from, PART, |at| {
        let start = at.saturating_sub(LAG);
        // Begins to write what is dirty, and drops what is not.
        let _advice = rustix::fs::fadvise(to, start, NonZeroU64::new(at - start), Advice::DontNeed);
    })
}

/// Copies a file and tells after each part how many bytes there are.
fn copy_in_parts(
    mut to: &File,
    from: &File,
    part: u64,
    mut copied: impl FnMut(u64),
) -> io::Result<()> {
    let mut at = 0;
    loop {
        let now = io::copy(&mut from.take(part), &mut to)?;
        if now == 0 {
            return Ok(());
        }
        at += now;
        copied(at);
    }
}

/// Copies a file on a thread of its own, where there is one to be had, while `verify` reads it here.
fn copy_and_read(
    to: &File,
    from: File,
    copy: CopyFile,
    verify: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let spare = from.try_clone()?;
    thread::scope(|scope| {
        let copying = thread::Builder::new().spawn_scoped(scope, move || copy(to, &from));
        if let Ok(copying) = copying {
            let seen = verify();
            let died = |_| Err(io::Error::other("the thread that copied panicked"));
            return seen.and(copying.join().unwrap_or_else(died));
        }
        copy(to, &spare).and_then(|()| verify())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_copy_in_parts_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(dir.path().join(name))
                .unwrap()
        };
        for (size, expected) in [
            (0, vec![]),
            (999, vec![999]),
            (1000, vec![1000]),
            (3500, vec![1000, 2000, 3000, 3500]),
        ] {
            let (from, to) = (open(&format!("from-{size}")), open(&format!("to-{size}")));
            let bytes: Vec<u8> = (0..size).map(|at: u32| (at * at / 7) as u8).collect();
            from.write_all_at(&bytes, 0).unwrap();
            let mut seen = Vec::new();
            copy_in_parts(&to, &from, 1000, |at| {
                assert_eq!(to.metadata().unwrap().len(), at);
                seen.push(at);
            })
            .unwrap();
            assert_eq!(seen, expected);
            assert_eq!(std::fs::read(dir.path().join(format!("to-{size}"))).unwrap(), bytes);
        }
    }

    #[test]
    fn a_large_copy_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let from = tempfile::tempfile_in(dir.path()).unwrap();
        let size = LARGE + LAG / 3;
        from.set_len(size).unwrap();
        let marks = || (0..size / PART).map(|part| (part * PART + part, (part + 1).to_le_bytes()));
        marks().for_each(|(at, mark)| from.write_all_at(&mark, at).unwrap());
        let to = tempfile::tempfile_in(dir.path()).unwrap();
        copy_and_forget(&to, &from).unwrap();
        assert_eq!(to.metadata().unwrap().len(), size);
        for (at, mark) in marks() {
            let mut found = [0; 8];
            to.read_exact_at(&mut found, at).unwrap();
            assert_eq!(found, mark, "at {at}");
        }
    }
}
