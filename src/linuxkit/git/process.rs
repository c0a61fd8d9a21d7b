//! Starting git: with the user's configuration, but without the variables by which a caller (a hook, say) points git
//! elsewhere, and with bounds on what it may answer.
//!
//! Nothing else in this room starts a program.

use crate::error::{Error, ErrorKind, Result, ResultExt};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};

/// More than any listing of a package; what git says beyond it is an error, not memory.
const LARGEST_OUTPUT: u64 = 64 << 20;
const LARGEST_COMPLAINT: u64 = 16 << 10;

/// Variables that point git at another repository, index or reading of paths.
const NOT_INHERITED: &[&str] = &[
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_SHALLOW_FILE",
    "GIT_GRAFT_FILE",
    "GIT_REPLACE_REF_BASE",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_CONFIG",
    "GIT_EXTERNAL_DIFF",
    "GIT_DIFF_OPTS",
    "GIT_LITERAL_PATHSPECS",
    "GIT_GLOB_PATHSPECS",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
    "LANGUAGE",
];

/// What a process of git left behind.
pub(super) struct Said {
    pub(super) code: Option<i32>,
    pub(super) stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Said {
    /// Its output, or its complaint as an error.
    pub(super) fn success(self, dir: &Path) -> Result<Vec<u8>> {
        if self.code == Some(0) { Ok(self.stdout) } else { Err(self.complaint(dir)) }
    }

    fn complaint(&self, dir: &Path) -> Error {
        let words = String::from_utf8_lossy(&self.stderr);
        let lines = || words.lines().map(str::trim).filter(|line| !line.is_empty());
        if words.contains("dubious ownership") || words.contains("unsafe repository") {
            let fix = "git config --global --add safe.directory";
            let line = lines().find(|line| line.starts_with(fix)).map(str::to_owned);
            let line = line.unwrap_or_else(|| format!("{fix} '{}'", dir.display()));
            return failed(dir)
                .cause("the repository belongs to another user (\"dubious ownership\")")
                .hint(format!("if you trust it, run `{line}`"));
        }
        let fatal = lines().find_map(|line| line.strip_prefix("fatal: "));
        let error = match fatal.or_else(|| lines().next_back()) {
            Some(line) => failed(dir).cause(shortened(line.as_bytes())),
            None => match self.code {
                Some(code) => failed(dir).cause(format!("it ended with code {code}")),
                None => failed(dir).cause("a signal ended it"),
            },
        };
        if words.contains("filesystem boundary") {
            return error
                .hint("set GIT_DISCOVERY_ACROSS_FILESYSTEM=1 to let git look beyond this mount");
        }
        if words.contains("not a git repository") {
            return error.hint("there is a `.git` here or above: repair it, or remove it");
        }
        error
    }
}

pub(super) fn failed(dir: &Path) -> Error {
    Error::environment(format!("git failed in {}", dir.display()))
}

pub(super) fn shortened(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().take(300).collect()
}

pub(super) fn git(dir: &Path, words: &[impl AsRef<OsStr>]) -> Result<Said> {
    run("git", dir, words)
}

fn run(program: &str, dir: &Path, words: &[impl AsRef<OsStr>]) -> Result<Said> {
    let what = || format!("cannot run git in {}", dir.display());
    let child = command(program, dir, words).spawn();
    let is_missing = child.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    let mut child = child
        .or_error(ErrorKind::Environment, what)
        .map_err(|error| if is_missing { error.hint("install git") } else { error })?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // Both are read at once: git waits when one of them is full.
    let (stdout, stderr) = std::thread::scope(|scope| {
        let complaint = std::thread::Builder::new()
            .spawn_scoped(scope, || read_start(stderr, LARGEST_COMPLAINT))?;
        let stdout = read_start(stdout, LARGEST_OUTPUT)?;
        let complaint = complaint.join().map_err(|_| io::Error::other("a thread has died"))?;
        Ok((stdout, complaint?))
    })
    .or_error(ErrorKind::Environment, what)?;
    let status = child.wait().or_error(ErrorKind::Environment, what)?;
    let ((stdout, is_cut), (stderr, _)) = (stdout, stderr);
    if is_cut {
        return Err(failed(dir).cause("its answer is larger than 64 MiB"));
    }
    Ok(Said { code: status.code(), stdout, stderr })
}

fn command(program: &str, dir: &Path, words: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(program);
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    command
        .envs([("LC_ALL", "C"), ("TZ", "UTC"), ("GIT_OPTIONAL_LOCKS", "0")])
        .env("GIT_TERMINAL_PROMPT", "0")
        .args([OsStr::new("--no-pager"), OsStr::new("-C"), dir.as_os_str()])
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The first `limit` bytes and whether there were more, which are read and dropped so that git can end.
fn read_start(from: Option<impl Read>, limit: u64) -> io::Result<(Vec<u8>, bool)> {
    let Some(mut from) = from else { return Ok((Vec::new(), false)) };
    let mut start = Vec::new();
    from.by_ref().take(limit).read_to_end(&mut start)?;
    let more = io::copy(&mut from, &mut io::sink())?;
    Ok((start, more > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_missing_git_is_an_error() {
        let error = run("/nowhere/git", Path::new("/p"), &["status"]).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Environment);
        assert_eq!(error.to_string(), "cannot run git in /p: no such file or directory");
        assert_eq!(error.hints(), ["install git"]);
    }

    #[test]
    fn variables_that_lead_elsewhere_are_not_passed_on() {
        let command = command("git", Path::new("/p"), &["status"]);
        let changed: BTreeMap<_, _> = command.get_envs().collect();
        for name in NOT_INHERITED {
            assert_eq!(changed.get(OsStr::new(name)), Some(&None), "{name}");
        }
        assert_eq!(changed.len(), NOT_INHERITED.len() + 4);
    }

    #[test]
    fn of_a_long_answer_only_the_start_is_kept_and_all_is_read() {
        let mut text = &b"0123456789"[..];
        assert_eq!(read_start(Some(&mut text), 4).unwrap(), (b"0123".to_vec(), true));
        assert_eq!(text, b"");
        assert_eq!(read_start(Some(&b"0123"[..]), 4).unwrap(), (b"0123".to_vec(), false));
    }

    #[test]
    fn complaints_become_causes() {
        let said = |code, stderr: &str| Said { code, stdout: Vec::new(), stderr: stderr.into() };
        let cases = [
            (said(Some(128), "warning: x\nfatal: index is damaged\n"), "index is damaged", ""),
            (said(Some(1), "error: x\nerror: last\n"), "error: last", ""),
            (said(Some(3), ""), "it ended with code 3", ""),
            (said(None, ""), "a signal ended it", ""),
            (
                said(
                    Some(128),
                    "fatal: not a git repository (or any parent up to mount point /m)\n\
                    Stopping at filesystem boundary (GIT_DISCOVERY_ACROSS_FILESYSTEM not set).\n",
                ),
                "not a git repository (or any parent up to mount point /m)",
                "set GIT_DISCOVERY_ACROSS_FILESYSTEM=1 to let git look beyond this mount",
            ),
            (
                said(Some(128), "fatal: unsafe repository ('/r' is owned by someone else)\n"),
                "the repository belongs to another user (\"dubious ownership\")",
                "if you trust it, run `git config --global --add safe.directory '/p'`",
            ),
        ];
        for (said, cause, hint) in cases {
            let error = said.success(Path::new("/p")).unwrap_err();
            assert_eq!(error.to_string(), format!("git failed in /p: {cause}"));
            assert_eq!(error.hints().first().map_or("", String::as_str), hint);
        }
    }
}
