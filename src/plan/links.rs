//! `--from` and `from=`: which stage or image they mean, and that none leads back to its own stage.
//!
//! In: the stages of a [`Graph`] and an instruction. Out: resolved links, or BuildKit's errors; dockerfile.md §1.10.

use super::contexts::{self, NamedContext};
use super::graph::Graph;
use super::step::{BaseRef, CopyFrom};
use super::{Inputs, mounts};
use crate::dockerfile::ast::{Instruction, InstructionKind, Word};
use crate::error::{Error, Result};
use crate::source::Span;
use std::collections::HashMap;

/// Numbers of the stages of each name, ascending.
#[derive(Debug, Default)]
pub(super) struct Names(pub(super) HashMap<String, Vec<usize>>);

/// What a `--from` or `from=` means in a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Stage(usize),
    Image,
}

/// One `--from` or `from=`, and how its error reads when the stage comes too late.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) source: Source,
    pub(super) span: Span,
    pub(super) too_late: String,
}

impl Graph {
    /// What `--from=from` means in stage `number`: the nearest stage of that name before it, a stage by its number,
    /// else an image.
    fn source(&self, number: usize, from: &str) -> Result<Source> {
        if let Ok(index) = from.parse::<i64>() {
            return match usize::try_from(index).ok().filter(|index| *index < self.nodes.len()) {
                Some(index) => Ok(Source::Stage(index)),
                None => Err(Error::dockerfile(format!("invalid stage index {index}")).hint(
                    format!("stages are counted from 0; this file has {}", self.nodes.len()),
                )),
            };
        }
        let Some(numbers) = self.names.0.get(&from.to_lowercase()) else {
            return Ok(Source::Image);
        };
        let earlier = numbers.partition_point(|candidate| *candidate < number);
        // Failing an earlier one: itself or a later one, which are errors.
        Ok(Source::Stage(numbers[earlier.saturating_sub(1)]))
    }

    /// Where COPY or a mount of stage `number` takes files from. `stage_index` gives a stage's place in the plan.
    pub(super) fn copy_from(
        &self,
        inputs: &Inputs<'_>,
        number: usize,
        from: Option<&str>,
        stage_index: &[Option<usize>],
    ) -> Result<CopyFrom> {
        let Some(from) = from.filter(|from| !from.is_empty()) else {
            return Ok(CopyFrom::Context);
        };
        match self.source(number, from)? {
            Source::Stage(stage) => match stage_index[stage] {
                Some(index) => Ok(CopyFrom::Stage(index)),
                None => Err(Error::internal("a stage in use was left out of the plan")),
            },
            Source::Image if from == "scratch" => {
                Err(Error::dockerfile("not yet supported: `scratch` as a source of files"))
            }
            Source::Image => {
                let platform = inputs.target_platform().clone();
                let reference = match contexts::find(&inputs.request.contexts, from, &platform) {
                    Some((name, NamedContext::Files)) => {
                        return Ok(CopyFrom::Named(name.to_owned()));
                    }
                    Some((_, NamedContext::Image(reference))) => reference.clone(),
                    None => from.to_owned(),
                };
                Ok(CopyFrom::Image(BaseRef { reference, platform }))
            }
        }
    }

    /// Checks every `--from` of the file, also of stages that are not needed, and that none leads back to its stage.
    pub(super) fn check_links(&self, inputs: &Inputs<'_>) -> Result<()> {
        let mut edges: Vec<Vec<(usize, Span)>> = Vec::with_capacity(self.nodes.len());
        for (number, stage) in inputs.dockerfile.stages.iter().enumerate() {
            let mut out = Vec::new();
            for instruction in &stage.instructions {
                for link in self.links(inputs, number, instruction)? {
                    if let Source::Stage(stage) = link.source {
                        out.push((stage, link.span));
                    }
                }
            }
            edges.push(out);
        }
        match find_cycle(&edges) {
            Some((number, span)) => Err(self.circular(number).at(&inputs.dockerfile.source, span)),
            None => Ok(()),
        }
    }

    /// The error of a stage that needs itself.
    pub(super) fn circular(&self, number: usize) -> Error {
        let shown = &self.nodes[number].shown;
        Error::dockerfile(format!("circular dependency detected on stage: {shown}"))
    }

    /// The `--from` and `from=` of an instruction.
    pub(super) fn links(
        &self,
        inputs: &Inputs<'_>,
        number: usize,
        instruction: &Instruction,
    ) -> Result<Vec<Link>> {
        let found: Result<Vec<Option<Link>>> = match &instruction.kind {
            InstructionKind::Copy(copy) => {
                let link = |word: &Word| {
                    self.copy_link(number, word)
                        .map_err(|error| error.at(&inputs.dockerfile.source, word.span))
                };
                copy.from.iter().map(link).collect()
            }
            InstructionKind::Run(run) => {
                let link = |word: &Word| {
                    self.mount_link(number, word)
                        .map_err(|error| error.at(&inputs.dockerfile.source, word.span))
                };
                run.mounts.iter().map(link).collect()
            }
            _ => Ok(Vec::new()),
        };
        Ok(found?.into_iter().flatten().collect())
    }

    fn copy_link(&self, number: usize, from: &Word) -> Result<Option<Link>> {
        if from.text.is_empty() {
            return Ok(None);
        }
        let too_late = format!(
            "cannot copy from stage \"{}\", it needs to be defined before current stage \"{}\"",
            from.text, self.nodes[number].shown
        );
        let source = self.source(number, &from.text)?;
        Ok(Some(Link { source, span: from.span, too_late }))
    }

    fn mount_link(&self, number: usize, mount: &Word) -> Result<Option<Link>> {
        let Some(from) = mounts::from_of(&mount.text)? else { return Ok(None) };
        let too_late = format!(
            "cannot mount from stage \"{from}\", it needs to be defined before current stage \"{}\"",
            self.nodes[number].shown
        );
        let source = self.source(number, &from)?;
        Ok(Some(Link { source, span: mount.span, too_late }))
    }
}

/// A stage that needs itself, and the place that leads back to it. Without recursion: files may have many stages.
fn find_cycle(edges: &[Vec<(usize, Span)>]) -> Option<(usize, Span)> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        OnPath,
        Done,
    }
    let mut states = vec![State::New; edges.len()];
    for start in 0..edges.len() {
        if states[start] != State::New {
            continue;
        }
        states[start] = State::OnPath;
        let mut path = vec![(start, 0)];
        while let Some((stage, next)) = path.last_mut() {
            let Some((to, span)) = edges[*stage].get(*next) else {
                states[*stage] = State::Done;
                path.pop();
                continue;
            };
            *next += 1;
            match states[*to] {
                State::OnPath => return Some((*to, *span)),
                State::New => {
                    states[*to] = State::OnPath;
                    path.push((*to, 0));
                }
                State::Done => {}
            }
        }
    }
    None
}
