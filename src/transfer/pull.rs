//! `pull`: an image of a registry, by name or pinned, into the store or into a file whose bytes are known beforehand.
//!
//! In: a reference and a platform; out: the image in the store, or an archive. A docker-archive is a function of the
//! image's digest, its platform and the name in it, whatever the store has: format 1 is the form that
//! [`SaveFormat::DockerArchive`] writes, and stays. What a lock file says is checked before anything is written.

use super::access::Fetched;
use super::deliver::{Delivered, Parcel};
use super::{Access, Choice, Location, file, read};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::oci::archive::{self, Output, SaveFormat, SaveImage, SaveOptions};
use crate::oci::digest::HashingWriter;
use crate::oci::layout::Origin;
use crate::oci::spec::{self, Descriptor};
use crate::oci::{Digest, Platform, Reference, hash_forms};
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::path::Path;

/// Version of the lock file.
const LOCK: u64 = 1;
/// Largest lock file.
const MAX_LOCK: u64 = 8 << 20;
/// What of a lock file must agree.
const LOCKED: [&str; 3] = ["manifest", "config", "layers"];

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Pull<'a> {
    /// Image in a registry.
    pub name: &'a Reference,
    /// For which platform, else this machine's.
    pub platform: Option<Platform>,
    /// File or layout; the store otherwise.
    pub to: Option<Location>,
    /// Name in the archive or in the store, else the image's own.
    pub final_name: Option<Reference>,
    /// Of the archive's bytes.
    pub expect: Option<Digest>,
    /// The hash of the archive is wanted, though none is written.
    pub hash: bool,
    /// Written when it is not there, compared when it is.
    pub lock: Option<&'a Path>,
}

/// What came.
#[derive(Debug)]
pub struct Brought {
    /// What the name leads to: an index or a manifest.
    pub digest: Digest,
    /// Of the image.
    pub platform: Platform,
    /// Name in the archive.
    pub final_name: Reference,
    /// Of the archive's bytes, when these were asked for.
    pub archive: Option<Digest>,
    /// What was written.
    pub written: Option<Digest>,
}

/// Pulls.
pub fn pull(access: &Access<'_>, wanted: &Pull<'_>) -> Result<Brought> {
    let choice = wanted.platform.clone().map_or(Choice::Here, Choice::One);
    let from = Location::Registry(wanted.name.clone());
    // Blobs that the store has are not fetched again.
    let fetched = access.fetch(&from, &choice, Some(access.store()))?;
    let digest = spec::digest_of(&fetched.whole)?;
    if wanted.expect.is_some() && wanted.name.digest.is_none() {
        let (shown, pinned) = (wanted.name.familiar(), wanted.name.with_digest(digest.clone()));
        access.emitter().warn(format!(
            "the tag of `{shown}` may move, and then the expected hash is wrong; pin it: `{}`",
            pinned.familiar()
        ));
    }
    let image = read::image(&fetched.layout, &fetched.root)?;
    let platform = image.platform().unwrap_or_else(Platform::host);
    let lock = lock_of(wanted.name, &digest, &platform, &image);
    let is_new = match wanted.lock {
        Some(path) => !check_lock(path, &lock)?,
        None => false,
    };
    let final_name = final_name(wanted);
    let (archive, written) = write(access, wanted, &fetched, &final_name)?;
    if let Some(path) = wanted.lock.filter(|_| is_new) {
        let mut text = serde_json::to_vec_pretty(&lock)
            .map_err(|error| Error::internal("JSON of a lock file").cause(error))?;
        text.push(b'\n');
        file::write(path, None, access.tmp(), |out| {
            out.write_all(&text)
                .or_error(ErrorKind::Environment, || format!("cannot write `{}`", path.display()))
        })?;
    }
    Ok(Brought { digest, platform, final_name, archive, written })
}

fn final_name(wanted: &Pull<'_>) -> Reference {
    let name = wanted.final_name.as_ref().unwrap_or(wanted.name);
    let tag = name.tag.clone().or_else(|| Some("latest".to_owned()));
    Reference { digest: None, tag, ..name.clone() }
}

