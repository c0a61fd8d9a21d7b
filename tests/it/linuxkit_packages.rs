//! The packages of testdata/linuxkit, built for three platforms: their tags, configs and trees as a whole.

use crate::linuxkit::{commit, digest, pkg, validate_cache, world};
use crate::support::base::list_tar;
use crate::support::bases::project;
use crate::support::{Said, Who, World, peer};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

const ARCHES: [&str; 3] = ["amd64", "arm64", "s390x"];
/// Labels that change with our version.
const OUR_LABELS: [&str; 2] =
    ["org.mobyproject.linuxkit.revision", "org.mobyproject.linuxkit.version"];

fn blob(world: &World, digest: &str) -> Value {
    let path = world.path(".linuxkit/cache/blobs/sha256").join(&digest["sha256:".len()..]);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Paths below a directory, relative to it.
fn files(dir: &Path, below: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir.join(below)).unwrap() {
        let name = entry.as_ref().unwrap().file_name().into_string().unwrap();
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        if entry.unwrap().file_type().unwrap().is_dir() {
            files(dir, &path, found);
        } else {
            found.push(path);
        }
    }
}

/// The repository of testdata as the context of a world.
fn repository(world: &World) -> Vec<String> {
    let from = project("testdata/linuxkit");
    let mut all = Vec::new();
    files(&from, "", &mut all);
    for path in all.iter().filter(|path| path.contains('/')) {
        world.file(path, "");
        fs::copy(from.join(path), world.context().join(path)).unwrap();
    }
    world.give();
    commit(world, &[]);
    let dirs = fs::read_dir(from.join("pkg")).unwrap();
    let mut dirs: Vec<String> = dirs
        .map(|entry| format!("pkg/{}", entry.unwrap().file_name().into_string().unwrap()))
        .collect();
    dirs.sort();
    dirs
}

/// Everything of an image that is the same on every day and with every version.
fn describe(world: &World, name: &str, arch: &str) -> String {
    let manifest = blob(world, &digest(world, &format!("{name}-{arch}")));
    let mut config = blob(world, manifest["config"]["digest"].as_str().unwrap());
    assert_eq!(
        (config["os"].as_str(), config["architecture"].as_str()),
        (Some("linux"), Some(arch))
    );
    let labels = config["config"]["Labels"].as_object_mut().unwrap();
    for label in OUR_LABELS {
        assert_eq!(labels.remove(label).unwrap(), env!("CARGO_PKG_VERSION"));
    }
    let mut text = format!("config {}\n", config["config"]);
    let tar = world.path("out/package.tar");
    let export =
        ["cache", "export", "--format", "filesystem", "--platform", &format!("linux/{arch}")];
    pkg(world, &[&export[..], &["--outfile", tar.to_str().unwrap(), name]].concat()).ok();
    let bytes = fs::read(&tar).unwrap();
    for line in list_tar(&bytes) {
        text += &format!("  {line}\n");
    }
    for file in ["machine", "version", "img", "from", "kernel", "bin/init", "path"] {
        text +=
            &content(&bytes, file).map(|line| format!("  {file}: {line}\n")).unwrap_or_default();
    }
    text
}

fn content(tar: &[u8], wanted: &str) -> Option<String> {
    let mut archive = tar::Archive::new(tar);
    let mut entries = archive.entries().unwrap().map(Result::unwrap);
    let mut entry = entries.find(|entry| entry.path().unwrap() == Path::new(wanted))?;
    let mut text = String::new();
    std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
    Some(text.trim_end().replace('\n', " "))
}

#[test]
fn packages_of_all_kinds_come_out_as_their_files_say() {
    let mut digests = Vec::new();
    for world in world(World::each()) {
        let Some(world) = world.with_foreign_as("lkt/base:1") else { return };
        let Some(emulators) = world.emulators(&["aarch64", "s390x"]) else { return };
        let dirs = repository(&world);
        let mut args = vec!["pkg", "build", "--qemu-dir", &emulators];
        args.extend(dirs.iter().map(String::as_str));
        let said = pkg(&world, &args);
        assert_eq!(said.code, 0, "{}\n{}", said.stdout, said.stderr);
        assert!(said.stdout.contains("Skipping pkg/kernel: it has no build.yml\n"));
        assert!(said.stdout.contains(" with no architectures to build\n"), "{}", said.stdout);
        let kernel = ["--build-yml", "build-kernel.yml", "--qemu-dir", &emulators, "pkg/kernel"];
        pkg(&world, &[&["pkg", "build"], &kernel[..]].concat()).ok();
        validate_cache(&world);

        let mut text = String::new();
        for dir in &dirs {
            let yml = if dir == "pkg/kernel" { "build-kernel.yml" } else { "build.yml" };
            let show = ["pkg", "show-tag", "--canonical", "--build-yml", yml, dir];
            let name = pkg(&world, &show).ok().trim().to_owned();
            text += &format!("{dir} {name}\n");
            let mut last = String::new();
            for arch in ARCHES.iter().filter(|arch| has(&world, &format!("{name}-{arch}"))) {
                let described = describe(&world, &name, arch);
                let same = if described == last { "as above\n" } else { &described };
                text += &format!(" {arch} {same}");
                last = described;
            }
        }
        digests.push(pkg(&world, &["cache", "ls"]).ok());
        compare(&text);
        if world.who() == Who::Root && peer("skopeo") && peer("umoci") {
            unpack(&world);
        }
    }
    assert!(
        digests.windows(2).all(|pair| pair[0] == pair[1]),
        "root and a user differ: {digests:#?}"
    );
}

fn has(world: &World, name: &str) -> bool {
    let all = pkg(world, &["cache", "ls"]).ok();
    all.lines().any(|line| line.split(' ').next() == Some(name))
}

fn compare(text: &str) {
    let path = project("testdata/linuxkit/expected.txt");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, text).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert!(text == wanted, "not as in {}:\n{text}", path.display());
}

/// Other tools can read what is in the cache.
fn unpack(world: &World) {
    let name = pkg(world, &["pkg", "show-tag", "--canonical", "pkg/start"]).ok();
    let layout = world.path("out/start");
    let copied = Command::new("skopeo")
        .args(["copy", "--quiet", "--override-arch", "s390x"])
        .arg(format!("oci:{}:{}", world.path(".linuxkit/cache").display(), name.trim()))
        .arg(format!("oci:{}:start", layout.display()))
        .output();
    Said::of(copied.unwrap()).ok();
    let bundle = world.path("out/bundle");
    let unpacked = Command::new("umoci")
        .args(["unpack", "--image", &format!("{}:start", layout.display())])
        .arg(&bundle)
        .output();
    Said::of(unpacked.unwrap()).ok();
    assert_eq!(fs::read(bundle.join("rootfs/bin/init")).unwrap(), b"main\npart\n");
}
