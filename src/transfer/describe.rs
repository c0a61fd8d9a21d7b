//! `image inspect`: an image as text for people and as JSON for programs.

use super::read::{self, Image};
use super::{Access, Location};
use crate::error::Result;
use crate::oci::media::{self, Packing};
use crate::oci::platform::Platform;
use crate::oci::spec::{self, Descriptor};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// What is known about an image without reading its layers.
#[derive(Clone, Debug)]
pub struct Description {
    /// Where it is, as the user writes it.
    pub name: String,
    /// For an image of the store, where it came from.
    pub origin: Option<String>,
    /// What the name leads to.
    pub root: Descriptor,
    /// The manifest or index as it is.
    pub bytes: Vec<u8>,
    /// Entries of an index, with what is behind them where that is here.
    entries: Option<Vec<(Descriptor, Option<Brief>)>>,
    /// The image for the platform asked for, else for this machine.
    pub image: Option<Image>,
}

/// What is kept of an entry: an index may have thousands.
#[derive(Clone, Debug)]
struct Brief {
    platform: Option<Platform>,
    size: u64,
    layers: usize,
}

impl Brief {
    fn of(image: &Image) -> Self {
        let layers = image.manifest.layers().len();
        Self { platform: image.platform(), size: image.size(), layers }
    }
}

/// Looks at an image. With a platform there must be an image for it.
pub fn describe(
    access: &Access<'_>,
    location: &Location,
    platform: Option<&Platform>,
) -> Result<Description> {
    let opened = access.open(location)?;
    let blobs = opened.blobs();
    let (name, origin) = match location {
        Location::Store(name) => (name.to_string(), Some(access.stored(name)?.origin.to_string())),
        other => (other.to_string(), None),
    };
    let bytes = blobs.required(&opened.root)?;
    let mut entries = None;
    if read::is_index(blobs, &opened.root)? {
        let mut all = Vec::new();
        for leaf in read::leaves(blobs, &opened.root)? {
            let here = !media::is_attestation(&leaf) && blobs.document(&leaf)?.is_some();
            let image = if here { read::image(blobs, &leaf).ok() } else { None };
            all.push((leaf, image.as_ref().map(Brief::of)));
        }
        entries = Some(all);
    }
    let image = match (read::choose(blobs, &opened.root, platform), platform, &entries) {
        (Ok(image), ..) => Some(image),
        // An index can be described without an image for this machine.
        (Err(_), None, Some(_)) => None,
        (Err(error), ..) => return Err(error),
    };
    Ok(Description { name, origin, root: opened.root, bytes, entries, image })
}

impl Description {
    /// For people.
    pub fn text(&self, only_image: bool) -> String {
        let mut out = String::new();
        let mut line = |label: &str, value: &str| {
            let _always = writeln!(out, "{label:<11}{value}");
        };
        line("Name:", &self.name);
        if let Some(origin) = &self.origin {
            line("Origin:", origin);
        }
        line("Digest:", self.root.digest().as_ref());
        line("Type:", self.root.media_type().as_ref());
        if let Some(entries) = self.entries.as_ref().filter(|_| !only_image) {
            line("Entries:", &entries.len().to_string());
            out.push_str(&table(entries));
            return out;
        }
        if let Some(image) = &self.image {
            if self.entries.is_some() {
                line("Manifest:", image.descriptor.digest().as_ref());
            }
            image_lines(image, &mut out);
        }
        out
    }

    /// For programs; the form stays.
    pub fn json(&self) -> Result<Value> {
        let platforms: Vec<String> = match &self.entries {
            None => self.image.iter().filter_map(Image::platform).map(|p| p.to_string()).collect(),
            Some(entries) => entries.iter().filter_map(platform_of).collect(),
        };
        let mut value = json!({
            "name": self.name,
            "descriptor": self.root,
            "platforms": platforms,
        });
        if let Some(origin) = &self.origin {
            value["origin"] = origin.as_str().into();
        }
        if let Some(image) = &self.image {
            value["manifest_digest"] = image.descriptor.digest().to_string().into();
            value["manifest"] = json!(image.manifest);
            value["size"] = image.size().into();
            value["config"] = match &image.config {
                Some(config) => json!(config),
                None => spec::from_json("config", &image.config_bytes).unwrap_or(Value::Null),
            };
        }
        if let Some(entries) = &self.entries {
            value["manifests"] = entries.iter().map(|(descriptor, _)| json!(descriptor)).collect();
        }
        Ok(value)
    }
}

