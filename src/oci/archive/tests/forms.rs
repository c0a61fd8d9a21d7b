//! Each form as it is written, and as it comes back.

use super::super::*;
use super::{ARCHIVES, identity, import_all, import_bytes, saved};
use crate::oci::{
    Digest,
    fixture::{self, gzip, name, sample, untar},
    media, resolve, spec, validate,
};
use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt};

#[test]
fn every_form_comes_back_and_is_the_same_each_time() {
    let seconds = [media::OCI_LAYER_GZIP, media::OCI_LAYER, media::OCI_LAYER_ZSTD];
    for (format, second) in ARCHIVES.iter().flat_map(|f| seconds.iter().map(move |s| (*f, *s))) {
        let (_dir, layout) = fixture::layout();
        let descriptor = sample(&layout, "linux/amd64", second);
        let names = [name("a:1"), name("localhost:5000/b:2")];
        let bytes = saved(&layout, &descriptor, &names, format).unwrap();
        assert_eq!(bytes, saved(&layout, &descriptor, &names, format).unwrap(), "{format:?}");
        for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
            let header = entry.unwrap().header().clone();
            let owner = (header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap());
            assert_eq!(owner, (0, 0, 0), "{format:?}");
            assert_eq!(header.username_bytes(), Some(&b""[..]), "{format:?}");
        }

        let zstd = zstd::encode_all(&bytes[..], 1).unwrap();
        for packed in [bytes.clone(), gzip(&bytes), zstd] {
            let (_dir, back) = fixture::layout();
            let imported = import_bytes(&packed, &back).unwrap();
            let [image] = &imported.images[..] else { panic!("{imported:?}") };
            assert_eq!(image.names, names, "{format:?}");
            assert_eq!(
                identity(&back, &image.descriptor),
                identity(&layout, &descriptor),
                "{format:?} {second}"
            );
            if format == SaveFormat::OciArchive {
                assert_eq!(image.descriptor.digest(), descriptor.digest());
            }
            assert!(back.names().unwrap().is_empty());
        }
    }
}

#[test]
fn a_stored_digest_does_not_depend_on_what_was_stored_before() {
    let (_dir, layout) = fixture::layout();
    let descriptor = sample(&layout, "linux/amd64", media::OCI_LAYER);
    let bytes = saved(&layout, &descriptor, &[], SaveFormat::DockerArchive).unwrap();
    let first = import_bytes(&bytes, &layout).unwrap().images[0].descriptor.clone();
    let (_dir, other) = fixture::layout();
    assert_eq!(import_bytes(&bytes, &other).unwrap().images[0].descriptor, first);
}

