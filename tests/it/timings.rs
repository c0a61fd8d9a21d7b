//! `--timings`: each step once, everything within the build, bytes as in the manifest; failures and bad paths.

use crate::linuxkit;
use crate::support::registry::Registry;
use crate::support::{World, peer};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;

/// Two stages; the second one waits for the first and copies from it.
const TWO: &str = "FROM base AS one\n\
    RUN echo 1 > /one\n\
    COPY file /\n\
    FROM base AS two\n\
    WORKDIR /w\n\
    COPY --from=one /one /file /\n\
    RUN i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo '<script>alert(1)</script>' > /two\n";

fn read(world: &World, name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(world.path(name)).unwrap()).unwrap()
}

/// The manifest of an image of the store.
fn manifest(world: &World, name: &str) -> Value {
    serde_json::from_str(&world.run(["image", "inspect", "--raw", name]).ok()).unwrap()
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn list<'v>(value: &'v Value, key: &str) -> &'v Vec<Value> {
    value[key].as_array().unwrap()
}

/// Step, line and result of each.
fn steps(value: &Value) -> Vec<(String, u64, String)> {
    let text = |step: &Value, key: &str| step[key].as_str().unwrap_or("none").to_owned();
    let mut found: Vec<_> = list(value, "steps")
        .iter()
        .map(|step| (text(step, "position"), number(step, "line"), text(step, "result")))
        .collect();
    found.sort();
    found
}

/// Phases of the step at a position.
fn phases(value: &Value, position: &str) -> BTreeSet<String> {
    let step = list(value, "steps").iter().find(|step| step["position"] == position).unwrap();
    let own = list(value, "spans").iter().filter(|span| span["step"] == step["step"]);
    own.map(|span| span["phase"].as_str().unwrap().to_owned()).collect()
}

/// The spans of a phase.
fn spans<'v>(value: &'v Value, phase: &str) -> Vec<&'v Value> {
    list(value, "spans").iter().filter(|span| span["phase"] == phase).collect()
}

/// A blob by its digest and its size.
fn blob(value: &Value, digest: &str, size: &str) -> (String, u64) {
    (value[digest].as_str().unwrap().to_owned(), number(value, size))
}

/// The layers of `app`.
fn layers(world: &World) -> BTreeSet<(String, u64)> {
    let manifest = manifest(world, "app");
    list(&manifest, "layers").iter().map(|layer| blob(layer, "digest", "size")).collect()
}

