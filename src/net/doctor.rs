//! `nativebuild doctor registry`: the way to a registry, step by step, as a report.
//!
//! In: a name; out: for each mirror and for the registry itself which file sent us there, its addresses, the proxy, what
//! it showed of itself, what it answers to `GET /v2/` and what it wants to know. No secret is in a report.

use super::auth;
use super::failure::{NetError, NetResult, Trouble, printable};
use super::hosts::{self, Settings, Way};
use super::http::{Answer, Ask, Payload, Plain};
use super::manifest;
use super::places::Place;
use super::registry::{Registry, manifest_path};
use super::tls::{Certificate, date};
use super::url::Url;
use super::wish::{Access, Path, Wish};
use crate::error::Error;
use crate::oci::Reference;
use serde::Serialize;
use std::net::ToSocketAddrs;

/// Header values are shown this far.
const MAX_VALUE: usize = 200;

/// What was found out.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Files with settings of registries that were read, in order.
    pub settings: Vec<String>,
    /// What of them has no effect.
    pub notes: Vec<String>,
    /// Mirrors in the order in which they are asked, then the registry itself.
    pub ways: Vec<WayReport>,
}

/// One place that is asked.
#[derive(Debug, Default, Serialize)]
pub struct WayReport {
    /// It stands in for the registry.
    pub mirror: bool,
    /// `https://host`, or the host where not even that is known.
    pub address: String,
    /// Name of the repository there, when one was asked for.
    pub repository: Option<String>,
    /// File and line, or flag, that made it so; none when the name says it.
    pub set_by: Option<String>,
    /// Certificates are not checked, plain http is allowed.
    pub insecure: bool,
    /// A file says that it must not be asked.
    pub blocked: bool,
    /// Addresses of the host, looked up here; empty behind a proxy.
    pub addresses: Vec<String>,
    /// `scheme://host:port`.
    pub proxy: Option<String>,
    /// What was shown of certificates.
    pub tls: Option<TlsReport>,
    /// Answer to `GET /v2/`.
    pub status: Option<u16>,
    /// `HTTP/1.1`.
    pub version: Option<String>,
    /// Who is asked for.
    pub auth: Option<AuthReport>,
    /// Who we are there.
    pub login: Option<LoginReport>,
    /// Answer to `HEAD /v2/REPOSITORY/manifests/TAG`.
    pub manifest: Option<u16>,
    /// `ratelimit-limit`.
    pub limit: Option<String>,
    /// `ratelimit-remaining`.
    pub remaining: Option<String>,
    /// What is wrong, and what to do.
    pub problem: Option<Problem>,
}

/// Certificates of a connection.
#[derive(Debug, Serialize)]
pub struct TlsReport {
    /// As shown, the server's own first.
    pub chain: Vec<CertificateReport>,
    /// Subject of the trusted certificate that ends the chain.
    pub root: Option<String>,
    /// Its file.
    pub root_file: Option<String>,
    /// File of our own certificate.
    pub client: Option<String>,
}

/// One certificate.
#[derive(Debug, Serialize)]
pub struct CertificateReport {
    /// Subject.
    pub subject: String,
    /// Issuer.
    pub issuer: String,
    /// RFC 3339.
    pub not_before: String,
    /// RFC 3339.
    pub not_after: String,
}

/// A challenge.
#[derive(Debug, Serialize)]
pub struct AuthReport {
    /// `Bearer` or `Basic`.
    pub scheme: String,
    /// Address of the token service, or a text.
    pub realm: Option<String>,
    /// Name of the registry there.
    pub service: Option<String>,
}

/// A login, without its secret.
#[derive(Debug, Serialize)]
pub struct LoginReport {
    /// Name; none for a token.
    pub user: Option<String>,
    /// Where it comes from.
    pub source: String,
    /// What the registry says of it; none when it was not asked.
    pub accepted: Option<bool>,
}

/// A failure as text.
#[derive(Debug, Serialize)]
pub struct Problem {
    /// What happened.
    pub message: String,
    /// Why.
    pub causes: Vec<String>,
    /// What to do.
    pub hints: Vec<String>,
    #[serde(skip)]
    error: Error,
}

