//! An index is put in its place, after the images that it needs.

use super::super::access::copy_blobs;
use super::super::deliver::{Delivered, Parcel};
use super::super::{Access, Choice, Fetched, Location};
use super::members::Source;
use crate::error::{Error, Result};
use crate::net::Pushed;
use crate::oci::layout::{Layout, Origin};
use crate::oci::media;
use crate::oci::spec::{self, Descriptor};
use crate::oci::{Digest, Reference};
use serde_json::Value;

/// The locations of an index with its further tags.
pub(super) fn targets(to: &Location, tags: &[String]) -> Result<Vec<Location>> {
    if !matches!(to, Location::Store(_) | Location::Registry(_) | Location::Layout(..)) {
        return Err(Error::usage(format!("an index cannot be made or changed in `{to}`"))
            .hint("use a registry, the store or `oci:`, and `image copy` from there"));
    }
    if to.reference().is_some_and(|name| name.digest.is_some()) {
        return Err(Error::usage(format!("`{to}` has a digest: what has one cannot be changed"))
            .hint("name it by its tag"));
    }
    let mut all = vec![to.clone()];
    for tag in tags {
        let named = |name: &Reference| Reference::parse(&format!("{}:{tag}", name.name()));
        all.push(match to {
            Location::Registry(name) => Location::Registry(named(name)?),
            Location::Store(name) => Location::Store(named(name)?),
            Location::Layout(path, _) => Location::Layout(path.clone(), Some(tag.clone())),
            other => other.clone(),
        });
    }
    Ok(all)
}

/// Brings what is needed and names the index.
pub(super) fn write(
    access: &Access<'_>,
    targets: &[Location],
    index: &Value,
    sources: &[Source],
) -> Result<Delivered> {
    let bytes = spec::to_json(index)?;
    let media_type = index["mediaType"].as_str().unwrap_or(media::OCI_INDEX);
    let digest = Digest::of(&bytes);
    let root = spec::descriptor(media_type.into(), &digest, bytes.len() as u64);
    let first = targets.first().ok_or_else(|| Error::internal("an index without a name"))?;
    if let Location::Registry(name) = first {
        let registry = access.registry()?;
        for source in sources {
            let fetched = bring(access, source)?;
            let child = spec::digest_of(&source.root)?;
            let target = Reference { tag: None, digest: Some(child), ..name.clone() };
            access.note_homes(&source.location, first, &fetched.layout, &source.root)?;
            registry.push(&fetched.layout, &source.root, &[target], access.emitter())?;
        }
        let mut pushed = Vec::new();
        for target in targets {
            let Location::Registry(name) = target else { continue };
            registry
                .put_manifest(name, media_type, &bytes)
                .map_err(|error| Error::from(error).wrap(format!("cannot push `{name}`")))?;
            pushed.push(Pushed { name: name.clone(), descriptor: root.clone() });
        }
        return Ok(Delivered::Pushed(pushed));
    }
    let layout = match first {
        Location::Layout(path, _) => Layout::create(path)?,
        _ => access.store().clone(),
    };
    let _until_named = layout.writing()?;
    for source in sources {
        let fetched = bring(access, source)?;
        copy_blobs(&fetched.layout, &source.root, &layout)?;
    }
    layout.put_document(media_type, &bytes)?;
    for target in targets {
        name(access, &layout, &root, target)?;
    }
    Ok(Delivered::Written(digest))
}

fn bring(access: &Access<'_>, source: &Source) -> Result<Fetched> {
    if let Location::Registry(name) = &source.location {
        let digest = Some(spec::digest_of(&source.root)?);
        let exact = Location::Registry(Reference { digest, ..name.clone() });
        return access.fetch(&exact, &Choice::Whole, None);
    }
    access.fetch(&source.location, &Choice::Whole, None)
}

/// Names an index whose bytes are in a layout.
fn name(access: &Access<'_>, layout: &Layout, root: &Descriptor, to: &Location) -> Result<()> {
    match to {
        Location::Layout(_, Some(name)) => {
            layout.sync()?;
            let mut names = layout.lock_index()?;
            names.set(name, root)?;
            names.store()
        }
        Location::Store(name) => layout.set_name(name, root, Origin::Built),
        other => {
            let parcel = Parcel { layout, root, origin: Origin::Built, expect: None };
            access.deliver(parcel, other).map(drop)
        }
    }
}
