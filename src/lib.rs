//! nativebuild: a daemonless, native OCI image builder.
//!
//! One build, as types: [`source::SourceFile`] → [`dockerfile`] → [`plan`] → snapshot (mounted rootfs) →
//! [`layers`] change stream → layer blob → manifest → index → layout, archive or directory.
//! [`build::build`] is the function that sees the whole pipeline. ARCHITECTURE.md has the map of the
//! rooms and which may import which; `tests/tidy.rs` holds the code to it.

pub mod boolean;
pub mod error;
pub mod progress;
pub mod source;
pub mod timings;

pub mod dockerfile;
pub mod oci;
pub mod sys;

pub mod context;
pub mod layers;
pub mod net;
pub mod nix;
pub mod plan;
mod yaml;

pub mod executor;
pub mod transfer;

pub mod build;

pub mod assemble;
pub mod linuxkit;

pub mod cli;
