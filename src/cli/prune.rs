//! `nativebuild prune`: removes what no image and no running build needs.

use super::args::PruneArgs;
use super::environment::Environment;
use crate::build::blobs;
use crate::build::store::Store;
use crate::build::worker::Worker;
use crate::error::{ErrorKind, Result, ResultExt};
use crate::executor::emulation::Places;
use std::sync::Arc;

pub(super) fn run(args: &PruneArgs, environment: &Environment) -> Result<()> {
    let path = environment.store(args.root.as_ref())?;
    let store = Arc::new(Store::open_alone(&path)?);
    let mut doomed: Vec<(&str, String)> = Vec::new();
    for dir in ["tmp", "trash", "logs"] {
        doomed.extend(names(&store, dir)?.into_iter().map(|name| (dir, name)));
    }
    for name in names(&store, "snapshots")? {
        let own = store.sub("snapshots").join(&name);
        // Without its description a snapshot was never finished.
        if name.bytes().all(|b| b.is_ascii_hexdigit()) && !own.join("meta.json").exists() {
            doomed.push(("snapshots", name));
        }
    }
    let mut freed = blobs::remove_unfinished(&store)?;
    if args.all {
        doomed.retain(|(dir, _)| *dir != "snapshots");
        for dir in ["snapshots", "cache", "mounts"] {
            doomed.extend(names(&store, dir)?.into_iter().map(|name| (dir, name)));
        }
        freed += blobs::remove_unreferenced(&store)?;
    }
    // Files of snapshots belong to subordinate ids: only inside their namespace may we remove them.
    let worker = Worker::enter(&store, &environment.account(None), &Places::default())?;
    for (dir, name) in &doomed {
        worker.remove(&store, dir, name)?;
    }
    super::print_data(
        format!("removed {} directory entries, {freed} bytes of blobs\n", doomed.len()).as_bytes(),
    )
}

fn names(store: &Store, dir: &str) -> Result<Vec<String>> {
    let path = store.sub(dir);
    let what = || format!("cannot list {}", path.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&path).or_error(ErrorKind::Environment, what)? {
        let entry = entry.or_error(ErrorKind::Environment, what)?;
        found.push(entry.file_name().to_string_lossy().into_owned());
    }
    found.sort();
    Ok(found)
}
