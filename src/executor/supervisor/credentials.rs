//! The ids that a process believes to have.
//!
//! A model of the kernel's rules for `set*id`, more lenient in one point: who is not root may become anybody but root. The
//! kernel lets a process keep capabilities through a change of user, which is how `setpriv` changes user before group;
//! programs that test whether they can become root again must find that they cannot (isolation §2.4).

use rustix::io::Errno;
use std::sync::Arc;

/// Real, effective, saved and file system id.
pub(super) type Ids = [u32; 4];

const REAL: usize = 0;
const EFFECTIVE: usize = 1;
const SAVED: usize = 2;
const FILES: usize = 3;

/// Most groups of a process.
pub(super) const MAX_GROUPS: usize = 65536;

/// Users and groups of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub(super) uids: Ids,
    pub(super) gids: Ids,
    pub(super) groups: Arc<[u32]>,
}

impl Credentials {
    /// A process that was started as this user.
    pub fn of(uid: u32, gid: u32, groups: &[u32]) -> Self {
        Self { uids: [uid; 4], gids: [gid; 4], groups: groups.into() }
    }

    /// Root as far as the kernel's checks go.
    pub(super) fn is_root(&self) -> bool {
        self.uids[EFFECTIVE] == 0
    }

    /// Owner of the files that it makes.
    pub(super) fn owner(&self) -> (u32, u32) {
        (self.uids[FILES], self.gids[FILES])
    }

    /// True for a group that it is in.
    pub(super) fn is_member(&self, gid: u32) -> bool {
        self.gids[FILES] == gid || self.groups.contains(&gid)
    }

    /// What `getuid` and so on say.
    pub(super) fn get(&self, call: &str) -> Option<u32> {
        Some(match call {
            "getuid" => self.uids[REAL],
            "geteuid" => self.uids[EFFECTIVE],
            "getgid" => self.gids[REAL],
            "getegid" => self.gids[EFFECTIVE],
            _ => return None,
        })
    }

    /// Carries out `setuid` and so on, and gives what it returns. `None` is -1: leave it as it is.
    pub(super) fn set(&mut self, call: &str, arguments: [Option<u32>; 3]) -> Result<i64, Errno> {
        let root = self.is_root();
        let (ids, kind) = match call.strip_suffix("uid") {
            Some(kind) => (&mut self.uids, kind),
            None => (&mut self.gids, call.strip_suffix("gid").ok_or(Errno::NOSYS)?),
        };
        let [first, second, third] = arguments;
        let mine = |id: u32, ids: &Ids| ids[..3].contains(&id);
        let may = |id: Option<u32>, ids: &Ids| id.is_none_or(|id| root || id != 0 || mine(id, ids));
        match kind {
            "set" => {
                let id = first.ok_or(Errno::INVAL)?;
                if !may(Some(id), ids) {
                    return Err(Errno::PERM);
                }
                if root || !mine(id, ids) {
                    *ids = [id; 4];
                } else {
                    (ids[EFFECTIVE], ids[FILES]) = (id, id);
                }
            }
            "setre" => {
                if !may(first, ids) || !may(second, ids) {
                    return Err(Errno::PERM);
                }
                let before = ids[REAL];
                ids[REAL] = first.unwrap_or(before);
                ids[EFFECTIVE] = second.unwrap_or(ids[EFFECTIVE]);
                if first.is_some() || second.is_some_and(|id| id != before) {
                    ids[SAVED] = ids[EFFECTIVE];
                }
                ids[FILES] = ids[EFFECTIVE];
            }
            "setres" => {
                if ![first, second, third].iter().all(|id| may(*id, ids)) {
                    return Err(Errno::PERM);
                }
                for (place, id) in [first, second, third].into_iter().enumerate() {
                    ids[place] = id.unwrap_or(ids[place]);
                }
                ids[FILES] = ids[EFFECTIVE];
            }
            "setfs" => {
                let before = ids[FILES];
                if let Some(id) = first
                    && (id == before || may(first, ids))
                {
                    ids[FILES] = id;
                }
                return Ok(before.into());
            }
            _ => return Err(Errno::NOSYS),
        }
        Ok(0)
    }

    /// What starting a program with the setuid or setgid bit makes of it.
    pub(super) fn execute(&mut self, uid: Option<u32>, gid: Option<u32>) {
        for (ids, id) in [(&mut self.uids, uid), (&mut self.gids, gid)] {
            let effective = id.unwrap_or(ids[EFFECTIVE]);
            *ids = [ids[REAL], effective, effective, effective];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Credentials {
        Credentials::of(0, 0, &[0, 10])
    }

    fn set(who: &mut Credentials, call: &str, ids: [i64; 3]) -> Result<i64, Errno> {
        who.set(call, ids.map(|id| u32::try_from(id).ok()))
    }

    #[test]
    fn who_dropped_root_cannot_get_it_back() {
        let mut apt = root();
        assert_eq!(set(&mut apt, "setresgid", [65534, 65534, 65534]), Ok(0));
        assert_eq!(set(&mut apt, "setresuid", [42, 42, 42]), Ok(0));
        assert_eq!((apt.get("getuid"), apt.get("getegid")), (Some(42), Some(65534)));
        for call in ["setuid", "setgid", "setreuid", "setresuid", "setregid"] {
            assert_eq!(set(&mut apt, call, [0, 0, 0]), Err(Errno::PERM), "{call}");
        }
        assert_eq!(apt.owner(), (42, 65534));
    }

    #[test]
    fn the_group_may_be_changed_after_the_user() {
        let mut setpriv = root();
        assert_eq!(set(&mut setpriv, "setresuid", [33, 33, 33]), Ok(0));
        assert_eq!(set(&mut setpriv, "setresgid", [33, 33, 33]), Ok(0));
        assert_eq!(setpriv.owner(), (33, 33));
    }

    #[test]
    fn saved_ids_lead_back() {
        let mut daemon = root();
        assert_eq!(set(&mut daemon, "setresuid", [-1, 5, -1]), Ok(0));
        assert!(!daemon.is_root());
        assert_eq!(set(&mut daemon, "setuid", [0, 0, 0]), Ok(0));
        assert_eq!(daemon.uids, [0, 0, 0, 0]);
        assert_eq!(set(&mut daemon, "setreuid", [7, 8, 0]), Ok(0));
        assert_eq!(daemon.uids, [7, 8, 8, 8]);
        assert_eq!(set(&mut daemon, "setfsuid", [7, 0, 0]), Ok(8));
        assert_eq!(set(&mut daemon, "setfsuid", [-1, 0, 0]), Ok(7));
        assert_eq!(set(&mut daemon, "setuid", [-1, 0, 0]), Err(Errno::INVAL));
    }

    #[test]
    fn setuid_programs_change_the_effective_user() {
        let mut user = Credentials::of(1000, 1000, &[]);
        user.execute(Some(0), None);
        assert_eq!((user.uids, user.gids), ([1000, 0, 0, 0], [1000; 4]));
        assert_eq!(set(&mut user, "setuid", [0, 0, 0]), Ok(0));
        assert_eq!(user.get("getuid"), Some(0));
    }
}
