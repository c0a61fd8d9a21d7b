//! `nativebuild image du`: what takes how much space (docs/store.md).

use super::environment::Environment;
use super::print_data;
use crate::build::care::usage::{self, Kind};
use crate::build::store::Store;
use crate::build::worker::Worker;
use crate::error::Result;
use crate::executor::emulation::Places;
use crate::oci::layout::Layout;
use crate::oci::spec::digest_of;
use crate::oci::{Digest, blobs};
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// `nativebuild image du`.
#[derive(Clone, Copy, Debug, Args)]
pub struct DuArgs {
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Bytes of the blobs of one image.
struct Image {
    name: String,
    digest: String,
    size: u64,
    /// Of blobs that no other digest among the named images needs.
    unique: u64,
}

pub(super) fn run(args: DuArgs, store: &Store, environment: &Environment) -> Result<()> {
    let images = images(store)?;
    // Files of snapshots belong to subordinate ids: only inside their namespace may we look at them.
    let _worker = Worker::enter(store, &environment.account(), &Places::default())?;
    let totals = usage::totals(&usage::objects(store)?);
    let total: u64 = totals.values().map(|(_, bytes)| bytes).sum();
    if args.json {
        let row = |image: &Image| {
            json!({
                "name": image.name, "digest": image.digest, "size": image.size,
                "unique": image.unique, "shared": image.size - image.unique,
            })
        };
        let store: BTreeMap<String, Value> = Kind::ALL
            .iter()
            .map(|kind| {
                let (count, bytes) = totals.get(kind).copied().unwrap_or_default();
                (kind.name().replace(' ', "_"), json!({"count": count, "size": bytes}))
            })
            .collect();
        let images: Vec<Value> = images.iter().map(row).collect();
        let value = json!({"images": images, "store": store, "total": total});
        return print_data(format!("{value:#}\n").as_bytes());
    }
    let mut rows = vec![["IMAGE", "SIZE", "UNIQUE", "SHARED"].map(str::to_owned)];
    rows.extend(images.iter().map(|image| {
        let shared = image.size - image.unique;
        [image.name.clone(), image.size.to_string(), image.unique.to_string(), shared.to_string()]
    }));
    let mut text = table(&rows);
    let mut rows = vec![["STORE", "COUNT", "SIZE"].map(str::to_owned)];
    for kind in Kind::ALL {
        let (count, bytes) = totals.get(&kind).copied().unwrap_or_default();
        rows.push([kind.name().to_owned(), count.to_string(), bytes.to_string()]);
    }
    rows.push(["total".to_owned(), String::new(), total.to_string()]);
    let _to_string = write!(text, "\n{}", table(&rows));
    print_data(text.as_bytes())
}

fn images(store: &Store) -> Result<Vec<Image>> {
    // Without stamps: looking is no use.
    let layout = Layout::open(store.images().root())?;
    // Blobs by digest: their sizes, and which images need them; names of one digest are one image.
    let mut needed: BTreeMap<Digest, (u64, Vec<Digest>)> = BTreeMap::new();
    let mut images = Vec::new();
    for image in layout.names()? {
        let root = digest_of(&image.descriptor)?;
        let reachable = blobs::reachable(&layout, &image.descriptor).unwrap_or_default();
        for blob in &reachable.blobs {
            let (_, users) =
                needed.entry(digest_of(blob)?).or_insert_with(|| (blob.size(), Vec::new()));
            if !users.contains(&root) {
                users.push(root.clone());
            }
        }
        images.push((image.name.familiar(), root));
    }
    let of = |(name, root): (String, Digest)| {
        let own = needed.values().filter(|(_, users)| users.contains(&root));
        let (mut size, mut unique) = (0, 0);
        for (bytes, users) in own {
            size += bytes;
            unique += if users.len() == 1 { *bytes } else { 0 };
        }
        Image { name, digest: root.to_string(), size, unique }
    };
    Ok(images.into_iter().map(of).collect())
}

/// The first column to the left, numbers to the right.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let mut out = String::new();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let _to_string = match column {
                0 => write!(out, "{cell:<width$}"),
                _ => write!(out, "  {cell:>width$}"),
            };
        }
        out.push('\n');
    }
    out
}
