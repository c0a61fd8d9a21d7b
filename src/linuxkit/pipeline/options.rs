//! What building and pushing packages takes from the command line and the environment.

use crate::build::lock::LockMode;
use crate::executor::emulation::Places;
use crate::executor::isolation::Account;
use crate::linuxkit::package::PackageOptions;
use crate::linuxkit::platforms::DockerContext;
use crate::linuxkit::publish::Tags;
use crate::net::{AgentSource, EngineConfig, NetConfig};
use crate::oci::Reference;
use std::path::PathBuf;

/// What `pkg build` takes from the command line and the environment.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// Of all verbs.
    pub package: PackageOptions,
    /// `--platforms`.
    pub platforms: Vec<String>,
    /// `--skip-platforms`.
    pub skip_platforms: Vec<String>,
    /// `--builders` or LINUXKIT_BUILDERS, with its source for errors.
    pub builders: Option<(String, String)>,
    /// Docker's contexts.
    pub contexts: Vec<DockerContext>,
    /// `--force`.
    pub force: bool,
    /// `--pull`.
    pub pull: bool,
    /// `--docker`.
    pub docker: bool,
    /// `--dry-run`.
    pub dry_run: bool,
    /// `--push` and what belongs to it.
    pub push: Option<PushOptions>,
    /// `--ignore-cached`.
    pub ignore_cached: bool,
    /// `--precache-images`.
    pub precache_images: bool,
    /// `--ssh`.
    pub ssh: Vec<AgentSource>,
    /// `--dockerfile`.
    pub dockerfile: Option<String>,
    /// `--build-arg-file`.
    pub build_arg_files: Vec<PathBuf>,
    /// `--network` or `--nonetwork`.
    pub network: Option<bool>,
    /// `--disable-cache` or `--enable-cache`.
    pub step_cache: Option<bool>,
    /// Seconds since 1970 that stand for now; the outer `None` means the package's last commit.
    pub epoch: Option<Option<i64>>,
    /// Proxy variables.
    pub proxies: Vec<(String, String)>,
    /// Commands wait for the disk when they ask to.
    pub keep_fsync: bool,
    /// Say why the cache does not have a step.
    pub explain_cache: bool,
    /// Steps at once.
    pub jobs: usize,
    /// Who builds.
    pub account: Account,
    /// Where emulators are.
    pub emulators: Places,
    /// An image with emulators.
    pub qemu_image: Option<Reference>,
    /// What asks for signatures of what is pushed.
    pub signing: Option<String>,
    /// For pulling.
    pub net: NetConfig,
    /// For `--docker`.
    pub engine: EngineConfig,
    /// `--lock` or `--locked`.
    pub lock: LockMode,
}

/// What `pkg push` takes from the command line.
#[derive(Clone, Debug)]
pub struct PushOptions {
    /// Which names.
    pub tags: Tags,
    /// `--nobuild`: only push.
    pub nobuild: bool,
    /// `--image=false`: only the index, out of what the registry has.
    pub manifest_only: bool,
    /// `--release`.
    pub release: Option<String>,
}
