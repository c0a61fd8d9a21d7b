//! `nativebuild image` over everything that is no registry: every kind of place to every other, against skopeo and umoci.

use crate::support::registry::Registry;
use crate::support::{World, base, peer};
use std::fs;
use std::path::Path;

const PLATFORMS: [&str; 3] = ["linux/amd64", "linux/arm64", "linux/s390x"];

/// A store with `app:all`, an index of three images that differ.
fn world() -> World {
    let world = World::new();
    let tar = world.path("base.tar");
    fs::write(&tar, base::busybox_tar()).unwrap();
    world.give();
    for platform in PLATFORMS {
        let name = format!("app:{}", platform.split('/').nth(1).unwrap());
        world.run(["image", "import", &name, tar.to_str().unwrap(), "--platform", platform]).ok();
    }
    world.run(["image", "index", "create", "app:all", "app:amd64", "app:arm64", "app:s390x"]).ok();
    world
}

fn image(world: &World, args: &[&str]) -> String {
    world.run([&["image"], args].concat()).ok()
}

fn at(world: &World, transport: &str, name: &str) -> String {
    format!("{transport}:{}", world.path("out").join(name).display())
}

fn skopeo(world: &World, args: &[&str]) -> String {
    let mut command = world.command("skopeo");
    let said = command.args(["--insecure-policy"]).args(args).output().unwrap();
    crate::support::Said::of(said).ok()
}

#[test]
fn an_index_stays_whole_from_everywhere_to_everywhere() {
    let world = world();
    let digest = image(&world, &["digest", "app:all"]);
    let places = |round: &str| {
        [
            format!("{}:t", at(&world, "oci", &format!("{round}.d"))),
            format!("{}:t", at(&world, "oci-archive", &format!("{round}.tar"))),
            at(&world, "dir", &format!("{round}.dir")),
            format!("copy:{round}"),
        ]
    };
    for source in places("first") {
        image(&world, &["copy", "app:all", &source]);
    }
    for (n, source) in places("first").iter().enumerate() {
        assert_eq!(image(&world, &["digest", source]), digest, "{source}");
        assert_eq!(image(&world, &["validate", source]), "valid\n", "{source}");
        for target in places(&format!("second-{n}")) {
            let said = image(&world, &["copy", "--preserve-digests", source, &target]);
            assert_eq!(image(&world, &["digest", &target]), digest, "{source} {target}");
            assert!(said == digest || target.starts_with("oci-archive:"), "{source} {target}");
            assert_eq!(image(&world, &["validate", &target]), "valid\n", "{target}");
        }
    }
}

#[test]
fn skopeo_reads_what_is_written_and_the_other_way_round() {
    if !peer("skopeo") {
        return;
    }
    let world = world();
    let raw = image(&world, &["inspect", "--raw", "app:all"]);
    for (kind, name) in [("oci", "a:t"), ("oci-archive", "b.tar:t"), ("dir", "c")] {
        let place = at(&world, kind, name);
        image(&world, &["copy", "app:all", &place]);
        assert_eq!(skopeo(&world, &["inspect", "--raw", &place]), raw, "{place}");
        let back = at(&world, kind, &format!("back-{name}"));
        skopeo(&world, &["copy", "-q", "--all", "--preserve-digests", &place, &back]);
        assert_eq!(image(&world, &["inspect", "--raw", &back]), raw, "{back}");
        assert_eq!(image(&world, &["validate", &back]), "valid\n", "{back}");
        let one = at(&world, "dir", &format!("one-{kind}"));
        skopeo(&world, &["copy", "-q", "--override-arch", "arm64", &place, &one]);
        let wanted = image(&world, &["inspect", "--raw", "app:arm64"]);
        assert_eq!(image(&world, &["inspect", "--raw", &one]), wanted, "{one}");
    }
    let archive = at(&world, "docker-archive", "d.tar");
    let named = format!("{archive}:app:1");
    image(&world, &["copy", "app:all", &named, "--platform", "linux/s390x"]);
    let config = image(&world, &["inspect", "--config", "app:s390x"]);
    let found = skopeo(&world, &["inspect", "--raw", "--config", &format!("{archive}:app:1")]);
    let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(parsed(&found)["rootfs"], parsed(&config)["rootfs"]);
    let back = at(&world, "docker-archive", "e.tar");
    skopeo(&world, &["copy", "-q", &named, &format!("{back}:x/y:2")]);
    image(&world, &["copy", &format!("{back}:x/y:2"), "again:1"]);
    world.validate("again:1");
    let rootfs = |name: &str| world.config(name)["rootfs"].clone();
    let foreign = world.run(["image", "inspect", "--json", "--platform", "linux/s390x", "again:1"]);
    assert_eq!(parsed(&foreign.ok())["config"]["rootfs"], rootfs("app:amd64"));
}

