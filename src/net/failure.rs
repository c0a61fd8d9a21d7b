//! What went wrong with a registry, in kinds that a caller can act on, and as text.

use super::url::Url;
use crate::error::{Error, ErrorKind};
use crate::oci::{Digest, Reference, spec};
use serde::Deserialize;
use std::{fmt, io};

/// Result of a registry operation.
pub type NetResult<T> = Result<T, NetError>;

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No answer, or only "not now" (5xx, too many requests): what is stored may be used instead.
    Unreachable,
    /// The registry has no such name, digest or platform.
    NotFound,
    /// The registry wants to know who is asking, or says no.
    Refused,
    /// What came is not what was promised, or not the protocol.
    Broken,
    /// The fault is on this side: disk, settings.
    Local,
    /// Nobody was asked: [`super::NetConfig::offline`].
    Offline,
}

/// A failure with its kind.
#[derive(Clone)]
pub struct NetError {
    trouble: Trouble,
    error: Error,
    silence: bool,
    unknown: Option<Vec<Digest>>,
}

impl NetError {
    pub(super) fn new(trouble: Trouble, error: Error) -> Self {
        Self { trouble, error, silence: false, unknown: None }
    }

    /// Says whether it is that nothing came in time.
    pub(super) fn silence(self, silence: bool) -> Self {
        Self { silence, ..self }
    }

    /// Whether it is that nothing came in time.
    pub(super) fn is_silence(&self) -> bool {
        self.silence
    }

    /// Says which blobs the registry misses.
    pub(super) fn unknown(self, unknown: Option<Vec<Digest>>) -> Self {
        Self { unknown, ..self }
    }

    /// The blobs below a manifest that the registry says it does not have, as far as it names them; `None` when it is
    /// something else that it does not like.
    pub fn unknown_blobs(&self) -> Option<&[Digest]> {
        self.unknown.as_deref()
    }

    /// Content that is not as promised.
    pub(super) fn broken(message: impl Into<String>) -> Self {
        Self::new(Trouble::Broken, Error::integrity(message))
    }

    /// No answer to `method url` from `whom`.
    pub(super) fn unreachable(whom: &str, method: &str, url: &Url, why: &str) -> Self {
        let error = Error::registry(format!("{whom} cannot be reached"))
            .cause(format!("{method} {url}: {why}"))
            .hint("check the name of the registry, the network and the proxy settings");
        Self::new(Trouble::Unreachable, error)
    }

    /// Signatures were asked for, by what `asked` names.
    pub(super) fn unsigned(asked: &str) -> Self {
        Self::new(Trouble::Local, unsigned(asked))
    }

    /// A request that was ended or not sent, since the client was stopped. What came of a blob until then is worth keeping.
    pub(super) fn stopped() -> Self {
        Self::new(Trouble::Unreachable, Error::new(ErrorKind::Interrupted(0), "it was stopped"))
    }

    /// A request that was not sent, since this side stays offline.
    pub(super) fn offline(whom: &str, method: &str, url: &Url) -> Self {
        let error = Error::registry(format!("{whom} is not asked: this is offline"))
            .cause(format!("{method} {url} was not sent"))
            .hint(
                "leave `--offline` and NATIVEBUILD_OFFLINE out, or bring it here: docs/offline.md",
            );
        Self::new(Trouble::Offline, error)
    }

    /// A push that was not begun, for the same reason.
    pub(super) fn offline_push(target: &Reference) -> Self {
        let error = Error::registry(format!("cannot push `{target}`"))
            .cause("this is offline")
            .hint("leave `--offline` and NATIVEBUILD_OFFLINE out, or write a file that can be carried to the registry: `image save`");
        Self::new(Trouble::Offline, error)
    }

    /// A status that is not success.
    pub(super) fn status(whom: &str, method: &str, url: &Url, status: u16, said: &str) -> Self {
        let (trouble, kind, message, hint) = match status {
            404 => (
                Trouble::NotFound,
                ErrorKind::Image,
                format!("{whom} does not have it"),
                Some("check the name and the tag for typing errors"),
            ),
            401 | 403 => (
                Trouble::Refused,
                ErrorKind::Registry,
                format!("{whom} refuses access"),
                Some(
                    "the repository may not exist, or it needs another login: `nativebuild login`, or `--registry-creds`",
                ),
            ),
            429 => (
                Trouble::Unreachable,
                ErrorKind::Registry,
                format!("{whom} has had too many requests"),
                Some("try again later, or use a mirror"),
            ),
            408 | 500.. => (
                Trouble::Unreachable,
                ErrorKind::Registry,
                format!("{whom} has a problem of its own"),
                Some("try again later"),
            ),
            _ => {
                let message = format!("{whom} gave an answer that makes no sense here");
                (Trouble::Broken, ErrorKind::Registry, message, None)
            }
        };
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        let error =
            Error::new(kind, message).cause(format!("{method} {url}: status {status}{said}"));
        Self::new(trouble, hint.into_iter().fold(error, Error::hint))
    }

    /// Adds a cause.
    pub(super) fn cause(self, cause: impl fmt::Display) -> Self {
        Self { error: self.error.cause(cause), ..self }
    }

    /// Kind.
    pub fn trouble(&self) -> Trouble {
        self.trouble
    }

    /// The error to show.
    pub fn into_error(self) -> Error {
        self.error
    }

    /// The error to show.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// What came was the right thing with wrong bytes: another copy may be better.
    pub(super) fn is_damage(&self) -> bool {
        self.trouble == Trouble::Broken && self.error.kind() == ErrorKind::Integrity
    }

