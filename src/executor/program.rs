//! A program of this machine as a child of the spawner: nothing that it starts outlives it, or us.
//!
//! It sees the mounts of this process, in a namespace of its own where there can be one; nothing else keeps it apart. Signals for us are passed on to it. [`run`] returns when
//! it and all that it left behind are dead.

use super::sandbox::Cancel;
use super::spawner::Spawner;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::sys::SysResultExt;
use crate::sys::process::Ended;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// A program to start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Program {
    /// Name, which is looked for in PATH, and arguments.
    pub argv: Vec<Vec<u8>>,
    /// The whole environment.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Working directory.
    #[serde(with = "super::path_bytes")]
    pub cwd: PathBuf,
    /// Its standard output goes where errors go, since ours is for something else.
    pub to_stderr: bool,
    /// What it mounts is seen by nobody else, and goes with it.
    pub own_mounts: bool,
}

/// What became of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Outcome {
    Ended(Ended),
    NotStarted(String),
}

impl Program {
    /// Becomes the program; returns why it cannot.
    pub(super) fn exec(self) -> String {
        let text = OsString::from_vec;
        let mut words = self.argv.into_iter().map(text);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).env_clear().current_dir(self.cwd);
        command.envs(self.env.into_iter().map(|(name, value)| (text(name), text(value))));
        if self.to_stderr {
            command.stdout(std::io::stderr());
        }
        // What answers to our own signals is not the program's.
        crate::sys::signals::reset_signals();
        command.exec().to_string()
    }
}

/// Runs a program to its end, with our standard streams.
pub fn run(spawner: &Spawner, program: &Program, cancel: &Cancel) -> Result<Ended> {
    let heeding = cancel.heed();
    let (mut report, report_end) =
        std::io::pipe().or_error(ErrorKind::Environment, || "cannot make a pipe".to_owned())?;
    let silent = || "the spawner does not answer".to_owned();
    let channel =
        spawner.program(program, report_end.into()).or_error(ErrorKind::Environment, silent)?;
    let stopped = cancel.watch()?;
    let mut passed_on = false;
    loop {
        let mut fds = vec![PollFd::new(&channel, PollFlags::IN)];
        if !passed_on {
            fds.push(PollFd::new(&stopped, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::environment("cannot wait for a program").cause(errno)),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready[0] {
            break;
        }
        if ready.get(1) == Some(&true) {
            passed_on = true;
            let _it_ended = rustix::io::write(&channel, &[cancel.signal().unwrap_or(15) as u8]);
        }
    }
    drop(heeding);
    let mut said = Vec::new();
    report.read_to_end(&mut said).or_error(ErrorKind::Environment, silent)?;
    let name = String::from_utf8_lossy(program.argv.first().map_or(b"", |name| &name[..]));
    match serde_json::Deserializer::from_slice(&said).into_iter::<Outcome>().next() {
        Some(Ok(Outcome::Ended(ended))) => Ok(ended),
        Some(Ok(Outcome::NotStarted(why))) => {
            Err(Error::usage(format!("cannot start `{name}`")).cause(why))
        }
        _ => Err(Error::environment(format!("`{name}` ended without a report"))),
    }
}
