//! HEALTHCHECK and its durations. dockerfile.md §1.6.

use super::duration;
use crate::{
    dockerfile::{
        ast::{CommandLine, HealthcheckInstruction, Word},
        flags::{Flags, Takes},
        json::{self, Json},
        node::Node,
        words,
    },
    error::Result,
};

const KNOWN: [(&str, Takes); 5] = [
    ("interval", Takes::Text),
    ("timeout", Takes::Text),
    ("start-period", Takes::Text),
    ("start-interval", Takes::Text),
    ("retries", Takes::Text),
];

/// Shortest duration that is not zero: a millisecond.
const MINIMUM: i64 = 1_000_000;

/// HEALTHCHECK.
pub(super) fn parse(node: &Node<'_>) -> Result<HealthcheckInstruction> {
    node.require_args()?;
    let flags = Flags::check(node, &KNOWN)?;
    let text = node.args_text();
    let length = text.find(char::is_whitespace).unwrap_or(text.len());
    let kind = node.args.start..node.args.start + length;
    let command = words::trim(node.text(), kind.end..node.args.end);
    match node.text()[kind.clone()].to_uppercase().as_str() {
        "NONE" if command.is_empty() => return Ok(HealthcheckInstruction::None),
        "NONE" => return Err(node.error(command, "HEALTHCHECK NONE takes no arguments")),
        "CMD" => {}
        other => {
            let message = format!("unknown type \"{other}\" in HEALTHCHECK (try CMD)");
            return Err(node.error(kind, message));
        }
    }
    let command = match json::parse(node.text(), command.clone()) {
        Json::Strings(list) => CommandLine::Exec(list.into_iter().map(|(text, _)| text).collect()),
        Json::Other => CommandLine::Shell(node.text()[command].to_owned()),
        Json::NotStrings(range) => {
            let message = "when using JSON array syntax, arrays must be comprised of strings only";
            return Err(node.error(range, message));
        }
    };
    let empty = match &command {
        CommandLine::Exec(list) => list.is_empty(),
        CommandLine::Shell(text) => text.is_empty(),
    };
    if empty {
        return Err(node.error_at_args("missing command after HEALTHCHECK CMD"));
    }
    let interval =
        |name: &str| flags.filled(name).map(|word| interval(node, name, &word)).transpose();
    Ok(HealthcheckInstruction::Cmd {
        command,
        interval: interval("interval")?,
        timeout: interval("timeout")?,
        start_period: interval("start-period")?,
        start_interval: interval("start-interval")?,
        retries: flags.filled("retries").map(|word| retries(node, &word)).transpose()?,
    })
}

fn interval(node: &Node<'_>, name: &str, word: &Word) -> Result<i64> {
    let value = duration::parse(&word.text).map_err(|message| {
        node.error_at(word.span, message).hint("write a number and a unit: `30s`, `1m30s`, `500ms`")
    })?;
    if value != 0 && value < MINIMUM {
        let message = format!("interval \"{name}\" cannot be less than 1ms");
        return Err(node.error_at(word.span, message));
    }
    Ok(value)
}

fn retries(node: &Node<'_>, word: &Word) -> Result<i64> {
    let Ok(value) = word.text.parse::<i32>() else {
        let message = format!("`--retries` is not a number: `{}`", word.text);
        return Err(node.error_at(word.span, message));
    };
    if value < 0 {
        return Err(node.error_at(word.span, format!("--retries cannot be negative ({value})")));
    }
    Ok(i64::from(value))
}
