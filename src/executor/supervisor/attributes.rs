//! Extended attributes: the records are not there for the RUN.

use super::caller::{self, CWD, Target};
use super::{Answer, Supervisor};
use crate::sys::notify::{Call, Reply, read_string, write};
use rustix::fs as rfs;
use rustix::io::Errno;
use std::os::fd::AsRawFd;

/// What all records begin with.
const OWN: &[u8] = b"user.nativebuild.";
/// Longest name of an attribute, with its NUL.
const MAX_NAME: usize = 256;
/// Most bytes of a list of names.
const MAX_LIST: usize = 65536;

impl Supervisor {
    pub(super) fn attributes(&mut self, call: &Call, name: &str) -> Answer {
        if name.contains("list") {
            return self.list(call, name);
        }
        let Ok(key) = read_string(call.tid, call.arguments[1], MAX_NAME) else {
            return Ok(Reply::Continue);
        };
        if !key.starts_with(OWN) {
            return Ok(Reply::Continue);
        }
        Err(if name.contains("set") { Errno::PERM } else { Errno::NODATA })
    }

    fn list(&mut self, call: &Call, name: &str) -> Answer {
        let target = match name {
            "flistxattr" => Target::of_fd(call.arguments[0]),
            _ => Target { dir: CWD, path: caller::path(call, 0)?, follow: name == "listxattr" },
        };
        if name != "flistxattr" && target.path.is_empty() {
            return Ok(Reply::Continue);
        }
        let Ok(file) = self.resolve(call, &target) else { return Ok(Reply::Continue) };
        let mut list = vec![0_u8; MAX_LIST];
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let Ok(len) = rfs::listxattr(path, &mut list[..]) else { return Ok(Reply::Continue) };
        list.truncate(len);
        let shown = visible(&list);
        if shown.len() == list.len() {
            return Ok(Reply::Continue);
        }
        let room = call.arguments[2];
        if room != 0 {
            if (shown.len() as u64) > room {
                return Err(Errno::RANGE);
            }
            write(call.tid, call.arguments[1], &shown)?;
        }
        Ok(Reply::Value(shown.len() as i64))
    }
}

/// A list of names without the records.
fn visible(list: &[u8]) -> Vec<u8> {
    let names = list.split_inclusive(|byte| *byte == 0);
    names.filter(|name| !name.starts_with(OWN)).flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_hidden() {
        assert_eq!(
            visible(b"user.a\0user.nativebuild.owner\0security.b\0"),
            b"user.a\0security.b\0"
        );
        assert_eq!(visible(b"user.nativebuild.node\0"), b"");
        assert_eq!(visible(b""), b"");
    }
}
