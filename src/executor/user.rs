//! Users of a rootfs: who a USER, `--chown` or WORKDIR means.
//!
//! In: an open rootfs and the words of a Dockerfile; out: numbers, as that rootfs's /etc/passwd and /etc/group have
//! them (links followed inside the rootfs, size limited, bad lines passed over). The three uses differ on purpose: RUN
//! refuses an unknown name, `--chown` and WORKDIR take it as root. Spec: dockerfile §1.6 and §1.7.11.

use std::os::fd::BorrowedFd;

use crate::context::pattern::clean;
use crate::context::resolve::resolve as resolve_path;
use crate::error::{Error, ErrorKind, Result};
use crate::executor::copy::make_directories;
use crate::sys::fs::Kind;
use crate::sys::{SysResultExt, root};

/// Most bytes read of passwd or group.
const MAX_FILE: u64 = 16 << 20;

/// Who a RUN runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedUser {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// All groups to set, `gid` first.
    pub groups: Vec<u32>,
    /// Home directory; `/` when none is known.
    pub home: String,
    /// Name; `None` when passwd does not have the user.
    pub name: Option<String>,
}

/// A line of passwd.
#[derive(Clone, Debug)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

/// A line of group.
#[derive(Clone, Debug)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// Resolves USER for a RUN: `name`, `uid`, `name:group`, `uid:gid`; empty means root.
pub fn resolve(rootfs: BorrowedFd<'_>, user: &str) -> Result<ResolvedUser> {
    let mut parts = user.split(':');
    let (wanted, group) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let number = id(wanted)?;
    let users = users(rootfs)?;
    let known = users.into_iter().find(|known| match (wanted, number) {
        ("", _) => known.uid == 0,
        (name, number) => known.name == name || number == Some(known.uid),
    });
    let mut resolved = match (known, number) {
        (Some(user), _) => ResolvedUser {
            uid: user.uid,
            gid: user.gid,
            groups: Vec::new(),
            home: if user.home.is_empty() { "/".to_owned() } else { user.home },
            name: Some(user.name),
        },
        (None, Some(uid)) => nobody_known(uid),
        // Root is root even where no file says so.
        (None, None) if matches!(wanted, "" | "root") => nobody_known(0),
        (None, None) => return Err(unknown("user", wanted, "passwd")),
    };
    let groups = groups(rootfs)?;
    if group.is_empty() {
        resolved.groups.push(resolved.gid);
        if let Some(name) = &resolved.name {
            let member = groups.iter().filter(|group| group.members.contains(name));
            resolved.groups.extend(member.map(|group| group.gid));
        }
    } else {
        let number = id(group)?;
        let known = groups.iter().find(|g| g.name == group || Some(g.gid) == number);
        resolved.gid = known
            .map(|group| group.gid)
            .or(number)
            .ok_or_else(|| unknown("group", group, "group"))?;
        resolved.groups.push(resolved.gid);
    }
    // The same group may be there twice: as primary one and by membership.
    let mut seen = std::collections::HashSet::new();
    resolved.groups.retain(|gid| seen.insert(*gid));
    Ok(resolved)
}

fn nobody_known(uid: u32) -> ResolvedUser {
    ResolvedUser { uid, gid: 0, groups: Vec::new(), home: "/".to_owned(), name: None }
}

fn unknown(what: &str, name: &str, file: &str) -> Error {
    Error::dockerfile(format!("unable to find {what} {name}: no matching entries in {file} file"))
        .hint(format!("create the {what} in a RUN before, or give its number"))
}

/// Resolves `--chown`: a number alone is the group too, a name alone brings its primary group; an unknown name is 0.
pub fn resolve_chown(rootfs: BorrowedFd<'_>, spec: &str) -> Result<(u32, u32)> {
    let (user, group) = match spec.split_once(':') {
        Some((user, group)) => (user, group),
        None => (spec, ""),
    };
    let (uid, mut gid) = match id(user)? {
        Some(number) => (number, number),
        None if matches!(user, "" | "root") => (0, 0),
        None => users(rootfs)?
            .into_iter()
            .find(|known| known.name == user)
            .map_or((0, 0), |known| (known.uid, known.gid)),
    };
    if !group.is_empty() {
        gid = match id(group)? {
            Some(number) => number,
            None if group == "root" => 0,
            None => groups(rootfs)?
                .into_iter()
                .find(|known| known.name == group)
                .map_or(0, |known| known.gid),
        };
    }
    Ok((uid, gid))
}

/// Owner of a directory that WORKDIR makes: as `--chown` would read the USER in effect (`1234` is 1234:1234).
pub fn resolve_workdir_owner(rootfs: BorrowedFd<'_>, user: &str) -> Result<(u32, u32)> {
    resolve_chown(rootfs, user)
}

