//! The worked examples of linuxkit.md §2.6, row by row.

use super::{Repository, bar, foo, reference, worked_example};
use crate::linuxkit::tag::{TagRequest, canonical, package_tag};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

const FOO: &str = "linuxkit/foo:b5bffea0bce767f8d9e9635f20554e11b9a41d70";
const BAR: &str = "acme/bar:9f5d049d1c7bc043bce972f38d3db19a756e66e4";

fn dirty(content: &str) -> String {
    format!("{FOO}-dirty-{content}")
}

#[test]
fn the_repository_is_that_of_the_examples() {
    let Some(repository) = worked_example() else { return };
    let names = ["HEAD", "HEAD^{tree}", "HEAD:pkg", "HEAD:pkg/foo", "HEAD:pkg/bar", "HEAD:shared"];
    let said = repository.git(&[&["rev-parse"], names.as_slice()].concat());
    let expected = "\
88dfe42ccd73bb1d3a2477796b48040898934baf
5a48f1cbb921566c98010211d722a377b6ea22e3
85fc760372d261f283a73e3f72eedd65bb53ac3a
b5bffea0bce767f8d9e9635f20554e11b9a41d70
6ebcbeff50020b154551383d375679ef43ad8ef5
3234df537fa028564e04d04a373f5ca5e3a0d1a8
";
    assert_eq!(said, expected);
}

#[test]
fn a_clean_package_has_the_hash_of_its_tree_mixed_with_those_of_its_sources() {
    let Some(repository) = worked_example() else { return };
    let tag = package_tag(&foo(&repository)).unwrap();
    assert_eq!(tag.reference(), FOO);
    assert_eq!(tag.canonical(), format!("docker.io/{FOO}"));
    assert_eq!(tag.head(), Some("88dfe42ccd73bb1d3a2477796b48040898934baf"));
    assert!(tag.in_git() && !tag.dirty);
    assert_eq!(reference(&bar(&repository)), BAR);
}

#[test]
fn a_hash_path_takes_the_place_of_the_package_in_the_hash() {
    let Some(repository) = worked_example() else { return };
    let with = |request, path: &str| TagRequest { hash_path: Some(path.into()), ..request };
    let found = [
        reference(&with(foo(&repository), "pkg")),
        reference(&with(bar(&repository), "pkg")),
        reference(&with(foo(&repository), ".")),
    ];
    let expected = [
        "linuxkit/foo:85fc760372d261f283a73e3f72eedd65bb53ac3a",
        "acme/bar:2b4fc4e79f156238dc89e505229c6836f3c917bf",
        "linuxkit/foo:5a48f1cbb921566c98010211d722a377b6ea22e3",
    ];
    assert_eq!(found, expected);
    repository.file("pkg/zz", "z");
    // Dirty by the hash path, but the content hash is still the package's.
    assert_eq!(reference(&with(foo(&repository), "pkg")), format!("{}-dirty-bdb3b3d", expected[0]));
}

#[test]
fn changes_make_a_dirty_suffix_out_of_the_bytes_of_files() {
    let Some(repository) = worked_example() else { return };
    let request = foo(&repository);
    let forced = TagRequest { force_dirty: true, ..request.clone() };
    assert_eq!(reference(&forced), dirty("bdb3b3d"));
    repository.file("pkg/foo/hello", "hi2\n");
    assert_eq!(reference(&request), dirty("6a11a5e"));
    repository.git(&["add", "-A"]);
    assert_eq!(reference(&request), dirty("6a11a5e"));
    repository.file("pkg/foo/aaa.txt", "new\n");
    assert_eq!(reference(&request), dirty("290c113"));
    repository.git(&["clean", "-fdq"]);
    repository.git(&["reset", "-q", "--hard"]);
    fs::remove_file(repository.path().join("pkg/foo/hello")).unwrap();
    assert_eq!(reference(&request), dirty("5d94f8c"));
    let tag = package_tag(&request).unwrap();
    assert!(tag.dirty && tag.in_git());
    assert_eq!(tag.head(), Some("88dfe42ccd73bb1d3a2477796b48040898934baf"));
}

