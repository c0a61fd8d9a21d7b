//! Which line of a script its shell was at: with `-v` a shell tells on standard error each line that it reads.
//!
//! In: standard error as it comes; out: the same without those lines, and how many there were. A command reads no line
//! before the ones above it are done, so the last line told is the last one of the command that failed. Nothing of it is
//! seen by the commands themselves, since a shell reads a command before it redirects anything for it.

/// Shells that know `-v`.
const SHELLS: [&str; 4] = ["sh", "bash", "dash", "ash"];

/// Takes the lines of a script out of what its shell says.
#[derive(Debug)]
pub(super) struct Echo {
    lines: Vec<Vec<u8>>,
    /// Lines that the shell told.
    told: usize,
    /// What came behind the last end of a line.
    held: Vec<u8>,
}

impl Echo {
    /// Of a script that this shell runs. Nothing for other programs, and for scripts in which what the shell says might go
    /// elsewhere than here, or other files are read by the same shell.
    pub(super) fn of(shell: &[String], text: &str) -> Option<Self> {
        let (program, options) = shell.split_first()?;
        let known = SHELLS.contains(&program.rsplit('/').next()?)
            && options.iter().all(|option| option.starts_with('-') && !option.contains('c'));
        let words = |line: &str| line.split_whitespace().any(|word| word == "exec" || word == ".");
        let tells = |line: &str| !words(line) && !line.contains("source") && !line.contains("+v");
        let lines = text.lines().map(|line| line.as_bytes().to_vec()).collect();
        (known && text.lines().all(tells)).then_some(Self { lines, told: 0, held: Vec::new() })
    }

    /// What of these bytes is to be shown, in whole lines.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut shown = Vec::new();
        self.held.extend_from_slice(bytes);
        while let Some(end) = self.held.iter().position(|byte| *byte == b'\n') {
            let mut line: Vec<u8> = self.held.drain(..=end).collect();
            line.pop();
            if let Some(next) = self.lines.get(self.told)
                && line.ends_with(next)
                && (line.len() == next.len() || !next.is_empty())
            {
                // Something without an end of its line may stand before it.
                line.truncate(line.len() - next.len());
                self.told += 1;
                if line.is_empty() {
                    continue;
                }
            }
            shown.append(&mut line);
            shown.push(b'\n');
        }
        shown
    }

    /// What was held back.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// Number of the last line that was read, from 1.
    pub(super) fn line(&self) -> Option<usize> {
        (self.told > 0).then_some(self.told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Echo {
        Echo::of(&["/bin/sh".to_owned(), "-e".to_owned()], text).unwrap()
    }

    #[test]
    fn lines_of_the_script_are_taken_out_and_counted() {
        let mut echo = of("echo a\n\nls x\nfalse\n");
        let mut shown = Vec::new();
        for part in ["ec", "ho a\n", "\nls x\nls: no", " x\nno end", "false\n", "late"] {
            shown.extend(echo.take(part.as_bytes()));
        }
        assert_eq!(String::from_utf8(shown).unwrap(), "ls: no x\nno end\n");
        assert_eq!((echo.line(), echo.rest()), (Some(4), b"late".to_vec()));
    }

    #[test]
    fn what_a_command_says_is_not_a_line_of_the_script_before_its_turn() {
        let mut echo = of("a\nb\n");
        assert_eq!(echo.take(b"b\na\n"), b"b\n");
        assert_eq!(echo.line(), Some(1));
    }

    #[test]
    fn scripts_that_could_turn_the_telling_are_left_alone() {
        let shell =
            |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        for (words, text, wanted) in [
            (&["/bin/sh", "-e"][..], "true", true),
            (&["/bin/bash"], "true", true),
            (&["/bin/busybox", "sh"], "true", false),
            (&["/usr/bin/python3"], "true", false),
            (&["/bin/sh", "-ec"], "true", false),
            (&["/bin/sh"], "exec 2>/log", false),
            (&["/bin/sh"], ". /etc/os-release", false),
            (&["/bin/sh"], "set +v", false),
        ] {
            assert_eq!(Echo::of(&shell(words), text).is_some(), wanted, "{words:?} {text}");
        }
    }
}
