//! `nativebuild assemble`: specs in, images out. What is made is read back layer by layer, by our validator and by
//! other people's programs where they are installed (assemble-trust.md A).

mod bugs;
mod closures;
mod config;
mod database;
mod edges;
mod faults;
mod layers;
mod outputs;
mod packages;
mod perms;
mod same;
mod scripts;
mod singles;
mod sources;
mod stranger;
mod trees;
mod ways;
mod whiteouts;

use crate::support::peers::Peers;
use crate::support::{Said, Who, World, base, peer};
use flate2::read::MultiGzDecoder;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The beginning of most specs.
pub const HEAD: &str = "version: 1\nname: app\n";
/// The same on the small base image.
pub const ON_BASE: &str = "version: 1\nname: app\nfrom: {image: base}\n";

/// An image that was assembled, as its layout says.
#[derive(Debug, PartialEq, Eq)]
pub struct Made {
    /// Of the manifest.
    pub digest: String,
    pub manifest: Value,
    pub config: Value,
    /// The plain tars, bottom first.
    pub layers: Vec<Vec<u8>>,
}

/// Assembles the spec, which lies in the context.
pub fn assemble(world: &World, spec: &str, args: &[&str]) -> Said {
    world.file("image.yaml", spec);
    let fixed = ["assemble", "-f", "context/image.yaml"];
    world.run(fixed.iter().chain(args))
}

/// Assembles an image of the name `app` and looks at it from all sides.
#[track_caller]
pub fn app(world: &World, spec: &str) -> Made {
    app_with(world, spec, &[])
}

#[track_caller]
pub fn app_with(world: &World, spec: &str, args: &[&str]) -> Made {
    let said = assemble(world, spec, args).ok();
    let digest = said.strip_prefix("app:latest@").unwrap_or(&said).trim_end().to_owned();
    assert_eq!(said, format!("app:latest@{digest}\n"));
    let made = read(world, "app");
    assert_eq!(made.digest, digest);
    made
}

/// The same without other people's programs, where there are many images.
#[track_caller]
pub fn quick(world: &World, spec: &str) -> Made {
    assemble(world, spec, &[]).ok();
    stored(world, "app")
}

/// An image of the store, after validator and peers have read it.
#[track_caller]
pub fn read(world: &World, name: &str) -> Made {
    let made = stored(world, name);
    if world.who() == Who::Root {
        by_peers(world, &world.path("out/made"), &made);
    }
    made
}

#[track_caller]
fn stored(world: &World, name: &str) -> Made {
    world.validate(name);
    let layout = world.path("out/made");
    let _not_there = fs::remove_dir_all(&layout);
    let shown = layout.to_str().unwrap();
    world.run(["image", "save", name, "--format", "oci", "-o", shown]).ok();
    of_layout(&layout)
}

/// The only image of a layout.
pub fn of_layout(layout: &Path) -> Made {
    let index: Value = json(&fs::read(layout.join("index.json")).unwrap());
    let digest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let blob = |digest: &Value| {
        let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
        fs::read(layout.join("blobs/sha256").join(hex)).unwrap()
    };
    let manifest = json(&blob(&Value::from(digest.clone())));
    let layers = manifest["layers"].as_array().unwrap();
    let layers = layers.iter().map(|layer| plain(&blob(&layer["digest"]))).collect();
    Made { digest, config: json(&blob(&manifest["config"]["digest"])), manifest, layers }
}

/// skopeo checks every digest of a layout while it copies; umoci unpacks it to the tree that we export.
fn by_peers(world: &World, layout: &Path, made: &Made) {
    let tag = tag_of(layout);
    let source = format!("oci:{}:{tag}", layout.display());
    let peers = Peers { world };
    if peer("skopeo") {
        let copy = world.path("out/copy");
        let _not_there = fs::remove_dir_all(&copy);
        let to = format!("oci:{}:{tag}", copy.display());
        let options = ["--insecure-policy", "copy", "--quiet", "--preserve-digests"];
        peers.run("skopeo", &[&options[..], &[&source, &to]].concat());
        assert_eq!(of_layout(&copy).digest, made.digest);
    }
    let types = made.manifest["layers"].as_array().unwrap().iter();
    let zstd = types.clone().any(|layer| layer["mediaType"].as_str().unwrap().ends_with("zstd"));
    // It knows no zstd, and takes an image without layers for none.
    if types.len() > 0 && !zstd && peer("umoci") {
        let bundle = world.path("out/bundle");
        let _not_there = fs::remove_dir_all(&bundle);
        let image = format!("{}:{tag}", layout.display());
        peers.run("umoci", &["unpack", "--image", &image, bundle.to_str().unwrap()]);
    }
}

