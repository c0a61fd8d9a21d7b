//! Who else wants the tree of a stage, or what a step leaves for the next.

use super::stage::Builder;
use super::state::StageState;
use crate::plan::step::{CopyFrom, RunMountKind, RunStep, StageBase, Step, StepKind};

impl Builder<'_> {
    /// Whether the next RUN of a stage, should there be one, is on the same network.
    pub(super) fn another_run_follows(&self, stage: usize, step: usize) -> bool {
        let mut runs = self.plan.stages[stage].steps[step..].iter().filter_map(Step::as_run);
        let (this, next) = (runs.next(), runs.next());
        let network = |run: Option<&RunStep>| run.map(|run| (self.network(run), run.insecure));
        next.is_some() && network(this) == network(next)
    }

    /// Whether another stage that is not complete stands on a stage or reads its files.
    pub(super) fn is_read_elsewhere(&self, stage: usize) -> bool {
        let reads = |step: &Step| step.sources().contains(&stage);
        let others = self.plan.stages.iter().enumerate().filter(|(at, _)| *at != stage);
        let mut open = others.filter(|(at, _)| !self.states.is_complete(*at));
        open.any(|(_, other)| {
            other.base == StageBase::Stage(stage) || other.steps.iter().any(reads)
        })
    }

    /// Whether the tree on which a stage begins is one on which others begin, or from which they copy.
    pub(super) fn others_want(&self, stage: usize, state: &StageState) -> bool {
        if state.next > 0 {
            return false;
        }
        let own = &self.plan.stages[stage].base;
        let below = match own {
            StageBase::Stage(below) => Some(*below),
            StageBase::Scratch | StageBase::Image(_) => None,
        };
        let copies = |step: &Step| match &step.kind {
            StepKind::Copy(copy) => {
                matches!(copy.from, CopyFrom::Stage(from) if Some(from) == below)
            }
            StepKind::Run(run) => run.mounts.iter().any(|mount| match &mount.kind {
                RunMountKind::Bind { from: CopyFrom::Stage(from), .. } => Some(*from) == below,
                _ => false,
            }),
            _ => false,
        };
        let others = self.plan.stages.iter().enumerate().filter(|(at, _)| *at != stage);
        let mut open = others.filter(|(at, _)| !self.states.is_complete(*at));
        open.any(|(_, other)| other.base == *own || other.steps.iter().any(copies))
            || below.is_some_and(|below| self.plan.targets.contains(&below))
    }
}
