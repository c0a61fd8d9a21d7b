//! One request: proxies, timeouts, redirects that take no token along, and retries that wait.
//!
//! In: an [`Ask`]; out: an [`Answer`] with whatever final status the server gave, its body not yet read. Tried again by [`Retry`]
//! (but not with a body, whose sender knows how much of it arrived):
//! lost connections, timeouts, 408, 429 and the 5xx that pass; not tried again: a refused connection, an unknown
//! host, a certificate that does not fit.

mod agents;
mod answer;
mod apart;
mod ask;
mod forward;
mod lost;

pub(super) use answer::Answer;
pub(super) use ask::{Ask, Part, Payload, Plain};
pub(super) use lost::Lost;

use super::config::{NetConfig, Pause, is_direct};
use super::failure::{NetError, NetResult, Trouble};
use super::halt::Halt;
use super::patience::{GivenUp, Patience};
use super::retry::{Retry, TRIES};
use super::tls::Trust;
use super::url::Url;
use crate::error::{Error, Result};
use crate::progress::Emitter;
use agents::Agents;
use lost::{lost, proxy_refuses};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use ureq::http::request::Builder;
use ureq::http::{Request, Response};
use ureq::{Agent, Body, Proxy, SendBody};

const MAX_REDIRECTS: u32 = 5;
/// Shorter waits are not worth a word.
const NOTED_WAIT: Duration = Duration::from_secs(2);

/// The client: connections are kept and used again.
#[derive(Debug)]
pub(super) struct Http {
    verified: Agents,
    unverified: Agents,
    no_proxy: String,
    pause: Pause,
    halt: Arc<Halt>,
    patience: Patience,
    given_up: GivenUp,
    offline: bool,
    emitter: Mutex<Option<Emitter>>,
    trust: Arc<Trust>,
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
        let halt = Arc::<Halt>::default();
        let agents = |unverified| Agents::new(config, &trust, unverified, &halt);
        Ok(Self {
            verified: agents(false)?,
            unverified: agents(true)?,
            no_proxy: config.no_proxy.clone(),
            pause: config.pause.clone(),
            halt,
            patience: config.patience,
            given_up: config.given_up.clone(),
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

    /// Ends every request that is under way, and all that would be sent from now on. False when it was done before.
    pub(super) fn stop(&self) -> bool {
        // First: nobody is to try again what ends now.
        let is_first = self.halt.set();
        self.verified.shut_down();
        self.unverified.shut_down();
        is_first
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.halt.is_set()
    }

    /// Fails once it was stopped.
    pub(super) fn check(&self) -> NetResult<()> {
        if self.is_stopped() { Err(NetError::stopped()) } else { Ok(()) }
    }

    pub(super) fn patience(&self) -> &Patience {
        &self.patience
    }

    /// How often something is tried, as far as our patience goes.
    pub(super) fn retry(&self, tries: u32) -> Retry {
        Retry::within(tries.min(self.patience.tries), self.patience.waits)
    }

    /// Whether a failure to read from `url` was the last one: nobody there is asked again.
    pub(super) fn gives_up(&self, url: &Url, error: &NetError) -> bool {
        let last = self.patience.asks_once && error.is_silence();
        if last {
            self.given_up.add(url, error);
        }
        last
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
        // No request is sent again so long after its first failure.
        let waits = self.patience.waits;
        let mut retry = self.retry(tries);
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
            let patient = failing.get_or_insert_with(Instant::now).elapsed() < waits;
            match retry.after_failure(at_least).filter(|_| patient) {
                Some(wait) => self.wait(ask.whom, &why, wait),
                None => return outcome,
            }
        }
    }

    /// Waits before another try of what failed.
    pub(super) fn wait(&self, whom: &str, why: &str, wait: Duration) {
        if self.is_stopped() {
            return;
        }
        if wait >= NOTED_WAIT
            && let Some(emitter) = &*self.emitter.lock().unwrap_or_else(PoisonError::into_inner)
        {
            emitter.note(format!("{whom}: {why}; trying again in {} s", wait.as_secs()));
        }
        self.pause.wait(wait, &self.halt);
    }

    /// One attempt.
    pub(super) fn follow(&self, ask: &Ask<'_>) -> Result<Answer, Lost> {
        let mut url = ask.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let known = self.patience.asks_once.then(|| self.given_up.of(&url)).flatten();
            if let Some(error) = known {
                return Err(Lost::for_good(error));
            }
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
            if response.status() == 407
                && let Some(proxy) = self.proxy(&url)
            {
                // It is the proxy's own, whatever the address says.
                return Err(proxy_refuses(ask, &url, proxy));
            }
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
            return Err(Lost::for_good(error));
        }
        self.check().map_err(Lost::for_good)?;
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
        run(agent, request, ask.payload, self.patience.kept).map_err(|error| match error {
            // In whatever way it ended.
            _ if self.is_stopped() => Lost::for_good(NetError::stopped()),
            ureq::Error::Http(_) => {
                let message = format!("{} gave a token that cannot be sent", ask.whom);
                Lost::fatal(Trouble::Broken, Error::registry(message))
            }
            error => {
                let lost = lost(ask, url, agent.config().proxy(), error);
                let again = lost.again && !self.gives_up(url, &lost.error);
                Lost { again, ..lost }
            }
        })
    }
}

fn run(
    agent: &Agent,
    request: Builder,
    payload: Payload<'_>,
    kept: Duration,
) -> Result<Response<Body>, ureq::Error> {
    // A registry may have to move gigabytes to another place before it answers.
    let patient = |size: u64| Some(kept + Duration::from_secs(size >> 23));
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
