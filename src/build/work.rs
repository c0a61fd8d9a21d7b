//! What a step does: RUN, COPY or WORKDIR on a draft snapshot.

use super::planned::Planned;
use super::prepare::{Files, Prepared, Selection};
use super::remote::Remote;
use super::run::{RunPlaces, run};
use super::stage::{Builder, Tools};
use super::state::StageState;
use super::tree::devices;
use super::worker::Worker;
use crate::context::{self, FileTree, SelectOptions, Selected};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::executor::copy::{self, CopyRequest, ModeChange, Unpack, UnpackPlace};
use crate::executor::sandbox::Ending;
use crate::executor::user;
use crate::layers::PLACEHOLDER_XATTR;
use crate::layers::apply::{ApplyOptions, Devices, apply_below};
use crate::layers::compress::{decompressor, guarded};
use crate::layers::snapshot::Draft;
use crate::layers::tar_read::looks_like_tar;
use crate::layers::times::TimePolicy;
use crate::oci::Digest;
use crate::plan::remote::RemoteSource;
use crate::plan::step::{Chmod, CopyStep, Step, StepKind, WorkdirStep};
use crate::progress::{Event, StepId};
use crate::source::Span;
use crate::sys::{SysResultExt, fs};
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

impl Builder<'_> {
    /// The layer of a step without a tree, where that can be told; the files were the same before and after.
    pub(super) fn planned(
        &self,
        state: &StageState,
        stage: usize,
        step: &Step,
        prepared: &Prepared,
        (times, tools): (TimePolicy, Tools<'_>),
    ) -> Result<Option<Planned>> {
        let files = prepared.files.as_ref();
        let planned = self.plan_step((state, stage), step, files, (times, tools))?;
        if let (Some(planned), Some(files), StepKind::Copy(step)) = (&planned, files, &step.kind) {
            // Its files are read later, when only their times can tell.
            planned.outlive_tick();
            self.check_copied(step, files)?;
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
                let root = (root.as_fd(), draft.upper());
                copy_in(root, step, &files, worker)?;
                self.check_copied(step, &files)?;
                prepared.remotes.iter().try_for_each(|(source, remote)| {
                    self.copy_fetched(root, step, (source, remote), worker)
                })?;
                Ok(None)
            }
            StepKind::Run(step) => {
                let binds = self.binds(step, &prepared.inputs, worker)?;
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
        root: (BorrowedFd<'_>, BorrowedFd<'_>),
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

    fn check_copied(&self, step: &CopyStep, files: &Files) -> Result<()> {
        let paths = step.paths();
        self.check_unchanged(&files.tree, &Selection::of_copy(step, &paths), &files.digest)
    }

    /// A context that was edited between looking and copying must not get into the cache under the old key. Everything
    /// is looked at anew: what was selected has the times of then, and what a pattern matches may be more now.
    pub(super) fn check_unchanged(
        &self,
        tree: &FileTree,
        selection: &Selection<'_>,
        digest: &Digest,
    ) -> Result<()> {
        if !tree.is_context() {
            return Ok(());
        }
        let changed = || {
            Error::context(format!("{} changed while it was copied", tree.label())).hint(
                "build again when nothing writes to it any more, or leave out with .dockerignore what is written meanwhile",
            )
        };
        let selected = tree
            .select(selection.sources, self.options(selection))
            .map_err(|error| changed().cause(error))?;
        let now = context::digest(tree, &selected, &self.file_digests)?;
        if now == *digest {
            return Ok(());
        }
        // What cannot be looked at any more changed too.
        Err(match context::newest(tree, &selected).ok().flatten() {
            Some(path) if !path.is_empty() => {
                changed().cause(format!("`{}` changed last", String::from_utf8_lossy(&path)))
            }
            _ => changed(),
        })
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

/// Into a tree with its upper directory.
fn copy_in(
    (root, upper): (BorrowedFd<'_>, BorrowedFd<'_>),
    step: &CopyStep,
    files: &Files,
    worker: &Worker,
) -> Result<()> {
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
        upper: Some(upper),
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
        upper: None,
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
