//! `--timings FILE`: where the time of this command went, as JSON or as a page.
//!
//! In: the path as typed; out: a recorder for the build, and the file when the build is over, whether it failed or not.
//! Whether the file can be written is looked at before anything is done; nothing lies beside it meanwhile, which a COPY
//! would see. docs/timings.md has the fields.

mod bytes;
mod json;
mod page;

use crate::build::output;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::sys::usage::{self, Usage};
use crate::timings::{Recorded, Timings};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What the file is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Page,
}

/// What was asked for.
#[derive(Debug)]
pub(super) struct TimingsFile {
    asked: Option<(PathBuf, Form)>,
    timings: Timings,
    began: SystemTime,
}

/// Everything that is told.
#[derive(Clone, Debug)]
struct Document {
    /// When the command began, as RFC 3339.
    began: String,
    built: bool,
    recorded: Recorded,
    usage: Usage,
}

impl TimingsFile {
    /// Begins to record when there is a path; fails when nothing could be written there.
    pub(super) fn open(path: Option<&Path>) -> Result<Self> {
        let asked = match path {
            Some(path) => {
                let form = form_of(path)?;
                check(path)?;
                Some((path.to_owned(), form))
            }
            None => None,
        };
        let timings = if asked.is_some() { Timings::recording() } else { Timings::default() };
        Ok(Self { asked, timings, began: SystemTime::now() })
    }

    /// What records.
    pub(super) fn timings(&self) -> &Timings {
        &self.timings
    }

    /// Writes the file; the error of a build that failed goes first.
    pub(super) fn finish<T>(&self, result: Result<T>) -> Result<T> {
        let (Some((path, form)), Some(recorded)) = (&self.asked, self.timings.recorded()) else {
            return result;
        };
        let usage = usage::own().unwrap_or_default();
        let document =
            Document { began: rfc3339(self.began), built: result.is_ok(), recorded, usage };
        let text = match form {
            Form::Json => json::render(&document),
            Form::Page => page::render(&document),
        };
        let written = output::to_path(Some(path), |out| {
            out.write_all(text.as_bytes())
                .or_error(ErrorKind::Environment, || format!("cannot write {}", path.display()))
        });
        result.and_then(|value| written.map(|()| value))
    }
}

fn form_of(path: &Path) -> Result<Form> {
    let ending = path.extension().map(std::ffi::OsStr::to_ascii_lowercase);
    match ending.as_ref().and_then(|ending| ending.to_str()) {
        Some("json") => Ok(Form::Json),
        Some("html" | "htm") => Ok(Form::Page),
        _ => Err(Error::usage(format!("`--timings {}` is no file of a known form", path.display()))
            .hint("name a file that ends in `.json` or `.html`; standard output is for the image's digest")),
    }
}

/// Asks the kernel, which knows of read-only file systems too.
fn check(path: &Path) -> Result<()> {
    let refused = |why: String| {
        Error::usage(format!("cannot write `--timings {}`", path.display())).cause(why)
    };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    match std::fs::metadata(dir) {
        Ok(found) if !found.is_dir() => {
            return Err(refused(format!("`{}` is no directory", dir.display())));
        }
        Ok(_) => {}
        Err(error) => return Err(refused(super::build::plain(&error))),
    }
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(refused("it is a directory".to_owned())),
        // A device or a pipe is written to as it is.
        Ok(found) if !found.is_file() => return Ok(()),
        _ => {}
    }
    rustix::fs::access(dir, access).map_err(|error| refused(super::build::plain(&error.into())))
}

fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = i64::try_from(since.as_micros()).unwrap_or_default();
    jiff::Timestamp::from_microsecond(micros).map(|time| time.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
