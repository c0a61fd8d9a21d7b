//! Caches that lie: each costs a warning and a miss, and the image is the one that a build without them gives.

use crate::support::{Said, World};
use nativebuild::oci::Digest;
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

const DOCKERFILE: &str = "FROM base\nRUN echo 1 > /one\nRUN echo 2 > /two\n";
/// A step of one stage, a COPY out of that, and a step on it: so the records have a selection.
const STAGES: &str = "FROM base AS tools\nRUN echo tool > /tool\n\
    FROM base\nCOPY --from=tools /tool /copied\nRUN cat /copied > /t\n";
const EPOCH: &str = "--source-date-epoch=1700000000";
/// Where the config of an image has an inline cache.
const MEMBER: &str = "nativebuild.cache.v1";

/// A cache in a directory, open to be changed.
#[derive(Clone)]
struct Cache {
    dir: PathBuf,
    manifest: Value,
    config: Value,
}

fn blob(dir: &Path, digest: &str) -> PathBuf {
    dir.join("blobs").join(digest.replace(':', "/"))
}

fn put(dir: &Path, bytes: &[u8]) -> (String, usize) {
    let digest = Digest::of(bytes).to_string();
    fs::write(blob(dir, &digest), bytes).unwrap();
    (digest, bytes.len())
}

impl Cache {
    fn open(dir: &Path) -> Self {
        let read =
            |path: PathBuf| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
        let index = read(dir.join("index.json"));
        let manifest = read(blob(dir, index["manifests"][0]["digest"].as_str().unwrap()));
        let config = read(blob(dir, manifest["config"]["digest"].as_str().unwrap()));
        Self { dir: dir.to_owned(), manifest, config }
    }

    /// Writes it with right digests around what was changed.
    fn store(mut self) {
        let (digest, size) = put(&self.dir, self.config.to_string().as_bytes());
        self.manifest["config"]["digest"] = digest.into();
        self.manifest["config"]["size"] = size.into();
        self.store_manifest();
    }

    fn store_manifest(self) {
        let (digest, size) = put(&self.dir, self.manifest.to_string().as_bytes());
        let path = self.dir.join("index.json");
        let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        index["manifests"][0]["digest"] = digest.into();
        index["manifests"][0]["size"] = size.into();
        fs::write(path, index.to_string()).unwrap();
    }

    /// The records of an artifact, or of an image with an inline cache.
    fn records(&mut self) -> &mut Value {
        if self.config.get(MEMBER).is_some() {
            &mut self.config[MEMBER]["records"]
        } else {
            &mut self.config
        }
    }

    fn layer(&mut self, step: usize) -> &mut Value {
        &mut self.config["steps"][step]["layers"][0]["layer"]
    }

    /// Another layer for a step, of which all digests are right.
    fn replace_layer(&mut self, step: usize, tar: &[u8]) {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(tar).unwrap();
        let (digest, size) = put(&self.dir, &packed.finish().unwrap());
        let entry = json!({"mediaType": "x/y", "digest": digest, "size": size});
        self.manifest["layers"].as_array_mut().unwrap().push(entry);
        let layer = self.layer(step);
        layer["digest"] = json!(digest);
        layer["size"] = json!(size);
        layer["diff_id"] = json!(Digest::of(tar).to_string());
    }

    fn blob_of(&mut self, step: usize) -> PathBuf {
        let digest = self.layer(step)["digest"].as_str().unwrap().to_owned();
        blob(&self.dir, &digest)
    }
}

fn build(world: &World, store: &str, args: &[&str]) -> Said {
    let tar = world.path("base.tar");
    world.run(["image", "import", "--root", store, "base", tar.to_str().unwrap()]).ok();
    let context = world.context();
    let fixed = ["build", "--progress", "plain", EPOCH, "--root", store];
    world.run(fixed.iter().chain(args).copied().chain([context.to_str().unwrap()]))
}

/// What is wrong, a word of the warning, how it comes about, and how many steps are still taken.
type Lie = (&'static str, &'static str, fn(&mut Cache), usize);

