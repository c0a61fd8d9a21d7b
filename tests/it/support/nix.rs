//! A store of Nix for one test, without a daemon and away from the machine's own.
//!
//! Paths of a store mean something below `/nix/store` only. So commands run in a mount namespace whose root has everything
//! of the machine's, except that `/nix` is a directory of the test. It is entered by pivot_root, since nobody makes user
//! namespaces in a chroot. The machine's own directories are read-only there.

use super::{Said, World, have, is_root, peer, program};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// `$1` has the directories `nix` and `seen`; then `$3` runs in `$2`.
const ENTER: &str = r#"
set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=755 none "$1/seen"
for entry in /*; do
    seen=$1/seen$entry
    if [ "$entry" = /nix ]; then continue
    elif [ -L "$entry" ]; then cp -P "$entry" "$seen"
    elif [ -d "$entry" ]; then mkdir "$seen"; mount --rbind "$entry" "$seen"
    fi
    case $entry in /etc | /home | /root | /usr | /var) mount -o remount,bind,ro "$seen" ;; esac
done
mkdir "$1/seen/nix" "$1/seen/old"
mount --bind "$1/nix" "$1/seen/nix"
cd "$1/seen"
pivot_root . old
umount -l /old
rmdir /old
cd "$2"
exec /bin/sh -euc "$3"
"#;

/// What builders of this machine need to run its programs.
const MACHINE: &str = "/bin /usr /lib /lib64";

/// How builders are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    Off,
    On,
    /// Without the filter of system calls.
    Unfiltered,
}

/// The store; commands run as the root of its world.
pub struct Nix {
    pub world: World,
    pub sandbox: Sandbox,
}

impl Nix {
    /// None where Nix or root is not to be had.
    pub fn new(sandbox: Sandbox) -> Option<Self> {
        if !have("root", is_root()) || !peer("nix-store") {
            return None;
        }
        let world = World::root()?;
        for name in ["nix", "seen"] {
            fs::create_dir(world.path(name)).unwrap();
        }
        Some(Self { world, sandbox })
    }

    /// Writes a file where commands run.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.world.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.world.path(name)
    }

    /// A script that sees the store.
    pub fn command(&self, script: &str) -> Command {
        let top = self.world.path("");
        let mut command = self.world.command("unshare");
        command.args(["-m", "/bin/sh", "-c", ENTER, "sh"]).arg(&top).arg(&top).arg(script);
        let sandbox = match self.sandbox {
            Sandbox::Off => "sandbox = false".to_owned(),
            Sandbox::On => format!("sandbox = true\nextra-sandbox-paths = {MACHINE}"),
            Sandbox::Unfiltered => {
                format!("sandbox = true\nfilter-syscalls = false\nextra-sandbox-paths = {MACHINE}")
            }
        };
        let config = format!("build-users-group =\nsubstituters =\n{sandbox}\n");
        command.env("NIX_CONFIG", config).env("USER", "nobody").env("PATH", path_with_program());
        command.env("NIX_PATH", format!("nixpkgs={}", self.world.path("nixpkgs").display()));
        command
    }

    pub fn run(&self, script: &str) -> Said {
        Said::of(self.command(script).output().unwrap())
    }

    /// Standard output of a script that succeeds, without the end of its last line.
    #[track_caller]
    pub fn ok(&self, script: &str) -> String {
        self.run(script).ok().trim_end().to_owned()
    }
}

/// PATH with the program's directory in front.
pub fn path_with_program() -> String {
    let dir = program().parent().unwrap().display().to_string();
    format!("{dir}:{}", std::env::var("PATH").unwrap_or_default())
}

/// As much of nixpkgs as examples need, made out of this machine's programs. `exit` keeps the shell from becoming its last
/// command: that closes its output before it ends, and Nix kills a builder whose output is closed.
pub const NIXPKGS: &str = r#"
{ }: rec {
  runCommand = name: attrs: script: derivation ({
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/bash";
    PATH = builtins.concatStringsSep ":" (map (p: "${p}/bin") (attrs.nativeBuildInputs or [ ]) ++ [ "/bin" "/usr/bin" ]);
    args = [ "-c" ''
      set -e
      if [ -f .attrs.sh ]; then source .attrs.sh; out=''${outputs[out]}; export PATH; fi
      ${script}
      exit
    '' ];
  } // attrs);
  greeting = runCommand "greeting-1.0" { } "mkdir $out; echo hi > $out/greeting";
  hello = runCommand "hello-2.12" { } ''
    mkdir -p $out/bin
    printf '#!/bin/sh\nexec cat ${greeting}/greeting\n' > $out/bin/hello
    chmod +x $out/bin/hello
  '';
}
"#;
