//! Which images of a source come in, for which platforms, and under which names.

use super::super::*;
use super::{ARCHIVES, import_all, import_bytes, saved};
use crate::oci::{
    fixture::{self, name, sample},
    media, resolve, spec, validate,
};
use std::fs;

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
