//! Every case of testdata/conformance, built by Debian's buildah and by us: the same tree, config and history.
//!
//! What may differ stands in allowed-differences.txt, and a line there that no case needs is an error too.

use crate::support::bases::{bases, project};
use crate::support::{World, peer};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Output;
use std::sync::Mutex;

const ALLOWED: &str = "testdata/conformance/allowed-differences.txt";

/// What one case gave: differences that are not allowed, and the lines of the list that it needed.
#[derive(Default)]
struct Report {
    differences: String,
    used: BTreeSet<usize>,
}

#[test]
fn images_are_those_of_buildah() {
    let Some(world) = World::root() else { return };
    if !["buildah", "python3", "dpkg-deb", "setfattr"].into_iter().all(peer) {
        return;
    }
    let Some(bases) = bases() else { return };
    for base in ["busybox", "debian"] {
        let layout = format!("{}:latest", bases.join(format!("{base}.oci")).display());
        world.run(["image", "import", &format!("nb-base:{base}"), &layout]).ok();
    }
    let cases = cases();
    assert!(cases.len() >= 25, "only {} cases", cases.len());
    let queue = Mutex::new(cases.iter());
    let reports = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in ["one", "two"] {
            let (world, bases, queue, reports) = (&world, &bases, &queue, &reports);
            scope.spawn(move || {
                let state = world.path(thread);
                loop {
                    let Some(case) = queue.lock().unwrap().next() else { break };
                    let report = compare(world, bases, &state, case);
                    reports.lock().unwrap().push(report);
                }
            });
        }
    });
    let reports = reports.into_inner().unwrap();
    assert_eq!(reports.len(), cases.len());
    let mut differences: Vec<&str> = reports.iter().map(|one| one.differences.as_str()).collect();
    differences.sort_unstable();
    assert_eq!(differences.concat(), "");
    let used: BTreeSet<usize> = reports.iter().flat_map(|report| report.used.clone()).collect();
    assert_eq!(
        used,
        allowances(),
        "lines of {ALLOWED} that a case needs, and those that there are"
    );
}

fn cases() -> Vec<String> {
    let dir = fs::read_dir(project("testdata/conformance")).unwrap();
    let mut cases: Vec<String> = dir
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    cases.sort();
    cases
}

/// Numbers of the lines of the list that say something.
fn allowances() -> BTreeSet<usize> {
    let text = fs::read_to_string(project(ALLOWED)).unwrap();
    let says = |line: &str| !line.trim().is_empty() && !line.starts_with('#');
    (1..).zip(text.lines()).filter(|(_, line)| says(line)).map(|(number, _)| number).collect()
}

fn compare(world: &World, bases: &Path, state: &Path, case: &str) -> Report {
    let directory = project("testdata/conformance").join(case);
    let words = fs::read_to_string(directory.join("args")).unwrap_or_default();
    let words: Vec<&str> = words.lines().collect();
    let context = world.path(&format!("context-{case}"));
    let reference = world.path(&format!("out/{case}.tar"));
    let ours = world.path(&format!("out/{case}.oci"));
    let script = |name: &str| world.command(project("scripts").join(name));
    let steps: [&dyn Fn() -> Output; 3] = [
        &|| script("conformance-context").arg(&directory).arg(&context).output().unwrap(),
        &|| {
            let mut buildah = script("build-with-buildah");
            buildah.arg(state).arg(bases).arg(&context).arg(&reference).args(&words);
            buildah.output().unwrap()
        },
        &|| {
            let mut build = world.command(crate::support::program());
            build.args(["build", "--progress", "plain", "--network", "none", "-t", case, "-o"]);
            build.arg(format!("type=oci,dest={}", ours.display())).args(&words).arg(&context);
            build.output().unwrap()
        },
    ];
    for step in steps {
        let output = step();
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Report {
                differences: format!("{case}\tcannot be built\n{said}\n"),
                ..Report::default()
            };
        }
    }
    world.validate(case);
    let mut compare = script("compare-images");
    compare.arg("--allow").arg(project(ALLOWED)).args(["--case", case]).arg(&reference).arg(&ours);
    let output = compare.output().unwrap();
    let mut report = Report::default();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        match line.strip_prefix("allowed:").and_then(|rest| rest.split_once('\t')) {
            Some((number, _)) => {
                report.used.insert(number.parse().unwrap());
            }
            None => report.differences += &format!("{case}\t{line}\n"),
        }
    }
    report.differences += &String::from_utf8_lossy(&output.stderr);
    report
}
