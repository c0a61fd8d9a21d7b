//! Real packages of Debian installed by apt in each environment: the same owners, modes and capabilities as for real root.
//!
//! `scripts/fetch-deb` brings the packages, once; the builds have them as a repository of files and need no network.

use crate::support::bases::{bases, project};
use crate::support::environment::{ALL, Environment, HOST};
use crate::support::{Said, World, long, peer};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PACKAGES: &str = "at cron iputils-ping man-db openssh-server postgresql-common";

const DOCKERFILE: &str = "FROM debian\n\
    ENV DEBIAN_FRONTEND=noninteractive\n\
    RUN --mount=type=bind,target=/repository,source=repository \
    echo 'deb [trusted=yes] file:/repository ./' > /etc/apt/sources.list && apt-get update && \
    apt-get install --yes --no-install-recommends PACKAGES && getcap /usr/bin/ping > /seen && \
    stat -c '%n %a %U:%G' /usr/bin/at /usr/bin/crontab /usr/bin/ssh-agent /var/cache/man /etc/ssh/ssh_host_rsa_key >> /seen && cat /seen\n";

/// Real root's answers.
const SEEN: &[&str] = &[
    "/usr/bin/ping cap_net_raw=ep",
    "/usr/bin/at 6755 daemon:daemon",
    "/usr/bin/crontab 2755 root:crontab",
    "/usr/bin/ssh-agent 2755 root:_ssh",
    "/var/cache/man 755 man:man",
    "/etc/ssh/ssh_host_rsa_key 600 root:root",
];

/// The packages with all that they depend on.
fn packages() -> Vec<PathBuf> {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debs");
    let mut command = Command::new(project("scripts/fetch-deb"));
    command.arg(cache).args(["bookworm", "amd64", "--install"]).args(PACKAGES.split(' '));
    Said::of(command.output().unwrap()).ok().lines().map(PathBuf::from).collect()
}

/// A repository that apt reads: the packages and a list of them.
fn repository(world: &World) {
    let dir = world.context().join("repository");
    fs::create_dir(&dir).unwrap();
    let mut list = String::new();
    for package in packages() {
        let name = package.file_name().unwrap().to_str().unwrap().to_owned();
        fs::copy(&package, dir.join(&name)).unwrap();
        let said = |command: &mut Command| Said::of(command.output().unwrap()).ok();
        let fields = said(Command::new("dpkg-deb").arg("-f").arg(&package));
        let sum = said(Command::new("sha256sum").arg(&package));
        let (sum, size) = (&sum[..64], fs::metadata(&package).unwrap().len());
        write!(list, "{fields}Filename: ./{name}\nSize: {size}\nSHA256: {sum}\n\n").unwrap();
    }
    fs::write(dir.join("Packages"), list).unwrap();
}

/// Everything in the image but what differs each time: path, kind, mode, owner.
fn owners(place: &Environment, world: &World) -> Vec<String> {
    let tar = world.path("out/app.tar");
    place.run(world, &["image", "export", "app", "-o", tar.to_str().unwrap()]).ok();
    let lines = crate::support::base::list_tar(&fs::read(&tar).unwrap());
    fs::remove_file(tar).unwrap();
    // Names of certificates by hash: which of two with the same hash is first depends on the order of a directory.
    let stays = |line: &&String| !line.starts_with("etc/ssl/certs/");
    let mut lines: Vec<String> = lines
        .iter()
        .filter(stays)
        .map(|line| line.rsplit_once(' ').unwrap().0.to_owned())
        .collect();
    lines.sort();
    lines
}

#[test]
fn packages_are_installed_as_by_real_root_in_each_environment() {
    if !long() || !peer("dpkg-deb") {
        return;
    }
    let Some(bases) = bases() else { return };
    let mut first = None;
    let mut worked = Vec::new();
    for place in std::iter::once(&HOST).chain(ALL) {
        let Some(world) = place.world() else { return };
        // The same question as in `environments.rs`, without a word about the answer: it is in the document.
        let table = fs::read_to_string(project("docs/environments.md")).unwrap();
        let row = table.lines().find(|line| line.starts_with(&format!("| {} |", place.name)));
        if !row.unwrap().contains("| all |") {
            continue;
        }
        repository(&world);
        fs::copy(bases.join("debian.tar"), world.path("debian.tar")).unwrap();
        place.give(&world);
        place.run(&world, &["image", "import", "debian", "debian.tar"]).ok();
        let said = place.build(&world, &DOCKERFILE.replace("PACKAGES", PACKAGES), &["-t", "app"]);
        assert_eq!(said.code, 0, "{}: {}", place.name, said.stderr);
        let seen: Vec<&str> =
            said.stderr.lines().filter_map(|line| line.strip_prefix("#1 /")).collect();
        let expected: Vec<&str> = SEEN.iter().map(|line| &line[1..]).collect();
        assert!(seen.ends_with(&expected), "{}: {seen:#?}", place.name);
        let found = owners(place, &world);
        let first: &Vec<String> = first.get_or_insert_with(|| found.clone());
        let only = |a: &[String], b: &[String]| -> Vec<String> {
            a.iter().filter(|line| b.binary_search(line).is_err()).cloned().collect()
        };
        let differences = (only(first, &found), only(&found, first));
        assert_eq!(differences, (Vec::new(), Vec::new()), "{}", place.name);
        worked.push(place.name);
    }
    eprintln!("installed in: {}", worked.join("; "));
}
