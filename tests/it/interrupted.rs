//! Signals where no RUN is: the same line and the same event as in a RUN, and nothing stays in `locks/use`.

use crate::support::faults::Faults;
use crate::support::registry::Registry;
use crate::support::{World, peer, program};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::process::{Child, Stdio};
use std::time::Duration;

/// What `error` is in the progress `json`.
const EVENT: &str = r#"{"causes":[],"event":"error","help":[],"kind":"Interrupted","log":null,"message":"interrupted","others":[],"place":null,"run_exit_code":null}"#;

fn start(world: &World, args: &[impl AsRef<OsStr>]) -> Child {
    let mut command = world.command(program());
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Sends the signal; the exit code and the last line of standard error.
fn end(world: &World, child: Child, signal: Signal) -> (Option<i32>, String) {
    kill_process(Pid::from_child(&child), signal).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(fs::read_dir(world.store().join("locks/use")).unwrap().count(), 0);
    let text = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), text.lines().last().unwrap_or_default().to_owned())
}

/// Testers found that only a RUN said so: everywhere else the handler did nothing but `_exit`.
#[test]
fn a_transfer_that_is_interrupted_says_so() {
    for world in World::each() {
        if !peer("docker-registry") {
            return;
        }
        let world = world.with_base();
        let registry = Registry::start(&world);
        world.run(["image", "copy", "base", &format!("docker://{}/a:1", registry.address)]).ok();
        let line = "error: interrupted";
        for (signal, code, args, last) in [
            (Signal::TERM, 143, &["image", "copy", "base", "docker://HOST/new:1"][..], line),
            (Signal::INT, 130, &["image", "copy", "docker://HOST/a:1", "oci:pulled"], line),
            (Signal::HUP, 129, &["build", "context"], line),
            (Signal::INT, 130, &["build", "--progress", "json", "context"], EVENT),
        ] {
            // One for each: what is on the way to a program that is gone must not spring the next trap.
            let proxy = Faults::before(&registry.address, |_| None);
            world.file("Dockerfile", format!("FROM {}/a:1\nRUN true\n", proxy.host()));
            let args: Vec<String> =
                args.iter().map(|arg| arg.replace("HOST", &proxy.host())).collect();
            let hit = proxy.trap(1000);
            let child = start(&world, &args);
            hit.recv_timeout(Duration::from_mins(1)).expect("the transfer begins");
            assert_eq!(end(&world, child, signal), (Some(code), last.to_owned()), "{args:?}");
            proxy.release();
            // What the store has is not pulled.
            world.run(["image", "rm", "base"]);
            world.run(["prune", "--all"]).ok();
        }
    }
}

/// A removal heard the signal and went on to its end.
#[test]
fn a_removal_that_is_interrupted_ends() {
    for world in World::each() {
        let world = world.with_base();
        world.run(["prune"]).ok();
        // As if another process looked: nothing is removed meanwhile.
        let gate = File::options().append(true).open(world.store().join("locks/gate")).unwrap();
        gate.lock_shared().unwrap();
        let child = start(&world, &["prune", "--all"]);
        // It watches for signals by a thread once it is in its namespace.
        let tasks = format!("/proc/{}/task", child.id());
        while fs::read_dir(&tasks).unwrap().count() < 2 {
            std::thread::yield_now();
        }
        let ended = end(&world, child, Signal::INT);
        assert_eq!(ended, (Some(130), "error: interrupted".to_owned()));
    }
}
