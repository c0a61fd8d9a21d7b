//! The JSON form: version 1 of docs/timings.md. Times are whole microseconds since the command began.

use super::Document;
use crate::timings::{Cpu, SpanTime, StepTime};
use serde_json::{Value, json};
use std::time::Duration;

/// Version of the form. A field that is added does not change it; one that changes its meaning does.
const VERSION: u32 = 1;

pub(super) fn render(document: &Document) -> String {
    let recorded = &document.recorded;
    let (user, system) = document.usage.spent.times();
    let steps: Vec<Value> = recorded.steps.iter().enumerate().map(step).collect();
    let spans: Vec<Value> = recorded.spans.iter().map(span).collect();
    let value = json!({
        "version": VERSION,
        "program": concat!("nativebuild ", env!("CARGO_PKG_VERSION")),
        "began": document.began,
        "result": if document.built { "built" } else { "failed" },
        "wall": micros(recorded.wall),
        "process": {
            "user": micros(user),
            "system": micros(system),
            "peak_memory": document.usage.peak_memory,
            "threads": recorded.threads,
        },
        "commands": cpu(&super::page::commands(recorded)),
        "steps": steps,
        "spans": spans,
        "dropped": recorded.dropped,
    });
    // A map of strings and numbers always has a JSON form.
    serde_json::to_string_pretty(&value).unwrap_or_default() + "\n"
}

fn step((at, step): (usize, &StepTime)) -> Value {
    json!({
        "step": at + 1,
        "build": step.build,
        "position": step.position,
        "platform": step.platform,
        "line": step.line,
        "name": step.text,
        "result": step.outcome.map(crate::timings::Outcome::as_str),
        "begin": micros(step.begin),
        "end": micros(step.end),
        "commands": step.cpu.as_ref().map(cpu),
    })
}

fn span(span: &SpanTime) -> Value {
    json!({
        "phase": span.phase.as_str(),
        "step": span.step.map(|at| at + 1),
        "thread": span.thread,
        "begin": micros(span.begin),
        "end": micros(span.end),
        "bytes_in": span.bytes_in,
        "bytes_out": span.bytes_out,
        "blocks_known": span.blocks_known,
        "what": span.what,
    })
}

fn cpu(cpu: &Cpu) -> Value {
    json!({"user": micros(cpu.user), "system": micros(cpu.system)})
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
