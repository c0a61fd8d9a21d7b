//! RUNs for foreign platforms under our own binfmt_misc: what the programs see and can do, and what is left of it.

use crate::errors::normal;
use crate::support::foreign::MACHINES;
use crate::support::{Said, Who, World, base};
use std::fs;
use std::process::Command;

/// Worlds with the image `foreign`, and a directory with the emulators of s390x and arm64.
pub fn worlds() -> Vec<(World, String)> {
    let with = |world: World| {
        let world = world.with_foreign()?;
        let dir = world.emulators(&["s390x", "aarch64"])?;
        Some((world, dir))
    };
    World::each().into_iter().filter_map(with).collect()
}

/// What the steps wrote, without numbers and platforms.
pub fn output(said: &Said) -> Vec<&str> {
    let words = ["DONE ", "CACHED", "STOPPED", "FAILED "];
    let of_steps = said.stderr.lines().filter_map(|line| line.strip_prefix('#'));
    let texts = of_steps.filter_map(|line| line.split_once(' ').map(|(_, text)| text));
    let written = texts.filter(|text| !words.iter().any(|word| text.starts_with(word)));
    // `[PLATFORM STAGE N/M] INSTRUCTION` begins a step, `[PLATFORM] TEXT` is a line of one.
    let lines = written.filter_map(|text| match text.strip_prefix('[') {
        None => Some(text),
        Some(rest) => rest
            .split_once(']')
            .filter(|(place, _)| !place.contains(' '))
            .map(|two| two.1.trim_start()),
    });
    lines.collect()
}

/// What the last layer of a platform holds; it must not be compressed.
fn last_layer(world: &World, image: &str, platform: &str) -> Vec<String> {
    let manifest = world.inspect(image, platform)["manifest"].take();
    let digest = manifest["layers"].as_array().unwrap().last().unwrap()["digest"].clone();
    let hex = digest.as_str().unwrap().trim_start_matches("sha256:").to_owned();
    let blobs = world.store().join("images/blobs/sha256");
    base::list_tar(&fs::read(blobs.join(hex)).unwrap())
}

#[test]
fn every_machine_runs_its_own_programs_and_nothing_else_is_in_the_layer() {
    for world in World::each() {
        let Some(world) = world.with_foreign() else { return };
        let foreign = MACHINES.iter().filter(|machine| machine.is_foreign());
        let names: Vec<&str> = foreign.map(|machine| machine.qemu).collect();
        let Some(dir) = world.emulators(&names) else { return };
        let local = world.path("out/root");
        let spec = format!("type=local,dest={}", local.display());
        let platforms = MACHINES.iter().map(|machine| machine.platform).collect::<Vec<_>>();
        let list = platforms.join(",");
        let args = ["-t", "app", "--qemu-dir", &dir, "--compression", "none", "-o", &spec];
        let dockerfile = "FROM foreign\nRUN uname -m > /machine\n";
        world.build(dockerfile, &[&args[..], &["--platform", &list]].concat()).ok();
        world.validate("app");
        assert_eq!(world.platforms("app"), platforms);
        for machine in MACHINES {
            let told = format!("{}\n", machine.uname);
            assert_eq!(world.read("app", machine.platform, "machine"), told);
            let layer = last_layer(&world, "app", machine.platform);
            assert_eq!(layer, [format!("machine file 644 0:0 {}", told.len())]);
            if machine.is_foreign() {
                // The tree as other people would run it.
                let tree = local.join(machine.platform.replace('/', "_"));
                let mut qemu = Command::new(format!("{dir}/qemu-{}-static", machine.qemu));
                qemu.arg(tree.join("bin/busybox")).arg("cat").arg(tree.join("machine"));
                assert_eq!(Said::of(qemu.output().unwrap()).ok(), told);
            }
        }
    }
}

