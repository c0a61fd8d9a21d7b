//! LinuxKit packages: a directory with a build.yml and a Dockerfile becomes build requests.

mod config;
mod yaml;
