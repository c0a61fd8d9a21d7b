//! `setuid` and its relatives, and the calls that ask for ids.

use super::credentials::MAX_GROUPS;
use super::{Answer, Supervisor, plain_name};
use crate::sys::notify::{Call, Reply, read_exact, write};
use crate::sys::seccomp::Subject;
use rustix::io::Errno;

/// What 16-bit calls say of an id that does not fit.
const OVERFLOW_ID: u32 = 65534;

/// An id argument; `None` for -1.
pub(super) fn id(argument: u64, short: bool) -> Option<u32> {
    let (id, nobody) =
        if short { ((argument & 0xffff) as u32, 0xffff) } else { (argument as u32, u32::MAX) };
    (id != nobody).then_some(id)
}

/// An id as a call returns it.
fn shown(id: u32, short: bool) -> u32 {
    if short && id > 0xffff { OVERFLOW_ID } else { id }
}

fn bytes(ids: &[u32], short: bool) -> Vec<u8> {
    let one = |id: &u32| {
        let id = shown(*id, short);
        if short { (id as u16).to_ne_bytes().to_vec() } else { id.to_ne_bytes().to_vec() }
    };
    ids.iter().flat_map(one).collect()
}

impl Supervisor {
    pub(super) fn get_ids(&mut self, call: &Call, subject: Subject) -> Answer {
        let who = self.threads.get(call.tid);
        let short = subject.short_ids;
        let name = plain_name(subject);
        if let Some(id) = who.get(name) {
            return Ok(Reply::Value(shown(id, short).into()));
        }
        self.check(call)?;
        if name == "getgroups" {
            let room = call.arguments[0] as i32;
            let count = who.groups.len();
            if room < 0 || (room != 0 && (room as usize) < count) {
                return Err(Errno::INVAL);
            }
            if room != 0 {
                write(call.tid, call.arguments[1], &bytes(&who.groups, short))?;
            }
            return Ok(Reply::Value(count as i64));
        }
        let ids = if name == "getresuid" { who.uids } else { who.gids };
        for (id, address) in ids[..3].iter().zip(call.arguments) {
            write(call.tid, address, &bytes(&[*id], short))?;
        }
        Ok(Reply::Value(0))
    }

    pub(super) fn set_ids(&mut self, call: &Call, subject: Subject) -> Answer {
        let mut who = self.threads.get(call.tid);
        let name = plain_name(subject);
        let returned = if name == "setgroups" {
            who.groups = groups(call, subject.short_ids)?.into();
            0
        } else {
            let [first, second, third, ..] = call.arguments;
            who.set(name, [first, second, third].map(|argument| id(argument, subject.short_ids)))?
        };
        self.check(call)?;
        self.threads.put(call.tid, who);
        Ok(Reply::Value(returned))
    }
}

fn groups(call: &Call, short: bool) -> Result<Vec<u32>, Errno> {
    let count = call.arguments[0] as u32 as usize;
    if count > MAX_GROUPS {
        return Err(Errno::INVAL);
    }
    let size = if short { 2 } else { 4 };
    let mut list = vec![0_u8; count * size];
    read_exact(call.tid, call.arguments[1], &mut list)?;
    let one = |bytes: &[u8]| match *bytes {
        [a, b] => u16::from_ne_bytes([a, b]).into(),
        [a, b, c, d] => u32::from_ne_bytes([a, b, c, d]),
        _ => 0,
    };
    Ok(list.chunks_exact(size).map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minus_one_is_no_id_in_either_size() {
        assert_eq!(id(0xffff_ffff, false), None);
        assert_eq!(id(u64::MAX, false), None);
        assert_eq!(id(0xffff, false), Some(0xffff));
        assert_eq!(id(0xffff_ffff, true), None);
        assert_eq!(id(0x1_0021, true), Some(0x21));
    }

    #[test]
    fn large_ids_overflow_in_short_calls_only() {
        assert_eq!(
            bytes(&[70_000, 5], true),
            [65534_u16.to_ne_bytes(), 5_u16.to_ne_bytes()].concat()
        );
        assert_eq!(bytes(&[70_000], false), 70_000_u32.to_ne_bytes());
    }
}
