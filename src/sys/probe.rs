//! What this machine allows, and why not: reads of /proc and /etc that explain a refusal.

use rustix::io::Errno;

/// A text file of the host, if it can be read.
pub fn read_host_file(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Identity of this boot; a snapshot that was not synced is only good within one.
pub fn boot_id() -> String {
    read_host_file("/proc/sys/kernel/random/boot_id")
        .map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// Major and minor version of the running kernel.
pub fn kernel_version() -> Option<(u32, u32)> {
    parse_version(&rustix::system::uname().release().to_string_lossy())
}

fn parse_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The one setting that most likely stands in the way of a user namespace.
pub fn why_no_user_namespace(errno: Errno) -> String {
    let sysctl = |name: &str| {
        read_host_file(&format!("/proc/sys/{name}")).map(|text| text.trim().to_owned())
    };
    if errno == Errno::NOSPC || sysctl("user/max_user_namespaces").as_deref() == Some("0") {
        return "`sysctl user.max_user_namespaces` is 0 or used up; raise it".to_owned();
    }
    if sysctl("kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
        return "AppArmor restricts user namespaces here: `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or \
                a profile for this program"
            .to_owned();
    }
    if sysctl("kernel/unprivileged_userns_clone").as_deref() == Some("0") {
        return "`sysctl kernel.unprivileged_userns_clone=1` allows user namespaces".to_owned();
    }
    "the container's seccomp profile denies `unshare`; run it with one that allows user namespaces"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn kernels_are_told_apart_by_their_first_two_numbers() {
        for (release, expected) in [
            ("6.13.0-rc1", Some((6, 13))),
            ("6.6.87.2-microsoft-standard-WSL2", Some((6, 6))),
            ("5.15", Some((5, 15))),
            ("7.0-generic", Some((7, 0))),
            ("6", None),
            ("", None),
            ("next-20260101", None),
        ] {
            assert_eq!(parse_version(release), expected, "{release}");
        }
        assert!(parse_version("6.9.1") < Some((6, 13)) && parse_version("") < Some((6, 13)));
    }
}
