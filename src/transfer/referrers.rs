//! What refers to an image: signatures, SBOMs and other artifacts with a `subject` (distribution-spec 1.1).
//!
//! A registry lists them itself, or keeps an index under the tag `sha256-HEX` that clients write; a layout and the store
//! have the same index under the same name.

use super::access::copy_blobs;
use super::{Access, Choice, Location};
use crate::error::{Error, Result};
use crate::oci::blobs::{self, Blobs, Parsed};
use crate::oci::layout::{Layout, Origin};
use crate::oci::media;
use crate::oci::spec::{self, Descriptor};
use crate::oci::{Digest, Reference};
use std::collections::HashSet;

/// Referrers of referrers.
const MAX_DEPTH: usize = 4;
const MAX_REFERRERS: usize = 1000;

/// What refers to the image at a location, of one artifact type when that is given.
pub fn list(
    access: &Access<'_>,
    location: &Location,
    artifact_type: Option<&str>,
) -> Result<Vec<Descriptor>> {
    let digest = match location.reference().and_then(|name| name.digest.clone()) {
        Some(digest) => digest,
        None => spec::digest_of(&access.open(location)?.root)?,
    };
    let mut found = of(access, location, &digest)?;
    if let Some(wanted) = artifact_type {
        found.retain(|one| one.artifact_type().as_ref().is_some_and(|one| one.as_ref() == wanted));
    }
    Ok(found)
}

fn of(access: &Access<'_>, location: &Location, digest: &Digest) -> Result<Vec<Descriptor>> {
    match location {
        Location::Registry(name) => Ok(access.registry()?.referrers(name, digest, None)?.list),
        Location::Store(name) => {
            let stored = access.store().find(&tagged(name, digest))?;
            stored.map_or(Ok(Vec::new()), |image| listed(access.store(), &image.descriptor))
        }
        Location::Layout(path, _) => in_layout(&Layout::open(path)?, digest),
        _ => Err(Error::usage(format!("`{location}` cannot hold what refers to an image"))
            .hint("a registry, the store and `oci:` can")),
    }
}

fn in_layout(layout: &Layout, digest: &Digest) -> Result<Vec<Descriptor>> {
    let name = tag(digest);
    let entry = layout.entries()?.into_iter().find(|entry| entry.ref_name() == Some(&name));
    entry.map_or(Ok(Vec::new()), |entry| listed(layout, &entry.descriptor))
}

fn listed(layout: &Layout, descriptor: &Descriptor) -> Result<Vec<Descriptor>> {
    let bytes = layout.required(descriptor)?;
    match blobs::parse(descriptor, &bytes)? {
        Parsed::Index(index) => Ok(index.manifests().clone()),
        Parsed::Manifest(_) => Ok(Vec::new()),
    }
}

fn tag(digest: &Digest) -> String {
    format!("sha256-{}", digest.hex())
}

fn tagged(name: &Reference, digest: &Digest) -> Reference {
    Reference { tag: Some(tag(digest)), digest: None, ..name.clone() }
}

/// Fails for locations that cannot take part.
pub(super) fn check(from: &Location, to: &Location) -> Result<()> {
    for location in [from, to] {
        if !matches!(location, Location::Registry(_) | Location::Store(_) | Location::Layout(..)) {
            return Err(Error::usage(format!("`{location}` cannot hold what refers to an image"))
                .hint("leave `--referrers` out, or use a registry, the store or `oci:`"));
        }
    }
    Ok(())
}

/// Copies what refers to `root`, and what refers to that.
pub(super) fn copy(
    access: &Access<'_>,
    from: &Location,
    to: &Location,
    root: &Descriptor,
) -> Result<()> {
    let _until_named = match to {
        Location::Layout(path, _) => Some(Layout::open(path)?.writing()?),
        _ => None,
    };
    let mut seen = HashSet::new();
    copy_of(access, from, to, &spec::digest_of(root)?, 0, &mut seen)
}

