//! The one room that sees the whole pipeline. Read [`build`] to know the program.
//!
//! Plan, look into the cache with one thread and no privileges; only when something is missing enter the isolation,
//! run what is missing, write layers in the background; then config, manifest, names and outputs.

mod assemble;
pub mod blobs;
pub mod cache;
pub mod images;
mod jobs;
mod keys;
mod load;
mod mounts;
pub mod output;
pub mod packer;
pub mod request;
mod run;
mod stage;
mod state;
pub mod store;
pub mod tree;
mod work;
pub mod worker;

use crate::context::FileDigestCache;
use crate::dockerfile::{self, ast::Dockerfile};
use crate::error::{Error, ErrorKind, Result};
use crate::net::Engine;
use crate::oci::layout::Origin;
use crate::oci::{Digest, Platform, platform};
use crate::plan::step::{BaseRef, BuildPlan, StepKind};
use crate::plan::{self, PlanRequest, Planned};
use crate::progress::{Emitter, Event};
use crate::source::Span;
use images::BaseImage;
use jobs::Jobs;
use request::{BuildOutcome, BuildRequest};
use stage::{Builder, Tools};
use state::{Limit, States};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};
use store::Store;
use worker::Worker;

/// Carries out a build. Must be called while the process has one thread.
pub fn build(
    request: &BuildRequest,
    store: &Arc<Store>,
    emitter: &Emitter,
) -> Result<BuildOutcome> {
    let dockerfile = dockerfile::parse(&request.dockerfile)?;
    let engine = load::find_engine(request)?;
    let (plan, images, epoch) = plan_with_bases(&dockerfile, request, store, emitter)?;
    warn(&plan, &dockerfile, emitter);
    refuse_insecure(&plan)?;
    let engine = engine.as_ref();
    let inputs = Inputs { request, store, emitter, plan: &plan, images: &images, epoch, engine };
    let mut worker = None;
    // A blob of ours that turns out damaged is removed and made again; twice is enough for any honest disk.
    for _ in 0..2 {
        match attempt(&inputs, &mut worker) {
            Err(error) if error.kind() == ErrorKind::Integrity && drop_damaged(store, &images)? => {
                emitter.warn(format!("{}; making it again", error.message()));
            }
            other => return other,
        }
    }
    attempt(&inputs, &mut worker)
}

/// Plan of a build without carrying it out, for `--print-plan`.
pub fn plan_only(
    request: &BuildRequest,
    store: &Arc<Store>,
    emitter: &Emitter,
) -> Result<BuildPlan> {
    let dockerfile = dockerfile::parse(&request.dockerfile)?;
    Ok(plan_with_bases(&dockerfile, request, store, emitter)?.0)
}

type Images = BTreeMap<BaseRef, BaseImage>;

fn plan_with_bases(
    dockerfile: &Dockerfile,
    request: &BuildRequest,
    store: &Arc<Store>,
    emitter: &Emitter,
) -> Result<(BuildPlan, Images, Option<i64>)> {
    let mut asked = PlanRequest {
        build_args: request.build_args.clone(),
        target: request.target.clone(),
        labels: request.labels.clone(),
        platform: request.platform.clone(),
        build_platform: Platform::host(),
        network: request.network,
        epoch: request.epoch,
    };
    asked.epoch = plan::epoch(dockerfile, &asked)?;
    let mut images = Images::new();
    let plan = loop {
        let configs = images.iter().map(|(base, image)| (base.clone(), image.config.clone()));
        match plan::plan(dockerfile, &asked, &configs.collect())? {
            Planned::Ready(plan) => break plan,
            Planned::Needs(bases) => {
                for base in bases {
                    let image = images::find(store, &base, request, emitter)
                        .map_err(|error| at_from(error, dockerfile, &base))?;
                    warn_of_platform(&image, &base, dockerfile, emitter);
                    images.insert(base, image);
                }
            }
        }
    };
    for (base, span) in images::copied_from(&plan) {
        let wanted = base.reference.clone();
        if let Entry::Vacant(place) = images.entry(base) {
            let image = images::find(store, place.key(), request, emitter)
                .map_err(|error| meant_stage(error, dockerfile, &wanted).at(&plan.source, span))?;
            place.insert(image);
        }
    }
    Ok((plan, images, asked.epoch))
}

/// Puts an error about a base image at the FROM that names it.
fn at_from(error: Error, dockerfile: &Dockerfile, base: &BaseRef) -> Error {
    match from_of(dockerfile, base) {
        Some(span) => error.at(&dockerfile.source, span),
        None => error,
    }
}

