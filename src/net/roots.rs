//! Whom TLS trusts: the system's authorities, and files that the user names.

use crate::error::{Error, ErrorKind, Result, ResultExt};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};

/// The largest file of certificates that is read, in bytes.
const LARGEST: u64 = 16 << 20;

/// The system's authorities and those in `files`.
pub(super) fn of(files: &[PathBuf]) -> Result<RootCerts> {
    if files.is_empty() {
        return Ok(RootCerts::PlatformVerifier);
    }
    let system = rustls_native_certs::load_native_certs();
    let mut all: Vec<Certificate<'static>> =
        system.certs.iter().map(|cert| Certificate::from_der(cert).to_owned()).collect();
    for file in files {
        all.extend(read(file)?);
    }
    Ok(RootCerts::Specific(Arc::new(all)))
}

fn read(file: &Path) -> Result<Vec<Certificate<'static>>> {
    let shown = file.display();
    let mut text = Vec::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(LARGEST).read_to_end(&mut text))
        .or_error(ErrorKind::Usage, || format!("cannot read the certificates in `{shown}`"))?;
    let mut found = Vec::new();
    for item in parse_pem(&text) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(error) => {
                let message = format!("`{shown}` holds a damaged certificate");
                return Err(Error::usage(message).cause(error.to_string().to_lowercase()));
            }
        }
    }
    if found.is_empty() {
        return Err(Error::usage(format!("`{shown}` holds no certificate"))
            .hint("certificates are in PEM form: `-----BEGIN CERTIFICATE-----`"));
    }
    Ok(found)
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
            of(std::slice::from_ref(&file)).unwrap_err().to_string()
        };
        assert!(said("").contains("holds no certificate"));
        assert!(
            said("-----BEGIN CERTIFICATE-----\n%%\n-----END CERTIFICATE-----\n")
                .contains("damaged")
        );
        std::fs::remove_file(&file).unwrap();
        let error = of(&[file]).unwrap_err();
        assert!(error.to_string().starts_with("cannot read the certificates"), "{error}");
    }
}
