//! Tests of the validator: images that hold, and one test for each promise that can be broken.

use super::*;
use crate::oci::{
    archive::{Output, SaveFormat, SaveImage, SaveOptions, save},
    fixture::{self, gzip, name, sample, sample_index, tar_of},
};
use serde_json::{Value, json};
use std::fs;

fn found(layout: &Layout, descriptor: &Descriptor) -> Vec<String> {
    let digest = descriptor.digest().to_string();
    let problems = validate(layout, descriptor).unwrap();
    problems.iter().map(|problem| problem.to_string().replace(&digest, "M")).collect()
}

/// Stores a copy of an image with a changed manifest.
fn changed(layout: &Layout, image: &Descriptor, change: impl Fn(&mut Value)) -> Descriptor {
    let bytes = layout.read_blob_small(image).unwrap();
    let mut value: Value = serde_json::from_slice(&bytes).unwrap();
    change(&mut value);
    let bytes = spec::to_json(&value).unwrap();
    layout.put_document(image.media_type().as_ref(), &bytes).unwrap()
}

/// Stores a copy of an image with a changed config.
fn reconfigured(layout: &Layout, image: &Descriptor, change: impl Fn(&mut Value)) -> Descriptor {
    changed(layout, image, |manifest| {
        let config: Descriptor = serde_json::from_value(manifest["config"].clone()).unwrap();
        let config = changed(layout, &config, &change);
        manifest["config"] = serde_json::to_value(config).unwrap();
    })
}

#[test]
fn good_images_have_no_problems() {
    let (_dir, layout) = fixture::layout();
    for second in [media::OCI_LAYER, media::OCI_LAYER_GZIP, media::OCI_LAYER_ZSTD] {
        let image = sample(&layout, "linux/amd64", second);
        assert_eq!(found(&layout, &image), [""; 0]);
    }
    assert_eq!(found(&layout, &sample_index(&layout)), [""; 0]);
    assert_eq!(found(&layout, &fixture::sample_docker(&layout)), [""; 0]);
}

#[test]
fn every_promise_is_checked_and_all_are_reported() {
    let (_dir, layout) = fixture::layout();
    let image = sample(&layout, "linux/amd64", media::OCI_LAYER_GZIP);
    let bad = reconfigured(&layout, &image, |config| {
        config["os"] = json!("");
        config["created"] = json!("yesterday");
        config["rootfs"]["type"] = json!("stuff");
        config["history"].as_array_mut().unwrap().pop();
        let diff_ids = config["rootfs"]["diff_ids"].as_array_mut().unwrap();
        diff_ids.swap(0, 1);
        diff_ids.push(json!(Digest::of(b"third")));
    });
    let tars = fixture::sample_tars("linux/amd64");
    let [one, two] = [Digest::of(&tars[0]), Digest::of(&tars[1])];
    assert_eq!(
        found(&layout, &bad),
        [
            "config of M: it has no `os`".to_owned(),
            "config of M: wrong `rootfs.type`: expected `layers`, found `stuff`".to_owned(),
            "config of M: the manifest has 2 layers, the config 3 diff_ids".to_owned(),
            "config of M: the manifest has 2 layers, the history 1 that made one".to_owned(),
            "config of M: `yesterday` is no RFC 3339 time".to_owned(),
            format!("layer 1 of M: wrong diff_id: expected {two}, found {one}"),
            format!("layer 2 of M: wrong diff_id: expected {one}, found {two}"),
        ]
    );
}

#[test]
fn wrong_types_sizes_and_contents_show_both_sides() {
    let (_dir, layout) = fixture::layout();
    let image = sample(&layout, "linux/amd64", media::OCI_LAYER);
    let bad = changed(&layout, &image, |manifest| {
        manifest["schemaVersion"] = json!(3);
        let size = manifest["layers"][0]["size"].as_u64().unwrap();
        manifest["layers"][0]["size"] = json!(size + 1);
        manifest["layers"][1]["mediaType"] = json!(media::OCI_LAYER_GZIP);
    });
    let tars = fixture::sample_tars("linux/amd64");
    let size = gzip(&tars[0]).len();
    assert_eq!(
        found(&layout, &bad),
        [
            "M: wrong `schemaVersion`: expected 2, found 3".to_owned(),
            format!("layer 1 of M: wrong size: expected {} bytes, found {size}", size + 1),
            "layer 2 of M: wrong packing: expected `application/vnd.oci.image.layer.v1.tar+gzip`, found Plain".to_owned(),
        ]
    );

    let layer = Digest::of(&tars[1]);
    let mut damaged = tars[1].clone();
    damaged[700] ^= 1;
    fs::write(layout.blob_path(&layer), &damaged).unwrap();
    let wrong = Digest::of(&damaged);
    let expected = [
        format!("layer 2 of M: wrong content: expected {layer}, found {wrong}"),
        format!("layer 2 of M: wrong diff_id: expected {layer}, found {wrong}"),
    ];
    let mut shown = found(&layout, &image);
    // The flipped bit is in a header: the walk says so, too.
    shown.retain(|line| !line.contains("checksum"));
    assert_eq!(shown, expected);
    layout.remove_blob(&layer).unwrap();
    assert_eq!(found(&layout, &image), [format!("layer 2 of M: blob {layer} is missing")]);
    assert_eq!(validate(&layout, &image).unwrap()[0].kind, ProblemKind::Wrong);
}

#[test]
fn platforms_of_index_and_config_must_fit() {
    let (_dir, layout) = fixture::layout();
    let index = sample_index(&layout);
    let bad = changed(&layout, &index, |index| {
        index["manifests"][0]["platform"] = json!({"os": "linux", "architecture": "s390x"});
    });
    let [message] = &found(&layout, &bad)[..] else { panic!("{:?}", found(&layout, &bad)) };
    assert!(
        message.ends_with(
            "wrong platform: the descriptor says `linux/s390x`, the config `linux/amd64`"
        ),
        "{message}"
    );
}

