//! Tags of repositories that the tests make with git.

mod examples;
mod failures;
mod random;

use super::{PackageTag, TagRequest, package_tag};
use crate::error::Result;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory with a repository in it (or nothing yet), gone with the value.
struct Repository {
    dir: tempfile::TempDir,
}

impl Repository {
    /// `None`, loudly, without git.
    fn new() -> Option<Self> {
        let found = Self::outside_git()?;
        found.git(&["init", "-q", "--template=", "-b", "main"]);
        Some(found)
    }

    fn outside_git() -> Option<Self> {
        if Command::new("git").arg("--version").output().is_err() {
            eprintln!("SKIPPED: this test needs git");
            return None;
        }
        Some(Self { dir: tempfile::tempdir().unwrap() })
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn file(&self, name: &str, text: &str) -> &Self {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn git(&self, words: &[&str]) -> String {
        let words: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
        let said = run_git(self.path(), &words);
        assert!(said.0, "git {words:?}: {}", said.1);
        said.1
    }

    /// Everything into one commit of the day that the worked examples have.
    fn commit_all(&self) -> &Self {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "one"]);
        self
    }

    fn request(&self, package: &str, image: &str) -> TagRequest {
        TagRequest {
            working_dir: self.path().to_owned(),
            package: PathBuf::from(package),
            org: "linuxkit".to_owned(),
            image: image.to_owned(),
            ..TagRequest::default()
        }
    }
}

/// Success and standard output. The dates and names are those of the worked examples.
fn run_git(dir: &Path, words: &[&OsStr]) -> (bool, String) {
    let output = Command::new("git")
        .envs([("GIT_AUTHOR_NAME", "a"), ("GIT_COMMITTER_NAME", "a")])
        .envs([("GIT_AUTHOR_EMAIL", "a@b"), ("GIT_COMMITTER_EMAIL", "a@b")])
        .envs(["GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"].map(|name| (name, "2021-05-01T00:00:00Z")))
        .env("TZ", "UTC")
        .arg("-C")
        .arg(dir)
        .args(words)
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { (true, stdout) } else { (false, stdout + &stderr) }
}

/// The repository of the worked examples.
fn worked_example() -> Option<Repository> {
    let repository = Repository::new()?;
    repository
        .file("pkg/foo/build.yml", "image: foo\n")
        .file("pkg/foo/Dockerfile", "FROM scratch\nCOPY hello /hello\n")
        .file("pkg/foo/hello", "hi\n")
        .file(
            "pkg/bar/build.yml",
            "image: bar\norg: acme\nextra-sources:\n  - ../../shared:/src/shared\n",
        )
        .file("pkg/bar/Dockerfile", "FROM scratch\nCOPY src/shared /s\n")
        .file("shared/data.txt", "data\n")
        .commit_all();
    Some(repository)
}

fn foo(repository: &Repository) -> TagRequest {
    repository.request("pkg/foo", "foo")
}

fn bar(repository: &Repository) -> TagRequest {
    TagRequest {
        org: "acme".to_owned(),
        extra_sources: vec![PathBuf::from("../../shared")],
        ..repository.request("pkg/bar", "bar")
    }
}

fn reference(request: &TagRequest) -> String {
    package_tag(request).unwrap().reference()
}

/// The error as one text: message, causes and hints a line each.
fn complaint(found: Result<PackageTag>, repository: &Repository) -> String {
    let error = found.expect_err("an error");
    let mut text = error.message().to_owned();
    for cause in error.causes() {
        text += &format!("\ncause: {cause}");
    }
    for hint in error.hints() {
        text += &format!("\nhelp: {hint}");
    }
    text.replace(repository.path().to_str().unwrap(), "REPO")
}
