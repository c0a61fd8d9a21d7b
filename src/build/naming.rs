//! Names of steps for people: in progress lines, in timings, in errors.

use super::stage::Builder;
use crate::error::{Error, ErrorKind};
use crate::plan::step::{StagePlan, Step, StepKind};
use crate::progress::{Event, StepId};
use crate::source::{SourceFile, Span};
use crate::timings::Phase;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The instruction that an error is about.
#[derive(Clone, Debug)]
pub(super) struct Blame {
    pub(super) source: Arc<SourceFile>,
    pub(super) span: Span,
    /// In a build for several.
    pub(super) platform: Option<String>,
}

impl Blame {
    /// The error with its place.
    pub(super) fn placed(&self, error: Error) -> Error {
        if matches!(error.kind(), ErrorKind::Interrupted(_)) {
            return error;
        }
        let error = error.at(&self.source, self.span);
        match &self.platform {
            Some(platform) => error.cause(format!("this was for the platform {platform}")),
            None => error,
        }
    }
}

/// Name of a step in progress lines.
pub(super) struct StepName<'a> {
    pub(super) stage: usize,
    pub(super) plan: &'a StagePlan,
    pub(super) platform: Option<String>,
    pub(super) position: usize,
    /// Steps that are shown.
    pub(super) of: usize,
}

impl StepName<'_> {
    fn text(&self) -> String {
        let stage = self.plan.name.clone().unwrap_or_else(|| format!("stage-{}", self.plan.number));
        format!("{stage} {}/{}", self.position, self.of)
    }
}

/// What carrying out a step is called.
pub(super) fn phase_of(step: &Step) -> Phase {
    match &step.kind {
        StepKind::Run(_) => Phase::Run,
        StepKind::Copy(_) => Phase::Copy,
        StepKind::Workdir(_) | StepKind::Config => Phase::Workdir,
    }
}

impl Builder<'_> {
    /// Points at the instruction, and says for which platform it was when there are several.
    pub(super) fn placed(&self, error: Error, step: &Step, stage: usize) -> Error {
        self.blame(step, stage).placed(error)
    }

    pub(super) fn blame(&self, step: &Step, stage: usize) -> Blame {
        let (source, platform) = (Arc::clone(&self.plan.source), self.shown_platform(stage));
        Blame { source, span: step.span, platform }
    }

    /// Platform of a stage as shown, in a build that has several.
    pub(super) fn shown_platform(&self, stage: usize) -> Option<String> {
        let several = self.plan.targets.len() > 1;
        several.then(|| self.plan.shown_platform(stage))
    }

    pub(super) fn announce(&self, step: &Step, name: &StepName<'_>) -> StepId {
        let id = self.next_step.fetch_add(1, Ordering::Relaxed);
        self.emitter.emit(Event::StepStarted {
            id,
            position: name.text(),
            platform: name.platform.clone(),
            name: step.text.clone(),
            line: self.plan.source.line(step.span.start),
        });
        id
    }
}
