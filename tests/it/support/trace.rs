//! What a build asks of the kernel, by strace: all calls; or the sockets that it opens, who opened which, in which network
//! namespace.

use super::{Said, World, peer, program};
use std::collections::BTreeSet;
use std::fs;

/// Sockets of one run of the program.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sockets {
    /// Families of the sockets opened in the network namespace of the caller.
    pub outside: BTreeSet<String>,
    /// How many processes were started in network namespaces of their own.
    pub inside: usize,
}

/// Runs the program under strace; none without strace.
pub fn run(world: &World, args: &[&str]) -> Option<(Said, Sockets)> {
    let (said, calls) = traced(world, "execve,socket,clone,clone3,fork,vfork,unshare,setns", args)?;
    Some((said, read(&calls)))
}

/// The same with all system calls of all processes, as strace writes them, in the order in which they returned.
pub fn all(world: &World, args: &[&str]) -> Option<(Said, Vec<String>)> {
    let (said, calls) = traced(world, "all", args)?;
    Some((said, calls.into_iter().map(|(_, call)| call).collect()))
}

fn traced(world: &World, which: &str, args: &[&str]) -> Option<(Said, Vec<(u32, String)>)> {
    if !peer("strace") {
        return None;
    }
    let log = world.path("strace.log");
    let mut command = world.command("strace");
    command.args(["-f", "-qq", "-s", "64", "-e", "signal=none", "-o"]).arg(&log);
    command.args(["-e", &format!("trace={which}")]);
    let said = Said::of(command.arg(program()).args(args).output().unwrap());
    let text = fs::read_to_string(log).unwrap();
    Some((said, calls(&text)))
}

fn read(calls: &[(u32, String)]) -> Sockets {
    // A process may be seen before the call that made it returns, so its origin is found first.
    let mut outside = BTreeSet::from([calls[0].0]);
    let mut found = Sockets::default();
    loop {
        let known = outside.len();
        for (pid, call) in calls {
            let child =
                call.rsplit("= ").next().and_then(|ret| ret.split(' ').next()?.parse().ok());
            if let Some(child) = child.filter(|child: &u32| *child > 0)
                && outside.contains(pid)
                && ["clone", "fork", "vfork"].iter().any(|name| call.starts_with(name))
                && !call.contains("CLONE_NEWNET")
            {
                outside.insert(child);
            }
        }
        if outside.len() == known {
            break;
        }
    }
    for (pid, call) in calls {
        let is_outside = outside.contains(pid);
        if let Some(rest) = call.strip_prefix("socket(")
            && is_outside
        {
            found.outside.insert(rest.split(',').next().unwrap().to_owned());
        }
        found.inside += usize::from(is_outside && call.contains("CLONE_NEWNET"));
        assert!(!is_outside || !call.starts_with("unshare") || !call.contains("NEWNET"), "{call}");
    }
    found
}

/// Process and call, with the halves of interrupted ones put together.
fn calls(text: &str) -> Vec<(u32, String)> {
    let mut open: Vec<(u32, String)> = Vec::new();
    let mut all = Vec::new();
    for line in text.lines() {
        let (pid, call) = line.split_once(' ').unwrap();
        let (pid, call) = (pid.parse().unwrap(), call.trim_start());
        if let Some(start) = call.strip_suffix(" <unfinished ...>") {
            open.push((pid, start.to_owned()));
        } else if let Some((_, end)) = call.split_once(" resumed>") {
            let at = open.iter().position(|(known, _)| *known == pid).unwrap();
            all.push((pid, open.remove(at).1 + end));
        } else {
            all.push((pid, call.to_owned()));
        }
    }
    all
}
