//! A cache mount's directory into a shared cache: a canonical tar, cut into chunks, each packed and named by its digest.
//!
//! Chunks go where the cache is as they come, a few at a time; what is there is not sent again. Nothing of them stays in
//! the store. Nobody locks a directory that is shared: one that changes while it is read is read again, and is not packed
//! in the end where it never was whole.

use super::chunker::Chunker;
use super::record::{ChunkEntry, MountEntry};
use crate::build::store::Store;
use crate::build::worker::Worker;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::layers::diff::DiffOptions;
use crate::layers::diff::read_tree;
use crate::layers::tar_write::{TimePolicy, write_layer};
use crate::net::Registry;
use crate::oci::layout::Layout;
use crate::oci::spec::{Descriptor, descriptor};
use crate::oci::{Digest, Reference};
use crate::progress::Emitter;
use crate::sys::fs;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;

/// Media type of a chunk.
pub(super) const CHUNK: &str = "application/vnd.nativebuild.cache.chunk.v1+zstd";
/// Part of the format, like the boundaries.
const LEVEL: i32 = 3;
/// Chunks on the way to a registry at once.
const BATCH: usize = 8;
/// How often a directory is read that others change meanwhile.
const ATTEMPTS: usize = 3;

/// Where chunks go.
pub(super) enum Place<'a> {
    /// A repository.
    Registry(&'a Registry, &'a Reference),
    /// A layout.
    Layout(&'a Layout),
}

/// Under which name a cache has a mount: its id is nobody's business.
pub(super) fn mount_key(id: &str) -> Digest {
    let mut hasher = crate::oci::digest::FieldHasher::new("nb-mount-1");
    hasher.field(id.as_bytes());
    hasher.finish()
}

/// Packs a directory; gives the entry that names its chunks. The inner error says why it cannot be read as a whole, the
/// outer one is about the place.
pub(super) fn pack(
    (id, dir): (&str, &Path),
    place: &Place<'_>,
    worker: &Worker,
    store: &Store,
) -> Result<Result<MountEntry>> {
    let temporary = tempfile::Builder::new()
        .prefix("chunks-")
        .tempdir_in(store.sub("tmp"))
        .or_error(ErrorKind::Environment, || "cannot write into the store".to_owned())?;
    let here = Layout::create(temporary.path())?;
    let mut sender = Sender::new(place, &here);
    let mut sent = Ok(());
    for _ in 0..ATTEMPTS {
        sender.begin();
        sent = send(dir, worker, &mut sender);
        if sent.is_ok() || sender.is_broken {
            break;
        }
    }
    match sent {
        Err(error) if sender.is_broken => Err(error),
        Err(error) => {
            sender.begin();
            sender.clean();
            Ok(Err(error))
        }
        Ok(()) => {
            sender.clean();
            Ok(Ok(MountEntry { mount: mount_key(id), chunks: sender.chunks }))
        }
    }
}

/// Reads a directory once, and sends its chunks.
fn send(dir: &Path, worker: &Worker, sender: &mut Sender<'_>) -> Result<()> {
    let what = || format!("cannot read {}", dir.display());
    let root = fs::open_dir_path(dir).map_err(|error| Error::environment(what()).cause(error))?;
    let options = DiffOptions {
        flavour: worker.snapshots.xattr_flavour(),
        placeholders: worker.isolation.placeholders(),
    };
    let files = read_tree(root.as_fd(), &options)?;
    let mut out = Cut { chunker: Chunker::default(), sender };
    let times = TimePolicy { epoch: None, started: (i64::MAX, 0) };
    write_layer(&files, root.as_fd(), &times, &mut out)?;
    let Cut { chunker, sender } = out;
    let ended = chunker.finish(&mut |chunk| sender.take(chunk));
    let ended = ended.and_then(|()| sender.flush());
    sender.is_broken |= ended.is_err();
    let what = || "cannot write the chunks of a cache mount".to_owned();
    ended.or_error(ErrorKind::Environment, what)
}

/// Where the tar goes.
struct Cut<'a, 's> {
    chunker: Chunker,
    sender: &'s mut Sender<'a>,
}

impl Write for Cut<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sender = &mut *self.sender;
        self.chunker.add(bytes, &mut |chunk| sender.take(chunk))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Brings chunks to their place.
struct Sender<'a> {
    place: &'a Place<'a>,
    /// Where they wait.
    here: &'a Layout,
    waiting: Vec<Descriptor>,
    chunks: Vec<ChunkEntry>,
    /// What a layout did not have before.
    added: BTreeSet<Digest>,
    /// The place does not take them: the directory is not to blame.
    is_broken: bool,
}

impl<'a> Sender<'a> {
    fn new(place: &'a Place<'a>, here: &'a Layout) -> Self {
        let (waiting, chunks, added) = (Vec::new(), Vec::new(), BTreeSet::new());
        Self { place, here, waiting, chunks, added, is_broken: false }
    }

    /// What was taken before does not count.
    fn begin(&mut self) {
        self.waiting.clear();
        self.chunks.clear();
    }

    /// Removes from a layout what came in vain.
    fn clean(&self) {
        let Place::Layout(layout) = self.place else { return };
        let used: BTreeSet<&Digest> = self.chunks.iter().map(|chunk| &chunk.digest).collect();
        for digest in self.added.iter().filter(|digest| !used.contains(digest)) {
            // What stays behind costs space and nothing else.
            let _best_effort = layout.remove_blob(digest);
        }
    }

    fn take(&mut self, chunk: &[u8]) -> io::Result<()> {
        let taken = self.put(chunk);
        self.is_broken |= taken.is_err();
        taken
    }

    fn put(&mut self, chunk: &[u8]) -> io::Result<()> {
        let packed = zstd::bulk::compress(chunk, LEVEL)?;
        let (digest, size) = (Digest::of(&packed), packed.len() as u64);
        self.chunks.push(ChunkEntry { digest: digest.clone(), size, length: chunk.len() as u64 });
        match self.place {
            Place::Layout(layout) => {
                if !layout.has_blob(&digest) {
                    self.added.insert(digest);
                }
                layout.put_blob(&packed)?;
            }
            Place::Registry(..) => {
                self.here.put_blob(&packed)?;
                self.waiting.push(descriptor(CHUNK.into(), &digest, size));
                if self.waiting.len() >= BATCH {
                    self.flush()?;
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let Place::Registry(registry, target) = self.place else { return Ok(()) };
        let waiting = std::mem::take(&mut self.waiting);
        let silent = Emitter::silent();
        registry.push_blobs(self.here, &waiting, target, &silent).map_err(Error::from)?;
        for blob in waiting {
            self.here.remove_blob(&crate::oci::spec::digest_of(&blob)?)?;
        }
        Ok(())
    }
}
