//! `preset`: what most images need and no package brings (assemble-trust.md A1 `shadowSetup`, A3 helpers).
//!
//! A preset never replaces a file that is there already.

mod nix_shell;

use super::{Filler, relative};
use crate::assemble::place;
use crate::assemble::spec::{DirSymlinks, Placed, Preset};
use crate::assemble::tree::{Body, Node, Origin};
use crate::error::{Error, Result};
use crate::layers::EntryKind;
use std::path::Path;

/// Where this machine may keep its certificates.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];
/// Where programs look for them.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
const MORE_CERTIFICATES: [&str; 2] =
    ["/etc/ssl/certs/ca-bundle.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

const NSS_PASSWD: &str =
    "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/var/empty:/bin/sh\n";
const NSS_GROUP: &str = "root:x:0:\nnobody:x:65534:\n";
const PAM: &str = "account sufficient pam_unix.so\nauth sufficient pam_rootok.so\n\
                   password requisite pam_unix.so nullok sha512\nsession required pam_unix.so\n";

impl Filler<'_> {
    pub(super) fn preset(&mut self, origin: Origin, preset: &Placed<Preset>) -> Result<()> {
        let made = match &preset.value {
            Preset::FakeNss => self.fake_nss(origin),
            Preset::Shadow { shell } => self.shadow(origin, shell.as_deref()),
            Preset::CaCertificates { source } => {
                self.certificates(origin, source.as_ref().map(|source| &*source.value))
            }
            Preset::UsrBinEnv { target } => {
                self.program(origin, "/usr/bin/env", &["env"], target.as_deref())
            }
            Preset::BinSh { target } => {
                self.program(origin, "/bin/sh", &["sh", "bash", "dash"], target.as_deref())
            }
            Preset::Tmp => self.temporary(origin),
            Preset::NixShell { env, command } => {
                self.nix_shell(origin, &env.value, command.as_deref())
            }
        };
        let spec = self.spec;
        made.map_err(|error| match error.place() {
            None => error.at(&spec.source, preset.span),
            Some(_) => error,
        })
    }

    fn fake_nss(&mut self, origin: Origin) -> Result<()> {
        self.text(origin, "/etc/passwd", NSS_PASSWD, 0o644)?;
        self.text(origin, "/etc/group", NSS_GROUP, 0o644)?;
        self.text(origin, "/etc/nsswitch.conf", "hosts: files dns\n", 0o644)?;
        let empty = self.plain_dir(origin);
        self.absent("/var/empty", empty)
    }

    fn shadow(&mut self, origin: Origin, shell: Option<&str>) -> Result<()> {
        let passwd = format!("root:x:0:0::/root:{}\n", shell.unwrap_or("/bin/sh"));
        // A shadow without its passwd, or the other way round, is worse than none.
        if self.is_absent("/etc/passwd")? {
            self.text(origin, "/etc/passwd", &passwd, 0o644)?;
            self.text(origin, "/etc/shadow", "root:!x:::::::\n", 0o600)?;
        }
        if self.is_absent("/etc/group")? {
            self.text(origin, "/etc/group", "root:x:0:\n", 0o644)?;
            self.text(origin, "/etc/gshadow", "root:x::\n", 0o600)?;
        }
        self.text(origin, "/etc/pam.d/other", PAM, 0o644)?;
        self.text(origin, "/etc/login.defs", "", 0o644)
    }

    fn certificates(&mut self, origin: Origin, source: Option<&Path>) -> Result<()> {
        let here = || BUNDLES.iter().map(Path::new).find(|path| path.is_file());
        let path = source.or_else(here).ok_or_else(|| {
            Error::context("this machine has no bundle of certificates")
                .hint("name one: `preset: [{ca-certificates: {source: ./ca-bundle.crt}}]`")
        })?;
        let bytes = self.read_host(path)?;
        let node = self.bytes(origin, bytes, 0o644);
        self.absent(CERTIFICATES, node)?;
        for path in MORE_CERTIFICATES {
            self.link(origin, path, CERTIFICATES)?;
        }
        Ok(())
    }

    fn temporary(&mut self, origin: Origin) -> Result<()> {
        for path in ["/tmp", "/var/tmp"] {
            let node = self.node(origin, EntryKind::Directory, 0o1777, Body::None);
            self.absent(path, node)?;
        }
        Ok(())
    }

    /// A link to a program: the one that is named, or one in a store path, or where distributions have it.
    fn program(
        &mut self,
        origin: Origin,
        path: &str,
        names: &[&str],
        target: Option<&str>,
    ) -> Result<()> {
        if !self.is_absent(path)? {
            return Ok(());
        }
        if let Some(target) = target {
            return self.link(origin, path, target);
        }
        let mut found = None;
        for name in names {
            let of_store = self.closures.program(name);
            let usual = ["/bin/", "/usr/bin/"].map(|dir| format!("{dir}{name}"));
            let there = usual.into_iter().filter(|at| at != path);
            let there = there.filter(|at| self.is_absent(at).is_ok_and(|absent| !absent));
            found = of_store.or_else(|| { there }.next());
            if found.is_some() {
                break;
            }
        }
        let target = found.ok_or_else(|| {
            Error::image(format!("nothing in the image can be `{path}`"))
                .cause(format!("no store path and no directory has a program `{}`", names[0]))
                .hint(
                    "put the preset behind the item that brings the program, or give it a `target`",
                )
        })?;
        self.link(origin, path, &target)
    }

    fn link(&mut self, origin: Origin, path: &str, target: &str) -> Result<()> {
        let target = target.as_bytes().to_vec();
        let node = self.node(origin, EntryKind::Symlink { target }, 0o777, Body::None);
        self.absent(path, node)
    }

    fn text(&mut self, origin: Origin, path: &str, text: &str, mode: u32) -> Result<()> {
        let node = self.bytes(origin, text.as_bytes().to_vec(), mode);
        self.absent(path, node)
    }

    fn is_absent(&self, path: &str) -> Result<bool> {
        let path = place::name(&self.tree, &relative(path), DirSymlinks::FollowBase)?;
        Ok(self.tree.entry(&path).is_none())
    }

    fn absent(&mut self, path: &str, node: Node) -> Result<()> {
        if self.is_absent(path)? {
            self.place(&relative(path), node, DirSymlinks::FollowBase)?;
        }
        Ok(())
    }
}
