//! `layers` and `nixDatabase`.

use super::reader::{Field, Fields, Reader};
use super::{Layers, NixDatabase, Placed, Strategy, keys};
use crate::yaml::shorten;
use std::collections::HashMap;

/// More layers than these no engine takes.
const ENGINES_TAKE: usize = 127;

/// `layers`, or what is so without it.
pub(super) fn read(reader: &mut Reader, top: &Fields) -> Layers {
    let field = top.get("layers");
    let place = field.as_ref().map_or(top.span, |field| field.node.span);
    let mut layers = Layers {
        strategy: Placed { value: Strategy::One, span: place },
        max: None,
        groups: Vec::new(),
        prebuilt: Vec::new(),
        dedup: true,
    };
    if let Some(fields) = field.and_then(|field| reader.fields(&field, keys::LAYERS)) {
        fill(reader, &fields, &mut layers);
    }
    layers
}

fn fill(reader: &mut Reader, fields: &Fields, layers: &mut Layers) {
    if let Some(field) = fields.get("strategy") {
        layers.strategy.span = field.node.span;
        match reader.word(&field, keys::STRATEGIES) {
            Some(strategy) => layers.strategy.value = strategy,
            // What goes with a strategy that nobody knows cannot be said.
            None => return,
        }
    }
    layers.max = fields.get("max").and_then(|field| max(reader, &field));
    let dedup = fields.get("dedup").and_then(|field| reader.word(&field, keys::DEDUP));
    layers.dedup = dedup.unwrap_or(true);
    let groups = fields.get("groups");
    let is_explicit = layers.strategy.value == Strategy::Explicit;
    match &groups {
        Some(field) if !is_explicit => {
            let message = "`groups` goes with `strategy: explicit` only";
            reader.wrong(field.key, message, "write `strategy: explicit`, or remove `groups`");
        }
        None if is_explicit => {
            let message = "`strategy: explicit` needs `groups`";
            let hint = "name the paths of each layer: `groups: [[/nix/store], [/etc, /srv]]`";
            reader.wrong(layers.strategy.span, message, hint);
        }
        _ => {}
    }
    layers.groups = groups.map(|field| read_groups(reader, &field)).unwrap_or_default();
    if let Some(field) = fields.get("prebuilt") {
        let items = reader.items(&field).unwrap_or_default();
        layers.prebuilt = items.iter().filter_map(|item| reader.host_path(item)).collect();
    }
}

fn max(reader: &mut Reader, field: &Field) -> Option<Placed<usize>> {
    let max = reader.problems.integer(&field.node, &field.what, &(1..=i128::from(u16::MAX)))?;
    let value = usize::try_from(max).ok()?;
    let span = field.node.span;
    if value > ENGINES_TAKE {
        let message =
            format!("`layers.max` is {value}, and engines take {ENGINES_TAKE} layers at most");
        reader.warn(span, &message);
    }
    Some(Placed { value, span })
}

/// Lists of paths; a path stands in one of them only.
fn read_groups(reader: &mut Reader, field: &Field) -> Vec<Vec<Placed<String>>> {
    let mut groups = Vec::new();
    let mut first: HashMap<String, Placed<String>> = HashMap::new();
    for group in reader.items(field).unwrap_or_default() {
        let Some(items) = reader.items(&group) else { continue };
        if items.is_empty() {
            reader.problems.report(group.node.span, format!("`{}` is empty", group.what));
        }
        let paths: Vec<_> = items.iter().filter_map(|item| reader.image_path(item)).collect();
        for path in &paths {
            if let Some(other) = first.insert(path.value.clone(), path.clone()) {
                let message = format!("`{}` is in two layers", shorten(&path.value));
                let hint = format!("it was given {}", reader.line(other.span));
                reader.wrong(path.span, message, &hint);
            }
        }
        groups.push(paths);
    }
    groups
}

/// `nixDatabase`; none when it says `include: false`.
pub(super) fn nix_database(reader: &mut Reader, field: &Field) -> Option<NixDatabase> {
    let fields = reader.fields(field, keys::NIX_DATABASE)?;
    let include = fields.get("include").and_then(|field| reader.boolean(&field));
    let gcroots = fields.get("gcroots").and_then(|field| gcroots(reader, &field));
    let merge_base = fields.get("mergeBase").and_then(|field| reader.boolean(&field));
    let merge_base = merge_base.unwrap_or(true);
    let database = NixDatabase { span: field.node.span, gcroots, merge_base };
    include.unwrap_or(true).then_some(database)
}

/// The name of one directory.
fn gcroots(reader: &mut Reader, field: &Field) -> Option<String> {
    let name = reader.filled(field)?;
    if name.value.contains('/') || name.value == "." || name.value == ".." {
        let message = format!("`{}` must be one name, not `{}`", field.what, shorten(&name.value));
        reader.wrong(name.span, message, "for example `docker`");
        return None;
    }
    Some(name.value)
}
