//! Rules about documents and project files: links, the Makefile, dependencies and their record.

use super::{expect_none, files, read, root};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const ADR: &str = "docs/adr/0001-dependencies.md";

fn documents() -> Vec<PathBuf> {
    let top = std::fs::read_dir(root()).into_iter().flatten().flatten();
    let top = top.map(|entry| PathBuf::from(entry.file_name()));
    let mut all: Vec<PathBuf> =
        top.filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    for below in ["docs", "testdata", "bench", "examples", "scripts"] {
        all.extend(files(below, ".md"));
    }
    all.sort();
    all
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut found = Vec::new();
    for document in documents() {
        for target in link_targets(&read(&document)) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((&target, ""));
            let folder = document.parent().unwrap_or(Path::new(""));
            let file = if file.is_empty() { document.clone() } else { folder.join(file) };
            if !root().join(&file).exists() {
                found.push(format!("{}: no file `{target}`", document.display()));
            } else if !heading.is_empty() && !headings(&read(&file)).contains(heading) {
                found.push(format!("{}: no heading `{target}`", document.display()));
            }
        }
    }
    expect_none(&found);
}

/// Targets of `[text](target)` outside code.
fn link_targets(markdown: &str) -> Vec<String> {
    let mut targets = Vec::new();
    for line in prose(markdown) {
        for part in line.split("](").skip(1) {
            targets.extend(part.split_once(')').map(|(target, _)| target.to_owned()));
        }
    }
    targets
}

/// Lines outside fenced code.
fn prose(markdown: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    markdown.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// Anchors of the headings, as forges make them.
fn headings(markdown: &str) -> BTreeSet<String> {
    prose(markdown)
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
            title.chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect()
        })
        .collect()
}

#[test]
fn recipes_of_the_makefile_are_short() {
    let makefile = read(Path::new("Makefile"));
    let mut found = Vec::new();
    let (mut target, mut lines) = (String::new(), 0);
    for line in makefile.lines().chain(["end:"]) {
        if line.starts_with('\t') {
            lines += 1;
            continue;
        }
        if lines > 3 {
            found.push(format!("Makefile: `{target}` has {lines} lines; put them into a script"));
        }
        (target, lines) = (line.to_owned(), 0);
    }
    expect_none(&found);
}

/// Rows of the table under a heading: cells without backticks.
fn table(markdown: &str, heading: &str) -> Vec<Vec<String>> {
    markdown
        .lines()
        .skip_while(|line| *line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with('#'))
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| {
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
        })
        .collect()
}

/// Names in the dependency sections of Cargo.toml.
fn declared_dependencies() -> BTreeSet<String> {
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in read(Path::new("Cargo.toml")).lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
        } else if let Some((name, _)) = line.split_once('=').filter(|_| inside) {
            names.insert(name.trim().to_owned());
        }
    }
    names
}

/// Versions of each package in Cargo.lock.
fn locked_versions() -> BTreeMap<String, Vec<String>> {
    let lock = read(Path::new("Cargo.lock"));
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut name = String::new();
    for line in lock.lines() {
        if let Some(value) = line.strip_prefix("name = ") {
            value.trim_matches('"').clone_into(&mut name);
        } else if let Some(value) = line.strip_prefix("version = ").filter(|_| !name.is_empty()) {
            versions.entry(name.clone()).or_default().push(value.trim_matches('"').to_owned());
        }
    }
    versions
}

fn numbers(version: &str) -> Vec<u64> {
    version.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect()
}

#[test]
fn every_dependency_has_its_record() {
    let adr = read(Path::new(ADR));
    let recorded: BTreeMap<String, String> = table(&adr, "## The list")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    let declared = declared_dependencies();
    let locked = locked_versions();
    let mut found = Vec::new();
    for name in &declared {
        let Some(version) = recorded.get(name) else {
            found.push(format!("`{name}` is in Cargo.toml and not in {ADR}"));
            continue;
        };
        let in_lock = locked.get(name).cloned().unwrap_or_default();
        if !in_lock.contains(version) {
            found.push(format!("`{name}`: {ADR} says {version}, Cargo.lock {in_lock:?}"));
        }
    }
    for name in recorded.keys().filter(|name| !declared.contains(*name)) {
        found.push(format!("`{name}` is in {ADR} and not in Cargo.toml"));
    }
    expect_none(&found);
}

#[test]
fn no_locked_crate_has_a_known_hole() {
    let locked = locked_versions();
    let mut found = Vec::new();
    let rows = table(&read(Path::new(ADR)), "## Known holes");
    assert!(!rows.is_empty(), "{ADR} has no table under `## Known holes`");
    for row in rows {
        let (name, least, advisory) = (&row[0], &row[1], &row[2]);
        for version in locked.get(name).into_iter().flatten() {
            if least == "never" || numbers(version) < numbers(least) {
                found.push(format!("`{name}` {version}: {advisory}; at least: {least}"));
            }
        }
    }
    expect_none(&found);
}

#[test]
fn crates_come_from_one_registry() {
    let lock = read(Path::new("Cargo.lock"));
    let foreign: Vec<String> = lock
        .lines()
        .filter(|line| line.starts_with("source = "))
        .filter(|line| !line.contains("registry+https://github.com/rust-lang/crates.io-index"))
        .map(str::to_owned)
        .collect();
    expect_none(&foreign);
}

#[test]
fn tables_and_anchors_are_read_as_meant() {
    let markdown =
        "## A b, `c`!\n| x | y |\n|---|---|\n| `n` | 1 |\n```\n# no\n[z](no)\n```\n[q](p.md#r)\n";
    assert_eq!(table(markdown, "## A b, `c`!"), [["n", "1"]]);
    assert_eq!(headings(markdown), BTreeSet::from(["a-b-c".to_owned()]));
    assert_eq!(link_targets(markdown), ["p.md#r"]);
}
