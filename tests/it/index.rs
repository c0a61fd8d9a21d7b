//! The index of a build for several platforms: every byte of it, its annotations, and each form of output.

use crate::errors::normal;
use crate::support::{Said, World, base, peer};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const COPIES: &str = "FROM multi\nCOPY Dockerfile /\nLABEL done=yes\n";
const PLATFORMS: [&str; 3] = ["linux/arm/v6", "linux/arm64", "linux/s390x"];
const LIST: &str = "s390x,linux/arm/v6,arm64";

fn world() -> World {
    World::new().with_platforms("multi", &PLATFORMS)
}

/// A platform as it stands in a descriptor.
fn in_descriptor(platform: &str) -> Value {
    match platform.split('/').collect::<Vec<_>>()[..] {
        [os, arch, variant] => json!({"os": os, "architecture": arch, "variant": variant}),
        [os, arch] => json!({"os": os, "architecture": arch}),
        _ => unreachable!("{platform}"),
    }
}

fn blob(layout: &Path, digest: &Value) -> Vec<u8> {
    let digest = digest.as_str().unwrap().trim_start_matches("sha256:");
    fs::read(layout.join("blobs/sha256").join(digest)).unwrap()
}

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// Builds for several platforms into a layout directory; gives the layout's index.json and the index itself.
fn layout(world: &World, args: &[&str]) -> (Value, Value) {
    let dir = world.path("out/layout");
    let _not_there = fs::remove_dir_all(&dir);
    let spec = format!("type=oci,tar=false,dest={}", dir.display());
    world.build(COPIES, &[&["-t", "app", "-o", &spec], args].concat()).ok();
    world.validate("app");
    assert_eq!(world.run(["image", "validate", dir.to_str().unwrap()]).ok(), "valid\n");
    let top = parsed(&fs::read(dir.join("index.json")).unwrap());
    let inner = parsed(&blob(&dir, &top["manifests"][0]["digest"]));
    (top, inner)
}

#[test]
fn an_index_holds_one_manifest_for_each_platform_in_their_order() {
    let world = world();
    let (top, index) = layout(&world, &["--platform", LIST]);
    let dir = world.path("out/layout");
    let manifests = PLATFORMS.map(|platform| {
        let digest = world.inspect("app", platform)["manifest_digest"].take();
        let bytes = blob(&dir, &digest);
        let manifest = parsed(&bytes);
        let config = parsed(&blob(&dir, &manifest["config"]["digest"]));
        let mut told = json!({"os": config["os"], "architecture": config["architecture"]});
        if let Some(variant) = config.get("variant") {
            told["variant"] = variant.clone();
        }
        assert_eq!(told, in_descriptor(platform));
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 2);
        json!({"mediaType": MANIFEST, "digest": digest, "size": bytes.len(), "platform": told})
    });
    assert_eq!(index, json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}));
    let digest = &top["manifests"][0]["digest"];
    let descriptor = json!({
        "mediaType": INDEX, "digest": digest, "size": blob(&dir, digest).len(),
        "annotations": {
            "io.containerd.image.name": "docker.io/library/app:latest",
            "org.opencontainers.image.ref.name": "latest",
        },
    });
    assert_eq!(top, json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor]}));
    assert_eq!(world.raw("app"), index);
}

#[test]
fn skopeo_finds_each_platform() {
    if !peer("skopeo") {
        return;
    }
    let world = world();
    let (_, index) = layout(&world, &["--platform", LIST]);
    let name = format!("oci:{}:latest", world.path("out/layout").display());
    let skopeo = |args: &[&str]| {
        let mut command = world.command("skopeo");
        parsed(Said::of(command.args(args).arg(&name).output().unwrap()).ok().as_bytes())
    };
    assert_eq!(skopeo(&["inspect", "--raw"]), index);
    for (arch, variant) in [("arm", "v6"), ("arm64", ""), ("s390x", "")] {
        let words = ["--override-os", "linux", "--override-arch", arch];
        let variant = match variant {
            "" => vec![],
            _ => vec!["--override-variant", variant],
        };
        let found = skopeo(&[&words[..], &variant, &["inspect"]].concat());
        let layers = found["Layers"].as_array().unwrap().len();
        let told = (&found["Architecture"], &found["Labels"], layers);
        assert_eq!(told, (&json!(arch), &json!({"done": "yes"}), 2));
    }
}

