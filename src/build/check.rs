//! Build checks: what they find during a build, and checking without building.
//!
//! In: a request; for `--check` a store, if there is one. Out: remarks, sorted by line and each once, of those rules
//! that `# check=` lets count. The rules themselves are `dockerfile::lint`'s and `plan`'s; here is what needs the build
//! context ([`ignored`]) or a base image. Nothing is run or pulled for `--check`, and no privileges are needed.
//! dockerfile.md §1.1, §1.11.

use super::planning::{self, PlannedBuild};
use super::request::BuildRequest;
use super::store::Store;
use crate::context::IgnoreRules;
use crate::dockerfile::ast::Dockerfile;
use crate::dockerfile::lint::{self, Options, Rule, Warning};
use crate::dockerfile::{parse, parse_what_can_be};
use crate::error::{Error, Place, Result};
use crate::oci::Reference;
use crate::oci::spec::ImageConfig;
use crate::plan::step::{BaseRef, BuildPlan, CopyFrom, StepKind};
use crate::plan::{self, Outline, PlanRequest, Target};
use crate::progress::{CheckWarning, Emitter, Event};
use crate::source::Span;
use std::collections::{BTreeMap, BTreeSet};

/// What checking a Dockerfile came to.
#[derive(Debug)]
pub struct Checked {
    /// In the order of the file.
    pub warnings: Vec<CheckWarning>,
    /// What stands against building the file, or the remarks themselves with `# check=error=true`.
    pub error: Option<Error>,
}

/// Checks all stages for one platform. An image that is not in the store counts as empty.
pub fn check(request: &BuildRequest, store: Option<&Store>) -> Result<Checked> {
    let (dockerfile, broken) = parse_what_can_be(&request.dockerfile);
    let asked = plan_request(request);
    let mut checks = match (Checks::new(&dockerfile, &asked), &broken) {
        (Ok(checks), _) => checks,
        (Err(_), Some(error)) => return Err(error.clone()),
        (Err(error), None) => return Err(error),
    };
    let planned = match broken {
        Some(error) => Err(error),
        None => plan_for_check(&dockerfile, asked, store, &mut checks),
    };
    if let Ok(plan) = &planned {
        checks.add_plan(plan, request);
    }
    let found = checks.found();
    let error = planned.err().or_else(|| checks.verdict(&found));
    Ok(Checked { warnings: checks.shown(found), error })
}

/// The stages that can be built.
pub fn targets(request: &BuildRequest) -> Result<Vec<Target>> {
    Ok(plan::targets(&parse(&request.dockerfile)?))
}

/// What the target takes. An image that is not in the store counts as empty.
pub fn outline(request: &BuildRequest, store: Option<&Store>) -> Result<Outline> {
    let dockerfile = parse(&request.dockerfile)?;
    let mut asked = plan_request(request);
    asked.epoch = plan::epoch(&dockerfile, &asked)?.known();
    let bases = plan::bases(&dockerfile, &asked)?;
    plan::outline(&dockerfile, &asked, &stored(bases.iter().map(|(base, _)| base), store))
}

/// Plans a build and tells what the checks find; where the Dockerfile wants it so, that is an error.
pub(super) fn plan_all(
    dockerfile: &Dockerfile,
    request: &BuildRequest,
    store: &Store,
    emitter: &Emitter,
) -> Result<PlannedBuild> {
    let mut checks = Checks::new(dockerfile, &plan_request(request))?;
    let planned = planning::plan_all(dockerfile, request, store, emitter);
    if let Ok(planned) = &planned {
        checks.add_plan(&planned.plan, request);
        checks.warnings.extend(planned.checks.iter().cloned());
    }
    let found = checks.found();
    let verdict = checks.verdict(&found);
    for warning in checks.shown(found) {
        emitter.emit(Event::Check(warning));
    }
    let planned = planned?;
    planning::warn(&planned.plan, emitter);
    verdict.map_or(Ok(planned), Err)
}

/// An image that is made for another platform than it is used for.
pub(super) fn wrong_platform(base: &BaseRef, config: &ImageConfig, span: Span) -> Option<Warning> {
    let found = planning::other_platform(base, config)?;
    let message = format!(
        "Base image {} was pulled with platform \"{found}\", expected \"{}\" for current build",
        base.reference, base.platform
    );
    Some(Warning { rule: Rule::InvalidBaseImagePlatform, message, span })
}

fn plan_request(request: &BuildRequest) -> PlanRequest {
    let platform = request.platforms.first().cloned();
    PlanRequest { platform, ..planning::plan_request(request) }
}

fn plan_for_check(
    dockerfile: &Dockerfile,
    mut asked: PlanRequest,
    store: Option<&Store>,
    checks: &mut Checks<'_>,
) -> Result<BuildPlan> {
    asked.epoch = plan::epoch(dockerfile, &asked)?.known();
    let bases = plan::bases(dockerfile, &asked)?;
    let known = stored(bases.iter().map(|(base, _)| base), store);
    for (base, span) in &bases {
        let config = known.get(base);
        checks.warnings.extend(config.and_then(|config| wrong_platform(base, config, *span)));
    }
    plan::check(dockerfile, &asked, &known)
}

