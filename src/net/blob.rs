//! One blob into a layout: the rest of it, where an earlier download was cut off, and once more when it came damaged.

use super::download::Download;
use super::failure::{NetError, NetResult, Trouble};
use super::registry::{Registry, whom};
use super::retry::{FEW_TRIES, Retry};
use crate::error::{Error, ErrorKind, ResultExt};
use crate::oci::digest::VerifyingReader;
use crate::oci::layout::{BlobWriter, Layout};
use crate::oci::{Digest, Reference};
use std::io::{self, Read, Write};
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
}

impl Source<'_> {
    /// Fetches the blob, again when it was damaged on the way.
    pub(super) fn store(&self, layout: &Layout) -> NetResult<()> {
        let mut retry = Retry::at_most(FEW_TRIES);
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

    fn fetch(&self, layout: &Layout) -> NetResult<()> {
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
        let mut body = VerifyingReader::new(old.chain(&mut rest), self.digest.clone(), self.size);
        let (mut buffer, mut seen) = (vec![0_u8; 128 << 10], 0);
        loop {
            let n = match body.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(error) => {
                    drop(body);
                    drop(rest);
                    return Err(self.failure(error, download.as_ref()));
                }
            };
            let known = usize::try_from(here.saturating_sub(seen)).unwrap_or(usize::MAX).min(n);
            blob.write_all(&buffer[known..n])
                .or_error(ErrorKind::Environment, || format!("cannot store blob {}", self.digest))
                .map_err(local)?;
            seen += n as u64;
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
