//! Docker's default seccomp profile as a classic BPF program, and loading it into this process.
//!
//! In: the capabilities that the command will have (some calls are allowed only with one); out: a [`Program`]
//! (isolation §1, §8). The profile is a table of names, rules and numbers ([`table`]); for each ABI of the host
//! (x86_64 has i386 and x32 beside it) the numbers become ranges with one verdict each, and the ranges a binary
//! decision tree, so that a call costs some eight comparisons and the filter loads in a tenth of a millisecond.
//!
//! [`Options`] add to that: calls that wait for the disk succeed without waiting ([`sync`]), and calls that a supervisor
//! answers go to it ([`notify`]).
//!
//! Verdicts: allowed; known but not allowed → EPERM; unknown to the table → ENOSYS, so that a C library newer than
//! us falls back; `clone3` → ENOSYS because its flags are behind a pointer and `clone` can be checked instead.
//! Arguments are compared in their low 32 bits, which is all that the kernel looks at for these calls.
//! `socketcall` (i386, s390x) hides its arguments behind a pointer and is allowed, as Docker does.

#![allow(
    unsafe_code,
    reason = "loading a filter is a raw system call with a pointer to the program"
)]

mod emit;
mod notify;
mod sync;
mod table;
#[cfg(test)]
mod tests;

use super::caps::CapSet;
use super::{Named, SysResult};
use emit::{Range, Section};
use rustix::io::Errno;
use std::fmt;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Arc;

pub use notify::{Subject, Supervise, subject};

/// What a filter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Capabilities that the command will have.
    pub caps: CapSet,
    /// Everything is allowed that neither of the next three says otherwise of; without Docker's profile.
    pub permissive: bool,
    /// `fsync` and its like succeed without doing anything.
    pub drop_sync: bool,
    /// Calls that a supervisor answers.
    pub supervise: Supervise,
    /// The supervisor also decides who may send signals to whom.
    pub signals: bool,
    /// No sockets but those to processes and to the kernel on this machine.
    pub no_network: bool,
}

impl Options {
    /// Docker's default profile and nothing else.
    pub fn docker_default(caps: CapSet) -> Self {
        Self {
            caps,
            permissive: false,
            drop_sync: false,
            supervise: Supervise::None,
            signals: false,
            no_network: false,
        }
    }
}

/// A compiled filter. Compile it once per build, load it once per RUN.
#[derive(Clone)]
pub struct Program(Arc<[libc::sock_filter]>);

impl Program {
    /// True for one and its clones, whatever is in them.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Number of instructions; the kernel takes at most 4096.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never the case for a program of this module.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Program({} instructions)", self.0.len())
    }
}

/// Calling conventions, in the order of the table's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Abi {
    X86_64,
    I386,
    X32,
    Aarch64,
    Arm,
    Riscv64,
    S390x,
    Ppc64le,
}

/// What x32 adds to its numbers.
const X32_BIT: u32 = 0x4000_0000;

impl Abi {
    /// The `AUDIT_ARCH_*` value: ELF machine, 64-bit bit, little-endian bit.
    fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::I386 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
            Self::Riscv64 => 0xc000_00f3,
            Self::S390x => 0x8000_0016,
            Self::Ppc64le => 0xc000_0015,
        }
    }

    /// Added to the table's numbers.
    fn offset(self) -> u32 {
        if self == Self::X32 { X32_BIT } else { 0 }
    }

    fn big_endian(self) -> bool {
        self == Self::S390x
    }
}

/// ABIs that a kernel of this machine may run, grouped by audit value, the most used first.
const HOST: &[&[Abi]] = if cfg!(target_arch = "x86_64") {
    HOSTS[0]
} else if cfg!(target_arch = "aarch64") {
    HOSTS[1]
} else if cfg!(target_arch = "riscv64") {
    HOSTS[2]
} else if cfg!(target_arch = "s390x") {
    HOSTS[3]
} else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
    HOSTS[4]
} else {
    &[]
};

