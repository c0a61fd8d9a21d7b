//! Programs of other architectures: the parts from which a RUN for a foreign platform is made.
//!
//! [`arch`] is the table of architectures. [`probe_elf`] makes a tiny program of each, from [`machine_code`], whose
//! exit code proves how the kernel runs them. [`handlers`] reads what binfmt_misc has registered and words what we
//! register.
//!
//! [`interpreter`] finds qemu-user. [`ways`] puts them together: it runs the [`probe`]s, has the spawner make a
//! binfmt_misc of our own where that is needed, and words the [`advice`] where nothing helps.
//!
//! Follows the kernel's `Documentation/admin-guide/binfmt-misc.rst` and the ELF supplements of the processors.

mod advice;
pub mod arch;
pub mod cpuinfo;
pub mod handlers;
pub mod interpreter;
pub mod machine_code;
mod probe;
pub mod probe_elf;
pub mod way;
pub mod ways;

use std::path::PathBuf;

/// Where emulators are looked for; read from the environment by `cli`.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Directories that the user named, first of all.
    pub given: Vec<PathBuf>,
    /// Directories of PATH; the usual ones come behind them.
    pub path: Vec<PathBuf>,
}

impl Places {
    /// What is looked through when the user named nothing, or in vain: each directory once.
    fn usual(&self) -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> = Vec::new();
        let standard = interpreter::STANDARD_PLACES.iter().map(PathBuf::from);
        for dir in self.path.iter().cloned().chain(standard) {
            if !all.contains(&dir) {
                all.push(dir);
            }
        }
        all
    }
}
