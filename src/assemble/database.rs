//! Nix's database in the image, written without Nix: the same bytes for the same store paths (assemble-trust.md A9).

use super::base::Base;
use super::contents::Filler;
use super::place::shown;
use super::spec::{DirSymlinks, NixDatabase};
use super::tree::{Body, Origin};
use crate::build::store::Store;
use crate::error::{Error, Result};
use crate::layers::EntryKind;
use crate::nix::database;
use crate::oci::spec::{Descriptor, descriptor};
use crate::transfer::flatten;

/// Where it lies.
const STATE: &str = "nix/var/nix";
/// Largest database of a base.
const MAX_BASE: u64 = 1 << 30;

/// Puts it in.
pub(super) fn add(
    filler: &mut Filler<'_>,
    wish: &NixDatabase,
    (base, store): (&Base, &Store),
    registered: i64,
) -> Result<()> {
    let placed = |error: Error| error.at(&filler.spec.source, wish.span);
    let old = if wish.merge_base { of_base(base, store).map_err(placed)? } else { None };
    let infos: Vec<_> = filler.closures.included().cloned().collect();
    if infos.is_empty() && old.is_none() {
        return Err(placed(
            Error::image("there are no store paths for a database")
                .hint("a `closure` in `contents` brings them"),
        ));
    }
    let bytes = database::database(&infos, old.as_deref(), registered).map_err(placed)?;
    let mut put = |path: &str, kind: EntryKind, mode: u32, body: Body| {
        let node = filler.node(Origin::Database, kind, mode, body);
        let path = format!("{STATE}/{path}").into_bytes();
        filler.place(&path, node, DirSymlinks::FollowBase).map(drop)
    };
    for path in ["db", "gcroots", "gcroots/auto", "gcroots/per-user", "profiles", "temproots"] {
        put(path, EntryKind::Directory, 0o755, Body::None)?;
    }
    put("profiles/per-user", EntryKind::Directory, 0o755, Body::None)?;
    let mut file = |path: &str, bytes: Vec<u8>| {
        let kind = EntryKind::File { size: bytes.len() as u64 };
        put(path, kind, 0o644, Body::Bytes(bytes.into()))
    };
    file("db/schema", database::SCHEMA.as_bytes().to_vec())?;
    file("db/db.sqlite", bytes)?;
    file("db/big-lock", Vec::new())?;
    let target = b"/nix/var/nix/profiles".to_vec();
    put("gcroots/profiles", EntryKind::Symlink { target }, 0o777, Body::None)?;
    if let Some(name) = &wish.gcroots {
        put(&format!("gcroots/{name}"), EntryKind::Directory, 0o755, Body::None)?;
        let roots: Vec<(String, Vec<u8>)> = filler
            .closures
            .roots
            .iter()
            .map(|root| (shown(root.name()), root.as_bytes().to_vec()))
            .collect();
        for (root, target) in roots {
            let node =
                filler.node(Origin::Database, EntryKind::Symlink { target }, 0o777, Body::None);
            let path = format!("{STATE}/gcroots/{name}/{root}").into_bytes();
            filler.place(&path, node, DirSymlinks::FollowBase)?;
        }
    }
    Ok(())
}

fn of_base(base: &Base, store: &Store) -> Result<Option<Vec<u8>>> {
    let path = format!("{STATE}/db/db.sqlite").into_bytes();
    if !base.view.files.contains_key(&path) {
        return Ok(None);
    }
    let log = [&path[..], b"-wal"].concat();
    if base.view.files.get(&log).is_some_and(|file| file.entry.kind != EntryKind::File { size: 0 })
    {
        return Err(Error::image("Nix's database of the base image is not whole")
            .cause("what was written last stands in `db.sqlite-wal` beside it")
            .hint("`mergeBase: false` begins a new one; any command of Nix in the base makes it whole"));
    }
    let layers: Vec<Descriptor> = base
        .image
        .layers
        .iter()
        .map(|layer| descriptor(layer.media_type.as_str().into(), &layer.digest, layer.size))
        .collect();
    flatten::read(store.images(), &layers, &path, MAX_BASE)
}
