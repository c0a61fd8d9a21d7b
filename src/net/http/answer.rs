//! A final answer, and what it says besides its body.

use crate::net::failure::{NetError, registry_words, unknown_blobs};
use crate::net::patience::Timely;
use crate::net::url::Url;
use std::io::Read;
use std::time::{Duration, SystemTime};
use ureq::http::{HeaderMap, Response};
use ureq::{Body, BodyReader};

/// Longest wait that a server can talk us into.
const MAX_WAIT: Duration = Duration::from_mins(1);
/// Error bodies are read this far.
const MAX_WORDS: u64 = 64 << 10;
/// And no longer.
const WORDS: Duration = Duration::from_secs(10);

/// A final answer: anything but a redirect.
pub(in crate::net) struct Answer {
    /// Where it came from, after redirects.
    pub(in crate::net) url: Url,
    pub(in crate::net) status: u16,
    method: &'static str,
    headers: HeaderMap,
    body: BodyReader<'static>,
    /// Where the login is from that was not enough, or that there is none.
    pub(in crate::net) login: Option<String>,
}

impl Answer {
    pub(super) fn new(url: Url, method: &'static str, response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        Self {
            url,
            status: parts.status.as_u16(),
            method,
            headers: parts.headers,
            body: body.into_reader(),
            login: None,
        }
    }

    /// A header's first value; `None` when it is missing or not text.
    pub(in crate::net) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// All values of a header that are text.
    pub(in crate::net) fn headers<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok())
    }

    /// The body, as long as the server likes to send.
    pub(in crate::net) fn into_body(self) -> BodyReader<'static> {
        self.body
    }

    /// This answer as a failure, with the server's own words.
    pub(in crate::net) fn refusal(self, whom: &str) -> NetError {
        let mut words = Vec::new();
        // What could be read is enough; the words are only a courtesy.
        let _ignored = Timely::new(self.body.take(MAX_WORDS), WORDS).read_to_end(&mut words);
        let (unknown, words) = (unknown_blobs(&words), registry_words(&words));
        let error = NetError::status(whom, self.method, &self.url, self.status, &words);
        let error = error.unknown(unknown);
        self.login.into_iter().fold(error, NetError::cause)
    }

    /// Another attempt may do better, after a while.
    pub(in crate::net) fn is_worth_waiting_for(&self) -> bool {
        matches!(self.status, 408 | 429 | 500 | 502 | 503 | 504)
    }

    /// What the server asks to wait for, within reason: seconds or a date.
    pub(in crate::net) fn retry_after(&self) -> Duration {
        let Some(text) = self.header("retry-after").map(str::trim) else { return Duration::ZERO };
        let seconds = text.parse().ok().or_else(|| {
            let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            let now = SystemTime::UNIX_EPOCH.elapsed().ok()?.as_secs();
            Some(u64::try_from(date.as_second()).ok()?.saturating_sub(now))
        });
        Duration::from_secs(seconds.unwrap_or(0)).min(MAX_WAIT)
    }
}
