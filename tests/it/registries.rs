//! `nativebuild image` and `manifest` against Debian's docker-registry, with skopeo as the other reader and writer.

use crate::support::registry::{LOGIN, Registry};
use crate::support::{Said, World, base, peer, program};
use std::fs;
use std::process::Command;

/// A registry, and a store with an index `app:all` of two images.
fn start() -> Option<(World, Registry)> {
    if !peer("docker-registry") || !peer("skopeo") {
        return None;
    }
    let world = World::new();
    let tar = world.path("base.tar");
    fs::write(&tar, base::busybox_tar()).unwrap();
    world.give();
    for arch in ["amd64", "arm64"] {
        let platform = format!("linux/{arch}");
        let name = format!("app:{arch}");
        world.run(["image", "import", &name, tar.to_str().unwrap(), "--platform", &platform]).ok();
    }
    world.run(["image", "index", "create", "app:all", "app:amd64", "app:arm64"]).ok();
    let registry = Registry::start(&world);
    Some((world, registry))
}

fn skopeo(args: &[&str]) -> String {
    Said::of(Command::new("skopeo").args(args).output().unwrap()).ok()
}

fn image(world: &World, args: &[&str]) -> String {
    world.run([&["image"], args].concat()).ok()
}

#[test]
fn what_is_pushed_has_its_digest_and_is_told_as_docker_does() {
    let Some((world, registry)) = start() else { return };
    let name = format!("docker://{}/team/app:1", registry.address);
    let raw = image(&world, &["inspect", "--raw", "app:all"]);
    let digest = image(&world, &["digest", "app:all"]);
    let told = format!("1: digest: {} size: {}\n", digest.trim(), raw.len());
    assert_eq!(image(&world, &["copy", "app:all", &name]), told);
    assert_eq!(skopeo(&["inspect", "--tls-verify=false", "--raw", &name]), raw);
    assert_eq!(image(&world, &["digest", &name]), digest);
    assert_eq!(
        image(&world, &["digest", "--size", &name]),
        format!("{} {}\n", digest.trim(), raw.len())
    );
    assert_eq!(image(&world, &["inspect", "--raw", &name]), raw);
    assert_eq!(image(&world, &["validate", &name]), "valid\n");
    let out = world.path("out/pulled");
    let dir = format!("dir:{}", out.display());
    skopeo(&["copy", "-q", "--all", "--src-tls-verify=false", &name, &dir]);
    assert_eq!(image(&world, &["inspect", "--raw", &dir]), raw);
    // Back by digest, whole; and without `--all` this machine's image, which is told.
    let exact = format!("{}@{}", name.rsplit_once(':').unwrap().0, digest.trim());
    assert_eq!(image(&world, &["copy", "--all", &exact, "back:1"]), digest);
    world.validate("back:1");
    let one = world.run(["image", "copy", &name, "one:1"]);
    assert!(
        one.stderr
            .contains("of an index only the image for linux/amd64 is copied; `--all` copies all\n"),
        "{}",
        one.stderr
    );
    assert_eq!(one.ok(), image(&world, &["digest", "app:amd64"]));
    for args in [["copy", "app:all", &name], ["copy", &name, "x:1"], ["tag", &name, &name]] {
        let mut command = world.command(program());
        command.arg("image").args(args).env("DOCKER_CONTENT_TRUST", "1");
        let error = Said::of(command.output().unwrap()).failed(3);
        assert!(error.contains("signing is not available yet"), "{args:?}: {error}");
        Said::of(command.arg("--disable-content-trust").output().unwrap()).ok();
    }
    let wrong = format!("sha256:{}", "0".repeat(64));
    let gone = format!("docker://{}/team/none:1", registry.address);
    let said = world.run(["image", "copy", "app:all", &gone, "--expect", &wrong]);
    assert!(said.failed(1).contains("nothing was written"));
    let error = world.run(["image", "digest", &gone]).failed(1);
    assert!(error.contains("does not have"), "{error}");
}

