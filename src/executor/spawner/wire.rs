//! How requests travel: one byte and descriptors over a seqpacket socket, and what is longer as JSON in a memfd.

use crate::sys::{Named, SysError, SysResult};
use rustix::io::Errno;
use rustix::net::{self as rnet, RecvAncillaryBuffer, SendAncillaryBuffer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Most descriptors in one request (the kernel's SCM_MAX_FD is 253).
const MAX_FDS: usize = 250;

/// Sends a request.
pub(super) fn send(socket: &OwnedFd, kind: u8, list: &[BorrowedFd<'_>]) -> SysResult<()> {
    if list.len() > MAX_FDS {
        return Err(Errno::TOOBIG).named(|| format!("sendmsg({} descriptors)", list.len()));
    }
    let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(250))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(rnet::SendAncillaryMessage::ScmRights(list));
    rnet::sendmsg(socket, &[IoSlice::new(&[kind])], &mut control, rnet::SendFlags::NOSIGNAL)
        .named(|| "sendmsg(spawner)".to_owned())
        .map(drop)
}

/// The kind of the next request and its descriptors; `None` when the other side is gone.
pub(super) fn receive(socket: &OwnedFd) -> Option<(u8, Vec<OwnedFd>)> {
    let mut byte = [0_u8; 1];
    let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(250))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = rnet::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        rnet::RecvFlags::CMSG_CLOEXEC,
    );
    match got {
        Ok(message) if message.bytes == 0 => None,
        Ok(_) => Some((
            byte[0],
            control
                .drain()
                .filter_map(|message| match message {
                    rnet::RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                    _ => None,
                })
                .flatten()
                .collect(),
        )),
        Err(Errno::INTR) => Some((0, Vec::new())),
        Err(_) => None,
    }
}

/// A value as JSON in memory that travels as a descriptor.
pub(super) fn memory_file(value: &impl Serialize) -> SysResult<File> {
    let fd = rustix::fs::memfd_create("run-spec", rustix::fs::MemfdFlags::CLOEXEC)
        .named(|| "memfd_create()".to_owned())?;
    let mut file = File::from(fd);
    let not_sent = |_| SysError { call: "writing a message".to_owned(), errno: Errno::INVAL };
    let text = serde_json::to_vec(value).map_err(not_sent)?;
    file.write_all(&text)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
        .named(|| "write(memfd)".to_owned())?;
    Ok(file)
}

/// The value again, wherever somebody else reads in the same memory.
pub fn read_memory<T: DeserializeOwned>(memory: impl AsFd) -> Option<T> {
    let memory = memory.as_fd();
    let size = rustix::fs::fstat(memory).ok()?.st_size;
    let mut text = vec![0; usize::try_from(size).ok()?];
    let mut filled = 0;
    while filled < text.len() {
        match rustix::io::pread(memory, &mut text[filled..], filled as u64) {
            Ok(0) => return None,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
    serde_json::from_slice(&text).ok()
}
