//! The ssh agent that a `RUN --mount=type=ssh` sees (dockerfile.md §1.8).
//!
//! In: a listening socket, and an [`AgentSource`], which is the socket of the user's agent or keys out of files. Out:
//! answers of the agent protocol. A RUN may list keys and have something signed; whatever else it asks for (adding,
//! removing and locking keys, extensions) is refused here and never reaches the user's agent. The protocol is that of
//! draft-miller-ssh-agent.

mod keys;
mod wire;

use crate::error::{Error, ErrorKind, Result, ResultExt};
use keys::Key;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::io::{self, PipeWriter, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use wire::{put_string, take_string, take_u32};

/// The longest message, as OpenSSH has it.
const MAX_MESSAGE: u32 = 256 << 10;
/// A key file is read this far.
const MAX_KEY: u64 = 64 << 10;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// Who answers for one id of `--ssh`.
#[derive(Clone, Debug)]
pub struct AgentSource {
    /// What a Dockerfile calls it.
    pub id: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Socket(PathBuf),
    Keys(Arc<Vec<Key>>),
}

impl AgentSource {
    /// The agent behind a socket.
    pub fn socket(id: impl Into<String>, path: PathBuf) -> Self {
        Self { id: id.into(), kind: Kind::Socket(path) }
    }

    /// An agent with the keys of these files.
    pub fn keys(id: impl Into<String>, files: &[PathBuf]) -> Result<Self> {
        let all = files.iter().map(|file| read_key(file)).collect::<Result<Vec<_>>>()?;
        Ok(Self { id: id.into(), kind: Kind::Keys(Arc::new(all)) })
    }

    /// Answers connections until the value that comes back is dropped.
    pub fn serve(&self, listener: UnixListener) -> Result<Serving> {
        let what = || "cannot serve an ssh agent".to_owned();
        let (stop, writer) = io::pipe().or_error(ErrorKind::Environment, what)?;
        listener.set_nonblocking(true).or_error(ErrorKind::Environment, what)?;
        let kind = self.kind.clone();
        let thread = std::thread::spawn(move || {
            loop {
                let mut fds =
                    [PollFd::new(&listener, PollFlags::IN), PollFd::new(&stop, PollFlags::IN)];
                match poll(&mut fds, None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(_) => return,
                }
                if !fds[1].revents().is_empty() {
                    return;
                }
                // Whoever has gone again meanwhile is no loss.
                let Ok((client, _)) = listener.accept() else { continue };
                let kind = kind.clone();
                // Its own thread: a client may wait for a user who has to touch a key.
                let _detached = std::thread::spawn(move || {
                    let _broken_off =
                        client.set_nonblocking(false).and_then(|()| answer_all(client, &kind));
                });
            }
        });
        Ok(Serving { stop: Some(writer), thread: Some(thread) })
    }
}

/// An agent at work.
#[derive(Debug)]
pub struct Serving {
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

fn read_key(file: &Path) -> Result<Key> {
    let shown = file.display();
    let mut text = String::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(MAX_KEY).read_to_string(&mut text))
        .or_error(ErrorKind::Usage, || format!("cannot read the ssh key `{shown}`"))?;
    keys::parse(&text).map_err(|why| {
        Error::usage(format!("`{shown}` is no ssh key that can be used here"))
            .cause(why)
            .hint("add it to an agent with `ssh-add`, and give the agent: `--ssh default`")
    })
}

/// One client's questions.
fn answer_all(mut client: UnixStream, kind: &Kind) -> io::Result<()> {
    let mut upstream = None;
    while let Some(question) = read_message(&mut client)? {
        let answer = match (question.first(), kind) {
            (Some(&(REQUEST_IDENTITIES | SIGN_REQUEST)), Kind::Socket(path)) => {
                ask(&mut upstream, path, &question)
            }
            (Some(&REQUEST_IDENTITIES), Kind::Keys(keys)) => identities(keys),
            (Some(&SIGN_REQUEST), Kind::Keys(keys)) => sign(keys, &question[1..]),
            _ => None,
        };
        write_message(&mut client, &answer.unwrap_or_else(|| vec![FAILURE]))?;
    }
    Ok(())
}

/// The answer of the user's own agent.
fn ask(upstream: &mut Option<UnixStream>, path: &Path, question: &[u8]) -> Option<Vec<u8>> {
    if upstream.is_none() {
        *upstream = UnixStream::connect(path).ok();
    }
    let agent = upstream.as_mut()?;
    write_message(agent, question).ok()?;
    read_message(agent).ok()?
}

fn identities(keys: &[Key]) -> Option<Vec<u8>> {
    let mut answer = vec![IDENTITIES_ANSWER];
    answer.extend(u32::try_from(keys.len()).ok()?.to_be_bytes());
    for key in keys {
        put_string(&mut answer, key.public());
        put_string(&mut answer, key.comment().as_bytes());
    }
    Some(answer)
}

fn sign(keys: &[Key], question: &[u8]) -> Option<Vec<u8>> {
    let (public, rest) = take_string(question)?;
    let (data, rest) = take_string(rest)?;
    let (flags, _) = take_u32(rest)?;
    let signature = keys.iter().find(|key| key.public() == public)?.sign(data, flags)?;
    let mut answer = vec![SIGN_RESPONSE];
    put_string(&mut answer, &signature);
    Some(answer)
}

/// `None` at the end of the connection.
fn read_message(stream: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        done => done?,
    }
    let length = u32::from_be_bytes(length);
    if length > MAX_MESSAGE {
        return Err(io::Error::other("a message that is too long"));
    }
    let mut message = vec![0; length as usize];
    stream.read_exact(&mut message)?;
    Ok(Some(message))
}

fn write_message(stream: &mut UnixStream, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    let mut all = length.to_be_bytes().to_vec();
    all.extend(message);
    stream.write_all(&all)
}

#[cfg(test)]
mod tests;
