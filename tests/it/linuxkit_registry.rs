//! LinuxKit packages and registries: what is published is not built, and what is needed of it comes into the cache.

use crate::linuxkit::{FOO, commit, digest, pkg, pkg_command, validate_cache, world};
use crate::support::registry::{LOGIN, Registry};
use crate::support::{Said, World, peer};
use std::process::Command;

/// Needs a registry, and skopeo to fill it.
fn worlds() -> Vec<World> {
    if !["skopeo", "docker-registry"].into_iter().all(peer) {
        return Vec::new();
    }
    world(World::each())
}

/// Builds `pkg/foo` for two platforms, publishes it and empties the cache; gives its full name.
fn publish(world: &World, registry: &str) -> String {
    let org = format!("{registry}/acme");
    let build =
        ["pkg", "build", "--platforms", "linux/amd64,linux/s390x", "--org", &org, "pkg/foo"];
    pkg(world, &build).ok();
    let name = pkg(world, &["pkg", "show-tag", "--org", &org, "pkg/foo"]).ok().trim().to_owned();
    copy(world, &name, &name, &["--dest-tls-verify=false"]);
    pkg(world, &["cache", "clean"]).ok();
    name
}

/// Copies an image of the cache to a registry.
fn copy(world: &World, from: &str, to: &str, flags: &[&str]) {
    let mut copy = Command::new("skopeo");
    copy.args(["copy", "--quiet", "--all"]).args(flags);
    copy.arg(format!("oci:{}:{from}", world.path(".linuxkit/cache").display()));
    Said::of(copy.arg(format!("docker://{to}")).output().unwrap()).ok();
}

