//! A request: where to, what for, and what it sends along.

use crate::net::url::Url;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// What a request sends along.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::net) enum Payload<'a> {
    /// Nothing, as for `GET`.
    #[default]
    None,
    /// Bytes, also none at all: `Content-Length: 0`.
    Bytes(&'a [u8]),
    /// A part of a file.
    File(Part<'a>),
}

/// A part of a file, read without moving the file's own position.
#[derive(Clone, Copy)]
pub(in crate::net) struct Part<'a> {
    pub(in crate::net) file: &'a File,
    /// Where it begins.
    pub(in crate::net) at: u64,
    /// Bytes.
    pub(in crate::net) left: u64,
    /// True when nobody wants it to arrive any more.
    pub(in crate::net) stopped: &'a (dyn Fn() -> bool + Send + Sync),
}

impl fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes from {}", self.left, self.at)
    }
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if (self.stopped)() {
            return Err(io::Error::other("stopped"));
        }
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

/// A request.
#[derive(Clone, Debug)]
pub(in crate::net) struct Ask<'a> {
    /// Who is asked, for messages: ``registry `x` ``.
    pub(in crate::net) whom: &'a str,
    pub(in crate::net) method: &'static str,
    pub(in crate::net) url: Url,
    /// Values of Accept.
    pub(in crate::net) accept: &'a [&'a str],
    /// Further headers.
    pub(in crate::net) headers: &'a [(&'a str, &'a str)],
    /// Bytes of the answer's body that are here already.
    pub(in crate::net) from: u64,
    pub(in crate::net) payload: Payload<'a>,
    /// Value of Authorization, for the origin of `url` only.
    pub(in crate::net) authorization: Option<&'a str>,
    /// Where plain http is fine.
    pub(in crate::net) plain: Plain,
}

impl<'a> Ask<'a> {
    /// A `GET` as anybody may send it.
    pub(in crate::net) fn get(whom: &'a str, url: Url, plain: Plain) -> Self {
        Self {
            whom,
            method: "GET",
            url,
            accept: &[],
            headers: &[],
            from: 0,
            payload: Payload::None,
            authorization: None,
            plain,
        }
    }
}

/// Where a request may go by plain http.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) enum Plain {
    /// Nowhere.
    Never,
    /// To this machine: the registry behind the request is here.
    Loopback,
    /// To the host of the request: the user named it with `http://`.
    Origin,
    /// To the host of the request, which need not show a certificate that is trusted either: the user said so.
    Unverified,
    /// Wherever it leads: the user named a file, not a registry.
    Anywhere,
}

impl Plain {
    /// The same for another host that an answer names.
    pub(in crate::net) fn elsewhere(self) -> Self {
        match self {
            Self::Never | Self::Origin | Self::Unverified => Self::Never,
            Self::Loopback | Self::Anywhere => self,
        }
    }
}
