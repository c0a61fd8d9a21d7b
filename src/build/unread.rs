//! What a command changed, read while the next step already runs.
//!
//! Little is read at once ([`Builder::advance`]): it takes less than what would have to be waited for otherwise
//! ([`super::tick`]), and a step that changed nothing leaves no snapshot. Of thousands of files the reading is left to the
//! thread that writes the layer, once one of them is seen to differ. Where files stand for device nodes it is not, since the
//! next step has to know whether there are any. An error of it comes as late as one of writing the layer.

use super::stage::Tools;
use super::tick;
use crate::error::{ErrorKind, Result};
use crate::layers::Changes;
use crate::layers::diff::{DiffOptions, diff_overlay, differs};
use crate::layers::snapshot::{Draft, Snapshot};
use crate::layers::times::TimePolicy;
use crate::sys::{SysResultExt, fs};
use rustix::time::{ClockId, clock_gettime};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// Names in an upper directory of which it is worth it.
const MANY: usize = 4096;

/// A snapshot that nobody has read yet.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) snapshot: Arc<Snapshot>,
    /// All that it stands on, as one directory.
    below: OwnedFd,
    options: DiffOptions,
}

impl Unread {
    /// Whether what a command left in a draft is to be read later.
    pub(super) fn is_worth_it(
        draft: &Draft<'_>,
        times: &TimePolicy,
        tools: Tools<'_>,
    ) -> Result<bool> {
        let options = tools.diff_options();
        Ok(!tools.worker.snapshots.are_whole()
            && !options.placeholders
            && fs::count_below(draft.upper(), MANY) >= MANY
            && differs(draft.upper(), draft.below()?, &options, times)?)
    }

    /// Makes a draft a snapshot. What the next step changes has later times than all that is in it.
    pub(super) fn of(draft: Draft<'_>, tools: Tools<'_>) -> Result<Self> {
        let below = fs::reopen_dir(draft.below()?)
            .or_error(ErrorKind::Environment, || "cannot open what a step stands on".to_owned())?;
        let unread = Self { snapshot: draft.commit()?, below, options: tools.diff_options() };
        let now = clock_gettime(ClockId::Realtime);
        tick::outlive((now.tv_sec, now.tv_nsec as u32));
        Ok(unread)
    }

    /// Reads it.
    pub(super) fn changes(&self, times: &TimePolicy) -> Result<Changes> {
        diff_overlay(self.snapshot.upper(), Some(self.below.as_fd()), &self.options, times)
    }
}
