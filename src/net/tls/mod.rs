//! TLS below http: a connector for `ureq` that asks for each host what is trusted there and who we are to it.
//!
//! In: paths of certificates; out: a [`Connector`] that stands behind the one for TCP and proxies. A proxy that is reached
//! by https goes the same way. Failures come out as a [`TlsTrouble`] inside an `io::Error`, so that `http` can say what
//! to do.

mod certificate;
mod trust;
mod verify;

pub(super) use certificate::{Certificate, date};
pub use trust::CertificatePlaces;
pub(super) use verify::TlsTrouble;

use super::failure::{NetError, Trouble};
use crate::error::Result;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, ClientConfig, ClientConnection, SignatureScheme, StreamOwned};
use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use trust::{Anchor, Client, OfHost, Roots};
use ureq::http::Uri;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};
use verify::Verifier;

/// What is trusted where; read when it is first needed.
#[derive(Debug)]
pub(super) struct Trust {
    places: CertificatePlaces,
    /// From files that flags name.
    authorities: Vec<Anchor>,
    common: OnceLock<Arc<Roots>>,
    /// By host and port, and whether it is verified.
    hosts: Mutex<HashMap<(String, u16, bool), Arc<Host>>>,
    /// Keep the chains that are shown.
    watch: bool,
}

/// TLS to one host.
#[derive(Debug)]
struct Host {
    config: ClientConfig,
    verifier: Arc<Verifier>,
    client: Option<Client>,
}

/// What is known of a host's certificates.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// As the server showed them.
    pub(super) chain: Vec<Certificate>,
    /// Subject of the trusted certificate that the chain ends in, and its file.
    pub(super) root: Option<(String, String)>,
    /// Our own certificate.
    pub(super) client: Option<PathBuf>,
}

impl Trust {
    /// Reads `authorities` at once: flags name them.
    pub(super) fn new(
        places: &CertificatePlaces,
        authorities: &[PathBuf],
        watch: bool,
    ) -> Result<Self> {
        let read: Result<Vec<_>> = authorities.iter().map(|file| trust::read(file)).collect();
        Ok(Self {
            places: places.clone(),
            authorities: read?.into_iter().flatten().collect(),
            common: OnceLock::new(),
            hosts: Mutex::default(),
            watch,
        })
    }

    fn common(&self) -> Result<Arc<Roots>> {
        if let Some(common) = self.common.get() {
            return Ok(Arc::clone(common));
        }
        let roots = Arc::new(Roots::system(&self.places, &self.authorities)?);
        Ok(Arc::clone(self.common.get_or_init(|| roots)))
    }

    fn host(&self, host: &str, port: u16, unverified: bool) -> Result<Arc<Host>> {
        let key = (host.to_owned(), port, unverified);
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = hosts.get(&key) {
            return Ok(Arc::clone(known));
        }
        let names = trust::names_of(host, port);
        let own = OfHost::read(&self.places, &names)?;
        let mut roots = self.common()?;
        if !own.anchors.is_empty() {
            roots = Arc::new(roots.with(own.anchors));
        }
        let made =
            Arc::new(Host::new(roots, own.client, names.last().cloned(), unverified, self.watch)?);
        hosts.insert(key, Arc::clone(&made));
        Ok(made)
    }

    /// What a host showed last; `None` when there was no connection, or nobody watches.
    pub(super) fn shown(&self, host: &str, port: u16, unverified: bool) -> Option<Shown> {
        let known = self.host(host, port, unverified).ok()?;
        let chain = known.verifier.seen.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let read: Vec<Certificate> =
            chain.iter().filter_map(|der| Certificate::read(der)).collect();
        let root = root_of(&chain, &read, &known.verifier.roots);
        let client = known.client.as_ref().map(|client| client.file.clone());
        (!chain.is_empty()).then_some(Shown { chain: read, root, client })
    }
}

/// The trusted certificate at the end of a chain: one of its own, or the issuer of its last.
fn root_of(
    chain: &[CertificateDer<'_>],
    read: &[Certificate],
    roots: &Roots,
) -> Option<(String, String)> {
    let anchors = || roots.anchors.iter();
    let in_it = anchors().find(|anchor| chain.contains(&anchor.der));
    let above = || {
        anchors().find(|anchor| {
            let subject = Certificate::read(&anchor.der).map(|anchor| anchor.subject);
            subject.is_some_and(|subject| read.iter().any(|one| one.issuer == subject))
        })
    };
    let anchor = in_it.or_else(above)?;
    Some((Certificate::read(&anchor.der)?.subject, anchor.source.to_string()))
}

impl Host {
    fn new(
        roots: Arc<Roots>,
        client: Option<Client>,
        name: Option<String>,
        unverified: bool,
        watch: bool,
    ) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Arc::new(Verifier {
            roots,
            algorithms: provider.signature_verification_algorithms,
            unverified,
            host: name.unwrap_or_default(),
            seen: watch.then(Mutex::default),
        });
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| crate::error::Error::internal("TLS without versions").cause(error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as _)
            .with_no_client_auth();
        Ok(Self { config, verifier, client })
    }
}

