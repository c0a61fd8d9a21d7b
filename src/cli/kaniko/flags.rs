//! The table for kaniko's options that do nothing here.

use crate::cli::compat::Fate::{Granted, Ignored, Refused};
use crate::cli::compat::Takes::{Maybe, Nothing, Value};
use crate::cli::compat::{Foreign, Table, flag};

const CACHE: &str = "base images are kept in the store, and nothing in it gets too old";
const LOGINS: &str = "logins come from the places that docs/registries.md names";

/// Options of kaniko's executor.
#[derive(Debug)]
pub struct KanikoTable;

impl Table for KanikoTable {
    const FLAGS: &'static [Foreign] = &[
        flag!("azure-container-registry-config", Value, Ignored(LOGINS)),
        flag!("bucket", Value, Refused("unpack it and name the directory with `--context`"))
            .short('b'),
        flag!("cache-copy-layers", Maybe, Granted),
        flag!("cache-dir", Value, Ignored(CACHE)),
        flag!("cache-run-layers", Maybe, Granted),
        flag!("cache-ttl", Value, Ignored(CACHE)),
        flag!("cleanup", Maybe, Granted),
        flag!("compressed-caching", Maybe, Granted),
        flag!("credential-helpers", Value, Ignored(LOGINS)),
        flag!("force", Maybe, Granted),
        flag!("force-build-metadata", Maybe, Granted),
        flag!("git", Value, Refused("clone it and name the directory with `--context`")),
        flag!("ignore-path", Value, Ignored("what is mounted never enters a layer, the rest does")),
        flag!("ignore-var-run", Maybe, Granted).or(&["whitelist-var-run"]),
        flag!("image-download-retry", Value, Granted),
        flag!("image-fs-extract-retry", Value, Granted),
        flag!("kaniko-dir", Value, Granted),
        flag!("log-format", Value, Granted),
        flag!("log-timestamp", Maybe, Granted),
        flag!("materialize", Maybe, Granted),
        flag!("preserve-context", Maybe, Granted),
        flag!(
            "push-ignore-immutable-tag-errors",
            Maybe,
            Ignored("a tag that its registry does not let change is an error")
        ),
        flag!("push-retry", Value, Ignored("registries are asked again anyway")),
        flag!("single-snapshot", Maybe, Ignored("every step keeps its layer")).granted(&["false"]),
        flag!(
            "skip-default-registry-fallback",
            Maybe,
            Ignored("what mirrors do not have is asked of the registry itself")
        ),
        flag!("skip-push-permission-check", Maybe, Granted),
        flag!("skip-unused-stages", Maybe, Granted),
        flag!("snapshot-mode", Value, Granted).or(&["snapshotMode"]),
        flag!("use-new-run", Nothing, Granted),
    ];
}
