//! A cache mount's directory out of a shared cache: chunks in their order, verified one by one, unpacked as they come.

use super::pack::{CHUNK, mount_key};
use super::record::{ChunkEntry, MountEntry};
use super::source::{Lost, Source};
use crate::build::store::Store;
use crate::build::tree::devices;
use crate::build::worker::Worker;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::layers::apply::{ApplyOptions, apply};
use crate::layers::tar_read::Limits;
use crate::oci::Digest;
use crate::oci::layout::Layout;
use crate::oci::spec::descriptor;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, sync_channel};

/// Chunks fetched before they are wanted.
const AHEAD: usize = 2;

/// What a directory may have before the ratio is looked at, as in layers.
const RATIO_FLOOR: u64 = 4 << 30;

/// What an import has for a mount.
pub(super) fn of_mount<'m>(mounts: &'m [MountEntry], id: &str) -> Option<&'m MountEntry> {
    let key = mount_key(id);
    mounts.iter().find(|entry| entry.mount == key)
}

/// Fills an empty directory. What is in it after a failure is of no use.
pub(super) fn unpack(
    entry: &MountEntry,
    source: &Source<'_>,
    root: BorrowedFd<'_>,
    worker: &Worker,
    store: &Store,
) -> std::result::Result<(), Lost> {
    check_ratio(entry)?;
    let temporary = tempfile::Builder::new()
        .prefix("chunks-")
        .tempdir_in(store.sub("tmp"))
        .or_error(ErrorKind::Environment, || "cannot write into the store".to_owned())?;
    let here = Layout::create(temporary.path())?;
    let (sender, chunks) = sync_channel(AHEAD);
    std::thread::scope(|scope| {
        let fetching = scope.spawn(move || {
            for chunk in &entry.chunks {
                let (came, lost) = match fetch(chunk, source, &here) {
                    Ok(bytes) => (Ok(bytes), None),
                    Err(lost) => (Err(lost.error.clone()), Some(lost)),
                };
                // Nobody takes it any more: the other side has failed.
                if sender.send(came).is_err() || lost.is_some() {
                    return lost;
                }
            }
            None
        });
        let mut tar = Chunks { chunks, current: io::Cursor::default() };
        let unpacked =
            apply(&mut tar, root, &ApplyOptions::archive(devices(worker))).and_then(|_| {
                let rest = io::copy(&mut tar, &mut io::sink());
                rest.or_error(ErrorKind::Integrity, || "cannot read its end".to_owned())
            });
        drop(tar);
        match (fetching.join(), unpacked) {
            (Ok(None), Ok(_)) => Ok(()),
            (Ok(Some(lost)), _) => Err(lost),
            (_, Err(error)) => Err(error.into()),
            (Err(_), Ok(_)) => Err(Error::internal("a thread that fetched chunks panicked").into()),
        }
    })
}

/// Refuses a directory that is much larger than what came: chunks may be listed any number of times.
fn check_ratio(entry: &MountEntry) -> Result<()> {
    let ratio = Limits::default().ratio;
    let plain: u64 = entry.chunks.iter().map(|chunk| chunk.length).sum();
    let packed: BTreeMap<&Digest, u64> =
        entry.chunks.iter().map(|chunk| (&chunk.digest, chunk.size)).collect();
    if plain <= RATIO_FLOOR.max(packed.values().sum::<u64>().saturating_mul(ratio)) {
        return Ok(());
    }
    Err(Error::integrity(format!("its chunks expand more than {ratio} times")))
}

/// One chunk as it was before it was packed.
fn fetch(
    chunk: &ChunkEntry,
    source: &Source<'_>,
    here: &Layout,
) -> std::result::Result<Vec<u8>, Lost> {
    let blob = descriptor(CHUNK.into(), &chunk.digest, chunk.size);
    source.bring(&blob, here)?;
    let packed = here.read_blob_small(&blob)?;
    here.remove_blob(&chunk.digest)?;
    Ok(unpacked(chunk, &packed)?)
}

fn unpacked(chunk: &ChunkEntry, packed: &[u8]) -> Result<Vec<u8>> {
    let wrong = || Error::integrity(format!("chunk {} is not what it should be", chunk.digest));
    let length = usize::try_from(chunk.length).map_err(|_| wrong())?;
    let plain = zstd::bulk::decompress(packed, length).map_err(|error| wrong().cause(error))?;
    if plain.len() == length { Ok(plain) } else { Err(wrong()) }
}

/// Chunks as one stream.
struct Chunks {
    chunks: Receiver<Result<Vec<u8>>>,
    current: io::Cursor<Vec<u8>>,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.current.read(buffer)?;
            if n > 0 || buffer.is_empty() {
                return Ok(n);
            }
            match self.chunks.recv() {
                Ok(chunk) => self.current = io::Cursor::new(chunk?),
                Err(_) => return Ok(0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_that_is_listed_without_end_is_a_bomb() {
        let chunk = |number: u32| ChunkEntry {
            digest: Digest::of(&number.to_le_bytes()),
            size: 200,
            length: 4 << 20,
        };
        let of = |chunks| MountEntry { mount: Digest::of(b"mount"), chunks };
        check_ratio(&of(vec![chunk(0); 1024])).unwrap();
        let error = check_ratio(&of(vec![chunk(0); 1025])).unwrap_err();
        assert_eq!(error.to_string(), "its chunks expand more than 500 times");
        let large = |number| ChunkEntry { size: 1 << 20, ..chunk(number) };
        check_ratio(&of((0..20_000).map(large).collect())).unwrap();
    }
}
