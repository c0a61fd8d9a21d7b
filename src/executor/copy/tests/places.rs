//! Where things arrive, what they replace, and which links are followed on the way.

use super::*;

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
