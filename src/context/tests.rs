//! Selecting, filtering and digesting, on real directories.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;

use super::*;
use crate::error::{Error, Result};
use crate::oci::digest::Digest;
use crate::source::{SourceFile, Span};
use crate::sys::fs;

/// A directory to copy from.
pub(super) struct Fixture(pub(super) tempfile::TempDir);

impl Fixture {
    /// Makes files (content = own path); a name with a trailing slash is a directory, `a -> b` a link.
    pub(super) fn new(names: &[&str]) -> Self {
        let fixture = Self(tempfile::tempdir().unwrap());
        for name in names {
            fixture.add(name);
        }
        fixture
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn add(&self, name: &str) {
        let make_parent = |path: &Path| std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        if let Some((link, target)) = name.split_once(" -> ") {
            make_parent(&self.at(link));
            symlink(target, self.at(link)).unwrap();
        } else if let Some(dir) = name.strip_suffix('/') {
            std::fs::create_dir_all(self.at(dir)).unwrap();
        } else {
            make_parent(&self.at(name));
            std::fs::write(self.at(name), name).unwrap();
        }
    }

    pub(super) fn tree(&self, ignore: &str) -> FileTree {
        let source = Arc::new(SourceFile::new(".dockerignore", ignore));
        let rules = IgnoreRules::parse(&source).unwrap();
        FileTree::context(fs::open_dir_path(self.0.path()).unwrap(), Some(rules))
    }

    pub(super) fn rootfs(&self) -> FileTree {
        FileTree::rootfs(fs::open_dir_path(self.0.path()).unwrap())
    }
}

/// Flags of a copy.
#[derive(Clone, Copy, Default)]
pub(super) struct Flags<'a> {
    pub(super) parents: bool,
    pub(super) exclude: &'a [&'a str],
}

