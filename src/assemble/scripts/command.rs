//! What commands are and see: the image with what the spec shows them, or the layer beside this machine's tools.

use super::{Role, Stage};
use crate::assemble::contents::relative;
use crate::assemble::place::shown;
use crate::assemble::spec::{FileTime, Placed, Run, RunMount};
use crate::build::script::{Script, Shown};
use crate::error::{Error, ErrorKind, Result};
use crate::layers::snapshot::Draft;
use crate::oci::Platform;
use crate::oci::spec::DEFAULT_PATH;
use crate::plan::step::{Env, NetworkMode};
use crate::sys::SysResultExt;
use crate::sys::fs;
use std::path::Path;

/// Where the layer lies for commands that see this machine's tools.
const LAYER: &str = "/build/layer";
/// What of this machine they see, besides where its PATH leads.
const TOOLS: [&str; 10] =
    ["bin", "etc", "lib", "lib32", "lib64", "libx32", "nix", "opt", "sbin", "usr"];
/// Never shown: what every command has of its own, and people's own files.
const OWN: [&str; 8] = ["build", "dev", "home", "proc", "root", "run", "sys", "tmp"];

impl Stage<'_> {
    /// A command in the whole image.
    pub(super) fn as_root(&self, text: &Placed<String>) -> Result<Script> {
        let run = &self.spec.run;
        let mut shown = memory(run);
        for mount in &run.mounts {
            match mount {
                RunMount::Store(span) => {
                    let store = Path::new("/nix/store");
                    if !store.is_dir() {
                        return Err(Error::context("this machine has no /nix/store to show")
                            .at(&self.spec.source, *span));
                    }
                    shown.push(("/nix/store".to_owned(), Shown::Host(store.to_owned())));
                }
                RunMount::Bind { source, target } => {
                    let path = self.dir.join(&source.value);
                    if !path.exists() {
                        let message = format!("there is no `{}` to show", source.value.display());
                        return Err(Error::context(message).at(&self.spec.source, source.span));
                    }
                    shown.push((target.clone(), Shown::Host(path)));
                }
            }
        }
        let mut env = self.env.clone();
        if !env.iter().any(|(name, _)| name == "PATH") {
            env.push(("PATH".to_owned(), DEFAULT_PATH.to_owned()));
        }
        let user = "0:0".to_owned();
        Ok(self.script(Role::Root, text, (env, "/".to_owned(), user), shown))
    }

    /// A command beside the layer, with this machine's tools.
    pub(super) fn beside(
        &self,
        (role, user): (Role, u32),
        text: &Placed<String>,
        layer: &Draft<'_>,
        view: &Draft<'_>,
    ) -> Result<Script> {
        let what = || "cannot show this machine's tools to a command".to_owned();
        let root = view.mount(None, false)?;
        let root = fs::reopen_dir(&root).or_error(ErrorKind::Environment, what)?;
        let mut shown = memory(&self.spec.run);
        for name in self.tools() {
            let path = Path::new("/").join(&name);
            let Ok(found) = std::fs::symlink_metadata(&path) else { continue };
            if found.is_symlink() {
                let target = fs::readlink(rustix::fs::CWD, path.as_os_str().as_encoded_bytes())
                    .or_error(ErrorKind::Environment, what)?;
                fs::symlink(&target, &root, name.as_bytes())
                    .or_error(ErrorKind::Environment, what)?;
            } else if found.is_dir() {
                shown.push((format!("/{name}"), Shown::Host(path)));
            }
        }
        let tree = layer.mount(None, false)?;
        shown.push((LAYER.to_owned(), Shown::Tree(tree)));
        if !shown.iter().any(|(target, _)| target == "/tmp") {
            shown.push(("/tmp".to_owned(), Shown::Memory));
        }
        let user = format!("{user}:{user}");
        let mut env = vec![
            ("PATH".to_owned(), self.path.to_owned()),
            ("HOME".to_owned(), "/tmp".to_owned()),
            ("TMPDIR".to_owned(), "/tmp".to_owned()),
        ];
        if let FileTime::Same(_) = self.spec.mtime {
            env.push(("SOURCE_DATE_EPOCH".to_owned(), "1".to_owned()));
        }
        let mut script = self.script(role, text, (env, LAYER.to_owned(), user), shown);
        script.machine = Platform::host();
        Ok(script)
    }

    fn tools(&self) -> Vec<String> {
        let of_path = self
            .path
            .split(':')
            .filter_map(|dir| dir.strip_prefix('/')?.split('/').next().map(str::to_owned));
        let mut names: Vec<String> =
            TOOLS.iter().map(|name| (*name).to_owned()).chain(of_path).collect();
        names.retain(|name| !name.is_empty() && !OWN.contains(&name.as_str()));
        names.sort();
        names.dedup();
        names
    }

    fn script(
        &self,
        role: Role,
        text: &Placed<String>,
        (mut env, cwd, user): (Env, String, String),
        shown: Vec<(String, Shown)>,
    ) -> Script {
        let run = &self.spec.run;
        for (name, value) in &run.env {
            env.retain(|(known, _)| known != name);
            env.push((name.clone(), value.clone()));
        }
        Script {
            name: role.key().to_owned(),
            text: text.value.clone(),
            shell: run.shell.clone(),
            env,
            cwd,
            user,
            network: if run.network == "host" { NetworkMode::Host } else { NetworkMode::None },
            machine: self.platform.clone(),
            shown,
            timeout: run.timeout,
        }
    }
}

fn memory(run: &Run) -> Vec<(String, Shown)> {
    run.tmpfs.iter().map(|path| (format!("/{}", shown(&relative(path))), Shown::Memory)).collect()
}
