//! The emitted program against the table read naively, and the loaded filter against the kernel.

use super::*;
use crate::sys::caps::DOCKER_DEFAULT;
use table::{CALLS, N};

/// `struct seccomp_data` of one call.
struct Call {
    audit: u32,
    number: u32,
    arguments: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32, big_endian: bool) -> u32 {
        match offset {
            0 => self.number,
            4 => self.audit,
            16..64 => {
                let argument = self.arguments[(offset as usize - 16) / 8];
                let second = offset % 8 == 4;
                if second == big_endian { argument as u32 } else { (argument >> 32) as u32 }
            }
            _ => panic!("load from {offset}"),
        }
    }
}

/// A second opinion on classic BPF, from its definition.
fn interpret(program: &Program, call: &Call, big_endian: bool) -> u32 {
    let (mut at, mut accumulator) = (0_usize, 0_u32);
    loop {
        let step = program.0[at];
        at += 1;
        let mut jump = |taken: bool| at += usize::from(if taken { step.jt } else { step.jf });
        match step.code {
            0x20 => accumulator = call.word(step.k, big_endian),
            0x06 => return step.k,
            0x05 => at += step.k as usize,
            0x15 => jump(accumulator == step.k),
            0x25 => jump(accumulator > step.k),
            0x35 => jump(accumulator >= step.k),
            0x45 => jump(accumulator & step.k != 0),
            code => panic!("instruction {code:#x}"),
        }
    }
}

const ALLOW: u32 = 0x7fff_0000;
const REFUSE: u32 = 0x0005_0001;
const UNKNOWN: u32 = 0x0005_0026;

/// What the profile says, row by row, without ranges.
fn naive(abis: &[Abi], call: &Call, caps: CapSet) -> u32 {
    if call.number == u32::MAX {
        return ALLOW;
    }
    let row = abis.iter().find_map(|abi| {
        let number = |row: &&table::Row| {
            row.2[*abi as usize] != N && row.2[*abi as usize] as u32 + abi.offset() == call.number
        };
        CALLS.iter().find(number).map(|row| (*abi, row))
    });
    let Some((abi, (name, rule, _))) = row else { return UNKNOWN };
    let admin = caps.contains(CapSet::SYS_ADMIN);
    let low = |index: usize| call.arguments[index] as u32;
    let allowed = match (*name, rule) {
        ("socket", _) => low(0) != 38 && low(0) != 40,
        ("personality", _) => [0, 8, 0x20000, 0x20008, 0xffff_ffff].contains(&low(0)),
        ("clone", _) => admin || low(usize::from(abi == Abi::S390x)) & 0x7e02_0000 == 0,
        ("clone3", _) if !admin => return UNKNOWN,
        ("clone3", _) | (_, Rule::Allow) => true,
        (_, Rule::Any(needed)) => !(caps & *needed).is_empty(),
        (_, _) => false,
    };
    if allowed { ALLOW } else { REFUSE }
}

#[test]
fn the_program_says_what_the_table_says() {
    let numbers = (0..1200).chain(0xf_0000..0xf_0010).chain(0x3fff_fff0..0x4000_0400).chain([
        0x7fff_ffff,
        0x8000_0000,
        0xffff_fffe,
        u32::MAX,
    ]);
    let samples = [
        0,
        1,
        2,
        8,
        16,
        37,
        38,
        39,
        40,
        41,
        0x11,
        0x20000,
        0x20008,
        0x1000_0000,
        0x7e02_0000,
        0x0001_0f00,
        0x7fff_ffff,
        0xffff_ffff,
        u64::MAX,
        0x1_0000_0000,
        0x1_0000_0028,
        0xdead_beef_0000_0008,
    ];
    let many = [CapSet::empty(), DOCKER_DEFAULT, CapSet::SYS_ADMIN, CapSet::BPF, CapSet::all()];
    for (host, caps) in HOSTS.iter().flat_map(|host| many.map(|caps| (host, caps))) {
        let program = compile_for(host, &Options::docker_default(caps));
        for (abis, number) in host.iter().flat_map(|abis| numbers.clone().map(move |n| (abis, n))) {
            let judged = abis.iter().any(|abi| looks_at_arguments(*abi, number));
            let few = if judged { &samples[..] } else { &[0, 0x7e02_0028] };
            for (first, second) in few.iter().flat_map(|a| [(*a, 0), (0, *a)]) {
                let arguments = [first, second, 7, 7, 7, 7];
                let call = Call { audit: abis[0].audit(), number, arguments };
                let said = interpret(&program, &call, abis[0].big_endian());
                let meant = naive(abis, &call, caps);
                assert_eq!(said, meant, "{abis:?} {caps:?} {number:#x} {arguments:#x?}");
            }
        }
    }
}

