//! Programs of other architectures: the parts from which a RUN for a foreign platform is made.
//!
//! [`arch`] is the table of architectures. [`probe_elf`] makes a tiny program of each, from [`machine_code`], whose
//! exit code proves how the kernel runs them. [`handlers`] reads what binfmt_misc has registered and words what we
//! register. [`interpreter`] finds a static qemu and copies it into memory. [`cpuinfo`] is what
//! /proc/cpuinfo shows to an emulated program.
//!
//! Nothing here mounts, registers or starts anything.
//!
//! Follows the kernel's `Documentation/admin-guide/binfmt-misc.rst` and the ELF supplements of the processors.

pub mod arch;
pub mod cpuinfo;
pub mod handlers;
pub mod interpreter;
pub mod machine_code;
pub mod probe_elf;
