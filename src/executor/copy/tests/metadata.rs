//! What stays of a file besides its content: modes, owners, times, links, holes, attributes.

use super::*;

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
