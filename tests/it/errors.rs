//! Bad input: the exit code and every byte of standard error, for root and for an ordinary user.
//!
//! `testdata/errors/<case>` is a build context with its Dockerfile. `args` has further arguments, one a line; `stderr.txt`
//! begins with the exit code. `UPDATE_EXPECT=1` rewrites it. What cannot be a file of the repository is below.

use crate::support::{Said, World, base};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Standard error with what differs from run to run replaced.
pub fn normal(world: &World, said: &Said) -> String {
    let dir = world.path("");
    let dir = dir.to_str().unwrap().trim_end_matches('/');
    let text = said.stderr.replace(dir, "DIR").replace(&dir[1..], "DIR");
    let mut out = format!("exit {}\n", said.code);
    for line in text.lines() {
        let mut line = line.to_owned();
        for (before, fixed) in [("ids: ", "ID"), ("DONE ", "TIME"), ("/logs/run-", "ID.log")] {
            replace_word(&mut line, before, fixed, |c| c == ',' || c == ' ');
        }
        replace_word(&mut line, "sha256:", "HEX", |c| !c.is_ascii_hexdigit());
        out.push_str(&line);
        out.push('\n');
    }
    out
}

fn replace_word(line: &mut String, before: &str, fixed: &str, ends: impl Fn(char) -> bool) {
    let mut from = 0;
    while let Some(at) = line[from..].find(before) {
        let start = from + at + before.len();
        let end = line[start..].find(&ends).map_or(line.len(), |end| start + end);
        line.replace_range(start..end, fixed);
        from = start + fixed.len();
    }
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/errors");
    let mut cases: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

/// The base image, and `both`: an index for two platforms.
fn world_with_images(world: World) -> World {
    let world = world.with_base();
    let tar = world.path("base.tar");
    let tar = tar.to_str().unwrap();
    for platform in ["linux/amd64", "linux/arm64"] {
        world.run(["image", "import", "--add", "both", tar, "--platform", platform]).ok();
    }
    world
}

fn copy_context(case: &Path, world: &World) {
    fs::remove_dir_all(world.context()).unwrap();
    let copied = Command::new("cp").arg("-a").arg(case).arg(world.context()).status().unwrap();
    assert!(copied.success());
    for own in ["args", "stderr.txt"] {
        let _not_there = fs::remove_file(world.context().join(own));
    }
    world.give();
}

#[test]
fn faults_of_the_input_are_told_with_place_reason_and_remedy() {
    let mut wrong = String::new();
    for world in World::each() {
        let world = world_with_images(world);
        fs::write(world.path("secret"), "not for images").unwrap();
        for case in cases() {
            copy_context(&case, &world);
            let args = fs::read_to_string(case.join("args")).unwrap_or_default();
            let context = world.context();
            let said = world.run(
                ["build", "--progress", "plain"].into_iter().chain(args.lines()).chain([
                    "-t",
                    "result",
                    context.to_str().unwrap(),
                ]),
            );
            let found = normal(&world, &said);
            let path = case.join("stderr.txt");
            if update() {
                fs::write(&path, &found).unwrap();
            }
            let expected = fs::read_to_string(&path).unwrap_or_default();
            if found != expected {
                let name = case.file_name().unwrap().to_string_lossy();
                wrong += &format!(
                    "== {name} ({:?})\n-- expected\n{expected}-- found\n{found}",
                    world.who()
                );
            }
            assert_eq!(said.code != 0, !found.contains("\nbuilt "), "{found}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}(UPDATE_EXPECT=1 rewrites the expectations)");
}

/// Asserts what the program says to these arguments.
#[track_caller]
fn says(world: &World, args: &[&str], expected: &str) {
    let said = world.run(args);
    assert_eq!(normal(world, &said), expected.trim_start_matches('\n'));
    assert_eq!(said.stdout, "");
}

#[test]
fn a_context_or_dockerfile_that_is_not_there_is_named() {
    for world in World::each() {
        let context = world.context();
        let context = context.to_str().unwrap();
        says(
            &world,
            &["build", context],
            "
exit 1
error: cannot read the Dockerfile `DIR/context/Dockerfile`
 cause: no such file or directory
help: name another file with `-f`
",
        );
        says(
            &world,
            &["build", "-f", "other", context],
            "
exit 1
error: cannot read the Dockerfile `other`
 cause: no such file or directory
",
        );
        says(
            &world,
            &["build", "nowhere"],
            "
exit 1
error: cannot read the Dockerfile `nowhere/Dockerfile`
 cause: no such file or directory
",
        );
        world.file("Dockerfile", "FROM scratch\nCOPY x /\n");
        says(
            &world,
            &["build", "-f", "context/Dockerfile", "nowhere"],
            "
exit 1
error: cannot open the build context `nowhere`
 cause: open(nowhere, O_DIRECTORY): no such file or directory
",
        );
        fs::create_dir(world.context().join("Dockerfile.d")).unwrap();
        says(
            &world,
            &["build", "-f", "context/Dockerfile.d", context],
            "
exit 1
error: cannot read the Dockerfile `context/Dockerfile.d`
 cause: is a directory
",
        );
    }
}

#[test]
fn an_empty_store_says_how_images_come_in() {
    for world in World::each() {
        let said = world.build("FROM base\n", &["--pull=never"]);
        assert_eq!(
            normal(&world, &said),
            "exit 1
error: image `base` is not in the store
  --> Dockerfile:1:6
   |
 1 | FROM base
   |      ^^^^
help: the store is empty; `nativebuild image import NAME SOURCE` brings an image in
"
        );
    }
}

#[test]
fn files_that_may_not_be_read_are_named() {
    let Some(world) = World::user() else { return };
    let world = world.with_base();
    world.file("d/secret", "x").file("d/open", "y");
    let chmod = |mode: &str, name: &str| {
        let path = world.context().join(name);
        assert!(world.command("chmod").arg(mode).arg(path).status().unwrap().success());
    };
    let dockerfile = "FROM base\nCOPY d /d\n";
    let mut found = String::new();
    let mut fails = |what: &str, said: Said| {
        found += &format!("== {what}\n{}\n", normal(&world, &said));
        assert_eq!(said.code, 1, "{what}");
    };
    chmod("000", "d/secret");
    fails("a file", world.build(dockerfile, &[]));
    fails("a file that is named", world.build("FROM base\nCOPY d/secret /d\n", &[]));
    // What is ignored need not be readable.
    world.file(".dockerignore", "d/secret\n").build(dockerfile, &[]).ok();
    chmod("000", ".dockerignore");
    fails("the ignore file", world.build(dockerfile, &[]));
    fs::remove_file(world.context().join(".dockerignore")).unwrap();
    chmod("000", "d");
    fails("a directory", world.build(dockerfile, &[]));
    chmod("755", "d");
    chmod("000", "Dockerfile");
    fails("the Dockerfile", world.run(["build", world.context().to_str().unwrap()]));
    transcript("unreadable-files", &found);
}

/// Triggers that no ONBUILD stores, but any program may write into a config.
#[test]
fn odd_triggers_of_a_base_image_are_told() {
    let mut found = String::new();
    for triggers in [
        &["RUN one\nRUN two"][..],
        &["ONBUILD RUN x"],
        &["MAINTAINER me"],
        &["FROM scratch"],
        &[""],
        &["RUN true", "NOPE x"],
        &["COPY --from=gone /x /y"],
    ] {
        let world = World::new().with_base();
        world.build("FROM base\nONBUILD RUN true\n", &["-t", "odd"]).ok();
        let layout = world.path("odd.oci");
        world.run(["image", "save", "odd", "--format", "oci", "-o", layout.to_str().unwrap()]).ok();
        set_triggers(&layout, triggers);
        world.give();
        world.run(["image", "import", "odd", layout.to_str().unwrap()]).ok();
        let said = world.build("# one\nFROM odd\n", &["--pull=never"]);
        found += &format!("== {triggers:?}\n{}\n", normal(&world, &said));
    }
    transcript("odd-triggers", &found);
}

/// Writes a layout's one image anew, with these triggers.
fn set_triggers(layout: &Path, triggers: &[&str]) {
    use nativebuild::oci::Digest;
    use serde_json::{Value, json};
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let blob = |digest: &str| layout.join("blobs").join(digest.replace(':', "/"));
    let put = |descriptor: &mut Value, value: &Value| {
        let bytes = serde_json::to_vec(value).unwrap();
        let digest = Digest::of(&bytes);
        fs::write(blob(digest.as_str()), &bytes).unwrap();
        descriptor["digest"] = json!(digest);
        descriptor["size"] = json!(bytes.len());
    };
    let mut index = read(&layout.join("index.json"));
    let mut manifest = read(&blob(index["manifests"][0]["digest"].as_str().unwrap()));
    let mut config = read(&blob(manifest["config"]["digest"].as_str().unwrap()));
    config["config"]["OnBuild"] = json!(triggers);
    put(&mut manifest["config"], &config);
    put(&mut index["manifests"][0], &manifest);
    fs::write(layout.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
}

/// Compares what was said with `testdata/transcripts/<name>.txt`.
#[track_caller]
pub fn transcript(name: &str, found: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/transcripts");
    let path = folder.join(format!("{name}.txt"));
    if update() {
        fs::create_dir_all(&folder).unwrap();
        fs::write(&path, found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{}\n{found}(UPDATE_EXPECT=1 rewrites it)", path.display());
}

fn update() -> bool {
    std::env::var_os("UPDATE_EXPECT").is_some_and(|value| value == "1")
}

#[test]
fn wrong_usage_is_told_with_exit_code_2() {
    let world = World::new();
    world.file("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let mut found = String::new();
    for args in [
        "bild context",
        "build",
        "build --jobs 0 context",
        "build --isolation nosuch context",
        "build --platform linux/amd64,windows/amd64 context",
        "build --platform nosuch context",
        "build -t UPPER context",
        "build -t name@sha256:00 context",
        "build --label =x context",
        "build --compression-level 99 context",
        "build --source-date-epoch soon context",
        "build -o type=nosuch context",
        "build -o type=tar,dest=- -o type=oci,dest=- context",
        "build --pull=sometimes context",
        "build --nosuch context",
        "image import base",
        "image import UPPER context",
        "image nosuch",
        "prune base",
    ] {
        let said = world.run(args.split(' ').filter(|arg| !arg.is_empty()));
        found += &format!("$ nativebuild {args}\n{}\n", normal(&world, &said));
        assert_eq!(said.code, 2, "{args}: {}", said.stderr);
    }
    transcript("usage", &found);
}

/// The failure of a run of a RUN: its log has all of its output, byte for byte.
#[test]
fn the_log_of_a_failed_command_is_complete() {
    for world in World::each() {
        let world = world.with_base();
        let said =
            world.build("FROM base\nRUN printf 'a\\rb\\n\\377'; seq 3000 >&2; exit 3\n", &[]);
        let log = said.stderr.lines().find_map(|line| line.strip_prefix("  log: ")).unwrap();
        let log = fs::read(log).unwrap();
        let numbers = (1..=3000).fold(String::new(), |text, n| text + &n.to_string() + "\n");
        // Two pipes: their order among each other is not kept, each of them is.
        let rest: Vec<u8> = remove_once(&log, b"a\rb\n\xff");
        assert_eq!(String::from_utf8(rest).unwrap(), numbers);
        let tail = said.stderr.lines().filter(|line| line.starts_with("  | ")).count();
        assert_eq!(tail, 20);
        said.failed(1);
    }
}

fn remove_once(bytes: &[u8], part: &[u8]) -> Vec<u8> {
    let at = bytes.windows(part.len()).position(|window| window == part).unwrap();
    [&bytes[..at], &bytes[at + part.len()..]].concat()
}

#[test]
fn a_damaged_archive_gives_an_error_and_no_name() {
    let world = World::new().with_base();
    let tar = base::busybox_tar();
    world.run(["image", "save", "base", "-o", "good.tar"]).ok();
    let good = fs::read(world.path("good.tar")).unwrap();
    let flip = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let at = bytes.len() / 2;
        bytes[at] ^= 0x55;
        bytes
    };
    let packed = gzip(tar);
    let cases: [(&str, Vec<u8>); 9] = [
        ("an empty file", Vec::new()),
        ("a text", b"hello, world".to_vec()),
        ("half of a tar", tar[..tar.len() / 2].to_vec()),
        ("half of a gzip", packed[..packed.len() / 2].to_vec()),
        ("a gzip with a wrong byte", flip(&packed)),
        ("a gzip with rubbish behind it", [&packed[..], b"rubbish"].concat()),
        ("half of an OCI archive", good[..good.len() / 2].to_vec()),
        ("an OCI archive with a wrong byte", flip(&good)),
        ("a tar with a wrong checksum", flip(&tar[..512])),
    ];
    let mut found = String::new();
    let mut import = |name: &str, file: &str| {
        let said = world.run(["image", "import", "damaged", file]);
        found += &format!("== {name}\n{}\n", normal(&world, &said));
        assert_eq!((said.code, said.stdout.as_str()), (1, ""), "{name}");
    };
    for (name, bytes) in cases {
        fs::write(world.path("in.tar"), bytes).unwrap();
        import(name, "in.tar");
    }
    import("no file", "nowhere.tar");
    fs::create_dir(world.path("directory")).unwrap();
    import("a directory", "directory");
    assert_eq!(world.run(["image", "ls"]).ok().lines().count(), 2, "only `base` has a name");
    assert!(fs::read_dir(world.store().join("tmp")).unwrap().next().is_none());
    transcript("damaged-archives", &found);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
