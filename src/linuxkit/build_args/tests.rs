//! Whole lists of arguments, whole errors, and patterns on a tree of real directories.

use super::*;
use std::{cell::RefCell, path::PathBuf};

fn file(text: impl Into<Vec<u8>>) -> Arc<SourceFile> {
    Arc::new(SourceFile::new("args", text))
}

fn pairs(args: &[BuildArg]) -> Vec<(&str, &str)> {
    args.iter().map(|arg| (&*arg.name, &*arg.value)).collect()
}

#[test]
fn files_have_one_argument_a_line() {
    let args = parse_file(&file(" A = 1 = 2 \r\nB=\nA=3\n\tC\u{a0}=x y")).unwrap();
    assert_eq!(pairs(&args), [("A", "1 = 2"), ("B", ""), ("A", "3"), ("C", "x y")]);
    let line = |arg: &BuildArg| arg.place.source.line(arg.place.span.start);
    assert_eq!(args.iter().map(line).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(parse_file(&file("")).unwrap().is_empty());
}

#[test]
fn lines_that_are_no_arguments_are_errors() {
    let error = parse_file(&file("A=1\n\n# c=d\nB\n =x\n")).unwrap_err();
    let expect = "\
Package: args:2:1: a file of build arguments has no empty lines [help: remove the line]
Package: args:3:1: a file of build arguments has no comments [help: remove the line]
Package: args:4:1: build argument `B` has no `=` [help: write it as NAME=VALUE; the value may be empty]
Package: args:5:1: build argument `=x` has no name [help: write it as NAME=VALUE; the value may be empty]";
    assert_eq!(format!("{error:?}"), expect);
    let error = parse_file(&file(b"A=\xc3\xa9\nB=\xff")).unwrap_err();
    assert_eq!(format!("{error:?}"), "Package: args:2:3: the build arguments are not UTF-8 text");
}

/// Directories, and files where the name has `.txt`; links as `name -> target`.
fn tree(paths: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for path in paths {
        if let Some((name, target)) = path.split_once(" -> ") {
            std::os::unix::fs::symlink(target, root.path().join(name)).unwrap();
        } else if path.contains(".txt") {
            std::fs::write(root.path().join(path), "").unwrap();
        } else {
            std::fs::create_dir_all(root.path().join(path)).unwrap();
        }
    }
    root
}

/// Resolves one argument of a file in `from`; every package is named after its directory.
fn resolved(root: &Path, from: &str, text: &str) -> Result<Vec<(String, String)>> {
    let source = file(text);
    let arg = BuildArg::parse(text, &source, source.line_span(1)).unwrap();
    let mut package = |path: &Path| {
        let relative = path.strip_prefix(root).unwrap().to_str().unwrap();
        if relative.ends_with("bad") {
            return Err(Error::package("package pkg/bad is not in git"));
        }
        let image = format!("acme/{relative}");
        Ok(PackageName { reference: format!("{image}:t"), image })
    };
    resolve(&[arg], &root.join(from), &mut package)
}

#[test]
fn computed_values_name_packages() {
    let root = tree(&["pkg/foo", "pkg/my-app", "pkg/.git", "pkg/bad", "pkg/a.txt"]);
    let one = |from: &str, text: &str| {
        let mut all = resolved(root.path(), from, text).unwrap();
        let (name, value) = all.pop().unwrap();
        assert!(all.is_empty());
        format!("{name}={value}")
    };
    assert_eq!(one("pkg", "A=b"), "A=b");
    assert_eq!(one("pkg", "A=x@lkt:pkg:foo"), "A=x@lkt:pkg:foo");
    assert_eq!(one("pkg/foo", "A=@lkt:pkg:../my-app/"), "A=acme/pkg/my-app:t");
    assert_eq!(one("pkg/foo", "A%=@lkt:pkg:."), "A%=acme/pkg/foo:t");
    let absolute = format!("A=@lkt:pkg:{}/pkg/foo", root.path().display());
    assert_eq!(one("pkg", &absolute), "A=acme/pkg/foo:t");
    let many = resolved(root.path(), "pkg/foo", "P_%_%=@lkt:pkgs:../[fm]*").unwrap();
    let expect = [
        ("P_ACME_PKG_FOO_ACME_PKG_FOO", "acme/pkg/foo:t"),
        ("P_ACME_PKG_MY_APP_ACME_PKG_MY_APP", "acme/pkg/my-app:t"),
    ];
    assert_eq!(many, expect.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn wrong_computed_values_are_errors() {
    let root = tree(&["pkg/foo", "pkg/.git", "pkg/bad", "pkg/a.txt"]);
    let from = root.path().join("pkg");
    let bad = |text: &str, expect: &str| {
        let error = resolved(root.path(), "pkg", text).unwrap_err();
        assert_eq!(format!("{error:?}"), format!("Package: args:1:1: {expect}"), "{text}");
    };
    bad(
        "K=@lkt:zz",
        "unknown computed value `@lkt:zz` [help: `@lkt:pkg:PATH` and `@lkt:pkgs:PATTERN` are known]",
    );
    bad(
        "K=@lkt:pkgs:*",
        "build argument `K` needs a `%` in its name \
         [help: a pattern may name several packages; `%` stands for the name of each]",
    );
    for pattern in ["x*", "foo/*", ".*", "*.txt", "a.txt/*", "{foo,bad}"] {
        let expect = format!("no package matches `{pattern}`: searched from `{}`", from.display());
        bad(&format!("K%=@lkt:pkgs:{pattern}"), &expect);
    }
    bad("K%=@lkt:pkgs:[", "bad pattern `[`: `[` has no closing `]`");
    let failed = "build argument `K%` cannot be computed: package pkg/bad is not in git";
    bad("K%=@lkt:pkg:bad", failed);
    bad("K%=@lkt:pkgs:b*", failed);
}

#[test]
fn patterns_match_names_on_disk_as_in_go() {
    let root = tree(&[
        "a/x",
        "a/y",
        "b/x",
        "b-c/x",
        ".h/x",
        "a*b",
        "é",
        "a/f.txt",
        "link -> a",
        "dangling -> nowhere",
    ]);
    let check = |pattern: &str, expect: &[&str]| {
        let found = glob::glob(&root.path().join("b"), pattern).unwrap();
        let expect: Vec<PathBuf> = expect.iter().map(|path| root.path().join(path)).collect();
        assert_eq!(found, expect, "{pattern}");
    };
    check("../a", &["a"]);
    check("../none", &[]);
    check("..", &[""]);
    check("x", &["b/x"]);
    check("*", &["b/x"]);
    check("../*", &[".h", "a", "a*b", "b", "b-c", "dangling", "link", "é"]);
    check("../*/x", &[".h/x", "a/x", "b/x", "b-c/x", "link/x"]);
    check("../../../../../../../../none/*", &[]);
    check("../?", &["a", "b", "é"]);
    check("../a/*", &["a/f.txt", "a/x", "a/y"]);
    check("../a/[^x-y]*", &["a/f.txt"]);
    check("../[a-b]", &["a", "b"]);
    check("../a\\*b", &["a*b"]);
    check("../**", &[".h", "a", "a*b", "b", "b-c", "dangling", "link", "é"]);
    check("../**/y", &["a/y", "link/y"]);
    check("../{a,b}", &[]);
    check("../b/./../b-c//x/", &["b-c/x"]);
    for bad in ["[", "[]a]", "a\\", "[z", "none/[-]"] {
        assert!(glob::glob(root.path(), bad).is_err(), "{bad}");
    }
    assert_eq!(glob::glob(Path::new("/"), "../..").unwrap(), [PathBuf::from("/")]);
    let many = "*/".repeat(100);
    assert!(glob::glob(root.path(), &many).unwrap().is_empty());
}

#[test]
fn all_arguments_stay_in_order() {
    let args = parse_file(&file("A=1\nB=@lkt:pkg:x\nA=2\n")).unwrap();
    let asked = RefCell::new(Vec::new());
    let mut package = |path: &Path| {
        asked.borrow_mut().push(path.to_owned());
        Ok(PackageName { image: "o/x".to_owned(), reference: "o/x:1".to_owned() })
    };
    let all = resolve(&args, Path::new("/p"), &mut package).unwrap();
    let expect = [("A", "1"), ("B", "o/x:1"), ("A", "2")];
    assert_eq!(all, expect.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(asked.into_inner(), [PathBuf::from("/p/x")]);
}
