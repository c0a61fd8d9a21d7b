//! A directory or a tar as named files, whatever way the tar came in.
//!
//! A tar is walked once to note where its members are (`manifest.json` may come last), then read in any order. For
//! that a packed tar, or one from a pipe, is first unpacked to an unlinked temporary file. Members are found by
//! name only, and nothing is ever written to disk under a member's name.

use super::{Input, save::BUFFER};
use crate::{
    error::{Error, ErrorKind, Result, ResultExt},
    oci::{
        blobs::{Blobs, DOCUMENT_LIMIT},
        decompress::{self, Detected},
        digest::Digest,
        spec,
        tar_walk::{Skip, TarWalk},
    },
};
use serde_json::Value;
use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};
use tar::EntryType;

/// More members than this no image archive has; a root file system may, and is not remembered.
const MAX_MEMBERS: usize = 200_000;
/// What makes an archive an image. Blobs may be there twice: their digest says which one is meant.
const DOCUMENTS: [&str; 4] = ["index.json", "manifest.json", "oci-layout", "repositories"];
/// Longest chain of links between members.
const MAX_LINKS: usize = 10;

/// Which kind of image a container holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::oci) enum Form {
    /// `oci-layout`, `index.json`, `blobs/`.
    Oci,
    /// `manifest.json` that lists configs and layers.
    Docker,
    /// `repositories` and `<id>/{json,layer.tar}` only, as before Docker 1.10.
    V1,
}

/// Named files.
#[derive(Debug)]
pub(in crate::oci) enum Container {
    /// Of a directory.
    Dir(PathBuf),
    /// Of a tar.
    Tar(TarFile),
}

/// A seekable tar and where its members are.
#[derive(Debug)]
pub(in crate::oci) struct TarFile {
    file: File,
    length: u64,
    members: HashMap<String, Place>,
    overflowed: bool,
    /// A document that is there twice.
    doubled: Option<String>,
}

#[derive(Clone, Debug)]
enum Place {
    Data { offset: u64, size: u64 },
    Link(String),
    Sparse,
}

impl Container {
    /// Opens a path or takes in a stream; `tmp` is for unpacked copies.
    pub(in crate::oci) fn open(input: Input, tmp: &Path) -> Result<Self> {
        let cannot_open = || "cannot open it".to_owned();
        let file = match input {
            Input::Stream(stream) => unpack_to_file(stream, tmp)?,
            Input::Path(path) => {
                let metadata = fs::metadata(&path).or_error(ErrorKind::Image, cannot_open)?;
                if metadata.is_dir() {
                    return Ok(Self::Dir(path));
                }
                let mut file = File::open(&path).or_error(ErrorKind::Image, cannot_open)?;
                if metadata.is_file() && is_plain(&mut file)? {
                    file
                } else {
                    unpack_to_file(Box::new(file), tmp)?
                }
            }
        };
        Ok(Self::Tar(TarFile::index(file)?))
    }

    /// What is in it; `None` when it is no image.
    pub(in crate::oci) fn form(&self) -> Result<Option<Form>> {
        let form = self.guess_form()?;
        if let (Some(_), Self::Tar(TarFile { doubled: Some(name), .. })) = (form, self) {
            return Err(Error::integrity(format!("it has `{name}` twice"))
                .cause("two readers could see two different images"));
        }
        if let (Some(_), Self::Tar(TarFile { overflowed: true, .. })) = (form, self) {
            return Err(Error::integrity(format!(
                "it has more than {MAX_MEMBERS} members, too many for an image archive"
            )));
        }
        Ok(form)
    }

