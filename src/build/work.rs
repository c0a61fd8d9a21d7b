//! What a step needs and what it does: keys from its inputs, then RUN, COPY or WORKDIR on a draft snapshot.

use super::explain::files::FileList;
use super::explain::{FILES, MOUNTED};
use super::keys;
use super::planned::Planned;
use super::remote::Remote;
use super::run::{RunPlaces, run};
use super::stage::{Builder, Tools};
use super::state::StageState;
use super::tree::devices;
use super::worker::Worker;
use crate::context::{self, FileTree, Listing, SelectOptions, Selected};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::executor::copy::{self, CopyRequest, ModeChange, Unpack, UnpackPlace};
use crate::executor::sandbox::Ending;
use crate::executor::user;
use crate::layers::PLACEHOLDER_XATTR;
use crate::layers::apply::{ApplyOptions, Devices, apply_below};
use crate::layers::compress::{decompressor, guarded};
use crate::layers::snapshot::Draft;
use crate::layers::tar_read::looks_like_tar;
use crate::oci::Digest;
use crate::oci::digest::FieldHasher;
use crate::plan::remote::RemoteSource;
use crate::plan::step::{
    Chmod, CopyFrom, CopyStep, NetworkMode, RunMountKind, RunStep, StagePlan, Step, StepKind,
    WorkdirStep,
};
use crate::progress::{Event, StepId};
use crate::source::Span;
use crate::sys::{SysResultExt, fs};
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// A step with its key and what was looked up on the way.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Stands for the tree after the step.
    pub(super) key: Digest,
    /// What its layer is remembered under; another one when the layer does not depend on what is below it.
    pub(super) record: Digest,
    /// Content digests, by what they are of.
    pub(super) inputs: Vec<(String, Digest)>,
    files: Option<Files>,
    remotes: Vec<(RemoteSource, Arc<Remote>)>,
}

impl Prepared {
    /// True for a layer that is the same whatever is below it.
    pub(super) fn is_independent(&self) -> bool {
        self.key != self.record
    }
}

/// The files of a COPY and their content digest.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) tree: FileTree,
    pub(super) selected: Vec<Selected>,
    digest: Digest,
}

/// What of a tree a step takes.
pub(super) struct Selection<'a> {
    from: &'a CopyFrom,
    sources: &'a [(String, Span)],
    exclude: &'a [String],
    parents: bool,
    instruction: &'static str,
}

impl<'a> Selection<'a> {
    /// The one source of a mount.
    pub(super) fn of_mount(from: &'a CopyFrom, sources: &'a [(String, Span)]) -> Self {
        Self { from, sources, exclude: &[], parents: false, instruction: "RUN --mount" }
    }
}

