//! Build checks: `--check`, `# check=`, and what `--call` tells besides.
//!
//! `testdata/checks/<case>` is a build context with its Dockerfile; the cases with the name of a rule show that rule.
//! `args` has further arguments, one a line; `stderr.txt` begins with the exit code. `UPDATE_EXPECT=1` rewrites it.

use crate::errors::{normal, transcript};
use crate::support::{Said, World};
use nativebuild::dockerfile::lint::Rule;
use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/checks")
}

/// With `base`, `base:1` and `base:stable` for this machine, and `foreign` for another one.
fn world_with_images() -> World {
    let world = World::new().with_base();
    let tar = world.path("base.tar");
    let tar = tar.to_str().unwrap();
    for name in ["base:1", "base:stable"] {
        world.run(["image", "import", name, tar]).ok();
    }
    world.run(["image", "import", "foreign", tar, "--platform", "linux/s390x"]).ok();
    world
}

fn check(world: &World, case: &Path, args: &[&str]) -> Said {
    let own = fs::read_to_string(case.join("args")).unwrap_or_default();
    let args = ["build", "--check"].into_iter().chain(own.lines()).chain(args.iter().copied());
    world.run(args.chain([case.to_str().unwrap()]))
}

#[test]
fn every_rule_says_what_it_finds_and_where() {
    let world = world_with_images();
    let mut cases: Vec<_> =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    let mut wrong = String::new();
    for case in &cases {
        let said = check(&world, case, &["--progress", "plain"]);
        let found = normal(&world, &said);
        let path = case.join("stderr.txt");
        if std::env::var_os("UPDATE_EXPECT").is_some_and(|value| value == "1") {
            fs::write(&path, &found).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if found != expected {
            let name = case.file_name().unwrap().to_string_lossy();
            wrong += &format!("== {name}\n-- expected\n{expected}-- found\n{found}");
        }
        assert_eq!(said.stdout, "", "{}", case.display());
        assert_eq!(said.code == 0, found == "exit 0\nno warnings\n", "{found}");
    }
    assert!(wrong.is_empty(), "{wrong}(UPDATE_EXPECT=1 rewrites the expectations)");
    for rule in Rule::ALL {
        let path = folder().join(rule.to_string()).join("stderr.txt");
        let text = fs::read_to_string(&path).unwrap_or_default();
        assert!(text.contains(&format!("\nwarning: {rule}: ")), "{rule}: {text}");
    }
}

/// The events of `--progress json`, without what differs from build to build.
fn events(said: &Said) -> String {
    let lines = said.stderr.lines();
    let value = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    let told = |line: &&str| {
        ["warning", "note", "error"].contains(&value(line)["event"].as_str().unwrap())
    };
    lines.filter(told).fold(String::new(), |all, line| all + line + "\n")
}

#[test]
fn warnings_are_json_objects_one_a_line() {
    let world = world_with_images();
    let mut found = String::new();
    for name in ["StageNameCasing", "skip-some", "error", "none"] {
        let said = check(&world, &folder().join(name), &["--progress", "json"]);
        found += &format!("== {name}\nexit {}\n{}", said.code, events(&said));
    }
    let case = folder().join("skip-some");
    let said = world.run(["build", "--call=check,format=json", case.to_str().unwrap()]);
    found += &format!("== format=json\nexit {}\n{}{}", said.code, said.stdout, said.stderr);
    transcript("checks-json", &found);
}

#[test]
fn quiet_checking_gives_the_exit_code_and_the_error() {
    let world = world_with_images();
    let said = check(&world, &folder().join("StageNameCasing"), &["-q"]);
    assert_eq!(normal(&world, &said), "exit 1\nerror: the checks found a warning\n");
    let said = check(&world, &folder().join("none"), &["-q"]);
    assert_eq!(normal(&world, &said), "exit 0\n");
}

#[test]
fn checking_needs_no_store_and_makes_no_image() {
    let world = World::new();
    let case = folder().join("StageNameCasing");
    let case = case.to_str().unwrap();
    let said = world.run(["build", "--check", "--root", "/proc/nowhere", case]);
    assert_eq!(said.code, 1);
    assert!(said.stderr.starts_with("warning: StageNameCasing: "), "{}", said.stderr);
    let said = world.run(["build", "--check", "-t", "made", case]);
    assert_eq!(said.code, 1);
    assert_eq!(world.run(["image", "ls"]).ok().lines().count(), 1, "only the head");
}

#[test]
fn a_build_tells_in_one_line_and_goes_on_unless_told_otherwise() {
    for world in World::each() {
        let world = world.with_base();
        let text = "FROM base AS One\nENV a b\nFROM base\nRUN true\nCMD x\n";
        let said = world.build(text, &["--progress", "plain"]);
        let warnings: Vec<&str> =
            said.stderr.lines().filter(|line| line.starts_with("warning: ")).collect();
        // As in BuildKit: names of stages everywhere, what instructions do only in stages that are built.
        assert_eq!(
            warnings,
            [
                "warning: StageNameCasing: Stage name 'One' should be lowercase (Dockerfile:1)",
                "warning: JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (Dockerfile:5)",
            ]
        );
        said.ok();
        let text = format!("# check=error=true\n{text}");
        let said = world.build(&text, &["--progress", "plain"]);
        assert_eq!(said.done(), 0, "{}", said.stderr);
        assert!(said.failed(1).contains(
            "error: lint violation found for rules: JSONArgsRecommended, StageNameCasing\n"
        ),);
    }
}

#[test]
fn a_build_for_several_platforms_tells_each_thing_once() {
    let world = World::new().with_base();
    let text = "FROM scratch\nCOPY Dockerfile /$undefined\n";
    let said = world.build(text, &["--platform", "linux/amd64,linux/arm64"]);
    assert_eq!(said.stderr.matches("UndefinedVar").count(), 1, "{}", said.stderr);
    said.ok();
}

const OFFER: &str = "\
# VERSION of everything
ARG VERSION=1.2
ARG UNUSED
ARG IMAGE=base
# build compiles
FROM ${IMAGE} AS build
# MODE is debug or release
ARG MODE=release VERSION
RUN --mount=type=secret,id=token --mount=type=ssh make
FROM build AS checked
RUN --mount=type=secret,id=token,required --mount=type=secret,id=other test
FROM base
# never seen
ARG NOTHING
COPY --from=build /a /
";

#[test]
fn outlines_and_targets_are_told_as_text_and_as_json() {
    let world = World::new();
    world.file("Dockerfile", OFFER);
    let mut found = String::new();
    for args in [
        "--call targets",
        "--call=targets,format=json",
        "--call outline",
        "--call outline --target checked --build-arg MODE=debug",
        "--call=outline,format=json --target checked",
        "--call nosuch",
        "--call=outlin",
        "--call outline,x=y",
        "--check --call outline",
    ] {
        let context = world.context();
        let words = args.split(' ').chain([context.to_str().unwrap()]);
        let said = world.run(["build"].into_iter().chain(words));
        found += &format!(
            "$ nativebuild build {args} context\n{}{}\n",
            said.stdout,
            normal(&world, &said)
        );
    }
    transcript("call", &found);
}
