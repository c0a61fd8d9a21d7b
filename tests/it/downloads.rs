//! Layers of base images that come while the build goes on: who works meanwhile, and how it ends when they do not come.

use crate::support::base::busybox_tar;
use crate::support::shelf::{MINUTE, Shelf, layer};
use crate::support::{World, program};
use nativebuild::oci::Digest;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

/// A build that is watched while it goes on.
struct Going {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Going {
    fn start(world: &World, dockerfile: &str, args: &[&str]) -> Self {
        world.file("Dockerfile", dockerfile);
        let mut command = world.command(program());
        command.args(["build", "--progress", "plain"]).args(args).arg(world.context());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (told, lines) = channel();
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| told.send(line))
        });
        Self { child, lines, said: Vec::new() }
    }

    /// Waits for such a line.
    fn until(&mut self, is_it: impl Fn(&str) -> bool) {
        while !self.said.last().is_some_and(|line| is_it(line)) {
            match self.lines.recv_timeout(MINUTE) {
                Ok(line) => self.said.push(line),
                Err(error) => panic!("{error}: {:#?}", self.said),
            }
        }
    }

    /// Waits until something is so.
    fn wait_for(&self, is_so: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < MINUTE, "{:#?}", self.said);
            std::thread::yield_now();
        }
    }

    /// Waits for its end: the exit code, and everything that it said.
    fn end(&mut self) -> (Option<i32>, String) {
        loop {
            match self.lines.recv_timeout(MINUTE) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end: {:#?}", self.said),
            }
        }
        (self.child.wait().unwrap().code(), self.said.join("\n"))
    }

    fn succeed(&mut self) {
        let (code, said) = self.end();
        assert_eq!(code, Some(0), "{said}");
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let _over = self.child.kill();
        let _waited = self.child.wait();
    }
}

#[test]
fn an_independent_stage_works_while_the_base_of_another_one_comes() {
    for world in World::each() {
        let world = world.with_base();
        let shelf = Shelf::start();
        let top = layer("top", "of the slow base\n");
        let slow = shelf.put("slow", &[busybox_tar(), &top]);
        shelf.hold(&top, 0);
        let dockerfile = format!(
            "FROM {slow} AS slow\nRUN cat /top > /copy\n\
             FROM base\nRUN echo $((40 + 2))-alone\nCOPY --from=slow /copy /\n"
        );
        // Whoever waits for a base takes nobody's place.
        let mut build = Going::start(&world, &dockerfile, &["--jobs", "1", "-t", "app"]);
        build.until(|line| line.ends_with(" 42-alone"));
        shelf.wait_until_held(&top);
        shelf.release(&top);
        build.succeed();
        world.validate("app");
        world.validate(&slow);
        let said = world.build("FROM app\nRUN cat /copy\n", &[]);
        assert!(said.stderr.contains("#1 of the slow base\n"), "{}", said.stderr);
        said.ok();
    }
}

#[test]
fn a_linked_copy_does_not_wait_for_the_base() {
    for world in World::each() {
        let shelf = Shelf::start();
        let base = layer("base", "content");
        let name = shelf.put("app", &[&base]);
        shelf.hold(&base, 0);
        let dockerfile = format!("FROM {name}\nCOPY --link Dockerfile /d\n");
        let mut build = Going::start(&world, &dockerfile, &["-t", "app"]);
        build.until(|line| line.starts_with("#1 DONE "));
        shelf.wait_until_held(&base);
        shelf.release(&base);
        build.succeed();
        world.validate("app");
    }
}

#[test]
fn a_lower_layer_is_unpacked_while_the_upper_one_comes() {
    for world in World::each() {
        let shelf = Shelf::start();
        let top = layer("top", "content");
        let name = shelf.put("app", &[busybox_tar(), &top]);
        shelf.hold(&top, 0);
        let dockerfile = format!("FROM {name}\nRUN test -e /top\n");
        let args = ["-t", "app", "--timings", "out/t.json"];
        let mut build = Going::start(&world, &dockerfile, &args);
        shelf.wait_until_held(&top);
        let trees = world.store().join("snapshots/chains");
        build.wait_for(|| fs::read_dir(&trees).is_ok_and(|trees| trees.count() > 0));
        shelf.release(&top);
        build.succeed();
        world.validate("app");

        let timings = fs::read_to_string(world.path("out/t.json")).unwrap();
        let timings: Value = serde_json::from_str(&timings).unwrap();
        let spans = timings["spans"].as_array().unwrap();
        let of = |phase: &str, blob: &[u8]| {
            let digest = Digest::of(blob).to_string();
            let is_it = |span: &&Value| span["phase"] == phase && span["what"] == digest;
            spans.iter().find(is_it).unwrap_or_else(|| panic!("no {phase} of {digest}: {timings}"))
        };
        let (unpacked, came) = (of("unpack", busybox_tar()), of("download", &top));
        assert!(unpacked["end"].as_u64() <= came["end"].as_u64(), "{unpacked} {came}");
        let waiting = spans.iter().find(|span| span["phase"] == "wait-base").unwrap();
        assert_eq!((&waiting["step"], &unpacked["step"]), (&1.into(), &1.into()));
    }
}

