//! Programs that keep logins: `docker-credential-NAME get|store|erase`, one question for each start.
//!
//! In: a name out of a file; out: a login. The program gets its question by standard input and nothing secret as an
//! argument; its answer and its time are bounded; what it complains of is shown without any secret.

use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::net::failure::printable;
use crate::net::login::Login;
use crate::sys::process;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PREFIX: &str = "docker-credential-";
/// Bytes that are read of an answer.
const LARGEST: usize = 256 << 10;
/// Bytes of a question: an empty pipe takes them at once.
const LARGEST_QUESTION: usize = 32 << 10;
/// The program may ask its user for a password.
const PATIENCE: Duration = Duration::from_mins(2);

/// One program.
#[derive(Debug)]
pub(super) struct Helper {
    program: PathBuf,
    /// `docker-credential-NAME`.
    name: String,
    patience: Duration,
}

/// What the protocol sends and takes.
#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
struct Credentials {
    #[serde(rename = "ServerURL")]
    server_url: String,
    username: String,
    secret: String,
}

/// What a program said.
struct Said {
    success: bool,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Helper {
    /// The program of this name in the first of the directories that has it. `place` is where it is named.
    pub(super) fn find(name: &str, dirs: &[PathBuf], place: &str) -> Result<Option<Self>> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if name.is_empty() || !name.chars().all(plain) {
            let shown = printable(name, 60);
            return Err(Error::environment(format!("`{shown}` is no name of a credential helper"))
                .cause(place)
                .hint("write what stands behind `docker-credential-` in the program's name"));
        }
        let name = format!("{PREFIX}{name}");
        let found = dirs.iter().map(|dir| dir.join(&name)).find(|path| path.is_file());
        Ok(found.map(|program| Self { program, name, patience: PATIENCE }))
    }

    /// The error that there is no such program.
    pub(super) fn missing(name: &str, place: &str) -> Error {
        Error::environment(format!("the credential helper `{PREFIX}{name}` is not in PATH"))
            .cause(place)
            .hint("install it, or take its name out of the file")
    }

    #[cfg(test)]
    pub(super) fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// For messages.
    pub(super) fn shown(&self) -> String {
        format!("`{}`", self.name)
    }

    /// The login for a server; none when the program has none.
    pub(super) fn get(&self, server: &str) -> Result<Option<Login>> {
        let said = self.ask("get", server.as_bytes())?;
        if !said.success {
            let none = said.has_none().then_some(None);
            return none.ok_or_else(|| self.complaint("get", server, &said, None));
        }
        let answer: Credentials = serde_json::from_slice(&said.stdout).map_err(|_| {
            Error::environment(format!("{} gave no login for `{server}`", self.shown()))
                .cause("its answer is not JSON with Username and Secret")
        })?;
        Ok(match (answer.username.as_str(), answer.secret) {
            (_, secret) if secret.is_empty() => None,
            ("<token>", secret) => Some(Login::Identity(secret)),
            (user, secret) => Some(Login::new(user.to_owned(), secret)),
        })
    }

    /// Has a login kept.
    pub(super) fn store(&self, server: &str, user: &str, secret: &str) -> Result<()> {
        let question = Credentials {
            server_url: server.to_owned(),
            username: user.to_owned(),
            secret: secret.to_owned(),
        };
        let question = serde_json::to_vec(&question)
            .map_err(|error| Error::internal("JSON of a login").cause(error))?;
        let said = self.ask("store", &question)?;
        if said.success {
            Ok(())
        } else {
            Err(self.complaint("store", server, &said, Some(secret)))
        }
    }

    /// Has a login forgotten; false when there was none.
    pub(super) fn erase(&self, server: &str) -> Result<bool> {
        let said = self.ask("erase", server.as_bytes())?;
        match (said.success, said.has_none()) {
            (true, _) => Ok(true),
            (false, true) => Ok(false),
            (false, false) => Err(self.complaint("erase", server, &said, None)),
        }
    }

    fn complaint(&self, verb: &str, server: &str, said: &Said, secret: Option<&str>) -> Error {
        let mut words = said.words();
        if let Some(secret) = secret.filter(|secret| !secret.is_empty()) {
            words = words.replace(secret, "***");
        }
        Error::environment(format!("{} failed for `{server}`", self.shown()))
            .cause(if words.is_empty() { "it does not say why".to_owned() } else { words })
            .hint(format!(
                "see what `{} {verb}` says to `{server}` on its standard input",
                self.name
            ))
    }

