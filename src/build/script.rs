//! A command in a tree that is no stage of a Dockerfile, for what makes images otherwise.
//!
//! In: a draft and a [`Script`]; out: what the command left in the draft. It runs exactly as a RUN does.

use super::echo::Echo;
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
use std::cell::RefCell;
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

/// A command that failed.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub error: Error,
    /// The last line of its text that the shell had read, from 1, where that is known.
    pub line: Option<usize>,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, line: None }
    }
}

/// Runs it to its end.
pub fn run_script(
    store: &Store,
    worker: &Worker,
    draft: &Draft<'_>,
    script: Script,
    output: &mut dyn FnMut(bool, &[u8]),
) -> Result<(), Failed> {
    if let Some(error) = &worker.isolation.no_commands {
        return Err(error.clone().into());
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
    let echo = Echo::of(&script.shell, &script.text).map(RefCell::new);
    let mut argv = script.shell;
    argv.extend(echo.is_some().then(|| "-v".to_owned()));
    argv.push(format!("/dev/pipes/{}", script.name));
    let places = RunPlaces {
        tmp: &tmp,
        logs: &store.sub("logs"),
        staging: &staging,
        machine: &script.machine,
        way: &way,
        echo: echo.as_ref(),
        settings: &RunSettings::default(),
        another_follows: false,
    };
    let binds = binds(script.shown, kind)?;
    let step = RunStep {
        argv,
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
        // Without the end of its last line that line could not be told apart.
        scripts: vec![(script.name.clone(), script.text.trim_end_matches('\n').to_owned() + "\n")],
    };
    let done = limited(script.timeout, &script.name, worker, || {
        run(worker, draft, (&step, script.network), binds, &places, output).map(drop)
    });
    let line = echo.as_ref().and_then(|echo| echo.borrow().line());
    done.map_err(|error| Failed { error, line })
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