const LIES: &[Lie] = &[
    (
        "huge",
        "more than 8 MiB",
        |cache| cache.config["steps"][0]["pad"] = json!("x".repeat(9 << 20)),
        0,
    ),
    ("wrong size", "not among its blobs", |cache| cache.layer(0)["size"] = json!(7), 1),
    (
        "wrong diff id",
        "has the wrong digest",
        |cache| cache.layer(0)["diff_id"] = json!(format!("sha256:{}", "0".repeat(64))),
        1,
    ),
    (
        "other layer",
        "has the wrong digest",
        |cache| {
            let digest = cache.layer(1)["digest"].clone();
            let size = cache.layer(1)["size"].clone();
            cache.layer(0)["digest"] = digest;
            cache.layer(0)["size"] = size;
        },
        1,
    ),
    ("wrong type", "", |cache| cache.layer(0)["media_type"] = json!("text/plain"), 1),
    (
        "other variant",
        "",
        |cache| {
            cache.config["steps"][0]["layers"][0]["variant"] = json!("1-gzip6-none");
        },
        1,
    ),
    ("absurd time", "make no sense", |cache| cache.config["steps"][0]["created"] = json!(-5), 0),
    (
        "no number",
        "not valid JSON of its kind",
        |cache| {
            cache.config["steps"][0]["created"] = json!(1e300);
        },
        0,
    ),
    (
        "twice",
        "comes twice",
        |cache| {
            let other = cache.config["steps"][1]["layers"].clone();
            cache.config["steps"][1] = cache.config["steps"][0].clone();
            cache.config["steps"][1]["layers"] = other;
        },
        0,
    ),
    ("no version", "not valid JSON of its kind", |cache| cache.config = json!({"steps": []}), 0),
    ("no object", "not valid JSON of its kind", |cache| cache.config = json!([1]), 0),
    ("blob away", "is missing", |cache| fs::remove_file(cache.blob_of(0)).unwrap(), 1),
    (
        "blob cut",
        "cut short",
        |cache| {
            let path = cache.blob_of(0);
            let bytes = fs::read(&path).unwrap();
            fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
        },
        1,
    ),
    (
        "blob longer",
        "longer than",
        |cache| {
            let path = cache.blob_of(0);
            let bytes = fs::read(&path).unwrap();
            fs::write(path, [&bytes[..], b"x"].concat()).unwrap();
        },
        1,
    ),
    (
        "blob other",
        "wrong content",
        |cache| {
            let path = cache.blob_of(0);
            let mut bytes = fs::read(&path).unwrap();
            bytes[20] ^= 1;
            fs::write(path, bytes).unwrap();
        },
        1,
    ),
    (
        "blob a directory",
        "is missing",
        |cache| {
            let path = cache.blob_of(0);
            fs::remove_file(&path).unwrap();
            fs::create_dir(path).unwrap();
        },
        1,
    ),
    (
        "no gzip",
        "has the wrong digest",
        |cache| {
            let dir = cache.dir.clone();
            let (digest, size) = put(&dir, b"not a layer");
            let entry = json!({"mediaType": "x/y", "digest": digest, "size": size});
            cache.manifest["layers"].as_array_mut().unwrap().push(entry);
            cache.layer(0)["digest"] = json!(digest);
            cache.layer(0)["size"] = json!(size);
        },
        1,
    ),
    (
        // Its diff id is right, and whoever pulls the image could not unpack it.
        "not packed",
        "is not packed as application/vnd.oci.image.layer.v1.tar+gzip",
        |cache| {
            let (dir, mut tar) = (cache.dir.clone(), Vec::new());
            let file = fs::File::open(cache.blob_of(0)).unwrap();
            flate2::read::MultiGzDecoder::new(file).read_to_end(&mut tar).unwrap();
            let (digest, size) = put(&dir, &tar);
            let entry = json!({"mediaType": "x/y", "digest": digest, "size": size});
            cache.manifest["layers"].as_array_mut().unwrap().push(entry);
            cache.layer(0)["digest"] = json!(digest);
            cache.layer(0)["size"] = json!(size);
        },
        1,
    ),
    (
        "no tar",
        "is no archive of files",
        |cache| {
            cache.replace_layer(
                0,
                b"nothing that anybody could unpack, though all digests are right",
            );
        },
        1,
    ),
    (
        "an image",
        "an image without an inline cache",
        |cache| {
            cache.manifest["config"]["mediaType"] =
                json!("application/vnd.oci.image.config.v1+json");
        },
        0,
    ),
    (
        "something else",
        "something else",
        |cache| {
            cache.manifest["config"]["mediaType"] = json!("application/vnd.example+json");
        },
        0,
    ),
    (
        "BuildKit's",
        "a cache in BuildKit's form",
        |cache| {
            cache.manifest["config"]["mediaType"] =
                json!("application/vnd.buildkit.cacheconfig.v0");
        },
        0,
    ),
];