#[test]
fn umoci_unpacks_what_is_written() {
    if !peer("umoci") {
        return;
    }
    let world = world();
    image(&world, &["copy", "app:amd64", &at(&world, "oci", "u:t")]);
    let (layout, bundle) = (world.path("out/u:t"), world.path("out/bundle"));
    let mut command = world.command("umoci");
    command.args(["unpack", "--rootless", "--image"]).arg(&layout).arg(&bundle);
    crate::support::Said::of(command.output().unwrap()).ok();
    assert!(bundle.join("rootfs/bin/busybox").is_file());
}

#[test]
fn a_form_of_one_image_takes_one_and_says_what_it_cannot() {
    let world = world();
    let archive = at(&world, "docker-archive", "a.tar");
    let said = world.run(["image", "copy", "app:all", &archive]);
    assert_eq!(said.stderr, "of an index only the image for linux/amd64 is copied\n");
    assert_eq!(
        world.run(["image", "copy", "--all", "app:all", &archive]).failed(2),
        format!(
            "error: `{archive}` holds one image, and there are 3\n\
             help: choose one with `--platform`, or write an `oci-archive:`\n"
        )
    );
    assert_eq!(
        world.run(["image", "copy", "--preserve-digests", "app:amd64", &archive]).failed(1),
        format!(
            "error: digests cannot be preserved on the way to `{archive}`\n \
             cause: a docker-archive holds no manifest, and its layers are unpacked\n\
             help: use `oci-archive:`, or leave `--preserve-digests` out\n"
        )
    );
    let missing = world.run(["image", "copy", "--platform", "linux/ppc64le", "app:all", "x:1"]);
    assert_eq!(
        missing.failed(1),
        "error: the image is not made for `linux/ppc64le`\n\
         help: there are: linux/amd64, linux/arm64, linux/s390x\n"
    );
}

#[test]
fn what_a_docker_archive_cannot_keep_is_not_dropped_silently() {
    let world = world();
    let archive = at(&world, "docker-archive", "a.tar");
    for (args, flag, why) in [
        (&["--compression", "gzip"][..], "--compression", "its layers are unpacked"),
        (&["--compression", "zstd"], "--compression", "its layers are unpacked"),
        (&["--type", "oci"], "--type oci", "it has no media types"),
    ] {
        let said = world.run([&["image", "convert", "app:amd64", &archive], args].concat());
        let wanted = format!(
            "error: `{flag}` has no effect in `{archive}`: {why}\nhelp: use `oci-archive:`, or leave `{flag}` out\n"
        );
        assert_eq!(said.failed(2), wanted);
    }
    image(&world, &["convert", "app:amd64", &archive, "--compression", "none"]);
    let config = image(&world, &["inspect", "--config", "app:amd64"]);
    assert_eq!(image(&world, &["inspect", "--config", "--raw", "app:amd64"]), config);
}

