//! One request: proxies, timeouts, redirects that take no token along, and retries that wait.
//!
//! In: an [`Ask`]; out: an [`Answer`] with whatever final status the server gave, its body not yet read. Tried again by [`Retry`]
//! (but not with a body, whose sender knows how much of it arrived):
//! lost connections, timeouts, 408, 429 and the 5xx that pass; not tried again: a refused connection, an unknown
//! host, a certificate that does not fit.

use super::config::{NetConfig, Pause, is_direct};
use super::failure::{NetError, NetResult, Trouble, io_text, printable, registry_words};
use super::retry::{Retry, TRIES};
use super::tls::{TlsConnector, TlsTrouble, Trust};
use super::url::Url;
use crate::error::{Error, Result};
use crate::progress::Emitter;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use ureq::config::Config;
use ureq::http::request::Builder;
use ureq::http::{HeaderMap, Request, Response};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    ConnectProxyConnector, Connector, SocksConnector, TcpConnector,
};
use ureq::{Agent, Body, BodyReader, Proxy, SendBody, Timeout};

const MAX_REDIRECTS: u32 = 5;
/// Longest wait that a server can talk us into.
const MAX_WAIT: Duration = Duration::from_mins(1);
/// No request is sent again so long after its first failure.
const PATIENCE: Duration = Duration::from_mins(2);
/// Shorter waits are not worth a word.
const NOTED_WAIT: Duration = Duration::from_secs(2);
/// How long an answer may take to begin.
const ANSWER: Duration = Duration::from_mins(1);
/// Error bodies are read this far.
const MAX_WORDS: u64 = 64 << 10;

/// What a request sends along.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Payload<'a> {
    /// Nothing, as for `GET`.
    #[default]
    None,
    /// Bytes, also none at all: `Content-Length: 0`.
    Bytes(&'a [u8]),
    /// A part of a file.
    File(Part<'a>),
}

/// A part of a file, read without moving the file's own position.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) file: &'a File,
    /// Where it begins.
    pub(super) at: u64,
    /// Bytes.
    pub(super) left: u64,
    /// True when nobody wants it to arrive any more.
    pub(super) stopped: &'a (dyn Fn() -> bool + Send + Sync),
}

impl fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes from {}", self.left, self.at)
    }
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if (self.stopped)() {
            return Err(io::Error::other("stopped"));
        }
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Ask<'a> {
    /// Who is asked, for messages: ``registry `x` ``.
    pub(super) whom: &'a str,
    pub(super) method: &'static str,
    pub(super) url: Url,
    /// Values of Accept.
    pub(super) accept: &'a [&'a str],
    /// Further headers.
    pub(super) headers: &'a [(&'a str, &'a str)],
    /// Bytes of the answer's body that are here already.
    pub(super) from: u64,
    pub(super) payload: Payload<'a>,
    /// Value of Authorization, for the origin of `url` only.
    pub(super) authorization: Option<&'a str>,
    /// Where plain http is fine.
    pub(super) plain: Plain,
}

/// Where a request may go by plain http.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plain {
    /// Nowhere.
    Never,
    /// To this machine: the registry behind the request is here.
    Loopback,
    /// To the host of the request: the user named it with `http://`.
    Origin,
    /// To the host of the request, which need not show a certificate that is trusted either: the user said so.
    Unverified,
    /// Wherever it leads: the user named a file, not a registry.
    Anywhere,
}

impl Plain {
    /// The same for another host that an answer names.
    pub(super) fn elsewhere(self) -> Self {
        match self {
            Self::Never | Self::Origin | Self::Unverified => Self::Never,
            Self::Loopback | Self::Anywhere => self,
        }
    }
}

/// A final answer: anything but a redirect.
pub(super) struct Answer {
    /// Where it came from, after redirects.
    pub(super) url: Url,
    pub(super) status: u16,
    method: &'static str,
    headers: HeaderMap,
    body: BodyReader<'static>,
    /// Where the login is from that was not enough, or that there is none.
    pub(super) login: Option<String>,
}

