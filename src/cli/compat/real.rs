//! Options of other builders that mean something here too, beside those in `args`: as typed, and what they become.

use crate::build::request::{BuildRequest, Entitlement};
use crate::cli::args::Pull;
use crate::error::{Error, ErrorKind, Result};
use crate::executor::settings::{Limit, RunSettings};
use crate::oci::Platform;
use crate::plan;
use crate::sys::{SysResultExt, limits};
use clap::Args;
use std::net::IpAddr;
use std::path::PathBuf;

/// Options with a meaning.
#[derive(Debug, Default, Args)]
pub struct RealArgs {
    /// Name for /etc/hosts of RUN, with its address; may be repeated
    #[arg(long = "add-host", value_name = "HOST:IP")]
    pub add_hosts: Vec<String>,
    /// Size of /dev/shm in a RUN [default: 64m]
    #[arg(long, value_name = "SIZE")]
    pub shm_size: Option<String>,
    /// Limit of RUN, `-1` means none; may be repeated
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    pub ulimits: Vec<String>,
    /// Where steps are kept for other machines: `type=registry,ref=NAME[,mode=max]`, `type=local,dest=DIR`; may be
    /// repeated
    #[arg(long = "cache-to", value_name = "SPEC")]
    pub cache_to: Vec<String>,
    /// Where to look for steps of other machines: NAME, `type=registry,ref=NAME`, `type=local,src=DIR`; may be repeated
    #[arg(long = "cache-from", value_name = "SPEC")]
    pub cache_from: Vec<String>,
    /// Stages that do not look into the cache; may be repeated
    #[arg(long = "no-cache-filter", value_name = "STAGE,…", value_delimiter = ',')]
    pub no_cache_filter: Vec<String>,
    /// What RUNs may ask for: `network.host`, `security.insecure`, `device[=NAME]`; may be repeated
    #[arg(long = "allow", value_name = "ENTITLEMENT")]
    pub allow: Vec<String>,
    /// Form of manifest and config: oci or docker
    #[arg(long, value_name = "FORM", default_value = "oci")]
    pub format: String,
    /// File with patterns, instead of `.dockerignore`
    #[arg(long, value_name = "PATH")]
    pub ignorefile: Option<PathBuf>,
    /// The same as `--pull=always`
    #[arg(long, hide = true)]
    pub pull_always: bool,
    /// The same as `--pull=never`
    #[arg(long, hide = true)]
    pub pull_never: bool,
    /// Operating system of the image; `--platform` says more
    #[arg(long, value_name = "OS", hide = true)]
    pub os: Option<String>,
    /// Architecture of the image; `--platform` says more
    #[arg(long, value_name = "ARCH", hide = true)]
    pub arch: Option<String>,
    /// Variant of the architecture; `--platform` says more
    #[arg(long, value_name = "VARIANT", hide = true)]
    pub variant: Option<String>,
}

impl RealArgs {
    /// Checks what stands for itself.
    pub(in crate::cli) fn check(&self) -> Result<()> {
        match self.format.as_str() {
            "oci" | "docker" => Ok(()),
            other => Err(Error::usage(format!("unknown format `{other}`"))
                .hint("the formats are `oci` and `docker`")),
        }
    }

    /// Puts the settings into a request.
    pub(in crate::cli) fn apply(&self, request: &mut BuildRequest) -> Result<()> {
        request.run = self.settings()?;
        let names = self.no_cache_filter.iter().map(|name| name.trim().to_owned());
        request.no_cache_stages = names.filter(|name| !name.is_empty()).collect();
        request.entitlements = self.entitlements()?;
        request.docker_types |= self.format == "docker";
        Ok(())
    }

    /// `--pull`, unless one of the older spellings says otherwise.
    pub(in crate::cli) fn pull(&self, given: Pull) -> Pull {
        match (self.pull_always, self.pull_never) {
            (true, _) => Pull::Always,
            (false, true) => Pull::Never,
            (false, false) => given,
        }
    }

    /// The platform of `--os`, `--arch` and `--variant`, when one of them is there.
    pub(in crate::cli) fn platform(&self) -> Option<String> {
        if self.os.is_none() && self.arch.is_none() && self.variant.is_none() {
            return None;
        }
        let host = Platform::host();
        let or = |given: &Option<String>, host: String| given.clone().unwrap_or(host);
        let (os, arch) = (or(&self.os, host.os), or(&self.arch, host.architecture));
        Some(match &self.variant {
            Some(variant) => format!("{os}/{arch}/{variant}"),
            None => format!("{os}/{arch}"),
        })
    }

    fn settings(&self) -> Result<RunSettings> {
        let mut hosts = Vec::new();
        for text in &self.add_hosts {
            hosts.extend(host(text)?);
        }
        let size = |text: &String| {
            plan::size(text).ok_or_else(|| {
                Error::usage(format!("bad size `--shm-size {text}`"))
                    .hint("write for example `128m`")
            })
        };
        let shm_size = self.shm_size.as_ref().map(size).transpose()?.filter(|size| *size > 0);
        let limits = self.ulimits.iter().map(|text| limit(text)).collect::<Result<_>>()?;
        Ok(RunSettings { hosts, shm_size, limits, ..RunSettings::default() })
    }