#[test]
fn what_skopeo_pushed_is_seen_and_copied_between_repositories() {
    let Some((world, registry)) = start() else { return };
    let (from, to) = (
        format!("docker://{}/sk/app:1", registry.address),
        format!("docker://{}/other/app:2", registry.address),
    );
    let dir = format!("dir:{}", world.path("out/d").display());
    image(&world, &["copy", "app:all", &dir]);
    skopeo(&["copy", "-q", "--all", "--dest-tls-verify=false", &dir, &from]);
    let digest = image(&world, &["digest", "app:all"]);
    assert_eq!(image(&world, &["digest", &from]), digest);
    assert!(
        image(&world, &["copy", "--all", "--preserve-digests", &from, &to]).contains(digest.trim())
    );
    assert_eq!(image(&world, &["digest", &to]), digest);
    assert_eq!(image(&world, &["diff", &from, &to]), "");
    let converted = format!("docker://{}/other/app:docker", registry.address);
    let args = ["convert", "--all", "--type", "docker", &from, &converted];
    assert!(image(&world, &args).starts_with("docker: digest: sha256:"));
    let raw = skopeo(&["inspect", "--tls-verify=false", "--raw", &converted]);
    assert!(raw.contains("application/vnd.docker.distribution.manifest.list.v2+json"), "{raw}");
    skopeo(&["copy", "-q", "--src-tls-verify=false", &converted, &format!("{dir}2")]);
}

#[test]
fn tags_are_listed_given_and_taken() {
    let Some((world, registry)) = start() else { return };
    let name = |tag: &str| format!("docker://{}/t/app:{tag}", registry.address);
    image(&world, &["copy", "app:amd64", &name("b")]);
    let digest = image(&world, &["digest", "app:amd64"]);
    let size = image(&world, &["inspect", "--raw", "app:amd64"]).len();
    for tag in ["a", "c"] {
        let told = format!("{tag}: digest: {} size: {size}\n", digest.trim());
        assert_eq!(image(&world, &["tag", &name("b"), &name(tag)]), told);
    }
    let repository = format!("docker://{}/t/app", registry.address);
    assert_eq!(image(&world, &["ls-tags", &repository]), "a\nb\nc\n");
    assert_eq!(
        world.run(["image", "rm", &name("a")]).failed(2),
        format!(
            "error: `{}` would be removed from the registry\nhelp: add `--yes` when that is meant\n",
            name("a")
        )
    );
    // This registry does not delete.
    let error = world.run(["image", "rm", "--yes", &name("a")]).failed(3);
    assert!(error.contains("does not delete"), "{error}");
    assert_eq!(image(&world, &["ls-tags", &repository]), "a\nb\nc\n");
    let error = world.run(["image", "tag", "app:amd64", &name("d")]).failed(2);
    assert!(error.contains("are not in one place"), "{error}");
    let nothing = format!("docker://{}/no/app", registry.address);
    let error = world.run(["image", "ls-tags", &nothing]).failed(1);
    assert!(error.contains("has no such repository"), "{error}");
}

