//! Directories of `RUN --mount=type=cache` in shared caches: a fresh machine has them, and what did not change is not sent.

use crate::support::faults::{Fault, Faults};
use crate::support::registry::Registry;
use crate::support::{Said, World, peer, program};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

/// Forty files of 256 KiB that nothing compresses, with times, modes, links and an owner.
const FILL: &str = "FROM base\nRUN --mount=type=cache,id=deps,target=/c \
    if [ ! -e /c/done ]; then for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40; do \
    dd if=/dev/urandom of=/c/f$i bs=65536 count=4 2>/dev/null; done; \
    mkdir /c/d && ln -s ../f1 /c/d/l && ln /c/f2 /c/d/h && chmod 4711 /c/f3 && chown 7:8 /c/f4 && touch -d '2001-02-03 04:05:06' /c/f5; fi; touch /c/done\n";
const LOOK: &str = "RUN --mount=type=cache,id=deps,target=/c (cd /c && find . | sort && cat f* d/l d/h | sha256sum && \
    stat -c '%n %a %u:%g %Y %h' f3 f4 f5 f2 d/l) > /seen\n";

fn worlds() -> Vec<World> {
    World::each().into_iter().map(World::with_base).collect()
}

fn build(world: &World, store: &str, dockerfile: &str, args: &[&str]) -> Said {
    world.file("Dockerfile", dockerfile);
    let tar = world.path("base.tar");
    world.run(["image", "import", "--root", store, "base", tar.to_str().unwrap()]).ok();
    let context = world.context();
    let fixed = ["build", "--progress", "plain", "--root", store];
    world.run(fixed.iter().chain(args).copied().chain([context.to_str().unwrap()]))
}

/// What LOOK saw.
fn seen(world: &World, store: &str, args: &[&str]) -> (Said, String) {
    let out = world.path(&format!("out/{store}"));
    let output = format!("type=local,dest={}", out.display());
    let args = [args, &["-o", &output]].concat();
    let said = build(world, store, &format!("FROM base\n{LOOK}"), &args);
    assert_eq!(said.code, 0, "{said:?}");
    let text = fs::read_to_string(out.join("seen")).unwrap();
    (said, text)
}

