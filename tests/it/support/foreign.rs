//! Images of foreign architectures, and emulators for them, made once for all test runs of a target directory.
//!
//! Both come out of Debian's packages, which are unpacked and never installed, whatever this machine has: so a fresh
//! machine needs only apt and a mirror, an installed qemu of another version changes no result, and nothing is ever
//! registered in the host's binfmt_misc. The need is called `foreign`.

use super::bases::project;
use super::{Said, World, copy_program, have, program};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// An architecture of the image `foreign`.
#[derive(Debug, PartialEq, Eq)]
pub struct Machine {
    pub platform: &'static str,
    /// What `uname -m` says there.
    pub uname: &'static str,
    /// qemu's name.
    pub qemu: &'static str,
}

const fn machine(platform: &'static str, uname: &'static str, qemu: &'static str) -> Machine {
    Machine { platform, uname, qemu }
}

impl Machine {
    /// True where this machine needs an emulator.
    pub fn is_foreign(&self) -> bool {
        let own: &[&str] = match std::env::consts::ARCH {
            "x86_64" => &["linux/amd64", "linux/386"],
            "aarch64" => &["linux/arm64"],
            _ => &[],
        };
        !own.contains(&self.platform)
    }
}

/// All of them, in the order of an index.
pub const MACHINES: &[Machine] = &[
    machine("linux/386", "i686", "i386"),
    machine("linux/amd64", "x86_64", "x86_64"),
    machine("linux/arm/v5", "armv7l", "arm"),
    machine("linux/arm/v7", "armv7l", "arm"),
    machine("linux/arm64", "aarch64", "aarch64"),
    machine("linux/mips64le", "mips64", "mips64el"),
    machine("linux/ppc64le", "ppc64le", "ppc64le"),
    machine("linux/riscv64", "riscv64", "riscv64"),
    machine("linux/s390x", "s390x", "s390x"),
];

fn target_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn script(name: &str, args: &[&str]) -> bool {
    let output = Command::new(project("scripts").join(name)).args(args).output().unwrap();
    let done = output.status.success();
    if !done {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
    }
    done
}

/// The tar of one of make-foreign-bases' trees.
fn tree(name: &str) -> Option<PathBuf> {
    let (dir, tar) = (target_dir("foreign"), target_dir("foreign").join(format!("{name}.tar")));
    let there = tar.exists() || script("make-foreign-bases", &[dir.to_str().unwrap(), name]);
    there.then_some(tar)
}

/// An OCI archive with one index of busybox for all machines.
fn busybox() -> Option<&'static Path> {
    static MADE: OnceLock<Option<PathBuf>> = OnceLock::new();
    MADE.get_or_init(|| {
        archive("busybox", |world| {
            for machine in MACHINES {
                let platform = machine.platform;
                let name = platform.trim_start_matches("linux/").replace('/', "-");
                import(
                    world,
                    "it",
                    &tree(&format!("busybox-{name}"))?,
                    &["--add", "--platform", platform],
                );
            }
            Some(())
        })
    })
    .as_deref()
}

/// Programs with libraries: of a whole Debian only what the tests start, since its unpacking would take them longest.
const DYNAMIC: &str = "FROM scratch\n\
    COPY --from=debian /usr/bin/dash /bin/sh\n\
    COPY --from=debian /usr/bin/sort /usr/bin/seq /usr/bin/cmp /usr/bin/\n\
    COPY --from=debian /usr/lib/s390x-linux-gnu/*.so* /lib/s390x-linux-gnu/\n\
    COPY --from=debian /usr/lib/ld64.so.1 /lib/\n";

/// An OCI archive with a little of Debian for s390x.
fn debian() -> Option<&'static Path> {
    static MADE: OnceLock<Option<PathBuf>> = OnceLock::new();
    MADE.get_or_init(|| {
        archive("debian", |world| {
            import(world, "debian", &tree("debian-s390x")?, &["--platform", "linux/s390x"]);
            world.build(DYNAMIC, &["--platform", "linux/s390x", "-t", "it"]).ok();
            Some(())
        })
    })
    .as_deref()
}

