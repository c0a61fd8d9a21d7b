//! What a step needs and what it does: keys from its inputs, then RUN, COPY or WORKDIR on a draft snapshot.

use super::keys;
use super::mounts::{Binds, CacheMounts};
use super::run::{RunPlaces, run};
use super::secrets::Private;
use super::stage::Builder;
use super::state::StageState;
use super::tree::devices;
use super::worker::Worker;
use crate::context::{self, FileTree, SelectOptions, Selected};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::executor::copy::{self, CopyRequest, ModeChange, Unpack, UnpackPlace};
use crate::executor::user;
use crate::layers::PLACEHOLDER_XATTR;
use crate::layers::apply::{ApplyOptions, Devices, apply_below};
use crate::layers::compress::{decompressor, guarded};
use crate::layers::snapshot::{Draft, random_id};
use crate::layers::tar_read::looks_like_tar;
use crate::oci::Digest;
use crate::oci::digest::FieldHasher;
use crate::plan::step::{
    CacheSharing, Chmod, CopyFrom, CopyStep, NetworkMode, RunMountKind, RunStep, StagePlan, Step,
    StepKind, WorkdirStep,
};
use crate::progress::{Event, StepId};
use crate::source::Span;
use crate::sys::{SysResultExt, fs};
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// A step with its key and what was looked up on the way.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) key: Digest,
    files: Option<Files>,
}

/// The files of a COPY and their content digest.
#[derive(Debug)]
struct Files {
    tree: FileTree,
    selected: Vec<Selected>,
    digest: Digest,
}

/// What of a tree a step takes.
struct Selection<'a> {
    from: &'a CopyFrom,
    sources: &'a [(String, Span)],
    exclude: &'a [String],
    parents: bool,
    instruction: &'static str,
}

impl<'a> Selection<'a> {
    /// The one source of a mount.
    fn of_mount(from: &'a CopyFrom, sources: &'a [(String, Span)]) -> Self {
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
        let (key, files) = match &step.kind {
            StepKind::Config => (state.key.clone(), None),
            StepKind::Workdir(workdir) => (keys::workdir(&state.key, workdir), None),
            StepKind::Run(run) => {
                let Some(inputs) = self.run_inputs(run, worker)? else { return Ok(None) };
                let network = self.network(run);
                let shared = (&plan.platform, &self.request.run);
                (keys::run(&state.key, run, network, shared, &inputs), None)
            }
            StepKind::Copy(copy) => {
                let selection = Selection {
                    from: &copy.from,
                    sources: &copy.sources,
                    exclude: &copy.exclude,
                    parents: copy.parents,
                    instruction: if copy.add { "ADD" } else { "COPY" },
                };
                let Some((digest, files)) = self.select(&selection, worker)? else {
                    return Ok(None);
                };
                let key = keys::copy(&state.key, copy, &digest);
                (key, files.map(|(tree, selected)| Files { tree, selected, digest }))
            }
        };
        Ok(Some(Prepared { key, files }))
    }

    /// `default` is the host's network for now, and so has the same key.
    fn network(&self, run: &RunStep) -> NetworkMode {
        match run.network.unwrap_or(self.request.network) {
            NetworkMode::Default => NetworkMode::Host,
            other => other,
        }
    }