impl Answer {
    fn new(url: Url, method: &'static str, response: Response<Body>) -> Self {
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
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// All values of a header that are text.
    pub(super) fn headers<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok())
    }

    /// The body, as long as the server likes to send.
    pub(super) fn into_body(self) -> BodyReader<'static> {
        self.body
    }

    /// This answer as a failure, with the server's own words.
    pub(super) fn refusal(self, whom: &str) -> NetError {
        let mut words = Vec::new();
        // What could be read is enough; the words are only a courtesy.
        let _ignored = self.body.take(MAX_WORDS).read_to_end(&mut words);
        let words = registry_words(&words);
        let error = NetError::status(whom, self.method, &self.url, self.status, &words);
        self.login.into_iter().fold(error, NetError::cause)
    }

    /// Another attempt may do better, after a while.
    pub(super) fn is_worth_waiting_for(&self) -> bool {
        matches!(self.status, 408 | 429 | 500 | 502 | 503 | 504)
    }

    /// What the server asks to wait for, within reason: seconds or a date.
    pub(super) fn retry_after(&self) -> Duration {
        let Some(text) = self.header("retry-after").map(str::trim) else { return Duration::ZERO };
        let seconds = text.parse().ok().or_else(|| {
            let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            let now = SystemTime::UNIX_EPOCH.elapsed().ok()?.as_secs();
            Some(u64::try_from(date.as_second()).ok()?.saturating_sub(now))
        });
        Duration::from_secs(seconds.unwrap_or(0)).min(MAX_WAIT)
    }
}

/// The client: connections are kept and used again.
#[derive(Debug)]
pub(super) struct Http {
    verified: Agents,
    unverified: Agents,
    no_proxy: String,
    pause: Pause,
    offline: bool,
    emitter: Mutex<Option<Emitter>>,
    trust: Arc<Trust>,
}

/// Ways to a host.
#[derive(Debug)]
struct Agents {
    direct: Agent,
    /// Agents that go through a proxy.
    secure_proxied: Option<Agent>,
    plain_proxied: Option<Agent>,
}

impl Http {
    pub(super) fn new(config: &NetConfig) -> Result<Self> {
        Self::with(config, false)
    }

    /// A client that keeps what servers show of themselves.
    pub(super) fn watching(config: &NetConfig) -> Result<Self> {
        Self::with(config, true)
    }

    fn with(config: &NetConfig, watch: bool) -> Result<Self> {
        let trust = Trust::new(&config.certificates, &config.authorities, watch)?;
        let trust = Arc::new(trust);
        Ok(Self {
            verified: Agents::new(config, &trust, false)?,
            unverified: Agents::new(config, &trust, true)?,
            no_proxy: config.no_proxy.clone(),
            pause: config.pause.clone(),
            offline: config.offline,
            emitter: Mutex::default(),
            trust,
        })
    }

    /// Who hears of long waits from now on.
    pub(super) fn tell(&self, emitter: &Emitter) {
        *self.emitter.lock().unwrap_or_else(PoisonError::into_inner) = Some(emitter.clone());
    }

    pub(super) fn is_offline(&self) -> bool {
        self.offline
    }

    /// What is known of servers.
    pub(super) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The proxy on the way to an address.
    pub(super) fn proxy(&self, url: &Url) -> Option<&Proxy> {
        self.agent(url, false).config().proxy()
    }

    fn agent(&self, url: &Url, unverified: bool) -> &Agent {
        let agents = if unverified { &self.unverified } else { &self.verified };
        let proxied = if url.is_https() { &agents.secure_proxied } else { &agents.plain_proxied };
        let plain_here = url.is_loopback() && !url.is_https();
        match proxied {
            Some(proxied) if !plain_here && !is_direct(&self.no_proxy, url) => proxied,
            _ => &agents.direct,
        }
    }

