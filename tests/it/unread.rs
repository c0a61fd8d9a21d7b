//! Commands that leave thousands of files, which are read while the next command already runs.

use crate::support::{Who, World};
use serde_json::Value;
use std::fs;

/// Makes, replaces, links and removes them; some are as they were, though the overlay has them. The commands in between
/// are short, so that what is read is still being read.
const DOCKERFILE: &str = r"FROM base
RUN mkdir /t && for d in a b c d e f g h i j; do mkdir /t/$d; for i in $(seq 600); do echo $d$i > /t/$d/$i; done; done
RUN echo changed > /t/a/1; rm -r /t/b; ln -s a /t/b
RUN find /t -type f -exec chmod 640 {} + && rm -r /t/c && mkdir /t/c && touch /t/c/new && chmod 640 /t/c/new && ln /t/d/1 /t/d/link && mknod /t/fifo p
RUN echo changed > /t/d/2; chmod 640 /t/e/1; rm /t/d/link /t/f/1
RUN find /t -type f -exec chmod 640 {} +
RUN cat /t/a/1 /t/d/1 /t/e/2 > /read; find /t | sort >> /read
";

fn spans<'v>(timings: &'v Value, position: &str, phase: &str) -> Vec<&'v Value> {
    let steps = timings["steps"].as_array().unwrap();
    let step = &steps.iter().find(|step| step["position"] == position).unwrap()["step"];
    let spans = timings["spans"].as_array().unwrap().iter();
    spans.filter(|span| span["step"] == *step && span["phase"] == phase).collect()
}

#[test]
fn what_thousands_of_files_make_is_the_same_whenever_they_are_read() {
    let mut digests = Vec::new();
    for world in World::each() {
        let world = world.with_base();
        for snapshots in ["overlay", "whole"] {
            let args = [
                &["-t", "app", "--no-cache", "--source-date-epoch", "1700000000"][..],
                &["--snapshots", snapshots, "--timings", "out/t.json"],
            ];
            world.build(DOCKERFILE, &args.concat()).ok();
            world.validate("app");
            let layers = world.run(["image", "digest", "app"]).ok();
            let timings = fs::read_to_string(world.path("out/t.json")).unwrap();
            let timings: Value = serde_json::from_str(&timings).unwrap();
            // The fifth changes nothing, though the overlay has thousands of names of it.
            let many = [true, false, true, false, false, false];
            for (number, many) in many.into_iter().enumerate() {
                let position = format!("{}/6", number + 1);
                let position = format!("stage-0 {position}");
                let (diffs, layers) =
                    (spans(&timings, &position, "diff"), spans(&timings, &position, "layer"));
                assert_eq!((diffs.len(), layers.len()), (1, 1), "{position}");
                let later = diffs[0]["thread"] == layers[0]["thread"];
                let wanted = many && snapshots == "overlay" && world.who() == Who::Root;
                assert_eq!(later, wanted, "{position} {snapshots} {:?}", world.who());
            }
            if snapshots == "overlay" {
                let trees = fs::read_dir(world.store().join("snapshots")).unwrap();
                let trees = trees.filter(|tree| tree.as_ref().unwrap().path().join("fs").exists());
                // Of the base and of the others.
                assert_eq!(trees.count(), 6, "{:?}", world.who());
            }
            digests.push((world.who(), snapshots, layers));
        }
        // Once more on what is kept, and on what comes out of blobs.
        let again = DOCKERFILE.replace("chmod 640 /t/e/1;", "chmod 640 /t/e/1 /t/e/2;");
        let build =
            || world.build(&again, &["-t", "app", "--source-date-epoch", "1700000000"]).ok();
        let kept = build();
        world.run(["image", "rm", "app"]).ok();
        world.run(["prune", "--all"]).ok();
        assert_eq!(build(), kept);
    }
    for (who, snapshots, digest) in &digests {
        assert_eq!(*digest, digests[0].2, "{who:?} {snapshots}");
    }
}
