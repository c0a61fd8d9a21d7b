//! One plan out of those for several platforms: stages that are the same for all of them are there once.
//!
//! In: the plans of one Dockerfile, one a target platform. Out: a plan with as many targets. A stage is the same when
//! its base, its platform and every expanded step are; so a stage on the build platform that does not look at
//! `$TARGETPLATFORM` is built once (dockerfile.md §1.10).

use super::step::{
    BuildPlan, CopyFrom, PlanWarning, RunMountKind, StageBase, StagePlan, Step, StepKind,
};

/// Joins plans; `None` when there are none. The targets are in the order of the plans.
pub fn join(plans: impl IntoIterator<Item = BuildPlan>) -> Option<BuildPlan> {
    let mut plans = plans.into_iter();
    let mut joined = plans.next()?;
    for plan in plans {
        let mut places: Vec<usize> = Vec::with_capacity(plan.stages.len());
        for stage in plan.stages {
            let stage = renumbered(stage, &places);
            let known = joined.stages.iter().position(|other| *other == stage);
            places.push(known.unwrap_or_else(|| {
                joined.stages.push(stage);
                joined.stages.len() - 1
            }));
        }
        joined.targets.extend(plan.targets.iter().map(|target| places[*target]));
        let new = |warning: &PlanWarning| !joined.warnings.contains(warning);
        let warnings: Vec<PlanWarning> = plan.warnings.into_iter().filter(new).collect();
        joined.warnings.extend(warnings);
        // Sorted and made single by who shows them.
        joined.checks.extend(plan.checks);
    }
    Some(joined)
}

/// A stage with the numbers that the stages it needs have in the joined plan.
fn renumbered(mut stage: StagePlan, places: &[usize]) -> StagePlan {
    if let StageBase::Stage(below) = &mut stage.base {
        *below = places[*below];
    }
    for from in stage.steps.iter_mut().flat_map(sources) {
        if let CopyFrom::Stage(number) = from {
            *number = places[*number];
        }
    }
    stage
}

fn sources(step: &mut Step) -> Vec<&mut CopyFrom> {
    match &mut step.kind {
        StepKind::Config | StepKind::Workdir(_) => Vec::new(),
        StepKind::Copy(copy) => vec![&mut copy.from],
        StepKind::Run(run) => {
            let mounts = run.mounts.iter_mut();
            mounts
                .filter_map(|mount| match &mut mount.kind {
                    RunMountKind::Bind { from, .. }
                    | RunMountKind::Cache { from: Some((from, _)), .. } => Some(from),
                    RunMountKind::Cache { from: None, .. } | RunMountKind::Tmpfs { .. } => None,
                })
                .collect()
        }
    }
}
