//! Whether a server is who it should be, and in words why not.
//!
//! In: the chain that a server shows; out: yes, or a [`TlsTrouble`]. The chain is checked by webpki. Beyond that, a
//! certificate that is byte for byte in the list of trusted ones is accepted whatever it says of being an authority (as
//! docker does), if its name and its dates are right.

use super::certificate::{Certificate, date};
use super::trust::Roots;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Names of a certificate that a message lists.
const MOST_NAMES: usize = 8;

/// What is wrong with a TLS connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsTrouble {
    /// Goes on after who it is about: `shows a certificate …`.
    pub(crate) what: String,
    pub(crate) cause: String,
    pub(crate) hint: String,
}

impl fmt::Display for TlsTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl std::error::Error for TlsTrouble {}

/// Checks the certificates of one host.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) roots: Arc<Roots>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    /// Any certificate will do: the user said so.
    pub(super) unverified: bool,
    /// `HOST:PORT`, for hints.
    pub(super) host: String,
    /// The last chain that was shown, when somebody wants to see it.
    pub(super) seen: Option<Mutex<Vec<CertificateDer<'static>>>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(seen) = &self.seen {
            let chain = std::iter::once(end_entity).chain(intermediates);
            *seen.lock().unwrap_or_else(PoisonError::into_inner) =
                chain.map(|one| one.clone().into_owned()).collect();
        }
        if self.unverified {
            return Ok(ServerCertVerified::assertion());
        }
        let checked = self.check(end_entity, intermediates, server_name, now);
        checked.map(|()| ServerCertVerified::assertion()).map_err(|error| {
            let trouble = self.explain(error, end_entity, server_name, now);
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(trouble))))
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.unverified {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.unverified {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl Verifier {
    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let (store, algorithms) = (&self.roots.store, self.algorithms.all);
        let chain = verify_server_cert_signed_by_trust_anchor(
            &parsed,
            store,
            intermediates,
            now,
            algorithms,
        );
        match chain {
            Err(error) if self.trusts(end_entity) => {
                within_dates(end_entity, now).unwrap_or(Err(error))?;
            }
            chain => chain?,
        }
        verify_server_name(&parsed, server_name)
    }

    /// The very certificate is in the list.
    fn trusts(&self, certificate: &CertificateDer<'_>) -> bool {
        self.roots.anchors.iter().any(|anchor| anchor.der == *certificate)
    }

    fn explain(
        &self,
        error: Error,
        end_entity: &CertificateDer<'_>,
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> TlsTrouble {
        use CertificateError as C;
        let read = Certificate::read(end_entity);
        let (now, asked) = (date(now.as_secs() as i64), server_name.to_str().into_owned());
        let trouble = |what: &str, cause: String, hint: String| TlsTrouble {
            what: what.to_owned(),
            cause,
            hint,
        };
        let Error::InvalidCertificate(error) = error else { return other(&error) };
        match &error {
            C::NotValidForNameContext { presented, .. } => trouble(
                "shows a certificate for another name",
                format!("the certificate is for {}, not for `{asked}`", names(presented)),
                format!(
                    "use a name that the certificate has, or have it made anew with subjectAltName `{}`",
                    alternative(server_name)
                ),
            ),
            C::ExpiredContext { not_after, .. } => trouble(
                "shows a certificate that has expired",
                format!(
                    "a certificate of the chain ended at {}; it is {now} now",
                    date(not_after.as_secs() as i64)
                ),
                "renew it on the server; if that time is wrong, set the clock of this machine"
                    .to_owned(),
            ),
            C::NotValidYetContext { not_before, .. } => trouble(
                "shows a certificate that is not valid yet",
                format!(
                    "a certificate of the chain begins at {}; it is {now} now",
                    date(not_before.as_secs() as i64)
                ),
                "if that time is wrong, set the clock of this machine".to_owned(),
            ),
            C::UnknownIssuer | C::Other(_) => match read {
                Some(read) if read.names_itself => trouble(
                    "shows a certificate that it signed itself",
                    format!("nobody vouches for the certificate of `{}`", read.subject),
                    self.trust("this very certificate"),
                ),
                Some(read) if matches!(error, C::UnknownIssuer) => trouble(
                    "shows a certificate of an unknown authority",
                    format!(
                        "the certificate was issued by `{}`, which is not trusted here",
                        read.issuer
                    ),
                    self.trust("the certificate of that authority"),
                ),
                _ => other(&Error::InvalidCertificate(error)),
            },
            _ => other(&Error::InvalidCertificate(error)),
        }
    }

    /// How to make `what` trusted.
    fn trust(&self, what: &str) -> String {
        let way = format!(
            "if it is the right one, put {what} into `/etc/docker/certs.d/{}/ca.crt` (or `~/.config/containers/certs.d/{0}/ca.crt`), or name its file with `--tls-ca`",
            self.host
        );
        if self.roots.anchors.is_empty() {
            return format!(
                "this machine trusts no authority at all: install the `ca-certificates` package, or name a bundle in SSL_CERT_FILE; {way}"
            );
        }
        way
    }
}

fn other(error: &Error) -> TlsTrouble {
    TlsTrouble {
        what: "shows a certificate that cannot be used".to_owned(),
        cause: error.to_string().to_lowercase(),
        hint: "have the server's certificate made anew: X.509 version 3, for a server, with a subjectAltName".to_owned(),
    }
}

/// Whether a certificate is valid at a time; `None` when its dates cannot be read.
fn within_dates(der: &CertificateDer<'_>, time: UnixTime) -> Option<Result<(), Error>> {
    let read = Certificate::read(der)?;
    let now = time.as_secs() as i64;
    let at = |seconds: i64| {
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds.max(0) as u64))
    };
    let error = if now < read.not_before {
        CertificateError::NotValidYetContext { time, not_before: at(read.not_before) }
    } else if now > read.not_after {
        CertificateError::ExpiredContext { time, not_after: at(read.not_after) }
    } else {
        return Some(Ok(()));
    };
    Some(Err(Error::InvalidCertificate(error)))
}

fn names(presented: &[String]) -> String {
    // Such as `DnsName("a")` and `IpAddress(127.0.0.1)`.
    let plain = |name: &String| {
        let inner = name.split_once('(').map_or(&**name, |(_, rest)| rest.trim_end_matches(')'));
        format!("`{}`", super::super::failure::printable(inner.trim_matches('"'), 100))
    };
    let mut all: Vec<String> = presented.iter().take(MOST_NAMES).map(plain).collect();
    if presented.len() > MOST_NAMES {
        all.push(format!("{} more", presented.len() - MOST_NAMES));
    }
    match all.len() {
        0 => "no name at all (subjectAltName; the common name does not count)".to_owned(),
        _ => all.join(", "),
    }
}

fn alternative(name: &ServerName<'_>) -> String {
    let kind = if matches!(name, ServerName::IpAddress(_)) { "IP" } else { "DNS" };
    format!("{kind}:{}", name.to_str())
}
