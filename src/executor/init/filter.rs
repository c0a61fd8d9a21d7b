//! The seccomp filters of RUNs: each kind is compiled once.

use super::super::isolation::Kind;
use super::super::{Net, RunSpec};
use crate::sys::{caps, seccomp};
use std::sync::{Mutex, PoisonError};

/// Those of this process, and of the one that it was forked from.
static COMPILED: Mutex<Vec<(seccomp::Options, seccomp::Program)>> = Mutex::new(Vec::new());

/// The filter of a RUN. Each kind is compiled once, by the spawner, before it makes the process of the first RUN that
/// needs it; a spare that is older than that compiles its own.
pub(in crate::executor) fn filter(spec: &RunSpec) -> seccomp::Program {
    let options = seccomp::Options {
        caps: if spec.insecure { caps::CapSet::all() } else { caps::DOCKER_DEFAULT },
        permissive: spec.insecure,
        drop_sync: !spec.keep_fsync,
        supervise: spec.supervise,
        signals: spec.guards_signals(),
        no_network: spec.kind == Kind::Chroot && spec.network == Net::None,
    };
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, program)) = compiled.iter().find(|(known, _)| *known == options) {
        return program.clone();
    }
    let program = seccomp::compile(&options);
    compiled.push((options, program.clone()));
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::HOSTNAME;
    use crate::sys::seccomp::Supervise;

    fn spec(command: &str) -> RunSpec {
        RunSpec {
            argv: vec![command.to_owned()],
            env: Vec::new(),
            cwd: "/".to_owned(),
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            kind: Kind::Namespaces,
            mounts: Vec::new(),
            network: Net::None,
            staging: "/staging".into(),
            insecure: false,
            personality32: false,
            hostname: HOSTNAME.to_owned(),
            limits: Vec::new(),
            keep_fsync: false,
            another_follows: true,
            supervise: Supervise::None,
            placeholder: String::new(),
        }
    }

    #[test]
    fn runs_of_a_build_have_one_filter() {
        let first = filter(&spec("one"));
        let of_a_user =
            RunSpec { uid: 7, cwd: "/tmp".to_owned(), network: Net::Host, ..spec("two") };
        assert!(filter(&of_a_user).is(&first));
        // One that is not the same is compiled, too, and takes nothing away.
        let with_sync = filter(&RunSpec { keep_fsync: true, ..spec("one") });
        assert!(!with_sync.is(&first));
        assert!(filter(&RunSpec { keep_fsync: true, ..spec("two") }).is(&with_sync));
        assert!(filter(&spec("three")).is(&first));
    }
}
