//! Where builds run, and how: the tables of docs/environments.md are what happens in imitations of these places.
//!
//! `UPDATE_EXPECT=1` writes them anew.

use crate::errors::{normal, transcript};
use crate::support::bases::project;
use crate::support::environment::{ALL, Environment, HOST, named};
use crate::support::{Said, World, base, peer};
use std::fmt::Write as _;
use std::fs;

const DOCUMENT: &str = "docs/environments.md";

/// A bit of everything that isolations do differently.
const DOCKERFILE: &str = "FROM base\n\
    RUN chown 33:34 /home && echo 1 > /f && chown 1:2 /f && chmod 4755 /f && rm -r /usr/share && mkdir /usr/share\n\
    RUN --mount=type=cache,target=/c --mount=type=bind,target=/b --mount=type=tmpfs,target=/t cp /b/Dockerfile /copy && touch /c/x /t/x\n\
    USER 1000:1000\n\
    RUN touch /tmp/mine && mkfifo /tmp/pipe && cat /etc/resolv.conf > /dev/null && echo x > /dev/null\n";

const WITHOUT_RUN: &str = "FROM base\nCOPY --chown=33:34 Dockerfile /etc/\nWORKDIR /w\n";

/// A world in an environment, with the small base image.
pub fn world(place: &Environment) -> Option<World> {
    let world = place.world()?;
    fs::write(world.path("base.tar"), base::busybox_tar()).unwrap();
    place.give(&world);
    place.run(&world, &["image", "import", "base", "base.tar"]).ok();
    Some(world)
}

fn build(place: &Environment, world: &World, dockerfile: &str) -> Said {
    let args = ["--source-date-epoch", "1700000000", "-t", "app"];
    place.build(world, dockerfile, &args)
}

fn digest(place: &Environment, world: &World) -> String {
    place.run(world, &["image", "digest", "app"]).ok()
}

/// Replaces the table behind a heading of the document, or compares it.
fn table(heading: &str, found: &str) {
    let path = project(DOCUMENT);
    let text = fs::read_to_string(&path).unwrap();
    let start = text.find(&format!("## {heading}\n")).unwrap();
    let start = start + text[start..].find("\n|").unwrap() + 1;
    let end = text[start..].find("\n\n").map_or(text.len(), |end| start + end + 1);
    if std::env::var_os("UPDATE_EXPECT").is_some_and(|value| value == "1") {
        fs::write(path, format!("{}{found}{}", &text[..start], &text[end..])).unwrap();
    } else {
        assert_eq!(found, &text[start..end], "{DOCUMENT}: {heading}");
    }
}

/// What the program says of itself, without the network.
pub fn isolation(said: &Said) -> String {
    let line = said.stderr.lines().find_map(|line| line.strip_prefix("isolation: "));
    let line = line.and_then(|line| line.split(", network: ").next());
    line.unwrap_or("none").to_owned()
}

#[test]
fn each_environment_has_the_documented_isolation_and_the_same_digest() {
    let Some(host) = world(&HOST) else { return };
    build(&HOST, &host, DOCKERFILE).ok();
    let with_run = digest(&HOST, &host);
    build(&HOST, &host, WITHOUT_RUN).ok();
    let without_run = digest(&HOST, &host);
    let mut rows =
        "| environment | isolation | builds | more with |\n|---|---|---|---|\n".to_owned();
    for place in ALL {
        let Some(world) = world(place) else { return };
        let said = build(place, &world, DOCKERFILE);
        let builds = if said.code == 0 {
            assert_eq!(digest(place, &world), with_run, "{}", place.name);
            "all"
        } else {
            let other = build(place, &world, WITHOUT_RUN);
            let same = other.code == 0 && digest(place, &world) == without_run;
            if same { "those without RUN" } else { "none" }
        };
        let (line, more) = (isolation(&said), place.more);
        writeln!(rows, "| {} | {line} | {builds} | {more} |", place.name).unwrap();
    }
    table("Where builds run", &rows);
}

/// What buildah says first when it gives up.
fn complaint(world: &World, said: &Said) -> String {
    let known = |line: &&str| line.starts_with("Error") || line.starts_with("error");
    let lines: Vec<&str> = said.stderr.lines().chain(said.stdout.lines()).collect();
    let line = lines.iter().copied().find(known).or(lines.last().copied()).unwrap_or_default();
    // Its log begins with the time.
    let text = line.split_once("msg=").map_or(line, |(_, text)| text.trim_matches('"'));
    text.replace(world.path("").to_str().unwrap(), "").replace('\\', "")
}

#[test]
fn buildah_builds_where_the_documents_say() {
    if !peer("buildah") {
        return;
    }
    let mut rows = "| environment | buildah 1.28.2 |\n|---|---|\n".to_owned();
    let mut version = String::new();
    for place in ALL {
        let Some(world) = place.world() else { return };
        world.file("base.tar", base::busybox_tar());
        world
            .file("Dockerfile", "FROM scratch\nADD base.tar /\nRUN chown 33:34 /home\nRUN id -u\n");
        place.give(&world);
        version = Said::of(world.command("buildah").arg("--version").output().unwrap()).ok();
        let mut command = place.command(&world, "buildah");
        command.args(["--root", "store/b", "--runroot", "store/r", "--storage-driver", "vfs"]);
        command.args(["build", "--isolation", "chroot", "-t", "app", "context"]);
        let said = Said::of(command.output().unwrap());
        let result = if said.code == 0 { "builds".to_owned() } else { complaint(&world, &said) };
        writeln!(rows, "| {} | {result} |", place.name).unwrap();
    }
    // Other versions may say other things.
    if version.contains(" 1.28.2 ") {
        table("buildah in the same places", &rows);
    } else {
        eprintln!("SKIPPED: the table is of buildah 1.28.2, not of {version}");
    }
}

/// Podman's profile refuses `sethostname` even in a namespace of one's own: no RUN worked in a podman container. Found
/// by comparing the imitation with podman.
#[test]
fn a_command_runs_where_the_host_cannot_be_named() {
    let place = named("podman run");
    let Some(world) = world(place) else { return };
    let said = place.build(&world, "FROM base\nRUN hostname\n", &[]);
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert!(said.stderr.contains(&format!("#1 {}\n#1 DONE", host.trim())), "{}", said.stderr);
}

/// Wishes that an environment does not grant, and what is said then.
const WISHES: &[(&str, &str)] = &[
    ("docker run", "--isolation namespaces"),
    ("docker run", "--isolation shared-pid"),
    ("docker run", "--ids range"),
    ("docker run", "--snapshots overlay"),
    ("docker run", "--snapshots memory"),
    ("podman run", "--isolation namespaces"),
    ("podman run", "--ids real"),
    ("host, user", "--ids real"),
    ("host, user", "--isolation chroot"),
    ("docker run, namespaces allowed and mounts refused", "--isolation shared-pid"),
    ("Kubernetes, restricted", ""),
];

#[test]
fn wishes_that_cannot_be_granted_say_why() {
    let mut found = String::new();
    for (name, wish) in WISHES {
        let place = named(name);
        let Some(world) = world(place) else { return };
        let wish: Vec<&str> = wish.split_whitespace().collect();
        let said = place.build(&world, "FROM base\nRUN true\n", &wish);
        let text = normal(&world, &said);
        found += &format!("== {name}: {}\n{text}\n", wish.join(" "));
    }
    transcript("wishes", &found);
}
