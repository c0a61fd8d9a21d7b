//! Content trust: whether somebody asked for signatures. They are not made and not checked yet, so who asks is told, and
//! never served without them (docs/cli.md "Pushing", docs/linuxkit.md).

use super::environment::Environment;
use crate::error::{Error, Result};
use crate::net::NetConfig;
use crate::source::SourceFile;
use std::path::PathBuf;
use std::sync::Arc;

/// Docker's switch: names are resolved by signatures, and pushes are signed.
const SWITCH: &str = "DOCKER_CONTENT_TRUST";
const PASSPHRASE: &str = "DOCKER_CONTENT_TRUST_REPOSITORY_PASSPHRASE";
/// LinuxKit's key for a program that prints the passphrase.
const COMMAND: &str = "content-trust-passphrase-command";

/// Who asks for signatures; the value is what a message names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) pull: Option<String>,
    pub(super) push: Option<String>,
}

impl Asked {
    /// By a flag and the environment. `flag`: `Some(true)` is `--disable-content-trust`, `Some(false)` asks for trust.
    pub(super) fn of(flag: Option<bool>, environment: &Environment) -> Self {
        if flag == Some(true) {
            return Self::default();
        }
        // Docker takes any word that is none for false as true.
        let switched = environment
            .text(SWITCH)
            .filter(|value| crate::boolean::parse(value) != Some(false))
            .map(|value| format!("{SWITCH}={value}"));
        let by_flag = (flag == Some(false)).then(|| "--disable-content-trust=false".to_owned());
        let pull = by_flag.or(switched);
        let passphrase = environment.get(PASSPHRASE).map(|_| PASSPHRASE.to_owned());
        Self { push: pull.clone().or(passphrase), pull }
    }

    /// For the connections of one command.
    pub(super) fn put_into(self, net: NetConfig) -> NetConfig {
        NetConfig { signed_pulls: self.pull, signed_pushes: self.push, ..net }
    }
}

/// Where LinuxKit's own settings ask for a passphrase, and so for signatures: `pkg.content-trust-passphrase-command` of
/// `~/.moby/linuxkit/config.yml`.
pub(super) fn linuxkit_command(environment: &Environment) -> Result<Option<String>> {
    let Some(home) = environment.get("HOME") else { return Ok(None) };
    let path = PathBuf::from(home).join(".moby/linuxkit/config.yml");
    let shown = path.display().to_string();
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Error::environment(format!("cannot read `{shown}`")).cause(error));
        }
    };
    let settings = crate::yaml::to_json(&Arc::new(SourceFile::new(shown.clone(), text)))?;
    let command = settings.get("pkg").and_then(|pkg| pkg.get(COMMAND));
    let given = command.is_some_and(|value| !value.is_null() && value != "");
    Ok(given.then(|| format!("`pkg.{COMMAND}` of {shown}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_is_asked_for_by_variables_and_flags() {
        let asked = |flag, set: &[(&str, &str)]| {
            let asked = Asked::of(flag, &Environment::of(set));
            (asked.pull, asked.push)
        };
        let both = |text: &str| (Some(text.to_owned()), Some(text.to_owned()));
        assert_eq!(asked(None, &[]), (None, None));
        assert_eq!(asked(None, &[(SWITCH, "0")]), (None, None));
        assert_eq!(asked(None, &[(SWITCH, "1")]), both("DOCKER_CONTENT_TRUST=1"));
        assert_eq!(asked(None, &[(SWITCH, "yes")]), both("DOCKER_CONTENT_TRUST=yes"));
        assert_eq!(asked(Some(true), &[(SWITCH, "1"), (PASSPHRASE, "x")]), (None, None));
        assert_eq!(asked(Some(false), &[]), both("--disable-content-trust=false"));
        // The passphrase itself is never shown.
        assert_eq!(asked(None, &[(PASSPHRASE, "x")]), (None, Some(PASSPHRASE.to_owned())));
    }
}
