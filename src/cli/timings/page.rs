//! The page: one HTML file with everything in it, without a line of JavaScript.
//!
//! Whatever a Dockerfile says is escaped, and the page itself forbids scripts and connections, so that it can be opened
//! without knowing whose build it was. Bars are boxes in percent of the whole time; what a bar says is its title, and
//! every number is in a table as well.

use super::Document;
use crate::cli::report::visible;
use crate::timings::{Cpu, Outcome, Phase, Recorded, SpanTime, StepTime};
use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::time::Duration;

/// Bars of a chart; of more than so many the longest are drawn.
pub(super) const MAX_BARS: usize = 10_000;

pub(super) fn render(document: &Document) -> String {
    let recorded = &document.recorded;
    let mut page = Page { out: String::new(), recorded };
    page.head();
    page.totals(document);
    page.legend();
    page.step_chart();
    page.thread_chart();
    page.byte_chart();
    page.byte_table();
    page.phases();
    page.step_table();
    page.out.push_str("</body>\n</html>\n");
    page.out
}

/// Processor time of all commands.
pub(super) fn commands(recorded: &Recorded) -> Cpu {
    let each = recorded.steps.iter().filter_map(|step| step.cpu);
    each.fold(Cpu::default(), |all, cpu| Cpu {
        user: all.user + cpu.user,
        system: all.system + cpu.system,
    })
}

pub(super) struct Page<'a> {
    out: String,
    pub(super) recorded: &'a Recorded,
}

impl<'a> Page<'a> {
    pub(super) fn put(&mut self, text: impl Display) {
        let _infallible = write!(self.out, "{text}");
    }

    fn head(&mut self) {
        self.put(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>Timings of a build</title>\n<style>\n",
        );
        self.put(include_str!("page.css"));
        self.put("</style>\n</head>\n<body>\n<h1>Timings of a build</h1>\n");
    }

    fn totals(&mut self, document: &Document) {
        let recorded = self.recorded;
        let (user, system) = document.usage.spent.times();
        let all = commands(recorded);
        let count = |outcome| recorded.steps.iter().filter(|s| s.outcome == outcome).count();
        let rows = [
            ("began", document.began.clone()),
            ("result", if document.built { "built" } else { "failed" }.to_owned()),
            ("whole time", time(recorded.wall)),
            (
                "steps",
                format!(
                    "{}: {} carried out, {} cached, {} failed",
                    recorded.steps.len(),
                    count(Some(Outcome::Done)),
                    count(Some(Outcome::Cached)),
                    count(Some(Outcome::Failed)),
                ),
            ),
            ("processor time of commands", processor(all.user, all.system)),
            ("processor time of nativebuild", processor(user, system)),
            ("peak memory of nativebuild", bytes(document.usage.peak_memory)),
            ("threads", recorded.threads.to_string()),
            ("program", concat!("nativebuild ", env!("CARGO_PKG_VERSION")).to_owned()),
        ];
        self.put("<table>\n");
        for (name, value) in rows {
            self.put(format_args!("<tr><th>{name}</th><td>{}</td></tr>\n", escaped(&value)));
        }
        self.put("</table>\n");
        if recorded.dropped > 0 {
            self.put(format_args!("<p>{} more were not recorded.</p>\n", recorded.dropped));
        }
    }

    fn legend(&mut self) {
        let used: Vec<&str> = Phase::ALL
            .iter()
            .filter(|phase| self.recorded.spans.iter().any(|span| span.phase == **phase))
            .map(|phase| phase.as_str())
            .collect();
        self.put("<p class=\"legend\">");
        for name in used {
            self.put(format_args!("<span><i class=\"{name}\"></i>{name}</span> "));
        }
        self.put("</p>\n");
    }

    /// A row a step; what belongs to none is in a row of its own.
    fn step_chart(&mut self) {
        self.put("<h2>Steps</h2>\n<div class=\"chart\">\n");
        self.axis();
        let shown = self.longest();
        let mut rows: BTreeMap<Option<usize>, Vec<&SpanTime>> = BTreeMap::new();
        for span in shown {
            rows.entry(span.step).or_default().push(span);
        }
        let recorded = self.recorded;
        let names = recorded.steps.iter().enumerate().map(|(at, step)| (Some(at), name(at, step)));
        for (row, name) in std::iter::once((None, "build".to_owned())).chain(names) {
            let spans = rows.remove(&row).unwrap_or_default();
            self.row(&name, &spans);
        }
        self.put("</div>\n");
    }

    fn thread_chart(&mut self) {
        self.put("<h2>Threads</h2>\n<div class=\"chart\">\n");
        self.axis();
        let mut rows: BTreeMap<u32, Vec<&SpanTime>> = BTreeMap::new();
        for span in self.longest() {
            if let Some(thread) = span.thread {
                rows.entry(thread).or_default().push(span);
            }
        }
        for (thread, spans) in rows {
            self.row(&format!("thread {thread}"), &spans);
        }
        self.put("</div>\n");
    }

