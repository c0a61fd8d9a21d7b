//! What is refused: damaged archives, and those that are no image.

use super::super::*;
use super::{ARCHIVES, import_all, import_bytes, saved};
use crate::oci::{
    fixture::{self, gzip, name, sample, tar_of},
    media, validate,
};
use std::fs;

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
