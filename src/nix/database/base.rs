//! Reading a database that anybody may have made.
//!
//! It is opened in memory, read-only, with its triggers, views and functions switched off; the three tables are only
//! scanned, and must be plain tables with plain columns, so that no expression of theirs is ever evaluated. A page that
//! is linked twice would give rows without end: there cannot be more bytes in rows than the file has, and reading stops
//! there.

use super::{Row, Rows};
use crate::error::{Error, Result};
use crate::nix::{StorePath, shown};
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, MAIN_DB};
use std::collections::HashMap;
use std::io::Read as _;

/// Greatest file: a machine with hundreds of thousands of store paths is far below it.
const MAX_SIZE: usize = 512 << 20;

/// Greatest string or row.
const MAX_ROW: i32 = 1 << 20;

/// Bytes 18 and 19 of the header say how the file is written: 2 is by a log beside it, which bytes in memory have not.
const WRITE_AHEAD: std::ops::Range<usize> = 18..20;

/// All rows of a database.
pub(super) fn read(bytes: &[u8]) -> Result<Rows> {
    if bytes.len() > MAX_SIZE {
        let message = format!("it has {} bytes, more than {MAX_SIZE}", bytes.len());
        return Err(Error::integrity(message));
    }
    if !bytes.starts_with(b"SQLite format 3\0") || bytes.len() < 512 {
        return Err(Error::integrity("it is no SQLite database"));
    }
    let connection = open(bytes).map_err(damaged)?;
    let mut budget = Budget(bytes.len());
    let mut rows = Rows::new();
    let mut ids = HashMap::new();
    scan(&connection, "ValidPaths", VALID_PATHS, &mut budget, &mut |row| {
        valid_path(row, &mut rows, &mut ids)
    })?;
    scan(&connection, "Refs", &["referrer", "reference"], &mut budget, &mut |row| {
        let (from, to) = (known(&ids, row.integer(0)?)?, known(&ids, row.integer(1)?)?);
        if let Some(row) = rows.get_mut(from) {
            row.references.insert(to.clone());
        }
        Ok(())
    })?;
    scan(&connection, "DerivationOutputs", &["drv", "id", "path"], &mut budget, &mut |row| {
        let derivation = known(&ids, row.integer(0)?)?;
        if let Some(known) = rows.get_mut(derivation) {
            known.outputs.insert(row.text(1)?, row.text(2)?);
        }
        Ok(())
    })?;
    Ok(rows)
}

const VALID_PATHS: &[&str] =
    &["id", "path", "hash", "registrationTime", "deriver", "narSize", "ultimate", "sigs", "ca"];

fn valid_path(
    row: &Named<'_, '_>,
    rows: &mut Rows,
    ids: &mut HashMap<i64, StorePath>,
) -> Result<()> {
    let path = StorePath::parse(row.text(1)?.as_bytes())?;
    let found = Row {
        hash: row.text(2)?,
        registration_time: row.integer(3)?,
        deriver: row.optional_text(4)?,
        nar_size: row.optional_integer(5)?,
        ultimate: row.optional_integer(6)?,
        sigs: row.optional_text(7)?,
        ca: row.optional_text(8)?,
        ..Row::default()
    };
    let twice = || Error::integrity(format!("`{path}` is in it twice"));
    if ids.insert(row.integer(0)?, path.clone()).is_some() || rows.contains_key(&path) {
        return Err(twice());
    }
    rows.insert(path, found);
    Ok(())
}

fn known(ids: &HashMap<i64, StorePath>, id: i64) -> Result<&StorePath> {
    ids.get(&id).ok_or_else(|| Error::integrity(format!("it names a path {id} that it lacks")))
}

fn open(bytes: &[u8]) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open_in_memory()?;
    for (setting, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
    ] {
        connection.set_db_config(setting, on)?;
    }
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_ROW)?;
    connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    let before = &bytes[..WRITE_AHEAD.start];
    let whole = before.chain(&[1, 1][..]).chain(&bytes[WRITE_AHEAD.end..]);
    connection.deserialize_read_exact(MAIN_DB, whole, bytes.len(), true)?;
    connection.execute_batch("PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY;")?;
    Ok(connection)
}

fn damaged(error: rusqlite::Error) -> Error {
    Error::integrity("it is damaged").cause(error)
}

/// Bytes that rows can still have.
struct Budget(usize);