/// Testers copied what a pull of one platform had left: a layout got an index with holes.
#[test]
fn a_part_of_an_index_is_not_copied_as_the_whole() {
    if !peer("docker-registry") {
        return;
    }
    let world = world();
    let registry = Registry::start(&world);
    let there = format!("{}/app:all", registry.address);
    image(&world, &["copy", "app:all", &format!("docker://{there}")]);
    world.file("Dockerfile", format!("FROM {there}\n"));
    let context = world.context();
    world.run(["build", "-q", "--root", "second", context.to_str().unwrap()]).ok();
    let host = nativebuild::oci::Platform::host().to_string();
    let gone: Vec<String> =
        PLATFORMS.iter().filter(|one| **one != host).map(|one| format!("`{one}`")).collect();
    let wanted = format!(
        "error: `{there}` is not here as a whole\n cause: of its index {} is missing\n\
         help: choose what is here with `--platform`: `{host}`\n",
        gone.join(", ")
    );
    let targets = [
        format!("docker://{}/new:1", registry.address),
        at(&world, "oci", "part"),
        at(&world, "oci-archive", "part.tar"),
        at(&world, "dir", "part.dir"),
    ];
    for target in &targets {
        let args = ["image", "copy", "--root", "second", &there, target];
        assert_eq!(world.run(args).failed(1), wanted, "{target}");
        let convert =
            ["image", "convert", "--root", "second", "--compression", "zstd", &there, target];
        assert_eq!(world.run(convert).failed(1), wanted, "{target}");
    }
    assert_eq!(fs::read_dir(world.path("out")).unwrap().count(), 0);
    for target in &targets {
        let args = ["image", "copy", "--root", "second", "--platform", &host, &there, target];
        world.run(args).ok();
        assert_eq!(image(&world, &["validate", target]), "valid\n", "{target}");
    }
}

#[test]
fn an_index_in_an_index_is_shown_as_one() {
    let world = world();
    let (digest, size) = (
        image(&world, &["digest", "app:all"]),
        image(&world, &["inspect", "--raw", "app:all"]).len(),
    );
    let outer = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"{}","size":{size}}}]}}"#,
        digest.trim()
    );
    let layout = nativebuild::oci::layout::Layout::open(world.store().join("images")).unwrap();
    let outer =
        layout.put_document("application/vnd.oci.image.index.v1+json", outer.as_bytes()).unwrap();
    let name = nativebuild::oci::Reference::parse("outer:1").unwrap();
    layout.set_name(&name, &outer, nativebuild::oci::layout::Origin::Imported).unwrap();
    for layout in ["v1", "v2"] {
        let shown = image(&world, &["manifest", "inspect", "--layout", layout, "outer:1"]);
        assert!(shown.contains("# Layers: an index, which has none\n"), "{shown}");
    }
}

