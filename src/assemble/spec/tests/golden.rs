//! Golden files: `testdata/assemble/specs/<case>/{image.yaml,spec.txt}` are specs and what is read out of them,
//! `testdata/assemble/errors/<case>/{image.yaml,stderr.txt}` mistakes and how they are told. A spec may be `image.json`,
//! and `set` has words of `--set`, one a line. `UPDATE_EXPECT=1` rewrites the expectations.

use super::{Spec, parse};
use crate::{
    error::Error,
    source::{SourceFile, Span},
};
use regex_lite::{Captures, Regex};
use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

pub(super) fn cases(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/assemble").join(kind);
    let mut cases: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 5, "{kind}: {}", cases.len());
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

/// The text of a case, and its words.
pub(super) fn input(case: &Path) -> (Arc<SourceFile>, Vec<String>) {
    let (name, text) = ["image.yaml", "image.json"]
        .into_iter()
        .find_map(|name| Some((name, fs::read(case.join(name)).ok()?)))
        .unwrap_or_else(|| panic!("{}: no spec", case.display()));
    let set = fs::read_to_string(case.join("set")).unwrap_or_default();
    (Arc::new(SourceFile::new(name, text)), set.lines().map(str::to_owned).collect())
}

/// Each field on lines of its own; places as line, column and text, which shows that they are right.
fn dump(spec: &Spec, warnings: &[String]) -> String {
    let mut out = String::new();
    let Spec { source, name, tag, from, inherit, platform, config, author, .. } = spec;
    let Spec { contents, perms, scripts, run, owner, created, mtime, layers, .. } = spec;
    let Spec { compression, nix_database, annotations, history, .. } = spec;
    let config = serde_json::to_string_pretty(config).unwrap();
    writeln!(out, "name {name:#?}\ntag {tag:?}\nfrom {from:#?}\ninherit {inherit:?}").unwrap();
    writeln!(out, "platform {platform:?}\nconfig {config}\nauthor {author:?}").unwrap();
    writeln!(out, "contents {contents:#?}\nperms {perms:#?}\nscripts {scripts:#?}").unwrap();
    writeln!(out, "run {run:#?}\nowner {owner:?}\ncreated {created:?}\nmtime {mtime:?}").unwrap();
    writeln!(out, "layers {layers:#?}\ncompression {compression:?}").unwrap();
    writeln!(out, "nixDatabase {nix_database:#?}\nannotations {annotations:?}").unwrap();
    writeln!(out, "history {history:?}").unwrap();
    for warning in warnings {
        writeln!(out, "warning: {warning}").unwrap();
    }
    let span = Regex::new(r"Span \{\s+start: (\d+),\s+end: (\d+),\s+\}").unwrap();
    let shown = |found: &Captures<'_>| {
        let (home, at) =
            source.home(Span::new(found[1].parse().unwrap(), found[2].parse().unwrap()));
        let (line, column) = home.line_column(at.start);
        let text = String::from_utf8_lossy(home.slice(at)).into_owned();
        let text = text.lines().next().unwrap_or_default();
        format!("{}:{line}:{column} {:?}", home.name(), text.chars().take(40).collect::<String>())
    };
    let out = span.replace_all(&out, shown).into_owned();
    // Bytes one a line say little.
    let bytes = Regex::new(r"\[\s+((?:\d+,\s+)+)\]").unwrap();
    let one_line = |found: &Captures<'_>| {
        format!("[{}]", found[1].split_whitespace().collect::<Vec<_>>().join(" "))
    };
    bytes.replace_all(&out, one_line).into_owned()
}

/// Errors with line and carets.
fn errors(error: &Error) -> String {
    let mut out = String::new();
    for error in std::iter::once(error).chain(error.others()) {
        writeln!(out, "error: {error}").unwrap();
        if let Some(place) = error.place() {
            let (line, column) = place.source.line_column(place.span.start);
            let text = place.source.line_text(line).replace('\t', " ");
            let end = place.source.line_span(line).end.min(place.span.end).max(place.span.start);
            let marked = place.source.slice(Span::new(place.span.start, end));
            let carets = String::from_utf8_lossy(marked).trim_end().chars().count().max(1);
            writeln!(out, "  | {text}\n  | {}{}", " ".repeat(column - 1), "^".repeat(carets))
                .unwrap();
        }
        for hint in error.hints() {
            writeln!(out, "  help: {hint}").unwrap();
        }
    }
    out
}

#[test]
fn good_specs_give_the_expected_values() {
    for case in cases("specs") {
        let (source, set) = input(&case);
        let (spec, warnings) =
            parse(&source, &set).unwrap_or_else(|error| panic!("{}: {error:?}", case.display()));
        compare(&case, "spec.txt", &dump(&spec, &warnings));
    }
}

#[test]
fn bad_specs_give_the_expected_errors() {
    for case in cases("errors") {
        let (source, set) = input(&case);
        let error = parse(&source, &set).err().unwrap_or_else(|| panic!("{}", case.display()));
        compare(&case, "stderr.txt", &errors(&error));
    }
}
