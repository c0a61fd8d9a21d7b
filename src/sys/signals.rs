//! Signals: what ends this process, and who hears of it.
//!
//! Handlers do only what is safe in one: system calls.
#![allow(unsafe_code, reason = "signal actions have no safe wrapper")]

use super::process::exit_now;
use super::{Named, SysResult};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};
use std::time::{Duration, Instant};

/// What is written to standard error when a signal ends the process. Never freed: a handler may be reading it.
static LAST_WORDS: AtomicPtr<Vec<u8>> = AtomicPtr::new(null_mut());

/// The process that has them; a child that has not become another program yet must say and remove nothing.
static SPEAKER: AtomicI32 = AtomicI32::new(0);

/// Paths of files that are removed when a signal ends the process. Never freed, as above.
static DOOMED: [AtomicPtr<libc::c_char>; 8] = [const { AtomicPtr::new(null_mut()) }; 8];

/// Two signals that come within this time are one; nobody presses a key that fast.
const TOGETHER: Duration = Duration::from_millis(100);

/// Sets what is written to standard error when a signal ends this process.
pub fn set_last_words(text: &str) {
    SPEAKER.store(std::process::id().cast_signed(), Ordering::SeqCst);
    LAST_WORDS.store(Box::into_raw(Box::new(text.as_bytes().to_vec())), Ordering::SeqCst);
}

/// Drops them, because the process said itself why it ends.
pub fn drop_last_words() {
    LAST_WORDS.store(null_mut(), Ordering::SeqCst);
}

/// A file that is removed when a signal ends the process, as long as this value lives.
#[derive(Debug)]
pub struct Doomed(&'static AtomicPtr<libc::c_char>);

impl Doomed {
    /// `None` when there are too many already: whoever made the file must be able to live with what is left.
    pub fn new(path: &Path) -> Option<Self> {
        let path = std::path::absolute(path).ok()?;
        let path = CString::new(path.as_os_str().as_bytes()).ok()?.into_raw();
        let free = |slot: &&AtomicPtr<libc::c_char>| {
            slot.compare_exchange(null_mut(), path, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        DOOMED.iter().find(free).map(Self)
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        self.0.store(null_mut(), Ordering::SeqCst);
    }
}

/// Ends the process as this signal does by the convention of shells, with its last words, and removes what is doomed.
/// Safe in a handler.
pub fn leave(signal: i32) -> ! {
    // SAFETY: getpid has no memory effects.
    if unsafe { libc::getpid() } == SPEAKER.load(Ordering::SeqCst) {
        let words = LAST_WORDS.swap(null_mut(), Ordering::SeqCst);
        // SAFETY: it is null or was made by `set_last_words`, and is never freed.
        if let Some(words) = unsafe { words.as_ref() } {
            // SAFETY: pointer and length belong to `words`.
            let _nobody_listens =
                unsafe { libc::write(libc::STDERR_FILENO, words.as_ptr().cast(), words.len()) };
        }
        for slot in &DOOMED {
            let path = slot.swap(null_mut(), Ordering::SeqCst);
            if !path.is_null() {
                // SAFETY: it was made by `Doomed::new`, ends with a zero, and is never freed.
                let _gone_already = unsafe { libc::unlink(path) };
            }
        }
    }
    exit_now(128 + signal)
}

/// Lets SIGINT, SIGTERM and SIGHUP [`leave`] until [`watch_signals`] takes over: with 130, 143 or 129. Without a handler
/// process 1, as which programs run in containers, would not hear them. What the caller ignores stays ignored.
pub fn exit_on_signals() {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal};
    extern "C" fn heard(signal: libc::c_int) {
        leave(signal);
    }
    let action = SigAction::new(SigHandler::Handler(heard), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: `leave` is safe in a handler.
        let before = unsafe { nix::sys::signal::sigaction(signal, &action) };
        if let Ok(before) = before
            && matches!(before.handler(), SigHandler::SigIgn)
        {
            // SAFETY: this is what was set a moment ago.
            let _as_before = unsafe { nix::sys::signal::sigaction(signal, &before) };
        }
    }
}

/// Blocks SIGINT, SIGTERM and SIGHUP in this thread (and so in all that it starts) and calls `on_signal` from a thread
/// of its own for the first; a second one ends the process at once, unless it comes with the first: timeout(1) sends one to
/// the process and one to its group.
pub fn watch_signals(on_signal: impl FnOnce(i32) + Send + 'static) -> SysResult<()> {
    use nix::sys::signal::{SigSet, Signal};
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block().named(|| "pthread_sigmask".to_owned())?;
    let watch = move || {
        let mut first = None;
        if let Ok(signal) = set.wait() {
            first = Some((Instant::now(), signal));
            on_signal(signal as i32);
        }
        while let Ok(signal) = set.wait() {
            if first.is_none_or(|(at, first)| signal != first || at.elapsed() > TOGETHER) {
                leave(signal as i32);
            }
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(watch).map(drop).map_err(|error| {
        super::SysError {
            call: "clone(thread)".to_owned(),
            errno: Errno::from_io_error(&error).unwrap_or(Errno::AGAIN),
        }
    })
}

/// Installs a signal handler; its function must only do what is safe in a handler.
pub fn set_handler(
    signal: nix::sys::signal::Signal,
    action: &nix::sys::signal::SigAction,
) -> SysResult<()> {
    // SAFETY: callers pass handlers that only send signals or write to a pipe.
    unsafe { nix::sys::signal::sigaction(signal, action) }
        .map(|_| ())
        .named(|| format!("sigaction({signal})"))
}

/// Sets all signals to their default action and unblocks them; Rust's runtime ignores SIGPIPE.
pub fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is a valid action; signals that cannot be set answer with an error that does not matter.
        let _kept = unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let _kept = nix::sys::signal::SigSet::all().thread_unblock();
}
