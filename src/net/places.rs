//! Where a registry's protocol is spoken for a name: ways made into addresses that can be asked.
//!
//! In: a name; out: [`Place`]s. Whether a host speaks https or http is tried once: http only on this machine and where
//! the user said that a registry need not be checked. A mirror that failed is not asked again, one whose token
//! service refused a repository not for that one.

use super::config::NetConfig;
use super::failure::{NetError, NetResult, Trouble};
use super::hosts::{self, HostFiles, Settings, Way};
use super::http::{Ask, Http, Payload, Plain};
use super::login::registry_name;
use super::mirror::Mirror;
use super::retry::{FEW_TRIES, TRIES};
use super::url::{Url, is_loopback};
use crate::error::Error;
use crate::oci::Reference;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Where a registry's protocol is spoken.
#[derive(Debug)]
pub(super) struct Place {
    /// `https://host`.
    pub(super) base: String,
    /// The repository's name there.
    pub(super) repository: String,
    /// Name that logins are kept under.
    pub(super) name: String,
    /// For messages.
    pub(super) whom: String,
    pub(super) plain: Plain,
    /// Of one request: few where somebody else can be asked instead.
    pub(super) tries: u32,
    /// What the user should know about it.
    pub(super) warning: Option<String>,
}

/// All places of a client.
#[derive(Debug)]
pub(super) struct Places {
    mirrors: Vec<Mirror>,
    files: HostFiles,
    settings: OnceLock<Result<Settings, Error>>,
    /// `host[:port]` that flags call insecure.
    insecure: Vec<String>,
    /// No registry is verified.
    unverified: bool,
    /// `https://host` by host.
    bases: Mutex<HashMap<(String, bool), String>>,
    /// Mirrors that failed.
    lost: Mutex<BTreeSet<String>>,
    /// Mirrors, and repositories of theirs that they refuse.
    refused: Mutex<BTreeSet<(String, String)>>,
}

impl Places {
    pub(super) fn new(config: &NetConfig) -> Self {
        Self {
            mirrors: config.mirrors.clone(),
            files: config.hosts.clone(),
            settings: OnceLock::new(),
            insecure: config.insecure.clone(),
            unverified: config.unverified,
            bases: Mutex::default(),
            lost: Mutex::default(),
            refused: Mutex::default(),
        }
    }

    /// What the files say; read at the first call.
    pub(super) fn settings(&self) -> NetResult<&Settings> {
        let settings = self.settings.get_or_init(|| Settings::read(&self.files));
        settings.as_ref().map_err(|error| NetError::new(Trouble::Local, error.clone()))
    }

    /// Mirrors of a name that answered so far, and did not refuse its repository.
    pub(super) fn mirrors(&self, reference: &Reference) -> NetResult<Vec<Way>> {
        let ways = self.settings()?.mirrors(&self.mirrors, reference).map_err(refused)?;
        let (lost, refused) = (lock(&self.lost), lock(&self.refused));
        let is_asked = |way: &Way| {
            let repository = (way.host.clone(), way.repository.clone());
            !lost.contains(&way.host) && !refused.contains(&repository)
        };
        Ok(ways.into_iter().filter(is_asked).collect())
    }

    /// A mirror whose token service refused a repository is not asked for it again; whether it is the mirror's first.
    pub(super) fn refuse(&self, way: &Way) -> bool {
        let mut refused = lock(&self.refused);
        let is_first = refused.iter().all(|(host, _)| *host != way.host);
        refused.insert((way.host.clone(), way.repository.clone()));
        is_first
    }

    /// A mirror that failed is not asked again; whether that is news.
    pub(super) fn lose(&self, way: &Way) -> bool {
        lock(&self.lost).insert(way.host.clone())
    }

    /// The way to the registry itself.
    pub(super) fn way(&self, reference: &Reference) -> NetResult<Way> {
        self.settings()?.origin(reference).map_err(refused)
    }

    /// The way to a registry by its own name.
    pub(super) fn host(&self, registry: &str) -> NetResult<Way> {
        Ok(self.settings()?.host(registry))
    }

    /// Makes a way one that can be asked.
    pub(super) fn open(&self, http: &Http, way: &Way) -> NetResult<Place> {
        let flagged = self.unverified || self.names_insecure(&way.host);
        let insecure = flagged || way.insecure;
        let whom = whom(way);
        let base = match &way.base {
            Some(base) => base.clone(),
            None => self.base(http, way, insecure, &whom)?,
        };
        let url = Url::parse(&base).ok_or_else(|| bad_name(&way.host))?;
        let plain = match (insecure, url.is_loopback(), way.base.is_some() && !url.is_https()) {
            (true, ..) => Plain::Unverified,
            (_, true, _) => Plain::Loopback,
            // The user wrote `http://`.
            (.., true) => Plain::Origin,
            _ => Plain::Never,
        };
        let warning = flagged.then(|| {
            let how =
                if url.is_https() { "without checking its certificate" } else { "by plain http" };
            let flag = if self.unverified { "--tls-verify=false" } else { "--insecure-registry" };
            format!("{whom} is asked {how} (`{flag}`)")
        });
        Ok(Place {
            base,
            repository: way.repository.clone(),
            name: registry_name(&way.host),
            whom,
            plain,
            tries: if way.is_mirror { FEW_TRIES } else { TRIES },
            warning,
        })
    }

