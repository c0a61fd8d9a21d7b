//! Writes images to a directory or a stream, in five forms, the same bytes every time.
//!
//! Members are in a fixed order, owned by 0:0 and dated as the caller says. Everything is copied and verified on the
//! way: outputs share no inode with the store, and a damaged blob is an error, not a damaged output.

use super::{write_docker, write_oci};
use crate::{
    error::{Error, ErrorKind, Result, ResultExt},
    oci::{
        Digest, Platform, Reference,
        digest::HashingWriter,
        layout::Layout,
        resolve::{self, ResolvedImage},
        spec::Descriptor,
    },
};
use std::{
    fmt,
    io::{self, BufReader, Read, Write},
    path::Path,
};
use tar::{EntryType, Header};

/// Of every copy: the default of 8 KiB is slow for layers.
pub(super) const BUFFER: usize = 128 << 10;

/// The form of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveFormat {
    /// An OCI layout directory.
    OciDir,
    /// An OCI layout in a tar.
    OciArchive,
    /// What `docker save` writes and every `docker load` reads: `manifest.json`, layers unpacked.
    DockerArchive,
    /// The older one with `repositories` and `<id>/{VERSION,json,layer.tar}`.
    DockerArchiveV1,
    /// Flat `sha256:…` files (assemble-trust.md A1); gzip layers keep their bytes.
    DockerArchiveFlat,
}

/// Where to.
pub enum Output<'a> {
    /// A directory, for [`SaveFormat::OciDir`].
    Dir(&'a Path),
    /// A file or pipe, for all others.
    Stream(&'a mut dyn Write),
}

impl fmt::Debug for Output<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir(path) => write!(f, "Dir({})", path.display()),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// An image to save and the names to save it under.
#[derive(Clone, Copy, Debug)]
pub struct SaveImage<'a> {
    /// Manifest or index in the layout.
    pub descriptor: &'a Descriptor,
    /// Any number of names.
    pub names: &'a [Reference],
}

/// How to save.
#[derive(Clone, Copy, Debug)]
pub struct SaveOptions<'a> {
    /// The form.
    pub format: SaveFormat,
    /// Only this platform; `None` is the whole index in OCI forms, the only platform in Docker's.
    pub platform: Option<&'a Platform>,
    /// Date of all members, in seconds since 1970.
    pub mtime: u64,
    /// RFC 3339 time for `org.opencontainers.image.created`; not written without one.
    pub created: Option<&'a str>,
    /// In OCI forms `org.opencontainers.image.ref.name` of an image without names, as it is.
    pub ref_name: Option<&'a str>,
}

impl SaveOptions<'_> {
    /// All platforms, dated 1970.
    pub fn new(format: SaveFormat) -> Self {
        Self { format, platform: None, mtime: 0, created: None, ref_name: None }
    }
}

/// Writes the images.
pub fn save(
    layout: &Layout,
    images: &[SaveImage<'_>],
    options: &SaveOptions<'_>,
    out: Output<'_>,
) -> Result<()> {
    match (options.format, out) {
        (SaveFormat::OciDir, Output::Dir(path)) => {
            write_oci::write_dir(layout, images, options, path)
        }
        (SaveFormat::OciDir, Output::Stream(_)) => {
            Err(Error::usage("an OCI layout directory cannot be written to a stream")
                .hint("use the form `oci-archive`, or give a directory"))
        }
        (_, Output::Dir(path)) => Err(Error::usage(format!(
            "an archive cannot be written to `{}`: it is a directory",
            path.display()
        ))),
        (SaveFormat::OciArchive, Output::Stream(stream)) => {
            write_oci::write_archive(layout, images, options, stream)
        }
        (_, Output::Stream(stream)) => write_docker::write(layout, images, options, stream),
    }
}

/// The one image that a form without indexes can hold.
pub(super) fn single(
    layout: &Layout,
    descriptor: &Descriptor,
    platform: Option<&Platform>,
) -> Result<ResolvedImage> {
    match platform {
        Some(platform) => resolve::resolve_exactly(layout, descriptor, platform),
        None => resolve::resolve_single(layout, descriptor),
    }
}

/// A tar that is written member by member.
pub(super) struct TarOut<'a> {
    inner: tar::Builder<&'a mut dyn Write>,
    mtime: u64,
}