/// Makes the directory of a WORKDIR and its parents, 0755 and owned by `owner`; what exists stays as it is.
pub fn make_workdir(rootfs: BorrowedFd<'_>, path: &str, owner: (u32, u32)) -> Result<()> {
    let cleaned = clean(format!("/{path}").as_bytes());
    let failed = || format!("cannot make the working directory `{path}`");
    let found = resolve_path(rootfs, &cleaned)
        .map_err(|error| error.with_kind(ErrorKind::Dockerfile).wrap(failed()))?;
    make_directories(rootfs, &found.path, owner, false).map_err(|error| error.wrap(failed()))?;
    Ok(())
}

/// A number that fits an id; `None` for a name.
fn id(text: &str) -> Result<Option<u32>> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    // The highest number means "no id" to the kernel.
    match text.parse::<u32>() {
        Ok(number) if number < u32::MAX => Ok(Some(number)),
        _ => Err(Error::dockerfile(format!("`{text}` is no user or group number"))
            .hint(format!("numbers are from 0 to {}", u32::MAX - 1))),
    }
}

fn users(rootfs: BorrowedFd<'_>) -> Result<Vec<User>> {
    lines(rootfs, "etc/passwd", |fields| {
        let [name, _, uid, gid, ..] = fields else { return None };
        Some(User {
            name: (*name).to_owned(),
            uid: uid.trim().parse().ok()?,
            gid: gid.trim().parse().ok()?,
            home: fields.get(5).copied().unwrap_or_default().to_owned(),
        })
    })
}

fn groups(rootfs: BorrowedFd<'_>) -> Result<Vec<Group>> {
    lines(rootfs, "etc/group", |fields| {
        let [name, _, gid, ..] = fields else { return None };
        let members = fields.get(3).copied().unwrap_or_default();
        Some(Group {
            name: (*name).to_owned(),
            gid: gid.trim().parse().ok()?,
            members: members.split(',').map(|name| name.trim().to_owned()).collect(),
        })
    })
}