#[test]
fn images_come_at_the_same_time_and_what_they_share_comes_once() {
    for world in World::each() {
        let shelf = Shelf::start();
        let (one, two) = (layer("one", "1"), layer("two", "2"));
        let names =
            [shelf.put("a", &[busybox_tar(), &one]), shelf.put("b", &[busybox_tar(), &two])];
        shelf.hold(busybox_tar(), 0);
        let dockerfile = format!(
            "FROM {} AS a\nFROM {}\nCOPY --from=a /one /copy\nRUN cat /two /copy\n",
            names[0], names[1]
        );
        let mut build = Going::start(&world, &dockerfile, &["-t", "app"]);
        shelf.wait_until_held(busybox_tar());
        shelf.wait_until_asked(&one);
        shelf.wait_until_asked(&two);
        shelf.release(busybox_tar());
        build.succeed();
        for name in ["app", names[0].as_str(), names[1].as_str()] {
            world.validate(name);
        }
        for blob in [busybox_tar(), one.as_slice(), two.as_slice()] {
            assert_eq!(shelf.asked(blob), [""]);
        }
    }
}

/// The end of what is said of a base image whose only layer is not in the registry: the line, and what is marked in it.
fn said_of(name: &str, layer: &[u8], line: &str, (row, column): (usize, usize)) -> String {
    let (host, rest) = name.split_once('/').unwrap();
    let repository = rest.trim_end_matches(":1");
    let digest = Digest::of(layer);
    let marked = if line.starts_with("FROM") { name.len() } else { line.len() };
    let (space, carets) = (" ".repeat(column - 1), "^".repeat(marked));
    format!(
        "error: image `{name}` is not in the store and cannot be pulled\n  --> Dockerfile:{row}:{column}\n   |\n \
         {row} | {line}\n   | {space}{carets}\n cause: cannot pull `{name}`\n cause: cannot get blob {digest}\n \
         cause: registry `{host}` does not have it\n \
         cause: GET http://{host}/v2/{repository}/blobs/{digest}: status 404\n\
         help: check the name and the tag for typing errors\nhelp: the store has `base:latest`\n"
    )
}

#[test]
fn a_layer_that_does_not_come_is_an_error_where_its_image_is_asked_for() {
    for world in World::each() {
        let world = world.with_base();
        let shelf = Shelf::start();
        let layer = layer("file", "content");
        let name = shelf.put("gone", &[&layer]);
        shelf.remove("gone", &layer);
        let (from, copy) = (format!("FROM {name} AS gone"), format!("COPY --from={name} /file /"));
        // With steps to run, and with none.
        for (text, line, place) in [
            (
                format!("FROM base\nRUN true\n{from}\nWORKDIR /w\nCOPY --from=0 /bin /\n"),
                &from,
                (3, 6),
            ),
            (format!("FROM base\nRUN true\n{copy}\n"), &copy, (3, 1)),
            (format!("{from}\n"), &from, (1, 6)),
        ] {
            let said = world.build(&text, &["-t", "app"]).failed(1);
            let wanted = said_of(&name, &layer, line, place);
            assert!(said.ends_with(&wanted), "{said}\n{wanted}");
            // Nothing that is there leads to what is not.
            let names = world.run(["image", "ls", "--json"]).ok();
            assert!(!names.contains("gone"), "{names}");
        }
    }
}

/// The others were waited for, which could take minutes. Found in review.
#[test]
fn a_layer_that_does_not_come_ends_the_others_and_what_came_of_them_stays() {
    const CAME: usize = 300_000;
    for world in World::each() {
        let shelf = Shelf::start();
        let top = layer("top", "content");
        let name = shelf.put("app", &[busybox_tar(), &top]);
        shelf.remove("app", &top);
        shelf.hold(&top, 0);
        shelf.hold(busybox_tar(), CAME);
        let dockerfile = format!("FROM {name}\nRUN test -e /top\n");
        let mut build = Going::start(&world, &dockerfile, &["-t", "app"]);
        let part = part_of(&world, busybox_tar());
        build.wait_for(|| fs::metadata(&part).is_ok_and(|part| part.len() == CAME as u64));
        shelf.release(&top);
        let (code, said) = build.end();
        assert_eq!(code, Some(1), "{said}");
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        let wanted = format!("error: image `{name}` is not in the store and cannot be pulled");
        assert_eq!(errors, [wanted.as_str()]);
        assert!(said.contains(": status 404\n"), "{said}");

        shelf.release(busybox_tar());
        shelf.put("app", &[busybox_tar(), &top]);
        world.build(&dockerfile, &["-t", "app"]).ok();
        world.validate("app");
        assert_eq!(shelf.asked(busybox_tar()), [String::new(), format!("bytes={CAME}-")]);
    }
}