#[test]
fn an_index_without_any_platform_is_wrong() {
    let (_dir, layout) = fixture::layout();
    let index = sample_index(&layout);
    for leaf in blobs::reachable(&layout, &index).unwrap().leaves {
        if leaf.is_image {
            layout.remove_blob(&spec::digest_of(&leaf.descriptor).unwrap()).unwrap();
        }
    }
    let problems = validate(&layout, &index).unwrap();
    let kinds: Vec<ProblemKind> = problems.iter().map(|problem| problem.kind).collect();
    assert_eq!(kinds, [ProblemKind::Absent, ProblemKind::Absent, ProblemKind::Wrong]);
    assert!(problems[2].message.starts_with("none of its platforms is complete: blob sha256:"));
}

#[test]
fn members_that_do_harm_are_reported() {
    let table = [
        ("/abs", "`/abs` is an absolute path"),
        ("a/../../b", "`a/../../b` leads out through `..`"),
        (".wh.", "`.wh.` is a whiteout of nothing"),
        ("a/.wh...", "`a/.wh...` is a whiteout of a directory's own entry"),
        (".wh.d/", "`.wh.d/` is a whiteout, but not a regular file"),
    ];
    for (member, message) in table {
        let mut out = Vec::new();
        let tar = tar_of(&[(member, b"")]);
        let diff_id = Layers::default().check(Box::new(&tar[..]), &mut out).unwrap();
        assert_eq!((out, diff_id.0), (vec![message.to_owned()], Digest::of(&tar)));
    }
    let fine = tar_of(&[("./", b""), ("./a", b""), (".wh..wh..opq", b""), (".wh..wh.plnk/", b"")]);
    let mut out = Vec::new();
    Layers::default().check(Box::new(&fine[..]), &mut out).unwrap();
    assert_eq!(out, [""; 0]);
}

#[test]
fn hard_links_need_a_target_before_or_below() {
    let link = |path: &str, target: &str| {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Link);
        header.set_size(0);
        header.set_mode(0o644);
        header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        tar.append(&header, &b""[..]).unwrap();
        tar.into_inner().unwrap()
    };
    let mut layers = Layers::default();
    let mut out = Vec::new();
    let below = tar_of(&[("d/", b""), ("d/a", b"x")]);
    layers.check(Box::new(&below[..]), &mut out).unwrap();
    for (path, target) in [("b", "./d/a"), ("c", "/d/a"), ("e", "b")] {
        let tar = link(path, target);
        layers.check(Box::new(&tar[..]), &mut out).unwrap();
    }
    assert_eq!(out, [""; 0]);
    for target in ["later", "../x"] {
        let tar = link("f", target);
        layers.check(Box::new(&tar[..]), &mut out).unwrap();
    }
    assert_eq!(
        out,
        [
            "hard link `f`: its target `later` is neither before it nor in a layer below",
            "hard link `f`: its target `../x` leads out through `..`",
        ]
    );
}

#[test]
fn a_broken_tar_still_gives_its_digest() {
    let tar = tar_of(&[("a", b"x"), ("b", b"y")]);
    let cut = &tar[..1300];
    let mut out = Vec::new();
    let diff_id = Layers::default().check(Box::new(cut), &mut out).unwrap();
    assert_eq!(diff_id.0, Digest::of(cut));
    assert_eq!(out, ["not a well-formed tar: it ends in the middle of a header"]);
}

#[test]
fn sources_of_every_form_are_checked() {
    let (dir, layout) = fixture::layout();
    let image = sample(&layout, "linux/amd64", media::OCI_LAYER_GZIP);
    let names = [name("a:1")];
    for format in [
        SaveFormat::OciArchive,
        SaveFormat::DockerArchive,
        SaveFormat::DockerArchiveV1,
        SaveFormat::DockerArchiveFlat,
    ] {
        let mut bytes = Vec::new();
        let images = [SaveImage { descriptor: &image, names: &names }];
        save(&layout, &images, &SaveOptions::new(format), Output::Stream(&mut bytes)).unwrap();
        let path = dir.path().join("x.tar");
        fs::write(&path, &bytes).unwrap();
        assert_eq!(validate_source(&path, dir.path()).unwrap(), []);
        // Damage in the middle of a layer's content, in whatever form it is.
        let tars = fixture::sample_tars("linux/amd64");
        let at = [gzip(&tars[1]), vec![b'n'; 100]]
            .iter()
            .find_map(|part| bytes.windows(part.len()).position(|window| window == &part[..]))
            .unwrap();
        bytes[at + 20] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let problems = validate_source(&path, dir.path()).unwrap();
        assert!(!problems.is_empty(), "{format:?}");
    }
    let path = dir.path().join("no.tar");
    fs::write(&path, tar_of(&[("x", b"")])).unwrap();
    assert!(validate_source(&path, dir.path()).unwrap_err().message().contains("is no image"));
}

#[test]
fn a_layout_that_lost_its_index_says_so() {
    let (dir, layout) = fixture::layout();
    fs::write(layout.root().join("index.json"), "{}").unwrap();
    fs::write(layout.root().join("oci-layout"), r#"{"imageLayoutVersion":"2"}"#).unwrap();
    let problems = validate_source(layout.root(), dir.path()).unwrap();
    let places: Vec<&str> = problems.iter().map(|problem| problem.place.as_str()).collect();
    assert_eq!(places, ["oci-layout", "index.json"]);
}