    fn guess_form(&self) -> Result<Option<Form>> {
        if self.has("oci-layout") && self.has("index.json") {
            return Ok(Some(Form::Oci));
        }
        if let Some(bytes) = self.read_small("manifest.json")? {
            let is_list = serde_json::from_slice::<Vec<Value>>(&bytes)
                .is_ok_and(|all| all.iter().all(|entry| entry.get("Config").is_some()));
            if is_list {
                return Ok(Some(Form::Docker));
            }
        }
        if let Some(bytes) = self.read_small("repositories")?
            && serde_json::from_slice::<HashMap<String, HashMap<String, String>>>(&bytes).is_ok()
        {
            return Ok(Some(Form::V1));
        }
        Ok(None)
    }

    /// True when there is a file of this name.
    pub(in crate::oci) fn has(&self, name: &str) -> bool {
        matches!(self.read(name), Ok(Some(_)))
    }

    /// A file's bytes and size. Links between members are followed; names that lead out are not found.
    pub(in crate::oci) fn read(
        &self,
        name: &str,
    ) -> Result<Option<(Box<dyn Read + Send + '_>, u64)>> {
        let Some(name) = normal(name) else { return Ok(None) };
        match self {
            Self::Dir(root) => {
                let path = root.join(&name);
                // Pipes and devices would hang or lie.
                let Ok(metadata) = fs::metadata(&path) else { return Ok(None) };
                if !metadata.is_file() {
                    return Ok(None);
                }
                let file = File::open(&path)
                    .or_error(ErrorKind::Image, || format!("cannot open `{name}` in it"))?;
                Ok(Some((Box::new(BufReader::with_capacity(BUFFER, file)), metadata.len())))
            }
            Self::Tar(tar) => tar.read(name),
        }
    }

    /// All bytes of a small file.
    pub(in crate::oci) fn read_small(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some((reader, size)) = self.read(name)? else { return Ok(None) };
        if size > DOCUMENT_LIMIT {
            return Err(Error::integrity(format!(
                "`{name}` in it has {size} bytes, more than the {DOCUMENT_LIMIT} that are allowed"
            )));
        }
        let mut bytes = Vec::new();
        reader
            .take(DOCUMENT_LIMIT)
            .read_to_end(&mut bytes)
            .or_error(ErrorKind::Integrity, || format!("cannot read `{name}` in it"))?;
        Ok(Some(bytes))
    }

    /// All bytes of a small file that must be there.
    pub(in crate::oci) fn require_small(&self, name: &str) -> Result<Vec<u8>> {
        self.read_small(name)?
            .ok_or_else(|| Error::integrity(format!("there is no file `{name}` in it")))
    }

    /// A JSON file that must be there.
    pub(in crate::oci) fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T> {
        spec::from_json(&format!("`{name}`"), &self.require_small(name)?)
    }

    /// The whole tar, unpacked; `None` for a directory.
    pub(super) fn whole(&self) -> Option<Section<'_>> {
        match self {
            Self::Dir(_) => None,
            Self::Tar(tar) => Some(Section { file: &tar.file, at: 0, left: tar.length }),
        }
    }
}

impl Blobs for Container {
    fn open(&self, digest: &Digest) -> Result<Option<(Box<dyn Read + Send + '_>, u64)>> {
        self.read(&format!("blobs/sha256/{}", digest.hex()))
    }
}

