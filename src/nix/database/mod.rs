//! The database of a Nix store: `nix/var/nix/db/db.sqlite`, schema 10, as bytes.
//!
//! In: descriptions of paths with hash and size, and the database of a base image, which may be anybody's. Out: a
//! database in which the rows of both are valid, the same bytes for equal input: every row is inserted, in the order of
//! paths, into a fresh database in memory. What lies in a
//! `db.sqlite-wal` beside the base's file is not seen: the caller refuses such a base.
//!
//! A path that both have keeps the base's row, with its time and its signatures; with another content it is an error,
//! since a store has one content for a path. Rows of other tables (content-addressed realisations, which are an
//! experiment of Nix) are not kept.

mod base;
mod write;

use super::{PathInfo, StorePath};
use crate::error::{Error, Result};
use crate::oci::Digest;
use std::collections::{BTreeMap, BTreeSet};

/// What stands in the file `schema` beside the database, without a line end.
pub const SCHEMA: &str = "10";

/// One valid path, in the columns of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Row {
    /// `sha256:` and hex digits.
    hash: String,
    registration_time: i64,
    deriver: Option<String>,
    nar_size: Option<i64>,
    ultimate: Option<i64>,
    sigs: Option<String>,
    ca: Option<String>,
    references: BTreeSet<StorePath>,
    /// Of a derivation: names of outputs, and their paths.
    outputs: BTreeMap<String, String>,
}

/// All rows, in the order in which they are written.
type Rows = BTreeMap<StorePath, Row>;

/// Bytes of a database with `paths`, registered at `registration_time`, and all rows of `base`.
pub fn database(
    paths: &[PathInfo],
    base: Option<&[u8]>,
    registration_time: i64,
) -> Result<Vec<u8>> {
    let mut rows = match base {
        Some(bytes) => base::read(bytes)
            .map_err(|error| error.wrap("cannot read the Nix database of the base image"))?,
        None => Rows::new(),
    };
    for info in paths {
        add(&mut rows, info, registration_time)?;
    }
    check_complete(&rows)?;
    write::write(&rows).map_err(|error| Error::internal("cannot make a Nix database").cause(error))
}

/// Paths that a database has as valid, each with its hash.
pub fn valid_paths(database: &[u8]) -> Result<Vec<(StorePath, Digest)>> {
    let digest = |(path, row): (StorePath, Row)| Ok((path, Digest::parse(&row.hash)?));
    base::read(database)?.into_iter().map(digest).collect()
}

fn add(rows: &mut Rows, info: &PathInfo, registration_time: i64) -> Result<()> {
    let path = &info.path;
    let (Some(hash), Some(size)) = (&info.nar_hash, info.nar_size) else {
        return Err(Error::internal(format!("`{path}` has no hash or no size for a database")));
    };
    let Ok(size) = i64::try_from(size) else {
        return Err(Error::integrity(format!("`{path}` cannot have {size} bytes")));
    };
    let row = rows.entry(path.clone()).or_insert_with(|| Row {
        hash: hash.to_string(),
        registration_time,
        deriver: info.deriver.clone(),
        ca: info.ca.clone(),
        ..Row::default()
    });
    if row.hash != hash.as_str() || row.nar_size.is_some_and(|there| there != size) {
        let there = row.nar_size.map_or(String::new(), |size| format!(" of {size} bytes"));
        let message = format!("`{path}` is in the Nix database with another content");
        return Err(Error::integrity(message)
            .cause(format!("there {}{there}, here {hash} of {size} bytes", row.hash))
            .hint("a store has one content for a path: leave it to the base image, or take another base"));
    }
    row.nar_size = Some(size);
    row.references.extend(info.references.iter().cloned());
    Ok(())
}

fn check_complete(rows: &Rows) -> Result<()> {
    for (path, row) in rows {
        if let Some(absent) = row.references.iter().find(|path| !rows.contains_key(*path)) {
            let message = format!("`{path}` refers to `{absent}`, which the Nix database lacks");
            return Err(Error::integrity(message)
                .hint("a database needs the whole closure of every path in it"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