pub(super) fn select(tree: &FileTree, sources: &[&str], flags: Flags<'_>) -> Result<Vec<Selected>> {
    let dockerfile = Arc::new(SourceFile::new("Dockerfile", format!("COPY {}", sources.join(" "))));
    let mut at = 5;
    let mut spans = Vec::new();
    for source in sources {
        spans.push(((*source).to_owned(), Span::new(at, at + source.len())));
        at += source.len() + 1;
    }
    let exclude: Vec<String> = flags.exclude.iter().map(|e| (*e).to_owned()).collect();
    let options = SelectOptions {
        instruction: "COPY",
        parents: flags.parents,
        exclude: &exclude,
        dockerfile: Some(&dockerfile),
    };
    tree.select(&spans, options)
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What would be copied: `path=name` for each selection, and below it what a walk shows.
fn listing(tree: &FileTree, sources: &[&str], flags: Flags<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for selected in select(tree, sources, flags).unwrap() {
        let kind = if selected.is_dir() { "/" } else { "" };
        lines.push(format!("{}{kind}={}", text(&selected.path), text(&selected.name)));
        if selected.is_dir() {
            let mut list = List(Vec::new());
            tree.walk(&selected, &mut list).unwrap();
            lines.extend(list.0);
        }
    }
    lines
}

struct List(Vec<String>);

impl Visitor for List {
    fn enter(&mut self, dir: &WalkEntry<'_>) -> Result<()> {
        self.0.push(format!(" {}/", text(dir.path)));
        Ok(())
    }

    fn leaf(&mut self, entry: &WalkEntry<'_>) -> Result<()> {
        self.0.push(format!(" {}", text(entry.path)));
        Ok(())
    }

    fn leave(&mut self, dir: &WalkEntry<'_>) -> Result<()> {
        assert!(dir.path.ends_with(dir.name));
        Ok(())
    }
}

fn check(tree: &FileTree, sources: &[&str], expected: &[&str]) {
    assert_eq!(listing(tree, sources, Flags::default()), expected, "{sources:?}");
}

fn shown(error: &Error) -> String {
    let mut lines = vec![error.to_string()];
    lines.extend(error.hints().iter().map(|hint| format!("help: {hint}")));
    lines.extend(error.others().iter().map(|other| format!("also: {other}")));
    lines.join("\n")
}

#[test]
fn sources_are_cleaned_and_rooted() {
    let fixture = Fixture::new(&["f", "d/x", "--weird"]);
    let tree = fixture.tree("");
    for source in ["f", "/f", "./f", "../f", "../../f", "d/../f", "f/"] {
        check(&tree, &[source], &["f=f"]);
    }
    for source in ["d", "d/", "d/.", "/d/./"] {
        check(&tree, &[source], &["d/=d", " x"]);
    }
    check(&tree, &["--weird"], &["--weird=--weird"]);
    check(&tree, &["", "f"], &["/=", " --weird", " d/", " d/x", " f", "f=f"]);
}

#[test]
fn wildcards_match_part_by_part_and_may_match_nothing() {
    let fixture = Fixture::new(&[
        "arr[0].txt",
        "arr0.txt",
        "a/x.txt",
        "a/y.md",
        "b/x.txt",
        "b/sub/x.txt",
        "c -> a",
        "p+q %C3é",
    ]);
    let tree = fixture.tree("");
    check(&tree, &["nomatch*"], &[]);
    check(&tree, &["nodir/nomatch*", "a/x.txt/*"], &[]);
    check(&tree, &["arr[[]0].txt"], &["arr[0].txt=arr[0].txt"]);
    check(&tree, &["arr[0].txt"], &["arr0.txt=arr0.txt"]);
    check(&tree, &["*/x.txt"], &["a/x.txt=x.txt", "b/x.txt=x.txt"]);
    check(&tree, &["c/*.txt"], &["a/x.txt=x.txt"]);
    check(&tree, &["../b/s*"], &["b/sub/=sub", " x.txt"]);
    check(&tree, &["p+q %C3é"], &["p+q %C3é=p+q %C3é"]);
    check(&tree, &["?/y.md", "arr?.*"], &["a/y.md=y.md", "arr0.txt=arr0.txt"]);
    let error = select(&tree, &["a["], Flags::default()).unwrap_err();
    assert_eq!(
        shown(&error),
        "Dockerfile:1:6: `a[` is no valid pattern: `[` has no closing `]`\n\
         help: write `[[]` for a `[` that stands for itself"
    );
}

#[test]
fn links_are_followed_for_sources_and_never_lead_out() {
    let fixture = Fixture::new(&[
        "s2",
        "sl -> s2",
        "abs -> /d",
        "up -> ../../../d",
        "d/f",
        "d/inner -> /nowhere",
        "out -> /etc/passwd",
        "l1 -> l2",
        "l2 -> l1",
    ]);
    let tree = fixture.tree("");
    check(&tree, &["sl"], &["s2=sl"]);
    check(&tree, &["abs", "up/f"], &["d/=abs", " f", " inner", "d/f=f"]);
    check(&tree, &["s*"], &["s2=s2", "s2=sl"]);
    let error = |source| shown(&select(&tree, &[source], Flags::default()).unwrap_err());
    assert_eq!(
        error("out"),
        "Dockerfile:1:6: COPY failed: `out` is not in the build context: `out` is a symbolic link to \
         `/etc/passwd`, and `etc` does not exist in the build context"
    );
    assert_eq!(
        error("l1"),
        "Dockerfile:1:6: `l1` leads through too many links: `/l1` is the last one followed"
    );
}

#[test]
fn missing_paths_are_named_together_with_what_may_help() {
    let fixture = Fixture::new(&["app.conf", "src/main.rs"]);
    let tree = fixture.tree("");
    let error = select(&tree, &["ap.conf", "src/mian.rs", "../../zzz"], Flags::default());
    assert_eq!(
        shown(&error.unwrap_err()),
        "Dockerfile:1:6: COPY failed: `ap.conf` is not in the build context: \"/ap.conf\": not found\n\
         help: did you mean `app.conf`?\n\
         also: Dockerfile:1:14: COPY failed: `src/mian.rs` is not in the build context: \
         \"/src/mian.rs\": not found\n\
         also: Dockerfile:1:26: COPY failed: `zzz` is not in the build context: \"/zzz\": not found"
    );
    let error = select(&tree, &["../zzz"], Flags::default()).unwrap_err();
    assert_eq!(
        error.hints(),
        ["`..` ends at the root of the build context: nothing outside it can be copied"]
    );
    let stage = fixture.rootfs().labelled("stage `base`");
    let error = select(&stage, &["/opt/x"], Flags::default()).unwrap_err();
    assert_eq!(
        shown(&error),
        "Dockerfile:1:6: COPY failed: `/opt/x` is not in stage `base`: \"/opt/x\": not found"
    );
}

#[test]
fn a_hidden_path_is_missing_and_the_error_names_the_line() {
    let fixture =
        Fixture::new(&["app.conf", "docs/a/x", "link -> app.conf", "seen -> link", "Dockerfile"]);
    let tree = fixture.tree("# note\n\n*.conf\ndocs\nlink\nDockerfile\n");
    let error = |source| shown(&select(&tree, &[source], Flags::default()).unwrap_err());
    assert_eq!(
        error("app.conf"),
        "Dockerfile:1:6: COPY failed: `app.conf` is not in the build context: \
         excluded by .dockerignore:3 (`*.conf`)\nhelp: add `!app.conf` to .dockerignore"
    );
    assert_eq!(
        error("/docs/a/x"),
        "Dockerfile:1:6: COPY failed: `/docs/a/x` is not in the build context: \
         excluded by .dockerignore:4 (`docs`)\nhelp: add `!docs/a/x` to .dockerignore"
    );
    assert_eq!(
        error("seen"),
        "Dockerfile:1:6: COPY failed: `seen` is not in the build context: excluded by .dockerignore:5 \
         (`link`): `seen` leads to `link`\nhelp: add `!link` to .dockerignore"
    );
    check(&tree, &["*.conf", "doc*/*"], &[]);
    check(&tree, &["."], &["/=", " seen"]);
}

#[test]
fn dockerignore_filters_walks() {
    let names = ["docs/README.md", "docs/x", "a/b", "a/c", "x/y", "e/", "z/a.md"];
    let fixture = Fixture::new(&names);
    let walk = |ignore: &str| listing(&fixture.tree(ignore), &["."], Flags::default());
    assert_eq!(
        walk("docs\n!docs/README.md\na\nx/**\n**.md\n!docs/README.md"),
        ["/=", " docs/", " docs/README.md", " e/", " x/", " z/"]
    );
    assert_eq!(walk("*\n!a/b"), ["/=", " a/", " a/b"]);
    assert_eq!(walk("!a/b\n*"), ["/="]);
    assert_eq!(walk("**\n!**/*.md"), ["/=", " docs/", " docs/README.md", " z/", " z/a.md"]);
    let tree = fixture.tree("*\n!a/b");
    check(&tree, &["a"], &["a/=a", " b"]);
    check(&tree, &["*"], &["a/=a", " b"]);
    assert!(select(&tree, &["docs"], Flags::default()).is_err());
    // A rootfs has no such rules.
    assert_eq!(listing(&fixture.rootfs(), &["a"], Flags::default()), ["a/=a", " b", " c"]);
}

#[test]
fn exclude_counts_from_each_source_and_takes_files_too() {
    let fixture = Fixture::new(&[
        "hom.txt",
        "home.md",
        "d/t.txt",
        "d/k.md",
        "d/s/u.txt",
        "d/storage/views/v",
        "d/storage/keep",
        "dir1/x",
    ]);
    let tree = fixture.tree("");
    let check = |exclude: &[&str], sources: &[&str], expected: &[&str]| {
        let flags = Flags { exclude, parents: false };
        assert_eq!(listing(&tree, sources, flags), expected, "{exclude:?} {sources:?}");
    };
    check(&["*.txt", "storage"], &["d"], &["d/=d", " k.md", " s/", " s/u.txt"]);
    check(
        &["**/*.txt", "storage/views"],
        &["d"],
        &["d/=d", " k.md", " s/", " storage/", " storage/keep"],
    );
    check(&["*", "!s/u.txt"], &["d"], &["d/=d", " s/", " s/u.txt"]);
    check(&["*.txt"], &["hom*"], &["home.md=home.md"]);
    check(&["*.txt"], &["d/t.txt"], &[]);
    check(&["*"], &["dir*"], &["dir1/=dir1"]);
}

#[test]
fn parents_keep_the_path_after_the_pivot() {
    let fixture = Fixture::new(&[
        "x/y/1.txt",
        "x/y/2.md",
        "x/z/3.txt",
        "src/a/b/c.txt",
        "src/top.txt",
        "lnk -> src",
        "leaf -> gone",
    ]);
    let tree = fixture.tree("");
    let flags = Flags { parents: true, exclude: &[] };
    let check = |source: &str, expected: &[&str]| {
        assert_eq!(listing(&tree, &[source], flags), expected, "{source}");
    };
    check("./x/./y/*.txt", &["x/=x", " y/", " y/1.txt"]);
    check(
        "src/**/*.txt",
        &["/=", " src/", " src/a/", " src/a/b/", " src/a/b/c.txt", " src/top.txt"],
    );
    check("x/z", &["/=", " x/", " x/z/", " x/z/3.txt"]);
    check("/x/./y/./2.md", &["x/=x", " y/", " y/2.md"]);
    check("x/*/nomatch*", &["/="]);
    check("leaf", &["/=", " leaf"]);
    check("lnk/./a/b", &["src/=lnk", " a/", " a/b/", " a/b/c.txt"]);
    let error = |source| select(&tree, &[source], flags).unwrap_err().to_string();
    assert_eq!(
        error("x/nope"),
        "Dockerfile:1:6: COPY failed: `x/nope` is not in the build context: \"/x/nope\": not found"
    );
    assert_eq!(
        error("lnk/top.txt"),
        "Dockerfile:1:6: COPY failed: `lnk/top.txt` is not in the build context: `lnk` is a symbolic link"
    );
}

#[test]
fn too_deep_nesting_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut at = fs::open_dir_path(dir.path()).unwrap();
    for _ in 0..450 {
        fs::mkdir(&at, b"d", 0o755).unwrap();
        at = fs::open_dir(&at, b"d").unwrap();
    }
    let tree = FileTree::context(fs::open_dir_path(dir.path()).unwrap(), None);
    let selected = select(&tree, &["."], Flags::default()).unwrap();
    let error = tree.walk(&selected[0], &mut List(Vec::new())).unwrap_err();
    assert_eq!(
        error.message(),
        "directories in the build context are nested deeper than 400 levels"
    );
    fs::remove_tree(fs::open_dir_path(dir.path()).unwrap(), b"d").unwrap();
}

