//! What a build tells while it runs: plain events into a sink. Nothing here prints.
//!
//! Rooms get an [`Emitter`] and call it; `cli::report` is the sink that turns events into lines for a
//! terminal, a log or a program. Steps are named by [`StepId`], the same number in all events of a step.

use crate::error::Place;
use crate::timings::{Phase, Span, Timings};
use std::{fmt, sync::Arc, time::Duration};

/// Number of a step in this build, counted from 1 in the order of their first event.
pub type StepId = u32;

/// One thing that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// Which isolation and id mode this build uses, and why (one line).
    Isolation {
        /// For example `namespaces, ids: range, network: host`.
        text: String,
    },
    /// A step begins, or turns out to be cached.
    StepStarted {
        /// The step.
        id: StepId,
        /// Stage name or number and position, for example `build 2/7`.
        position: String,
        /// Platform of the stage, in a build for several.
        platform: Option<String>,
        /// The instruction as the user wrote it, on one line.
        name: String,
        /// Line in the Dockerfile, from 1; 0 when there is none.
        line: usize,
    },
    /// The step's result was taken from the cache.
    StepCached {
        /// The step.
        id: StepId,
    },
    /// The cache did not have the step, and why.
    StepMissed {
        /// The step.
        id: StepId,
        /// Fragments; at least one.
        reasons: Vec<String>,
    },
    /// Bytes that the step's command wrote.
    StepOutput {
        /// The step.
        id: StepId,
        /// Whole bytes as written; not cut at line ends.
        bytes: Vec<u8>,
        /// True for standard error.
        stderr: bool,
    },
    /// The step is done.
    StepDone {
        /// The step.
        id: StepId,
        /// Time it took.
        took: Duration,
    },
    /// The step was stopped because the build ends; it did nothing wrong itself.
    StepStopped {
        /// The step.
        id: StepId,
    },
    /// The step failed; the error follows from `build`.
    StepFailed {
        /// The step.
        id: StepId,
        /// Exit code of its command, when it had one.
        exit_code: Option<i32>,
    },
    /// A layer blob is finished.
    LayerDone {
        /// `sha256:…` of the blob.
        digest: String,
        /// Bytes of the blob.
        size: u64,
    },
    /// Something the user should know that does not stop the build.
    Warning {
        /// Lowercase fragment.
        text: String,
        /// `file:line`, when known.
        place: Option<String>,
    },
    /// A build check found something in the Dockerfile.
    Check(CheckWarning),
    /// Anything else worth one line.
    Note {
        /// Lowercase fragment.
        text: String,
    },
    /// The image is finished.
    Built {
        /// Digest of the manifest or index.
        digest: String,
        /// Names it was stored under.
        names: Vec<String>,
    },
    /// An output was written.
    Output {
        /// For example `oci archive app.tar`.
        text: String,
    },
}

/// What a build check found.
#[derive(Clone, Debug)]
pub struct CheckWarning {
    /// BuildKit's name of the check, for example `StageNameCasing`.
    pub rule: String,
    /// BuildKit's text.
    pub message: String,
    /// Where in the Dockerfile.
    pub place: Place,
}

impl CheckWarning {
    /// Line in the Dockerfile, from 1.
    pub fn line(&self) -> usize {
        self.place.source.line(self.place.span.start)
    }
}

/// Takes events, from any thread.
pub trait Sink: Send + Sync {
    /// Called for each event, in order for each step.
    fn event(&self, event: Event);
}

/// A handle to a sink that can be cloned into threads.
#[derive(Clone)]
pub struct Emitter {
    sink: Arc<dyn Sink>,
    timings: Timings,
}

impl Emitter {
    /// An emitter into `sink`.
    pub fn new(sink: Arc<dyn Sink>) -> Self {
        Self { sink, timings: Timings::default() }
    }

    /// The same, with what records where time goes.
    pub fn timed(self, timings: Timings) -> Self {
        Self { timings, ..self }
    }

    /// What records where time goes.
    pub fn timings(&self) -> &Timings {
        &self.timings
    }

    /// Something begins that takes time; it ends with the value.
    pub fn span(&self, phase: Phase) -> Span<'_> {
        self.timings.span(phase)
    }

    /// An emitter that drops everything.
    pub fn silent() -> Self {
        struct Nothing;
        impl Sink for Nothing {
            fn event(&self, _: Event) {}
        }
        Self::new(Arc::new(Nothing))
    }

    /// Emits an event.
    pub fn emit(&self, event: Event) {
        self.timings.event(&event);
        self.sink.event(event);
    }

    /// Emits a warning without a place.
    pub fn warn(&self, text: impl Into<String>) {
        self.emit(Event::Warning { text: text.into(), place: None });
    }

    /// Emits a note.
    pub fn note(&self, text: impl Into<String>) {
        self.emit(Event::Note { text: text.into() });
    }
}

impl fmt::Debug for Emitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Emitter")
    }
}
