//! Tests of the database with the SQLite of this program, and of hostile ones.

use super::*;
use crate::nix::fixture::{closure, info, path};
use proptest::prelude::*;
use rusqlite::{Connection, MAIN_DB};

fn made_by(statements: &str) -> Vec<u8> {
    let mut connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(statements).unwrap();
    connection.serialize(MAIN_DB).unwrap().to_vec()
}

fn sample() -> Vec<PathInfo> {
    closure(&["app 608: app lib", "lib 480: libc", "libc 9000:"]).paths().to_vec()
}

fn refused(base: &[u8]) -> String {
    let error = database(&[], Some(base), 1).unwrap_err();
    assert_eq!(error.message(), "cannot read the Nix database of the base image");
    error.causes().join(": ")
}

#[test]
fn what_was_written_is_read_back() {
    let mut paths = sample();
    paths[0].deriver = Some(path("x.drv").to_string());
    paths[1].ca = Some("fixed:sha256:x".to_owned());
    let rows = base::read(&database(&paths, None, 315_532_800).unwrap()).unwrap();
    let expected = paths.iter().map(|info| {
        let row = Row {
            hash: info.nar_hash.as_ref().unwrap().to_string(),
            registration_time: 315_532_800,
            deriver: info.deriver.clone(),
            nar_size: Some(info.nar_size.unwrap() as i64),
            ca: info.ca.clone(),
            references: info.references.iter().cloned().collect(),
            ..Row::default()
        };
        (info.path.clone(), row)
    });
    assert_eq!(rows, expected.collect());
}

#[test]
fn equal_input_gives_equal_bytes_whatever_the_order() {
    let first = database(&sample(), None, 1).unwrap();
    let mut reversed = sample();
    reversed.reverse();
    assert_eq!(database(&reversed, None, 1).unwrap(), first);
    // In two steps, one as the base of the other.
    let lower: Vec<PathInfo> =
        sample().into_iter().filter(|info| info.path != path("app")).collect();
    let base = database(&lower, None, 1).unwrap();
    assert_eq!(database(&sample(), Some(&base), 1).unwrap(), first);
    assert_eq!(database(&[], Some(&first), 7).unwrap(), first);
    assert_ne!(database(&sample(), None, 2).unwrap(), first);
}

#[test]
fn bytes_are_pinned() {
    let bytes = database(&sample(), None, 1).unwrap();
    assert_eq!((bytes.len(), &bytes[16..20]), (45_056, &[16, 0, 1, 1][..]));
    assert_eq!(
        Digest::of(&bytes).as_str(),
        "sha256:60206c6bfa91b206cbccf73ad39cf093e4b86c96d25b7415d1f9592b459caba0"
    );
}

#[test]
fn rows_of_the_base_are_kept_as_they_are() {
    let mut rows = base::read(&database(&sample(), None, 5).unwrap()).unwrap();
    let row = rows.get_mut(&path("lib")).unwrap();
    row.sigs = Some("cache:sig".to_owned());
    row.ultimate = Some(1);
    row.deriver = Some(path("lib.drv").to_string());
    row.outputs.insert("out".to_owned(), path("lib").to_string());
    let base = write::write(&rows).unwrap();
    let more = [info("lib", 480, &["libc"]), info("new", 8, &["lib"])];
    let merged = base::read(&database(&more, Some(&base), 9).unwrap()).unwrap();
    assert_eq!(merged[&path("new")].registration_time, 9);
    rows.insert(path("new"), merged[&path("new")].clone());
    assert_eq!(merged, rows);
    let valid = valid_paths(&base).unwrap();
    assert_eq!(valid.len(), 3);
}

#[test]
fn another_content_of_the_same_path_is_an_error() {
    let base = database(&sample(), None, 1).unwrap();
    let mut other = info("libc", 9001, &[]);
    other.nar_hash = Some(Digest::of(b"other"));
    let error = database(&[other], Some(&base), 1).unwrap_err();
    let (libc, there, here) = (path("libc"), Digest::of(b"libc"), Digest::of(b"other"));
    let message = format!(
        "`{libc}` is in the Nix database with another content: there {there} of 9000 bytes, here {here} of 9001 bytes"
    );
    assert_eq!(error.to_string(), message);
}

#[test]
fn a_database_has_whole_closures_with_hashes() {
    let error = database(&[info("app", 1, &["lib"])], None, 1).unwrap_err();
    let message =
        format!("`{}` refers to `{}`, which the Nix database lacks", path("app"), path("lib"));
    assert_eq!(error.message(), message);
    let error = database(&[PathInfo::new(path("app"))], None, 1).unwrap_err();
    assert_eq!(error.message(), format!("`{}` has no hash or no size for a database", path("app")));
    let error = database(&[info("app", u64::MAX, &[])], None, 1).unwrap_err();
    assert_eq!(
        error.message(),
        format!("`{}` cannot have 18446744073709551615 bytes", path("app"))
    );
    assert!(base::read(&database(&[], None, 1).unwrap()).unwrap().is_empty());
}