fn looks_at_arguments(abi: Abi, number: u32) -> bool {
    let judged = ["socket", "personality", "clone"]
        .map(|name| CALLS.iter().find(|row| row.0 == name).map_or(N, |row| row.2[abi as usize]));
    judged.iter().any(|column| *column != N && *column as u32 + abi.offset() == number)
}

#[test]
fn another_architecture_has_no_calls() {
    for (host, audit) in [(HOSTS[0], 0xc000_00b7), (HOSTS[1], 0xc000_003e)] {
        let call = Call { audit, number: 1, arguments: [0; 6] };
        assert_eq!(
            interpret(&compile_for(host, &Options::docker_default(CapSet::all())), &call, false),
            UNKNOWN
        );
    }
}

#[test]
fn the_program_is_small() {
    let sizes: Vec<usize> = HOSTS
        .iter()
        .map(|host| compile_for(host, &Options::docker_default(DOCKER_DEFAULT)).len())
        .collect();
    assert!(sizes.iter().all(|size| *size < 400), "{sizes:?}");
}

#[test]
fn the_table_is_in_order() {
    let key = |row: &table::Row| row.0.trim_start_matches('_');
    assert!(CALLS.is_sorted_by_key(key));
    for abi in 0..8 {
        let mut numbers: Vec<i32> =
            CALLS.iter().map(|row| row.2[abi]).filter(|number| *number != N).collect();
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), count, "a number twice in column {abi}");
    }
}

/// The C library's constants are a second source for the host's column.
#[test]
fn numbers_are_those_of_the_c_library() {
    let column = HOST[0][0] as usize;
    let ours = |name: &str| {
        CALLS.iter().find(|row| row.0 == name).map(|row| libc::c_long::from(row.2[column]))
    };
    macro_rules! same {
        ($($constant:ident $name:literal)*) => {
            $(assert_eq!(ours($name), Some(libc::$constant), $name);)*
        };
    }
    same! {
        SYS_accept4 "accept4" SYS_bpf "bpf" SYS_chroot "chroot" SYS_clone "clone" SYS_clone3 "clone3"
        SYS_close_range "close_range" SYS_execve "execve" SYS_execveat "execveat"
        SYS_finit_module "finit_module" SYS_fsopen "fsopen" SYS_getpid "getpid"
        SYS_io_uring_setup "io_uring_setup" SYS_kexec_load "kexec_load" SYS_keyctl "keyctl"
        SYS_mount "mount" SYS_mount_setattr "mount_setattr" SYS_move_mount "move_mount"
        SYS_openat "openat" SYS_openat2 "openat2" SYS_personality "personality"
        SYS_pivot_root "pivot_root" SYS_prlimit64 "prlimit64" SYS_ptrace "ptrace" SYS_read "read"
        SYS_seccomp "seccomp" SYS_setns "setns" SYS_setuid "setuid" SYS_socket "socket"
        SYS_statx "statx" SYS_umount2 "umount2" SYS_unshare "unshare" SYS_userfaultfd "userfaultfd"
        SYS_write "write"
    }
}

