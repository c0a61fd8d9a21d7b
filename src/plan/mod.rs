//! From a parsed Dockerfile and a request to the steps of a build, as plain data.
//!
//! In: AST, [`PlanRequest`], configs of base images. Out: a [`BuildPlan`], or the images whose configs are needed first.
//! Pure: no file, no clock, no environment, so the same input always gives the same plan and `--print-plan` needs no
//! privileges. Every step keeps the place of its instruction. dockerfile.md §1.3, §1.5 to §1.8, §1.10, §2.1, §2.2.

mod budget;
pub mod chmod;
pub mod contexts;
mod copy;
mod csv;
mod epoch;
mod expander;
mod graph;
mod history;
mod image_config;
mod join;
mod links;
pub mod lint;
mod mounts;
mod needs;
mod outline;
mod paths;
mod ports;
mod print;
pub mod remote;
mod run;
mod scope;
mod seen;
mod stage;
mod state;
pub mod step;

pub use epoch::{Epoch, epoch};
pub use join::join;
pub use outline::{Outline, OutlineArg, Required, Target, outline, targets};
pub use print::print_plan;

use crate::dockerfile::ast::{ArgInstruction, Dockerfile, FromInstruction, InstructionKind};
use crate::dockerfile::lint::Warning;
use crate::dockerfile::unknown_trigger;
use crate::error::{Error, Result};
use crate::oci::platform::Platform;
use crate::oci::spec::ImageConfig;
use crate::source::Span;
use budget::Budget;
use contexts::NamedContexts;
use expander::Expander;
use graph::{Base, Graph, Resolved};
use scope::Globals;
use seen::Seen;
use std::collections::{BTreeMap, BTreeSet};
use step::{BaseRef, BuildPlan, NetworkMode, PlanWarning, StageBase, StagePlan};

/// What the user asked for, besides the Dockerfile.
#[derive(Clone, Debug)]
pub struct PlanRequest {
    /// `--build-arg`, in order; the last of a name wins.
    pub build_args: Vec<(String, String)>,
    /// `--target`; the last stage when `None` or empty.
    pub target: Option<String>,
    /// `--label`, for the target's image only.
    pub labels: Vec<(String, String)>,
    /// Platform asked for with `--platform`.
    pub platform: Option<Platform>,
    /// Platform of this builder.
    pub build_platform: Platform,
    /// `--network`: for RUNs without a flag of their own.
    pub network: NetworkMode,
    /// Epoch of the build: the value of `ARG SOURCE_DATE_EPOCH`.
    pub epoch: Option<i64>,
    /// `--build-context`.
    pub contexts: NamedContexts,
    /// Times of contexts that have one, seconds since 1970; `context` is the main one.
    pub times: BTreeMap<String, i64>,
}

/// What planning came to.
#[derive(Clone, Debug)]
pub enum Planned {
    /// The plan.
    Ready(BuildPlan),
    /// Configs of these images are needed; plan again with them. Each round adds at least one.
    Needs(Vec<BaseRef>),
}

/// Plans a build. Only images that needed stages are built on have to be in `bases`; one that files are merely copied
/// from does not.
pub fn plan(
    dockerfile: &Dockerfile,
    request: &PlanRequest,
    bases: &BTreeMap<BaseRef, ImageConfig>,
) -> Result<Planned> {
    let dockerfile = contexts::without_replaced(dockerfile, request);
    plan_as(&Inputs::new(&dockerfile, request, bases)?)
}

fn plan_as(inputs: &Inputs<'_>) -> Result<Planned> {
    let graph = match graph::resolve(inputs)? {
        Resolved::Ready(graph) => graph,
        Resolved::Needs(missing) => return Ok(Planned::Needs(missing.into_iter().collect())),
    };
    build_plan(inputs, &graph).map(Planned::Ready)
}

/// A size as Docker writes it: `64`, `128m`, `1.5g`, `2GiB`.
pub fn size(text: &str) -> Option<u64> {
    mounts::parse_size(text)
}

