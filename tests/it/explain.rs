//! `--explain-cache`: one line for each step that missed, with the reason, whole.

use crate::support::{Said, World};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// What was told of each step that missed: its position and the reasons.
fn missed(said: &Said) -> Vec<String> {
    assert_eq!(said.code, 0, "{}", said.stderr);
    let lines: Vec<&str> = said.stderr.lines().collect();
    let mut found: Vec<String> = lines
        .iter()
        .filter_map(|line| {
            let (step, reasons) = line.split_once(" MISSED: ")?;
            let begin = format!("{step} [");
            let announced = lines.iter().find_map(|line| line.strip_prefix(&begin)).unwrap();
            Some(format!("{}: {reasons}", announced.split_once(']').unwrap().0))
        })
        .collect();
    found.sort();
    found
}

fn explained(world: &World, dockerfile: &str, args: &[&str]) -> Vec<String> {
    missed(&world.build(dockerfile, &[&["--explain-cache"], args].concat()))
}

fn world() -> World {
    World::new().with_base()
}

const NOTHING: &str = "nothing is known of this stage yet";
const ABOVE: &str = "the step above missed";

#[test]
fn a_changed_command_is_told_and_what_is_below_it_follows() {
    for world in World::each() {
        let world = world.with_base();
        let dockerfile = |command: &str| {
            format!("FROM base AS one\nRUN true\nRUN {command}\nWORKDIR /w\nRUN true\n")
        };
        let first = explained(&world, &dockerfile("echo 1"), &[]);
        assert_eq!(first, ["1", "2", "3", "4"].map(|at| format!("one {at}/4: {NOTHING}")));
        assert_eq!(explained(&world, &dockerfile("echo 1"), &[]), [""; 0]);
        assert_eq!(
            explained(&world, &dockerfile("echo 2"), &[]),
            [
                "one 2/4: command changed: `RUN echo 1` → `RUN echo 2`".to_owned(),
                format!("one 3/4: {ABOVE}"),
                format!("one 4/4: {ABOVE}"),
            ]
        );
        // Back again: everything is there, and that is what the next one is compared with.
        assert_eq!(explained(&world, &dockerfile("echo 1"), &[]), [""; 0]);
    }
}

#[test]
fn a_line_above_hides_nothing() {
    let world = world();
    world.file("a", "1");
    explained(&world, "FROM base\nRUN true\nCOPY a /\n", &[]);
    world.file("a", "2");
    assert_eq!(
        explained(&world, "FROM base\nRUN echo new\nRUN true\nCOPY a /\n", &[]),
        [
            "stage-0 1/3: it is new in this stage".to_owned(),
            format!("stage-0 2/3: {ABOVE}"),
            "stage-0 3/3: files of the context: changed `a`".to_owned(),
        ]
    );
}

#[test]
fn variables_are_told_by_their_kind_and_secrets_without_values() {
    let world = world();
    let dockerfile = |env: &str| {
        format!("FROM base\nARG VERSION=1\nARG API_TOKEN=none\nENV COLOUR={env}\nRUN true\n")
    };
    explained(&world, &dockerfile("red"), &[]);
    assert_eq!(
        explained(&world, &dockerfile("red"), &["--build-arg", "VERSION=2"]),
        ["stage-0 1/1: build argument VERSION changed: `1` → `2`"]
    );
    assert_eq!(
        explained(&world, &dockerfile("blue"), &["--build-arg", "VERSION=2"]),
        ["stage-0 1/1: environment variable COLOUR changed: `red` → `blue`"]
    );
    let said = explained(
        &world,
        &dockerfile("blue"),
        &["--build-arg", "VERSION=2", "--build-arg", "API_TOKEN=hunter2"],
    );
    assert_eq!(said, ["stage-0 1/1: build argument API_TOKEN changed (its value is not shown)"]);
    assert_eq!(
        explained(&world, "FROM base\nENV COLOUR=blue SIZE=9\nRUN true\n", &[]),
        [
            "stage-0 1/1: environment variable SIZE is new: `9`; build argument API_TOKEN (its value is not shown) is \
          gone; build argument VERSION is gone: it was `2`"
        ]
    );
    for entry in fs::read_dir(world.store().join("cache/explain")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(!text.contains("hunter2"));
    }
}

