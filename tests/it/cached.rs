//! What a build asks of the kernel, by strace: one that finds everything in the cache next to nothing.

use crate::support::{Who, World, have, trace};
use std::path::Path;

/// A context whose files nobody changed just now: what is younger than two seconds is read each time. Every Debian has it.
const OLD: &str = "/usr/share/common-licenses";

/// Calls with one of these names.
fn of<'c>(calls: &'c [String], names: &[&str]) -> Vec<&'c str> {
    let name = |call: &str| call.split('(').next().unwrap().to_owned();
    calls.iter().map(String::as_str).filter(|call| names.contains(&name(call).as_str())).collect()
}

/// Calls that open a file to read it.
fn readings<'c>(calls: &'c [String], file: &str) -> Vec<&'c str> {
    let file = format!("{file}\"");
    let opened = of(calls, &["open", "openat", "openat2"]);
    opened.into_iter().filter(|call| call.contains(&file) && !call.contains("O_PATH")).collect()
}

/// What makes a process, a thread, a namespace or a mount, talks to anybody, or waits for the disk.
const COSTLY: [&str; 18] = [
    "clone",
    "clone3",
    "fork",
    "vfork",
    "unshare",
    "setns",
    "mount",
    "umount2",
    "fsmount",
    "move_mount",
    "open_tree",
    "pivot_root",
    "chroot",
    "seccomp",
    "socket",
    "fsync",
    "fdatasync",
    "syncfs",
];

#[test]
fn a_cached_build_makes_no_process_and_reads_no_file_that_it_copies() {
    if !have(OLD, Path::new(OLD).is_dir()) {
        return;
    }
    for world in World::each() {
        let world = world.with_base();
        world.file(
            "Dockerfile",
            "FROM base AS tools\nRUN cp /bin/busybox /tool\nFROM base\nWORKDIR /w\nCOPY GPL-3 Artistic /\n\
             COPY --from=tools /tool /\nRUN cat /GPL-3 > /copy\n",
        );
        let file = world.context().join("Dockerfile");
        let args = ["build", "--progress", "plain", "-t", "app", "-f", file.to_str().unwrap(), OLD];
        let first = world.run(args).ok();
        let Some((said, calls)) = trace::all(&world, &args) else { return };
        assert_eq!((said.cached(), said.done()), (5, 0), "{said:?}");
        assert_eq!(said.ok(), first);
        assert_eq!(of(&calls, &COSTLY), [""; 0], "{:?}", world.who());
        assert_eq!(readings(&calls, "GPL-3"), [""; 0]);
        // The gate that `prune` closes, and the lease of this process: nothing of what is read is locked.
        let locks = of(&calls, &["flock"]);
        assert!(
            matches!(locks[..], [gate, own] if gate.contains("LOCK_SH") && own.contains("LOCK_EX")),
            "{locks:?}"
        );
        // The same eyes see what there is to see.
        assert_eq!(of(&calls, &["execve"]).len(), 1);
        assert_eq!(readings(&calls, "Dockerfile").len(), 1);
        if world.who() == Who::Root {
            let args = [&args[..1], &["--no-cache"], &args[1..]].concat();
            let (said, calls) = trace::all(&world, &args).unwrap();
            said.ok();
            for name in ["clone", "mount", "seccomp", "syncfs"] {
                assert!(calls.iter().any(|call| call.starts_with(name)), "{name}");
            }
            assert!(!readings(&calls, "GPL-3").is_empty());
        }
    }
}

/// A COPY that did not change is made again, since what is below it did: its files are read for the copy, and the copies
/// for the layer.
#[test]
fn a_copy_of_unchanged_files_reads_them_once() {
    if !have(OLD, Path::new(OLD).is_dir()) {
        return;
    }
    let Some(world) = World::root().map(World::with_base) else { return };
    let file = world.context().join("Dockerfile");
    let args = ["build", "--progress", "plain", "-f", file.to_str().unwrap(), OLD];
    let build = |number: u32| {
        let text = format!(
            "FROM base\nRUN echo {number} > /n\nCOPY GPL-3 /\nRUN test -s /GPL-3 && echo > /f\n"
        );
        world.file("Dockerfile", text);
        trace::all(&world, &args)
    };
    let Some((first, _)) = build(1) else { return };
    first.ok();
    let (second, calls) = build(2).unwrap();
    assert_eq!((second.cached(), second.done()), (0, 3), "{second:?}");
    second.ok();
    let read = readings(&calls, "GPL-3");
    let read: Vec<&&str> = read.iter().filter(|call| call.contains("O_RDONLY")).collect();
    assert_eq!(read.len(), 2, "{read:#?}");
}

