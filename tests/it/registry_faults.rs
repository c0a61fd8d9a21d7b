//! Networks that fail: three of ten requests go wrong, transfers are killed, large layers pass through little memory.

use crate::support::faults::{Dice, Fault, Faults, at_random};
use crate::support::registry::Registry;
use crate::support::{Said, World, peer, program};
use nativebuild::net::{NetConfig, Pause, Registry as Client, Wanted};
use nativebuild::oci::layout::Layout;
use nativebuild::oci::media::{OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST};
use nativebuild::oci::spec::Descriptor;
use nativebuild::oci::{Digest, Reference};
use nativebuild::progress::Emitter;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

/// Sizes of the layers' files, in bytes.
const LAYERS: [usize; 5] = [1_200_000, 100_000, 700_000, 333_333, 500_000];

/// A client that does not wait.
fn client() -> Client {
    let config = NetConfig { pause: Pause::with(|_| {}), ..NetConfig::default() };
    Client::new(&config).unwrap()
}

fn reference(name: &str) -> Reference {
    Reference::parse(name).unwrap()
}

/// A tar with one file that cannot be compressed.
fn layer(name: &str, size: usize) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_mtime(1_600_000_000);
    header.set_size(size as u64);
    tar.append_data(&mut header, name, &*Dice::new(name).bytes(size)).unwrap();
    tar.into_inner().unwrap()
}

/// An image with a file of each size.
fn image(layout: &Layout, sizes: &[usize]) -> Descriptor {
    let put = |kind: &str, bytes: &[u8]| {
        let digest = layout.put_blob(bytes).unwrap();
        json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    };
    let layers: Vec<Value> = sizes
        .iter()
        .enumerate()
        .map(|(at, size)| put(OCI_LAYER, &layer(&format!("file-{at}"), *size)))
        .collect();
    let diff_ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
    let history = vec![json!({"created_by": "a file"}); layers.len()];
    let config = json!({"architecture": "amd64", "os": "linux", "config": {}, "history": history,
        "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = put(OCI_CONFIG, config.to_string().as_bytes());
    let manifest =
        json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers});
    layout.put_document(OCI_MANIFEST, manifest.to_string().as_bytes()).unwrap()
}

/// Digest and size of all blobs of an image, the manifest included; each is read and verified.
fn blobs(layout: &Layout, root: &Descriptor) -> Vec<(String, u64)> {
    let manifest: Value = serde_json::from_slice(&layout.read_blob_small(root).unwrap()).unwrap();
    let parts = manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]);
    let mut all = vec![(root.digest().to_string(), root.size())];
    for part in parts {
        let descriptor: Descriptor = serde_json::from_value(part.clone()).unwrap();
        let mut reader = layout.open_blob(&descriptor).unwrap();
        std::io::copy(&mut reader, &mut std::io::sink()).unwrap();
        all.push((descriptor.digest().to_string(), descriptor.size()));
    }
    all
}

fn registry(world: &World) -> Option<Registry> {
    peer("docker-registry").then(|| Registry::start(world))
}

#[test]
fn a_hundred_pushes_and_pulls_end_right_when_three_of_ten_requests_fail() {
    let world = World::new();
    let Some(registry) = registry(&world) else { return };
    let layout = Layout::create(world.path("source")).unwrap();
    let image = image(&layout, &LAYERS);
    let wanted = blobs(&layout, &image);
    let size: u64 = wanted[1..].iter().map(|(_, size)| size).sum();
    let proxy = Faults::before(&registry.address, at_random(6, 30));
    let name = |run: usize| reference(&format!("{}/app-{run}:1", proxy.host()));
    for run in 0..100 {
        let pushed = client().push(&layout, &image, &[name(run)], &Emitter::silent());
        let digest = pushed.unwrap()[0].descriptor.digest().to_string();
        assert_eq!(digest, image.digest().to_string());
    }
    let pushes = proxy.take();
    for run in 0..100 {
        let copy = Layout::create(world.path(&format!("copy-{run}"))).unwrap();
        let pulled = client().pull(&name(run), &Wanted::All, &copy, &Emitter::silent()).unwrap();
        assert_eq!(blobs(&copy, &pulled.root), wanted);
        std::fs::remove_dir_all(copy.root()).unwrap();
    }
    let pulls = proxy.take();
    for counts in [&pushes, &pulls] {
        let failing = counts.faults * 100 / counts.requests;
        assert!((25..35).contains(&failing), "{failing} %");
    }
    for bytes in [pushes.sent, pulls.received] {
        let percent = bytes / size;
        assert!((100..150).contains(&percent), "{percent} %");
    }
}