/// Begins before it ends, and ends before the whole does.
fn assert_within(value: &Value) {
    let wall = number(value, "wall");
    for one in list(value, "steps").iter().chain(list(value, "spans")) {
        let (begin, end) = (number(one, "begin"), number(one, "end"));
        assert!(begin <= end && end <= wall, "{one} in {wall}");
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_build_says_where_its_time_went() {
    for world in World::each() {
        let world = world.with_base();
        world.file("file", "content");
        world.build(TWO, &["-t", "app", "--timings", "out/cold.json"]).ok();
        let cold = read(&world, "out/cold.json");
        assert_eq!((&cold["version"], &cold["result"]), (&1.into(), &"built".into()));
        let wanted = |result: &str| {
            [("one 1/2", 2), ("one 2/2", 3), ("two 1/3", 5), ("two 2/3", 6), ("two 3/3", 7)]
                .map(|(position, line)| (position.to_owned(), line, result.to_owned()))
        };
        assert_eq!(steps(&cold), wanted("done"));
        assert_within(&cold);
        let background = ["look-up", "wait-same", "wait-place", "mount", "diff", "queue", "layer"];
        let with = |more: &[&str]| &set(&background) | &set(more);
        assert_eq!(phases(&cold, "one 2/2"), with(&["copy"]));
        assert_eq!(phases(&cold, "two 2/3"), with(&["copy", "wait-stage"]));
        assert_eq!(phases(&cold, "two 3/3"), with(&["run"]));
        let own: BTreeSet<String> = list(&cold, "spans")
            .iter()
            .filter(|span| span["step"].is_null())
            .map(|span| span["phase"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(own, set(&["context", "plan", "enter", "wait-layers", "sync", "manifest"]));

        let sizes = layers(&world);
        let written: BTreeSet<(String, u64)> =
            spans(&cold, "layer").iter().map(|span| blob(span, "what", "bytes_out")).collect();
        assert_eq!(written.len(), 5);
        // Those of the base and of the other stage are not the image's, or not new.
        assert_eq!(sizes.intersection(&written).count(), 3, "{sizes:?} {written:?}");
        let commands = |position: &str| {
            let mut steps = list(&cold, "steps").iter();
            steps.find(|step| step["position"] == position).unwrap()["commands"].clone()
        };
        assert!(commands("two 2/3").is_null());
        let used = commands("two 3/3");
        assert!(number(&used, "user") + number(&used, "system") > 0, "{used}");
        assert!(number(&cold["process"], "peak_memory") > 1 << 20);

        world.build(TWO, &["-t", "app", "--timings", "out/warm.json"]).ok();
        let warm = read(&world, "out/warm.json");
        assert_eq!(steps(&warm), wanted("cached"));
        assert_within(&warm);
        assert_eq!(phases(&warm, "two 3/3"), set(&["look-up"]));
        assert_eq!(warm["process"]["threads"], 1);
    }
}

#[test]
fn a_page_has_no_markup_of_the_dockerfile() {
    let world = World::new().with_base();
    world.file("file", "content");
    world.build(TWO, &["--timings", "out/build.html"]).ok();
    let page = fs::read_to_string(world.path("out/build.html")).unwrap();
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(!page.contains("<script"));
    assert!(page.contains("<div class=\"row\"><span title=\"thread 1\">thread 1</span>"));
}

#[test]
fn a_build_that_fails_says_it_too() {
    let world = World::new().with_base();
    let dockerfile = "FROM base\nRUN true\nRUN exit 3\n";
    world.build(dockerfile, &["--timings", "out/failed.json"]).failed(1);
    let failed = read(&world, "out/failed.json");
    assert_eq!(failed["result"], "failed");
    let wanted = [("stage-0 1/2", 2, "done"), ("stage-0 2/2", 3, "failed")];
    let wanted = wanted.map(|(step, line, result)| (step.to_owned(), line, result.to_owned()));
    assert_eq!(steps(&failed), wanted);
    assert_within(&failed);
}

#[test]
fn a_path_that_cannot_be_written_ends_the_build_before_it_begins() {
    let world = World::new();
    fs::create_dir(world.path("out/dir.json")).unwrap();
    world.give();
    let refused = |path: &str, why: &str| {
        let said = world.build("FROM base\n", &["--timings", path]).failed(2);
        assert_eq!(said, format!("error: cannot write `--timings {path}`\n cause: {why}\n"));
    };
    refused("out/dir.json", "it is a directory");
    refused("out/no/such.json", "no such file or directory");
    let said = world.build("FROM base\n", &["--timings", "-"]).failed(2);
    assert_eq!(
        said,
        "error: `--timings -` is no file of a known form\nhelp: name a file that ends in `.json` or `.html`; \
         standard output is for the image's digest\n"
    );
    assert_eq!(fs::read_dir(world.store()).unwrap().count(), 0, "nothing was begun");
}

/// A file beside the target while the build runs would be one more file of the context.
#[test]
fn nothing_lies_in_the_context_meanwhile() {
    let world = World::new().with_base();
    let dockerfile = "FROM base\nCOPY . /all\nRUN ls /all > /list && cat /list\n";
    world.file("Dockerfile", dockerfile);
    let said = world.build(dockerfile, &["--timings", "context/t.json"]);
    assert!(said.stderr.contains("#2 Dockerfile\n#2 DONE"), "{}", said.stderr);
    said.ok();
}

#[test]
fn bytes_on_the_wire_are_those_of_the_blobs() {
    if !peer("docker-registry") {
        return;
    }
    let world = World::new().with_base();
    let registry = Registry::start(&world);
    let name = format!("{}/app:1", registry.address);
    world
        .build("FROM base\nRUN echo 1 > /f\n", &["-t", &name, "--push", "--timings", "out/t.json"])
        .ok();
    let timings = read(&world, "out/t.json");
    assert_within(&timings);
    let manifest = manifest(&world, &name);
    let mut wanted: Vec<(String, u64)> = list(&manifest, "layers")
        .iter()
        .chain([&manifest["config"]])
        .map(|one| blob(one, "digest", "size"))
        .collect();
    let mut sent: Vec<(String, u64)> =
        spans(&timings, "upload").iter().map(|span| blob(span, "what", "bytes_out")).collect();
    wanted.sort();
    sent.sort();
    assert_eq!(sent, wanted);
}

#[test]
fn shared_caches_and_early_copies_have_their_time_too() {
    let world = World::new().with_base();
    // Large enough to be copied before the end, and not to be packed to nothing.
    let dockerfile = "FROM base\nRUN head -c 3000000 /dev/urandom > /f\nRUN cp /f /g; cp /f /h\n";
    let cache = world.path("cache");
    let to = format!("type=local,dest={}", cache.display());
    let from = format!("type=local,src={}", cache.display());
    let out = format!("type=oci,tar=false,dest={}", world.path("out/image").display());
    let args = ["-t", "app", "-o", &out, "--cache-to", &to, "--timings", "out/to.json"];
    // Layers are copied early where there is time before the end.
    let copied_early = || {
        let _old = fs::remove_dir_all(world.path("out/image"));
        world.build(dockerfile, &[&["--no-cache"], &args[..]].concat()).ok();
        let timings = read(&world, "out/to.json");
        assert_within(&timings);
        let written = spans(&timings, "cache-to");
        assert!(!written.is_empty(), "{timings}");
        for span in written {
            assert_eq!(span["what"], format!("{}:latest", cache.display()));
        }
        let layers = layers(&world);
        let early = spans(&timings, "output").into_iter().filter(|span| !span["what"].is_null());
        let early: BTreeSet<_> = early.map(|span| blob(span, "what", "bytes_out")).collect();
        assert!(early.is_subset(&layers), "{early:?} {layers:?}");
        !early.is_empty()
    };
    assert!((0..50).any(|_| copied_early()));

    let tar = world.path("base.tar");
    world.run(["image", "import", "--root", "other", "base", tar.to_str().unwrap()]).ok();
    let args =
        ["--root", "other", "-t", "app", "--cache-from", &from, "--timings", "out/from.json"];
    let said = world.build(dockerfile, &args);
    assert_eq!(said.cached(), 2, "{said:?}");
    said.ok();
    let timings = read(&world, "out/from.json");
    assert_within(&timings);
    let (asked, taken): (Vec<_>, Vec<_>) =
        spans(&timings, "cache-from").into_iter().partition(|span| span["bytes_in"].is_null());
    let taken: BTreeSet<_> = taken.into_iter().map(|span| blob(span, "what", "bytes_in")).collect();
    assert_eq!(taken.len(), 2, "{timings}");
    assert!(taken.is_subset(&layers(&world)), "{taken:?}");
    assert_eq!(asked.len(), 1, "{timings}");
}

/// Each platform of a package is a build of its own.
#[test]
fn packages_say_it_as_well() {
    for world in linuxkit::world(vec![World::new()]) {
        linuxkit::commit(&world, &linuxkit::FOO);
        let args = ["pkg", "build", "--timings", "t.json", "--explain-cache", "pkg/foo"];
        let said = linuxkit::pkg(&world, &args);
        assert!(
            said.stderr.contains("MISSED: nothing is known of this stage yet"),
            "{}",
            said.stderr
        );
        said.ok();
        let timings = read(&world, "context/t.json");
        assert_eq!(timings["result"], "built");
        assert_within(&timings);
        let steps = list(&timings, "steps");
        assert!(steps.iter().any(|step| step["name"] == "COPY . /"), "{timings}");
    }
}

#[test]
fn assemblies_say_it_as_well() {
    let world = World::new();
    world.file("dir/f", "content");
    world.file(
        "image.json",
        r#"{"version": 1, "name": "app", "contents": [{"dir": "dir"}], "config": {"Cmd": ["/f"]}}"#,
    );
    world.run(["assemble", "-f", "context/image.json", "--timings", "out/t.json"]).ok();
    let timings = read(&world, "out/t.json");
    assert_within(&timings);
    assert_eq!(timings["steps"].as_array().unwrap().len(), 0);
    let phases: BTreeSet<String> = list(&timings, "spans")
        .iter()
        .map(|span| span["phase"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(phases, set(&["plan", "layer", "manifest", "sync"]));
}
