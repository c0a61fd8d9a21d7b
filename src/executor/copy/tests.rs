//! COPY and ADD into real directories. Where owners matter, root is needed; an ordinary user copies with a `--chown` to
//! itself.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

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

#[test]
fn a_file_goes_where_the_destination_says() {
    for (destination, cwd, there, expected) in [
        ("/x", "/", "", "x"),
        ("/x/", "/", "", "x/f"),
        ("/x/.", "/", "", "x/f"),
        ("x", "/w", "", "w/x"),
        ("", "/w", "", "w/f"),
        (".", "/w", "", "w/f"),
        ("./", "/w", "", "w/f"),
        ("..", "/w/v", "", "w/f"),
        ("/", "/w", "", "f"),
        ("/d", "/", "d/", "d/f"),
        ("/a/b/c", "/", "", "a/b/c"),
        ("/a/../b", "/", "", "b"),
        ("/../../x", "/", "", "x"),
        ("/lnk", "/", "lnk -> real/dir/..//x", "real/x"),
        ("/lnk/f", "/", "lnk -> /real", "real/f"),
        ("/lnk", "/", "lnk -> ../../../../canary", "canary"),
        ("/lnk/canary", "/", "lnk -> ../../..", "canary"),
        ("/x", "/", "x -> /y", "y"),
    ] {
        let bench = Bench::new(&["f"]);
        if !there.is_empty() {
            bench.add("root", there);
        }
        let flags = Flags { cwd, ..Flags::default() };
        bench.copy(&["f"], destination, flags).unwrap();
        assert_eq!(bench.read(expected), "f", "{destination} in {cwd} with {there}");
        if let Some((link, target)) = there.split_once(" -> ") {
            assert_eq!(std::fs::read_link(bench.out(link)).unwrap(), Path::new(target));
        }
    }
}

#[test]
fn later_sources_win_and_files_and_links_are_replaced() {
    let bench = Bench::new(&["s1", "s2"]);
    bench.ok(&["s1", "s2"], "/two");
    bench.add("root", "kept").add("root", "d/s1 -> ../kept");
    bench.ok(&["s1"], "/d/");
    assert_eq!(bench.listing(), ["d/", "d/s1: s1", "kept: kept", "two: s2"]);
}

#[test]
fn nothing_selected_makes_nothing() {
    let bench = Bench::new(&["f.txt", "dir1/x"]);
    bench.ok(&["nomatch*"], "/new/");
    let flags = Flags { exclude: &["*.txt"], ..Flags::default() };
    bench.copy(&["f*"], "/new/", flags).unwrap();
    assert_eq!(bench.listing(), [""; 0]);
    let flags = Flags { exclude: &["*"], ..Flags::default() };
    bench.copy(&["dir*"], "/6", flags).unwrap();
    assert_eq!(bench.listing(), ["6/"]);
}

#[test]
fn conflicts_of_types_are_errors() {
    let bench = Bench::new(&["f", "d/sub/x", "d/g"]);
    bench.add("root", "file").add("root", "dd/f/").add("root", "e/g/").add("root", "h/sub");
    bench.add("root", "l/sub -> /dd").add("root", "loop -> loop");
    assert_eq!(bench.error(&["f"], "/file/"), "not a directory: `/file`");
    assert_eq!(bench.error(&["f"], "/file/x"), "not a directory: `/file`");
    assert_eq!(bench.error(&["d"], "/file"), "cannot copy to non-directory: `/file`");
    assert_eq!(bench.error(&["f"], "/dd/"), "cannot replace to directory `/dd/f` with file");
    assert_eq!(bench.error(&["d"], "/e"), "cannot replace to directory `/e/g` with file");
    assert_eq!(bench.error(&["d"], "/h"), "cannot copy to non-directory: `/h/sub`");
    assert_eq!(bench.error(&["d"], "/l"), "cannot copy to non-directory: `/l/sub`");
    assert_eq!(
        bench.error(&["f"], "/loop"),
        "bad destination `/loop`: `/loop` leads through too many links: `/loop` is the last one followed"
    );
}

#[test]
fn links_inside_a_directory_stay_and_sources_are_followed() {
    let bench = Bench::new(&["s2", "sl -> s2", "d/l1 -> ../s2", "d/gone -> /nowhere"]);
    bench.ok(&["sl"], "/x");
    bench.ok(&["d"], "/dir");
    bench.ok(&["d/l*"], "/files/");
    assert_eq!(
        bench.listing(),
        ["dir/", "dir/gone -> /nowhere", "dir/l1 -> ../s2", "files/", "files/l1: s2", "x: s2"]
    );
}

