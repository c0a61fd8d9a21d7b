//! Another host, imitated: user and mount namespaces with a binfmt_misc of their own. The real host's is never touched.
//!
//! All ids are those outside, so root in there is what real root is, and the ordinary user has its subordinate ids.
//! What a test wants of the host is a few lines of shell that root runs in there before the program is started.

use super::foreign::registration;
use super::{Said, Who, World, have, is_root, program, user_ids};
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// What programs find at their usual places, and no emulators.
const HIDE: &str = r#"
mkdir -p "$HOME/hidden"
mount --bind /usr/bin "$HOME/hidden"
PATH=$HOME/hidden:$PATH
mount -t tmpfs none /usr/bin
mount -t tmpfs none /usr/local/bin
cd "$HOME/hidden"
ls | grep -v '^qemu-' | sed "s|^|$HOME/hidden/|" | xargs ln -s -t /usr/bin
cd "$HOME"
PATH=/usr/bin:/bin:/usr/sbin:/sbin
"#;

/// A host to be.
#[derive(Default)]
pub struct Outer {
    setup: String,
}

impl Outer {
    /// One that has no binfmt_misc yet; none when the tests do not run as root.
    pub fn new() -> Option<Self> {
        have("root", is_root()).then(Self::default)
    }

    /// One with a binfmt_misc.
    pub fn with_handlers() -> Option<Self> {
        let outer = Self::new()?;
        Some(outer.then("mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc"))
    }

    /// Further set-up.
    pub fn then(mut self, shell: &str) -> Self {
        writeln!(self.setup, "{shell}").unwrap();
        self
    }

    /// Registers an emulator under Debian's name for it, `qemu-ARCH`.
    pub fn handler(self, qemu: &str, interpreter: &Path, flags: &str) -> Self {
        let line = registration(qemu, interpreter, flags);
        self.then(&format!("printf '%s' '{line}' > /proc/sys/fs/binfmt_misc/register"))
    }

    /// Takes the emulators away that may be installed.
    pub fn without_emulators(self) -> Self {
        self.then(HIDE)
    }

    /// Builds the context with this Dockerfile on that host.
    pub fn build(&self, world: &World, dockerfile: &str, args: &[&str]) -> Said {
        world.file("Dockerfile", dockerfile);
        let context = world.context();
        let fixed = [program().to_str().unwrap(), "build", "--progress", "plain"];
        self.run(world, &[&fixed[..], args, &[context.to_str().unwrap()]].concat())
    }

    /// Runs a command as the user of the world.
    pub fn run(&self, world: &World, command: &[&str]) -> Said {
        let template = world.command("unshare");
        let mut unshare = Command::new("unshare");
        // Without ids a shell loses its capabilities when it is started; the second one has them.
        unshare.args(["--user", "--mount", "--propagation", "private", "sh", "-ec"]);
        unshare.args(["echo; read -r mapped; exec \"$@\"", "sh", "sh", "-ec"]);
        unshare.arg(format!("{}\nexec \"$@\"", self.setup)).arg("sh");
        if world.who() == Who::User {
            let (uid, gid) = user_ids();
            unshare.args(["setpriv", &format!("--reuid={uid}"), &format!("--regid={gid}")]);
            unshare.args(["--clear-groups", "--"]);
        }
        unshare.args(command).env_clear();
        unshare.envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))));
        unshare.current_dir(template.get_current_dir().unwrap());
        unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = unshare.spawn().unwrap();
        // A line says that the namespaces are there, a line that they have ids.
        let ready = child.stdout.as_mut().unwrap().read_exact(&mut [0]);
        if ready.is_ok() {
            for kind in ["uid_map", "gid_map"] {
                fs::write(format!("/proc/{}/{kind}", child.id()), identity(kind)).unwrap();
            }
            child.stdin.take().unwrap().write_all(b"\n").unwrap();
        }
        Said::of(child.wait_with_output().unwrap())
    }
}

/// A map that changes nothing.
fn identity(kind: &str) -> String {
    let own = fs::read_to_string(format!("/proc/self/{kind}")).unwrap();
    let lines = own.lines().map(|line| {
        let numbers: Vec<&str> = line.split_whitespace().collect();
        format!("{} {0} {}\n", numbers[0], numbers[2])
    });
    lines.collect()
}