/// Plans all stages, also those that the target does not need, for the checks. An image that `bases` lacks counts as
/// empty; variables of a stage on it are then not looked at.
pub fn check(
    dockerfile: &Dockerfile,
    request: &PlanRequest,
    bases: &BTreeMap<BaseRef, ImageConfig>,
) -> Result<BuildPlan> {
    let dockerfile = contexts::without_replaced(dockerfile, request);
    plan_anyhow(&Inputs::new(&dockerfile, request, bases)?.with_mode(Mode::Check))
}

/// A plan that needs no image.
fn plan_anyhow(inputs: &Inputs<'_>) -> Result<BuildPlan> {
    match plan_as(inputs)? {
        Planned::Ready(plan) => Ok(plan),
        Planned::Needs(_) => Err(Error::internal("images were asked for without need")),
    }
}

/// What the checks find in FROM lines. It can be said even of a file that cannot be planned.
pub fn check_froms(dockerfile: &Dockerfile, request: &PlanRequest) -> Result<Vec<Warning>> {
    lint::froms(&Inputs::new(dockerfile, request, &BTreeMap::new())?)
}

/// The images that stages start from, each with the place where a FROM names it.
pub fn bases(dockerfile: &Dockerfile, request: &PlanRequest) -> Result<Vec<(BaseRef, Span)>> {
    let none = BTreeMap::new();
    let dockerfile = contexts::without_replaced(dockerfile, request);
    let inputs = Inputs::new(&dockerfile, request, &none)?.with_mode(Mode::Check);
    match graph::resolve(&inputs)? {
        Resolved::Ready(graph) => Ok(graph.bases(&dockerfile)),
        Resolved::Needs(_) => Err(Error::internal("images were asked for without need")),
    }
}

/// What a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// To be carried out.
    Build,
    /// To tell what the target takes.
    Outline,
    /// To check all stages.
    Check,
}

/// What all parts of the planner read.
#[derive(Debug)]
struct Inputs<'a> {
    dockerfile: &'a Dockerfile,
    request: &'a PlanRequest,
    bases: &'a BTreeMap<BaseRef, ImageConfig>,
    globals: Globals,
    budget: Budget,
    mode: Mode,
    seen: Seen,
}

impl<'a> Inputs<'a> {
    fn new(
        dockerfile: &'a Dockerfile,
        request: &'a PlanRequest,
        bases: &'a BTreeMap<BaseRef, ImageConfig>,
    ) -> Result<Self> {
        let budget = Budget::default();
        let expander = Expander {
            source: &dockerfile.source,
            escape: dockerfile.directives.escape,
            budget: &budget,
        };
        let globals = Globals::new(dockerfile, request, &expander)?;
        let (mode, seen) = (Mode::Build, Seen::default());
        Ok(Self { dockerfile, request, bases, globals, budget, mode, seen })
    }

    fn with_mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// Notes an ARG where somebody will ask for it.
    fn saw_arg(&self, name: &str, value: Option<&str>, span: Span) {
        if self.mode == Mode::Outline {
            self.seen.arg(name, value, span);
        }
    }

    /// Platform that is built for where a stage does not say another.
    fn target_platform(&self) -> &Platform {
        self.request.platform.as_ref().unwrap_or(&self.request.build_platform)
    }

    /// Triggers are parsed with the default escape character, but their words expand with that of the file that is built.
    fn expander(&self) -> Expander<'_> {
        Expander {
            source: &self.dockerfile.source,
            escape: self.dockerfile.directives.escape,
            budget: &self.budget,
        }
    }
}