    /// How far the address of a token service may be trusted: as far as a registry there.
    pub(super) fn plain_for(&self, place: &Place, realm: &Url) -> Plain {
        let host = format!("{}:{}", realm.host(), realm.port());
        let of_place = Url::parse(&place.base).is_some_and(|base| {
            base.host().eq_ignore_ascii_case(realm.host()) && base.port() == realm.port()
        });
        match place.plain {
            Plain::Unverified if of_place || self.unverified || self.names_insecure(&host) => {
                Plain::Unverified
            }
            Plain::Unverified | Plain::Never | Plain::Origin | Plain::Anywhere => Plain::Never,
            Plain::Loopback => Plain::Loopback,
        }
    }

    fn names_insecure(&self, host: &str) -> bool {
        self.insecure.iter().any(|named| named.eq_ignore_ascii_case(host))
    }

    /// `https://host`, or `http://host` for a registry that speaks it and may.
    fn base(&self, http: &Http, way: &Way, insecure: bool, whom: &str) -> NetResult<String> {
        let host = hosts::address(&way.host);
        let key = (host.to_owned(), insecure);
        if let Some(base) = lock(&self.bases).get(&key) {
            return Ok(base.clone());
        }
        let mut base = format!("https://{host}");
        let url = Url::parse(&base).ok_or_else(|| bad_name(host))?;
        let plain = if insecure { Plain::Unverified } else { Plain::Loopback };
        let look = Look { http, whom, host, plain };
        let speaks_http = if is_loopback(url.host()) {
            look.is_plain_here()?
        } else {
            insecure && look.is_plain_there()?
        };
        if speaks_http {
            base = format!("http://{host}");
        }
        lock(&self.bases).insert(key, base.clone());
        Ok(base)
    }
}

/// Finds out what a host speaks.
struct Look<'a> {
    http: &'a Http,
    whom: &'a str,
    host: &'a str,
    plain: Plain,
}

impl Look<'_> {
    fn ask(&self, scheme: &str) -> NetResult<Ask<'_>> {
        let url = Url::parse(&format!("{scheme}://{}/v2/", self.host));
        Ok(Ask {
            whom: self.whom,
            method: "GET",
            url: url.ok_or_else(|| bad_name(self.host))?,
            accept: &[],
            headers: &[],
            from: 0,
            payload: Payload::None,
            authorization: None,
            plain: self.plain,
        })
    }

    /// On this machine http comes first. A server that wants TLS answers a plain request with 400, with something that
    /// is not http, or by hanging up.
    fn is_plain_here(&self) -> NetResult<bool> {
        let plain = self.ask("http")?;
        match self.http.follow(&plain) {
            Ok(answer) => return Ok(answer.status != 400),
            Err(lost) if !lost.again && lost.error.trouble() == Trouble::Unreachable => {
                return Err(lost.error);
            }
            Err(_) => {}
        }
        match self.http.follow(&self.ask("https")?) {
            Ok(_) => Ok(false),
            // It does speak TLS, and the real request will say what is wrong with it.
            Err(lost) if lost.about_certificates => Ok(false),
            // Plain after all, and not well.
            Err(_) => self.http.send(&plain).map(|answer| answer.status != 400),
        }
    }

    /// Elsewhere https comes first.
    fn is_plain_there(&self) -> NetResult<bool> {
        let secure = self.ask("https")?;
        match self.http.follow(&secure) {
            Ok(_) => Ok(false),
            Err(lost) if lost.about_certificates => Ok(false),
            Err(lost) => match self.http.follow(&self.ask("http")?) {
                Ok(answer) => Ok(answer.status != 400),
                Err(_) if lost.again => self.http.send(&secure).map(|_| false),
                Err(_) => Err(lost.error),
            },
        }
    }
}

/// How messages name a place.
fn whom(way: &Way) -> String {
    let kind = if way.is_mirror { "mirror" } else { "registry" };
    format!("{kind} `{}`", way.host)
}

fn refused(error: Error) -> NetError {
    NetError::new(Trouble::Refused, error)
}

pub(super) fn bad_name(registry: &str) -> NetError {
    let error = Error::image(format!("`{registry}` is not the address of a registry"));
    NetError::new(Trouble::Broken, error)
}

/// The data of a lock whose holder panicked is still whole: every change is one insertion.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