#[test]
fn a_database_with_a_log_is_read_without_it() {
    let first = database(&sample(), None, 1).unwrap();
    let mut with_log = first.clone();
    with_log[18..20].copy_from_slice(&[2, 2]);
    assert_eq!(database(&[], Some(&with_log), 1).unwrap(), first);
}

/// The three tables, for changing.
const TABLES: [&str; 3] = [
    "CREATE TABLE ValidPaths(id integer primary key, path text, hash text, registrationTime integer, deriver text, narSize integer, ultimate integer, sigs text, ca text);",
    "CREATE TABLE Refs(referrer integer, reference integer);",
    "CREATE TABLE DerivationOutputs(drv integer, id text, path text);",
];

#[test]
fn hostile_databases_are_refused() {
    assert_eq!(refused(b""), "it is no SQLite database");
    assert_eq!(refused(&[0; 4096]), "it is no SQLite database");
    let no_pages = [b"SQLite format 3\0".to_vec(), vec![0; 4080]].concat();
    assert!(refused(&no_pages).starts_with("it is damaged: "), "{}", refused(&no_pages));
    assert_eq!(refused(&made_by("CREATE TABLE a(b)")), "it has no table `ValidPaths`");
    assert_eq!(refused(&made_by(TABLES[0])), "it has no table `Refs`");
    let other = TABLES[0].replace(", ca text", "");
    assert_eq!(refused(&made_by(&other)), "its `ValidPaths` has no column `ca`");
    let computed = TABLES[0].replace("ca text", "ca text as (zeroblob(1000000000))");
    assert_eq!(refused(&made_by(&computed)), "the column `ca` of its `ValidPaths` is computed");
    let endless = "CREATE VIEW ValidPaths AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n)
        SELECT id, '' path, '' hash, 1 registrationTime, '' deriver, 1 narSize, 1 ultimate, '' sigs, '' ca FROM n;";
    assert_eq!(refused(&made_by(endless)), "its `ValidPaths` is a view, not a table");
    let virtual_table = "CREATE VIRTUAL TABLE ValidPaths USING fts5(id, path, hash, registrationTime, deriver, narSize, ultimate, sigs, ca);";
    assert_eq!(refused(&made_by(virtual_table)), "its `ValidPaths` is a virtual, not a table");
    let with = |statement: &str| refused(&made_by(&[&TABLES.concat(), statement].concat()));
    let a = path("a");
    let row = |id: u8| {
        format!("INSERT INTO ValidPaths VALUES({id}, '{a}', 'h', 1, NULL, 1, NULL, NULL, NULL);")
    };
    assert_eq!(
        with("INSERT INTO ValidPaths(path) VALUES('/etc')"),
        "`/etc` is no store path: it is not below `/nix/store`"
    );
    assert_eq!(
        with("INSERT INTO ValidPaths(path) VALUES(NULL)"),
        "`path` of its `ValidPaths` cannot be nothing"
    );
    assert_eq!(
        with(&row(1).replace("'h'", "x'ff'")),
        "`hash` of its `ValidPaths` cannot be `\u{fffd}`"
    );
    assert_eq!(
        with(&row(1).replace("'h', 1", "'h', 'now'")),
        "`registrationTime` of its `ValidPaths` cannot be `now`"
    );
    assert_eq!(with(&[row(1), row(2)].concat()), format!("`{a}` is in it twice"));
    assert_eq!(with("INSERT INTO Refs VALUES(1, 1)"), "it names a path 1 that it lacks");
    assert_eq!(
        with("INSERT INTO DerivationOutputs VALUES(3, 'out', 'x')"),
        "it names a path 3 that it lacks"
    );
    let long = format!("INSERT INTO ValidPaths(path) VALUES(zeroblob({}))", 2 << 20);
    assert!(with(&long).starts_with("it is damaged: "), "{}", with(&long));
}

#[test]
fn pages_that_are_linked_twice_do_not_multiply_rows() {
    let mut rows = String::from("PRAGMA page_size = 512; BEGIN;");
    rows += &TABLES.concat();
    rows += "INSERT INTO ValidPaths(id, path, hash, registrationTime) VALUES";
    let row = |at: usize| format!("({at}, '{}', 'h', 1)", path(&format!("p{at}")));
    rows += &(1..2000).map(row).collect::<Vec<_>>().join(",");
    let mut bytes = made_by(&(rows + "; COMMIT;"));
    assert!(database(&[], Some(&bytes), 1).is_ok());
    // Every interior page of a table gets one child for all of its cells.
    for page in bytes.chunks_exact_mut(512).skip(1).filter(|page| page[0] == 5) {
        let cells = usize::from(u16::from_be_bytes([page[3], page[4]]));
        let rightmost: [u8; 4] = page[8..12].try_into().unwrap();
        for cell in 0..cells {
            let at = usize::from(u16::from_be_bytes([page[12 + cell * 2], page[13 + cell * 2]]));
            page[at..at + 4].copy_from_slice(&rightmost);
        }
    }
    let why = refused(&bytes);
    assert!(
        why.contains("twice") || why.contains("damaged") || why.contains("more bytes"),
        "{why}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damaged_bytes_are_read_or_refused(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
        let mut bytes = database(&sample(), None, 1).unwrap();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        drop(database(&sample(), Some(&bytes), 1));
    }
}
