//! A blob's body as one stream, whatever happens to the connections that carry it.
//!
//! In: a name and a digest; out: bytes, not yet verified. A lost connection is taken up again at the byte where it
//! stopped, by a range where the server has ranges, else by passing over what is here already. A body that ends too early
//! counts as lost, too; only when the server has no more to give it is left to the verifier to say so.

use super::failure::{NetError, NetResult, io_text};
use super::http::Answer;
use super::registry::{Registry, whom};
use super::retry::{FEW_TRIES, Retry, TRIES};
use super::url::Url;
use crate::oci::{Digest, Reference};
use std::io::{self, Read};
use std::time::Duration;
use ureq::BodyReader;

/// A connection that brought so many bytes was not in vain.
const PROGRESS: u64 = 256 << 10;

/// A blob's body that asks for the rest when its connection is lost.
pub(super) struct Download<'a> {
    registry: &'a Registry,
    reference: &'a Reference,
    digest: &'a Digest,
    pub(super) whom: String,
    opened: Opened,
    seen: u64,
    size: u64,
    retry: Retry,
    /// What was here when the last connection began that was not in vain.
    mark: u64,
    /// Bodies that ended where nothing was lost but bytes.
    short: u32,
}

/// A connection that brings a part of the blob.
struct Opened {
    /// Where it leads.
    url: Url,
    /// `None` when nothing comes any more.
    body: Option<BodyReader<'static>>,
    /// Bytes before the part that is wanted.
    skip: u64,
}

impl<'a> Download<'a> {
    /// The blob from byte `from` on.
    pub(super) fn start(
        registry: &'a Registry,
        reference: &'a Reference,
        digest: &'a Digest,
        size: u64,
        from: u64,
    ) -> NetResult<Self> {
        let opened = open(registry, reference, digest, from)?;
        let (whom, retry) = (whom(reference), registry.retry(TRIES));
        let download = Self {
            registry,
            reference,
            digest,
            whom,
            opened,
            seen: from,
            size,
            retry,
            mark: from,
            short: 0,
        };
        Ok(download)
    }

    /// Where the present connection leads.
    pub(super) fn url(&self) -> &Url {
        &self.opened.url
    }

    /// Connects anew at the byte after the last one seen.
    fn resume(&mut self, why: &str) -> NetResult<()> {
        if self.seen >= self.mark + PROGRESS {
            self.mark = self.seen;
            self.retry.progress();
        }
        let Some(wait) = self.retry.after_failure(Duration::ZERO) else {
            return Err(NetError::unreachable(&self.whom, "GET", self.url(), why)
                .wrap(format!("blob {} breaks off again and again", self.digest)));
        };
        self.registry.wait(&self.whom, why, wait);
        self.opened = open(self.registry, self.reference, self.digest, self.seen)?;
        Ok(())
    }
}

fn open(
    registry: &Registry,
    reference: &Reference,
    digest: &Digest,
    from: u64,
) -> NetResult<Opened> {
    let answer = registry.blob(reference, digest, from)?;
    let url = answer.url.clone();
    match answer.status {
        200 => Ok(Opened { url, body: Some(answer.into_body()), skip: from }),
        206 if from > 0 && starts_at(&answer, from) => {
            Ok(Opened { url, body: Some(answer.into_body()), skip: 0 })
        }
        206 => {
            let whom = whom(reference);
            let message = format!("{whom} sends another part of blob {digest} than was asked for");
            Err(NetError::broken(message))
        }
        416 if from > 0 => Ok(Opened { url, body: None, skip: 0 }),
        _ => Err(answer.refusal(&whom(reference)).wrap(format!("cannot get blob {digest}"))),
    }
}

fn starts_at(answer: &Answer, start: u64) -> bool {
    answer
        .header("content-range")
        .and_then(|text| text.trim().strip_prefix("bytes "))
        .and_then(|text| text.split_once('-'))
        .is_some_and(|(from, _)| from.trim().parse() == Ok(start))
}

impl Read for Download<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(body) = &mut self.opened.body else { return Ok(0) };
            match body.read(buf) {
                Ok(0) if self.seen < self.size && !buf.is_empty() => {
                    self.short += 1;
                    if self.short >= FEW_TRIES {
                        self.opened.body = None;
                    } else {
                        self.resume("the body is too short")?;
                    }
                }
                // A server without ranges starts over.
                Ok(n) if n > 0 && self.opened.skip > 0 => {
                    let passed = self.opened.skip.min(n as u64) as usize;
                    self.opened.skip -= passed as u64;
                    if passed < n {
                        buf.copy_within(passed..n, 0);
                        self.seen += (n - passed) as u64;
                        return Ok(n - passed);
                    }
                }
                Ok(n) => {
                    self.seen += n as u64;
                    return Ok(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // All is here; only the end of the message was lost.
                Err(_) if self.seen == self.size => return Ok(0),
                Err(error) => {
                    let why = io_text(&error);
                    let lost = NetError::from_read(error, &self.whom, &self.opened.url);
                    if self.registry.gives_up(&self.opened.url, &lost) {
                        return Err(lost.into());
                    }
                    self.resume(&why)?;
                }
            }
        }
    }
}
