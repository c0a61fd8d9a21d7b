//! `nativebuild pull`: archives whose bytes are known beforehand, hashes in all their forms, lock files.

use crate::support::registry::Registry;
use crate::support::{Said, World, peer};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;

const PLATFORMS: [&str; 2] = ["linux/amd64", "linux/s390x"];

/// A registry with `app:1`, an index for two platforms; and what its name, digest included, is.
fn served(world: World) -> Option<(World, Registry, String)> {
    if !peer("docker-registry") {
        return None;
    }
    let world = world.with_platforms("app", &PLATFORMS);
    let registry = Registry::start(&world);
    let name = format!("{}/app:1", registry.address);
    world.run(["image", "copy", "--all", "app", &format!("docker://{name}")]).ok();
    let digest = world.run(["image", "digest", "app"]).ok();
    world.run(["image", "rm", "app"]).ok();
    world.run(["prune", "--all"]).ok();
    Some((world, registry, format!("{name}@{}", digest.trim())))
}

fn sha256(path: &Path) -> String {
    nativebuild::oci::digest::hex(&Sha256::digest(fs::read(path).unwrap()))
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// SHA-256 of the archives of both platforms: what users pinned must stay true.
const FORMAT_1: [&str; 2] = [
    "2a0ba718b202c1a0a717c267952f26282cd77bf8fd353c98247c84788d4234c2",
    "46f6596ad5520a8f72eac89ebe9a7f574c9c8b9335437cc7af81bd846c88321b",
];

/// The bytes of an archive do not depend on the store, the user, or how often it was pulled.
#[test]
fn an_archive_is_a_function_of_digest_platform_and_name() {
    for world in World::each() {
        let Some((world, registry, pinned)) = served(world) else { return };
        let pull = |file: &str, store: &str, more: &[&str]| {
            let mut command = world.command(crate::support::program());
            let out = format!("docker-archive:out/{file}");
            command.args(["pull", &pinned, "--name", "x/app:2", "-o", &out]).args(more);
            command.env("NATIVEBUILD_ROOT", world.path(store));
            let said = Said::of(command.output().unwrap());
            let hash = sha256(&world.path(&format!("out/{file}")));
            assert_eq!(said.ok(), format!("sha256:{hash}\n"));
            hash
        };
        let amd64 = ["--platform", "linux/amd64"];
        let here = pull("1.tar", "store", &amd64);
        for (file, store) in [("2.tar", "store"), ("3.tar", "none")] {
            let args = ["--platform", "linux/amd64", "--archive-format", "1"];
            assert_eq!(pull(file, store, &args), here);
        }
        assert!(!world.path("none").exists());
        let s390x = ["--platform", "linux/s390x"];
        let foreign = pull("s390x.tar", "store", &s390x);
        assert_eq!(pull("again.tar", "none", &s390x), foreign);
        assert!(here != foreign);
        for file in ["1.tar", "s390x.tar"] {
            let place = format!("docker-archive:out/{file}");
            assert_eq!(world.run(["image", "validate", &place]).ok(), "valid\n");
        }
        assert_eq!([&here[..], &foreign], FORMAT_1);
        drop(registry);
    }
}

#[test]
fn skopeo_finds_in_an_archive_what_the_registry_has() {
    let Some((world, _registry, pinned)) = served(World::new()) else { return };
    if !peer("skopeo") {
        return;
    }
    let skopeo = |args: &[&str]| {
        let said = world.command("skopeo").arg("--insecure-policy").args(args).output();
        Said::of(said.unwrap()).ok()
    };
    world
        .run(["pull", &pinned, "--platform", "linux/s390x", "-o", "docker-archive:out/a.tar"])
        .ok();
    skopeo(&[
        "copy",
        "--quiet",
        "--override-arch",
        "s390x",
        "docker-archive:out/a.tar",
        "oci:out/l:1",
    ]);
    let remote = format!("docker://{pinned}").replace(":1@", "@");
    let remote =
        skopeo(&["--override-arch", "s390x", "inspect", "--config", "--tls-verify=false", &remote]);
    let local = skopeo(&["inspect", "--config", "oci:out/l:1"]);
    let (remote, local) = (json_of(&remote), json_of(&local));
    assert!(remote["rootfs"]["diff_ids"].as_array().is_some_and(|ids| ids.len() == 1));
    assert_eq!(remote["rootfs"], local["rootfs"]);
    let name = pinned.split('@').next().unwrap();
    let inspected = skopeo(&[
        "--override-arch",
        "s390x",
        "inspect",
        &format!("docker-archive:out/a.tar:{name}"),
    ]);
    assert_eq!(json_of(&inspected)["Architecture"], "s390x");
}

#[test]
fn the_hash_is_printed_and_expected_in_every_form() {
    let Some((world, registry, pinned)) = served(World::new()) else { return };
    let (tagged, digest) = pinned.split_once('@').unwrap();
    world.run(["pull", tagged, "--platform", "linux/amd64", "-o", "docker-archive:out/a.tar"]).ok();
    let hex = sha256(&world.path("out/a.tar"));
    let print = ["pull", tagged, "--platform", "linux/amd64", "--print-hash"];
    let found = json_of(&world.run(print).ok());
    let (sri, nix) = (found["hash"].as_str().unwrap(), found["sha256"].as_str().unwrap());
    assert_eq!(
        found,
        json!({
            "imageName": format!("{}/app", registry.address), "imageDigest": digest,
            "finalImageName": format!("{}/app", registry.address), "finalImageTag": "1",
            "os": "linux", "arch": "amd64", "hash": sri, "sha256": nix,
        })
    );
    assert!(sri.starts_with("sha256-") && sri.len() == 51, "{sri}");
    if peer("nix-hash") {
        let args = ["--flat", "--type", "sha256", "--base32", "out/a.tar"];
        let said = Said::of(world.command("nix-hash").args(args).output().unwrap());
        assert_eq!(said.ok().trim(), nix);
    }
    let both = [&print[..], &["-o", "docker-archive:out/b.tar"]].concat();
    assert_eq!(json_of(&world.run(both).ok()), found);
    assert_eq!(sha256(&world.path("out/b.tar")), hex);
    assert_eq!(world.run(["image", "ls", "--json"]).ok(), "[]\n");

    let name = pinned.as_str();
    let with = |name: &str, expect: &str, out: &[&str]| {
        world.run([&["pull", name, "--platform", "linux/amd64", "--expect", expect], out].concat())
    };
    let out = ["-o", "docker-archive:out/c.tar"];
    for expect in [&format!("sha256:{hex}"), &hex, sri, nix, &format!("sha256:{nix}")] {
        let said = with(name, expect, &out);
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{expect}");
        fs::remove_file(world.path("out/c.tar")).unwrap();
        assert_eq!(with(name, expect, &[]).ok(), format!("{digest}\n"));
    }
    let said = with(tagged, sri, &out);
    assert_eq!(
        said.stderr,
        format!(
            "warning: the tag of `{tagged}` may move, and then the expected hash is wrong; pin it: `{pinned}`\n"
        )
    );
    fs::remove_file(world.path("out/c.tar")).unwrap();
    let zeros = "0".repeat(64);
    let none = format!("sha256-{}=", "A".repeat(43));
    for out in [&out[..], &[]] {
        assert_eq!(
            with(name, &zeros, out).failed(1),
            format!(
                "error: the result is not what is expected: expected sha256:{zeros}, found sha256:{hex}\n \
                 cause: as SRI: expected {none}, found {sri}\nhelp: nothing was written\n"
            )
        );
    }
    assert!(!world.path("out/c.tar").exists());
}

#[test]
fn a_lock_file_says_what_every_blob_is_and_is_kept_to() {
    let Some((world, registry, pinned)) = served(World::new()) else { return };
    let (tagged, digest) = pinned.split_once('@').unwrap();
    let pull = |out: &str| {
        let out = format!("docker-archive:out/{out}");
        let args = ["--platform", "linux/amd64", "--lock", "out/image.lock", "-o", &out];
        world.run([&["pull", tagged], &args[..]].concat())
    };
    pull("a.tar").ok();
    let text = fs::read_to_string(world.path("out/image.lock")).unwrap();
    let lock = json_of(&text);
    assert_eq!(lock["version"], 1);
    assert_eq!(lock["imageName"], format!("{}/app", registry.address));
    assert_eq!((&lock["imageDigest"], &lock["platform"]), (&json!(digest), &json!("linux/amd64")));
    let layers = lock["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1);
    // Each can be fetched by itself.
    for blob in [&lock["config"], &layers[0]] {
        let hash = blob["digest"].as_str().unwrap();
        let hex = hash.strip_prefix("sha256:").unwrap();
        let data = format!("registry/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
        let data = world.path(&data);
        assert_eq!(format!("sha256:{}", sha256(&data)), hash);
        assert_eq!(fs::metadata(&data).unwrap().len(), blob["size"].as_u64().unwrap());
        assert!(blob["mediaType"].as_str().unwrap().starts_with("application/vnd.oci.image."));
    }
    pull("b.tar").ok();
    assert_eq!(fs::read_to_string(world.path("out/image.lock")).unwrap(), text);
    let world = world.with_base();
    world.run(["image", "copy", "base", &format!("docker://{tagged}")]).ok();
    let moved = json_of(&world.run(["image", "inspect", "--json", "base"]).ok());
    let pull = |out: &str| {
        let out = format!("docker-archive:out/{out}");
        world.run(["pull", tagged, "--lock", "out/image.lock", "-o", &out])
    };
    assert_eq!(
        pull("c.tar").failed(1),
        format!(
            "error: the image is not the one of `out/image.lock`\n cause: `manifest`: expected {}, found {}\n\
             help: nothing was written; remove the lock file to accept what the name means now\n",
            lock["manifest"]["digest"], moved["manifest_digest"]
        )
    );
    assert!(!world.path("out/c.tar").exists());
    fs::write(world.path("out/image.lock"), "{\"version\": 2}").unwrap();
    assert_eq!(
        pull("c.tar").failed(1),
        "error: the lock file `out/image.lock` is of another version\n cause: expected 1, found 2\n"
    );
}

#[test]
fn without_an_output_the_store_has_it() {
    let Some((world, _registry, pinned)) = served(World::new()) else { return };
    let (tagged, digest) = pinned.split_once('@').unwrap();
    assert_eq!(world.run(["pull", tagged]).ok(), format!("{pinned}\n"));
    assert_eq!(
        world.run(["pull", &format!("docker://{tagged}"), "--name", "mine"]).ok(),
        format!("{pinned}\n")
    );
    assert_eq!(world.run(["image", "digest", "mine"]).ok(), format!("{digest}\n"));
    world.validate("mine");
    world.run(["--offline", "build", "--print-plan", "-f", "-", "."]).failed(1);
    world.build(&format!("FROM {tagged}\nLABEL a=b\n"), &["--offline", "-t", "next"]).ok();
    world.validate("next");
    for kind in ["oci", "oci-archive"] {
        let place = format!("{kind}:out/{kind}");
        world.run(["pull", &pinned, "--name", "y:3", "-o", &place]).ok();
        assert_eq!(world.run(["image", "validate", &format!("{place}:y:3")]).ok(), "valid\n");
    }
}

#[test]
fn what_cannot_be_pulled_is_told_before_anybody_is_asked() {
    let world = World::new();
    let hash = "0".repeat(64);
    for (args, said) in [
        (
            "oci:x",
            "error: `oci:x` is not in a registry\n\
             help: `image copy` copies from layouts and archives, `image import` takes them in\n",
        ),
        (
            "h.example/x --archive-format 2",
            "error: archive format `2` is not known\nhelp: known is 1\n",
        ),
        (
            "h.example/x -o dir:y",
            "error: an image cannot be pulled to `dir:y`\n\
             help: it can go to `docker-archive:`, `oci-archive:` or `oci:`, and without `-o` to the store\n",
        ),
        (
            "h.example/x -o docker-archive:y:a:1 --name b",
            "error: `docker-archive:y:a:1` has a name, and `--name` is another one\nhelp: leave one of them out\n",
        ),
        (
            "h.example/x -o docker-archive:- --print-hash",
            "error: `--print-hash` and the archive cannot both go to standard output\n",
        ),
        (
            "h.example/x --expect md5",
            "error: `md5` is no SHA-256\nhelp: it is `sha256:HEX`, `sha256-BASE64` or Nix's 52 digits\n",
        ),
        (
            &format!("h.example/x -o oci:y --expect {hash}"),
            "error: `--expect` is for a file, and `oci:y` is a directory\n\
             help: the digest of the image is pinned in its name: `NAME@sha256:…`\n",
        ),
        (
            &format!("h.example/x --name b@sha256:{hash}"),
            &format!("error: `b@sha256:{hash}` has a digest: only a name and a tag can be given\n"),
        ),
    ] {
        assert_eq!(
            world.run([&["pull"], &args.split(' ').collect::<Vec<_>>()[..]].concat()).failed(2),
            said
        );
    }
    assert!(!world.path("y").exists());
}