/// One raw call in the child of [`the_kernel_agrees`]: its number, two arguments and the errno wanted (0: success).
const IN_CHILD: &[(libc::c_long, libc::c_long, libc::c_long, i32)] = &[
    (libc::SYS_getpid, 0, 0, 0),
    (libc::SYS_keyctl, 0, 0, libc::EPERM),
    (libc::SYS_unshare, 0, 0, libc::EPERM),
    (libc::SYS_clone3, 0, 0, libc::ENOSYS),
    (9999, 0, 0, libc::ENOSYS),
    (-1, 0, 0, libc::ENOSYS),
    (libc::SYS_socket, 40, 1, libc::EPERM),
    (libc::SYS_socket, 38, 1, libc::EPERM),
    (libc::SYS_socket, 1, 1, 0),
    (libc::SYS_personality, 0xffff_ffff, 0, 0),
    (libc::SYS_personality, 4, 0, libc::EPERM),
    // CLONE_NEWUSER; where it were let through, a child would come into being.
    (libc::SYS_clone, 0x1000_0000, 0, libc::EPERM),
];

#[test]
fn the_kernel_agrees() {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};
    let program = compile(&Options::docker_default(DOCKER_DEFAULT));
    // SAFETY: the child makes system calls only and ends with _exit; it allocates nothing.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let status = child(&program);
            // SAFETY: ends the process without running anything of the parent's.
            unsafe { libc::_exit(status) }
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
        }
    }
}

/// 0, or 1 plus the place of the call that went wrong.
fn child(program: &Program) -> i32 {
    if rustix::thread::set_no_new_privs(true).is_err() || install(program).is_err() {
        return 100;
    }
    for (place, (number, first, second, wanted)) in IN_CHILD.iter().enumerate() {
        // SAFETY: none of these calls reads or writes memory of this process.
        let done = unsafe { libc::syscall(*number, *first, *second, 0, 0, 0) };
        let errno = if done < 0 { nix::errno::Errno::last_raw() } else { 0 };
        if errno != *wanted {
            return place as i32 + 1;
        }
    }
    0
}

#[test]
fn a_refused_load_names_the_call() {
    let program = compile(&Options::docker_default(DOCKER_DEFAULT));
    let error = install_with(&program, 1 << 30).unwrap_err();
    assert_eq!(error.errno, Errno::INVAL);
    assert_eq!(
        error.call,
        format!("seccomp(SET_MODE_FILTER, 0x40000000, {} instructions)", program.len())
    );
    let long = Program(vec![program.0[0]; 70_000].into());
    assert_eq!(install(&long).unwrap_err().errno, Errno::INVAL);
}

/// What a filter says to a call by name, in the low words of its arguments.
fn says(host: &[&[Abi]], options: &Options, abi: Abi, name: &str, arguments: [u64; 6]) -> u32 {
    let row = CALLS.iter().find(|row| row.0 == name).unwrap();
    let number = row.2[abi as usize] as u32 + abi.offset();
    let call = Call { audit: abi.audit(), number, arguments };
    interpret(&compile_for(host, options), &call, abi.big_endian())
}

const SUCCESS: u32 = 0x0005_0000;
const NOTIFY: u32 = 0x7fc0_0000;

#[test]
fn waiting_for_the_disk_is_dropped_and_nothing_else() {
    let options = Options { drop_sync: true, ..Options::docker_default(DOCKER_DEFAULT) };
    for (host, abi) in HOSTS.iter().flat_map(|host| host.iter().map(move |abis| (host, abis[0]))) {
        let says = |name, arguments| says(host, &options, abi, name, arguments);
        for name in ["fsync", "fdatasync", "sync", "syncfs"] {
            assert_eq!(says(name, [3; 6]), SUCCESS, "{abi:?} {name}");
        }
        assert_eq!(says("msync", [0, 0, 4, 0, 0, 0]), SUCCESS, "{abi:?}");
        assert_eq!(says("msync", [0, 0, 1, 0, 0, 0]), ALLOW, "{abi:?}");
        assert_eq!(says("write", [0; 6]), ALLOW, "{abi:?}");
        assert_eq!(says("mount", [0; 6]), REFUSE, "{abi:?}");
    }
}

