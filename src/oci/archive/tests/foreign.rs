//! What others write and we never do: old archives, links in place of layers, root file systems.

use super::super::*;
use super::{identity, import_bytes, saved};
use crate::oci::{
    Digest,
    digest::DiffId,
    fixture::{self, gzip, name, sample, tar_of, untar},
    media, resolve, validate,
};
use std::io::Cursor;

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
