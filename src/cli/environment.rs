//! The environment, read once.
#![allow(clippy::disallowed_methods, reason = "this is the place where the environment is read")]

use super::args::Progress;
use crate::boolean;
use crate::error::{Error, Result};
use crate::executor::isolation::Account;
use crate::net::{EngineConfig, Warnings};
use clap::ValueEnum;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

const OFFLINE: &str = "NATIVEBUILD_OFFLINE";

/// What the program takes from its environment, and what all that it does shares.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment {
    all: Vec<(OsString, OsString)>,
    warnings: Warnings,
}

impl Environment {
    pub(super) fn read() -> Self {
        Self { all: std::env::vars_os().collect(), ..Self::default() }
    }

    #[cfg(test)]
    pub(super) fn of(set: &[(&str, &str)]) -> Self {
        let all = set.iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { all, ..Self::default() }
    }

    /// Everything, for a program that is to see what we see.
    pub(super) fn all(&self) -> &[(OsString, OsString)] {
        &self.all
    }

    /// What connections want users to hear.
    pub(super) fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    /// Most bytes that a build lets the store have: the flag, else NATIVEBUILD_MAX_STORE.
    pub(super) fn store_limit(&self, flag: Option<&String>) -> Result<Option<u64>> {
        const VARIABLE: &str = "NATIVEBUILD_MAX_STORE";
        let (text, from) = match (flag, self.text(VARIABLE)) {
            (Some(text), _) => (text.clone(), "--max-store"),
            (None, Some(text)) => (text, VARIABLE),
            (None, None) => return Ok(None),
        };
        super::values::bytes(&text, from).map(Some)
    }

    /// Lets [`Self::offline`] be true.
    pub(super) fn go_offline(&mut self) {
        self.all.insert(0, (OFFLINE.into(), "1".into()));
    }

    /// Whether nothing may be connected to: `--offline`, or a NATIVEBUILD_OFFLINE that does not say no.
    pub(super) fn offline(&self) -> bool {
        let given = self.get(OFFLINE);
        given.is_some_and(|value| value.to_str().and_then(boolean::parse) != Some(false))
    }

    /// A variable that is set and not empty.
    pub(super) fn get(&self, name: &str) -> Option<OsString> {
        let found = self.all.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    }

