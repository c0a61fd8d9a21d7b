//! The registry's protocol: where a registry and its mirrors are, tokens, manifests and blobs by name.
//!
//! In: a [`Reference`]; out: answers that are authorised but not yet checked. One [`Registry`] serves all registries of
//! a build and keeps connections and tokens.

use super::arrive::Underway;
use super::config::NetConfig;
use super::failure::{NetError, NetResult, Trouble, printable};
use super::hosts::Way;
use super::http::{Answer, Ask, Http, Payload};
use super::login::{Credentials, registry_name};
use super::logins::Looked;
use super::manifest;
use super::patience::Timely;
use super::places::{Place, Places, bad_name};
use super::push::Homes;
use super::retry::{Retry, TRIES};
use super::url::Url;
use super::warnings::Warnings;
use super::wish::{Access, Path, Wish};
use crate::error::{Error, Result};
use crate::oci::{Digest, Reference};
use crate::progress::Emitter;
use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::path::{self, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A client for any number of registries.
#[derive(Debug)]
pub struct Registry {
    pub(super) http: Http,
    pub(super) places: Places,
    /// Values of Authorization by address and scopes.
    tokens: Mutex<HashMap<(String, Vec<String>), String>>,
    warnings: Warnings,
    credentials: Credentials,
    homes: Arc<Homes>,
    pub(super) underway: Underway,
    stopped: Stopped,
    signed_pulls: Option<String>,
    signed_pushes: Option<String>,
    uploads: Option<PathBuf>,
}

/// Whether uploads should end before their time.
struct Stopped(Box<dyn Fn() -> bool + Send + Sync>);

impl fmt::Debug for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stopped")
    }
}

/// A document read whole.
pub(super) struct Small {
    pub(super) url: Url,
    pub(super) content_type: Option<String>,
    /// `Docker-Content-Digest`.
    pub(super) digest: Option<String>,
    pub(super) bytes: Vec<u8>,
}

impl Registry {
    /// Fails only on settings that cannot be used.
    pub fn new(config: &NetConfig) -> Result<Self> {
        Ok(Self::with(Http::new(config)?, config))
    }

    /// A client that keeps what servers show of themselves.
    pub fn watching(config: &NetConfig) -> Result<Self> {
        Ok(Self::with(Http::watching(config)?, config))
    }

    fn with(http: Http, config: &NetConfig) -> Self {
        Self {
            http,
            places: Places::new(config),
            tokens: Mutex::default(),
            warnings: config.warnings.clone(),
            credentials: config.credentials.clone(),
            homes: Arc::default(),
            underway: Underway::default(),
            signed_pulls: config.signed_pulls.clone(),
            signed_pushes: config.signed_pushes.clone(),
            uploads: config.uploads.clone(),
            stopped: Stopped(Box::new(|| false)),
        }
    }

    /// Digest of what the registry has under this name now; `None` when it has nothing there.
    pub fn head(&self, reference: &Reference) -> NetResult<Option<Digest>> {
        self.may_pull(reference)?;
        let whom = whom(reference);
        let doing = |error: NetError| error.wrap(format!("cannot look up `{reference}`"));
        let answer = self.ask(reference, "HEAD", &manifest_path(reference), manifest::ACCEPT, 0);
        let answer = answer.map_err(doing)?;
        match answer.status {
            200 => {}
            404 => return Ok(None),
            // Some gateways have no HEAD.
            405 | 501 => return self.digest_by_get(reference).map_err(doing),
            _ => return Err(doing(answer.refusal(&whom))),
        }
        match answer.header("docker-content-digest").map(Digest::parse) {
            Some(Ok(digest)) => Ok(Some(digest)),
            _ => self.digest_by_get(reference).map_err(doing),
        }
    }

