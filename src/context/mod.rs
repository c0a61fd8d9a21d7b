//! The user's files: what COPY and ADD may take, and what their content is.
//!
//! In: an open directory (the build context, or the rootfs of a stage or image) and, for a context, its
//! `.dockerignore`. Out: a [`FileTree`] that resolves source paths to [`Selected`] entries, walks them in one fixed
//! order, and gives a content digest for the step key (`spec` dockerfile §1.7, §1.9, §3). A walk shows the same files
//! to whoever asks, so the digest covers exactly what a copy takes. Nothing here follows a link out of the tree,
//! writes anything but the file-digest cache, or knows what a Dockerfile is.

mod ahead;
pub mod digest;
pub mod digest_cache;
mod filter;
pub mod ignore;
mod newest;
pub mod pattern;
mod records;
pub mod resolve;
pub mod select;
pub mod tree;
pub mod walk;
pub mod xattr;

pub use digest::{Listed, Listing, digest, digest_listing};
pub use digest_cache::{DigestCache, FileDigestCache, FileHash, NoDigestCache, StatKey};
pub use ignore::{Decision, IgnoreRules};
pub use newest::newest;
pub use select::SelectOptions;
pub use tree::{FileTree, Selected};
pub use walk::{Visitor, WalkEntry};

#[cfg(test)]
mod tests;
