//! OCI image layout directories (image-spec image-layout.md): the only writer of blobs.
//!
//! A blob is written to a temporary file beside its place and renamed, so that a name always has whole content,
//! whoever dies when. Durability is batched: [`Layout::sync`] once before a record names new blobs (design §4).
//! Names live in `index.json`, which [`index`] changes under a lock.

mod copies;
mod doubts;
mod early;
pub mod index;
mod lock;
mod partial;
mod syncing;
mod transfer;
mod writer;

pub use doubts::BlobReader;
pub use index::{IndexEntry, LockedIndex, NamedImage, Origin, listed};
pub use lock::{FileLock, LockKind};
pub use transfer::Check;
pub use writer::BlobWriter;

use copies::Written;
use doubts::Doubts;
use early::Early;
use syncing::Syncing;

use super::{
    blobs::{Blobs, missing},
    digest::Digest,
    media,
    spec::{self, Descriptor},
};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use rustix::io::Errno;
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Prefix of unfinished blobs; what a killed program leaves behind may be removed by anyone.
pub const UNFINISHED: &str = ".tmp-";

const MARKER: &str = "oci-layout";
const MARKER_TEXT: &str = "{\"imageLayoutVersion\":\"1.0.0\"}";

/// A layout directory.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
    gate: Option<PathBuf>,
    written: Written,
    early: Early,
    doubts: Doubts,
    sync: Arc<Syncing>,
}