const _: () = assert!(!HOST.is_empty(), "the table has no column for this architecture");

const HOSTS: &[&[&[Abi]]] = &[
    &[&[Abi::X86_64, Abi::X32], &[Abi::I386]],
    &[&[Abi::Aarch64], &[Abi::Arm]],
    &[&[Abi::Riscv64]],
    &[&[Abi::S390x]],
    &[&[Abi::Ppc64le]],
];

/// A rule of the profile.
#[derive(Clone, Copy, Debug)]
enum Rule {
    /// For everyone.
    Allow,
    /// For nobody.
    Deny,
    /// With any of these capabilities.
    Any(CapSet),
    /// All families but AF_ALG (38) and AF_VSOCK (40), which reach past the network namespace.
    Socket,
    /// The default persona, 32-bit address space layouts and asking for the present one.
    Personality,
    /// Without new namespaces, or with SYS_ADMIN.
    Clone,
    /// ENOSYS, or with SYS_ADMIN.
    Clone3,
}

/// A test of the low word of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    Below(u32),
    Is(u32),
    Above(u32),
    NoneOf(u32),
    AnyOf(u32),
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Allow,
    /// Refused, or with 0: said to have succeeded.
    Errno(u16),
    /// The supervisor answers.
    Notify,
    /// The first when one of the tests of this argument holds, else the second.
    When(u8, &'static [Test], &'static Verdict, &'static Verdict),
}

const EPERM: Verdict = Verdict::Errno(libc::EPERM as u16);
const ENOSYS: Verdict = Verdict::Errno(libc::ENOSYS as u16);
const DONE: Verdict = Verdict::Errno(0);

/// AF_UNIX and AF_NETLINK.
const NO_NETWORK: &[Test] = &[Test::Is(1), Test::Is(16)];
const SOCKET: &[Test] = &[Test::Below(38), Test::Is(39), Test::Above(40)];
/// PER_LINUX, PER_LINUX32, each with and without UNAME26, and the question for the present one.
const PERSONALITY: &[Test] =
    &[Test::Is(0), Test::Is(8), Test::Is(0x2_0000), Test::Is(0x2_0008), Test::Is(u32::MAX)];
/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET.
const CLONE: &[Test] = &[Test::NoneOf(0x7e02_0000)];

fn verdict(rule: Rule, abi: Abi, caps: CapSet) -> Verdict {
    let any =
        |needed: CapSet, or: Verdict| if caps.intersects(needed) { Verdict::Allow } else { or };
    match rule {
        Rule::Allow => Verdict::Allow,
        Rule::Deny => EPERM,
        Rule::Any(needed) => any(needed, EPERM),
        Rule::Socket => allowed_when(0, SOCKET),
        Rule::Personality => allowed_when(0, PERSONALITY),
        // s390x has the stack first.
        Rule::Clone => any(CapSet::SYS_ADMIN, allowed_when(u8::from(abi == Abi::S390x), CLONE)),
        Rule::Clone3 => any(CapSet::SYS_ADMIN, ENOSYS),
    }
}

fn allowed_when(argument: u8, tests: &'static [Test]) -> Verdict {
    Verdict::When(argument, tests, &Verdict::Allow, &EPERM)
}

/// What happens to a call of the table.
fn call_verdict(row: &table::Row, abi: Abi, options: &Options) -> Verdict {
    let profile =
        if options.permissive { Verdict::Allow } else { verdict(row.1, abi, options.caps) };
    match row.0 {
        "socket" if options.no_network => return allowed_when(0, NO_NETWORK),
        // Its arguments cannot be seen; C libraries have used `socket` itself for ten years.
        "socketcall" if options.no_network => return ENOSYS,
        _ => {}
    }
    if let Some(own) = notify::verdict(row.0, options) {
        // What the profile refuses no supervisor makes possible.
        return if matches!(profile, Verdict::Errno(_)) && own != ENOSYS { profile } else { own };
    }
    if options.drop_sync
        && let Some(own) = sync::verdict(row.0)
    {
        return own;
    }
    profile
}

