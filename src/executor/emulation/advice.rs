//! When nothing can run an architecture: what was tried, why it failed, and the command that would help.

use super::arch::{Architecture, DEBIAN_PACKAGE};
use super::handlers::{self, Handler, Registered};
use super::interpreter::Rejected;
use super::probe_elf::{self, Verdict};
use super::way::{Emulator, Way, handlers_emulator};
use crate::error::Error;
use crate::executor::refusal::Refusal;
use crate::oci::Platform;
use crate::sys::probe;
use rustix::io::Errno;
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
    /// True when that is what the user named.
    pub(super) named: bool,
    /// Why what the user named cannot be used.
    pub(super) unfit: Vec<String>,
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
    /// The kernel refused the instance, with this emulator.
    Refused { path: PathBuf, refusal: Refusal },
}

impl Facts {
    pub(super) fn new(arch: &'static Architecture, registered: &Registered, host: Verdict) -> Self {
        let program = probe_elf::build(arch);
        let (state, handlers) = match registered {
            Registered::Unknown => (State::Hidden, Vec::new()),
            Registered::Disabled => (State::Disabled, Vec::new()),
            Registered::Handlers(all) => {
                let fitting = all.iter().filter(|handler| handler.is_for(&program));
                (State::Enabled, fitting.cloned().collect())
            }
        };
        Self {
            arch,
            state,
            handlers,
            host,
            own: Own::Unneeded,
            named: false,
            unfit: Vec::new(),
            proof: None,
        }
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
        self.advice_on(probe::kernel_version())
    }