#[test]
fn names_signals_and_exit_codes_are_those_of_a_real_machine() {
    let dockerfile = "FROM foreign\n\
        RUN sh -c 'exec -a uname /bin/busybox -m'; sh -c 'exec -a busybox /bin/uname true'; echo $?\n\
        RUN exec 2>&1; sh -c 'exit 7'; echo $?; sh -c 'kill -TERM $$'; echo $?; sh -c 'kill -KILL $$'; echo $?\n\
        RUN exec 2>&1; trap 'echo caught' USR1; kill -USR1 $$; (sleep 1000 & echo $! > /p; wait $!; echo $?) & \
            while ! [ -s /p ]; do :; done; kill $(cat /p); wait\n\
        RUN exit 7\n";
    for (world, dir) in worlds() {
        let said = world.build(dockerfile, &["--platform", "s390x", "--qemu-dir", &dir]);
        assert_eq!(
            output(&said),
            [
                "s390x",
                "0",
                "7",
                "Terminated",
                "143",
                "Killed",
                "137",
                "caught",
                "Terminated",
                "143"
            ]
        );
        let text = normal(&world, &said);
        assert_eq!(
            text[text.find("error: ").unwrap()..],
            *"error: process `/bin/sh -c exit 7` did not complete successfully: exit code: 7\n  \
                --> Dockerfile:5:1\n   |\n 5 | RUN exit 7\n   | ^^^^^^^^^^\n"
        );
        assert_eq!(said.code, 1);
    }
}

#[test]
fn set_uid_programs_have_the_rights_of_their_owner() {
    // By its path: a shell of busybox would be `su` itself.
    let dockerfile = "FROM foreign\n\
        RUN sed -i 's/^root:x:/root::/' /etc/passwd && chmod 4755 /bin/su\n\
        USER 1000:1000\n\
        RUN id -u && /bin/su -c 'id -u && touch /etc/made' && ls -ln /etc/made | cut -c 1-30\n";
    for (world, dir) in worlds() {
        let args = ["-t", "app", "--platform", "s390x,arm64", "--qemu-dir", &dir];
        let said = world.build(dockerfile, &args);
        let mut found = output(&said);
        found.sort_unstable();
        assert_eq!(
            found,
            [
                "-rw-r--r--    1 0        0    ",
                "-rw-r--r--    1 0        0    ",
                "0",
                "0",
                "1000",
                "1000"
            ]
        );
        said.ok();
        world.validate("app");
    }
}

#[test]
fn programs_with_threads_and_libraries_run() {
    for (world, dir) in worlds() {
        let Some(world) = world.with_foreign_debian() else { return };
        // Small buffers make many runs, which all four threads merge.
        let dockerfile = "FROM foreign-debian\n\
            RUN set -e; seq 20000 -1 1 > /n; sort -n -T / --parallel=4 -S 64k < /n > /sorted; seq 20000 | cmp - /sorted\n";
        let args = ["-t", "app", "--platform", "s390x", "--qemu-dir", &dir];
        world.build(dockerfile, &args).ok();
        world.validate("app");
    }
}

#[test]
fn processors_are_described_as_that_machine_does_it() {
    let dockerfile =
        "FROM foreign\nRUN grep -c -e '^vendor_id  *: IBM/S390$' -e '^Features' /proc/cpuinfo\n";
    let cores = std::thread::available_parallelism().unwrap().to_string();
    for (world, dir) in worlds() {
        for (platform, lines) in [("s390x", "1"), ("arm64", &cores)] {
            let said = world.build(dockerfile, &["--platform", platform, "--qemu-dir", &dir]);
            assert_eq!(output(&said), [lines], "{platform}");
            said.ok();
        }
    }
}

#[test]
fn nothing_of_the_emulator_is_seen_and_handlers_cannot_be_reached() {
    let dockerfile = "FROM foreign\n\
        RUN find / -path /proc -prune -o -path /sys -prune -o -name '*qemu*' -print; ls -A /proc/sys/fs/binfmt_misc; grep binfmt /proc/mounts | wc -l\n\
        RUN exec 2>&1; mkdir /m; mount -t binfmt_misc none /m; mount -t tmpfs none /m; mount --bind /bin /m; rmdir /m\n\
        RUN exec 2>&1; mknod /null c 1 3; rm -f /null; echo x > /proc/sys/fs/binfmt_misc/register; echo $?\n";
    for (world, dir) in worlds() {
        let args = ["-t", "app", "--platform", "s390x", "--qemu-dir", &dir];
        let said = world.build(dockerfile, &args);
        let mount = "mount: permission denied (are you root?)";
        // A user's build makes a file that records the node; root's has nobody who would do that.
        let mknod = (world.who() == Who::Root).then_some("mknod: /null: Operation not permitted");
        let register =
            "/bin/sh: can't create /proc/sys/fs/binfmt_misc/register: nonexistent directory";
        let first = ["0", mount, mount, mount].into_iter();
        let expected: Vec<&str> = first.chain(mknod).chain([register, "1"]).collect();
        assert_eq!(output(&said), expected);
        said.ok();
        world.validate("app");
        assert_eq!(world.tree("app", "linux/s390x"), world.tree("foreign", "linux/s390x"));
    }
}