    /// Sends, again if need be; the last try's answer is given whatever its status.
    pub(super) fn send(&self, ask: &Ask<'_>) -> NetResult<Answer> {
        self.send_at_most(TRIES, ask)
    }

    /// The same with another number of tries.
    pub(super) fn send_at_most(&self, tries: u32, ask: &Ask<'_>) -> NetResult<Answer> {
        // The sender of a large body finds out first how much of it arrived.
        let tries = if matches!(ask.payload, Payload::File(_)) { 1 } else { tries };
        let mut retry = Retry::at_most(tries);
        let mut failing: Option<Instant> = None;
        loop {
            let (outcome, why, at_least) = match self.follow(ask) {
                Ok(answer) if answer.is_worth_waiting_for() => {
                    let (why, wait) = (format!("status {}", answer.status), answer.retry_after());
                    (Ok(answer), why, wait)
                }
                Err(lost) if lost.again => (Err(lost.error), lost.why, Duration::ZERO),
                other => return other.map_err(|lost| lost.error),
            };
            let patient = failing.get_or_insert_with(Instant::now).elapsed() < PATIENCE;
            match retry.after_failure(at_least).filter(|_| patient) {
                Some(wait) => self.wait(ask.whom, &why, wait),
                None => return outcome,
            }
        }
    }

    /// Waits before another try of what failed.
    pub(super) fn wait(&self, whom: &str, why: &str, wait: Duration) {
        if wait >= NOTED_WAIT
            && let Some(emitter) = &*self.emitter.lock().unwrap_or_else(PoisonError::into_inner)
        {
            emitter.note(format!("{whom}: {why}; trying again in {} s", wait.as_secs()));
        }
        self.pause.wait(wait);
    }

    /// One attempt.
    pub(super) fn follow(&self, ask: &Ask<'_>) -> Result<Answer, Lost> {
        let mut url = ask.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let allowed = url.is_https()
                || match ask.plain {
                    Plain::Never => false,
                    Plain::Anywhere => true,
                    Plain::Loopback => url.is_loopback(),
                    Plain::Origin | Plain::Unverified => url.same_origin(&ask.url),
                };
            if !allowed {
                let error = Error::registry(format!("{} leads to plain http", ask.whom))
                    .cause(format!("{} {url}: refused by this client", ask.method));
                return Err(Lost::fatal(Trouble::Broken, error));
            }
            let authorization = ask.authorization.filter(|_| url.same_origin(&ask.url));
            let response = self.once(ask, &url, authorization)?;
            // What an upload's answer says belongs to who sends it.
            let sends = !matches!(ask.payload, Payload::None);
            if sends || !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Answer::new(url, ask.method, response));
            }
            let location = response.headers().get("location").and_then(|value| value.to_str().ok());
            url = location.and_then(|location| url.resolve(location)).ok_or_else(|| {
                let error = Error::registry(format!("{} redirects to no usable address", ask.whom))
                    .cause(format!("{} {url}", ask.method));
                Lost::fatal(Trouble::Broken, error)
            })?;
        }
        let error = Error::registry(format!("{} redirects too often", ask.whom))
            .cause(format!("{} {}: more than {MAX_REDIRECTS} redirects", ask.method, ask.url));
        Err(Lost::fatal(Trouble::Broken, error))
    }

    fn once(
        &self,
        ask: &Ask<'_>,
        url: &Url,
        authorization: Option<&str>,
    ) -> Result<Response<Body>, Lost> {
        if self.offline {
            let error = NetError::offline(ask.whom, ask.method, url);
            return Err(Lost {
                again: false,
                about_certificates: false,
                error,
                why: String::new(),
            });
        }
        let mut request = Request::builder().method(ask.method).uri(url.uri());
        for accept in ask.accept {
            request = request.header("accept", *accept);
        }
        for (name, value) in ask.headers {
            request = request.header(*name, *value);
        }
        if ask.from > 0 {
            request = request.header("range", format!("bytes={}-", ask.from));
        }
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        let unverified = ask.plain == Plain::Unverified && url.same_origin(&ask.url);
        let agent = self.agent(url, unverified);
        run(agent, request, ask.payload).map_err(|error| match error {
            ureq::Error::Http(_) => {
                let message = format!("{} gave a token that cannot be sent", ask.whom);
                Lost::fatal(Trouble::Broken, Error::registry(message))
            }
            error => lost(ask, url, error),
        })
    }
}

