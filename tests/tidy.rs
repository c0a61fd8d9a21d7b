//! House rules that no compiler checks: import order, file size, headers, who may call what, forgotten files and
//! fixtures, statements without a test, links in the documents, dependencies against docs/adr/0001-dependencies.md.
//!
//! Every rule collects all that it finds, so that one run shows the whole list.

#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/scan.rs"]
mod scan;
#[path = "tidy/statements.rs"]
mod statements;

use scan::{NamedPath, Scan, line_of, paths};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms and how high they stand; a room may import only what stands lower (ARCHITECTURE.md, code map).
const LEVELS: &[(&str, u32)] = &[
    ("boolean", 0),
    ("error", 0),
    ("source", 0),
    ("progress", 0),
    ("timings", 0),
    ("sys", 1),
    ("oci", 1),
    ("dockerfile", 1),
    ("plan", 2),
    ("context", 2),
    ("layers", 2),
    ("net", 2),
    ("nix", 2),
    ("yaml", 2),
    ("executor", 3),
    ("transfer", 3),
    ("build", 4),
    ("assemble", 5),
    ("linuxkit", 5),
    ("cli", 6),
];

/// Imports that the levels would allow and an invariant forbids: room, room that it must not know, why.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("executor", "dockerfile", "it gets a directory, mounts and a command"),
    ("executor", "layers", "it does not know how a tree becomes a layer"),
    ("layers", "dockerfile", "it does not know how a tree was made"),
    ("plan", "sys", "planning does no input or output"),
    ("context", "dockerfile", "it knows files, not instructions"),
    ("net", "dockerfile", "it knows addresses, not instructions"),
];

/// Rooms that open files only by descriptor, through `sys`.
const BY_DESCRIPTOR: &[&str] = &["context", "layers", "nix", "executor"];

/// Rooms without any input or output.
const PURE: &[&str] = &["dockerfile", "plan"];

/// Names that only one file may spell, and the files that may besides it, each with its reason.
const PRIVATE_NAMES: &[(&str, &[(&str, &str)])] = &[
    (
        ".wh.",
        &[
            ("src/layers/whiteout.rs", "the home of whiteouts"),
            ("src/oci/validate/layer.rs", "re-reads layers and stands below `layers`"),
        ],
    ),
    ("user.overlay.", PRIVATE_ATTRIBUTES),
    ("trusted.overlay.", PRIVATE_ATTRIBUTES),
];

const PRIVATE_ATTRIBUTES: &[(&str, &str)] = &[
    ("src/layers/whiteout.rs", "the home of the overlay's private marks"),
    ("src/context/xattr.rs", "keeps them out of digests and stands beside `layers`"),
];

const MAX_LINES: usize = 600;

/// A flat table may be longer: file and reason.
const LONG_FILES: &[(&str, &str)] = &[];

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a directory whose names end so, relative to the project, sorted.
pub(crate) fn files(below: &str, ending: &str) -> Vec<PathBuf> {
    fn walk(directory: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let entry = entry.expect("a readable directory");
            let path = entry.path();
            if entry.file_type().expect("a known file type").is_dir() {
                walk(&path, ending, found);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(below), ending, &mut found);
    found.sort();
    found
        .into_iter()
        .map(|path| path.strip_prefix(root()).expect("below the project").to_owned())
        .collect()
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| format!("{error}"))
}

/// Fails with the whole list.
pub(crate) fn expect_none(found: &[String]) {
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// `path:line: text`.
fn at(path: &Path, text: &str, offset: usize, complaint: &str) -> String {
    format!("{}:{}: {complaint}", path.display(), line_of(text, offset))
}

/// Source files with test code taken out; files that are nothing but tests are left out.
fn sources() -> Vec<(PathBuf, Scan)> {
    files("src", ".rs")
        .into_iter()
        .filter(|path| !is_test_file(path))
        .map(|path| {
            let scan = Scan::new(&read(&path));
            (path, scan)
        })
        .collect()
}

/// Unit tests, and what they share (`fixture.rs`), are whole files behind `#[cfg(test)]`.
fn is_test_file(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests")
        || path.file_name().is_some_and(|name| name == "tests.rs" || name == "fixture.rs")
}

/// Modules from the crate's root to this file: `src/layers/diff.rs` is `layers`, `diff`.
fn module_of(path: &Path) -> Vec<String> {
    let mut parts: Vec<String> =
        path.iter().skip(1).map(|part| part.to_string_lossy().into_owned()).collect();
    let last = parts.pop().unwrap_or_default();
    match last.trim_end_matches(".rs") {
        "mod" | "lib" | "main" => {}
        name => parts.push(name.to_owned()),
    }
    parts
}

fn room_of(path: &Path) -> Option<String> {
    module_of(path).into_iter().next()
}

fn level_of(room: &str) -> Option<u32> {
    LEVELS.iter().find(|(name, _)| *name == room).map(|(_, level)| *level)
}

/// The room of this crate that a path names, when it leaves its module by `crate::` or by enough `super::`.
fn named_room<'a>(path: &'a NamedPath, module: &[String]) -> Option<&'a str> {
    let supers = path.segments.iter().take_while(|segment| *segment == "super").count();
    match path.segments[0].as_str() {
        "crate" | "nativebuild" => path.segments.get(1).map(String::as_str),
        // Inside an inline module the same path stays in the room: only names of rooms count.
        "super" if supers >= module.len() => {
            path.segments.get(supers).map(String::as_str).filter(|name| level_of(name).is_some())
        }
        _ => None,
    }
}

