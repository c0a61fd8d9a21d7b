//! A command in a tree that is no stage of a Dockerfile, for what makes images otherwise.
//!
//! In: a draft and a [`Script`]; out: what the command left in the draft. It runs exactly as a RUN does.

use super::mounts::Binds;
use super::run::{RunPlaces, run};
use super::store::Store;
use super::worker::Worker;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::executor::emulation::ways::Bench;
use crate::executor::isolation::Kind;
use crate::executor::settings::RunSettings;
use crate::layers::snapshot::Draft;
use crate::oci::Platform;
use crate::plan::step::{Env, NetworkMode, RunStep};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// A command and what it sees.
#[derive(Debug)]
pub struct Script {
    /// What it is called in its messages: the shell reads it from a file of that name.
    pub name: String,
    /// Its text.
    pub text: String,
    /// What runs the text: a program and its first arguments.
    pub shell: Vec<String>,
    /// The whole environment.
    pub env: Env,
    /// Working directory, absolute.
    pub cwd: String,
    /// As USER has it; empty is root.
    pub user: String,
    /// Network.
    pub network: NetworkMode,
    /// What its programs are made for.
    pub machine: Platform,
    /// What else it sees, and where.
    pub shown: Vec<(String, Shown)>,
    /// Seconds until it is ended.
    pub timeout: Option<u64>,
}

/// Something that a command sees besides its tree.
#[derive(Debug)]
pub enum Shown {
    /// A file or directory of this machine with all that is mounted below it, read-only.
    Host(PathBuf),
    /// A tree, to be written.
    Tree(OwnedFd),
    /// An empty file system in memory, for everybody.
    Memory,
}

/// Runs it to its end.
pub fn run_script(
    store: &Store,
    worker: &Worker,
    draft: &Draft<'_>,
    script: Script,
    output: &mut dyn FnMut(bool, &[u8]),
) -> Result<()> {
    if let Some(error) = &worker.isolation.no_commands {
        return Err(error.clone());
    }
    let tmp = store.sub("tmp");
    let staging = tmp.join("rootfs");
    std::fs::create_dir_all(&staging)
        .or_error(ErrorKind::Environment, || format!("cannot make {}", staging.display()))?;
    let kind = worker.isolation.kind;
    let bench = Bench {
        spawner: &worker.spawner,
        staging: &staging,
        kind,
        cancel: &worker.cancel,
        from_image: &|_| Ok(None),
    };
    let (way, _said) = worker.ways.of(&script.machine, &bench)?;
    let places = RunPlaces {
        tmp: &tmp,
        logs: &store.sub("logs"),
        staging: &staging,
        machine: &script.machine,
        way: &way,
        settings: &RunSettings::default(),
    };
    let binds = binds(script.shown, kind)?;
    let step = RunStep {
        argv: [script.shell, vec![format!("/dev/pipes/{}", script.name)]].concat(),
        env: script.env,
        proxy_env: Env::new(),
        cwd: script.cwd,
        user: script.user,
        network: Some(script.network),
        insecure: false,
        mounts: Vec::new(),
        secrets: Vec::new(),
        agents: Vec::new(),
        hostname: None,
        devices: Vec::new(),
        scripts: vec![(script.name.clone(), script.text)],
    };
    limited(script.timeout, &script.name, worker, || {
        run(worker, draft, (&step, script.network), binds, &places, output)
    })
}

fn binds(shown: Vec<(String, Shown)>, kind: Kind) -> Result<Binds> {
    let by_hand = !kind.mounts();
    let mut binds = Binds::new(by_hand);
    for (target, what) in shown {
        if by_hand && !matches!(what, Shown::Memory) {
            return Err(Error::environment(format!("`{target}` cannot be shown to a command"))
                .cause("nothing can be mounted here")
                .hint("`nativebuild doctor` says which setting allows it"));
        }
        match what {
            Shown::Host(path) => binds.add_host(&target, &path)?,
            Shown::Tree(tree) => binds.add_tree(&target, &tree)?,
            Shown::Memory => binds.add_shared_tmpfs(&target),
        }
    }
    Ok(binds)
}

/// Ends what takes longer than its time.
fn limited(
    timeout: Option<u64>,
    name: &str,
    worker: &Worker,
    work: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let Some(seconds) = timeout else { return work() };
    let late = AtomicBool::new(false);
    let (done, waiting) = channel::<()>();
    let result = std::thread::scope(|scope| {
        let late = &late;
        scope.spawn(move || {
            let waited = waiting.recv_timeout(Duration::from_secs(seconds));
            if waited == Err(RecvTimeoutError::Timeout) {
                late.store(true, Ordering::SeqCst);
                worker.cancel.cancel(0);
            }
        });
        let result = work();
        drop(done);
        result
    });
    match result {
        Err(_) if late.load(Ordering::SeqCst) => Err(Error::new(
            ErrorKind::RunFailed(124),
            format!("`{name}` took longer than {seconds} seconds"),
        )
        .hint("`run.timeout` says how long commands may take")),
        other => other,
    }
}
