//! The builder's side of a RUN: starts it through the spawner, reads its output, cancels it, waits for its end.
//!
//! [`run`] returns only when nobody is left who could change the upper directory of the RUN; its mounts are gone with
//! what it returns, the [`Ending`].

use super::spawner::{RunFds, Spawner, socket_pair};
use super::supervisor::{self, Credentials, Duty};
use super::{Report, RunSpec};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::sys::SysResultExt;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SocketType;
use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a cancelled RUN has between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// Tells everything that a build does to stop; can be polled.
#[derive(Debug)]
pub struct Cancel {
    signal: AtomicI32,
    /// How many parts of a build look at this now.
    heeded: AtomicUsize,
    reader: PipeReader,
    writer: Mutex<Option<PipeWriter>>,
}

impl Cancel {
    /// Not cancelled.
    pub fn new() -> Result<Self> {
        let (reader, writer) =
            std::io::pipe().or_error(ErrorKind::Environment, || "cannot make a pipe".to_owned())?;
        Ok(Self {
            signal: AtomicI32::new(0),
            heeded: AtomicUsize::new(0),
            reader,
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Says that the caller looks at this, and stops in order when it is cancelled, until the value is dropped.
    pub fn heed(&self) -> Heeding<'_> {
        self.heeded.fetch_add(1, Ordering::SeqCst);
        Heeding(self)
    }

    /// What a signal does: cancels where somebody looks, else ends the process.
    pub fn signalled(&self, signal: i32) {
        if self.heeded.load(Ordering::SeqCst) == 0 {
            crate::sys::signals::leave(signal);
        }
        self.cancel(signal);
    }

    /// Cancels: by this signal number, or with 0 because another part of the build failed.
    pub fn cancel(&self, signal: i32) {
        self.signal.fetch_max(signal, Ordering::SeqCst);
        let mut writer = self.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        drop(writer.take());
    }

    /// A descriptor whose other side is closed once cancelled, for those who wait elsewhere.
    pub fn watch(&self) -> Result<OwnedFd> {
        let copy = self.reader.try_clone();
        copy.map(OwnedFd::from).or_error(ErrorKind::Environment, || "cannot copy a pipe".to_owned())
    }

    /// True once cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_none()
    }

    /// The error of something that was stopped.
    pub fn error(&self) -> Error {
        match self.signal.load(Ordering::SeqCst) {
            0 => Error::new(ErrorKind::Interrupted(0), "stopped because another step failed"),
            signal => Error::new(ErrorKind::Interrupted(signal), "interrupted"),
        }
    }

    /// The signal that cancelled.
    pub fn signal(&self) -> Option<i32> {
        Some(self.signal.load(Ordering::SeqCst)).filter(|signal| *signal != 0)
    }

    /// The error of a build that a signal ended; none when it goes on or failed by itself.
    pub fn interrupted(&self) -> Option<Error> {
        (self.signal.load(Ordering::SeqCst) != 0).then(|| self.error())
    }

    /// Fails once cancelled.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(self.error()) } else { Ok(()) }
    }
}

/// Somebody looks at a [`Cancel`].
#[derive(Debug)]
pub struct Heeding<'a>(&'a Cancel);

impl Drop for Heeding<'_> {
    fn drop(&mut self) {
        self.0.heeded.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The end of the last process of a RUN, and of its mounts. Who drops it waits for that.
#[derive(Debug)]
#[must_use = "what is mounted stays so until this is dropped"]
pub struct Ending {
    /// `None` when it is over.
    channel: Option<OwnedFd>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let Some(channel) = &self.channel else { return };
        let mut byte = [0_u8; 1];
        while matches!(rustix::io::read(channel, &mut byte), Err(Errno::INTR)) {}
    }
}

/// Runs a command to its end. `output` gets the bytes as they come, with true for standard error.
pub fn run(
    spawner: &Spawner,
    spec: &RunSpec,
    mounts: (OwnedFd, Vec<OwnedFd>),
    cancel: &Cancel,
    output: &mut dyn FnMut(bool, &[u8]),
) -> Result<(Report, Ending)> {
    let pipe =
        || std::io::pipe().or_error(ErrorKind::Environment, || "cannot make a pipe".to_owned());
    let ((report, report_end), (stdout, stdout_end), (stderr, stderr_end)) =
        (pipe()?, pipe()?, pipe()?);
    let (rootfs, mut given) = mounts;
    let supervisor = supervisor(spec, &mut given)?;
    let fds = RunFds {
        report: report_end.into(),
        stdout: stdout_end.into(),
        stderr: stderr_end.into(),
        rootfs,
        given,
    };
    let channel = spawner
        .run(spec, &fds)
        .or_error(ErrorKind::Environment, || "the spawner does not answer".to_owned())?;
    drop(fds);
    let mut session = Session {
        channel,
        report: Some(report),
        streams: [Some(stdout), Some(stderr)],
        said: Vec::new(),
        dead: false,
        killing: None,
    };
    while session.turn(cancel, output)? {}
    if let Some(supervisor) = supervisor {
        // The RUN is over, so its end comes at once; what it recorded is complete then.
        supervisor.join().map_err(|_| Error::internal("the supervisor of a command stopped"))?;
    }
    let report = session.report();
    let ending = Ending { channel: (!session.dead).then_some(session.channel) };
    cancel.check()?;
    let report = report.ok_or_else(|| {
        Error::environment("the sandbox ended without a report")
            .hint("something outside killed it, for example the kernel because memory ran out")
    })?;
    Ok((report, ending))
}