#[test]
fn modes_and_times_are_kept_and_made_directories_are_plain() {
    let bench = Bench::new(&["d/sub/f", "d/l -> f", "exe"]);
    set_mode(&bench.src("exe"), 0o4755);
    set_mode(&bench.src("d/sub"), 0o1700);
    set_mode(&bench.src("d"), 0o700);
    for path in ["d/sub/f", "d/l", "exe", "d/sub", "d"] {
        set_times(&bench.src(path), OLD);
    }
    bench.ok(&["exe"], "/p/q/exe");
    bench.ok(&["d"], "/new");
    assert_eq!((bench.mode("p/q/exe"), bench.mtime("p/q/exe")), (0o4755, OLD));
    assert_eq!(["p", "p/q"].map(|path| (bench.mode(path), bench.mtime(path))), [(0o755, NOW); 2]);
    assert_eq!((bench.mode("new"), bench.mtime("new")), (0o755, OLD));
    assert_eq!((bench.mode("new/sub"), bench.mtime("new/sub")), (0o1700, OLD));
    assert_eq!([bench.mtime("new/sub/f"), bench.mtime("new/l")], [OLD; 2]);
    // Of what exists, only nested directories take the source's mode and time.
    set_mode(&bench.out("new"), 0o711);
    set_mode(&bench.out("new/sub"), 0o777);
    bench.ok(&["d"], "/new");
    assert_eq!([bench.mode("new"), bench.mode("new/sub")], [0o711, 0o1700]);
    assert_eq!(bench.mtime("new/sub"), OLD);
}

#[test]
fn chmod_reaches_made_directories_only_when_octal() {
    let bench = Bench::new(&["f", "dir/plain", "dir/exe", "dir/sub/"]);
    set_mode(&bench.src("dir/exe"), 0o711);
    let octal = |mode| ModeChange::Octal(mode);
    let copy = |source: &str, destination: &str, chmod: &ModeChange| {
        let flags = Flags { chmod: Some(chmod), ..Flags::default() };
        bench.copy(&[source], destination, flags).unwrap();
    };
    copy("f", "/p/s/f", &octal(0o770));
    assert_eq!(["p", "p/s", "p/s/f"].map(|path| bench.mode(path)), [0o770; 3]);
    copy("f", "/none/f", &octal(0));
    if is_root() {
        assert_eq!(["none", "none/f"].map(|path| bench.mode(path)), [0; 2]);
    }
    set_mode(&bench.out("none"), 0o755);
    copy("dir", "/o", &octal(0o750));
    assert_eq!(["o", "o/sub", "o/plain"].map(|path| bench.mode(path)), [0o750; 3]);
    copy("dir", "/t/sym", &ModeChange::Symbolic("u=rwX,go=rX".to_owned()));
    let modes =
        ["t", "t/sym", "t/sym/sub", "t/sym/plain", "t/sym/exe"].map(|path| bench.mode(path));
    assert_eq!(modes, [0o755, 0o755, 0o755, 0o644, 0o755]);
    // An existing directory keeps its own.
    set_mode(&bench.out("o"), 0o701);
    copy("f", "/o/", &octal(0o600));
    assert_eq!([bench.mode("o"), bench.mode("o/f")], [0o701, 0o600]);
}

#[test]
fn owners_follow_the_rules() {
    if !is_root() {
        eprintln!("SKIPPED: owners need root");
        return;
    }
    let bench = Bench::new(&["d/sub/f", "d/l -> f", "suid"]);
    for path in ["d", "d/sub", "d/sub/f", "suid"] {
        std::os::unix::fs::chown(bench.src(path), Some(101), Some(201)).unwrap();
    }
    std::os::unix::fs::lchown(bench.src("d/l"), Some(102), Some(202)).unwrap();
    set_mode(&bench.src("suid"), 0o4755);
    bench.ok(&["d"], "/context");
    assert_eq!(
        ["context", "context/sub", "context/sub/f", "context/l"].map(|p| bench.owner(p)),
        [(0, 0); 4]
    );
    let stage = Flags { from_stage: true, ..Flags::default() };
    bench.copy(&["d"], "/stage", stage).unwrap();
    bench.copy(&["suid"], "/suid", stage).unwrap();
    assert_eq!(
        ["stage", "stage/sub", "stage/sub/f", "stage/l", "suid"].map(|path| bench.owner(path)),
        [(0, 0), (101, 201), (101, 201), (102, 202), (101, 201)]
    );
    assert_eq!(
        bench.mode("suid"),
        0o4755,
        "changing the owner takes the bit away, so the mode comes after"
    );
    bench.copy(&["d"], "/one/two", Flags { chown: Some((1, 1)), ..stage }).unwrap();
    assert_eq!(
        ["one", "one/two", "one/two/sub", "one/two/sub/f", "one/two/l"]
            .map(|path| bench.owner(path)),
        [(1, 1); 5]
    );
    // What exists at the top keeps its owner, what is nested does not.
    std::os::unix::fs::chown(bench.out("stage"), Some(9), Some(9)).unwrap();
    bench.copy(&["d"], "/stage", Flags { chown: Some((5, 6)), ..stage }).unwrap();
    assert_eq!(["stage", "stage/sub"].map(|path| bench.owner(path)), [(9, 9), (5, 6)]);
}

