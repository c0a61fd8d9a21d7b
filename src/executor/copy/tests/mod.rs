//! COPY and ADD into real directories. Where owners matter, root is needed; an ordinary user copies with a `--chown` to
//! itself.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

mod metadata;
mod places;

use super::*;
use crate::context::SelectOptions;
use crate::error::Result;
use crate::source::Span;

const NOW: (i64, u32) = (1_600_000_000, 5);
const OLD: (i64, u32) = (1_000_000_000, 123_456_789);

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A source and a rootfs below one directory, beside which a canary lies.
struct Bench {
    dir: tempfile::TempDir,
}

/// What differs from a plain COPY from the context.
#[derive(Clone, Copy, Default)]
struct Flags<'a> {
    from_stage: bool,
    chown: Option<(u32, u32)>,
    chmod: Option<&'a ModeChange>,
    exclude: &'a [&'a str],
    parents: bool,
    link: bool,
    unpack: Option<&'a dyn Unpack>,
    placeholder: Option<&'a str>,
    heredocs: &'a [(&'a str, &'a str)],
    cwd: &'a str,
}

impl Bench {
    fn new(names: &[&str]) -> Self {
        let bench = Self { dir: tempfile::tempdir().unwrap() };
        for dir in ["src", "root"] {
            std::fs::create_dir(bench.dir.path().join(dir)).unwrap();
        }
        std::fs::write(bench.dir.path().join("canary"), "untouched").unwrap();
        for name in names {
            bench.add("src", name);
        }
        bench
    }

    /// Adds a file (content = own name), a directory (`d/`) or a link (`a -> b`).
    fn add(&self, side: &str, name: &str) -> &Self {
        let at = |path: &str| self.dir.path().join(side).join(path);
        let parent = |path: PathBuf| std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        if let Some((link, target)) = name.split_once(" -> ") {
            parent(at(link));
            symlink(target, at(link)).unwrap();
        } else if let Some(dir) = name.strip_suffix('/') {
            std::fs::create_dir_all(at(dir)).unwrap();
        } else {
            parent(at(name));
            std::fs::write(at(name), name).unwrap();
        }
        self
    }

    fn src(&self, path: &str) -> PathBuf {
        self.dir.path().join("src").join(path)
    }

    fn out(&self, path: &str) -> PathBuf {
        self.dir.path().join("root").join(path)
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.out(path)).unwrap()
    }

    fn mode(&self, path: &str) -> u32 {
        self.out(path).symlink_metadata().unwrap().mode() & 0o7777
    }

    fn owner(&self, path: &str) -> (u32, u32) {
        let meta = self.out(path).symlink_metadata().unwrap();
        (meta.uid(), meta.gid())
    }

    fn mtime(&self, path: &str) -> (i64, u32) {
        let meta = self.out(path).symlink_metadata().unwrap();
        (meta.mtime(), meta.mtime_nsec() as u32)
    }

    fn copy(&self, sources: &[&str], destination: &str, flags: Flags<'_>) -> Result<()> {
        let open = |side: &str| fs::open_dir_path(&self.dir.path().join(side)).unwrap();
        let tree = if flags.from_stage {
            FileTree::rootfs(open("src"))
        } else {
            FileTree::context(open("src"), None)
        };
        let exclude: Vec<String> = flags.exclude.iter().map(|e| (*e).to_owned()).collect();
        let sources: Vec<_> =
            sources.iter().map(|source| ((*source).to_owned(), Span::default())).collect();
        let options = SelectOptions {
            instruction: "COPY",
            parents: flags.parents,
            exclude: &exclude,
            dockerfile: None,
        };
        let selected = tree.select(&sources, options)?;
        let heredocs: Vec<_> =
            flags.heredocs.iter().map(|(n, b)| ((*n).to_owned(), (*b).to_owned())).collect();
        let me = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let rootfs = open("root");
        let done = copy(&CopyRequest {
            tree: &tree,
            selected: &selected,
            heredocs: &heredocs,
            rootfs: rootfs.as_fd(),
            upper: None,
            destination,
            cwd: if flags.cwd.is_empty() { "/" } else { flags.cwd },
            chown: if is_root() { flags.chown } else { Some(me) },
            chmod: flags.chmod,
            link: flags.link,
            unpack: flags.unpack,
            placeholder: flags.placeholder,
            now: NOW,
        });
        assert_eq!(std::fs::read_to_string(self.dir.path().join("canary")).unwrap(), "untouched");
        done
    }

    fn ok(&self, sources: &[&str], destination: &str) {
        self.copy(sources, destination, Flags::default()).unwrap();
    }

    fn error(&self, sources: &[&str], destination: &str) -> String {
        self.copy(sources, destination, Flags::default()).unwrap_err().to_string()
    }

    /// All paths below the rootfs, directories with `/`, links with their target, files with their content.
    fn listing(&self) -> Vec<String> {
        let mut lines = Vec::new();
        list(&self.out(""), "", &mut lines);
        lines
    }
}

fn list(dir: &Path, prefix: &str, lines: &mut Vec<String>) {
    let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap()).collect();
    names.sort_by_key(std::fs::DirEntry::file_name);
    for entry in names {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            lines.push(format!("{name}/"));
            list(&entry.path(), &format!("{name}/"), lines);
        } else if kind.is_symlink() {
            let target = std::fs::read_link(entry.path()).unwrap();
            lines.push(format!("{name} -> {}", target.display()));
        } else if kind.is_file() {
            lines.push(format!("{name}: {}", std::fs::read_to_string(entry.path()).unwrap()));
        } else {
            lines.push(format!("{name}?"));
        }
    }
}

fn set_times(path: &Path, time: (i64, u32)) {
    let parent = fs::open_dir_path(path.parent().unwrap()).unwrap();
    let name = path.file_name().unwrap().as_encoded_bytes();
    fs::set_mtime(&parent, name, time).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}
