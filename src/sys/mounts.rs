//! Which mount a path is on, and what of its file system is mounted there.

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A number that tells the mount of a path, links followed, from all others; none where the kernel does not say.
pub fn id(path: &Path) -> Option<u64> {
    let found = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
    let is_said = found.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    is_said.then_some(found.stx_mnt_id)
}

/// The device of the file system that a path without links is on, and its path there, by the text of `mountinfo`
/// (proc_pid_mountinfo(5)).
pub fn source(mountinfo: &[u8], path: &Path) -> Option<(String, PathBuf)> {
    let mut found: Option<(String, PathBuf, PathBuf)> = None;
    for line in mountinfo.split(|byte| *byte == b'\n') {
        let mut words = line.split(|byte| *byte == b' ').skip(2);
        let (Some(device), Some(root), Some(point)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let point = plain(point);
        // Of several at one place the last is on top; one that is deeper came later than what it is on, or is not seen.
        let is_nearer = found.as_ref().is_none_or(|(_, _, known)| point.starts_with(known));
        if path.starts_with(&point) && is_nearer {
            found = Some((String::from_utf8_lossy(device).into_owned(), plain(root), point));
        }
    }
    let (device, root, point) = found?;
    Some((device, root.join(path.strip_prefix(point).ok()?)))
}

/// A path of the kernel, in which blanks and the like are octal numbers.
fn plain(word: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, after @ ..] = rest {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        path.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(OsString::from_vec(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_where_the_topmost_mount_has_it() {
        let mounts = br"20 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
21 20 8:2 / /home rw shared:1 - ext4 /dev/sda2 rw
22 21 8:1 /srv/my\040project /home/src rw - ext4 /dev/sda1 rw
23 20 8:1 /srv/old /var/lib/nativebuild rw - ext4 /dev/sda1 rw
24 23 8:1 /srv/my\040project/.nb /var/lib/nativebuild rw - ext4 /dev/sda1 rw
";
        let at = |path: &str| source(mounts, Path::new(path));
        let is = |device: &str, path: &str| Some((device.to_owned(), PathBuf::from(path)));
        assert_eq!(at("/home/src/a"), is("8:1", "/srv/my project/a"));
        assert_eq!(at("/home/src"), is("8:1", "/srv/my project/"));
        assert_eq!(at("/home/srcs"), is("8:2", "/srcs"));
        assert_eq!(at("/var/lib/nativebuild/x"), is("8:1", "/srv/my project/.nb/x"));
        assert_eq!(at("/var/lib"), is("8:1", "/var/lib"));
        assert_eq!(source(b"", Path::new("/")), None);
        assert_eq!(plain(br"\134\12\x\04"), PathBuf::from(r"\\12\x\04"));
    }

    #[test]
    fn two_paths_of_one_mount_have_one_number() {
        let id = |path: &str| id(Path::new(path));
        assert_eq!(id("/proc/self/status"), id("/proc"));
        assert_ne!(id("/proc"), id("/"));
        assert_eq!(id("/nowhere at all"), None);
        let mounts = std::fs::read("/proc/self/mountinfo").unwrap();
        let (_, there) = source(&mounts, Path::new("/proc/self")).unwrap();
        assert_eq!(there, Path::new("/self"));
    }
}
