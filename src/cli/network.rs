//! The way to registries, the same for all verbs: flags and the environment → [`NetConfig`].
//!
//! Only paths are put together here; `net` reads the files when a registry is asked. docs/registries.md.

use super::environment::Environment;
use super::logins::{self, AuthArgs};
use crate::boolean;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::net::{CertificatePlaces, HostFiles, NetConfig};
use clap::Args;
use std::path::{Path, PathBuf};

/// How registries are checked.
#[derive(Clone, Debug, Default, Args)]
pub struct TlsArgs {
    /// PEM file with certificates to trust, besides those of the system; may be repeated
    #[arg(long = "tls-ca", visible_alias = "cert-file", global = true, value_name = "FILE")]
    pub authorities: Vec<PathBuf>,
    /// Directory with certificates for all registries: authorities in `*.crt`, our own in `NAME.cert` and `NAME.key`
    #[arg(long = "cert-dir", global = true, value_name = "DIR")]
    pub cert_dirs: Vec<PathBuf>,
    /// Registry that may speak plain http or show any certificate; may be repeated
    #[arg(long = "insecure-registry", global = true, value_name = "HOST[:PORT]")]
    pub insecure: Vec<String>,
    /// `false`: all registries may
    #[arg(long, global = true, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = truth)]
    pub tls_verify: Option<bool>,
    /// Authorities of one registry, as kaniko names them.
    #[arg(skip)]
    pub of_host: Vec<(String, PathBuf)>,
    /// Certificates with their keys for one registry, as kaniko names them.
    #[arg(skip)]
    pub clients: Vec<(String, PathBuf, PathBuf)>,
}

fn truth(text: &str) -> std::result::Result<bool, String> {
    boolean::parse(text).ok_or_else(|| "it is `true` or `false`".to_owned())
}

/// The way to registries with the logins for them.
pub(super) fn net_config(
    args: &TlsArgs,
    auth: &AuthArgs,
    environment: &Environment,
) -> Result<NetConfig> {
    let credentials = logins::credentials(auth, environment)?;
    Ok(NetConfig { credentials, ..without_logins(args, environment)? })
}

/// Proxies of the environment, and where settings of registries are.
pub(super) fn without_logins(args: &TlsArgs, environment: &Environment) -> Result<NetConfig> {
    // At once, not only when a registry is asked.
    for path in args.authorities.iter().chain(&args.cert_dirs) {
        std::fs::metadata(path)
            .or_error(ErrorKind::Usage, || format!("cannot read `{}`", path.display()))?;
    }
    if let Some(host) = args.insecure.iter().find(|host| !is_host(host)) {
        return Err(Error::usage(format!("`--insecure-registry {host}` names no host"))
            .hint("write `HOST` or `HOST:PORT`, as in the names of images"));
    }
    let either = |name: &str| {
        environment.text(name).or_else(|| environment.text(&name.to_ascii_lowercase()))
    };
    let homes = Homes::of(environment);
    Ok(NetConfig {
        https_proxy: either("HTTPS_PROXY").or_else(|| either("ALL_PROXY")),
        // Upper case counts less where a server that runs us may have it from a request's header (CGI).
        http_proxy: environment
            .text("http_proxy")
            .or_else(|| environment.text("HTTP_PROXY").filter(|_| !is_cgi(environment)))
            .or_else(|| either("ALL_PROXY")),
        no_proxy: either("NO_PROXY").unwrap_or_default(),
        authorities: args.authorities.clone(),
        certificates: homes.certificates(args, environment),
        hosts: homes.files(environment),
        insecure: args.insecure.clone(),
        unverified: args.tls_verify == Some(false),
        offline: environment.offline(),
        warnings: environment.warnings().clone(),
        ..NetConfig::default()
    })
}

fn is_cgi(environment: &Environment) -> bool {
    environment.get("REQUEST_METHOD").is_some()
}

fn is_host(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "[]:.-_".contains(c))
}

/// Where a user keeps settings.
struct Homes {
    /// `~/.config`.
    config: Option<PathBuf>,
    /// `~/.docker`.
    docker: Option<PathBuf>,
}

