//! Certificates of an authority that exists for one test, made by openssl.

use super::{Said, World};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// An authority in a directory of its own.
pub struct Authority {
    dir: PathBuf,
}

/// A certificate and its key.
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// When a certificate holds.
pub const NOW: (&str, &str) = ("20200101000000Z", "20490101000000Z");

const CONFIG: &str = "[ca]
default_ca = own
[own]
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
copy_extensions = copy
[any]
commonName = supplied
";

impl Authority {
    /// `name` is its directory and its common name.
    pub fn new(world: &World, name: &str) -> Self {
        let authority = Self { dir: world.path(name) };
        fs::create_dir(&authority.dir).unwrap();
        let paths = ["database = index", "new_certs_dir = ."].map(|line| format!("{line}\n"));
        let config = CONFIG.replace("rand_serial", &(paths.concat() + "rand_serial"));
        fs::write(authority.dir.join("config"), config).unwrap();
        fs::write(authority.dir.join("index"), "").unwrap();
        authority.request("ca", name, &["basicConstraints=critical,CA:TRUE"]);
        authority.sign("ca", &["-selfsign", "-keyfile", "ca.key"], NOW);
        authority
    }

    /// Its own certificate.
    pub fn certificate(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// A certificate for names such as `DNS:localhost` and `IP:127.0.0.1`.
    pub fn issue(&self, file: &str, names: &str, when: (&str, &str)) -> Pair {
        let names = format!("subjectAltName={names}");
        self.request(file, "server", &[&names, "basicConstraints=critical,CA:FALSE"]);
        self.sign(file, &["-cert", "ca.pem", "-keyfile", "ca.key"], when);
        self.pair(file)
    }

    /// A certificate of X.509's first version, which has no extensions.
    pub fn old(&self, file: &str) -> Pair {
        self.request(file, "client", &[]);
        let (request, out) = (format!("{file}.csr"), format!("{file}.pem"));
        let mut openssl = self.openssl(&["x509", "-req", "-in", &request, "-out", &out]);
        openssl.args(["-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2"]);
        Said::of(openssl.output().unwrap()).ok();
        self.pair(file)
    }

    /// A certificate that is its own root, and calls itself an authority.
    pub fn own_root(&self, file: &str, names: &str, when: (&str, &str)) -> Pair {
        let names = format!("subjectAltName={names}");
        self.request(file, "server", &[&names, "basicConstraints=critical,CA:TRUE"]);
        let key = format!("{file}.key");
        self.sign(file, &["-selfsign", "-keyfile", &key], when);
        self.pair(file)
    }

    fn pair(&self, file: &str) -> Pair {
        let path = |end: &str| self.dir.join(format!("{file}.{end}"));
        Pair { certificate: path("pem"), key: path("key") }
    }

    fn request(&self, file: &str, name: &str, extensions: &[&str]) {
        let (key, out) = (format!("{file}.key"), format!("{file}.csr"));
        let mut openssl = self.openssl(&["req", "-new", "-newkey", "ec", "-nodes"]);
        openssl.args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", &format!("/CN={name}")]);
        openssl.args(["-keyout", &key, "-out", &out]);
        openssl.args(extensions.iter().flat_map(|extension| ["-addext", extension]));
        Said::of(openssl.output().unwrap()).ok();
    }

    fn sign(&self, file: &str, by: &[&str], (from, to): (&str, &str)) {
        let (request, out) = (format!("{file}.csr"), format!("{file}.pem"));
        let mut openssl = self.openssl(&["ca", "-batch", "-config", "config", "-notext"]);
        openssl.args(by).args(["-startdate", from, "-enddate", to, "-in", &request, "-out", &out]);
        Said::of(openssl.output().unwrap()).ok();
    }

    fn openssl(&self, args: &[&str]) -> Command {
        let mut openssl = Command::new("openssl");
        openssl.args(args).current_dir(&self.dir);
        openssl
    }
}
