//! One blob into a layout: the rest of it, where an earlier download was cut off, and once more when it came damaged.

use super::download::Download;
use super::failure::{NetError, NetResult, Trouble};
use super::registry::{Registry, whom};
use super::retry::FEW_TRIES;
use crate::error::{Error, ErrorKind, ResultExt};
use crate::oci::beside::{BUFFER, Beside};
use crate::oci::digest::Promise;
use crate::oci::layout::{BlobWriter, Layout};
use crate::oci::{Digest, Reference};
use crate::sys::writeback::{self, PART};
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What is smaller is not worth going on with.
const KEPT: u64 = 256 << 10;

/// A blob of a repository.
pub(super) struct Source<'a> {
    pub(super) registry: &'a Registry,
    pub(super) reference: &'a Reference,
    pub(super) digest: &'a Digest,
    /// Bytes.
    pub(super) size: u64,
    /// Set when nobody wants it any more.
    pub(super) over: &'a AtomicBool,
}

impl Source<'_> {
    /// Fetches the blob, again when it was damaged on the way.
    pub(super) fn store(&self, layout: &Layout) -> NetResult<()> {
        let mut retry = self.registry.retry(FEW_TRIES);
        loop {
            let error = match self.fetch(layout) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            match retry.after_failure(Duration::ZERO).filter(|_| error.is_damage()) {
                Some(wait) => {
                    self.registry.wait(&whom(self.reference), "the blob came damaged", wait);
                }
                None => return Err(error),
            }
        }
    }

    /// Fails once it is not wanted any more.
    fn check(&self) -> NetResult<()> {
        if self.over.load(Ordering::Relaxed) {
            return Err(NetError::stopped());
        }
        self.registry.http.check()
    }

    fn fetch(&self, layout: &Layout) -> NetResult<()> {
        self.check()?;
        let mut blob = self.writer(layout).map_err(local)?;
        let here = blob.size();
        let old = if here > 0 { Some(blob.written().map_err(local)?) } else { None };
        match self.fill(&mut blob, old) {
            Ok(()) => blob.commit(self.digest).map_err(local),
            Err(error) => {
                // Only bytes that came from a lost connection are worth to go on with.
                if error.trouble() != Trouble::Unreachable || blob.size() == 0 {
                    blob.discard();
                }
                Err(error)
            }
        }
    }

    /// Goes on with what there is of a large blob, unless somebody else does.
    fn writer(&self, layout: &Layout) -> Result<BlobWriter, Error> {
        if self.size >= KEPT
            && let Some(kept) = layout.partial_writer(self.digest)?
        {
            if kept.size() <= self.size {
                return Ok(kept);
            }
            kept.discard();
        }
        // Hashed on the way in, so the writer need not do it again.
        Ok(layout.blob_writer()?.trusted())
    }

    /// Reads what is there and fetches the rest; all of it together is what is verified.
    fn fill(&self, blob: &mut BlobWriter, old: Option<impl Read>) -> NetResult<()> {
        let here = blob.size();
        let mut download = if here == self.size && here > 0 {
            None
        } else {
            let (registry, reference) = (self.registry, self.reference);
            Some(Download::start(registry, reference, self.digest, self.size, here)?)
        };
        let mut rest: Box<dyn Read + '_> = match &mut download {
            Some(download) => Box::new(download),
            None => Box::new(io::empty()),
        };
        let old: Box<dyn Read + '_> = match old {
            Some(old) => Box::new(old.take(here)),
            None => Box::new(io::empty()),
        };
        match self.copy(&mut old.chain(&mut rest), here, blob)? {
            Ok(()) => Ok(()),
            Err(error) => {
                drop(rest);
                Err(self.failure(error, download.as_ref()))
            }
        }
    }

    /// Hashes all of `body` and writes what is behind its first `here` bytes. The inner error is one of the body: it
    /// could not be read, or is not what was promised.
    fn copy(
        &self,
        body: &mut dyn Read,
        here: u64,
        blob: &mut BlobWriter,
    ) -> NetResult<io::Result<()>> {
        let promise = Promise::new(self.digest.clone(), self.size);
        // A little room behind the last byte, so that its end is seen by the read that is for it.
        let length = usize::try_from(self.size).unwrap_or(BUFFER).saturating_add(1).min(BUFFER);
        let (mut hash, mut seen) = (Beside::new(), 0);
        let (mut buffer, mut filled) = (vec![0; length], 0);
        let mut begun = blob.size();
        loop {
            // Also while it is only read what is here already.
            self.check()?;
            let n = match body.read(&mut buffer[filled..]) {
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Err(error)),
            };
            if n == 0 {
                let found = || hash.finish(&buffer[..filled]);
                return Ok(promise.check_end(seen, found).map_err(io::Error::from));
            }
            let known = usize::try_from(here.saturating_sub(seen)).unwrap_or(usize::MAX).min(n);
            seen += n as u64;
            if let Err(error) = promise.check_so_far(seen) {
                return Ok(Err(error.into()));
            }
            blob.write_all(&buffer[filled + known..filled + n])
                .or_error(ErrorKind::Environment, || format!("cannot store blob {}", self.digest))
                .map_err(local)?;
            // The sync at the end of a pull then has little left.
            if blob.size() - begun >= PART {
                writeback::begin(blob.as_file(), begun, blob.size() - begun);
                begun = blob.size();
            }
            filled += n;
            // A small rest of a buffer would cost a read of its own.
            let room = length - filled;
            if room == 0 || (length == BUFFER && room < BUFFER / 4 && seen < self.size) {
                buffer = hash.add(buffer, filled);
                filled = 0;
            }
        }
    }

    fn failure(&self, error: io::Error, download: Option<&Download<'_>>) -> NetError {
        match download {
            Some(download) => NetError::from_read(error, &download.whom, download.url()),
            None => match error.downcast::<Error>() {
                Ok(ours) => NetError::new(Trouble::Broken, ours),
                Err(error) => {
                    let message = format!("cannot read what is here of blob {}", self.digest);
                    local(Error::environment(message).cause(error))
                }
            },
        }
    }
}

fn local(error: Error) -> NetError {
    NetError::new(Trouble::Local, error)
}