impl Homes {
    fn of(environment: &Environment) -> Self {
        let home = environment.get("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        let config = environment.get("XDG_CONFIG_HOME").map(PathBuf::from);
        let config = config.filter(|dir| dir.is_absolute());
        Self {
            config: config.or_else(|| Some(home.as_ref()?.join(".config"))),
            docker: home.map(|home| home.join(".docker")),
        }
    }

    /// Below `~/.config`, as a list that may be empty.
    fn own(&self, below: &str) -> impl Iterator<Item = PathBuf> {
        self.config.iter().map(|config| config.join(below)).collect::<Vec<_>>().into_iter()
    }

    fn certificates(&self, args: &TlsArgs, environment: &Environment) -> CertificatePlaces {
        let dirs = environment.get("SSL_CERT_DIR").unwrap_or_default();
        let hosts = self.own("containers/certs.d");
        let hosts = hosts.chain([PathBuf::from("/etc/containers/certs.d")]);
        let docker = self.docker.iter().map(|docker| docker.join("certs.d"));
        let hosts = hosts.chain(self.own("docker/certs.d")).chain(docker);
        CertificatePlaces {
            file: environment.get("SSL_CERT_FILE").map(PathBuf::from),
            dirs: std::env::split_paths(&dirs).filter(|dir| dir != Path::new("")).collect(),
            hosts: hosts.chain([PathBuf::from("/etc/docker/certs.d")]).collect(),
            every_host: args.cert_dirs.clone(),
            of_host: args.of_host.clone(),
            clients: args.clients.clone(),
        }
    }

    fn files(&self, environment: &Environment) -> HostFiles {
        let system = |path: &str| [PathBuf::from(path)];
        HostFiles {
            named: environment.get("CONTAINERS_REGISTRIES_CONF").map(PathBuf::from),
            registries: self
                .own("containers/registries.conf")
                .chain(system("/etc/containers/registries.conf"))
                .collect(),
            drop_ins: system("/etc/containers/registries.conf.d")
                .into_iter()
                .chain(self.own("containers/registries.conf.d"))
                .collect(),
            daemon: self
                .own("docker/daemon.json")
                .chain(system("/etc/docker/daemon.json"))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(set: &[(&str, &str)]) -> NetConfig {
        without_logins(&TlsArgs::default(), &Environment::of(set)).unwrap()
    }

    #[test]
    fn files_of_the_user_come_before_those_of_the_system() {
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        let found = config(&[("HOME", "/h")]);
        assert_eq!(
            found.hosts.registries,
            paths(&["/h/.config/containers/registries.conf", "/etc/containers/registries.conf"])
        );
        assert_eq!(
            found.certificates.hosts,
            paths(&[
                "/h/.config/containers/certs.d",
                "/etc/containers/certs.d",
                "/h/.config/docker/certs.d",
                "/h/.docker/certs.d",
                "/etc/docker/certs.d",
            ])
        );
        let found =
            config(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x"), ("SSL_CERT_DIR", "/a::/b")]);
        assert_eq!(
            found.hosts.drop_ins,
            paths(&["/etc/containers/registries.conf.d", "/x/containers/registries.conf.d"])
        );
        assert_eq!(found.certificates.dirs, paths(&["/a", "/b"]));
        assert_eq!(config(&[]).hosts.registries, paths(&["/etc/containers/registries.conf"]));
    }

    #[test]
    fn proxies_are_taken_in_both_cases() {
        let of = |set: &[(&str, &str)]| {
            let found = config(set);
            (found.https_proxy, found.http_proxy, found.no_proxy)
        };
        let some = |text: &str| Some(text.to_owned());
        let all = [("all_proxy", "http://a"), ("no_proxy", "x")];
        assert_eq!(of(&all), (some("http://a"), some("http://a"), "x".to_owned()));
        let upper =
            [("HTTPS_PROXY", "s"), ("HTTP_PROXY", "p"), ("ALL_PROXY", "a"), ("NO_PROXY", "n")];
        assert_eq!(of(&upper), (some("s"), some("p"), "n".to_owned()));
        let cgi = [("HTTP_PROXY", "p"), ("REQUEST_METHOD", "GET")];
        assert_eq!(of(&cgi), (None, None, String::new()));
    }

    #[test]
    fn an_insecure_registry_is_a_host() {
        for (text, fits) in [
            ("r.example:5000", true),
            ("[::1]:5000", true),
            ("http://r.example", false),
            ("r.example/x", false),
            ("", false),
        ] {
            let args = TlsArgs { insecure: vec![text.to_owned()], ..TlsArgs::default() };
            assert_eq!(without_logins(&args, &Environment::of(&[])).is_ok(), fits, "{text}");
        }
    }
}
