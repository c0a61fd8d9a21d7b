//! Shared caches in images, of several platforms, with kaniko's flags, and where registries are not what they should be.

use crate::support::faults::{Fault, Faults};
use crate::support::registry::Registry;
use crate::support::{Said, World, peer, program};
use std::fs;
use std::path::Path;
use std::process::Command;

const DOCKERFILE: &str = "FROM base AS tools\nRUN echo tool > /tool\n\
    FROM base\nCOPY a /a\nCOPY --from=tools /tool /copied\nRUN cat /copied > /t\n";

fn fresh(world: &World, store: &str, args: &[&str]) -> Said {
    let tar = world.path("base.tar");
    world.run(["image", "import", "--root", store, "base", tar.to_str().unwrap()]).ok();
    let context = world.context();
    let fixed = ["build", "--progress", "plain", "--root", store];
    world.run(fixed.iter().chain(args).copied().chain([context.to_str().unwrap()]))
}

fn ran(said: &Said) -> bool {
    said.stderr.contains("isolation: ")
}

fn ready() -> Option<World> {
    let there = peer("docker-registry") && peer("skopeo");
    let world = there.then(|| World::new().with_base())?;
    world.file("a", "a").file("Dockerfile", DOCKERFILE);
    Some(world)
}

#[test]
fn an_image_brings_the_steps_of_its_own_layers() {
    let Some(world) = ready() else { return };
    let registry = Registry::start(&world);
    let name = format!("{}/app:1", registry.address);
    let push = ["--push", "-t", &name, "--source-date-epoch=1700000000"];
    let first = fresh(&world, "one", &[&push[..], &["--cache-to", "type=inline"]].concat());
    let digest = first.ok();
    // BuildKit's argument asks for the same, and the same input gives the same image.
    let argument = ["--build-arg", "BUILDKIT_INLINE_CACHE=1"];
    let other = fresh(&world, "other", &[&push[..], &argument[..]].concat());
    assert!(!other.stderr.contains("warning"), "{other:?}");
    assert_eq!(other.ok(), digest);
    let second = fresh(
        &world,
        "two",
        &[&push[..], &["--cache-from", &name, "--cache-to", "type=inline"]].concat(),
    );
    assert!(!ran(&second), "{second:?}");
    assert_eq!(second.ok(), digest);
    // Other tools read it as an image, and one that stands on it does not have its records.
    let copy = world.path("copy");
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["copy", "--quiet", "--src-tls-verify=false"]);
    skopeo.args([format!("docker://{name}"), format!("oci:{}:x", copy.display())]);
    Said::of(skopeo.output().unwrap()).ok();
    world.give();
    world.run(["image", "validate", &format!("oci:{}:x", copy.display())]).ok();
    assert!(find(&copy, "nativebuild.cache.v1"));
    world.file("Dockerfile", format!("FROM {name}\nCOPY a /b\n"));
    let out = world.path("out/above");
    let output = format!("type=oci,tar=false,dest={}", out.display());
    fresh(&world, "two", &["-o", &output]).ok();
    assert!(!find(&out, "nativebuild.cache.v1"));
}

/// Whether a document of a layout has this word.
fn find(layout: &Path, word: &str) -> bool {
    let blobs = fs::read_dir(layout.join("blobs/sha256")).unwrap();
    blobs.into_iter().any(|entry| {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        bytes.starts_with(b"{") && String::from_utf8_lossy(&bytes).contains(word)
    })
}

