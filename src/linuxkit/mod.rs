//! LinuxKit packages: a directory with a build.yml and a Dockerfile becomes build requests.

pub mod build_args;
mod config;
mod yaml;
