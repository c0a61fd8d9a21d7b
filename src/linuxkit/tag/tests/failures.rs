//! What cannot have a tag, and what is said of it; paths that go through links.

use super::{Repository, bar, complaint, foo, reference, worked_example};
use crate::linuxkit::tag::{TagRequest, package_tag};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

#[test]
fn a_hash_path_must_begin_the_path_of_the_package() {
    let Some(repository) = worked_example() else { return };
    let with = |path: &str| TagRequest { hash_path: Some(path.into()), ..foo(&repository) };
    assert_eq!(
        complaint(package_tag(&with("shared")), &repository),
        "the hash path is not a prefix of the package path
cause: `REPO/shared` and `REPO/pkg/foo`
help: `--hash-path` names a directory that holds the package"
    );
    // Part of a name is a prefix, too, but no directory that git knows.
    assert_eq!(
        complaint(package_tag(&with("pkg/fo")), &repository),
        "REPO/pkg/fo is not in git
cause: commit `HEAD` has nothing at this path
help: commit it, or give the package's hash with `--hash`"
    );
    let given = TagRequest { hash: "x".to_owned(), ..with("pkg/fo") };
    assert_eq!(reference(&given), "linuxkit/foo:x");
    assert_eq!(
        complaint(package_tag(&with("..")), &repository).lines().next(),
        Some("git failed in REPO/pkg/foo")
    );
}

#[test]
fn a_package_that_is_only_staged_is_not_in_git() {
    let Some(repository) = worked_example() else { return };
    repository.file("pkg/new/build.yml", "image: new\n");
    let expected = "REPO/pkg/new is not in git
cause: commit `HEAD` has nothing at this path
help: commit it, or give the package's hash with `--hash`";
    let request = repository.request("pkg/new", "new");
    assert_eq!(complaint(package_tag(&request), &repository), expected);
    repository.git(&["add", "-A"]);
    assert_eq!(complaint(package_tag(&request), &repository), expected);
    let given = TagRequest { hash: "x".to_owned(), ..request };
    let tag = package_tag(&given).unwrap();
    assert_eq!((tag.reference().as_str(), tag.dirty), ("linuxkit/new:x", true));
}

#[test]
fn a_repository_without_commits_has_no_hash() {
    let Some(repository) = Repository::new() else { return };
    repository.file("p/build.yml", "image: p\n");
    let request = repository.request("p", "p");
    assert_eq!(
        complaint(package_tag(&request), &repository),
        "the git repository of REPO/p has no commit yet
help: commit the package, or give its hash with `--hash`"
    );
    let tag = package_tag(&TagRequest { hash: "x".to_owned(), ..request }).unwrap();
    assert!(tag.dirty && tag.in_git() && tag.head().is_none());
    assert_eq!(tag.last_touched().unwrap(), None);
}

#[test]
fn a_commit_must_be_one() {
    let Some(repository) = worked_example() else { return };
    let at = |commit: &str| {
        let request = TagRequest { hash_commit: commit.to_owned(), ..foo(&repository) };
        complaint(package_tag(&request), &repository)
    };
    assert_eq!(
        at("nothing"),
        "git failed in REPO/pkg/foo
cause: Not a valid object name nothing
help: the commit must be one of this repository"
    );
    assert_eq!(
        at("--all"),
        "`--all` is no name of a commit\nhelp: name a commit, a branch or a tag"
    );
    assert_eq!(at("HEAD..main").lines().next(), Some("git failed in REPO/pkg/foo"));
    // A tree is as good, when the package stands in it at its own path.
    let tree = TagRequest { hash_commit: "HEAD^{tree}".to_owned(), ..foo(&repository) };
    assert_eq!(package_tag(&tree).unwrap().hash, "b5bffea0bce767f8d9e9635f20554e11b9a41d70");
    assert_eq!(at("HEAD:pkg").lines().next(), Some("REPO/pkg/foo is not in git"));
}

#[test]
fn extra_sources_are_directories_in_git_even_when_the_hash_is_given() {
    let Some(repository) = worked_example() else { return };
    let Some(outside) = Repository::outside_git() else { return };
    let with = |source: PathBuf| {
        let request = TagRequest { extra_sources: vec![source], ..bar(&repository) };
        let request = TagRequest { hash: "given".to_owned(), ..request };
        complaint(package_tag(&request), &repository)
    };
    for (source, path) in [("../../shared/data.txt", "shared/data.txt"), ("../no", "pkg/no")] {
        let expected = format!(
            "extra source `{source}` has no hash
cause: REPO/{path} is no directory
help: an extra source is a directory in git"
        );
        assert_eq!(with(source.into()), expected);
    }
    let path = outside.path();
    let expected = format!(
        "extra source `{0}` has no hash
cause: {0} is not in a git repository
help: commit it to a repository",
        path.display()
    );
    assert_eq!(with(path.to_owned()), expected);
    fs::create_dir(repository.path().join("new")).unwrap();
    assert_eq!(
        with("../../new".into()),
        "extra source `../../new` has no hash
cause: REPO/new is not in git
cause: commit `HEAD` has nothing at this path
help: commit it, or give the package's hash with `--hash`"
    );
}

