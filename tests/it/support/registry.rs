//! Debian's docker-registry on loopback: open, or with TLS and a password.

use super::certificates::Pair;
use super::{Said, World};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The server; gone with the value.
pub struct Registry {
    process: Child,
    /// `127.0.0.1:PORT`.
    pub address: String,
}

/// Name and password of [`Registry::private`].
pub const LOGIN: &str = "me:pass:word";

impl Registry {
    /// Plain http, open to all.
    pub fn start(world: &World) -> Self {
        Self::start_as(world, "registry")
    }

    /// The same under a name of its own, where there are several.
    pub fn start_as(world: &World, name: &str) -> Self {
        Self::with(world, name, "http: {addr: '127.0.0.1:0'}\n")
    }

    /// https with an authority of its own, whose certificate comes back, and a password.
    pub fn private(world: &World) -> (Self, PathBuf) {
        let file = |name: &str| world.path(name).to_str().unwrap().to_owned();
        let (key, certificate) = (file("registry.key"), file("registry.pem"));
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]);
        openssl.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]);
        // As an authority it would be no server's certificate.
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        openssl.args(["-keyout", &key, "-out", &certificate]);
        Said::of(openssl.output().unwrap()).ok();
        let auth = htpasswd(world);
        let yaml = format!(
            "http: {{addr: '127.0.0.1:0', tls: {{certificate: {certificate}, key: {key}}}}}\n{auth}"
        );
        let registry = Self::with(world, "private-registry", &yaml);
        world.give();
        (registry, world.path("registry.pem"))
    }

    /// Plain http, with the password of [`LOGIN`].
    pub fn with_password(world: &World) -> Self {
        let yaml = format!("http: {{addr: '127.0.0.1:0'}}\n{}", htpasswd(world));
        Self::with(world, "password-registry", &yaml)
    }

    /// https with a certificate; `more` goes into the `tls` section, as `, name: value`.
    pub fn secure(world: &World, name: &str, pair: &Pair, more: &str) -> Self {
        let (certificate, key) = (pair.certificate.display(), pair.key.display());
        let tls = format!("certificate: {certificate}, key: {key}{more}");
        Self::with(world, name, &format!("http: {{addr: '127.0.0.1:0', tls: {{{tls}}}}}\n"))
    }

    pub(super) fn with(world: &World, name: &str, yaml: &str) -> Self {
        let config = world.path(&format!("{name}.yml"));
        let storage = world.path(name);
        let yaml = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n{yaml}",
            storage.display()
        );
        fs::write(&config, yaml).unwrap();
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(config)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let said = lines.find_map(|line| {
            let line = line.unwrap();
            let (_, address) = line.split_once("listening on ")?;
            Some(address.split([',', '"', ' ']).next().unwrap().to_owned())
        });
        // Its log goes on; somebody must read it.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address: said.unwrap() }
    }
}

/// Settings that ask for [`LOGIN`].
fn htpasswd(world: &World) -> String {
    let (user, password) = LOGIN.split_once(':').unwrap();
    let perl = "print crypt($ARGV[0], '$2y$05$abcdefghijklmnopqrstuu')";
    let hash = Command::new("perl").args(["-e", perl, password]).output().unwrap();
    let hash = Said::of(hash).ok();
    assert!(hash.starts_with("$2y$"), "{hash}");
    let path = world.path("htpasswd");
    fs::write(&path, format!("{user}:{hash}\n")).unwrap();
    format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", path.display())
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}