#[test]
fn every_lie_costs_a_miss_and_never_the_image() {
    let world = World::new().with_base();
    world.file("Dockerfile", DOCKERFILE);
    let digest = build(&world, "first", &[]).ok();
    for (at, (name, warning, lie, taken)) in LIES.iter().enumerate() {
        let dir = world.path(&format!("cache-{at}"));
        let to = format!("type=local,dest={}", dir.display());
        build(&world, "first", &["--cache-to", &to]).ok();
        let mut cache = Cache::open(&dir);
        lie(&mut cache);
        cache.store();
        let from = format!("type=local,src={}", dir.display());
        let store = format!("store-{at}");
        let said = build(&world, &store, &["--cache-from", &from]);
        let warnings = said.stderr.lines().filter(|line| line.starts_with("warning")).count();
        assert_eq!(warnings, usize::from(!warning.is_empty()), "{name}: {said:?}");
        assert!(said.stderr.contains(warning), "{name}: {said:?}");
        assert_eq!(said.stderr.matches("CACHED").count(), *taken, "{name}: {said:?}");
        assert_eq!(said.ok(), digest, "{name}");
        // Nothing that was not believed is kept as true.
        let again = build(&world, &store, &[]);
        assert_eq!(again.stderr.matches("CACHED").count(), 2, "{name}: {again:?}");
        assert_eq!(again.ok(), digest, "{name}");
    }
}

/// What is wrong and how it comes about; then a word of the warning and how many of three steps are
/// still taken: of a cache that has the layers of all stages, and of an inline one.
type RecordLie = (&'static str, fn(&mut Value), [(&'static str, usize); 2]);

/// The steps of [`STAGES`], in the order of [`places`].
const COPY: usize = 0;
const RUN: usize = 1;
const TOOLS: usize = 2;

const NOTHING: &str = "nothing";
const BAD_JSON: [(&str, usize); 2] = [("not valid JSON of its kind", 0); 2];
const WRONG_LAYER: &str = "has the wrong digest";
const NO_BLOB: &str = "1 of its layers are not among its blobs";

const RECORD_LIES: &[RecordLie] = &[
    (NOTHING, |_| {}, [("", 3); 2]),
    // What is copied is looked at in the tree, and the COPY is found by that. An inline cache has
    // no layer for the tree, so the step is carried out.
    ("another content", |records| records["selections"][0][1] = unknown(), [("", 3), ("", 2)]),
    (
        "the content of something unknown",
        |records| records["selections"][0][0] = unknown(),
        [("", 3), ("", 2)],
    ),
    ("half a selection", |records| records["selections"][0] = json!([unknown()]), BAD_JSON),
    ("a selection of no digest", |records| records["selections"][0][1] = json!("x"), BAD_JSON),
    (
        "two contents",
        |records| {
            let mut other = records["selections"][0].clone();
            other[1] = unknown();
            records["selections"].as_array_mut().unwrap().push(other);
        },
        [("comes twice", 0); 2],
    ),
    (
        "other layers below",
        |records| step(records, RUN)["stands_on"][0][1] = unknown(),
        [("", 2); 2],
    ),
    ("no layers below", |records| step(records, RUN)["stands_on"] = json!([]), [("", 2); 2]),
    (
        "too few layers below",
        |records| {
            let below = step(records, COPY)["stands_on"].clone();
            step(records, RUN)["stands_on"] = below;
        },
        [("", 2); 2],
    ),
    (
        "very many variants, and not this one",
        |records| {
            let others = (0..30_000).map(|at| json!([format!("{at:05}"), unknown()]));
            step(records, RUN)["stands_on"] = others.collect();
        },
        [("", 2); 2],
    ),
    (
        "two stacks below",
        |records| {
            let below = &mut step(records, RUN)["stands_on"];
            let mut other = below[0].clone();
            other[1] = unknown();
            below.as_array_mut().unwrap().push(other);
        },
        [("comes twice", 0); 2],
    ),
    (
        "half of what is below",
        |records| step(records, RUN)["stands_on"][0] = json!(["x"]),
        BAD_JSON,
    ),
    // The COPY is carried out, and needs the other stage. It leaves what it left when the cache was
    // written, so the step on it is taken.
    (
        "other layers below the COPY",
        |records| step(records, COPY)["stands_on"][0][1] = unknown(),
        [("", 2), ("", 1)],
    ),
    (
        "another diff id of the COPY",
        |records| step(records, COPY)["layers"][0]["layer"]["diff_id"] = unknown(),
        [(WRONG_LAYER, 2), (WRONG_LAYER, 1)],
    ),
    // The layer above is what it should be, and not believed for what is below it.
    (
        "another diff id of the COPY, also in what stands on it",
        |records| {
            let [copy, run, _] = places(records);
            let on = chain(below(records, copy), unknown().as_str().unwrap());
            records["steps"][run]["stands_on"][0][1] = json!(on);
            records["steps"][copy]["layers"][0]["layer"]["diff_id"] = unknown();
        },
        [(WRONG_LAYER, 1), (WRONG_LAYER, 0)],
    ),
    (
        "another size of the COPY",
        |records| step(records, COPY)["layers"][0]["layer"]["size"] = json!(7),
        [(NO_BLOB, 2), (NO_BLOB, 1)],
    ),
    // An inline cache has no layer that could be compared with it.
    (
        "another diff id of the other stage",
        |records| {
            let tools = step(records, TOOLS);
            if tools.get("diff_ids").is_some() {
                tools["diff_ids"][0][1] = unknown();
            } else {
                tools["layers"][0]["layer"]["diff_id"] = unknown();
            }
        },
        [(WRONG_LAYER, 2), ("", 2)],
    ),
];