fn platform_of((descriptor, brief): &(Descriptor, Option<Brief>)) -> Option<String> {
    if media::is_attestation(descriptor) {
        return None;
    }
    let stated = Platform::of_descriptor(descriptor);
    stated.or_else(|| brief.as_ref()?.platform.clone()).map(|platform| platform.to_string())
}

fn table(entries: &[(Descriptor, Option<Brief>)]) -> String {
    let rows: Vec<[String; 3]> = entries
        .iter()
        .map(|entry| {
            let what = match platform_of(entry) {
                Some(platform) => platform,
                None if media::is_attestation(&entry.0) => "attestation".to_owned(),
                None => "no platform".to_owned(),
            };
            let size = match &entry.1 {
                Some(brief) => format!("{}, {}", size(brief.size), layers(brief.layers)),
                None if media::is_attestation(&entry.0) => String::new(),
                None => "not here".to_owned(),
            };
            [what, entry.0.digest().to_string(), size]
        })
        .collect();
    let width = rows.iter().map(|row| row[0].chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for [what, digest, size] in rows {
        let line = format!("  {what:<width$}  {digest}  {size}");
        let _always = writeln!(out, "{}", line.trim_end());
    }
    out
}

fn layers(count: usize) -> String {
    match count {
        1 => "1 layer".to_owned(),
        count => format!("{count} layers"),
    }
}

fn image_lines(image: &Image, out: &mut String) {
    let mut line = |label: &str, value: &str| {
        let _always = writeln!(out, "{label:<11}{value}");
    };
    if let Some(platform) = image.platform() {
        line("Platform:", &platform.to_string());
    }
    line("Size:", &size(image.size()));
    if let Some(config) = &image.config {
        if let Some(created) = &config.created {
            line("Created:", created);
        }
        let run = &config.config;
        let words = |words: &Vec<String>| json!(words).to_string();
        if let Some(entrypoint) = &run.entrypoint {
            line("Entrypoint:", &format!(" {}", words(entrypoint)));
        }
        if let Some(cmd) = &run.cmd {
            line("Cmd:", &words(cmd));
        }
        for (label, value) in [("User:", &run.user), ("WorkingDir:", &run.working_dir)] {
            if !value.is_empty() {
                let space = if label.len() == 11 { " " } else { "" };
                line(label, &format!("{space}{}", value.escape_debug()));
            }
        }
        for (at, variable) in run.env.iter().enumerate() {
            line(if at == 0 { "Env:" } else { "" }, &variable.escape_debug().to_string());
        }
        for (at, (key, value)) in run.labels.iter().enumerate() {
            let text = format!("{}={}", key.escape_debug(), value.escape_debug());
            line(if at == 0 { "Labels:" } else { "" }, &text);
        }
    }
    line("Layers:", &image.manifest.layers().len().to_string());
    for (at, layer) in image.manifest.layers().iter().enumerate() {
        let packing = match media::layer_packing(layer.media_type()) {
            Some(Packing::Tar) => "tar",
            Some(Packing::Gzip | Packing::Any) => "gzip",
            Some(Packing::Zstd) => "zstd",
            None => layer.media_type().as_ref(),
        };
        let text = format!("{:>4}  {}  {}  {packing}", at + 1, layer.digest(), size(layer.size()));
        let _always = writeln!(out, "{text}");
    }
}

/// Bytes in the unit that suits them, with one decimal.
fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut tenths, mut unit) = (u128::from(bytes) * 10, None);
    for name in units {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = Some(name);
    }
    unit.map_or(format!("{bytes} B"), |unit| format!("{}.{} {unit}", tenths / 10, tenths % 10))
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_units() {
        let table = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (41_779_632, "39.8 MiB"),
            (u64::MAX, "15.9 EiB"),
        ];
        for (bytes, shown) in table {
            assert_eq!(size(bytes), shown);
        }
    }
}
