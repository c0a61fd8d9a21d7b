//! A store, a context and the program, for one test.

pub mod base;
pub mod bases;
pub mod certificates;
pub mod environment;
pub mod faults;
pub mod filter;
pub mod foreign;
pub mod http;
pub mod leaks;
pub mod nix;
pub mod outer;
pub mod peers;
pub mod platforms;
pub mod processes;
pub mod proxy;
pub mod registry;
pub mod rungs;
pub mod shelf;
pub mod times;
pub mod tokens;
pub mod trace;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The ordinary user that `make test` makes.
pub const USER: &str = "nbtest";

/// Who runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Root,
    User,
}

/// One test's world; gone with the value.
pub struct World {
    dir: tempfile::TempDir,
    who: Who,
}

/// What the program said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// True when `need` is at hand; else says so, and fails when it is required.
pub fn have(need: &str, is_there: bool) -> bool {
    if is_there {
        return true;
    }
    let required = std::env::var("NATIVEBUILD_REQUIRE").unwrap_or_default();
    assert!(
        !required.split(',').any(|known| known == need),
        "`{need}` is required by NATIVEBUILD_REQUIRE and is not there"
    );
    eprintln!("SKIPPED: this test needs {need}");
    false
}

/// True when a program is on PATH; `peers` is the need.
pub fn peer(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    have("peers", found)
}

/// True when tests that take minutes are wanted: `NATIVEBUILD_LONG=1`.
pub fn long() -> bool {
    let wanted = std::env::var_os("NATIVEBUILD_LONG").is_some_and(|value| value == "1");
    if !wanted {
        eprintln!("SKIPPED: this test takes minutes; NATIVEBUILD_LONG=1 runs it");
    }
    wanted
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn user_exists() -> bool {
    fs::read_to_string("/etc/passwd")
        .is_ok_and(|text| text.lines().any(|line| line.starts_with(&format!("{USER}:"))))
}

/// Numbers of the ordinary user and of its group.
pub fn user_ids() -> (u32, u32) {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.starts_with(&format!("{USER}:"))).unwrap();
    let numbers: Vec<u32> = line.split(':').skip(2).take(2).map(|n| n.parse().unwrap()).collect();
    (numbers[0], numbers[1])
}

/// The program, at a path that every user can reach.
pub fn program() -> &'static Path {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    COPY.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("nativebuild-test-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        let copy = dir.join("nativebuild");
        copy_program(Path::new(env!("CARGO_BIN_EXE_nativebuild")), &copy);
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        copy
    })
}

/// Copies a program that is going to be run. A child that another test starts meanwhile would have our descriptor of the
/// copy until it is another program, and whoever runs the copy then is told that the text file is busy: so it is not ours.
pub fn copy_program(from: &Path, to: &Path) {
    assert!(Command::new("cp").args([from, to]).status().unwrap().success());
}

/// Writes a script that is going to be run; see [`copy_program`].
pub fn write_program(to: &Path, text: &str) {
    let mut writer = Command::new("sh");
    writer.args(["-c", "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\""]).arg(to).arg(text);
    assert!(writer.status().unwrap().success());
}

impl World {
    /// A world for the running user: root's when the tests run as root.
    pub fn new() -> Self {
        Self::of(if is_root() { Who::Root } else { Who::User })
    }

    /// A world for root; none when the tests do not run as root.
    pub fn root() -> Option<Self> {
        have("root", is_root()).then(|| Self::of(Who::Root))
    }

    /// A world for an ordinary user with subordinate ids.
    pub fn user() -> Option<Self> {
        let there = if is_root() { user_exists() } else { true };
        have("user", there).then(|| Self::of(Who::User))
    }

    /// Both, as far as they are to be had.
    pub fn each() -> Vec<Self> {
        Self::root().into_iter().chain(Self::user()).collect()
    }

    fn of(who: Who) -> Self {
        let dir = tempfile::Builder::new().prefix("nb-it-").tempdir().unwrap();
        let world = Self { dir, who };
        for name in ["store", "context", "out"] {
            fs::create_dir(world.path(name)).unwrap();
        }
        world.give();
        world
    }

    /// Gives what the test made to the user who runs the program.
    pub fn give(&self) {
        if self.who == Who::User && is_root() {
            let owner = format!("{USER}:");
            let done = Command::new("chown").args(["-R", &owner]).arg(self.dir.path()).status();
            assert!(done.unwrap().success());
        }
    }

    pub fn who(&self) -> Who {
        self.who
    }

    /// A path below the test's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    pub fn context(&self) -> PathBuf {
        self.path("context")
    }

    /// Writes a file of the context, with its directories.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.context().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        if self.who == Who::User && is_root() {
            let owner = format!("{USER}:");
            let done = Command::new("chown").args(["-R", &owner]).arg(self.context()).status();
            assert!(done.unwrap().success());
        }
        self
    }

    /// Any program as the user of this world, with a clean environment.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        if self.who == Who::User && is_root() {
            // No helper program in between: signals of a test go to the program itself.
            let (uid, gid) = user_ids();
            command.uid(uid).gid(gid);
        }
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("NATIVEBUILD_ROOT", self.store())
            // Whatever programs for networks the machine has.
            .env("NATIVEBUILD_NETWORK", "host")
            .current_dir(self.dir.path());
        command
    }

    /// The program with arguments.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Said {
        Said::of(self.command(program()).args(args).output().unwrap())
    }

    /// Builds the context with this Dockerfile.
    pub fn build(&self, dockerfile: &str, args: &[&str]) -> Said {
        self.file("Dockerfile", dockerfile);
        let context = self.context();
        let fixed = ["build", "--progress", "plain"].map(String::from);
        let rest = args.iter().map(|arg| (*arg).to_owned());
        self.run(fixed.into_iter().chain(rest).chain([context.to_str().unwrap().to_owned()]))
    }

    /// Imports the small base image as `base`.
    pub fn with_base(self) -> Self {
        let tar = self.path("base.tar");
        fs::write(&tar, base::busybox_tar()).unwrap();
        self.give();
        self.run(["image", "import", "base", tar.to_str().unwrap()]).ok();
        self
    }

    /// Validates an image of the store with our own validator.
    pub fn validate(&self, name: &str) {
        assert_eq!(self.run(["image", "validate", name]).ok(), "valid\n");
    }

    /// The config of an image of the store.
    pub fn config(&self, name: &str) -> serde_json::Value {
        let text = self.run(["image", "inspect", "--json", name]).ok();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["config"].take()
    }

    /// The root file system of an image as `path type mode uid:gid extra` lines.
    pub fn listing(&self, name: &str) -> Vec<String> {
        let tar = self.path("out/listing.tar");
        self.run(["image", "export", name, "-o", tar.to_str().unwrap()]).ok();
        base::list_tar(&fs::read(tar).unwrap())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Files of a range map belong to subordinate ids; only the user's own namespace may remove them.
        if self.who == Who::User {
            let _best_effort = self.command(program()).args(["prune", "--all"]).output();
        }
    }
}

impl Said {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Standard output of a success.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "stderr:\n{}", self.stderr);
        self.stdout
    }

    /// Standard error of a failure with this exit code.
    #[track_caller]
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self.stderr
    }

    /// How many steps were taken from the cache.
    pub fn cached(&self) -> usize {
        self.stderr.lines().filter(|line| line.ends_with(" CACHED")).count()
    }

    /// How many steps were carried out.
    pub fn done(&self) -> usize {
        self.stderr.lines().filter(|line| line.contains(" DONE ")).count()
    }
}
