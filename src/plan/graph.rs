//! Which stages there are, what each starts from, which others it takes files from, and which the target needs.
//!
//! In: the AST, global variables, base image configs (for their ONBUILD triggers). Out: [`Graph`], in which every
//! reachable stage only needs stages before it; or the images whose configs are missing. dockerfile.md §1.3, §1.10.

use super::budget::STEP_COST;
use super::contexts::{self, NamedContext};
use super::expander::Expander;
use super::links::{Names, Source};
use super::step::BaseRef;
use super::{Inputs, Mode, scope::Globals};
use crate::dockerfile::ast::{Dockerfile, Instruction, InstructionKind, Stage, Word};
use crate::dockerfile::suggest::nearest;
use crate::error::{Error, Result};
use crate::oci::platform::Platform;
use crate::source::Span;
use std::collections::BTreeSet;

/// All stages of the file.
#[derive(Debug)]
pub(super) struct Graph {
    /// By their number.
    pub(super) nodes: Vec<Node>,
    /// Number of the target.
    pub(super) target: usize,
    pub(super) names: Names,
}

/// One stage.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) base: Base,
    /// `--platform` of its FROM.
    pub(super) platform: Option<Platform>,
    /// Name, or `stage-N`.
    pub(super) shown: String,
    /// Triggers of its base, to be run first. Only known for reachable stages.
    pub(super) triggers: Vec<Instruction>,
    /// True when the target needs it.
    pub(super) reachable: bool,
}

/// Where a stage starts.
#[derive(Clone, Debug)]
pub(super) enum Base {
    Scratch,
    Image(BaseRef),
    /// Number of an earlier stage.
    Stage(usize),
    /// A named context that is no image.
    Files(String),
}

/// The graph, or images whose configs it needs first.
pub(super) enum Resolved {
    Ready(Graph),
    Needs(BTreeSet<BaseRef>),
}

/// Builds the graph of a file.
pub(super) fn resolve(inputs: &Inputs<'_>) -> Result<Resolved> {
    let stages = &inputs.dockerfile.stages;
    let mut names = Names::default();
    let mut nodes = Vec::with_capacity(stages.len());
    for (number, stage) in stages.iter().enumerate() {
        nodes.push(node(inputs, number, stage, &names)?);
        if let Some(name) = &stage.from.name {
            names.0.entry(name.text.to_lowercase()).or_default().push(number);
        }
    }
    let target = find_target(inputs, &names, nodes.len())?;
    let mut graph = Graph { nodes, target, names };
    graph.check_links(inputs)?;
    let missing = graph.mark_reachable(inputs)?;
    if missing.is_empty() { Ok(Resolved::Ready(graph)) } else { Ok(Resolved::Needs(missing)) }
}

fn node(inputs: &Inputs<'_>, number: usize, stage: &Stage, names: &Names) -> Result<Node> {
    let expander = inputs.expander();
    let from = &stage.from;
    let platform = match &from.platform {
        Some(word) => Some(parse_platform(&expander, word, &inputs.globals)?),
        None => None,
    };
    let reference = expander.word(&from.base, &|name| inputs.globals.get(name))?;
    if reference.trim().is_empty() {
        let message = format!("base name ({}) should not be blank", from.base.text);
        return Err(Error::dockerfile(message).at(expander.source, from.base.span).hint(
            "declare the variable with ARG before the first FROM, or pass it with `--build-arg`",
        ));
    }
    let wanted = platform.as_ref().unwrap_or_else(|| inputs.target_platform());
    let own = stage.from.name.as_ref().map(|name| name.text.as_str());
    let is_stage = names.0.contains_key(&reference);
    let replaced = own
        .into_iter()
        .chain((!is_stage).then_some(reference.as_str()))
        .find_map(|name| contexts::find(&inputs.request.contexts, name, wanted));
    // Names are stored in lower case and looked up as written: `FROM Up` is an image even with a stage `up`.
    let stage_of = |name: &str| names.0.get(name).and_then(|numbers| numbers.last()).copied();
    let image = |reference: String| Base::Image(BaseRef { reference, platform: wanted.clone() });
    let base = match (replaced, stage_of(&reference)) {
        (Some((_, NamedContext::Image(reference))), _) => image(reference.clone()),
        (Some((name, NamedContext::Files)), _) => Base::Files(name.to_owned()),
        (None, Some(stage)) => Base::Stage(stage),
        (None, None) if reference == "scratch" => Base::Scratch,
        (None, None) => image(reference),
    };
    let shown = match &from.name {
        Some(name) => name.text.clone(),
        None => format!("stage-{number}"),
    };
    Ok(Node { base, platform, shown, triggers: Vec::new(), reachable: false })
}

fn parse_platform(expander: &Expander<'_>, word: &Word, globals: &Globals) -> Result<Platform> {
    let text = expander.word(word, &|name| globals.get(name))?;
    let error = if text.is_empty() {
        Error::dockerfile(format!("empty platform value from expression {}", word.text))
    } else {
        match Platform::parse(&text) {
            Ok(platform) => return Ok(platform),
            Err(error) => error
                .with_kind(crate::error::ErrorKind::Dockerfile)
                .wrap(format!("failed to parse platform {text}")),
        }
    };
    Err(error.at(expander.source, word.span))
}

