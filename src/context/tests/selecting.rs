//! Which files are copied, under which names, and what is told of those that are not there.

use super::{Fixture, Flags, select, text};
use crate::context::{FileTree, Visitor, WalkEntry};
use crate::error::{Error, Result};
use crate::sys::fs;

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