fn run(
    agent: &Agent,
    request: Builder,
    payload: Payload<'_>,
) -> Result<Response<Body>, ureq::Error> {
    // A registry may have to move gigabytes to another place before it answers.
    let patient = |size: u64| Some(ANSWER + Duration::from_secs(size >> 23));
    match payload {
        Payload::None => agent.run(request.body(())?),
        Payload::Bytes(bytes) => agent.run(request.body(bytes)?),
        Payload::File(mut part) => {
            let size = part.left;
            let request = request.header("content-length", size);
            let request = request.body(SendBody::from_reader(&mut part))?;
            let configured = agent.configure_request(request).timeout_recv_response(patient(size));
            agent.run(configured.build())
        }
    }
}

/// A request without an answer.
pub(super) struct Lost {
    /// Another attempt may do better.
    pub(super) again: bool,
    /// The other side speaks TLS, and certificates are the trouble.
    pub(super) about_certificates: bool,
    pub(super) error: NetError,
    /// In a few words.
    why: String,
}

impl Lost {
    fn fatal(trouble: Trouble, error: Error) -> Self {
        let error = NetError::new(trouble, error);
        Self { again: false, about_certificates: false, error, why: String::new() }
    }
}

/// Why there is no address for a name. The system's resolver has asked more than once, so nobody asks again.
fn unresolved(error: &io::Error, url: &Url) -> Option<String> {
    // The standard library has no kind for it.
    let text = io_text(error);
    let reason = text.strip_prefix("failed to lookup address information: ")?;
    let host = url.host();
    Some(match reason {
        "name or service not known" | "no address associated with hostname" => {
            format!("there is no host `{host}`")
        }
        reason => format!("the address of `{host}` cannot be looked up: {reason}"),
    })
}

fn lost(ask: &Ask<'_>, url: &Url, error: ureq::Error) -> Lost {
    use ureq::Error as E;
    let (again, why) = match error {
        // TLS that cannot be agreed on is invalid data.
        E::Io(error) => match io_failure(ask, url, error) {
            Ok(lost) => return lost,
            Err(error) => match unresolved(&error, url) {
                Some(why) => (false, why),
                None => (
                    !matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionRefused
                            | io::ErrorKind::NetworkUnreachable
                            | io::ErrorKind::HostUnreachable
                            | io::ErrorKind::InvalidData
                    ),
                    io_text(&error),
                ),
            },
        },
        E::Timeout(Timeout::Resolve | Timeout::Connect) => {
            (false, "no connection in time".to_owned())
        }
        E::Timeout(_) => (true, "no answer in time".to_owned()),
        E::HostNotFound => (false, format!("there is no host `{}`", url.host())),
        E::Protocol(_) | E::LargeResponseHeader(..) => {
            let message = format!("{} does not speak http", ask.whom);
            let cause = format!("{} {url}: {}", ask.method, printable(&error.to_string(), 200));
            return Lost::fatal(Trouble::Broken, Error::registry(message).cause(cause));
        }
        other => (false, printable(&other.to_string(), 200).to_lowercase()),
    };
    let error = NetError::unreachable(ask.whom, ask.method, url, &why);
    Lost { again, about_certificates: false, error, why }
}

