//! Rules that need the values of variables, or what a stage inherits.
//!
//! In: FROM lines with the global variables; instructions in order with the state before them. Out: [`Warning`]s.
//! As in BuildKit a FROM is looked at wherever it stands, another instruction only in a stage that is planned.
//! dockerfile.md §1.11.

use super::Inputs;
use super::scope::Globals;
use super::seen::Unset;
use super::state::State;
use crate::dockerfile::ast::{
    CommandLine, FromInstruction, Instruction, InstructionKind, Pair, Word,
};
use crate::dockerfile::lint::{Rule, Warning, place};
use crate::dockerfile::suggest::nearest;
use crate::error::Result;
use crate::oci::Reference;
use crate::oci::platform::Platform;
use crate::source::{SourceFile, Span};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// With more remarks than these nobody reads suggestions.
pub(super) const MAX_SUGGESTIONS: usize = 100;

/// Of more names than these the rest is not suggested for a misspelt one.
const MAX_CANDIDATES: usize = 1000;

/// Parts of a name that say that it holds something secret.
const SECRET: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];

/// Parts of a name that say that it does not.
const NOT_SECRET: [&str; 3] = ["public", "file", "version"];

/// True for the name of a variable that says that its value is secret.
pub fn is_secret(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
    has(&SECRET) && !has(&NOT_SECRET)
}

/// Remarks on the FROM lines of a file.
pub(super) fn froms(inputs: &Inputs<'_>) -> Result<Vec<Warning>> {
    let defaults = Globals::of_defaults(inputs)?;
    let declared: BTreeSet<&str> = declared(inputs).collect();
    let mut warnings = Vec::new();
    let mut suggestions = MAX_SUGGESTIONS;
    for stage in &inputs.dockerfile.stages {
        let from = &stage.from;
        let mut add = |rule, word: &Word, message| {
            let span = place(&inputs.dockerfile.source, word.span, from.span);
            warnings.push(Warning { rule, message, span });
        };
        for word in from.platform.iter().chain([&from.base]) {
            let unset = |name: &str| !declared.contains(name) && inputs.globals.get(name).is_none();
            // A word that is wrong stops the planning, which says so.
            let Ok(names) = names(inputs, word, unset) else { return Ok(warnings) };
            for name in names {
                let known = inputs.globals.predefined().chain(declared.iter().copied());
                let near = if suggestions == 0 { None } else { meant(&name, known) };
                suggestions = suggestions.saturating_sub(1);
                let near = near.map_or_else(String::new, |near| format!(" (did you mean {near}?)"));
                let message = format!("FROM argument '{name}' is not declared{near}");
                add(Rule::UndefinedArgInFrom, word, message);
            }
        }
        if invalid_by_default(inputs, &defaults, &from.base) {
            let message = format!(
                "Default value for ARG {} results in empty or invalid base image name",
                from.base.text
            );
            add(Rule::InvalidDefaultArgInFrom, &from.base, message);
        }
        let Some(platform) = &from.platform else { continue };
        if matches!(platform.text.as_str(), "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
            let message = format!(
                "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
                platform.text
            );
            add(Rule::RedundantTargetPlatform, platform, message);
        } else if is_constant(from, platform) {
            let message =
                format!("FROM --platform flag should not use constant value {:?}", platform.text);
            add(Rule::FromPlatformFlagConstDisallowed, platform, message);
        }
    }
    Ok(warnings)
}

/// Variables of a word of FROM of which `test` holds.
pub(super) fn names(
    inputs: &Inputs<'_>,
    word: &Word,
    test: impl Fn(&str) -> bool,
) -> Result<BTreeSet<String>> {
    let found = RefCell::new(BTreeSet::new());
    let lookup = |name: &str| {
        if test(name) {
            found.borrow_mut().insert(name.to_owned());
        }
        inputs.globals.get(name)
    };
    inputs.expander().word(word, &lookup)?;
    Ok(found.into_inner())
}

fn declared<'a>(inputs: &'a Inputs<'_>) -> impl Iterator<Item = &'a str> {
    let args = inputs.dockerfile.meta_args.iter().flat_map(|meta| &meta.args);
    args.map(|arg| arg.name.text.as_str())
}

/// The known name that was probably meant.
pub(super) fn meant<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let near = |known: &&str| known.len() < 2 * name.len() + 2;
    let known: Vec<&str> = known.filter(near).take(MAX_CANDIDATES).collect();
    nearest(name, &known).map(str::to_owned)
}

/// True when the file alone, without build arguments, does not name an image there.
fn invalid_by_default(inputs: &Inputs<'_>, defaults: &Globals, base: &Word) -> bool {
    if !base.text.contains('$') {
        return false;
    }
    let expanded = inputs.expander().word(base, &|name| defaults.get(name));
    expanded.is_ok_and(|name| name != "scratch" && Reference::parse(&name).is_err())
}

/// A platform without a variable, except in a stage whose name says that it is for that platform.
fn is_constant(from: &FromInstruction, platform: &Word) -> bool {
    let meant = |platform: &Platform| {
        let name = from.name.as_ref().map_or("", |name| name.text.as_str());
        name.contains(&platform.os) || name.contains(&platform.architecture)
    };
    !platform.text.contains('$') && !Platform::parse(&platform.text).is_ok_and(|it| meant(&it))
}

