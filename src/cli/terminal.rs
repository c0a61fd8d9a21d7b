//! Questions at a terminal: a line, and a password that is not shown.
//!
//! While a password is typed the terminal gives each key at once and shows none; it is set back however that ends. Control-C
//! is a key like any other meanwhile, so that nothing can end the program in between.

use crate::error::{Error, ErrorKind, Result, ResultExt};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use std::io::{self, BufRead, IsTerminal, Read, Write};

/// Bytes of an answer.
const LARGEST: u64 = 64 << 10;

/// Standard input is a terminal, and somebody can read a question.
pub(super) fn is_there() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks for a line.
pub(super) fn line(question: &str) -> Result<String> {
    ask(question)?;
    let mut line = String::new();
    let read = io::stdin().lock().take(LARGEST).read_line(&mut line);
    read.or_error(ErrorKind::Usage, || "cannot read the answer".to_owned())?;
    Ok(line.trim().to_owned())
}

/// Asks for a password.
pub(super) fn password(question: &str) -> Result<String> {
    let what = || "cannot read the password".to_owned();
    let hidden = Hidden::begin().or_error(ErrorKind::Environment, what)?;
    ask(question)?;
    let typed = typed(io::stdin().lock()).or_error(ErrorKind::Environment, what);
    drop(hidden);
    ask("\n")?;
    match typed? {
        Some(bytes) => {
            String::from_utf8(bytes).map_err(|_| Error::usage("the password is no UTF-8 text"))
        }
        None => Err(Error::new(ErrorKind::Interrupted(2), "interrupted")),
    }
}

fn ask(question: &str) -> Result<()> {
    let mut out = io::stderr().lock();
    out.write_all(question.as_bytes())
        .and_then(|()| out.flush())
        .or_error(ErrorKind::Environment, || "cannot ask at the terminal".to_owned())
}

/// Keys up to the end of the line; `None` when the user gives up.
fn typed(keys: impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    for key in keys.take(LARGEST).bytes() {
        match key? {
            b'\n' | b'\r' | 0x04 => break,
            0x03 | 0x1c => return Ok(None),
            // A character can have several bytes.
            0x08 | 0x7f => while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            0x15 => line.clear(),
            byte => line.push(byte),
        }
    }
    Ok(Some(line))
}

/// The terminal as it was.
struct Hidden(Termios);

impl Hidden {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut now = before.clone();
        now.local_modes -=
            LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN;
        now.special_codes[SpecialCodeIndex::VMIN] = 1;
        now.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Flush, &now)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _gone = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_make_a_line() {
        for (keys, wanted) in [
            (&b"secret\nrest"[..], Some("secret")),
            (b"secret\r", Some("secret")),
            (b"secret", Some("secret")),
            (b"sx\x7fecret\x04", Some("secret")),
            ("s\u{20ac}\x08ecret\n".as_bytes(), Some("secret")),
            (b"\x7f\x7fwrong\x15secret\n", Some("secret")),
            (b"se\x03cret\n", None),
            (b"", Some("")),
        ] {
            let found = typed(keys).unwrap().map(|line| String::from_utf8(line).unwrap());
            assert_eq!(found.as_deref(), wanted, "{keys:?}");
        }
    }
}
