//! The mounts of one RUN: what `--mount` and `--device` ask for, made ready in this process.

use super::bind_copies::Copied;
use super::caches::CacheMounts;
use super::devices::HostDevices;
use super::explain::MOUNTED;
use super::keys;
use super::mounts::Binds;
use super::prepare::Selection;
use super::secrets::Private;
use super::stage::Builder;
use super::work::plain_copy;
use super::worker::Worker;
use crate::context::{FileTree, Selected};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::executor::copy::{self, CopyRequest};
use crate::executor::isolation::Kind;
use crate::layers::snapshot::random_id;
use crate::oci::Digest;
use crate::oci::digest::FieldHasher;
use crate::plan::step::{CacheSharing, CopyFrom, RunMountKind, RunStep};
use crate::source::Span;
use crate::sys::{SysResultExt, fs};
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

impl Builder<'_> {
    /// Gets the mounts of `RUN --mount` ready. `inputs` are those of its key.
    pub(super) fn binds(
        &self,
        step: &RunStep,
        inputs: &[(String, Digest)],
        worker: &Worker,
    ) -> Result<Binds> {
        let mut mounted = inputs.iter().filter(|(name, _)| name.starts_with(MOUNTED));
        let by_hand = worker.isolation.kind == Kind::Chroot;
        let mut binds = Binds::new(by_hand);
        let ids = self.cache_ids(step)?;
        let caches = CacheMounts::take(self.store, ids, by_hand, &worker.cancel)?;
        let mut seen = BTreeSet::new();
        for mount in &step.mounts {
            match &mount.kind {
                RunMountKind::Tmpfs { size } => binds.add_tmpfs(&mount.target, *size),
                RunMountKind::Bind { from, source } => {
                    let (_, digest) = mounted
                        .next()
                        .ok_or_else(|| Error::internal("a bind mount has no digest"))?;
                    let copy = || self.private_copy(from, source, mount.span, digest, worker);
                    // What can be written to, or is moved into the tree, is for this RUN alone; and where room is short.
                    let shared = mount.read_only && !by_hand && !step.insecure;
                    let copy = if shared && self.store.room().limit.is_none() {
                        self.copies.get((from.clone(), source.clone(), digest.clone()), copy)?
                    } else {
                        Arc::new(copy()?)
                    };
                    let path = copied_path(copy.path())?;
                    binds.add_path(&mount.target, &path, mount.read_only, Some(copy))?;
                }
                RunMountKind::Cache { id, from, inside, sharing, owner } => {
                    let name = self.cache_id(id, from.as_ref())?;
                    let path = caches.path(&name)?;
                    // An empty one that somebody else may have mounted must stay where it is, as must one that an
                    // earlier mount of this RUN has.
                    let is_first = seen.insert(name.clone());
                    if is_first && *sharing != CacheSharing::Shared && !self.imports.is_empty() {
                        let _not_empty = std::fs::remove_dir(path);
                    }
                    if !path.exists() {
                        self.seed((&name, path), from.as_ref(), *owner, mount.span, worker)?;
                    }
                    self.exports.note_mount(&name, id, *sharing);
                    binds.add_inside(&mount.target, path, inside, mount.read_only)?;
                }
            }
        }
        self.add_devices(step, &mut binds)?;
        binds.add_private(Private::of(
            step,
            self.request,
            &self.store.sub("tmp"),
            by_hand.then_some(&worker.spawner),
        )?);
        binds.hold(caches);
        Ok(binds)
    }

    /// Shows the devices of a RUN.
    fn add_devices(&self, step: &RunStep, binds: &mut Binds) -> Result<()> {
        if step.devices.is_empty() {
            return Ok(());
        }
        let devices = HostDevices::read(&self.request.cdi);
        for wanted in &step.devices {
            let placed = |error: Error| error.at(&self.plan.source, wanted.span);
            let Some(edits) = devices.find(&wanted.name).map_err(placed)? else {
                let message = format!("there is no device `{}`", wanted.name);
                let hint =
                    format!("devices are described by CDI specs in {}", list(&self.request.cdi));
                if wanted.required {
                    return Err(placed(Error::environment(message).hint(hint)));
                }
                self.emitter.warn(message);
                continue;
            };
            binds.add_edits(&edits).map_err(placed)?;
        }
        Ok(())
    }

    /// Under which name a cache is kept: a seed belongs to it, so that platforms with seeds of their own have caches of
    /// their own.
    pub(super) fn cache_id(&self, id: &str, seed: Option<&(CopyFrom, String)>) -> Result<String> {
        let Some((from, source)) = seed else { return Ok(id.to_owned()) };
        let tree = match from {
            CopyFrom::Context | CopyFrom::Named(_) => return Ok(id.to_owned()),
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
        digest: &Digest,
        worker: &Worker,
    ) -> Result<Copied> {
        let dir = tempfile::Builder::new()
            .prefix("bind-")
            .tempdir_in(self.store.sub("tmp"))
            .or_error(ErrorKind::Environment, || {
                "cannot make a directory in the store".to_owned()
            })?;
        let tree = self.copy_out(from, source, span, dir.path(), worker)?;
        let sources = [(source.to_owned(), span)];
        self.check_unchanged(&tree, &Selection::of_mount(from, &sources), digest)?;
        Ok(Copied::new(dir, &worker.sweeper))
    }

    fn copy_out(
        &self,
        from: &CopyFrom,
        source: &str,
        span: Span,
        to: &Path,
        worker: &Worker,
    ) -> Result<FileTree> {
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
        })?;
        Ok(tree)
    }

    /// Makes a cache directory: empty or from its seed, with the wanted owner and mode.
    fn seed(
        &self,
        (name, path): (&str, &Path),
        from: Option<&(CopyFrom, String)>,
        owner: (u32, u32, u32),
        span: Span,
        worker: &Worker,
    ) -> Result<()> {
        let what = || format!("cannot make {}", path.display());
        let temporary = path.with_extension(format!("new-{}", &random_id()[..8]));
        std::fs::create_dir_all(temporary.join("dir")).or_error(ErrorKind::Environment, what)?;
        let dir = fs::open_dir_path(&temporary).or_error(ErrorKind::Environment, what)?;
        let empty = fs::open_dir(&dir, b"dir").or_error(ErrorKind::Environment, what)?;
        let filled = self.imports.fill((name, empty.as_fd()), worker, self.store);
        if filled == Some(false) {
            let dir = temporary.join("dir");
            let again = || std::fs::remove_dir_all(&dir).and_then(|()| std::fs::create_dir(&dir));
            again().or_error(ErrorKind::Environment, what)?;
        }
        if let Some((from, source)) = from.filter(|_| filled != Some(true)) {
            self.copy_out(from, source, span, &temporary, worker)?;
        }
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

fn list(paths: &[std::path::PathBuf]) -> String {
    let shown: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    shown.join(" and ")
}

fn copied_path(dir: &Path) -> Result<std::path::PathBuf> {
    ["dir", "file"]
        .iter()
        .map(|name| dir.join(name))
        .find(|path| path.exists())
        .ok_or_else(|| Error::context("the source of a bind mount does not exist"))
}
