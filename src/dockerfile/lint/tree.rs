//! Rules about the text alone: letter case, names of stages, comments, MAINTAINER.
//!
//! They look at the whole file, also at stages that no target needs. dockerfile.md §1.11.

use super::options::check_comment;
use super::{Rule, Warning, place};
use crate::dockerfile::ast::{ArgInstruction, Dockerfile, FromInstruction, InstructionKind};
use crate::source::Span;
use std::collections::HashSet;

/// Names that mean something else as a source of files.
const RESERVED: [&str; 2] = ["context", "scratch"];

/// Everything that can be said without knowing any variable, the parser's own remarks included.
pub fn check(dockerfile: &Dockerfile) -> Vec<Warning> {
    let mut checker = Checker { dockerfile, warnings: dockerfile.warnings.clone() };
    checker.stage_names();
    checker.instruction_casing();
    for stage in &dockerfile.stages {
        checker.casing_of_as(&stage.from);
        checker.stage_description(&stage.from);
        for instruction in &stage.instructions {
            match &instruction.kind {
                InstructionKind::Maintainer(_) => checker.add(
                    Rule::MaintainerDeprecated,
                    instruction.span,
                    "Maintainer instruction is deprecated in favor of using label",
                ),
                InstructionKind::Arg(arg) => checker.arg_description(arg),
                _ => {}
            }
        }
    }
    for arg in &dockerfile.meta_args {
        checker.arg_description(arg);
    }
    checker.warnings
}

struct Checker<'a> {
    dockerfile: &'a Dockerfile,
    warnings: Vec<Warning>,
}

impl Checker<'_> {
    fn add(&mut self, rule: Rule, span: Span, message: impl Into<String>) {
        self.warnings.push(Warning { rule, message: message.into(), span });
    }

    fn stage_names(&mut self) {
        let dockerfile = self.dockerfile;
        let mut seen = HashSet::new();
        for from in dockerfile.stages.iter().map(|stage| &stage.from) {
            let (Some(name), Some(written)) = (&from.name, &from.written_name) else { continue };
            let span = place(&dockerfile.source, name.span, from.span);
            if *written != name.text {
                let message = format!("Stage name '{written}' should be lowercase");
                self.add(Rule::StageNameCasing, span, message);
            }
            if RESERVED.contains(&name.text.as_str()) {
                let message = format!(
                    "Stage name should not use the same name as reserved stage {:?}",
                    name.text
                );
                self.add(Rule::ReservedStageName, span, message);
            }
            if !seen.insert(&name.text) {
                let message =
                    format!("Duplicate stage name {:?}, stage names should be unique", name.text);
                self.add(Rule::DuplicateStageName, span, message);
            }
        }
    }

    /// The majority decides, upper case when there is none; words in mixed case have no vote.
    fn instruction_casing(&mut self) {
        let dockerfile = self.dockerfile;
        let mut keywords: Vec<(&str, Span)> = Vec::new();
        for stage in &dockerfile.stages {
            keywords.push((&stage.from.keyword, stage.from.span));
            keywords.extend(stage.instructions.iter().map(|it| (it.keyword(), it.span)));
        }
        let count = |test: fn(&u8) -> bool| {
            keywords.iter().filter(|(word, _)| word.bytes().all(|byte| test(&byte))).count()
        };
        let lower = count(u8::is_ascii_lowercase) > count(u8::is_ascii_uppercase);
        let (right, majority): (fn(&u8) -> bool, _) = if lower {
            (u8::is_ascii_lowercase, "lowercase")
        } else {
            (u8::is_ascii_uppercase, "uppercase")
        };
        for (word, span) in keywords {
            if !word.bytes().all(|byte| right(&byte)) {
                let message = format!(
                    "Command '{word}' should match the case of the command majority ({majority})"
                );
                let end = span.end.min(span.start + word.len());
                self.add(Rule::ConsistentInstructionCasing, Span::new(span.start, end), message);
            }
        }
    }

    fn casing_of_as(&mut self, from: &FromInstruction) {
        let Some(word) = &from.as_keyword else { return };
        let same = |test: fn(&u8) -> bool| {
            let all = |text: &str| text.bytes().all(|byte| test(&byte));
            // A FROM in mixed case is told of by ConsistentInstructionCasing.
            !all(&from.keyword) || all(&word.text)
        };
        if !same(u8::is_ascii_lowercase) || !same(u8::is_ascii_uppercase) {
            let message =
                format!("'{}' and '{}' keywords' casing do not match", word.text, from.keyword);
            let span = place(&self.dockerfile.source, word.span, from.span);
            self.add(Rule::FromAsCasing, span, message);
        }
    }

    fn stage_description(&mut self, from: &FromInstruction) {
        let Some(name) = &from.written_name else { return };
        self.check_description("FROM", &[name.as_str()], &from.comments, from.span);
    }

    fn arg_description(&mut self, arg: &ArgInstruction) {
        let names: Vec<&str> = arg.args.iter().map(|arg| arg.name.text.as_str()).collect();
        self.check_description("ARG", &names, &arg.comments, arg.span);
    }

    fn check_description(
        &mut self,
        keyword: &str,
        names: &[&str],
        comments: &[String],
        span: Span,
    ) {
        let Some(last) = comments.last().filter(|last| !last.is_empty()) else { return };
        let first = last.split(' ').next().unwrap_or_default();
        if names.contains(&first) || check_comment(last).is_some() {
            return;
        }
        let shown = if let [name] = names { name } else { "<arg_key>" };
        let message =
            format!("Comment for {keyword} should follow the format: `# {shown} <description>`");
        self.add(Rule::InvalidDefinitionDescription, span, message);
    }
}