impl Builder<'_> {
    /// Key of a step; `None` when a rootfs is needed to know it and there is no worker.
    pub(super) fn prepare(
        &self,
        state: &StageState,
        step: &Step,
        plan: &StagePlan,
        worker: Option<&Worker>,
    ) -> Result<Option<Prepared>> {
        let (mut remotes, mut inputs) = (Vec::new(), Vec::new());
        let (key, files) = match &step.kind {
            StepKind::Config => (state.key.clone(), None),
            StepKind::Workdir(workdir) => (keys::workdir(&state.key, workdir), None),
            StepKind::Run(run) => {
                let Some(found) = self.run_inputs(run, worker)? else { return Ok(None) };
                let digests: Vec<Digest> = found.iter().map(|(_, digest)| digest.clone()).collect();
                inputs = found;
                (self.run_key(state, run, plan, &digests), None)
            }
            StepKind::Copy(copy) => {
                remotes = self.look_at_remotes(copy)?;
                let paths = copy.paths();
                let selection = Selection {
                    from: &copy.from,
                    sources: &paths,
                    exclude: &copy.exclude,
                    parents: copy.parents,
                    instruction: if copy.add { "ADD" } else { "COPY" },
                };
                let Some((digest, files)) = self.select(&selection, worker)? else {
                    return Ok(None);
                };
                let identities = remotes.iter().map(|(_, remote)| &remote.identity);
                let nothing = keys::base(None);
                let parent = if copy.is_independent() { &nothing } else { &state.key };
                let key = keys::copy(parent, copy, &digest, identities);
                inputs.push((FILES.to_owned(), digest.clone()));
                let fetched = |(at, _): &(usize, RemoteSource)| copy.sources[*at].0.clone();
                let fetched = copy.remotes.iter().map(fetched).zip(&remotes);
                inputs.extend(fetched.map(|(name, (_, remote))| {
                    (format!("what is at {name}"), remote.identity.clone())
                }));
                (key, files.map(|(tree, selected)| Files { tree, selected, digest }))
            }
        };
        let independent = matches!(&step.kind, StepKind::Copy(copy) if copy.is_independent());
        let (key, record) =
            if independent { (keys::on_top(&state.key, &key), key) } else { (key.clone(), key) };
        Ok(Some(Prepared { key, record, inputs, files, remotes }))
    }

    fn look_at_remotes(&self, copy: &CopyStep) -> Result<Vec<(RemoteSource, Arc<Remote>)>> {
        let look = |(at, source): &(usize, RemoteSource)| {
            let span = copy.sources.get(*at).map(|(_, span)| *span);
            let remote = self.remote(source).map_err(|error| match span {
                Some(span) => error.at(&self.plan.source, span),
                None => error,
            })?;
            Ok((source.clone(), remote))
        };
        copy.remotes.iter().map(look).collect()
    }

    pub(super) fn network(&self, run: &RunStep) -> NetworkMode {
        match run.network.unwrap_or(self.request.network) {
            NetworkMode::Default if self.request.net.offline => NetworkMode::None,
            other => other,
        }
    }

    /// The key of a RUN. Offline a RUN has no network; what it gave when it had one is as good where it is known.
    fn run_key(
        &self,
        state: &StageState,
        run: &RunStep,
        plan: &StagePlan,
        inputs: &[Digest],
    ) -> Digest {
        let shared = (&plan.platform, &self.request.run);
        let key = |network| keys::run(&state.key, run, network, shared, inputs);
        let asked = run.network.unwrap_or(self.request.network);
        if self.request.net.offline && asked == NetworkMode::Default {
            let online = key(NetworkMode::Host);
            let known = || self.cache.get(&online).is_some() || self.offer(&online).is_some();
            if !self.ignores_cache(plan) && known() {
                return online;
            }
        }
        // Both can reach everything; which of them a machine gives must not change what is cached.
        match self.network(run) {
            NetworkMode::Default => key(NetworkMode::Host),
            other => key(other),
        }
    }

    /// Content digests of what is mounted, each with the part of the step that it is.
    fn run_inputs(
        &self,
        run: &RunStep,
        worker: Option<&Worker>,
    ) -> Result<Option<Vec<(String, Digest)>>> {
        let mut inputs = Vec::new();
        for mount in &run.mounts {
            if let RunMountKind::Cache { id, from: Some(seed), .. } = &mount.kind {
                // Later, with a place among the running steps taken, waiting for that stage could be for ever.
                if let CopyFrom::Stage(stage) = seed.0 {
                    match worker {
                        Some(_) => drop(self.wait_for(stage)?),
                        None if self.states.complete(stage).is_none() => return Ok(None),
                        None => {}
                    }
                }
                let digest = Digest::of(self.cache_id(id, Some(seed))?.as_bytes());
                inputs.push((format!("source of the cache at {}", mount.target), digest));
            }
            let RunMountKind::Bind { from, source } = &mount.kind else { continue };
            let sources = [(source.clone(), mount.span)];
            let selection = Selection::of_mount(from, &sources);
            let Some((digest, _)) = self.select(&selection, worker)? else { return Ok(None) };
            inputs.push((format!("{MOUNTED}{}", mount.target), digest));
        }
        Ok(Some(inputs))
    }

    /// Content digest of a selection and, unless the digest was remembered, the files.
    #[allow(clippy::type_complexity, reason = "three answers: not now, known, known with files")]
    fn select(
        &self,
        selection: &Selection<'_>,
        worker: Option<&Worker>,
    ) -> Result<Option<(Digest, Option<(FileTree, Vec<Selected>)>)>> {
        let memory = self.selection_key(selection)?;
        if worker.is_none() && !matches!(selection.from, CopyFrom::Context | CopyFrom::Named(_)) {
            let known = memory.as_ref().and_then(|key| self.known_selection(key));
            return Ok(known.map(|digest| (digest, None)));
        }
        let Some(tree) = self.source(selection.from, worker)? else { return Ok(None) };
        let selected = tree.select(selection.sources, self.options(selection))?;
        // Without a worker nothing is carried out, and nobody asks later what it was.
        let mut list = worker.map(|_| FileList::default());
        let listing = list.as_mut().map(|list| list as &mut dyn Listing);
        let digest = context::digest_listing(&tree, &selected, &self.file_digests, listing)?;
        if let Some(list) = list {
            self.explainer.keep(&digest, list);
        }
        // With a worker the stage is complete by now, so the key is known.
        if let Some(key) = self.selection_key(selection)? {
            self.cache.remember_selection(&key, &digest);
            self.exports.note_selection(&key, &digest);
        }
        Ok(Some((digest, Some((tree, selected)))))
    }

    fn known_selection(&self, key: &Digest) -> Option<Digest> {
        let known = self.cache.selection(key).or_else(|| self.imports.selection(key))?;
        self.exports.note_selection(key, &known);
        Some(known)
    }

    pub(super) fn options<'s>(&'s self, selection: &Selection<'s>) -> SelectOptions<'s> {
        SelectOptions {
            instruction: selection.instruction,
            parents: selection.parents,
            exclude: selection.exclude,
            dockerfile: Some(&self.plan.source),
        }
    }

    /// Under which key the digest of a selection is remembered; only for stages and images.
    fn selection_key(&self, selection: &Selection<'_>) -> Result<Option<Digest>> {
        let tree = match selection.from {
            CopyFrom::Context | CopyFrom::Named(_) => return Ok(None),
            CopyFrom::Image(base) => keys::base(Some(&self.image(base)?.manifest)),
            CopyFrom::Stage(stage) => match self.states.complete(*stage) {
                Some(state) => state.key,
                None => return Ok(None),
            },
        };
        let mut hasher = FieldHasher::new("nb-select-1");
        hasher.field(tree.as_str().as_bytes());
        hasher.list(selection.sources.iter().map(|(source, _)| source));
        hasher.list(selection.exclude).number(selection.parents.into());
        Ok(Some(hasher.finish()))
    }

    /// The layer of a step without a tree, where that can be told; the files were the same before and after.
    pub(super) fn planned(
        &self,
        state: &StageState,
        stage: usize,
        step: &Step,
        prepared: &Prepared,
        tools: Tools<'_>,
    ) -> Result<Option<Planned>> {
        let files = prepared.files.as_ref();
        let planned = self.plan_step((state, stage), step, files, tools)?;
        if let (Some(planned), Some(files)) = (&planned, files) {
            // Its files are read later, when only their times can tell.
            planned.outlive_tick();
            self.check_unchanged(files)?;
        }
        Ok(planned)
    }

    /// Does a step on a draft; a command's mounts may not be gone yet.
    pub(super) fn work(
        &self,
        draft: &Draft<'_>,
        (stage, next): (usize, usize),
        prepared: Prepared,
        id: StepId,
        worker: &Worker,
    ) -> Result<Option<Ending>> {
        let step = &self.plan.stages[stage].steps[next];
        match &step.kind {
            StepKind::Config => Ok(None),
            StepKind::Workdir(workdir) => make_workdir(draft, workdir).map(|()| None),
            StepKind::Copy(step) => {
                let files =
                    prepared.files.ok_or_else(|| Error::internal("a copy was not looked up"))?;
                // Once: an overlay that was written to is not mounted a second time.
                let root = open_draft(draft)?;
                copy_in(root.as_fd(), step, &files, worker)?;
                self.check_unchanged(&files)?;
                prepared.remotes.iter().try_for_each(|(source, remote)| {
                    self.copy_fetched(root.as_fd(), step, (source, remote), worker)
                })?;
                Ok(None)
            }
            StepKind::Run(step) => {
                let binds = self.binds(step, worker)?;
                let way = self.way(stage, worker)?;
                let places = RunPlaces {
                    tmp: &self.store.sub("tmp"),
                    logs: &self.store.sub("logs"),
                    staging: &self.staging()?,
                    machine: &self.machine(stage)?,
                    way: &way,
                    echo: None,
                    settings: &self.request.run,
                    another_follows: self.another_run_follows(stage, next),
                };
                let network = self.network(step);
                run(worker, draft, (step, network), binds, &places, &mut |stderr, bytes| {
                    self.emitter.emit(Event::StepOutput { id, bytes: bytes.to_vec(), stderr });
                })
                .map(Some)
            }
        }
    }

    /// Copies what was fetched, after what lies in the context.
    fn copy_fetched(
        &self,
        root: BorrowedFd<'_>,
        step: &CopyStep,
        (source, remote): (&RemoteSource, &Remote),
        worker: &Worker,
    ) -> Result<()> {
        let (tree, path) = self.remote_tree(source, remote)?;
        let selection = Selection {
            from: &step.from,
            sources: &[],
            exclude: &step.exclude,
            parents: false,
            instruction: "ADD",
        };
        let options = SelectOptions { dockerfile: None, ..self.options(&selection) };
        // The name of a file is no pattern.
        let path =
            path.replace('\\', "\\\\").replace('[', "\\[").replace('*', "\\*").replace('?', "\\?");
        let selected = tree.select(&[(path, Span::default())], options)?;
        let digest = remote.identity.clone();
        let files = Files { tree, selected, digest };
        let alone = CopyStep { heredocs: Vec::new(), unpack: step.unpack_remote, ..step.clone() };
        copy_in(root, &alone, &files, worker)
    }

    /// A context that was edited between looking and copying must not get into the cache under the old key.
    fn check_unchanged(&self, files: &Files) -> Result<()> {
        if !files.tree.is_context() {
            return Ok(());
        }
        let now = context::digest(&files.tree, &files.selected, &self.file_digests)?;
        if now == files.digest {
            return Ok(());
        }
        Err(Error::context("the build context changed while it was copied")
            .hint("build again when nothing writes to it any more"))
    }
}