/// A source of `COPY --from` that is no image may be a misspelt stage.
fn meant_stage(error: Error, dockerfile: &Dockerfile, wanted: &str) -> Error {
    let names = dockerfile.stages.iter().filter_map(|stage| stage.from.name.as_ref());
    let names: Vec<&str> = names.map(|name| name.text.as_str()).collect();
    match dockerfile::suggest::nearest(wanted, &names) {
        Some(name) => error.hint(format!("did you mean the stage `{name}`?")),
        None => error,
    }
}

/// Where a FROM names this base.
fn from_of(dockerfile: &Dockerfile, base: &BaseRef) -> Option<Span> {
    let froms = || dockerfile.stages.iter().map(|stage| &stage.from.base);
    froms()
        .find(|word| word.text == base.reference)
        .or_else(|| froms().find(|word| word.text.contains('$')))
        .map(|word| word.span)
}

/// An image that is no index is taken whatever it is made for (dockerfile.md §1.10), but not in silence.
fn warn_of_platform(image: &BaseImage, base: &BaseRef, dockerfile: &Dockerfile, emitter: &Emitter) {
    let found = Platform::of_config(&image.config);
    if platform::best(&base.platform, std::iter::once((0, found.clone()))).is_some() {
        return;
    }
    let text = format!(
        "InvalidBaseImagePlatform: the base image `{}` is made for `{found}`, expected `{}`",
        base.reference, base.platform
    );
    let place = from_of(dockerfile, base)
        .map(|span| format!("{}:{}", dockerfile.source.name(), dockerfile.source.line(span.start)));
    emitter.emit(Event::Warning { text, place });
}

fn warn(plan: &BuildPlan, dockerfile: &Dockerfile, emitter: &Emitter) {
    let place = |span: crate::source::Span| {
        Some(format!("{}:{}", plan.source.name(), plan.source.line(span.start)))
    };
    for warning in &dockerfile.warnings {
        let text = format!("{}: {}", warning.rule, warning.message);
        emitter.emit(Event::Warning { text, place: place(warning.span) });
    }
    for warning in &plan.warnings {
        let text = warning.message.clone();
        emitter.emit(Event::Warning { text, place: warning.span.and_then(place) });
    }
}

/// A RUN with all capabilities and no filter could take over the machine of a root user; nobody can allow it yet.
fn refuse_insecure(plan: &BuildPlan) -> Result<()> {
    for step in plan.stages.iter().flat_map(|stage| &stage.steps) {
        if matches!(&step.kind, StepKind::Run(run) if run.insecure) {
            return Err(Error::dockerfile("security.insecure is not allowed")
                .cause("not yet supported: RUN --security=insecure")
                .at(&plan.source, step.span));
        }
    }
    Ok(())
}

/// What a build works with once it is planned.
struct Inputs<'a> {
    request: &'a BuildRequest,
    store: &'a Arc<Store>,
    emitter: &'a Emitter,
    plan: &'a BuildPlan,
    images: &'a Images,
    epoch: Option<i64>,
    engine: Option<&'a Engine>,
}

/// One try at a build; [`build`] says when there is a second one.
fn attempt(inputs: &Inputs<'_>, worker: &mut Option<Worker>) -> Result<BuildOutcome> {
    let Inputs { request, store, emitter, plan, images, epoch, engine } = *inputs;
    let digests = file_digests(store)?;
    let builder = Builder {
        request,
        plan,
        store,
        cache: cache::StepCache::of(store),
        emitter,
        images: images.clone(),
        epoch,
        states: States::new(plan.stages.len()),
        limit: Limit::new(request.jobs),
        variant: keys::variant(request.compression, epoch),
        file_digests: digests,
        next_step: AtomicU32::new(1),
        made: Mutex::default(),
    };
    let mut complete = true;
    for stage in 0..plan.stages.len() {
        complete &= builder.advance(stage, None)?;
    }
    if !complete {
        let worker = ensure(worker, store, request, emitter)?;
        run_stages(&builder, worker)?;
    }
    let outcome = finish(&builder)?;
    // Without it the next build reads the files again.
    let _best_effort = builder.file_digests.save();
    if request.outputs.iter().any(output::needs_tree) {
        let worker = ensure(worker, store, request, emitter)?;
        let state = builder.states.complete(plan.target).ok_or_else(stage::stopped)?;
        let tree = tree::materialise(store, &state, worker)?;
        output::write_trees(request, worker, tree.as_ref(), epoch, emitter)?;
    }
    if let Some(error) = worker.as_ref().and_then(|worker| worker.cancel.interrupted()) {
        return Err(error);
    }
    output::write_images(request, store, &outcome.descriptor, emitter)?;
    if let Some(engine) = engine {
        load::load(engine, request, store, &outcome.descriptor, worker.as_ref(), emitter)?;
    }
    Ok(outcome)
}

