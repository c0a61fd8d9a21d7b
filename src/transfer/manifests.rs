//! `manifest inspect`: what a name leads to, entry by entry, in the layouts of manifest-tool 1 and 2.

use super::Opened;
use super::read::{self, Image};
use crate::error::{Error, Result};
use crate::oci::blobs::{self, Blobs, Parsed};
use crate::oci::media;
use crate::oci::platform::Platform;
use crate::oci::spec::{Descriptor, ImageIndex};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Layers that are listed for one name.
const MAX_LAYERS: usize = 200_000;

/// A name and what is behind it.
#[derive(Clone, Debug)]
pub struct Listing {
    /// As the user wrote it.
    pub name: String,
    /// What the name leads to.
    pub root: Descriptor,
    /// The document as served.
    pub bytes: Vec<u8>,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Image(Box<Image>),
    Index(Vec<Listed>),
}

/// An entry of an index.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) descriptor: Descriptor,
    /// Layers of a manifest that is here.
    pub(super) layers: Option<Vec<Descriptor>>,
}

/// Reads what is behind a name; with a platform only the image for it.
pub fn list(opened: &Opened, name: &str, platform: Option<&Platform>) -> Result<Listing> {
    let blobs = opened.blobs();
    let mut root = opened.root.clone();
    if let Some(platform) = platform {
        root = read::choose(blobs, &root, Some(platform))?.descriptor;
    }
    let bytes = blobs.required(&root)?;
    let content = match blobs::parse(&root, &bytes)? {
        Parsed::Index(index) => Content::Index(entries(blobs, &index)?),
        Parsed::Manifest(_) => Content::Image(Box::new(read::image(blobs, &root)?)),
    };
    Ok(Listing { name: name.to_owned(), root, bytes, content })
}

fn entries(blobs: &dyn Blobs, index: &ImageIndex) -> Result<Vec<Listed>> {
    let count = index.manifests().len();
    if count > read::MAX_ENTRIES {
        let most = read::MAX_ENTRIES;
        return Err(Error::integrity(format!("the index has {count} entries, more than {most}")));
    }
    let (mut all, mut total) = (Vec::new(), 0);
    for descriptor in index.manifests() {
        let kind = media::kind_of(descriptor.media_type().as_ref());
        let mut layers = None;
        if kind == Some(media::Document::Manifest)
            && let Some(bytes) = blobs.document(descriptor)?
            && let Parsed::Manifest(manifest) = blobs::parse(descriptor, &bytes)?
        {
            total += manifest.layers().len();
            if total > MAX_LAYERS {
                return Err(Error::integrity(format!(
                    "the index leads to more than {MAX_LAYERS} layers"
                )));
            }
            layers = Some(manifest.layers().clone());
        }
        all.push(Listed { descriptor: descriptor.clone(), layers });
    }
    Ok(all)
}

impl Listing {
    /// manifest-tool 1's layout. A single manifest has a line with its size besides.
    pub fn text(&self) -> String {
        let entries = match &self.content {
            Content::Image(image) => return self.single(image, 1),
            Content::Index(entries) => entries,
        };
        let mut out = self.head();
        line(&mut out, &format!(" * Contains {} manifest references:", entries.len()));
        for (at, entry) in entries.iter().enumerate() {
            let n = at + 1;
            let d = &entry.descriptor;
            let p = Words::of(d);
            for (label, value) in [
                ("    Mfst Type: ", d.media_type().to_string()),
                ("       Digest: ", d.digest().to_string()),
                ("  Mfst Length: ", d.size().to_string()),
                ("     Platform:", String::new()),
                ("           -      OS: ", p.os),
                ("           - OS Vers: ", p.version),
                ("           - OS Feat: ", format!("[{}]", p.features.join(" "))),
                ("           -    Arch: ", p.arch),
                ("           - Variant: ", p.variant),
                ("     # Layers: ", entry.count()),
            ] {
                line(&mut out, &format!("{n}{label}{value}"));
            }
            for (at, layer) in entry.layers.iter().flatten().enumerate() {
                line(&mut out, &format!("         layer {}: digest = {}", at + 1, layer.digest()));
            }
            out.push('\n');
        }
        out
    }

    /// manifest-tool 2's layout.
    pub fn text_v2(&self) -> String {
        let entries = match &self.content {
            Content::Image(image) => return self.single(image, 2),
            Content::Index(entries) => entries,
        };
        let about = |entry: &&Listed| media::is_attestation(&entry.descriptor);
        let attestations = entries.iter().filter(about).count();
        let images = entries.len() - attestations;
        let many = |count: usize, word: &str| {
            format!("{count} {word}{}", if count > 1 { "s" } else { "" })
        };
        let mut out = self.head();
        line(
            &mut out,
            &format!(
                " * Contains {} manifest references ({}, {}):",
                entries.len(),
                many(images, "image"),
                many(attestations, "attestation")
            ),
        );
        for (at, entry) in entries.iter().enumerate() {
            entry.v2(at + 1, &mut out);
        }
        out
    }

    fn head(&self) -> String {
        let (name, kind, digest) = (&self.name, self.root.media_type(), self.root.digest());
        format!("Name:   {name} (Type: {kind})\nDigest: {digest}\n")
    }