/// The filter for the machine that this program was built for.
pub fn compile(options: &Options) -> Program {
    compile_for(HOST, options)
}

fn compile_for(host: &[&[Abi]], options: &Options) -> Program {
    let unknown = if options.permissive { Verdict::Allow } else { ENOSYS };
    let section = |abis: &&[Abi]| Section {
        audit: abis[0].audit(),
        big_endian: abis[0].big_endian(),
        ranges: ranges(abis, options, unknown),
    };
    let sections: Vec<Section> = host.iter().map(section).collect();
    Program(emit::program(&sections).into())
}

/// The verdict for every number, as sorted starts; the first start is 0.
fn ranges(abis: &[Abi], options: &Options, unknown: Verdict) -> Vec<Range> {
    let mut known: Vec<(u32, Verdict)> = Vec::new();
    for abi in abis {
        for row in table::CALLS {
            if let Ok(number) = u32::try_from(row.2[*abi as usize]) {
                known.push((abi.offset() + number, call_verdict(row, *abi, options)));
            }
        }
    }
    // A tracer skips a call by making its number -1; the kernel then does nothing, and the tracer's result stands.
    known.push((u32::MAX, Verdict::Allow));
    known.sort_unstable_by_key(|(number, _)| *number);
    let mut ranges = vec![Range { start: 0, verdict: unknown }];
    let mut push = |start: u32, verdict: Verdict| match ranges.last_mut() {
        Some(last) if last.verdict == verdict => {}
        Some(last) if last.start == start => last.verdict = verdict,
        _ => ranges.push(Range { start, verdict }),
    };
    let mut next = 0_u32;
    for (number, verdict) in known {
        if number > next {
            push(next, unknown);
        }
        push(number, verdict);
        next = number.saturating_add(1);
    }
    ranges
}

/// Loads the filter into the calling thread and what it starts. Needs SYS_ADMIN in the user namespace or
/// `no_new_privs`, and must come before SYS_ADMIN is given up (see [`super::caps`]).
///
/// Turns off the speculation mitigation that kernels before 5.16 tie to filters: it slows a compiler down and
/// guards against nothing that a build without it could not do.
pub fn install(program: &Program) -> SysResult<()> {
    install_with(program, libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW).map(drop)
}

/// [`install`], and the descriptor through which a supervisor hears of the calls that it answers.
pub fn install_with_listener(program: &Program) -> SysResult<OwnedFd> {
    let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // A signal that does not kill must not interrupt a call that is being answered: programs that send themselves
    // many (timers of Go's scheduler) would never get an answer. QUIRK(kernel 5.19): unknown before.
    let made = match install_with(program, flags | WAIT_KILLABLE) {
        Err(error) if error.errno == Errno::INVAL => install_with(program, flags)?,
        other => other?,
    };
    made.ok_or(Errno::INVAL).named(|| "seccomp(NEW_LISTENER)".to_owned())
}

/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`.
const WAIT_KILLABLE: libc::c_ulong = 1 << 5;

/// [`install`] with the flags of `seccomp(2)`; gives the listener when NEW_LISTENER is among them.
pub fn install_with(program: &Program, flags: libc::c_ulong) -> SysResult<Option<OwnedFd>> {
    let len = program.0.len();
    let call = || format!("seccomp(SET_MODE_FILTER, {flags:#x}, {len} instructions)");
    let Ok(short) = u16::try_from(len) else { return Err(Errno::INVAL).named(call) };
    let header = libc::sock_fprog { len: short, filter: program.0.as_ptr().cast_mut() };
    // SAFETY: `header` and the instructions it points to live until the call returns; the kernel only reads them.
    let done = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const header)
    };
    if done < 0 {
        let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO);
        return Err(errno).named(call);
    }
    if flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER == 0 {
        return Ok(None);
    }
    // SAFETY: with NEW_LISTENER the call returns a new descriptor that nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(done as i32) }))
}
