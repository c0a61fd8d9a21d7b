//! `nativebuild image` and `nativebuild manifest`: words → [`crate::transfer`] and the store (design §10.2).
//!
//! [`store`] has the verbs that stay within the store and files, [`show`] those that print, [`change`] those that write,
//! [`index`] those on indexes; each of the others has a file of its name.

pub(super) mod archive;
pub mod args;
mod change;
pub(super) mod diff;
pub(super) mod export;
mod index;
mod need;
pub(super) mod pull;
mod show;
mod store;
mod template;
pub(super) mod with_rootfs;

use super::environment::Environment;
use super::progress::{Form, Printer};
use super::report::Style;
use super::trust::Asked;
use super::{du, pkg, prefetch, print_data};
use crate::build::store::Store;
use crate::error::{Error, ErrorKind, Result};
use crate::net::NetConfig;
use crate::oci::{Platform, Reference};
use crate::progress::Emitter;
use crate::transfer::copy::Delivered;
use crate::transfer::{Access, Location};
use args::{ImageArgs, ImageCommand, ManifestArgs, ManifestCommand, PlaceArgs};
use need::Need;
use std::fmt::Write as _;
use std::sync::Arc;

pub(super) fn run(args: ImageArgs, environment: &Environment, style: Style) -> Result<()> {
    let opened = need::open(Need::of(&args.command), &args.place, environment)?;
    let store = &opened.store;
    let access = access(store, &args.place, environment, style)?;
    match args.command {
        ImageCommand::Import { name, source, platform, add } => {
            store::import(store, &name, &source, platform.as_deref(), add)
        }
        ImageCommand::Load { source, all } => {
            match prefetch::load(store, &source, environment, style)? {
                Some(()) => Ok(()),
                None => store::load(store, &source, all),
            }
        }
        ImageCommand::Prefetch(prefetch) => {
            prefetch::run(&prefetch, &args.place, (store, environment), style)
        }
        ImageCommand::Du(args) => du::run(args, store, environment),
        ImageCommand::Ls { json } => store::list(store, json),
        ImageCommand::Save { name, output, format, platform } => {
            let image = access.stored(&reference(&name)?)?;
            store::save(store, &image, &output, format, platform.as_deref())
        }
        ImageCommand::Inspect(args) => show::inspect(&access, &args),
        ImageCommand::Digest { image, size } => show::digest(&access, &image, size),
        ImageCommand::LsTags { repository } => show::tags(&access, &repository),
        ImageCommand::Copy(args) => change::copy(&access, &args),
        ImageCommand::Convert(args) => change::convert(&access, &args),
        ImageCommand::Tag { source, target } => change::tag(&access, &source, &target),
        ImageCommand::Rm { names, yes } => change::remove(&access, &names, yes),
        ImageCommand::Index(command) => index::run(&access, command),
        ImageCommand::Referrers { image, artifact_type, json } => {
            show::referrers(&access, &image, artifact_type.as_deref(), json)
        }
        ImageCommand::Export(args) => export::export(store, &access, &args, environment),
        ImageCommand::Diff(args) => diff::diff(&access, &args, None),
        ImageCommand::Validate { source } => show::validate(&access, &source),
        ImageCommand::Manifest(ManifestCommand::Inspect(args)) => show::list(&access, &args),
    }
}

/// True when errors are told as JSON too.
pub(super) fn tells_json(args: &ImageArgs, environment: &Environment) -> bool {
    match &args.command {
        ImageCommand::Prefetch(prefetch) => environment.tells_json(prefetch.progress),
        _ => false,
    }
}

/// `nativebuild manifest`, under the name that manifest-tool's users know.
pub(super) fn run_manifest(
    args: ManifestArgs,
    environment: &Environment,
    style: Style,
) -> Result<()> {
    let ManifestCommand::Inspect(mut list) = args.command;
    let need = Need::of_image(&list.image).min(Need::Room);
    let opened = need::open(need, &args.place, environment)?;
    let access = access(&opened.store, &args.place, environment, style)?;
    // manifest-tool has no store: a name that is not in ours is one of a registry.
    let place = location(&list.image)?;
    if matches!(place, Location::Store(_)) && !access.exists(&place)? {
        list.image.insert_str(0, "docker://");
    }
    show::list(&access, &list)
}

fn access<'a>(
    store: &'a Store,
    place: &PlaceArgs,
    environment: &Environment,
    style: Style,
) -> Result<Access<'a>> {
    let net = pkg::net_config(&place.net, environment)?;
    let net = Asked::of(place.disable_content_trust, environment).put_into(net);
    let net = NetConfig { uploads: Some(store.uploads()), ..net };
    let emitter = Emitter::new(Arc::new(Printer::new(Form::Plain, style)));
    Ok(Access::new(store.images(), store.sub("tmp"), net, emitter))
}

fn parse_platform(text: &str) -> Result<Platform> {
    Platform::parse(text).map_err(|error| error.with_kind(ErrorKind::Usage))
}

fn platform(text: Option<&str>) -> Result<Option<Platform>> {
    text.map(parse_platform).transpose()
}

fn reference(name: &str) -> Result<Reference> {
    Reference::parse(name).map_err(|error| error.with_kind(ErrorKind::Usage))
}

fn location(text: &str) -> Result<Location> {
    Location::parse(text)
}

/// A digest for what was written, a line as `docker push` has it for each reference in a registry.
fn tell(delivered: &Delivered) -> Result<()> {
    let mut text = String::new();
    match delivered {
        Delivered::Written(digest) => {
            let _always = writeln!(text, "{digest}");
        }
        Delivered::Pushed(pushed) => {
            for one in pushed {
                let _always = writeln!(text, "{}", one.line());
            }
        }
    }
    print_data(text.as_bytes())
}

fn print_json(value: &serde_json::Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::internal("JSON of an image").cause(error))?;
    print_data((text + "\n").as_bytes())
}
