//! Tests of the archive forms: what each reads and writes, and other tools that must read ours.

use super::*;
use crate::oci::{
    Digest,
    digest::DiffId,
    fixture::{self, gzip, name, sample, tar_of, untar},
    media, resolve, spec, validate,
};
use std::{collections::BTreeMap, fs, io::Cursor, os::unix::fs::MetadataExt};

pub(super) const ARCHIVES: [SaveFormat; 4] = [
    SaveFormat::OciArchive,
    SaveFormat::DockerArchive,
    SaveFormat::DockerArchiveV1,
    SaveFormat::DockerArchiveFlat,
];

pub(super) fn saved(
    layout: &Layout,
    descriptor: &Descriptor,
    names: &[Reference],
    format: SaveFormat,
) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    save(
        layout,
        &[SaveImage { descriptor, names }],
        &SaveOptions::new(format),
        Output::Stream(&mut bytes),
    )?;
    Ok(bytes)
}

pub(super) fn import_all(
    input: Input,
    expect: Expect,
    select: Select,
    layout: &Layout,
) -> Result<Imported> {
    import(Import { input, expect, select, tmp: layout.root(), rootfs: None }, layout)
}

fn import_bytes(bytes: &[u8], layout: &Layout) -> Result<Imported> {
    let input = Input::Stream(Box::new(Cursor::new(bytes.to_vec())));
    import_all(input, Expect::Image, Select::Only, layout)
}

/// Config digest and diff_ids: what every form must keep.
pub(super) fn identity(layout: &Layout, descriptor: &Descriptor) -> (String, Vec<DiffId>) {
    assert_eq!(validate::validate(layout, descriptor).unwrap(), []);
    let image = resolve::resolve_single(layout, descriptor).unwrap();
    (Digest::of(&image.config_bytes).to_string(), image.config.rootfs.diff_ids)
}

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
fn archives_from_before_docker_1_10_get_a_config() {
    let (_dir, layout) = fixture::layout();
    let descriptor = sample(&layout, "linux/amd64", media::OCI_LAYER_GZIP);
    let bytes = saved(&layout, &descriptor, &[name("a:1")], SaveFormat::DockerArchiveV1).unwrap();
    let mut members = untar(&bytes);
    members.remove("manifest.json");
    members.retain(|name, _| name.contains('/') || name == "repositories");
    let members: Vec<(&str, &[u8])> =
        members.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
    let (_dir, back) = fixture::layout();
    let imported = import_bytes(&tar_of(&members), &back).unwrap();
    assert_eq!(imported.images[0].names, [name("a:1")]);
    let (_, diff_ids) = identity(&back, &imported.images[0].descriptor);
    assert_eq!(diff_ids, identity(&layout, &descriptor).1);
    let image = resolve::resolve_single(&back, &imported.images[0].descriptor).unwrap();
    assert_eq!(image.config.config.cmd, Some(vec!["/x".to_owned()]));
}

#[test]
fn layers_that_are_links_to_other_layers_are_followed() {
    let tars = fixture::sample_tars("linux/amd64");
    let twice = [tars[0].clone(), tars[0].clone()];
    let config = fixture::sample_config("linux/amd64", &twice);
    let manifest =
        br#"[{"Config":"c.json","RepoTags":null,"Layers":["a/layer.tar","b/layer.tar"]}]"#;
    for (kind, target, found) in [
        (tar::EntryType::Symlink, "../a/layer.tar", true),
        (tar::EntryType::Link, "a/layer.tar", true),
        (tar::EntryType::Symlink, "../../etc/passwd", false),
        (tar::EntryType::Symlink, "layer.tar", false),
    ] {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        tar.append_link(&mut header, "b/layer.tar", target).unwrap();
        tar.get_mut().extend(tar_of(&[
            ("./a/layer.tar", &tars[0]),
            ("c.json", &config),
            ("manifest.json", manifest),
        ]));
        let (_dir, layout) = fixture::layout();
        let bytes = tar.get_ref().clone();
        match import_bytes(&bytes, &layout) {
            Ok(imported) => {
                assert!(found, "{target}");
                let (_, diff_ids) = identity(&layout, &imported.images[0].descriptor);
                assert_eq!(diff_ids, vec![DiffId(Digest::of(&tars[0])); 2]);
            }
            Err(error) => assert!(!found, "{target}: {error}"),
        }
    }
}

