//! The one room that sees the whole pipeline. Read [`build`] to know the program.
//!
//! Plan, look into the cache with one thread and no privileges; only when something is missing enter the isolation,
//! run what is missing, bring base images and write layers in the background; then config, manifest, names and outputs.

pub mod annotations;
mod apart;
mod assemble;
mod beforehand;
mod bind_copies;
mod binds;
mod blobs;
pub mod cache;
mod caches;
pub mod care;
pub mod carry;
pub mod check;
mod coming;
mod devices;
mod downloads;
mod early;
mod echo;
mod emulate;
mod explain;
mod finder;
mod finish;
mod furnish;
mod heal;
pub mod hidden;
pub mod images;
mod jobs;
mod keys;
mod load;
pub mod lock;
pub mod logins;
mod made;
mod missing;
mod mounts;
mod naming;
mod order;
pub mod output;
pub mod packer;
mod planned;
mod planning;
pub mod prefetch;
mod prepare;
mod push;
mod remembered;
mod remote;
pub mod request;
pub mod rootfs;
mod run;
mod running;
mod scratch;
pub mod script;
mod secrets;
mod selections;
pub mod sharing;
pub mod sources;
mod stack;
mod stage;
mod state;
pub mod store;
mod stubs;
mod tick;
pub mod tree;
mod unpacking;
mod unread;
mod wanted;
mod work;
pub mod worker;

use crate::context::FileDigestCache;
use crate::dockerfile;
use crate::error::{Error, ErrorKind, Result};
use crate::net::Engine;
use crate::plan::step::BuildPlan;
use crate::plan::step::NetworkMode;
use crate::progress::{Emitter, Event};
use crate::timings::Phase;
use downloads::Downloads;
use jobs::Jobs;
use order::Limit;
use output::Tree;
use planning::{Images, PlannedBuild};
use push::Pushing;
use request::{BuildOutcome, BuildRequest};
use running::Running;
use sharing::export::Exports;
use sharing::held::Held;
use sharing::import::Imports;
use stage::{Builder, Tools};
use state::States;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use store::Store;
use worker::Worker;

/// Carries out a build. Must be called while the process has one thread.
pub fn build(
    request: &BuildRequest,
    store: &Arc<Store>,
    emitter: &Emitter,
) -> Result<BuildOutcome> {
    Session::default().build(request, store, emitter)
}

/// Several builds one after the other, which share the isolation and what was found out about emulators. The first one
/// must be started while the process has one thread. After one that failed there must be no other.
#[derive(Debug, Default)]
pub struct Session {
    worker: Option<Worker>,
}

impl Session {
    /// Carries out the next build.
    pub fn build(
        &mut self,
        request: &BuildRequest,
        store: &Arc<Store>,
        emitter: &Emitter,
    ) -> Result<BuildOutcome> {
        build_with(&mut self.worker, request, store, emitter)
            .inspect_err(|_| care::room::settle(store))
    }
}

fn build_with(
    worker: &mut Option<Worker>,
    request: &BuildRequest,
    store: &Arc<Store>,
    emitter: &Emitter,
) -> Result<BuildOutcome> {
    let dockerfile = dockerfile::parse(&request.dockerfile)?;
    care::room::check_all(store, emitter)?;
    let engine = load::find_engine(request)?;
    let planning = emitter.span(Phase::Plan);
    let planned = check::plan_all(&dockerfile, request, store, emitter)?;
    drop(planning);
    care::room::check(store, emitter)?;
    planning::warn_of_filter(&request.no_cache_stages, &dockerfile, emitter);
    planning::check_entitlements(&planned.plan, request)?;
    finish::check(request, &planned.plan)?;
    let pushing = Pushing::of(request)?;
    let PlannedBuild { plan, images, downloads, epoch, .. } = &planned;
    let (epoch, engine, pushing) = (*epoch, engine.as_ref(), pushing.as_ref());
    let (imports, exports) =
        (&Imports::of(request, emitter)?, &Exports::of(request, pushing, emitter)?);
    let inputs = Inputs {
        request,
        store,
        emitter,
        plan,
        images,
        downloads,
        epoch,
        engine,
        pushing,
        imports,
        exports,
    };
    let done = attempts(&inputs, worker);
    let variant = inputs.variant();
    let exported =
        exports.finish((plan, &variant, imports, worker.as_ref()), (store, emitter), done.is_err());
    let outcome = done?;
    exported?;
    if request.locks.save()? {
        emitter.note(format!("wrote {}", request.locks.path().display()));
    }
    Ok(outcome)
}