fn open_draft(draft: &Draft<'_>) -> Result<std::os::fd::OwnedFd> {
    let mounted = draft.mount(None, false)?;
    fs::reopen_dir(&mounted)
        .or_error(ErrorKind::Environment, || "cannot open the root file system".to_owned())
}

fn make_workdir(draft: &Draft<'_>, step: &WorkdirStep) -> Result<()> {
    let root = open_draft(draft)?;
    let owner = user::resolve_workdir_owner(root.as_fd(), &step.user)?;
    user::make_workdir(root.as_fd(), &step.path, owner)
}

fn copy_in(root: BorrowedFd<'_>, step: &CopyStep, files: &Files, worker: &Worker) -> Result<()> {
    let chown = match &step.chown {
        Some(spec) => Some(user::resolve_chown(root, spec)?),
        None => None,
    };
    let chmod = mode_change(step);
    let heredocs: Vec<(String, String)> =
        step.heredocs.iter().map(|doc| (doc.name.clone(), doc.body.clone())).collect();
    let unpack = Unpacker { devices: devices(worker) };
    copy::copy(&CopyRequest {
        heredocs: &heredocs,
        chown,
        chmod: chmod.as_ref(),
        link: step.is_independent(),
        unpack: step.unpack.then_some(&unpack),
        destination: &step.destination,
        cwd: &step.cwd,
        ..plain_copy(&files.tree, &files.selected, root, worker)
    })
}

