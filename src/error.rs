//! The one error type that crosses rooms: what happened, where, why, and what to do.
//!
//! Rooms build an [`Error`] with a [`ErrorKind`] and a lowercase message without a final period, then
//! add a place ([`Error::at`]), causes and hints. Nothing here prints: `cli::report` renders it once.
//! The kind decides the exit code (design §8).

use crate::source::{SourceFile, Span};
use std::{fmt, io, sync::Arc};

/// Result with our [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Who is at fault, which decides the exit code and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The text of the Dockerfile (syntax, unknown stage, bad flag).
    Dockerfile,
    /// The build context (missing file, unreadable file, bad ignore file).
    Context,
    /// An image name, or the image behind it.
    Image,
    /// A LinuxKit package or the spec of an image: its text, or a file that it names.
    Package,
    /// A RUN command ended with this exit code (128 + signal when it was killed).
    RunFailed(i32),
    /// The command line.
    Usage,
    /// This machine cannot do it: isolation, permissions, disk, store.
    Environment,
    /// A registry cannot or will not do it.
    Registry,
    /// Bytes are not what their digest, size or format promises.
    Integrity,
    /// Stopped by this signal number.
    Interrupted(i32),
    /// A bug of ours.
    Internal,
}

impl ErrorKind {
    /// Exit code of the program for this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Dockerfile
            | Self::Context
            | Self::Image
            | Self::Package
            | Self::Integrity
            | Self::RunFailed(_) => 1,
            Self::Usage => 2,
            Self::Environment | Self::Registry => 3,
            Self::Interrupted(signal) => 128 + (signal as u8 & 0x7f),
            Self::Internal => 70,
        }
    }
}

/// A place in a text: the file and the byte range.
#[derive(Clone, Debug)]
pub struct Place {
    /// The text.
    pub source: Arc<SourceFile>,
    /// Byte range in it.
    pub span: Span,
}

/// An error with its kind, place, causes and hints.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    place: Option<Place>,
    causes: Vec<String>,
    hints: Vec<String>,
    output: Option<RunOutput>,
    others: Vec<Error>,
}

/// The tail of a failed command's output and where the whole of it is.
#[derive(Clone, Debug, Default)]
pub struct RunOutput {
    /// Last lines, without line ends.
    pub tail: Vec<String>,
    /// Path of the full log.
    pub log: Option<String>,
}

impl Error {
    /// A new error; `message` is a lowercase fragment without a final period, literals in backticks.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            place: None,
            causes: Vec::new(),
            hints: Vec::new(),
            output: None,
            others: Vec::new(),
        }))
    }

    /// Shorthand for [`ErrorKind::Dockerfile`].
    pub fn dockerfile(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Dockerfile, message)
    }

    /// Shorthand for [`ErrorKind::Context`].
    pub fn context(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Context, message)
    }

    /// Shorthand for [`ErrorKind::Image`].
    pub fn image(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Image, message)
    }

    /// Shorthand for [`ErrorKind::Package`].
    pub fn package(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Package, message)
    }

    /// Shorthand for [`ErrorKind::Usage`].
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// Shorthand for [`ErrorKind::Environment`].
    pub fn environment(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Environment, message)
    }

    /// Shorthand for [`ErrorKind::Registry`].
    pub fn registry(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Registry, message)
    }

    /// Shorthand for [`ErrorKind::Integrity`].
    pub fn integrity(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Integrity, message)
    }

    /// Shorthand for [`ErrorKind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Adds the place, unless a more exact one is already there.
    pub fn at(mut self, source: &Arc<SourceFile>, span: Span) -> Self {
        if self.0.place.is_none() {
            let (source, span) = source.home(span);
            self.0.place = Some(Place { source, span });
        }
        self
    }

    /// Adds a cause line (`cause: …`), outermost first.
    pub fn cause(mut self, cause: impl fmt::Display) -> Self {
        self.0.causes.push(cause.to_string());
        self
    }

    /// Adds a hint line (`help: …`).
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    /// Puts `message` in front and makes the present message the first cause.
    pub fn wrap(mut self, message: impl Into<String>) -> Self {
        let old = std::mem::replace(&mut self.0.message, message.into());
        self.0.causes.insert(0, old);
        self
    }

    /// Replaces the kind.
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Attaches the output of a failed command.
    pub fn with_output(mut self, output: RunOutput) -> Self {
        self.0.output = Some(output);
        self
    }

    /// One error out of several found in one go: the first, carrying the others. `None` when empty.
    pub fn several(errors: Vec<Error>) -> Option<Self> {
        let mut all = errors.into_iter();
        let mut first = all.next()?;
        first.0.others.extend(all);
        Some(first)
    }

    /// Kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Message without place, causes and hints.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Place in a text, when known.
    pub fn place(&self) -> Option<&Place> {
        self.0.place.as_ref()
    }

    /// Causes, outermost first.
    pub fn causes(&self) -> &[String] {
        &self.0.causes
    }

    /// The message and the causes, as the end of a warning.
    pub fn in_one_line(&self) -> String {
        let causes = self.0.causes.iter().map(String::as_str);
        std::iter::once(self.message()).chain(causes).collect::<Vec<_>>().join(": ")
    }

    /// Hints.
    pub fn hints(&self) -> &[String] {
        &self.0.hints
    }

    /// Output of the failed command.
    pub fn output(&self) -> Option<&RunOutput> {
        self.0.output.as_ref()
    }

    /// Further errors found in the same pass.
    pub fn others(&self) -> &[Error] {
        &self.0.others
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.0.place {
            let (line, column) = place.source.line_column(place.span.start);
            write!(f, "{}:{line}:{column}: ", place.source.name())?;
        }
        f.write_str(&self.0.message)?;
        for cause in &self.0.causes {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)?;
        for hint in &self.0.hints {
            write!(f, " [help: {hint}]")?;
        }
        for other in &self.0.others {
            write!(f, "\n{other:?}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Turns foreign errors into ours where they cross into a room that knows what was being done.
pub trait ResultExt<T> {
    /// `message` with the foreign error as its cause. A full disk becomes an environment error whatever
    /// `kind` says, since it is never the input's fault.
    fn or_error(self, kind: ErrorKind, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T> ResultExt<T> for io::Result<T> {
    fn or_error(self, kind: ErrorKind, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| {
            if let Some(ours) = error.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
                return ours.clone().wrap(message());
            }
            io_error(kind, message(), &error)
        })
    }
}

fn io_error(kind: ErrorKind, message: String, error: &io::Error) -> Error {
    let full = matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::ReadOnlyFilesystem
    );
    let kind = if full { ErrorKind::Environment } else { kind };
    let mut text = error.to_string();
    if let Some(cut) = text.find(" (os error") {
        text.truncate(cut);
        text = text.to_lowercase();
    }
    let shown = Error::new(kind, message).cause(text);
    if full {
        return shown
            .hint("free some space or choose another store with `--root`; nothing was damaged");
    }
    shown
}

impl From<Error> for io::Error {
    /// Carries our error through an interface that only knows `io::Error` (readers, writers).
    fn from(error: Error) -> Self {
        io::Error::other(error)
    }
}