fn build_plan(inputs: &Inputs<'_>, graph: &Graph) -> Result<BuildPlan> {
    // Ascending numbers are an order in which every stage comes after what it needs.
    let mut stage_index = vec![None; graph.nodes.len()];
    let reachable = (0..graph.nodes.len()).filter(|number| graph.nodes[*number].reachable);
    let numbers: Vec<usize> = reachable.collect();
    for (index, number) in numbers.iter().enumerate() {
        stage_index[*number] = Some(index);
    }
    let mut states = vec![None; graph.nodes.len()];
    let mut stages = Vec::with_capacity(numbers.len());
    let mut warnings = unused_arguments(inputs, graph);
    warnings.extend(unknown_triggers(inputs));
    let mut checks = Vec::new();
    for number in numbers {
        let built = stage::build(inputs, graph, &stage_index, number, &states)?;
        warnings.extend(built.warnings);
        checks.extend(built.checks);
        let mut config = built.state.image_config();
        if number == graph.target {
            finish_target(inputs, &mut config);
        }
        let from = &inputs.dockerfile.stages[number].from;
        let base = &graph.nodes[number].base;
        let mut steps = built.steps;
        if let Base::Files(name) = base {
            steps.insert(0, stage::files_of_context(name, from));
        }
        stages.push(StagePlan {
            number,
            name: from.name.as_ref().map(|name| name.text.clone()),
            base: stage_base(base, &stage_index),
            span: from.span,
            text: from_text(from),
            platform: built.state.platform.clone(),
            steps,
            config,
        });
        states[number] = Some(built.state);
    }
    let targets = stage_index[graph.target].into_iter().collect();
    let source = inputs.dockerfile.source.clone();
    Ok(BuildPlan { source, stages, targets, warnings, checks })
}

/// `--label` and `--platform` belong to the image that comes out.
fn finish_target(inputs: &Inputs<'_>, config: &mut ImageConfig) {
    config.config.labels.extend(inputs.request.labels.iter().cloned());
    if let Some(platform) = &inputs.request.platform {
        image_config::set_platform(config, platform);
    }
}

fn stage_base(base: &Base, stage_index: &[Option<usize>]) -> StageBase {
    match base {
        Base::Scratch | Base::Files(_) => StageBase::Scratch,
        Base::Image(image) => StageBase::Image(image.clone()),
        Base::Stage(number) => {
            StageBase::Stage(stage_index[*number].expect("the base of a needed stage is needed"))
        }
    }
}

fn from_text(from: &FromInstruction) -> String {
    let mut text = String::from("FROM ");
    if let Some(platform) = &from.platform {
        text.push_str(&format!("--platform={} ", platform.text));
    }
    text.push_str(&from.base.text);
    if let Some(name) = &from.name {
        text.push_str(&format!(" AS {}", name.text));
    }
    text
}

/// A misspelt trigger is stored as it is, and stops whoever builds on the image.
fn unknown_triggers(inputs: &Inputs<'_>) -> impl Iterator<Item = PlanWarning> {
    let instructions = inputs.dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
    instructions.filter_map(|instruction| match &instruction.kind {
        InstructionKind::OnBuild(trigger) => Some(PlanWarning {
            message: format!("ONBUILD stores an {}", unknown_trigger(trigger)?),
            span: Some(trigger.span),
        }),
        _ => None,
    })
}

/// Build arguments that no ARG of the file names; they have no effect, which is rarely what was meant.
fn unused_arguments(inputs: &Inputs<'_>, graph: &Graph) -> Vec<PlanWarning> {
    let dockerfile = inputs.dockerfile;
    let own = dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
    let triggers = graph.nodes.iter().flat_map(|node| &node.triggers);
    let in_stages = own.chain(triggers).filter_map(|instruction| match &instruction.kind {
        InstructionKind::Arg(arg) => Some(arg),
        _ => None,
    });
    let names = |arg: &ArgInstruction| -> Vec<String> {
        arg.args.iter().map(|argument| argument.name.text.clone()).collect()
    };
    let declared: BTreeSet<String> =
        dockerfile.meta_args.iter().chain(in_stages).flat_map(names).collect();
    let unused = inputs.globals.unused(&declared).into_iter();
    unused
        .map(|name| PlanWarning {
            message: format!("build argument `{name}` is declared by no ARG and has no effect"),
            span: None,
        })
        .collect()
}

#[cfg(test)]
mod tests;