fn names(world: &World) -> Vec<String> {
    let all = pkg(world, &["cache", "ls"]).ok();
    all.lines().skip(1).map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn what_a_registry_has_is_neither_built_nor_fetched() {
    for world in worlds() {
        commit(&world, &FOO);
        let registry = Registry::start(&world);
        let name = publish(&world, &registry.address);
        let org = format!("{}/acme", registry.address);
        let build = |platforms: &str| {
            let args = ["pkg", "build", "--platforms", platforms, "--org", &org, "pkg/foo"];
            pkg(&world, &args)
        };
        assert_eq!(
            build("linux/s390x").ok(),
            format!(
                "Building \"{name}\"\nchecking for {name} in local cache...\n\
                 {name} s390x not found in local cache, checking registry\n\
                 found {name} s390x on registry, skipping build\nBuild complete, not pushing, all done.\n"
            )
        );
        assert_eq!(names(&world), Vec::<String>::new());
        // Only what it lacks is built.
        build("linux/s390x,linux/arm64").ok();
        assert_eq!(names(&world), [name.clone(), format!("{name}-arm64")]);
        // A registry that is gone has nothing, which is said once.
        drop(registry);
        let said = build("linux/s390x,linux/amd64");
        assert_eq!(
            said.stderr.matches("counts as one that has nothing").count(),
            1,
            "{}",
            said.stderr
        );
        assert!(said.ok().contains("amd64 not found, will build"));
        assert_eq!(names(&world).len(), 4);
        validate_cache(&world);
    }
}

/// A package that stands on a published one: that one is brought into the cache, whatever comes first.
#[test]
fn a_published_package_is_fetched_when_another_stands_on_it() {
    for world in worlds() {
        commit(&world, &FOO);
        let registry = Registry::start(&world);
        let name = publish(&world, &registry.address);
        world.file("pkg/top/build.yml", "image: top\narches: [amd64]\n");
        let dockerfile = format!("FROM {name}\nCOPY --from={name} /bin/hello /again\n");
        world.file("pkg/top/Dockerfile", dockerfile);
        commit(&world, &[]);
        let org = format!("{}/acme", registry.address);
        for dirs in [["pkg/foo", "pkg/top"], ["pkg/top", "pkg/foo"]] {
            pkg(&world, &["cache", "clean"]).ok();
            let args = ["pkg", "build", "--platforms", "linux/amd64", "--org", &org];
            let said = pkg(&world, &[&args[..], &dirs].concat());
            assert_eq!(said.code, 0, "{}", said.stderr);
            let found = names(&world);
            assert!(found.contains(&name) && found.contains(&format!("{name}-amd64")), "{found:?}");
            assert!(!found.contains(&format!("{name}-s390x")));
            validate_cache(&world);
        }
        // Alone it uses the registry and leaves nothing behind.
        pkg(&world, &["cache", "clean"]).ok();
        let alone = ["pkg", "build", "--platforms", "linux/amd64", "pkg/top"];
        pkg(&world, &alone).ok();
        assert!(!names(&world).contains(&name));
        let precache = [&alone[..], &["--force", "--precache-images"]].concat();
        pkg(&world, &precache).ok();
        assert!(names(&world).contains(&name));
        // What is in the cache is used when the registry is gone, unless it may not be.
        drop(registry);
        let again = [&alone[..], &["--force", "--disable-cache"]].concat();
        pkg(&world, &again).ok();
        validate_cache(&world);
    }
}

#[test]
fn a_mirror_stands_in_for_a_registry() {
    for world in worlds() {
        commit(&world, &FOO);
        pkg(&world, &["pkg", "build", "--platforms", "linux/amd64", "pkg/foo"]).ok();
        let name = pkg(&world, &["pkg", "show-tag", "pkg/foo"]).ok().trim().to_owned();
        let registry = Registry::start(&world);
        let there = format!("{}/{name}", registry.address);
        copy(&world, &format!("docker.io/{name}"), &there, &["--dest-tls-verify=false"]);
        let wanted = digest(&world, &format!("docker.io/{name}"));
        let mirror = format!("http://{}", registry.address);
        let pull = |args: &[&str], variable: &str| {
            pkg(&world, &["cache", "clean"]).ok();
            let all = [&["cache", "pull"], args, &[name.as_str()]].concat();
            Said::of(pkg_command(&world, &all).env("LINUXKIT_MIRROR", variable).output().unwrap())
        };
        let line = format!("docker.io/{name} {wanted}\n");
        assert_eq!(pull(&["--mirror", &mirror], "").ok(), line);
        assert_eq!(
            pull(&["-mirror", &format!("docker.io={mirror}")], "http://127.0.0.1:1").ok(),
            line
        );
        assert_eq!(pull(&[], &format!("quay.io=http://127.0.0.1:1 {mirror}")).ok(), line);
        assert_eq!(names(&world), [format!("docker.io/{name}"), format!("docker.io/{name}-amd64")]);
        validate_cache(&world);
        assert_eq!(pull(&["--mirror", "mirror.example"], "").code, 2);
        // Scripts know two exit codes, of `cache` too.
        assert!(pull(&[], "").failed(1).contains("cannot be reached"));
        // What a registry has can go.
        pkg(&world, &["cache", "clean"]).ok();
        pkg(&world, &["pkg", "build", "--platforms", "linux/amd64,linux/arm64", "pkg/foo"]).ok();
        let full = format!("docker.io/{name}-amd64");
        let rm = ["cache", "rm", "--published-only", "--mirror", &mirror, &full];
        assert_eq!(pkg(&world, &rm).ok(), "removed 0 files, 0 bytes\n");
        assert_eq!(names(&world).len(), 3);
        let one = format!("{}/{name}-amd64", registry.address);
        copy(&world, &full, &one, &["--dest-tls-verify=false"]);
        pkg(&world, &["cache", "clean", "--published-only", "--mirror", &mirror]).ok();
        assert_eq!(names(&world), [format!("docker.io/{name}"), format!("docker.io/{name}-arm64")]);
        validate_cache(&world);
    }
}

/// TLS with an authority of the registry's own, and a password.
#[test]
fn a_private_registry_takes_a_certificate_and_a_password() {
    for world in worlds() {
        if !["openssl", "perl"].into_iter().all(peer) {
            return;
        }
        commit(&world, &FOO);
        let (registry, certificate) = Registry::private(&world);
        pkg(&world, &["pkg", "build", "--platforms", "linux/amd64", "pkg/foo"]).ok();
        let name = pkg(&world, &["pkg", "show-tag", "pkg/foo"]).ok().trim().to_owned();
        let there = format!("{}/{name}", registry.address);
        let flags = ["--dest-tls-verify=false", "--dest-creds", LOGIN];
        copy(&world, &format!("docker.io/{name}"), &there, &flags);
        pkg(&world, &["cache", "clean"]).ok();
        let (pem, creds) = (certificate.to_str().unwrap(), format!("{}={LOGIN}", registry.address));
        let base = format!("FROM {there}\nCOPY build.yml /\n");
        world.file("pkg/top/Dockerfile", base);
        world.file("pkg/top/build.yml", "image: top\narches: [amd64]\n");
        commit(&world, &[]);
        let build = |args: &[&str]| {
            let all = [&["pkg", "build", "--precache-images"], args, &["pkg/top"]].concat();
            let mut command = pkg_command(&world, &all);
            Said::of(command.env("NO_PROXY", "127.0.0.1").output().unwrap())
        };
        let text = build(&[]).failed(1);
        assert!(text.contains("certificate"), "{text}");
        let text = build(&["--cert-file", pem]).failed(1);
        assert!(text.contains("refuses access") && text.contains("--registry-creds"), "{text}");
        let wrong = format!("{}=me:wrong-secret", registry.address);
        let text = build(&["--cert-file", pem, "--registry-creds", &wrong]).failed(1);
        assert!(text.contains("refuses access") && !text.contains("wrong-secret"), "{text}");
        build(&["--cert-file", pem, "--registry-creds", &creds]).ok();
        assert!(names(&world).contains(&there), "{:?}", names(&world));
        validate_cache(&world);
        assert_eq!(build(&["--cert-file", "/nonexistent"]).code, 2);
        assert_eq!(build(&["--registry-creds", "secret"]).code, 2);
    }
}

/// It was told once for each platform, and with the place of logins instead of what the registry said.
#[test]
fn a_registry_that_refuses_is_told_once_with_its_status() {
    for world in worlds() {
        if !peer("perl") {
            return;
        }
        commit(&world, &FOO);
        let registry = Registry::with_password(&world);
        let org = format!("{}/acme", registry.address);
        let platforms = "linux/s390x,linux/arm64";
        let said =
            pkg(&world, &["pkg", "build", "--platforms", platforms, "--org", &org, "pkg/foo"]);
        let told: Vec<&str> =
            said.stderr.lines().filter(|line| line.contains("counts as")).collect();
        assert_eq!(told.len(), 1, "{}", said.stderr);
        let start = format!(
            "registry `{0}` counts as one that has nothing: GET http://{0}/v2/acme/foo/manifests/",
            registry.address
        );
        assert!(told[0].starts_with(&start), "{}", told[0]);
        let status =
            ": status 401: UNAUTHORIZED (authentication required); there is no login for it in `";
        assert!(told[0].contains(status), "{}", told[0]);
        said.ok();
    }
}
