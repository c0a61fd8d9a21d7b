//! What a step needs: its key, from its inputs, and the files that it takes.

use super::explain::files::FileList;
use super::explain::{FILES, MOUNTED};
use super::images::BaseImage;
use super::keys;
use super::remote::Remote;
use super::stage::Builder;
use super::state::StageState;
use super::worker::Worker;
use crate::context::{self, FileTree, Listing, SelectOptions, Selected};
use crate::error::Result;
use crate::oci::Digest;
use crate::plan::remote::RemoteSource;
use crate::plan::step::{
    CopyFrom, CopyStep, NetworkMode, RunMountKind, RunStep, StagePlan, Step, StepKind,
};
use crate::source::Span;
use crate::sys::caps::{self, CapSet};
use std::sync::Arc;

/// What lets a process read whatever the permissions say.
const READ_ALL: CapSet = CapSet::DAC_OVERRIDE.union(CapSet::DAC_READ_SEARCH);

/// A step with its key and what was looked up on the way.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Stands for all that the step and those below it were given.
    pub(super) key: Digest,
    /// What its layer is remembered under; another one when the layer does not depend on what is below it.
    pub(super) record: Digest,
    /// Content digests, by what they are of.
    pub(super) inputs: Vec<(String, Digest)>,
    pub(super) files: Option<Files>,
    pub(super) remotes: Vec<(RemoteSource, Arc<Remote>)>,
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
    pub(super) digest: Digest,
}

/// What of a tree a step takes.
pub(super) struct Selection<'a> {
    pub(super) from: &'a CopyFrom,
    pub(super) sources: &'a [(String, Span)],
    pub(super) exclude: &'a [String],
    pub(super) parents: bool,
    pub(super) instruction: &'static str,
}

impl<'a> Selection<'a> {
    /// What a COPY or ADD takes; `sources` are its [`CopyStep::paths`].
    pub(super) fn of_copy(step: &'a CopyStep, sources: &'a [(String, Span)]) -> Self {
        Self {
            from: &step.from,
            sources,
            exclude: &step.exclude,
            parents: step.parents,
            instruction: if step.add { "ADD" } else { "COPY" },
        }
    }

    /// The one source of a mount.
    pub(super) fn of_mount(from: &'a CopyFrom, sources: &'a [(String, Span)]) -> Self {
        Self { from, sources, exclude: &[], parents: false, instruction: "RUN --mount" }
    }
}

impl Builder<'_> {
    /// Key of a step; `None` when a rootfs is needed to know it and there is no worker.
    pub(super) fn prepare(
        &self,
        state: &mut StageState,
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
                (self.run_key(state, run, plan, (&digests[..], worker.is_some())), None)
            }
            StepKind::Copy(copy) => {
                remotes = self.look_at_remotes(copy)?;
                let paths = copy.paths();
                let selection = Selection::of_copy(copy, &paths);
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
        state: &mut StageState,
        run: &RunStep,
        plan: &StagePlan,
        (inputs, waits): (&[Digest], bool),
    ) -> Digest {
        let parent = state.key.clone();
        let shared = (&plan.platform, &self.request.run);
        let key = |network| keys::run(&parent, run, network, shared, inputs);
        let asked = run.network.unwrap_or(self.request.network);
        if self.request.net.offline && asked == NetworkMode::Default {
            let online = key(NetworkMode::Host);
            if !self.ignores_cache(plan) && self.is_known(&online, state, waits) {
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
                match (&seed.0, worker) {
                    (CopyFrom::Stage(stage), Some(_)) => {
                        self.wait_for(*stage)?;
                        self.image_below(*stage)?.map_or(Ok(()), BaseImage::wait)?;
                    }
                    (CopyFrom::Stage(stage), None) if self.states.complete(*stage).is_none() => {
                        return Ok(None);
                    }
                    (CopyFrom::Image(base), Some(_)) => self.image(base)?.wait()?,
                    _ => {}
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
        if worker.is_none() && !matches!(selection.from, CopyFrom::Context | CopyFrom::Named(_)) {
            return Ok(self.known_selection(selection)?.map(|digest| (digest, None)));
        }
        let Some(tree) = self.source(selection.from, worker)? else { return Ok(None) };
        // In a user namespace of ours permissions of our own files mean nothing. Outside of it, where the same is looked at
        // when all is cached, they do.
        let as_user = worker.is_some_and(|worker| worker.as_user) && tree.is_context();
        let _meanwhile = as_user.then(|| caps::lower(READ_ALL).ok()).flatten();
        let selected = tree.select(selection.sources, self.options(selection))?;
        // Without a worker nothing is carried out, and nobody asks later what it was.
        let mut list = worker.map(|_| FileList::default());
        let listing = list.as_mut().map(|list| list as &mut dyn Listing);
        let digest = context::digest_listing(&tree, &selected, &self.file_digests, listing)?;
        if let Some(list) = list {
            self.explainer.keep(&digest, list);
        }
        self.saw_selection(selection, &digest);
        Ok(Some((digest, Some((tree, selected)))))
    }

    pub(super) fn options<'s>(&'s self, selection: &Selection<'s>) -> SelectOptions<'s> {
        SelectOptions {
            instruction: selection.instruction,
            parents: selection.parents,
            exclude: selection.exclude,
            dockerfile: Some(&self.plan.source),
        }
    }
}
