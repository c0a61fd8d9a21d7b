//! Which step goes first where more could work than may: the one with most to come after it.
//!
//! What a step costs nobody knows before; RUNs count more than the rest, since they usually take longer. The order changes
//! when something is done, never what comes out of it.

use crate::plan::step::{BuildPlan, StageBase, Step, StepKind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What a RUN counts where anything else counts 1.
const RUN: u64 = 8;

fn weight(step: &Step) -> u64 {
    match step.kind {
        StepKind::Config => 0,
        StepKind::Run(_) => RUN,
        StepKind::Copy(_) | StepKind::Workdir(_) => 1,
    }
}

/// For each stage and step the weight of the longest way from it to the end of the build, itself included.
pub(super) fn ways(plan: &BuildPlan) -> Vec<Vec<u64>> {
    let mut after = vec![0_u64; plan.stages.len()];
    let mut ways: Vec<Vec<u64>> = vec![Vec::new(); plan.stages.len()];
    // A stage can only need those before it.
    for (number, stage) in plan.stages.iter().enumerate().rev() {
        let mut way = after[number];
        let mut own = vec![0; stage.steps.len()];
        for (at, step) in stage.steps.iter().enumerate().rev() {
            way += weight(step);
            own[at] = way;
            for from in step.sources() {
                raise(&mut after, from, way);
            }
        }
        if let StageBase::Stage(below) = stage.base {
            raise(&mut after, below, way);
        }
        ways[number] = own;
    }
    ways
}

fn raise(after: &mut [u64], stage: usize, way: u64) {
    if let Some(known) = after.get_mut(stage) {
        *known = way.max(*known);
    }
}

/// A counting limit: how many steps work at once.
#[derive(Debug)]
pub(super) struct Limit {
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug)]
struct Waiting {
    free: usize,
    /// Weight of the way to the end, and who came first.
    queue: Vec<(u64, std::cmp::Reverse<u64>)>,
    tickets: u64,
}

/// A place under a [`Limit`].
#[derive(Debug)]
pub(super) struct Permit<'a>(&'a Limit);

impl Limit {
    pub(super) fn new(count: usize) -> Self {
        let state = Waiting { free: count.max(1), queue: Vec::new(), tickets: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Waits for a place; of those who wait, the one with the longest way gets it.
    pub(super) fn take(&self, way: u64) -> Permit<'_> {
        self.wait_for(self.lock(), way)
    }

    /// Gives a place back for one under which to go on: to whoever waits with a longer way, or has waited longer with as
    /// long a one. Given back first, and taken later, it would go to whoever waits, however short the way.
    pub(super) fn exchange(&self, permit: Permit<'_>, way: u64) -> Permit<'_> {
        std::mem::forget(permit);
        let mut state = self.lock();
        state.free += 1;
        self.wait_for(state, way)
    }

    fn wait_for<'a>(&'a self, mut state: MutexGuard<'a, Waiting>, way: u64) -> Permit<'a> {
        let own = (way, std::cmp::Reverse(state.tickets));
        state.tickets += 1;
        state.queue.push(own);
        if state.free > 0 && state.queue.iter().max() != Some(&own) {
            self.changed.notify_all();
        }
        while state.free == 0 || state.queue.iter().max() != Some(&own) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.free -= 1;
        state.queue.retain(|waiting| *waiting != own);
        drop(state);
        // There may be a second place, and somebody who was not the first one before.
        self.changed.notify_all();
        Permit(self)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.lock().free += 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Platform;
    use crate::plan::step::NetworkMode;
    use crate::plan::{PlanRequest, Planned, plan};
    use crate::source::SourceFile;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    #[test]
    fn ways_lead_to_the_end_of_the_build() {
        let text = "FROM scratch AS a\nRUN one\nRUN two\nFROM scratch AS b\nCOPY x /\nFROM a AS c\nRUN three\nFROM scratch\nCOPY --from=b /x /\nCOPY --from=c /y /\nRUN --mount=from=a,target=/a four\n";
        let source = Arc::new(SourceFile::new("Dockerfile", text));
        let parsed = crate::dockerfile::parse(&source).unwrap();
        let asked = PlanRequest {
            build_args: Vec::new(),
            target: None,
            labels: Vec::new(),
            platform: None,
            build_platform: Platform::host(),
            network: NetworkMode::Default,
            epoch: None,
            contexts: BTreeMap::default(),
            times: BTreeMap::default(),
        };
        let Planned::Ready(plan) = plan(&parsed, &asked, &BTreeMap::default()).unwrap() else {
            panic!("needs images");
        };
        // The last stage: 1 + 1 + 8; c: 8 more before its second step; a: 16 before c; b: 1 before the first step.
        assert_eq!(ways(&plan), [vec![33, 25], vec![11], vec![17], vec![10, 9, 8]]);
    }

    #[test]
    fn the_longest_way_goes_first_and_equals_in_turn() {
        let limit = Limit::new(1);
        let order = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let first = limit.take(0);
            for (count, way) in [3, 1, 7, 3, 9].into_iter().enumerate() {
                let (limit, order) = (&limit, &order);
                scope.spawn(move || {
                    let _place = limit.take(way);
                    order.lock().unwrap().push((way, count));
                });
                // In this order they wait.
                while limit.lock().queue.len() <= count {
                    std::thread::yield_now();
                }
            }
            drop(first);
        });
        assert_eq!(order.into_inner().unwrap(), [(9, 4), (7, 2), (3, 0), (3, 3), (1, 1)]);
    }

    #[test]
    fn whoever_goes_on_is_in_line_with_those_who_wait() {
        let limit = Limit::new(1);
        let order = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let mut place = limit.take(0);
            scope.spawn(|| {
                let _place = limit.take(5);
                order.lock().unwrap().push(5);
            });
            while limit.lock().queue.is_empty() {
                std::thread::yield_now();
            }
            for way in [7, 6, 5, 4] {
                place = limit.exchange(place, way);
                order.lock().unwrap().push(way + 10);
            }
        });
        assert_eq!(order.into_inner().unwrap(), [17, 16, 5, 15, 14]);
        assert_eq!(limit.lock().free, 1);
    }

    #[test]
    fn no_more_work_at_once_than_may() {
        let limit = Limit::new(2);
        let (one, two) = (limit.take(1), limit.take(1));
        assert_eq!(limit.lock().free, 0);
        drop(one);
        let three = limit.take(0);
        assert_eq!(limit.lock().free, 0);
        drop((two, three));
        assert_eq!(limit.lock().free, 2);
    }
}
