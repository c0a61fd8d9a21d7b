//! No layer shows what was known of its blocks when it was packed, nor whether its command was looked at. That blocks are
//! found is tested where they are.

use crate::support::processes::{self, Marker};
use crate::support::shelf::MINUTE;
use crate::support::{World, program};
use nativebuild::sys::process;
use rustix::event::{Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

const COPY: &str = "FROM scratch\nCOPY src /src\n";

/// Small files that make several blocks together, and some that are blocks of their own.
fn fill(context: &Path) {
    let sizes = (0..300).map(|at| at * 53 % 9000).chain([64 << 10, 100_000, 2_000_000]);
    for (at, size) in sizes.enumerate() {
        write(context, at, size);
    }
}

fn write(context: &Path, at: usize, size: usize) {
    let text: String =
        (0_usize..).map(|number| format!("{} ", number * (at + 7))).take(size / 2).collect();
    let path = context.join(format!("src/{:02}/file-{at}", at / 20));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, &text[..size.min(text.len())]).unwrap();
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    fs::File::open(&path).unwrap().set_modified(time).unwrap();
}

const FIXED: [&str; 4] = ["--source-date-epoch", "1700000000", "--network", "none"];

/// The layers of the image that a Dockerfile gives.
fn layers(world: &World, dockerfile: &str, more: &[&str]) -> Vec<String> {
    world.build(dockerfile, &[&FIXED[..], &["-t", "app"], more].concat()).ok();
    world.validate("app");
    let manifest = world.run(["image", "inspect", "--raw", "app"]).ok();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    layers.iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
}

/// The same in a store that knows nothing.
fn from_nothing(world: &World, dockerfile: &str) -> Vec<String> {
    let store = world.path("fresh");
    let _not_there = fs::remove_dir_all(&store);
    let dest = world.path("fresh.oci");
    let output = format!("type=oci,tar=false,dest={}", dest.display());
    let _not_there = fs::remove_dir_all(&dest);
    let root = ["--root", store.to_str().unwrap(), "-o", &output];
    world.build(dockerfile, &[&FIXED[..], &root].concat()).ok();
    let manifest = |path: &Path| -> serde_json::Value {
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    };
    let blob = |digest: &str| dest.join("blobs").join(digest.replace(':', "/"));
    let index = manifest(&dest.join("index.json"));
    let image = manifest(&blob(index["manifests"][0]["digest"].as_str().unwrap()));
    let layers = image["layers"].as_array().unwrap();
    layers.iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
}

fn indexes(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.store().join("cache/blocks")).into_iter().flatten().flatten();
    let mut found: Vec<String> = entries
        .map(|entry| format!("sha256:{}", entry.file_name().into_string().unwrap()))
        .collect();
    found.sort();
    found
}

fn blob(world: &World, digest: &str) -> std::path::PathBuf {
    world.store().join("images/blobs").join(digest.replace(':', "/"))
}

#[test]
fn a_layer_is_the_same_whatever_is_known_of_its_blocks() {
    for world in World::each() {
        fill(&world.context());
        let first = layers(&world, COPY, &[]);
        assert_eq!(first, from_nothing(&world, COPY));
        assert_eq!(indexes(&world), first);
        // One file more.
        write(&world.context(), 1000, 5000);
        let second = layers(&world, COPY, &[]);
        assert_ne!(first, second);
        assert_eq!(second, from_nothing(&world, COPY));
        // A blob and an index that are damaged in the middle, and one that says nothing.
        let mut bytes = fs::read(blob(&world, &second[0])).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 5000].fill(0x5a);
        fs::write(blob(&world, &second[0]), bytes).unwrap();
        fs::write(blob(&world, &first[0]), "").unwrap();
        write(&world.context(), 1001, 5000);
        let third = layers(&world, COPY, &[]);
        assert_eq!(third, from_nothing(&world, COPY));
        for digest in &first {
            fs::write(world.store().join("cache/blocks").join(&digest[7..]), "nonsense").unwrap();
        }
        write(&world.context(), 1002, 5000);
        assert_eq!(layers(&world, COPY, &[]), from_nothing(&world, COPY));
        // Without blobs nobody needs what is known of them.
        world.run(["image", "rm", "app"]).ok();
        world.run(["prune", "--all"]).ok();
        assert_eq!(indexes(&world), [""; 0]);
    }
}

