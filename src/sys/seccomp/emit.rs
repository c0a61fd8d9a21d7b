//! Ranges of call numbers to classic BPF: an architecture check, then a binary decision tree for each section.
//!
//! In: per audit value the sorted ranges; out: instructions over `struct seccomp_data`. Jumps only go forward, so
//! the program is written from its end: a branch is pushed when both its targets are known, and equal returns
//! are shared. Conditional jumps reach 255 instructions; beyond that they go by way of an unconditional one.

use super::{ENOSYS, Test, Verdict};
use libc::sock_filter;

/// From `start` to the next range's start (or to the end) every number has this verdict.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) start: u32,
    pub(super) verdict: Verdict,
}

/// All ranges under one audit value.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) audit: u32,
    pub(super) big_endian: bool,
    pub(super) ranges: Vec<Range>,
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_ABOVE: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const IF_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;

// Offsets in struct seccomp_data.
const NUMBER: u32 = 0;
const AUDIT: u32 = 4;
const ARGUMENTS: u32 = 16;

/// How far a conditional jump may go, less what may be pushed between choosing its targets and writing it.
const REACH: usize = 250;

/// The program for some sections; another audit value is ENOSYS.
pub(super) fn program(sections: &[Section]) -> Vec<sock_filter> {
    let mut code = Code::default();
    let mut next = code.leaf(ENOSYS, false);
    for section in sections.iter().rev() {
        let tree = code.tree(&section.ranges, section.big_endian);
        let body = code.load(NUMBER, tree);
        next = code.branch(IF_EQUAL, section.audit, body, next);
    }
    code.load(AUDIT, next);
    code.reversed.reverse();
    code.reversed
}

/// A place in the reversed program.
type Place = usize;

/// A program being written from its end.
#[derive(Default)]
struct Code {
    reversed: Vec<sock_filter>,
    leaves: Vec<(Verdict, Place)>,
}

impl Code {
    fn push(&mut self, code: u16, k: u32, jt: usize, jf: usize) -> Place {
        let short = |jump: usize| u8::try_from(jump).expect("targets were brought within reach");
        self.reversed.push(sock_filter { code, jt: short(jt), jf: short(jf), k });
        self.reversed.len() - 1
    }

    /// Instructions between the next one to be pushed and `target`.
    fn distance(&self, target: Place) -> usize {
        self.reversed.len() - 1 - target
    }

    /// `target`, or a jump to it that is close by.
    fn near(&mut self, target: Place) -> Place {
        match self.distance(target) {
            0..REACH => target,
            far => self.push(JUMP, far as u32, 0, 0),
        }
    }

    fn branch(&mut self, code: u16, k: u32, yes: Place, no: Place) -> Place {
        let (yes, no) = (self.near(yes), self.near(no));
        let (jt, jf) = (self.distance(yes), self.distance(no));
        self.push(code, k, jt, jf)
    }

    /// A load that goes on at `next`.
    fn load(&mut self, offset: u32, next: Place) -> Place {
        match self.distance(next) {
            0 => {}
            far => _ = self.push(JUMP, far as u32, 0, 0),
        }
        self.push(LOAD, offset, 0, 0)
    }

    fn tree(&mut self, ranges: &[Range], big_endian: bool) -> Place {
        if let [only] = ranges {
            return self.leaf(only.verdict, big_endian);
        }
        let (low, high) = ranges.split_at(ranges.len() / 2);
        let above = self.tree(high, big_endian);
        let below = self.tree(low, big_endian);
        self.branch(IF_AT_LEAST, high[0].start, above, below)
    }

    fn leaf(&mut self, verdict: Verdict, big_endian: bool) -> Place {
        let known = self.leaves.iter().rev().find(|(leaf, _)| *leaf == verdict);
        if let Some((_, place)) = known
            && self.distance(*place) < REACH
        {
            return *place;
        }
        let place = match verdict {
            Verdict::Allow => self.push(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
            Verdict::Errno(errno) => {
                self.push(RETURN, libc::SECCOMP_RET_ERRNO | u32::from(errno), 0, 0)
            }
            Verdict::Notify => self.push(RETURN, libc::SECCOMP_RET_USER_NOTIF, 0, 0),
            Verdict::When(argument, tests, yes, no) => {
                let yes = self.leaf(*yes, big_endian);
                let mut no = self.leaf(*no, big_endian);
                for test in tests.iter().rev() {
                    no = match *test {
                        Test::Below(limit) => self.branch(IF_AT_LEAST, limit, no, yes),
                        Test::Is(value) => self.branch(IF_EQUAL, value, yes, no),
                        Test::Above(limit) => self.branch(IF_ABOVE, limit, yes, no),
                        Test::NoneOf(bits) => self.branch(IF_ANY_BIT, bits, no, yes),
                        Test::AnyOf(bits) => self.branch(IF_ANY_BIT, bits, yes, no),
                    };
                }
                let low_word = if big_endian { 4 } else { 0 };
                self.load(ARGUMENTS + 8 * u32::from(argument) + low_word, no)
            }
        };
        self.leaves.push((verdict, place));
        place
    }
}
