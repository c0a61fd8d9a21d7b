//! What the stages of a finished plan need of each other, and for which platform each of them is.

use super::step::{BuildPlan, CopyFrom, RunMountKind, StageBase, StagePlan, StepKind};
use crate::oci::platform::Platform;

impl BuildPlan {
    /// The platform that a stage is for: that of the image, where it becomes one.
    pub fn platform_of(&self, stage: usize) -> Platform {
        let stage_plan = &self.stages[stage];
        if self.targets.contains(&stage) {
            Platform::of_config(&stage_plan.config)
        } else {
            stage_plan.platform.clone()
        }
    }

    /// The platform of a stage for people; `linux/amd64->s390x` when only one image, of another platform, needs it.
    pub fn shown_platform(&self, stage: usize) -> String {
        let own = self.platform_of(stage);
        let mut users = self.targets.iter().filter(|target| self.needs(**target, stage));
        let (Some(user), None) = (users.next(), users.next()) else { return own.to_string() };
        let target = self.platform_of(*user);
        if target == own {
            return own.to_string();
        }
        let target = target.to_string();
        let short = target.strip_prefix(&format!("{}/", own.os)).unwrap_or(&target);
        format!("{own}->{short}")
    }

    /// True when `stage` is, or is below, `target`.
    fn needs(&self, target: usize, stage: usize) -> bool {
        let mut waiting = vec![target];
        let mut seen = vec![false; self.stages.len()];
        while let Some(next) = waiting.pop() {
            if !std::mem::replace(&mut seen[next], true) {
                waiting.extend(self.stages[next].needed());
            }
        }
        seen[stage]
    }
}

impl StagePlan {
    /// The stages that this one starts from, copies from or mounts.
    pub fn needed(&self) -> Vec<usize> {
        let base = match self.base {
            StageBase::Stage(below) => Some(below),
            StageBase::Scratch | StageBase::Image(_) => None,
        };
        let from = |from: &CopyFrom| match from {
            CopyFrom::Stage(stage) => Some(*stage),
            CopyFrom::Context | CopyFrom::Named(_) | CopyFrom::Image(_) => None,
        };
        let sources = self.steps.iter().flat_map(|step| step.kind.sources());
        base.into_iter().chain(sources.filter_map(from)).collect()
    }
}

impl StepKind {
    /// Everything that a step takes files from.
    pub fn sources(&self) -> Vec<&CopyFrom> {
        match self {
            Self::Config | Self::Workdir(_) => Vec::new(),
            Self::Copy(copy) => vec![&copy.from],
            Self::Run(run) => run.mounts.iter().filter_map(|mount| mount.kind.source()).collect(),
        }
    }
}

impl RunMountKind {
    /// What a mount shows, or is filled from at first.
    pub fn source(&self) -> Option<&CopyFrom> {
        match self {
            Self::Bind { from, .. } | Self::Cache { from: Some((from, _)), .. } => Some(from),
            Self::Cache { from: None, .. } | Self::Tmpfs { .. } => None,
        }
    }
}