/// Starts what answers the command's calls; the other side of its socket goes with the RUN's descriptors.
fn supervisor(spec: &RunSpec, given: &mut Vec<OwnedFd>) -> Result<Option<JoinHandle<()>>> {
    if !spec.is_supervised() {
        return Ok(None);
    }
    let duty = Duty {
        supervise: spec.supervise,
        credentials: Credentials::of(spec.uid, spec.gid, &spec.groups),
        placeholder: spec.placeholder.clone(),
        insecure: spec.insecure,
        first: spec.guards_signals().then_some(0),
    };
    let started = socket_pair(SocketType::STREAM).and_then(|(ours, theirs)| {
        given.push(theirs);
        supervisor::start(ours, duty)
    });
    started.map(Some).or_error(ErrorKind::Environment, || "cannot start a supervisor".to_owned())
}

struct Session {
    channel: OwnedFd,
    report: Option<PipeReader>,
    streams: [Option<PipeReader>; 2],
    said: Vec<u8>,
    dead: bool,
    killing: Option<(Instant, bool)>,
}

impl Session {
    /// Waits for something and handles it; false when all is over.
    fn turn(&mut self, cancel: &Cancel, output: &mut dyn FnMut(bool, &[u8])) -> Result<bool> {
        let all_read = self.report.is_none() && self.streams.iter().all(Option::is_none);
        if all_read
            && (self.dead || matches!(self.report(), Some(Report::Ended { quiet: true, .. })))
        {
            return Ok(false);
        }
        let ready = self.wait(cancel)?;
        if ready[0] {
            self.start_killing();
        }
        self.kill_when_due();
        if ready[1] {
            let mut byte = [0_u8; 1];
            // One byte: reaped. A closed channel: the spawner is gone, and everything with it.
            self.dead |= !matches!(rustix::io::read(&self.channel, &mut byte), Err(Errno::INTR));
        }
        if ready[2] {
            read_into(&mut self.report, &mut |bytes| self.said.extend_from_slice(bytes));
        }
        for (index, stream) in self.streams.iter_mut().enumerate() {
            if ready[3 + index] {
                read_into(stream, &mut |bytes| output(index == 1, bytes));
            }
        }
        Ok(true)
    }

    /// What the RUN said, when that is all.
    fn report(&self) -> Option<Report> {
        serde_json::from_slice(&self.said).ok()
    }

    fn wait(&self, cancel: &Cancel) -> Result<[bool; 5]> {
        let wanted = [
            self.killing.is_none().then(|| cancel.reader.as_fd()),
            (!self.dead).then(|| self.channel.as_fd()),
            self.report.as_ref().map(AsFd::as_fd),
            self.streams[0].as_ref().map(AsFd::as_fd),
            self.streams[1].as_ref().map(AsFd::as_fd),
        ];
        let open: Vec<(usize, BorrowedFd<'_>)> =
            wanted.iter().enumerate().filter_map(|(at, fd)| Some((at, (*fd)?))).collect();
        let mut fds: Vec<PollFd<'_>> =
            open.iter().map(|(_, fd)| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        let timeout = self.killing.map(|_| Timespec { tv_sec: 0, tv_nsec: 50_000_000 });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => {
                return Err(Error::environment("cannot wait for a command")
                    .cause(std::io::Error::from(errno)));
            }
        }
        let mut ready = [false; 5];
        for ((index, _), fd) in open.iter().zip(&fds) {
            ready[*index] = !fd.revents().is_empty();
        }
        Ok(ready)
    }

    fn start_killing(&mut self) {
        if self.killing.is_none() {
            self.killing = Some((Instant::now() + GRACE, false));
            self.signal(libc::SIGTERM);
        }
    }

    fn kill_when_due(&mut self) {
        if let Some((due, false)) = self.killing
            && Instant::now() >= due
        {
            self.killing = Some((due, true));
            self.signal(libc::SIGKILL);
        }
    }

    fn signal(&self, signal: i32) {
        let _dead_already =
            rustix::net::send(&self.channel, &[signal as u8], rustix::net::SendFlags::NOSIGNAL);
    }
}

fn read_into(stream: &mut Option<PipeReader>, take: &mut dyn FnMut(&[u8])) {
    let Some(reader) = stream else { return };
    let mut buffer = [0_u8; 16 * 1024];
    match rustix::io::read(&*reader, &mut buffer) {
        Ok(0) => *stream = None,
        Ok(n) => take(&buffer[..n]),
        Err(Errno::INTR | Errno::AGAIN) => {}
        Err(_) => *stream = None,
    }
}
