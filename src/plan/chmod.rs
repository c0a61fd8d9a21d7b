//! `--chmod` values: checking them in the plan, and working out a mode for the executor's copy.
//!
//! In: the expanded text. Out: [`Chmod`], or BuildKit's error. Symbolic clauses work as BSD's `setmode` with umask 0,
//! which is what BuildKit uses; dockerfile.md §1.7.12.

use super::step::Chmod;
use crate::error::{Error, Result};

const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;
const STICKY: u32 = 0o1000;
const EXECUTE: u32 = 0o111;

/// Parses and checks the value of `--chmod`.
pub(super) fn parse(text: &str) -> Result<Chmod> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o7777 => Ok(Chmod::Octal(mode)),
            _ => Err(invalid(text)),
        };
    }
    match parse_clauses(text) {
        Some(_) => Ok(Chmod::Symbolic(text.to_owned())),
        None => Err(invalid(text).hint("symbolic modes look like `u=rwX,go=rX` or `+x`")),
    }
}

fn invalid(text: &str) -> Error {
    Error::dockerfile(format!(
        "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
    ))
}

/// Mode after the clauses of a checked symbolic value. Bits above 07777 stay; clauses that are no valid value (never
/// the case for one out of a plan) change nothing.
pub fn apply_symbolic(clauses: &str, mode: u32, is_dir: bool) -> u32 {
    let Some(actions) = parse_clauses(clauses) else { return mode };
    // `X` looks at the mode before the first clause, copies (`g=u`) at the one so far.
    let may_execute = is_dir || mode & EXECUTE != 0;
    actions.iter().fold(mode, |now, action| action.apply(now, may_execute))
}

/// One operator and its permissions.
#[derive(Clone, Copy, Debug)]
struct Action {
    /// Bits that the operator may touch.
    who: u32,
    operator: char,
    permissions: Permissions,
}

#[derive(Clone, Copy, Debug)]
enum Permissions {
    /// Bits, and the ones of `X`.
    Bits { always: u32, conditional: u32 },
    /// The three bits of a class, at this shift.
    CopyOf(u32),
}

impl Action {
    fn apply(self, mode: u32, may_execute: bool) -> u32 {
        let bits = match self.permissions {
            Permissions::Bits { always, conditional } => {
                always | if may_execute { conditional } else { 0 }
            }
            Permissions::CopyOf(shift) => (mode >> shift & 0o7) * 0o111,
        } & self.who;
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => mode & !self.who | bits,
        }
    }
}

fn parse_clauses(text: &str) -> Option<Vec<Action>> {
    let mut actions = Vec::new();
    for clause in text.split(',') {
        let end = clause.find(['+', '-', '='])?;
        let mut who = 0;
        for class in clause[..end].chars() {
            who |= class_bits(class)?;
        }
        let named = who;
        if who == 0 {
            who = 0o777 | SET_UID | SET_GID;
        }
        let mut rest = &clause[end..];
        while let Some(operator) = rest.chars().next() {
            let body = &rest[1..];
            let stop = body.find(['+', '-', '=']).unwrap_or(body.len());
            actions.push(parse_action(&body[..stop], operator, who, named)?);
            rest = &body[stop..];
        }
    }
    Some(actions)
}

fn class_bits(class: char) -> Option<u32> {
    Some(match class {
        'u' => 0o700 | SET_UID,
        'g' => 0o070 | SET_GID,
        'o' => 0o007,
        'a' => 0o777 | SET_UID | SET_GID,
        _ => return None,
    })
}

fn parse_action(letters: &str, operator: char, mut who: u32, named: u32) -> Option<Action> {
    let copy = |shift| Some(Action { who, operator, permissions: Permissions::CopyOf(shift) });
    match letters {
        "u" => return copy(6),
        "g" => return copy(3),
        "o" => return copy(0),
        _ => {}
    }
    let (mut always, mut conditional) = (0, 0);
    for letter in letters.chars() {
        match letter {
            'r' => always |= 0o444,
            'w' => always |= 0o222,
            'x' => always |= EXECUTE,
            'X' => conditional |= EXECUTE,
            's' => always |= SET_UID | SET_GID,
            // Sticky belongs to no class; `o+t` alone means nothing.
            't' => {
                if named == 0 || named & !0o007 != 0 {
                    who |= STICKY;
                    always |= STICKY;
                }
            }
            _ => return None,
        }
    }
    Some(Action { who, operator, permissions: Permissions::Bits { always, conditional } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_and_symbolic_values_are_checked() {
        for (text, expected) in [
            ("0", Chmod::Octal(0)),
            ("0755", Chmod::Octal(0o755)),
            ("7777", Chmod::Octal(0o7777)),
            ("007777", Chmod::Octal(0o7777)),
            ("u=rwX,go=rX", Chmod::Symbolic("u=rwX,go=rX".to_owned())),
            ("+x", Chmod::Symbolic("+x".to_owned())),
            ("g=u", Chmod::Symbolic("g=u".to_owned())),
            ("u+r-w=x", Chmod::Symbolic("u+r-w=x".to_owned())),
            ("o=", Chmod::Symbolic("o=".to_owned())),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        for text in
            ["10000", "64a", "8", "99999999999999", "u", "u=rwz", "q+x", ",", "a+x,", "u=gr"]
        {
            assert_eq!(
                parse(text).unwrap_err().message(),
                format!(
                    "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
                )
            );
        }
    }

    #[test]
    fn symbolic_modes_work_as_bsd_chmod_with_umask_0() {
        for (clauses, mode, is_dir, expected) in [
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o710, false, 0o755),
            ("+x", 0o644, false, 0o755),
            ("a+X", 0o644, false, 0o644),
            ("a+X", 0o744, false, 0o755),
            ("u+x,a+X", 0o644, false, 0o744),
            ("g=u", 0o741, false, 0o771),
            ("u-s,g=", 0o6755, false, 0o0705),
            ("a=r", 0o7777, false, 0o1444),
            ("+t", 0o777, true, 0o1777),
            ("o+t", 0o777, true, 0o777),
            ("u+s", 0o755, false, 0o4755),
            ("g+s", 0o755, false, 0o2755),
            ("o+s", 0o755, false, 0o755),
            ("u=g,g=o", 0o124, false, 0o244),
            ("u+rw-x", 0o100, false, 0o600),
            ("+w", 0o100_444, false, 0o100_666),
            ("nonsense", 0o644, false, 0o644),
        ] {
            let shown = apply_symbolic(clauses, mode, is_dir);
            assert_eq!(shown, expected, "{clauses} on {mode:o}: {shown:o}");
        }
    }
}
