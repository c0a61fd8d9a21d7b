//! A Debian package installed by `runAsRoot` without a network, by an ordinary user as by root.

use crate::support::bases::{bases, project};
use crate::support::{Said, World, base, peer};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the package's own scripts make, as they make it for real root.
const OWNERS: [&str; 3] = [
    "/usr/bin/at 6755 daemon:daemon",
    "/var/spool/cron/atjobs 1770 daemon:daemon",
    "/etc/at.deny 640 root:daemon",
];

const SPEC: &str = "version: 1\nname: installed\nfrom: {image: debian}\nrunAsRoot: |\n  dpkg --force-unsafe-io -i /debs/*.deb\n\
    \x20 stat -c '%n %a %U:%G' /usr/bin/at /var/spool/cron/atjobs /etc/at.deny > /owners\n\
    run: {mounts: [{type: bind, source: debs, target: /debs}]}\n";

fn packages() -> Vec<PathBuf> {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debs");
    let mut command = Command::new(project("scripts/fetch-deb"));
    command.arg(cache).args(["bookworm", "amd64", "--install", "at"]);
    Said::of(command.output().unwrap()).ok().lines().map(PathBuf::from).collect()
}

/// Path, kind, mode and owner of everything new; sizes and times differ by what dpkg logs.
fn listing(world: &World) -> Vec<String> {
    let tar = world.path("out/new.tar");
    let path = tar.to_str().unwrap();
    world.run(["diff", "debian", "installed", "-o", path]).ok();
    let lines = base::list_tar(&fs::read(&tar).unwrap());
    lines.iter().map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

#[test]
fn a_package_is_installed_by_an_ordinary_user_as_by_root() {
    if !peer("dpkg-deb") {
        return;
    }
    let Some(bases) = bases() else { return };
    let packages = packages();
    let mut first: Option<Vec<String>> = None;
    for world in World::each() {
        fs::create_dir(world.path("debs")).unwrap();
        for package in &packages {
            fs::copy(package, world.path("debs").join(package.file_name().unwrap())).unwrap();
        }
        fs::copy(bases.join("debian.tar"), world.path("debian.tar")).unwrap();
        fs::write(world.path("image.yaml"), SPEC).unwrap();
        world.give();
        world.run(["image", "import", "debian", "debian.tar"]).ok();
        world.run(["assemble", "-f", "image.yaml"]).ok();
        world.validate("installed");
        let seen = world.run(["with-rootfs", "installed", "--", "cat", "mnt/owners"]).ok();
        assert_eq!(seen.lines().collect::<Vec<_>>(), OWNERS);
        let found = listing(&world);
        assert_eq!(*first.get_or_insert_with(|| found.clone()), found);
    }
}