#[test]
fn unreadable_files_are_named_with_what_helps() {
    if rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: root can read everything");
        return;
    }
    let fixture = Fixture::new(&["secret"]);
    std::fs::set_permissions(fixture.at("secret"), PermissionsExt::from_mode(0o000)).unwrap();
    let tree = fixture.tree("");
    let selected = select(&tree, &["secret"], Flags::default()).unwrap();
    let error = digest(&tree, &selected, &NoDigestCache).unwrap_err();
    assert_eq!(error.message(), "cannot read `secret` in the build context");
    assert_eq!(error.hints(), ["make it readable for you, or list `secret` in a .dockerignore"]);
}

fn digest_of(tree: &FileTree, sources: &[&str], flags: Flags<'_>) -> Digest {
    digest(tree, &select(tree, sources, flags).unwrap(), &NoDigestCache).unwrap()
}

#[test]
fn content_decides_the_digest_and_times_do_not() {
    let fixture = Fixture::new(&["d/f", "d/s/g", "d/l -> f", "file1", "other"]);
    let tree = fixture.tree("other");
    let of = |sources: &[&str]| digest_of(&tree, sources, Flags::default());
    let before = of(&["d"]);
    let touched = std::fs::File::options().write(true).open(fixture.at("d/f")).unwrap();
    touched.set_modified(std::time::UNIX_EPOCH).unwrap();
    fixture.add("unrelated");
    assert_eq!(of(&["d"]), before, "times and files elsewhere do not count");
    assert_eq!(of(&["d/"]), before);

    let changes: [(&str, &dyn Fn()); 6] = [
        ("mode", &|| {
            std::fs::set_permissions(fixture.at("d/f"), PermissionsExt::from_mode(0o755)).unwrap();
        }),
        ("content", &|| std::fs::write(fixture.at("d/s/g"), "new").unwrap()),
        ("name", &|| std::fs::rename(fixture.at("d/s/g"), fixture.at("d/s/h")).unwrap()),
        ("link target", &|| {
            std::fs::remove_file(fixture.at("d/l")).unwrap();
            symlink("s/h", fixture.at("d/l")).unwrap();
        }),
        ("empty directory", &|| std::fs::create_dir(fixture.at("d/empty")).unwrap()),
        ("extended attribute", &|| {
            fs::set_xattr(tree.root(), b"d/f", b"user.note", b"x").unwrap();
        }),
    ];
    let mut last = before;
    for (what, change) in changes {
        change();
        let now = of(&["d"]);
        assert_ne!(now, last, "{what}");
        last = now;
    }

    let (wildcard, plain) = (of(&["file*"]), of(&["file1"]));
    std::fs::rename(fixture.at("file1"), fixture.at("file2")).unwrap();
    assert_ne!(of(&["file*"]), wildcard, "a renamed match");
    std::fs::rename(fixture.at("file2"), fixture.at("d/file1")).unwrap();
    assert_eq!(of(&["d/file1"]), plain, "the directory of a plain source does not count");
}

