//! `image export`: the root file system of an image, flattened.

use super::args::ExportArgs;
use super::{location, platform};
use crate::build::images;
use crate::build::output::{self, Rewrite};
use crate::build::store::Store;
use crate::build::tree;
use crate::build::worker::Worker;
use crate::cli::environment::Environment;
use crate::error::{Error, Result};
use crate::executor::emulation::Places;
use crate::oci::{Platform, resolve};
use crate::transfer::{Access, Choice, Location};
use std::path::Path;
use std::sync::Arc;

pub(super) fn export(
    store: &Arc<Store>,
    access: &Access<'_>,
    args: &ExportArgs,
    environment: &Environment,
) -> Result<()> {
    let rewrite =
        Rewrite { mtime: args.mtime, owner: args.owner.as_deref().map(owner).transpose()? };
    let wanted = platform(args.platform.as_deref())?;
    let root = match location(&args.name)? {
        Location::Store(name) => access.stored(&name)?.descriptor,
        other => {
            let choice = wanted.clone().map_or(Choice::Here, Choice::One);
            access.fetch(&other, &choice, Some(store.images()))?.root
        }
    };
    let chosen = match &wanted {
        Some(wanted) => resolve::resolve_exactly(store.images(), &root, wanted)?,
        None => resolve::resolve(store.images(), &root, &Platform::host())?,
    };
    let base = images::open(store, &root, &chosen.platform)?;
    let worker = Worker::enter(store, &environment.account(), &Places::default())?;
    let tree = tree::of_image(store, &base, &worker)?;
    let path = (args.output != Path::new("-")).then_some(args.output.as_path());
    if args.directory {
        return output::write_tree(&worker, tree.as_ref(), path, true, None);
    }
    output::export_tar(&worker, tree.as_ref(), path, rewrite)
}

/// `UID[:GID]`; without a group it is the same number.
fn owner(text: &str) -> Result<(u32, u32)> {
    let (uid, gid) = text.split_once(':').unwrap_or((text, text));
    match (uid.parse(), gid.parse()) {
        (Ok(uid), Ok(gid)) if uid != u32::MAX && gid != u32::MAX => Ok((uid, gid)),
        _ => Err(Error::usage(format!("bad owner `{text}`: expected UID[:GID] as numbers"))),
    }
}
