//! Indexes made and changed: `image index create|add|rm|annotate`.
//!
//! An index is edited as JSON, so that members that we do not know stay. In a registry only the index itself is sent
//! where its repository has the images already; others are copied there first, by digest.

mod members;
mod write;

use super::deliver::Delivered;
use super::{Access, Location, read};
use crate::error::{Error, Result};
use crate::oci::blobs::{self, Parsed};
use crate::oci::media;
use crate::oci::spec;
use crate::oci::{Digest, Platform};
use members::{gather, present};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use write::{targets, write};

/// An image for an index.
#[derive(Clone, Debug)]
pub struct Member {
    /// Where it is.
    pub location: Location,
    /// What the index says it is made for; by default what its config says.
    pub platform: Option<Stated>,
}

/// A platform in an index, as the user spells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stated {
    /// `os`; empty: of the config.
    pub os: String,
    /// `architecture`; empty: of the config.
    pub architecture: String,
    /// `variant`.
    pub variant: Option<String>,
    /// `os.version`.
    pub os_version: Option<String>,
    /// `os.features`.
    pub os_features: Vec<String>,
}

impl Stated {
    /// From `os/arch[/variant]`, checked.
    pub fn parse(text: &str) -> Result<Self> {
        Platform::parse(text)?;
        let mut parts = text.trim().split('/').map(str::to_owned);
        let os = parts.next().unwrap_or_default();
        let Some(architecture) = parts.next() else {
            return Err(Error::usage(format!(
                "`{text}` is no platform: expected `os/arch[/variant]`"
            )));
        };
        Ok(Self { os, architecture, variant: parts.next(), ..Self::default() })
    }

    /// `OS`, `ARCH` and `VARIANT` in a template replaced; nothing stands for a missing variant.
    pub fn fill(&self, template: &str) -> String {
        // The longest first: a name may hold one word inside another.
        template
            .replace("VARIANT", self.variant.as_deref().unwrap_or_default())
            .replace("ARCH", &self.architecture)
            .replace("OS", &self.os)
    }
}

/// How to make an index.
#[derive(Clone, Debug, Default)]
pub struct Create {
    /// Docker's media type instead of OCI's.
    pub docker: bool,
    /// Members that are not there are left out.
    pub ignore_missing: bool,
    /// Of the index.
    pub annotations: BTreeMap<String, String>,
    /// Further tags for the index.
    pub tags: Vec<String>,
}

/// Makes an index of images, in the order given.
pub fn create(
    access: &Access<'_>,
    to: &Location,
    members: &[Member],
    options: &Create,
) -> Result<Delivered> {
    let targets = targets(to, &options.tags)?;
    let members = present(access, members, options.ignore_missing)?;
    let (entries, sources) = gather(access, to, &members)?;
    let media_type = if options.docker { media::DOCKER_LIST } else { media::OCI_INDEX };
    let mut index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries});
    if !options.annotations.is_empty() {
        index["annotations"] = json!(options.annotations);
    }
    write(access, &targets, &index, &sources)
}

/// Adds images to an index; where it has a platform already, the new one takes its place.
pub fn add(access: &Access<'_>, to: &Location, members: &[Member]) -> Result<Delivered> {
    let mut index = load(access, to)?;
    let (entries, sources) = gather(access, to, members)?;
    let all = manifests(&mut index);
    for entry in entries {
        all.retain(|old| {
            old["digest"] != entry["digest"]
                && (old["platform"].is_null() || old["platform"] != entry["platform"])
        });
        all.push(entry);
    }
    write(access, &targets(to, &[])?, &index, &sources)
}

/// Removes entries by digest or platform; one that is not there is an error.
pub fn remove(access: &Access<'_>, to: &Location, which: &[String]) -> Result<Delivered> {
    let mut index = load(access, to)?;
    for which in which {
        let found = find(&mut index, which)?;
        let mut at = 0;
        manifests(&mut index).retain(|_| {
            at += 1;
            !found.contains(&(at - 1))
        });
    }
    if manifests(&mut index).is_empty() {
        return Err(Error::usage("nothing would be left in the index")
            .hint("`image rm` removes the whole name"));
    }
    write(access, &targets(to, &[])?, &index, &[])
}

/// What `annotate` changes.
#[derive(Clone, Debug, Default)]
pub struct Annotate {
    /// Digest or platform of an entry; `None` means the index itself.
    pub which: Option<String>,
    /// Annotations; an empty value removes one.
    pub annotations: BTreeMap<String, String>,
    /// What an entry says it is made for; empty members stay.
    pub platform: Stated,
}

