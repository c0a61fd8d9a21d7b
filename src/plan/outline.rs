//! What a Dockerfile offers: its targets, and what one of them takes from whoever builds it.
//!
//! In: the tree and the request. Out: plain data for `--call`; descriptions come from comments. dockerfile.md §1.11.

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
    /// `RUN --mount=type=secret`.
    pub secrets: Vec<Required>,
    /// `RUN --mount=type=ssh`.
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
    let inputs = Inputs::new(dockerfile, request, bases)?.with_mode(Mode::Outline);
    let plan = plan_anyhow(&inputs)?;
    let mut outline = Outline::default();
    let mut used = BTreeSet::new();
    for stage in &plan.stages {
        let written = &dockerfile.stages[stage.number];
        for word in written.from.platform.iter().chain([&written.from.base]) {
            used.extend(lint::names(&inputs, word, |_| true));
        }
        for step in &stage.steps {
            let StepKind::Run(run) = &step.kind else { continue };
            for secret in &run.secrets {
                add_required(&mut outline.secrets, &secret.id, secret.required);
            }
            for agent in &run.agents {
                add_required(&mut outline.ssh, &agent.id, agent.required);
            }
        }
    }
    if let Some(target) = plan.targets.first() {
        let stage = &dockerfile.stages[plan.stages[*target].number];
        outline.name = stage.from.name.as_ref().map(|name| name.text.clone());
        outline.description = stage_description(stage);
    }
    outline.args = args(&inputs, &used);
    Ok(outline)
}

fn add_required(list: &mut Vec<Required>, id: &str, required: bool) {
    match list.iter_mut().find(|known| known.id == id) {
        Some(known) => known.required |= required,
        None => list.push(Required { id: id.to_owned(), required }),
    }
}

/// Global ARGs that a FROM uses, then those of stages.
fn args(inputs: &Inputs<'_>, used: &BTreeSet<String>) -> Vec<OutlineArg> {
    let dockerfile = inputs.dockerfile;
    let metas = || {
        dockerfile.meta_args.iter().flat_map(|meta| meta.args.iter().map(move |arg| (meta, arg)))
    };
    let mut all: Vec<OutlineArg> = Vec::new();
    for (meta, arg) in metas().filter(|(_, arg)| used.contains(&arg.name.text)) {
        let (name, value) = (arg.name.text.clone(), inputs.globals.get(&arg.name.text));
        let description = description(&meta.comments, &name).map(str::to_owned);
        merge(&mut all, OutlineArg { name, value, description });
    }
    let declared = declarations(dockerfile);
    for seen in inputs.seen.take_args() {
        let own = declared.get(&seen.span).and_then(|arg| description(&arg.comments, &seen.name));
        let global = metas()
            .filter(|(_, arg)| arg.name.text == seen.name)
            .find_map(|(meta, arg)| description(&meta.comments, &arg.name.text));
        let description = own.or(global).map(str::to_owned);
        merge(&mut all, OutlineArg { name: seen.name, value: seen.value, description });
    }
    all
}

fn merge(all: &mut Vec<OutlineArg>, arg: OutlineArg) {
    match all.iter_mut().find(|known| known.name == arg.name) {
        Some(known) => {
            known.value = known.value.take().or(arg.value);
            known.description = known.description.take().or(arg.description);
        }
        None => all.push(arg),
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
