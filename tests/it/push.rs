//! `build --push`: what other tools read in Debian's docker-registry after it.

use crate::support::registry::Registry;
use crate::support::{Said, World, peer};
use std::fs;
use std::process::Command;

fn worlds() -> Vec<World> {
    if !["skopeo", "docker-registry"].into_iter().all(peer) {
        return Vec::new();
    }
    World::each().into_iter().map(World::with_base).collect()
}

fn skopeo(args: &[&str]) -> String {
    Said::of(Command::new("skopeo").args(args).output().unwrap()).ok()
}

/// The digest that a registry has under a name.
fn published(name: &str) -> String {
    skopeo(&[
        "inspect",
        "--no-tags",
        "--tls-verify=false",
        "--format={{.Digest}}",
        &format!("docker://{name}"),
    ])
    .trim()
    .to_owned()
}

#[test]
fn an_image_is_pushed_under_all_its_names() {
    for world in worlds() {
        let registry = Registry::start(&world);
        let host = &registry.address;
        let (one, two, other) =
            (format!("{host}/a/b:1"), format!("{host}/a/b:2"), format!("{host}/c:1"));
        let args = ["--push", "-t", &one, "-t", &two, "-t", &other];
        let dockerfile = "FROM base AS below\nRUN echo 1 > /one\nFROM below\nRUN echo 2 > /two\n";
        let said = world.build(dockerfile, &args).ok();
        let lines: Vec<&str> = said.lines().collect();
        let digest = lines[0];
        let blob = format!("images/blobs/{}", digest.replace(':', "/"));
        let size = fs::metadata(world.store().join(blob)).unwrap().len();
        let line = |tag: &str| format!("{tag}: digest: {digest} size: {size}");
        assert_eq!(lines[1..], [line("1"), line("2"), line("1")]);
        for name in [&one, &two, &other] {
            assert_eq!(published(name), digest);
        }
        // Everything is there: the layers are those of the store, byte by byte.
        let copied = world.path("copied");
        let to = format!("oci:{}:x", copied.display());
        skopeo(&["copy", "--quiet", "--src-tls-verify=false", &format!("docker://{other}"), &to]);
        assert_eq!(world.run(["image", "validate", copied.to_str().unwrap()]).ok(), "valid\n");
        // Once more: nothing new, the same answer; quietly only the digest.
        let again = world.build(dockerfile, &args);
        assert!(again.stderr.contains("0 of 4 blobs were not there"), "{}", again.stderr);
        assert_eq!(again.ok(), said);
        let quiet = world.build(dockerfile, &["-q", "-o", "type=registry", "-t", &one]).ok();
        assert_eq!(quiet, format!("{digest}\n"));
    }
}

#[test]
fn an_index_is_pushed_whole_and_by_its_digest() {
    for world in worlds() {
        let registry = Registry::start(&world);
        let name = format!("{}/multi", registry.address);
        let output = format!("type=image,name={name},push=true,push-by-digest=true");
        let dockerfile =
            "FROM scratch\nARG TARGETARCH\nENV A=$TARGETARCH\nCOPY --chmod=755 Dockerfile /d\n";
        let args = ["--platform", "linux/amd64,linux/arm64", "-o", &output];
        let said = world.build(dockerfile, &args).ok();
        let (digest, line) = said.split_once('\n').unwrap();
        assert!(line.starts_with(&format!("{digest}: digest: {digest} size: ")), "{line}");
        let by_digest = format!("{name}@{digest}");
        assert_eq!(published(&by_digest), digest);
        let copied = world.path("copied");
        let to = format!("oci:{}:x", copied.display());
        let from = format!("docker://{by_digest}");
        skopeo(&["copy", "--quiet", "--all", "--src-tls-verify=false", &from, &to]);
        assert_eq!(world.run(["image", "validate", copied.to_str().unwrap()]).ok(), "valid\n");
        let tags = Command::new("skopeo")
            .args(["list-tags", "--tls-verify=false", &format!("docker://{name}")])
            .output()
            .unwrap();
        let said = Said::of(tags);
        assert!(!said.stdout.contains("latest"), "{said:?}");
        // Who pulls one platform has a whole image, and the rest of the index was never there.
        world.file("Dockerfile", format!("FROM {by_digest}\n"));
        let context = world.context();
        world.run(["build", "--root", "second", "-q", context.to_str().unwrap()]).ok();
        let said = world.run(["image", "validate", "--root", "second", &by_digest]);
        assert!(said.stderr.starts_with("not here: "), "{}", said.stderr);
        assert_eq!(said.ok(), "valid\n");
    }
}