/// A digest of nothing that anybody has.
fn unknown() -> Value {
    json!(format!("sha256:{}", "0".repeat(64)))
}

/// What the layer of a step stands on.
fn below(records: &Value, at: usize) -> &str {
    records["steps"][at]["stands_on"][0][1].as_str().unwrap()
}

/// What a step stands on that stands on this layer.
fn chain(below: &str, diff_id: &str) -> String {
    Digest::of(format!("{below} {diff_id}").as_bytes()).to_string()
}

/// Where the COPY, the step on its layer and that of the other stage are among the steps.
fn places(records: &Value) -> [usize; 3] {
    let on = |at: usize| {
        let diff_id = records["steps"][at]["layers"][0]["layer"]["diff_id"].as_str()?;
        Some(chain(below(records, at), diff_id))
    };
    let mut pairs = (0..3).flat_map(|copy| (0..3).map(move |run| (copy, run)));
    let found = pairs.find(|(copy, run)| on(*copy).as_deref() == Some(below(records, *run)));
    let (copy, run) = found.unwrap();
    [copy, run, 3 - copy - run]
}

fn step(records: &mut Value, which: usize) -> &mut Value {
    let at = places(records)[which];
    &mut records["steps"][at]
}

/// A build of [`STAGES`] in a fresh store with a cache that lies, and one more without it.
fn check(
    world: &World,
    digest: &str,
    (store, dir): (&str, &Path),
    (name, warning, taken): (&str, &str, usize),
) {
    let from = format!("type=local,src={}", dir.display());
    let said = build(world, store, &["--cache-from", &from]);
    let warnings: Vec<&str> =
        said.stderr.lines().filter(|line| line.starts_with("warning")).collect();
    assert_eq!(warnings.len(), usize::from(!warning.is_empty()), "{name}: {said:?}");
    let about = format!("warning: cannot use the cache `{}:latest`: ", dir.display());
    let is_it = |line: &&str| line.starts_with(&about) && line.contains(warning);
    assert!(warnings.iter().all(is_it), "{name}: {said:?}");
    assert_eq!((said.cached(), said.done()), (taken, 3 - taken), "{name}: {said:?}");
    // There was something to be looked at or to be done.
    assert_eq!(said.stderr.contains("isolation: "), name != NOTHING, "{name}: {said:?}");
    assert_eq!(said.ok(), digest, "{name}");
    let again = build(world, store, &[]);
    assert!(!again.stderr.contains("warning"), "{name}: {again:?}");
    assert_eq!(again.ok(), digest, "{name}");
}

/// All lies about the records of one cache.
fn lie(world: &World, digest: &str, cache: &Cache, which: usize) {
    for (number, (name, lie, expected)) in RECORD_LIES.iter().enumerate() {
        let mut changed = cache.clone();
        lie(changed.records());
        changed.store();
        let (warning, taken) = expected[which];
        let store = format!("store-{number}");
        check(world, digest, (&store, &cache.dir), (name, warning, taken));
    }
}

