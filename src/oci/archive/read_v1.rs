//! Reads archives from before Docker 1.10: `repositories` names the top layer, each `<id>/json` its parent.
//!
//! There is no config blob in this form: one is made from the top layer's JSON, with a history entry a layer.

use super::{
    Container, ImportedImage, Select, name_matches,
    read_docker::{Layers, put_manifest},
    selected,
};
use crate::{
    error::{Error, Result},
    oci::{
        layout::Layout,
        reference::Reference,
        spec::{self, History, ImageConfig, RootFs, RunConfig},
    },
};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Longest chain of parents.
const MAX_LAYERS: usize = 1000;

/// A layer's JSON.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct LayerJson {
    parent: Option<String>,
    architecture: String,
    os: String,
    variant: Option<String>,
    author: Option<String>,
    comment: Option<String>,
    created: Option<String>,
    config: Option<RunConfig>,
    container_config: Option<RunConfig>,
}

/// Names and the top layer that they mean.
#[derive(Clone, Debug)]
struct Entry {
    top: String,
    names: Vec<Reference>,
}

/// Takes the selected images.
pub(super) fn read(
    container: &Container,
    select: &Select,
    layout: &Layout,
) -> Result<Vec<ImportedImage>> {
    let repositories: BTreeMap<String, BTreeMap<String, String>> =
        container.json("repositories")?;
    let mut tops: BTreeMap<String, Vec<Reference>> = BTreeMap::new();
    for (repository, tags) in &repositories {
        for (tag, top) in tags {
            let names = tops.entry(top.clone()).or_default();
            names.extend(Reference::parse(&format!("{repository}:{tag}")));
        }
    }
    let all = tops.into_iter().map(|(top, names)| Entry { top, names }).collect();
    let is_named =
        |entry: &Entry, wanted: &str| entry.names.iter().any(|name| name_matches(name, wanted));
    let shown = |entry: &Entry| entry.names.iter().map(Reference::familiar).collect();
    let mut layers = Layers::new(container, layout);
    selected(all, select, is_named, shown)?
        .into_iter()
        .map(|entry| image(container, entry, &mut layers, layout))
        .collect()
}

fn image(
    container: &Container,
    entry: Entry,
    layers: &mut Layers<'_>,
    layout: &Layout,
) -> Result<ImportedImage> {
    let chain = chain(container, &entry.top)?;
    let mut rootfs = RootFs::default();
    let mut stored = Vec::new();
    let mut history = Vec::new();
    for (id, json) in &chain {
        let (descriptor, diff_id) = layers.take(&format!("{id}/layer.tar"))?;
        stored.push(descriptor);
        rootfs.diff_ids.push(diff_id);
        let command = json.container_config.as_ref().and_then(|config| config.cmd.as_ref());
        history.push(History {
            created: json.created.clone(),
            created_by: command.map(|words| words.join(" ")),
            author: json.author.clone().filter(|author| !author.is_empty()),
            comment: json.comment.clone().filter(|comment| !comment.is_empty()),
            ..History::default()
        });
    }
    let top = chain.last().map(|(_, json)| json.clone()).unwrap_or_default();
    let known = |text: String, default: &str| if text.is_empty() { default.into() } else { text };
    let config = ImageConfig {
        architecture: known(top.architecture, "amd64"),
        os: known(top.os, "linux"),
        variant: top.variant,
        author: top.author.filter(|author| !author.is_empty()),
        config: top.config.unwrap_or_default(),
        created: top.created,
        history,
        rootfs,
        ..ImageConfig::default()
    };
    let descriptor = put_manifest(layout, &spec::to_json(&config)?, stored)?;
    Ok(ImportedImage { descriptor, names: entry.names, tag: None, incomplete: Vec::new() })
}

/// The layers below and with `top`, bottom first.
fn chain(container: &Container, top: &str) -> Result<Vec<(String, LayerJson)>> {
    let mut all = Vec::new();
    let mut next = Some(top.to_owned());
    while let Some(id) = next.take().filter(|id| !id.is_empty()) {
        if all.len() >= MAX_LAYERS {
            return Err(Error::integrity(format!(
                "layer `{top}` has more than {MAX_LAYERS} parents, or is its own"
            )));
        }
        let json: LayerJson = container.json(&format!("{id}/json"))?;
        let parent = json.parent.clone();
        all.push((id, json));
        next = parent;
    }
    all.reverse();
    Ok(all)
}
