//! `pkg builder`: the builder that LinuxKit means is BuildKit's; ours is the store.

use super::args::{BuilderCommand, PkgCommon};
use crate::cli::args::PruneArgs;
use crate::cli::environment::Environment;
use crate::cli::{print_data, prune};
use crate::error::Result;
use std::path::Path;

pub(super) fn run(
    command: BuilderCommand,
    common: &PkgCommon,
    environment: &Environment,
) -> Result<()> {
    let prune = PruneArgs { all: true, root: common.root.clone(), ..PruneArgs::default() };
    match command {
        BuilderCommand::Prune => prune::run(&prune, environment),
        BuilderCommand::Du => {
            let path = environment.store(common.root.as_ref())?;
            let mut text = String::new();
            let mut total = 0;
            for part in ["images", "snapshots", "cache", "mounts"] {
                let bytes = size(&path.join(part));
                total += bytes;
                text += &format!("{part}\t{bytes}\n");
            }
            print_data(format!("{text}total\t{total}\n").as_bytes())
        }
    }
}

/// Bytes of all files below a directory, as far as they can be read.
fn size(path: &Path) -> u64 {
    let Ok(found) = std::fs::symlink_metadata(path) else { return 0 };
    if !found.is_dir() {
        return found.len();
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| size(&entry.path())).sum()
}
