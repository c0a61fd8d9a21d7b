//! Signals where a RUN shares its process numbers with the container around it: only to processes of the RUN.
//!
//! Landlock does the same in the kernel, from 6.12 on; this is what older ones have, and a second line for the others.
//! A process of the RUN is one that descends from its process 1, which itself is out of reach.

use super::{Answer, Supervisor};
use crate::sys::notify::{Call, Reply};
use crate::sys::{probe, process};
use rustix::io::Errno;

/// So many parents are looked at; deeper trees than this are not made by builds.
const DEPTH: usize = 4096;

impl Supervisor {
    /// Decides about a signal.
    pub(super) fn signal(&self, call: &Call, name: &str) -> Answer {
        let Some(first) = self.duty.first else { return Ok(Reply::Continue) };
        let target = call.arguments[0] as i32;
        let allowed = match name {
            "pidfd_send_signal" => pid_of(call.tid, target).is_none_or(|pid| is_below(first, pid)),
            "kill" => match target {
                // All groups of a RUN are its own: its process 1 leads a session, and the command another group.
                0 => true,
                -1 => return everybody(first, call),
                ..-1 => group(target).iter().all(|pid| is_below(first, *pid)),
                1.. => is_below(first, target),
            },
            _ => is_below(first, target),
        };
        if allowed { Ok(Reply::Continue) } else { Err(Errno::PERM) }
    }
}

/// True for a descendant, and for a process that does not exist, about which the kernel has the right answer.
fn is_below(first: i32, pid: i32) -> bool {
    let mut pid = process::leader_of(pid).unwrap_or(pid);
    for step in 0..DEPTH {
        match process::parent_of(pid) {
            Some(parent) if parent == first => return true,
            Some(parent) if parent > 1 => pid = parent,
            Some(_) => return false,
            None => return step == 0,
        }
    }
    false
}

/// `kill(-1)`: everybody in the RUN but the caller.
fn everybody(first: i32, call: &Call) -> Answer {
    let own = process::leader_of(call.tid).unwrap_or(call.tid);
    let others = process::all().into_iter().filter(|pid| *pid != own && is_below(first, *pid));
    let mut found = false;
    for pid in others.filter(|pid| process::parent_of(*pid).is_some()) {
        process::kill(pid, call.arguments[1] as i32);
        found = true;
    }
    if found { Ok(Reply::Value(0)) } else { Err(Errno::SRCH) }
}

/// The processes of the group that a negative number means to `kill`.
fn group(negated: i32) -> Vec<i32> {
    let number = negated.checked_neg();
    process::all().into_iter().filter(|pid| process::group_of(*pid) == number).collect()
}

/// Whom a caller's descriptor of a process means; `None` when it is none.
fn pid_of(tid: i32, fd: i32) -> Option<i32> {
    let text = probe::read_host_file(&format!("/proc/{tid}/fdinfo/{fd}"))?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    pid.trim().parse().ok().filter(|pid| *pid > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn only_descendants_are_within_reach() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let (own, pid) = (process::own_id(), child.id() as i32);
        let parent = process::parent_of(own).unwrap();
        assert!(is_below(own, pid));
        assert!(!is_below(own, own));
        assert!(!is_below(own, parent));
        assert!(!is_below(pid, own));
        assert!(!is_below(own, 1));
        assert!(is_below(own, i32::MAX), "nobody: the kernel says so");
        assert!(group(-process::group_of(pid).unwrap()).contains(&pid));
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