#[test]
fn an_index_comes_in_and_goes_out_whole() {
    let (_dir, layout) = fixture::layout();
    let index = fixture::sample_index(&layout);
    let bytes = saved(&layout, &index, &[name("multi:1")], SaveFormat::OciArchive).unwrap();
    let (_dir, back) = fixture::layout();
    let imported = import_bytes(&bytes, &back).unwrap();
    assert_eq!(imported.images[0].descriptor.digest(), index.digest());
    assert_eq!(imported.images[0].incomplete, []);
    assert_eq!(validate::validate(&back, &index).unwrap(), []);
    for platform in ["linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64"] {
        let platform = Platform::parse(platform).unwrap();
        let image = resolve::resolve(&back, &index, &platform).unwrap();
        let file = if platform.architecture == "amd64" { "amd64" } else { "arm/v6" };
        assert_eq!(image.platform.to_string(), format!("linux/{file}"));
    }
    let error = resolve::resolve(&back, &index, &Platform::parse("s390x").unwrap()).unwrap_err();
    assert_eq!(error.message(), "the image is not made for `linux/s390x`");
    assert_eq!(error.hints(), ["there are: linux/amd64, linux/arm/v6"]);

    let error = saved(&back, &index, &[], SaveFormat::DockerArchive).unwrap_err();
    assert_eq!(error.hints(), ["choose one with `--platform`: linux/amd64, linux/arm/v6"]);
    let arm = Platform::parse("linux/arm/v6").unwrap();
    let mut one = Vec::new();
    let options =
        SaveOptions { platform: Some(&arm), ..SaveOptions::new(SaveFormat::DockerArchive) };
    let image = SaveImage { descriptor: &index, names: &[] };
    save(&back, &[image], &options, Output::Stream(&mut one)).unwrap();
    let (_dir, third) = fixture::layout();
    let imported = import_bytes(&one, &third).unwrap();
    let image = resolve::resolve_single(&third, &imported.images[0].descriptor).unwrap();
    assert_eq!(image.platform, arm);
}

