//! Random repositories: our tags against plain git commands, used as linuxkit.md §2.1 to §2.4 say.

use super::{Repository, run_git};
use crate::linuxkit::tag::{TagRequest, package_tag};
use crate::oci::digest::{Digest, hex};
use proptest::prelude::*;
use sha1::{Digest as _, Sha1};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Packages and sources: nested, beside each other, with names that are patterns, links to a directory, repositories
/// of their own, and nothing but an entry of the index.
const DIRS: [&str; 10] = [
    ".",
    "pkg",
    "pkg/foo",
    "pkg/foo/in ner",
    "pkg/g[ab]*",
    "pkg/ga",
    "é",
    "pkg/alias",
    "pkg/foo/sub",
    "pkg/link",
];
const SUBMODULE: usize = 8;
const GITLINK: usize = 9;
const NAMES: [&str; 14] = [
    "a",
    "b.o",
    " lead",
    "trail ",
    " ",
    "q\"uote",
    "\"q\\\"uote\"",
    "é",
    "new\nline",
    "tab\t",
    "*",
    "-x",
    "zz",
    ".gitignore",
];
const TEXTS: [&str; 4] = ["", "one\n", "two\n", "*.o\n"];

/// Kind, directory, name, text.
type Change = (u8, usize, usize, usize);

fn change(kinds: u8) -> impl Strategy<Value = Change> {
    (0..kinds, 0..DIRS.len(), 0..NAMES.len(), 0..TEXTS.len())
}

/// Package, levels up to the hash path, sources, commit, forced.
type Wish = (usize, Option<usize>, Vec<usize>, bool, bool);

fn wish() -> impl Strategy<Value = Wish> {
    let levels = proptest::option::weighted(0.4, 0..3_usize);
    let sources = proptest::collection::vec(0..DIRS.len(), 0..3);
    let other_commit = proptest::bool::weighted(0.1);
    (0..DIRS.len(), levels, sources, other_commit, proptest::bool::weighted(0.3))
}

/// What cannot be done (a name that is taken) is left out.
fn attempt<T>(done: std::io::Result<T>) {
    drop(done);
}

fn git(dir: &Path, words: &[&str]) -> bool {
    run_git(dir, &words.iter().map(OsStr::new).collect::<Vec<_>>()).0
}

fn before_commit(repository: &Repository, (kind, dir, name, text): Change) {
    let file = repository.path().join(DIRS[dir]).join(NAMES[name]);
    match kind {
        0 => attempt(symlink(TEXTS[text].trim(), &file)),
        1 => {
            attempt(fs::write(&file, TEXTS[text]));
            attempt(fs::set_permissions(&file, fs::Permissions::from_mode(0o755)));
        }
        _ => attempt(fs::write(&file, TEXTS[text])),
    }
}

fn after_commit(repository: &Repository, (kind, dir, name, text): Change) {
    let top = repository.path();
    let dir = top.join(DIRS[dir]);
    let file = dir.join(NAMES[name]);
    let name = format!("./{}", NAMES[name]);
    let on_index = |words: &[&str]| {
        git(&dir, &[&["--literal-pathspecs"], words, &["--", name.as_str()]].concat());
    };
    match kind {
        0 => attempt(fs::write(&file, TEXTS[text])),
        1 => {
            attempt(fs::write(&file, TEXTS[text]));
            on_index(&["add", "-f"]);
        }
        2 => {
            let before = fs::read(&file);
            attempt(fs::write(&file, "staged\n"));
            on_index(&["add"]);
            attempt(before.and_then(|before| fs::write(&file, before)));
        }
        3 => attempt(fs::remove_file(&file)),
        4 => on_index(&["rm", "-q", "--cached"]),
        5 => attempt(fs::set_permissions(&file, fs::Permissions::from_mode(0o755))),
        6 => attempt(
            fs::File::options()
                .append(true)
                .open(&file)
                .and_then(|file| file.set_modified(std::time::UNIX_EPOCH)),
        ),
        7 => {
            attempt(fs::remove_file(&file));
            attempt(symlink(TEXTS[text].trim(), &file));
        }
        8 => on_index(&["add", "-N"]),
        9 => attempt(fs::rename(&file, dir.join("renamed"))),
        10 => {
            attempt(fs::remove_file(&file));
            attempt(fs::create_dir(&file));
            attempt(fs::write(file.join("x"), TEXTS[text]));
        }
        11 => {
            git(&dir, &["init", "-q", "--template=", "nested"]);
        }
        12 => on_index(&["update-index", "--assume-unchanged"]),
        13 => attempt(fs::write(top.join(DIRS[SUBMODULE]).join("s"), TEXTS[text])),
        14 => {
            git(&top.join(DIRS[SUBMODULE]), &["commit", "-q", "--allow-empty", "-m", "more"]);
        }
        _ => attempt(fs::write(top.join(DIRS[SUBMODULE]).join("untracked"), "")),
    }
}

