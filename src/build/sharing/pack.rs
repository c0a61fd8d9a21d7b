//! A cache mount's directory into a shared cache: a canonical tar, cut into chunks, each packed and named by its digest.
//!
//! Chunks go where the cache is as they come, a few at a time; what is there is not sent again. Nothing of them stays in
//! the store.

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
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;

/// Media type of a chunk.
pub(super) const CHUNK: &str = "application/vnd.nativebuild.cache.chunk.v1+zstd";
/// Part of the format, like the boundaries.
const LEVEL: i32 = 3;
/// Chunks on the way to a registry at once.
const BATCH: usize = 8;

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

/// Packs a directory; gives the entry that names its chunks.
pub(super) fn pack(
    (id, dir): (&str, &Path),
    place: &Place<'_>,
    worker: &Worker,
    store: &Store,
) -> Result<MountEntry> {
    let what = || format!("cannot read {}", dir.display());
    let root = fs::open_dir_path(dir).map_err(|error| Error::environment(what()).cause(error))?;
    let options = DiffOptions {
        flavour: worker.snapshots.xattr_flavour(),
        placeholders: worker.isolation.placeholders(),
    };
    let files = read_tree(root.as_fd(), &options)?;
    let temporary = tempfile::Builder::new()
        .prefix("chunks-")
        .tempdir_in(store.sub("tmp"))
        .or_error(ErrorKind::Environment, || "cannot write into the store".to_owned())?;
    let here = Layout::create(temporary.path())?;
    let mut sender = Sender { place, here: &here, waiting: Vec::new(), chunks: Vec::new() };
    let mut out = Cut { chunker: Chunker::default(), sender: &mut sender };
    let times = TimePolicy { epoch: None, started: (i64::MAX, 0) };
    write_layer(&files, root.as_fd(), &times, &mut out)?;
    let Cut { chunker, sender } = out;
    let ended = chunker.finish(&mut |chunk| sender.take(chunk));
    ended.and_then(|()| sender.flush()).or_error(ErrorKind::Environment, || {
        "cannot write the chunks of a cache mount".to_owned()
    })?;
    Ok(MountEntry { mount: mount_key(id), chunks: std::mem::take(&mut sender.chunks) })
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
}

impl Sender<'_> {
    fn take(&mut self, chunk: &[u8]) -> io::Result<()> {
        let packed = zstd::bulk::compress(chunk, LEVEL)?;
        let (digest, size) = (Digest::of(&packed), packed.len() as u64);
        self.chunks.push(ChunkEntry { digest: digest.clone(), size, length: chunk.len() as u64 });
        match self.place {
            Place::Layout(layout) => drop(layout.put_blob(&packed)?),
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
