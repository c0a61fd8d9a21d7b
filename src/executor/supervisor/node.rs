//! Device nodes: empty files that record which node they stand for.
//!
//! The value of the record is `c` or `b`, then `:major:minor:mode`, the mode in octal.

use super::caller::{self, CWD, Target};
use super::threads::Status;
use super::{Answer, Supervisor};
use crate::sys::fs::{self, Kind, Stat};
use crate::sys::notify::{Call, Reply};
use rustix::fs as rfs;
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Mask and values of the file type in a mode.
const TYPE: u32 = 0o170_000;
const CHARACTER: u32 = 0o020_000;
const BLOCK: u32 = 0o060_000;

/// What a placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Device {
    block: bool,
    major: u32,
    minor: u32,
    mode: u32,
}

impl Device {
    fn value(self) -> String {
        let kind = if self.block { 'b' } else { 'c' };
        format!("{kind}:{}:{}:{:o}", self.major, self.minor, self.mode)
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(value).ok()?.split(':');
        let block = match parts.next()? {
            "b" => true,
            "c" => false,
            _ => return None,
        };
        let (major, minor) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let mode = u32::from_str_radix(parts.next()?, 8).ok()?;
        let device = Self { block, major, minor, mode };
        (mode <= 0o7777 && device.value().as_bytes() == value).then_some(device)
    }

    /// Type and permissions, major and minor number, as `stat` shows them.
    pub(super) fn shown(self) -> (u32, u32, u32) {
        let kind = if self.block { BLOCK } else { CHARACTER };
        (kind | self.mode, self.major, self.minor)
    }
}

/// The numbers in the device argument of `mknod`.
fn numbers(device: u64) -> (u32, u32) {
    let device = device as u32;
    ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xf_ff00))
}

impl Supervisor {
    /// What an open file stands for.
    pub(super) fn device(&self, file: &OwnedFd, stat: &Stat) -> Option<Device> {
        if stat.kind != Kind::File || stat.size != 0 {
            return None;
        }
        let mut value = [0_u8; 64];
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let len = rfs::getxattr(path, self.duty.placeholder.as_str(), &mut value[..]).ok()?;
        Device::parse(&value[..len])
    }

    fn record_device(&mut self, file: &OwnedFd, device: Device) -> Result<(), Errno> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let value = device.value();
        let flags = rfs::XattrFlags::empty();
        if let Ok(stat) = fs::fstat(file) {
            self.seen.remove(&(stat.dev, stat.ino));
        }
        rfs::setxattr(path, self.duty.placeholder.as_str(), value.as_bytes(), flags)
    }

    pub(super) fn mknod(&mut self, call: &Call, name: &str) -> Answer {
        let at = usize::from(name == "mknodat");
        let dir = if at == 1 { call.arguments[0] as i32 } else { CWD };
        let (mode, device) = (call.arguments[at + 1] as u32, call.arguments[at + 2]);
        let block = match mode & TYPE {
            BLOCK => true,
            CHARACTER => false,
            _ => return self.make_node(call, dir, at, mode),
        };
        let (major, minor) = numbers(device);
        if (block, major, minor) == (false, 0, 0) {
            // Overlayfs's mark of a deletion.
            return Err(Errno::PERM);
        }
        let status = Status::read(call.tid)?;
        let root =
            if self.keeps_ids() { self.threads.get(call.tid).is_root() } else { status.euid == 0 };
        if !root {
            return Err(Errno::PERM);
        }
        let spot = self.spot(call, dir, &caller::path(call, at)?)?;
        let file = fs::create_new(&spot.dir, &spot.name, 0o600).map_err(|error| error.errno)?;
        let file = OwnedFd::from(file);
        let device = Device { block, major, minor, mode: mode & 0o7777 & !status.umask };
        let made = fs::fchmod(&file, 0o600)
            .map_err(|error| error.errno)
            .and_then(|()| self.record_device(&file, device))
            .and_then(|()| self.own_new(call, &spot.dir, file.as_fd()));
        if let Err(errno) = made {
            let _left = fs::unlink(&spot.dir, &spot.name);
            // A file system without such attributes, which is not the RUN's own.
            return Err(if errno == Errno::OPNOTSUPP { Errno::PERM } else { errno });
        }
        Ok(Reply::Value(0))
    }

    /// The mode of a placeholder is in its record.
    pub(super) fn chmod(&mut self, call: &Call, name: &str) -> Answer {
        let flags = call.arguments[3] as i32;
        let (target, mode) = match name {
            "fchmod" => (Target::of_fd(call.arguments[0]), call.arguments[1]),
            "chmod" => {
                let path = caller::path(call, 0)?;
                (Target { dir: CWD, path, follow: true }, call.arguments[1])
            }
            _ => {
                let newer = name == "fchmodat2";
                let follow = !newer || flags & libc::AT_SYMLINK_NOFOLLOW == 0;
                let path = caller::path(call, 1)?;
                if path.is_empty() && (!newer || flags & libc::AT_EMPTY_PATH == 0) {
                    return Ok(Reply::Continue);
                }
                (Target { dir: call.arguments[0] as i32, path, follow }, call.arguments[2])
            }
        };
        let Ok(file) = self.resolve(call, &target) else { return Ok(Reply::Continue) };
        let stat = fs::fstat(&file).map_err(|error| error.errno)?;
        let Some(device) = self.device(&file, &stat) else { return Ok(Reply::Continue) };
        self.record_device(&file, Device { mode: mode as u32 & 0o7777, ..device })?;
        Ok(Reply::Value(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_taken_apart() {
        assert_eq!(numbers(0x0103), (1, 3));
        assert_eq!(numbers(rfs::makedev(0xabc, 0xc_de0f)), (0xabc, 0xc_de0f));
    }

    #[test]
    fn records_read_back() {
        let device = Device { block: true, major: 8, minor: 1, mode: 0o660 };
        assert_eq!(Device::parse(device.value().as_bytes()), Some(device));
        assert_eq!(device.shown(), (0o60660, 8, 1));
        assert_eq!(Device::parse(b"c:1:3:0666"), None);
    }
}