#[test]
fn an_index_is_made_of_what_machines_pushed() {
    let Some((world, registry)) = start() else { return };
    let name = |tag: &str| format!("docker://{}/lk/pkg:{tag}", registry.address);
    for arch in ["amd64", "arm64"] {
        image(&world, &["copy", &format!("app:{arch}"), &name(&format!("hash-{arch}"))]);
    }
    let digest = image(&world, &["digest", "app:all"]);
    let raw = image(&world, &["inspect", "--raw", "app:all"]);
    let line = |tag: &str| format!("{tag}: digest: {} size: {}\n", digest.trim(), raw.len());
    let template = name("hash-ARCH");
    let platforms = ["--platforms", "linux/amd64,linux/arm64,linux/riscv64"];
    let create = ["index", "create", &name("hash"), "--template", &template];
    let told =
        image(&world, &[&create[..], &platforms, &["--ignore-missing", "--tags", "v1"]].concat());
    assert_eq!(told, line("hash") + &line("v1"));
    let error = world.run([&["image"], &create[..], &platforms].concat()).failed(1);
    assert!(error.contains("pkg:hash-riscv64`"), "{error}");
    let spec = format!(
        "image: {0}/lk/pkg:spec\ntags: ['more']\nmanifests:\n\
         - image: {0}/lk/pkg:hash-amd64\n  platform: {{os: linux, architecture: amd64}}\n\
         - image: {0}/lk/pkg:hash-arm64\n  platform: {{os: linux, architecture: arm64}}\n",
        registry.address
    );
    fs::write(world.path("spec.yml"), spec).unwrap();
    assert_eq!(
        image(&world, &["index", "create", "--spec", "spec.yml"]),
        line("spec") + &line("more")
    );
    // One that is elsewhere is brought along.
    let elsewhere = format!("docker://{}/other/idx:1", registry.address);
    image(&world, &["index", "create", &elsewhere, &name("hash-amd64"), "app:arm64"]);
    assert_eq!(image(&world, &["digest", &elsewhere]), digest);
    assert_eq!(image(&world, &["validate", &elsewhere]), "valid\n");
    image(&world, &["index", "rm", &elsewhere, "linux/amd64"]);
    image(&world, &["index", "add", &elsewhere, "app:amd64"]);
    image(&world, &["index", "annotate", &elsewhere, "--annotation", "a=b"]);
    let raw = skopeo(&["inspect", "--tls-verify=false", "--raw", &elsewhere]);
    assert!(raw.starts_with("{\"annotations\":{\"a\":\"b\"},"), "{raw}");
    let listed = world.run(["manifest", "inspect", &name("hash")]).ok();
    // As for manifest-tool's users: what the store does not know is a name in a registry.
    let bare = name("hash").replace("docker://", "");
    assert_eq!(world.run(["manifest", "inspect", &bare]).ok(), listed);
    let head = format!(
        "Name:   {}/lk/pkg:hash (Type: application/vnd.oci.image.index.v1+json)\nDigest: {}\n * Contains 2 manifest references:\n",
        registry.address,
        digest.trim()
    );
    assert!(listed.starts_with(&head), "{listed}");
}

#[test]
fn a_private_registry_takes_a_certificate_and_a_password() {
    let Some((world, _)) = start() else { return };
    let (registry, certificate) = Registry::private(&world);
    let name = format!("docker://{}/team/app:1", registry.address);
    let creds = format!("{}={LOGIN}", registry.address);
    let login = ["--cert-file", certificate.to_str().unwrap(), "--registry-creds", &creds];
    let digest = image(&world, &["digest", "app:all"]);
    image(&world, &[&["copy", "app:all", &name], &login[..]].concat());
    assert_eq!(image(&world, &[&["digest", &name], &login[..]].concat()), digest);
    assert_eq!(image(&world, &[&["copy", "--all", &name, "back:1"], &login[..]].concat()), digest);
    let repository = name.trim_end_matches(":1");
    assert_eq!(image(&world, &[&["ls-tags", repository], &login[..]].concat()), "1\n");
    image(&world, &[&["index", "rm", &name, "linux/arm64"], &login[..]].concat());
    let listed = world.run([&["manifest", "inspect", &name], &login[..]].concat()).ok();
    assert!(listed.contains(" * Contains 1 manifest references:\n"), "{listed}");
    let error = world.run(["image", "digest", &name]).failed(3);
    assert!(error.contains("certificate"), "{error}");
    let error = world.run(["image", "digest", &name, login[0], login[1]]).failed(3);
    assert!(error.contains("refuses access"), "{error}");
}

#[test]
fn referrers_come_along() {
    let Some((world, registry)) = start() else { return };
    let layout = world.path("out/l");
    let place = format!("oci:{}:t", layout.display());
    image(&world, &["copy", "app:amd64", &place]);
    let sbom = attach(&layout);
    let line = format!("{sbom} application/x-sbom\n");
    assert_eq!(image(&world, &["referrers", &place]), line);
    let name = |repository: &str| format!("docker://{}/{repository}:1", registry.address);
    image(&world, &["copy", "--referrers", &place, &name("a")]);
    image(&world, &["copy", "--referrers", &name("a"), &name("b")]);
    image(&world, &["copy", "--referrers", &name("b"), "back:1"]);
    let again = format!("oci:{}:t", world.path("out/m").display());
    image(&world, &["copy", "--referrers", "back:1", &again]);
    for place in [&name("a"), &name("b"), "back:1", &again] {
        assert_eq!(image(&world, &["referrers", place]), line, "{place}");
        let none = image(&world, &["referrers", place, "--artifact-type", "other"]);
        assert_eq!(none, "", "{place}");
    }
    // Pushed alone it is noted as well, since this registry does not do that.
    image(&world, &["copy", &place, &name("c")]);
    assert_eq!(image(&world, &["referrers", &name("c")]), "");
    let alone = format!("oci:{}:sbom", layout.display());
    image(&world, &["copy", &alone, &name("c").replace(":1", ":sbom")]);
    assert_eq!(image(&world, &["referrers", &name("c")]), line);
    let archive = format!("oci-archive:{}", world.path("out/x.tar").display());
    let error = world.run(["image", "copy", "--referrers", "back:1", &archive]).failed(2);
    assert!(error.contains("cannot hold what refers to an image"), "{error}");
}

