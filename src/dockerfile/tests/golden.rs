//! Golden files: `testdata/dockerfile/ok/<case>/{Dockerfile,ast.txt}` and `bad/<case>/{Dockerfile,stderr.txt}`.
//!
//! `UPDATE_EXPECT=1` rewrites the expectations.

use super::dump;
use crate::{dockerfile::parse, source::SourceFile};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

fn cases(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/dockerfile").join(kind);
    let mut cases: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 10, "{kind}: {}", cases.len());
    cases
}

#[allow(clippy::disallowed_methods, reason = "tests take the wish to rewrite from the environment")]
fn update() -> bool {
    std::env::var_os("UPDATE_EXPECT").is_some_and(|value| value == "1")
}

fn compare(case: &Path, expectation: &str, found: &str) {
    let path = case.join(expectation);
    if update() {
        fs::write(&path, found).unwrap();
    }
    let expect = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expect, "{} (UPDATE_EXPECT=1 rewrites it)", path.display());
}

fn source(case: &Path) -> Arc<SourceFile> {
    Arc::new(SourceFile::new("Dockerfile", fs::read(case.join("Dockerfile")).unwrap()))
}

#[test]
fn good_files_give_the_expected_tree() {
    for case in cases("ok") {
        let file = parse(&source(&case)).unwrap_or_else(|e| panic!("{}: {e:?}", case.display()));
        compare(&case, "ast.txt", &dump::file(&file));
    }
}

#[test]
fn bad_files_give_the_expected_errors() {
    for case in cases("bad") {
        let error = parse(&source(&case)).err().unwrap_or_else(|| panic!("{}", case.display()));
        compare(&case, "stderr.txt", &dump::errors(&error));
    }
}
