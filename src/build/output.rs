//! Where a result goes: archives, layouts, root file systems; to files, directories or standard output.
//!
//! Files appear under their name only when they are whole. Nothing shares an inode with the store.

use super::request::{BuildOutcome, BuildRequest, OutputKind, OutputSpec};
use super::store::Store;
use super::worker::Worker;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::executor::isolation::IdMode;
use crate::layers::Changes;
use crate::layers::apply::{ApplyOptions, Devices, apply};
use crate::layers::diff::{DiffOptions, read_tree};
use crate::layers::snapshot::{Snapshot, random_id};
use crate::layers::tar_write::{TimePolicy, write_layer, write_trees as write_trees_below};
use crate::oci::archive::{self, Output, SaveFormat, SaveImage, SaveOptions};
use crate::oci::layout::Layout;
use crate::oci::platform::{self, Platform};
use crate::oci::spec::Descriptor;
use crate::progress::{Emitter, Event};
use crate::sys::{SysResultExt, fs};
use crate::timings::Phase;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// True for an output that needs the root file system, not only blobs.
pub fn needs_tree(output: &OutputSpec) -> bool {
    matches!(output.kind, OutputKind::Tar | OutputKind::Local)
}

/// A file that gets its name when it is whole; or something that only takes bytes: a pipe, a device.
pub(super) enum Target {
    File { file: BufWriter<File>, temporary: PathBuf, path: PathBuf },
    Special { file: File, path: PathBuf },
    Stdout,
}

impl Target {
    pub(super) fn open(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::Stdout) };
        let what = || format!("cannot write {}", path.display());
        // A rename would put a file in the place of /dev/null or of a pipe somebody reads from.
        if std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            let file = File::options().write(true).open(path);
            let file = file.or_error(ErrorKind::Environment, what)?;
            return Ok(Self::Special { file, path: path.to_owned() });
        }
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".part-{}", &random_id()[..8]));
        let temporary = PathBuf::from(name);
        let file = File::create_new(&temporary).or_error(ErrorKind::Environment, what)?;
        let file = BufWriter::with_capacity(1 << 18, file);
        Ok(Self::File { file, temporary, path: path.to_owned() })
    }

    /// Lets `produce` write, then gives the file its name.
    pub(super) fn fill(self, produce: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        match self {
            Self::Stdout => {
                let mut out = BufWriter::with_capacity(1 << 18, std::io::stdout().lock());
                produce(&mut out)?;
                out.flush().or_error(ErrorKind::Environment, || {
                    "cannot write to standard output".to_owned()
                })
            }
            Self::Special { file, path } => {
                let mut file = BufWriter::with_capacity(1 << 18, file);
                produce(&mut file)?;
                file.flush()
                    .or_error(ErrorKind::Environment, || format!("cannot write {}", path.display()))
            }
            Self::File { mut file, temporary, path } => {
                let what = || format!("cannot write {}", path.display());
                let made = produce(&mut file).and_then(|()| {
                    file.flush().or_error(ErrorKind::Environment, what)?;
                    std::fs::rename(&temporary, &path).or_error(ErrorKind::Environment, what)
                });
                if made.is_err() {
                    let _not_there = std::fs::remove_file(&temporary);
                }
                made
            }
        }
    }
}

/// Lets something be written to a path, where it appears when it is whole, or to standard output.
pub fn to_path(
    path: Option<&Path>,
    produce: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    Target::open(path)?.fill(produce)
}