fn copy_of(
    access: &Access<'_>,
    from: &Location,
    to: &Location,
    subject: &Digest,
    depth: usize,
    seen: &mut HashSet<Digest>,
) -> Result<()> {
    if depth > MAX_DEPTH {
        return Ok(());
    }
    let found = of(access, from, subject)?;
    for one in &found {
        let digest = spec::digest_of(one)?;
        if !seen.insert(digest.clone()) {
            continue;
        }
        if seen.len() > MAX_REFERRERS {
            return Err(Error::integrity(format!("more than {MAX_REFERRERS} referrers")));
        }
        copy_one(access, from, to, one, &digest)
            .map_err(|error| error.wrap(format!("cannot copy the referrer {digest}")))?;
        copy_of(access, from, to, &digest, depth + 1, seen)?;
    }
    if found.is_empty() { Ok(()) } else { note(access, to, subject, found) }
}

fn copy_one(
    access: &Access<'_>,
    from: &Location,
    to: &Location,
    one: &Descriptor,
    digest: &Digest,
) -> Result<()> {
    let (layout, _keep) = match from {
        Location::Registry(name) => {
            let exact = Location::Registry(exact(name, digest));
            let fetched = access.fetch(&exact, &Choice::Whole, None)?;
            (fetched.layout.clone(), Some(fetched))
        }
        Location::Layout(path, _) => (Layout::open(path)?, None),
        _ => (access.store().clone(), None),
    };
    match to {
        Location::Registry(name) => {
            let target = exact(name, digest);
            access.registry()?.push(&layout, one, &[target], access.emitter())?;
            Ok(())
        }
        Location::Layout(path, _) => copy_blobs(&layout, one, &Layout::open(path)?),
        _ => copy_blobs(&layout, one, access.store()),
    }
}

fn exact(name: &Reference, digest: &Digest) -> Reference {
    Reference { tag: None, digest: Some(digest.clone()), ..name.clone() }
}

/// What has a subject is noted where the registry does not do that itself (distribution-spec, "Pushing manifests with
/// subject").
pub(super) fn note_subject(
    access: &Access<'_>,
    layout: &Layout,
    root: &Descriptor,
    name: &Reference,
) -> Result<()> {
    let Parsed::Manifest(manifest) = blobs::parse(root, &layout.required(root)?)? else {
        return Ok(());
    };
    let Some(subject) = manifest.subject() else { return Ok(()) };
    let own = manifest.artifact_type().clone();
    let kind = own.or_else(|| Some(manifest.config().media_type().clone()));
    let mut entry = Descriptor::new(root.media_type().clone(), root.size(), root.digest().clone());
    entry.set_artifact_type(kind);
    entry.set_annotations(manifest.annotations().clone());
    note(access, &Location::Registry(name.clone()), &spec::digest_of(subject)?, vec![entry])
}

/// Adds to the index under `sha256-HEX`, unless a registry keeps the list itself.
fn note(access: &Access<'_>, to: &Location, subject: &Digest, new: Vec<Descriptor>) -> Result<()> {
    let mut all = match to {
        Location::Registry(name) => {
            let present = access.registry()?.referrers(name, subject, None)?;
            if present.api {
                return Ok(());
            }
            present.list
        }
        other => of(access, other, subject)?,
    };
    let before = all.len();
    for one in new {
        if !all.iter().any(|known| known.digest() == one.digest()) {
            all.push(one);
        }
    }
    if all.len() == before {
        return Ok(());
    }
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": all,
    });
    let bytes = spec::to_json(&index)?;
    match to {
        Location::Registry(name) => {
            let target = tagged(name, subject);
            Ok(access.registry()?.put_manifest(&target, media::OCI_INDEX, &bytes)?)
        }
        Location::Layout(path, _) => {
            let layout = Layout::open(path)?;
            let descriptor = layout.put_document(media::OCI_INDEX, &bytes)?;
            let mut names = layout.lock_index()?;
            names.set(&tag(subject), &descriptor)?;
            names.store()
        }
        Location::Store(name) => {
            let descriptor = access.store().put_document(media::OCI_INDEX, &bytes)?;
            access.store().set_name(&tagged(name, subject), &descriptor, Origin::Imported)
        }
        _ => Ok(()),
    }
}