#[test]
fn filtered_files_are_not_in_the_digest() {
    let fixture = Fixture::new(&["d/f", "d/x.log", "d/y.tmp"]);
    let tree = fixture.tree("**/*.log");
    let flags = Flags { exclude: &["*.tmp"], parents: false };
    let before = digest_of(&tree, &["d"], flags);
    std::fs::write(fixture.at("d/x.log"), "other").unwrap();
    std::fs::write(fixture.at("d/y.tmp"), "other").unwrap();
    assert_eq!(digest_of(&tree, &["d"], flags), before);
    assert_ne!(digest_of(&tree, &["d"], Flags::default()), before);
}

#[test]
fn owners_count_in_a_rootfs_only() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: changing owners needs root");
        return;
    }
    let fixture = Fixture::new(&["d/f"]);
    let of = |tree: FileTree| digest_of(&tree, &["d"], Flags::default());
    let (context, rootfs) = (of(fixture.tree("")), of(fixture.rootfs()));
    assert_eq!(context, rootfs, "all files are root's");
    std::os::unix::fs::chown(fixture.at("d/f"), Some(7), Some(8)).unwrap();
    assert_eq!(of(fixture.tree("")), context);
    assert_ne!(of(fixture.rootfs()), rootfs);
}

/// Counts what is asked and what is remembered.
#[derive(Default)]
struct Counting {
    known: Mutex<std::collections::HashMap<StatKey, FileHash>>,
    puts: Mutex<usize>,
}

