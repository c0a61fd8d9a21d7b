//! The one recorder of a process: a lock around lists. It is held for the time of a push.

use super::{Cpu, MAX_SPANS, MAX_STEPS, MAX_TEXT, Outcome, Phase, Place, Recorded, Span};
use super::{SpanTime, StepTime};
use crate::progress::{Event, StepId};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Recorder {
    began: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    build: u32,
    steps: Vec<StepTime>,
    by_id: HashMap<(u32, StepId), usize>,
    by_place: HashMap<Place, usize>,
    spans: Vec<(Option<Place>, SpanTime)>,
    threads: HashMap<ThreadId, Thread>,
    dropped: u64,
}

#[derive(Clone, Copy, Debug)]
struct Thread {
    number: u32,
    place: Option<Place>,
}

impl State {
    fn thread(&mut self) -> &mut Thread {
        let number = self.threads.len() as u32 + 1;
        self.threads.entry(thread::current().id()).or_insert(Thread { number, place: None })
    }

    fn push(&mut self, place: Option<Place>, span: SpanTime) {
        if self.spans.len() < MAX_SPANS {
            self.spans.push((place, span));
        } else {
            self.dropped += 1;
        }
    }
}

impl Recorder {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), state: Mutex::default() }
    }

    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn next_build(&self) {
        self.lock().build += 1;
    }

    pub(super) fn place_of(&self, stage: usize, position: usize) -> Place {
        Place { build: self.lock().build, stage, position }
    }

    /// Where this thread was.
    pub(super) fn go_to(&self, place: Option<Place>) -> Option<Place> {
        std::mem::replace(&mut self.lock().thread().place, place)
    }

    pub(super) fn here(&self) -> Option<Place> {
        self.lock().thread().place
    }

    pub(super) fn add(&self, span: &mut Span<'_>, begin: Duration) {
        let end = self.now();
        let mut state = self.lock();
        let Thread { number, place } = *state.thread();
        let time = SpanTime {
            phase: span.phase,
            step: None,
            thread: Some(number),
            begin,
            end,
            bytes_in: span.bytes_in,
            bytes_out: span.bytes_out,
            blocks_known: span.blocks_known,
            what: span.what.take(),
        };
        state.push(place, time);
    }

    pub(super) fn add_waiting(&self, phase: Phase, from: Instant) {
        let time = SpanTime {
            phase,
            step: None,
            thread: None,
            begin: from.saturating_duration_since(self.began),
            end: self.now(),
            bytes_in: None,
            bytes_out: None,
            blocks_known: None,
            what: None,
        };
        let mut state = self.lock();
        let place = state.thread().place;
        state.push(place, time);
    }

    pub(super) fn command_used(&self, cpu: Cpu) {
        let mut state = self.lock();
        let Some(place) = state.thread().place else { return };
        if let Some(at) = state.by_place.get(&place).copied() {
            let all = state.steps[at].cpu.get_or_insert_default();
            all.user += cpu.user;
            all.system += cpu.system;
        }
    }

    pub(super) fn event(&self, event: &Event) {
        let (id, outcome) = match event {
            Event::StepStarted { .. } => return self.started(event),
            Event::StepDone { id, .. } => (*id, Outcome::Done),
            Event::StepCached { id } => (*id, Outcome::Cached),
            Event::StepFailed { id, .. } => (*id, Outcome::Failed),
            Event::StepStopped { id } => (*id, Outcome::Stopped),
            _ => return,
        };
        let now = self.now();
        let mut state = self.lock();
        let build = state.build;
        if let Some(at) = state.by_id.get(&(build, id)).copied() {
            let step = &mut state.steps[at];
            (step.outcome, step.end) = (Some(outcome), now);
        }
    }

    fn started(&self, event: &Event) {
        let Event::StepStarted { id, position, platform, name, line } = event else { return };
        let now = self.now();
        let mut state = self.lock();
        if state.steps.len() >= MAX_STEPS {
            state.dropped += 1;
            return;
        }
        let (at, build) = (state.steps.len(), state.build);
        if let Some(place) = state.thread().place {
            state.by_place.insert(place, at);
        }
        state.by_id.insert((build, *id), at);
        state.steps.push(StepTime {
            build,
            id: *id,
            position: position.clone(),
            platform: platform.clone(),
            line: *line,
            text: shortened(name),
            outcome: None,
            begin: now,
            end: now,
            cpu: None,
        });
    }

    pub(super) fn recorded(&self) -> Recorded {
        let wall = self.now();
        let state = self.lock();
        let mut steps = state.steps.clone();
        for step in steps.iter_mut().filter(|step| step.outcome.is_none()) {
            step.end = wall;
        }
        let found = |(place, span): &(Option<Place>, SpanTime)| SpanTime {
            step: place.and_then(|place| state.by_place.get(&place).copied()),
            ..span.clone()
        };
        let mut spans: Vec<SpanTime> = state.spans.iter().map(found).collect();
        spans.sort_by_key(|span| (span.begin, std::cmp::Reverse(span.end)));
        Recorded { wall, steps, spans, threads: state.threads.len() as u32, dropped: state.dropped }
    }
}