#[test]
fn hard_links_are_kept_within_one_source() {
    let bench = Bench::new(&["d/a", "d/x/"]);
    std::fs::hard_link(bench.src("d/a"), bench.src("d/x/b")).unwrap();
    bench.ok(&["d"], "/d");
    bench.ok(&["d/a", "d/x/b"], "/two/");
    let ino = |path: &str| bench.out(path).metadata().unwrap().ino();
    assert_eq!(ino("d/a"), ino("d/x/b"));
    assert_ne!(ino("two/a"), ino("two/b"));
}

#[test]
fn a_replaced_copy_gets_no_more_links() {
    // Both `*/f` go to one name; `3/g` must not be tied to what replaced the first one, which is likely to have got
    // the same inode number.
    let bench = Bench::new(&["1/f", "2/f", "3/"]);
    std::fs::hard_link(bench.src("1/f"), bench.src("3/g")).unwrap();
    bench.ok(&["*/[fg]"], "/d/");
    assert_eq!(bench.listing(), ["d/", "d/f: 2/f", "d/g: 1/f"]);
}

#[test]
fn holes_stay_holes() {
    let bench = Bench::new(&[]);
    let file = std::fs::File::create(bench.src("sparse")).unwrap();
    file.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"middle", 32 << 20).unwrap();
    drop(file);
    bench.ok(&["sparse"], "/s");
    let (from, to) = (bench.src("sparse").metadata().unwrap(), bench.out("s").metadata().unwrap());
    assert_eq!(from.len(), to.len());
    assert!(to.blocks() < 1000, "{} blocks", to.blocks());
    assert!(std::fs::read(bench.src("sparse")).unwrap() == std::fs::read(bench.out("s")).unwrap());
}

#[test]
fn extended_attributes_are_copied_but_no_marks_from_a_context() {
    let bench = Bench::new(&["d/f"]);
    let src = fs::open_dir_path(&bench.src("")).unwrap();
    if fs::set_xattr(&src, b"d/f", b"user.note", b"1").is_err() {
        eprintln!("SKIPPED: no extended attributes here");
        return;
    }
    fs::set_xattr(&src, b"d", b"user.note", b"2").unwrap();
    fs::set_xattr(&src, b"d/f", b"user.nativebuild.node", b"c:1:3:666").unwrap();
    set_mode(&bench.src("d/f"), 0o444);
    bench.ok(&["."], "/c");
    let stage =
        Flags { from_stage: true, placeholder: Some("user.nativebuild.node"), ..Flags::default() };
    let chmod = ModeChange::Octal(0o700);
    bench.copy(&["."], "/s", stage).unwrap();
    bench.copy(&["."], "/m", Flags { chmod: Some(&chmod), ..stage }).unwrap();
    let root = fs::open_dir_path(&bench.out("")).unwrap();
    let get = |path: &str, key: &str| {
        let value = fs::get_xattr(&root, path.as_bytes(), key.as_bytes()).unwrap();
        value.map(|value| String::from_utf8(value).unwrap()).unwrap_or_default()
    };
    assert_eq!([get("c/d/f", "user.note"), get("c/d", "user.note")], ["1", "2"]);
    assert_eq!(get("c/d/f", "user.nativebuild.node"), "");
    assert_eq!(get("s/d/f", "user.nativebuild.node"), "c:1:3:666");
    assert_eq!(get("m/d/f", "user.nativebuild.node"), "c:1:3:700");
}

