//! Secrets and ssh agents of one RUN: files and sockets that exist in memory only, while the RUN is there.
//!
//! They lie in a tmpfs that is attached in our own mount namespace, so nothing of them is ever on a disk, and nothing is
//! left when this process dies (dockerfile.md §1.8). Where nothing can be mounted they lie in the store for as long as
//! the RUN is there; the spawner removes them when this process is killed.

use super::request::BuildRequest;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::executor::Bequest;
use crate::executor::spawner::{Spawner, Will};
use crate::net::Serving;
use crate::plan::step::{RunAgent, RunSecret, RunStep};
use crate::sys::mount::{self, MountFlags};
use crate::sys::{SysResultExt, fs};
use rustix::fs::CWD;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Variable that names the agent's socket.
const SSH_AUTH_SOCK: &str = "SSH_AUTH_SOCK";

/// Where the content of a target is.
#[derive(Debug)]
pub(super) enum Placed {
    /// A mount.
    Mount(OwnedFd),
    /// A file that is moved into the tree.
    File(PathBuf),
}

/// What a RUN gets besides its mounts.
#[derive(Debug, Default)]
pub(super) struct Private {
    /// Targets with what is mounted there.
    pub(super) files: Vec<(String, Placed)>,
    /// Variables that win over those of the stage.
    pub(super) env: Vec<(String, String)>,
    /// Answer as long as they are held.
    _agents: Vec<Serving>,
    _memory: Option<Memory>,
}

impl Private {
    /// Prepares what a step asks for. What is not there and not required is left out.
    /// `by_hand`: nothing can be mounted, and this one outlives us.
    pub(super) fn of(
        step: &RunStep,
        request: &BuildRequest,
        tmp: &Path,
        by_hand: Option<&Spawner>,
    ) -> Result<Self> {
        let mut private = Self::default();
        let (mut files, mut agents) = (Vec::new(), Vec::new());
        for secret in &step.secrets {
            let Some(content) = content(secret, request)? else { continue };
            if let Some(name) = &secret.env {
                private.env.push((name.clone(), text(secret, content)?));
            }
            files.extend(secret.target.as_ref().map(|target| (target, secret, content)));
        }
        for agent in &step.agents {
            match request.agents.iter().rev().find(|source| source.id == agent.id) {
                Some(source) => agents.push((agent, source)),
                None if agent.required => return Err(no_agent(agent)),
                None => {}
            }
        }
        if files.is_empty() && agents.is_empty() {
            return Ok(private);
        }
        let memory = Memory::new(tmp, by_hand, files.len())?;
        for (at, (target, secret, content)) in files.into_iter().enumerate() {
            let name = format!("secret-{at}");
            memory.file(&name, content)?;
            memory.own(&name, secret.owner)?;
            private.files.push((target.clone(), memory.take(&name, true)?));
        }
        let mut serving = Vec::new();
        for (at, (agent, source)) in agents.into_iter().enumerate() {
            let name = format!("agent-{at}");
            serving.push(source.serve(memory.socket(&name)?)?);
            memory.own(&name, agent.owner)?;
            if at == 0 && !step.env.iter().any(|(name, _)| name == SSH_AUTH_SOCK) {
                private.env.push((SSH_AUTH_SOCK.to_owned(), agent.target.clone()));
            }
            private.files.push((agent.target.clone(), memory.take(&name, false)?));
        }
        Ok(Self { _agents: serving, _memory: Some(memory), ..private })
    }
}

fn content<'a>(secret: &RunSecret, request: &'a BuildRequest) -> Result<Option<&'a [u8]>> {
    match request.secrets.iter().rev().find(|source| source.id == secret.id) {
        Some(source) => Ok(Some(&source.content)),
        None if secret.required => {
            let id = &secret.id;
            Err(Error::new(ErrorKind::Usage, format!("secret {id}: not found")).hint(format!(
                "give it with `--secret id={id},src=FILE` or `--secret id={id},env=NAME`"
            )))
        }
        None => Ok(None),
    }
}

fn no_agent(agent: &RunAgent) -> Error {
    let id = &agent.id;
    let given = if id == "default" { id.clone() } else { format!("{id}=$SSH_AUTH_SOCK") };
    Error::new(ErrorKind::Usage, format!("ssh agent {id}: not found"))
        .hint(format!("give it with `--ssh {given}`"))
}

