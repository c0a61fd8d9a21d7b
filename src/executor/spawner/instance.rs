//! In the clone that becomes an emulating spawner: its ids, its binfmt_misc, the registrations.

use crate::executor::emulation::{arch, handlers};
use crate::sys::{binfmt, mount, process};
use std::io::{PipeReader, Read};
use std::os::fd::{AsRawFd, OwnedFd};

/// What was being done, and what the kernel said.
type Failed = (String, String);

/// Waits for the ids of the new user namespace, then makes its binfmt_misc, which works while the descriptor is open.
pub(super) fn make(
    go: PipeReader,
    names: &[String],
    interpreters: &[OwnedFd],
) -> Result<OwnedFd, Failed> {
    enter(go)?;
    register(names, interpreters)
}

/// In the clone: becomes root of the new namespace once it has ids.
fn enter(mut go: PipeReader) -> Result<(), Failed> {
    let failed = |what: &str, error: String| (what.to_owned(), error);
    let mut byte = [0_u8; 1];
    go.read_exact(&mut byte).map_err(|error| failed("waiting for ids", error.to_string()))?;
    process::set_ids(0, 0, &[0]).map_err(|error| failed("changing the user", error.to_string()))?;
    mount::make_private().map_err(|error| failed("making mounts private", error.to_string()))
}

/// Makes the binfmt_misc of this namespace and registers the architectures.
fn register(names: &[String], interpreters: &[OwnedFd]) -> Result<OwnedFd, Failed> {
    let made = binfmt::new_instance()
        .map_err(|error| ("mounting binfmt_misc".to_owned(), error.to_string()))?;
    for (name, interpreter) in names.iter().zip(interpreters) {
        let Some(arch) = arch::by_name(name) else { continue };
        // By descriptor: the file need not have a name that a RUN could see.
        let path = format!("/proc/self/fd/{}", interpreter.as_raw_fd());
        let Some(line) = handlers::registration(arch, &path) else { continue };
        binfmt::register(&made, line.as_bytes())
            .map_err(|error| (format!("registering {name}"), error.to_string()))?;
    }
    Ok(made)
}
