//! Conformance cases: directories, and texts that hold many small cases (`*.cases`, testdata/conformance/README.md).

use crate::support::bases::project;
use std::fs;
use std::path::{Path, PathBuf};

pub const DIR: &str = "testdata/conformance";

/// One build.
#[derive(Debug)]
pub struct Case {
    pub name: String,
    /// File of the records, without its ending.
    pub group: String,
    pub source: Source,
}

#[derive(Debug)]
pub enum Source {
    /// A directory as `scripts/conformance-context` takes it.
    Directory(PathBuf),
    /// What such a directory holds: paths and contents.
    Files(Vec<(String, String)>),
}

impl Case {
    /// Writes the directory that `scripts/conformance-context` takes, and says where it is.
    pub fn materialize(&self, scratch: &Path) -> PathBuf {
        let files = match &self.source {
            Source::Directory(path) => return path.clone(),
            Source::Files(files) => files,
        };
        let dir = scratch.join(format!("case-{}", self.name));
        for (path, text) in files {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    /// The Dockerfile, where it is not made by the case's `prepare`.
    pub fn dockerfile(&self) -> String {
        match &self.source {
            Source::Directory(path) => {
                fs::read_to_string(path.join("Dockerfile")).unwrap_or_default()
            }
            Source::Files(files) => {
                let file = files.iter().find(|(path, _)| path == "Dockerfile");
                file.map(|(_, text)| text.clone()).unwrap_or_default()
            }
        }
    }
}

/// All cases that build on the small base, directories first, each list in the order of names.
pub fn all() -> Vec<Case> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(project(DIR)).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    let mut cases = Vec::new();
    for path in &entries {
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            cases.push(Case {
                name: name.to_owned(),
                group: "directories".to_owned(),
                source: Source::Directory(path.clone()),
            });
        }
    }
    cases.retain(|case| !case.dockerfile().contains("nb-base:debian"));
    for path in entries.iter().filter(|path| path.extension().is_some_and(|end| end == "cases")) {
        let group = path.file_stem().unwrap().to_str().unwrap();
        cases.extend(parse(group, &fs::read_to_string(path).unwrap()));
    }
    for (at, case) in cases.iter().enumerate() {
        let twice = cases[..at].iter().any(|other| other.name == case.name);
        assert!(!twice, "two cases are called `{}`", case.name);
    }
    cases
}

/// Reads a `.cases` text.
pub fn parse(group: &str, text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, body) in sections(text, "=== ") {
        // A blank line may stand between two cases.
        let body = body.strip_suffix("\n\n").map_or(body, |rest| &body[..=rest.len()]);
        let mut files = Vec::new();
        let (first, rest) = body.split_at(body.find("--- ").map_or(body.len(), |at| {
            if at == 0 || body.as_bytes()[at - 1] == b'\n' {
                at
            } else {
                body.find("\n--- ").map_or(body.len(), |at| at + 1)
            }
        }));
        if !first.trim().is_empty() {
            files.push(("Dockerfile".to_owned(), first.to_owned()));
        }
        for (what, content) in sections(rest, "--- ") {
            let path = match what.split_once(' ') {
                Some(("file", path)) => path,
                None if what == "prepare" || what == "args" => what,
                _ => panic!("{group}.cases: case `{name}` has an unknown section `{what}`"),
            };
            files.push((path.to_owned(), content.to_owned()));
        }
        cases.push(Case {
            name: name.to_owned(),
            group: group.to_owned(),
            source: Source::Files(files),
        });
    }
    cases
}

/// Parts of a text that begin with a marked line: the rest of that line, and what stands below it. What comes before
/// the first mark is a preface.
pub fn sections<'a>(text: &'a str, mark: &str) -> Vec<(&'a str, &'a str)> {
    let mut starts: Vec<usize> = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.starts_with(mark) {
            starts.push(at);
        }
        at += line.len();
    }
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| {
            let section = &text[*start + mark.len()..end];
            let (title, body) = section.split_once('\n').unwrap_or((section, ""));
            (title.trim(), body)
        })
        .collect()
}

#[test]
fn a_text_holds_many_cases() {
    let text = "# preface\n=== one\nFROM a\n--- file d/f\nx\n--- args\n--target\n=== two\n--- prepare\ntrue\n";
    let cases = parse("g", text);
    let shown: Vec<String> =
        cases.iter().map(|case| format!("{} {:?}", case.name, case.source)).collect();
    assert_eq!(
        shown,
        [
            r#"one Files([("Dockerfile", "FROM a\n"), ("d/f", "x\n"), ("args", "--target\n")])"#,
            r#"two Files([("prepare", "true\n")])"#,
        ]
    );
}
