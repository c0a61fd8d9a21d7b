//! Steps that leave many files: the memory that a build takes for each.

use crate::support::World;

/// Makes `size` files, half of them in one directory.
fn dockerfile(size: usize) -> String {
    let half = size / 2;
    format!(
        "FROM base\n\
         RUN set -e; mkdir /one && cd /one && seq {half} | xargs touch; \
         for dir in $(seq 50); do mkdir /d$dir; cd /d$dir; seq {each} | xargs touch; done\n",
        each = half / 50,
    )
}

/// Most memory of a build's main process, in bytes, and how many files its image has beyond those of the base.
fn peak(world: &World, size: usize) -> (u64, usize) {
    let report = world.path("out/timings.json");
    let base = world.listing("base").len();
    let flags = ["-t", "app", "--no-cache", "--timings", report.to_str().unwrap()];
    world.build(&dockerfile(size), &flags).ok();
    let text = std::fs::read_to_string(&report).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    (report["process"]["peak_memory"].as_u64().unwrap(), world.listing("app").len() - base)
}

/// Found by building: what changed took 400 bytes for each file, and half a million files 190 MiB.
#[test]
fn what_a_run_makes_takes_little_memory() {
    const FEW: usize = 1000;
    const MANY: usize = 100_000;
    for world in World::each() {
        let world = world.with_base();
        let (few, listed) = peak(&world, FEW);
        assert_eq!(listed, FEW + 51, "{:?}", world.who());
        let (many, listed) = peak(&world, MANY);
        assert_eq!(listed, MANY + 51, "{:?}", world.who());
        assert!(many > few, "{few} and {many} bytes, {:?}", world.who());
        let each = (many - few) / (MANY - FEW) as u64;
        assert!(each < 200, "{each} bytes for a file, {:?}", world.who());
    }
}