fn tag_of(layout: &Path) -> String {
    let index: Value = json(&fs::read(layout.join("index.json")).unwrap());
    let tag = &index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"];
    tag.as_str().unwrap().to_owned()
}

/// `sha256:…` of some bytes.
pub fn sha256(bytes: &[u8]) -> String {
    let hex: Vec<String> = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{}", hex.concat())
}

pub fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// A blob without its compression.
pub fn plain(blob: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    match blob {
        [0x1f, 0x8b, ..] => drop(MultiGzDecoder::new(blob).read_to_end(&mut bytes).unwrap()),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => bytes = zstd::decode_all(blob).unwrap(),
        _ => bytes = blob.to_vec(),
    }
    bytes
}

impl Made {
    /// What each layer holds, as `path type mode uid:gid extra`.
    pub fn list(&self) -> Vec<Vec<String>> {
        self.layers.iter().map(|tar| base::list_tar(tar)).collect()
    }

    /// What the topmost layer holds.
    pub fn top(&self) -> Vec<String> {
        base::list_tar(self.layers.last().expect("a layer"))
    }

    /// `sha256:…` of each plain layer, as the config has them.
    pub fn diff_ids(&self) -> Vec<String> {
        let ids = self.config["rootfs"]["diff_ids"].as_array().unwrap();
        ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    /// Times of the files of the topmost layer.
    pub fn times(&self) -> Vec<(String, u64)> {
        self.of_top(|entry| entry.header().mtime().unwrap())
    }

    /// The files of the topmost layer with something of each, in the order of the tar.
    pub fn of_top<T>(&self, what: impl Fn(&mut tar::Entry<'_, &[u8]>) -> T) -> Vec<(String, T)> {
        let mut archive = tar::Archive::new(&self.layers.last().expect("a layer")[..]);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            (path, what(&mut entry))
        });
        entries.collect()
    }

    /// The bytes of a file of the topmost layer.
    pub fn bytes(&self, path: &str) -> Vec<u8> {
        let all = self.of_top(|entry| {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            bytes
        });
        all.into_iter().find(|(at, _)| at == path).expect("a file of the layer").1
    }
}

/// A path of the world's context.
pub fn at(world: &World, name: &str) -> PathBuf {
    world.context().join(name)
}

/// A tar with these members: path, type and mode, owner, bytes or link target.
pub fn tar_of(members: &[Member<'_>]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for member in members {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(member.kind);
        header.set_mode(member.mode);
        header.set_uid(member.owner.0);
        header.set_gid(member.owner.1);
        header.set_mtime(1_500_000_000);
        if member.kind.is_symlink() || member.kind.is_hard_link() {
            header.set_size(0);
            tar.append_link(&mut header, member.path, member.text).unwrap();
        } else {
            header.set_size(member.text.len() as u64);
            if member.kind.is_character_special() {
                header.set_device_major(1).unwrap();
                header.set_device_minor(3).unwrap();
            }
            tar.append_data(&mut header, member.path, member.text.as_bytes()).unwrap();
        }
    }
    tar.into_inner().unwrap()
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    pub path: &'a str,
    pub kind: tar::EntryType,
    pub mode: u32,
    pub owner: (u64, u64),
    pub text: &'a str,
}

pub fn file<'a>(path: &'a str, text: &'a str) -> Member<'a> {
    Member { path, kind: tar::EntryType::Regular, mode: 0o644, owner: (0, 0), text }
}

pub fn dir(path: &str) -> Member<'_> {
    Member { path, kind: tar::EntryType::Directory, mode: 0o755, owner: (0, 0), text: "" }
}

pub fn link<'a>(path: &'a str, text: &'a str) -> Member<'a> {
    Member { path, kind: tar::EntryType::Symlink, mode: 0o777, owner: (0, 0), text }
}

pub fn hard<'a>(path: &'a str, text: &'a str) -> Member<'a> {
    Member { path, kind: tar::EntryType::Link, mode: 0o644, owner: (0, 0), text }
}

/// `/dev/null`'s numbers.
pub fn null(path: &str) -> Member<'_> {
    Member { path, kind: tar::EntryType::Char, mode: 0o666, owner: (0, 0), text: "" }
}
