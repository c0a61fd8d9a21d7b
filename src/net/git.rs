//! Git repositories elsewhere: which commit a name means, and its files (dockerfile.md §1.7.18).
//!
//! In: a [`GitUrl`]; out: the name of a commit, or its tree in a directory of ours. It is git itself that is started,
//! with the user's own configuration (logins, ssh keys, rewritten addresses), but with nothing of the repository's: no
//! hooks, no programs as transports.

use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::oci::git_url::GitUrl;
use crate::sys::process;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// What git may answer.
const LARGEST_OUTPUT: u64 = 16 << 20;
const LARGEST_COMPLAINT: u64 = 16 << 10;

/// How git is started for one remote.
#[derive(Clone, Debug, Default)]
pub struct Git {
    /// Value of an Authorization header, from a secret, and the beginning of the addresses that it goes to.
    authorization: Option<(String, String)>,
    /// Git is not started at all.
    offline: bool,
}

impl Git {
    /// As the user.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a token for the server of a remote over http, and for no other: submodules may lie anywhere.
    pub fn with_token(token: &str, remote: &str) -> Self {
        let pair = BASE64_STANDARD.encode(format!("x-access-token:{token}"));
        Self::with_header(&format!("basic {pair}"), remote)
    }

    /// The same with the value of an Authorization header.
    pub fn with_header(value: &str, remote: &str) -> Self {
        let server = server(remote).map(|server| (value.trim().to_owned(), server));
        Self { authorization: server, offline: false }
    }

    /// The same; with `true` git is not started for any repository.
    pub fn offline(self, offline: bool) -> Self {
        Self { offline, ..self }
    }

    /// The commit that an address means now. A full name of a commit is not asked for.
    pub fn resolve(&self, url: &GitUrl) -> Result<String> {
        let reference = url.reference.as_deref().unwrap_or("HEAD");
        let commit = if is_commit(reference) {
            reference.to_ascii_lowercase()
        } else {
            self.look_up(url, reference)?
        };
        check(url, commit)
    }

    fn look_up(&self, url: &GitUrl, reference: &str) -> Result<String> {
        let peeled = format!("{reference}^{{}}");
        let words = ["ls-remote", "--", &url.remote, reference, &peeled];
        let said = self.run(Path::new("/"), &words, url)?;
        let listed: Vec<(&str, &str)> =
            said.lines().filter_map(|line| line.split_once('\t')).collect();
        let find = |name: &str| listed.iter().find(|(_, known)| *known == name).map(|(id, _)| *id);
        // A name may end like another one; of a tag and a branch of one name git takes the branch here.
        let (head, tag) = (format!("refs/heads/{reference}"), format!("refs/tags/{reference}"));
        let found = find(&format!("{reference}^{{}}"))
            .or_else(|| find(reference))
            .or_else(|| find(&head))
            .or_else(|| find(&format!("{tag}^{{}}")))
            .or_else(|| find(&tag))
            .or_else(|| find(&format!("refs/{reference}")));
        let found = found.filter(|id| is_commit(id));
        found.map(str::to_owned).ok_or_else(|| {
            Error::new(ErrorKind::Image, format!("`{}` has no `{reference}`", url.remote))
                .hint("it is looked for among branches, tags and full names of commits")
        })
    }

