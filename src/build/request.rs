//! Everything a front end may ask of a build, as data. `cli` fills it in; nothing here reads the environment.

use super::annotations::Annotation;
use super::lock::Locks;
use super::sharing::SharedCaches;
use super::sources::Sources;
use super::store::Store;
use crate::context::FileTree;
use crate::error::Result;
use crate::executor::emulation::Places;
use crate::executor::isolation::Account;
use crate::executor::settings::RunSettings;
use crate::layers::compress::Compression;
use crate::net::{AgentSource, EngineConfig, NetConfig, Pushed};
use crate::oci::spec::Descriptor;
use crate::oci::{Platform, Reference};
use crate::plan::step::NetworkMode;
use crate::progress::Emitter;
use crate::source::SourceFile;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// One build.
#[derive(Debug)]
pub struct BuildRequest {
    /// The Dockerfile.
    pub dockerfile: Arc<SourceFile>,
    /// The build context, ignore rules applied.
    pub context: FileTree,
    /// `--build-context`: images by their references, and files.
    pub contexts: BTreeMap<String, ContextSource>,
    /// Times of contexts that have one, seconds since 1970; `context` is the main one.
    pub times: BTreeMap<String, i64>,
    /// `--build-arg`, in order.
    pub build_args: Vec<(String, String)>,
    /// `--target`.
    pub target: Option<String>,
    /// `--label`, in order.
    pub labels: Vec<(String, String)>,
    /// `--platform`, each once; none means this machine's, or that of a base image made for one other.
    pub platforms: Vec<Platform>,
    /// `--annotation`.
    pub annotations: Vec<Annotation>,
    /// `--tag`.
    pub tags: Vec<Reference>,
    /// `--output`.
    pub outputs: Vec<OutputSpec>,
    /// `--no-cache`.
    pub no_cache: bool,
    /// `--cache-to` and `--cache-from`.
    pub shared: SharedCaches,
    /// `--no-cache-filter`: stages that do not look into the cache.
    pub no_cache_stages: Vec<String>,
    /// `--explain-cache`.
    pub explain: Explain,
    /// `--add-host`, `--shm-size`, `--ulimit`.
    pub run: RunSettings,
    /// `--allow`.
    pub entitlements: Vec<Entitlement>,
    /// `--network`: the default for RUNs without the flag.
    pub network: NetworkMode,
    /// `--pull`.
    pub pull: PullPolicy,
    /// Seconds since 1970 that file times and `created` take.
    pub epoch: Option<i64>,
    /// Docker's media types instead of OCI's: `--format docker`, or `oci-mediatypes=false` of an output.
    pub docker_types: bool,
    /// File times stay what they are, whatever the epoch: `rewrite-timestamp=false` of an output.
    pub keep_times: bool,
    /// Pushed names are the digest alone: `push-by-digest` of an output.
    pub push_by_digest: bool,
    /// `--compression` and its level.
    pub compression: Compression,
    /// `--jobs`: steps at once.
    pub jobs: usize,
    /// Who builds.
    pub account: Account,
    /// Where emulators for foreign platforms are looked for.
    pub emulators: Places,
    /// `--qemu-image`: an image with emulators.
    pub qemu_image: Option<Reference>,
    /// Images that win over those of the store, for FROM and `--from`.
    pub images: Option<ImageSource>,
    /// Directories with CDI specs; of two that have a device the last one counts.
    pub cdi: Vec<PathBuf>,
    /// `--secret`.
    pub secrets: Vec<Secret>,
    /// `--ssh`.
    pub agents: Vec<AgentSource>,
    /// Proxies and the like, for pulling.
    pub net: NetConfig,
    /// Engines that [`OutputKind::Load`] may use.
    pub engine: EngineConfig,
    /// What names stood for: `--lock`, `--locked`.
    pub locks: Arc<Locks>,
}

impl BuildRequest {
    /// The way to files and repositories that are elsewhere.
    pub(super) fn sources<'a>(&'a self, store: &'a Store, emitter: &'a Emitter) -> Sources<'a> {
        Sources { store, net: &self.net, secrets: &self.secrets, locks: &self.locks, emitter }
    }
}

/// Whether misses of the cache are explained, and by what.
#[derive(Clone, Debug, Default)]
pub struct Explain {
    /// They are told.
    pub wanted: bool,
    /// Where the context is from and which Dockerfile it is: what stays the same from build to build.
    pub origin: String,
}

/// What [`ImageSource`] asks: an image of this name for this platform, with its blobs put into the store.
pub type FindImage = dyn Fn(&Reference, &Platform) -> Result<Option<Descriptor>> + Send + Sync;

/// A place besides the store where images are looked up by name.
#[derive(Clone)]
pub struct ImageSource(pub Arc<FindImage>);

impl fmt::Debug for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ImageSource")
    }
}

/// What `--build-context` names.
#[derive(Debug)]
pub enum ContextSource {
    /// An image.
    Image(String),
    /// Files.
    Files(FileTree),
}

/// A secret for RUNs. It is in no key, no record and no message.
#[derive(Clone)]
pub struct Secret {
    /// What a Dockerfile calls it.
    pub id: String,
    /// The secret itself.
    pub content: Arc<[u8]>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What RUNs may have that they do not have by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entitlement {
    /// `network.host`.
    HostNetwork,
    /// `security.insecure`.
    Insecure,
    /// `device`, or `device=NAME`.
    Device(Option<String>),
}

impl fmt::Display for Entitlement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostNetwork => f.write_str("network.host"),
            Self::Insecure => f.write_str("security.insecure"),
            Self::Device(None) => f.write_str("device"),
            Self::Device(Some(name)) => write!(f, "device={name}"),
        }
    }
}

/// When a base image is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// Always ask the registry.
    Always,
    /// Ask when it was pulled before, use what is there when the registry cannot be reached.
    #[default]
    Check,
    /// Only when the store does not have it.
    Missing,
    /// Never.
    Never,
}

/// Where a result goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSpec {
    /// What form.
    pub kind: OutputKind,
    /// Path; `None` is standard output, or no place at all where the kind needs none.
    pub dest: Option<PathBuf>,
}

impl OutputSpec {
    /// True for an output that goes to standard output.
    pub fn is_stdout(&self) -> bool {
        self.dest.is_none()
            && !matches!(self.kind, OutputKind::Image | OutputKind::Load | OutputKind::Registry)
    }
}

/// Form of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// OCI layout as a tar.
    OciArchive,
    /// OCI layout as a directory.
    OciDirectory,
    /// Archive for `docker load`.
    Docker,
    /// Root file system as a tar.
    Tar,
    /// Root file system as a directory.
    Local,
    /// Only the store.
    Image,
    /// A running docker or podman.
    Load,
    /// The registries of the names.
    Registry,
}

/// What a build made.
#[derive(Clone, Debug)]
pub struct BuildOutcome {
    /// Descriptor of the manifest, or of the index over `images`.
    pub descriptor: Descriptor,
    /// The manifests, each with its platform, in the order of the index.
    pub images: Vec<Descriptor>,
    /// Digest of the config, when there is one image.
    pub config_digest: Option<crate::oci::Digest>,
    /// Full names it was stored under.
    pub names: Vec<String>,
    /// Names that registries have it under now, in their order.
    pub pushed: Vec<Pushed>,
}