#[test]
fn the_members_of_each_form_are_these() {
    let (_dir, layout) = fixture::layout();
    let descriptor = sample(&layout, "linux/amd64", media::OCI_LAYER_ZSTD);
    let image = resolve::resolve_single(&layout, &descriptor).unwrap();
    let config = Digest::of(&image.config_bytes);
    let tars = fixture::sample_tars("linux/amd64");
    let hex: Vec<String> = tars.iter().map(|tar| Digest::of(tar).hex().to_owned()).collect();
    let names = [name("a:1")];

    let flat = untar(&saved(&layout, &descriptor, &names, SaveFormat::DockerArchiveFlat).unwrap());
    let gz = image.layers[0].digest().to_string();
    let mut expected = BTreeMap::from([
        (config.to_string(), image.config_bytes.clone()),
        (gz.clone(), gzip(&tars[0])),
        (format!("sha256:{}", hex[1]), tars[1].clone()),
    ]);
    let manifest = format!(
        r#"[{{"Config":"{config}","Layers":["{gz}","sha256:{}"],"RepoTags":["a:1"]}}]"#,
        hex[1]
    );
    expected.insert("manifest.json".to_owned(), manifest.into_bytes());
    assert_eq!(flat, expected);

    let today = untar(&saved(&layout, &descriptor, &names, SaveFormat::DockerArchive).unwrap());
    let manifest = format!(
        r#"[{{"Config":"{}.json","Layers":["{}.tar","{}.tar"],"RepoTags":["a:1"]}}]"#,
        config.hex(),
        hex[0],
        hex[1]
    );
    let expected = BTreeMap::from([
        (format!("{}.json", config.hex()), image.config_bytes.clone()),
        (format!("{}.tar", hex[0]), tars[0].clone()),
        (format!("{}.tar", hex[1]), tars[1].clone()),
        ("manifest.json".to_owned(), manifest.into_bytes()),
    ]);
    assert_eq!(today, expected);

    let v1 = untar(&saved(&layout, &descriptor, &names, SaveFormat::DockerArchiveV1).unwrap());
    let top = String::from_utf8(v1["repositories"].clone()).unwrap();
    let top = top.strip_prefix(r#"{"a":{"1":""#).unwrap().strip_suffix(r#""}}"#).unwrap();
    assert_eq!(v1[&format!("{top}/layer.tar")], tars[1]);
    assert_eq!(v1[&format!("{top}/VERSION")], b"1.0");
    let json: serde_json::Value = serde_json::from_slice(&v1[&format!("{top}/json")]).unwrap();
    let parent = json["parent"].as_str().unwrap();
    assert_eq!(v1[&format!("{parent}/layer.tar")], tars[0]);
    assert_eq!((json["id"].as_str(), json["config"]["Cmd"][0].as_str()), (Some(top), Some("/x")));
    assert_eq!(v1.len(), 11);
}

#[test]
fn a_directory_is_written_whole_and_shares_nothing() {
    let (dir, layout) = fixture::layout();
    let first = sample(&layout, "linux/amd64", media::OCI_LAYER);
    let second = sample(&layout, "linux/arm64", media::OCI_LAYER);
    let out = dir.path().join("out");
    let options = SaveOptions {
        created: Some("1970-01-01T00:00:00Z"),
        ..SaveOptions::new(SaveFormat::OciDir)
    };
    let names = [name("a:1")];
    let write = |descriptor, names| {
        save(&layout, &[SaveImage { descriptor, names }], &options, Output::Dir(&out)).unwrap();
    };
    write(&first, &names);
    let text = fs::read_to_string(out.join("index.json")).unwrap();
    let expected = format!(
        r#"{{"manifests":[{{"annotations":{{"io.containerd.image.name":"docker.io/library/a:1","org.opencontainers.image.created":"1970-01-01T00:00:00Z","org.opencontainers.image.ref.name":"1"}},"digest":"{}","mediaType":"application/vnd.oci.image.manifest.v1+json","platform":{{"architecture":"amd64","os":"linux"}},"size":{}}}],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}}"#,
        first.digest(),
        first.size()
    );
    assert_eq!(text, expected);
    assert_eq!(
        fs::read_to_string(out.join("oci-layout")).unwrap(),
        r#"{"imageLayoutVersion":"1.0.0"}"#
    );
    let target = Layout::open(&out).unwrap();
    let digest = spec::digest_of(&first).unwrap();
    assert_eq!(fs::metadata(target.blob_path(&digest)).unwrap().nlink(), 1);

    write(&second, &names);
    write(&first, &[]);
    write(&second, &[]);
    let digests: Vec<String> =
        target.entries().unwrap().iter().map(|e| e.descriptor.digest().to_string()).collect();
    assert_eq!(digests, [second.digest().to_string(), second.digest().to_string()]);
    assert_eq!(validate::validate_source(&out, dir.path()).unwrap(), []);

    let (_dir, back) = fixture::layout();
    let taken = import_all(Input::Path(out), Expect::Oci, Select::Only, &back).unwrap();
    assert_eq!(taken.images[0].descriptor.digest(), second.digest());
}

#[test]
fn docker_media_types_are_kept_and_read_the_same() {
    let (_dir, layout) = fixture::layout();
    let descriptor = fixture::sample_docker(&layout);
    let oci = sample(&layout, "linux/amd64", media::OCI_LAYER_GZIP);
    assert_eq!(identity(&layout, &descriptor), identity(&layout, &oci));
    let bytes = saved(&layout, &descriptor, &[], SaveFormat::OciArchive).unwrap();
    let (_dir, back) = fixture::layout();
    let imported = import_bytes(&bytes, &back).unwrap();
    assert_eq!(imported.images[0].descriptor.digest(), descriptor.digest());
    assert_eq!(imported.images[0].descriptor.media_type().to_string(), media::DOCKER_MANIFEST);
}

#[test]
fn null_layers_are_no_layers() {
    let (_dir, layout) = fixture::layout();
    let config =
        br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":null}}"#;
    let config = layout.put_document(media::OCI_CONFIG, config).unwrap();
    let json = serde_json::json!({"schemaVersion": 2, "config": config, "layers": null});
    let bytes = serde_json::to_vec(&json).unwrap();
    let descriptor = layout.put_document(media::OCI_MANIFEST, &bytes).unwrap();
    assert_eq!(identity(&layout, &descriptor).1, []);
    for format in ARCHIVES {
        let bytes = saved(&layout, &descriptor, &[name("z")], format).unwrap();
        let (_dir, back) = fixture::layout();
        let imported = import_bytes(&bytes, &back).unwrap();
        assert_eq!(identity(&back, &imported.images[0].descriptor).1, []);
    }
}
