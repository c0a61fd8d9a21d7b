//! Images of many layers. Beyond 64 of them the store unites what lies below, and nobody can tell.

use crate::support::World;
use crate::support::rungs::Rung;
use crate::support::{Who, long};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

const EPOCH: [&str; 5] = ["--source-date-epoch", "1700000000", "--no-cache", "-t", "app"];

/// What a stack must not lose where a part of it is united: made below, and changed in the same part, right above it,
/// and far above it.
const MADE: &str = "mkdir -p deep/er tree/a tree/b emptied again filed && for i in 1 2 3 4 5 6 7 8; do echo $i > deep/er/$i; \
     echo $i > tree/a/$i; echo $i > emptied/$i; echo $i > again/$i; echo $i > filed/$i; echo $i > single$i; done; \
     echo text > linked && ln linked link1 && ln linked tree/link2 && ln -s linked sym && mkfifo pipe && \
     chown 5:6 deep deep/er/3 && chown -h 7:8 sym pipe && chmod 4711 single7";

const CHANGES: [&str; 9] = [
    "rm deep/er/N single1; touch mark",
    "rm -r emptied; mkdir emptied; echo new > emptied/N",
    "rm -r filed; echo file > filed",
    "rm single2; mkdir single2; echo inside > single2/N",
    "chmod 70N tree/b; chown 1N:2 tree/a/4",
    "rm link1; cat linked tree/link2 > both; ln single3 third",
    "mv sym moved; ln -s elsewhere sym; chown -h 3:N sym; mv pipe pipe2",
    "rm -r again; mkdir -p again/8; ln tree/a/5 again/five",
    "rm -r deep; mkdir -p deep/er; echo N > deep/er/8; mv single4 single4.old; rm third",
];

/// A Dockerfile with so many RUNs.
fn deep(steps: usize) -> String {
    let mut text = format!("FROM base AS deep\nWORKDIR /e\nRUN {MADE}\n");
    for step in 0..steps {
        let change = match step {
            // Within the first part, at its border, and far above.
            30..39 => CHANGES[step - 30].replace('N', "1"),
            58..67 => format!("{}; echo {step} > s{step}", CHANGES[step - 58].replace('N', "2")),
            100..109 => CHANGES[step - 100].replace('N', "6"),
            _ => format!("echo {step} > n{step}; rm -f n{}", step.saturating_sub(20)),
        };
        // What is not there any more is not there.
        text += &format!("RUN cd /e; ({change}) 2>/dev/null || true\n");
    }
    text + "RUN find /e -exec stat -c '%n %F %a %u:%g %s' {} + | grep -v ' directory ' | sort > /listing; ls -R /e > /names\n\
            FROM base\nCOPY --from=deep /e /e\nCOPY --from=deep /listing /names /\n"
}

fn unions(world: &World) -> Vec<(PathBuf, u64)> {
    let snapshots = fs::read_dir(world.store().join("snapshots")).unwrap();
    let inside = snapshots.flat_map(|entry| fs::read_dir(entry.unwrap().path()).unwrap());
    let inside = inside.map(|entry| entry.unwrap());
    let mut found: Vec<(PathBuf, u64)> = inside
        .filter(|entry| entry.file_name().to_str().unwrap().starts_with("union-"))
        .map(|entry| (entry.path(), entry.metadata().unwrap().ino()))
        .collect();
    found.sort();
    found
}

#[test]
fn deep_images_are_the_same_with_and_without_unions() {
    let ways: [(Who, &'static [&'static str], usize); 5] = [
        (Who::Root, &["--snapshots", "whole"], 0),
        (Who::Root, &[], 2),
        (Who::User, &[], 2),
        (Who::User, &["--ids", "single"], 2),
        (Who::User, &["--snapshots", "whole"], 0),
    ];
    let dockerfile = deep(140);
    let mut digests = Vec::new();
    for (who, flags, united) in ways {
        let rung = Rung { who, flags };
        let Some(world) = rung.world().map(World::with_base) else { continue };
        rung.build(&world, &dockerfile, &EPOCH).ok();
        let layers = world.run(["image", "digest", "app"]).ok();
        rung.build(&world, &dockerfile, &[&EPOCH[..], &["--target", "deep"]].concat()).ok();
        let deep = world.run(["image", "digest", "app"]).ok();
        // Each of the two builds made its own.
        assert_eq!(unions(&world).len(), 2 * united, "{rung:?}");
        world.validate("app");
        digests.push((rung, layers, deep));
    }
    for (rung, layers, deep) in &digests {
        assert_eq!((layers, deep), (&digests[0].1, &digests[0].2), "{rung:?}");
    }
}

#[test]
fn a_union_is_found_again_and_goes_with_its_snapshots() {
    for world in World::each() {
        let world = world.with_base();
        let text = deep(70);
        world.build(&text, &["-t", "app"]).ok();
        let made = unions(&world);
        assert_eq!(made.len(), 1, "{:?}", world.who());
        let later = text.replace("ls -R /e > /names", "ls -R /e | sort > /names");
        let said = world.build(&later, &["-t", "app"]);
        assert_eq!(said.done(), 2, "{}", said.stderr);
        assert_eq!(unions(&world), made);
        world.run(["image", "rm", "app"]).ok();
        world.run(["prune", "--all"]).ok();
        assert_eq!(unions(&world), []);
    }
}

#[test]
fn two_thousand_runs_make_an_image() {
    if !long() {
        return;
    }
    for world in World::each() {
        let world = world.with_base();
        let steps: Vec<String> = (0..2000).map(|step| format!("RUN touch /f{step}")).collect();
        let steps = steps.join("\n");
        world
            .build(&format!("FROM base\n{steps}\nRUN ls / | grep -c ^f > /count\n"), &["-t", "app"])
            .ok();
        let listing = world.listing("app");
        assert_eq!(listing.iter().filter(|line| line.starts_with('f')).count(), 2000);
    }
}