/// Our side of a client's certificate, for one connection.
#[derive(Debug)]
struct Identity {
    client: Option<Client>,
    asked: AtomicBool,
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::SeqCst);
        self.client.as_ref().map(|client| Arc::clone(&client.key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl Identity {
    /// Why a connection broke, when that has to do with who we are; else the failure itself.
    fn explain(&self, error: io::Error, host: &str) -> io::Error {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let trouble = match inner {
            Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other))) => {
                other.0.downcast_ref::<TlsTrouble>().cloned()
            }
            Some(rustls::Error::AlertReceived(alert)) => self.refused(*alert, host),
            // What the server said may be lost with the connection.
            None if self.asked.load(Ordering::SeqCst)
                && is_hang_up(&error)
                && self.client.is_none() =>
            {
                Some(missing(host, "the server asked for one and hung up"))
            }
            _ => None,
        };
        trouble.map_or(error, io::Error::other)
    }

    fn refused(&self, alert: AlertDescription, host: &str) -> Option<TlsTrouble> {
        use AlertDescription as A;
        let about_us = matches!(
            alert,
            A::CertificateRequired
                | A::BadCertificate
                | A::UnsupportedCertificate
                | A::CertificateRevoked
                | A::CertificateExpired
                | A::CertificateUnknown
                | A::UnknownCA
                | A::AccessDenied
                | A::HandshakeFailure
        );
        if !about_us || !self.asked.load(Ordering::SeqCst) {
            return None;
        }
        let said = format!("the server says {alert:?}");
        let Some(client) = &self.client else { return Some(missing(host, &said)) };
        Some(TlsTrouble {
            what: "refuses our client certificate".to_owned(),
            cause: said,
            hint: format!(
                "see whether `{}` is still valid and of an authority that the server trusts",
                client.file.display()
            ),
        })
    }
}

fn missing(host: &str, said: &str) -> TlsTrouble {
    TlsTrouble {
        what: "asks for a client certificate".to_owned(),
        cause: said.to_owned(),
        hint: format!(
            "put certificate and key into `/etc/docker/certs.d/{host}/client.cert` and `client.key` (or under `~/.config/containers/certs.d`), or name their directory with `--cert-dir`"
        ),
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe | K::UnexpectedEof
    )
}

/// Puts TLS over a connection where the address says https.
#[derive(Clone)]
pub(super) struct TlsConnector {
    trust: Arc<Trust>,
    unverified: bool,
    /// The proxy is verified all the same.
    proxy: Option<Uri>,
}

impl TlsConnector {
    pub(super) fn new(trust: Arc<Trust>, unverified: bool, proxy: Option<Uri>) -> Self {
        Self { trust, unverified, proxy }
    }

    fn wrap<In: Transport>(
        &self,
        details: &ConnectionDetails<'_>,
        below: In,
    ) -> std::result::Result<TlsTransport, ureq::Error> {
        let host = details.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = details.uri.port_u16().unwrap_or(443);
        let unverified = self.unverified && self.proxy.as_ref() != Some(details.uri);
        let known = self.trust.host(host, port, unverified).map_err(|error| {
            ureq::Error::Io(io::Error::other(NetError::new(Trouble::Local, error)))
        })?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| ureq::Error::BadUri(format!("`{host}` is no name for TLS")))?;
        let identity =
            Arc::new(Identity { client: known.client.clone(), asked: AtomicBool::new(false) });
        let mut config = known.config.clone();
        config.client_auth_cert_resolver = Arc::clone(&identity) as _;
        let host = known.verifier.host.clone();
        let mut conn = ClientConnection::new(Arc::new(config), name)
            .map_err(|error| ureq::Error::Io(io::Error::other(error)))?;
        let mut sock = TransportAdapter::new(below.boxed(), details.current_time.clone());
        sock.set_timeout(details.timeout);
        conn.complete_io(&mut sock).map_err(|error| identity.explain(error, &host))?;
        let sizes = (details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(TlsTransport {
            buffers: LazyBuffers::new(sizes.0, sizes.1),
            stream: StreamOwned { conn, sock },
            identity,
            host,
        })
    }
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> std::result::Result<Option<Self::Out>, ureq::Error> {
        match chained {
            None => Ok(None),
            Some(below) if !details.needs_tls() || below.is_tls() => Ok(Some(Either::A(below))),
            Some(below) => self.wrap(details, below).map(|over| Some(Either::B(over))),
        }
    }
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsConnector")
    }
}

/// A connection with TLS.
pub(super) struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
    identity: Arc<Identity>,
    host: String,
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(
        &mut self,
        amount: usize,
        timeout: NextTimeout,
    ) -> std::result::Result<(), ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let output = &self.buffers.output()[..amount];
        let sent = self.stream.write_all(output);
        Ok(sent.map_err(|error| self.identity.explain(error, &self.host))?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> std::result::Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let read = self.stream.read(self.buffers.input_append_buf());
        let amount = read.map_err(|error| self.identity.explain(error, &self.host))?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTransport")
    }
}
