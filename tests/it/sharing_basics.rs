//! `--cache-to` and `--cache-from`: a machine that has nothing is as warm as the one that built before.

use crate::support::faults::{Fault, Faults};
use crate::support::registry::Registry;
use crate::support::{Said, World, peer, program};
use nativebuild::oci::layout::Layout;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const DOCKERFILE: &str = "FROM base AS tools\nRUN echo tool > /tool\nRUN echo 1 > /more\n\
    FROM base\nWORKDIR /w\nCOPY a /a\nCOPY --from=tools /tool /copied\nRUN cat /copied > /t && echo x > /x\nRUN true\n";

fn worlds() -> Vec<World> {
    World::each().into_iter().map(World::with_base).collect()
}

/// A build in a store of its own, which has the base image and nothing else.
fn fresh(world: &World, store: &str, args: &[&str]) -> Said {
    if !world.path(store).exists() {
        let tar = world.path("base.tar");
        world.run(["image", "import", "--root", store, "base", tar.to_str().unwrap()]).ok();
    }
    let context = world.context();
    let fixed = ["build", "--progress", "plain", "--root", store];
    world.run(fixed.iter().chain(args).copied().chain([context.to_str().unwrap()]))
}

fn layout(dir: &Path, tag: &str) -> (Value, Value) {
    let blob = |digest: &str| -> Value {
        let path = dir.join("blobs").join(digest.replace(':', "/"));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    let index: Value = serde_json::from_slice(&fs::read(dir.join("index.json")).unwrap()).unwrap();
    let entries = index["manifests"].as_array().unwrap();
    let named = |entry: &&Value| entry["annotations"]["org.opencontainers.image.ref.name"] == tag;
    let entry = entries.iter().find(named).unwrap();
    let manifest = blob(entry["digest"].as_str().unwrap());
    let config = blob(manifest["config"]["digest"].as_str().unwrap());
    (manifest, config)
}

fn ran(said: &Said) -> bool {
    said.stderr.contains("isolation: ")
}

#[test]
fn a_fresh_store_takes_every_step_from_a_directory() {
    for world in worlds() {
        world.file("a", "a").file("Dockerfile", DOCKERFILE);
        let cache = world.path("cache");
        let to = format!("type=local,dest={},mode=max", cache.display());
        let from = format!("type=local,src={}", cache.display());
        let first = fresh(&world, "one", &["--cache-to", &to]);
        assert!(ran(&first), "{first:?}");
        let digest = first.ok();
        let second = fresh(&world, "two", &["--cache-from", &from]);
        assert!(!ran(&second), "{second:?}");
        assert_eq!(second.stderr.matches("CACHED").count(), 7, "{second:?}");
        assert_eq!(second.ok(), digest);
        // Layers that only were copied from did not come.
        let (manifest, _) = layout(&cache, "latest");
        let layers = manifest["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 7);
        let blob = |store: &str, layer: &Value| {
            let digest = layer["digest"].as_str().unwrap().replace(':', "/");
            world.path(store).join("images/blobs").join(digest).exists()
        };
        assert_eq!(layers.iter().filter(|layer| blob("one", layer)).count(), 7);
        assert_eq!(layers.iter().filter(|layer| blob("two", layer)).count(), 5);
        // What came is here now, without the cache.
        fs::remove_dir_all(&cache).unwrap();
        let third = fresh(&world, "two", &[]);
        assert_eq!(third.stderr.matches("CACHED").count(), 5, "{third:?}");
        assert_eq!(third.ok(), digest);
    }
}

/// The only place that some CI systems keep is the directory of the project. What was in it of the build before was copied,
/// so that nothing was ever cached and the cache grew by itself each time. Found by doing what docs/cache.md says.
#[test]
fn a_cache_in_the_context_is_no_part_of_it() {
    for world in worlds() {
        let text = "FROM base\nCOPY . /c\nRUN --mount=type=bind,target=/m ls /c /m > /seen\n";
        world.file("a", "a").file("Dockerfile", text).file(".dockerignore", "!deep\n");
        world.file("deep/kept", "");
        let cache = world.context().join("deep/cache");
        let to = format!("type=local,dest={},mode=max", cache.display());
        let from = format!("type=local,src={}", cache.display());
        let build =
            |store| fresh(&world, store, &["-t", "app", "--cache-to", &to, "--cache-from", &from]);
        let first = build("one");
        assert_eq!(first.done(), 2, "{first:?}");
        let digest = first.ok();
        let blobs = || fs::read_dir(cache.join("blobs/sha256")).unwrap().count();
        let before = blobs();
        for store in ["two", "three", "one"] {
            let said = build(store);
            assert_eq!(said.done(), 0, "{said:?}");
            assert_eq!((said.ok(), blobs()), (digest.clone(), before));
        }
        world.run(["image", "validate", "--root", "one", "app"]).ok();
        world.file("Dockerfile", "FROM scratch\nCOPY deep/cache/index.json /\n");
        let said = fresh(&world, "one", &["--cache-from", &from]).failed(1);
        assert!(
            said.contains("\n cause: a cache of the build is no part of its context\n"),
            "{said}"
        );
    }
}

#[test]
fn a_fresh_store_takes_every_step_from_a_registry() {
    if !peer("docker-registry") {
        return;
    }
    for world in worlds() {
        let registry = Registry::start(&world);
        world.file("a", "a").file("Dockerfile", DOCKERFILE);
        let name = format!("{}/app/cache:main", registry.address);
        let to = format!("type=registry,ref={name}");
        let first = fresh(&world, "one", &["--cache-to", &to]);
        assert!(first.stderr.contains("5 of 5 blobs were not there"), "{first:?}");
        let digest = first.ok();
        let second = fresh(&world, "two", &["--cache-from", &name, "--cache-to", &to]);
        assert!(!ran(&second), "{second:?}");
        assert!(second.stderr.contains("7 steps, 0 of 5 blobs were not there"), "{second:?}");
        assert_eq!(second.ok(), digest);
        // Another tool can copy it, and the copy is as good.
        if !peer("skopeo") {
            return;
        }
        let copy = world.path("copy");
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["copy", "--quiet", "--src-tls-verify=false"]);
        skopeo.args([format!("docker://{name}"), format!("oci:{}:x", copy.display())]);
        Said::of(skopeo.output().unwrap()).ok();
        world.give();
        let from = format!("type=local,src={},tag=x", copy.display());
        let third = fresh(&world, "three", &["--cache-from", &from]);
        assert!(!ran(&third), "{third:?}");
        assert_eq!(third.ok(), digest);
    }
}

#[test]
fn what_a_later_step_needs_comes_and_nothing_else() {
    for world in worlds() {
        world.file("a", "a").file("Dockerfile", DOCKERFILE);
        let cache = world.path("cache");
        let place = |mode: &str| format!("type=local,dest={},mode={mode}", cache.display());
        let from = format!("type=local,src={}", cache.display());
        for (mode, runs_again) in [("min", true), ("max", false)] {
            fresh(&world, &format!("{mode}-1"), &["--cache-to", &place(mode)]).ok();
            // The last COPY is another one: it needs the tree of the first stage.
            let changed = DOCKERFILE
                .replace("/tool /copied", "/tool /other")
                .replace("cat /copied", "cat /other");
            world.file("Dockerfile", &changed);
            let alone = fresh(&world, &format!("{mode}-2"), &["--cache-from", &from]);
            assert!(ran(&alone), "{alone:?}");
            let cached = alone.stderr.matches("CACHED").count();
            assert_eq!(cached, if runs_again { 2 } else { 4 }, "{alone:?}");
            alone.ok();
            world.file("Dockerfile", DOCKERFILE);
        }
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_an_error_unless_it_is_to_be_ignored() {
    for world in worlds() {
        world.file("a", "a").file("Dockerfile", DOCKERFILE).file("file", "");
        let place = format!("type=local,dest={}", world.context().join("file/cache").display());
        let said = fresh(&world, "one", &["--cache-to", &place]).failed(3);
        assert!(said.contains("file/cache") && said.contains("ot a directory"), "{said}");
        let ignored = format!("{place},ignore-error=true");
        let said = fresh(&world, "one", &["--cache-to", &ignored]);
        let warnings: Vec<&str> =
            said.stderr.lines().filter(|line| line.contains("warning:")).collect();
        assert_eq!(warnings.len(), 1, "{said:?}");
        assert!(warnings[0].contains("file/cache"), "{said:?}");
        said.ok();
    }
}

/// All is well with a registry until a manifest is put: from then on every request meets a fault.
fn dying(registry: &Registry, fault: Fault) -> Faults {
    let is_down = AtomicBool::new(false);
    Faults::before(&registry.address, move |asked| {
        if asked.method == "PUT" && asked.path.contains("/manifests/") {
            is_down.store(true, Ordering::SeqCst);
        }
        is_down.load(Ordering::SeqCst).then(|| fault.clone())
    })
}

#[test]
fn a_registry_that_dies_at_the_end_is_an_error_unless_it_is_to_be_ignored() {
    if !peer("docker-registry") {
        return;
    }
    let world = World::new().with_base();
    let registry = Registry::start(&world);
    world.file("a", "a").file("Dockerfile", "FROM base\nCOPY a /a\nCOPY a /b\n");
    let epoch = "--source-date-epoch=1700000000";
    let digest = fresh(&world, "one", &[epoch]).ok();
    for (store, fault, what, why) in [
        ("two", Fault::Status(500, None), "has a problem of its own", "status 500"),
        // In whatever words the system says it.
        ("three", Fault::Reset, "cannot be reached", ""),
    ] {
        let proxy = dying(&registry, fault);
        let host = proxy.host();
        let to = format!("type=registry,ref={host}/app:cache,ignore-error=true");
        let said = fresh(&world, store, &[epoch, "--cache-to", &to]);
        let warnings: Vec<&str> =
            said.stderr.lines().filter(|line| line.starts_with("warning")).collect();
        assert_eq!(warnings.len(), 1, "{said:?}");
        let warning = format!(
            "warning: cannot write the cache `{host}/app:cache`: registry `{host}` {what}: \
             PUT http://{host}/v2/app/manifests/cache: {why}"
        );
        assert!(warnings[0].starts_with(&warning), "{said:?}");
        assert_eq!(said.ok(), digest);
    }
    // Nothing that is worth waiting for: that would be tried for most of a minute.
    let proxy = dying(&registry, Fault::Status(507, None));
    let host = proxy.host();
    let to = format!("type=registry,ref={host}/app:cache");
    let said = fresh(&world, "four", &[epoch, "--cache-to", &to]).failed(3);
    let refused = format!(
        "error: cannot write the cache `{host}/app:cache`\n \
         cause: registry `{host}` has no space left for this repository\n \
         cause: PUT http://{host}/v2/app/manifests/cache: status 507\n\
         help: remove images from the repository, or ask for more space\n"
    );
    assert!(said.ends_with(&refused), "{said}");
    // The name comes last.
    let there = format!("docker://{}/app:cache", registry.address);
    assert_ne!(world.run(["image", "digest", &there]).code, 0);
}

#[test]
fn a_build_that_failed_leaves_the_steps_that_it_finished() {
    for world in worlds() {
        let cache = world.path("cache");
        let to = format!("type=local,dest={}", cache.display());
        let from = format!("type=local,src={}", cache.display());
        let good = "FROM base\nRUN echo 1 > /one\n";
        world.file("Dockerfile", format!("{good}RUN echo 2 > /two\nRUN false\n"));
        fresh(&world, "one", &["--cache-to", &to]).failed(1);
        world.file("Dockerfile", format!("{good}RUN echo 2 > /two\n"));
        let second = fresh(&world, "two", &["--cache-from", &from]);
        assert!(!ran(&second), "{second:?}");
        second.ok();
        // What was there before stays when a build fails.
        world.file("Dockerfile", format!("{good}RUN false\n"));
        fresh(&world, "three", &["--cache-to", &to, "--cache-from", &from]).failed(1);
        world.file("Dockerfile", format!("{good}RUN echo 2 > /two\n"));
        let again = fresh(&world, "four", &["--cache-from", &from]);
        assert!(!ran(&again), "{again:?}");
    }
}

/// A build in the store `one` that waits to write its cache into a directory, and what it says from then on.
fn waiting(world: &World, to: &str, cache: &Path) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut command = world.command(program());
    command.args(["build", "--progress", "plain", "--root", "one", "--cache-to", to]);
    command.arg(world.context()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let waits = format!("waiting until others have written into {}", cache.display());
    assert!(lines.any(|line| line == waits));
    (child, lines)
}

/// At its end a build removes what only its earlier cache had, and another one that had found it there, and was about to
/// write its own cache, had lost it. Found in review.
#[test]
fn builds_that_write_into_one_directory_take_turns() {
    let world = World::new().with_base();
    world.file("a", "a").file("Dockerfile", DOCKERFILE);
    let cache = world.path("cache");
    let to = |tag: &str| format!("type=local,dest={},mode=max,tag={tag}", cache.display());
    let digest = fresh(&world, "one", &["--cache-to", &to("a")]).ok();
    let other = Layout::open(&cache).unwrap();
    let held = other.try_writing_alone().unwrap().unwrap();
    let (mut child, lines) = waiting(&world, &to("b"), &cache);
    // The end of the other one.
    let (manifest, _) = layout(&cache, "a");
    for layer in manifest["layers"].as_array().unwrap() {
        let digest = layer["digest"].as_str().unwrap().replace(':', "/");
        fs::remove_file(cache.join("blobs").join(digest)).unwrap();
    }
    drop(held);
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{rest:?}");
    let from = format!("type=local,src={},tag=b", cache.display());
    let second = fresh(&world, "two", &["--cache-from", &from]);
    assert!(!ran(&second), "{second:?}");
    assert_eq!(second.ok(), digest);
}

/// Who wrote an image into the directory of a cache, or found its blobs there, lost those that the earlier cache had, too.
/// Found in review.
#[test]
fn a_cache_removes_nothing_that_somebody_is_about_to_name() {
    let world = World::new().with_base();
    world.file("a", "a").file("Dockerfile", DOCKERFILE);
    let cache = world.path("cache");
    let to = format!("type=local,dest={},mode=max", cache.display());
    fresh(&world, "one", &["--cache-to", &to]).ok();
    let other = Layout::open(&cache).unwrap();
    let writing = other.writing().unwrap();
    let earlier = other.entries().unwrap().remove(0).descriptor;
    world.file("Dockerfile", "FROM base\nRUN echo another > /file\n");
    let (mut child, lines) = waiting(&world, &to, &cache);
    let mut index = other.lock_index().unwrap();
    index.set("kept", &earlier).unwrap();
    index.store().unwrap();
    drop((index, writing));
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{rest:?}");
    assert_ne!(layout(&cache, "latest"), layout(&cache, "kept"));
    let kept = format!("oci:{}:kept", cache.display());
    assert_eq!(world.run(["image", "validate", &kept]).ok(), "valid\n");
}

/// Whether a process waits for a lock on a file.
fn waits_for_lock(process: &Child) -> bool {
    let (locks, id) = (fs::read_to_string("/proc/locks").unwrap(), process.id().to_string());
    let mut waiting = locks.lines().filter(|line| line.contains("->"));
    waiting.any(|line| line.split_whitespace().any(|word| word == id))
}

#[test]
fn images_wait_while_a_cache_is_written_into_their_directory() {
    let world = World::new().with_base();
    world.file("Dockerfile", "FROM base\n");
    let (dir, context) = (world.path("layout"), world.context());
    let (dir, context) = (dir.to_str().unwrap(), context.to_str().unwrap());
    let name = |tag: &str| format!("oci:{dir}:{tag}");
    world.run(["image", "copy", "base", &name("first")]).ok();
    let other = Layout::open(dir).unwrap();
    let output = format!("type=oci,tar=false,dest={dir}");
    for args in [
        &["image", "copy", "base", &name("copied")][..],
        &["image", "index", "create", &name("index"), "base"],
        &["build", "-t", "built:1", "-o", &output, context],
    ] {
        let cache = other.try_writing_alone().unwrap().unwrap();
        let mut command = world.command(program());
        command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let begun = Instant::now();
        while !waits_for_lock(&child) {
            assert_eq!(child.try_wait().unwrap(), None, "{args:?}");
            assert!(begun.elapsed() < Duration::from_mins(1), "{args:?}");
            std::thread::yield_now();
        }
        drop(cache);
        assert!(child.wait().unwrap().success(), "{args:?}");
    }
    for tag in ["first", "copied", "index", "1"] {
        assert_eq!(world.run(["image", "validate", &name(tag)]).ok(), "valid\n");
    }
}

/// Only registries were asked whether the name is an image, and `latest` is the name that most images have. Found in
/// review.
#[test]
fn a_cache_takes_no_image_in_a_directory_its_name() {
    let world = World::new().with_base();
    world.file("a", "a").file("Dockerfile", DOCKERFILE);
    let dir = world.path("layout");
    let (place, index) = (dir.display().to_string(), dir.join("index.json"));
    let to = format!("type=local,dest={place}");
    let refused = format!(
        "error: cannot write the cache `{place}:latest`\n \
         cause: `{place}:latest` is an image, which the cache would replace\n\
         help: give the cache a name of its own, for example `tag=buildcache`\n"
    );
    // The image of the build itself, which was not there when it began.
    let output = format!("type=oci,tar=false,dest={place}");
    let said = fresh(&world, "one", &["-t", "app", "-o", &output, "--cache-to", &to]).failed(1);
    assert!(said.ends_with(&refused), "{said}");
    let before = fs::read_to_string(&index).unwrap();
    let said = fresh(&world, "one", &["--cache-to", &to]).failed(1);
    assert_eq!(said, refused);
    assert_eq!(fs::read_to_string(&index).unwrap(), before);
    fresh(&world, "one", &["--cache-to", &format!("{to},tag=buildcache")]).ok();
    let valid = world.run(["image", "validate", &format!("oci:{place}:latest")]);
    assert_eq!(valid.ok(), "valid\n");
    layout(&dir, "buildcache");
}

#[test]
fn nothing_of_the_dockerfile_is_in_the_artifact() {
    let world = World::new().with_base();
    world.file("secret-name", "a");
    world.file(
        "Dockerfile",
        "FROM base\nARG SECRET=hidden\nRUN echo $SECRET > /r\nCOPY secret-name /\n",
    );
    let cache = world.path("cache");
    let to = format!("type=local,dest={},mode=max", cache.display());
    fresh(&world, "one", &["--cache-to", &to]).ok();
    let (manifest, config) = layout(&cache, "latest");
    assert_eq!(manifest["artifactType"], "application/vnd.nativebuild.cache.v1+json");
    let text = config.to_string() + &manifest.to_string();
    for word in ["hidden", "secret", "SECRET", "echo", "COPY", "base"] {
        assert!(!text.contains(word), "{word}: {text}");
    }
    // The same steps give the same bytes.
    let first = fs::read(cache.join("index.json")).unwrap();
    fresh(&world, "one", &["--cache-to", &to]).ok();
    assert_eq!(fs::read(cache.join("index.json")).unwrap(), first);
    let said = world.run(["image", "validate", &format!("oci:{}:latest", cache.display())]);
    assert_eq!(said.ok(), "valid\n");
    let _program = program();
}
