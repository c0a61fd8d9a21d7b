//! `preset`: things that most images need, by name, some with options.
//!
//! `NAME`, or `{NAME: {OPTION: VALUE}}`; a list of them, or one.

use super::reader::{Field, Fields, Reader};
use super::{Placed, Preset, keys};
use crate::yaml::{Entry, Value};
use std::rc::Rc;

/// The presets of one item.
pub(super) fn read(reader: &mut Reader, field: &Field) -> Vec<Placed<Preset>> {
    let items = match field.node.value {
        Value::List(_) => reader.items(field).unwrap_or_default(),
        _ => vec![field.clone()],
    };
    let presets: Vec<Placed<Preset>> =
        items.iter().filter_map(|item| preset(reader, item)).collect();
    if items.is_empty() {
        reader.problems.report(field.node.span, format!("`{}` is empty", field.what));
    }
    presets
}

fn preset(reader: &mut Reader, field: &Field) -> Option<Placed<Preset>> {
    let span = field.node.span;
    let (name, options) = if Reader::is_scalar(field) {
        (reader.text(field)?, None)
    } else {
        let entries = reader.problems.entries(&field.node, &field.what)?;
        let [Entry { key, value }] = entries else {
            let message = format!("`{}` must have one key, the preset's name", field.what);
            reader.wrong(span, message, "for example `{shadow: {shell: /bin/sh}}`");
            return None;
        };
        let name = Placed { value: entries[0].name().to_owned(), span: key.span };
        let what = super::reader::below(&field.what, &name.value);
        (name, Some(Field { node: Rc::clone(value), key: key.span, what }))
    };
    if !keys::PRESETS.contains(&name.value.as_str()) {
        reader.unknown(&name, &field.what, keys::PRESETS);
        return None;
    }
    let known = match name.value.as_str() {
        "shadow" => keys::SHADOW,
        "ca-certificates" => keys::CA_CERTIFICATES,
        "usr-bin-env" | "bin-sh" => keys::LINK,
        "nix-shell" => keys::NIX_SHELL,
        _ => &[],
    };
    if let Some(options) =
        options.as_ref().filter(|options| known.is_empty() && !options.node.is_null())
    {
        let message = format!("the preset `{}` has no options", name.value);
        reader.wrong(options.key, message, &format!("write `{}` alone", name.value));
        return None;
    }
    let options = options.filter(|options| !options.node.is_null());
    let fields = match &options {
        Some(options) => Some(reader.fields(options, known)?),
        None => None,
    };
    let value = named(reader, &name, fields.as_ref())?;
    Some(Placed { value, span })
}

fn named(reader: &mut Reader, name: &Placed<String>, fields: Option<&Fields>) -> Option<Preset> {
    let get = |key: &str| fields.and_then(|fields| fields.get(key));
    let mut text = |key: &str| Some(reader.filled(&get(key)?)?.value);
    Some(match name.value.as_str() {
        "fake-nss" => Preset::FakeNss,
        "tmp" => Preset::Tmp,
        "shadow" => Preset::Shadow { shell: text("shell") },
        "usr-bin-env" => Preset::UsrBinEnv { target: text("target") },
        "bin-sh" => Preset::BinSh { target: text("target") },
        "ca-certificates" => {
            let source = get("source").and_then(|field| reader.host_path(&field));
            Preset::CaCertificates { source }
        }
        _ => {
            let command = text("command");
            let Some(field) = get("env") else {
                let hint =
                    "write `{nix-shell: {env: FILE}}`, with what `nix derivation show` prints";
                reader.wrong(name.span, "the preset `nix-shell` needs `env`", hint);
                return None;
            };
            Preset::NixShell { env: reader.host_path(&field)?, command }
        }
    })
}