/// Writes to where it is to go; gives the hash of the archive and of what was written.
fn write(
    access: &Access<'_>,
    wanted: &Pull<'_>,
    fetched: &Fetched,
    name: &Reference,
) -> Result<(Option<Digest>, Option<Digest>)> {
    let hash = || hash(fetched, name);
    let Some(to) = &wanted.to else {
        let archive = (wanted.hash || wanted.expect.is_some()).then(hash).transpose()?;
        if let Some(archive) = &archive {
            file::check(wanted.expect.as_ref(), archive)?;
        } else {
            let name = wanted.final_name.as_ref().map_or(wanted.name, |_| name);
            access.store().set_name(name, &fetched.whole, Origin::Pulled)?;
        }
        return Ok((archive, None));
    };
    let parcel = Parcel {
        layout: &fetched.layout,
        root: &fetched.root,
        origin: Origin::Pulled,
        expect: wanted.expect.as_ref(),
    };
    let of_docker = matches!(to, Location::DockerArchive(..));
    let written = match access.deliver(parcel, to)? {
        Delivered::Written(digest) => digest,
        Delivered::Pushed(_) => return Err(Error::internal("a pull that pushes")),
    };
    let archive = match wanted.hash {
        true if of_docker => Some(written.clone()),
        true => Some(hash()?),
        false => None,
    };
    Ok((archive, Some(written)))
}

/// The hash of an archive that nobody keeps.
fn hash(fetched: &Fetched, name: &Reference) -> Result<Digest> {
    let mut out = HashingWriter::new(io::sink());
    let names = std::slice::from_ref(name);
    let images = [SaveImage { descriptor: &fetched.root, names }];
    let options = SaveOptions::new(SaveFormat::DockerArchive);
    archive::save(&fetched.layout, &images, &options, Output::Stream(&mut out))?;
    Ok(out.finish().1)
}

fn lock_of(name: &Reference, digest: &Digest, platform: &Platform, image: &read::Image) -> Value {
    let one = |descriptor: &Descriptor| {
        json!({
            "mediaType": descriptor.media_type().to_string(),
            "digest": descriptor.digest().to_string(),
            "size": descriptor.size(),
        })
    };
    let layers: Vec<Value> = image.manifest.layers().iter().map(one).collect();
    json!({
        "version": LOCK,
        "imageName": name.name(),
        "imageDigest": digest.to_string(),
        "platform": platform.to_string(),
        "manifest": one(&image.descriptor),
        "config": one(image.manifest.config()),
        "layers": layers,
    })
}

/// Whether there is a lock file; one that says something else is an error.
fn check_lock(path: &Path, found: &Value) -> Result<bool> {
    let shown = path.display();
    let bytes = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Ok(there) if there.len() > MAX_LOCK => {
            return Err(Error::image(format!("the lock file `{shown}` is too large")));
        }
        _ => {
            fs::read(path).or_error(ErrorKind::Environment, || format!("cannot read `{shown}`"))?
        }
    };
    let locked: Value = spec::from_json(&format!("the lock file `{shown}`"), &bytes)?;
    if locked["version"] != LOCK {
        return Err(Error::image(format!("the lock file `{shown}` is of another version"))
            .cause(format!("expected {LOCK}, found {}", locked["version"])));
    }
    for key in LOCKED {
        if locked[key] != found[key] {
            let digest = |value: &Value| match &value[key] {
                Value::Object(one) => one.get("digest").cloned().unwrap_or_default(),
                other => other.clone(),
            };
            return Err(Error::integrity(format!("the image is not the one of `{shown}`"))
                .cause(format!("`{key}`: expected {}, found {}", digest(&locked), digest(found)))
                .hint(
                    "nothing was written; remove the lock file to accept what the name means now",
                ));
        }
    }
    Ok(true)
}

/// What `nix-prefetch-docker` prints.
pub fn prefetched(name: &Reference, brought: &Brought) -> Option<Value> {
    let archive = brought.archive.as_ref()?;
    let short = |name: &Reference| Reference { tag: None, digest: None, ..name.clone() }.familiar();
    Some(json!({
        "imageName": short(name),
        "imageDigest": brought.digest.to_string(),
        "finalImageName": short(&brought.final_name),
        "finalImageTag": brought.final_name.tag,
        "os": brought.platform.os,
        "arch": brought.platform.architecture,
        "hash": hash_forms::sri(archive),
        "sha256": hash_forms::nix(archive),
    }))
}