/// A failure of ours that came through a connection, or one of TLS; else the error itself.
fn io_failure(ask: &Ask<'_>, url: &Url, error: io::Error) -> Result<Lost, io::Error> {
    let error = match error.downcast::<NetError>() {
        Ok(ours) => {
            return Ok(Lost {
                again: false,
                about_certificates: true,
                error: ours,
                why: String::new(),
            });
        }
        Err(error) => error,
    };
    let trouble = error.downcast::<TlsTrouble>()?;
    let error = Error::registry(format!("{} {}", ask.whom, trouble.what))
        .cause(format!("{} {url}: {}", ask.method, trouble.cause))
        .hint(trouble.hint);
    let error = NetError::new(Trouble::Unreachable, error);
    Ok(Lost { again: false, about_certificates: true, error, why: String::new() })
}

impl Agents {
    fn new(config: &NetConfig, trust: &Arc<Trust>, unverified: bool) -> Result<Self> {
        let made = |proxy: Option<Proxy>| {
            let uri = proxy.as_ref().map(|proxy| proxy.uri().clone());
            let connector =
                ().chain(SocksConnector::default())
                    .chain(ConnectProxyConnector::default())
                    .chain(TcpConnector::default())
                    .chain(TlsConnector::new(Arc::clone(trust), unverified, uri));
            Agent::with_parts(agent_config(proxy), connector, DefaultResolver::default())
        };
        let through = |proxy: &Option<String>, name: &str| -> Result<Option<Agent>> {
            let Some(text) = proxy.as_deref().filter(|text| !text.is_empty()) else {
                return Ok(None);
            };
            let proxy = Proxy::new(text).map_err(|_| {
                // Not shown: it may hold a password.
                Error::usage(format!("the proxy for {name} is not an address that can be used"))
                    .hint(format!("write {}_PROXY as `http://host:port`", name.to_uppercase()))
            })?;
            Ok(Some(made(Some(proxy))))
        };
        Ok(Self {
            direct: made(None),
            secure_proxied: through(&config.https_proxy, "https")?,
            plain_proxied: through(&config.http_proxy, "http")?,
        })
    }
}

fn agent_config(proxy: Option<Proxy>) -> Config {
    let seconds = |n| Some(Duration::from_secs(n));
    Agent::config_builder()
        // Set also when `None`: the default is taken from the environment.
        .proxy(proxy)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("nativebuild/", env!("CARGO_PKG_VERSION")))
        .accept("")
        .accept_encoding("")
        .timeout_resolve(seconds(15))
        .timeout_connect(seconds(15))
        .timeout_send_request(seconds(30))
        .timeout_recv_response(Some(ANSWER))
        .timeout_per_read(seconds(60))
        .timeout_per_write(seconds(60))
        .max_idle_connections_per_host(4)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_an_address_is_not_asked_for_again() {
        let url = Url::parse("https://r.example:5000/v2/").unwrap();
        let why = |text: &str| {
            let text = format!("failed to lookup address information: {text}");
            unresolved(&io::Error::other(text), &url)
        };
        let none = Some("there is no host `r.example`".to_owned());
        assert_eq!(why("Name or service not known"), none);
        assert_eq!(why("No address associated with hostname"), none);
        assert_eq!(
            why("Temporary failure in name resolution").unwrap(),
            "the address of `r.example` cannot be looked up: temporary failure in name resolution"
        );
        assert_eq!(unresolved(&io::ErrorKind::ConnectionReset.into(), &url), None);
        let fetch = Ask {
            whom: "registry `r.example`",
            method: "GET",
            url: url.clone(),
            accept: &[],
            headers: &[],
            from: 0,
            payload: Payload::None,
            authorization: None,
            plain: Plain::Never,
        };
        let gone = "failed to lookup address information: Name or service not known";
        assert!(!lost(&fetch, &url, ureq::Error::Io(io::Error::other(gone))).again);
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert!(lost(&fetch, &url, ureq::Error::Io(reset)).again);
    }
}