impl Report {
    /// The registry answers; else why not.
    pub fn verdict(&self) -> Result<(), Error> {
        let problem = self.ways.last().and_then(|way| way.problem.as_ref());
        problem.map_or(Ok(()), |problem| Err(problem.error.clone()))
    }
}

impl Problem {
    fn of(error: NetError) -> Self {
        let error = error.into_error();
        Self {
            message: error.message().to_owned(),
            causes: error.causes().to_vec(),
            hints: error.hints().to_vec(),
            error,
        }
    }
}

impl Registry {
    /// Asks everyone on the way to a name. `whole`: the repository is of interest, not only the host. What keeps
    /// everyone from being asked is in the report, too.
    pub fn examine(&self, reference: &Reference, whole: bool) -> Report {
        let mut report = Report { settings: Vec::new(), notes: Vec::new(), ways: Vec::new() };
        if let Err(error) = self.examine_all(reference, whole, &mut report) {
            let problem = Some(Problem::of(error));
            let address = reference.registry.clone();
            let repository = whole.then(|| reference.repository.clone());
            report.ways.push(WayReport { address, repository, problem, ..WayReport::default() });
        }
        report
    }

    fn examine_all(
        &self,
        reference: &Reference,
        whole: bool,
        report: &mut Report,
    ) -> NetResult<()> {
        let settings = self.places.settings()?;
        report.settings.clone_from(&settings.files);
        report.notes = notes(settings);
        if let Some(rule) = settings.block(reference) {
            let name = if whole { hosts::name(reference) } else { reference.registry.clone() };
            let error = NetError::new(Trouble::Refused, hosts::blocked(&name, rule));
            report.ways.push(WayReport {
                address: reference.registry.clone(),
                repository: whole.then(|| reference.repository.clone()),
                set_by: Some(rule.origin.to_string()),
                blocked: true,
                problem: Some(Problem::of(error)),
                ..WayReport::default()
            });
            return Ok(());
        }
        let mut ways = self.places.mirrors(reference)?;
        ways.push(self.places.way(reference)?);
        report.ways = ways.iter().map(|way| self.examine_way(way, reference, whole)).collect();
        Ok(())
    }

    fn examine_way(&self, way: &Way, reference: &Reference, whole: bool) -> WayReport {
        let mut report = WayReport {
            mirror: way.is_mirror,
            address: way.base.clone().unwrap_or_else(|| way.host.clone()),
            repository: whole.then(|| way.repository.clone()),
            set_by: way.origin.clone(),
            insecure: way.insecure,
            ..WayReport::default()
        };
        if let Err(error) = self.try_way(way, reference, whole, &mut report) {
            report.problem = Some(Problem::of(error));
        }
        report
    }

    fn try_way(
        &self,
        way: &Way,
        reference: &Reference,
        whole: bool,
        report: &mut WayReport,
    ) -> NetResult<()> {
        let place = self.open(way).inspect_err(|_| {
            // What of it was seen all the same: it is most often reached by https.
            if let Some(url) = Url::parse(&format!("https://{}/", way.host)) {
                self.look(&url, way.insecure, report);
            }
        })?;
        report.address.clone_from(&place.base);
        report.insecure = place.plain == Plain::Unverified;
        // A login may be for a part of the registry, and no part was asked for.
        let looked = self.login(&place, if whole { &place.repository } else { "" })?;
        report.login = looked.login.as_ref().map(|login| LoginReport {
            user: login.user().map(str::to_owned),
            source: looked.source.clone(),
            accepted: None,
        });
        let url = Url::parse(&format!("{}/v2/", place.base));
        let url = url.ok_or_else(|| super::places::bad_name(&way.host))?;
        let ask = Ask::get(&place.whom, url.clone(), place.plain);
        let answer = self.http.follow(&ask);
        self.look(&url, report.insecure, report);
        let answer = answer.map_err(|lost| lost.error)?;
        report.status = Some(answer.status);
        report.version = Some("HTTP/1.1".to_owned());
        report.auth = auth::asked(answer.headers("www-authenticate"));
        limits(&answer, report);
        // 401 is an answer: many registries give it to nobody in particular and let him pull all the same.
        if !matches!(answer.status, 200 | 401) {
            return Err(not_a_registry(answer, &place));
        }
        if let Some(login) = &mut report.login
            && answer.status == 401
            && answer.url.same_origin(&url)
        {
            let tried = self.try_login(&place, ask, &answer, &looked);
            login.accepted = match &tried {
                Ok(()) => Some(true),
                Err(error) => (error.trouble() == Trouble::Refused).then_some(false),
            };
            tried?;
        }
        if whole { self.try_manifest(&place, reference, report) } else { Ok(()) }
    }