fn blob(dir: &Path, digest: &Value) -> PathBuf {
    dir.join("blobs").join(digest.as_str().unwrap().replace(':', "/"))
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn chunks(dir: &Path) -> Vec<Value> {
    let index = read(&dir.join("index.json"));
    let manifest = read(&blob(dir, &index["manifests"][0]["digest"]));
    let config = read(&blob(dir, &manifest["config"]["digest"]));
    config["mounts"][0]["chunks"].as_array().cloned().unwrap_or_default()
}

#[test]
fn a_fresh_machine_has_the_directory_of_the_other() {
    for world in worlds() {
        let cache = world.path("cache");
        let to = format!("type=local,dest={},mounts=deps", cache.display());
        let from = format!("type=local,src={}", cache.display());
        build(&world, "one", FILL, &["--cache-to", &to]).ok();
        let (_, wanted) = seen(&world, "one", &[]);
        assert_eq!(wanted.lines().count(), 51, "{wanted}");
        let (said, found) = seen(&world, "two", &["--cache-from", &from]);
        assert!(!said.stderr.contains("warning"), "{said:?}");
        assert_eq!(found, wanted);
        // Nothing of the chunks stays in the store.
        assert!(chunks(&cache).len() > 4);
        for chunk in chunks(&cache) {
            assert!(!blob(&world.path("two/images"), &chunk["digest"]).exists());
        }
        let left = fs::read_dir(world.path("two/tmp")).unwrap();
        let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(!left.into_iter().any(|name| name.starts_with("chunks-")));
        // A build whose RUNs were all cached does not lose them, nor does one of a fresh machine.
        build(&world, "one", FILL, &["--cache-to", &to]).ok();
        assert!(chunks(&cache).len() > 4);
        // Where nobody asks for it, nothing is kept.
        let to = format!("type=local,dest={},mounts=other", world.path("none").display());
        build(&world, "three", FILL, &["--cache-to", &to]).ok();
        assert_eq!(chunks(&world.path("none")), Vec::<Value>::new());
    }
}

#[test]
fn one_changed_file_sends_few_chunks() {
    let world = World::new().with_base();
    if !peer("docker-registry") {
        return;
    }
    let registry = Registry::start(&world);
    let proxy = Faults::before(&registry.address, |_| None);
    let to = format!("type=registry,ref={}/cache:1,mounts=true", proxy.host());
    // Large enough that a few chunks are not most of it.
    let fill = FILL.replace("count=4", "count=16");
    build(&world, "one", &fill, &["--cache-to", &to]).ok();
    let first = proxy.take().sent;
    assert!(first > 40 << 20, "{first}");
    let change = "FROM base\nRUN --mount=type=cache,id=deps,target=/c \
        echo changed | dd of=/c/f20 conv=notrunc 2>/dev/null\n";
    build(&world, "one", change, &["--cache-to", &to]).ok();
    let second = proxy.take().sent;
    // There is another time in the header of one member, and other bytes right behind it. They
    // lie in one chunk, or in two where one ends among them, and none has more than 4 MiB. Where
    // a chunk ends depends on where it begins and on the last 64 bytes: all others stay, but for
    // one more where such an end moves. The rest is for the records and the layer of the step.
    assert!(second < (12 << 20) + (64 << 10), "{second} of {first}");
    let name = format!("{}/cache:1", proxy.host());
    let (_, wanted) = seen(&world, "one", &[]);
    assert_eq!(seen(&world, "two", &["--cache-from", &name]).1, wanted);
}

/// Nobody locks a shared mount: a file that another build changed while it was read made the build fail after its image
/// was done. Found in review.
#[test]
fn a_directory_that_changes_while_it_is_read_is_read_again() {
    let world = World::new().with_base();
    if !peer("docker-registry") {
        return;
    }
    let registry = Registry::start(&world);
    let proxy = Faults::before(&registry.address, |_| None);
    let name = format!("{}/cache:1", proxy.host());
    let to = format!("type=registry,ref={name},mounts=true");
    build(&world, "one", "FROM base\n", &[]).ok();
    // More than the chunks that are sent together: the others are not read before the first ones are there.
    let fill = "FROM base\nRUN --mount=type=cache,id=deps,target=/c \
        dd if=/dev/urandom of=/c/a bs=65536 count=640 2>/dev/null; echo old > /c/y; echo old > /c/z\n";
    world.file("Dockerfile", fill);
    let hit = proxy.trap(6 << 20);
    let mut command = world.command(program());
    command.args(["build", "--progress", "plain", "--root", "one", "--cache-to", &to]);
    command.arg(world.context()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    hit.recv().unwrap();
    let mounts = fs::read_dir(world.path("one/mounts")).unwrap();
    let mounts: Vec<PathBuf> = mounts.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(mounts.len(), 1);
    fs::write(mounts[0].join("y"), "changed\n").unwrap();
    fs::remove_file(mounts[0].join("z")).unwrap();
    proxy.release();
    let said = Said::of(child.wait_with_output().unwrap());
    assert!(!said.stderr.contains("warning"), "{said:?}");
    said.ok();
    let look = "FROM base\nRUN --mount=type=cache,id=deps,target=/c (ls /c && cat /c/y) > /seen\n";
    let out = world.path("out/two");
    let output = format!("type=local,dest={}", out.display());
    build(&world, "two", look, &["--cache-from", &name, "-o", &output]).ok();
    assert_eq!(fs::read_to_string(out.join("seen")).unwrap(), "a\ny\nchanged\n");
}

/// What cannot be packed made the build fail, too, and chunks of it stayed. Found in review.
#[test]
fn a_directory_that_cannot_be_packed_stays_as_the_cache_had_it() {
    for world in worlds() {
        let cache = world.path("cache");
        let to = format!("type=local,dest={},mounts=true", cache.display());
        let fill = "FROM base\nRUN --mount=type=cache,id=deps,target=/c \
            dd if=/dev/urandom of=/c/f bs=65536 count=96 2>/dev/null";
        build(&world, "one", &format!("{fill}\n"), &["--cache-to", &to]).ok();
        let before = chunks(&cache);
        let odd = format!("{fill}; mkdir /c/z; touch /c/z/.wh.x\n");
        let said = build(&world, "one", &odd, &["--cache-to", &to]);
        let warning = format!(
            "warning: the cache `{}:latest` does not get the cache mount `deps`: `z/.wh.x` cannot be stored in a layer: \
             names that start with `.wh.` mark deletions in image layers",
            cache.display()
        );
        let warnings = said.stderr.lines().filter(|line| line.starts_with("warning"));
        assert_eq!(warnings.collect::<Vec<_>>(), [warning], "{said:?}");
        said.ok();
        assert_eq!(chunks(&cache), before);
        let index = read(&cache.join("index.json"));
        let manifest = read(&blob(&cache, &index["manifests"][0]["digest"]));
        let layers = manifest["layers"].as_array().unwrap().len();
        // With the manifest and the records that is all.
        assert_eq!(fs::read_dir(cache.join("blobs/sha256")).unwrap().count(), layers + 2);
    }
}

type Lie = fn(&Path, &mut Value);

#[test]
fn a_chunk_that_lies_leaves_an_empty_cache_and_a_warning() {
    let world = World::new().with_base();
    let cache = world.path("cache");
    let to = format!("type=local,dest={},mounts=true", cache.display());
    let from = format!("type=local,src={}", cache.display());
    let dockerfile = "FROM base\nRUN --mount=type=cache,id=deps,target=/c ls -A /c > /seen\n";
    let lies: &[(&str, Lie)] = &[
        ("wrong content", |path, _| {
            let mut bytes = fs::read(path).unwrap();
            bytes[100] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("is missing", |path, _| fs::remove_file(path).unwrap()),
        ("not what it should be", |_, chunk| {
            let length = chunk["length"].as_u64().unwrap();
            chunk["length"] = json!(length - 1);
        }),
        ("not what it should be", |_, chunk| {
            let length = chunk["length"].as_u64().unwrap();
            chunk["length"] = json!(length + 1);
        }),
        ("a size that none has", |_, chunk| chunk["length"] = json!(1_u64 << 40)),
    ];
    for (at, (word, lie)) in lies.iter().enumerate() {
        let _gone = fs::remove_dir_all(&cache);
        build(&world, &format!("one-{at}"), FILL, &["--cache-to", &to]).ok();
        let index = read(&cache.join("index.json"));
        let mut manifest = read(&blob(&cache, &index["manifests"][0]["digest"]));
        let mut config = read(&blob(&cache, &manifest["config"]["digest"]));
        let chunk = &mut config["mounts"][0]["chunks"][3];
        let path = blob(&cache, &chunk["digest"].clone());
        lie(&path, chunk);
        let put = |value: &Value| {
            let bytes = value.to_string();
            let digest = json!(nativebuild::oci::Digest::of(bytes.as_bytes()));
            fs::write(blob(&cache, &digest), &bytes).unwrap();
            (digest, json!(bytes.len()))
        };
        (manifest["config"]["digest"], manifest["config"]["size"]) = put(&config);
        let mut changed = index.clone();
        (changed["manifests"][0]["digest"], changed["manifests"][0]["size"]) = put(&manifest);
        fs::write(cache.join("index.json"), changed.to_string()).unwrap();
        let out = world.path(&format!("out/{at}"));
        let output = format!("type=local,dest={}", out.display());
        let store = format!("two-{at}");
        let said = build(&world, &store, dockerfile, &["--cache-from", &from, "-o", &output]);
        assert!(said.stderr.contains(word), "{word}: {said:?}");
        assert_eq!(said.stderr.matches("warning:").count(), 1, "{said:?}");
        said.ok();
        assert_eq!(fs::read_to_string(out.join("seen")).unwrap(), "", "{word}");
    }
}

/// The digest of one chunk in the storage of a registry, whose bytes are lost from now on.
fn lose_a_chunk(storage: &Path) -> String {
    let all = storage.join("docker/registry/v2/blobs/sha256");
    let dirs = fs::read_dir(&all).unwrap().map(|entry| entry.unwrap().path());
    let blobs = dirs.flat_map(|dir| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()));
    let texts = blobs.filter_map(|blob| fs::read(blob.join("data")).ok());
    let mut records = texts.filter_map(|text| serde_json::from_slice::<Value>(&text).ok());
    let digest =
        records.find_map(|it| it["mounts"][0]["chunks"][3]["digest"].as_str().map(str::to_owned));
    let digest = digest.unwrap();
    let name = digest.strip_prefix("sha256:").unwrap();
    fs::remove_file(all.join(&name[..2]).join(name).join("data")).unwrap();
    digest
}

#[test]
fn a_chunk_that_a_registry_lost_is_sent_again_or_its_directory_is_left_out() {
    let world = World::new().with_base();
    if !peer("docker-registry") {
        return;
    }
    let registry = Registry::start(&world);
    let storage = world.path("registry");
    // What it calls there, whatever it has.
    let called = Arc::<Mutex<String>>::default();
    let lie = Arc::clone(&called);
    let proxy = Faults::before(&registry.address, move |asked| {
        let called = lie.lock().unwrap();
        let is_it = asked.method == "HEAD" && !called.is_empty() && asked.path.ends_with(&*called);
        is_it.then_some(Fault::Status(200, None))
    });
    let name = format!("{}/cache:1", proxy.host());
    let to = format!("type=registry,ref={name},mounts=true");
    let warnings = |said: &Said| -> Vec<String> {
        let lines = said.stderr.lines().filter(|line| line.starts_with("warning"));
        lines.map(str::to_owned).collect()
    };
    let push = |dockerfile: &str| {
        let said = build(&world, "one", dockerfile, &["--cache-to", &to]);
        assert_eq!(said.code, 0, "{said:?}");
        warnings(&said)
    };
    let none = Vec::<String>::new();
    assert_eq!(push(FILL), none);
    let (_, wanted) = seen(&world, "one", &[]);
    let whole = |store: &str| {
        let (said, found) = seen(&world, store, &["--cache-from", &name]);
        assert_eq!((warnings(&said), &found), (Vec::new(), &wanted), "{store}");
    };
    // The RUN is cached, and the directory is here: it is packed anew.
    lose_a_chunk(&storage);
    assert_eq!(push(&format!("{FILL}RUN echo 1 > /1\n")), none);
    whole("two");
    // Nobody reads directories where all is cached.
    lose_a_chunk(&storage);
    let left_out = format!(
        "warning: the cache `{name}` goes without 1 layers or directories of cache mounts, whose blobs are neither there nor here"
    );
    assert_eq!(push(FILL), [left_out]);
    let ls = "FROM base\nRUN --mount=type=cache,id=deps,target=/c ls -A /c > /seen\n";
    let out = world.path("out/three");
    let output = format!("type=local,dest={}", out.display());
    let said = build(&world, "three", ls, &["--cache-from", &name, "-o", &output]);
    assert_eq!((warnings(&said), said.code), (Vec::new(), 0), "{said:?}");
    assert_eq!(fs::read_to_string(out.join("seen")).unwrap(), "");
    // The RUN is carried out.
    let again = |number: u32| {
        format!("FROM base\nRUN --mount=type=cache,id=deps,target=/c echo {number}\n")
    };
    assert_eq!(push(&again(1)), none);
    whole("four");
    // The registry says that it has it, and then that it has not.
    *called.lock().unwrap() = lose_a_chunk(&storage);
    assert_eq!(push(&again(2)), none);
    whole("five");
}

#[test]
fn a_chunk_that_is_lost_in_a_directory_is_left_out() {
    let world = World::new().with_base();
    let cache = world.path("cache");
    let to = format!("type=local,dest={},mounts=true", cache.display());
    build(&world, "one", FILL, &["--cache-to", &to]).ok();
    let chunk = chunks(&cache)[3]["digest"].clone();
    fs::remove_file(blob(&cache, &chunk)).unwrap();
    let other = format!("{FILL}RUN echo 1 > /1\n");
    let said = build(&world, "one", &other, &["--cache-to", &to]);
    assert!(!said.stderr.contains("warning"), "{said:?}");
    said.ok();
    assert!(blob(&cache, &chunk).exists());
    fs::remove_file(blob(&cache, &chunk)).unwrap();
    let said = build(&world, "one", FILL, &["--cache-to", &to]);
    let left_out = format!(
        "warning: the cache `{}:latest` goes without 1 layers or directories of cache mounts, whose blobs are neither there nor here\n",
        cache.display()
    );
    assert!(said.stderr.contains(&left_out), "{said:?}");
    said.ok();
    assert_eq!(chunks(&cache), Vec::<Value>::new());
}