/// A build of the image that `name` leads to, killed when so many bytes of blobs came through; false when it ended before.
fn killed(world: &World, proxy: &Faults, args: &[&str], at: u64) -> bool {
    let hit = proxy.trap(at);
    let mut child = world
        .command(program())
        .args(["build", "--progress", "plain"])
        .args(args)
        .arg(world.context())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Either the trap is sprung or the program ends, and there is no third.
    let ended = loop {
        if hit.recv_timeout(Duration::from_millis(20)).is_ok() {
            break false;
        }
        if child.try_wait().unwrap().is_some() {
            break true;
        }
    };
    child.kill().unwrap();
    let status = child.wait().unwrap();
    proxy.release();
    assert_eq!(status.success(), ended);
    !ended
}

/// Digests of the blobs that are whole by their name; each has the content that it must have.
fn whole(world: &World) -> BTreeSet<String> {
    let dir = world.store().join("images/blobs/sha256");
    let entries = std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap());
    entries
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .map(|entry| {
            let digest = Digest::of(&std::fs::read(entry.path()).unwrap());
            assert_eq!(digest.hex(), entry.file_name().to_string_lossy());
            digest.to_string()
        })
        .collect()
}

#[test]
fn a_pull_killed_at_fifty_moments_goes_on_and_the_store_is_whole_each_time() {
    let world = World::new();
    let Some(registry) = registry(&world) else { return };
    let layout = Layout::create(world.path("source")).unwrap();
    let image = image(&layout, &LAYERS);
    let there = reference(&format!("{}/app:1", registry.address));
    client().push(&layout, &image, &[there], &Emitter::silent()).unwrap();
    let size: u64 = blobs(&layout, &image).iter().map(|(_, size)| size).sum();
    let proxy = Faults::before(&registry.address, |_| None);
    world.file("Dockerfile", format!("FROM {}/app:1\nLABEL a=b\n", proxy.host()));
    let mut dice = Dice::new("moments");
    let (mut kills, mut continued, mut wanted) = (0, 0, None);
    while kills < 50 {
        let known = whole(&world);
        if killed(&world, &proxy, &["-t", "app"], dice.next(size)) {
            kills += 1;
            assert!(whole(&world).is_superset(&known));
            // What was there was not fetched once more.
            let counts = proxy.take();
            continued += counts.lines.iter().filter(|line| line.contains(" bytes=")).count();
            let fetched: BTreeSet<String> = counts.blobs.into_keys().collect();
            assert!(known.is_disjoint(&fetched), "{known:?} {fetched:?}");
            continue;
        }
        // The rest was smaller than the trap.
        world.validate("app");
        proxy.take();
        let context = world.context();
        let digest = world.run(["build", "-t", "app", context.to_str().unwrap()]).ok();
        assert_eq!(*wanted.get_or_insert_with(|| digest.clone()), digest);
        assert_eq!(proxy.take().received, 0);
        world.run(["prune", "--all"]).ok();
        std::fs::remove_dir_all(world.store()).unwrap();
    }
    assert!(wanted.is_some() && continued > 10, "{continued}");
}

#[test]
fn a_push_killed_at_any_moment_leaves_nothing_broken_and_goes_on() {
    let world = World::new();
    let Some(registry) = registry(&world) else { return };
    let proxy = Faults::before(&registry.address, |_| None);
    world.file("one", Dice::new("one").bytes(900_000));
    world.file("two", Dice::new("two").bytes(1_500_000));
    world.file("Dockerfile", "FROM scratch\nCOPY one /\nCOPY two /\n");
    let context = world.context();
    let args = ["build", "-t", "app", context.to_str().unwrap()];
    world.run(args).ok();
    let mut dice = Dice::new("moments");
    for run in 0..20 {
        let name = format!("{}/app-{run}:1", proxy.host());
        let direct = reference(&format!("{}/app-{run}:1", registry.address));
        let push = ["--push", "-t", &name];
        while killed(&world, &proxy, &push, dice.next(4_000_000)) {
            // A name is given last, or not at all.
            assert_eq!(client().head(&direct).unwrap(), None);
        }
        let copy = Layout::create(world.path(&format!("copy-{run}"))).unwrap();
        let pulled = client().pull(&direct, &Wanted::All, &copy, &Emitter::silent()).unwrap();
        assert_eq!(blobs(&copy, &pulled.root).len(), 4);
        // What the killed ones left is forgotten now; a name with a dot is a file half written.
        proxy.take();
        let left = std::fs::read_dir(world.store().join("uploads")).into_iter().flatten();
        let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(left.filter(|name| !name.starts_with('.')).collect::<Vec<_>>(), [""; 0]);
        // What is there is not sent once more.
        world.build("FROM scratch\nCOPY one /\nCOPY two /\n", &push).ok();
        assert_eq!(proxy.take().sent, 0);
    }
}