#[test]
fn rooms_import_downward() {
    let mut found = Vec::new();
    for (file, scan) in sources() {
        let module = module_of(&file);
        let Some(room) = module.first() else { continue };
        let Some(level) = level_of(room) else {
            found.push(format!("{}: room `{room}` has no level in tests/tidy.rs", file.display()));
            continue;
        };
        for path in paths(&scan.code) {
            let Some(other) = named_room(&path, &module).filter(|other| other != room) else {
                continue;
            };
            let complaint = match level_of(other) {
                // The small rooms of level 0 know each other.
                Some(0) if level == 0 => continue,
                Some(other_level) if other_level < level => {
                    match FORBIDDEN.iter().find(|(a, b, _)| a == room && *b == other) {
                        Some((_, _, why)) => format!("`{room}` must not know `{other}`: {why}"),
                        None => continue,
                    }
                }
                Some(_) => format!("`{room}` may not import `{other}`, which does not stand lower"),
                None if other.starts_with(char::is_uppercase) || other == "self" => continue,
                None => format!("`{other}` is no room in tests/tidy.rs"),
            };
            found.push(at(&file, &scan.code, path.offset, &complaint));
        }
    }
    expect_none(&found);
}

#[test]
fn files_have_a_size() {
    let found: Vec<String> = sources()
        .iter()
        .filter(|(path, _)| !LONG_FILES.iter().any(|(name, _)| Path::new(name) == *path))
        .filter(|(_, scan)| scan.lines > MAX_LINES)
        .map(|(path, scan)| {
            format!("{}: {} lines, more than {MAX_LINES}", path.display(), scan.lines)
        })
        .collect();
    expect_none(&found);
}

#[test]
fn files_begin_with_their_purpose() {
    let mut found = Vec::new();
    for path in files("src", ".rs").into_iter().chain(files("tests", ".rs")) {
        let source = read(&path);
        let first = source.lines().next().unwrap_or_default();
        if !first.starts_with("//! ") {
            found.push(format!("{}: no `//!` header", path.display()));
        } else if first.trim_start_matches("//! ").trim().eq_ignore_ascii_case("stub") {
            found.push(format!("{}: is still a stub", path.display()));
        }
    }
    expect_none(&found);
}

#[test]
fn unsafe_lives_in_sys() {
    let mut found = Vec::new();
    for (file, scan) in sources() {
        if room_of(&file).as_deref() == Some("sys") {
            continue;
        }
        for (offset, _) in words(&scan.code, "unsafe") {
            found.push(at(&file, &scan.code, offset, "`unsafe` outside src/sys"));
        }
    }
    expect_none(&found);
}

/// Occurrences of a whole word.
fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).filter(move |(offset, _)| {
        !text[..*offset].ends_with(is_word) && !text[offset + word.len()..].starts_with(is_word)
    })
}

#[test]
fn private_names_have_one_home() {
    let mut found = Vec::new();
    for (file, scan) in sources() {
        for (name, homes) in PRIVATE_NAMES {
            if homes.iter().any(|(home, _)| Path::new(home) == file) {
                continue;
            }
            for (offset, _) in scan.text.match_indices(name) {
                let complaint = format!("`{name}` is spelt outside {}", homes[0].0);
                found.push(at(&file, &scan.text, offset, &complaint));
            }
        }
    }
    expect_none(&found);
}

#[test]
fn trees_are_reached_by_descriptor() {
    let mut found = Vec::new();
    for (file, scan) in sources() {
        let room = room_of(&file).unwrap_or_default();
        if !BY_DESCRIPTOR.contains(&room.as_str()) {
            continue;
        }
        for path in paths(&scan.code) {
            // `File` as the owner of a descriptor is fine; opening by path is not.
            let is_file = path.segments == ["std", "fs", "File"];
            let opens = path.segments.len() >= 2
                && path.segments[path.segments.len() - 2] == "File"
                && ["open", "create", "create_new", "options"]
                    .contains(&path.segments[path.segments.len() - 1].as_str());
            if (path.starts_with(&["std", "fs"]) && !is_file) || opens {
                let complaint = format!("`{}` in `{room}`; use `sys`", path.segments.join("::"));
                found.push(at(&file, &scan.code, path.offset, &complaint));
            }
        }
    }
    expect_none(&found);
}

