//! Where a result goes: archives, layouts, root file systems; to files, directories or standard output.
//!
//! Files appear under their name only when they are whole. Nothing shares an inode with the store.

use super::request::{BuildRequest, OutputKind, OutputSpec};
use super::store::Store;
use super::worker::Worker;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::layers::apply::{ApplyOptions, Devices, apply};
use crate::layers::diff::{DiffOptions, read_tree};
use crate::layers::snapshot::{Snapshot, random_id};
use crate::layers::tar_write::{TimePolicy, write_layer};
use crate::oci::archive::{self, Output, SaveFormat, SaveImage, SaveOptions};
use crate::oci::spec::Descriptor;
use crate::progress::{Emitter, Event};
use crate::sys::{SysResultExt, fs};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// True for an output that needs the root file system, not only blobs.
pub fn needs_tree(output: &OutputSpec) -> bool {
    matches!(output.kind, OutputKind::Tar | OutputKind::Local)
}

/// A file that gets its name when it is whole; or something that only takes bytes: a pipe, a device.
enum Target {
    File { file: BufWriter<File>, temporary: PathBuf, path: PathBuf },
    Special { file: File, path: PathBuf },
    Stdout,
}

impl Target {
    fn open(path: Option<&Path>) -> Result<Self> {
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
    fn fill(self, produce: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
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

/// Writes all outputs that are images.
pub(super) fn write_images(
    request: &BuildRequest,
    store: &Store,
    descriptor: &Descriptor,
    emitter: &Emitter,
) -> Result<()> {
    for output in &request.outputs {
        let format = match output.kind {
            OutputKind::OciArchive => SaveFormat::OciArchive,
            OutputKind::OciDirectory => SaveFormat::OciDir,
            OutputKind::Docker => SaveFormat::DockerArchive,
            // `load` does the last one.
            OutputKind::Tar | OutputKind::Local | OutputKind::Image | OutputKind::Load => continue,
        };
        save(store, descriptor, &request.tags, format, output.dest.as_deref())?;
        tell(emitter, output);
    }
    Ok(())
}

/// Writes an image of the store in a form, to a path or to standard output.
pub fn save(
    store: &Store,
    descriptor: &Descriptor,
    names: &[crate::oci::Reference],
    format: SaveFormat,
    path: Option<&Path>,
) -> Result<()> {
    let images = [SaveImage { descriptor, names }];
    let options = SaveOptions::new(format);
    if format == SaveFormat::OciDir {
        let path = path.ok_or_else(|| Error::usage("a layout directory needs a path"))?;
        return archive::save(store.images(), &images, &options, Output::Dir(path));
    }
    Target::open(path)?
        .fill(|out| archive::save(store.images(), &images, &options, Output::Stream(out)))
}

/// Writes all outputs that are root file systems.
pub(super) fn write_trees(
    request: &BuildRequest,
    worker: &Worker,
    tree: Option<&Arc<Snapshot>>,
    epoch: Option<i64>,
    emitter: &Emitter,
) -> Result<()> {
    for output in request.outputs.iter().filter(|output| needs_tree(output)) {
        let directory = output.kind == OutputKind::Local;
        write_tree(worker, tree, output.dest.as_deref(), directory, epoch)?;
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
    let view = worker.snapshots.view(tree)?;
    let options = DiffOptions {
        flavour: worker.snapshots.xattr_flavour(),
        placeholders: worker.isolation.user_namespace,
    };
    let entries = read_tree(view.as_fd(), &options)?;
    // Times of a root file system are those of its files; an epoch only limits them.
    let times = TimePolicy { epoch, started: (i64::MAX, 0) };
    if !directory {
        return Target::open(path)?.fill(|out| write_layer(&entries, view.as_fd(), &times, out));
    }
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

/// An ordinary user gets files that are its own; root gets the image's owners.
fn local_options(worker: &Worker) -> ApplyOptions {
    let real = !worker.isolation.user_namespace;
    let devices = if real { Devices::Real } else { Devices::Skip };
    ApplyOptions { owner: real, ..ApplyOptions::archive(devices) }
}

fn tell(emitter: &Emitter, output: &OutputSpec) {
    let what = match output.kind {
        OutputKind::OciArchive => "OCI archive",
        OutputKind::OciDirectory => "OCI layout",
        OutputKind::Docker => "docker archive",
        OutputKind::Tar => "root file system tar",
        OutputKind::Local => "root file system",
        OutputKind::Image | OutputKind::Load => "image",
    };
    let place = output
        .dest
        .as_ref()
        .map_or_else(|| "standard output".to_owned(), |path| path.display().to_string());
    emitter.emit(Event::Output { text: format!("{what} to {place}") });
}
