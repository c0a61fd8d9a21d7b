//! Whom TLS trusts, and who we are to a host: the system's authorities, files that the user names, and directories of
//! certificates that hold for one host (`certs.d` of docker and of the containers tools).
//!
//! In: paths; out: [`Roots`] and a client certificate for a host. Nothing is read before the first TLS connection but the
//! files that flags name. `HOST[:PORT]/*.crt` are authorities, `NAME.cert` with `NAME.key` is a client certificate.

use super::certificate::{Certificate, key_of};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use rustls::RootCertStore;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest file of certificates that is read, in bytes.
const LARGEST: u64 = 16 << 20;
/// Entries of a directory that are looked at.
const MOST_FILES: usize = 1000;

/// Where certificates are; `cli` takes the paths from flags and the environment.
#[derive(Clone, Debug, Default)]
pub struct CertificatePlaces {
    /// A file instead of the system's (`SSL_CERT_FILE`).
    pub file: Option<PathBuf>,
    /// Directories instead of the system's (`SSL_CERT_DIR`).
    pub dirs: Vec<PathBuf>,
    /// Directories with one directory for each host (`certs.d`). All count; of client certificates the first found.
    pub hosts: Vec<PathBuf>,
    /// Directories like one of a host, for every registry (`--cert-dir`).
    pub every_host: Vec<PathBuf>,
    /// Files with authorities for one host, `host[:port]`.
    pub of_host: Vec<(String, PathBuf)>,
    /// Our certificate for one host, and its key.
    pub clients: Vec<(String, PathBuf, PathBuf)>,
}

/// A certificate that is trusted.
#[derive(Clone, Debug)]
pub(super) struct Anchor {
    pub(super) der: CertificateDer<'static>,
    /// The file, or `the system's certificates`.
    pub(super) source: Arc<str>,
}

/// Certificates that are trusted together.
#[derive(Clone, Debug)]
pub(super) struct Roots {
    pub(super) store: RootCertStore,
    pub(super) anchors: Vec<Anchor>,
}

impl Roots {
    fn of(anchors: Vec<Anchor>) -> Self {
        let mut store = RootCertStore::empty();
        // What is no certificate to rustls may still be the very one that a server shows.
        store.add_parsable_certificates(anchors.iter().map(|anchor| anchor.der.clone()));
        Self { store, anchors }
    }

    /// The system's certificates and `more`.
    pub(super) fn system(places: &CertificatePlaces, more: &[Anchor]) -> Result<Self> {
        let mut anchors = Vec::new();
        if places.file.is_none() && places.dirs.is_empty() {
            let source: Arc<str> = "the system's certificates".into();
            // That there are none is told when one is missing.
            let found = rustls_native_certs::load_native_certs().certs;
            anchors
                .extend(found.into_iter().map(|der| Anchor { der, source: Arc::clone(&source) }));
        }
        if let Some(file) = &places.file {
            let certificates = read(file).map_err(|error| {
                error.wrap("SSL_CERT_FILE cannot be used").with_kind(ErrorKind::Environment)
            })?;
            anchors.extend(certificates);
        }
        for dir in &places.dirs {
            let source: Arc<str> = dir.display().to_string().into();
            let found = rustls_native_certs::load_certs_from_paths(None, Some(dir)).certs;
            anchors
                .extend(found.into_iter().map(|der| Anchor { der, source: Arc::clone(&source) }));
        }
        anchors.extend_from_slice(more);
        Ok(Self::of(anchors))
    }

    /// These and `more`.
    pub(super) fn with(&self, more: Vec<Anchor>) -> Self {
        let mut all = self.anchors.clone();
        all.extend(more);
        Self::of(all)
    }
}

/// A client certificate with its key.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) file: PathBuf,
}

/// What directories say of one host.
#[derive(Debug, Default)]
pub(super) struct OfHost {
    pub(super) anchors: Vec<Anchor>,
    pub(super) client: Option<Client>,
}

impl OfHost {
    /// Reads what there is for a host under any of its names.
    pub(super) fn read(places: &CertificatePlaces, names: &[String]) -> Result<Self> {
        let mut all = Self::default();
        let fits = |host: &str| names.iter().any(|name| name.eq_ignore_ascii_case(host));
        for (_, file) in places.of_host.iter().filter(|(host, _)| fits(host)) {
            all.anchors.extend(read(file)?);
        }
        if let Some((_, file, key)) = places.clients.iter().find(|(host, ..)| fits(host)) {
            all.client = Some(client(file, key)?);
        }
        for dir in &places.every_host {
            // A flag names it, so it has to be there.
            std::fs::read_dir(dir).or_error(ErrorKind::Usage, || cannot_read(dir))?;
            all.add(dir)?;
        }
        for parent in &places.hosts {
            for name in names {
                // Nobody named these files: it is this machine that is not set up well.
                all.add(&parent.join(name))
                    .map_err(|error| error.with_kind(ErrorKind::Environment))?;
            }
        }
        Ok(all)
    }

