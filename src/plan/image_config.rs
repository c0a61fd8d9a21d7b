//! What metadata instructions do to the image config.
//!
//! In: expanded values. Out: a changed [`ImageConfig`] (`created`, `history` and `rootfs` are `build`'s). Rules:
//! dockerfile.md §1.6 and §2.2.

use crate::dockerfile::ast::{CommandLine, HealthcheckInstruction};
use crate::error::{Error, Result};
use crate::oci::platform::Platform;
use crate::oci::spec::{DEFAULT_PATH, Healthcheck, ImageConfig, RootFs, RunConfig};
use std::collections::HashMap;

/// Config of `FROM scratch`.
pub(super) fn scratch(platform: &Platform) -> ImageConfig {
    let run = RunConfig { working_dir: "/".to_owned(), ..RunConfig::default() };
    let mut config = ImageConfig { config: run, ..ImageConfig::default() };
    set_platform(&mut config, platform);
    config
}

/// Config that a stage gets from its base image: everything but the triggers, and what `build` fills in.
pub(super) fn inherited(base: &ImageConfig) -> ImageConfig {
    let config = RunConfig { on_build: Vec::new(), ..base.config.clone() };
    ImageConfig {
        architecture: base.architecture.clone(),
        author: base.author.clone(),
        config,
        created: None,
        history: Vec::new(),
        os: base.os.clone(),
        rootfs: RootFs::default(),
        variant: base.variant.clone(),
        other: base.other.clone(),
    }
}

/// Writes a platform into a config.
pub(super) fn set_platform(config: &mut ImageConfig, platform: &Platform) {
    config.os.clone_from(&platform.os);
    config.architecture.clone_from(&platform.architecture);
    config.variant = (!platform.variant.is_empty()).then(|| platform.variant.clone());
}

/// Bytes that a copy of a config takes, roughly.
pub(super) fn size(config: &ImageConfig) -> usize {
    let run = &config.config;
    let labels: usize = run.labels.iter().map(|(key, value)| key.len() + value.len() + 96).sum();
    let env: usize = run.env.iter().map(|entry| entry.len() + 48).sum();
    let triggers: usize = run.on_build.iter().map(|text| text.len() + 48).sum();
    labels + env + triggers + 64 * (run.exposed_ports.len() + run.volumes.len())
}

/// ENV of an image: entries as they are written, changed in place.
#[derive(Clone, Debug, Default)]
pub(super) struct ImageEnv {
    entries: Vec<String>,
    /// Position of the first entry of each name.
    index: HashMap<String, usize>,
}

impl ImageEnv {
    /// The base's variables; without PATH the default one is appended.
    pub(super) fn new(entries: Vec<String>) -> Self {
        let mut env = Self { index: HashMap::new(), entries };
        for (at, entry) in env.entries.iter().enumerate() {
            env.index.entry(split(entry).0.to_owned()).or_insert(at);
        }
        if !env.index.contains_key("PATH") {
            env.set("PATH", DEFAULT_PATH);
        }
        env
    }

    /// Replaces a variable, or appends it.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        if let Some(at) = self.index.get(name) {
            self.entries[*at] = entry;
        } else {
            self.index.insert(name.to_owned(), self.entries.len());
            self.entries.push(entry);
        }
    }

    /// Names and values in order; an entry without `=` has an empty value.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|entry| split(entry))
    }

    /// The config's list.
    pub(super) fn into_entries(self) -> Vec<String> {
        self.entries
    }
}

fn split(entry: &str) -> (&str, &str) {
    entry.split_once('=').unwrap_or((entry, ""))
}

/// The words of a command; the shell form gets the shell of the config in front.
pub(super) fn command_words(config: &RunConfig, command: &CommandLine) -> Vec<String> {
    match command {
        CommandLine::Shell(text) => with_shell(config, text),
        CommandLine::Exec(words) => words.clone(),
    }
}

/// The shell of the config, and `text` as its last argument.
pub(super) fn with_shell(config: &RunConfig, text: &str) -> Vec<String> {
    let mut words = config.shell.clone();
    if words.is_empty() {
        words = vec!["/bin/sh".to_owned(), "-c".to_owned()];
    }
    words.push(text.to_owned());
    words
}

/// CMD; returns the words for history.
pub(super) fn set_cmd(config: &mut RunConfig, command: &CommandLine) -> Vec<String> {
    let words = command_words(config, command);
    config.cmd = (!words.is_empty()).then(|| words.clone());
    config.args_escaped = Some(true);
    words
}

/// ENTRYPOINT; an inherited CMD belonged to another program and goes, one of this stage stays.
pub(super) fn set_entrypoint(
    config: &mut RunConfig,
    command: &CommandLine,
    cmd_set: bool,
) -> Vec<String> {
    let words = command_words(config, command);
    config.entrypoint = (!words.is_empty()).then(|| words.clone());
    if !cmd_set {
        config.cmd = None;
    }
    words
}

