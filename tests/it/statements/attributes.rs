//! Statements 43 to 51: owners, modes, names and choice of what is copied, and archives.

use super::{build, history, layer_of, layers, output, refused, tars, world, worlds};
use crate::support::{Who, World, program};
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::time::{Duration, SystemTime};

fn set_mode(world: &World, name: &str, mode: u32) {
    fs::set_permissions(world.context().join(name), Permissions::from_mode(mode)).unwrap();
}

#[test]
fn statement_43_modes_reach_made_parents_only_when_octal() {
    for world in worlds() {
        world.file("f", "f\n").file("dir/plain", "p\n").file("dir/exe", "e\n").file("dir/d/x", "");
        for (name, mode) in [("dir/plain", 0o600), ("dir/exe", 0o711), ("dir/d", 0o700)] {
            set_mode(&world, name, mode);
        }
        let steps = "COPY --chmod=770 f /p/s/f\nCOPY --chmod=0 f /zero\n\
                     COPY --chmod=u=rwX,go=rX dir/ /dir/\nCOPY --chmod=a=r f /sym/q/f\n";
        output(&world, steps);
        assert_eq!(
            layers(&world),
            [
                vec!["p dir 770 0:0 0", "p/s dir 770 0:0 0", "p/s/f file 770 0:0 2"],
                vec!["zero file 0 0:0 2"],
                vec![
                    "dir dir 755 0:0 0",
                    "dir/d dir 755 0:0 0",
                    "dir/d/x file 644 0:0 0",
                    "dir/exe file 755 0:0 2",
                    "dir/plain file 644 0:0 2",
                ],
                vec!["sym dir 755 0:0 0", "sym/q dir 755 0:0 0", "sym/q/f file 444 0:0 2"],
            ]
        );
        assert_eq!(history(&world)[0], "layer COPY --chmod=770 f /p/s/f # buildkit");
    }
}

#[test]
fn statement_44_owners_are_numbers_or_names_of_the_image() {
    for world in worlds() {
        world.file("f", "f\n").file("d/x", "x\n");
        let steps = "COPY --chown=1 d /one/two\nCOPY --chown=nobody f /n\nCOPY --chown=nosuch f /u\n\
                     COPY --chown=55:wheel f /w\n";
        output(&world, steps);
        assert_eq!(
            layers(&world),
            [
                vec!["one dir 755 1:1 0", "one/two dir 755 1:1 0", "one/two/x file 644 1:1 2"],
                vec!["n file 644 65534:65534 2"],
                vec!["u file 644 0:0 2"],
                vec!["w file 644 55:10 2"],
            ]
        );
    }
}

#[test]
fn statement_45_a_file_of_the_context_loses_its_owner_and_nothing_else() {
    for world in worlds() {
        world.file("Dockerfile", "FROM base\nCOPY own /own\n").file("own", "o\n");
        let path = world.context().join("own");
        if world.who() == Who::Root {
            chown(&path, Some(1000), Some(1000)).unwrap();
        }
        let file = File::options().write(true).open(&path).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_234_567_890_500);
        file.set_modified(time).unwrap();
        set_mode(&world, "own", 0o4755);
        let mut command = world.command(program());
        let done = command.args(["build", "-q", "-t", "app"]).arg(world.context()).output();
        assert!(done.unwrap().status.success());
        assert_eq!(layers(&world), [["own file 4755 0:0 2"]]);
        let tar = &tars(&world)[0];
        let mut archive = tar::Archive::new(&tar[..]);
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.header().mtime().unwrap(), 1_234_567_890);
    }
}

#[test]
fn statement_46_hard_links_live_within_one_source() {
    for world in worlds() {
        world.file("d/a", "a\n");
        fs::hard_link(world.context().join("d/a"), world.context().join("d/b")).unwrap();
        assert_eq!(
            layer_of(&world, "COPY d /d"),
            ["d dir 755 0:0 0", "d/a file 644 0:0 2", "d/b link 644 0:0 d/a"]
        );
        assert_eq!(
            layer_of(&world, "COPY d/a d/b /two/"),
            ["two dir 755 0:0 0", "two/a file 644 0:0 2", "two/b file 644 0:0 2"]
        );
    }
}

#[test]
fn statements_47_and_48_patterns_and_odd_names() {
    let world = world();
    world.file("arr[0].txt", "1\n").file("arr0.txt", "two\n").file("g/a+b%C3é", "odd\n");
    assert_eq!(
        layer_of(&world, "COPY arr[[]0].txt /d/"),
        ["d dir 755 0:0 0", "d/arr[0].txt file 644 0:0 2"]
    );
    assert_eq!(
        layer_of(&world, "COPY arr[0].txt /d/"),
        ["d dir 755 0:0 0", "d/arr0.txt file 644 0:0 4"]
    );
    assert_eq!(layer_of(&world, "COPY g/a+b%C3é /"), ["a+b%C3é file 644 0:0 4"]);
    assert_eq!(layer_of(&world, "COPY [\"g/a+b%C3é\", \"/ü +%C3\"]"), ["ü +%C3 file 644 0:0 4"]);
}