    fn run_inputs(&self, run: &RunStep, worker: Option<&Worker>) -> Result<Option<Vec<Digest>>> {
        let mut inputs = Vec::new();
        for mount in &run.mounts {
            if let RunMountKind::Cache { id, from: Some(seed), .. } = &mount.kind {
                // Later, with a place among the running steps taken, waiting for that stage could be for ever.
                if let CopyFrom::Stage(stage) = seed.0 {
                    match worker {
                        Some(_) => drop(self.states.wait(stage).ok_or_else(super::stage::stopped)?),
                        None if self.states.complete(stage).is_none() => return Ok(None),
                        None => {}
                    }
                }
                inputs.push(Digest::of(self.cache_id(id, Some(seed))?.as_bytes()));
            }
            let RunMountKind::Bind { from, source } = &mount.kind else { continue };
            let sources = [(source.clone(), mount.span)];
            let selection = Selection::of_mount(from, &sources);
            let Some((digest, _)) = self.select(&selection, worker)? else { return Ok(None) };
            inputs.push(digest);
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
        if worker.is_none() && !matches!(selection.from, CopyFrom::Context) {
            let known = memory.as_ref().and_then(|key| self.cache.selection(key));
            return Ok(known.map(|digest| (digest, None)));
        }
        let Some(tree) = self.source(selection.from, worker)? else { return Ok(None) };
        let selected = tree.select(selection.sources, self.options(selection))?;
        let digest = context::digest(&tree, &selected, &self.file_digests)?;
        // With a worker the stage is complete by now, so the key is known.
        if let Some(key) = self.selection_key(selection)? {
            self.cache.remember_selection(&key, &digest);
        }
        Ok(Some((digest, Some((tree, selected)))))
    }

    fn options<'s>(&'s self, selection: &Selection<'s>) -> SelectOptions<'s> {
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
            CopyFrom::Context => return Ok(None),
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

    /// Does a step on a draft.
    pub(super) fn work(
        &self,
        (draft, stage): (&Draft<'_>, usize),
        step: &Step,
        prepared: Prepared,
        id: StepId,
        worker: &Worker,
    ) -> Result<()> {
        match &step.kind {
            StepKind::Config => Ok(()),
            StepKind::Workdir(workdir) => make_workdir(draft, workdir),
            StepKind::Copy(step) => {
                let files =
                    prepared.files.ok_or_else(|| Error::internal("a copy was not looked up"))?;
                copy_in(draft, step, &files, worker)?;
                self.check_unchanged(&files)
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
                    settings: &self.request.run,
                };
                let network = self.network(step);
                run(worker, draft, (step, network), binds, &places, &mut |stderr, bytes| {
                    self.emitter.emit(Event::StepOutput { id, bytes: bytes.to_vec(), stderr });
                })
            }
        }
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

    /// Gets the mounts of `RUN --mount` ready.
    fn binds(&self, step: &RunStep, worker: &Worker) -> Result<Binds> {
        let mut binds = Binds::default();
        let caches = CacheMounts::take(self.store, self.cache_ids(step)?, &worker.cancel)?;
        for mount in &step.mounts {
            match &mount.kind {
                RunMountKind::Tmpfs { size } => binds.add_tmpfs(&mount.target, *size),
                RunMountKind::Bind { from, source } => {
                    let copy = self.private_copy(from, source, mount.span, worker)?;
                    let path = copied_path(copy.path())?;
                    binds.add_path(&mount.target, &path, mount.read_only, Some(copy))?;
                }
                RunMountKind::Cache { id, from, sharing, owner } => {
                    let path = caches.path(&self.cache_id(id, from.as_ref())?, *sharing)?;
                    if !path.exists() {
                        self.seed(path, from.as_ref(), *owner, mount.span, worker)?;
                    }
                    binds.add_path(&mount.target, path, mount.read_only, None)?;
                }
            }
        }
        binds.add_private(Private::of(step, self.request, &self.store.sub("tmp"))?);
        binds.hold(caches);
        Ok(binds)
    }

    /// Under which name a cache is kept: a seed belongs to it, so that platforms with seeds of their own have caches of
    /// their own.
    fn cache_id(&self, id: &str, seed: Option<&(CopyFrom, String)>) -> Result<String> {
        let Some((from, source)) = seed else { return Ok(id.to_owned()) };
        let tree = match from {
            CopyFrom::Context => return Ok(id.to_owned()),
            CopyFrom::Image(base) => keys::base(Some(&self.image(base)?.manifest)),
            CopyFrom::Stage(stage) => {
                self.states.complete(*stage).ok_or_else(super::stage::stopped)?.key
            }
        };
        let mut hasher = FieldHasher::new("nb-cache-1");
        hasher.field(id.as_bytes()).field(tree.as_str().as_bytes()).field(source.as_bytes());
        Ok(hasher.finish().to_string())
    }

    fn cache_ids(&self, step: &RunStep) -> Result<Vec<(String, CacheSharing)>> {
        let caches = step.mounts.iter().filter_map(|mount| match &mount.kind {
            RunMountKind::Cache { id, from, sharing, .. } => Some((id, from.as_ref(), *sharing)),
            _ => None,
        });
        caches.map(|(id, seed, sharing)| Ok((self.cache_id(id, seed)?, sharing))).collect()
    }

    /// Copies what a bind mount shows into a directory of its own: ignore rules hold, writes are nobody's.
    fn private_copy(
        &self,
        from: &CopyFrom,
        source: &str,
        span: Span,
        worker: &Worker,
    ) -> Result<tempfile::TempDir> {
        let dir = tempfile::Builder::new()
            .prefix("bind-")
            .tempdir_in(self.store.sub("tmp"))
            .or_error(ErrorKind::Environment, || {
                "cannot make a directory in the store".to_owned()
            })?;
        self.copy_out(from, source, span, dir.path(), worker)?;
        Ok(dir)
    }

    fn copy_out(
        &self,
        from: &CopyFrom,
        source: &str,
        span: Span,
        to: &Path,
        worker: &Worker,
    ) -> Result<()> {
        let tree = self
            .source(from, Some(worker))?
            .ok_or_else(|| Error::internal("a mount has no source"))?;
        let sources = [(source.to_owned(), span)];
        let selection = Selection::of_mount(from, &sources);
        let selected = tree.select(&sources, self.options(&selection))?;
        let root = fs::open_dir_path(to)
            .or_error(ErrorKind::Environment, || format!("cannot open {}", to.display()))?;
        let destination = if selected.iter().any(Selected::is_dir) { "/dir/" } else { "/file" };
        copy::copy(&CopyRequest {
            destination,
            ..plain_copy(&tree, &selected, root.as_fd(), worker)
        })
    }

    /// Makes a cache directory: empty or from its seed, with the wanted owner and mode.
    fn seed(
        &self,
        path: &Path,
        from: Option<&(CopyFrom, String)>,
        owner: (u32, u32, u32),
        span: Span,
        worker: &Worker,
    ) -> Result<()> {
        let what = || format!("cannot make {}", path.display());
        let temporary = path.with_extension(format!("new-{}", &random_id()[..8]));
        std::fs::create_dir_all(temporary.join("dir")).or_error(ErrorKind::Environment, what)?;
        if let Some((from, source)) = from {
            self.copy_out(from, source, span, &temporary, worker)?;
        }
        let dir = fs::open_dir_path(&temporary).or_error(ErrorKind::Environment, what)?;
        fs::lchown(&dir, b"dir", owner.0, owner.1).or_error(ErrorKind::Environment, what)?;
        fs::chmod(&dir, b"dir", owner.2).or_error(ErrorKind::Environment, what)?;
        // Whoever is first makes the cache; the other's is thrown away. Another RUN may have mounted the first one already.
        let parent = path.parent().unwrap_or(path);
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        let caches = fs::open_dir_path(parent).or_error(ErrorKind::Environment, what)?;
        let _is_ours =
            fs::rename_new(&dir, b"dir", &caches, name).or_error(ErrorKind::Environment, what)?;
        let _empty_now = std::fs::remove_dir_all(&temporary);
        Ok(())
    }
}

fn copied_path(dir: &Path) -> Result<std::path::PathBuf> {
    ["dir", "file"]
        .iter()
        .map(|name| dir.join(name))
        .find(|path| path.exists())
        .ok_or_else(|| Error::context("the source of a bind mount does not exist"))
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

fn copy_in(draft: &Draft<'_>, step: &CopyStep, files: &Files, worker: &Worker) -> Result<()> {
    let root = open_draft(draft)?;
    let chown = match &step.chown {
        Some(spec) => Some(user::resolve_chown(root.as_fd(), spec)?),
        None => None,
    };
    let chmod = step.chmod.as_ref().map(|mode| match mode {
        Chmod::Octal(mode) => ModeChange::Octal(*mode),
        Chmod::Symbolic(clauses) => ModeChange::Symbolic(clauses.clone()),
    });
    let heredocs: Vec<(String, String)> =
        step.heredocs.iter().map(|doc| (doc.name.clone(), doc.body.clone())).collect();
    let unpack = Unpacker { devices: devices(worker) };
    copy::copy(&CopyRequest {
        heredocs: &heredocs,
        chown,
        chmod: chmod.as_ref(),
        link: step.link,
        unpack: step.unpack.then_some(&unpack),
        destination: &step.destination,
        cwd: &step.cwd,
        ..plain_copy(&files.tree, &files.selected, root.as_fd(), worker)
    })
}

/// A copy with nothing but sources.
fn plain_copy<'a>(
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
        placeholder: worker.isolation.user_namespace.then_some(PLACEHOLDER_XATTR),
        now: super::stage::now(),
    }
}

/// Unpacks the archives of ADD.
struct Unpacker {
    devices: Devices,
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