    fn digest_by_get(&self, reference: &Reference) -> NetResult<Option<Digest>> {
        match manifest::fetch(self, reference, None) {
            Ok(document) => Ok(Some(document.digest)),
            Err(error) if error.trouble() == Trouble::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A manifest's or index's bytes, at most `limit` of them.
    pub(super) fn manifest(&self, reference: &Reference, limit: u64) -> NetResult<Small> {
        let path = manifest_path(reference);
        let ask = || self.ask(reference, "GET", &path, manifest::ACCEPT, 0);
        self.small(&whom(reference), limit, ask)
    }

    /// The same, never from a mirror.
    pub(super) fn manifest_at_origin(&self, reference: &Reference, limit: u64) -> NetResult<Small> {
        let path = manifest_path(reference);
        let wish = Wish {
            reference,
            method: "GET",
            path: Path::Below(&path),
            accept: manifest::ACCEPT,
            headers: &[],
            from: 0,
            payload: Payload::None,
            access: Access::Write { from: None },
        };
        self.small(&whom(reference), limit, || self.ask_origin(&wish))
    }

    /// A blob from byte `from` on; any status.
    pub(super) fn blob(
        &self,
        reference: &Reference,
        digest: &Digest,
        from: u64,
    ) -> NetResult<Answer> {
        self.ask(reference, "GET", &format!("blobs/{digest}"), &[], from)
    }

    /// The body of a successful answer, asked for again when it breaks off.
    pub(super) fn small(
        &self,
        whom: &str,
        limit: u64,
        ask: impl Fn() -> NetResult<Answer>,
    ) -> NetResult<Small> {
        let mut retry = self.retry(TRIES);
        loop {
            let answer = ask()?;
            if answer.status != 200 {
                return Err(answer.refusal(whom));
            }
            let from = answer.url.clone();
            match small(answer, whom, limit, self.document_time()) {
                Err(error) if self.gives_up(&from, &error) => return Err(error),
                Err(error) if error.trouble() == Trouble::Unreachable => {
                    let Some(wait) = retry.after_failure(Duration::ZERO) else { return Err(error) };
                    self.wait(whom, "the answer broke off", wait);
                }
                other => return other,
            }
        }
    }

    /// Waits before another try of what failed.
    pub(super) fn wait(&self, whom: &str, why: &str, time: Duration) {
        self.http.wait(whom, why, time);
    }

    /// Who hears of long waits from now on.
    pub fn tell(&self, emitter: &Emitter) {
        self.http.tell(emitter);
    }

    /// Ends what is under way, and all that is asked from now on, with an error. What came of a large blob stays. False when
    /// it was stopped before.
    pub fn stop(&self) -> bool {
        self.http.stop()
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.http.is_stopped()
    }

    /// Uploads end with an error once this says so.
    pub fn stop_uploads_when(&mut self, stopped: impl Fn() -> bool + Send + Sync + 'static) {
        self.stopped = Stopped(Box::new(stopped));
    }

    pub(super) fn stopped(&self) -> &(dyn Fn() -> bool + Send + Sync) {
        &*self.stopped.0
    }

    /// Where uploads are remembered.
    pub(super) fn uploads(&self) -> Option<&path::Path> {
        self.uploads.as_deref()
    }

    /// Fails when signatures of what is pulled were asked for.
    /// A digest says itself what it means.
    pub(super) fn may_pull(&self, reference: &Reference) -> NetResult<()> {
        match &self.signed_pulls {
            Some(asked) if reference.digest.is_none() => Err(NetError::unsigned(asked)),
            _ => Ok(()),
        }
    }

    /// Fails when signatures of what is pushed were asked for.
    pub(super) fn may_push(&self) -> NetResult<()> {
        self.signed_pushes.as_deref().map_or(Ok(()), |asked| Err(NetError::unsigned(asked)))
    }

    /// A client that also knows where the other one found or brought blobs, and the other way round.
    pub fn with_homes_of(self, other: &Self) -> Self {
        Self { homes: Arc::clone(&other.homes), ..self }
    }

    /// How often something is tried, as far as our patience goes.
    pub(super) fn retry(&self, tries: u32) -> Retry {
        self.http.retry(tries)
    }

    /// Whether a failure to read from `url` was the last one: nobody there is asked again.
    pub(super) fn gives_up(&self, url: &Url, error: &NetError) -> bool {
        self.http.gives_up(url, error)
    }

    /// How long all of a document may take.
    pub(super) fn document_time(&self) -> Duration {
        self.http.patience().document
    }

    /// Where blobs are known to be.
    pub(super) fn homes(&self) -> &Homes {
        &self.homes
    }

    fn note_warnings(&self, whom: &str, answer: &Answer) {
        for text in answer.headers("warning") {
            // distribution-spec: `299 - "text"`, anything else means nothing.
            let Some(text) = text.strip_prefix("299 - \"").and_then(|text| text.strip_suffix('"'))
            else {
                continue;
            };
            self.warnings.add(format!("{whom} says: {}", printable(text, 300)));
        }
    }

    /// What registries want users to see and what was not given out before.
    pub(super) fn take_warnings(&self) -> Vec<String> {
        self.warnings.take()
    }

    /// Asks the mirrors, then the registry itself.
    pub(super) fn ask(
        &self,
        reference: &Reference,
        method: &'static str,
        path: &str,
        accept: &[&str],
        from: u64,
    ) -> NetResult<Answer> {
        let request = Wish {
            reference,
            method,
            path: Path::Below(path),
            accept,
            headers: &[],
            from,
            payload: Payload::None,
            access: Access::Read,
        };
        for way in self.places.mirrors(reference)? {
            match self.open(&way).and_then(|mirror| self.ask_at(&mirror, &request)) {
                Ok(answer) if answer.status < 400 => return Ok(answer),
                // Not there, or not for us: the registry knows better.
                Ok(_) => {}
                // As its token service has it, and of this repository alone.
                Err(error) if error.trouble() == Trouble::NotFound => {}
                Err(error) if error.trouble() == Trouble::Refused => self.refused(&way, &error),
                Err(error) => {
                    // Once the client was stopped it is no fault of the mirror.
                    self.http.check()?;
                    self.lose(&way, &error);
                }
            }
        }
        self.ask_at(&self.origin(reference)?, &request)
    }

    /// Asks the registry itself, and nobody in its place: for what changes something.
    pub(super) fn ask_origin(&self, wish: &Wish<'_>) -> NetResult<Answer> {
        self.ask_at(&self.origin(wish.reference)?, wish)
    }

    /// What another repository of this registry is called where `target` is; `None` when it is not there.
    pub(super) fn beside(&self, target: &Reference, repository: &str) -> NetResult<Option<String>> {
        let other = Reference { repository: repository.to_owned(), ..target.clone() };
        let (here, there) = (self.places.way(target)?, self.places.way(&other)?);
        Ok((here.host == there.host).then_some(there.repository))
    }

    pub(super) fn ask_at(&self, place: &Place, wish: &Wish<'_>) -> NetResult<Answer> {
        let reference = wish.reference;
        let home = Url::parse(&format!("{}/v2/{}/", place.base, place.repository))
            .ok_or_else(|| bad_name(&reference.registry))?;
        let url = match wish.path {
            Path::Below(path) => home.resolve(path).ok_or_else(|| bad_name(&reference.registry))?,
            Path::At(url) => url.clone(),
        };
        let scopes = wish.access.scopes(&place.repository);
        let key =
            (place.base.clone(), [std::slice::from_ref(&place.repository), &scopes[..]].concat());
        let known = lock(&self.tokens).get(&key).cloned();
        // A token is for the registry, not for where it keeps its uploads.
        let ours = url.same_origin(&home);
        let mut ask = Ask {
            whom: &place.whom,
            method: wish.method,
            url,
            accept: wish.accept,
            headers: wish.headers,
            from: wish.from,
            payload: wish.payload,
            authorization: known.as_deref().filter(|_| ours),
            plain: if ours { place.plain } else { place.plain.elsewhere() },
        };
        let asked = ask.url.clone();
        let mut answer = self.http.send_at_most(place.tries, &ask)?;
        // A 401 from where a redirect led is not the registry's.
        if answer.status == 401 && ours && answer.url.same_origin(&ask.url) {
            let tried = known.as_deref();
            let authorization = self.authorize(place, &place.repository, scopes, &answer, tried)?;
            if let Some(authorization) = authorization {
                lock(&self.tokens).insert(key, authorization.clone());
                // How much of a body arrived is the sender's to find out.
                if !matches!(ask.payload, Payload::File(_)) {
                    ask.authorization = Some(&authorization);
                    answer = self.http.send_at_most(place.tries, &ask)?;
                }
            }
        }
        if ours && answer.url.same_origin(&asked) && matches!(answer.status, 401 | 403) {
            let source = self.login(place, &place.repository)?.source;
            answer.login = Some(source).filter(|source| !source.is_empty());
        }
        self.note_warnings(&place.whom, &answer);
        Ok(answer)
    }

    /// The login for a repository.
    pub(super) fn login(&self, place: &Place, repository: &str) -> NetResult<Looked> {
        let looked = self.credentials.of(&place.name, repository);
        let looked = looked.map_err(|error| NetError::new(Trouble::Local, error))?;
        for remark in &looked.remarks {
            self.warnings.add(remark.clone());
        }
        Ok(looked)
    }

    /// A mirror that failed is not asked again, and its failure is told once.
    fn lose(&self, way: &Way, error: &NetError) {
        if self.places.lose(way) {
            let error = error.error();
            let causes = printable(&error.causes().join("; "), 300);
            let text = format!("mirror `{}` is passed over: {causes}", registry_name(&way.host));
            self.warnings.add(text);
        }
    }

    /// A mirror whose token service refused a repository is not asked for it again. Once it is told, where there is a login to be mended.
    fn refused(&self, way: &Way, error: &NetError) {
        let is_first = self.places.refuse(way);
        let looked = self.open(way).and_then(|mirror| self.login(&mirror, &way.repository));
        if is_first && looked.is_ok_and(|looked| looked.login.is_some()) {
            let (name, repository) = (registry_name(&way.host), &way.repository);
            let causes = printable(&error.error().causes().join("; "), 300);
            self.warnings.add(format!(
                "mirror `{name}` refuses `{repository}` to the login for it, and the registry is asked instead: {causes}"
            ));
        }
    }

    /// A registry by its own name, whatever names of images lead to.
    pub(super) fn host(&self, registry: &str) -> NetResult<Place> {
        self.open(&self.places.host(registry)?)
    }

    /// The registry itself.
    fn origin(&self, reference: &Reference) -> NetResult<Place> {
        self.open(&self.places.way(reference)?)
    }

    pub(super) fn open(&self, way: &Way) -> NetResult<Place> {
        let place = self.places.open(&self.http, way)?;
        if let Some(text) = &place.warning {
            self.warnings.add(text.clone());
        }
        Ok(place)
    }
}

/// How messages name the registry of a name.
pub(super) fn whom(reference: &Reference) -> String {
    format!("registry `{}`", reference.registry)
}

pub(super) fn manifest_path(reference: &Reference) -> String {
    match (&reference.digest, &reference.tag) {
        (Some(digest), _) => format!("manifests/{digest}"),
        (None, tag) => format!("manifests/{}", tag.as_deref().unwrap_or("latest")),
    }
}

/// Reads a body of at most `limit` bytes.
pub(super) fn small(answer: Answer, whom: &str, limit: u64, time: Duration) -> NetResult<Small> {
    let url = answer.url.clone();
    let text = |name: &str| answer.header(name).map(str::to_owned);
    let (content_type, digest) = (text("content-type"), text("docker-content-digest"));
    let mut bytes = Vec::new();
    Timely::new(answer.into_body().take(limit + 1), time)
        .read_to_end(&mut bytes)
        .map_err(|error| NetError::from_read(error, whom, &url))?;
    if bytes.len() as u64 > limit {
        let message = format!("{whom} sends a document of more than {limit} bytes");
        let error = Error::registry(message).cause(format!("GET {url}"));
        return Err(NetError::new(Trouble::Broken, error));
    }
    Ok(Small { url, content_type, digest, bytes })
}

/// The data of a lock whose holder panicked is still whole: every change is one insertion.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
