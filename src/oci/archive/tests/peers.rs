//! Comparisons with the tools of other people: what we write they read, and the other way round.

use super::super::*;
use super::{ARCHIVES, identity, import_all, saved};
use crate::oci::{
    blobs::Blobs,
    fixture::{self, name, peer, peer_works, sample},
    media,
    spec::{self, ImageManifest},
    validate,
};
use std::fs;

#[test]
fn skopeo_and_umoci_read_what_we_write() {
    for second in [media::OCI_LAYER_GZIP, media::OCI_LAYER] {
        let (dir, layout) = fixture::layout();
        let descriptor = sample(&layout, "linux/amd64", second);
        let (config, diff_ids) = identity(&layout, &descriptor);
        for (format, transport) in ARCHIVES.iter().zip([
            "oci-archive:out.tar",
            "docker-archive:out.tar",
            "docker-archive:out.tar",
            "docker-archive:out.tar",
        ]) {
            let bytes = saved(&layout, &descriptor, &[name("a:1")], *format).unwrap();
            fs::write(dir.path().join("out.tar"), bytes).unwrap();
            let target = format!("oci:{format:?}:t");
            let arguments = ["--insecure-policy", "copy", "-q", transport, &target];
            let Some(_) = peer("skopeo", &arguments, dir.path()) else { return };
            let path = dir.path().join(format!("{format:?}"));
            let (_keep, back) = fixture::layout();
            let input = Input::Path(path.clone());
            let taken = import_all(input, Expect::Oci, Select::Only, &back).unwrap();
            assert_eq!(taken.images[0].tag.as_deref(), Some("t"));
            let found = identity(&back, &taken.images[0].descriptor);
            assert_eq!(found.1, diff_ids, "{format:?}");
            // On its way from Docker's form to OCI's, skopeo drops what only Docker's config has.
            if *format == SaveFormat::OciArchive {
                assert_eq!(found.0, config);
            }
        }
        let image = SaveImage { descriptor: &descriptor, names: &[name("a:1")] };
        let out = dir.path().join("dir");
        save(&layout, &[image], &SaveOptions::new(SaveFormat::OciDir), Output::Dir(&out)).unwrap();
        let unpack = ["unpack", "--rootless", "--image", "dir:1", "bundle"];
        let Some(_) = peer("umoci", &unpack, dir.path()) else { return };
        let etc = dir.path().join("bundle/rootfs/etc");
        assert_eq!(fs::read_to_string(etc.join("arch")).unwrap(), "for linux/amd64\n");
        assert!(!etc.join("gone").exists());
    }
}

#[test]
fn what_skopeo_and_umoci_write_is_read() {
    let (dir, layout) = fixture::layout();
    let descriptor = sample(&layout, "linux/amd64", media::OCI_LAYER_GZIP);
    let expected = identity(&layout, &descriptor);
    let bytes = saved(&layout, &descriptor, &[name("a:1")], SaveFormat::OciArchive).unwrap();
    fs::write(dir.path().join("in.tar"), bytes).unwrap();
    for target in ["docker-archive:o.tar:x/y:1", "oci-archive:o.tar:x/y:1", "oci:o.dir:x/y:1"] {
        let arguments = ["--insecure-policy", "copy", "-q", "oci-archive:in.tar", target];
        let Some(_) = peer("skopeo", &arguments, dir.path()) else { return };
        let path = dir.path().join(target.split(':').nth(1).unwrap());
        assert_eq!(validate::validate_source(&path, dir.path()).unwrap(), [], "{target}");
        let (_keep, back) = fixture::layout();
        let taken =
            import_all(Input::Path(path.clone()), Expect::Image, Select::Only, &back).unwrap();
        assert_eq!(taken.images[0].names, [name("x/y:1")], "{target}");
        assert_eq!(identity(&back, &taken.images[0].descriptor), expected, "{target}");
        if path.is_file() {
            fs::remove_file(path).unwrap();
        }
    }
    let Some(_) = peer("umoci", &["init", "--layout", "u"], dir.path()) else { return };
    peer("umoci", &["new", "--image", "u:t"], dir.path()).unwrap();
    let (_keep, back) = fixture::layout();
    let input = Input::Path(dir.path().join("u"));
    let taken = import_all(input, Expect::Oci, Select::Named("t".to_owned()), &back).unwrap();
    let image = &taken.images[0].descriptor;
    let bytes = back.required(image).unwrap();
    let manifest: ImageManifest = spec::from_json("manifest", &bytes).unwrap();
    assert!(manifest.layers().is_empty());
    assert_eq!(validate::validate(&back, image).unwrap(), []);
}

#[test]
fn podman_loads_what_we_write() {
    let (dir, layout) = fixture::layout();
    let descriptor = sample(&layout, "linux/amd64", media::OCI_LAYER_ZSTD);
    let store = ["--root=store", "--runroot=run", "--tmpdir=tmp", "--storage-driver=vfs"];
    if !peer_works("podman", &[&store[..], &["info"]].concat(), dir.path()) {
        return;
    }
    let podman = |arguments: &[&str]| peer("podman", &[&store, arguments].concat(), dir.path());
    for (at, format) in ARCHIVES.iter().enumerate() {
        let tag = format!("localhost/loaded:{at}");
        let bytes = saved(&layout, &descriptor, &[name(&tag)], *format).unwrap();
        fs::write(dir.path().join("out.tar"), bytes).unwrap();
        let Some(text) = podman(&["load", "-q", "-i", "out.tar"]) else { return };
        assert!(text.contains(&tag), "{format:?}: {text}");
        let layers = podman(&["image", "inspect", "--format={{len .RootFS.Layers}}", &tag]);
        assert_eq!(layers.as_deref(), Some("2\n"));
    }
    // And back, in both of the forms that it saves.
    for form in ["docker-archive", "oci-archive"] {
        let form = format!("--format={form}");
        podman(&["save", "-q", &form, "-o", "back.tar", "localhost/loaded:1"]).unwrap();
        let path = dir.path().join("back.tar");
        assert_eq!(validate::validate_source(&path, dir.path()).unwrap(), []);
        let (_keep, back) = fixture::layout();
        let taken = import_all(Input::Path(path.clone()), Expect::Image, Select::Only, &back);
        let taken = taken.unwrap();
        assert_eq!(taken.images[0].names, [name("localhost/loaded:1")], "{form}");
        let found = identity(&back, &taken.images[0].descriptor);
        assert_eq!(found.1, identity(&layout, &descriptor).1);
        fs::remove_file(path).unwrap();
    }
}