/// What is written while steps run is not waited for, and large files are copied by the kernel.
#[test]
fn a_step_is_mounted_volatile_and_its_files_are_copied_in_the_kernel() {
    let Some(world) = World::root().map(World::with_base) else { return };
    world.file("large", vec![7; 300_000]);
    world.file("Dockerfile", "FROM base\nCOPY large /\nRUN cp /large /copy\n");
    let context = world.context();
    let Some((said, calls)) = trace::all(&world, &["build", context.to_str().unwrap()]) else {
        return;
    };
    said.ok();
    let options = of(&calls, &["fsconfig"]);
    let count = |what: &str| options.iter().filter(|call| call.contains(what)).count();
    // One for each of the two steps that have a tree; the others are only looked at.
    assert_eq!(count("\"volatile\""), count("\"upperdir"), "{options:#?}");
    assert!(count("\"volatile\"") > 0);
    let copied = of(&calls, &["copy_file_range"]);
    assert!(copied.iter().any(|call| call.ends_with("= 300000")), "{copied:#?}");
}

/// A name syncs what it is given to; whoever asks for none is told a digest all the same.
#[test]
fn an_image_without_a_name_is_durable_before_its_digest_is_printed() {
    let Some(world) = World::root() else { return };
    world.file("a", "content").file("Dockerfile", "FROM scratch\nCOPY a /\n");
    let context = world.context();
    let args = ["build", "-q", context.to_str().unwrap()];
    let Some((said, calls)) = trace::all(&world, &args) else { return };
    let digest = said.ok();
    let named = |call: &str| call.starts_with("rename") && call.contains("images/blobs/sha256/");
    // Layer, config and manifest.
    assert_eq!(calls.iter().filter(|call| named(call)).count(), 3, "{calls:#?}");
    let last = calls.iter().rposition(|call| named(call)).unwrap();
    let told = |call: &String| call.starts_with(&format!("write(1, \"{}", &digest[..50]));
    let told = calls.iter().position(told).unwrap();
    let between = of(&calls[last..told], &["fdatasync"]).len();
    assert!(between >= 2, "{:#?}", &calls[last..told]);
}

/// A tree that counts after a loss of power is changed by the next step only when the disk knows that it is no longer
/// what its description says.
#[test]
fn a_synced_tree_is_forgotten_on_the_disk_before_a_step_changes_it() {
    let Some(world) = World::root().map(World::with_base) else { return };
    let context = world.context();
    let args = ["build", "--snapshots", "whole", context.to_str().unwrap()];
    let build = |dockerfile: &str| {
        world.file("Dockerfile", dockerfile);
        trace::all(&world, &args)
    };
    let Some((first, calls)) = build("FROM base\nRUN echo 1 > /one\n") else { return };
    first.ok();
    // What was made just now is not marked, and nothing waits for the disk when it is taken over.
    assert_eq!(of(&calls, &["fsync"]), [""; 0]);
    let (second, calls) =
        build("FROM base\nRUN echo 1 > /one\nRUN echo 2 > /two\nRUN true\n").unwrap();
    assert_eq!((second.cached(), second.done()), (1, 2), "{second:?}");
    second.ok();
    let is_meta = |call: &&String| call.starts_with("unlinkat(") && call.contains("\"meta\"");
    let metas: Vec<&String> = calls.iter().filter(is_meta).collect();
    assert_eq!(metas.len(), 2, "{metas:?}");
    let at = calls.iter().position(|call| is_meta(&call)).unwrap();
    let tree = |call: &String| call.starts_with("renameat") && call.contains("\"fs\"");
    let then = calls.iter().position(tree).unwrap();
    assert_eq!(of(&calls[at..then], &["fsync"]).len(), 1, "{:#?}", &calls[at..then]);
    assert_eq!(of(&calls, &["fsync"]).len(), 1);
}