#[test]
fn files_are_named() {
    let world = world();
    for name in ["d/changed", "d/gone", "d/mode", "d/same"] {
        world.file(name, "1");
    }
    let dockerfile = "FROM base AS one\nCOPY d /d\nRUN --mount=type=bind,source=d/mode,target=/m true\n\
                      FROM base\nCOPY --from=one /d /e\n";
    explained(&world, dockerfile, &[]);
    world.file("d/changed", "2").file("d/new/x", "1").file("d/new/y", "1");
    fs::remove_file(world.context().join("d/gone")).unwrap();
    fs::set_permissions(world.context().join("d/mode"), PermissionsExt::from_mode(0o700)).unwrap();
    world.give();
    let which = |dir: &str| {
        format!(
            "changed `{dir}/changed`, added `{dir}/new/x`, `{dir}/new/y`, removed `{dir}/gone`, mode or owner \
             changed `{dir}/mode` (644 → 700)"
        )
    };
    assert_eq!(
        explained(&world, dockerfile, &[]),
        [
            format!("one 1/2: files of the context: {}", which("d")),
            "one 2/2: files of the context mounted at /m: mode or owner changed `d/mode` (644 → 700)".to_owned(),
            format!("stage-1 1/1: files of the stage `one`: {}", which("d")),
        ]
    );
}

#[test]
fn what_a_copy_does_is_told_too() {
    let world = world();
    world.file("a", "1");
    explained(&world, "FROM base\nCOPY a /b\n", &[]);
    assert_eq!(
        explained(&world, "FROM base\nCOPY --chown=1:2 --chmod=600 a /c\n", &[]),
        [
            "stage-0 1/1: destination changed: `/b` → `/c`; mode changed: nothing → `600`; owner changed: nothing → \
          `1:2`"
        ]
    );
    world.file("b", "2");
    assert_eq!(
        explained(&world, "FROM base\nCOPY --chown=1:2 --chmod=600 b /c\n", &[]),
        ["stage-0 1/1: sources changed: `a` → `b`"]
    );
    // Another name for the same files is no reason.
    assert_eq!(
        explained(&world, "FROM base\nRUN true\nCOPY --chown=1:2 --chmod=600 ./b /c\n", &[])[1],
        format!("stage-0 2/2: {ABOVE}")
    );
}