/// Configs of those images that the store has whole.
fn stored<'a>(
    bases: impl Iterator<Item = &'a BaseRef>,
    store: Option<&Store>,
) -> BTreeMap<BaseRef, ImageConfig> {
    let find = |base: &BaseRef| {
        let store = store?;
        let reference = Reference::parse(&base.reference).ok()?;
        let image = store.images().find(&reference).ok()??;
        super::images::open(store, &image.descriptor, &base.platform).ok()
    };
    bases.filter_map(|base| Some((base.clone(), find(base)?.config))).collect()
}

/// Remarks on the way from being made to being shown.
struct Checks<'a> {
    dockerfile: &'a Dockerfile,
    options: Options,
    warnings: Vec<Warning>,
}

impl<'a> Checks<'a> {
    /// Begins with what can be said even of a file that cannot be planned.
    fn new(dockerfile: &'a Dockerfile, asked: &PlanRequest) -> Result<Self> {
        let options = Options::of(dockerfile, &asked.build_args)?;
        let mut warnings = lint::check(dockerfile);
        // What is wrong with the file is told by planning it.
        warnings.extend(plan::check_froms(dockerfile, asked).unwrap_or_default());
        Ok(Self { dockerfile, options, warnings })
    }

    fn add_plan(&mut self, plan: &BuildPlan, request: &BuildRequest) {
        self.warnings.extend(plan.checks.iter().cloned());
        if let Some(rules) = request.context.ignore() {
            self.warnings.extend(ignored(plan, rules));
        }
    }

    /// Those that count, by line, each once.
    fn found(&self) -> Vec<Warning> {
        let counts = |warning: &&Warning| self.options.counts(self.dockerfile, warning);
        let mut found: Vec<Warning> = self.warnings.iter().filter(counts).cloned().collect();
        let line = |warning: &Warning| self.dockerfile.source.line(warning.span.start);
        found.sort_by(|a, b| {
            (line(a), a.rule, a.span, &a.message).cmp(&(line(b), b.rule, b.span, &b.message))
        });
        found.dedup();
        found
    }

    /// The error that remarks are with `# check=error=true`.
    fn verdict(&self, found: &[Warning]) -> Option<Error> {
        let first = found.first().filter(|_| self.options.error)?;
        let rules: BTreeSet<String> = found.iter().map(|found| found.rule.to_string()).collect();
        let rules = rules.into_iter().collect::<Vec<_>>().join(", ");
        let source = &self.dockerfile.source;
        let lines: BTreeSet<usize> =
            found.iter().map(|found| source.line(found.span.start)).collect();
        let error = Error::dockerfile(format!("lint violation found for rules: {rules}"))
            .at(source, first.span);
        if lines.len() < 2 {
            return Some(error);
        }
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        Some(error.cause(format!("found in lines {}", lines.join(", "))))
    }

    fn shown(&self, found: Vec<Warning>) -> Vec<CheckWarning> {
        let shown = |warning: Warning| CheckWarning {
            rule: warning.rule.to_string(),
            message: warning.message,
            place: Place { source: self.dockerfile.source.clone(), span: warning.span },
        };
        found.into_iter().map(shown).collect()
    }
}

/// Sources of COPY and ADD that `.dockerignore` keeps out of the build context.
fn ignored(plan: &BuildPlan, rules: &IgnoreRules) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for step in plan.stages.iter().flat_map(|stage| &stage.steps) {
        let StepKind::Copy(copy) = &step.kind else { continue };
        if copy.from != CopyFrom::Context {
            continue;
        }
        let what = if copy.add { "Add" } else { "Copy" };
        for (source, span) in copy.paths() {
            if is_ignored(&source, rules) {
                let message = format!(
                    "Attempting to {what} file {source:?} that is excluded by .dockerignore"
                );
                let span = lint::place(&plan.source, span, step.span);
                warnings.push(Warning { rule: Rule::CopyIgnoredFile, message, span });
            }
        }
    }
    warnings
}

/// True when nothing of a source can be in the context: it, or of a pattern the directory that it looks in, is kept out
/// and no `!` takes anything below it back.
fn is_ignored(source: &str, rules: &IgnoreRules) -> bool {
    if source.contains("://") {
        return false;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in source.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part if part.contains(['*', '?', '[', '\\']) => break,
            part => parts.push(part),
        }
    }
    let path = parts.join("/");
    !path.is_empty()
        && !rules.decide(path.as_bytes()).included
        && !rules.may_take_back_below(path.as_bytes())
        // No pattern of the user's.
        && rules.hidden_for(path.as_bytes()).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SourceFile;
    use std::sync::Arc;

    #[test]
    fn sources_of_which_nothing_is_in_the_context_are_ignored() {
        let text = "*.log\ntmp\n!tmp/keep\nout/*\n*/cache\n";
        let rules = IgnoreRules::parse(&Arc::new(SourceFile::new(".dockerignore", text))).unwrap();
        let check =
            |source: &str, expect| assert_eq!(is_ignored(source, &rules), expect, "{source}");
        check("a.log", true);
        check("./a.log", true);
        check("/a.log", true);
        check("x/../a.log", true);
        check("a.txt", false);
        check("*.log", false);
        check("tmp", false);
        check("tmp/other", true);
        check("tmp/keep", false);
        check("out", false);
        check("out/x/*.txt", true);
        check("out/*", false);
        check("a/cache/*", true);
        check(".", false);
        check("", false);
        check("https://h/a.log", false);
    }
}
