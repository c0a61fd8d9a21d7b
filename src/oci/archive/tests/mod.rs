//! Tests of the archive forms: what each reads and writes, and other tools that must read ours.

mod choices;
mod foreign;
mod forms;
mod peers;
mod refused;

use super::*;
use crate::oci::{Digest, digest::DiffId, resolve, validate};
use std::io::Cursor;

const ARCHIVES: [SaveFormat; 4] = [
    SaveFormat::OciArchive,
    SaveFormat::DockerArchive,
    SaveFormat::DockerArchiveV1,
    SaveFormat::DockerArchiveFlat,
];

fn saved(
    layout: &Layout,
    descriptor: &Descriptor,
    names: &[Reference],
    format: SaveFormat,
) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    save(
        layout,
        &[SaveImage { descriptor, names }],
        &SaveOptions::new(format),
        Output::Stream(&mut bytes),
    )?;
    Ok(bytes)
}

fn import_all(input: Input, expect: Expect, select: Select, layout: &Layout) -> Result<Imported> {
    import(Import { input, expect, select, tmp: layout.root(), rootfs: None }, layout)
}

fn import_bytes(bytes: &[u8], layout: &Layout) -> Result<Imported> {
    let input = Input::Stream(Box::new(Cursor::new(bytes.to_vec())));
    import_all(input, Expect::Image, Select::Only, layout)
}

/// Config digest and diff_ids: what every form must keep.
fn identity(layout: &Layout, descriptor: &Descriptor) -> (String, Vec<DiffId>) {
    assert_eq!(validate::validate(layout, descriptor).unwrap(), []);
    let image = resolve::resolve_single(layout, descriptor).unwrap();
    (Digest::of(&image.config_bytes).to_string(), image.config.rootfs.diff_ids)
}