#[test]
fn all_platforms_of_a_build_are_in_one_cache() {
    let Some(world) = ready() else { return };
    let registry = Registry::start(&world);
    let dockerfile = "FROM scratch AS x\nARG TARGETARCH\nCOPY a /$TARGETARCH\nFROM scratch\nCOPY --link a /l\nCOPY --from=x / /x\n";
    world.file("Dockerfile", dockerfile);
    let name = format!("{}/multi:1", registry.address);
    let cache = format!("{}/multi:cache", registry.address);
    let args = ["--platform", "linux/amd64,linux/arm64", "--source-date-epoch=1700000000"];
    let to = format!("type=registry,ref={cache}");
    let inline = ["--cache-to", &to, "--cache-to", "type=inline", "--push", "-t", &name];
    let digest = fresh(&world, "one", &[&args[..], &inline[..]].concat()).ok();
    for (store, from) in [("two", &cache), ("three", &name)] {
        let from = ["--cache-from", from, "--cache-to", "type=inline"];
        let said = fresh(&world, store, &[&args[..], &from[..]].concat());
        assert!(!ran(&said), "{said:?}");
        assert!(!said.stderr.contains("warning"), "{said:?}");
        assert_eq!(said.ok().lines().next(), digest.lines().next());
    }
    // One of them alone finds its steps, too.
    let said = fresh(&world, "four", &["--platform=linux/arm64", args[2], "--cache-from", &cache]);
    assert!(!ran(&said), "{said:?}");
}

#[test]
fn kaniko_keeps_its_steps_beside_the_destination() {
    let Some(world) = ready() else { return };
    let registry = Registry::start(&world);
    let name = format!("{}/app:1", registry.address);
    let context = world.context();
    let run = |store: &str, args: &[&str]| {
        let tar = world.path("base.tar");
        world.run(["image", "import", "--root", store, "base", tar.to_str().unwrap()]).ok();
        let mut command = world.command(program());
        command.env("NATIVEBUILD_ROOT", world.path(store));
        command.args(["kaniko-executor", "-c", context.to_str().unwrap(), "--cache=true"]);
        Said::of(command.args(args).output().unwrap())
    };
    let first = run("one", &["-d", &name]);
    assert!(first.stderr.contains("/app/cache:nativebuild: 4 steps"), "{first:?}");
    let second = run("two", &["-d", &name, "--no-push-cache"]);
    assert!(!ran(&second) && !second.stderr.contains("cache to"), "{second:?}");
    assert_eq!(second.ok(), first.ok());
    let repository = format!("{}/shared/steps", registry.address);
    run("one", &["-d", &name, "--no-push", "--cache-repo", &repository]).ok();
    let third = run("three", &["--no-push", "--cache-repo", &repository]);
    assert!(!ran(&third), "{third:?}");
    run("one", &["--no-push", "--cache-repo", &format!("{repository}:1")]).failed(2);
}

#[test]
fn what_a_registry_refuses_is_an_error_unless_it_is_to_be_ignored() {
    let Some(world) = ready() else { return };
    let registry = Registry::start(&world);
    let image = format!("{}/app:1", registry.address);
    fresh(&world, "one", &["--push", "-t", &image]).ok();
    let said = fresh(&world, "one", &["--cache-to", &image]).failed(1);
    assert!(said.contains("is an image, which the cache would replace"), "{said}");
    fresh(&world, "one", &["--cache-to", &image, "-t", &image]).failed(2);
    let none = format!("{}/a:1", closed());
    let said = fresh(&world, "one", &["--offline", "--cache-to", &none]);
    assert!(said.stderr.contains("this is offline") && !ran(&said), "{said:?}");
    said.failed(3);
    let ignored = format!("type=registry,ref={none},ignore-error=true");
    let said = fresh(&world, "one", &["--offline", "--cache-to", &ignored, "--cache-from", &none]);
    assert_eq!(said.stderr.matches("warning:").count(), 1, "{said:?}");
    said.ok();
    // A cache that nobody answers for is asked once, and the build goes on.
    let from = format!("{none},{}/b:1", closed());
    let said = fresh(&world, "two", &["--cache-from", &from, "--cache-from", &image]);
    assert!(said.stderr.contains("an image without an inline cache"), "{said:?}");
    assert!(said.stderr.contains("cannot be reached"), "{said:?}");
    said.ok();
}