/// Files are looked at while the command writes them, again and again.
#[test]
fn a_command_that_is_looked_at_gives_the_same_layer() {
    const RUN: &str = "FROM base\n\
        RUN i=0; while test $i -lt 60; do \
          seq $i 60000 > /turn-$((i % 4)); dd if=/turn-0 of=/over bs=100 seek=$i conv=notrunc 2> /dev/null; \
          seq $i 20000 >> /grows; mkdir -p /d$((i % 3)); rm -rf /d$((i % 2)); cp /turn-1 /d$((i % 3))/ 2> /dev/null; \
          ln -sf /etc/passwd /link; i=$((i + 1)); done; seq 1 90000 > /last\n\
        RUN ln /grows /again; seq 1 90000 > /like-last\n";
    for world in World::each() {
        let world = world.with_base();
        let looked_at = layers(&world, RUN, &["--no-cache"]);
        // Nobody looks at commands in a store with a limit; what is known of the first is forgotten.
        fs::remove_dir_all(world.store().join("cache/blocks")).unwrap();
        let again = layers(&world, RUN, &["--no-cache", "--max-store", "10GB"]);
        assert_eq!(looked_at, again, "{:?}", world.who());
        let left = fs::read_dir(world.store().join("images/blobs/sha256")).unwrap();
        let names = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(names.filter(|name| name.starts_with('.')).collect::<Vec<_>>(), [""; 0]);
        assert!(indexes(&world).iter().all(|name| !name.contains("live")));
    }
}

/// Whoever looks at a command is a process that all others go before, in a session of its own, and does not outlive it.
#[test]
fn a_command_is_looked_at_by_somebody_who_goes_last() {
    let own = std::thread::available_parallelism().unwrap().get();
    if own < 2 || process::allowed_processors() != Some(own) {
        return eprintln!(
            "SKIPPED: with one processor, or a share of them, nobody looks at commands"
        );
    }
    for world in World::each() {
        let world = world.with_base();
        // What a layer of the store has is not packed.
        for (first, is_killed) in [(1, false), (2, true)] {
            let marker = Marker::new();
            world.file(
                "Dockerfile",
                format!("FROM base\nRUN seq {first} 900000 > /a; sleep {marker} || true\n"),
            );
            let mut command = world.command(program());
            let timings = world.path("timings.json");
            command.args(["build", "--no-cache", "--network", "none"]);
            command.arg("--timings").arg(&timings).arg(world.context());
            let mut build = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let packer = wait_for_packer(&marker);
            // Some blocks, each with its record.
            wait_for("blocks", || {
                (processes::open_bytes(packer, "/memfd:packed-blocks") >= 3 * 44).then_some(())
            });
            let doomed = if is_killed {
                vec![build.id() as i32]
            } else {
                processes::with(&marker).into_iter().filter(|pid| is_sleep(*pid)).collect()
            };
            assert_eq!(doomed.len(), 1);
            kill_process(Pid::from_raw(doomed[0]).unwrap(), Signal::KILL).unwrap();
            assert_eq!(build.wait().unwrap().success(), !is_killed);
            assert!(processes::ends(packer));
            if !is_killed {
                // The process that wrote the layer knew what the other one had packed.
                let told: Value = serde_json::from_slice(&fs::read(&timings).unwrap()).unwrap();
                let spans = told["spans"].as_array().unwrap();
                let known = spans.iter().filter_map(|span| span["blocks_known"].as_u64()).max();
                assert!(known >= Some(3), "{known:?}");
            }
            processes::wait_until_gone(&marker);
            let left = fs::read_dir(world.store().join("images/blobs/sha256")).unwrap();
            let names = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            assert_eq!(names.filter(|name| name.starts_with('.')).collect::<Vec<_>>(), [""; 0]);
        }
    }
}

fn is_sleep(pid: i32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.starts_with(b"sleep") || line.starts_with(b"/bin/sleep")
}

fn wait_for_packer(marker: &Marker) -> i32 {
    let is_last = |pid: &i32| {
        let found = processes::niceness(*pid);
        found.is_some_and(|(own, session)| own == 19 && session.is_none_or(|nice| nice == 19))
    };
    wait_for("somebody who looks", || processes::relatives(marker).into_iter().find(is_last))
}

fn wait_for<T>(what: &str, get: impl Fn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = get() {
            return found;
        }
        // Beside a machine's worth of other work it is its turn seldom.
        assert!(begun.elapsed() < 5 * MINUTE, "{what} did not come");
        // Whoever goes last gets nothing while somebody looks all the time.
        let moment = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
        poll(&mut [], Some(&moment)).unwrap();
    }
}