/// On one line, and not longer than [`MAX_TEXT`].
fn shortened(text: &str) -> String {
    let mut short = String::new();
    for word in text.split_whitespace() {
        if !short.is_empty() {
            short.push(' ');
        }
        short.push_str(word);
        if let Some((end, _)) = short.char_indices().nth(MAX_TEXT) {
            short.truncate(end);
            short.push('…');
            break;
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use super::super::Timings;
    use super::*;

    fn started(id: StepId, name: &str) -> Event {
        Event::StepStarted {
            id,
            position: "build 1/1".to_owned(),
            platform: None,
            name: name.to_owned(),
            line: 2,
        }
    }

    /// Phase, index of the step and thread of every span.
    fn shape(recorded: &Recorded) -> Vec<(&'static str, Option<usize>, Option<u32>)> {
        recorded.spans.iter().map(|s| (s.phase.as_str(), s.step, s.thread)).collect()
    }

    #[test]
    fn what_a_thread_does_belongs_to_the_step_it_is_at() {
        let timings = Timings::recording();
        timings.next_build();
        drop(timings.span(Phase::Plan));
        {
            let _at = timings.at_step(0, 1);
            drop(timings.span(Phase::LookUp));
            timings.event(&started(1, "RUN  a\n b"));
            let place = timings.place();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let _at = timings.at(place);
                    let mut span = timings.span(Phase::Layer);
                    span.took(5);
                    span.gave(3);
                    span.about(&"digest");
                });
            });
            let cpu = Cpu { user: Duration::from_secs(1), system: Duration::ZERO };
            timings.command_used(cpu);
            timings.event(&Event::StepDone { id: 1, took: Duration::ZERO });
        }
        drop(timings.span(Phase::Sync));
        let recorded = timings.recorded().unwrap();
        let mut found = shape(&recorded);
        found.sort();
        assert_eq!(
            found,
            [
                ("layer", Some(0), Some(2)),
                ("look-up", Some(0), Some(1)),
                ("plan", None, Some(1)),
                ("sync", None, Some(1)),
            ]
        );
        let layer = recorded.spans.iter().find(|span| span.phase == Phase::Layer).unwrap();
        assert_eq!((layer.bytes_in, layer.bytes_out), (Some(5), Some(3)));
        assert_eq!(layer.what.as_deref(), Some("digest"));
        let step = &recorded.steps[0];
        assert_eq!((step.text.as_str(), step.outcome), ("RUN a b", Some(Outcome::Done)));
        assert_eq!(step.cpu.unwrap().user, Duration::from_secs(1));
    }

    /// A look-up that found nothing belongs to the step that another thread announces later, in the same build only.
    #[test]
    fn steps_of_two_builds_are_kept_apart() {
        let timings = Timings::recording();
        for build in 1..=2 {
            timings.next_build();
            {
                let _at = timings.at_step(0, 1);
                drop(timings.span(Phase::LookUp));
            }
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let _at = timings.at_step(0, 1);
                    timings.event(&started(1, &format!("RUN {build}")));
                    timings.event(&Event::StepCached { id: 1 });
                });
            });
        }
        let recorded = timings.recorded().unwrap();
        let steps: Vec<(u32, &str)> =
            recorded.steps.iter().map(|step| (step.build, step.text.as_str())).collect();
        assert_eq!(steps, [(1, "RUN 1"), (2, "RUN 2")]);
        assert_eq!(
            shape(&recorded),
            [("look-up", Some(0), Some(1)), ("look-up", Some(1), Some(1))]
        );
    }

    #[test]
    fn memory_is_bounded() {
        let timings = Timings::recording();
        for _ in 0..MAX_SPANS + 7 {
            drop(timings.span(Phase::Sync));
        }
        timings.event(&started(1, &"é ".repeat(5000)));
        let recorded = timings.recorded().unwrap();
        assert_eq!((recorded.spans.len(), recorded.dropped), (MAX_SPANS, 7));
        assert_eq!(recorded.steps[0].text.chars().count(), MAX_TEXT + 1);
    }

    #[test]
    fn nothing_is_recorded_unless_asked_for() {
        let timings = Timings::default();
        let _at = timings.at_step(0, 1);
        drop(timings.span(Phase::Sync));
        assert_eq!((timings.recorded(), timings.place(), timings.instant()), (None, None, None));
    }
}