    fn single(&self, image: &Image, version: u8) -> String {
        let (name, kind, digest) = (&self.name, self.root.media_type(), self.root.digest());
        let platform = image.platform();
        let (os, arch) =
            platform.map(|platform| (platform.os, platform.architecture)).unwrap_or_default();
        let layers = image.manifest.layers();
        let mut out = format!("Name:   {name} (Type: {kind})\n      Digest: {digest}\n");
        if version == 2 {
            out = format!("Name: {name} (Type: {kind})\n      Digest: {digest}\n");
        }
        line(&mut out, &format!("        Size: {}", self.root.size()));
        line(&mut out, &format!("          OS: {os}"));
        line(&mut out, &format!("        Arch: {arch}"));
        line(&mut out, &format!("    # Layers: {}", layers.len()));
        for (at, layer) in layers.iter().enumerate() {
            let number = if version == 2 { format!("{:02}", at + 1) } else { (at + 1).to_string() };
            line(&mut out, &format!("      layer {number}: digest = {}", layer.digest()));
        }
        out
    }

    /// What ocidist shows: digest and size of what the name leads to, then the document.
    pub fn detail(&self) -> Vec<u8> {
        let (digest, size) = (self.root.digest(), self.root.size());
        let mut out = format!("referenced manifest hash {digest} size {size}\n").into_bytes();
        out.extend_from_slice(&self.bytes);
        if !out.ends_with(b"\n") {
            out.push(b'\n');
        }
        out
    }

    /// For programs; the form stays.
    pub fn json(&self) -> Value {
        let mut value = json!({
            "name": self.name,
            "mediaType": self.root.media_type(),
            "digest": self.root.digest(),
            "size": self.root.size(),
        });
        match &self.content {
            Content::Image(image) => {
                value["platform"] =
                    image.platform().map_or(Value::Null, |platform| platform.to_string().into());
                value["layers"] = json!(image.manifest.layers());
            }
            Content::Index(entries) => {
                let entry = |entry: &Listed| {
                    let mut value = json!(entry.descriptor);
                    value["layers"] = json!(entry.layers);
                    value
                };
                value["manifests"] = entries.iter().map(entry).collect();
            }
        }
        value
    }
}

impl Listed {
    fn count(&self) -> String {
        let kind = media::kind_of(self.descriptor.media_type().as_ref());
        match &self.layers {
            Some(all) => all.len().to_string(),
            None if kind == Some(media::Document::Index) => "an index, which has none".to_owned(),
            None => "not here".to_owned(),
        }
    }

    fn v2(&self, n: usize, out: &mut String) {
        let d = &self.descriptor;
        let about = d.annotations().as_ref().and_then(|all| {
            let kind = all.get("vnd.docker.reference.type")?;
            (kind == "attestation-manifest").then(|| all.get("vnd.docker.reference.digest"))
        });
        let note = match about {
            Some(_) => " (vnd.docker.reference.type=attestation-manifest)",
            None => "",
        };
        line(out, &format!("[{n}]     Type: {}{note}", d.media_type()));
        line(out, &format!("[{n}]   Digest: {}", d.digest()));
        line(out, &format!("[{n}]   Length: {}", d.size()));
        if let Some(of) = about {
            let of = of.map_or("", String::as_str);
            line(out, &format!("[{n}]       >>> Attestation for digest: {of}\n"));
            return;
        }
        line(out, &format!("[{n}] Platform:"));
        let p = Words::of(d);
        if d.platform().is_none() {
            line(out, &format!("[{n}]    -      (no platform specified)"));
        } else {
            line(out, &format!("[{n}]    -      OS: {}", p.os));
            if !p.version.is_empty() {
                line(out, &format!("[{n}]    - OS Vers: {}", p.version));
            }
            if !p.features.is_empty() {
                line(out, &format!("[{n}]    - OS Feat: [{}]", p.features.join(" ")));
            }
            line(out, &format!("[{n}]    -    Arch: {}", p.arch));
            if !p.variant.is_empty() {
                line(out, &format!("[{n}]    - Variant: {}", p.variant));
            }
        }
        line(out, &format!("[{n}] # Layers: {}", self.count()));
        for (at, layer) in self.layers.iter().flatten().enumerate() {
            line(out, &format!("     layer {:02}: digest = {}", at + 1, layer.digest()));
            line(out, &format!("                 type = {}", layer.media_type()));
        }
        out.push('\n');
    }
}

/// A platform as the index spells it.
#[derive(Default)]
struct Words {
    os: String,
    version: String,
    features: Vec<String>,
    arch: String,
    variant: String,
}

impl Words {
    fn of(descriptor: &Descriptor) -> Self {
        let Some(platform) = descriptor.platform() else { return Self::default() };
        Self {
            os: platform.os().to_string(),
            version: platform.os_version().clone().unwrap_or_default(),
            features: platform.os_features().clone().unwrap_or_default(),
            arch: platform.architecture().to_string(),
            variant: platform.variant().clone().unwrap_or_default(),
        }
    }
}

fn line(out: &mut String, text: &str) {
    let _always = writeln!(out, "{text}");
}