/// Changes annotations of an index or one of its entries, and what the entry says it is made for.
pub fn annotate(access: &Access<'_>, to: &Location, change: &Annotate) -> Result<Delivered> {
    let mut index = load(access, to)?;
    let stated = change.platform != Stated::default();
    let targets = targets(to, &[])?;
    match &change.which {
        None if stated => {
            return Err(Error::usage("an index has no platform, its entries have")
                .hint("name an entry by its platform or digest"));
        }
        None => set_annotations(&mut index, &change.annotations),
        Some(which) => {
            for at in find(&mut index, which)? {
                let entry = &mut manifests(&mut index)[at];
                set_annotations(entry, &change.annotations);
                if stated {
                    let platform = overlay(entry["platform"].take(), &change.platform);
                    entry["platform"] = platform;
                }
            }
        }
    }
    write(access, &targets, &index, &[])
}

fn set_annotations(of: &mut Value, new: &BTreeMap<String, String>) {
    if new.is_empty() {
        return;
    }
    let mut all = of["annotations"].as_object().cloned().unwrap_or_default();
    for (key, value) in new {
        if value.is_empty() {
            all.remove(key);
        } else {
            all.insert(key.clone(), value.clone().into());
        }
    }
    if all.is_empty() {
        of.as_object_mut().map(|of| of.remove("annotations"));
    } else {
        of["annotations"] = all.into();
    }
}

/// What is stated over what is there.
fn overlay(present: Value, stated: &Stated) -> Value {
    let mut platform = present.as_object().cloned().unwrap_or_default();
    let mut set = |key: &str, value: &str| {
        if !value.is_empty() {
            platform.insert(key.to_owned(), value.into());
        }
    };
    set("os", &stated.os);
    set("architecture", &stated.architecture);
    set("variant", stated.variant.as_deref().unwrap_or_default());
    set("os.version", stated.os_version.as_deref().unwrap_or_default());
    if !stated.os_features.is_empty() {
        platform.insert("os.features".to_owned(), json!(stated.os_features));
    }
    platform.into()
}

/// The index at a location.
fn load(access: &Access<'_>, location: &Location) -> Result<Value> {
    // What a mirror has may be old, and what others did meanwhile would be lost.
    let (root, bytes) = if let Location::Registry(name) = location {
        access.registry()?.current(name)?.ok_or_else(|| {
            Error::image(format!("there is no `{location}` to change"))
                .hint("`image index create` makes an index")
        })?
    } else {
        let opened = access.open(location)?;
        let bytes = opened.blobs().required(&opened.root)?;
        (opened.root, bytes)
    };
    let mut value: Value = spec::from_json(&format!("`{location}`"), &bytes)?;
    if !matches!(blobs::parse(&root, &bytes)?, Parsed::Index(_)) {
        return Err(Error::image(format!("`{location}` is no index, but one image"))
            .hint("`image index create` makes an index of images"));
    }
    if value.get("mediaType").is_none() {
        value["mediaType"] = root.media_type().to_string().into();
    }
    if manifests(&mut value).len() > read::MAX_ENTRIES {
        let most = read::MAX_ENTRIES;
        return Err(Error::integrity(format!("the index has more than {most} entries")));
    }
    Ok(value)
}

fn manifests(index: &mut Value) -> &mut Vec<Value> {
    let slot = &mut index["manifests"];
    if !slot.is_array() {
        *slot = Value::Array(Vec::new());
    }
    slot.as_array_mut().expect("made an array above")
}

/// Entries that a digest or a platform names.
fn find(index: &mut Value, which: &str) -> Result<Vec<usize>> {
    let digest = Digest::parse(which).ok();
    let platform = match digest {
        Some(_) => None,
        None => Some(Platform::parse(which)?),
    };
    let all = manifests(index);
    let is_it = |entry: &Value| match (&digest, &platform) {
        (Some(digest), _) => entry["digest"] == digest.as_str(),
        (None, Some(platform)) => platform_of(entry).as_ref() == Some(platform),
        (None, None) => false,
    };
    let found: Vec<usize> =
        all.iter().enumerate().filter(|(_, entry)| is_it(entry)).map(|(at, _)| at).collect();
    if found.is_empty() {
        let known: Vec<String> =
            all.iter().filter_map(platform_of).map(|p| p.to_string()).collect();
        return Err(Error::image(format!("there is no entry `{which}` in the index"))
            .hint(format!("it has: {}", known.join(", "))));
    }
    Ok(found)
}

fn platform_of(entry: &Value) -> Option<Platform> {
    let text = |key: &str| entry["platform"][key].as_str().unwrap_or_default();
    let (os, arch) = (text("os"), text("architecture"));
    (!os.is_empty()).then(|| Platform::new(os, arch, text("variant")))
}
