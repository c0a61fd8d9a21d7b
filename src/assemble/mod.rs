//! Images without a Dockerfile: files that are there already, put into layers (assemble-trust.md A).
//!
//! In: a spec, as text; out: an image in the store, or streamed. Nothing of the machine gets into it but what the spec
//! names: the same inputs give the same digest anywhere. Read [`Assembly::prepare`] to know the order of things.

mod base;
mod contents;
mod database;
mod dedup;
mod image;
mod layering;
mod output;
mod perms;
mod place;
mod scripts;
pub mod spec;
mod tree;
mod workshop;

pub use output::Assembled;

use crate::build::store::Store;
use crate::build::worker::Worker;
use crate::error::{Error, Result};
use crate::executor::emulation::Places;
use crate::executor::isolation::Account;
use crate::layers::EntryKind;
use crate::layers::compress::Compression;
use crate::layers::tar_stream::can_read;
use crate::plan::step::Env;
use crate::progress::Emitter;
use crate::transfer::Access;
use base::Base;
use contents::{Closures, Filler};
use jiff::Timestamp;
use layering::Plan;
use scripts::Stage;
use serde_json::{Map, Value};
use spec::{FileTime, Moment, Spec};
use std::path::Path;
use std::sync::Arc;
use tree::Tree;
use workshop::Workshop;

/// What an image is assembled with.
#[derive(Debug)]
pub struct Request<'a> {
    /// What the user wants.
    pub spec: &'a Spec,
    /// Against which the spec's paths are.
    pub dir: &'a Path,
    /// Where blobs go.
    pub store: &'a Arc<Store>,
    /// The way to base images.
    pub access: &'a Access<'a>,
    /// For the isolation of commands.
    pub account: &'a Account,
    /// Emulators for commands in images of other architectures.
    pub emulators: &'a Places,
    /// PATH for commands that use this machine's tools.
    pub path: &'a str,
    /// Times that a spec may ask for.
    pub times: Times,
    /// A base image in a registry may be named by a tag.
    pub allow_tag: bool,
    /// Told what happens.
    pub emitter: &'a Emitter,
}

/// Seconds since 1970 that a spec may ask for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// Now.
    pub now: i64,
    /// `SOURCE_DATE_EPOCH`.
    pub epoch: Option<i64>,
    /// The last commit of the spec's directory.
    pub git: Option<i64>,
}

impl Times {
    fn of(&self, moment: Moment) -> Result<i64> {
        match moment {
            Moment::At(seconds) => Ok(seconds),
            Moment::Now => Ok(self.now),
            Moment::Epoch => self.epoch.ok_or_else(|| {
                Error::usage("the spec asks for `source-date-epoch`, and there is none")
                    .hint("set SOURCE_DATE_EPOCH, or give `--source-date-epoch`")
            }),
            Moment::Git => self.git.ok_or_else(|| {
                Error::usage("the spec asks for `from-git`, and its directory is in no repository")
                    .hint("give a time, or `source-date-epoch`")
            }),
        }
    }
}

/// An image whose layers are known and not yet written.
#[derive(Debug)]
pub struct Assembly<'a> {
    request: &'a Request<'a>,
    base: Base,
    tree: Tree,
    plans: Vec<Plan>,
    /// What items of the contents put into the config.
    given: Map<String, Value>,
    created: String,
    compression: Compression,
    /// Ends with the snapshots that it made.
    shop: Option<Workshop>,
}

impl<'a> Assembly<'a> {
    /// Reads everything that the spec names, runs its commands, and decides what goes into which layer. Call it while the
    /// process has one thread when the spec has commands.
    pub fn prepare(request: &'a Request<'a>) -> Result<Self> {
        Self::of(request, true)
    }

    /// The same without the commands: what is wrong with the inputs is found.
    pub fn check(request: &'a Request<'a>) -> Result<()> {
        Self::of(request, false).map(drop)
    }

    fn of(request: &'a Request<'a>, commands: bool) -> Result<Self> {
        let spec = request.spec;
        let created = request.times.of(spec.created)?;
        let shown = rfc3339(created);
        let (name, level) = &spec.compression;
        let compression = Compression::parse(name, *level)?;
        let finder = base::Finder {
            spec,
            dir: request.dir,
            store: request.store,
            access: request.access,
            allow_tag: request.allow_tag,
            created: &shown,
        };
        let base = finder.find()?;
        let tmp = request.store.sub("tmp");
        let mut filler = Filler {
            spec,
            dir: request.dir,
            store: request.store.path(),
            tmp: &tmp,
            tree: Tree::new(Arc::clone(&base.view)),
            closures: Closures::default(),
            config: Map::new(),
            warnings: Vec::new(),
        };
        filler.fill()?;
        for warning in filler.warnings.drain(..) {
            request.emitter.warn(warning);
        }
        files_can_be_read(&filler.tree, spec)?;
        let mut shop = None;
        if commands && spec.scripts.is_some() {
            let entered = Worker::enter(request.store, request.account, request.emulators)?;
            let entered = &*shop.insert(Workshop::new(request.store, entered));
            let stage = Stage {
                spec,
                dir: request.dir,
                store: request.store,
                shop: entered,
                base: &base,
                platform: base.platform.clone(),
                path: request.path,
                env: environment(spec, &base, &filler.config)?,
                emitter: request.emitter,
            };
            let tree = std::mem::replace(&mut filler.tree, Tree::new(Arc::clone(&base.view)));
            filler.tree = stage.run(tree)?;
        }
        perms::apply(spec, &mut filler.tree)?;
        if let Some(wish) = &spec.nix_database {
            let registered = match spec.mtime {
                FileTime::Same(moment) => request.times.of(moment)?,
                FileTime::Keep => created,
            };
            database::add(&mut filler, wish, (&base, request.store), registered)?;
        }
        let Filler { mut tree, closures, config: given, .. } = filler;
        date(&mut tree, spec, request.times, created)?;
        let paths = dedup::changed(&tree, spec.layers.dedup)?;
        let plans = layering::plan(spec, &tree, &closures, paths, base.image.layers.len())?;
        Ok(Self { request, base, tree, plans, given, created: shown, compression, shop })
    }
}

/// Opens every file: what could not be read later is told before any command runs.
fn files_can_be_read(tree: &Tree, spec: &Spec) -> Result<()> {
    for (path, node) in tree.files() {
        let EntryKind::File { size } = node.entry.kind else { continue };
        can_read(path, node.content(), size).map_err(|error| node.origin.placed(error, spec))?;
    }
    Ok(())
}

/// The variables that a container of the image would have.
fn environment(spec: &Spec, base: &Base, given: &Map<String, Value>) -> Result<Env> {
    let config = image::config(spec, base, given, &[], "")?;
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.to_owned())
    };
    Ok(config.config.env.iter().map(pair).collect())
}

/// Gives all files the times that the spec wants.
fn date(tree: &mut Tree, spec: &Spec, times: Times, created: i64) -> Result<()> {
    match spec.mtime {
        FileTime::Same(moment) => {
            let seconds = times.of(moment)?;
            tree.files_mut().values_mut().for_each(|node| node.entry.mtime = (seconds, 0));
        }
        FileTime::Keep => tree.files_mut().values_mut().for_each(|node| {
            node.entry.mtime = (node.entry.mtime.0.min(created), 0);
        }),
    }
    Ok(())
}

/// RFC 3339 in UTC.
fn rfc3339(seconds: i64) -> String {
    Timestamp::from_second(seconds)
        .map_or_else(|_| "1970-01-01T00:00:00Z".to_owned(), |time| time.to_string())
}
