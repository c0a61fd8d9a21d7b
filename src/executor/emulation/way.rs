//! What runs the programs of one architecture, and how that is told.

use super::arch::Architecture;
use super::handlers::Handler;
use super::interpreter;
use super::probe_elf::Verdict;
use crate::executor::spawner::Spawner;
use crate::sys::fs;
use std::sync::Arc;

/// What runs the programs of an architecture.
#[derive(Clone, Debug)]
pub enum Way {
    /// The processor: it is this machine's architecture.
    Native,
    /// The kernel, which knows this other architecture too.
    Compatible,
    /// A handler that somebody registered on the host.
    Handler(Emulator),
    /// A binfmt_misc of our own; RUNs go through its spawner.
    Own(Emulator, Arc<Spawner>),
}

/// An emulator, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emulator {
    /// Its file name, or what is known of it.
    pub name: String,
    /// Its version, when its file says one.
    pub version: Option<String>,
    /// What it does not do, for a warning.
    pub shortcomings: Vec<&'static str>,
}

impl Way {
    /// The emulator, when there is one.
    pub fn emulator(&self) -> Option<&Emulator> {
        match self {
            Self::Native | Self::Compatible => None,
            Self::Handler(emulator) | Self::Own(emulator, _) => Some(emulator),
        }
    }

    /// One phrase for the line that says how a platform is run.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Native => "by this machine".to_owned(),
            Self::Compatible => "by this machine's kernel".to_owned(),
            Self::Handler(emulator) => format!("by {} (a handler of the host)", emulator.short()),
            Self::Own(emulator, _) => format!("by {} (own binfmt_misc)", emulator.short()),
        }
    }
}

impl Emulator {
    /// Name and number of the version, without what a distribution adds.
    fn short(&self) -> String {
        match self.version.as_ref().and_then(|version| version.split(' ').next()) {
            Some(number) => format!("{} {number}", self.name),
            None => self.name.clone(),
        }
    }

    /// Name and version.
    pub fn shown(&self) -> String {
        match &self.version {
            Some(version) => format!("{} {version}", self.name),
            None => self.name.clone(),
        }
    }
}

/// What a way does not do, in words.
pub(super) fn shortcomings(verdict: Verdict) -> Vec<&'static str> {
    let mut lost = Vec::new();
    if !verdict.argv0 {
        lost.push("the emulator loses argv[0] (programs such as busybox fail)");
    }
    if !verdict.setuid {
        lost.push("set-uid programs (su, sudo) keep their caller's rights");
    }
    lost
}

/// The handler's emulator, as far as it can be seen from here.
pub(super) fn handlers_emulator(
    arch: &Architecture,
    handler: Option<&Handler>,
    verdict: Verdict,
) -> Emulator {
    let shortcomings = shortcomings(verdict);
    let Some(handler) = handler else {
        return Emulator { name: "an emulator".to_owned(), version: None, shortcomings };
    };
    let version = fs::open_read_path(&handler.interpreter)
        .ok()
        .and_then(|file| interpreter::version(arch, &file));
    let name = handler.interpreter.file_name();
    let name =
        name.map_or_else(|| handler.name.clone(), |name| name.to_string_lossy().into_owned());
    Emulator { name, version, shortcomings }
}