#[test]
fn other_bytes_than_expected_are_never_written() {
    let world = world();
    let archive = at(&world, "docker-archive", "a.tar");
    let digest = image(&world, &["copy", "app:amd64", &archive]);
    let first = fs::read(world.path("out/a.tar")).unwrap();
    fs::remove_file(world.path("out/a.tar")).unwrap();
    image(&world, &["copy", "app:amd64", &archive, "--expect", digest.trim()]);
    assert!(fs::read(world.path("out/a.tar")).unwrap() == first);
    let wrong = format!("sha256:{}", "0".repeat(64));
    let index = image(&world, &["digest", "app:all"]);
    for (target, found) in [
        (at(&world, "docker-archive", "b.tar"), None),
        (at(&world, "oci-archive", "c.tar"), None),
        (
            at(&world, "docker-archive", "-").replace(&*world.path("out/").to_string_lossy(), ""),
            None,
        ),
        (at(&world, "oci", "d:t"), Some(&index)),
        (at(&world, "dir", "e"), Some(&index)),
        ("new:1".to_owned(), Some(&index)),
    ] {
        let said = world.run(["image", "copy", "app:all", &target, "--expect", &wrong]);
        assert_eq!(said.stdout, "", "{target}");
        let error = said.failed(1);
        let found = found.map_or("sha256:", |found| found.trim());
        assert!(error.contains(&format!("expected {wrong}, found {found}")), "{target}: {error}");
        assert!(error.contains("nothing was written"), "{error}");
    }
    let left: Vec<_> = fs::read_dir(world.path("out")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(world.run(["image", "digest", "new:1"]).failed(1).contains("is not in the store"));
}

#[test]
fn converted_images_have_the_same_content_and_the_same_bytes_each_time() {
    let world = world();
    let diff_ids = |place: &str| {
        let said = world.run(["image", "inspect", "--config", "--platform", "linux/arm64", place]);
        serde_json::from_str::<serde_json::Value>(&said.ok()).unwrap()["rootfs"].clone()
    };
    let wanted = diff_ids("app:all");
    let whole = image(&world, &["digest", "app:all"]);
    for (n, args) in [
        &["--compression", "zstd"][..],
        &["--compression", "none"],
        &["--compression", "gzip", "--compression-level", "9"],
        &["--type", "docker"],
        &["--type", "docker", "--compression", "none"],
    ]
    .iter()
    .enumerate()
    {
        let target = at(&world, "oci", &format!("{n}:t"));
        let digest = image(&world, &[&["convert", "app:all", &target], *args].concat());
        assert_ne!(digest, whole, "{args:?}");
        assert_eq!(image(&world, &[&["convert", "app:all", "twice:1"], *args].concat()), digest);
        assert_eq!(image(&world, &["validate", &target]), "valid\n", "{args:?}");
        assert_eq!(diff_ids(&target), wanted, "{args:?}");
        // And back to what it was.
        let back = [
            "convert",
            &target,
            "back:1",
            "--type",
            "oci",
            "--compression",
            "gzip",
            "--compression-level",
            "4",
        ];
        assert_eq!(image(&world, &back), whole, "{args:?}");
        if peer("skopeo") && !args.contains(&"zstd") {
            // Docker's types are not what it looks for in a layout.
            let (plain, out) = (at(&world, "dir", "in.dir"), at(&world, "dir", "out.dir"));
            image(&world, &["copy", &target, &plain]);
            skopeo(&world, &["copy", "-q", "--all", &plain, &out]);
        }
    }
    // Nothing to do gives the same bytes.
    assert_eq!(image(&world, &["convert", "app:all", "same:1", "--compression", "gzip"]), whole);
    let refused =
        ["image", "convert", "app:all", "x:1", "--compression", "zstd", "--type", "docker"];
    assert!(world.run(refused).failed(2).contains("Docker's media types have none for zstd"));
}

#[test]
fn indexes_are_made_and_changed() {
    let world = world();
    let listed = |name: &str| {
        let text = world.run(["manifest", "inspect", "--json", name]).ok();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let platform = |entry: &serde_json::Value| {
            let word = |key: &str| entry["platform"][key].as_str().unwrap_or("-").to_owned();
            format!("{} {} {}", word("os"), word("architecture"), word("variant"))
        };
        let all = value["manifests"].as_array().unwrap();
        (
            value["mediaType"].as_str().unwrap().to_owned(),
            all.iter().map(platform).collect::<Vec<_>>(),
        )
    };
    let oci = "application/vnd.oci.image.index.v1+json".to_owned();
    let made = ["linux amd64 -", "linux arm64 -", "linux s390x -"].map(str::to_owned).to_vec();
    assert_eq!(listed("app:all"), (oci.clone(), made.clone()));
    let template = ["index", "create", "app:made", "--template", "app:ARCH", "--platforms"];
    let list = "linux/amd64,linux/arm64,linux/s390x,linux/riscv64";
    let digest =
        image(&world, &[&template[..], &[list, "--ignore-missing", "--tags", "x,y"]].concat());
    for name in ["app:made", "app:x", "app:y", "app:all"] {
        assert_eq!(image(&world, &["digest", name]), digest, "{name}");
    }
    let error = world.run([&["image"], &template[..], &[list]].concat()).failed(1);
    assert!(error.contains("image `app:riscv64` is not in the store"), "{error}");
    let error =
        world.run([&["image"], &template[..], &["linux/riscv64", "--ignore-missing"]].concat());
    assert!(error.failed(1).contains("there would be no image in the index"));
    image(&world, &["index", "rm", "app:made", "linux/arm64"]);
    assert_eq!(listed("app:made").1, ["linux amd64 -", "linux s390x -"]);
    image(&world, &["index", "add", "app:made", "app:arm64", "app:amd64"]);
    assert_eq!(listed("app:made").1, ["linux s390x -", "linux arm64 -", "linux amd64 -"]);
    image(
        &world,
        &["index", "annotate", "app:made", "linux/arm64", "--variant", "v8", "--annotation", "k=v"],
    );
    image(&world, &["index", "annotate", "app:made", "--annotation", "whole=1"]);
    let raw = image(&world, &["inspect", "--raw", "app:made"]);
    let raw: serde_json::Value = serde_json::from_str(&raw).unwrap();
    assert_eq!(raw["annotations"], serde_json::json!({"whole": "1"}));
    assert_eq!(raw["manifests"][1]["annotations"], serde_json::json!({"k": "v"}));
    assert_eq!(raw["manifests"][1]["platform"]["variant"], "v8");
    world.validate("app:made");
    image(&world, &["index", "create", "--type", "docker", &at(&world, "oci", "i:t"), "app:all"]);
    let docker = "application/vnd.docker.distribution.manifest.list.v2+json".to_owned();
    assert_eq!(listed(&at(&world, "oci", "i:t")), (docker, made));
    assert_eq!(image(&world, &["validate", &at(&world, "oci", "i")]), "valid\n");
    // The image of another architecture is not taken for what is asked for.
    image(&world, &["tag", "app:amd64", "wrong:arm64"]);
    let wrong = [
        "image",
        "index",
        "create",
        "app:bad",
        "--template",
        "wrong:ARCH",
        "--platforms",
        "linux/arm64",
    ];
    assert_eq!(
        world.run(wrong).failed(1),
        "error: cannot take `wrong:arm64`\n cause: it is made for `linux/amd64`, not for `linux/arm64`\n"
    );
}

#[test]
fn an_image_is_shown_to_people_and_to_programs() {
    let world = World::new().with_base();
    let dockerfile =
        "FROM base\nENV A=b\nLABEL k=v\nUSER 7\nWORKDIR /w\nENTRYPOINT [\"/e\"]\nCMD [\"c\"]\n";
    let digest = world.build(dockerfile, &["-t", "app:1", "--source-date-epoch", "0"]).ok();
    let shown = image(&world, &["inspect", "app:1"]);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(
        lines[..3],
        [
            "Name:      docker.io/library/app:1",
            "Origin:    built",
            &format!("Digest:    {}", digest.trim()),
        ]
    );
    for line in [
        "Type:      application/vnd.oci.image.manifest.v1+json",
        "Platform:  linux/amd64",
        "Created:   1970-01-01T00:00:00Z",
        "Entrypoint: [\"/e\"]",
        "Cmd:       [\"c\"]",
        "User:      7",
        "WorkingDir: /w",
        "Labels:    k=v",
        "Layers:    2",
    ] {
        assert!(lines.contains(&line), "{line}\n{shown}");
    }
    let format = "{{.digest}} {{.Os}}/{{.Architecture}} {{json .Labels}} {{len .layers}} {{join .config.config.Cmd \",\"}}";
    let said = image(&world, &["inspect", "--format", format, "app:1"]);
    assert_eq!(said, format!("{} linux/amd64 {{\"k\":\"v\"}} 2 c\n", digest.trim()));
    let raw = image(&world, &["inspect", "--raw", "app:1"]);
    assert_eq!(
        image(&world, &["digest", "--size", "app:1"]),
        format!("{} {}\n", digest.trim(), raw.len())
    );
    let detail = world.run(["manifest", "inspect", "--detail", "app:1"]).ok();
    let head = format!("referenced manifest hash {} size {}\n", digest.trim(), raw.len());
    assert_eq!(detail, format!("{head}{raw}\n"));
}

#[test]
fn differences_end_with_exit_code_one() {
    let world = World::new().with_base();
    world
        .build("FROM base\nRUN echo 1 > /a\nENV A=1\n", &["-t", "one", "--source-date-epoch", "0"])
        .ok();
    world
        .build("FROM base\nRUN echo 22 > /a\nENV A=2\n", &["-t", "two", "--source-date-epoch", "0"])
        .ok();
    let said = world.run(["image", "diff", "one", "two"]);
    assert_eq!(
        (said.code, said.stdout.as_str(), said.stderr.as_str()),
        (
            1,
            "files:\n  C /a: size 2 -> 3\nconfig:\n  - config.Env: \"A=1\"\n  + config.Env: \"A=2\"\nhistory:\n  \
             - 1970-01-01T00:00:00Z RUN /bin/sh -c echo 1 > /a # buildkit\n  \
             - 1970-01-01T00:00:00Z ENV A=1 (no layer)\n  \
             + 1970-01-01T00:00:00Z RUN /bin/sh -c echo 22 > /a # buildkit\n  \
             + 1970-01-01T00:00:00Z ENV A=2 (no layer)\n",
            "error: `one` and `two` differ\n"
        )
    );
    assert_eq!(image(&world, &["diff", "one", "one"]), "");
}

#[test]
fn exported_members_have_the_time_and_owner_asked_for() {
    let world = world();
    let tar = world.path("out/x.tar");
    let args = [
        "export",
        "app:amd64",
        "--sort",
        "--mtime",
        "5",
        "--owner",
        "3:4",
        "-o",
        tar.to_str().unwrap(),
    ];
    image(&world, &args);
    let bytes = fs::read(&tar).unwrap();
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut names = Vec::new();
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        assert_eq!(
            (header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()),
            (5, 3, 4)
        );
        names
            .push(entry.path_bytes().split(|b| *b == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>());
    }
    assert!(names.is_sorted() && !names.is_empty());
    image(&world, &["copy", "app:amd64", &at(&world, "oci", "o:t")]);
    let again = world.path("out/y.tar");
    let place = at(&world, "oci", "o:t");
    image(
        &world,
        &["export", &place, "--mtime", "5", "--owner", "3:4", "-o", again.to_str().unwrap()],
    );
    assert!(fs::read(again).unwrap() == bytes);
    world.run(["image", "export", "app:amd64", "--owner", "root", "-o", "-"]).failed(2);
}

#[test]
fn names_that_are_wrong_are_told_with_the_rule() {
    let world = World::new();
    for (name, why) in [
        ("docker://Up/app", "repository name `Up/app` must be lowercase"),
        ("docker://a//b", "there is an empty component between slashes"),
        ("docker://a:b:c", "tag `b:c` may only have letters, digits"),
        ("docker://host:port/x", "`host:port` is not a host name with an optional port"),
        ("a@sha256:1", "what follows `@` must be `sha256:` and 64 lowercase hex digits"),
        ("oci:", "`oci:` has no path"),
        ("docker-daemon:x", "there is no transport `docker-daemon:`"),
    ] {
        let error = world.run(["image", "digest", name]).failed(2);
        assert!(error.contains(why), "{name}: {error}");
    }
    let error = world.run(["image", "manifest", "inspect", "app:1"]).failed(1);
    assert!(error.contains("image `app:1` is not in the store"), "{error}");
    assert!(!Path::new(&world.path("out/x")).exists());
}
