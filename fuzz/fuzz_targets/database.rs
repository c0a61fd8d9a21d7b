//! Any bytes as the Nix database of a base image: a database that is read back the same, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nativebuild::nix::database::database;

fuzz_target!(|bytes: &[u8]| {
    let Ok(first) = database(&[], Some(bytes), 1) else { return };
    assert_eq!(database(&[], Some(&first), 1).ok(), Some(first));
});
