//! Progress: build events as lines for people or programs, on standard error. docs/cli.md documents both forms.
//!
//! Whole lines only: output of parallel steps never mixes within a line. Nothing is clipped.

use super::report::{Style, visible};
use crate::progress::{Event, Sink, StepId};
use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// How events are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    Tty,
    Json,
    Quiet,
}

/// The sink of the command line.
pub(super) struct Printer {
    form: Form,
    style: Style,
    steps: Mutex<Steps>,
}

/// What is remembered of steps that are not done.
#[derive(Default)]
struct Steps {
    /// Unfinished lines of each step and stream.
    partial: HashMap<(StepId, bool), Vec<u8>>,
    /// Platforms, in a build for several.
    platforms: HashMap<StepId, String>,
}

impl Printer {
    pub(super) fn new(form: Form, style: Style) -> Self {
        let style = if form == Form::Tty { style } else { Style { colour: false } };
        Self { form, style, steps: Mutex::default() }
    }

    fn lines(&self, event: &Event, steps: &mut Steps) -> String {
        let paint = |code: &str, text: &str| self.style.paint(code, text);
        match event {
            Event::StepStarted { id, position, platform, name, .. } => {
                let mut place = position.clone();
                if let Some(platform) = platform {
                    place = format!("{platform} {position}");
                    steps.platforms.insert(*id, platform.clone());
                }
                format!("#{id} [{place}] {}\n", paint("1", &one_line(name)))
            }
            Event::StepCached { id } => {
                steps.platforms.remove(id);
                format!("#{id} {}\n", paint("32", "CACHED"))
            }
            Event::StepMissed { id, reasons } => {
                format!("#{id} {}: {}\n", paint("33", "MISSED"), visible(&reasons.join("; ")))
            }
            Event::StepOutput { id, bytes, stderr } => {
                let prefix = steps.prefix(*id);
                let line = steps.partial.entry((*id, *stderr)).or_default();
                let mut out = String::new();
                for byte in bytes {
                    if *byte == b'\n' {
                        out.push_str(&output_line(&prefix, &std::mem::take(line)));
                    } else {
                        line.push(*byte);
                    }
                }
                out
            }
            Event::StepDone { id, took } => {
                let rest = steps.end(*id);
                format!("{rest}#{id} {} {:.1}s\n", paint("32", "DONE"), took.as_secs_f64())
            }
            Event::StepStopped { id } => format!("{}#{id} STOPPED\n", steps.end(*id)),
            Event::StepFailed { id, exit_code } => {
                let rest = steps.end(*id);
                let code = exit_code.map_or_else(String::new, |code| format!(" exit code {code}"));
                format!("{rest}#{id} {}{code}\n", paint("31", "FAILED"))
            }
            Event::Warning { text, place } => {
                let place = place.as_ref().map_or_else(String::new, |at| format!(" ({at})"));
                format!("{}: {}{place}\n", paint("33", "warning"), visible(text))
            }
            Event::Check(warning) => {
                let text = format!("{}: {}", warning.rule, warning.message);
                let place = format!("{}:{}", warning.place.source.name(), warning.line());
                format!("{}: {} ({place})\n", paint("33", "warning"), visible(&text))
            }
            Event::Isolation { text } | Event::Note { text } => format!("{}\n", visible(text)),
            Event::Built { digest, names } => {
                let names = names.iter().fold(String::new(), |all, name| all + " as " + name);
                format!("built {digest}{names}\n")
            }
            Event::Output { text } => format!("wrote {}\n", visible(text)),
            Event::LayerDone { .. } => String::new(),
        }
    }
}

impl Sink for Printer {
    fn event(&self, event: Event) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let text = match self.form {
            Form::Quiet => return,
            Form::Json => format!("{}\n", json(&event)),
            Form::Plain | Form::Tty => self.lines(&event, &mut steps),
        };
        if !text.is_empty() {
            // A closed standard error must not end the build.
            let _closed = std::io::stderr().write_all(text.as_bytes());
        }
    }
}

fn one_line(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    visible(&text)
}

impl Steps {
    /// What stands before every line of a step's output.
    fn prefix(&self, id: StepId) -> String {
        match self.platforms.get(&id) {
            Some(platform) => format!("#{id} [{platform}] "),
            None => format!("#{id} "),
        }
    }

    /// The lines that a step left unfinished; the step is forgotten.
    fn end(&mut self, id: StepId) -> String {
        let prefix = self.prefix(id);
        self.platforms.remove(&id);
        [false, true]
            .iter()
            .filter_map(|stderr| self.partial.remove(&(id, *stderr)))
            .filter(|line| !line.is_empty())
            .map(|line| output_line(&prefix, &line))
            .collect()
    }
}

/// A line of a command's output. Colour codes stay, other control characters are shown.
fn output_line(prefix: &str, line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    // What stands before a carriage return was overwritten on a terminal.
    let text = text.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default().to_owned();
    format!("{prefix}{}\n", visible(&text))
}

