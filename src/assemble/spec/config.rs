//! `config`: the image's config by the names of the image specification, each with its type checked.
//!
//! Out: JSON as it is written into the image. `Env`, `ExposedPorts` and `Volumes` have a second form each, which is
//! brought into the specification's. A member that is null is absent, and so the base's; an empty list takes its place.

use super::reader::{Field, Fields, Reader};
use super::{Placed, keys};
use crate::yaml::{Scalar, Value as Form, shorten};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};

/// Members by name.
pub(super) fn read(reader: &mut Reader, field: &Field) -> BTreeMap<String, Value> {
    let Some(fields) = reader.fields(field, keys::CONFIG) else { return BTreeMap::new() };
    let member =
        |(name, field): &(&str, Field)| Some(((*name).to_owned(), member(reader, name, field)?));
    fields.given(keys::CONFIG).iter().filter_map(member).collect()
}

fn member(reader: &mut Reader, name: &str, field: &Field) -> Option<Value> {
    match name {
        "ArgsEscaped" | "AttachStderr" | "AttachStdin" | "AttachStdout" | "NetworkDisabled"
        | "OpenStdin" | "StdinOnce" | "Tty" => reader.boolean(field).map(Value::from),
        "Cmd" | "Entrypoint" | "OnBuild" | "Shell" => Some(texts(reader, field)),
        "CpuShares" | "Memory" | "MemorySwap" | "StopTimeout" => number(reader, field, -1),
        "Env" => Some(Value::from(env(reader, field))),
        "ExposedPorts" => Some(set(reader, field, port)),
        "Volumes" => Some(set(reader, field, volume)),
        "Labels" => Some(labels(reader, field)),
        "Healthcheck" => healthcheck(reader, field),
        "WorkingDir" => Some(reader.image_path(field)?.value.into()),
        _ => Some(reader.text(field)?.value.into()),
    }
}

fn texts(reader: &mut Reader, field: &Field) -> Value {
    reader.texts(field).into_iter().map(|text| Value::from(text.value)).collect()
}

fn number(reader: &mut Reader, field: &Field, least: i128) -> Option<Value> {
    let bounds = least..=i128::from(i64::MAX);
    let number = reader.problems.integer(&field.node, &field.what, &bounds)?;
    i64::try_from(number).ok().map(Value::from)
}

/// `NAME=value` each; a mapping of names to values is written so.
fn env(reader: &mut Reader, field: &Field) -> Vec<String> {
    let mut given: Vec<(Placed<String>, String)> = Vec::new();
    if matches!(field.node.value, Form::Map(_)) {
        for (name, value) in reader.pairs(field) {
            if let Some(value) = reader.text(&value) {
                given.push((name, value.value));
            }
        }
    } else {
        for Placed { value, span } in reader.texts(field) {
            if let Some((name, value)) = value.split_once('=') {
                given.push((Placed { value: name.to_owned(), span }, value.to_owned()));
            } else {
                let message = format!("`{}` has no `=`", shorten(&value));
                reader.wrong(span, message, "write it as NAME=VALUE; the value may be empty");
            }
        }
    }
    let mut first: HashMap<String, Placed<String>> = HashMap::new();
    let mut env = Vec::new();
    for (name, value) in given {
        if !reader.variable_name(&name, &field.what) {
            continue;
        }
        if let Some(other) = first.get(&name.value) {
            let message = format!("`{}` is given twice", shorten(&name.value));
            let hint = format!("it was given {}", reader.line(other.span));
            reader.wrong(name.span, message, &hint);
            continue;
        }
        env.push(format!("{}={value}", name.value));
        first.insert(name.value.clone(), name);
    }
    env
}

/// A set: a list, or a mapping to empty mappings, which is how the specification writes it.
fn set(
    reader: &mut Reader,
    field: &Field,
    check: fn(&mut Reader, Placed<String>, &str) -> Option<String>,
) -> Value {
    let mut names = Vec::new();
    if matches!(field.node.value, Form::Map(_)) {
        for (name, value) in reader.pairs(field) {
            let is_empty = matches!(&value.node.value, Form::Map(entries) if entries.is_empty());
            if !is_empty && !value.node.is_null() {
                let message = format!("`{}` must be an empty mapping", value.what);
                reader.wrong(value.node.span, message, "write `{}`");
            }
            names.push(name);
        }
    } else {
        names = reader.texts(field);
    }
    let names = names.into_iter().filter_map(|name| check(reader, name, &field.what));
    Value::Object(names.map(|name| (name, json!({}))).collect())
}

/// `80` is `80/tcp`, as in a Dockerfile.
fn port(reader: &mut Reader, given: Placed<String>, what: &str) -> Option<String> {
    let (number, protocol) = given.value.split_once('/').unwrap_or((&given.value, "tcp"));
    let digits = number.bytes().all(|b| b.is_ascii_digit());
    let is_number = digits && number.parse::<u16>().is_ok_and(|number| number > 0);
    if !is_number || !["tcp", "udp", "sctp"].contains(&protocol) {
        let message = format!("`{}` in `{what}` is no port", shorten(&given.value));
        reader.wrong(given.span, message, "write it as `80`, `80/tcp` or `53/udp`");
        return None;
    }
    Some(format!("{number}/{protocol}"))
}

fn volume(reader: &mut Reader, given: Placed<String>, what: &str) -> Option<String> {
    if !given.value.starts_with('/') || given.value.contains('\0') {
        let message = format!("`{}` in `{what}` must be absolute", shorten(&given.value));
        reader.problems.report(given.span, message);
        return None;
    }
    Some(given.value)
}

fn labels(reader: &mut Reader, field: &Field) -> Value {
    let mut labels = Map::new();
    for (name, value) in reader.pairs(field) {
        if name.value.is_empty() {
            reader.problems.report(name.span, "a label must have a name");
        }
        if let Some(text) = reader.text(&value) {
            labels.insert(name.value, text.value.into());
        }
    }
    Value::Object(labels)
}

fn healthcheck(reader: &mut Reader, field: &Field) -> Option<Value> {
    let fields = reader.fields(field, keys::HEALTHCHECK)?;
    let mut check = Map::new();
    if let Some(test) = test(reader, &fields) {
        check.insert("Test".to_owned(), test);
    }
    for (name, field) in fields.given(&keys::HEALTHCHECK[1..]) {
        if let Some(Scalar::Text(text)) = field.node.scalar() {
            let message = format!("`{}` must be a number, not `{}`", field.what, shorten(text));
            reader.wrong(field.node.span, message, "times are in nanoseconds: 1s is 1000000000");
        } else if let Some(number) = number(reader, &field, 0) {
            check.insert(name.to_owned(), number);
        }
    }
    Some(Value::Object(check))
}

/// `Test`: nothing, `NONE`, `CMD` with words, or `CMD-SHELL` with a text.
fn test(reader: &mut Reader, fields: &Fields) -> Option<Value> {
    let field = fields.get("Test")?;
    let words = reader.texts(&field);
    let texts: Vec<&str> = words.iter().map(|word| word.value.as_str()).collect();
    if !matches!(texts[..], [] | ["NONE"] | ["CMD", _, ..] | ["CMD-SHELL", _]) {
        let message = format!("`{}` is no test", field.what);
        let hint = "write `[NONE]`, `[CMD, program, argument…]` or `[CMD-SHELL, text]`";
        reader.wrong(field.node.span, message, hint);
    }
    Some(Value::from(texts))
}