#[test]
fn one_platform_is_a_manifest_unless_an_index_is_asked_for() {
    let world = world();
    let (top, manifest) = layout(&world, &["--platform", "s390x"]);
    assert_eq!(manifest["mediaType"], MANIFEST);
    assert_eq!(top["manifests"][0]["platform"], in_descriptor("linux/s390x"));
    let digest = top["manifests"][0]["digest"].clone();
    let asked = ["--platform", "s390x", "--build-arg", "BUILDKIT_MULTI_PLATFORM=1"];
    let (_, index) = layout(&world, &asked);
    let size = blob(&world.path("out/layout"), &digest).len();
    let one = json!({
        "mediaType": MANIFEST, "digest": digest, "size": size, "platform": in_descriptor("linux/s390x"),
    });
    assert_eq!(index, json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [one]}));
}

#[test]
fn annotations_stand_where_they_were_asked_for() {
    let world = world();
    let words = [
        "a=all",
        "manifest[linux/arm64]:b=arm",
        "index:c=index",
        "manifest-descriptor[linux/s390x]:d=entry",
        "index-descriptor:e=top",
        "index,manifest-descriptor:f=both",
        "a=again",
    ];
    let mut args = vec!["--platform", LIST];
    args.extend(words.iter().flat_map(|word| ["--annotation", word]));
    let (top, index) = layout(&world, &args);
    let dir = world.path("out/layout");
    let mut found = vec![
        ("top", top["manifests"][0]["annotations"].clone()),
        ("index", index["annotations"].clone()),
    ];
    for (at, platform) in PLATFORMS.iter().enumerate() {
        let entry = &index["manifests"][at];
        found.push((platform, entry["annotations"].clone()));
        found.push(("manifest", parsed(&blob(&dir, &entry["digest"]))["annotations"].clone()));
    }
    assert_eq!(
        found,
        [
            (
                "top",
                json!({
                    "e": "top", "io.containerd.image.name": "docker.io/library/app:latest",
                    "org.opencontainers.image.ref.name": "latest",
                })
            ),
            ("index", json!({"c": "index", "f": "both"})),
            ("linux/arm/v6", json!({"f": "both"})),
            ("manifest", json!({"a": "again"})),
            ("linux/arm64", json!({"f": "both"})),
            ("manifest", json!({"a": "again", "b": "arm"})),
            ("linux/s390x", json!({"d": "entry", "f": "both"})),
            ("manifest", json!({"a": "again"})),
        ]
    );
    let one = ["--platform", "s390x", "--annotation", "index:a=b"];
    assert_eq!(
        normal(&world, &world.build(COPIES, &one)),
        "exit 2\n\
         error: there is no index for the annotation `a`: one platform is built\n\
         help: a build for several platforms makes one, `--build-arg BUILDKIT_MULTI_PLATFORM=1` too\n"
    );
}

