//! The same digest everywhere: Dockerfiles of all kinds under each isolation, id mode and way to keep trees.
//!
//! The Dockerfiles are `testdata/environments/*`. Two of them want Debian, which takes longer: they are built in fewer
//! ways unless `NATIVEBUILD_LONG=1`.

use crate::support::bases::{bases, project};
use crate::support::rungs::{MATRIX, MORE, RUNGS, Rung, SINGLE};
use crate::support::{World, is_root, long};
use std::collections::BTreeMap;
use std::fs;
use std::sync::OnceLock;

/// Name and text.
type Case = (String, String);

/// Those on a base: `base` or `debian`.
fn cases(on: &str) -> Vec<Case> {
    let dir = project("testdata/environments");
    let mut cases: Vec<Case> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let text = fs::read_to_string(entry.path().join("Dockerfile")).unwrap();
            (entry.file_name().into_string().unwrap(), text)
        })
        .filter(|(_, text)| text.contains(&format!("\nFROM {on}\n")))
        .collect();
    cases.sort();
    cases
}

/// The digest of each image, or the end of what was said instead.
fn digests(rung: &Rung, world: &World, cases: &[Case]) -> BTreeMap<String, String> {
    fs::write(world.path("secret"), "not for images").unwrap();
    world.give();
    let build = |(name, text): &Case| {
        let args =
            ["--source-date-epoch", "1700000000", "--secret", "id=s,src=secret", "-t", "app"];
        let said = rung.build(world, text, &args);
        let digest = match said.code {
            0 => world.run(["image", "digest", "app"]).ok(),
            _ => said.stderr,
        };
        (name.clone(), digest)
    };
    cases.iter().map(build).collect()
}

/// Those on busybox in one way.
fn small(rung: &Rung) -> Option<BTreeMap<String, String>> {
    Some(digests(rung, &rung.world()?.with_base(), &cases("base")))
}

/// Those on busybox in the first way that there is.
fn reference() -> &'static BTreeMap<String, String> {
    static REFERENCE: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    REFERENCE.get_or_init(|| {
        let found = MATRIX.iter().find_map(small).expect("a user");
        let built = |digest: &String| digest.starts_with("sha256:");
        assert!(found.len() >= 10 && found.values().all(built), "{found:#?}");
        found
    })
}

fn same(rungs: &[Rung]) {
    for rung in rungs {
        if let Some(found) = small(rung) {
            assert_eq!(&found, reference(), "{rung:?}");
        }
    }
}

#[test]
fn digests_are_the_same_in_namespaces() {
    same(&MATRIX[1..4]);
}

#[test]
fn digests_are_the_same_in_a_changed_root_directory_and_with_own_ids() {
    same(&MATRIX[4..7]);
}

#[test]
fn digests_are_the_same_for_an_ordinary_user() {
    same(&MATRIX[7..]);
}

#[test]
fn digests_are_the_same_in_all_other_ways() {
    if long() {
        same(MORE);
    }
}

#[test]
fn digests_are_the_same_with_one_id() {
    same(SINGLE);
}

#[test]
fn digests_are_the_same_on_debian() {
    if !is_root() {
        return;
    }
    let Some(bases) = bases() else { return };
    let cases = cases("debian");
    let all = if long() { MATRIX } else { &[RUNGS[2], RUNGS[3]][..] };
    let mut first = None;
    for rung in all {
        let Some(world) = rung.world() else { continue };
        let tar = bases.join("debian.tar");
        world.run(["image", "import", "debian", tar.to_str().unwrap()]).ok();
        let found = digests(rung, &world, &cases);
        assert!(found.values().all(|digest| digest.starts_with("sha256:")), "{rung:?} {found:#?}");
        assert_eq!(&found, first.get_or_insert_with(|| found.clone()), "{rung:?}");
    }
}

/// What no isolation can hide; docs/environments.md says so.
#[test]
fn two_things_differ_and_are_documented() {
    let listing = |rung: &Rung, dockerfile: &str| {
        let world = rung.world()?.with_base();
        rung.build(&world, dockerfile, &["-t", "app"]).ok();
        Some(world.listing("app").into_iter().filter(|line| line.starts_with("x/")).collect())
    };
    let names = "FROM base\nRUN mkdir /x && echo 1 > /x/a && ln /x/a /x/b\nRUN echo 22 > /x/a\n";
    let whole = [MATRIX[1], MATRIX[8]].iter().find_map(|rung| listing(rung, names));
    let whole: Vec<String> = whole.expect("a user");
    assert_eq!(whole, ["x/a file 644 0:0 3", "x/b link 644 0:0 x/a"]);
    let apart = [MATRIX[0], MATRIX[7]].iter().find_map(|rung| listing(rung, names));
    let apart: Vec<String> = apart.expect("a user");
    assert_eq!(apart, ["x/a file 644 0:0 3", "x/b file 644 0:0 2"]);
    let bits = "FROM base\nRUN mkdir /x && echo 1 > /x/a && chmod 6755 /x/a && echo 2 >> /x/a\n";
    for (rung, mode) in [(MATRIX[0], "6755"), (MATRIX[7], "755")] {
        if let Some(found) = listing(&rung, bits) {
            let found: Vec<String> = found;
            assert_eq!(found, [format!("x/a file {mode} 0:0 4")], "{rung:?}");
        }
    }
}
