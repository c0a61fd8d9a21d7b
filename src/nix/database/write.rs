//! A fresh database with these rows, in memory, in one transaction and always in the same order.

use super::Rows;
use rusqlite::{Connection, MAIN_DB, params};
use std::collections::HashMap;

// SPEC: schema 10 of Nix 2.8: same names, types, keys, indexes and trigger. Names and types are the format; Nix opens
// the file by its number and never compares this text.
const TABLES: &str = r"
PRAGMA page_size = 4096;
PRAGMA encoding = 'UTF-8';
PRAGMA auto_vacuum = NONE;
PRAGMA temp_store = MEMORY;
PRAGMA foreign_keys = OFF;
BEGIN;
CREATE TABLE ValidPaths (
    id               integer primary key autoincrement not null,
    path             text unique not null,
    hash             text not null,
    registrationTime integer not null,
    deriver          text,
    narSize          integer,
    ultimate         integer,
    sigs             text,
    ca               text
);
CREATE TABLE Refs (
    referrer  integer not null,
    reference integer not null,
    primary key (referrer, reference),
    foreign key (referrer) references ValidPaths(id) on delete cascade,
    foreign key (reference) references ValidPaths(id) on delete restrict
);
CREATE INDEX IndexReferrer on Refs(referrer);
CREATE INDEX IndexReference on Refs(reference);
CREATE TRIGGER DeleteSelfRefs before delete on ValidPaths
  begin
    delete from Refs where referrer = old.id and reference = old.id;
  end;
CREATE TABLE DerivationOutputs (
    drv  integer not null,
    id   text not null,
    path text not null,
    primary key (drv, id),
    foreign key (drv) references ValidPaths(id) on delete cascade
);
CREATE INDEX IndexDerivationOutputs on DerivationOutputs(path);
";

/// Bytes of the database. All references of a row must be rows.
pub(super) fn write(rows: &Rows) -> rusqlite::Result<Vec<u8>> {
    let mut connection = Connection::open_in_memory()?;
    connection.execute_batch(TABLES)?;
    insert(&connection, rows)?;
    connection.execute_batch("COMMIT;")?;
    let mut bytes = connection.serialize(MAIN_DB)?.to_vec();
    if let Some(version) = bytes.get_mut(WRITER) {
        version.copy_from_slice(&WRITER_VERSION.to_be_bytes());
    }
    Ok(bytes)
}

/// Bytes of the header with the version of the SQLite that wrote the file. It is there for people only, and would make
/// other bytes with every update of SQLite.
const WRITER: std::ops::Range<usize> = 96..100;

/// 3.40.1, that of Debian 12, whose Nix these files were compared with.
const WRITER_VERSION: u32 = 3_040_001;

fn insert(connection: &Connection, rows: &Rows) -> rusqlite::Result<()> {
    let numbered = || (1_i64..).zip(rows);
    let ids: HashMap<_, i64> = numbered().map(|(id, (path, _))| (path, id)).collect();
    let mut insert = connection.prepare(
        "INSERT INTO ValidPaths
         (id, path, hash, registrationTime, deriver, narSize, ultimate, sigs, ca)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    for (id, (path, row)) in numbered() {
        insert.execute(params![
            id,
            path.as_str(),
            row.hash,
            row.registration_time,
            row.deriver,
            row.nar_size,
            row.ultimate,
            row.sigs,
            row.ca,
        ])?;
    }
    let mut insert =
        connection.prepare("INSERT INTO Refs (referrer, reference) VALUES (?1, ?2)")?;
    for (id, (_, row)) in numbered() {
        for reference in &row.references {
            insert.execute(params![id, ids.get(reference)])?;
        }
    }
    let mut insert =
        connection.prepare("INSERT INTO DerivationOutputs (drv, id, path) VALUES (?1, ?2, ?3)")?;
    for (id, (_, row)) in numbered() {
        for (name, path) in &row.outputs {
            insert.execute(params![id, name, path])?;
        }
    }
    Ok(())
}