/// What `--chmod` of a COPY does.
pub(super) fn mode_change(step: &CopyStep) -> Option<ModeChange> {
    step.chmod.as_ref().map(|mode| match mode {
        Chmod::Octal(mode) => ModeChange::Octal(*mode),
        Chmod::Symbolic(clauses) => ModeChange::Symbolic(clauses.clone()),
    })
}

/// A copy with nothing but sources.
pub(super) fn plain_copy<'a>(
    tree: &'a FileTree,
    selected: &'a [Selected],
    rootfs: BorrowedFd<'a>,
    worker: &Worker,
) -> CopyRequest<'a> {
    CopyRequest {
        tree,
        selected,
        heredocs: &[],
        rootfs,
        destination: "/",
        cwd: "/",
        chown: None,
        chmod: None,
        link: false,
        unpack: None,
        placeholder: worker.isolation.placeholders().then_some(PLACEHOLDER_XATTR),
        now: super::stage::now(),
    }
}

/// Unpacks the archives of ADD.
pub(super) struct Unpacker {
    pub(super) devices: Devices,
}

impl Unpack for Unpacker {
    fn is_archive(&self, file: BorrowedFd<'_>) -> Result<bool> {
        let start = |reader: &mut dyn Read| {
            let mut start = Vec::with_capacity(1024);
            // A file that ends early or does not unpack is no archive; it is copied as it is.
            let _short = reader.take(1024).read_to_end(&mut start);
            start
        };
        let mut file = own(file)?;
        file.rewind().or_error(ErrorKind::Context, || "cannot read a file to add".to_owned())?;
        let plain = decompressor(BufReader::new(file));
        Ok(plain.is_ok_and(|mut plain| looks_like_tar(&start(&mut plain))))
    }

    fn unpack(&self, archive: OwnedFd, place: UnpackPlace<'_>) -> Result<()> {
        let options =
            ApplyOptions { override_owner: place.chown, ..ApplyOptions::archive(self.devices) };
        let file = BufReader::with_capacity(1 << 18, File::from(archive));
        let plain = guarded(file, options.limits.ratio)?;
        apply_below(plain, place.rootfs, place.path, &options).map(drop)
    }
}

fn own(file: BorrowedFd<'_>) -> Result<File> {
    file.try_clone_to_owned()
        .map(File::from)
        .or_error(ErrorKind::Environment, || "cannot open a file twice".to_owned())
}