/// A variable holds text without NUL bytes.
fn text(secret: &RunSecret, content: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(content).ok().filter(|text| !text.contains('\0'));
    text.map(str::to_owned).ok_or_else(|| {
        let message = format!("secret {} cannot be a variable: it is not text", secret.id);
        Error::new(ErrorKind::Usage, message).hint("mount it as a file: `target=PATH`")
    })
}

/// A small file system in memory.
#[derive(Debug)]
struct Memory {
    dir: tempfile::TempDir,
    root: OwnedFd,
    /// An ordinary directory of the store.
    by_hand: bool,
    /// Removes what we leave there when we are killed.
    _will: Option<Will>,
}

/// Enough for all secrets of a RUN.
const SIZE: &str = "64m";
const WHAT: &str = "cannot keep secrets in memory";

impl Memory {
    fn new(tmp: &Path, by_hand: Option<&Spawner>, count: usize) -> Result<Self> {
        let what = || WHAT.to_owned();
        let dir = tempfile::Builder::new()
            .prefix("secret-")
            .tempdir_in(tmp)
            .or_error(ErrorKind::Environment, what)?;
        if let Some(spawner) = by_hand {
            let root = fs::open_dir_path(dir.path()).or_error(ErrorKind::Environment, what)?;
            let file = |at: usize| Bequest { path: format!("secret-{at}"), home: None };
            let files: Vec<Bequest> = (0..count).map(file).collect();
            let will = spawner.bequeath(root.as_fd(), &files);
            let will = will.or_error(ErrorKind::Environment, what)?;
            return Ok(Self { dir, root, by_hand: true, _will: Some(will) });
        }
        let flags = MountFlags { nosuid: true, nodev: true, noexec: true, read_only: false };
        let made = mount::new_mount("tmpfs", &[("mode", "700"), ("size", SIZE)], flags)
            .or_error(ErrorKind::Environment, what)?;
        let path = dir.path().as_os_str().as_bytes();
        mount::attach(&made, CWD, path).or_error(ErrorKind::Environment, what)?;
        let root = fs::open_dir_path(dir.path()).or_error(ErrorKind::Environment, what);
        match root {
            Ok(root) => Ok(Self { dir, root, by_hand: false, _will: None }),
            Err(error) => {
                mount::detach(dir.path());
                Err(error)
            }
        }
    }

    fn file(&self, name: &str, content: &[u8]) -> Result<()> {
        let made = fs::create_new(&self.root, name.as_bytes(), 0o600);
        let mut file = made.or_error(ErrorKind::Environment, || WHAT.to_owned())?;
        file.write_all(content).or_error(ErrorKind::Environment, || WHAT.to_owned())
    }

    /// By a short name: the address of a socket holds only about a hundred bytes.
    fn socket(&self, name: &str) -> Result<UnixListener> {
        let path = format!("/proc/self/fd/{}/{name}", self.root.as_raw_fd());
        UnixListener::bind(path)
            .or_error(ErrorKind::Environment, || "cannot make a socket".to_owned())
    }

    fn own(&self, name: &str, (uid, gid, mode): (u32, u32, u32)) -> Result<()> {
        let what = || format!("cannot give a secret to {uid}:{gid}");
        fs::chmod(&self.root, name.as_bytes(), mode).or_error(ErrorKind::Environment, what)?;
        fs::lchown(&self.root, name.as_bytes(), uid, gid).or_error(ErrorKind::Environment, what)
    }

    /// The mount of one file.
    fn take(&self, name: &str, read_only: bool) -> Result<Placed> {
        let what = || WHAT.to_owned();
        if self.by_hand {
            return Ok(Placed::File(self.dir.path().join(name)));
        }
        let clone = mount::clone_tree(self.root.as_fd(), name.as_bytes(), false)
            .or_error(ErrorKind::Environment, what)?;
        let flags = MountFlags { read_only, nosuid: true, nodev: true, noexec: true };
        mount::set_flags(&clone, flags, false).or_error(ErrorKind::Environment, what)?;
        Ok(Placed::Mount(clone))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if !self.by_hand {
            // In this namespace; in copies of it, which a spare has, it goes when the directory below it is removed next.
            mount::detach(self.dir.path());
        }
    }
}
