//! The scripts, and `run`: how they run.

use super::reader::{Field, Fields, Reader};
use super::{Placed, Run, RunMount, Scripts, keys};
use std::collections::BTreeMap;

/// The three scripts; one without anything but white space is none.
pub(super) fn scripts(reader: &mut Reader, fields: &Fields) -> Scripts {
    let mut script = |key: &str| {
        let text = fields.get(key).and_then(|field| reader.text(&field))?;
        Some(text).filter(|text: &Placed<String>| !text.value.trim().is_empty())
    };
    Scripts {
        run_as_root: script("runAsRoot"),
        extra: script("extraCommands"),
        fake_root: script("fakeRootCommands"),
    }
}

/// `run`, or what is so without it.
pub(super) fn read(reader: &mut Reader, field: Option<Field>) -> Run {
    let mut run = Run {
        network: "none".to_owned(),
        mounts: Vec::new(),
        shell: vec!["/bin/sh".to_owned(), "-e".to_owned()],
        timeout: None,
        tmpfs: Vec::new(),
        env: BTreeMap::new(),
    };
    if let Some(fields) = field.and_then(|field| reader.fields(&field, keys::RUN)) {
        fill(reader, &fields, &mut run);
    }
    run
}

fn fill(reader: &mut Reader, fields: &Fields, run: &mut Run) {
    let network = fields.get("network").and_then(|field| reader.word(&field, keys::NETWORK));
    if let Some(network) = network {
        network.clone_into(&mut run.network);
    }
    if let Some(field) = fields.get("mounts") {
        let items = reader.items(&field).unwrap_or_default();
        run.mounts = items.iter().filter_map(|item| mount(reader, item)).collect();
    }
    if let Some(field) = fields.get("shell") {
        run.shell = shell(reader, &field);
    }
    if let Some(field) = fields.get("timeout") {
        let bounds = 1..=i128::from(u32::MAX);
        let seconds = reader.problems.integer(&field.node, &field.what, &bounds);
        run.timeout = seconds.and_then(|seconds| u64::try_from(seconds).ok());
    }
    if let Some(field) = fields.get("tmpfs") {
        let items = reader.items(&field).unwrap_or_default();
        let paths = items.iter().filter_map(|item| reader.path_below_root(item));
        run.tmpfs = paths.map(|path| path.value).collect();
    }
    if let Some(field) = fields.get("env") {
        for (name, value) in reader.pairs(&field) {
            let good = reader.variable_name(&name, &field.what);
            if let Some(text) = reader.text(&value).filter(|_| good) {
                run.env.insert(name.value, text.value);
            }
        }
    }
}

fn shell(reader: &mut Reader, field: &Field) -> Vec<String> {
    let words = reader.texts(field);
    if words.first().is_some_and(|word| !word.value.starts_with('/')) {
        let message = format!("`{}` must begin with an absolute path", field.what);
        reader.wrong(words[0].span, message, "for example `[/bin/sh, -e]`");
    } else if words.is_empty() {
        let message = format!("`{}` names no program", field.what);
        reader.wrong(field.node.span, message, "for example `[/bin/sh, -e]`");
    }
    words.into_iter().map(|word| word.value).collect()
}

fn mount(reader: &mut Reader, field: &Field) -> Option<RunMount> {
    // The type decides which keys there are.
    let entries = reader.problems.entries(&field.node, &field.what)?;
    let is_store = entries.iter().any(|entry| {
        let text = entry.value.scalar();
        entry.name() == "type" && text == Some(crate::yaml::Scalar::Text("store"))
    });
    let known = if is_store { keys::STORE_MOUNT } else { keys::BIND_MOUNT };
    let fields = reader.fields(field, known)?;
    let kind = reader.required(&fields, "type").and_then(|field| {
        let text = reader.text(&field)?;
        if !keys::MOUNT_TYPES.contains(&text.value.as_str()) {
            reader.unknown(&text, &field.what, keys::MOUNT_TYPES);
            return None;
        }
        Some(text.value)
    })?;
    if kind == "store" {
        return Some(RunMount::Store(field.node.span));
    }
    let source = reader.required(&fields, "source").and_then(|field| reader.host_path(&field));
    let target =
        reader.required(&fields, "target").and_then(|field| reader.path_below_root(&field));
    Some(RunMount::Bind { source: source?, target: target?.value })
}
