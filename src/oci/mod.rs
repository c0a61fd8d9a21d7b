//! Image-spec nouns: digest, platform, reference, manifest, index, config, and the places an image can
//! be on disk (layout directory, archives). Knows no Dockerfile, no namespace and no network.
//!
//! Only [`layout`] writes blobs. [`validate`] re-reads everything an image promises.

pub mod archive;
pub mod base32;
pub(crate) mod beside;
pub mod blobs;
pub mod decompress;
pub mod digest;
pub mod git_url;
pub mod hash_forms;
pub mod layout;
pub mod media;
pub mod merge;
pub mod platform;
pub mod reference;
pub mod resolve;
pub mod spec;
pub mod tar_walk;
pub mod validate;

#[cfg(test)]
mod fixture;

pub use digest::{ChainId, DiffId, Digest};
pub use platform::Platform;
pub use reference::Reference;
