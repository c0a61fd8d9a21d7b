//! `# check=`: which rules count, and whether they fail the build.
//!
//! In: the value of the directive, or of the build argument that replaces it, and the comments above
//! instructions. Out: yes or no for each remark. dockerfile.md §1.1.

use super::{Rule, Warning};
use crate::boolean;
use crate::dockerfile::ast::Dockerfile;
use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// The build argument that replaces the directive.
const BUILD_ARG: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// No more parts than these are read.
const MAX_PARTS: usize = 3;

/// What `# check=` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    skip: Names,
    experimental: Names,
    /// A remark fails the build.
    pub error: bool,
    /// What comments above instructions skip, by where the instruction begins.
    inline: BTreeMap<usize, Names>,
}

/// A list of rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Names {
    all: bool,
    /// A name that no rule has yet does no harm.
    rules: BTreeSet<Rule>,
}

impl Names {
    fn parse(text: &str) -> Self {
        let names: BTreeSet<&str> = text.split(',').map(str::trim).collect();
        let rules = Rule::ALL.into_iter().filter(|rule| names.contains(rule.to_string().as_str()));
        Self { all: text.trim() == "all", rules: rules.collect() }
    }

    fn has(&self, rule: Rule) -> bool {
        self.all || self.rules.contains(&rule)
    }
}

impl Options {
    /// The options of a file: its directive's, or those of the build argument, which replaces it as a whole.
    pub fn of(dockerfile: &Dockerfile, build_args: &[(String, String)]) -> Result<Self> {
        let given = build_args.iter().rev().find(|(name, _)| name == BUILD_ARG);
        let mut options = match (given, &dockerfile.directives.check) {
            (Some((name, value)), _) => Self::parse(value)
                .map_err(|error| error.wrap(format!("build argument `{name}`")))?,
            (None, Some(word)) => {
                Self::parse(&word.text).map_err(|error| error.at(&dockerfile.source, word.span))?
            }
            (None, None) => Self::default(),
        };
        for meta in &dockerfile.meta_args {
            options.add_comments(meta.span.start, &meta.comments);
        }
        for stage in &dockerfile.stages {
            options.add_comments(stage.from.span.start, &stage.from.comments);
            for instruction in &stage.instructions {
                options.add_comments(instruction.span.start, &instruction.comments);
            }
        }
        Ok(options)
    }

    /// Notes what the comments above an instruction skip.
    fn add_comments(&mut self, start: usize, comments: &[String]) {
        for value in comments.iter().filter_map(|comment| check_comment(comment)) {
            // Any comment may look like this one; those that say something else are just comments.
            let Ok(options) = Self::parse(value) else { continue };
            let names = self.inline.entry(start).or_default();
            names.all |= options.skip.all;
            names.rules.extend(options.skip.rules);
        }
    }

    /// Parses `skip=A,B;error=true;experimental=C`. What follows the first blank is a comment.
    fn parse(text: &str) -> Result<Self> {
        let mut options = Self::default();
        let text = text.split_whitespace().next().unwrap_or_default();
        for part in text.splitn(MAX_PARTS, ';').filter(|part| !part.is_empty()) {
            let invalid = || {
                Error::dockerfile(format!("invalid check option `{part}`")).hint(
                    "the options are `skip=`, `error=` and `experimental=`, with `;` between them",
                )
            };
            let (key, value) = part.split_once('=').ok_or_else(invalid)?;
            match key.trim() {
                "skip" => options.skip = Names::parse(value),
                "experimental" => options.experimental = Names::parse(value),
                "error" => options.error = boolean::parse(value.trim()).ok_or_else(invalid)?,
                _ => return Err(invalid()),
            }
        }
        Ok(options)
    }

    /// Whether a remark counts, by the options and by the comments above its instruction and stage.
    pub fn counts(&self, dockerfile: &Dockerfile, warning: &Warning) -> bool {
        let rule = warning.rule;
        if rule.is_experimental() {
            // SPEC: `skip=all` does not take back what was asked for by name.
            return self.experimental.has(rule) && !self.skip.rules.contains(&rule);
        }
        !self.skip.has(rule) && !self.skipped_at(dockerfile, warning.span.start, rule)
    }

