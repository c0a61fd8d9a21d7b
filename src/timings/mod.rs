//! Where the time of a build goes: spans, begun and ended on any thread, into one recorder; off unless asked for.
//!
//! In: a [`Span`] for each thing that takes time, and the events of the build, which pass by here; out: [`Recorded`],
//! plain data that `cli` renders. Without a recorder a span is one branch. Memory is bounded: beyond [`MAX_SPANS`] and
//! [`MAX_STEPS`] only their number is kept.

mod recorder;

use crate::progress::Event;
use recorder::Recorder;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Spans that are kept.
pub const MAX_SPANS: usize = 100_000;
/// Steps that are kept.
pub const MAX_STEPS: usize = 10_000;
/// Characters of a step's text that are kept.
pub const MAX_TEXT: usize = 1000;

/// What takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Contexts are fetched and opened.
    Context,
    /// The Dockerfile is read, base images are found, or what they are is fetched.
    Plan,
    /// Namespaces are entered, the spawner is started.
    Enter,
    /// The key of a step, and the cache; for COPY and ADD the digests of the files.
    LookUp,
    /// Another stage is waited for.
    WaitStage,
    /// The same step of another stage is waited for.
    WaitSame,
    /// Layers of the base image come, and are unpacked as they do.
    WaitBase,
    /// A place under `--jobs` is waited for.
    WaitPlace,
    /// The tree in which the step works is made ready.
    Mount,
    /// A layer is unpacked for that.
    Unpack,
    /// The command of a RUN.
    Run,
    /// The copying of a COPY or ADD.
    Copy,
    /// The directory of a WORKDIR.
    Workdir,
    /// What the step changed is looked for.
    Diff,
    /// A layer waits for a thread that writes it.
    Queue,
    /// A layer is written: tar, compression and digests in one pass.
    Layer,
    /// The layers that are still being written are waited for.
    WaitLayers,
    /// Blobs are made durable.
    Sync,
    /// Config and manifests.
    Manifest,
    /// An output is written.
    Output,
    /// The image is pushed.
    Push,
    /// A blob goes to a registry.
    Upload,
    /// A blob comes from a registry.
    Download,
    /// A shared cache is asked, or something is taken out of one.
    CacheFrom,
    /// A shared cache is written.
    CacheTo,
}

impl Phase {
    /// All of them.
    pub const ALL: [Phase; 25] = [
        Self::Context,
        Self::Plan,
        Self::Enter,
        Self::LookUp,
        Self::WaitStage,
        Self::WaitSame,
        Self::WaitBase,
        Self::WaitPlace,
        Self::Mount,
        Self::Unpack,
        Self::Run,
        Self::Copy,
        Self::Workdir,
        Self::Diff,
        Self::Queue,
        Self::Layer,
        Self::WaitLayers,
        Self::Sync,
        Self::Manifest,
        Self::Output,
        Self::Push,
        Self::Upload,
        Self::Download,
        Self::CacheFrom,
        Self::CacheTo,
    ];

    /// Its name in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Context => "context",
            Self::Plan => "plan",
            Self::Enter => "enter",
            Self::LookUp => "look-up",
            Self::WaitStage => "wait-stage",
            Self::WaitSame => "wait-same",
            Self::WaitBase => "wait-base",
            Self::WaitPlace => "wait-place",
            Self::Mount => "mount",
            Self::Unpack => "unpack",
            Self::Run => "run",
            Self::Copy => "copy",
            Self::Workdir => "workdir",
            Self::Diff => "diff",
            Self::Queue => "queue",
            Self::Layer => "layer",
            Self::WaitLayers => "wait-layers",
            Self::Sync => "sync",
            Self::Manifest => "manifest",
            Self::Output => "output",
            Self::Push => "push",
            Self::Upload => "upload",
            Self::Download => "download",
            Self::CacheFrom => "cache-from",
            Self::CacheTo => "cache-to",
        }
    }
}

/// Processor time of commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// In programs.
    pub user: Duration,
    /// In the kernel.
    pub system: Duration,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out.
    Done,
    /// Its result was there already.
    Cached,
    /// It failed.
    Failed,
    /// It was stopped because the build ended.
    Stopped,
}

impl Outcome {
    /// Its name in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Cached => "cached",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepTime {
    /// Which build of this process, from 1; a second attempt counts as another one.
    pub build: u32,
    /// Number of the step in that build, as progress has it.
    pub id: u32,
    /// Stage and position, for example `build 2/7`.
    pub position: String,
    /// Platform of the stage, in a build for several.
    pub platform: Option<String>,
    /// Line in the Dockerfile, from 1; 0 when there is none.
    pub line: usize,
    /// The instruction, on one line, perhaps cut.
    pub text: String,
    /// What became of it; none when the build ended first.
    pub outcome: Option<Outcome>,
    /// When it was announced.
    pub begin: Duration,
    /// When its outcome was told.
    pub end: Duration,
    /// Processor time of its command.
    pub cpu: Option<Cpu>,
}

