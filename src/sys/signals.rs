//! Signals: what ends this process, and who hears of it.
//!
//! Handlers do only what is safe in one: system calls.
#![allow(unsafe_code, reason = "signal actions have no safe wrapper")]

use super::process::exit_now;
use super::{Named, SysResult};
use rustix::io::Errno;

/// Ends the process with 130, 143 or 129 for SIGINT, SIGTERM and SIGHUP until [`watch_signals`] takes over. Without a
/// handler process 1, as which programs run in containers, would not hear them. What the caller ignores stays ignored.
pub fn exit_on_signals() {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal};
    // Only a system call, which is safe in a handler.
    extern "C" fn leave(signal: libc::c_int) {
        exit_now(128 + signal);
    }
    let action = SigAction::new(SigHandler::Handler(leave), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler calls nothing but `_exit`.
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
/// of its own for the first; a second one ends the process at once.
pub fn watch_signals(on_signal: impl FnOnce(i32) + Send + 'static) -> SysResult<()> {
    use nix::sys::signal::{SigSet, Signal};
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block().named(|| "pthread_sigmask".to_owned())?;
    let watch = move || {
        if let Ok(signal) = set.wait() {
            on_signal(signal as i32);
        }
        if let Ok(signal) = set.wait() {
            exit_now(128 + signal as i32);
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
