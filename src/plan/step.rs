//! Steps: what `build` has to do, as plain data, everything expanded.

use super::remote::RemoteSource;
use crate::dockerfile::ast::Heredoc;
use crate::dockerfile::lint::Warning;
use crate::oci::platform::Platform;
use crate::oci::spec::ImageConfig;
use crate::source::{SourceFile, Span};
use std::sync::Arc;

/// What a build will do: for one target platform, or for several after [`super::join`].
#[derive(Clone, Debug)]
pub struct BuildPlan {
    /// The Dockerfile, for errors.
    pub source: Arc<SourceFile>,
    /// All stages that the targets reach, in an order in which every stage comes after those it needs.
    pub stages: Vec<StagePlan>,
    /// Indexes into `stages` of those that become images, one for each platform that was asked for.
    pub targets: Vec<usize>,
    /// Remarks for the user.
    pub warnings: Vec<PlanWarning>,
    /// What the checks found that need values of variables; those of FROM lines are not among them.
    pub checks: Vec<Warning>,
}

/// A remark of the planner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanWarning {
    /// Lowercase fragment.
    pub message: String,
    /// Where in the Dockerfile.
    pub span: Option<Span>,
}

/// An image that must be at hand: the reference as expanded, and the platform wanted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BaseRef {
    /// Reference as the user wrote it, expanded.
    pub reference: String,
    /// Platform.
    pub platform: Platform,
}

/// Where a stage starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StageBase {
    /// `FROM scratch`.
    Scratch,
    /// An image.
    Image(BaseRef),
    /// An earlier stage: index into [`BuildPlan::stages`].
    Stage(usize),
}

/// One stage, ready to run.
#[derive(Clone, Debug, PartialEq)]
pub struct StagePlan {
    /// Index among all FROMs of the file, from 0.
    pub number: usize,
    /// Name after AS.
    pub name: Option<String>,
    /// Where it starts.
    pub base: StageBase,
    /// Span of its FROM.
    pub span: Span,
    /// `FROM …` as shown in progress.
    pub text: String,
    /// Platform of its RUNs and of its image.
    pub platform: Platform,
    /// Steps in order, triggers of the base first.
    pub steps: Vec<Step>,
    /// The image config after the last step: everything but `created`, `history` and `rootfs`, which `build` fills in
    /// (base history and layers included).
    pub config: ImageConfig,
}

/// One instruction to carry out.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What to do.
    pub kind: StepKind,
    /// Place of the instruction (of the FROM, for a trigger from an image).
    pub span: Span,
    /// The instruction on one line, as written, for progress.
    pub text: String,
    /// `created_by` of the history entry; `None` for ONBUILD, which has no entry.
    pub created_by: Option<String>,
    /// True when the instruction makes no layer.
    pub empty_layer: bool,
}

impl Step {
    /// What it runs, if it is a RUN.
    pub fn as_run(&self) -> Option<&RunStep> {
        match &self.kind {
            StepKind::Run(run) => Some(run),
            _ => None,
        }
    }

    /// Stages whose files it reads.
    pub fn sources(&self) -> Vec<usize> {
        let stage = |from: &CopyFrom| match from {
            CopyFrom::Stage(stage) => Some(*stage),
            _ => None,
        };
        match &self.kind {
            StepKind::Copy(copy) => stage(&copy.from).into_iter().collect(),
            StepKind::Run(run) => {
                let of = |kind: &RunMountKind| match kind {
                    RunMountKind::Bind { from, .. }
                    | RunMountKind::Cache { from: Some((from, _)), .. } => stage(from),
                    _ => None,
                };
                run.mounts.iter().filter_map(|mount| of(&mount.kind)).collect()
            }
            StepKind::Config | StepKind::Workdir(_) => Vec::new(),
        }
    }
}

/// What a step does to the root file system.
#[derive(Clone, Debug, PartialEq)]
pub enum StepKind {
    /// Only the config changes (ENV, LABEL, CMD, …; `WORKDIR /`).
    Config,
    /// Runs a command.
    Run(RunStep),
    /// Copies files in.
    Copy(CopyStep),
    /// Makes the working directory.
    Workdir(WorkdirStep),
}

/// Environment variables, in order, each name once.
pub type Env = Vec<(String, String)>;

/// RUN.
#[derive(Clone, Debug, PartialEq)]
pub struct RunStep {
    /// Program and arguments (shell included).
    pub argv: Vec<String>,
    /// ENV and ARG in effect, in order; PATH always there.
    pub env: Env,
    /// Proxy variables given as build arguments: in the environment, not in key or history.
    pub proxy_env: Env,
    /// Working directory, absolute.
    pub cwd: String,
    /// USER as expanded; empty = root.
    pub user: String,
    /// Network mode of this RUN, when its flag or the request says one.
    pub network: Option<NetworkMode>,
    /// `--security=insecure`.
    pub insecure: bool,
    /// `--mount=` values, parsed and expanded.
    pub mounts: Vec<RunMount>,
    /// `--mount=type=secret`.
    pub secrets: Vec<RunSecret>,
    /// `--mount=type=ssh`.
    pub agents: Vec<RunAgent>,
    /// Name of the host, when a build argument says one.
    pub hostname: Option<String>,
    /// `--device`.
    pub devices: Vec<RunDevice>,
    /// Read-only scripts shown under /dev/pipes: name and body (RUN heredoc with `#!`).
    pub scripts: Vec<(String, String)>,
}