    /// The longest spans, in the order of their beginnings.
    fn longest(&self) -> Vec<&'a SpanTime> {
        let mut at: Vec<usize> = (0..self.recorded.spans.len()).collect();
        at.sort_by_key(|at| std::cmp::Reverse(length(&self.recorded.spans[*at])));
        at.truncate(MAX_BARS);
        at.sort_unstable();
        at.into_iter().map(|at| &self.recorded.spans[at]).collect()
    }

    pub(super) fn axis(&mut self) {
        let whole = self.recorded.wall;
        self.put("<div class=\"row axis\"><span></span><div>");
        for tick in ticks(whole) {
            let (left, shown) = (percent(tick, whole), time(tick));
            self.put(format_args!("<b style=\"left:{left}%\">{shown}</b>"));
        }
        self.put("</div></div>\n");
    }

    fn row(&mut self, name: &str, spans: &[&SpanTime]) {
        let name = escaped(name);
        self.put(format_args!("<div class=\"row\"><span title=\"{name}\">{name}</span><div>"));
        for span in spans {
            let whole = self.recorded.wall;
            let (left, width) = (percent(span.begin, whole), percent(length(span), whole));
            let phase = span.phase.as_str();
            let title = escaped(&self.title(span));
            self.put(format_args!(
                "<i class=\"{phase}\" style=\"left:{left}%;width:{width}%\" title=\"{title}\"></i>"
            ));
        }
        self.put("</div></div>\n");
    }

    pub(super) fn title(&self, span: &SpanTime) -> String {
        let mut title = format!("{} {}", span.phase.as_str(), time(length(span)));
        let step = span.step.and_then(|at| Some(name(at, self.recorded.steps.get(at)?)));
        title.extend(step.map(|step| format!(", {step}")));
        title.extend(span.bytes_in.map(|n| format!(", in {}", bytes(n))));
        title.extend(span.bytes_out.map(|n| format!(", out {}", bytes(n))));
        title.extend(span.blocks_known.filter(|n| *n > 0).map(|n| format!(", {n} blocks known")));
        title.extend(span.what.as_ref().map(|what| format!(", {what}")));
        title
    }

    fn phases(&mut self) {
        let mut all: BTreeMap<Phase, (usize, Duration)> = BTreeMap::new();
        for span in &self.recorded.spans {
            let sum = all.entry(span.phase).or_default();
            *sum = (sum.0 + 1, sum.1 + length(span));
        }
        self.put("<h2>Phases</h2>\n<table class=\"numbers\">\n<tr><th>phase</th><th>times</th><th>time of all threads</th></tr>\n");
        for (phase, (count, sum)) in all {
            let (name, sum) = (phase.as_str(), time(sum));
            self.put(format_args!("<tr><td>{name}</td><td>{count}</td><td>{sum}</td></tr>\n"));
        }
        self.put("</table>\n");
    }

    fn step_table(&mut self) {
        let recorded = self.recorded;
        let mut sums: BTreeMap<(usize, Phase), Duration> = BTreeMap::new();
        for span in &recorded.spans {
            if let Some(at) = span.step {
                *sums.entry((at, span.phase)).or_default() += length(span);
            }
        }
        self.put("<h2>Steps in numbers</h2>\n<table class=\"numbers\">\n<tr><th>step</th><th>line</th><th>result</th><th>time</th><th>processor time</th><th>phases</th></tr>\n");
        for (at, step) in recorded.steps.iter().enumerate() {
            let own = sums.range((at, Phase::Context)..(at + 1, Phase::Context));
            let own: Vec<String> =
                own.map(|((_, phase), sum)| format!("{} {}", phase.as_str(), time(*sum))).collect();
            let result = step.outcome.map_or("unfinished", Outcome::as_str);
            let cpu = step.cpu.map_or_else(String::new, |cpu| processor(cpu.user, cpu.system));
            let took = time(step.end.saturating_sub(step.begin));
            self.put(format_args!(
                "<tr><td>{}</td><td>{}</td><td class=\"{result}\">{result}</td><td>{took}</td><td>{cpu}</td><td>{}</td></tr>\n",
                escaped(&name(at, step)),
                step.line,
                own.join(", "),
            ));
        }
        self.put("</table>\n");
    }
}

pub(super) fn length(span: &SpanTime) -> Duration {
    span.end.saturating_sub(span.begin)
}

/// `3 [linux/s390x build 2/7] RUN make`.
fn name(at: usize, step: &StepTime) -> String {
    let platform = step.platform.as_ref().map_or_else(String::new, |name| format!("{name} "));
    format!("{} [{platform}{}] {}", at + 1, step.position, step.text)
}

/// For text and for attributes.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Hundred times a part of a whole, with three places, in whole numbers: the page does not depend on floating points.
pub(super) fn percent(part: Duration, whole: Duration) -> String {
    let share = part.as_micros() * 100_000 / whole.as_micros().max(1);
    format!("{}.{:03}", share / 1000, share % 1000)
}

pub(super) fn time(time: Duration) -> String {
    let micros = time.as_micros();
    match micros {
        0..10_000 => format!("{}.{} ms", micros / 1000, micros % 1000 / 100),
        10_000..1_000_000 => format!("{} ms", micros / 1000),
        _ => format!("{}.{:02} s", micros / 1_000_000, micros % 1_000_000 / 10_000),
    }
}

fn processor(user: Duration, system: Duration) -> String {
    format!("{} and {} in the kernel", time(user), time(system))
}

pub(super) fn bytes(count: u64) -> String {
    let units = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)];
    match units.iter().find(|(_, size)| count >= *size) {
        Some((unit, size)) => format!("{}.{} {unit}", count / size, count % size * 10 / size),
        None => format!("{count} B"),
    }
}

/// Round times on an axis, at most ten.
fn ticks(whole: Duration) -> Vec<Duration> {
    let whole = u64::try_from(whole.as_micros()).unwrap_or(u64::MAX);
    let mut step: u64 = 1000;
    let mut factors = [2, 5, 10].iter().cycle();
    let mut base = step;
    while whole / step > 9 {
        let factor = factors.next().copied().unwrap_or(10);
        step = base.saturating_mul(factor);
        if factor == 10 {
            base = step;
        }
    }
    // What is written at the very end would hang over.
    let fits = |at: &u64| u128::from(*at) * 20 < u128::from(whole) * 19;
    (0..=whole / step).map(|at| at * step).filter(fits).map(Duration::from_micros).collect()
}