fn repository(quotes: bool, committed: &[Change], changed: &[Change]) -> Option<Repository> {
    let repository = Repository::new()?;
    let top = repository.path();
    repository.git(&["config", "core.quotePath", if quotes { "true" } else { "false" }]);
    for dir in DIRS.iter().filter(|dir| **dir != "pkg/alias") {
        fs::create_dir_all(top.join(dir)).unwrap();
    }
    // The others are in the commit only by chance.
    for dir in ["pkg/foo", "pkg/foo/in ner", "pkg/g[ab]*", "é"] {
        fs::write(top.join(dir).join("build.yml"), dir).unwrap();
    }
    symlink("foo", top.join("pkg/alias")).unwrap();
    let submodule = top.join(DIRS[SUBMODULE]);
    assert!(git(&submodule, &["init", "-q", "--template="]));
    fs::write(submodule.join("s"), "s").unwrap();
    assert!(git(&submodule, &["add", "-A"]) && git(&submodule, &["commit", "-q", "-m", "s"]));
    for change in committed {
        before_commit(&repository, *change);
    }
    repository.git(&["-c", "advice.addEmbeddedRepo=false", "add", "-A"]);
    let entry = format!("160000,{},{}", "1".repeat(40), DIRS[GITLINK]);
    // Fails where a file was made below it.
    git(top, &["update-index", "--add", "--cacheinfo", &entry]);
    repository.git(&["commit", "-q", "--allow-empty", "-m", "one"]);
    for change in changed {
        after_commit(&repository, *change);
    }
    Some(repository)
}

fn request(repository: &Repository, wish: &Wish) -> TagRequest {
    let (package, levels, sources, other_commit, forced) = wish;
    let base = repository.request(DIRS[*package], "image");
    let path = repository.path().join(base.package.strip_prefix(".").unwrap_or(&base.package));
    TagRequest {
        hash_path: levels.and_then(|up| path.ancestors().nth(up).map(Path::to_owned)),
        extra_sources: sources.iter().map(|dir| repository.path().join(DIRS[*dir])).collect(),
        hash_commit: if *other_commit { "main".to_owned() } else { String::new() },
        force_dirty: *forced,
        ..base
    }
}

/// What plain git says: success, output.
fn plain(dir: &Path, words: &[&str], path: &Path) -> (bool, String) {
    let words = words.iter().map(OsStr::new);
    let words: Vec<&OsStr> =
        words.map(|word| if word == "PATH" { path.as_os_str() } else { word }).collect();
    run_git(dir, &words)
}

/// Hash and dirtiness, or nothing where no tag can be had.
fn expected(request: &TagRequest) -> Option<(String, bool)> {
    let clean = |path: &Path| path.components().collect::<PathBuf>();
    let package = clean(&request.working_dir.join(&request.package));
    let path = request.hash_path.as_deref().map_or_else(|| package.clone(), clean);
    let commit = if request.hash_commit.is_empty() { "HEAD" } else { &request.hash_commit };
    let mut sources = String::new();
    for source in &request.extra_sources {
        let source = clean(source);
        sources += &tree_hash(&source, &source, commit)?;
    }
    let mut dirty = request.force_dirty;
    if commit == "HEAD" {
        let diff = ["diff", "--no-ext-diff", "--exit-code", "--quiet", "HEAD", "--", "PATH"];
        let others =
            ["ls-files", "--exclude-standard", "--others", "--error-unmatch", "--", "PATH"];
        dirty |= !plain(&package, &diff, &path).0 || plain(&package, &others, &path).0;
    }
    let mut hash = tree_hash(&package, &path, commit)?;
    if !request.extra_sources.is_empty() {
        hash = hex(&Sha1::digest((hash + &sources).as_bytes()));
    }
    if dirty {
        hash += &format!("-dirty-{}", &content_hash(&package)[..7]);
    }
    Some((hash, dirty))
}

fn tree_hash(dir: &Path, path: &Path, commit: &str) -> Option<String> {
    let (true, top) = plain(dir, &["rev-parse", "--prefix", "PATH", "--show-toplevel"], path)
    else {
        return None;
    };
    if top.trim() == path.to_str().unwrap() {
        let (is_there, tree) = plain(dir, &["show", "--format=%T", "-s", commit], path);
        return is_there.then(|| tree.trim().to_owned());
    }
    let (true, entry) = plain(dir, &["ls-tree", "--full-tree", commit, "--", "PATH"], path) else {
        return None;
    };
    let (entry, name) = entry.strip_suffix('\n')?.split_once('\t')?;
    let (_, hash) = entry.rsplit_once(' ')?;
    (!name.contains('\n')).then(|| hash.to_owned())
}

fn content_hash(dir: &Path) -> String {
    let tracked = plain(dir, &["ls-files"], dir).1;
    let others = plain(dir, &["ls-files", "--exclude-standard", "--others"], dir).1;
    let mut bytes = Vec::new();
    for name in format!("{tracked}\n{others}").trim().lines() {
        let path = dir.join(name);
        if fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()) {
            bytes.extend(fs::read(&path).unwrap());
        }
    }
    Digest::of(&bytes).hex().to_owned()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..Default::default() })]

    #[test]
    fn tags_are_those_that_plain_git_gives(
        quotes: bool,
        committed in proptest::collection::vec(change(6), 0..16),
        changed in proptest::collection::vec(change(16), 0..5),
        wishes in proptest::collection::vec(wish(), 3),
    ) {
        let Some(repository) = repository(quotes, &committed, &changed) else { return Ok(()) };
        for wish in &wishes {
            let request = request(&repository, wish);
            let found = package_tag(&request).map(|tag| (tag.hash, tag.dirty));
            let expected = expected(&request);
            prop_assert_eq!(found.as_ref().ok(), expected.as_ref(), "{:?}: {:?}", request, found);
        }
    }
}