/// Writes all outputs that are images.
pub(super) fn write_images(
    request: &BuildRequest,
    store: &Store,
    outcome: &BuildOutcome,
    emitter: &Emitter,
) -> Result<()> {
    for output in &request.outputs {
        let format = match output.kind {
            OutputKind::OciArchive => SaveFormat::OciArchive,
            OutputKind::OciDirectory => SaveFormat::OciDir,
            OutputKind::Docker => SaveFormat::DockerArchive,
            // `load` and `push` do the last two.
            OutputKind::Tar
            | OutputKind::Local
            | OutputKind::Image
            | OutputKind::Load
            | OutputKind::Registry => continue,
        };
        let descriptor = match format {
            SaveFormat::DockerArchive => of_this_machine(outcome)?,
            _ => &outcome.descriptor,
        };
        let _span = emitter.span(Phase::Output);
        save(store, descriptor, &request.tags, format, output.dest.as_deref())?;
        tell(emitter, output);
    }
    Ok(())
}

/// The one image that a form without indexes can hold: of several, the one that runs here.
pub(super) fn of_this_machine(outcome: &BuildOutcome) -> Result<&Descriptor> {
    let platforms: Vec<Platform> =
        outcome.images.iter().filter_map(Platform::of_descriptor).collect();
    Ok(&outcome.images[this_machines(&platforms)?])
}

/// Which of these platforms goes into a docker archive or an engine.
pub(super) fn this_machines(platforms: &[Platform]) -> Result<usize> {
    if platforms.len() < 2 {
        return Ok(0);
    }
    let host = Platform::host();
    platform::best(&host, platforms.iter().cloned().enumerate()).ok_or_else(|| {
        let built: Vec<String> = platforms.iter().map(ToString::to_string).collect();
        Error::image("a docker archive holds one platform, and none of those to build is this machine's")
            .cause(format!("this machine is {host}, to build are {}", built.join(", ")))
            .hint("`type=oci` holds all of them; `nativebuild image save --platform` writes any one of them")
    })
}

/// Writes an image of the store in a form, to a path or to standard output.
pub fn save(
    store: &Store,
    descriptor: &Descriptor,
    names: &[crate::oci::Reference],
    format: SaveFormat,
    path: Option<&Path>,
) -> Result<()> {
    save_from(store.images(), descriptor, names, format, path)
}

/// The same from any layout.
pub fn save_from(
    layout: &Layout,
    descriptor: &Descriptor,
    names: &[crate::oci::Reference],
    format: SaveFormat,
    path: Option<&Path>,
) -> Result<()> {
    let images = [SaveImage { descriptor, names }];
    let options = SaveOptions::new(format);
    if format == SaveFormat::OciDir {
        let path = path.ok_or_else(|| Error::usage("a layout directory needs a path"))?;
        return archive::save(layout, &images, &options, Output::Dir(path));
    }
    Target::open(path)?.fill(|out| archive::save(layout, &images, &options, Output::Stream(out)))
}

/// Root file systems of one or several platforms, for the outputs that want those.
#[derive(Debug)]
pub(super) struct Tree {
    /// The tree; `None` is the empty one.
    pub(super) snapshot: Option<Arc<Snapshot>>,
    /// Directory in the output, in a build for several platforms.
    pub(super) below: Option<String>,
}

/// Name of the directory that buildx gives a platform: `linux_arm_v7`.
pub(super) fn directory_of(platform: &Platform) -> String {
    platform.to_string().replace('/', "_")
}

/// Writes all outputs that are root file systems.
pub(super) fn write_trees(
    request: &BuildRequest,
    worker: &Worker,
    trees: &[Tree],
    epoch: Option<i64>,
    emitter: &Emitter,
) -> Result<()> {
    for output in request.outputs.iter().filter(|output| needs_tree(output)) {
        let path = output.dest.as_deref();
        match (output.kind == OutputKind::Local, path) {
            (true, Some(path)) => {
                for tree in trees {
                    let below = tree.below.as_ref().map(|name| path.join(name));
                    let path = below.as_deref().unwrap_or(path);
                    write_tree(worker, tree.snapshot.as_ref(), Some(path), true, epoch)?;
                }
            }
            _ => write_tar(worker, trees, path, epoch)?,
        }
        tell(emitter, output);
    }
    Ok(())
}