#[test]
fn kaniko_pushes_to_its_destinations() {
    for world in worlds() {
        let registry = Registry::start(&world);
        let name = format!("{}/app:1", registry.address);
        world.file("Dockerfile", "FROM scratch\nCOPY Dockerfile /d\n");
        let context = world.context();
        let digests = world.path("out/digests");
        let mut args = vec!["kaniko-executor", "-c", context.to_str().unwrap(), "-d", &name];
        args.extend(["--digest-file", digests.to_str().unwrap()]);
        let said = world.run(args).ok();
        assert_eq!(published(&name), fs::read_to_string(digests).unwrap());
        assert_eq!(said.lines().count(), 2, "{said}");
    }
}

/// What is asked for is never skipped silently.
#[test]
fn signatures_that_are_asked_for_are_missed() {
    let Some(world) = worlds().into_iter().next() else { return };
    let registry = Registry::start(&world);
    let name = format!("{}/signed:1", registry.address);
    world.file("Dockerfile", "FROM scratch\nCOPY Dockerfile /d\n");
    let run = |set: (&str, &str), args: &[&str]| {
        let mut build = world.command(crate::support::program());
        build.env(set.0, set.1).args(["build", "--push", "-q", "-t", &name]).args(args);
        Said::of(build.arg(world.context()).output().unwrap())
    };
    let asked = |by: &str| {
        format!(
            "error: signing is not available yet; --disable-content-trust goes on without it\n cause: {by} asks for signatures\n"
        )
    };
    let passphrase = ("DOCKER_CONTENT_TRUST_REPOSITORY_PASSPHRASE", "secret");
    for (set, by) in [
        (("DOCKER_CONTENT_TRUST", "1"), "DOCKER_CONTENT_TRUST=1"),
        (passphrase, "DOCKER_CONTENT_TRUST_REPOSITORY_PASSPHRASE"),
    ] {
        assert_eq!(run(set, &[]).failed(3), asked(by));
        run(set, &["--disable-content-trust"]).ok();
    }
    // What the store has from elsewhere is no matter of trust.
    world.file("Dockerfile", format!("FROM {name}\n"));
    run(("DOCKER_CONTENT_TRUST", "1"), &["--push=false"]).ok();
    world.run(["image", "rm", &name]).ok();
    let said = run(("DOCKER_CONTENT_TRUST", "1"), &["--push=false"]).failed(3);
    assert!(said.contains("signing is not available yet"), "{said}");
    run(passphrase, &["--push=false"]).ok();
}

/// The second step ends when the registry has the first step's layer, and not before.
#[test]
fn layers_are_uploaded_while_later_steps_run() {
    for world in worlds() {
        let registry = Registry::start(&world);
        let host = &registry.address;
        // The registry lists a repository once it has a blob.
        let dockerfile = format!(
            "FROM base\nRUN echo 1 > /one\nRUN n=0; until wget -q -O - http://{host}/v2/_catalog | grep early; \
             do n=$((n + 1)); [ $n -lt 600 ] || exit 1; sleep 0.1; done\n"
        );
        let name = format!("{host}/early:1");
        let said = world.build(&dockerfile, &["--push", "--network", "host", "-t", &name]).ok();
        assert_eq!(Some(&*published(&name)), said.lines().next());
    }
}