#[test]
fn a_damaged_repository_is_never_outside_git() {
    let Some(outside) = Repository::outside_git() else { return };
    outside.file("p/build.yml", "image: p\n");
    let request = outside.request("p", "p");
    fs::create_dir(outside.path().join(".git")).unwrap();
    assert_eq!(
        complaint(package_tag(&request), &outside),
        "git failed in REPO/p
cause: not a git repository (or any of the parent directories): .git
help: there is a `.git` here or above: repair it, or remove it"
    );
    outside.file("p/.git", "gitdir: /nowhere\n");
    let found = complaint(package_tag(&request), &outside);
    assert!(found.starts_with("git failed in REPO/p\ncause: not a git repository"), "{found}");
}

#[test]
fn a_repository_of_another_user_is_refused_with_the_way_out() {
    let Some(repository) = worked_example() else { return };
    let trusted = std::process::Command::new("git")
        .args(["config", "--get-all", "safe.directory"])
        .output()
        .is_ok_and(|said| !said.stdout.is_empty());
    if !rustix::process::geteuid().is_root() || trusted {
        eprintln!("SKIPPED: this test needs root and git without safe.directory");
        return;
    }
    for name in ["", ".git"] {
        std::os::unix::fs::chown(repository.path().join(name), Some(12345), None).unwrap();
    }
    assert_eq!(
        complaint(package_tag(&foo(&repository)), &repository),
        "git failed in REPO/pkg/foo
cause: the repository belongs to another user (\"dubious ownership\")
help: if you trust it, run `git config --global --add safe.directory REPO`"
    );
}

#[test]
fn a_package_inside_the_repository_s_own_files_is_refused() {
    let Some(repository) = worked_example() else { return };
    repository.file(".git/p/build.yml", "image: p\n");
    assert_eq!(
        complaint(package_tag(&repository.request(".git/p", "p")), &repository),
        "REPO/.git/p is part of a git repository's own files
help: packages live in a work tree"
    );
}

#[test]
fn a_package_is_a_directory() {
    let Some(repository) = worked_example() else { return };
    for name in ["pkg/no", "pkg/foo/hello"] {
        let expected = format!("{name} is no directory\nhelp: name the directory of a package");
        assert_eq!(complaint(package_tag(&repository.request(name, "x")), &repository), expected);
    }
}

#[test]
fn links_outside_the_repository_are_followed_and_links_inside_are_what_they_are() {
    let Some(repository) = worked_example() else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(repository.path(), elsewhere.path().join("link")).unwrap();
    let through = |package: &str| {
        let request = repository.request(package, "foo");
        TagRequest { working_dir: elsewhere.path().to_owned(), ..request }
    };
    assert_eq!(reference(&through("link/pkg/foo")), reference(&foo(&repository)));
    // The repository itself is not recognised through a link.
    let found = complaint(package_tag(&through("link")), &repository);
    assert!(found.starts_with("git names no single tree for "), "{found}");
    symlink("foo", repository.path().join("pkg/alias")).unwrap();
    repository.commit_all();
    let blob = repository.git(&["rev-parse", "HEAD:pkg/alias"]);
    let alias = repository.request("pkg/alias", "foo");
    assert_eq!(reference(&alias), format!("linuxkit/foo:{}", blob.trim()));
    symlink("pkg", repository.path().join("all")).unwrap();
    repository.commit_all();
    let found = complaint(package_tag(&repository.request("all/foo", "foo")), &repository);
    assert!(found.starts_with("REPO/all/foo is not in git\n"), "{found}");
}

#[test]
fn sha_256_repositories_have_no_tags_of_packages() {
    let Some(repository) = Repository::outside_git() else { return };
    repository.git(&["init", "-q", "--object-format=sha256"]);
    repository.file("p/build.yml", "image: p\n").commit_all();
    let found = complaint(package_tag(&repository.request("p", "p")), &repository);
    let lines: Vec<&str> = found.lines().collect();
    assert_eq!(lines[0], "git names no single tree for REPO/p");
    assert_eq!(
        lines[2],
        "help: use the path of the repository without symbolic links; SHA-256 repositories cannot give tags"
    );
    let tree = repository.git(&["rev-parse", "HEAD^{tree}"]);
    let top = reference(&repository.request(".", "top"));
    assert_eq!(top, format!("linuxkit/top:{}", tree.trim()));
}
