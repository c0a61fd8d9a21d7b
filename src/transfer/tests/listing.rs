//! LinuxKit's manual of 2020 shows what manifest-tool and ocidist print for one image: ours is compared with that.

use super::*;
use crate::oci::blobs;
use crate::oci::spec::{ImageConfig, MediaType};
use crate::transfer::manifests::{Content, Listed, Listing};
use crate::transfer::read::Image;
use std::path::Path;

const NAME: &str = "linuxkit/containerd:v0.8";

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/manifests").join(name);
    std::fs::read_to_string(path).unwrap()
}

fn described(media_type: &str, bytes: &[u8]) -> Descriptor {
    spec::descriptor(media_type.into(), &Digest::of(bytes), bytes.len() as u64)
}

/// The index; which layers its manifests have is known from the manual only.
fn index() -> Listing {
    let bytes = file("index.json").into_bytes();
    let root = described(media::DOCKER_LIST, &bytes);
    let blobs::Parsed::Index(index) = blobs::parse(&root, &bytes).unwrap() else { panic!() };
    let shown = file("index.txt");
    let mut blocks = shown.split("# Layers: 5\n").skip(1);
    let listed = |descriptor: &Descriptor| {
        let lines = blocks.next().unwrap().lines().take(5);
        let digests = lines.map(|line| Digest::parse(line.split("= ").last().unwrap()).unwrap());
        let layers = digests.map(|digest| spec::descriptor(MediaType::ImageLayerGzip, &digest, 1));
        Listed { descriptor: descriptor.clone(), layers: Some(layers.collect()) }
    };
    let entries = index.manifests().iter().map(listed).collect();
    Listing { name: NAME.to_owned(), root, bytes, content: Content::Index(entries) }
}

fn single() -> Listing {
    let bytes = file("manifest.json").into_bytes();
    let root = described(media::DOCKER_MANIFEST, &bytes);
    let blobs::Parsed::Manifest(manifest) = blobs::parse(&root, &bytes).unwrap() else { panic!() };
    let config = ImageConfig {
        os: "linux".to_owned(),
        architecture: "amd64".to_owned(),
        ..ImageConfig::default()
    };
    let image = Image {
        descriptor: root.clone(),
        bytes: bytes.clone(),
        manifest,
        config_bytes: Vec::new(),
        config: Some(config),
    };
    let name = format!("{NAME}-amd64");
    Listing { name, root, bytes, content: Content::Image(Box::new(image)) }
}

#[test]
fn an_index_is_listed_as_in_the_manual() {
    assert_eq!(index().text(), file("index.txt"));
}

#[test]
fn a_manifest_is_listed_as_in_the_manual_with_its_size() {
    assert_eq!(single().text(), file("single.txt"));
}

#[test]
fn details_are_those_of_the_manual() {
    let hash = "sha256:247e1eb712c2f5e9d80bb1a9ddf9bb5479b3f785a7e0dd4a8844732bbaa96851";
    let expected = format!("referenced manifest hash {hash} size 1052\n{}\n", file("index.json"));
    assert_eq!(String::from_utf8(index().detail()).unwrap(), expected);
    let hash = "sha256:0dc4f37966e23c0dffa6961119f29100c6d181b221e748c4688a280c08ab52a8";
    let expected =
        format!("referenced manifest hash {hash} size 1357\n{}\n", file("manifest.json"));
    assert_eq!(String::from_utf8(single().detail()).unwrap(), expected);
}

#[test]
fn the_second_layout_has_types_of_layers_and_counts_attestations() {
    let mut listing = index();
    let Content::Index(entries) = &mut listing.content else { panic!() };
    entries.truncate(1);
    let layer = entries[0].layers.as_ref().unwrap()[0].clone();
    entries[0].layers = Some(vec![layer]);
    let mut attestation = entries[0].clone();
    let about = entries[0].descriptor.digest().to_string();
    let annotations = [
        ("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned()),
        ("vnd.docker.reference.digest".to_owned(), about.clone()),
    ];
    attestation.descriptor.set_annotations(Some(annotations.into()));
    entries.push(attestation);
    assert_eq!(
        listing.text_v2(),
        format!(
            "Name:   {NAME} (Type: application/vnd.docker.distribution.manifest.list.v2+json)
Digest: sha256:247e1eb712c2f5e9d80bb1a9ddf9bb5479b3f785a7e0dd4a8844732bbaa96851
 * Contains 2 manifest references (1 image, 1 attestation):
[1]     Type: application/vnd.docker.distribution.manifest.v2+json
[1]   Digest: {about}
[1]   Length: 1357
[1] Platform:
[1]    -      OS: linux
[1]    -    Arch: amd64
[1] # Layers: 1
     layer 01: digest = sha256:319073c03e01a960e61913b0e05b4e0094061726f6959732371a1496098c0980
                 type = application/vnd.oci.image.layer.v1.tar+gzip

[2]     Type: application/vnd.docker.distribution.manifest.v2+json (vnd.docker.reference.type=attestation-manifest)
[2]   Digest: {about}
[2]   Length: 1357
[2]       >>> Attestation for digest: {about}

"
        )
    );
}