#[test]
fn capabilities_survive_a_change_of_owner() {
    let bench = Bench::new(&["d/f"]);
    let src = fs::open_dir_path(&bench.src("")).unwrap();
    // Version 2, effective, CAP_NET_BIND_SERVICE.
    let mut capability = vec![1, 0, 0, 2, 0, 4, 0, 0];
    capability.resize(20, 0);
    if !is_root() || fs::set_xattr(&src, b"d/f", b"security.capability", &capability).is_err() {
        eprintln!("SKIPPED: setting capabilities needs root");
        return;
    }
    let flags = Flags { from_stage: true, chown: Some((7, 7)), ..Flags::default() };
    bench.copy(&["d"], "/d", flags).unwrap();
    let root = fs::open_dir_path(&bench.out("")).unwrap();
    assert_eq!(fs::get_xattr(&root, b"d/f", b"security.capability").unwrap(), Some(capability));
}

#[test]
fn special_files_arrive_as_the_rules_say() {
    let bench = Bench::new(&["d/f"]);
    let src = fs::open_dir_path(&bench.src("d")).unwrap();
    fs::mknod(&src, b"fifo", fs::Kind::Fifo, 0o640, (0, 0)).unwrap();
    set_mode(&bench.src("d/fifo"), 0o640);
    let _socket = std::os::unix::net::UnixListener::bind(bench.src("d/sock")).unwrap();
    bench.ok(&["d"], "/c");
    bench.ok(&["d/sock"], "/alone");
    assert!(bench.out("c/fifo").metadata().unwrap().file_type().is_fifo());
    assert_eq!(bench.mode("c/fifo"), 0o640);
    assert_eq!([bench.read("c/sock"), bench.read("alone")], ["", ""]);
    let stage = Flags { from_stage: true, ..Flags::default() };
    bench.copy(&["d"], "/s", stage).unwrap();
    assert!(!bench.out("s/sock").exists(), "no layer can hold a socket");
    if !is_root() || fs::mknod(&src, b"null", fs::Kind::CharDevice, 0o666, (1, 3)).is_err() {
        eprintln!("SKIPPED: device nodes need root");
        return;
    }
    set_mode(&bench.src("d/null"), 0o666);
    bench.copy(&["d"], "/dev", stage).unwrap();
    let meta = bench.out("dev/null").metadata().unwrap();
    assert!(meta.file_type().is_char_device());
    assert_eq!((meta.rdev(), bench.mode("dev/null")), (rustix::fs::makedev(1, 3), 0o666));
    bench
        .copy(&["d"], "/ph", Flags { placeholder: Some("user.nativebuild.node"), ..stage })
        .unwrap();
    assert_eq!(bench.read("ph/null"), "");
    let root = fs::open_dir_path(&bench.out("ph")).unwrap();
    let value = fs::get_xattr(&root, b"null", b"user.nativebuild.node").unwrap();
    assert_eq!(value.unwrap(), b"c:1:3:666");
}

#[test]
fn parents_keep_paths_and_the_metadata_of_source_directories() {
    let bench = Bench::new(&["x/y/1.txt", "x/y/2.md", "a/b/c.txt"]);
    set_mode(&bench.src("x/y"), 0o711);
    set_times(&bench.src("x/y"), OLD);
    let flags = Flags { parents: true, ..Flags::default() };
    bench.copy(&["./x/./y/*.txt", "a/b/c.txt"], "/p", flags).unwrap();
    assert_eq!(
        bench.listing(),
        ["p/", "p/a/", "p/a/b/", "p/a/b/c.txt: a/b/c.txt", "p/y/", "p/y/1.txt: x/y/1.txt"]
    );
    assert_eq!((bench.mode("p/y"), bench.mtime("p/y"), bench.mode("p")), (0o711, OLD, 0o755));
}

#[test]
fn heredocs_become_files() {
    let bench = Bench::new(&["f"]);
    let flags = Flags { heredocs: &[("A", "one\n"), ("x/B", "")], ..Flags::default() };
    bench.copy(&["f"], "/d/", flags).unwrap();
    assert_eq!(bench.listing(), ["d/", "d/A: one\n", "d/B: ", "d/f: f"]);
    assert_eq!((bench.mode("d/A"), bench.mtime("d/A")), (0o644, NOW));
    let chmod = ModeChange::Octal(0o755);
    let flags = Flags { heredocs: &[("A", "x")], chmod: Some(&chmod), ..Flags::default() };
    bench.copy(&[], "/script", flags).unwrap();
    assert_eq!((bench.mode("script"), bench.read("script")), (0o755, "x".to_owned()));
    let error = bench.copy(&[], "/", Flags { heredocs: &[("..", "")], ..Flags::default() });
    assert_eq!(error.unwrap_err().to_string(), "`..` is no file name");
}