/// A blob of ours that turns out damaged is removed and made again; twice is enough for any honest disk.
fn attempts(inputs: &Inputs<'_>, worker: &mut Option<Worker>) -> Result<BuildOutcome> {
    // Of earlier builds of this process, which had other base images.
    drop(inputs.store.images().take_doubts());
    for _ in 0..2 {
        match attempt(inputs, worker) {
            Err(error)
                if error.kind() == ErrorKind::Integrity
                    && !inputs.downloads.have_failed()
                    && heal::heal(inputs, worker.as_ref())? =>
            {
                inputs.emitter.warn(format!("{}; making it again", error.message()));
            }
            other => return other,
        }
    }
    attempt(inputs, worker)
}

/// Plan of a build without carrying it out, for `--print-plan`.
pub fn plan_only(
    request: &BuildRequest,
    store: &Arc<Store>,
    emitter: &Emitter,
) -> Result<BuildPlan> {
    let dockerfile = dockerfile::parse(&request.dockerfile)?;
    Ok(planning::plan_all(&dockerfile, request, store, emitter)?.plan)
}

/// What a build works with once it is planned.
struct Inputs<'a> {
    request: &'a BuildRequest,
    store: &'a Arc<Store>,
    emitter: &'a Emitter,
    plan: &'a BuildPlan,
    images: &'a Images,
    downloads: &'a Downloads,
    epoch: Option<i64>,
    engine: Option<&'a Engine>,
    pushing: Option<&'a Pushing>,
    imports: &'a Imports,
    exports: &'a Exports,
}

impl Inputs<'_> {
    /// Kind of the layers that are wanted.
    fn variant(&self) -> String {
        let request = self.request;
        keys::variant(request.compression, self.epoch.filter(|_| !request.keep_times))
    }
}

/// One try at a build; [`build`] says when there is a second one.
fn attempt(inputs: &Inputs<'_>, worker: &mut Option<Worker>) -> Result<BuildOutcome> {
    let Inputs { request, store, emitter, plan, images, downloads, epoch, engine, pushing, .. } =
        *inputs;
    emitter.timings().next_build();
    let digests = file_digests(store)?;
    let held = (!inputs.imports.is_empty()).then(|| Held::before(emitter));
    let held_emitter = held.clone().map(|held| Emitter::new(held).timed(emitter.timings().clone()));
    inputs.exports.forget();
    let builder = Builder {
        request,
        plan,
        store,
        cache: cache::StepCache::of(store),
        imports: inputs.imports,
        exports: inputs.exports,
        emitter: held_emitter.as_ref().unwrap_or(emitter),
        images: images.clone(),
        downloads,
        epoch,
        states: States::new(plan.stages.len()),
        limit: Limit::new(request.jobs),
        ways: order::ways(plan),
        variant: inputs.variant(),
        file_digests: digests,
        next_step: AtomicU32::new(1),
        made: Mutex::default(),
        running: Running::default(),
        missing: Mutex::default(),
        remotes: remote::Remotes::default(),
        qemu_image: OnceLock::new(),
        qemu_tree: Mutex::default(),
        explainer: explain::Explainer::of(store),
        copies: bind_copies::Copies::default(),
        selections: selections::Selections::default(),
    };
    if let Some(pushing) = pushing {
        pushing.note_bases(&builder);
    }
    let complete = look_up(&builder, held.as_deref())?;
    if complete {
        downloads.finish(store, emitter)?;
    } else {
        builder.find_qemu_image()?;
        let worker = ensure(worker, &builder, builder.runs_commands())?;
        builder.prepare_ways(worker)?;
        run_stages(&builder, worker, pushing)?;
    }
    let mut outcome = {
        let _span = emitter.span(Phase::Manifest);
        finish::finish(&builder)?
    };
    // Without it the next build reads the files again.
    let _best_effort = builder.file_digests.save();
    if request.outputs.iter().any(output::needs_tree) {
        let worker = ensure(worker, &builder, false)?;
        let times = epoch.filter(|_| !request.keep_times);
        let _span = emitter.span(Phase::Output);
        output::write_trees(request, worker, &trees(&builder, worker)?, times, emitter)?;
    }
    if let Some(error) = worker.as_ref().and_then(|worker| worker.cancel.interrupted()) {
        return Err(error);
    }
    output::write_images(request, store, &outcome, emitter)?;
    if let Some(engine) = engine {
        let _span = emitter.span(Phase::Output);
        load::load(engine, request, store, &outcome, worker.as_ref(), emitter)?;
    }
    if let Some(pushing) = pushing {
        let _span = emitter.span(Phase::Push);
        outcome.pushed = pushing.finish(store, &outcome, emitter)?;
    }
    Ok(outcome)
}

