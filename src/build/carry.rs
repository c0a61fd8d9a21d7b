//! What a build needs, as an OCI layout that is carried to a machine without a network (docs/offline.md).
//!
//! Images are entries with their names; files and the trees of commits are artifacts of types of our own; one more
//! artifact holds the pins of all of them, and marks the layout. Everything is verified when it is taken in.

use super::lock::file::LockFile;
use super::lock::{LockMode, Locks};
use super::request::Secret;
use super::sources::Sources;
use super::store::Store;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::net::{NetConfig, Validators};
use crate::oci::archive::{self, Expect, Import, Input, Select};
use crate::oci::blobs;
use crate::oci::git_url::GitUrl;
use crate::oci::layout::index::{IMAGE_NAME, REF_NAME};
use crate::oci::layout::{Layout, Origin};
use crate::oci::spec::{self, Descriptor, digest_of};
use crate::oci::{Digest, Reference, media};
use crate::progress::Emitter;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::Path;

const FILE: &str = "application/vnd.nativebuild.source.file.v1";
const TREE: &str = "application/vnd.nativebuild.source.git.v1";
const LOCK: &str = "application/vnd.nativebuild.lock.v1";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Beginning of the names of our annotations.
const PREFIX: &str = "io.nativebuild.source.";
const BUFFER: usize = 128 << 10;

/// One thing that is carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// An image by its name: what the name led to.
    Image(Reference, Box<Descriptor>),
    /// The file behind a URL.
    File {
        /// Its address.
        url: String,
        /// Of its bytes.
        digest: Digest,
        /// What its server said.
        validators: Validators,
    },
    /// The files of a commit.
    Tree {
        /// Where they are from, and how they were checked out.
        url: GitUrl,
        /// Full name of the commit.
        commit: String,
        /// Of their tar.
        digest: Digest,
        /// Of the commit, seconds since 1970.
        time: i64,
    },
}

impl Carried {
    /// `sha256:… NAME`, for lists.
    pub fn line(&self) -> String {
        match self {
            Self::Image(name, descriptor) => format!("{} {name}", descriptor.digest()),
            Self::File { url, digest, .. } => format!("{digest} {url}"),
            Self::Tree { url, commit, digest, .. } => format!("{digest} {}#{commit}", url.remote),
        }
    }
}

/// Adds what was collected to the layout at `path`, which is made when it is not there.
pub fn write(store: &Store, carried: &[Carried], pins: &LockFile, path: &Path) -> Result<()> {
    let (from, to) = (store.images(), Layout::create(path)?);
    let _until_named = to.writing()?;
    let mut entries = Vec::new();
    for one in carried {
        entries.push(match one {
            Carried::Image(name, descriptor) => image(from, &to, name, descriptor)?,
            Carried::File { url, digest, validators } => {
                let size = from.blob_size(digest).unwrap_or_default();
                let blob = spec::descriptor("application/octet-stream".into(), digest, size);
                copy(from, &to, &blob)?;
                let marks =
                    [("etag", &validators.etag), ("last-modified", &validators.last_modified)];
                let marks = marks.into_iter().filter_map(|(key, mark)| Some((key, mark.clone()?)));
                artifact(&to, FILE, &blob, marks.chain([("url", url.clone())]))?
            }
            Carried::Tree { url, commit, digest, time } => {
                let size = from.blob_size(digest).unwrap_or_default();
                let blob = spec::descriptor("application/x-tar".into(), digest, size);
                copy(from, &to, &blob)?;
                let all = [
                    ("url", url.remote.clone()),
                    ("commit", commit.clone()),
                    ("time", time.to_string()),
                    ("keep-git-dir", (url.keep_git_dir == Some(true)).to_string()),
                    ("submodules", url.submodules.to_string()),
                    ("commit-time", url.commit_time.to_string()),
                ];
                artifact(&to, TREE, &blob, all)?
            }
        });
    }
    let mut all = present_pins(&to)?;
    all.pins.extend(pins.pins.clone());
    let text = all.to_text()?;
    let blob = to.put_document("application/vnd.nativebuild.lock.v1+json", text.as_bytes())?;
    entries.push(artifact(&to, LOCK, &blob, [])?);
    to.sync()?;
    let replaced = |old: &Value| {
        let is_lock = old.get("artifactType").and_then(Value::as_str) == Some(LOCK);
        is_lock || entries.iter().any(|new| same(new, old))
    };
    to.set_entries(entries.clone(), replaced)
}