fn archive(name: &str, make: impl FnOnce(&World) -> Option<()>) -> Option<PathBuf> {
    let path = target_dir("foreign").join(format!("{name}.oci.tar"));
    if !path.exists() {
        let world = World::new();
        make(&world)?;
        let made = world.path("out/archive");
        world.run(["image", "save", "it", "-o", made.to_str().unwrap()]).ok();
        // Whole or not there, whoever else makes it at the same time.
        let part = path.with_extension(format!("part-{}", std::process::id()));
        fs::copy(&made, &part).unwrap();
        fs::rename(&part, &path).unwrap();
    }
    Some(path)
}

/// By standard input: the user of the world need not be able to reach the file.
fn import(world: &World, name: &str, file: &Path, options: &[&str]) {
    let mut command = world.command(program());
    command.args(["image", "import", name, "-"]).args(options);
    let output = command.stdin(Stdio::from(File::open(file).unwrap())).output();
    Said::of(output.unwrap()).ok();
}

/// The program of fetch-qemu and the line that would register it.
fn fetched(qemu: &str) -> Option<(PathBuf, String)> {
    static ALL: OnceLock<bool> = OnceLock::new();
    let dir = target_dir("qemu");
    let program = dir.join(format!("qemu-{qemu}-static"));
    let line = dir.join(format!("binfmt.d/qemu-{qemu}.conf"));
    let there = || program.exists() && line.exists();
    if !there() {
        // All at once, since the package is unpacked for each call; and in vain only once.
        ALL.get_or_init(|| fetch_all(&dir));
    }
    if !there() {
        return None;
    }
    Some((program, fs::read_to_string(line).unwrap().trim_end().to_owned()))
}

fn fetch_all(dir: &Path) -> bool {
    let foreign = MACHINES.iter().filter(|machine| machine.is_foreign());
    let mut args: Vec<&str> = foreign.map(|machine| machine.qemu).collect();
    args.sort_unstable();
    args.dedup();
    args.insert(0, dir.to_str().unwrap());
    script("fetch-qemu", &args)
}

/// What registers an emulator: `:NAME:M::MAGIC:MASK:INTERPRETER:FLAGS`.
pub fn registration(qemu: &str, interpreter: &Path, flags: &str) -> String {
    let (_, line) = fetched(qemu).unwrap();
    let fields: Vec<&str> = line.split(':').collect();
    let interpreter = interpreter.to_str().unwrap();
    [&fields[..6], &[interpreter, flags]].concat().join(":")
}

/// Linux 6.7 is the first where a user namespace has handlers of its own.
fn kernel_will_do() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|word| word.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(7))
}

impl World {
    /// Imports busybox of all machines as the image `foreign`. Nothing of it needs an emulator yet.
    pub fn with_foreign(self) -> Option<Self> {
        self.with_foreign_as("foreign")
    }

    /// The same under another name.
    pub fn with_foreign_as(self, name: &str) -> Option<Self> {
        let file = busybox();
        have("foreign", file.is_some());
        import(&self, name, file?, &[]);
        Some(self)
    }

    /// Imports programs of Debian for s390x, with their libraries, as `foreign-debian`.
    pub fn with_foreign_debian(self) -> Option<Self> {
        let file = debian();
        have("foreign", file.is_some());
        import(&self, "foreign-debian", file?, &[]);
        Some(self)
    }

    /// A directory with the emulators of these names, and no others.
    pub fn emulators(&self, names: &[&str]) -> Option<String> {
        let dir = self.path("qemu");
        fs::create_dir_all(&dir).unwrap();
        for name in names {
            let program = fetched(name).filter(|_| kernel_will_do()).map(|(program, _)| program);
            have("foreign", program.is_some());
            let to = dir.join(format!("qemu-{name}-static"));
            // No link: the world's files are given to its user.
            if !to.exists() {
                copy_program(&program?, &to);
            }
        }
        Some(dir.to_str().unwrap().to_owned())
    }
}
