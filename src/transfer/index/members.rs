//! Which entries the members of an index give, and which images must be brought to its place.

use super::super::{Access, Location, read};
use super::{Member, overlay};
use crate::error::{Error, Result};
use crate::oci::spec::Descriptor;
use crate::oci::{Platform, Reference};
use serde_json::{Map, Value, json};

/// An image that an index will need at its place.
pub(super) struct Source {
    pub(super) location: Location,
    pub(super) root: Descriptor,
}

/// Members that are there.
pub(super) fn present(
    access: &Access<'_>,
    members: &[Member],
    ignore: bool,
) -> Result<Vec<Member>> {
    let mut found = Vec::new();
    for member in members {
        if ignore && !access.exists(&member.location)? {
            access.emitter().note(format!("`{}` is not there and is left out", member.location));
            continue;
        }
        found.push(member.clone());
    }
    if found.is_empty() {
        return Err(Error::image("there would be no image in the index")
            .hint("an index without images is of no use to anybody"));
    }
    Ok(found)
}

/// Entries for the index, and the images that must be brought to its place.
pub(super) fn gather(
    access: &Access<'_>,
    to: &Location,
    members: &[Member],
) -> Result<(Vec<Value>, Vec<Source>)> {
    let (mut entries, mut sources) = (Vec::new(), Vec::new());
    for member in members {
        let here = is_home(to, &member.location);
        let new = entries_of(access, member)
            .map_err(|error| error.wrap(format!("cannot take `{}`", member.location)))?;
        for (root, entry) in new {
            if !here {
                sources.push(Source { location: member.location.clone(), root });
            }
            if entries.iter().any(|known: &Value| known["digest"] == entry["digest"]) {
                return Err(Error::usage(format!("`{}` is there twice", member.location)));
            }
            entries.push(entry);
        }
    }
    Ok((entries, sources))
}

/// Whether what a location has is where the index will be.
fn is_home(to: &Location, member: &Location) -> bool {
    let place = |name: &Reference| (name.registry.clone(), name.repository.clone());
    match (to, member) {
        (Location::Store(_), Location::Store(_)) => true,
        (Location::Registry(to), Location::Registry(from)) => place(to) == place(from),
        (Location::Layout(to, _), Location::Layout(from, _)) => to == from,
        _ => false,
    }
}

/// The entries that a member gives: one for an image, all of an index.
fn entries_of(access: &Access<'_>, member: &Member) -> Result<Vec<(Descriptor, Value)>> {
    let opened = access.open(&member.location)?;
    let blobs = opened.blobs();
    if let Some(stated) = &member.platform {
        let wanted = (!stated.os.is_empty() && !stated.architecture.is_empty()).then(|| {
            Platform::new(
                &stated.os,
                &stated.architecture,
                stated.variant.as_deref().unwrap_or_default(),
            )
        });
        let image = if read::is_index(blobs, &opened.root)? {
            // An index may leave a variant out that the user states.
            let plain = wanted.as_ref().map(|one| Platform::new(&one.os, &one.architecture, ""));
            read::choose(blobs, &opened.root, wanted.as_ref())
                .or_else(|_| read::choose(blobs, &opened.root, plain.as_ref()))?
        } else {
            read::image(blobs, &opened.root)?
        };
        if let (Some(wanted), Some(own)) = (&wanted, image.platform())
            && (&wanted.os, &wanted.architecture) != (&own.os, &own.architecture)
        {
            return Err(Error::image(format!("it is made for `{own}`, not for `{wanted}`")));
        }
        let platform = overlay(own_platform(&image), stated);
        return Ok(vec![(image.descriptor.clone(), entry(&image.descriptor, platform, None))]);
    }
    if !read::is_index(blobs, &opened.root)? {
        let image = read::image(blobs, &opened.root)?;
        let platform = own_platform(&image);
        return Ok(vec![(image.descriptor.clone(), entry(&image.descriptor, platform, None))]);
    }
    let mut all = Vec::new();
    for leaf in read::leaves(blobs, &opened.root)? {
        let platform = match leaf.platform() {
            Some(platform) => json!(platform),
            None => own_platform(&read::image(blobs, &leaf)?),
        };
        let annotations = leaf.annotations().as_ref().map(|all| json!(all));
        all.push((leaf.clone(), entry(&leaf, platform, annotations)));
    }
    Ok(all)
}

fn entry(descriptor: &Descriptor, platform: Value, annotations: Option<Value>) -> Value {
    let mut entry = json!({
        "mediaType": descriptor.media_type(),
        "digest": descriptor.digest(),
        "size": descriptor.size(),
    });
    if platform.as_object().is_some_and(|members| !members.is_empty()) {
        entry["platform"] = platform;
    }
    if let Some(annotations) = annotations {
        entry["annotations"] = annotations;
    }
    entry
}

/// What an image's config says that it is made for.
fn own_platform(image: &read::Image) -> Value {
    let mut platform = Map::new();
    if let Some(config) = &image.config {
        for (key, value) in [("os", &config.os), ("architecture", &config.architecture)] {
            if !value.is_empty() {
                platform.insert(key.to_owned(), value.as_str().into());
            }
        }
        if let Some(variant) = config.variant.as_ref().filter(|variant| !variant.is_empty()) {
            platform.insert("variant".to_owned(), variant.as_str().into());
        }
        for key in ["os.version", "os.features"] {
            if let Some(value) = config.other.get(key).filter(|value| !value.is_null()) {
                platform.insert(key.to_owned(), value.clone());
            }
        }
    }
    platform.into()
}
