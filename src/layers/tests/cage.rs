//! Archives made by hand, and a root from which nothing may get out.

use super::open;
use crate::error::Result;
use crate::layers::apply::{AppliedStats, ApplyOptions, Devices, apply};
use crate::layers::pax;
use crate::layers::whiteout::XattrFlavour;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// A tar made block by block.
#[derive(Default, Clone)]
pub(super) struct Raw(pub(super) Vec<u8>);

impl Raw {
    pub(super) fn add(self, kind: u8, name: &str, link: &str, body: &[u8]) -> Self {
        self.sized(kind, name, link, body, body.len() as u64)
    }

    /// With another size in the header than the body has.
    pub(super) fn sized(
        mut self,
        kind: u8,
        name: &str,
        link: &str,
        body: &[u8],
        size: u64,
    ) -> Self {
        let mut header = tar::Header::new_ustar();
        let fields = header.as_ustar_mut().unwrap();
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1000);
        header.set_size(size);
        if matches!(kind, b'3' | b'4') {
            header.set_device_major(1).unwrap();
            header.set_device_minor(if name == "zero" { 0 } else { 3 }).unwrap();
            if name == "whiteout" {
                header.set_device_major(0).unwrap();
                header.set_device_minor(0).unwrap();
            }
        }
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(body);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// An extended header.
    pub(super) fn pax(self, kind: u8, records: &[(&str, &str)]) -> Self {
        let text: Vec<u8> =
            records.iter().flat_map(|(k, v)| pax::record(k.as_bytes(), v.as_bytes())).collect();
        self.add(kind, "pax", "", &text)
    }

    pub(super) fn file(self, name: &str, body: &str) -> Self {
        self.add(b'0', name, "", body.as_bytes())
    }

    pub(super) fn dir(self, name: &str) -> Self {
        self.add(b'5', name, "", b"")
    }

    pub(super) fn link(self, name: &str, target: &str) -> Self {
        self.add(b'2', name, target, b"")
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A root beside a canary that must stay as it is.
pub(super) struct Cage {
    pub(super) dir: tempfile::TempDir,
}

impl Cage {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        std::fs::create_dir(dir.path().join("apart")).unwrap();
        std::fs::create_dir(dir.path().join("out")).unwrap();
        std::fs::write(dir.path().join("out/canary"), "alive").unwrap();
        Self { dir }
    }

    pub(super) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub(super) fn apply(&self, tar: &[u8], options: &ApplyOptions) -> Result<AppliedStats> {
        let result = apply(tar, open(&self.root()).as_fd(), options);
        // It must not lead out there either, whether or not it can be applied.
        let apart = ApplyOptions { apart: Some(XattrFlavour::User), ..*options };
        let _either = apply(tar, open(&self.dir.path().join("apart")).as_fd(), &apart);
        let names = |path: &str| -> Vec<String> {
            let dir = open(&self.dir.path().join(path));
            let names = crate::sys::fs::list(dir).unwrap();
            names.into_iter().map(|name| String::from_utf8(name).unwrap()).collect()
        };
        assert_eq!(names(""), ["apart", "out", "root"]);
        assert_eq!(names("out"), ["canary"]);
        let canary = self.dir.path().join("out/canary");
        assert_eq!(std::fs::read(&canary).unwrap(), b"alive");
        assert_eq!(std::fs::metadata(&canary).unwrap().nlink(), 1);
        assert_eq!(std::fs::metadata(&canary).unwrap().mode() & 0o7777, 0o644);
        result
    }
}

/// Options that work without being root.
pub(super) fn options() -> ApplyOptions {
    ApplyOptions { owner: false, ..ApplyOptions::layer(Devices::Placeholder) }
}

/// The archive is refused with this error, and nothing outside changes.
pub(super) fn refused(tar: Vec<u8>, expect: &str) {
    let cage = Cage::new();
    match cage.apply(&tar, &options()) {
        Ok(_) => panic!("accepted, expected: {expect}"),
        Err(error) => assert_eq!(error.to_string(), expect),
    }
}

pub(super) fn raw() -> Raw {
    Raw::default()
}
