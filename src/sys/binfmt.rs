//! An instance of binfmt_misc that belongs to a user namespace (kernel 6.7 and later): programs of foreign formats find
//! their interpreter in it, and the host's instance is neither seen nor touched.

use super::{Named, SysResult, mount};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// Makes the instance of the caller's user namespace, as a detached mount. It works as long as the descriptor is open, and
/// hides what namespaces above have registered.
pub fn new_instance() -> SysResult<OwnedFd> {
    let flags = mount::MountFlags { nosuid: true, nodev: true, noexec: true, ..Default::default() };
    mount::new_mount("binfmt_misc", &[], flags)
}

/// Registers a format by the line that the kernel's documentation describes.
pub fn register(instance: impl AsFd, line: &[u8]) -> SysResult<()> {
    let file = rustix::fs::openat(
        instance.as_fd(),
        "register",
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .named(|| "open(binfmt_misc/register)".to_owned())?;
    let call = || format!("write(binfmt_misc/register, {:?})", String::from_utf8_lossy(line));
    // Must be one write: each is a whole registration.
    match rustix::io::write(&file, line).named(call)? {
        written if written == line.len() => Ok(()),
        _ => Err(Errno::IO).named(call),
    }
}
