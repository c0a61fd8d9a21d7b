//! The same Dockerfile and context through BuildKit, buildah and us: tree, config and history.
//!
//! What the others make of the cases of testdata/conformance is recorded there, so that an ordinary test run needs no
//! daemon. With `NATIVEBUILD_BUILDKIT=check` the daemon is asked whether the records are still right, with `=record`
//! they are written anew; `NATIVEBUILD_BUILDAH` does the same for buildah. `NATIVEBUILD_CASES` may name the beginning
//! of the cases that are meant.

mod bench;
mod buildah;
mod cases;
mod facts;
mod random;
mod records;
mod tree;

use crate::support::{World, have};
use bench::{Bench, BuildKit, Outcome};
use buildah::Buildah;
use cases::Case;
use records::{BUILDAH, BUILDKIT, Peer, Records, allowed, difference};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// What is to be done with another builder in this run: nothing where its variable is not set.
fn mode(peer: Peer) -> Option<String> {
    let mode = std::env::var(format!("NATIVEBUILD_{}", peer.0.to_uppercase())).ok();
    have(peer.0, mode.is_some()).then_some(mode).flatten()
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
fn unexpected(
    list: &str,
    found: &BTreeMap<String, String>,
    expected: &BTreeMap<String, String>,
) -> String {
    let mut text = String::new();
    for (name, block) in found.iter().filter(|(name, block)| expected.get(*name) != Some(block)) {
        text += &format!("=== {name}\n{block}\n");
    }
    for name in expected.keys().filter(|name| !found.contains_key(*name)) {
        text += &format!("=== {name}\n(is in {list}, and nothing differs)\n");
    }
    text
}

#[test]
fn images_are_those_that_the_others_made() {
    let world = World::new();
    let Some(bench) = Bench::new(&world) else { return };
    let cases = cases::all();
    assert!(cases.len() >= 150, "only {} cases", cases.len());
    let mut ours = outcomes(&cases, |case| bench.build(case));
    let mut text = String::new();
    for peer in [BUILDKIT, BUILDAH] {
        let theirs = records::read(peer, &cases);
        let found = unexpected(&peer.list(), &differences(&theirs, &ours), &allowed(peer));
        if !found.is_empty() {
            text += &format!("- is {}, + is nativebuild\n{found}", peer.0);
        }
        for facts in ours.values_mut() {
            *facts = buildah::loosely(facts);
        }
    }
    assert!(text.is_empty(), "{text}");
}

#[test]
fn records_are_what_buildkit_says() {
    let Some(mode) = mode(BUILDKIT) else { return };
    let world = World::new();
    let Some(bench) = Bench::new(&world) else { return };
    let Some(buildkit) = BuildKit::start(&world) else { return };
    check_or_record(BUILDKIT, &mode, |case| buildkit.build(&bench, case));
}

#[test]
fn records_are_what_buildah_says() {
    let Some(mode) = mode(BUILDAH) else { return };
    let world = World::new();
    let Some(bench) = Bench::new(&world) else { return };
    let Some(buildah) = Buildah::start(&world) else { return };
    check_or_record(BUILDAH, &mode, |case| buildah.build(&bench, case));
}

fn check_or_record(peer: Peer, mode: &str, build: impl Fn(&Case) -> Outcome + Sync) {
    let wanted = std::env::var("NATIVEBUILD_CASES").unwrap_or_default();
    let (asked, rest): (Vec<Case>, Vec<Case>) =
        cases::all().into_iter().partition(|case| case.name.starts_with(&wanted));
    let theirs = outcomes(&asked, build);
    let mut recorded = records::read(peer, &cases::all());
    if mode == "record" {
        recorded.extend(theirs);
        records::write(peer, &cases::all(), &recorded);
        return;
    }
    recorded.retain(|name, _| !rest.iter().any(|case| case.name == *name));
    let found = unexpected(&peer.list(), &differences(&recorded, &theirs), &BTreeMap::new());
    assert!(found.is_empty(), "- is the record, + is {} now\n{found}", peer.0);
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
    if mode(BUILDKIT).is_none() {
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
