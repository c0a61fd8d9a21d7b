//! Small closures for the tests of this room, and a Nix of other people.

use super::{Closure, PathInfo, StorePath};
use crate::oci::Digest;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A store path whose hash follows from its name.
pub(super) fn path(name: &str) -> StorePath {
    let hash = super::base32::encode(&Digest::of(name.as_bytes()).bytes()[..20]);
    StorePath::from_base(format!("{hash}-{name}").as_bytes()).unwrap()
}

/// What is known about a path of [`path`], with hash and size.
pub(super) fn info(name: &str, size: u64, references: &[&str]) -> PathInfo {
    let mut info = PathInfo::new(path(name));
    info.nar_hash = Some(Digest::of(name.as_bytes()));
    info.nar_size = Some(size);
    info.references = references.iter().map(|name| path(name)).collect();
    info.references.sort();
    info
}

/// A closure from lines `name size: references`.
pub(super) fn closure(lines: &[&str]) -> Closure {
    let read = |line: &&str| {
        let (start, references) = line.split_once(':').unwrap();
        let (name, size) = start.split_once(' ').unwrap_or((start, "1"));
        info(name, size.parse().unwrap(), &references.split_whitespace().collect::<Vec<_>>())
    };
    Closure::new(lines.iter().map(read).collect()).unwrap()
}

/// Names of paths.
pub(super) fn names(paths: &[StorePath]) -> Vec<String> {
    paths.iter().map(|path| String::from_utf8_lossy(path.pname()).into_owned()).collect()
}

/// True when Nix is installed; a loud line when not, or a panic where it was promised.
pub(super) fn have_nix() -> bool {
    let found = Command::new("nix-store").arg("--version").output().is_ok();
    found || absent("peers", "`nix-store`")
}

/// True when this process is root and may mount.
pub(super) fn have_root() -> bool {
    let mounts = Command::new("unshare").args(["-m", "true"]).output();
    mounts.is_ok_and(|output| output.status.success()) || absent("root", "root")
}

fn absent(need: &str, what: &str) -> bool {
    #[expect(clippy::disallowed_methods, reason = "tests have no cli that reads the environment")]
    let required = std::env::var("NATIVEBUILD_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name == need), "{what} is required");
    eprintln!("SKIPPED a comparison with Nix: {what} is not there");
    false
}

/// A directory in which commands run, and a Nix store that only they see.
pub(super) struct Lab {
    dir: tempfile::TempDir,
    root: PathBuf,
}

/// Everything of the root, bound into an empty one, with the directory `$1/nix` at `/nix`. Then `$3` in `$2`.
const ENTER: &str = r#"
set -eu
mount -t tmpfs -o mode=755 none "$1/seen"
for entry in /*; do
    seen=$1/seen$entry
    if [ "$entry" = /nix ]; then continue
    elif [ -L "$entry" ]; then cp -P "$entry" "$seen"
    elif [ -d "$entry" ]; then mkdir "$seen"; mount --rbind "$entry" "$seen"
    fi
done
mkdir "$1/seen/nix"
mount --bind "$1/nix" "$1/seen/nix"
exec chroot "$1/seen" /bin/sh -c 'cd "$1"; eval "$2"' sh "$2" "$3"
"#;

const CONFIG: &str = "build-users-group =\nsubstituters =\nsandbox = false\n";

impl Lab {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        for name in ["nix", "seen"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        Self { dir, root }
    }

    /// Where commands run.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Below which `nix/store` lies.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.dir()).env("NIX_CONFIG", CONFIG).env("USER", "nobody");
        command.env("HOME", self.dir()).env_remove("NIX_REMOTE").env_remove("NIX_PATH");
        command
    }

    /// Standard output of a program that needs no store.
    pub(super) fn output(&self, program: &str, arguments: &[&str]) -> Vec<u8> {
        let output = self.command(program).args(arguments).output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
        output.stdout
    }

    fn start(&self, script: &str) -> Output {
        let mut command = self.command("unshare");
        command.args(["-m", "/bin/sh", "-c", ENTER, "sh"]);
        command.arg(&self.root).arg(self.dir()).arg(script).output().unwrap()
    }

    /// Standard output of a script that has the store; it must succeed.
    pub(super) fn run(&self, script: &str) -> String {
        let output = self.start(script);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Exit code and standard output.
    pub(super) fn try_run(&self, script: &str) -> (Option<i32>, String) {
        let output = self.start(script);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