#[test]
fn records_that_lie_cost_a_miss_and_never_the_image() {
    let world = World::new().with_base();
    world.file("Dockerfile", STAGES);
    let digest = build(&world, "first", &[]).ok();
    let dir = world.path("cache");
    let to = format!("type=local,dest={},mode=max", dir.display());
    build(&world, "first", &["--cache-to", &to]).ok();
    lie(&world, &digest, &Cache::open(&dir), 0);
}

/// A word of the warning, and how the config of the image is changed.
type ConfigLie = (&'static str, fn(&mut Value));

const CONFIG_LIES: &[ConfigLie] = &[
    ("an image without an inline cache", |config| {
        config.as_object_mut().unwrap().remove(MEMBER);
    }),
    ("its inline cache is none of nativebuild", |config| config[MEMBER] = json!("x")),
    ("its inline cache is none of nativebuild", |config| config[MEMBER] = json!({})),
    ("its inline cache is none of nativebuild", |config| {
        config[MEMBER]["hmac-sha256"] = json!(5);
    }),
    ("not valid JSON of its kind", |config| config[MEMBER]["records"] = json!("x")),
    ("this program knows version 1", |config| {
        config[MEMBER]["records"]["version"] = json!(2);
    }),
];

#[test]
fn an_inline_cache_that_lies_costs_a_miss_and_never_the_image() {
    let world = World::new().with_base();
    world.file("Dockerfile", STAGES);
    let digest = build(&world, "first", &[]).ok();
    let dir = world.path("image");
    let output = format!("type=oci,tar=false,dest={}", dir.display());
    let inline = ["-t", "app", "--cache-to", "type=inline", "-o", &output];
    build(&world, "first", &inline).ok();
    let cache = Cache::open(&dir);
    lie(&world, &digest, &cache, 1);
    for (number, (warning, lie)) in CONFIG_LIES.iter().enumerate() {
        let mut changed = cache.clone();
        lie(&mut changed.config);
        changed.store();
        let store = format!("config-{number}");
        check(&world, &digest, (&store, &dir), (warning, warning, 0));
    }
}

/// Nothing but unpacking it shows what is wrong; the record is in the store by then.
#[test]
fn a_layer_that_cannot_be_unpacked_is_made_again() {
    let world = World::new().with_base();
    world.file("Dockerfile", DOCKERFILE);
    let dir = world.path("cache");
    let to = format!("type=local,dest={}", dir.display());
    build(&world, "first", &["--cache-to", &to]).ok();
    let mut cache = Cache::open(&dir);
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Link);
    header.set_size(0);
    tar.append_link(&mut header, "one", "nothing").unwrap();
    cache.replace_layer(0, &tar.into_inner().unwrap());
    cache.store();
    world.file("Dockerfile", format!("{DOCKERFILE}RUN cat /one /two > /three\n"));
    let digest = build(&world, "first", &[]).ok();
    let from = format!("type=local,src={}", dir.display());
    let said = build(&world, "second", &["--cache-from", &from]);
    assert!(said.stderr.contains("; making it again"), "{said:?}");
    assert_eq!(said.ok(), digest);
    let again = build(&world, "second", &["--cache-from", &from]);
    assert_eq!(again.stderr.matches("CACHED").count(), 3, "{again:?}");
    assert!(!again.stderr.contains("warning"), "{again:?}");
    assert_eq!(again.ok(), digest);
}

#[test]
fn what_is_no_cache_at_all_is_a_warning() {
    let world = World::new().with_base();
    world.file("Dockerfile", DOCKERFILE);
    let digest = build(&world, "first", &[]).ok();
    let dir = world.path("cache");
    let to = format!("type=local,dest={}", dir.display());
    build(&world, "first", &["--cache-to", &to]).ok();
    let index = fs::read_to_string(dir.join("index.json")).unwrap();
    let named = serde_json::from_str::<Value>(&index).unwrap()["manifests"][0]["digest"].clone();
    let path = blob(&dir, named.as_str().unwrap());
    let place = format!("type=local,src={}", dir.display());
    let other = format!("{place},digest=sha256:{}", "1".repeat(64));
    let right = format!("{place},digest={}", named.as_str().unwrap());
    let run = |store: &str, from: &str, cached: usize, word: &str| {
        let said = build(&world, store, &["--cache-from", from]);
        assert_eq!(said.stderr.matches("CACHED").count(), cached, "{said:?}");
        assert!(said.stderr.contains(word), "{word}: {said:?}");
        assert_eq!(said.ok(), digest);
    };
    run("right", &right, 2, "");
    run("other", &other, 0, "has nothing of that name");
    run("tag", &format!("{place},tag=x"), 0, "has nothing of that name");
    run("nowhere", "type=local,src=/nonexistent", 0, "is not an OCI image layout");
    // The manifest is not what its digest says.
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("\"size\":", "\"size\": "))
        .unwrap();
    run("manifest", &right, 0, "cannot use the cache");
    fs::write(dir.join("index.json"), "{").unwrap();
    run("index", &place, 0, "cannot use the cache");
}