/// Writes the tree of a snapshot as a tar, or as files below a directory.
pub fn write_tree(
    worker: &Worker,
    tree: Option<&Arc<Snapshot>>,
    path: Option<&Path>,
    directory: bool,
    epoch: Option<i64>,
) -> Result<()> {
    if !directory {
        let tree = Tree { snapshot: tree.cloned(), below: None };
        return write_tar(worker, &[tree], path, epoch);
    }
    let (view, entries) = read(worker, tree)?;
    let times = limited(epoch);
    let path = path.ok_or_else(|| Error::usage("a directory needs a path"))?;
    let what = || format!("cannot write {}", path.display());
    std::fs::create_dir_all(path).or_error(ErrorKind::Environment, what)?;
    let root = fs::open_dir_path(path).or_error(ErrorKind::Environment, what)?;
    let (reader, mut writer) = std::io::pipe().or_error(ErrorKind::Environment, what)?;
    std::thread::scope(|scope| {
        let producer =
            scope.spawn(move || write_layer(&entries, view.as_fd(), &times, &mut writer));
        let options = local_options(worker);
        let applied =
            apply(std::io::BufReader::with_capacity(1 << 18, reader), root.as_fd(), &options)
                .map(drop)
                .map_err(|error| error.wrap(what()));
        let produced =
            producer.join().unwrap_or_else(|_| Err(Error::internal("the writing thread stopped")));
        applied.and(produced)
    })
}

fn write_tar(
    worker: &Worker,
    trees: &[Tree],
    path: Option<&Path>,
    epoch: Option<i64>,
) -> Result<()> {
    let read = trees
        .iter()
        .map(|tree| Ok((tree.below.as_deref(), read(worker, tree.snapshot.as_ref())?)))
        .collect::<Result<Vec<_>>>()?;
    let times = limited(epoch);
    if let [(None, (view, entries))] = &read[..] {
        return Target::open(path)?.fill(|out| write_layer(entries, view.as_fd(), &times, out));
    }
    let named: Vec<_> = read
        .iter()
        .map(|(below, (view, entries))| (below.unwrap_or("."), entries, view.as_fd()))
        .collect();
    Target::open(path)?.fill(|out| write_trees_below(&named, &times, out))
}

/// A view of a tree, and everything in it.
fn read(worker: &Worker, tree: Option<&Arc<Snapshot>>) -> Result<(OwnedFd, Changes)> {
    let view = worker.snapshots.view(tree)?;
    let view = view.ok_or_else(|| Error::internal("the tree to write is not there any more"))?;
    let options = DiffOptions {
        flavour: worker.snapshots.xattr_flavour(),
        placeholders: worker.isolation.placeholders(),
    };
    let entries = read_tree(view.as_fd(), &options)?;
    Ok((view, entries))
}

/// Times of a root file system are those of its files; an epoch only limits them.
fn limited(epoch: Option<i64>) -> TimePolicy {
    TimePolicy { epoch, started: (i64::MAX, 0) }
}

/// An ordinary user gets files that are its own; root gets the image's owners.
fn local_options(worker: &Worker) -> ApplyOptions {
    let isolation = &worker.isolation;
    let root = isolation.ids == IdMode::Real && !isolation.user_namespace;
    let devices = if root && isolation.devices { Devices::Real } else { Devices::Skip };
    ApplyOptions { owner: root, ..ApplyOptions::archive(devices) }
}

fn tell(emitter: &Emitter, output: &OutputSpec) {
    let what = match output.kind {
        OutputKind::OciArchive => "OCI archive",
        OutputKind::OciDirectory => "OCI layout",
        OutputKind::Docker => "docker archive",
        OutputKind::Tar => "root file system tar",
        OutputKind::Local => "root file system",
        OutputKind::Image | OutputKind::Load | OutputKind::Registry => "image",
    };
    let place = output
        .dest
        .as_ref()
        .map_or_else(|| "standard output".to_owned(), |path| path.display().to_string());
    emitter.emit(Event::Output { text: format!("{what} to {place}") });
}