#[test]
fn link_replaces_links_in_the_destination() {
    let bench = Bench::new(&["f", "d/sub/f"]);
    bench.add("root", "lnk -> real").add("root", "real/").add("root", "t/sub -> /real");
    let flags = Flags { link: true, ..Flags::default() };
    bench.copy(&["f"], "/lnk/f", flags).unwrap();
    bench.copy(&["d"], "/t", flags).unwrap();
    assert_eq!(bench.listing(), ["lnk/", "lnk/f: f", "real/", "t/", "t/sub/", "t/sub/f: d/sub/f"]);
}

#[test]
fn links_of_a_rootfs_never_lead_out() {
    let outside = "../../../../../../../../../..";
    let bench = Bench::new(&["f", "d/f"]);
    let canary = bench.dir.path().join("canary").display().to_string();
    bench.add("root", &format!("abs -> {}", bench.dir.path().display()));
    bench.add("root", &format!("leaf -> {canary}"));
    bench.add("root", &format!("up -> {outside}{canary}"));
    bench.add("root", "chain -> up").add("root", "dots/a -> ../../../..");
    bench.ok(&["f"], "/abs/canary");
    bench.ok(&["f"], "/leaf");
    bench.ok(&["f"], "/up");
    bench.ok(&["f"], "/chain");
    bench.ok(&["d"], "/dots/a/");
    assert_eq!(bench.read("f"), "d/f");
    let inside = canary.trim_start_matches('/');
    assert_eq!(bench.read(inside), "f");
    // And of a source.
    let bench = Bench::new(&["evil -> ../canary", "d/evil -> ../../canary"]);
    let stage = Flags { from_stage: true, ..Flags::default() };
    assert!(bench.copy(&["evil"], "/x", stage).is_err());
    assert!(bench.copy(&["d/ev*"], "/x", stage).is_err());
    bench.copy(&["d"], "/x", stage).unwrap();
    assert_eq!(bench.listing(), ["x/", "x/evil -> ../../canary"]);
}

/// Takes files that start with `tar` for archives of one file.
struct FakeTar;

impl Unpack for FakeTar {
    fn is_archive(&self, file: BorrowedFd<'_>) -> Result<bool> {
        let mut start = [0; 3];
        Ok(rustix::io::read(file, &mut start).unwrap() == 3 && &start == b"tar")
    }

    fn unpack(&self, archive: OwnedFd, place: UnpackPlace<'_>) -> Result<()> {
        let mut all = [0; 16];
        let length = rustix::io::read(&archive, &mut all).unwrap();
        let mut file = fs::create_new(place.dir, &all[..length], 0o644).unwrap();
        file.write_all(place.path).unwrap();
        Ok(())
    }
}

#[test]
fn archives_are_unpacked_one_by_one_and_the_rest_is_copied() {
    let bench = Bench::new(&["tar1", "tar2", "text", "sub/tar3"]);
    bench.add("root", "lnk -> real").add("root", "file");
    let flags = Flags { unpack: Some(&FakeTar), ..Flags::default() };
    bench.copy(&["t*"], "/d", flags).unwrap();
    bench.copy(&["text", "sub"], "/e/", flags).unwrap();
    bench.copy(&["tar1"], "/lnk", flags).unwrap();
    let error = bench.copy(&["tar1"], "/file", flags).unwrap_err();
    assert_eq!(error.to_string(), "cannot copy to non-directory: `/file`");
    assert_eq!(
        bench.listing(),
        [
            "d/",
            "d/tar1: d",
            "d/tar2: d",
            "d/text: text",
            "e/",
            "e/tar3: sub/tar3",
            "e/text: text",
            "file: file",
            "lnk -> real",
            "real/",
            "real/tar1: real",
        ]
    );
}

#[test]
fn strange_names_are_copied() {
    use std::os::unix::ffi::OsStrExt;
    let bench = Bench::new(&["d/line\nbreak", "d/%C3+ é"]);
    let raw = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    std::fs::write(bench.src("d").join(raw), "raw").unwrap();
    let long = "n".repeat(255);
    bench.add("src", &format!("d/{long}"));
    bench.ok(&["d"], "/d");
    assert_eq!(std::fs::read(bench.out("d").join(raw)).unwrap(), b"raw");
    assert_eq!(bench.read("d/line\nbreak"), "d/line\nbreak");
    assert!(bench.out("d").join(long).exists());
}

#[test]
fn a_time_before_1970_is_kept() {
    let bench = Bench::new(&["f"]);
    let file = std::fs::File::options().write(true).open(bench.src("f")).unwrap();
    file.set_modified(UNIX_EPOCH - Duration::new(10, 5)).unwrap();
    bench.ok(&["f"], "/f");
    assert_eq!(bench.mtime("f"), (-11, 999_999_995));
}