#[test]
fn a_base_that_changed_is_told_by_name_and_digest() {
    let world = world();
    let other = |name: &str, extra: &str| {
        let tar = world.path("other.tar");
        let mut builder = tar::Builder::new(fs::File::create(&tar).unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_size(extra.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, "f", extra.as_bytes()).unwrap();
        builder.into_inner().unwrap();
        world.give();
        world.run(["image", "import", name, tar.to_str().unwrap()]).ok();
        world.run(["image", "digest", name]).ok().trim().to_owned()
    };
    world.file("a", "1");
    let first = other("mine", "1");
    let dockerfile = "FROM mine AS below\nCOPY a /\nFROM below\nCOPY a /b\n";
    explained(&world, dockerfile, &[]);
    let second = other("mine", "2");
    assert_eq!(
        explained(&world, dockerfile, &[]),
        [
            format!("below 1/1: base image `mine` changed: {first} → {second}"),
            "stage-1 1/1: the stage below, on which it stands, has another tree".to_owned(),
        ]
    );
    other("others", "3");
    assert_eq!(
        explained(&world, &dockerfile.replace("mine", "others"), &[])[0],
        "below 1/1: base changed: `mine` → `others`"
    );
}

#[test]
fn flags_that_ask_for_a_miss_are_told() {
    let world = world();
    let dockerfile = "FROM base AS one\nRUN true\nFROM one\nRUN echo 2\n";
    explained(&world, dockerfile, &[]);
    assert_eq!(
        explained(&world, dockerfile, &["--no-cache"]),
        ["one 1/1: `--no-cache` was given", "stage-1 1/1: `--no-cache` was given"]
    );
    assert_eq!(
        explained(&world, dockerfile, &["--no-cache-filter", "one"]),
        ["one 1/1: `--no-cache-filter` names the stage `one`"]
    );
    assert_eq!(
        explained(&world, dockerfile, &["--network", "none"])[0],
        "one 1/1: network changed: `default or host` → `none`"
    );
}

#[test]
fn a_record_for_other_layers_is_told() {
    let world = world();
    let dockerfile =
        "FROM base AS one\nRUN cat /proc/sys/kernel/random/uuid > /f\nFROM one\nRUN cp /f /g\n";
    explained(&world, dockerfile, &[]);
    assert_eq!(
        explained(&world, dockerfile, &["--no-cache-filter", "one"]),
        [
            "one 1/1: `--no-cache-filter` names the stage `one`",
            "stage-1 1/1: its record is for other layers below it"
        ]
    );
    assert_eq!(explained(&world, dockerfile, &[]), [""; 0]);
    // As older versions wrote them.
    for entry in fs::read_dir(world.store().join("cache/steps")).unwrap() {
        let path = entry.unwrap().path();
        let mut record: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        record.as_object_mut().unwrap().remove("stands_on").unwrap();
        fs::write(path, record.to_string()).unwrap();
    }
    let older = "its record is of an older version and names no layers below it";
    assert_eq!(
        explained(&world, dockerfile, &[]),
        [format!("one 1/1: {older}"), format!("stage-1 1/1: {older}")]
    );
    assert_eq!(explained(&world, dockerfile, &[]), [""; 0]);
}

#[test]
fn another_platform_is_told() {
    let world = world();
    world.file("a", "1");
    let dockerfile = "FROM scratch AS one\nARG TARGETARCH\nWORKDIR /$TARGETARCH\nCOPY a .\n";
    explained(&world, dockerfile, &["--platform", "linux/s390x"]);
    let why = "platform: it was carried out for linux/s390x, and not for linux/arm64";
    assert_eq!(
        explained(&world, dockerfile, &["--platform", "linux/arm64"]),
        [format!("one 1/2: {why}"), format!("one 2/2: {why}")]
    );
}

/// Without their trees, layers cannot be written again.
#[test]
fn a_layer_that_is_gone_is_told() {
    let Some(world) = World::root() else { return };
    let world = world.with_base();
    let dockerfile = "FROM base\nRUN echo 1 > /f\n";
    let no_trees = || {
        fs::remove_dir_all(world.store().join("snapshots")).unwrap();
        fs::create_dir(world.store().join("snapshots")).unwrap();
    };
    // The same digest, whenever it is built.
    let fixed = ["--source-date-epoch", "1700000000"];
    let explained = |more: &[&str]| explained(&world, dockerfile, &[&fixed[..], more].concat());
    world.build(dockerfile, &[&fixed[..], &["-t", "app"]].concat()).ok();
    let manifest: serde_json::Value =
        serde_json::from_str(&world.run(["image", "inspect", "--raw", "app"]).ok()).unwrap();
    let digest = manifest["layers"][1]["digest"].as_str().unwrap();
    let blob = world.store().join("images/blobs").join(digest.replace(':', "/"));
    no_trees();
    assert_eq!(
        explained(&["--compression", "zstd"]),
        [
            "stage-0 1/1: its layer is there with another compression or epoch (4-gzip4-1700000000, not 2-zstd3-1700000000), and the \
          tree it was made from is gone"
        ]
    );
    world.build(dockerfile, &[&fixed[..], &["--no-cache", "-t", "app"]].concat()).ok();
    let whole = fs::read(&blob).unwrap();
    no_trees();
    fs::remove_file(&blob).unwrap();
    assert_eq!(explained(&[]), [format!("stage-0 1/1: the blob {digest} of its layer is missing")]);
    no_trees();
    fs::write(&blob, &whole[1..]).unwrap();
    assert_eq!(explained(&[]), [format!("stage-0 1/1: the blob {digest} of its layer is damaged")]);
    fs::remove_dir_all(world.store().join("cache/steps")).unwrap();
    assert_eq!(
        explained(&[]),
        ["stage-0 1/1: its record is gone: it was removed, or its build did not end well"]
    );
}

#[test]
fn what_cannot_be_read_is_unknown_and_what_is_warm_writes_nothing() {
    let world = world();
    world.file("a", "1");
    let dockerfile = "FROM base\nCOPY a /\nRUN true\n";
    world.build(dockerfile, &[]).ok();
    let explain = world.store().join("cache/explain");
    let stamps = || {
        let mut found: Vec<_> = fs::read_dir(&explain)
            .unwrap()
            .map(|entry| {
                let seen = entry.as_ref().unwrap().metadata().unwrap();
                (entry.unwrap().file_name(), seen.ino(), seen.mtime(), seen.mtime_nsec())
            })
            .collect();
        found.sort();
        found
    };
    let before = stamps();
    assert_eq!(before.len(), 2);
    assert_eq!(explained(&world, dockerfile, &[]), [""; 0]);
    assert_eq!(stamps(), before);
    world.file("a", "2");
    for (name, ..) in &before {
        fs::write(explain.join(name), "\u{0}{{").unwrap();
    }
    let nothing = ["1", "2"].map(|at| format!("stage-0 {at}/2: {NOTHING}"));
    assert_eq!(explained(&world, dockerfile, &[]), nothing);
    // The list of the second content is whole, that of the first one is not.
    world.file("a", "3");
    assert_eq!(
        explained(&world, dockerfile, &[])[0],
        "stage-0 1/2: files of the context: changed `a`"
    );
    world.run(["prune", "--all"]).ok();
    assert_eq!(fs::read_dir(&explain).unwrap().count(), 0);
    assert_eq!(explained(&world, dockerfile, &[]), nothing);
}

/// Every change of a file makes a list; they must not pile up.
#[test]
fn old_lists_of_files_go() {
    let world = world();
    for content in 0..9 {
        world.file("a", content.to_string());
        world.build("FROM base\nCOPY a /\n", &[]).ok();
    }
    let entries = fs::read_dir(world.store().join("cache/explain")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with("files-")).count(), 4);
}

