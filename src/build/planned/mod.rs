//! Layers of steps that are not carried out: a COPY whose result nobody needs as a tree is a list of metadata, and its
//! files are read once, out of the context straight into the layer.
//!
//! The bytes are those that the step would give on a tree (one test suite asks both). Whatever is out of the ordinary, an
//! error included, is left to the real thing: [`Builder::plan_step`] then says that it has no plan. A later build that
//! does need the tree unpacks the layer.

mod bodies;
mod gather;
mod ground;
mod links;
mod source;
mod subtree;

pub(super) use bodies::Planned;

use super::prepare::Files;
use super::stage::{Builder, Tools};
use super::state::StageState;
use super::tree::devices;
use super::worker::Worker;
use crate::error::Result;
use crate::executor::copy::Unpack;
use crate::executor::user;
use crate::layers::times::TimePolicy;
use crate::plan::step::{CopyStep, Step, StepKind, WorkdirStep};
use gather::{Gather, Request};
use std::os::fd::AsFd;

/// Where names of users and groups are looked up.
const USERS: &[&[u8]] = &[b"etc", b"etc/passwd", b"etc/group"];

impl Builder<'_> {
    /// The layer of a step without its tree; `None` where that cannot be told, or where the tree is wanted.
    pub(super) fn plan_step(
        &self,
        (state, stage): (&StageState, usize),
        step: &Step,
        files: Option<&Files>,
        (times, tools): (TimePolicy, Tools<'_>),
    ) -> Result<Option<Planned>> {
        let worker = tools.worker;
        if worker.snapshots.are_whole() || self.wants_tree(stage, state.next) {
            return Ok(None);
        }
        match (&step.kind, files) {
            (StepKind::Copy(copy), Some(files)) => {
                self.plan_copy(state, copy, files, (times, worker))
            }
            (StepKind::Workdir(workdir), _) => self.plan_workdir(state, workdir, (times, worker)),
            _ => Ok(None),
        }
    }

    fn plan_copy(
        &self,
        state: &StageState,
        step: &CopyStep,
        files: &Files,
        (times, worker): (TimePolicy, &Worker),
    ) -> Result<Option<Planned>> {
        let unpacker = super::work::Unpacker { devices: devices(worker) };
        if !step.remotes.is_empty() || (step.unpack && any_archive(files, &unpacker)?) {
            return Ok(None);
        }
        let ground = self.ground(state, step.is_independent(), worker)?;
        let chown = match &step.chown {
            Some(_) if ground.changes(USERS)? => return Ok(None),
            Some(spec) => Some(user::resolve_chown(ground.files()?.as_fd(), spec)?),
            None => None,
        };
        let chmod = super::work::mode_change(step);
        let request = Request { chown, chmod, now: moment(state), times };
        let mut gather = Gather::new(&ground, request);
        let Some(place) = gather.resolve(&step.destination, &step.cwd) else { return Ok(None) };
        for selected in &files.selected {
            if !gather.add(&files.tree, selected, &place)? {
                return Ok(None);
            }
        }
        for doc in &step.heredocs {
            if !gather.heredoc(&doc.name, &doc.body, &place)? {
                return Ok(None);
            }
        }
        gather.finish(step.is_independent())
    }

    fn plan_workdir(
        &self,
        state: &StageState,
        step: &WorkdirStep,
        (times, worker): (TimePolicy, &Worker),
    ) -> Result<Option<Planned>> {
        let ground = self.ground(state, false, worker)?;
        if ground.changes(USERS)? {
            return Ok(None);
        }
        let owner = user::resolve_workdir_owner(ground.files()?.as_fd(), &step.user)?;
        let request = Request { chown: Some(owner), chmod: None, now: moment(state), times };
        let mut gather = Gather::new(&ground, request);
        let Some(place) = gather.resolve(&format!("/{}/", step.path), "/") else {
            return Ok(None);
        };
        if !gather.directory(&place)? {
            return Ok(None);
        }
        gather.finish(false)
    }

    /// Whether anything in this build needs the files of a stage from its step `next` on.
    fn wants_tree(&self, stage: usize, next: usize) -> bool {
        let own = &self.plan.stages[stage].steps;
        let lasting = |step: &Step| match &step.kind {
            StepKind::Run(_) => true,
            StepKind::Copy(copy) => !copy.remotes.is_empty(),
            StepKind::Workdir(_) | StepKind::Config => false,
        };
        own[next..].iter().any(lasting)
            || self.is_read_elsewhere(stage)
            || (self.plan.targets.contains(&stage)
                && self.request.outputs.iter().any(super::output::needs_tree))
    }
}

/// Time of what a step makes: now, and by some nanoseconds no time that anything below has. Several steps are planned
/// within one tick of the clock, and what the later one touched would otherwise look untouched.
fn moment(state: &StageState) -> (i64, u32) {
    let (seconds, nanoseconds) = super::stage::now();
    let nanoseconds = u64::from(nanoseconds) + state.slots.len() as u64 + 1;
    (seconds + (nanoseconds / 1_000_000_000) as i64, (nanoseconds % 1_000_000_000) as u32)
}

/// Whether ADD has something to unpack.
fn any_archive(files: &Files, unpacker: &dyn Unpack) -> Result<bool> {
    for selected in files.selected.iter().filter(|selected| !selected.is_dir()) {
        if selected.stat.kind != crate::sys::fs::Kind::File {
            continue;
        }
        let (dir, name) = files.tree.open_parent(selected)?;
        let file = crate::sys::fs::open_read(&dir, name)
            .map_err(|error| files.tree.unreadable(&selected.path, &error))?;
        if unpacker.is_archive(file.as_fd())? {
            return Ok(true);
        }
    }
    Ok(false)
}