    fn try_manifest(
        &self,
        place: &Place,
        reference: &Reference,
        report: &mut WayReport,
    ) -> NetResult<()> {
        let answer = self.ask_at(
            place,
            &Wish {
                reference,
                method: "HEAD",
                path: Path::Below(&manifest_path(reference)),
                accept: manifest::ACCEPT,
                headers: &[],
                from: 0,
                payload: Payload::None,
                access: Access::Read,
            },
        )?;
        report.manifest = Some(answer.status);
        limits(&answer, report);
        match answer.status {
            200 | 404 => Ok(()),
            _ => Err(answer.refusal(&place.whom)),
        }
    }

    /// Addresses, proxy and certificates on the way to an address.
    fn look(&self, url: &Url, unverified: bool, report: &mut WayReport) {
        let (host, port) = (url.host(), url.port());
        if let Some(proxy) = self.http.proxy(url) {
            let scheme = proxy.uri().scheme_str().unwrap_or("http").to_owned();
            report.proxy = Some(format!("{scheme}://{}:{}", proxy.host(), proxy.port()));
        } else if !self.http.is_offline() {
            let found = (host, port).to_socket_addrs().into_iter().flatten();
            report.addresses = found.map(|address| address.to_string()).collect();
            report.addresses.dedup();
        }
        let shown = url.is_https().then(|| self.http.trust().shown(host, port, unverified));
        report.tls = shown.flatten().map(|shown| {
            let (root, root_file) = shown.root.unzip();
            TlsReport {
                chain: shown.chain.into_iter().map(certificate).collect(),
                root,
                root_file,
                client: shown.client.map(|file| file.display().to_string()),
            }
        });
    }
}

fn limits(answer: &Answer, report: &mut WayReport) {
    let value = |name| answer.header(name).map(|text| printable(text, MAX_VALUE));
    report.limit = value("ratelimit-limit").or(report.limit.take());
    report.remaining = value("ratelimit-remaining").or(report.remaining.take());
}

fn not_a_registry(answer: Answer, place: &Place) -> NetError {
    let missing = answer.status == 404;
    let error = answer.refusal(&place.whom);
    if !missing {
        return error;
    }
    let said = Error::registry(format!("{} is no registry", place.whom));
    let causes = error.error().causes().iter();
    let said = causes.fold(said, Error::cause);
    let hint = "check host and port; a registry answers `GET /v2/` with 200 or 401";
    NetError::new(error.trouble(), said.hint(hint))
}

fn certificate(read: Certificate) -> CertificateReport {
    CertificateReport {
        subject: read.subject,
        issuer: read.issuer,
        not_before: date(read.not_before),
        not_after: date(read.not_after),
    }
}

/// Settings without an effect.
fn notes(settings: &Settings) -> Vec<String> {
    let conf = &settings.conf;
    let mut all: Vec<String> =
        conf.unknown.iter().map(|(at, what)| format!("{at}: {what} has no meaning here")).collect();
    let short = "short names mean Docker Hub here";
    if let Some((search, at)) = conf.search.as_ref().filter(|(search, _)| !search.is_empty()) {
        all.push(format!("{at}: {} is not searched: {short}", search.join(", ")));
    }
    let aliases = conf.aliases.iter().filter(|(_, target, _)| !target.is_empty()).count();
    if aliases > 0 {
        all.push(format!("{aliases} aliases for short names are not used: {short}"));
    }
    all
}