#[test]
fn a_failed_step_is_compared_with_its_last_success() {
    let world = world();
    let dockerfile = |command: &str| format!("FROM base\nRUN true\nRUN {command}\nRUN echo 3\n");
    explained(&world, &dockerfile("echo 1"), &[]);
    world.build(&dockerfile("exit 7"), &[]).failed(1);
    assert_eq!(
        explained(&world, &dockerfile("echo 2"), &[]),
        [
            "stage-0 2/3: command changed: `RUN echo 1` → `RUN echo 2`".to_owned(),
            format!("stage-0 3/3: {ABOVE}")
        ]
    );
}

#[test]
fn programs_get_a_list_and_nobody_is_told_unasked() {
    let world = world();
    let said = world.build("FROM base\nRUN true\n", &[]);
    assert_eq!(missed(&said), [""; 0]);
    world.file("Dockerfile", "FROM base\nRUN false || true\n");
    let context = world.context();
    let said =
        world.run(["build", "--progress", "json", "--explain-cache", context.to_str().unwrap()]);
    let events: Vec<&str> =
        said.stderr.lines().filter(|line| line.contains("step-missed")).collect();
    assert_eq!(
        events,
        [
            r#"{"event":"step-missed","reasons":["command changed: `RUN true` → `RUN false || true`"],"step":1}"#
        ]
    );
}