/// Adds an SBOM about the image `t` to a layout; gives its digest and size.
fn attach(layout: &std::path::Path) -> String {
    let put = |bytes: &[u8]| {
        let digest = nativebuild::oci::Digest::of(bytes);
        fs::write(layout.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        serde_json::json!({"digest": digest, "size": bytes.len()})
    };
    let of = |media_type: &str, bytes: &[u8]| {
        let mut part = put(bytes);
        part["mediaType"] = media_type.into();
        part
    };
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let index_type = "application/vnd.oci.image.index.v1+json";
    let mut index: serde_json::Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let subject = index["manifests"][0].clone();
    let sbom = serde_json::json!({
        "schemaVersion": 2, "mediaType": manifest_type, "artifactType": "application/x-sbom",
        "config": of("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [of("text/plain", b"parts")],
        "subject": {"mediaType": manifest_type, "digest": subject["digest"], "size": subject["size"]},
    });
    let mut entry = of(manifest_type, sbom.to_string().as_bytes());
    let line = format!("{} {}", entry["digest"].as_str().unwrap(), entry["size"]);
    let mut alone = entry.clone();
    alone["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "sbom"});
    index["manifests"].as_array_mut().unwrap().push(alone);
    entry["artifactType"] = "application/x-sbom".into();
    let list =
        serde_json::json!({"schemaVersion": 2, "mediaType": index_type, "manifests": [entry]});
    let mut named = of(index_type, list.to_string().as_bytes());
    let tag = subject["digest"].as_str().unwrap().replace(':', "-");
    named["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": tag});
    index["manifests"].as_array_mut().unwrap().push(named);
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    line
}

#[test]
fn a_build_takes_mirrors_from_its_command_line() {
    let Some((world, registry)) = start() else { return };
    world.run(["image", "copy", "app:all", &format!("docker://{}/app:all", registry.address)]).ok();
    let name = "127.0.0.1:1/app:all";
    let dockerfile = format!("FROM {name}\nLABEL a=b\n");
    let fresh = |args: &[&str]| {
        world.run(["prune", "--all"]).ok();
        let _not_there = world.run(["image", "rm", name]);
        world.build(&dockerfile, args)
    };
    let text = fresh(&[]).failed(3);
    assert!(text.contains("127.0.0.1:1"), "{text}");
    let mirror = format!("127.0.0.1:1=http://{}", registry.address);
    fresh(&["--mirror", &mirror, "-t", "mirrored"]).ok();
    world.validate("mirrored");
    assert_eq!(
        fresh(&["--mirror", "near.example"]).failed(2),
        "error: mirror `near.example` must start with http:// or https://\n\
         help: write `--mirror REGISTRY=https://HOST` or `--mirror https://HOST`\n"
    );
    // kaniko's words for the same.
    world.run(["prune", "--all"]).ok();
    let _not_there = world.run(["image", "rm", name]);
    let context = world.context();
    let kaniko = |flags: &[&str]| {
        let fixed = ["kaniko-executor", "--no-push", "-c", context.to_str().unwrap()];
        world.run([&fixed[..], flags].concat())
    };
    let map = format!("quay.io=quay.example;127.0.0.1:1={}", registry.address);
    kaniko(&["--registry-map", &map]).ok();
    assert_eq!(
        kaniko(&["--registry-map", "near.example"]).failed(2),
        "error: `--registry-map near.example` names no two registries\n\
         help: write `REGISTRY=HOST[:PORT]`, several with `;` between them\n"
    );
}