    fn entitlements(&self) -> Result<Vec<Entitlement>> {
        let one = |text: &String| match text.split_once('=').unwrap_or((text, "")) {
            ("network.host", "") => Ok(Entitlement::HostNetwork),
            ("security.insecure", "") => Ok(Entitlement::Insecure),
            ("device", "") => Ok(Entitlement::Device(None)),
            ("device", name) => Ok(Entitlement::Device(Some(name.to_owned()))),
            _ => Err(Error::usage(format!("unknown entitlement `{text}`"))
                .hint("they are `network.host`, `security.insecure` and `device[=NAME]`")),
        };
        self.allow.iter().map(one).collect()
    }
}

/// `HOST:IP` or `HOST=IP`; several names have semicolons between them.
fn host(text: &str) -> Result<Vec<(String, String)>> {
    let bad = |why: &str| Error::usage(format!("bad host `{text}`")).cause(why);
    let split = if text.contains('=') { text.split_once('=') } else { text.split_once(':') };
    let Some((names, address)) = split else {
        return Err(bad("it has no address").hint("write `--add-host NAME:ADDRESS`"));
    };
    if address == "host-gateway" {
        return Err(bad("`host-gateway` stands for the address of a daemon's network")
            .hint("write `127.0.0.1`: with `--network host` that is this machine"));
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let parsed: IpAddr = bare.parse().map_err(|_| bad(&format!("`{address}` is no IP address")))?;
    let is_name = |name: &str| {
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
        !name.is_empty() && name.chars().all(plain)
    };
    let names: Vec<&str> = names.split(';').collect();
    if let Some(name) = names.iter().find(|name| !is_name(name)) {
        return Err(bad(&format!("`{name}` is no name of a host")));
    }
    Ok(names.into_iter().map(|name| (name.to_owned(), parsed.to_string())).collect())
}

/// `NAME=SOFT[:HARD]`. What this user may not raise is told before anything is built.
fn limit(text: &str) -> Result<Limit> {
    let bad = |why: String| Error::usage(format!("bad limit `{text}`")).cause(why);
    let Some((name, values)) = text.split_once('=') else {
        return Err(bad("it has no `=`".to_owned()).hint("write for example `nofile=1024:2048`"));
    };
    if !limits::names().any(|known| known == name) {
        let known: Vec<&str> = limits::names().collect();
        return Err(bad(format!("there is no limit `{name}`"))
            .hint(format!("the limits are {}", known.join(", "))));
    }
    let number = |text: &str| match text {
        "-1" | "unlimited" => Ok(limits::UNLIMITED),
        text => text.parse::<u64>().map_err(|_| bad(format!("`{text}` is no number"))),
    };
    let (soft, hard) = match values.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(values)?, number(values)?),
    };
    if soft > hard {
        return Err(bad("the soft limit is above the hard one".to_owned()));
    }
    let refused = limits::refused(name, hard)
        .or_error(ErrorKind::Environment, || format!("cannot set the limit `{name}`"));
    if let Some(most) = refused? {
        return Err(Error::environment(format!(
            "cannot raise the limit `{name}` to what `{text}` says"
        ))
        .cause(format!("this user's hard limit is {most}"))
        .hint("only root may raise it; `ulimit -H` shows it"));
    }
    Ok(Limit { name: name.to_owned(), soft, hard })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said<T: std::fmt::Debug>(result: Result<T>) -> String {
        result.map_or_else(|error| error.to_string(), |value| format!("{value:?}"))
    }

    #[test]
    fn hosts_are_read_in_the_spellings_of_docker_and_podman() {
        for (text, wanted) in [
            ("a:1.2.3.4", r#"[("a", "1.2.3.4")]"#),
            ("a=1.2.3.4", r#"[("a", "1.2.3.4")]"#),
            ("a.b-c:::1", r#"[("a.b-c", "::1")]"#),
            ("a=[::1]", r#"[("a", "::1")]"#),
            ("a;b:10.0.0.1", r#"[("a", "10.0.0.1"), ("b", "10.0.0.1")]"#),
            ("a", "bad host `a`: it has no address"),
            ("a:b", "bad host `a:b`: `b` is no IP address"),
            (":1.1.1.1", "bad host `:1.1.1.1`: `` is no name of a host"),
            ("a b:1.1.1.1", "bad host `a b:1.1.1.1`: `a b` is no name of a host"),
            (
                "a:host-gateway",
                "bad host `a:host-gateway`: `host-gateway` stands for the address of a daemon's network",
            ),
        ] {
            assert_eq!(said(host(text)), wanted);
        }
    }

    #[test]
    fn limits_are_checked_before_anything_is_built() {
        assert_eq!(limit("core=0").unwrap(), Limit { name: "core".to_owned(), soft: 0, hard: 0 });
        for (text, wanted) in [
            ("core", "bad limit `core`: it has no `=`"),
            ("coffee=1", "bad limit `coffee=1`: there is no limit `coffee`"),
            ("core=x", "bad limit `core=x`: `x` is no number"),
            ("core=2:1", "bad limit `core=2:1`: the soft limit is above the hard one"),
            ("core=-1:1", "bad limit `core=-1:1`: the soft limit is above the hard one"),
        ] {
            assert_eq!(said(limit(text)), wanted);
        }
    }

    #[test]
    fn what_may_be_asked_for_is_a_list() {
        let of = |allow: &str| {
            let args = RealArgs { allow: vec![allow.to_owned()], ..RealArgs::default() };
            said(args.entitlements())
        };
        assert_eq!(of("network.host"), "[HostNetwork]");
        assert_eq!(of("security.insecure"), "[Insecure]");
        assert_eq!(of("device"), "[Device(None)]");
        assert_eq!(of("device=a.b/c=d"), "[Device(Some(\"a.b/c=d\"))]");
        assert_eq!(of("root"), "unknown entitlement `root`");
    }
}
