//! Small images for the tests of this room, and a way to call the tools of other people.

use super::{
    Digest, Platform, Reference,
    digest::DiffId,
    layout::Layout,
    media,
    spec::{self, Descriptor},
};
use serde_json::json;
use std::{collections::BTreeMap, io::Write, path::Path, process::Command};
use tar::{EntryType, Header};

/// A layer's tar: `(path, content)`, directories end in a slash.
pub(super) fn tar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in members {
        let mut header = Header::new_ustar();
        header.set_mode(if path.ends_with('/') { 0o755 } else { 0o644 });
        header.set_entry_type(if path.ends_with('/') {
            EntryType::Directory
        } else {
            EntryType::Regular
        });
        // Written directly, since the library refuses the hostile names that tests need.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

/// As gzip.
pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// The tars of the two layers that every sample image has.
pub(super) fn sample_tars(platform: &str) -> [Vec<u8>; 2] {
    let arch = format!("for {platform}\n");
    [
        tar_of(&[("etc/", b""), ("etc/arch", arch.as_bytes()), ("etc/gone", b"x")]),
        tar_of(&[("etc/", b""), ("etc/.wh.gone", b""), ("etc/new", &[b'n'; 3000])]),
    ]
}

/// Config bytes of a sample image.
pub(super) fn sample_config(platform: &str, tars: &[Vec<u8>]) -> Vec<u8> {
    let platform = Platform::parse(platform).unwrap();
    let diff_ids: Vec<DiffId> = tars.iter().map(|tar| DiffId(Digest::of(tar))).collect();
    let mut config = json!({
        "architecture": platform.architecture,
        "os": platform.os,
        "config": {"Cmd": ["/x"], "Env": ["A=b"], "Healthcheck": {"Test": ["NONE"]}},
        "created": "1970-01-01T00:00:01Z",
        "history": [
            {"created_by": "one"}, {"created_by": "two", "empty_layer": true}, {"created_by": "three"},
        ],
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    if !platform.variant.is_empty() {
        config["variant"] = platform.variant.into();
    }
    spec::to_json(&config).unwrap()
}

/// An image of two layers, one gzip, one as `second` says.
pub(super) fn sample(layout: &Layout, platform: &str, second: &str) -> Descriptor {
    let tars = sample_tars(platform);
    let config = layout.put_document(media::OCI_CONFIG, &sample_config(platform, &tars)).unwrap();
    let packed = match second {
        media::OCI_LAYER => tars[1].clone(),
        media::OCI_LAYER_ZSTD => zstd::encode_all(&tars[1][..], 3).unwrap(),
        _ => gzip(&tars[1]),
    };
    let layers = [
        layout.put_document(media::OCI_LAYER_GZIP, &gzip(&tars[0])).unwrap(),
        layout.put_document(second, &packed).unwrap(),
    ];
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": config, "layers": layers,
    });
    layout.put_document(media::OCI_MANIFEST, &spec::to_json(&manifest).unwrap()).unwrap()
}

/// The same image with Docker's media types.
pub(super) fn sample_docker(layout: &Layout) -> Descriptor {
    let tars = sample_tars("linux/amd64");
    let config = sample_config("linux/amd64", &tars);
    let config = layout.put_document(media::DOCKER_CONFIG, &config).unwrap();
    let gzip_type = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    let layers: Vec<Descriptor> =
        tars.iter().map(|tar| layout.put_document(gzip_type, &gzip(tar)).unwrap()).collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media::DOCKER_MANIFEST, "config": config, "layers": layers,
    });
    layout.put_document(media::DOCKER_MANIFEST, &spec::to_json(&manifest).unwrap()).unwrap()
}

/// An index of amd64, arm/v6 and an attestation; arm/v6 is in an index of its own.
pub(super) fn sample_index(layout: &Layout) -> Descriptor {
    let with_platform = |text: &str| {
        let mut descriptor = sample(layout, text, media::OCI_LAYER_GZIP);
        descriptor.set_platform(Some(Platform::parse(text).unwrap().to_oci()));
        descriptor
    };
    let index = |manifests: &[&Descriptor]| {
        let json =
            json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": manifests});
        layout.put_document(media::OCI_INDEX, &spec::to_json(&json).unwrap()).unwrap()
    };
    let empty = layout.put_document("application/vnd.oci.empty.v1+json", b"{}").unwrap();
    let statement = layout.put_document("application/vnd.in-toto+json", b"{\"a\":1}").unwrap();
    let attestation = json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": empty, "layers": [statement],
    });
    let mut attestation =
        layout.put_document(media::OCI_MANIFEST, &spec::to_json(&attestation).unwrap()).unwrap();
    attestation.set_platform(Some(Platform::new("unknown", "unknown", "").to_oci()));
    let inner = index(&[&with_platform("linux/arm/v6")]);
    index(&[&with_platform("linux/amd64"), &inner, &attestation])
}

/// Parsed name.
pub(super) fn name(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

/// A fresh layout and the directory that keeps it.
pub(super) fn layout() -> (tempfile::TempDir, Layout) {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::create(dir.path().join("layout")).unwrap();
    (dir, layout)
}

/// Members of a tar, by name.
pub(super) fn untar(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(bytes);
    let mut all = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        all.insert(path, content);
    }
    all
}

/// Runs a tool of other people; `None`, said loudly, when it is not installed and need not be.
pub(super) fn peer(program: &str, arguments: &[&str], dir: &Path) -> Option<String> {
    let Ok(output) = Command::new(program).args(arguments).current_dir(dir).output() else {
        skip(program);
        return None;
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    Some(String::from_utf8(output.stdout).unwrap())
}

/// True when a tool can work here at all: some need more of a machine than being installed.
pub(super) fn peer_works(program: &str, arguments: &[&str], dir: &Path) -> bool {
    let output = Command::new(program).args(arguments).current_dir(dir).output();
    let works = output.is_ok_and(|output| output.status.success());
    if !works {
        skip(program);
    }
    works
}

fn skip(program: &str) {
    #[expect(clippy::disallowed_methods, reason = "tests have no cli that reads the environment")]
    let required = std::env::var("NATIVEBUILD_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|need| need == "peers"), "`{program}` is required");
    eprintln!("SKIPPED a comparison: `{program}` does not work here");
}