/// One thing that took time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanTime {
    /// What it was.
    pub phase: Phase,
    /// Its step, as an index into the steps.
    pub step: Option<usize>,
    /// Its thread, from 1; none for something that only waited in a queue.
    pub thread: Option<u32>,
    /// When it began.
    pub begin: Duration,
    /// When it ended.
    pub end: Duration,
    /// Bytes that went in.
    pub bytes_in: Option<u64>,
    /// Bytes that came out.
    pub bytes_out: Option<u64>,
    /// Blocks of a layer that were packed before.
    pub blocks_known: Option<u64>,
    /// What it was about, for example the digest of a blob.
    pub what: Option<String>,
}

/// Everything that was recorded. Times are since the recorder was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Whole time.
    pub wall: Duration,
    /// In the order in which they were announced.
    pub steps: Vec<StepTime>,
    /// In the order of their beginnings; of two with the same beginning the longer one is first.
    pub spans: Vec<SpanTime>,
    /// Threads that recorded something.
    pub threads: u32,
    /// Spans and steps beyond the limits.
    pub dropped: u64,
}

/// A step as the scheduler knows it: stage and position in it, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    build: u32,
    stage: usize,
    position: usize,
}

/// A handle to a recorder, or to none.
#[derive(Clone, Default)]
pub struct Timings(Option<Arc<Recorder>>);

impl Timings {
    /// A recorder, whose clock begins now.
    pub fn recording() -> Self {
        Self(Some(Arc::new(Recorder::new())))
    }

    /// True when something is recorded.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Another build begins; its steps are numbered anew.
    pub fn next_build(&self) {
        if let Some(recorder) = &self.0 {
            recorder.next_build();
        }
    }

    /// From here to the end of the value, what this thread does is for this step.
    pub fn at_step(&self, stage: usize, position: usize) -> AtStep<'_> {
        let place = self.0.as_ref().map(|recorder| recorder.place_of(stage, position));
        self.at(place)
    }

    /// The same for a place that another thread was at.
    pub fn at(&self, place: Option<Place>) -> AtStep<'_> {
        let recorder = self.0.as_deref();
        let before = recorder.and_then(|recorder| recorder.go_to(place));
        AtStep { recorder, before }
    }

    /// The step that this thread works for.
    pub fn place(&self) -> Option<Place> {
        self.0.as_ref()?.here()
    }

    /// Something begins; it ends with the value.
    pub fn span(&self, phase: Phase) -> Span<'_> {
        let recorder = self.0.as_deref();
        let begun = recorder.map(Recorder::now);
        Span {
            recorder,
            phase,
            begin: begun,
            bytes_in: None,
            bytes_out: None,
            blocks_known: None,
            what: None,
        }
    }

    /// Something that only waited, since `from` until now.
    pub fn waited(&self, phase: Phase, from: Option<Instant>) {
        if let (Some(recorder), Some(from)) = (&self.0, from) {
            recorder.add_waiting(phase, from);
        }
    }

    /// The time now, when something is recorded.
    pub fn instant(&self) -> Option<Instant> {
        self.is_on().then(Instant::now)
    }

    /// The command of this thread's step needed so much.
    pub fn command_used(&self, cpu: Cpu) {
        if let Some(recorder) = &self.0 {
            recorder.command_used(cpu);
        }
    }

    /// An event of the build passes by.
    pub fn event(&self, event: &Event) {
        if let Some(recorder) = &self.0 {
            recorder.event(event);
        }
    }

    /// What was recorded until now.
    pub fn recorded(&self) -> Option<Recorded> {
        self.0.as_ref().map(|recorder| recorder.recorded())
    }
}

impl fmt::Debug for Timings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() { "Timings(on)" } else { "Timings(off)" })
    }
}

/// This thread works for a step.
#[derive(Debug)]
pub struct AtStep<'a> {
    recorder: Option<&'a Recorder>,
    before: Option<Place>,
}

impl Drop for AtStep<'_> {
    fn drop(&mut self) {
        if let Some(recorder) = self.recorder {
            recorder.go_to(self.before);
        }
    }
}

/// Something that takes time, until the value is dropped.
#[derive(Debug)]
pub struct Span<'a> {
    recorder: Option<&'a Recorder>,
    phase: Phase,
    begin: Option<Duration>,
    bytes_in: Option<u64>,
    bytes_out: Option<u64>,
    blocks_known: Option<u64>,
    what: Option<String>,
}

impl Span<'_> {
    /// Bytes that went in.
    pub fn took(&mut self, bytes: u64) {
        self.bytes_in = Some(bytes);
    }

    /// Bytes that came out.
    pub fn gave(&mut self, bytes: u64) {
        self.bytes_out = Some(bytes);
    }

    /// So many blocks of a layer were packed before.
    pub fn knew(&mut self, blocks: u64) {
        self.blocks_known = Some(blocks);
    }

    /// What it is about.
    pub fn about(&mut self, what: &dyn fmt::Display) {
        if self.recorder.is_some() {
            self.what = Some(what.to_string());
        }
    }

    /// Nothing happened that is worth a line.
    pub fn forget(mut self) {
        self.recorder = None;
    }
}

impl Drop for Span<'_> {
    fn drop(&mut self) {
        if let (Some(recorder), Some(begin)) = (self.recorder, self.begin) {
            recorder.add(self, begin);
        }
    }
}
