//! `nativebuild prune`: removes what no image and no running build needs (docs/store.md "Removing").

use super::args::PruneArgs;
use super::environment::Environment;
use super::values;
use crate::build::care::prune::{self, Policy};
use crate::build::care::usage::Kind;
use crate::build::store::Store;
use crate::build::worker::Worker;
use crate::error::{Error, Result};
use crate::executor::emulation::Places;
use std::fmt::Write;
use std::path::Path;

pub(super) fn run(args: &PruneArgs, environment: &Environment) -> Result<()> {
    let mut age = args.older_than.as_deref().map(|text| values::age(text, "--older-than"));
    for filter in &args.filter {
        let Some(text) = filter.strip_prefix("until=") else {
            return Err(Error::usage(format!("unknown filter `{filter}`"))
                .hint("`until=TIME` is the one that there is, for example `until=24h`"));
        };
        age = Some(values::age(text, "--filter until"));
    }
    let before = age.transpose()?.map(|age| now().saturating_sub(age));
    let keep = args.keep_storage.as_deref();
    let keep = keep.map(|text| values::bytes(text, "--keep-storage")).transpose()?;
    let policy = Policy { all: args.all, before, keep, own: false, dry_run: args.dry_run };
    let path = environment.store(args.root.as_ref())?;
    if args.root.is_some() && !Store::exists(&path) {
        return Err(no_store(&path));
    }
    let store = Store::open(&path)?;
    // Files of snapshots belong to subordinate ids: only inside their namespace may we remove them.
    let _worker = Worker::enter(&store, &environment.account(), &Places::default())?;
    let pruned = prune::run(&store, &policy)?;
    let mut text = String::new();
    let verb = if args.dry_run { "would remove" } else { "removed" };
    for kind in Kind::ALL {
        if let Some((count, bytes)) = pruned.removed.get(&kind) {
            let _to_string = writeln!(text, "{verb} {count} {}: {bytes} bytes", kind.name());
        }
    }
    let freed = if args.dry_run { "would free" } else { "freed" };
    let _to_string = writeln!(text, "{freed} {} bytes, {} are left", pruned.bytes(), pruned.left);
    super::print_data(text.as_bytes())
}

/// A directory that was named, and is no store.
pub(super) fn no_store(path: &Path) -> Error {
    Error::environment(format!("there is no store in {}", path.display()))
        .hint("check the path of `--root` for typing errors")
}

fn now() -> i64 {
    rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec
}
