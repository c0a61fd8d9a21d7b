//! The filter of an imitated container: what Docker's profile refuses, as far as a builder could want it.
//!
//! Docker's own profile is a list of what is allowed; the opposite is shorter and does for imitations.

use super::environment::Refuses;
use libc::sock_filter;

/// Refused whoever asks.
const ALWAYS: &[libc::c_long] = &[
    libc::SYS_pivot_root,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_load,
];

/// Refused to those without `SYS_ADMIN`.
const WITHOUT_ADMIN: &[libc::c_long] = &[
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_quotactl,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_fanotify_init,
];

/// Podman's profile allows namespaces and mounts to everyone, and little else that Docker's does not.
const PODMAN: &[(libc::c_long, i32)] = &[
    (libc::SYS_sethostname, libc::EPERM),
    (libc::SYS_setdomainname, libc::EPERM),
    (libc::SYS_quotactl, libc::EPERM),
    (libc::SYS_bpf, libc::EPERM),
    (libc::SYS_perf_event_open, libc::EPERM),
    (libc::SYS_fanotify_init, libc::EPERM),
    (libc::SYS_open_by_handle_at, libc::EPERM),
    (libc::SYS_userfaultfd, libc::EPERM),
    (libc::SYS_kexec_load, libc::EPERM),
    (libc::SYS_io_uring_setup, libc::ENOSYS),
    (libc::SYS_add_key, libc::ENOSYS),
    (libc::SYS_request_key, libc::ENOSYS),
];

/// What an LSM refuses in user namespaces that it lets everybody make.
const MOUNTS: &[libc::c_long] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
];

/// All `CLONE_NEW…` but the one for time, which no `clone` takes.
const NEW_NAMESPACES: u32 = 0x7e02_0000;

/// What the kernel calls these.
const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const FIRST_ARGUMENT: u32 = if cfg!(target_endian = "big") { 20 } else { 16 };

fn errno(number: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | number as u32
}

/// The program for a container.
pub fn program(refuses: Refuses) -> Vec<sock_filter> {
    let step = |code: u16, k: u32| sock_filter { code, jt: 0, jf: 0, k };
    let mut program = vec![step(LOAD, NUMBER)];
    let mut refuse = |call: libc::c_long, with: i32| {
        program.push(sock_filter { code: EQUAL, jt: 0, jf: 1, k: call as u32 });
        program.push(step(RETURN, errno(with)));
    };
    let docker = ALWAYS.iter().map(|call| (*call, libc::EPERM));
    let without_admin = WITHOUT_ADMIN.iter().map(|call| (*call, libc::EPERM));
    let list: Vec<(libc::c_long, i32)> = match refuses {
        Refuses::Nothing => Vec::new(),
        Refuses::Podman => PODMAN.to_vec(),
        Refuses::Mounts => MOUNTS.iter().map(|call| (*call, libc::EPERM)).collect(),
        Refuses::DockerAdmin => docker.collect(),
        Refuses::Docker => {
            docker.chain(without_admin).chain([(libc::SYS_clone3, libc::ENOSYS)]).collect()
        }
    };
    for (call, with) in list {
        refuse(call, with);
    }
    if refuses == Refuses::Docker {
        program.push(sock_filter { code: EQUAL, jt: 0, jf: 3, k: libc::SYS_clone as u32 });
        program.push(step(LOAD, FIRST_ARGUMENT));
        program.push(sock_filter { code: ANY_BIT, jt: 0, jf: 1, k: NEW_NAMESPACES });
        program.push(step(RETURN, errno(libc::EPERM)));
    }
    program.push(step(RETURN, libc::SECCOMP_RET_ALLOW));
    program
}