#[test]
fn a_step_that_fails_ends_what_comes() {
    for world in World::each() {
        let world = world.with_base();
        let shelf = Shelf::start();
        let base = layer("base", "content");
        let name = shelf.put("app", &[&base]);
        shelf.hold(&base, 0);
        let dockerfile =
            format!("FROM {name} AS slow\nFROM base\nRUN exit 7\nCOPY --from=slow / /\n");
        let mut build = Going::start(&world, &dockerfile, &[]);
        let (code, said) = build.end();
        assert_eq!(code, Some(1), "{said}");
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(
            errors,
            ["error: process `/bin/sh -c exit 7` did not complete successfully: exit code: 7"]
        );
        shelf.release(&base);
    }
}

/// Where a part of a blob is.
fn part_of(world: &World, blob: &[u8]) -> PathBuf {
    let part = format!("images/blobs/sha256/.tmp-part-{}", Digest::of(blob).hex());
    world.store().join(part)
}

/// How many blobs are whole by their name; each has the content that it must have.
fn whole_blobs(world: &World) -> usize {
    let entries = fs::read_dir(world.store().join("images/blobs/sha256")).unwrap();
    let paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let whole: Vec<&PathBuf> = paths.iter().filter(|path| !name(path).starts_with('.')).collect();
    for path in &whole {
        assert_eq!(Digest::of(&fs::read(path).unwrap()).hex(), name(path));
    }
    whole.len()
}

#[test]
fn an_interrupted_build_keeps_what_came_and_the_next_one_goes_on() {
    const CAME: usize = 300_000;
    for world in World::each() {
        let shelf = Shelf::start();
        let name = shelf.put("app", &[busybox_tar()]);
        shelf.hold(busybox_tar(), CAME);
        let dockerfile = format!("FROM {name}\nRUN true\n");
        let mut build = Going::start(&world, &dockerfile, &["-t", "app"]);
        let part = part_of(&world, busybox_tar());
        build.wait_for(|| fs::metadata(&part).is_ok_and(|part| part.len() == CAME as u64));
        kill_process(Pid::from_child(&build.child), Signal::INT).unwrap();
        let (code, said) = build.end();
        assert_eq!(
            (code, said.lines().next_back()),
            (Some(130), Some("error: interrupted")),
            "{said}"
        );
        assert_eq!(fs::read_dir(world.store().join("locks/use")).unwrap().count(), 0);
        // The config, and no document that would lead to it.
        assert_eq!(whole_blobs(&world), 1);
        assert_eq!(world.run(["image", "ls", "--json"]).ok(), "[]\n");

        shelf.release(busybox_tar());
        world.build(&dockerfile, &["-t", "app"]).ok();
        world.validate("app");
        world.validate(&name);
        assert_eq!(shelf.asked(busybox_tar()), [String::new(), format!("bytes={CAME}-")]);
    }
}

#[test]
fn layers_come_for_images_and_not_for_plans() {
    for world in World::each() {
        let shelf = Shelf::start();
        let name = shelf.put("app", &[busybox_tar()]);
        let dockerfile = format!("FROM {name}\nRUN echo made > /made\n");
        world.build(&dockerfile, &["--print-plan"]).ok();
        assert_eq!(shelf.asked(busybox_tar()), Vec::<String>::new());
        assert_eq!(world.run(["image", "ls", "--json"]).ok(), "[]\n");
        let args = ["-t", "app", "--source-date-epoch", "1700000000"];
        let digest = world.build(&dockerfile, &args).ok();
        assert_eq!(shelf.asked(busybox_tar()), [""]);

        // All is in the cache, and the image is not without its base.
        world.run(["image", "rm", "app", &name]).ok();
        let blobs = world.store().join("images/blobs/sha256");
        fs::remove_file(blobs.join(Digest::of(busybox_tar()).hex())).unwrap();
        let again = world.build(&dockerfile, &args);
        assert_eq!((again.cached(), again.stdout.as_str()), (1, digest.as_str()));
        assert_eq!(shelf.asked(busybox_tar()), ["", ""]);
        world.validate("app");
        world.validate(&name);
        let lines = again.stderr.lines().filter(|line| line.starts_with("pulling "));
        let size = busybox_tar().len();
        let pulling = [format!("pulling {name}"), format!("pulling {name}: 1 blobs, {size} bytes")];
        assert_eq!(lines.collect::<Vec<_>>(), pulling);
    }
}
