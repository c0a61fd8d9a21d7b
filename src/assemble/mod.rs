//! Images without a Dockerfile: files that are there already, put into layers (assemble-trust.md A).
//!
//! In: a spec, as text; out: an image in the store, or streamed. Nothing of the machine gets into it but what the spec
//! names: the same inputs give the same digest anywhere.

pub mod spec;
