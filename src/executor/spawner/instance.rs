//! In the clone that becomes an emulating spawner: its ids, its binfmt_misc, the registrations.

use crate::executor::emulation::{arch, handlers};
use crate::executor::refusal::Refusal;
use crate::sys::{Named, binfmt, mount, owners, process};
use rustix::io::Errno;
use std::io::{PipeReader, Read};
use std::os::fd::{AsRawFd, OwnedFd};

/// Waits for the ids of the new user namespace, then makes its binfmt_misc, which works while the descriptor is open.
pub(super) fn make(
    go: PipeReader,
    names: &[String],
    interpreters: &[OwnedFd],
) -> Result<OwnedFd, Refusal> {
    enter(go)?;
    register(names, interpreters)
}

/// In the clone: becomes root of the new namespace once it has ids.
fn enter(mut go: PipeReader) -> Result<(), Refusal> {
    let mut byte = [0_u8; 1];
    go.read_exact(&mut byte)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
        .named(|| "read()".to_owned())
        .map_err(|error| Refusal::new("waiting for ids", &error))?;
    // Who has one id may not change groups, and has none that could be a way out.
    let become_root = if owners::are_kept() {
        process::set_user_and_group(0, 0)
    } else {
        process::set_ids(0, 0, &[0])
    };
    become_root.map_err(|error| Refusal::new("changing the user", &error))?;
    mount::make_private().map_err(|error| Refusal::new("making mounts private", &error))
}

/// Makes the binfmt_misc of this namespace and registers the architectures.
fn register(names: &[String], interpreters: &[OwnedFd]) -> Result<OwnedFd, Refusal> {
    let made =
        binfmt::new_instance().map_err(|error| Refusal::new("mounting binfmt_misc", &error))?;
    for (name, interpreter) in names.iter().zip(interpreters) {
        let Some(arch) = arch::by_name(name) else { continue };
        // By descriptor: the file need not have a name that a RUN could see.
        let path = format!("/proc/self/fd/{}", interpreter.as_raw_fd());
        let Some(line) = handlers::registration(arch, &path) else { continue };
        binfmt::register(&made, line.as_bytes())
            .map_err(|error| Refusal::new(format!("registering {name}"), &error))?;
    }
    Ok(made)
}