#[test]
fn a_supervisor_hears_of_what_it_answers() {
    let options = |supervise| Options { supervise, ..Options::docker_default(DOCKER_DEFAULT) };
    let ids = options(Supervise::Ids);
    for (host, abi) in HOSTS.iter().flat_map(|host| host.iter().map(move |abis| (host, abis[0]))) {
        let says = |options: &Options, name, arguments| says(host, options, abi, name, arguments);
        for name in ["fchownat", "mknodat", "setuid", "getgroups", "execve", "statx", "fgetxattr"] {
            assert_eq!(says(&ids, name, [0; 6]), NOTIFY, "{abi:?} {name}");
        }
        assert_eq!(says(&ids, "openat", [0, 0, 0o101, 0, 0, 0]), NOTIFY, "{abi:?}");
        assert_eq!(says(&ids, "openat", [0, 0, 0o20_200_000, 0, 0, 0]), NOTIFY, "{abi:?}");
        assert_eq!(says(&ids, "openat", [0, 0, 0o1, 0, 0, 0]), ALLOW, "{abi:?}");
        assert_eq!(says(&ids, "io_uring_setup", [0; 6]), UNKNOWN, "{abi:?}");
        assert_eq!(says(&ids, "mount", [0; 6]), REFUSE, "{abi:?}");
        assert_eq!(says(&ids, "kill", [0; 6]), ALLOW, "{abi:?}");
        let signals = Options { signals: true, ..ids };
        assert_eq!(says(&signals, "kill", [0; 6]), NOTIFY, "{abi:?}");
        let make = options(Supervise::MakeDevices);
        assert_eq!(says(&make, "mknodat", [0; 6]), NOTIFY, "{abi:?}");
        assert_eq!(says(&make, "statx", [0; 6]), ALLOW, "{abi:?}");
        assert_eq!(says(&options(Supervise::Devices), "statx", [0; 6]), NOTIFY, "{abi:?}");
        assert_eq!(says(&options(Supervise::None), "mknodat", [0; 6]), ALLOW, "{abi:?}");
    }
}

#[test]
fn a_permissive_filter_allows_what_no_profile_does() {
    let options = Options {
        permissive: true,
        supervise: Supervise::Ids,
        ..Options::docker_default(CapSet::all())
    };
    for (name, said) in [("keyctl", ALLOW), ("chown", NOTIFY), ("io_uring_setup", UNKNOWN)] {
        assert_eq!(says(HOSTS[0], &options, Abi::X86_64, name, [0; 6]), said, "{name}");
    }
    let call = Call { audit: Abi::X86_64.audit(), number: 5000, arguments: [0; 6] };
    assert_eq!(interpret(&compile_for(HOSTS[0], &options), &call, false), ALLOW);
}

#[test]
fn supervising_filters_fit() {
    let options = Options {
        drop_sync: true,
        supervise: Supervise::Ids,
        ..Options::docker_default(DOCKER_DEFAULT)
    };
    let sizes: Vec<usize> = HOSTS.iter().map(|host| compile_for(host, &options).len()).collect();
    assert!(sizes.iter().all(|size| *size < 900), "{sizes:?}");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn numbers_are_told_apart_by_their_convention() {
    let of = |audit, number| subject(audit, number).unwrap();
    let plain = |name| Subject { name, compat: false, short_ids: false };
    assert_eq!(of(0xc000_003e, 92), plain("chown"));
    assert_eq!(of(0xc000_003e, 0x4000_005c), plain("chown"));
    assert_eq!(of(0x4000_0003, 182), Subject { name: "chown", compat: true, short_ids: true });
    assert_eq!(of(0x4000_0003, 212), Subject { name: "chown32", compat: true, short_ids: false });
    assert_eq!(subject(0xc000_003e, -1), None);
    assert_eq!(subject(0x1234, 1), None);
}