/// True for what takes the place of an older entry: the same artifact, or an image of the same name.
fn same(new: &Descriptor, old: &Value) -> bool {
    let named = |key: &str| old.get("annotations").and_then(|all| all.get(key)?.as_str());
    let name = new.annotations().as_ref().and_then(|all| all.get(IMAGE_NAME));
    match name {
        Some(name) => named(IMAGE_NAME) == Some(name.as_str()),
        None => old.get("digest").and_then(Value::as_str) == Some(new.digest().as_ref()),
    }
}

fn image(from: &Layout, to: &Layout, name: &Reference, root: &Descriptor) -> Result<Descriptor> {
    let found = blobs::reachable(from, root)?;
    found.require_one_complete()?;
    found.blobs.iter().try_for_each(|blob| copy(from, to, blob))?;
    let mut entry = spec::descriptor(root.media_type().clone(), &digest_of(root)?, root.size());
    let tag = name.tag.clone().filter(|_| name.digest.is_none());
    let names = [(IMAGE_NAME, name.to_string()), (REF_NAME, tag.unwrap_or(name.to_string()))];
    let names = names.map(|(key, value)| (key.to_owned(), value));
    entry.set_annotations(Some(names.into_iter().collect()));
    Ok(entry)
}

fn copy(from: &Layout, to: &Layout, blob: &Descriptor) -> Result<()> {
    if to.has(blob) {
        return Ok(());
    }
    let digest = digest_of(blob)?;
    let mut reader = BufReader::with_capacity(BUFFER, from.open_blob(blob)?);
    let mut writer = to.blob_writer()?.trusted();
    std::io::copy(&mut reader, &mut writer)
        .or_error(ErrorKind::Environment, || format!("cannot copy blob {digest}"))?;
    writer.commit(&digest)
}

/// A manifest with one blob and annotations (image-spec manifest.md, "guidelines for artifact usage").
fn artifact(
    to: &Layout,
    kind: &str,
    blob: &Descriptor,
    annotations: impl IntoIterator<Item = (&'static str, String)>,
) -> Result<Descriptor> {
    let annotations: BTreeMap<String, String> =
        annotations.into_iter().map(|(key, value)| (format!("{PREFIX}{key}"), value)).collect();
    let config = to.put_document(EMPTY, b"{}")?;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "artifactType": kind,
        "config": config, "layers": [blob], "annotations": annotations,
    });
    let mut entry = to.put_document(media::OCI_MANIFEST, &spec::to_json(&manifest)?)?;
    entry.set_artifact_type(Some(kind.into()));
    Ok(entry)
}

/// True for a layout that [`write`] made.
pub fn is_collection(path: &Path) -> bool {
    path.is_dir()
        && Layout::open(path).is_ok_and(|layout| lock_entry(&layout).is_ok_and(|l| l.is_some()))
}

fn lock_entry(layout: &Layout) -> Result<Option<Descriptor>> {
    let entries = layout.entries()?.into_iter().map(|entry| entry.descriptor);
    Ok(entries.into_iter().find(|entry| kind_of(entry) == LOCK))
}

fn kind_of(entry: &Descriptor) -> &str {
    entry.artifact_type().as_ref().map_or("", |kind| kind.as_ref())
}

fn present_pins(layout: &Layout) -> Result<LockFile> {
    let Some(entry) = lock_entry(layout)? else { return Ok(LockFile::default()) };
    let (_, blob) = read_artifact(layout, &entry)?;
    let text = layout.read_blob_small(&blob)?;
    LockFile::parse(&std::sync::Arc::new(crate::source::SourceFile::new("the layout's lock", text)))
}

/// Annotations without their prefix, and the blob.
fn read_artifact(
    layout: &Layout,
    entry: &Descriptor,
) -> Result<(BTreeMap<String, String>, Descriptor)> {
    let bytes = layout.read_blob_small(entry)?;
    let blobs::Parsed::Manifest(manifest) = blobs::parse(entry, &bytes)? else {
        return Err(Error::integrity(format!("{} is no manifest", entry.digest())));
    };
    let [blob] = &manifest.layers()[..] else {
        return Err(Error::integrity(format!("{} has not exactly one blob", entry.digest())));
    };
    let all = manifest.annotations().clone().unwrap_or_default();
    let ours = all
        .into_iter()
        .filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?.to_owned(), value)));
    Ok((ours.collect(), blob.clone()))
}

