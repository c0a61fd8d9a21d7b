//! Which calls a supervisor answers, and which call a number means.

use super::{Abi, ENOSYS, HOST, Options, Test, Verdict, X32_BIT, table};

/// What a supervisor does for a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Supervise {
    /// Nothing.
    #[default]
    None,
    /// It makes placeholders for device nodes.
    MakeDevices,
    /// It also answers what is asked about placeholders.
    Devices,
    /// It keeps owners and credentials where there is one id for all.
    Ids,
}

/// `O_CREAT`, and the bit that `O_TMPFILE` has beside `O_DIRECTORY`; the same numbers on all architectures of the table.
const CREATES: &[Test] = &[Test::AnyOf(0o100 | 0o20_000_000)];

const OPEN: Verdict = Verdict::When(1, CREATES, &Verdict::Notify, &Verdict::Allow);
const OPENAT: Verdict = Verdict::When(2, CREATES, &Verdict::Notify, &Verdict::Allow);

/// What a supervised command's call comes to; `None` when the supervisor has nothing to do with it.
pub(super) fn verdict(name: &str, options: &Options) -> Option<Verdict> {
    if options.signals && SIGNALS.contains(&name) {
        return Some(Verdict::Notify);
    }
    let any = |lists: &[&[&str]]| lists.iter().any(|list| list.contains(&name));
    let notify = match options.supervise {
        Supervise::None => false,
        Supervise::MakeDevices => any(&[MAKE_NODE]),
        Supervise::Devices => any(&[MAKE_NODE, STAT, CHMOD]),
        Supervise::Ids if name == "open" => return Some(OPEN),
        Supervise::Ids if name == "openat" => return Some(OPENAT),
        // They reach files behind the supervisor's back; programs fall back to what it knows.
        Supervise::Ids if UNKNOWN.contains(&name) => return Some(ENOSYS),
        Supervise::Ids => any(&[
            MAKE_NODE, STAT, CHMOD, CHOWN, SET_IDS, GET_IDS, CREATE, EXECUTE, ATTRIBUTES, MOVE,
        ]),
    };
    notify.then_some(Verdict::Notify)
}

const SIGNALS: &[&str] =
    &["kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal"];
const MAKE_NODE: &[&str] = &["mknod", "mknodat"];
const STAT: &[&str] =
    &["stat", "lstat", "fstat", "newfstatat", "statx", "stat64", "lstat64", "fstat64", "fstatat64"];
const CHMOD: &[&str] = &["chmod", "fchmod", "fchmodat", "fchmodat2"];
const CHOWN: &[&str] =
    &["chown", "lchown", "fchown", "fchownat", "chown32", "lchown32", "fchown32"];
const SET_IDS: &[&str] = &[
    "setuid",
    "setgid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "setfsuid",
    "setfsgid",
    "setgroups",
    "setuid32",
    "setgid32",
    "setreuid32",
    "setregid32",
    "setresuid32",
    "setresgid32",
    "setfsuid32",
    "setfsgid32",
    "setgroups32",
];
const GET_IDS: &[&str] = &[
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "getresuid",
    "getresgid",
    "getgroups",
    "getuid32",
    "geteuid32",
    "getgid32",
    "getegid32",
    "getresuid32",
    "getresgid32",
    "getgroups32",
];
const CREATE: &[&str] = &["creat", "openat2", "mkdir", "mkdirat", "symlink", "symlinkat"];
const MOVE: &[&str] =
    &["rename", "renameat", "renameat2", "link", "linkat", "utimensat", "utimensat_time64"];
const EXECUTE: &[&str] = &["execve", "execveat", "chroot"];
const ATTRIBUTES: &[&str] = &[
    "getxattr",
    "lgetxattr",
    "fgetxattr",
    "setxattr",
    "lsetxattr",
    "fsetxattr",
    "listxattr",
    "llistxattr",
    "flistxattr",
    "removexattr",
    "lremovexattr",
    "fremovexattr",
];
const UNKNOWN: &[&str] = &[
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "setxattrat",
    "getxattrat",
    "listxattrat",
    "removexattrat",
    "file_getattr",
    "file_setattr",
    "open_tree_attr",
];

/// A notified call, as the table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Name in the table.
    pub name: &'static str,
    /// Structures are those of 32-bit programs.
    pub compat: bool,
    /// Ids in the arguments have 16 bits.
    pub short_ids: bool,
}

/// Which call a number under an `AUDIT_ARCH_*` value is; `None` for what this machine does not have.
pub fn subject(audit: u32, number: i32) -> Option<Subject> {
    let abis = HOST.iter().find(|abis| abis[0].audit() == audit)?;
    let number = number as u32;
    let x32 = number & X32_BIT != 0 && abis.contains(&Abi::X32);
    let abi = if x32 { Abi::X32 } else { abis[0] };
    let row = find(abi, number.wrapping_sub(abi.offset()))?;
    let compat = matches!(abi, Abi::I386 | Abi::Arm);
    // Where a call has a variant with 32 in its name, the old one has short ids.
    let short_ids = compat && SHORT.contains(&row);
    Some(Subject { name: row, compat, short_ids })
}

const SHORT: &[&str] = &[
    "chown",
    "lchown",
    "fchown",
    "setuid",
    "setgid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "setfsuid",
    "setfsgid",
    "setgroups",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "getresuid",
    "getresgid",
    "getgroups",
];

/// The table by number, made once: a search by name for every call would cost more than the answer.
fn find(abi: Abi, number: u32) -> Option<&'static str> {
    use std::collections::HashMap;
    use std::sync::OnceLock;
    static NAMES: OnceLock<HashMap<(u8, u32), &'static str>> = OnceLock::new();
    let names = NAMES.get_or_init(|| {
        let abis = HOST.iter().flat_map(|abis| abis.iter());
        abis.flat_map(|abi| {
            table::CALLS.iter().filter_map(|row| {
                let number = u32::try_from(row.2[*abi as usize]).ok()?;
                Some(((*abi as u8, number), row.0))
            })
        })
        .collect()
    });
    names.get(&(abi as u8, number)).copied()
}