/// An address where nobody listens.
fn closed() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn a_registry_that_breaks_off_costs_no_more_than_a_miss() {
    let Some(world) = ready() else { return };
    let registry = Registry::start(&world);
    let cache = format!("{}/app:cache", registry.address);
    let epoch = "--source-date-epoch=1700000000";
    let to = format!("type=registry,ref={cache},mode=max");
    let digest = fresh(&world, "one", &[epoch, "--cache-to", &to]).ok();
    for (at, fault) in
        [Fault::Status(404, None), Fault::Status(403, None), Fault::Damage, Fault::Endless]
            .into_iter()
            .enumerate()
    {
        let fault = move |asked: &crate::support::faults::Asked| {
            (asked.is_blob() && asked.method == "GET").then(|| fault.clone())
        };
        let proxy = Faults::before(&registry.address, fault);
        let from = format!("{}/app:cache", proxy.host());
        let said = fresh(&world, &format!("two-{at}"), &[epoch, "--cache-from", &from]);
        assert!(said.stderr.contains("cannot use the cache"), "{said:?}");
        assert_eq!(said.ok(), digest);
    }
}

/// The second step ends when the registry has the first step's layer, and not before.
#[test]
fn layers_are_uploaded_while_later_steps_of_the_stage_run() {
    let Some(world) = ready() else { return };
    let registry = Registry::start(&world);
    let host = &registry.address;
    world.file(
        "Dockerfile",
        format!(
            "FROM base\nRUN echo 1 > /one\nRUN n=0; until wget -q -O - http://{host}/v2/_catalog | grep early; \
             do n=$((n + 1)); [ $n -lt 600 ] || exit 1; sleep 0.1; done\n"
        ),
    );
    let cache = format!("{host}/early:cache");
    fresh(&world, "one", &["--network", "host", "--cache-to", &cache]).ok();
    // Beside a push to the same repository every blob goes there once.
    world.file("Dockerfile", "FROM base\nRUN dd if=/dev/urandom of=/big bs=65536 count=64\n");
    let proxy = Faults::before(&registry.address, |_| None);
    let (image, cache) = (format!("{}/app:1", proxy.host()), format!("{}/app:cache", proxy.host()));
    fresh(&world, "one", &["--push", "-t", &image, "--cache-to", &cache]).ok();
    let sent = proxy.take().sent;
    assert!(sent < 7 << 20, "{sent}");
}

#[test]
fn what_was_not_asked_for_is_not_taken() {
    let Some(world) = ready() else { return };
    let dir = world.path("cache");
    let to = format!("type=local,dest={},mode=max", dir.display());
    let from = format!("type=local,src={}", dir.display());
    let epoch = "--source-date-epoch=1700000000";
    let digest = fresh(&world, "one", &[epoch, "--cache-to", &to]).ok();
    let cached = |store: &str, args: &[&str]| {
        let said = fresh(&world, store, &[&[epoch, "--cache-from", &from], args].concat());
        let cached = said.stderr.matches("CACHED").count();
        (cached, said.ok())
    };
    assert_eq!(cached("two", &[]), (4, digest.clone()));
    assert_eq!(cached("three", &["--no-cache"]), (0, digest.clone()));
    // The other stage is the same again.
    assert_eq!(cached("four", &["--no-cache-filter", "tools"]), (3, digest.clone()));
    // Layers in another form are no use, and the steps are done.
    assert_eq!(cached("five", &["--compression", "zstd"]).0, 0);
    // Trees that are no differences: what came is unpacked for what comes after it.
    world.file("Dockerfile", DOCKERFILE.to_owned() + "RUN cat /a /t > /both\n");
    let wanted = fresh(&world, "one", &[epoch]).ok();
    for (store, snapshots) in [("six", "whole"), ("seven", "overlay")] {
        assert_eq!(cached(store, &["--snapshots", snapshots]), (4, wanted.clone()));
    }
}