impl TarFile {
    fn index(file: File) -> Result<Self> {
        let cannot_read = || "cannot read it".to_owned();
        let length = file.metadata().or_error(ErrorKind::Image, cannot_read)?.len();
        let reader = file.try_clone().or_error(ErrorKind::Environment, cannot_read)?;
        let mut reader = BufReader::with_capacity(BUFFER, reader);
        reader.rewind().or_error(ErrorKind::Image, cannot_read)?;
        let mut walk = TarWalk::new(FileBytes { reader, at: 0, length });
        let mut members = HashMap::new();
        let (mut overflowed, mut doubled) = (false, None);
        while let Some(member) = walk.next()? {
            let Some(name) = std::str::from_utf8(&member.path).ok().and_then(normal) else {
                continue;
            };
            // Names that make an archive an image are remembered whatever comes before them.
            if members.len() >= MAX_MEMBERS
                && (name.contains('/') || members.len() >= 2 * MAX_MEMBERS)
            {
                overflowed = true;
                continue;
            }
            let link = || String::from_utf8_lossy(&member.link).into_owned();
            let place = match member.kind {
                EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse
                    if member.sparse =>
                {
                    Place::Sparse
                }
                EntryType::Regular | EntryType::Continuous => {
                    Place::Data { offset: member.offset, size: member.size }
                }
                EntryType::Link => match normal(&link()) {
                    Some(target) => Place::Link(target),
                    None => continue,
                },
                EntryType::Symlink => match beside(&name, &link()) {
                    Some(target) => Place::Link(target),
                    None => continue,
                },
                _ => continue,
            };
            if DOCUMENTS.contains(&name.as_str()) && members.contains_key(&name) {
                doubled = Some(name.clone());
            }
            members.insert(name, place);
        }
        Ok(Self { file, length, members, overflowed, doubled })
    }

    fn read(&self, mut name: String) -> Result<Option<(Box<dyn Read + Send + '_>, u64)>> {
        for _ in 0..MAX_LINKS {
            match self.members.get(&name) {
                None => return Ok(None),
                Some(Place::Data { offset, size }) => {
                    let section = Section { file: &self.file, at: *offset, left: *size };
                    return Ok(Some((Box::new(BufReader::with_capacity(BUFFER, section)), *size)));
                }
                Some(Place::Link(target)) => name.clone_from(target),
                Some(Place::Sparse) => {
                    return Err(Error::integrity(format!(
                        "`{name}` in it is stored as a sparse file, which is not supported"
                    )));
                }
            }
        }
        Err(Error::integrity(format!("`{name}` in it is a link to itself")))
    }
}

/// A range of a file.
#[derive(Debug)]
pub(super) struct Section<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = (buf.len() as u64).min(self.left) as usize;
        if want == 0 {
            return Ok(0);
        }
        let count = self.file.read_at(&mut buf[..want], self.at)?;
        if count == 0 {
            return Err(Error::integrity("the archive became shorter while it was read").into());
        }
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// A file that is walked: passing over data is a seek.
struct FileBytes {
    reader: BufReader<File>,
    at: u64,
    length: u64,
}

impl Read for FileBytes {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buf)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Skip for FileBytes {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        if count > self.length.saturating_sub(self.at) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.reader.seek_relative(count as i64)?;
        self.at += count;
        Ok(())
    }
}

fn is_plain(file: &mut File) -> Result<bool> {
    let cannot_read = || "cannot read it".to_owned();
    let mut head = Vec::new();
    file.by_ref()
        .take(decompress::HEAD as u64)
        .read_to_end(&mut head)
        .or_error(ErrorKind::Image, cannot_read)?;
    file.seek(SeekFrom::Start(0)).or_error(ErrorKind::Image, cannot_read)?;
    Ok(decompress::detect(&head) == Detected::Plain)
}

fn unpack_to_file(stream: Box<dyn Read + Send>, tmp: &Path) -> Result<File> {
    let buffered = BufReader::with_capacity(BUFFER, stream);
    let (_, mut unpacked) = decompress::decompressor(buffered)?;
    let mut file = tempfile::tempfile_in(tmp).or_error(ErrorKind::Environment, || {
        format!("cannot make a temporary file in `{}`", tmp.display())
    })?;
    io::copy(&mut unpacked, &mut file)
        .or_error(ErrorKind::Integrity, || "cannot unpack it".to_owned())?;
    Ok(file)
}

/// A name without `.`, doubled and leading slashes; `None` when it leads out or to nothing.
fn normal(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.is_empty() || parts.contains(&"..") {
        return None;
    }
    Some(parts.join("/"))
}

/// What a symbolic link at `name` means, inside the archive.
fn beside(name: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    if target.starts_with('/') {
        return None;
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}