    fn ask(&self, verb: &str, question: &[u8]) -> Result<Said> {
        let what = || format!("cannot run {}", self.shown());
        if question.len() > LARGEST_QUESTION {
            return Err(Error::environment(what()).cause("the login is too large"));
        }
        let mut command = Command::new(&self.program);
        command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        process::bind_to_this_thread(&mut command);
        let mut child = command.spawn().or_error(ErrorKind::Environment, what)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that does not want to know says so by its exit code.
            let _closed = stdin.write_all(question);
        }
        let said = self.listen(&mut child);
        if said.is_err() {
            let _gone = child.kill();
        }
        let status = child.wait().or_error(ErrorKind::Environment, what)?;
        said.map(|said| Said { success: status.success(), ..said })
    }

    /// Reads until the program has ended: what it started may hold its pipes for longer.
    fn listen(&self, child: &mut Child) -> Result<Said> {
        let what = || format!("cannot run {}", self.shown());
        let pid = Pid::from_child(child);
        let ended = pidfd_open(pid, PidfdFlags::empty())
            .map_err(io::Error::from)
            .or_error(ErrorKind::Environment, what)?;
        let deadline = Instant::now() + self.patience;
        let mut said = Said { success: false, stdout: Vec::new(), stderr: Vec::new() };
        let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let done =
                wait([out.as_ref().map(AsFd::as_fd), err.as_ref().map(AsFd::as_fd)], &ended, left)
                    .or_error(ErrorKind::Environment, what)?;
            let Some([from_out, from_err, over]) = done else {
                return Err(Error::environment(format!("{} gives no answer", self.shown()))
                    .cause(format!("it was ended after {} seconds", self.patience.as_secs())));
            };
            take(&mut out, from_out, &mut said.stdout).or_error(ErrorKind::Environment, what)?;
            take(&mut err, from_err, &mut said.stderr).or_error(ErrorKind::Environment, what)?;
            if said.stdout.len() > LARGEST || said.stderr.len() > LARGEST {
                return Err(Error::environment(format!("{} says too much", self.shown()))
                    .cause(format!("more than {} KiB", LARGEST >> 10)));
            }
            if over && !from_out && !from_err {
                return Ok(said);
            }
        }
    }
}

impl Said {
    /// The words that all programs share for it.
    fn has_none(&self) -> bool {
        [&self.stdout, &self.stderr].iter().any(|text| {
            String::from_utf8_lossy(text).to_ascii_lowercase().contains("credentials not found")
        })
    }

    /// Complaints are on standard output as the protocol has it, or on standard error.
    fn words(&self) -> String {
        let text = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            let line = text.lines().map(str::trim).find(|line| !line.is_empty());
            printable(line.unwrap_or_default(), 300)
        };
        let out = text(&self.stdout);
        // An answer, which holds a secret.
        if out.is_empty() || out.starts_with('{') { text(&self.stderr) } else { out }
    }
}

/// Waits until something can be read or the process has ended, which comes last; `None` when time is over.
fn wait(
    pipes: [Option<BorrowedFd<'_>>; 2],
    ended: &impl AsFd,
    left: Duration,
) -> io::Result<Option<[bool; 3]>> {
    let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
    let fds = [pipes[0].unwrap_or(ended.as_fd()), pipes[1].unwrap_or(ended.as_fd()), ended.as_fd()];
    let mut polled = fds.each_ref().map(|fd| PollFd::new(fd, PollFlags::IN));
    loop {
        match poll(&mut polled, Some(&timeout)) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let ready = polled.map(|fd| !fd.revents().is_empty());
    Ok(Some([pipes[0].is_some() && ready[0], pipes[1].is_some() && ready[1], ready[2]]))
}

/// One read of a pipe that has something or is closed.
fn take(pipe: &mut Option<impl Read>, ready: bool, to: &mut Vec<u8>) -> io::Result<()> {
    let Some(from) = pipe.as_mut().filter(|_| ready) else { return Ok(()) };
    let mut part = [0; 4096];
    match from.read(&mut part) {
        Ok(0) => *pipe = None,
        Ok(n) => to.extend_from_slice(&part[..n]),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