impl DigestCache for Counting {
    fn get(&self, key: &StatKey) -> Option<FileHash> {
        self.known.lock().unwrap().get(key).copied()
    }

    fn put(&self, key: StatKey, hash: FileHash) {
        *self.puts.lock().unwrap() += 1;
        self.known.lock().unwrap().insert(key, hash);
    }
}

#[test]
fn files_that_changed_just_now_are_not_remembered() {
    let fixture = Fixture::new(&["d/f"]);
    let tree = fixture.tree("");
    let selected = select(&tree, &["d"], Flags::default()).unwrap();
    let cache = Counting::default();
    digest(&tree, &selected, &cache).unwrap();
    // The change time cannot be set back, so the file just written stays too young.
    assert_eq!(*cache.puts.lock().unwrap(), 0);
}

#[test]
fn a_remembered_digest_is_used_instead_of_reading() {
    let fixture = Fixture::new(&["d/f"]);
    let tree = fixture.tree("");
    let selected = select(&tree, &["d/f"], Flags::default()).unwrap();
    let cache = Counting::default();
    let true_digest = digest(&tree, &selected, &cache).unwrap();
    let key = StatKey::new(&selected[0].stat, false);
    cache.known.lock().unwrap().insert(key, [7; 32]);
    assert_ne!(digest(&tree, &selected, &cache).unwrap(), true_digest);
}