impl Layout {
    /// An existing layout.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        let marker = root.join(MARKER);
        let text = fs::read(&marker).or_error(ErrorKind::Image, || {
            format!("`{}` is not an OCI image layout", root.display())
        })?;
        let value: serde_json::Value = spec::from_json(&format!("`{}`", marker.display()), &text)?;
        let version = value.get("imageLayoutVersion").and_then(serde_json::Value::as_str);
        if version.is_none_or(|version| !version.starts_with("1.")) {
            return Err(Error::image(format!(
                "`{}` is an image layout of an unknown version: expected `1.0.0`, found `{}`",
                root.display(),
                version.unwrap_or_default()
            )));
        }
        Ok(Self::at(root))
    }

    fn at(root: PathBuf) -> Self {
        let sync = Arc::new(Syncing::of(&root));
        Self {
            root,
            gate: None,
            written: Written::default(),
            early: Early::default(),
            doubts: Doubts::default(),
            sync,
        }
    }

    /// Makes a layout, or opens the one that is there. A directory with other content is refused.
    pub fn create(root: impl Into<PathBuf>) -> Result<Self> {
        Self::create_marked(root, MARKER_TEXT)
    }

    /// The same with another spelling of the file `oci-layout`, for a layout that is made new.
    pub fn create_marked(root: impl Into<PathBuf>, marker: &str) -> Result<Self> {
        let root = root.into();
        let fail = || format!("cannot make the image layout `{}`", root.display());
        fs::create_dir_all(&root).or_error(ErrorKind::Environment, fail)?;
        if !root.join(MARKER).is_file() {
            let mut names = fs::read_dir(&root).or_error(ErrorKind::Environment, fail)?;
            // Another process may be at the same work right now; its traces are not foreign content.
            let foreign = names.find_map(|entry| {
                let name = entry.ok()?.file_name().to_string_lossy().into_owned();
                let ours =
                    name.starts_with('.') || ["blobs", "index.json", MARKER].contains(&&*name);
                (!ours).then_some(name)
            });
            if let Some(name) = foreign {
                return Err(Error::image(fail())
                    .cause(format!("the directory has other content: `{name}`"))
                    .hint("choose a new or empty directory"));
            }
        }
        fs::create_dir_all(root.join("blobs/sha256")).or_error(ErrorKind::Environment, fail)?;
        let layout = Self::at(root);
        layout.write_if_absent("index.json", index::EMPTY.as_bytes())?;
        layout.write_if_absent(MARKER, marker.as_bytes())?;
        Layout::open(layout.root)
    }

    /// The same layout, which from now on stamps the blobs that are looked at with the time of access, so that whoever
    /// removes unused ones sees which are in use. Removing happens under an exclusive lock on the file `gate`: a blob
    /// that seems to be missing is looked for once more under a shared one.
    pub fn stamping(self, gate: PathBuf) -> Self {
        Self { gate: Some(gate), ..self }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a blob is or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blob_dir().join(digest.hex())
    }

    /// True when the blob is here; its content is not looked at.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_size(digest).is_some()
    }

    /// Size of a blob, `None` when it is not here.
    pub fn blob_size(&self, digest: &Digest) -> Option<u64> {
        self.blob_metadata(digest).map(|metadata| metadata.len())
    }

    /// What is to be said of a blob's file, `None` when it is not here.
    pub fn blob_metadata(&self, digest: &Digest) -> Option<fs::Metadata> {
        let path = self.blob_path(digest);
        if let Some(gate) = &self.gate
            && !use_stamp(&path)
        {
            pass(gate);
            if !use_stamp(&path) {
                return None;
            }
        }
        fs::metadata(path).ok().filter(fs::Metadata::is_file)
    }

    /// Opens a blob without verifying it; `None` when it is not here.
    pub fn open_plain(&self, digest: &Digest) -> Result<Option<File>> {
        Ok(self.open_raw(digest)?.map(|(file, _)| file))
    }

    /// True when the blob is here and has the size that its descriptor says.
    pub fn has(&self, descriptor: &Descriptor) -> bool {
        spec::digest_of(descriptor)
            .is_ok_and(|digest| self.blob_size(&digest) == Some(descriptor.size()))
    }

    /// Verified bytes of a small blob (at most 32 MiB).
    pub fn read_blob_small(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.required(descriptor)
    }

    /// The descriptor of a manifest or index of this digest; `None` when it is not here.
    pub fn document_of(&self, digest: &Digest) -> Result<Option<Descriptor>> {
        let Some(size) = self.blob_size(digest) else { return Ok(None) };
        // What it is, it says itself; a descriptor of any type reads it.
        let plain = spec::descriptor(media::OCI_MANIFEST.into(), digest, size);
        let bytes = self.required(&plain)?;
        let value: serde_json::Value = spec::from_json(&format!("blob {digest}"), &bytes)?;
        let stated = value.get("mediaType").and_then(serde_json::Value::as_str);
        let seen =
            if value.get("manifests").is_some() { media::OCI_INDEX } else { media::OCI_MANIFEST };
        let found = spec::descriptor(stated.unwrap_or(seen).into(), digest, size);
        media::document(&found, &value)?;
        Ok(Some(found))
    }

    /// A blob as a stream that fails at its end when the content is not what the descriptor says.
    pub fn open_blob(&self, descriptor: &Descriptor) -> Result<BlobReader> {
        let digest = spec::digest_of(descriptor)?;
        let Some((file, _)) = self.open_raw(&digest)? else { return Err(missing(descriptor)) };
        Ok(self.reader(file, &digest, descriptor.size()))
    }

    /// Stores bytes; costs nothing when they are here already, heals a damaged blob.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.blob_size(&digest) == Some(bytes.len() as u64)
            && fs::read(self.blob_path(&digest)).is_ok_and(|present| present == bytes)
        {
            return Ok(digest);
        }
        let mut writer = self.blob_writer()?.trusted();
        writer
            .write_all(bytes)
            .or_error(ErrorKind::Environment, || format!("cannot write blob {digest}"))?;
        writer.commit(&digest)?;
        Ok(digest)
    }

    /// Stores a document and gives its descriptor.
    pub fn put_document(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let digest = self.put_blob(bytes)?;
        Ok(spec::descriptor(media_type.into(), &digest, bytes.len() as u64))
    }

    /// Removes a blob; fine when it is not here.
    pub fn remove_blob(&self, digest: &Digest) -> Result<()> {
        match fs::remove_file(self.blob_path(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error)
                .or_error(ErrorKind::Environment, || format!("cannot remove blob {digest}")),
            _ => Ok(()),
        }
    }

    /// The directory of the blobs, where unfinished ones are too.
    pub fn blob_dir(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    fn open_raw(&self, digest: &Digest) -> Result<Option<(File, u64)>> {
        // A blob that is a pipe or a device would hang or lie; only regular files are opened.
        let Some(size) = self.blob_size(digest) else { return Ok(None) };
        let path = self.blob_path(digest);
        let opened = File::open(&path).or_else(|error| match (&self.gate, error.kind()) {
            (Some(gate), io::ErrorKind::NotFound) => {
                pass(gate);
                File::open(&path)
            }
            _ => Err(error),
        });
        match opened {
            Ok(file) => Ok(Some((file, size))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(error).or_error(ErrorKind::Environment, || format!("cannot open blob {digest}"))
            }
        }
    }

    fn write_if_absent(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.root.join(name);
        if path.is_file() {
            return Ok(());
        }
        // Under the lock, since another process may have made it and changed it meanwhile.
        let _lock = self.lock()?;
        if path.is_file() {
            return Ok(());
        }
        // An empty layout is nothing that anybody would miss, so it does not wait for the disk.
        self.place_file(name, bytes, false)
    }

    /// Replaces a file of the layout's root in one step, durably.
    fn replace_file(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.place_file(name, bytes, true)
    }

    fn place_file(&self, name: &str, bytes: &[u8], is_durable: bool) -> Result<()> {
        let fail = || format!("cannot write `{}`", self.root.join(name).display());
        let mut file = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .permissions(fs::Permissions::from_mode(0o644))
            .tempfile_in(&self.root)
            .or_error(ErrorKind::Environment, fail)?;
        file.write_all(bytes).or_error(ErrorKind::Environment, fail)?;
        if is_durable {
            file.as_file().sync_data().or_error(ErrorKind::Environment, fail)?;
        }
        let renamed = file.persist(self.root.join(name)).map_err(|error| error.error);
        renamed.map(drop).or_error(ErrorKind::Environment, fail)
    }
}

/// Notes that a blob is used; false when it is not there. Its time of modification says whether it was written to, and
/// stays.
fn use_stamp(path: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    };
    utimensat(CWD, path, &times, AtFlags::empty()) != Err(Errno::NOENT)
}

/// Waits until nobody removes blobs.
fn pass(gate: &Path) {
    // Without the file there is nobody to wait for.
    if let Ok(file) = File::options().create(true).append(true).open(gate) {
        let _unsupported = file.lock_shared();
    }
}

impl Blobs for Layout {
    fn open(&self, digest: &Digest) -> Result<Option<(Box<dyn Read + Send + '_>, u64)>> {
        let opened = self.open_raw(digest)?;
        Ok(opened.map(|(file, size)| (Box::new(file) as Box<dyn Read + Send>, size)))
    }

    fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.blob_size(digest))
    }
}

#[cfg(test)]
mod tests;
