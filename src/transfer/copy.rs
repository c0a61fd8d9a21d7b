//! `image copy`: an image from one location to another, with the bytes that it has.

pub use super::deliver::Delivered;
use super::deliver::Parcel;
use super::{Access, Choice, Location, convert, read, referrers};
use crate::error::{Error, Result};
use crate::oci::blobs::{self, Leaf};
use crate::oci::layout::{Layout, Origin};
use crate::oci::spec::Descriptor;
use crate::oci::{Digest, Platform};

/// How to copy.
#[derive(Clone, Debug, Default)]
pub struct CopyOptions {
    /// Only the image for this platform.
    pub platform: Option<Platform>,
    /// All platforms, from a registry too.
    pub all: bool,
    /// Other bytes than the source's are an error.
    pub preserve_digests: bool,
    /// What refers to the image comes along.
    pub referrers: bool,
    /// Digest that the result must have: of an archive's bytes, else of the manifest or index.
    pub expect: Option<Digest>,
    /// What to change; nothing by default.
    pub convert: Option<convert::Convert>,
}

/// Copies. Without a platform an index is copied whole, except out of a registry and into a form that holds one image:
/// then it is the image for this machine, unless `all`.
pub fn copy(
    access: &Access<'_>,
    from: &Location,
    to: &Location,
    options: &CopyOptions,
) -> Result<Delivered> {
    let choice = choice(from, to, options)?;
    if options.referrers {
        referrers::check(from, to)?;
    }
    let into = match to {
        Location::Store(_) if options.convert.is_none() && options.expect.is_none() => {
            Some(access.store())
        }
        _ => None,
    };
    let fetched = access.fetch(from, &choice, into)?;
    if choice == Choice::Whole {
        is_whole(&fetched.layout, &fetched.root, from)?;
    }
    if options.all && !to.holds_indexes() {
        one_only(&fetched.layout, &fetched.root, to)?;
    }
    if fetched.chosen && choice == Choice::Here {
        // What was left out is not left out silently.
        let host = Platform::host();
        let more = if to.holds_indexes() { "; `--all` copies all" } else { "" };
        access.emitter().note(format!("of an index only the image for {host} is copied{more}"));
    }
    let mut parcel = Parcel {
        layout: &fetched.layout,
        root: &fetched.root,
        origin: match from {
            Location::Registry(_) => Origin::Pulled,
            _ => Origin::Imported,
        },
        expect: options.expect.as_ref(),
    };
    let converted;
    if let Some(wanted) = &options.convert {
        let (layout, keep) = access.temporary()?;
        let root = convert::convert(access, parcel.layout, parcel.root, wanted, &layout)?;
        converted = (layout, root, keep);
        parcel.layout = &converted.0;
        parcel.root = &converted.1;
    }
    if options.preserve_digests {
        keeps_digests(parcel.root, &fetched.root, to)?;
    }
    if options.convert.is_none() {
        access.note_homes(from, to, &fetched.layout, parcel.root)?;
    }
    let delivered = access.deliver(parcel, to)?;
    if options.referrers {
        referrers::copy(access, from, to, parcel.root)?;
    }
    Ok(delivered)
}

fn choice(from: &Location, to: &Location, options: &CopyOptions) -> Result<Choice> {
    if options.all && options.platform.is_some() {
        return Err(Error::usage("`--all` and `--platform` exclude each other"));
    }
    if let Some(platform) = &options.platform {
        return Ok(Choice::One(platform.clone()));
    }
    let one = matches!(from, Location::Registry(_)) || !to.holds_indexes();
    Ok(if one && !options.all { Choice::Here } else { Choice::Whole })
}

/// Of an index the store may have one platform only: a part of it is not copied as if it were the whole.
fn is_whole(layout: &Layout, root: &Descriptor, from: &Location) -> Result<()> {
    let found = blobs::reachable(layout, root)?;
    let name = |leaf: &Leaf| match &leaf.platform {
        Some(platform) => format!("`{platform}`"),
        None => leaf.descriptor.digest().to_string(),
    };
    let absent: Vec<String> = found.incomplete().map(name).collect();
    if absent.is_empty() {
        return Ok(());
    }
    let there = found.leaves.iter().filter(|leaf| leaf.is_image && leaf.missing.is_empty());
    let there: Vec<String> = there.map(name).collect();
    let error = Error::image(format!("`{from}` is not here as a whole"))
        .cause(format!("of its index {} is missing", absent.join(", ")));
    Err(match there[..] {
        [] => error,
        _ => error.hint(format!("choose what is here with `--platform`: {}", there.join(", "))),
    })
}

fn one_only(layout: &Layout, root: &Descriptor, to: &Location) -> Result<()> {
    let leaves = read::leaves(layout, root)?;
    let images = leaves.iter().filter(|leaf| !crate::oci::media::is_attestation(leaf)).count();
    if images > 1 {
        return Err(Error::usage(format!("`{to}` holds one image, and there are {images}"))
            .hint("choose one with `--platform`, or write an `oci-archive:`"));
    }
    Ok(())
}

/// A docker-archive has no manifest, so that no digest of one survives.
fn keeps_digests(root: &Descriptor, source: &Descriptor, to: &Location) -> Result<()> {
    let error = || Error::image(format!("digests cannot be preserved on the way to `{to}`"));
    if !to.holds_indexes() {
        return Err(error()
            .cause("a docker-archive holds no manifest, and its layers are unpacked")
            .hint("use `oci-archive:`, or leave `--preserve-digests` out"));
    }
    if root.digest() != source.digest() {
        return Err(error().cause("the image is converted"));
    }
    Ok(())
}
