//! What `image inspect` prints, as a whole.

use super::*;
use crate::oci::layout::Origin;
use crate::oci::{Platform, Reference};

fn named(world: &World, name: &str, root: &Descriptor) -> Location {
    world.store.set_name(&Reference::parse(name).unwrap(), root, Origin::Built).unwrap();
    Location::parse(name).unwrap()
}

#[test]
fn an_image_and_an_index_are_described_for_people() {
    let world = World::new();
    let tar = tar_of(&[("a", EntryType::Regular, "x")]);
    let layer = Digest::of(&tar);
    let root = image(&world.store, &[tar]);
    let at = named(&world, "app:1", &root);
    let access = world.access();
    let found = describe::describe(&access, &at, None).unwrap();
    let digest = root.digest();
    let body = format!(
        "Platform:  linux/amd64\nSize:      2.5 KiB\nLayers:    1\n   1  {layer}  2.0 KiB  tar\n"
    );
    assert_eq!(
        found.text(false),
        format!(
            "Name:      docker.io/library/app:1\nOrigin:    built\nDigest:    {digest}\n\
             Type:      application/vnd.oci.image.manifest.v1+json\n{body}"
        )
    );

    let absent = Digest::of(b"absent");
    let index = document(
        &world.store,
        &json!({
            "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [
                {"mediaType": media::OCI_MANIFEST, "digest": digest, "size": root.size(),
                 "platform": {"os": "linux", "architecture": "amd64"}},
                {"mediaType": media::OCI_MANIFEST, "digest": absent, "size": 7,
                 "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}},
                {"mediaType": media::OCI_MANIFEST, "digest": Digest::of(b"a"), "size": 7,
                 "platform": {"os": "unknown", "architecture": "unknown"}},
            ],
        }),
    );
    let at = named(&world, "app:all", &index);
    let head = format!(
        "Name:      docker.io/library/app:all\nOrigin:    built\nDigest:    {}\n\
         Type:      application/vnd.oci.image.index.v1+json\n",
        index.digest()
    );
    let found = describe::describe(&access, &at, None).unwrap();
    assert_eq!(
        found.text(false),
        format!(
            "{head}Entries:   3\n  linux/amd64   {digest}  2.5 KiB, 1 layer\n  \
             linux/arm/v7  {absent}  not here\n  attestation   {}\n",
            Digest::of(b"a")
        )
    );
    let amd64 = Platform::parse("linux/amd64").unwrap();
    let found = describe::describe(&access, &at, Some(&amd64)).unwrap();
    assert_eq!(found.text(true), format!("{head}Manifest:  {digest}\n{body}"));
    assert_eq!(found.json().unwrap()["platforms"], json!(["linux/amd64", "linux/arm/v7"]));
    let s390x = Platform::parse("linux/s390x").unwrap();
    let error = describe::describe(&access, &at, Some(&s390x)).unwrap_err().to_string();
    assert_eq!(error, "the image is not made for `linux/s390x`");
}
