//! Both forms of a made-up build, whole, against golden files; what a Dockerfile says stays text.

use super::*;
use crate::sys::usage::Spent;
use crate::timings::{Cpu, Outcome, Phase, SpanTime, StepTime};
use std::time::Duration;

fn at(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

fn span(phase: Phase, step: Option<usize>, thread: u32, begin: u64, end: u64) -> SpanTime {
    let (begin, end) = (at(begin), at(end));
    let thread = Some(thread);
    SpanTime {
        phase,
        step,
        thread,
        begin,
        end,
        bytes_in: None,
        bytes_out: None,
        blocks_known: None,
        what: None,
    }
}

fn step(id: u32, position: &str, text: &str, outcome: Outcome) -> StepTime {
    StepTime {
        build: 1,
        id,
        position: position.to_owned(),
        platform: None,
        line: id as usize + 1,
        text: text.to_owned(),
        outcome: Some(outcome),
        begin: at(u64::from(id) * 10_000),
        end: at(u64::from(id) * 10_000 + 7_500),
        cpu: None,
    }
}

/// Two stages, one step cached, one that failed, with texts that would be markup.
fn document() -> Document {
    let hostile = "RUN echo '</style></script><script>alert(1)</script>' \"&amp;\" \u{1b}[2J";
    let mut failed = step(2, "build 2/2", hostile, Outcome::Failed);
    failed.platform = Some("linux/s390x".to_owned());
    failed.cpu = Some(Cpu { user: at(1_250_000), system: at(90_001) });
    failed.end = at(1_500_000);
    let layer = SpanTime {
        bytes_in: Some(10_240),
        bytes_out: Some(1_234),
        blocks_known: Some(3),
        what: Some("sha256:<b>".to_owned()),
        ..span(Phase::Layer, Some(0), 2, 30_000, 42_000)
    };
    let queue = SpanTime { thread: None, ..span(Phase::Queue, Some(0), 0, 29_000, 30_000) };
    let recorded = Recorded {
        wall: at(2_000_000),
        steps: vec![step(1, "base 1/1", "COPY . /", Outcome::Cached), failed],
        spans: vec![
            span(Phase::Plan, None, 1, 0, 1_000),
            span(Phase::LookUp, Some(0), 1, 1_000, 9_999),
            queue,
            layer,
            span(Phase::WaitPlace, Some(1), 1, 20_000, 20_000),
            span(Phase::Run, Some(1), 1, 20_000, 1_500_000),
        ],
        threads: 2,
        dropped: 3,
    };
    let spent = Spent { user: 12_000, system: 3_400 };
    let usage = Usage { spent, peak_memory: 21_000_000 };
    Document { began: "2026-01-02T03:04:05.678901Z".to_owned(), built: false, recorded, usage }
}

fn golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/timings").join(name);
    let version = concat!("nativebuild ", env!("CARGO_PKG_VERSION"));
    let found = found.replace(version, "nativebuild VERSION");
    #[allow(clippy::disallowed_methods, reason = "how all golden files are blessed")]
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, found).unwrap();
        return;
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, wanted, "{} (UPDATE_EXPECT=1 rewrites it)", path.display());
}

#[test]
fn the_data_are_these() {
    golden("build.json", &json::render(&document()));
}

#[test]
fn the_page_is_this() {
    let page = page::render(&document());
    for markup in ["<script", "</script", "\u{1b}", "<b>", "&amp;amp; "] {
        assert!(!page.contains(markup), "{markup}");
    }
    assert_eq!(page.matches("</style>").count(), 1);
    golden("build.html", &page);
}

/// Nothing recorded, no time gone by: no division by nothing.
#[test]
fn a_build_that_did_nothing_has_a_page() {
    let nothing = Document { recorded: Recorded::default(), ..document() };
    assert!(page::render(&nothing).contains("<tr><th>whole time</th><td>0.0 ms</td></tr>"));
}

#[test]
fn the_ending_says_the_form() {
    for (path, form) in [("a.json", Form::Json), ("A.HTML", Form::Page), ("x/a.htm", Form::Page)] {
        assert_eq!(form_of(Path::new(path)).unwrap(), form);
    }
    for path in ["-", "a", "json", ".json", "a.svg"] {
        let error = form_of(Path::new(path)).unwrap_err();
        assert_eq!(
            (error.kind(), error.message()),
            (ErrorKind::Usage, format!("`--timings {path}` is no file of a known form").as_str())
        );
    }
}
