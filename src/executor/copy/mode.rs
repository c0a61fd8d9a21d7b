//! File modes of `--chmod`: octal, and symbolic clauses as chmod(1) reads them with a umask of 0.
//!
//! In: a mode and what it is of; out: the new mode. Syntax is checked elsewhere; what makes no sense here is passed
//! over. Spec: dockerfile §1.7.12.

/// A `--chmod` value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModeChange {
    /// Octal mode, 0 to 07777.
    Octal(u32),
    /// Symbolic clauses, for example `u=rwX,go=rX`.
    Symbolic(String),
}

impl ModeChange {
    /// The mode that `mode` becomes.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Self::Octal(octal) => octal & 0o7777,
            Self::Symbolic(clauses) => apply_symbolic(clauses, mode, is_dir),
        }
    }
}

/// Bits that belong to user, group and others: permissions and the special bit of each.
const WHO: [(u8, u32); 4] = [(b'u', 0o4700), (b'g', 0o2070), (b'o', 0o1007), (b'a', 0o7777)];

/// Applies clauses such as `u=rwX,go=rX`, `+x`, `g=u`, `a+X`.
pub fn apply_symbolic(clauses: &str, mode: u32, is_dir: bool) -> u32 {
    clauses.split(',').fold(mode & 0o7777, |mode, clause| apply_clause(clause, mode, is_dir))
}

fn apply_clause(clause: &str, mut mode: u32, is_dir: bool) -> u32 {
    let bytes = clause.as_bytes();
    let is_operator = |b: &u8| matches!(b, b'+' | b'-' | b'=');
    let start = bytes.iter().position(is_operator).unwrap_or(bytes.len());
    let who = match &bytes[..start] {
        b"" => 0o7777,
        letters => WHO
            .iter()
            .filter(|(letter, _)| letters.contains(letter))
            .fold(0, |who, (_, bits)| who | bits),
    };
    let mut rest = &bytes[start..];
    while let Some((operator, after)) = rest.split_first() {
        let end = after.iter().position(is_operator).unwrap_or(after.len());
        let bits = permissions(&after[..end], mode, is_dir) & who;
        mode = match operator {
            b'+' => mode | bits,
            b'-' => mode & !bits,
            _ => (mode & !cleared(who, &after[..end], is_dir)) | bits,
        };
        rest = &after[end..];
    }
    mode
}

/// What `=` takes away: all of `who`, but setuid and setgid of a directory only when `s` is written.
fn cleared(who: u32, permissions: &[u8], is_dir: bool) -> u32 {
    if is_dir && !permissions.contains(&b's') { who & !0o6000 } else { who }
}

/// The bits that permission letters stand for, for everybody.
fn permissions(letters: &[u8], mode: u32, is_dir: bool) -> u32 {
    letters.iter().fold(0, |bits, letter| {
        bits | match letter {
            b'r' => 0o444,
            b'w' => 0o222,
            b'x' => 0o111,
            b'X' if is_dir || mode & 0o111 != 0 => 0o111,
            b's' => 0o6000,
            b't' => 0o1000,
            b'u' => copies(mode >> 6),
            b'g' => copies(mode >> 3),
            b'o' => copies(mode),
            _ => 0,
        }
    })
}

/// The lowest three bits, for user, group and others.
fn copies(mode: u32) -> u32 {
    (mode & 7) * 0o111
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_work_as_chmod_has_them() {
        for (clauses, mode, is_dir, expected) in [
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o700, true, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("-w", 0o666, false, 0o444),
            ("=r", 0o4755, false, 0o444),
            ("g=u", 0o640, false, 0o660),
            ("o=g", 0o640, false, 0o644),
            ("a+X", 0o644, false, 0o644),
            ("a+X", 0o744, false, 0o755),
            ("u+s", 0o755, false, 0o4755),
            ("g+s", 0o755, true, 0o2755),
            ("+s", 0o755, false, 0o6755),
            ("o+s", 0o755, false, 0o755),
            ("+t", 0o755, true, 0o1755),
            ("u=rwx", 0o4755, false, 0o755),
            ("u=rwx", 0o6755, true, 0o6755),
            ("u=rwxs", 0o755, false, 0o4755),
            ("u=rw+x-w", 0o000, false, 0o500),
            ("go=", 0o777, false, 0o700),
            ("ug+rw,o-rwx", 0o007, false, 0o660),
            ("u=g,g=o", 0o123, false, 0o233),
            ("", 0o644, false, 0o644),
            ("rubbish", 0o644, false, 0o644),
        ] {
            assert_eq!(apply_symbolic(clauses, mode, is_dir), expected, "{clauses} on {mode:o}");
        }
    }

    #[test]
    fn octal_is_the_mode_itself() {
        assert_eq!(ModeChange::Octal(0o4750).apply(0o644, true), 0o4750);
        assert_eq!(ModeChange::Octal(0).apply(0o644, false), 0);
    }
}
