//! Images from one place to another, and what can be said about an image wherever it is (design §10.2).
//!
//! In: [`Location`]s, as the user writes them, and an [`Access`] to the store and to registries; out: images at other
//! locations, or plain data about them. [`read`] looks at documents only, so that nothing else is fetched from a registry;
//! [`Access::fetch`] brings everything into a layout, verified; [`copy`] writes it out again. Bytes stay as they are
//! unless [`convert`] is asked.

mod access;
pub mod change;
pub mod check;
pub mod convert;
pub mod copy;
mod deliver;
pub mod describe;
pub mod diff;
mod dir;
mod file;
pub mod flatten;
pub mod index;
mod location;
pub mod manifests;
pub mod merge;
pub mod pull;
pub mod read;
pub mod referrers;
pub mod rootfs;
mod source;
pub mod spec_file;
#[cfg(test)]
mod tests;

pub use access::{Access, Choice, Fetched, Opened};
pub use location::Location;