/// HEALTHCHECK; its shell form does not depend on SHELL.
pub(super) fn healthcheck(instruction: &HealthcheckInstruction) -> Healthcheck {
    match instruction {
        HealthcheckInstruction::None => {
            Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() }
        }
        HealthcheckInstruction::Cmd {
            command,
            interval,
            timeout,
            start_period,
            start_interval,
            retries,
        } => {
            let test = match command {
                CommandLine::Shell(text) => vec!["CMD-SHELL".to_owned(), text.clone()],
                CommandLine::Exec(words) => {
                    std::iter::once("CMD".to_owned()).chain(words.iter().cloned()).collect()
                }
            };
            Healthcheck {
                test,
                interval: interval.unwrap_or(0),
                timeout: timeout.unwrap_or(0),
                start_period: start_period.unwrap_or(0),
                start_interval: start_interval.unwrap_or(0),
                retries: retries.unwrap_or(0),
            }
        }
    }
}

/// Signals of Linux by name, without `SIG`; real-time ones apart.
const SIGNALS: [&str; 34] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];

/// Checks a STOPSIGNAL value: a number, or a name with or without `SIG`.
pub(super) fn check_signal(text: &str) -> Result<()> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |prefix: &str, last: u32| {
        let digits = name.strip_prefix(prefix)?;
        let plain = !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse::<u32>().ok().filter(|n| plain && (1..=last).contains(n))
    };
    let known = match text.parse::<i64>() {
        // Docker stores any number; only 0 is never a signal.
        Ok(number) => number != 0,
        Err(_) => {
            SIGNALS.contains(&name)
                || matches!(name, "RTMIN" | "RTMAX")
                || offset("RTMIN+", 15).is_some()
                || offset("RTMAX-", 14).is_some()
        }
    };
    if known {
        return Ok(());
    }
    Err(Error::dockerfile(format!("invalid signal: {text}"))
        .hint("signals are numbers but 0, or names like `SIGTERM` and `SIGRTMIN+3`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(text: &str) -> CommandLine {
        CommandLine::Shell(text.to_owned())
    }

    #[test]
    fn signals() {
        for good in [
            "9",
            "64",
            "65",
            "-9",
            "TERM",
            "sigterm",
            "SIGRTMIN",
            "SIGRTMIN+3",
            "RTMIN+15",
            "RTMAX-14",
        ] {
            check_signal(good).unwrap();
        }
        for bad in
            ["BAD", "0", "00", "9x", "", "SIG", "RTMIN+16", "RTMIN+0", "RTMIN+03", "RTMAX-15"]
        {
            assert_eq!(check_signal(bad).unwrap_err().message(), format!("invalid signal: {bad}"));
        }
    }

    #[test]
    fn env_is_replaced_in_place_and_has_a_path() {
        let mut env = ImageEnv::new(vec!["A=1".to_owned(), "B".to_owned(), "A=2".to_owned()]);
        env.set("A", "3");
        env.set("C", "x=y");
        let path = format!("PATH={DEFAULT_PATH}");
        assert_eq!(env.into_entries(), ["A=3", "B", "A=2", path.as_str(), "C=x=y"]);
        assert_eq!(ImageEnv::new(vec!["PATH=".to_owned()]).into_entries(), ["PATH="]);
    }

    #[test]
    fn entrypoint_clears_only_an_inherited_cmd() {
        let mut config = RunConfig::default();
        set_cmd(&mut config, &shell("a"));
        assert_eq!(config.args_escaped, Some(true));
        set_entrypoint(&mut config, &shell("e"), true);
        assert_eq!(config.cmd.as_deref().unwrap(), ["/bin/sh", "-c", "a"]);
        set_entrypoint(&mut config, &CommandLine::Exec(Vec::new()), false);
        assert_eq!((config.cmd, config.entrypoint), (None, None));
    }

    #[test]
    fn shell_changes_commands_but_not_health_checks() {
        let mut config = RunConfig {
            shell: vec!["/bin/sh".to_owned(), "-ec".to_owned()],
            ..RunConfig::default()
        };
        assert_eq!(set_cmd(&mut config, &shell("x")), ["/bin/sh", "-ec", "x"]);
        let check = healthcheck(&HealthcheckInstruction::Cmd {
            command: shell("x"),
            interval: Some(5),
            timeout: None,
            start_period: None,
            start_interval: None,
            retries: Some(2),
        });
        assert_eq!(check.test, ["CMD-SHELL", "x"]);
        assert_eq!((check.interval, check.timeout, check.retries), (5, 0, 2));
        assert_eq!(healthcheck(&HealthcheckInstruction::None).test, ["NONE"]);
    }
}
