//! Nix's formats: store paths, closures, archives (NAR), the database of a store.
//!
//! In: bytes of graph files and registrations, a directory below which `nix/store` lies. Out: a [`Closure`] with hashes
//! that were computed or checked, its split into layers, the bytes of a `db.sqlite`. Files are reached by descriptor,
//! nothing is written, and no program of Nix is needed. What `nix-store` 2.8 reads and writes is what the formats
//! were taken from.

pub mod closure;
pub mod database;
pub mod layering;
pub mod nar;
mod nar_hash;
pub mod store_path;

pub use crate::oci::base32;
pub use closure::{Closure, PathInfo};
pub use store_path::StorePath;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

/// The only store directory: hashes in store paths hold for it alone.
pub const STORE_DIR: &str = "/nix/store";

/// Any bytes for a message, in backticks; control characters and what is no UTF-8 are replaced, long ones cut.
fn shown(bytes: &[u8]) -> String {
    const LONGEST: usize = 300;
    let visible = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let cut = &bytes[..bytes.len().min(LONGEST)];
    let text: String = String::from_utf8_lossy(cut).chars().map(visible).collect();
    if bytes.len() > LONGEST { format!("`{text}…`") } else { format!("`{text}`") }
}