#[test]
fn modes_links_and_quoted_names_are_dirty_without_changing_the_content_hash() {
    let Some(repository) = worked_example() else { return };
    let request = foo(&repository);
    let hello = repository.path().join("pkg/foo/hello");
    fs::set_permissions(&hello, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(reference(&request), dirty("bdb3b3d"));
    fs::set_permissions(&hello, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(reference(&request), FOO);
    symlink("hello", repository.path().join("pkg/foo/link")).unwrap();
    assert_eq!(reference(&request), dirty("bdb3b3d"));
    repository.git(&["clean", "-fdq"]);
    repository.file("pkg/foo/é.txt", "new\n");
    assert_eq!(reference(&request), dirty("bdb3b3d"));
}

#[test]
fn times_ignored_files_empty_directories_and_sources_leave_a_package_clean() {
    let Some(repository) = worked_example() else { return };
    let hello = fs::File::options().write(true).open(repository.path().join("pkg/foo/hello"));
    hello.unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    repository.file(".git/info/exclude", "*.o\n").file("pkg/foo/x.o", "ignored");
    fs::create_dir(repository.path().join("pkg/foo/empty")).unwrap();
    assert_eq!(reference(&foo(&repository)), FOO);
    repository.file("shared/data.txt", "other\n").file("shared/new", "new\n");
    assert_eq!(reference(&bar(&repository)), BAR);
    repository.commit_all();
    assert_ne!(reference(&bar(&repository)), BAR);
}

#[test]
fn a_change_that_was_staged_and_undone_in_the_work_tree_is_none() {
    let Some(repository) = worked_example() else { return };
    repository.file("pkg/foo/hello", "hi2\n").git(&["add", "-A"]);
    repository.file("pkg/foo/hello", "hi\n");
    assert_eq!(reference(&foo(&repository)), FOO);
}

#[test]
fn flags_take_the_place_of_the_hash_and_of_the_template() {
    let Some(repository) = worked_example() else { return };
    let foo = || foo(&repository);
    let hash = |hash: &str| TagRequest { hash: hash.to_owned(), ..foo() };
    let flag = |flag: &str| TagRequest { tag_flag: flag.to_owned(), ..foo() };
    let alice = TagRequest { dev: true, org: "alice".to_owned(), ..foo() };
    let found = [
        reference(&hash("foo")),
        reference(&TagRequest { force_dirty: true, ..hash("foo") }),
        reference(&alice),
        reference(&TagRequest { hash: "q".to_owned(), org: "zed".to_owned(), ..alice.clone() }),
        reference(&flag("fixed")),
        reference(&flag("v1-{{.Hash}}")),
        reference(&TagRequest { tag_key: "key".to_owned(), ..flag("flag") }),
        reference(&TagRequest { tag_key: "key-{{slice .Hash 0 4}}".to_owned(), ..foo() }),
        package_tag(&TagRequest { org: "localhost:5000".to_owned(), ..foo() }).unwrap().canonical(),
    ];
    let expected = [
        "linuxkit/foo:foo",
        "linuxkit/foo:foo",
        "alice/foo:dev",
        "zed/foo:q",
        "linuxkit/foo:fixed",
        "linuxkit/foo:v1-b5bffea0bce767f8d9e9635f20554e11b9a41d70",
        "linuxkit/foo:flag",
        "linuxkit/foo:key-b5bf",
        "localhost:5000/foo:b5bffea0bce767f8d9e9635f20554e11b9a41d70",
    ];
    assert_eq!(found, expected);
}

#[test]
fn outside_git_there_is_no_hash() {
    let Some(outside) = Repository::outside_git() else { return };
    outside.file("p/build.yml", "image: p\n");
    let request = outside.request("p", "p");
    let tag = package_tag(&TagRequest { force_dirty: true, ..request.clone() }).unwrap();
    assert_eq!(tag.reference(), "linuxkit/p:latest");
    assert_eq!((tag.hash.as_str(), tag.dirty, tag.in_git(), tag.head()), ("", false, false, None));
    assert_eq!(tag.last_touched().unwrap(), None);
    let flag = TagRequest { tag_flag: "v1-{{.Hash}}".to_owned(), ..request };
    assert_eq!(reference(&flag), "linuxkit/p:v1-");
}

#[test]
fn a_package_can_be_the_repository() {
    let Some(repository) = worked_example() else { return };
    repository.file("build.yml", "image: top\n");
    let request = repository.request(".", "top");
    let found = reference(&request);
    assert_eq!(found, "linuxkit/top:5a48f1cbb921566c98010211d722a377b6ea22e3-dirty-4e912b8");
    repository.commit_all();
    let tree = repository.git(&["rev-parse", "HEAD^{tree}"]);
    assert_eq!(reference(&request), format!("linuxkit/top:{}", tree.trim()));
}

#[test]
fn another_commit_has_its_own_tree_and_is_never_dirty() {
    let Some(repository) = worked_example() else { return };
    repository.file("pkg/foo/hello", "hi2\n").commit_all();
    repository.git(&["tag", "-a", "-m", "v1", "v1", "HEAD~1"]);
    repository.file("pkg/foo/hello", "hi3\n");
    for commit in ["HEAD~1", "main^", "v1", "88dfe42ccd73bb1d3a2477796b48040898934baf"] {
        let at = TagRequest { hash_commit: commit.to_owned(), ..foo(&repository) };
        assert_eq!(reference(&at), FOO, "{commit}");
        let top = TagRequest { package: ".".into(), ..at.clone() };
        assert_eq!(reference(&top), "linuxkit/foo:5a48f1cbb921566c98010211d722a377b6ea22e3");
        let tag = package_tag(&TagRequest { force_dirty: true, ..at }).unwrap();
        assert!(tag.dirty, "{commit}");
    }
}

#[test]
fn releases_are_for_clean_packages() {
    let Some(repository) = worked_example() else { return };
    let tag = package_tag(&foo(&repository)).unwrap();
    assert_eq!(tag.release("v1").unwrap(), "linuxkit/foo:v1");
    assert_eq!(tag.release("").unwrap_err().message(), "a release tag is required");
    let forced = TagRequest { force_dirty: true, ..foo(&repository) };
    let error = package_tag(&forced).unwrap().release("v1").unwrap_err();
    let expected = format!("cannot release a dirty package: {}", dirty("bdb3b3d"));
    assert_eq!(error.message(), expected);
}

#[test]
fn head_tells_its_time_its_go_version_and_its_tags() {
    let Some(repository) = worked_example() else { return };
    let tag = package_tag(&foo(&repository)).unwrap();
    let git = tag.git.unwrap();
    let facts = git.head_facts().unwrap();
    assert_eq!(facts.commit_time, 1_619_827_200);
    assert_eq!(facts.go_version, "v0.0.0-20210501000000-88dfe42ccd73");
    assert_eq!(git.tags().unwrap(), [""; 0]);
    repository.git(&["tag", "v1.2.3"]);
    repository.git(&["tag", "-a", "-m", "again", "also"]);
    assert_eq!(git.tags().unwrap(), ["also", "v1.2.3"]);
    // Tags do not change the version: that is how it has always come out.
    assert_eq!(git.head_facts().unwrap(), facts);
}

#[test]
fn the_last_touch_is_that_of_the_package_and_its_sources() {
    let Some(repository) = worked_example() else { return };
    let commit_at = |name: &str, time: u32| {
        repository.file(name, &time.to_string()).git(&["add", "-A"]);
        let env = format!("GIT_COMMITTER_DATE={time} +0000");
        let said = std::process::Command::new("env")
            .args([&env, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"])
            .current_dir(repository.path())
            .status();
        assert!(said.unwrap().success());
    };
    commit_at("pkg/bar/more", 1_700_000_000);
    commit_at("shared/more", 1_700_000_100);
    commit_at("other", 1_700_000_200);
    let touched = |request| package_tag(&request).unwrap().last_touched().unwrap();
    assert_eq!(touched(foo(&repository)), Some(1_619_827_200));
    assert_eq!(touched(bar(&repository)), Some(1_700_000_100));
    // A shallow clone cannot know: its oldest commit seems to have touched everything.
    let shallow = tempfile::tempdir().unwrap();
    let source = format!("file://{}", repository.path().display());
    repository.git(&["clone", "-q", "--depth=2", &source, shallow.path().to_str().unwrap()]);
    let there = TagRequest { working_dir: shallow.path().to_owned(), ..foo(&repository) };
    assert_eq!(reference(&there), FOO);
    assert_eq!(touched(there), Some(1_700_000_200));
}

#[test]
fn canonical_names_follow_the_number_of_parts() {
    let cases = [
        ("foo:1", "docker.io/library/foo:1"),
        ("linuxkit/foo:1", "docker.io/linuxkit/foo:1"),
        ("localhost/foo:1", "localhost/foo:1"),
        ("localhost:5000/foo:1", "localhost:5000/foo:1"),
        ("quay.io/foo:1", "quay.io/foo:1"),
        ("host:1/foo", "host:1/foo"),
        ("a/b/foo:1", "a/b/foo:1"),
        ("quay.io/a/b/foo:1", "quay.io/a/b/foo:1"),
    ];
    for (given, expected) in cases {
        assert_eq!(canonical(given), expected);
    }
}
