//! The same Dockerfile and context through BuildKit and through us: tree, config and history.
//!
//! What BuildKit makes of the cases of testdata/conformance is recorded there, so that an ordinary test run needs no
//! daemon. With `NATIVEBUILD_BUILDKIT=check` the daemon is asked whether the records are still right, with `=record`
//! they are written anew; `NATIVEBUILD_CASES` may name the beginning of the cases that are meant.

mod bench;
mod cases;
mod facts;
mod random;
mod records;
mod tree;

use crate::support::{World, have};
use bench::{Bench, BuildKit, Outcome};
use cases::Case;
use records::{ALLOWED, Records, allowed, difference};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// What is to be done with the daemon in this run: nothing where the variable is not set.
fn buildkit_mode() -> Option<String> {
    let mode = std::env::var("NATIVEBUILD_BUILDKIT").ok();
    have("buildkit", mode.is_some()).then_some(mode).flatten()
}

/// Carries a build out for every case, two at a time.
fn outcomes(cases: &[Case], build: impl Fn(&Case) -> Outcome + Sync) -> Records {
    let queue = Mutex::new(cases.iter());
    let done = Mutex::new(Records::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(case) = queue.lock().unwrap().next() else { break };
                    let outcome = build(case);
                    done.lock().unwrap().insert(case.name.clone(), outcome);
                }
            });
        }
    });
    done.into_inner().unwrap()
}

/// Blocks of differences as the list of the allowed ones has them, without reasons.
fn differences(theirs: &Records, ours: &Records) -> BTreeMap<String, String> {
    let names: std::collections::BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
    let none = Vec::new();
    let blocks = names.into_iter().map(|name| {
        let (a, b) = (theirs.get(name).unwrap_or(&none), ours.get(name).unwrap_or(&none));
        (name.clone(), difference(a, b))
    });
    blocks.filter(|(_, block)| !block.is_empty()).collect()
}

/// Text of the blocks that only one side has.
fn unexpected(found: &BTreeMap<String, String>, expected: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for (name, block) in found.iter().filter(|(name, block)| expected.get(*name) != Some(block)) {
        text += &format!("=== {name}\n{block}\n");
    }
    for name in expected.keys().filter(|name| !found.contains_key(*name)) {
        text += &format!("=== {name}\n(is in {ALLOWED}, and nothing differs)\n");
    }
    text
}

#[test]
fn images_are_those_that_buildkit_made() {
    let world = World::new();
    let Some(bench) = Bench::new(&world) else { return };
    let cases = cases::all();
    assert!(cases.len() >= 150, "only {} cases", cases.len());
    let ours = outcomes(&cases, |case| bench.build(case));
    let found = unexpected(&differences(&records::read(&cases), &ours), &allowed());
    assert!(found.is_empty(), "- is BuildKit, + is nativebuild\n{found}");
}

#[test]
fn records_are_what_buildkit_says() {
    let Some(mode) = buildkit_mode() else { return };
    let world = World::new();
    let Some(bench) = Bench::new(&world) else { return };
    let Some(buildkit) = BuildKit::start(&world) else { return };
    let cases = cases::all();
    let wanted = std::env::var("NATIVEBUILD_CASES").unwrap_or_default();
    let (asked, rest): (Vec<Case>, Vec<Case>) =
        cases.into_iter().partition(|case| case.name.starts_with(&wanted));
    let theirs = outcomes(&asked, |case| buildkit.build(&bench, case));
    let mut recorded = records::read(&cases::all());
    if mode == "record" {
        recorded.extend(theirs);
        records::write(&cases::all(), &recorded);
        return;
    }
    recorded.retain(|name, _| !rest.iter().any(|case| case.name == *name));
    let found = unexpected(&differences(&recorded, &theirs), &BTreeMap::new());
    assert!(found.is_empty(), "- is the record, + is BuildKit now\n{found}");
}

/// Seeds of random builds: `NATIVEBUILD_RANDOM` says how many, `NATIVEBUILD_SEED` the first one.
fn seeds() -> Vec<Case> {
    let number =
        |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (first, count) = (number("NATIVEBUILD_SEED", 0), number("NATIVEBUILD_RANDOM", 40));
    (first..first + count).map(random::case).collect()
}

#[test]
fn random_builds_are_the_same_cold_and_cached() {
    let world = World::new();
    let Some(bench) = Bench::new(&world) else { return };
    let failures = outcomes(&seeds(), |case| {
        let (context, words) = bench.context(case);
        let cold = bench.run(&context, &words, &["--network", "none", "--no-cache", "-q"]);
        let warm = bench.run(&context, &words, &["--network", "none", "-q"]);
        let strange = ![0, 1].contains(&cold.code);
        if cold.code == warm.code && cold.stdout == warm.stdout && !strange {
            return Outcome::new();
        }
        vec![format!("{}cold {cold:#?}\ncached {warm:#?}", random::as_text(case))]
    });
    let failures: String = failures.values().flatten().cloned().collect();
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn random_builds_are_those_of_buildkit() {
    if buildkit_mode().is_none() {
        return;
    }
    let world = World::new();
    let Some(bench) = Bench::new(&world) else { return };
    let Some(buildkit) = BuildKit::start(&world) else { return };
    let cases = seeds();
    let found = outcomes(&cases, |case| {
        let (theirs, ours) = (buildkit.build(&bench, case), bench.build(case));
        let difference = difference(&random::loosely(&theirs), &random::loosely(&ours));
        let failed = theirs[0].starts_with("fails: ");
        if failed && difference.is_empty() { theirs } else { vec![difference] }
    });
    let mut counts = BTreeMap::new();
    let mut text = String::new();
    for case in &cases {
        let line = found[&case.name].join("\n");
        let kind = match &*line {
            "" => "equal",
            line if line.starts_with("fails: ") => "refused by both",
            _ => "different",
        };
        *counts.entry(kind).or_insert(0) += 1;
        if kind == "different" {
            text +=
                &format!("{}# - is BuildKit, + is nativebuild\n{line}\n", random::as_text(case));
        }
    }
    eprintln!("random builds: {counts:?}");
    assert!(text.is_empty(), "{text}");
}
