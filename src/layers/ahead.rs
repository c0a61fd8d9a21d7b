//! Reading on a thread of its own: a layer is decompressed and hashed while what came before is put onto the tree.
//!
//! In: a reader; out: the same bytes, and their digest. Memory is bounded by a few chunks; whoever reads slowly makes the
//! thread wait, and it ends when nobody reads any more.

use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::oci::Digest;
use crate::oci::digest::HashingReader;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;

/// Bytes that are handed over at once.
const CHUNK: usize = 256 << 10;

/// Chunks that wait.
const WAITING: usize = 8;

/// Lets `take` read what `plain` gives, to whatever point it wants to. The rest is read, too; the digest is of all.
pub fn read_ahead<T>(
    plain: impl Read + Send,
    take: impl FnOnce(&mut dyn Read) -> Result<T>,
) -> Result<(T, Digest)> {
    thread::scope(|scope| {
        let (chunks, waiting) = sync_channel(WAITING);
        let (back, used) = channel();
        let thread = thread::Builder::new().name("unpack-ahead".to_owned());
        let reading = thread
            .spawn_scoped(scope, move || read_all(plain, &chunks, &used))
            .or_error(ErrorKind::Environment, || "cannot start a thread".to_owned())?;
        let mut ahead = Ahead { waiting, back, chunk: Vec::new(), at: 0 };
        let taken = take(&mut ahead)?;
        io::copy(&mut ahead, &mut io::sink())
            .or_error(ErrorKind::Integrity, || "its end cannot be read".to_owned())?;
        drop(ahead);
        let digest = reading.join().ok().flatten();
        let lost = || Error::internal("the thread that reads a layer stopped");
        Ok((taken, digest.ok_or_else(lost)?))
    })
}

type Chunk = io::Result<Vec<u8>>;

/// Hands over all there is; the digest, unless it could not be read or nobody wanted it.
fn read_all(
    plain: impl Read,
    chunks: &SyncSender<Chunk>,
    used: &Receiver<Vec<u8>>,
) -> Option<Digest> {
    let mut hashed = HashingReader::new(plain);
    loop {
        let mut chunk = used.try_recv().unwrap_or_else(|_| Vec::with_capacity(CHUNK));
        chunk.clear();
        match (&mut hashed).take(CHUNK as u64).read_to_end(&mut chunk) {
            Ok(0) => return Some(hashed.finish()),
            Ok(_) => chunks.send(Ok(chunk)).ok()?,
            Err(error) => {
                // What came before the error is of use to nobody.
                let _nobody_reads = chunks.send(Err(error));
                return None;
            }
        }
    }
}

/// The side that reads.
struct Ahead {
    waiting: Receiver<Chunk>,
    /// Chunks that can be filled again.
    back: std::sync::mpsc::Sender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            match self.waiting.recv() {
                Ok(chunk) => {
                    // The thread may have ended.
                    let _not_needed = self.back.send(std::mem::replace(&mut self.chunk, chunk?));
                    self.at = 0;
                }
                Err(_) => return Ok(0),
            }
        }
        let n = buffer.len().min(self.chunk.len() - self.at);
        buffer[..n].copy_from_slice(&self.chunk[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|at| (at * 7 % 251) as u8).collect()
    }

    #[test]
    fn what_is_read_is_what_is_there() {
        for count in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK, 40 * CHUNK + 3] {
            let all = bytes(count);
            let (read, digest) = read_ahead(&all[..], |reader| {
                let mut read = Vec::new();
                reader.read_to_end(&mut read).unwrap();
                Ok(read)
            })
            .unwrap();
            assert!(read == all, "{count}");
            assert_eq!(digest, Digest::of(&all), "{count}");
            // Whoever stops early gets the digest of all the same.
            let ((), digest) = read_ahead(&all[..], |_| Ok(())).unwrap();
            assert_eq!(digest, Digest::of(&all), "{count}");
        }
    }

    #[test]
    fn errors_of_both_sides_end_both() {
        struct Broken(usize);
        impl Read for Broken {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if self.0 == 0 {
                    return Err(io::Error::other("a broken disk"));
                }
                let n = buffer.len().min(self.0);
                self.0 -= n;
                Ok(n)
            }
        }
        let error = read_ahead(Broken(3 * CHUNK), |reader| {
            let read = reader.read_to_end(&mut Vec::new());
            read.or_error(ErrorKind::Integrity, || "cannot read".to_owned())
        });
        assert_eq!(error.unwrap_err().causes(), ["a broken disk"]);
        let error = read_ahead(Broken(usize::MAX), |reader| {
            reader.read_exact(&mut vec![0; 3 * CHUNK]).unwrap();
            Err::<(), _>(Error::integrity("no archive"))
        });
        assert_eq!(error.unwrap_err().message(), "no archive");
    }
}