#[test]
fn statement_49_parents_are_kept_from_the_pivot_on() {
    for world in worlds() {
        world.file("x/y/a.txt", "a\n").file("x/y/b.md", "b\n").file("x/z.txt", "z\n");
        world.file("src/t.txt", "t\n").file("src/a/b/c.txt", "c\n").file("src/a/n.md", "n\n");
        set_mode(&world, "x/y", 0o750);
        set_mode(&world, "src/a", 0o711);
        let steps = "COPY --parents ./x/./y/*.txt /p/\nCOPY --parents src/**/*.txt /q/\n\
                     COPY --parents nomatch/*.txt /r/\n";
        output(&world, steps);
        assert_eq!(
            layers(&world),
            [
                vec!["p dir 755 0:0 0", "p/y dir 750 0:0 0", "p/y/a.txt file 644 0:0 2"],
                vec![
                    "q dir 755 0:0 0",
                    "q/src dir 755 0:0 0",
                    "q/src/a dir 711 0:0 0",
                    "q/src/a/b dir 755 0:0 0",
                    "q/src/a/b/c.txt file 644 0:0 2",
                    "q/src/t.txt file 644 0:0 2",
                ],
                vec!["r dir 755 0:0 0"],
            ]
        );
        assert_eq!(
            refused(&world, "FROM base\nCOPY --parents x/nope.txt /p/\n", &[]),
            "2:16: COPY failed: `x/nope.txt` is not in the build context"
        );
    }
}

#[test]
fn statement_50_what_is_excluded_is_relative_to_its_source() {
    let world = world();
    world.file("d/a.txt", "1\n").file("d/a.md", "1\n").file("d/in/b.txt", "1\n");
    world.file("hom.txt", "1\n").file("home.md", "md\n");
    assert_eq!(
        layer_of(&world, "COPY --exclude=*.txt d /o"),
        [
            "o dir 755 0:0 0",
            "o/a.md file 644 0:0 2",
            "o/in dir 755 0:0 0",
            "o/in/b.txt file 644 0:0 2"
        ]
    );
    assert_eq!(
        layer_of(&world, "COPY --exclude=**/*.txt d /o"),
        ["o dir 755 0:0 0", "o/a.md file 644 0:0 2", "o/in dir 755 0:0 0"]
    );
    // Design §10.10: sources that are files are excluded too, as the manual says; BuildKit copies both (#5489).
    assert_eq!(
        layer_of(&world, "COPY --exclude=*.txt hom* /d/"),
        ["d dir 755 0:0 0", "d/home.md file 644 0:0 3"]
    );
    assert_eq!(history(&world), ["layer COPY hom* /d/ # buildkit"]);
}

/// A tar with one file of 5:6.
fn tar_with(name: &str) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o640);
    header.set_uid(5);
    header.set_gid(6);
    header.set_size(2);
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_data(&mut header, name, &b"m\n"[..]).unwrap();
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

#[test]
fn statement_51_archives_are_what_their_content_says() {
    for world in worlds() {
        let text = gzip(b"text\n");
        world.file("empty.tar.gz", "").file("text.gz", &text).file("t.tar", tar_with("m"));
        world.file("many/1.tar", tar_with("m")).file("many/2.tar", tar_with("n"));
        world.file("packed", gzip(&tar_with("m")));
        let steps = "ADD empty.tar.gz /a/\nADD text.gz /a/\nADD t.tar /dest\nADD many/*.tar /d\nADD packed /gz\n";
        output(&world, steps);
        let size = text.len();
        let member = |dir: &str| format!("{dir}/m file 640 5:6 2");
        let top = |dir: &str| format!("{dir} dir 755 0:0 0");
        assert_eq!(
            layers(&world),
            [
                vec![top("a"), "a/empty.tar.gz file 644 0:0 0".to_owned()],
                vec![top("a"), format!("a/text.gz file 644 0:0 {size}")],
                vec![top("dest"), member("dest")],
                vec![top("d"), member("d"), "d/n file 640 5:6 2".to_owned()],
                vec![top("gz"), member("gz")],
            ]
        );
        build(&world, "FROM base\nCOPY t.tar /dest\n", &[]);
        assert_eq!(layers(&world), [["dest file 644 0:0 2048"]]);
    }
}
