//! User-mode networking: a network namespace for all RUNs of a build, and the program that connects it.
//!
//! One process holds the namespace, one program (slirp4netns or pasta) carries its packets by ordinary sockets of the
//! user. Both are children of the spawner and end with it. The addresses at which clouds tell who a machine is are
//! unreachable in there, and so is what listens on the host's loopback interface.

use super::refusal::Refusal;
use crate::sys::fork::{self, Cloned};
use crate::sys::{Named, SysError, SysResult, fs, netlink, process, signals};
use nix::sched::CloneFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::fs::File;
use std::io::{PipeReader, Read, Seek, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Name server inside.
pub const NAME_SERVER: &str = "10.0.2.3";

/// What connects a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connector {
    /// Its file.
    #[serde(with = "super::path_bytes")]
    pub program: PathBuf,
    /// Which of the two it is.
    pub kind: Kind,
}

/// The programs that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Ready after some ten milliseconds.
    Slirp4netns,
    /// Ready after some hundred.
    Pasta,
}

impl Kind {
    /// Name of the program.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Slirp4netns => "slirp4netns",
            Self::Pasta => "pasta",
        }
    }
}

/// Looks for a program in directories; why there is none otherwise.
pub fn find(path: &[PathBuf]) -> Result<Connector, String> {
    if let Err(error) = fs::open_read_path(Path::new("/dev/net/tun")) {
        return Err(format!("no /dev/net/tun: {}", std::io::Error::from(error.errno).kind()));
    }
    for kind in [Kind::Slirp4netns, Kind::Pasta] {
        let candidates = path.iter().map(|dir| dir.join(kind.as_str()));
        let mut there =
            candidates.filter(|file| rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok());
        if let Some(program) = there.next() {
            return Ok(Connector { program, kind });
        }
    }
    Err("neither slirp4netns nor pasta".to_owned())
}

/// The processes of a network.
#[derive(Debug)]
pub struct Network {
    /// Its namespace is the network's.
    pub holder: i32,
    /// Carries the packets.
    pub connector: i32,
    /// Closed when the network is to end.
    _alive: OwnedFd,
}

/// Longest time, in seconds, that a connector may take until it is ready.
const PATIENCE: i64 = 20;

/// Makes a network. In the spawner.
pub fn start(connector: &Connector) -> Result<Network, Refusal> {
    let holder = hold()?;
    let connected = connect(connector, holder);
    if connected.is_err() {
        process::kill(holder, libc::SIGKILL);
        let _reaped = process::wait(holder, true);
    }
    let (connector, alive) = connected?;
    Ok(Network { holder, connector, _alive: alive })
}

/// Addresses at which clouds, and the nodes of clusters, answer about themselves.
const HIDDEN: [(IpAddr, u8); 4] = [
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)), 32),
    (IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)), 32),
    (IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)), 128),
];

/// A process in a network namespace of its own.
fn hold() -> Result<i32, Refusal> {
    let doing = "making a network";
    let refused = |error: SysError| Refusal::new(doing, &error);
    let (reader, writer) = pipe().map_err(refused)?;
    match fork::clone_into(CloneFlags::CLONE_NEWNET).map_err(refused)? {
        Cloned::Child => {
            drop(reader);
            let made = in_namespace().map_err(refused);
            let mut writer = writer;
            let _reader_gone = writer.write_all(&serde_json::to_vec(&made).unwrap_or_default());
            drop(writer);
            if made.is_ok() {
                // Whoever waits for the end of something that the spawner has open must not wait for us.
                process::close_from(3);
                process::wait_for_the_end();
            }
            process::exit_now(1)
        }
        Cloned::Parent { pid, .. } => {
            drop(writer);
            let said: Result<Result<(), Refusal>, _> = serde_json::from_reader(reader);
            let silent = || Refusal::said(doing, "no answer");
            let made = said.unwrap_or_else(|_| Err(silent()));
            if made.is_err() {
                let _reaped = process::wait(pid, true);
            }
            made.map(|()| pid)
        }
    }
}

fn in_namespace() -> SysResult<()> {
    process::die_with_parent()?;
    process::loopback_up()?;
    for (address, bits) in HIDDEN {
        match netlink::refuse(address, bits) {
            // A kernel without IPv6 needs no such route.
            Err(error) if address.is_ipv6() => drop(error),
            other => other?,
        }
    }
    Ok(())
}

