//! HTTP over a Unix socket: what `ureq` needs to speak to a path instead of to a host.
//!
//! In: the path of a socket; out: an [`Agent`] whose every request opens a connection of its own to it. The name in
//! the address of a request is only sent as Host and never looked up. Waiting ends at the time limits of the agent, or
//! when the descriptor to watch says so. A peer that stops reading is no failure of sending: what it answered before
//! it closed says more than a broken pipe does.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{Timeout as Direction, set_socket_timeout};
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
};
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};
use ureq::{Agent, Error, Timeout};

/// The way to a socket.
#[derive(Clone, Debug)]
pub(super) struct UnixSocket {
    path: PathBuf,
    stop: Option<Arc<OwnedFd>>,
    deaf: Arc<AtomicBool>,
}

impl UnixSocket {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), stop: None, deaf: Arc::default() }
    }

    /// Gives up as soon as `stop` can be read or is closed on the other side.
    pub(super) fn stopped_by(self, stop: Option<OwnedFd>) -> Self {
        Self { stop: stop.map(Arc::new), ..self }
    }

    /// Becomes true when the peer takes no more bytes: the rest of a body need not be made.
    pub(super) fn deaf(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.deaf)
    }

    /// A client for this socket.
    pub(super) fn agent(self, config: Config) -> Agent {
        Agent::with_parts(config, self, NoNames)
    }

    fn open(&self, limit: NextTimeout) -> Result<UnixStream, Errno> {
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // On a Unix socket this limits `connect` too, which waits while the listener's queue is full.
        set_socket_timeout(&socket, Direction::Send, limit.not_zero().map(|limit| *limit))?;
        let address = SocketAddrUnix::new(&*self.path)?;
        retry_on_intr(|| connect(&socket, &address))?;
        Ok(socket.into())
    }
}

impl Connector for UnixSocket {
    type Out = Connection;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _chained: Option<()>,
    ) -> Result<Option<Connection>, Error> {
        let stream = self.open(details.timeout).map_err(|errno| match errno {
            Errno::AGAIN => Error::Timeout(Timeout::Connect),
            errno => Error::Io(errno.into()),
        })?;
        let config = details.config;
        Ok(Some(Connection {
            stream,
            stop: self.stop.clone(),
            deaf: self.deaf(),
            buffers: LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size()),
        }))
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    stop: Option<Arc<OwnedFd>>,
    deaf: Arc<AtomicBool>,
    buffers: LazyBuffers,
}

impl Connection {
    /// Waits until the socket is ready.
    fn wait(&self, ready: PollFlags, limit: NextTimeout) -> Result<(), Error> {
        let time = limit.not_zero().map(|limit| Timespec::try_from(*limit).unwrap_or(LONGEST));
        let mut watched = vec![PollFd::new(&self.stream, ready)];
        watched.extend(self.stop.iter().map(|stop| PollFd::new(stop, PollFlags::IN)));
        match retry_on_intr(|| poll(&mut watched, time.as_ref())) {
            Ok(0) => Err(Error::Timeout(limit.reason)),
            // Not `Interrupted`: readers would try that again.
            Ok(_) if watched.iter().skip(1).any(|stop| !stop.revents().is_empty()) => {
                Err(io::Error::other("stopped").into())
            }
            Ok(_) => Ok(()),
            Err(errno) => Err(Error::Io(errno.into())),
        }
    }
}

/// For a limit that no clock can hold.
const LONGEST: Timespec = Timespec { tv_sec: i32::MAX as i64, tv_nsec: 0 };

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let limit = timeout.for_write();
        let mut sent = 0;
        while sent < amount && !self.deaf.load(Ordering::SeqCst) {
            self.wait(PollFlags::OUT, limit)?;
            let rest = &self.buffers.output()[sent..amount];
            match send(&self.stream, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => sent += count,
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => self.deaf.store(true, Ordering::SeqCst),
                Err(errno) => return Err(Error::Io(errno.into())),
            }
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.wait(PollFlags::IN, timeout.for_read())?;
        let mut stream = &self.stream;
        let count = stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    /// Never used twice.
    fn is_open(&mut self) -> bool {
        false
    }
}

/// A path needs no address; `ureq` wants to see one all the same.
#[derive(Debug)]
struct NoNames;

impl Resolver for NoNames {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let mut addresses = self.empty();
        addresses.push(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        Ok(addresses)
    }
}