/// Network of a RUN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NetworkMode {
    /// The builder's choice; host for now (design §10.6).
    Default,
    /// Only a loopback interface.
    None,
    /// The host's network.
    Host,
}

impl NetworkMode {
    /// The flag's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::None => "none",
            Self::Host => "host",
        }
    }
}

/// One `RUN --mount`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunMount {
    /// Kind and what belongs to it.
    pub kind: RunMountKind,
    /// Absolute path in the rootfs.
    pub target: String,
    /// True for a read-only mount.
    pub read_only: bool,
    /// Place of the flag's value.
    pub span: Span,
}

/// Kind of a RUN mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunMountKind {
    /// Files of the context, a stage or an image.
    Bind {
        /// Where from.
        from: CopyFrom,
        /// Path in it.
        source: String,
    },
    /// A directory that stays between builds.
    Cache {
        /// Name of the cache.
        id: String,
        /// Seed on first use.
        from: Option<(CopyFrom, String)>,
        /// Path in the cache that is mounted; empty for all of it.
        inside: String,
        /// Concurrent use.
        sharing: CacheSharing,
        /// Owner and mode on creation: uid, gid, mode.
        owner: (u32, u32, u32),
    },
    /// Memory.
    Tmpfs {
        /// Limit in bytes.
        size: Option<u64>,
    },
}

/// A secret that a RUN sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunSecret {
    /// Which one.
    pub id: String,
    /// Absolute path of the file; `None` for a variable alone.
    pub target: Option<String>,
    /// Variable.
    pub env: Option<String>,
    /// Its absence is an error.
    pub required: bool,
    /// Owner and mode of the file: uid, gid, mode.
    pub owner: (u32, u32, u32),
}

/// An ssh agent that a RUN sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunAgent {
    /// Which one.
    pub id: String,
    /// Absolute path of the socket.
    pub target: String,
    /// Its absence is an error.
    pub required: bool,
    /// Owner and mode of the socket: uid, gid, mode.
    pub owner: (u32, u32, u32),
}

/// A device that a RUN sees, by its CDI name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDevice {
    /// `vendor/class=device`.
    pub name: String,
    /// Its absence is an error.
    pub required: bool,
    /// Place of the flag's value.
    pub span: Span,
}

/// Who may use a cache mount at the same time. Of mounts of one cache in one RUN the last of these counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the flag's values")]
pub enum CacheSharing {
    Shared,
    Private,
    Locked,
}

/// Where COPY, ADD and bind mounts take files from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyFrom {
    /// The build context.
    Context,
    /// A named context, by the name that it was given under.
    Named(String),
    /// An earlier stage: index into [`BuildPlan::stages`].
    Stage(usize),
    /// An image.
    Image(BaseRef),
}

/// COPY or ADD.
#[derive(Clone, Debug, PartialEq)]
pub struct CopyStep {
    /// Where from.
    pub from: CopyFrom,
    /// Sources as expanded, with their places: paths (patterns allowed), and the texts of `remotes`.
    pub sources: Vec<(String, Span)>,
    /// Sources of ADD that are elsewhere, by their place among `sources`.
    pub remotes: Vec<(usize, RemoteSource)>,
    /// Heredoc sources: body already expanded and chomped.
    pub heredocs: Vec<Heredoc>,
    /// Destination as expanded, relative ones not yet joined with `cwd`.
    pub destination: String,
    /// Working directory, absolute.
    pub cwd: String,
    /// `--chown` as expanded.
    pub chown: Option<String>,
    /// `--chmod` as expanded and checked.
    pub chmod: Option<Chmod>,
    /// `--exclude` patterns.
    pub exclude: Vec<String>,
    /// `--parents`.
    pub parents: bool,
    /// `--link`.
    pub link: bool,
    /// True for ADD: local archives are unpacked.
    pub unpack: bool,
    /// Archives that are fetched are unpacked, too.
    pub unpack_remote: bool,
    /// True when the instruction is ADD.
    pub add: bool,
}

impl CopyStep {
    /// `--link`: the layer is made on nothing and never looks at what is below. With `--chmod` it is a copy like any
    /// other, as in BuildKit.
    pub fn is_independent(&self) -> bool {
        self.link && self.chmod.is_none()
    }

    /// The sources that are paths.
    pub fn paths(&self) -> Vec<(String, Span)> {
        let is_path = |at: &usize| !self.remotes.iter().any(|(remote, _)| remote == at);
        let all = self.sources.iter().enumerate();
        all.filter(|(at, _)| is_path(at)).map(|(_, source)| source.clone()).collect()
    }
}

/// A `--chmod` value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chmod {
    /// Octal mode, 0 to 07777.
    Octal(u32),
    /// Symbolic clauses, as written and checked, for example `u=rwX,go=rX`.
    Symbolic(String),
}

/// WORKDIR with a path other than `/`.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkdirStep {
    /// Absolute, cleaned path.
    pub path: String,
    /// USER in effect; owner of what is made.
    pub user: String,
}
