//! A context that somebody edits while it is built: what was looked at first is not what was copied, and such a result
//! must not get into the cache. And trees that several need at once.

use crate::support::{Said, World, program};
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

/// Takes all locks under which a base image is unpacked, so that the first step that needs its tree waits.
fn hold(world: &World) -> Vec<File> {
    let lock = |number: u32| {
        let path = world.store().join(format!("locks/unpack-{number:02x}"));
        let file = File::create(&path).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o666)).unwrap();
        file.lock().unwrap();
        file
    };
    (0..256).map(lock).collect()
}

/// Builds, and calls `edit` when the first step has begun and waits for its tree.
fn edited(world: &World, dockerfile: &str, edit: impl Fn()) -> Said {
    world.file("Dockerfile", dockerfile);
    let held = hold(world);
    let mut command = world.command(program());
    command.args(["build", "--progress", "plain"]).arg(world.context());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut text = String::new();
    while !text.contains("1/2] ") {
        assert_ne!(stderr.read_line(&mut text).unwrap(), 0, "{text}");
    }
    edit();
    drop(held);
    stderr.read_to_string(&mut text).unwrap();
    let mut said = Said::of(child.wait_with_output().unwrap());
    said.stderr = text;
    said
}

#[test]
fn what_is_copied_is_what_was_looked_at() {
    let copy = "FROM base\nCOPY f* /\nRUN stat -c 'mode %a' /f\n";
    let mount =
        "FROM base\nRUN --mount=type=bind,source=f,target=/f stat -c 'mode %a' /f\nRUN true\n";
    for (world, dockerfile) in [copy, mount]
        .into_iter()
        .flat_map(|text| World::each().into_iter().map(move |world| (world.with_base(), text)))
    {
        let file = world.context().join("f");
        let change = |mode| fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        world.file("f", "content");
        change(0o644);
        let said = edited(&world, dockerfile, || change(0o755)).failed(1);
        assert!(said.contains("the build context changed while it was copied"), "{said}");
        assert!(said.contains("\n cause: `f` changed last\n"), "{said}");
        change(0o644);
        let said = world.build(dockerfile, &["--progress", "plain"]);
        assert!(said.stderr.contains("mode 644"), "{:?}: {}", world.who(), said.stderr);
        said.ok();
    }
}

/// A file that a pattern matches now and did not then.
#[test]
fn what_a_pattern_matches_later_is_a_change() {
    let world = World::new().with_base();
    world.file("f1", "1");
    let dockerfile = "FROM base\nCOPY f* /\nRUN ls /\n";
    let edit = || {
        world.file("f2", "2");
    };
    let said = edited(&world, dockerfile, edit).failed(1);
    assert!(said.contains("the build context changed while it was copied"), "{said}");
}

/// Stages that begin with the same image unpack it once.
#[test]
fn a_base_is_unpacked_once() {
    for world in World::each() {
        let world = world.with_base();
        let stage = |name: &str| format!("FROM base AS {name}\nRUN echo {name} > /{name}\n");
        let mut dockerfile = ["a", "b", "c", "d"].map(stage).concat();
        dockerfile += "FROM base\nCOPY --from=a /a /\nCOPY --from=b /b /\nCOPY --from=c /c /\nCOPY --from=d /d /\nRUN ls /\n";
        let timings = world.path("timings.json");
        let flag = format!("--timings={}", timings.display());
        world.build(&dockerfile, &["--jobs", "8", &flag, "-t", "app"]).ok();
        world.validate("app");
        let text = fs::read_to_string(timings).unwrap();
        let found: serde_json::Value = serde_json::from_str(&text).unwrap();
        let spans = found["spans"].as_array().unwrap();
        let unpacked = spans.iter().filter(|span| span["phase"] == "unpack").count();
        let base: serde_json::Value =
            serde_json::from_str(&world.run(["image", "inspect", "--json", "base"]).ok()).unwrap();
        let layers = base["manifest"]["layers"].as_array().unwrap().len();
        assert_eq!(unpacked, layers, "{:?}", world.who());
    }
}

/// What RUNs mount only to read is copied once for all of them; what they may write to is their own.
#[test]
fn one_copy_serves_all_who_only_read() {
    for world in World::each() {
        let world = world.with_base();
        world.file("dir/file", "content");
        let run = |flags: &str| {
            format!(
                "RUN --mount=type=bind,source=dir,target=/b{flags} stat -c 'inode %i' /b/file\n"
            )
        };
        let dockerfile =
            ["FROM base\n", &run(""), "RUN true\n", &run(""), &run(",rw"), &run("")].concat();
        let said = world.build(&dockerfile, &["--no-cache"]);
        let inodes: Vec<&str> = said
            .stderr
            .lines()
            .filter_map(|line| line.split("inode ").nth(1))
            .filter(|text| !text.contains('%'))
            .collect();
        assert_eq!(inodes.len(), 4, "{:?}: {}", world.who(), said.stderr);
        assert!(inodes[0] == inodes[1] && inodes[0] == inodes[3], "{inodes:?}");
        assert_ne!(inodes[0], inodes[2]);
        said.ok();
        let left = fs::read_dir(world.store().join("tmp")).unwrap();
        let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(left.into_iter().all(|name| !name.starts_with("bind-")));
    }
}
