//! When nothing can run an architecture: what was tried, why it failed, and the command that would help.

use super::arch::{Architecture, DEBIAN_PACKAGE};
use super::handlers::{self, Handler, Registered};
use super::interpreter::Rejected;
use super::probe_elf::{self, Verdict};
use super::way::{Emulator, Way, handlers_emulator};
use crate::error::Error;
use crate::oci::Platform;
use crate::sys::probe;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// The first kernel on which a user namespace can have handlers of its own.
const NEEDED_KERNEL: (u32, u32) = (6, 7);

/// Everything that was found out about one architecture.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) arch: &'static Architecture,
    state: State,
    /// The host's handlers for it.
    pub(super) handlers: Vec<Handler>,
    /// What the probe did without us.
    pub(super) host: Verdict,
    /// What we have for an instance of our own.
    pub(super) own: Own,
    /// What the probe did in that.
    pub(super) proof: Option<Verdict>,
}

/// The host's binfmt_misc as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Hidden,
    Disabled,
    Enabled,
}

/// An emulator for an instance of our own.
#[derive(Debug)]
pub(super) enum Own {
    /// Not looked for: the host does all.
    Unneeded,
    /// There is one.
    Ready { emulator: Emulator, path: PathBuf, program: Option<OwnedFd> },
    /// There is none in these directories.
    Missing { looked: Vec<PathBuf>, rejected: Vec<Rejected> },
    /// The user's image gave none.
    Image(Error),
    /// The kernel refused the instance.
    Refused { doing: String, error: String },
}

impl Facts {
    pub(super) fn new(arch: &'static Architecture, registered: &Registered, host: Verdict) -> Self {
        let program = probe_elf::build(arch);
        let (state, handlers) = match registered {
            Registered::Unknown => (State::Hidden, Vec::new()),
            Registered::Disabled => (State::Disabled, Vec::new()),
            Registered::Handlers(all) => {
                let fitting = all.iter().filter(|handler| handler.matches(&program));
                (State::Enabled, fitting.cloned().collect())
            }
        };
        Self { arch, state, handlers, host, own: Own::Unneeded, proof: None }
    }

    /// How the machine runs it without us.
    pub(super) fn hosts_way(&self) -> Way {
        let handler = self.handlers.iter().find(|handler| handler.enabled);
        let host = Architecture::host().map_or("", |host| host.goarch);
        if handler.is_none() && self.arch.compat_of.contains(&host) {
            return Way::Compatible;
        }
        Way::Handler(handlers_emulator(self.arch, handler, self.host))
    }

    /// The error that says all of it.
    pub(super) fn advice(&self) -> Error {
        let kernel = probe::kernel_version();
        let mut error = Error::environment(format!(
            "this machine ({}) cannot run commands for linux/{}",
            Platform::host(),
            self.arch.goarch
        ));
        for cause in self.causes(kernel) {
            error = error.cause(cause);
        }
        for hint in self.hints(kernel) {
            error = error.hint(hint);
        }
        error
    }

    fn causes(&self, kernel: Option<(u32, u32)>) -> Vec<String> {
        let mut causes = vec![self.hosts_fault()];
        match &self.own {
            Own::Unneeded => {}
            Own::Ready { path, .. } => causes.push(format!(
                "{} does not run a program for linux/{}",
                path.display(),
                self.arch.goarch
            )),
            Own::Missing { looked, rejected } => {
                let names = self.arch.program_names().join(" or ");
                let dirs: Vec<String> =
                    looked.iter().map(|dir| dir.display().to_string()).collect();
                causes.push(format!("there is no static {names} in {}", dirs.join(", ")));
                for file in rejected {
                    causes.push(format!("{} {}", file.path.display(), file.why));
                }
            }
            Own::Image(error) => {
                causes.push(error.message().to_owned());
                causes.extend_from_slice(error.causes());
            }
            Own::Refused { doing, error } => match kernel {
                Some(kernel) if kernel < NEEDED_KERNEL => causes.push(format!(
                    "the kernel is {}.{}; a user namespace has handlers of its own from {}.{} on",
                    kernel.0, kernel.1, NEEDED_KERNEL.0, NEEDED_KERNEL.1
                )),
                _ => causes.push(format!(
                    "a handler in a user namespace of our own is refused: {doing}: {error}"
                )),
            },
        }
        causes
    }