#[test]
fn trees_of_several_platforms_have_a_directory_each() {
    for world in World::each() {
        let world = world.with_platforms("multi", &PLATFORMS);
        let (tar, local) = (world.path("out/root.tar"), world.path("out/root"));
        let specs = [
            format!("type=tar,dest={}", tar.display()),
            format!("type=local,dest={}", local.display()),
        ];
        let epoch = ["--source-date-epoch", "1700000000", "--platform", LIST];
        let args = [&epoch[..], &["-o", &specs[0], "-o", &specs[1]]].concat();
        world.build(COPIES, &args).ok();
        let mut expected = Vec::new();
        for platform in PLATFORMS {
            let name = platform.replace('/', "_");
            expected.push(format!("{name} dir 755 0:0 0"));
            expected.push(format!("{name}/Dockerfile file 644 0:0 {}", COPIES.len()));
            expected.push(format!("{name}/platform file 644 0:0 {}", platform.len() + 1));
            let text = fs::read_to_string(local.join(&name).join("platform")).unwrap();
            assert_eq!(text, format!("{platform}\n"));
        }
        expected.sort();
        assert_eq!(base::list_tar(&fs::read(tar).unwrap()), expected);
        assert_eq!(fs::read_dir(local).unwrap().count(), PLATFORMS.len());
    }
}

#[test]
fn a_docker_archive_takes_the_image_of_this_machine() {
    let host = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
    let world = World::new().with_platforms("multi", &["linux/s390x", "linux/ppc64le", host]);
    let path = world.path("out/docker.tar");
    let spec = format!("type=docker,dest={}", path.display());
    let platforms = format!("s390x,{host}");
    world.build(COPIES, &["-t", "app", "--platform", &platforms, "-o", &spec]).ok();
    world.run(["image", "import", "back", path.to_str().unwrap()]).ok();
    let config = |name: &str| world.inspect(name, host)["config"].take();
    assert_eq!(config("back"), config("app"));
    fs::remove_file(&path).unwrap();

    let said = world.build(COPIES, &["--platform", "s390x,ppc64le", "-o", &spec]);
    assert!(!path.exists());
    let text = normal(&world, &said);
    assert_eq!(
        text,
        format!(
            "exit 1\nerror: a docker archive holds one platform, and none of those to build is this machine's\n \
             cause: this machine is {host}, to build are linux/s390x, linux/ppc64le\n\
             help: `type=oci` holds all of them; `nativebuild image save --platform` writes any one of them\n"
        )
    );
}

#[test]
fn digests_of_several_platforms_are_those_of_the_index() {
    let world = world();
    let (iid, metadata) = (world.path("out/iid"), world.path("out/metadata"));
    let files = ["--iidfile", iid.to_str().unwrap(), "--metadata-file", metadata.to_str().unwrap()];
    let args = [&files[..], &["-t", "app", "--platform", LIST]].concat();
    let digest = world.build(COPIES, &args).ok();
    let digest = digest.trim();
    assert_eq!(fs::read_to_string(iid).unwrap(), digest);
    let raw = world.run(["image", "inspect", "--raw", "app"]).ok();
    assert_eq!(
        parsed(&fs::read(metadata).unwrap()),
        json!({
            "containerimage.descriptor": {"mediaType": INDEX, "digest": digest, "size": raw.len()},
            "containerimage.digest": digest,
            "image.name": "docker.io/library/app:latest",
        })
    );
}

#[test]
fn a_platform_that_is_added_takes_nothing_from_the_others() {
    let world = World::new().with_platforms("multi", &["linux/arm64", "linux/s390x"]);
    let platforms = ["--platform", "linux/arm64,linux/s390x", "-t", "app"];
    let notes = ["--annotation", "index,manifest-descriptor:a=b"];
    world.build(COPIES, &[&platforms[..], &notes].concat()).ok();
    let before = world.raw("app");
    let tar = world.path("added.tar");
    fs::write(&tar, base::bare_tar()).unwrap();
    world.give();
    let tar = tar.to_str().unwrap();
    world.run(["image", "import", "--add", "--platform", "linux/ppc64le", "app", tar]).ok();
    world.validate("app");
    let after = world.raw("app");
    assert_eq!(after["annotations"], before["annotations"]);
    let (before, after) = (&before["manifests"], &after["manifests"]);
    assert_eq!((&after[0], &after[2]), (&before[0], &before[1]));
    assert_eq!(after[1]["platform"]["architecture"], "ppc64le");
}
