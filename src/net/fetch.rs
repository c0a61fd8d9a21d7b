//! Single files behind a URL, for ADD and build contexts (dockerfile.md §1.7.17).
//!
//! In: an address, what was known of it, and who may say who we are; out: the same as known, or a body that is taken up
//! again where a connection is lost. The user wrote the address, so plain http is fine. Nothing is verified here: there is
//! nothing to verify against, unless the caller has a checksum.

use super::config::NetConfig;
use super::failure::{NetError, NetResult, Trouble, io_text};
use super::http::{Answer, Ask, Http, Plain};
use super::retry::Retry;
use super::url::Url;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use std::time::Duration;
use ureq::BodyReader;

/// What a server says of a file besides its content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    /// ETag.
    pub etag: Option<String>,
    /// Last-Modified, as sent.
    pub last_modified: Option<String>,
}

impl Validators {
    /// Last-Modified in seconds since 1970.
    pub fn modified(&self) -> Option<i64> {
        let text = self.last_modified.as_deref()?;
        let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        Some(time.as_second())
    }
}

/// A client for files.
#[derive(Debug)]
pub struct Fetcher {
    http: Http,
}

/// What came.
#[derive(Debug)]
pub enum Fetched<'a> {
    /// It is what it was.
    Unchanged,
    /// Its body, and what is known of it now.
    New(Box<Body<'a>>, Validators),
}

impl Fetcher {
    /// Fails only on settings that cannot be used.
    pub fn new(config: &NetConfig) -> Result<Self> {
        // What holds for a registry's host does not hold for a file that happens to be there.
        let mut config = config.clone();
        config.certificates.hosts.clear();
        config.certificates.every_host.clear();
        Ok(Self { http: Http::new(&config)? })
    }

    /// Asks for a file. `known` is what an earlier answer said; `authorization` goes to the address's own host only.
    pub fn get(
        &self,
        url: &str,
        known: Option<&Validators>,
        authorization: Option<&str>,
    ) -> NetResult<Fetched<'_>> {
        let parsed = Url::parse(url).ok_or_else(|| {
            let error = Error::dockerfile(format!("`{url}` is no address of a file"));
            NetError::new(Trouble::Local, error.hint("an address has a host and no user name"))
        })?;
        let whom = format!("`{}`", parsed.host());
        let mut body = Body {
            fetcher: self,
            whom,
            url: parsed,
            authorization: authorization.map(str::to_owned),
            validators: Validators::default(),
            reader: None,
            seen: 0,
            length: None,
            retry: Retry::new(),
        };
        let answer = body.ask(known)?;
        if answer.status == 304 && known.is_some() {
            return Ok(Fetched::Unchanged);
        }
        if answer.status != 200 {
            return Err(answer.refusal(&body.whom).wrap(format!("cannot get {}", body.url)));
        }
        let text = |name: &str| answer.header(name).map(str::to_owned);
        let validators = Validators { etag: text("etag"), last_modified: text("last-modified") };
        body.validators = validators.clone();
        body.length = text("content-length").and_then(|text| text.trim().parse().ok());
        body.reader = Some(answer.into_body());
        Ok(Fetched::New(Box::new(body), validators))
    }
}

/// The body of a file.
pub struct Body<'a> {
    fetcher: &'a Fetcher,
    whom: String,
    url: Url,
    authorization: Option<String>,
    validators: Validators,
    reader: Option<BodyReader<'static>>,
    seen: u64,
    length: Option<u64>,
    retry: Retry,
}

impl std::fmt::Debug for Body<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Body<'_> {
    fn ask(&self, known: Option<&Validators>) -> NetResult<Answer> {
        let mut headers = Vec::new();
        if let Some(known) = known {
            // A strong mark says more than a time; servers that have one ignore the other.
            headers.extend(known.etag.as_ref().map(|etag| ("if-none-match", etag.as_str())));
            if known.etag.is_none() {
                let time = known.last_modified.as_ref();
                headers.extend(time.map(|time| ("if-modified-since", time.as_str())));
            }
        }
        if self.seen > 0 {
            // Without it a file that changed meanwhile would be sewn together from two.
            let mark = self.validators.etag.as_ref().or(self.validators.last_modified.as_ref());
            headers.extend(mark.map(|mark| ("if-range", mark.as_str())));
        }
        self.fetcher.http.send(&Ask {
            whom: &self.whom,
            method: "GET",
            url: self.url.clone(),
            accept: &[],
            headers: &headers,
            from: self.seen,
            payload: super::http::Payload::None,
            authorization: self.authorization.as_deref(),
            plain: Plain::Anywhere,
        })
    }

    /// Connects anew at the byte after the last one seen.
    fn resume(&mut self, why: &io::Error) -> NetResult<()> {
        let why = io_text(why);
        let marked = self.validators.etag.is_some() || self.validators.last_modified.is_some();
        match self.retry.after_failure(Duration::ZERO).filter(|_| marked) {
            Some(wait) => self.fetcher.http.wait(&self.whom, &why, wait),
            None => return Err(NetError::unreachable(&self.whom, "GET", &self.url, &why)),
        }
        let answer = self.ask(None)?;
        match answer.status {
            206 => {
                self.reader = Some(answer.into_body());
                Ok(())
            }
            200 => Err(NetError::broken(format!("{} changed while it was fetched", self.url))),
            _ => Err(answer.refusal(&self.whom)),
        }
    }
}

impl Read for Body<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(reader) = &mut self.reader else { return Ok(0) };
            match reader.read(buf) {
                Ok(n) => {
                    self.seen += n as u64;
                    return Ok(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if self.length == Some(self.seen) => return Ok(0),
                Err(error) => self.resume(&error)?,
            }
        }
    }
}