    /// The same as text.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get(name)?.into_string().ok()
    }

    /// LinuxKit's cache: the flag, LINUXKIT_CACHE, else `~/.linuxkit/cache`.
    pub(super) fn linuxkit_cache(&self, flag: Option<&PathBuf>) -> Result<PathBuf> {
        if let Some(flag) = flag {
            return Ok(flag.clone());
        }
        if let Some(cache) = self.get("LINUXKIT_CACHE") {
            return Ok(cache.into());
        }
        let home = self.get("HOME").map(PathBuf::from);
        home.map(|home| home.join(".linuxkit/cache")).ok_or_else(|| {
            Error::usage("there is no HOME to keep LinuxKit's cache in")
                .hint("name a directory with `--cache` or LINUXKIT_CACHE")
        })
    }

    /// How progress is shown: what the flag says, else BUILDKIT_PROGRESS. A build machine (CI) wants lines to keep.
    pub(super) fn progress(&self, flag: Progress) -> Result<Progress> {
        const VARIABLE: &str = "BUILDKIT_PROGRESS";
        if flag != Progress::Auto {
            return Ok(flag);
        }
        let given = match self.text(VARIABLE) {
            Some(text) => Progress::from_str(&text, false).map_err(|_| {
                Error::usage(format!("bad value of {VARIABLE} in the environment: `{text}`"))
                    .hint("it is one of auto, plain, tty, rawjson and quiet")
            })?,
            None => Progress::Auto,
        };
        let machine = self.text("CI").is_some_and(|value| value != "false" && value != "0");
        Ok(if given == Progress::Auto && machine { Progress::Plain } else { given })
    }

    /// True when progress is shown as JSON, and so errors are told as it.
    pub(super) fn tells_json(&self, flag: Progress) -> bool {
        self.progress(flag).is_ok_and(|progress| progress == Progress::Json)
    }

    /// Docker's configuration directory.
    pub(super) fn docker_config(&self) -> Option<PathBuf> {
        let own = self.get("DOCKER_CONFIG").map(PathBuf::from);
        own.or_else(|| Some(PathBuf::from(self.get("HOME")?).join(".docker")))
    }

    /// The directories of PATH that are absolute.
    pub(super) fn path(&self) -> Vec<PathBuf> {
        let path = self.get("PATH").unwrap_or_default();
        std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect()
    }

    /// The store: `--root`, else the environment, else the usual places (design §4).
    pub(super) fn store(&self, flag: Option<&PathBuf>) -> Result<PathBuf> {
        let path = self.store_as_given(flag)?;
        std::path::absolute(&path)
            .map_err(|error| Error::usage(format!("bad store {}", path.display())).cause(error))
    }

    fn store_as_given(&self, flag: Option<&PathBuf>) -> Result<PathBuf> {
        if let Some(flag) = flag {
            return Ok(flag.clone());
        }
        if let Some(root) = self.get("NATIVEBUILD_ROOT") {
            return Ok(root.into());
        }
        if rustix::process::geteuid().is_root() {
            return Ok("/var/lib/nativebuild".into());
        }
        let data = self.get("XDG_DATA_HOME").map(PathBuf::from);
        // A home that is not there is meant to stay so: Nix builds nothing once `/homeless-shelter` is there.
        let home = self.get("HOME").map(PathBuf::from).filter(|home| home.is_dir());
        let home = home.map(|home| home.join(".local/share"));
        for base in data.into_iter().chain(home) {
            let store = base.join("nativebuild");
            if std::fs::create_dir_all(&store).is_ok() {
                return Ok(store);
            }
        }
        let tmp = self.tmp();
        let uid = rustix::process::getuid().as_raw();
        let store = tmp.join(format!("nativebuild-{uid}"));
        // Everybody can make names there; what another user made is not ours to trust.
        match std::fs::symlink_metadata(&store) {
            Ok(found) if !found.is_dir() || found.uid() != uid => {
                Err(Error::environment(format!("{} belongs to somebody else", store.display()))
                    .hint("choose a store with `--root` or NATIVEBUILD_ROOT"))
            }
            _ => Ok(store),
        }
    }

    /// Where temporary files go.
    pub(super) fn tmp(&self) -> PathBuf {
        self.get("TMPDIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from)
    }

    /// The engines that an image may be loaded into: what a variable names, and nothing else then; else the usual
    /// places.
    pub(super) fn engine(&self) -> Result<EngineConfig> {
        for variable in ["DOCKER_HOST", "CONTAINER_HOST"] {
            if let Some(value) = self.get(variable) {
                let sockets = vec![unix_socket(variable, &value)?];
                let variable = Some(variable);
                return Ok(EngineConfig { sockets, variable, ..EngineConfig::default() });
            }
        }
        let own = self.get("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute());
        let own =
            own.iter().flat_map(|dir| [dir.join("docker.sock"), dir.join("podman/podman.sock")]);
        let mut sockets = vec![PathBuf::from("/var/run/docker.sock")];
        sockets.extend(own);
        sockets.push("/run/podman/podman.sock".into());
        Ok(EngineConfig { sockets, ..EngineConfig::default() })
    }

    /// Who builds.
    pub(super) fn account(&self) -> Account {
        let uid = rustix::process::getuid().as_raw();
        // The name counts for /etc/subuid; /etc/passwd knows it better than the environment.
        let passwd = crate::sys::probe::read_host_file("/etc/passwd").unwrap_or_default();
        let listed = passwd.lines().find_map(|line| {
            let mut parts = line.split(':');
            let name = parts.next()?;
            (parts.nth(1)? == uid.to_string()).then(|| name.to_owned())
        });
        Account { name: listed.or_else(|| self.text("USER")), ..Account::default() }
    }
}

/// The path in `unix:///path`.
fn unix_socket(variable: &str, value: &OsStr) -> Result<PathBuf> {
    let path = value
        .as_bytes()
        .strip_prefix(b"unix://")
        .map(|path| PathBuf::from(OsStr::from_bytes(path)));
    path.filter(|path| path.is_absolute()).ok_or_else(|| {
        // Not the whole of it: an address can hold a password.
        let value = value.to_string_lossy();
        let found = match value.split_once("://") {
            Some(("unix", _)) => "it has a relative path".to_owned(),
            Some((scheme, _)) => format!("it begins with `{scheme}://`"),
            None => "it has no scheme".to_owned(),
        };
        Error::environment(format!("cannot load an image into the engine that {variable} names"))
            .cause(format!("only `unix:///PATH` is supported; {found}"))
            .hint("send it by `nativebuild build -o type=docker,dest=- … | docker load`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(
        set: &[(&str, &str)],
    ) -> std::result::Result<(Vec<PathBuf>, Option<&'static str>), String> {
        let config = Environment::of(set).engine().map_err(|error| error.to_string())?;
        Ok((config.sockets, config.variable))
    }

    #[test]
    fn the_environment_may_say_how_progress_is_shown() {
        let said = |set: &[(&str, &str)], flag| {
            Environment::of(set).progress(flag).map_err(|error| error.to_string())
        };
        let plain = [("BUILDKIT_PROGRESS", "plain")];
        assert_eq!(said(&[], Progress::Auto), Ok(Progress::Auto));
        assert_eq!(said(&plain, Progress::Auto), Ok(Progress::Plain));
        assert_eq!(said(&plain, Progress::Tty), Ok(Progress::Tty));
        assert_eq!(said(&[("BUILDKIT_PROGRESS", "rawjson")], Progress::Auto), Ok(Progress::Json));
        assert_eq!(said(&[("CI", "true")], Progress::Auto), Ok(Progress::Plain));
        assert_eq!(said(&[("CI", "false")], Progress::Auto), Ok(Progress::Auto));
        assert_eq!(
            said(&[("BUILDKIT_PROGRESS", "loud")], Progress::Auto),
            Err("bad value of BUILDKIT_PROGRESS in the environment: `loud`".to_owned())
        );
    }

    #[test]
    fn engines_are_tried_in_the_order_of_the_manual() {
        let found =
            |paths: &[&str], variable| Ok((paths.iter().map(PathBuf::from).collect(), variable));
        let (docker, podman) = ("/var/run/docker.sock", "/run/podman/podman.sock");
        let own = ("XDG_RUNTIME_DIR", "/run/user/7");
        assert_eq!(engine(&[]), found(&[docker, podman], None));
        assert_eq!(
            engine(&[("XDG_RUNTIME_DIR", "run"), ("DOCKER_HOST", "")]),
            found(&[docker, podman], None)
        );
        let both = [docker, "/run/user/7/docker.sock", "/run/user/7/podman/podman.sock", podman];
        assert_eq!(engine(&[own]), found(&both, None));
        let named = [("CONTAINER_HOST", "unix:///p"), ("DOCKER_HOST", "unix:///d"), own];
        assert_eq!(engine(&named), found(&["/d"], Some("DOCKER_HOST")));
        assert_eq!(engine(&named[..1]), found(&["/p"], Some("CONTAINER_HOST")));
    }

    #[test]
    fn an_engine_that_is_no_path_is_refused() {
        for (value, why) in [
            ("tcp://me:secret@host:2375", "it begins with `tcp://`"),
            ("ssh://me@host", "it begins with `ssh://`"),
            ("unix://relative", "it has a relative path"),
            ("host:2375", "it has no scheme"),
        ] {
            assert_eq!(
                engine(&[("DOCKER_HOST", value), ("CONTAINER_HOST", "unix:///p")]).unwrap_err(),
                format!(
                    "cannot load an image into the engine that DOCKER_HOST names: only `unix:///PATH` is supported; {why}"
                )
            );
        }
    }
}
