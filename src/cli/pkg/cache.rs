//! `nativebuild cache`: what is in LinuxKit's cache.

use super::args::{CacheArgs, CacheCommand, ExportFormat};
use super::later;
use crate::build::store::Store;
use crate::build::worker::Worker;
use crate::build::{images, output, tree};
use crate::cli::environment::Environment;
use crate::cli::print_data;
use crate::error::{Error, Result};
use crate::executor::emulation::Places;
use crate::linuxkit::cache::{self, PkgCache};
use crate::oci::Platform;
use crate::oci::archive::Input;
use std::path::Path;

pub(in crate::cli) fn run(args: CacheArgs, environment: &Environment) -> Result<()> {
    let cache = PkgCache::open_or_create(environment.linuxkit_cache(args.cache.as_ref())?)?;
    match args.command {
        CacheCommand::Ls => list(&cache),
        CacheCommand::Clean { published_only: true, .. }
        | CacheCommand::Rm { published_only: true, .. } => Err(later("--published-only")),
        CacheCommand::Clean { unused, .. } => {
            let freed = if unused { cache.clean_unused(cache::GRACE)? } else { cache.clean()? };
            tell(&freed)
        }
        CacheCommand::Rm { names, .. } => tell(&cache.remove(&names)?),
        CacheCommand::Import { source } => {
            let input = match source.as_str() {
                "-" => Input::Stream(Box::new(std::io::stdin())),
                path => Input::Path(path.into()),
            };
            let brought = cache.import(input)?;
            let mut text = String::new();
            for image in &brought.named {
                text += &format!("{} {}\n", image.name, image.digest);
            }
            for digest in &brought.unnamed {
                text += &format!("(no name) {digest}\n");
            }
            print_data(text.as_bytes())
        }
        CacheCommand::Export { name, platform, outfile, format, rename } => {
            let platform = match platform {
                Some(text) => Platform::parse(&text)?,
                None => Platform::host(),
            };
            let out = (outfile != Path::new("-")).then_some(outfile.as_path());
            let format = match format {
                ExportFormat::Oci => cache::ExportFormat::Oci,
                ExportFormat::Docker => cache::ExportFormat::Docker,
                ExportFormat::Filesystem => {
                    let store = Store::open(&environment.store(args.root.as_ref())?)?;
                    return file_system(&cache, &store, &name, &platform, out, environment);
                }
            };
            cache.export(&name, &platform, format, rename.as_deref(), out)
        }
        CacheCommand::Pull { .. } => Err(later("cache pull")),
        CacheCommand::Push { .. } => Err(later("cache push")),
    }
}

fn list(cache: &PkgCache) -> Result<()> {
    let mut text = format!("{:<80} {}\n", "image name", "root manifest hash");
    for image in cache.list()? {
        text += &format!("{:<80} {}\n", image.name, image.digest);
    }
    print_data(text.as_bytes())
}

fn tell(freed: &cache::Freed) -> Result<()> {
    let kept = match freed.kept {
        0 => String::new(),
        kept => format!(", kept {kept} blobs that are too young to be judged"),
    };
    print_data(format!("removed {} files, {} bytes{kept}\n", freed.files, freed.bytes).as_bytes())
}

/// The flattened root file system of one platform, as a tar.
fn file_system(
    cache: &PkgCache,
    store: &Store,
    name: &str,
    platform: &Platform,
    out: Option<&Path>,
    environment: &Environment,
) -> Result<()> {
    let image = cache.image_named(name, platform)?;
    let lent = cache.lend(store.images(), &image.manifest_descriptor, platform)?;
    let descriptor = lent.ok_or_else(|| Error::image(format!("`{name}` is not complete")))?;
    let base = images::open(store, &descriptor, platform)?;
    let worker = Worker::enter(store, &environment.account(None), &Places::default())?;
    let tree = tree::of_image(store, &base, &worker)?;
    output::write_tree(&worker, tree.as_ref(), out, false, None)
}