/// The lines of a file of colon-separated fields that `parse` understands; none when there is no such file.
fn lines<T>(
    rootfs: BorrowedFd<'_>,
    path: &str,
    parse: impl Fn(&[&str]) -> Option<T>,
) -> Result<Vec<T>> {
    let failed = || format!("cannot read `/{path}` of the image");
    // Only a regular file is opened: opening a device node of an image would be no look-up.
    let stat = root::stat_opt(rootfs, path.as_bytes()).or_error(ErrorKind::Image, failed)?;
    if stat.is_none_or(|stat| stat.kind != Kind::File) {
        return Ok(Vec::new());
    }
    let text = root::read_small(rootfs, path.as_bytes(), MAX_FILE)
        .or_error(ErrorKind::Image, failed)?
        .unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    Ok(lines
        .map(|line| line.split(':').collect::<Vec<_>>())
        .filter(|fields| !fields[0].is_empty())
        .filter_map(|fields| parse(&fields))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs;
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nbad:x:a:b:::\n# c:x:7:7::/:\n\
        daemon:x:1:1:daemon:/usr/sbin:\nnobody:x:65534:65534::/nonexistent:\napp:x:100:101::/srv/app:\n\
        nohome:x:5:6\n";
    const GROUP: &str =
        "root:x:0:\nwheel:x:10:root,app\nstaff:x:50:daemon, app\napp:x:101:app\nbad:x\n";

    fn rootfs() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("etc")).unwrap();
        std::fs::create_dir_all(dir.path().join("data")).unwrap();
        std::fs::write(dir.path().join("data/passwd"), PASSWD).unwrap();
        symlink("/data/passwd", dir.path().join("etc/passwd")).unwrap();
        std::fs::write(dir.path().join("etc/group"), GROUP).unwrap();
        let fd = fs::open_dir_path(dir.path()).unwrap();
        (dir, fd)
    }

    /// USER, then what it resolves to.
    type Row<'a> = (&'a str, u32, u32, &'a [u32], &'a str, Option<&'a str>);

    #[test]
    fn users_of_a_run() {
        let (_dir, fd) = rootfs();
        let table: [Row<'_>; 13] = [
            ("", 0, 0, &[0, 10], "/root", Some("root")),
            ("root", 0, 0, &[0, 10], "/root", Some("root")),
            ("0", 0, 0, &[0, 10], "/root", Some("root")),
            ("app", 100, 101, &[101, 10, 50], "/srv/app", Some("app")),
            ("100", 100, 101, &[101, 10, 50], "/srv/app", Some("app")),
            ("app:staff", 100, 50, &[50], "/srv/app", Some("app")),
            ("app:7", 100, 7, &[7], "/srv/app", Some("app")),
            ("app:", 100, 101, &[101, 10, 50], "/srv/app", Some("app")),
            ("1234", 1234, 0, &[0], "/", None),
            ("1234:5678", 1234, 5678, &[5678], "/", None),
            ("1234:wheel", 1234, 10, &[10], "/", None),
            (":wheel", 0, 10, &[10], "/root", Some("root")),
            ("nohome", 5, 6, &[6], "/", Some("nohome")),
        ];
        for (user, uid, gid, groups, home, name) in table {
            let expected = ResolvedUser {
                uid,
                gid,
                groups: groups.to_vec(),
                home: home.to_owned(),
                name: name.map(str::to_owned),
            };
            assert_eq!(resolve(fd.as_fd(), user).unwrap(), expected, "{user}");
        }
    }

    #[test]
    fn unknown_and_impossible_users_are_errors() {
        let (_dir, fd) = rootfs();
        let error = |user| resolve(fd.as_fd(), user).unwrap_err().to_string();
        assert_eq!(
            error("nosuch"),
            "unable to find user nosuch: no matching entries in passwd file"
        );
        assert_eq!(
            error("app:nosuch"),
            "unable to find group nosuch: no matching entries in group file"
        );
        assert_eq!(error("bad"), "unable to find user bad: no matching entries in passwd file");
        assert_eq!(error("-1"), "`-1` is no user or group number");
        assert_eq!(error("4294967295"), "`4294967295` is no user or group number");
        assert_eq!(error("0:99999999999"), "`99999999999` is no user or group number");
    }

    #[test]
    fn a_rootfs_without_files_knows_root_and_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let fd = fs::open_dir_path(dir.path()).unwrap();
        for (user, uid) in [("", 0), ("root", 0), ("12", 12)] {
            let expected = ResolvedUser { groups: vec![0], ..nobody_known(uid) };
            assert_eq!(resolve(fd.as_fd(), user).unwrap(), expected);
        }
        assert!(resolve(fd.as_fd(), "daemon").is_err());
        assert_eq!(resolve_chown(fd.as_fd(), "daemon:daemon").unwrap(), (0, 0));
        // Not a file: as good as none, and never opened.
        std::fs::create_dir_all(dir.path().join("etc/passwd")).unwrap();
        assert!(resolve(fd.as_fd(), "root").is_ok());
    }

    #[test]
    fn owners_of_chown() {
        let (_dir, fd) = rootfs();
        for (spec, expected) in [
            ("1", (1, 1)),
            ("1:2", (1, 2)),
            ("nobody", (65534, 65534)),
            ("app", (100, 101)),
            ("nobody:", (65534, 65534)),
            ("nosuch", (0, 0)),
            ("55:wheel", (55, 10)),
            ("55:nosuch", (55, 0)),
            ("a:b:c", (0, 0)),
            ("root", (0, 0)),
            ("root:staff", (0, 50)),
            (":7", (0, 7)),
            ("", (0, 0)),
        ] {
            assert_eq!(resolve_chown(fd.as_fd(), spec).unwrap(), expected, "{spec}");
        }
        for bad in ["-1", "1:-1", "4294967295", "4294967296:0"] {
            assert!(resolve_chown(fd.as_fd(), bad).is_err(), "{bad}");
        }
        assert_eq!(resolve_workdir_owner(fd.as_fd(), "1234").unwrap(), (1234, 1234));
    }

    #[test]
    fn workdirs_are_made_inside_the_root_and_existing_ones_left_alone() {
        let (dir, fd) = rootfs();
        let me = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir(at("real")).unwrap();
        std::fs::set_permissions(at("real"), PermissionsExt::from_mode(0o711)).unwrap();
        symlink("/real", at("link")).unwrap();
        symlink("../../../outside", at("dangling")).unwrap();
        for path in ["/link/a/b", "dangling/c", "/", "/real"] {
            make_workdir(fd.as_fd(), path, me).unwrap();
        }
        let mode = |path: &str| at(path).metadata().unwrap().mode() & 0o7777;
        assert_eq!(
            ["real", "real/a", "real/a/b", "outside/c"].map(mode),
            [0o711, 0o755, 0o755, 0o755]
        );
        assert!(!dir.path().parent().unwrap().join("outside").exists());
        let error = make_workdir(fd.as_fd(), "/etc/group/x", me).unwrap_err().to_string();
        assert_eq!(
            error,
            "cannot make the working directory `/etc/group/x`: not a directory: `/etc/group`"
        );
        if me.0 == 0 {
            make_workdir(fd.as_fd(), "/w/s", (1234, 1234)).unwrap();
            let owner = |path: &str| at(path).metadata().map(|m| (m.uid(), m.gid())).unwrap();
            assert_eq!([owner("w"), owner("w/s")], [(1234, 1234); 2]);
        } else {
            eprintln!("SKIPPED: owners of working directories need root");
        }
    }
}
