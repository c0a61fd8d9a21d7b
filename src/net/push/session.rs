//! One upload session: where it is, how much of the blob is there, how it goes on (distribution-spec, "Pushing a blob in
//! chunks").

use super::plan::Blob;
use crate::net::failure::{NetError, NetResult};
use crate::net::http::{Answer, Part, Payload};
use crate::net::registry::{Registry, whom};
use crate::net::url::{Url, encoded};
use crate::net::wish::{Access, Path, Wish};
use crate::oci::Reference;
use std::fs::File;

/// A session that a registry opened.
#[derive(Debug)]
pub(super) struct Session {
    location: Url,
    /// Bytes that the registry has.
    pub(super) offset: u64,
    /// `OCI-Chunk-Min-Length`.
    pub(super) min_chunk: u64,
    /// An earlier process opened it: who knows what it sent.
    pub(super) resumed: bool,
}

/// What opening a session gave.
pub(super) enum Opened {
    /// The blob came from another repository.
    Mounted,
    Session(Session),
    /// The registry does not want it.
    Refused(Box<Answer>),
}

impl Session {
    /// One that an earlier process left; [`Self::refresh`] says how much arrived.
    pub(super) fn left(location: Url, min_chunk: u64) -> Self {
        Self { location, offset: 0, min_chunk, resumed: true }
    }

    /// Where it goes on.
    pub(super) fn location(&self) -> &Url {
        &self.location
    }

    /// Asks for a session, or for the blob of another repository `from`.
    pub(super) fn open(
        registry: &Registry,
        target: &Reference,
        blob: &Blob,
        from: Option<&str>,
    ) -> NetResult<Opened> {
        let path = match from {
            Some(from) => format!("blobs/uploads/?mount={}&from={}", blob.digest, encoded(from)),
            None => "blobs/uploads/".to_owned(),
        };
        let wish = Wish {
            method: "POST",
            payload: Payload::Bytes(&[]),
            access: Access::Write { from },
            ..wish(target, Path::Below(&path))
        };
        let answer = registry.ask_origin(&wish)?;
        match answer.status {
            201 => Ok(Opened::Mounted),
            202 => {
                let location = location(&answer, target)?;
                let min_chunk = answer.header("oci-chunk-min-length");
                let min_chunk = min_chunk.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
                Ok(Opened::Session(Self { location, offset: 0, min_chunk, resumed: false }))
            }
            _ => Ok(Opened::Refused(Box::new(answer))),
        }
    }

    /// Sends everything and closes the session.
    pub(super) fn put_whole(
        &self,
        registry: &Registry,
        target: &Reference,
        blob: &Blob,
        file: &File,
    ) -> NetResult<Answer> {
        let payload = match blob.size {
            0 => Payload::Bytes(&[]),
            size => part(registry, file, 0, size),
        };
        self.put(registry, target, blob, payload)
    }

    /// Closes a session that has all bytes.
    pub(super) fn close(
        &self,
        registry: &Registry,
        target: &Reference,
        blob: &Blob,
    ) -> NetResult<Answer> {
        self.put(registry, target, blob, Payload::Bytes(&[]))
    }

    fn put(
        &self,
        registry: &Registry,
        target: &Reference,
        blob: &Blob,
        payload: Payload<'_>,
    ) -> NetResult<Answer> {
        let at = self.location.with_query(&format!("digest={}", encoded(blob.digest.as_str())));
        registry.ask_origin(&Wish {
            method: "PUT",
            headers: &[("content-type", "application/octet-stream")],
            payload,
            ..wish(target, Path::At(&at))
        })
    }

    /// Sends the next `size` bytes.
    pub(super) fn patch(
        &mut self,
        registry: &Registry,
        target: &Reference,
        file: &File,
        size: u64,
    ) -> NetResult<Answer> {
        let range = format!("{}-{}", self.offset, self.offset + size - 1);
        let answer = registry.ask_origin(&Wish {
            method: "PATCH",
            headers: &[("content-type", "application/octet-stream"), ("content-range", &range)],
            payload: part(registry, file, self.offset, size),
            ..wish(target, Path::At(&self.location))
        })?;
        if matches!(answer.status, 200..=204) {
            // A registry may keep less than what it was sent.
            let sent = self.offset + size;
            self.offset = received(&answer).filter(|seen| *seen <= sent).unwrap_or(sent);
            self.location = location(&answer, target)?;
        }
        Ok(answer)
    }

    /// Gives the session up, as far as the registry lets us.
    pub(super) fn cancel(&self, registry: &Registry, target: &Reference) {
        let wish = Wish { method: "DELETE", ..wish(target, Path::At(&self.location)) };
        // Registries forget sessions by themselves, and some have no DELETE.
        let _best_effort = registry.ask_origin(&wish);
    }

    /// Asks how much arrived; false when the session is gone or speaks of more than there is.
    pub(super) fn refresh(
        &mut self,
        registry: &Registry,
        target: &Reference,
        blob: &Blob,
    ) -> NetResult<bool> {
        let answer = registry
            .ask_origin(&Wish { method: "GET", ..wish(target, Path::At(&self.location)) })?;
        if !matches!(answer.status, 200 | 202 | 204) {
            return Ok(false);
        }
        let Some(seen) = received(&answer).filter(|seen| *seen <= blob.size) else {
            return Ok(false);
        };
        self.offset = seen;
        if answer.header("location").is_some() {
            self.location = location(&answer, target)?;
        }
        Ok(true)
    }
}

fn part<'a>(registry: &'a Registry, file: &'a File, at: u64, size: u64) -> Payload<'a> {
    Payload::File(Part { file, at, left: size, stopped: registry.stopped() })
}

fn wish<'a>(reference: &'a Reference, path: Path<'a>) -> Wish<'a> {
    Wish {
        reference,
        method: "GET",
        path,
        accept: &[],
        headers: &[],
        from: 0,
        payload: Payload::None,
        access: Access::Write { from: None },
    }
}

/// Where the session goes on: maybe relative, maybe on another host.
fn location(answer: &Answer, target: &Reference) -> NetResult<Url> {
    let text = answer.header("location");
    text.and_then(|text| answer.url.resolve(text)).ok_or_else(|| {
        NetError::broken(format!("{} names no usable address for an upload", whom(target)))
    })
}

/// Bytes that `Range: 0-N` speaks of. `0-0` means none: that one byte is there cannot be told from it.
fn received(answer: &Answer) -> Option<u64> {
    let text = answer.header("range")?.trim();
    let (from, to) = text.strip_prefix("bytes=").unwrap_or(text).split_once('-')?;
    let to: u64 = to.trim().parse().ok()?;
    (from.trim() == "0").then(|| if to == 0 { 0 } else { to.saturating_add(1) })
}
