//! LinuxKit packages: a directory with a build.yml and a Dockerfile becomes build requests.
//!
//! [`BuildYml`] is the checked content of a build.yml, with the text of its `config` label; [`build_args`] computes
//! the values that name other packages; [`tag`] computes the tag out of what [`git`] says; [`cache`] is where the images
//! are kept. Semantics are those of `linuxkit pkg` (linuxkit.md).

pub mod automatic;
pub mod build_args;
pub mod build_yml;
pub mod cache;
mod config;
pub mod context;
mod dependencies;
pub mod git;
pub mod package;
pub mod pipeline;
pub mod platforms;
pub mod publish;
pub mod remote;
pub mod tag;

pub use build_yml::BuildYml;