impl<'a> TarOut<'a> {
    /// Starts a tar whose members are all of this date.
    pub(super) fn new(stream: &'a mut dyn Write, mtime: u64) -> Self {
        Self { inner: tar::Builder::new(stream), mtime }
    }

    /// A directory; `name` ends in a slash.
    pub(super) fn dir(&mut self, name: &str) -> Result<()> {
        self.member(name, EntryType::Directory, 0, &mut io::empty())
    }

    /// A small file.
    pub(super) fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.file(name, bytes.len() as u64, &mut &*bytes)
    }

    /// A file of exactly `size` bytes.
    pub(super) fn file(&mut self, name: &str, size: u64, data: &mut dyn Read) -> Result<()> {
        self.member(name, EntryType::Regular, size, data)
    }

    /// A file that is produced now, and must turn out to have this size and digest.
    pub(super) fn produced(
        &mut self,
        name: &str,
        size: u64,
        digest: &Digest,
        produce: &dyn Fn(&mut dyn Write) -> Result<()>,
    ) -> Result<()> {
        let fail = || format!("cannot write `{name}` into the archive");
        let header = self.header(name, EntryType::Regular, size)?;
        let stream = self.inner.get_mut();
        stream.write_all(header.as_bytes()).or_error(ErrorKind::Environment, fail)?;
        let mut hash = HashingWriter::new(Limited { inner: &mut **stream, left: size });
        produce(&mut hash)?;
        let (_, found, written) = hash.finish();
        if found != *digest || written != size {
            return Err(Error::environment("the files of a layer changed while it was written")
                .cause(format!("expected {digest}, found {found}"))
                .hint("something else writes to them; do it again when that has stopped"));
        }
        let padding = size.next_multiple_of(512) - size;
        let stream = self.inner.get_mut();
        stream.write_all(&[0; 512][..padding as usize]).or_error(ErrorKind::Environment, fail)
    }

    /// The two blocks at the end.
    pub(super) fn finish(self) -> Result<()> {
        let fail = || "cannot write the archive".to_owned();
        let stream = self.inner.into_inner().or_error(ErrorKind::Environment, fail)?;
        stream.flush().or_error(ErrorKind::Environment, fail)
    }

    fn member(
        &mut self,
        name: &str,
        kind: EntryType,
        size: u64,
        data: &mut dyn Read,
    ) -> Result<()> {
        let fail = || format!("cannot write `{name}` into the archive");
        let header = self.header(name, kind, size)?;
        let exact = Exact { inner: data, left: size };
        let mut exact = BufReader::with_capacity(BUFFER, exact);
        self.inner.append(&header, &mut exact).or_error(ErrorKind::Environment, fail)
    }

    fn header(&self, name: &str, kind: EntryType, size: u64) -> Result<Header> {
        let fail = || format!("cannot write `{name}` into the archive");
        let mut header = Header::new_gnu();
        header.set_path(name).or_error(ErrorKind::Internal, fail)?;
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(self.mtime);
        header.set_size(size);
        header.set_cksum();
        Ok(header)
    }
}

/// No more than so many bytes: a header was written before them.
struct Limited<'a> {
    inner: &'a mut dyn Write,
    left: u64,
}

impl Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::other("a layer is longer than it was a moment ago"));
        }
        let count = self.inner.write(bytes)?;
        self.left -= count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Exactly so many bytes: a header was written before them.
struct Exact<'a> {
    inner: &'a mut dyn Read,
    left: u64,
}

impl Read for Exact<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buf)?;
        if buf.is_empty() {
            return Ok(0);
        }
        if count as u64 > self.left || (count == 0 && self.left > 0) {
            return Err(Error::integrity("a blob changed while it was saved").into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}