    fn add(&mut self, dir: &Path) -> Result<()> {
        let Ok(entries) = std::fs::read_dir(dir) else { return Ok(()) };
        let mut files: Vec<PathBuf> =
            entries.filter_map(|entry| Some(entry.ok()?.path())).take(MOST_FILES).collect();
        files.sort();
        for file in files {
            match file.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => self.anchors.extend(read(&file)?),
                Some("cert") if self.client.is_none() => {
                    self.client = Some(client(&file, &file.with_extension("key"))?);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The names under which a host may have a directory, the most particular first.
pub(super) fn names_of(host: &str, port: u16) -> Vec<String> {
    let host = host.to_ascii_lowercase();
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host };
    let mut names = vec![format!("{bracketed}:{port}")];
    if port == 443 {
        names.push(bracketed.clone());
        if bracketed == "registry-1.docker.io" {
            names.push("docker.io".to_owned());
        }
    }
    names
}

/// The certificates in a PEM file.
pub(super) fn read(file: &Path) -> Result<Vec<Anchor>> {
    let found = certificates(file)?;
    let source: Arc<str> = file.display().to_string().into();
    Ok(found.into_iter().map(|der| Anchor { der, source: Arc::clone(&source) }).collect())
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let shown = file.display();
    let text = bytes(file)?;
    let mut found = Vec::new();
    for item in CertificateDer::pem_slice_iter(&text) {
        found.push(item.map_err(|error| {
            let message = format!("`{shown}` holds a damaged certificate");
            Error::usage(message).cause(error.to_string().to_lowercase())
        })?);
    }
    if found.is_empty() {
        return Err(Error::usage(format!("`{shown}` holds no certificate"))
            .hint("certificates are in PEM form: `-----BEGIN CERTIFICATE-----`"));
    }
    Ok(found)
}

/// A certificate of ours and its key.
fn client(file: &Path, key_file: &Path) -> Result<Client> {
    let (shown, key_shown) = (file.display(), key_file.display());
    let chain = certificates(file)?;
    // Only a directory's file was taken for something by its name.
    let hint = format!(
        "`{shown}` is taken for a client certificate, whose key is in `{key_shown}`; an authority's certificate ends in `.crt`"
    );
    let by_name = file.extension().is_some_and(|extension| extension == "cert");
    let missing = |error: Error| if by_name { error.hint(hint.clone()) } else { error };
    let text = bytes(key_file).map_err(missing)?;
    let bad = || format!("`{key_shown}` holds no private key that can be used");
    // What the parser says could quote the key.
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| Error::usage(bad()))?;
    let key = any_supported_type(&key).map_err(|_| Error::usage(bad()))?;
    // Old certificates (X.509 version 1) serve as well, so only the keys are compared.
    let theirs = chain.first().and_then(|der| Certificate::read(der)).map(|read| read.key);
    let ours = key.public_key();
    let ours = ours.as_ref().and_then(|info| key_of(info));
    if theirs.as_deref().zip(ours).is_some_and(|(theirs, ours)| theirs != ours) {
        return Err(Error::usage(format!("`{key_shown}` is not the key of `{shown}`"))
            .hint("put the key with which that certificate was asked for beside it"));
    }
    let pair = CertifiedKey::new(chain, key);
    Ok(Client { key: Arc::new(pair), file: file.to_owned() })
}

fn bytes(file: &Path) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(LARGEST).read_to_end(&mut text))
        .or_error(ErrorKind::Usage, || cannot_read(file))?;
    Ok(text)
}

fn cannot_read(path: &Path) -> String {
    format!("cannot read the certificates in `{}`", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_without_certificates_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        let said = |text: &str| {
            std::fs::write(&file, text).unwrap();
            read(&file).unwrap_err().to_string()
        };
        assert!(said("").contains("holds no certificate"));
        assert!(
            said("-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----\n")
                .contains("damaged")
        );
        std::fs::remove_file(&file).unwrap();
        let error = read(&file).unwrap_err();
        assert!(error.to_string().starts_with("cannot read the certificates"), "{error}");
    }

    #[test]
    fn hosts_have_directories_with_and_without_a_port() {
        assert_eq!(names_of("R.example", 5000), ["r.example:5000"]);
        assert_eq!(names_of("r.example", 443), ["r.example:443", "r.example"]);
        assert_eq!(names_of("::1", 5000), ["[::1]:5000"]);
        let hub = names_of("registry-1.docker.io", 443);
        assert_eq!(hub, ["registry-1.docker.io:443", "registry-1.docker.io", "docker.io"]);
    }
}