    /// True when a comment above the instruction at `offset`, or above the FROM of its stage, skips the rule.
    fn skipped_at(&self, dockerfile: &Dockerfile, offset: usize, rule: Rule) -> bool {
        let skips = |start: usize| self.inline.get(&start).is_some_and(|names| names.has(rule));
        let after = dockerfile.stages.partition_point(|stage| stage.from.span.start <= offset);
        let Some(stage) = after.checked_sub(1).map(|at| &dockerfile.stages[at]) else {
            let metas = &dockerfile.meta_args;
            let after = metas.partition_point(|meta| meta.span.start <= offset);
            return after.checked_sub(1).is_some_and(|at| skips(metas[at].span.start));
        };
        let after = stage.instructions.partition_point(|it| it.span.start <= offset);
        let own = after.checked_sub(1).map(|at| stage.instructions[at].span.start);
        skips(stage.from.span.start) || own.is_some_and(skips)
    }
}

/// The value of a comment `check=…`.
pub(super) fn check_comment(comment: &str) -> Option<&str> {
    let (name, value) = comment.split_once('=')?;
    name.trim().eq_ignore_ascii_case("check").then(|| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{SourceFile, Span};
    use std::sync::Arc;

    fn counted(text: &str, build_args: &[(&str, &str)], rule: Rule, line: usize) -> bool {
        let source = Arc::new(SourceFile::new("Dockerfile", text));
        let dockerfile = crate::dockerfile::parse(&source).unwrap();
        let args: Vec<_> =
            build_args.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let span = Span::new(source.line_span(line).start, source.line_span(line).end);
        let warning = Warning { rule, message: String::new(), span };
        Options::of(&dockerfile, &args).unwrap().counts(&dockerfile, &warning)
    }

    #[test]
    fn the_directive_skips_by_name_or_all() {
        let check = |text: &str, expect| {
            assert_eq!(counted(text, &[], Rule::FromAsCasing, 2), expect, "{text}");
        };
        check("# check=skip=StageNameCasing\nFROM a\n", true);
        check("# check=skip=StageNameCasing,FromAsCasing\nFROM a\n", false);
        check("# check=skip=all\nFROM a\n", false);
        check("# check=error=true;skip=all why\nFROM a\n", false);
        check("# check=error=true skip=all\nFROM a\n", true);
        // Behind something else it is an ordinary comment, above the FROM of its stage.
        check("# other\n# check=error=true\nFROM a\n", true);
    }

    #[test]
    fn the_build_argument_replaces_the_directive() {
        let text = "# check=skip=all\nFROM a\n";
        let with = |value| counted(text, &[(BUILD_ARG, value)], Rule::FromAsCasing, 2);
        assert!(with("error=true"));
        assert!(with(""));
        assert!(!with("skip=FromAsCasing"));
    }

    #[test]
    fn experimental_rules_are_off_until_asked_for() {
        let check = |options: &str, expect| {
            let text = format!("# check={options}\nFROM a\n");
            let found = counted(&text, &[], Rule::InvalidDefinitionDescription, 2);
            assert_eq!(found, expect, "{options}");
        };
        check("error=false", false);
        check("experimental=all", true);
        check("experimental=InvalidDefinitionDescription", true);
        check("skip=all;experimental=InvalidDefinitionDescription", true);
        check("skip=InvalidDefinitionDescription;experimental=all", false);
        check("experimental=Other", false);
    }

    #[test]
    fn a_comment_above_skips_for_its_instruction_or_stage() {
        let text = "FROM a\n# check=skip=FromAsCasing\nRUN x\nRUN y\n\n# note\n# check=skip=FromAsCasing\nFROM b\nRUN z\n# check=skip=FromAsCasing\n\nFROM c\n";
        let lines: Vec<usize> =
            (1..=12).filter(|line| counted(text, &[], Rule::FromAsCasing, *line)).collect();
        // Lines between instructions belong to the instruction above them.
        assert_eq!(lines, [1, 2, 4, 5, 6, 7, 12]);
    }

    #[test]
    fn unknown_options_are_refused() {
        for text in ["skp=all", "all", "error=maybe", "skip=A;x=y"] {
            let error = Options::parse(text).unwrap_err();
            assert!(error.message().starts_with("invalid check option `"), "{error}");
        }
    }
}
