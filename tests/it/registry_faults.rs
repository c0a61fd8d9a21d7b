//! Networks that fail: three of ten requests go wrong, transfers are killed, large layers pass through little memory.

use crate::support::faults::{Dice, Faults, at_random};
use crate::support::registry::Registry;
use crate::support::{World, peer};
use nativebuild::net::{NetConfig, Pause, Registry as Client, Wanted};
use nativebuild::oci::Reference;
use nativebuild::oci::layout::Layout;
use nativebuild::oci::media::{OCI_CONFIG, OCI_LAYER, OCI_MANIFEST};
use nativebuild::oci::spec::Descriptor;
use nativebuild::progress::Emitter;
use serde_json::{Value, json};

/// Sizes of the layers' files, in bytes.
const LAYERS: [usize; 5] = [1_200_000, 100_000, 700_000, 333_333, 500_000];

/// A client that does not wait.
fn client() -> Client {
    let config = NetConfig { pause: Pause::with(|_| {}), ..NetConfig::default() };
    Client::new(&config).unwrap()
}

fn reference(name: &str) -> Reference {
    Reference::parse(name).unwrap()
}

/// A tar with one file that cannot be compressed.
fn layer(name: &str, size: usize) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_mtime(1_600_000_000);
    header.set_size(size as u64);
    tar.append_data(&mut header, name, &*Dice::new(name).bytes(size)).unwrap();
    tar.into_inner().unwrap()
}

/// An image with a file of each size.
fn image(layout: &Layout, sizes: &[usize]) -> Descriptor {
    let put = |kind: &str, bytes: &[u8]| {
        let digest = layout.put_blob(bytes).unwrap();
        json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    };
    let layers: Vec<Value> = sizes
        .iter()
        .enumerate()
        .map(|(at, size)| put(OCI_LAYER, &layer(&format!("file-{at}"), *size)))
        .collect();
    let diff_ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
    let config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = put(OCI_CONFIG, config.to_string().as_bytes());
    let manifest =
        json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers});
    layout.put_document(OCI_MANIFEST, manifest.to_string().as_bytes()).unwrap()
}

/// Digest and size of all blobs of an image, the manifest included; each is read and verified.
fn blobs(layout: &Layout, root: &Descriptor) -> Vec<(String, u64)> {
    let manifest: Value = serde_json::from_slice(&layout.read_blob_small(root).unwrap()).unwrap();
    let parts = manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]);
    let mut all = vec![(root.digest().to_string(), root.size())];
    for part in parts {
        let descriptor: Descriptor = serde_json::from_value(part.clone()).unwrap();
        let mut reader = layout.open_blob(&descriptor).unwrap();
        std::io::copy(&mut reader, &mut std::io::sink()).unwrap();
        all.push((descriptor.digest().to_string(), descriptor.size()));
    }
    all
}

fn registry(world: &World) -> Option<Registry> {
    peer("docker-registry").then(|| Registry::start(world))
}

#[test]
fn a_hundred_pushes_and_pulls_end_right_when_three_of_ten_requests_fail() {
    let world = World::new();
    let Some(registry) = registry(&world) else { return };
    let layout = Layout::create(world.path("source")).unwrap();
    let image = image(&layout, &LAYERS);
    let wanted = blobs(&layout, &image);
    let size: u64 = wanted[1..].iter().map(|(_, size)| size).sum();
    let proxy = Faults::before(&registry.address, at_random(6, 30));
    let name = |run: usize| reference(&format!("{}/app-{run}:1", proxy.host()));
    for run in 0..100 {
        let pushed = client().push(&layout, &image, &[name(run)], &Emitter::silent());
        let digest = pushed.unwrap()[0].descriptor.digest().to_string();
        assert_eq!(digest, image.digest().to_string());
    }
    let pushes = proxy.take();
    for run in 0..100 {
        let copy = Layout::create(world.path(&format!("copy-{run}"))).unwrap();
        let pulled = client().pull(&name(run), &Wanted::All, &copy, &Emitter::silent()).unwrap();
        assert_eq!(blobs(&copy, &pulled.root), wanted);
        std::fs::remove_dir_all(copy.root()).unwrap();
    }
    let pulls = proxy.take();
    for counts in [&pushes, &pulls] {
        let failing = counts.faults * 100 / counts.requests;
        assert!((25..35).contains(&failing), "{failing} %");
    }
    for bytes in [pushes.sent, pulls.received] {
        let percent = bytes / size;
        assert!((100..150).contains(&percent), "{percent} %");
    }
}