#[test]
fn pure_rooms_do_no_input_or_output() {
    let mut found = Vec::new();
    for (file, scan) in sources() {
        let room = room_of(&file).unwrap_or_default();
        if !PURE.contains(&room.as_str()) {
            continue;
        }
        for path in paths(&scan.code) {
            let reaches_out = ["fs", "net", "process", "time", "thread"];
            // Addresses as values are fine, sockets are not.
            let is_value = path.starts_with(&["std", "net"])
                && path.segments.get(2).is_some_and(|name| name.starts_with("Ip"));
            let reaches_out =
                path.segments.get(1).is_some_and(|name| reaches_out.contains(&name.as_str()));
            if path.segments[0] == "std" && reaches_out && !is_value {
                let complaint = format!("`{}` in `{room}`", path.segments.join("::"));
                found.push(at(&file, &scan.code, path.offset, &complaint));
            }
        }
    }
    expect_none(&found);
}

#[test]
fn the_environment_is_read_in_cli() {
    let mut found = Vec::new();
    for (file, scan) in sources() {
        let room = room_of(&file);
        if room.as_deref() == Some("cli") || file.ends_with("src/main.rs") {
            continue;
        }
        for path in paths(&scan.code) {
            // `consts` are facts of the build, not of the machine it runs on.
            if path.starts_with(&["std", "env"]) && !path.starts_with(&["std", "env", "consts"]) {
                found.push(at(&file, &scan.code, path.offset, "`std::env` outside `cli`"));
            }
        }
    }
    expect_none(&found);
}

#[test]
fn no_source_or_test_file_is_forgotten() {
    let mut found = Vec::new();
    for path in files("src", ".rs").into_iter().chain(files("tests/it", ".rs")) {
        let directory = path.parent().expect("a file is in a directory");
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if ["lib", "main"].contains(&stem.as_str()) {
            continue;
        }
        let (name, directory) = if stem == "mod" {
            let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (name, directory.parent().expect("not the top"))
        } else {
            (stem, directory)
        };
        let declaration = format!("mod {name};");
        let declared = ["mod.rs", "lib.rs", "main.rs"]
            .iter()
            .map(|parent| directory.join(parent))
            .chain([directory.with_extension("rs")])
            .any(|parent| read(&parent).contains(&declaration));
        if !declared {
            found.push(format!("{}: no `{declaration}` anywhere", path.display()));
        }
    }
    expect_none(&found);
}

/// A case under `testdata/AREA` counts as used when a test names it, or names the area as a whole and walks it.
#[test]
fn no_fixture_is_unused() {
    let tests: String = files("src", ".rs")
        .iter()
        .chain(&files("tests", ".rs"))
        .filter(|path| !path.starts_with("tests/tidy"))
        .map(|path| read(path))
        .collect();
    let mut found = Vec::new();
    for area in directories(&root().join("testdata")) {
        if tests.contains(&format!("testdata/{area}\"")) {
            continue;
        }
        for case in directories(&root().join("testdata").join(&area)) {
            let name = format!("testdata/{area}/{case}");
            if !tests.contains(&name) {
                found.push(format!("{name}: no test names it, nor walks \"testdata/{area}\""));
            }
        }
    }
    expect_none(&found);
}

fn directories(parent: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .map(|entry| entry.expect("a readable directory"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn open_points_have_numbers() {
    let mut found = Vec::new();
    let texts = ["src", "tests", "scripts", "bench", "examples"].map(|below| files(below, ""));
    // What benchmarks make is nobody's text.
    let made = |path: &PathBuf| path.starts_with("tests/tidy.rs") || path.starts_with("bench/out");
    for path in texts.into_iter().flatten().filter(|path| !made(path)) {
        let source = read(&path);
        for mark in ["TODO", "FIXME", "XXX"] {
            for (offset, _) in words(&source, mark) {
                let rest = &source[offset + mark.len()..];
                let numbered = rest
                    .strip_prefix("(#")
                    .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
                if !numbered {
                    found.push(at(&path, &source, offset, &format!("`{mark}` without a number")));
                }
            }
        }
    }
    expect_none(&found);
}

/// The tables above must not outlive what they are about.
#[test]
fn exemptions_name_files_that_exist() {
    let names = PRIVATE_NAMES.iter().flat_map(|(_, homes)| homes.iter()).chain(LONG_FILES);
    let missing: BTreeMap<&str, &str> =
        names.filter(|(name, _)| !root().join(name).exists()).copied().collect();
    assert_eq!(missing, BTreeMap::new());
}