/// Goes through all stages as far as the caches answer; true when that is to the end.
fn look_up(builder: &Builder<'_>, held: Option<&Held>) -> Result<bool> {
    let pass = || {
        let stages = 0..builder.plan.stages.len();
        stages.map(|stage| builder.advance(stage, None)).try_fold(true, |all, one| Ok(all & one?))
    };
    let Some(held) = held else { return pass() };
    let settled = || loop {
        let complete = pass()?;
        if builder.imports.settle(builder, complete)? {
            return Ok(complete);
        }
        held.forget_steps();
        builder.begin_again();
    };
    let done = settled();
    held.release();
    done
}

/// The root file systems of all targets.
fn trees(builder: &Builder<'_>, worker: &Worker) -> Result<Vec<Tree>> {
    let plan = builder.plan;
    let several = plan.targets.len() > 1;
    let tree = |target: &usize| {
        let state = builder.states.complete(*target).ok_or_else(stage::stopped)?;
        Ok(Tree {
            snapshot: tree::materialise(builder.store, &state, worker)?,
            below: several.then(|| output::directory_of(&plan.platform_of(*target))),
        })
    };
    plan.targets.iter().map(tree).collect()
}

fn ensure<'w>(
    worker: &'w mut Option<Worker>,
    builder: &Builder<'_>,
    commands: bool,
) -> Result<&'w Worker> {
    let request = builder.request;
    if worker.is_none() {
        let _span = builder.emitter.span(Phase::Enter);
        let mut entered = Worker::enter(builder.store, &request.account, &request.emulators)?;
        let network = match request.network {
            NetworkMode::Default if request.net.offline => Some("none".to_owned()),
            NetworkMode::Default if request.account.host_network => Some("host".to_owned()),
            NetworkMode::Default if !commands || entered.isolation.no_commands.is_some() => None,
            NetworkMode::Default => Some(entered.connect(&request.emulators.path)),
            other => Some(other.as_str().to_owned()),
        };
        let network = network.map_or_else(String::new, |network| format!(", network: {network}"));
        let text = entered.isolation.shown() + &network;
        builder.emitter.emit(Event::Isolation { text });
        if commands && !entered.keeps_owners(builder.store)? {
            builder.emitter.warn(
                "owners that commands give to files are lost here: extended attributes, in which they would be \
                 recorded, are refused",
            );
        }
        entered.timings = builder.emitter.timings().clone();
        *worker = Some(entered);
    }
    Ok(worker.as_ref().expect("it was just made"))
}

