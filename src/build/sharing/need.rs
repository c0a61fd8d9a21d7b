//! Which layers a build cannot do without, once it is known which steps are left.
//!
//! Those of the image; those of stages that go on; and those of stages from which the steps that are left copy. Layers
//! of stages that were only there to be copied from, by steps whose layers are here, are needed by nobody.

use crate::build::jobs::Pending;
use crate::build::stage::Builder;
use crate::plan::step::{BuildPlan, StageBase, Step};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The layers, perhaps with some twice.
pub(super) fn needed(builder: &Builder<'_>, complete: bool) -> Vec<Arc<Pending>> {
    let mut stages: BTreeSet<usize> = builder.plan.targets.iter().copied().collect();
    for (at, stage) in builder.plan.stages.iter().enumerate() {
        if complete || builder.states.complete(at).is_some() {
            continue;
        }
        stages.insert(at);
        let next = builder.states.get(at).map_or(0, |state| state.next);
        stages.extend(stage.steps.iter().skip(next).flat_map(Step::sources));
    }
    let states = stages.into_iter().filter_map(|stage| builder.states.get(stage));
    states.flat_map(|state| state.slots).map(|slot| slot.layer).collect()
}

/// All stages on which one stands: below it, or copied from.
pub(super) fn below(plan: &BuildPlan, stage: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut open = vec![stage];
    while let Some(at) = open.pop() {
        if !found.insert(at) {
            continue;
        }
        let stage = &plan.stages[at];
        open.extend(stage.steps.iter().flat_map(Step::sources));
        if let StageBase::Stage(below) = stage.base {
            open.push(below);
        }
    }
    found
}
