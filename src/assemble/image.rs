//! Config and manifest of the image: what is inherited, what the spec says, when it was made.

use super::base::Base;
use super::spec::{HistoryWish, Inherit, Spec};
use crate::error::{Error, Result};
use crate::layers::Layer;
use crate::oci::layout::Layout;
use crate::oci::spec::{
    self, Descriptor, History, ImageConfig, MediaType, RootFs, RunConfig, descriptor,
};
use crate::oci::{DiffId, Digest, media};
use oci_spec::image::ImageManifestBuilder;
use serde_json::{Map, Value};

/// What made the layers, in the history.
const CREATED_BY: &str = "nativebuild assemble";

/// Members that are merged name by name rather than replaced.
const MERGED: [&str; 4] = ["Env", "ExposedPorts", "Labels", "Volumes"];

/// A history entry of one layer.
pub(super) fn entry(created: &str, about: String) -> History {
    History {
        created: Some(created.to_owned()),
        created_by: Some(CREATED_BY.to_owned()),
        comment: (!about.is_empty()).then_some(about),
        ..History::default()
    }
}

/// The config, with all layers. `given` is what items of the contents ask for; the spec's own words win.
pub(super) fn config(
    spec: &Spec,
    base: &Base,
    given: &Map<String, Value>,
    new: &[(DiffId, String)],
    created: &str,
) -> Result<ImageConfig> {
    let mut run = inherited(&spec.inherit, &base.image.config.config)?;
    merge(&mut run, given);
    let own: Map<String, Value> =
        spec.config.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    // As with ENTRYPOINT in a Dockerfile: a Cmd of the base was meant for another program.
    if own.contains_key("Entrypoint") && !own.contains_key("Cmd") {
        run.remove("Cmd");
    }
    merge(&mut run, &own);
    let run: RunConfig = serde_json::from_value(Value::Object(run))
        .map_err(|error| Error::image("the config cannot be used").cause(error))?;
    let keeps_all = spec.inherit == Inherit::All;
    let from = &base.image.config;
    let mut history = base.history.clone();
    for (_, about) in new {
        let about = match spec.history {
            HistoryWish::PerLayer => about.clone(),
            HistoryWish::Plain => String::new(),
        };
        history.push(entry(created, about));
    }
    let old = base.image.layers.iter().map(|layer| layer.diff_id.clone());
    let diff_ids = old.chain(new.iter().map(|(diff_id, _)| diff_id.clone())).collect();
    let platform = &base.platform;
    Ok(ImageConfig {
        architecture: platform.architecture.clone(),
        author: spec.author.clone().or_else(|| from.author.clone().filter(|_| keeps_all)),
        config: run,
        created: Some(created.to_owned()),
        history,
        os: platform.os.clone(),
        rootfs: RootFs { diff_ids, ..RootFs::default() },
        variant: Some(platform.variant.clone()).filter(|variant| !variant.is_empty()),
        other: if keeps_all { from.other.clone() } else { spec::Other::new() },
    })
}

fn object(config: &RunConfig) -> Result<Map<String, Value>> {
    match serde_json::to_value(config) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Ok(Map::new()),
        Err(error) => Err(Error::internal("JSON of a config").cause(error)),
    }
}

fn inherited(wish: &Inherit, base: &RunConfig) -> Result<Map<String, Value>> {
    let mut members = object(base)?;
    match wish {
        Inherit::All => {}
        Inherit::None => members.clear(),
        Inherit::Some(names) => members.retain(|name, _| names.contains(name)),
    }
    Ok(members)
}

/// Puts members over others; null takes one away.
fn merge(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (key, value) in from {
        let merged = match (into.get_mut(key), value) {
            (_, Value::Null) => {
                into.remove(key);
                true
            }
            (Some(Value::Object(old)), Value::Object(new)) if MERGED.contains(&key.as_str()) => {
                for (name, value) in new {
                    old.insert(name.clone(), value.clone());
                }
                true
            }
            (Some(Value::Array(old)), Value::Array(new)) if key == "Env" => {
                for pair in new {
                    put_variable(old, pair);
                }
                true
            }
            _ => false,
        };
        if !merged {
            into.insert(key.clone(), value.clone());
        }
    }
}

/// A variable in its place, or behind the others.
fn put_variable(env: &mut Vec<Value>, pair: &Value) {
    let name =
        |value: &Value| value.as_str().and_then(|text| text.split('=').next().map(str::to_owned));
    match env.iter_mut().find(|known| name(known) == name(pair)) {
        Some(known) => *known = pair.clone(),
        None => env.push(pair.clone()),
    }
}

/// Writes config and manifest; the manifest's descriptor and the config's digest.
pub(super) fn write(
    spec: &Spec,
    images: &Layout,
    config: &ImageConfig,
    base: &Base,
    new: &[Layer],
) -> Result<(Descriptor, Digest)> {
    let bytes = spec::to_json(config)?;
    let config_digest = images.put_blob(&bytes)?;
    let layers: Vec<Descriptor> = base
        .image
        .layers
        .iter()
        .chain(new)
        .map(|layer| descriptor(media::oci_layer(&layer.media_type), &layer.digest, layer.size))
        .collect();
    let mut manifest = ImageManifestBuilder::default()
        .schema_version(oci_spec::image::SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(descriptor(MediaType::ImageConfig, &config_digest, bytes.len() as u64))
        .layers(layers)
        .build()
        .map_err(|error| Error::internal("cannot make a manifest").cause(error))?;
    if !spec.annotations.is_empty() {
        manifest.set_annotations(Some(spec.annotations.clone().into_iter().collect()));
    }
    let bytes = spec::to_json(&manifest)?;
    let digest = images.put_blob(&bytes)?;
    let mut made = descriptor(MediaType::ImageManifest, &digest, bytes.len() as u64);
    made.set_platform(Some(base.platform.to_oci()));
    Ok((made, config_digest))
}
