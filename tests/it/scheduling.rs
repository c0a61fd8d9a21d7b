//! Which steps work at the same time, and which goes first; from what a build says of its time, and by commands that wait
//! for each other.

use crate::support::World;
use serde_json::Value;
use std::fs;

/// Takes long enough for everybody else to be in line when it ends.
const WORK: &str = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done";

/// The commands that ran, in the order of their beginnings: position, begin and end.
fn commands(world: &World, dockerfile: &str, jobs: &str) -> Vec<(String, u64, u64)> {
    let args = ["-t", "app", "--jobs", jobs, "--timings", "out/t.json"];
    world.build(dockerfile, &args).ok();
    world.validate("app");
    let text = fs::read_to_string(world.path("out/t.json")).unwrap();
    let timings: Value = serde_json::from_str(&text).unwrap();
    let steps = timings["steps"].as_array().unwrap();
    let position = |number: &Value| {
        let step = steps.iter().find(|step| step["step"] == *number).unwrap();
        step["position"].as_str().unwrap().to_owned()
    };
    let spans = timings["spans"].as_array().unwrap().iter();
    let time = |span: &Value, key: &str| span[key].as_u64().unwrap();
    spans
        .filter(|span| span["phase"] == "run")
        .map(|span| (position(&span["step"]), time(span, "begin"), time(span, "end")))
        .collect()
}

#[test]
fn no_more_steps_work_at_once_than_are_allowed() {
    // Two of them meet in a pipe: so many do work at once.
    let meeting = |act: &str| {
        format!(
            "RUN --mount=type=cache,target=/c mkfifo /c/p 2>/dev/null; timeout 60 sh -c '{act}'\n"
        )
    };
    let (begin, end) = (format!("RUN {WORK}; echo a > /f\n"), format!("RUN {WORK}; echo d > /e\n"));
    let (read, write) = (meeting("cat /c/p > /got"), meeting("echo 1 > /c/p"));
    for (jobs, first, second) in [("1", &begin, &end), ("2", &read, &write)] {
        for world in World::each() {
            let world = world.with_base();
            let dockerfile = format!(
                "FROM base AS a\n{first}FROM base AS b\nRUN {WORK}; echo b > /f\n\
                 FROM base AS c\nRUN {WORK}; echo c > /f\nFROM base AS d\n{second}RUN echo d > /f\n\
                 FROM base\nRUN --mount=from=a,target=/a --mount=from=b,target=/b \
                 --mount=from=c,target=/c --mount=from=d,target=/d cat /b/f /c/f /d/f > /f\n"
            );
            let ran = commands(&world, &dockerfile, jobs);
            assert_eq!(ran.len(), 6);
            let at_once =
                |at: u64| ran.iter().filter(|(_, begin, end)| *begin <= at && at < *end).count();
            let most = ran.iter().map(|(_, begin, _)| at_once(*begin)).max().unwrap();
            assert_eq!(most.to_string(), jobs, "{ran:#?}");
        }
    }
}

/// Three steps and six, and room for one: whoever began, the six are not to be left for the end. Both begin when the step
/// ends on which they stand.
#[test]
fn the_longest_way_to_the_end_goes_first() {
    for world in World::each() {
        let world = world.with_base();
        let steps = |name: &str, count: usize| {
            let steps = (0..count).map(|number| format!("RUN {WORK}; echo > /{name}{number}\n"));
            steps.collect::<String>()
        };
        let dockerfile = format!(
            "FROM base AS root\nRUN {WORK}\nFROM root AS short\n{}FROM root AS long\n{}FROM base\n\
             COPY --from=short /short2 /\nCOPY --from=long /long5 /\n",
            steps("short", 3),
            steps("long", 6)
        );
        let ran = commands(&world, &dockerfile, "1");
        assert_eq!(ran.len(), 10);
        let at = |wanted: &str| ran.iter().position(|(position, ..)| position == wanted).unwrap();
        assert!(at("long 4/6") < at("short 2/3"), "{ran:#?}");
        assert!(at("short 3/3") > at("long 5/6"), "{ran:#?}");
    }
}

/// The stage that nobody copies from yet is at work until the copy was made and used.
#[test]
fn a_copy_waits_only_for_the_stage_that_it_copies_from() {
    for world in World::each() {
        let world = world.with_base();
        let with_pipe = "RUN --mount=type=cache,target=/c mkfifo /c/p 2>/dev/null; timeout 60";
        let dockerfile = format!(
            "FROM base AS slow\n{with_pipe} cat /c/p > /got\nFROM base AS fast\nRUN echo fast > /fast\n\
             FROM base\nCOPY --from=fast /fast /\n{with_pipe} sh -c 'cat /fast > /c/p'\n\
             COPY --from=slow /got /\nRUN test \"$(cat /got)\" = fast\n"
        );
        world.build(&dockerfile, &["-t", "app", "--jobs", "2"]).ok();
        world.validate("app");
    }
}