fn ensure<'w>(
    worker: &'w mut Option<Worker>,
    store: &Store,
    request: &BuildRequest,
    emitter: &Emitter,
) -> Result<&'w Worker> {
    if worker.is_none() {
        let entered = Worker::enter(store, &request.account)?;
        let network = match request.network {
            crate::plan::step::NetworkMode::Default => "host",
            other => other.as_str(),
        };
        let ids = entered.isolation.ids.as_str();
        emitter.emit(Event::Isolation {
            text: format!("isolation: namespaces, ids: {ids}, network: {network}"),
        });
        *worker = Some(entered);
    }
    Ok(worker.as_ref().expect("it was just made"))
}

/// Runs what the cache did not have, one thread a stage, layers in the background.
fn run_stages(builder: &Builder<'_>, worker: &Worker) -> Result<()> {
    let compression = builder.request.compression;
    let jobs = Jobs::start(builder.store, compression, builder.emitter, &worker.cancel);
    let tools = Tools { worker, jobs: &jobs };
    let errors = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for stage in 0..builder.plan.stages.len() {
            if builder.states.complete(stage).is_some() {
                continue;
            }
            let errors = &errors;
            scope.spawn(move || {
                if let Err(error) = builder.advance(stage, Some(tools)) {
                    builder.states.fail(stage);
                    // A damaged blob is made again in a second attempt, which a cancelled worker could not do.
                    if error.kind() != ErrorKind::Integrity {
                        worker.cancel.cancel(0);
                    }
                    errors.lock().unwrap_or_else(PoisonError::into_inner).push(error);
                }
            });
        }
    });
    jobs.finish();
    let made = worker.snapshots.unsynced();
    let synced = builder.store.images().sync();
    if synced.is_ok() {
        builder.record_made();
        worker.snapshots.mark_synced(made);
    }
    let errors = errors.into_inner().unwrap_or_else(PoisonError::into_inner);
    // The first cause, not those that stopped because of it.
    let (stopped, mut real): (Vec<Error>, Vec<Error>) =
        errors.into_iter().partition(|error| error.kind() == ErrorKind::Interrupted(0));
    match (real.is_empty(), stopped.into_iter().next()) {
        (false, _) => Err(real.remove(0)),
        (true, Some(error)) => Err(error),
        (true, None) => synced,
    }
}

/// Config, manifest and names of the finished target.
fn finish(builder: &Builder<'_>) -> Result<BuildOutcome> {
    let plan = builder.plan;
    let state = builder.states.complete(plan.target).ok_or_else(stage::stopped)?;
    let layers = state.layers()?;
    if layers.len() > 125 {
        builder.emitter.warn(format!(
            "the image has {} layers; Docker and containerd take at most 125 to 127",
            layers.len()
        ));
    }
    let mut config = plan.stages[plan.target].config.clone();
    config.created = builder.base_created(plan.target)?;
    let made = assemble::assemble(builder.store, config, &state.history, &layers, builder.epoch)?;
    let names: Vec<String> = builder.request.tags.iter().map(ToString::to_string).collect();
    for tag in &builder.request.tags {
        builder.store.images().set_name(tag, &made.descriptor, Origin::Built)?;
    }
    let digest = made.descriptor.digest().to_string();
    builder.emitter.emit(Event::Built { digest, names: names.clone() });
    Ok(BuildOutcome { descriptor: made.descriptor, config_digest: made.config_digest, names })
}

impl Builder<'_> {
    /// `created` of the image on which a stage finally stands.
    fn base_created(&self, stage: usize) -> Result<Option<String>> {
        use crate::plan::step::StageBase;
        Ok(match &self.plan.stages[stage].base {
            StageBase::Scratch => None,
            StageBase::Image(base) => self.image(base)?.config.created.clone(),
            StageBase::Stage(below) => self.base_created(*below)?,
        })
    }
}

/// The remembered digests of context files.
fn file_digests(store: &Store) -> Result<FileDigestCache> {
    let dir = crate::sys::fs::open_dir(store.dir(), b"cache")
        .map_err(|error| Error::environment("cannot open the cache of the store").cause(error))?;
    Ok(FileDigestCache::load(dir, b"files"))
}

/// Removes blobs whose content is not what their name says; true when there was one that can be made again.
fn drop_damaged(store: &Store, images: &Images) -> Result<bool> {
    let is_of = |image: &BaseImage, digest: &Digest| {
        image.layers.iter().any(|layer| layer.digest == *digest)
    };
    let mut found = false;
    for digest in blobs::damaged(store)? {
        if let Some((base, _)) = images.iter().find(|(_, image)| is_of(image, &digest)) {
            let name = &base.reference;
            return Err(Error::integrity(format!(
                "layer {digest} of the base image `{name}` is damaged"
            ))
            .hint("import or pull the image again; nothing else is lost"));
        }
        store.images().remove_blob(&digest)?;
        found = true;
    }
    Ok(found)
}