    /// Puts the files of a commit into an empty directory: 0644 or 0755, directories 0755. Gives the commit's time in
    /// seconds since 1970.
    pub fn checkout(&self, url: &GitUrl, commit: &str, dir: &Path) -> Result<i64> {
        let run = |words: &[&str]| self.run(dir, words, url).map(drop);
        run(&["init", "--quiet", "--template="])?;
        run(&["remote", "add", "origin", &url.remote])?;
        let fetch = ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules"];
        let shallow = run(&[&fetch[..], &["--depth=1", "origin", commit]].concat());
        if shallow.is_err() {
            // Some servers give nothing but the tips of branches and tags.
            let all = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];
            run(&[&fetch[..], &["origin"], &all].concat())?;
        }
        run(&["checkout", "--quiet", "--detach", commit])?;
        if url.submodules && dir.join(".gitmodules").exists() {
            run(&["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"])?;
        }
        let time = self.commit_time(url, commit, dir)?;
        let what = || format!("cannot prepare the files of `{}`", url.remote);
        if url.keep_git_dir != Some(true) {
            remove_git(dir).or_error(ErrorKind::Environment, what)?;
        }
        settle(dir, url.commit_time.then_some(time)).or_error(ErrorKind::Environment, what)?;
        Ok(time)
    }

    fn commit_time(&self, url: &GitUrl, commit: &str, dir: &Path) -> Result<i64> {
        let said = self.run(dir, &["show", "--quiet", "--format=%ct", commit, "--"], url)?;
        said.trim().parse().map_err(|_| Error::integrity("a commit without a time"))
    }

    fn run(&self, dir: &Path, words: &[&str], url: &GitUrl) -> Result<String> {
        if self.offline {
            return Err(Error::registry(format!("git is not started for `{}`", url.remote))
                .cause("this is offline")
                .hint("leave `--offline` and NATIVEBUILD_OFFLINE out, or bring the files here: docs/offline.md"));
        }
        let what = || format!("cannot run git for `{}`", url.remote);
        let mut command = self.command(dir, words);
        let spawned = command.spawn();
        let missing = spawned.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        let mut child = spawned
            .or_error(ErrorKind::Environment, what)
            .map_err(|error| if missing { error.hint("install git") } else { error })?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        // Both are read at once: git waits when one of them is full.
        let complaint = std::thread::spawn(move || start_of(stderr, LARGEST_COMPLAINT));
        let said = start_of(stdout, LARGEST_OUTPUT);
        let complaint = complaint.join().unwrap_or_default();
        let status = child.wait().or_error(ErrorKind::Environment, what)?;
        if status.success() {
            return Ok(said);
        }
        let lines = || complaint.lines().map(str::trim).filter(|line| !line.is_empty());
        let fatal = lines().find_map(|line| line.strip_prefix("fatal: "));
        let why = fatal.or_else(|| lines().next_back()).unwrap_or("it does not say why");
        let why: String = why.chars().filter(|c| !c.is_control()).take(300).collect();
        Err(Error::registry(format!("git cannot get `{}`", url.remote))
            .cause(why)
            .hint("check the address and your access to it: `git ls-remote` should answer"))
    }

    fn command(&self, dir: &Path, words: &[&str]) -> Command {
        let mut command = Command::new("git");
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_CONFIG"] {
            command.env_remove(name);
        }
        command.args(["--no-pager", "-c", "core.hooksPath=/dev/null"]);
        command.args(["-c", "protocol.ext.allow=never", "-c", "advice.detachedHead=false"]);
        command.args(["-c", "core.autocrlf=false", "-c", "gc.auto=0"]);
        if let Some((value, server)) = &self.authorization {
            // In the environment, where no list of processes shows it.
            let key = format!("http.{server}.extraheader");
            command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", key);
            command.env("GIT_CONFIG_VALUE_0", format!("Authorization: {value}"));
        }
        command
            .envs([("LC_ALL", "C"), ("GIT_TERMINAL_PROMPT", "0")])
            .current_dir(dir)
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        process::bind_to_this_thread(&mut command);
        command
    }
}

/// The commit, if it is one that the address allows.
pub fn check(url: &GitUrl, commit: String) -> Result<String> {
    match &url.checksum {
        Some(wanted) if !commit.starts_with(wanted.as_str()) => {
            Err(Error::integrity(format!("`{}` is not the commit that was asked for", url.remote))
                .cause(format!("expected {wanted}, found {commit}")))
        }
        _ => Ok(commit),
    }
}

/// `https://host:port/` of an address over http.
fn server(remote: &str) -> Option<String> {
    let (scheme, rest) = remote.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    matches!(scheme, "http" | "https").then(|| format!("{scheme}://{host}/"))
}

/// True for the full name of a commit.
pub fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The beginning of an answer; the rest is read and dropped so that git can end.
fn start_of(from: Option<impl Read>, limit: u64) -> String {
    let Some(mut from) = from else { return String::new() };
    let mut start = Vec::new();
    // What cannot be read is as good as not said; git's exit code counts.
    let _cut = from.by_ref().take(limit).read_to_end(&mut start);
    let _rest = io::copy(&mut from, &mut io::sink());
    String::from_utf8_lossy(&start).into_owned()
}

/// Takes every `.git` away: that of the repository, and those of submodules.
fn remove_git(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if entry.file_name() == ".git" {
            if kind.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        } else if kind.is_dir() {
            remove_git(&path)?;
        }
    }
    Ok(())
}

/// Modes that do not depend on the umask, and times where they are wanted.
fn settle(dir: &Path, time: Option<i64>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            settle(&path, time)?;
        } else if kind.is_file() {
            let mode =
                if entry.metadata()?.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
        if let (Some(time), false) = (time, kind.is_dir()) {
            set_time(&path, time)?;
        }
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    time.map_or(Ok(()), |time| set_time(dir, time))
}

/// Of a link itself, not of what it leads to.
fn set_time(path: &Path, seconds: i64) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_goes_to_the_server_of_the_remote_alone() {
        let git = |remote: &str| {
            let command = Git::with_header("Basic x\n", remote).command(Path::new("/"), &[]);
            let env = |name: &str| {
                let mut all = command.get_envs().filter(|(known, _)| *known == name);
                all.next().and_then(|(_, value)| Some(value?.to_str()?.to_owned()))
            };
            (env("GIT_CONFIG_KEY_0"), env("GIT_CONFIG_VALUE_0"))
        };
        let value = Some("Authorization: Basic x".to_owned());
        let key = |text: &str| Some(text.to_owned());
        assert_eq!(git("https://h/a/b.git"), (key("http.https://h/.extraheader"), value.clone()));
        assert_eq!(git("http://me@h:81/a"), (key("http.http://h:81/.extraheader"), value));
        assert_eq!(git("git@h:a"), (None, None));
        assert_eq!(git("ssh://h/a"), (None, None));
    }
}