    fn advice_on(&self, kernel: Option<(u32, u32)>) -> Error {
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
        causes.extend_from_slice(&self.unfit);
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
            Own::Refused { refusal: Refusal { doing, error, .. }, .. } => match kernel {
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
        match &self.own {
            Own::Ready { path, .. } => hints.push(format!(
                "name another qemu than {} with `--qemu-dir DIR` or `--qemu-image NAME`",
                path.display()
            )),
            Own::Missing { .. } => hints.push(format!(
                "install a static qemu (Debian, Ubuntu: `apt-get install {DEBIAN_PACKAGE}`; Fedora: `dnf install {}`), or name one with `--qemu-dir DIR` or `--qemu-image NAME`",
                arch.fedora_package
            )),
            Own::Refused { refusal, .. } if refusal.doing.contains("user namespace") => {
                hints.push(probe::why_no_user_namespace(Errno::from_raw_os_error(refusal.errno)));
            }
            Own::Unneeded | Own::Refused { .. } => {}
        }
        if old || matches!(self.own, Own::Refused { .. }) || self.is_switched_off() {
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

    /// True when there is a handler, or may be one, that only has to be switched on.
    fn is_switched_off(&self) -> bool {
        let disabled = self.handlers.first().is_some_and(|handler| !handler.enabled);
        disabled || self.state == State::Disabled
    }

    /// What makes the host's handler usable.
    fn registering(&self) -> String {
        if self.state == State::Disabled {
            return "switch it on, as root on the host: `echo 1 > /proc/sys/fs/binfmt_misc/status`"
                .to_owned();
        }
        let entry = self.handlers.first();
        match entry {
            Some(handler) if !handler.enabled => format!(
                "switch it on, as root on the host: `echo 1 > /proc/sys/fs/binfmt_misc/{}`",
                handler.name
            ),
            _ => {
                let [name, _] = self.arch.program_names();
                let usual = PathBuf::from(format!("/usr/bin/{name}"));
                let path = match &self.own {
                    Own::Refused { path, .. } if path.is_absolute() => path,
                    _ => &usual,
                };
                let line = handlers::registration(self.arch, &path.to_string_lossy());
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

#[cfg(test)]
mod tests {
    use super::super::arch;
    use super::super::handlers::Flags;
    use super::super::interpreter::Unfit;
    use super::*;

    fn handler(enabled: bool, fixed: bool) -> Handler {
        let arch = arch::by_name("s390x").unwrap();
        Handler {
            name: "qemu-s390x".to_owned(),
            enabled,
            interpreter: "/usr/bin/qemu-s390x-static".into(),
            flags: Flags { fixed, ..Flags::default() },
            offset: 0,
            magic: arch.header().to_vec(),
            mask: None,
        }
    }

    fn refused() -> Own {
        let refusal = Refusal {
            doing: "mounting binfmt_misc".to_owned(),
            error: "fsopen(\"binfmt_misc\"): operation not permitted".to_owned(),
            errno: 1,
        };
        Own::Refused { path: "/usr/bin/qemu-s390x-static".into(), refusal }
    }

    /// The whole advice with the platform of this machine taken out.
    fn said(registered: &Registered, own: Own, kernel: (u32, u32)) -> String {
        let arch = arch::by_name("s390x").unwrap();
        let facts = Facts { own, ..Facts::new(arch, registered, Verdict::of_exit_code(127)) };
        let error = facts.advice_on(Some(kernel));
        let hints = error.hints().iter().map(|hint| format!("help: {hint}"));
        let mut lines = vec![error.message().to_owned()];
        lines.extend(error.causes().iter().cloned().chain(hints));
        let last = lines.pop().unwrap_or_default();
        assert!(last.contains("FROM --platform=$BUILDPLATFORM"), "{last}");
        lines.join("\n").replace(&Platform::host().to_string(), "HOST")
    }

    #[test]
    fn a_missing_emulator_is_to_be_installed() {
        let rejected = vec![Rejected { path: "/q/qemu-s390x".into(), why: Unfit::Dynamic }];
        let own = Own::Missing { looked: vec!["/q".into(), "/usr/bin".into()], rejected };
        assert_eq!(
            said(&Registered::Unknown, own, (6, 12)),
            "this machine (HOST) cannot run commands for linux/s390x\n\
             the host's handlers cannot be seen here, and none of them runs it\n\
             there is no static qemu-s390x-static or qemu-s390x in /q, /usr/bin\n\
             /q/qemu-s390x is dynamically linked\n\
             help: install a static qemu (Debian, Ubuntu: `apt-get install qemu-user-static`; Fedora: `dnf install qemu-user-static-s390x`), or name one with `--qemu-dir DIR` or `--qemu-image NAME`"
        );
    }

    #[test]
    fn an_old_kernel_needs_a_handler_of_the_host() {
        let found = Registered::Handlers(vec![handler(true, false)]);
        let said = said(&found, refused(), (6, 1));
        let line =
            handlers::registration(arch::by_name("s390x").unwrap(), "/usr/bin/qemu-s390x-static")
                .unwrap();
        assert_eq!(
            said,
            format!(
                "this machine (HOST) cannot run commands for linux/s390x\n\
                 the host's handler `qemu-s390x` lacks the flag F: its interpreter /usr/bin/qemu-s390x-static would have to be in every image\n\
                 the kernel is 6.1; a user namespace has handlers of its own from 6.7 on\n\
                 help: register a handler with the flag F, as root on the host: `echo -1 > /proc/sys/fs/binfmt_misc/qemu-s390x; printf '%s' '{line}' > /proc/sys/fs/binfmt_misc/register`\n\
                 help: a kernel of version 6.7 or later needs no registration"
            )
        );
    }

    #[test]
    fn a_disabled_handler_is_to_be_switched_on() {
        let found = Registered::Handlers(vec![handler(false, true)]);
        assert_eq!(
            said(&found, refused(), (6, 8)),
            "this machine (HOST) cannot run commands for linux/s390x\n\
             the host's handler `qemu-s390x` is disabled\n\
             a handler in a user namespace of our own is refused: mounting binfmt_misc: fsopen(\"binfmt_misc\"): operation not permitted\n\
             help: switch it on, as root on the host: `echo 1 > /proc/sys/fs/binfmt_misc/qemu-s390x`"
        );
    }

    #[test]
    fn other_systems_and_unknown_machines_are_told_apart() {
        let said = |os: &str, arch: &str| unknown(&Platform::new(os, arch, "")).causes().join("; ");
        assert_eq!(said("windows", "amd64"), "commands for windows need windows");
        assert_eq!(said("linux", "wasm"), "no emulator for this architecture is known here");
    }
}