    /// Puts what was being done in front.
    pub(super) fn wrap(self, message: impl Into<String>) -> Self {
        Self { error: self.error.wrap(message), ..self }
    }

    /// The failure inside an `io::Error` that came through a reader of this room, while reading `url`.
    pub(super) fn from_read(error: io::Error, whom: &str, url: &Url) -> Self {
        match error.downcast::<NetError>() {
            Ok(ours) => ours,
            Err(error) => match error.downcast::<Error>() {
                Ok(ours) => Self::new(Trouble::Broken, ours.cause(format!("GET {url}"))),
                Err(error) if is_timeout(&error) => {
                    Self::unreachable(whom, "GET", url, "the answer does not come to its end")
                        .silence(true)
                }
                Err(error) => Self::unreachable(whom, "GET", url, &io_text(&error)),
            },
        }
    }
}

impl From<NetError> for Error {
    fn from(error: NetError) -> Self {
        error.error
    }
}

impl From<NetError> for io::Error {
    fn from(error: NetError) -> Self {
        io::Error::other(error)
    }
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl fmt::Debug for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {:?}", self.trouble, self.error)
    }
}

impl std::error::Error for NetError {}

/// The error where signatures are asked for, by what `asked` names: they are neither made nor checked yet.
pub fn unsigned(asked: &str) -> Error {
    let message = "signing is not available yet; --disable-content-trust goes on without it";
    Error::environment(message).cause(format!("{asked} asks for signatures"))
}

/// Whether nothing came in time.
fn is_timeout(error: &io::Error) -> bool {
    let below = error.get_ref().and_then(|below| below.downcast_ref::<ureq::Error>());
    error.kind() == io::ErrorKind::TimedOut || matches!(below, Some(ureq::Error::Timeout(_)))
}

/// Why a connection failed, as one lowercase fragment.
pub(super) fn io_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    printable(text, 200).to_lowercase()
}

/// What a server said, fit for a terminal: no control characters, one line, not too long.
pub(super) fn printable(text: &str, limit: usize) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut out: String = text.trim().chars().map(clean).take(limit).collect();
    if text.trim().chars().nth(limit).is_some() {
        out.push('…');
    }
    out
}

/// The registry's own code and words out of an error body; empty when there are none.
pub(super) fn registry_words(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        errors: Vec<One>,
        // How token services say it (RFC 6749, and Docker Hub's own way).
        error_description: Option<String>,
        details: Option<String>,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(body) = spec::from_json::<Body>("error", body) else { return String::new() };
    let Some(first) = body.errors.first() else {
        let words = body.error_description.or(body.details).unwrap_or_default();
        return printable(&words, 200);
    };
    let (code, message) = (printable(&first.code, 60), printable(&first.message, 200));
    match (code.is_empty(), message.is_empty()) {
        (false, false) => format!("{code} ({message})"),
        _ => code + &message,
    }
}

/// The digests of an error body that says that a manifest's blobs are not there (distribution-spec,
/// MANIFEST_BLOB_UNKNOWN); registries need not name them.
pub(super) fn unknown_blobs(body: &[u8]) -> Option<Vec<Digest>> {
    #[derive(Deserialize)]
    struct Body {
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        code: String,
        #[serde(default)]
        detail: serde_json::Value,
    }
    let body: Body = spec::from_json("error", body).ok()?;
    let unknown = body.errors.into_iter().filter(|error| error.code == "MANIFEST_BLOB_UNKNOWN");
    let details: Vec<_> = unknown.map(|error| error.detail).collect();
    let named = |detail: &serde_json::Value| {
        let text = detail.get("digest").unwrap_or(detail).as_str()?;
        Digest::parse(text).ok()
    };
    (!details.is_empty()).then(|| details.iter().filter_map(named).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_misses_is_read() {
        let unknown = |text: &str| unknown_blobs(text.as_bytes());
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let text = format!(
            r#"{{"errors":[{{"code":"MANIFEST_BLOB_UNKNOWN","message":"m","detail":"{one}"}},
            {{"code":"MANIFEST_BLOB_UNKNOWN","detail":{{"digest":"{two}"}}}},
            {{"code":"MANIFEST_BLOB_UNKNOWN","detail":{{"digest":7}}}}]}}"#
        );
        assert_eq!(unknown(&text), Some(vec![one, two]));
        assert_eq!(unknown(r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}"#), Some(Vec::new()));
        for other in ["", "{}", r#"{"errors":[]}"#, r#"{"errors":[{"code":"DENIED"}]}"#] {
            assert_eq!(unknown(other), None, "{other}");
        }
    }

    #[test]
    fn registry_words_are_tamed() {
        let words = |text: &str| registry_words(text.as_bytes());
        assert_eq!(
            words(r#"{"errors":[{"code":"NAME_UNKNOWN","message":"no such\u001b[2J\nname"}]}"#),
            "NAME_UNKNOWN (no such [2J name)"
        );
        assert_eq!(words(r#"{"errors":[{"code":"DENIED"}]}"#), "DENIED");
        assert_eq!(words(r#"{"error":"invalid_grant","error_description":"gone"}"#), "gone");
        assert_eq!(
            words(r#"{"details":"incorrect username or password"}"#),
            "incorrect username or password"
        );
        for none in ["", "<html>", "{}", r#"{"errors":[]}"#, r#"{"errors":[1]}"#] {
            assert_eq!(words(none), "", "{none}");
        }
        let long = format!(r#"{{"errors":[{{"message":"{}"}}]}}"#, "x".repeat(1000));
        assert_eq!(words(&long).chars().count(), 201);
    }
}
