//! A blob's body as one stream, whatever happens to the connections that carry it.
//!
//! In: a name and a digest; out: bytes, not yet verified. A lost connection is taken up again at the byte where it
//! stopped, by a range where the server has ranges, else by passing over what is here already. A body that ends too early
//! counts as lost, too; only when the server has no more to give it is left to the verifier to say so.

use super::failure::{NetError, NetResult, io_text};
use super::http::Answer;
use super::registry::{Registry, whom};
use super::retry::{FEW_TRIES, Retry};
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
    /// Where the present connection leads.
    pub(super) url: Url,
    body: BodyReader<'static>,
    seen: u64,
    size: u64,
    retry: Retry,
    /// What was here when the last connection began that was not in vain.
    mark: u64,
    /// Bodies that ended where nothing was lost but bytes.
    short: u32,
}

impl<'a> Download<'a> {
    pub(super) fn start(
        registry: &'a Registry,
        reference: &'a Reference,
        digest: &'a Digest,
        size: u64,
    ) -> NetResult<Self> {
        let whom = whom(reference);
        let answer = registry.blob(reference, digest, 0)?;
        if answer.status != 200 {
            return Err(answer.refusal(&whom).wrap(format!("cannot get blob {digest}")));
        }
        let (url, body) = (answer.url.clone(), answer.into_body());
        let retry = Retry::new();
        Ok(Self {
            registry,
            reference,
            digest,
            whom,
            url,
            body,
            seen: 0,
            size,
            retry,
            mark: 0,
            short: 0,
        })
    }

    /// Connects anew at the byte after the last one seen.
    fn resume(&mut self, mut why: String) -> NetResult<()> {
        if self.seen >= self.mark + PROGRESS {
            self.mark = self.seen;
            self.retry.progress();
        }
        loop {
            let Some(wait) = self.retry.after_failure(Duration::ZERO) else {
                return Err(NetError::unreachable(&self.whom, "GET", &self.url, &why)
                    .wrap(format!("blob {} breaks off again and again", self.digest)));
            };
            self.registry.wait(&self.whom, &why, wait);
            let answer = self.registry.blob(self.reference, self.digest, self.seen)?;
            if answer.status == 416 {
                // Nothing comes after this.
                self.short = FEW_TRIES;
                return Ok(());
            }
            // A server without ranges starts over.
            let skip = if answer.status == 200 { self.seen } else { 0 };
            if answer.status == 206 && !starts_at(&answer, self.seen) {
                let message = format!(
                    "{} sends another part of blob {} than was asked for",
                    self.whom, self.digest
                );
                return Err(NetError::broken(message));
            }
            if !matches!(answer.status, 200 | 206) {
                return Err(answer.refusal(&self.whom));
            }
            self.url = answer.url.clone();
            let mut body = answer.into_body();
            match io::copy(&mut body.by_ref().take(skip), &mut io::sink()) {
                Ok(_) => {
                    self.body = body;
                    return Ok(());
                }
                Err(error) => why = io_text(&error),
            }
        }
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
            if self.short >= FEW_TRIES {
                return Ok(0);
            }
            match self.body.read(buf) {
                Ok(0) if self.seen < self.size && !buf.is_empty() => {
                    self.short += 1;
                    if self.short < FEW_TRIES {
                        self.resume("the body is too short".to_owned())?;
                    }
                }
                Ok(n) => {
                    self.seen += n as u64;
                    return Ok(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // All is here; only the end of the message was lost.
                Err(_) if self.seen == self.size => return Ok(0),
                Err(error) => self.resume(io_text(&error))?,
            }
        }
    }
}