    /// Why the host's own handlers do not do it.
    fn hosts_fault(&self) -> String {
        let shown = |handler: &Handler| format!("the host's handler `{}`", handler.name);
        match (&self.handlers[..], self.state) {
            ([], State::Hidden) => {
                "the host's handlers cannot be seen here, and none of them runs it".to_owned()
            }
            ([], State::Disabled) => "the host's binfmt_misc is switched off".to_owned(),
            ([], State::Enabled) => "the host has no handler for it".to_owned(),
            ([handler, ..], _) if !handler.enabled => format!("{} is disabled", shown(handler)),
            ([handler, ..], _) if !handler.flags.fixed => format!(
                "{} lacks the flag F: its interpreter {} would have to be in every image",
                shown(handler),
                handler.interpreter.display()
            ),
            ([handler, ..], _) => {
                format!("{} with {} does not run it", shown(handler), handler.interpreter.display())
            }
        }
    }

    fn hints(&self, kernel: Option<(u32, u32)>) -> Vec<String> {
        let arch = self.arch;
        let old = kernel.is_some_and(|kernel| kernel < NEEDED_KERNEL);
        let mut hints = Vec::new();
        if let Own::Image(error) = &self.own {
            hints.extend_from_slice(error.hints());
        }
        match &self.own {
            Own::Missing { .. } | Own::Image(_) | Own::Ready { .. } => hints.push(format!(
                "install a static qemu (Debian, Ubuntu: `apt-get install {DEBIAN_PACKAGE}`; Fedora: `dnf install {}`), or name one with `--qemu-dir DIR` or `--qemu-image NAME`",
                arch.fedora_package
            )),
            Own::Unneeded | Own::Refused { .. } => {}
        }
        if old || matches!(self.own, Own::Refused { .. }) {
            hints.push(self.registering());
        }
        if old {
            hints.push(format!(
                "a kernel of version {}.{} or later needs no registration",
                NEEDED_KERNEL.0, NEEDED_KERNEL.1
            ));
        }
        hints.push("a stage that only compiles runs here with `FROM --platform=$BUILDPLATFORM`; COPY needs no emulator".to_owned());
        hints
    }

    /// What makes the host's handler usable.
    fn registering(&self) -> String {
        let entry = self.handlers.first();
        match entry {
            Some(handler) if !handler.enabled => format!(
                "switch it on, as root on the host: `echo 1 > /proc/sys/fs/binfmt_misc/{}`",
                handler.name
            ),
            _ => {
                let [name, _] = self.arch.program_names();
                let line = handlers::registration(self.arch, &format!("/usr/bin/{name}"));
                let line = line.unwrap_or_default();
                let remove = entry.map_or_else(String::new, |handler| {
                    format!("echo -1 > /proc/sys/fs/binfmt_misc/{}; ", handler.name)
                });
                format!(
                    "register a handler with the flag F, as root on the host: `{remove}printf '%s' '{line}' > /proc/sys/fs/binfmt_misc/register`"
                )
            }
        }
    }
}

/// For a platform that the table does not have.
pub(super) fn unknown(platform: &Platform) -> Error {
    let error = Error::environment(format!(
        "this machine ({}) cannot run commands for {platform}",
        Platform::host()
    ));
    if platform.os == "linux" {
        return error.cause("no emulator for this architecture is known here");
    }
    error
        .cause(format!("commands for {} need {}", platform.os, platform.os))
        .hint("an image for it can be made with FROM, COPY and ADD alone")
}