/// This registry keeps nothing of a broken request, and is asked all the same.
#[test]
fn where_a_killed_push_stopped_is_asked_for() {
    let world = World::new();
    let Some(registry) = registry(&world) else { return };
    let proxy = Faults::before(&registry.address, |_| None);
    // More than the sockets in between can hold: the rest of it dies with the program.
    world.file("large", Dice::new("large").bytes(80_000_000));
    let dockerfile = "FROM scratch\nCOPY large /\n";
    world.build(dockerfile, &["-t", "app"]).ok();
    let name = format!("{}/app:1", proxy.host());
    let push = ["--push", "-t", &name];
    assert!(killed(&world, &proxy, &push, 3_000_000));
    proxy.take();
    world.build(dockerfile, &push).ok();
    let lines = proxy.take().lines;
    let is_asked = |line: &&String| line.starts_with("GET ") && line.contains("/uploads/");
    assert_eq!(lines.iter().filter(is_asked).count(), 1, "{lines:#?}");
    assert_eq!(std::fs::read_dir(world.store().join("uploads")).unwrap().count(), 0);
}

/// Kilobytes that a process had at most since it was started.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

#[test]
fn a_large_layer_passes_through_little_memory() {
    const SIZE: usize = 100 << 20;
    let world = World::new();
    let Some(registry) = registry(&world) else { return };
    let other = Registry::start_as(&world, "other-registry");
    let layout = Layout::create(world.path("source")).unwrap();
    let image = image(&layout, &[SIZE]);
    let there = reference(&format!("{}/big:1", registry.address));
    client().push(&layout, &image, &[there], &Emitter::silent()).unwrap();
    let from = Faults::before(&registry.address, |_| None);
    let to = Faults::before(&other.address, |_| None);
    world.file("Dockerfile", format!("FROM {}/big:1\nLABEL a=b\n", from.host()));
    let name = format!("{}/big:2", to.host());
    let context = world.context();
    // Near the ends of the way in and of the way out.
    let nearly = SIZE as u64 - (1 << 20);
    let (pulled, pushed) = (from.trap(nearly), to.trap(nearly));
    let mut child = world
        .command(program())
        .args(["build", "--push", "-t", &name, context.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let patience = Duration::from_mins(5);
    for (proxy, hit) in [(&from, pulled), (&to, pushed)] {
        hit.recv_timeout(patience).unwrap();
        let peak = peak(child.id());
        assert!(peak < 64 << 10, "{peak} kB");
        proxy.release();
    }
    assert!(child.wait().unwrap().success());
}

/// Runs the program; its exit code, what it says, and the kilobytes that it had at most. A small process starts it, since
/// the peak of who starts it counts as its own.
fn measured(world: &World, args: &[&str]) -> (Said, u64) {
    let script = "import resource, subprocess, sys\n\
        code = subprocess.call(sys.argv[1:])\n\
        print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n\
        sys.exit(code)";
    let mut command = world.command("python3");
    command.args(["-c", script]).arg(program()).args(args);
    let said = Said::of(command.output().unwrap());
    let peak = said.stdout.lines().last().unwrap().parse().unwrap();
    (said, peak)
}

#[test]
fn an_index_without_end_takes_little_memory() {
    if !peer("python3") {
        return;
    }
    for (entries, wanted) in [
        (1_000_000, "sends a document of more than 8388608 bytes"),
        // As many as may come.
        (50_000, "there is no image for linux/"),
    ] {
        let entry = |at: usize| {
            let digest = Digest::of(&at.to_le_bytes());
            format!("{{\"mediaType\":\"{OCI_MANIFEST}\",\"size\":1,\"digest\":\"{digest}\"}}")
        };
        let entries: Vec<String> = (0..entries).map(entry).collect();
        let index = format!("{{\"schemaVersion\":2,\"manifests\":[{}]}}", entries.join(","));
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: {OCI_INDEX}\r\nconnection: close\r\n\r\n");
        let answer = Arc::new([head.as_bytes(), index.as_bytes()].concat());
        let server = Faults::before("127.0.0.1:1", move |_| Some(Fault::Raw(Arc::clone(&answer))));
        let world = World::new();
        world.file("Dockerfile", format!("FROM {}/app:1\n", server.host()));
        let context = world.context();
        let (said, peak) = measured(&world, &["build", context.to_str().unwrap()]);
        assert!(said.stderr.contains(wanted), "{}", said.stderr);
        assert!(matches!(said.code, 1 | 3), "{}", said.code);
        assert!(peak < 128 << 10, "{peak} kB");
        assert_eq!(whole(&world), BTreeSet::new());
    }
}
