//! The spec: text → [`Spec`], or every mistake with its place (assemble-trust.md A7).

mod model;

pub use model::*;