/// Runs what the cache did not have, one thread a stage, base images and layers in the background.
fn run_stages(builder: &Builder<'_>, worker: &Worker, pushing: Option<&Pushing>) -> Result<()> {
    let _heeding = worker.cancel.heed();
    let compression = builder.request.compression;
    let errands = worker.spawner.errands().ok();
    let helpers = (&worker.cancel, errands);
    let jobs = Jobs::start(builder.store, compression, builder.emitter, helpers);
    let tools = Tools { worker, jobs: &jobs };
    let errors = Mutex::new(Vec::new());
    let note = |error: Error| errors.lock().unwrap_or_else(PoisonError::into_inner).push(error);
    std::thread::scope(|scope| {
        if !builder.downloads.are_over() {
            scope.spawn(|| download(builder, worker).unwrap_or_else(note));
        }
        let exports = builder.exports;
        exports.stop_with(&worker.cancel);
        // Before the threads: they end when no stage is at work.
        let at_work = exports.open();
        for _ in 0..exports.followers() {
            scope.spawn(|| exports.follow(builder));
        }
        if exports.is_streamed() {
            scope.spawn(|| exports.stream(builder));
        }
        if let Some(pushing) = pushing {
            pushing.stop_with(&worker.cancel);
            for target in &builder.plan.targets {
                scope.spawn(move || pushing.follow(builder, *target));
            }
        }
        for target in &builder.plan.targets {
            if let Some(near) = early::near(builder) {
                scope.spawn(move || early::follow(builder, *target, near, &worker.cancel));
            }
        }
        for stage in 0..builder.plan.stages.len() {
            if builder.states.is_complete(stage) {
                continue;
            }
            let note = &note;
            let at_work = exports.open();
            scope.spawn(move || {
                let _until_done = at_work;
                if let Err(error) = builder.advance(stage, Some(tools)) {
                    builder.states.fail(stage);
                    // A damaged blob is made again in a second attempt, which a cancelled worker could not do. A stage
                    // that waited for another one leaves it to that one.
                    if !matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Interrupted(0)) {
                        worker.cancel.cancel(0);
                    }
                    note(error);
                }
            });
        }
        drop(at_work);
    });
    let waiting = builder.emitter.span(Phase::WaitLayers);
    jobs.finish();
    drop(waiting);
    builder.remember_selections();
    let made = worker.snapshots.unsynced();
    let syncing = builder.emitter.span(Phase::Sync);
    let synced = builder.store.images().sync();
    drop(syncing);
    if let Ok(images) = synced {
        builder.record_made();
        builder.remember_inputs();
        if are_durable(builder.store, images) {
            worker.snapshots.mark_synced(made);
        }
    }
    // Where a download failed: of those that came, for the next build.
    let named = builder.downloads.give_names(builder.store);
    first_cause(errors.into_inner().unwrap_or_else(PoisonError::into_inner))
        .map_or_else(|| synced.map(drop).and(named), Err)
}

/// Brings what is missing of base images. A failure ends the build.
fn download(builder: &Builder<'_>, worker: &Worker) -> Result<()> {
    let (store, emitter) = (builder.store, builder.emitter);
    let done = builder.downloads.run(store, emitter, Some(worker.cancel.as_ref()));
    // Not for each that comes, since that waits for the disk; and not at the end, for whoever kills a long RUN.
    let done = done.and_then(|()| builder.downloads.give_names(store));
    done.inspect_err(|_| worker.cancel.cancel(0))
}

/// The first cause, not those that stopped because of it.
fn first_cause(errors: Vec<Error>) -> Option<Error> {
    let (stopped, mut real): (Vec<Error>, Vec<Error>) =
        errors.into_iter().partition(|error| error.kind() == ErrorKind::Interrupted(0));
    // What may heal is not why the build ends where something else failed, too.
    real.sort_by_key(|error| error.kind() == ErrorKind::Integrity);
    real.into_iter().chain(stopped).next()
}

/// Whether snapshots are on the disk when `images` are: they may lie on a file system of their own.
fn are_durable(store: &Store, images: bool) -> bool {
    let device = |path: &Path| std::fs::metadata(path).map(|found| found.dev()).ok();
    let snapshots = store.sub("snapshots");
    if images && device(&snapshots) == device(store.images().root()) {
        return true;
    }
    File::open(snapshots).is_ok_and(|dir| rustix::fs::syncfs(dir).is_ok())
}

/// The remembered digests of context files.
fn file_digests(store: &Store) -> Result<FileDigestCache> {
    let dir = crate::sys::fs::open_dir(store.dir(), b"cache")
        .map_err(|error| Error::environment("cannot open the cache of the store").cause(error))?;
    Ok(FileDigestCache::new(dir, b"files"))
}
