//! Networks of RUNs without a network, kept for the next such RUN: making one takes longer than anything else that a
//! RUN needs, and its end keeps the kernel busy in the background.
//!
//! A network is used again when every process in it is dead and nothing ever went through its loopback interface: then no
//! connection can linger in it, and no counter tells of the RUN before. Without `CAP_NET_ADMIN`, which a RUN has only
//! with `--security=insecure`, nothing else of it can be changed.

use crate::sys::fs;
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::path::Path;

/// A network namespace with a loopback interface.
pub(super) struct Loopback {
    namespace: OwnedFd,
    /// Counters of its interfaces.
    devices: std::fs::File,
}

impl Loopback {
    /// That of a process which has just been made in one; `None` where /proc does not show it.
    pub(super) fn of(pid: i32) -> Option<Self> {
        let open = |name: &str| fs::open_read_path(Path::new(&format!("/proc/{pid}/{name}"))).ok();
        let devices = open("net/dev")?;
        Some(Self { namespace: open("ns/net")?.into(), devices })
    }

    pub(super) fn into_namespace(self) -> OwnedFd {
        self.namespace
    }

    /// The network itself unless something was ever sent in it. The RUN is over.
    pub(super) fn if_untouched(mut self) -> Option<Self> {
        let mut text = String::new();
        let read = self.devices.rewind().and_then(|()| self.devices.read_to_string(&mut text));
        (read.is_ok() && counts_nothing(&text)).then_some(self)
    }
}

/// Of the text of /proc/net/dev: two lines of headings, then a line for each interface.
fn counts_nothing(text: &str) -> bool {
    let mut lines = text.lines().skip(2).peekable();
    let is_zero = |line: &str| {
        let counters = line.split_once(':').map(|(_, counters)| counters.split_whitespace());
        counters.is_some_and(|mut counters| counters.all(|counter| counter == "0"))
    };
    lines.peek().is_some() && lines.all(is_zero)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_packet_is_too_many_and_no_interface_is_no_answer() {
        let heading = "Inter-|   Receive  |  Transmit\n face |bytes packets|bytes packets\n";
        for (lines, expected) in [
            ("    lo:       0       0    0    0\n", true),
            ("    lo:       0       0    0    0\n  sit0: 0 0 0 0\n", true),
            ("    lo:     196       2  196    2\n", false),
            ("    lo:       0       0    0    0\n  sit0: 0 0 0 1\n", false),
            ("", false),
            ("nonsense\n", false),
        ] {
            assert_eq!(counts_nothing(&format!("{heading}{lines}")), expected, "{lines}");
        }
    }
}