impl Budget {
    fn take(&mut self, bytes: usize) -> Result<()> {
        let left = self.0.checked_sub(bytes);
        self.0 = left.ok_or_else(|| Error::integrity("its rows have more bytes than it"))?;
        Ok(())
    }
}

/// Gives every row of a table, in the order in which it is stored.
fn scan(
    connection: &Connection,
    table: &str,
    columns: &[&str],
    budget: &mut Budget,
    take: &mut dyn FnMut(&Named<'_, '_>) -> Result<()>,
) -> Result<()> {
    check_table(connection, table, columns)?;
    let query = format!("SELECT {} FROM main.{table} NOT INDEXED", columns.join(", "));
    let mut statement = connection.prepare(&query).map_err(damaged)?;
    let mut rows = statement.query([]).map_err(damaged)?;
    while let Some(row) = rows.next().map_err(damaged)? {
        let row = Named { row, table, columns };
        budget.take(row.size())?;
        take(&row)?;
    }
    Ok(())
}

/// Fails unless a table is one, with these columns, none of them computed.
fn check_table(connection: &Connection, table: &str, columns: &[&str]) -> Result<()> {
    let kind = connection.query_row(
        "SELECT type FROM pragma_table_list WHERE schema = 'main' AND name = ?1",
        [table],
        |row| row.get::<_, String>(0),
    );
    match kind {
        Ok(kind) if kind == "table" => {}
        Ok(kind) => {
            return Err(Error::integrity(format!("its `{table}` is a {kind}, not a table")));
        }
        Err(rusqlite::Error::QueryReturnedNoRows) => {
            return Err(Error::integrity(format!("it has no table `{table}`")));
        }
        Err(error) => return Err(damaged(error)),
    }
    let mut statement = connection
        .prepare("SELECT name, hidden FROM pragma_table_xinfo(?1, 'main')")
        .map_err(damaged)?;
    let found = statement
        .query_map([table], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))
        .and_then(Iterator::collect::<rusqlite::Result<HashMap<_, _>>>)
        .map_err(damaged)?;
    for column in columns {
        match found.get(*column) {
            Some(0) => {}
            Some(_) => {
                let message = format!("the column `{column}` of its `{table}` is computed");
                return Err(Error::integrity(message));
            }
            None => {
                let message = format!("its `{table}` has no column `{column}`");
                return Err(Error::integrity(message).hint(format!(
                    "only schema {} is read; a newer Nix converts an older store when it opens it",
                    super::SCHEMA
                )));
            }
        }
    }
    Ok(())
}

/// One row, and what its columns are called.
struct Named<'a, 'r> {
    row: &'a rusqlite::Row<'r>,
    table: &'a str,
    columns: &'a [&'a str],
}

impl Named<'_, '_> {
    /// At most as many bytes as it takes in the file.
    fn size(&self) -> usize {
        let size = |at| match self.value(at) {
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
            _ => 0,
        };
        1 + (0..self.columns.len()).map(size).sum::<usize>()
    }

    fn value(&self, at: usize) -> ValueRef<'_> {
        self.row.get_ref(at).unwrap_or(ValueRef::Null)
    }

    fn integer(&self, at: usize) -> Result<i64> {
        self.optional_integer(at)?.ok_or_else(|| self.bad(at))
    }

    fn text(&self, at: usize) -> Result<String> {
        self.optional_text(at)?.ok_or_else(|| self.bad(at))
    }

    fn optional_integer(&self, at: usize) -> Result<Option<i64>> {
        match self.value(at) {
            ValueRef::Integer(number) => Ok(Some(number)),
            ValueRef::Null => Ok(None),
            _ => Err(self.bad(at)),
        }
    }

    fn optional_text(&self, at: usize) -> Result<Option<String>> {
        match self.value(at) {
            ValueRef::Text(bytes) => {
                String::from_utf8(bytes.to_vec()).map(Some).map_err(|_| self.bad(at))
            }
            ValueRef::Null => Ok(None),
            _ => Err(self.bad(at)),
        }
    }

    fn bad(&self, at: usize) -> Error {
        let value = match self.value(at) {
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => shown(bytes),
            ValueRef::Integer(number) => number.to_string(),
            ValueRef::Real(number) => number.to_string(),
            ValueRef::Null => "nothing".to_owned(),
        };
        Error::integrity(format!(
            "`{}` of its `{}` cannot be {value}",
            self.columns[at], self.table
        ))
    }
}
