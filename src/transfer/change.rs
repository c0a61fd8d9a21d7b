//! Names given and taken: `image tag`, `image rm`, `image ls-tags`.

use super::{Access, Location};
use crate::error::{Error, Result};
use crate::net::Pushed;
use crate::oci::spec;
use crate::oci::{Digest, Reference};

/// Gives an image a further name, where it is: in the store, or in its repository of a registry by sending its manifest
/// again. Gives what a registry has now; `None` for the store.
pub fn tag(access: &Access<'_>, from: &Location, to: &Location) -> Result<Option<Pushed>> {
    if let Some(name) = to.reference().filter(|name| name.digest.is_some()) {
        return Err(Error::usage(format!("`{name}` has a digest: only a tag can be given")));
    }
    match (from, to) {
        (Location::Store(from), Location::Store(to)) => {
            let image = access.stored(from)?;
            access.store().set_name(to, &image.descriptor, image.origin)?;
            Ok(None)
        }
        (Location::Registry(from), Location::Registry(to)) if from.name() == to.name() => {
            let registry = access.registry()?;
            let wrap = |error| Error::from(error).wrap(format!("cannot tag `{to}`"));
            let (descriptor, bytes) = registry.document(from).map_err(wrap)?;
            let media_type = descriptor.media_type().to_string();
            registry.put_manifest(to, &media_type, &bytes).map_err(wrap)?;
            Ok(Some(Pushed { name: to.clone(), descriptor }))
        }
        _ => Err(Error::usage(format!("`{from}` and `{to}` are not in one place"))
            .hint("a tag is given within the store or within one repository; `image copy` copies")),
    }
}

/// Removes a name. In a registry the manifest goes where a tag alone cannot; gives whether it did.
pub fn remove(access: &Access<'_>, location: &Location) -> Result<bool> {
    let name = match location {
        Location::Store(name) => {
            let image = access.stored(name)?;
            access.store().remove_name(&image.name)?;
            return Ok(false);
        }
        Location::Registry(name) => name,
        other => {
            return Err(Error::usage(format!("`{other}` is a file or a directory"))
                .hint("remove it as such"));
        }
    };
    let registry = access.registry()?;
    if registry.delete(name)? {
        return Ok(name.digest.is_some());
    }
    let digest = digest(access, name)?;
    registry.delete(&Reference { tag: None, digest: Some(digest), ..name.clone() })?;
    Ok(true)
}

/// Digest that a name in a registry has.
pub fn digest(access: &Access<'_>, name: &Reference) -> Result<Digest> {
    access.registry()?.head(name)?.ok_or_else(|| {
        Error::image(format!("registry `{}` does not have `{}`", name.registry, name.familiar()))
            .hint("check the name and the tag for typing errors")
    })
}

/// Digest and size of what a location has.
pub fn digest_and_size(access: &Access<'_>, location: &Location) -> Result<(Digest, u64)> {
    let root = access.open(location)?.root;
    Ok((spec::digest_of(&root)?, root.size()))
}

/// Tags of a repository, sorted.
pub fn tags(access: &Access<'_>, location: &Location) -> Result<Vec<String>> {
    match location {
        Location::Registry(name) => Ok(access.registry()?.tags(name)?),
        Location::Store(name) => {
            let all = access.store().names()?.into_iter();
            let of_it = all.filter(|image| image.name.name() == name.name());
            let mut tags: Vec<String> = of_it.filter_map(|image| image.name.tag).collect();
            tags.sort();
            Ok(tags)
        }
        other => Err(Error::usage(format!("`{other}` has no repositories"))
            .hint("`docker://REPOSITORY` is one of a registry, a bare name one of the store")),
    }
}