#[test]
fn with_a_key_only_what_was_signed_with_it_counts() {
    let world = World::new().with_base();
    world.file("Dockerfile", DOCKERFILE);
    fs::write(world.path("key"), "0123456789abcdef\n").unwrap();
    fs::write(world.path("other"), "0123456789abcdeg\n").unwrap();
    fs::write(world.path("short"), "short\n").unwrap();
    let dir = world.path("cache");
    let to = format!("type=local,dest={}", dir.display());
    let from = format!("type=local,src={}", dir.display());
    let run = |store: &str, args: &[&str], cached: usize, word: &str| {
        let said = build(&world, store, args);
        assert_eq!(said.stderr.matches("CACHED").count(), cached, "{said:?}");
        assert!(said.stderr.contains(word), "{word}: {said:?}");
        said.ok()
    };
    let digest = run("1", &["--cache-to", &to], 0, "");
    let with = |place: &str, key: &str| format!("{place},key={key}");
    assert_eq!(run("2", &["--cache-from", &with(&from, "key")], 0, "are not signed"), digest);
    run("1", &["--cache-to", &with(&to, "key")], 2, "");
    assert_eq!(run("3", &["--cache-from", &with(&from, "key")], 2, ""), digest);
    assert_eq!(run("4", &["--cache-from", &from], 2, ""), digest);
    assert_eq!(run("5", &["--cache-from", &with(&from, "other")], 0, "another key"), digest);
    // A record that was changed is not signed any more.
    let mut cache = Cache::open(&dir);
    cache.config["steps"][0]["created"] = json!(5);
    cache.store();
    assert_eq!(run("6", &["--cache-from", &with(&from, "key")], 0, "another key"), digest);
    let said = build(&world, "7", &["--cache-from", &with(&from, "short")]).failed(2);
    assert_eq!(
        said,
        "error: bad key file short\n cause: the key has less than 16 bytes\nhelp: make one by `head -c 32 /dev/urandom | base64 > FILE`\n"
    );
    build(&world, "7", &["--cache-from", &with(&from, "nothing")]).failed(2);
}

#[test]
fn an_explained_miss_says_what_shared_caches_had() {
    let world = World::new().with_base();
    world.file("Dockerfile", DOCKERFILE);
    let dir = world.path("cache");
    let to = format!("type=local,dest={}", dir.display());
    build(&world, "first", &["--cache-to", &to]).ok();
    let mut cache = Cache::open(&dir);
    fs::remove_file(cache.blob_of(0)).unwrap();
    cache.config["steps"][1]["layers"] = json!([]);
    cache.store();
    let from = format!("type=local,src={}", dir.display());
    let none = format!("type=local,src={}", world.path("none").display());
    let args = ["--explain-cache", "--cache-from", &from, "--cache-from", &none];
    let said = build(&world, "second", &args);
    assert_eq!(said.code, 0, "{said:?}");
    let place = format!("the cache `{}:latest`", dir.display());
    let none = format!("the cache `{}:latest` cannot be used", world.path("none").display());
    let reasons: Vec<&str> = said.stderr.lines().filter(|line| line.contains("MISSED")).collect();
    assert_eq!(reasons.len(), 2, "{said:?}");
    for reason in [
        format!("; {place} has it, and its layer cannot be used; {none}"),
        format!("; {place} knows it, and does not have its layer; {none}"),
    ] {
        assert!(reasons.iter().any(|line| line.ends_with(&reason)), "{reason}: {said:?}");
    }
    world.file("Dockerfile", format!("{DOCKERFILE}RUN echo 3 > /three\n"));
    let said = build(&world, "second", &args);
    let wanted = format!("it is new in this stage; {place} does not have it; {none}");
    assert!(said.stderr.contains(&wanted), "{said:?}");
}