/// Starts the connector and waits until it says that it is ready.
fn connect(connector: &Connector, holder: i32) -> Result<(i32, OwnedFd), Refusal> {
    let doing = format!("starting {}", connector.program.display());
    let refused = |error: SysError| Refusal::new(doing.clone(), &error);
    let (ready, ready_end) = pipe().map_err(refused)?;
    let (alive_end, alive) = pipe().map_err(refused)?;
    let said = rustix::fs::memfd_create("connector", rustix::fs::MemfdFlags::CLOEXEC)
        .named(|| "memfd_create()".to_owned())
        .map_err(refused)?;
    let Some(pid) = fork::fork().map_err(refused)? else {
        drop((ready, alive));
        let errno = become_connector(connector, holder, &said, ready_end.into(), alive_end.into());
        process::exit_now(errno.map_or(126, |errno| errno.raw_os_error().clamp(1, 125)))
    };
    drop((ready_end, alive_end));
    if wait_until_ready(ready) {
        return Ok((pid, alive.into()));
    }
    process::kill(pid, libc::SIGKILL);
    let _reaped = process::wait(pid, true);
    let mut text = String::new();
    let mut said = File::from(said);
    let _empty = said.rewind().and_then(|()| said.read_to_string(&mut text));
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    Err(Refusal::said(doing, last.unwrap_or("it ended without a word")))
}

fn wait_until_ready(mut ready: PipeReader) -> bool {
    let patience = Timespec { tv_sec: PATIENCE, tv_nsec: 0 };
    let answered = poll(&mut [PollFd::new(&ready, PollFlags::IN)], Some(&patience));
    let mut byte = [0_u8; 1];
    matches!(answered, Ok(1)) && matches!(ready.read(&mut byte), Ok(1))
}

/// Standard streams, then 3 to write to when ready, 4, which ends when the spawner does, and 5, the namespace.
fn become_connector(
    connector: &Connector,
    holder: i32,
    said: &OwnedFd,
    ready: OwnedFd,
    alive: OwnedFd,
) -> Option<Errno> {
    process::die_with_parent().ok()?;
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty()).ok()?;
    // Out of the way of the numbers that they are to get.
    let ready = rustix::io::fcntl_dupfd_cloexec(&ready, 10).ok()?;
    let alive = rustix::io::fcntl_dupfd_cloexec(&alive, 10).ok()?;
    // By descriptor: pasta gives up what it needs to look into the holder's /proc before it opens the namespace.
    let namespace = format!("/proc/{holder}/ns/net");
    let namespace = fs::open_read_path(Path::new(&namespace)).ok()?;
    let namespace = rustix::io::fcntl_dupfd_cloexec(&namespace, 10).ok()?;
    let places = [(&null, 0), (&null, 1), (said, 2), (&ready, 3), (&alive, 4), (&namespace, 5)];
    for (fd, number) in places {
        process::place_fd(fd, number).ok()?;
    }
    process::close_on_exec_from(6).ok()?;
    signals::reset_signals();
    let namespace = "/proc/self/fd/5";
    let words: &[&str] = match connector.kind {
        Kind::Slirp4netns => &[
            "--configure",
            "--mtu=65520",
            "--disable-host-loopback",
            "--enable-ipv6",
            "--ready-fd=3",
            "--exit-fd=4",
            "--netns-type=path",
            namespace,
            "tap0",
        ],
        Kind::Pasta => &[
            "--runas",
            "0:0",
            "--config-net",
            "--foreground",
            "--quiet",
            "--no-map-gw",
            "--tcp-ports",
            "none",
            "--udp-ports",
            "none",
            "--tcp-ns",
            "none",
            "--udp-ns",
            "none",
            "--dns-forward",
            NAME_SERVER,
            "--pid",
            "/proc/self/fd/3",
            "--netns-only",
            "--netns",
            namespace,
        ],
    };
    let text = |word: &[u8]| CString::new(word).unwrap_or_default();
    let program = text(connector.program.as_os_str().as_bytes());
    let mut argv = vec![program.clone()];
    argv.extend(words.iter().map(|word| text(word.as_bytes())));
    Some(process::exec(&program, &argv, &[]))
}

fn pipe() -> SysResult<(PipeReader, std::io::PipeWriter)> {
    std::io::pipe()
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
        .named(|| "pipe()".to_owned())
}