/// The line of a place that is a text.
fn line_of(place: Option<&str>) -> Option<usize> {
    place?.rsplit_once(':')?.1.parse().ok()
}

fn json(event: &Event) -> serde_json::Value {
    use serde_json::json;
    match event {
        Event::Isolation { text } => json!({"event": "isolation", "text": text}),
        Event::StepStarted { id, position, platform, name, line } => {
            let mut value = json!({"event": "step-started", "step": id, "position": position, "name": name, "line": line});
            if let Some(platform) = platform {
                value["platform"] = platform.as_str().into();
            }
            value
        }
        Event::StepCached { id } => json!({"event": "step-cached", "step": id}),
        Event::StepMissed { id, reasons } => {
            json!({"event": "step-missed", "step": id, "reasons": reasons})
        }
        Event::StepOutput { id, bytes, stderr } => json!({
            "event": "step-output", "step": id, "stream": if *stderr { "stderr" } else { "stdout" },
            "text": String::from_utf8_lossy(bytes),
        }),
        Event::StepDone { id, took } => {
            json!({"event": "step-done", "step": id, "seconds": took.as_secs_f64()})
        }
        Event::StepStopped { id } => json!({"event": "step-stopped", "step": id}),
        Event::StepFailed { id, exit_code } => {
            json!({"event": "step-failed", "step": id, "exit_code": exit_code})
        }
        Event::LayerDone { digest, size } => {
            json!({"event": "layer", "digest": digest, "size": size})
        }
        Event::Warning { text, place } => json!({
            "event": "warning", "text": text, "place": place, "rule": null, "line": line_of(place.as_deref()),
            "message": text,
        }),
        Event::Check(warning) => {
            let (rule, line, message) = (&warning.rule, warning.line(), &warning.message);
            json!({
                "event": "warning", "text": format!("{rule}: {message}"),
                "place": format!("{}:{line}", warning.place.source.name()),
                "rule": rule, "line": line, "message": message,
            })
        }
        Event::Note { text } => json!({"event": "note", "text": text}),
        Event::Built { digest, names } => {
            json!({"event": "built", "digest": digest, "names": names})
        }
        Event::Output { text } => json!({"event": "output", "text": text}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(events: &[Event]) -> String {
        let printer = Printer::new(Form::Plain, Style { colour: false });
        let mut steps = Steps::default();
        events.iter().map(|event| printer.lines(event, &mut steps)).collect()
    }

    fn output(bytes: &[u8]) -> Event {
        Event::StepOutput { id: 1, bytes: bytes.to_vec(), stderr: false }
    }

    #[test]
    fn output_is_shown_in_whole_lines() {
        let done = Event::StepDone { id: 1, took: std::time::Duration::ZERO };
        assert_eq!(
            shown(&[output(b"a\nb"), output(b"c\n"), done.clone()]),
            "#1 a\n#1 bc\n#1 DONE 0.0s\n"
        );
        assert_eq!(shown(&[output(b"no end"), done]), "#1 no end\n#1 DONE 0.0s\n");
        assert_eq!(shown(&[output(b"10%\r20%\r\n")]), "#1 20%\n");
    }

    #[test]
    fn output_of_several_platforms_says_which() {
        let started = Event::StepStarted {
            id: 1,
            position: "build 1/2".to_owned(),
            platform: Some("linux/s390x".to_owned()),
            name: "RUN x".to_owned(),
            line: 3,
        };
        let failed = Event::StepFailed { id: 1, exit_code: Some(2) };
        assert_eq!(
            shown(&[started, output(b"a\nb"), failed]),
            "#1 [linux/s390x build 1/2] RUN x\n#1 [linux/s390x] a\n#1 [linux/s390x] b\n#1 FAILED exit code 2\n"
        );
    }

    #[test]
    fn a_check_names_its_rule_and_line() {
        let source = std::sync::Arc::new(crate::source::SourceFile::new("Dockerfile", "FROM a\n"));
        let event = Event::Check(crate::progress::CheckWarning {
            rule: "Rule".to_owned(),
            message: "what".to_owned(),
            place: crate::error::Place { source, span: (0..4).into() },
        });
        assert_eq!(shown(std::slice::from_ref(&event)), "warning: Rule: what (Dockerfile:1)\n");
        assert_eq!(
            json(&event).to_string(),
            r#"{"event":"warning","line":1,"message":"what","place":"Dockerfile:1","rule":"Rule","text":"Rule: what"}"#
        );
    }

    #[test]
    fn every_event_is_one_json_object() {
        let event = Event::StepStarted {
            id: 2,
            position: "p".to_owned(),
            platform: None,
            name: "RUN x".to_owned(),
            line: 3,
        };
        assert_eq!(
            json(&event).to_string(),
            r#"{"event":"step-started","line":3,"name":"RUN x","position":"p","step":2}"#
        );
    }
}