fn find_target(inputs: &Inputs<'_>, names: &Names, count: usize) -> Result<usize> {
    let Some(wanted) = inputs.request.target.as_deref().filter(|name| !name.is_empty()) else {
        return count
            .checked_sub(1)
            .ok_or_else(|| Error::dockerfile("dockerfile contains no stages to build"));
    };
    if let Some(number) = names.0.get(&wanted.to_lowercase()).and_then(|numbers| numbers.last()) {
        return Ok(*number);
    }
    let message = format!("target stage \"{wanted}\" could not be found");
    let mut known: Vec<&str> = names.0.keys().map(String::as_str).collect();
    known.sort_unstable();
    Err(match nearest(wanted, &known) {
        Some(near) => Error::dockerfile(format!("{message} (did you mean {near}?)")),
        None if known.is_empty() => Error::dockerfile(message)
            .hint("no stage has a name; name one with `FROM image AS name`"),
        None => Error::dockerfile(message).hint(format!("the stages are `{}`", known.join("`, `"))),
    })
}

impl Graph {
    /// The images that stages start from, and where.
    pub(super) fn bases(&self, dockerfile: &Dockerfile) -> Vec<(BaseRef, Span)> {
        let stages = self.nodes.iter().zip(&dockerfile.stages);
        let image = |(node, stage): (&Node, &Stage)| match &node.base {
            Base::Image(base) => Some((base.clone(), stage.from.base.span)),
            Base::Scratch | Base::Stage(_) | Base::Files(_) => None,
        };
        stages.filter_map(image).collect()
    }

    /// Marks what the target needs, parses the triggers of it, and returns bases whose configs are not known.
    fn mark_reachable(&mut self, inputs: &Inputs<'_>) -> Result<BTreeSet<BaseRef>> {
        let mut missing = BTreeSet::new();
        let mut waiting = match inputs.mode {
            Mode::Build | Mode::Outline => vec![self.target],
            Mode::Check => (0..self.nodes.len()).collect(),
        };
        for stage in &waiting {
            self.nodes[*stage].reachable = true;
        }
        while let Some(number) = waiting.pop() {
            let mut needed = BTreeSet::new();
            match &self.nodes[number].base {
                Base::Stage(stage) => {
                    needed.insert(*stage);
                }
                Base::Image(base)
                    if inputs.mode == Mode::Build && !inputs.bases.contains_key(base) =>
                {
                    missing.insert(base.clone());
                }
                Base::Image(_) | Base::Scratch | Base::Files(_) => {}
            }
            self.nodes[number].triggers = self.triggers(inputs, number)?;
            let own = &inputs.dockerfile.stages[number].instructions;
            for instruction in self.nodes[number].triggers.iter().chain(own) {
                self.needed_by(inputs, number, instruction, &mut needed)?;
            }
            for stage in needed {
                if !std::mem::replace(&mut self.nodes[stage].reachable, true) {
                    waiting.push(stage);
                }
            }
        }
        Ok(missing)
    }

    fn needed_by(
        &self,
        inputs: &Inputs<'_>,
        number: usize,
        instruction: &Instruction,
        needed: &mut BTreeSet<usize>,
    ) -> Result<()> {
        for link in self.links(inputs, number, instruction)? {
            let Source::Stage(stage) = link.source else { continue };
            let source = &inputs.dockerfile.source;
            if stage == number {
                return Err(self.circular(number).at(source, link.span));
            }
            if stage > number {
                return Err(Error::dockerfile(link.too_late)
                    .at(source, link.span)
                    .hint("move the stage that is copied from above this one"));
            }
            needed.insert(stage);
        }
        Ok(())
    }

    /// Triggers of a stage's base; none while an image's config is unknown.
    fn triggers(&self, inputs: &Inputs<'_>, number: usize) -> Result<Vec<Instruction>> {
        let texts: Vec<(&str, Span)> = match &self.nodes[number].base {
            Base::Scratch | Base::Files(_) => Vec::new(),
            Base::Image(base) => {
                let span = inputs.dockerfile.stages[number].from.span;
                let config = inputs.bases.get(base);
                let texts = config.map(|config| config.config.on_build.as_slice());
                texts.unwrap_or_default().iter().map(|text| (text.as_str(), span)).collect()
            }
            // Only its own ONBUILDs: those of what it was built on have run in it and are gone.
            Base::Stage(stage) => {
                let instructions = &inputs.dockerfile.stages[*stage].instructions;
                let own = instructions.iter().filter_map(|instruction| match &instruction.kind {
                    InstructionKind::OnBuild(trigger) => {
                        Some((trigger.text.as_str(), trigger.span))
                    }
                    _ => None,
                });
                own.collect()
            }
        };
        texts.into_iter().map(|(text, span)| parse_trigger(inputs, text, span)).collect()
    }
}

fn parse_trigger(inputs: &Inputs<'_>, text: &str, span: Span) -> Result<Instruction> {
    let source = &inputs.dockerfile.source;
    inputs.budget.charge(STEP_COST + text.len(), source, span)?;
    let wrap = |error: Error| {
        let error = error.wrap(format!("trigger `ONBUILD {text}` of the base cannot be used"));
        error.hint("it stands in the config of the base: make that anew without it")
    };
    let mut instruction = crate::dockerfile::parse_trigger(text, source, span)
        .map_err(|e| wrap(e).at(source, span))?;
    if matches!(instruction.kind, InstructionKind::OnBuild(_) | InstructionKind::Maintainer(_)) {
        return Err(wrap(Error::dockerfile("ONBUILD and MAINTAINER are not allowed as triggers"))
            .at(source, span));
    }
    instruction.on_build = true;
    Ok(instruction)
}
