//! `nativebuild cache`: what is in LinuxKit's cache.

use super::args::{CacheArgs, CacheCommand, ExportFormat};
use super::trust::{Trust, asked};
use super::{emitter, net_config};
use crate::build::store::Store;
use crate::build::worker::Worker;
use crate::build::{images, output, tree};
use crate::cli::args::Progress;
use crate::cli::environment::Environment;
use crate::cli::print_data;
use crate::cli::report::Style;
use crate::error::{Error, Result};
use crate::executor::emulation::Places;
use crate::linuxkit::cache::{self, PkgCache};
use crate::linuxkit::remote::Remote;
use crate::oci::Platform;
use crate::oci::archive::Input;
use std::path::Path;
use std::sync::Arc;

pub(super) fn run(args: CacheArgs, environment: &Environment, style: Style) -> Result<()> {
    let cache = PkgCache::open_or_create(environment.linuxkit_cache(args.cache.as_ref())?)?;
    let cache = cache.telling(&emitter(args.quiet, Progress::Auto, environment, style)?);
    let remote = || remote(&args, &cache, environment, style);
    match &args.command {
        CacheCommand::Ls => list(&cache),
        CacheCommand::Clean { published_only: true, .. } => {
            let all = cache.list()?.into_iter().map(|listed| listed.name).collect::<Vec<_>>();
            tell(&cache.remove(&published(&cache, &remote()?, &all)?)?)
        }
        CacheCommand::Clean { unused, .. } => {
            let freed = if *unused { cache.clean_unused(cache::GRACE)? } else { cache.clean()? };
            tell(&freed)
        }
        CacheCommand::Rm { names, published_only: true } => {
            if let Some(unknown) =
                names.iter().find(|name| !matches!(cache.find(name), Ok(Some(_))))
            {
                return cache.remove(std::slice::from_ref(unknown)).and_then(|freed| tell(&freed));
            }
            tell(&cache.remove(&published(&cache, &remote()?, names)?)?)
        }
        CacheCommand::Rm { names, .. } => tell(&cache.remove(names)?),
        CacheCommand::Pull { names } => {
            let remote = remote()?;
            names.iter().try_for_each(|name| {
                let full = cache::canonical(name);
                let digest = remote.bring_all(&full)?;
                print_data(format!("{full} {digest}\n").as_bytes())
            })
        }
        CacheCommand::Push { names } => {
            let emitter = emitter(args.quiet, Progress::Auto, environment, style)?;
            super::push::cached(names, &cache, &remote()?, &emitter)
        }
        CacheCommand::Import { source } => import(&cache, source),
        CacheCommand::Export { name, platform, outfile, format, rename } => {
            let platform = match platform {
                Some(text) => Platform::parse(text)?,
                None => Platform::host(),
            };
            let out = (outfile != Path::new("-")).then_some(outfile.as_path());
            let format = match format {
                ExportFormat::Oci => cache::ExportFormat::Oci,
                ExportFormat::Docker => cache::ExportFormat::Docker,
                ExportFormat::Filesystem => {
                    let store = Store::open(&environment.store(args.root.as_ref())?)?;
                    return file_system(&cache, &store, name, &platform, out, environment);
                }
            };
            cache.export(name, &platform, format, rename.as_deref(), out)
        }
    }
}

fn remote(
    args: &CacheArgs,
    cache: &PkgCache,
    environment: &Environment,
    style: Style,
) -> Result<Remote> {
    let store = Arc::new(Store::open(&environment.store(args.root.as_ref())?)?);
    let trust = if args.disable_content_trust { Trust::Off } else { Trust::Unsaid };
    let net = asked(trust, environment)?.put_into(net_config(&args.net, environment)?);
    let emitter = emitter(args.quiet, Progress::Auto, environment, style)?;
    Ok(Remote::new(store, Arc::new(cache.clone()), net, emitter))
}

/// Takes in an archive or a layout, and tells what came.
fn import(cache: &PkgCache, source: &str) -> Result<()> {
    let input = match source {
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

/// Those of the names whose image a registry has as it is here.
fn published(cache: &PkgCache, remote: &Remote, names: &[String]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for name in names {
        let Some(here) = cache.find(name)? else { continue };
        let there = remote.digest(name)?;
        if there.is_some_and(|there| there.as_str() == here.digest().as_ref()) {
            found.push(name.clone());
        }
    }
    Ok(found)
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
    let worker = Worker::enter(store, &environment.account(), &Places::default())?;
    let tree = tree::of_image(store, &base, &worker)?;
    output::write_tree(&worker, tree.as_ref(), out, false, None)
}
