//! What a Dockerfile offers: its targets, and what one of them takes from whoever builds it.
//!
//! In: the tree and the request. Out: plain data for `--call`; descriptions come from comments. dockerfile.md §1.11.

use super::contexts;
use super::lint;
use super::step::{BaseRef, StepKind};
use super::{Inputs, Mode, PlanRequest, plan_anyhow};
use crate::dockerfile::ast::{ArgInstruction, Dockerfile, InstructionKind, Stage};
use crate::dockerfile::lint::description;
use crate::error::Result;
use crate::oci::spec::ImageConfig;
use crate::source::Span;
use std::collections::{BTreeMap, BTreeSet};

/// A stage that can be asked for with `--target`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name; the default target may have none.
    pub name: Option<String>,
    /// It is built without `--target`.
    pub is_default: bool,
    /// From the comment above its FROM.
    pub description: Option<String>,
    /// What its FROM names, as written.
    pub base: String,
}

/// The targets of a file, in its order.
pub fn targets(dockerfile: &Dockerfile) -> Vec<Target> {
    let last = dockerfile.stages.len().saturating_sub(1);
    let target = |(number, stage): (usize, &Stage)| {
        let name = stage.from.name.as_ref().map(|name| name.text.clone());
        let description = stage_description(stage);
        let (is_default, base) = (number == last, stage.from.base.text.clone());
        (name.is_some() || is_default).then_some(Target { name, is_default, description, base })
    };
    dockerfile.stages.iter().enumerate().filter_map(target).collect()
}

fn stage_description(stage: &Stage) -> Option<String> {
    let name = stage.from.written_name.as_ref()?;
    description(&stage.from.comments, name).map(str::to_owned)
}

/// What one target takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// Name of the target; none for the last stage when it has none.
    pub name: Option<String>,
    /// From the comment above its FROM.
    pub description: Option<String>,
    /// ARGs that it or a stage that it needs declares or uses, each name once.
    pub args: Vec<OutlineArg>,
    /// `RUN --mount=type=secret`, by id.
    pub secrets: Vec<Required>,
    /// `RUN --mount=type=ssh`, by id.
    pub ssh: Vec<Required>,
}

/// An ARG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlineArg {
    /// Name.
    pub name: String,
    /// What it is in this build: the build argument's value, else the default's.
    pub value: Option<String>,
    /// From the comment above.
    pub description: Option<String>,
}

/// A secret or an ssh agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Required {
    /// Its id.
    pub id: String,
    /// Without it the build fails.
    pub required: bool,
}

/// What the request's target takes. An image that `bases` lacks counts as empty.
pub fn outline(
    dockerfile: &Dockerfile,
    request: &PlanRequest,
    bases: &BTreeMap<BaseRef, ImageConfig>,
) -> Result<Outline> {
    let dockerfile = &*contexts::without_replaced(dockerfile, request);
    let inputs = Inputs::new(dockerfile, request, bases)?.with_mode(Mode::Outline);
    let plan = plan_anyhow(&inputs)?;
    let mut outline = Outline::default();
    let mut used = BTreeSet::new();
    let (mut secrets, mut agents) = (BTreeMap::new(), BTreeMap::new());
    for stage in &plan.stages {
        let written = &dockerfile.stages[stage.number];
        for word in written.from.platform.iter().chain([&written.from.base]) {
            used.extend(lint::names(&inputs, word, |_| true)?);
        }
        for step in &stage.steps {
            let StepKind::Run(run) = &step.kind else { continue };
            for secret in &run.secrets {
                *secrets.entry(&secret.id).or_default() |= secret.required;
            }
            for agent in &run.agents {
                *agents.entry(&agent.id).or_default() |= agent.required;
            }
        }
    }
    if let Some(target) = plan.targets.first() {
        let stage = &dockerfile.stages[plan.stages[*target].number];
        outline.name = stage.from.name.as_ref().map(|name| name.text.clone());
        outline.description = stage_description(stage);
    }
    outline.args = args(&inputs, &used);
    outline.secrets = required(secrets);
    outline.ssh = required(agents);
    Ok(outline)
}

fn required(found: BTreeMap<&String, bool>) -> Vec<Required> {
    found.into_iter().map(|(id, required)| Required { id: id.clone(), required }).collect()
}

/// Global ARGs that a FROM uses, then those of stages.
fn args(inputs: &Inputs<'_>, used: &BTreeSet<String>) -> Vec<OutlineArg> {
    let dockerfile = inputs.dockerfile;
    let metas = || {
        dockerfile.meta_args.iter().flat_map(|meta| meta.args.iter().map(move |arg| (meta, arg)))
    };
    let mut all = Args::default();
    for (meta, arg) in metas().filter(|(_, arg)| used.contains(&arg.name.text)) {
        let (name, value) = (arg.name.text.clone(), inputs.globals.get(&arg.name.text));
        let description = description(&meta.comments, &name).map(str::to_owned);
        all.add(OutlineArg { name, value, description });
    }
    let declared = declarations(dockerfile);
    let global: BTreeMap<&str, &str> = metas()
        .filter_map(|(meta, arg)| {
            Some((arg.name.text.as_str(), description(&meta.comments, &arg.name.text)?))
        })
        .collect();
    for seen in inputs.seen.take_args() {
        let own = declared.get(&seen.span).and_then(|arg| description(&arg.comments, &seen.name));
        let global = global.get(seen.name.as_str()).copied();
        let description = own.or(global).map(str::to_owned);
        all.add(OutlineArg { name: seen.name, value: seen.value, description });
    }
    all.all
}

/// ARGs in the order of their first mention.
#[derive(Default)]
struct Args {
    all: Vec<OutlineArg>,
    index: BTreeMap<String, usize>,
}

impl Args {
    fn add(&mut self, arg: OutlineArg) {
        if let Some(at) = self.index.get(&arg.name) {
            let known = &mut self.all[*at];
            known.value = known.value.take().or(arg.value);
            known.description = known.description.take().or(arg.description);
        } else {
            self.index.insert(arg.name.clone(), self.all.len());
            self.all.push(arg);
        }
    }
}

/// ARGs of stages by their places.
fn declarations(dockerfile: &Dockerfile) -> BTreeMap<Span, &ArgInstruction> {
    let instructions = dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
    let args = instructions.filter_map(|instruction| match &instruction.kind {
        InstructionKind::Arg(arg) => Some((arg.span, arg)),
        _ => None,
    });
    args.collect()
}
