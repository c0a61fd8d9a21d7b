//! The environment, read once.
#![allow(clippy::disallowed_methods, reason = "this is the place where the environment is read")]

use crate::error::{Error, Result};
use crate::executor::namespace::{Account, IdMode};
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// What the program takes from its environment.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment {
    all: Vec<(OsString, OsString)>,
}

impl Environment {
    pub(super) fn read() -> Self {
        Self { all: std::env::vars_os().collect() }
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
        let home = self.get("HOME").map(|home| PathBuf::from(home).join(".local/share"));
        for base in data.into_iter().chain(home) {
            let store = base.join("nativebuild");
            if std::fs::create_dir_all(&store).is_ok() {
                return Ok(store);
            }
        }
        let tmp = self.get("TMPDIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
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

    /// Who builds.
    pub(super) fn account(&self, ids: Option<IdMode>) -> Account {
        let uid = rustix::process::getuid().as_raw();
        // The name counts for /etc/subuid; /etc/passwd knows it better than the environment.
        let passwd = crate::sys::probe::read_host_file("/etc/passwd").unwrap_or_default();
        let listed = passwd.lines().find_map(|line| {
            let mut parts = line.split(':');
            let name = parts.next()?;
            (parts.nth(1)? == uid.to_string()).then(|| name.to_owned())
        });
        Account { name: listed.or_else(|| self.text("USER")), ids }
    }
}