/// Takes a layout that [`write`] made into the store: images under their names, everything else to where a build looks
/// for it. Gives what came in.
pub fn load(store: &Store, path: &Path, emitter: &Emitter) -> Result<Vec<Carried>> {
    let layout = Layout::open(path)?;
    let taken = take_all(store, &layout, emitter);
    let mut taken =
        taken.map_err(|error| error.wrap(format!("cannot load `{}`", path.display())))?;
    store.images().sync()?;
    for one in &taken {
        match one {
            Carried::Image(name, descriptor) => {
                store.images().set_name(name, descriptor, Origin::Imported)?;
            }
            other => remember(store, other, emitter),
        }
    }
    taken.sort_by_key(Carried::line);
    taken.dedup();
    Ok(taken)
}

/// The blobs of everything, verified; no names and no records yet.
fn take_all(store: &Store, layout: &Layout, emitter: &Emitter) -> Result<Vec<Carried>> {
    let mut taken = Vec::new();
    for entry in layout.entries()? {
        let digest = entry.descriptor.digest().to_string();
        match kind_of(&entry.descriptor) {
            LOCK => {}
            FILE | TREE => {
                let (about, blob) = read_artifact(layout, &entry.descriptor)?;
                copy(layout, store.images(), &blob)?;
                let digest = digest_of(&blob)?;
                let tree = kind_of(&entry.descriptor) == TREE;
                let read = if tree { tree_of(&about, digest) } else { file_of(&about, digest) };
                taken.push(read.ok_or_else(|| {
                    Error::integrity(format!("{} lacks an annotation", entry.descriptor.digest()))
                })?);
            }
            "" => taken.extend(images(store, layout, &digest)?),
            other => emitter.warn(format!("{digest} is `{other}`, of which nothing is known here")),
        }
    }
    Ok(taken)
}

fn images(store: &Store, layout: &Layout, digest: &str) -> Result<Vec<Carried>> {
    let request = Import {
        input: Input::Path(layout.root().to_owned()),
        expect: Expect::Oci,
        select: Select::Named(digest.to_owned()),
        tmp: &store.sub("tmp"),
        rootfs: None,
    };
    let imported = archive::import(request, store.images())?;
    let named = imported.images.iter().flat_map(|image| {
        image
            .names
            .iter()
            .map(|name| Carried::Image(name.clone(), Box::new(image.descriptor.clone())))
    });
    Ok(named.collect())
}

fn file_of(about: &BTreeMap<String, String>, digest: Digest) -> Option<Carried> {
    let url = about.get("url")?.clone();
    let (etag, last_modified) = (about.get("etag").cloned(), about.get("last-modified").cloned());
    Some(Carried::File { url, digest, validators: Validators { etag, last_modified } })
}

fn tree_of(about: &BTreeMap<String, String>, digest: Digest) -> Option<Carried> {
    let yes = |key: &str| about.get(key).is_some_and(|value| value == "true");
    let url = GitUrl {
        remote: about.get("url")?.clone(),
        keep_git_dir: Some(yes("keep-git-dir")),
        submodules: yes("submodules"),
        commit_time: yes("commit-time"),
        ..GitUrl::default()
    };
    let (commit, time) = (about.get("commit")?.clone(), about.get("time")?.parse().ok()?);
    Some(Carried::Tree { url, commit, digest, time })
}

fn remember(store: &Store, one: &Carried, emitter: &Emitter) {
    let (net, locks, secrets): (_, Locks, [Secret; 0]) =
        (NetConfig { offline: true, ..NetConfig::default() }, Locks::default(), []);
    debug_assert_eq!(locks.mode(), LockMode::Off, "nothing is pinned here");
    let sources = Sources { store, net: &net, secrets: &secrets, locks: &locks, emitter };
    match one {
        Carried::Image(..) => {}
        Carried::File { url, digest, validators } => {
            sources.remember_file(url, digest, validators.clone());
        }
        Carried::Tree { url, commit, digest, time } => {
            sources.remember_tree(url, commit, digest, *time);
        }
    }
}