/// Remarks on one stage, collected while it is planned.
#[derive(Debug, Default)]
pub(super) struct StageLint {
    pub(super) warnings: Vec<Warning>,
    /// The last CMD, ENTRYPOINT and HEALTHCHECK.
    last: [Option<Span>; 3],
}

impl StageLint {
    fn add(&mut self, rule: Rule, span: Span, message: impl Into<String>) {
        self.warnings.push(Warning { rule, message: message.into(), span });
    }

    /// What an instruction says by itself; `state` is what was before it.
    pub(super) fn instruction(&mut self, source: &SourceFile, it: &Instruction, state: &State) {
        match &it.kind {
            InstructionKind::Cmd(command) => {
                self.only_once(0, it);
                self.json_recommended(it, command, state);
            }
            InstructionKind::Entrypoint(command) => {
                self.only_once(1, it);
                self.json_recommended(it, command, state);
            }
            InstructionKind::Healthcheck(_) => self.only_once(2, it),
            InstructionKind::Arg(arg) => {
                for arg in &arg.args {
                    self.secret("ARG", &arg.name, source, it);
                }
            }
            InstructionKind::Env(pairs) => {
                self.legacy(it, pairs);
                for pair in pairs {
                    self.secret("ENV", &pair.key, source, it);
                }
            }
            InstructionKind::Label(pairs) => self.legacy(it, pairs),
            _ => {}
        }
    }

    /// The remark stands at the one that has no effect.
    fn only_once(&mut self, which: usize, it: &Instruction) {
        if let Some(span) = self.last[which].replace(it.span) {
            let message = format!(
                "Multiple {} instructions should not be used in the same stage because only the last one will be used",
                it.keyword()
            );
            self.add(Rule::MultipleInstructionsDisallowed, span, message);
        }
    }

    fn json_recommended(&mut self, it: &Instruction, command: &CommandLine, state: &State) {
        // With a SHELL somebody has thought about the shell.
        if matches!(command, CommandLine::Shell(_)) && state.config.config.shell.is_empty() {
            let message = format!(
                "JSON arguments recommended for {} to prevent unintended behavior related to OS signals",
                it.keyword()
            );
            self.add(Rule::JSONArgsRecommended, it.span, message);
        }
    }

    fn legacy(&mut self, it: &Instruction, pairs: &[Pair]) {
        if pairs.iter().any(|pair| pair.legacy) {
            let name = it.keyword();
            let message = format!(
                "\"{name} key=value\" should be used instead of legacy \"{name} key value\" format"
            );
            self.add(Rule::LegacyKeyValueFormat, it.span, message);
        }
    }

    fn secret(&mut self, keyword: &str, key: &Word, source: &SourceFile, it: &Instruction) {
        let name = key.text.trim_matches(['"', '\'']);
        if is_secret(name) {
            let message = format!(
                "Do not use ARG or ENV instructions for sensitive data ({keyword} {name:?})"
            );
            self.add(Rule::SecretsUsedInArgOrEnv, place(source, key.span, it.span), message);
        }
    }

    /// One expanded word of EXPOSE.
    pub(super) fn port(&mut self, text: &str, span: Span) {
        if let Some((_, protocol)) = text.split_once('/')
            && protocol.chars().any(char::is_uppercase)
        {
            let message =
                format!("Defined protocol '{text}' in EXPOSE instruction should be lowercase");
            self.add(Rule::ExposeProtoCasing, span, message);
        }
        if text.contains(':') {
            let message = format!(
                "EXPOSE instruction should not define an IP address or host-port mapping, found '{text}'"
            );
            self.add(Rule::ExposeInvalidFormat, span, message);
        }
    }

    /// The first WORKDIR of a chain of stages, expanded.
    pub(super) fn first_workdir(&mut self, path: &str, span: Span) {
        if !path.starts_with('/') {
            let message = format!(
                "Relative workdir {path:?} can have unexpected results if the base image changes"
            );
            self.add(Rule::WorkdirRelativePath, span, message);
        }
    }

    /// Variables of an instruction that are not defined.
    pub(super) fn unset(&mut self, source: &SourceFile, instruction: Span, unset: Vec<Unset>) {
        for Unset { name, meant } in unset {
            let meant = meant.map_or_else(String::new, |near| format!(" (did you mean ${near}?)"));
            let span = variable(source, instruction, &name).unwrap_or(instruction);
            let message = format!("Usage of undefined variable '${name}'{meant}");
            self.add(Rule::UndefinedVar, span, message);
        }
    }
}

/// Where the first line of an instruction uses a variable.
fn variable(source: &SourceFile, instruction: Span, name: &str) -> Option<Span> {
    let line = source.line_span(source.line(instruction.start));
    let end = line.end.min(instruction.end);
    let text = source.slice(Span::new(instruction.start, end));
    [format!("${name}"), format!("${{{name}")].iter().find_map(|written| {
        let found = text.windows(written.len()).enumerate().find(|(at, window)| {
            let after = text.get(at + written.len());
            let longer = after.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
            *window == written.as_bytes() && !longer
        });
        let start = instruction.start + found?.0;
        let closing = usize::from(
            written.contains('{')
                && source.slice(Span::new(start + written.len(), end)).starts_with(b"}"),
        );
        Some(Span::new(start, start + written.len() + closing))
    })
}
