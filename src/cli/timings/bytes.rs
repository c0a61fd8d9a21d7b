//! What was packed, unpacked, sent and fetched: when, how fast, and how much.

use super::page::{MAX_BARS, Page, bytes, escaped, length, percent, time};
use crate::timings::{Phase, SpanTime};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

impl<'a> Page<'a> {
    /// A row for each kind of work; a bar is as high as its bytes a second, on the scale of its row.
    pub(super) fn byte_chart(&mut self) {
        let mut rows: BTreeMap<Phase, Vec<&SpanTime>> = BTreeMap::new();
        let mut spans = self.moving();
        spans.sort_by_key(|span| span.begin);
        for span in spans {
            rows.entry(span.phase).or_default().push(span);
        }
        if rows.is_empty() {
            return;
        }
        self.put("<h2>Bytes</h2>\n<div class=\"chart flow\">\n");
        self.axis();
        for (phase, spans) in rows {
            let (phase, all) = (phase.as_str(), spans.iter().map(|span| largest(span)).sum());
            let fastest = spans.iter().map(|span| speed(span)).max().unwrap_or_default().max(1);
            let name = format!("{phase} {}, up to {}/s", bytes(all), bytes(fastest));
            self.put(format_args!("<div class=\"row\"><span title=\"{name}\">{name}</span><div>"));
            for span in spans {
                let whole = self.recorded.wall;
                let (left, width) = (percent(span.begin, whole), percent(length(span), whole));
                let (height, title) = (share(speed(span), fastest), escaped(&self.title(span)));
                self.put(format_args!(
                    "<i class=\"{phase}\" style=\"left:{left}%;width:{width}%;height:{height}%\" title=\"{title}\"></i>"
                ));
            }
            self.put("</div></div>\n");
        }
        self.put("</div>\n");
    }

    /// Spans that have bytes, the largest first.
    fn moving(&self) -> Vec<&'a SpanTime> {
        let moved = |span: &&SpanTime| span.bytes_in.is_some() || span.bytes_out.is_some();
        let mut spans: Vec<&SpanTime> = self.recorded.spans.iter().filter(moved).collect();
        spans.sort_by_key(|span| std::cmp::Reverse(largest(span)));
        spans.truncate(MAX_BARS);
        spans
    }

    /// The same in numbers, the largest first.
    pub(super) fn byte_table(&mut self) {
        let spans = self.moving();
        let Some(most) = spans.first().map(|span| largest(span).max(1)) else { return };
        self.put("<table class=\"numbers\">\n<tr><th>what</th><th>step</th><th>in</th><th>out</th><th>time</th><th>a second</th><th></th></tr>\n");
        for span in spans {
            let step = span.step.map_or_else(String::new, |at| (at + 1).to_string());
            let shown = |n: Option<u64>| n.map_or_else(String::new, bytes);
            let what = span.what.as_deref().unwrap_or_default();
            let rate = rate(largest(span), length(span));
            let phase = span.phase.as_str();
            let mut bars = String::new();
            for n in [span.bytes_in, span.bytes_out].into_iter().flatten() {
                let width = share(n, most);
                let _infallible =
                    write!(bars, "<i class=\"{phase}\" style=\"width:{width}%\"></i>");
            }
            self.put(format_args!(
                "<tr><td title=\"{}\">{phase}</td><td>{step}</td><td>{}</td><td>{}</td><td>{}</td><td>{rate}</td><td class=\"bars\">{bars}</td></tr>\n",
                escaped(what),
                shown(span.bytes_in),
                shown(span.bytes_out),
                time(length(span)),
            ));
        }
        self.put("</table>\n");
    }
}

fn largest(span: &SpanTime) -> u64 {
    span.bytes_in.unwrap_or_default().max(span.bytes_out.unwrap_or_default())
}

/// Bytes a second.
fn speed(span: &SpanTime) -> u64 {
    per_second(largest(span), length(span)).unwrap_or_default()
}

fn per_second(count: u64, time: Duration) -> Option<u64> {
    let speed = u128::from(count).saturating_mul(1_000_000).checked_div(time.as_micros())?;
    Some(u64::try_from(speed).unwrap_or(u64::MAX))
}

fn rate(count: u64, time: Duration) -> String {
    per_second(count, time).map_or_else(String::new, |speed| bytes(speed) + "/s")
}

fn share(part: u64, whole: u64) -> u64 {
    (u128::from(part) * 100 / u128::from(whole)) as u64
}