#[test]
fn an_index_with_the_content_of_one_platform_is_taken() {
    let (_dir, layout) = fixture::layout();
    let index = fixture::sample_index(&layout);
    let arm = resolve::resolve(&layout, &index, &Platform::parse("linux/arm/v6").unwrap()).unwrap();
    layout.remove_blob(&spec::digest_of(&arm.layers[0]).unwrap()).unwrap();
    let bytes = saved(&layout, &index, &[], SaveFormat::OciArchive).unwrap();
    let (_dir, back) = fixture::layout();
    let imported = import_bytes(&bytes, &back).unwrap();
    assert_eq!(imported.images[0].incomplete, std::slice::from_ref(&arm.platform));
    let problems = validate::validate(&back, &index).unwrap();
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    assert_eq!(problem.kind, validate::ProblemKind::Absent);
    assert_eq!(problem.message, format!("blob {} is missing", arm.layers[0].digest()));
    resolve::resolve(&back, &index, &Platform::parse("linux/amd64").unwrap()).unwrap();
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
fn several_images_need_a_choice() {
    let (dir, layout) = fixture::layout();
    let images = [
        sample(&layout, "linux/amd64", media::OCI_LAYER),
        sample(&layout, "linux/arm64", media::OCI_LAYER),
    ];
    let names = [[name("x/a:1")], [name("b:2")]];
    let both: Vec<SaveImage<'_>> = images
        .iter()
        .zip(&names)
        .map(|(descriptor, names)| SaveImage { descriptor, names })
        .collect();
    for format in ARCHIVES {
        let path = dir.path().join("archive");
        let mut file = fs::File::create(&path).unwrap();
        save(&layout, &both, &SaveOptions::new(format), Output::Stream(&mut file)).unwrap();
        let import = |select| {
            let (_dir, back) = fixture::layout();
            import_all(Input::Path(path.clone()), Expect::Image, select, &back)
                .map(|found| found.images.iter().map(|i| i.names[0].familiar()).collect::<Vec<_>>())
        };
        assert_eq!(import(Select::All).unwrap(), ["x/a:1", "b:2"], "{format:?}");
        for wanted in ["2", "b:2", "docker.io/library/b:2"] {
            assert_eq!(import(Select::Named(wanted.to_owned())).unwrap(), ["b:2"], "{format:?}");
        }
        let error = import(Select::Only).unwrap_err();
        assert_eq!(
            error.hints(),
            ["choose one with `SOURCE:NAME`, or take all with `image load --all`: x/a:1, b:2"]
        );
        let error = import(Select::Named("c".to_owned())).unwrap_err();
        assert_eq!(error.hints(), ["there are: x/a:1, b:2"]);
    }
}

#[test]
fn names_are_set_only_when_asked() {
    let (_dir, layout) = fixture::layout();
    let descriptor = sample(&layout, "linux/amd64", media::OCI_LAYER);
    let bytes = saved(&layout, &descriptor, &[name("a:1")], SaveFormat::OciArchive).unwrap();
    let imported = import_bytes(&bytes, &layout).unwrap();
    assert_eq!(imported.set_names(&layout, None, Origin::Imported).unwrap(), [name("a:1")]);
    let wanted = name("mine");
    imported.set_names(&layout, Some(&wanted), Origin::Imported).unwrap();
    let stored = layout.names().unwrap();
    let shown: Vec<String> = stored.iter().map(|image| image.name.familiar()).collect();
    assert_eq!(shown, ["a:1", "mine:latest"]);
    assert_eq!(stored[0].origin, Origin::Imported);

    let nameless = saved(&layout, &descriptor, &[], SaveFormat::DockerArchive).unwrap();
    let imported = import_bytes(&nameless, &layout).unwrap();
    let error = imported.set_names(&layout, None, Origin::Imported).unwrap_err();
    let hint = "`image import NAME SOURCE` gives it one; so does `image copy`, from `oci:`, `oci-archive:` or `docker-archive:`";
    assert_eq!(error.hints(), [hint]);
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
fn damaged_archives_are_refused_without_a_panic() {
    for format in ARCHIVES {
        let (_dir, layout) = fixture::layout();
        let descriptor = sample(&layout, "linux/amd64", media::OCI_LAYER_GZIP);
        let bytes = saved(&layout, &descriptor, &[name("a:1")], format).unwrap();
        let (_dir, back) = fixture::layout();
        for cut in (0..bytes.len() - 1536).step_by(509) {
            assert!(import_bytes(&bytes[..cut], &back).is_err(), "{format:?} {cut}");
        }
        for at in (0..bytes.len()).step_by(41) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x20;
            // What is still taken has to be an image that is right in itself.
            if let Ok(imported) = import_bytes(&flipped, &back) {
                let descriptor = &imported.images[0].descriptor;
                assert_eq!(validate::validate(&back, descriptor).unwrap(), [], "{format:?} {at}");
            }
        }
        assert!(back.names().unwrap().is_empty());
    }
}

#[test]
fn errors_name_the_source_and_the_reason() {
    let (dir, layout) = fixture::layout();
    let path = dir.path().join("x.tar");
    let check = |bytes: &[u8], expect: Expect, why: &str| {
        fs::write(&path, bytes).unwrap();
        let input = Input::Path(path.clone());
        let error = import_all(input, expect, Select::Only, &layout).unwrap_err();
        assert_eq!(error.message(), format!("cannot read an image from `{}`", path.display()));
        assert!(error.to_string().contains(why), "{error}");
    };
    let tars = fixture::sample_tars("linux/amd64");
    let config = fixture::sample_config("linux/amd64", &tars);
    let manifest = |layers: &str| format!(r#"[{{"Config":"c","Layers":[{layers}]}}]"#).into_bytes();
    check(b"", Expect::Image, "it is empty");
    check(b"hello", Expect::Image, "ends in the middle of a header");
    check(&tars[0], Expect::Image, "it is no image");
    check(&tar_of(&[("manifest.json", b"[]")]), Expect::Image, "there is no image in it");
    check(&tar_of(&[("manifest.json", &manifest(""))]), Expect::Image, "no file `c`");
    let with = |layers: &str, first: &[u8]| {
        tar_of(&[
            ("c", &config),
            ("1", first),
            ("2", &tars[1]),
            ("manifest.json", &manifest(layers)),
        ])
    };
    check(&with(r#""1""#, &tars[0]), Expect::Image, "1 layers, 2 diff_ids");
    check(&with(r#""1","3""#, &tars[0]), Expect::Image, "no such file in the archive");
    check(&with(r#""1","../2""#, &tars[0]), Expect::Image, "no such file in the archive");
    check(&with(r#""2","1""#, &tars[0]), Expect::Image, "layer `2` does not have its diff_id");
    check(&with(r#""1","2""#, &tars[0]), Expect::Oci, "docker-archive, not an OCI layout");
    let cut = &gzip(&tars[0])[..40];
    check(&with(r#""1","2""#, cut), Expect::Image, "the gzip stream is cut short");
    let named = format!("{}.json", "0".repeat(64));
    let manifest = format!(r#"[{{"Config":"{named}","Layers":[]}}]"#).into_bytes();
    check(
        &tar_of(&[(&named, &config), ("manifest.json", &manifest)]),
        Expect::Image,
        "has the wrong content: expected sha256:000",
    );
    let missing = Input::Path(dir.path().join("absent"));
    let error = import_all(missing, Expect::Image, Select::Only, &layout).unwrap_err();
    assert!(error.to_string().contains("no such file"), "{error}");
}

struct Gzip;

impl LayerPacker for Gzip {
    fn pack(&self, tar: &mut (dyn Read + Send), layout: &Layout) -> Result<PackedLayer> {
        let mut bytes = Vec::new();
        tar.read_to_end(&mut bytes).unwrap();
        let packed = gzip(&bytes);
        Ok(PackedLayer {
            digest: layout.put_blob(&packed)?,
            size: packed.len() as u64,
            diff_id: DiffId(Digest::of(&bytes)),
            media_type: media::OCI_LAYER_GZIP.to_owned(),
        })
    }
}

#[test]
fn a_root_file_system_becomes_an_image_of_one_layer() {
    let tar = tar_of(&[("etc/", b""), ("etc/x", b"1"), ("manifest.json", b"{}")]);
    for (bytes, expect) in [
        (tar.clone(), Expect::ImageOrRootFs),
        (gzip(&tar), Expect::ImageOrRootFs),
        (zstd::encode_all(&tar[..], 1).unwrap(), Expect::RootFs),
    ] {
        let (_dir, layout) = fixture::layout();
        let request = Import {
            input: Input::Stream(Box::new(Cursor::new(bytes))),
            expect,
            select: Select::Only,
            tmp: layout.root(),
            rootfs: Some(RootFs {
                platform: Platform::parse("linux/arm/v7").unwrap(),
                created: Some("1970-01-01T00:00:00Z".to_owned()),
                packer: &Gzip,
            }),
        };
        let imported = import(request, &layout).unwrap();
        let descriptor = &imported.images[0].descriptor;
        assert_eq!(validate::validate(&layout, descriptor).unwrap(), []);
        let image = resolve::resolve_single(&layout, descriptor).unwrap();
        let expected = format!(
            r#"{{"architecture":"arm","config":{{}},"created":"1970-01-01T00:00:00Z","history":[{{"comment":"imported root file system","created":"1970-01-01T00:00:00Z"}}],"os":"linux","rootfs":{{"diff_ids":["{}"],"type":"layers"}},"variant":"v7"}}"#,
            Digest::of(&tar)
        );
        assert_eq!(String::from_utf8(image.config_bytes).unwrap(), expected);
    }
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

#[test]
fn sources_are_split_where_something_exists() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a:b");
    fs::write(&path, "").unwrap();
    let text = path.display().to_string();
    assert_eq!(split_source(&text), (path.clone(), None));
    assert_eq!(
        split_source(&format!("{text}:docker.io/x:1")),
        (path.clone(), Some("docker.io/x:1".to_owned()))
    );
    assert_eq!(split_source("-:x"), ("-".into(), Some("x".to_owned())));
    assert_eq!(split_source("/absent:x"), ("/absent:x".into(), None));
}
