//! Commands of a spec: in the layer's own directory with this machine's tools, or in the whole image as its root.
//!
//! In: the tree so far; out: the tree that the commands leave, read back as any step of a build is: whiteouts both ways,
//! device nodes as what they are, owners as the id map has them. Nothing of it needs a virtual machine or a size to guess.

use super::base::Base;
use super::contents::relative;
use super::layering::Plan;
use super::place::shown;
use super::spec::{Placed, Run, RunMount, Spec};
use super::tree::{Body, Node, Origin, OwnerNames, Tree};
use super::workshop::Workshop;
use crate::build::script::{Failed, Script, Shown, run_script};
use crate::build::store::Store;
use crate::build::tree;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::layers::apply::{ApplyOptions, apply};
use crate::layers::snapshot::{Draft, Snapshot};
use crate::layers::tar_stream::write_members;
use crate::layers::{ChangeKind, EntryKind, ImagePath};
use crate::oci::Platform;
use crate::oci::spec::DEFAULT_PATH;
use crate::plan::step::{Env, NetworkMode};
use crate::progress::{Emitter, Event, StepId};
use crate::source::Span;
use crate::sys::SysResultExt;
use crate::sys::{fs, owners};
use std::collections::HashMap;
use std::io::BufReader;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

/// Where the layer lies for commands that see this machine's tools.
const LAYER: &str = "/build/layer";
/// Whom such commands run as; what they make gets the spec's owner.
const NOBODY: u32 = 1000;
/// What of this machine they see, besides where its PATH leads.
const TOOLS: [&str; 10] =
    ["bin", "etc", "lib", "lib32", "lib64", "libx32", "nix", "opt", "sbin", "usr"];
/// Never shown: what every command has of its own, and people's own files.
const OWN: [&str; 8] = ["build", "dev", "home", "proc", "root", "run", "sys", "tmp"];

/// What commands are run with.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    pub(super) spec: &'a Spec,
    /// Against which the spec's paths are.
    pub(super) dir: &'a Path,
    pub(super) store: &'a Store,
    pub(super) shop: &'a Workshop,
    pub(super) base: &'a Base,
    pub(super) platform: Platform,
    /// PATH of this machine.
    pub(super) path: &'a str,
    /// Variables of the image.
    pub(super) env: Env,
    pub(super) emitter: &'a Emitter,
}

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Root,
    Extra,
    FakeRoot,
}

impl Role {
    fn step(self) -> StepId {
        match self {
            Self::Root => 1,
            Self::Extra => 2,
            Self::FakeRoot => 3,
        }
    }

    fn key(self) -> &'static str {
        match self {
            Self::Root => "runAsRoot",
            Self::Extra => "extraCommands",
            Self::FakeRoot => "fakeRootCommands",
        }
    }
}

impl Stage<'_> {
    /// Runs all commands of the spec.
    pub(super) fn run(&self, mut tree: Tree) -> Result<Tree> {
        let _heeding = self.shop.worker.cancel.heed();
        let scripts = &self.spec.scripts;
        let keeps_owners = self.keeps_owners()?;
        let all = [
            (Role::Root, &scripts.run_as_root),
            (Role::Extra, &scripts.extra),
            (Role::FakeRoot, &scripts.fake_root),
        ];
        for (role, text) in all {
            let Some(text) = text else { continue };
            self.emitter.emit(Event::StepStarted {
                id: role.step(),
                position: role.key().to_owned(),
                platform: None,
                name: role.key().to_owned(),
                line: self.spec.source.line(text.span.start),
            });
            let started = std::time::Instant::now();
            if !keeps_owners && role != Role::Extra {
                self.emitter.warn(format!(
                    "owners that `{}` gives to files are lost here: extended attributes, in which they would be \
                     recorded, are refused; `perms` gives owners anywhere",
                    role.key()
                ));
            }
            // What such commands make is given away afterwards, so that it matters little who they are.
            let user = if role == Role::Extra && keeps_owners { NOBODY } else { 0 };
            tree = self.one((role, user), text, tree)?;
            let took = started.elapsed();
            self.emitter.emit(Event::StepDone { id: role.step(), took });
        }
        Ok(tree)
    }

    /// Whether files can have owners. With one id for all they are recorded in extended attributes, which a file system
    /// may not have, and which Nix's filter of system calls refuses to its builders.
    fn keeps_owners(&self) -> Result<bool> {
        let what = || "cannot make a file in the store".to_owned();
        let probe =
            tempfile::tempfile_in(self.store.sub("tmp")).or_error(ErrorKind::Environment, what)?;
        owners::can_record(&probe).or_error(ErrorKind::Environment, what)
    }

    fn one(
        &self,
        (role, user): (Role, u32),
        text: &Placed<String>,
        mut tree: Tree,
    ) -> Result<Tree> {
        let filled = self.filled(&tree, (role, user))?;
        let draft = self.on(Some(&filled))?;
        let mut said = Vec::new();
        let mut output = |stderr: bool, bytes: &[u8]| {
            if stderr {
                keep_end(&mut said, bytes);
            }
            let bytes = bytes.to_vec();
            self.emitter.emit(Event::StepOutput { id: role.step(), bytes, stderr });
        };
        let done = match role {
            Role::Root => {
                let script = self.as_root(text)?;
                run_script(self.store, &self.shop.worker, &draft, script, &mut output)
            }
            Role::Extra | Role::FakeRoot => {
                let view = self.on(None)?;
                let script = self.beside((role, user), text, &draft, &view)?;
                run_script(self.store, &self.shop.worker, &view, script, &mut output)
            }
        };
        done.map_err(|failed| self.failed(failed, role, text, &said))?;
        self.read(draft, &mut tree, role)?;
        Ok(tree)
    }

    fn on(&self, below: Option<&Arc<Snapshot>>) -> Result<Draft<'_>> {
        let made = self.shop.worker.snapshots.prepare(below, false)?;
        made.ok_or_else(|| Error::internal("a tree of ours was taken by somebody else"))
    }

    /// What is there so far as a snapshot of its own: what the commands change is then known by itself.
    fn filled(&self, tree: &Tree, (role, user): (Role, u32)) -> Result<Arc<Snapshot>> {
        let draft = match role {
            Role::Root => tree::draft_on(self.store, &self.base.image, &self.shop.worker)?,
            Role::Extra | Role::FakeRoot => self.on(None)?,
        };
        self.fill(&draft, tree, (role, user))?;
        self.shop.commit(draft)
    }

    /// Unpacks what is there so far.
    fn fill(&self, draft: &Draft<'_>, tree: &Tree, (role, user): (Role, u32)) -> Result<()> {
        let what = || "cannot put the files of the layer in place".to_owned();
        let root = draft.mount(None, false)?;
        let root = fs::reopen_dir(&root).or_error(ErrorKind::Environment, what)?;
        let mut plan = Plan::whole(tree, role == Role::Root);
        if role == Role::Extra {
            for change in &mut plan.changes {
                if let ChangeKind::Present(entry) = &mut change.kind {
                    (entry.uid, entry.gid) = (user, user);
                }
            }
            fs::lchown(&root, b".", user, user).or_error(ErrorKind::Environment, what)?;
        }
        let (reader, mut writer) = std::io::pipe().or_error(ErrorKind::Environment, what)?;
        let options = ApplyOptions::layer(tree::devices_of(&self.shop.worker));
        std::thread::scope(|scope| {
            let plan = &plan;
            let producer = scope.spawn(move || write_members(plan.members(tree), &mut writer));
            let reader = BufReader::with_capacity(1 << 18, reader);
            let applied = apply(reader, root.as_fd(), &options);
            let produced = producer
                .join()
                .unwrap_or_else(|_| Err(Error::internal("the writing thread stopped")));
            let applied = applied.map_err(|error| error.wrap(what()));
            // A reader that failed makes the writer fail too, and knows better why.
            if applied.as_ref().map_or(0, |stats| stats.placeholders) > 0 {
                draft.note_placeholders();
            }
            applied.map(drop).and(produced)
        })
    }

    /// A command in the whole image.
    fn as_root(&self, text: &Placed<String>) -> Result<Script> {
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
    fn beside(
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
        if let super::spec::FileTime::Same(_) = self.spec.mtime {
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

    /// What the commands changed.
    fn read(&self, draft: Draft<'_>, tree: &mut Tree, role: Role) -> Result<()> {
        let changes = draft.changes(self.shop.worker.isolation.placeholders())?;
        let snapshot = self.shop.commit(draft)?;
        let upper = snapshot.upper().try_clone_to_owned();
        let upper =
            upper.or_error(ErrorKind::Environment, || "cannot copy a descriptor".to_owned())?;
        let upper = Arc::new(upper);
        tree.keep(snapshot);
        let mut groups: HashMap<ImagePath, u64> = HashMap::new();
        for change in changes {
            let path = change.path;
            let ChangeKind::Present(mut entry) = change.kind else {
                match role {
                    Role::Root => tree.remove(&path),
                    // The layer has it no more; what the base has is another matter.
                    Role::Extra | Role::FakeRoot => tree.withdraw(&path),
                }
                continue;
            };
            let (mut at, mut group) = (path.clone(), None);
            if let EntryKind::Hardlink { target } = entry.kind {
                let number = *groups.entry(target.clone()).or_insert_with(|| tree.new_group());
                let first = tree.files_mut().get_mut(&target);
                let first = first.ok_or_else(|| Error::internal("a link to nothing"))?;
                (first.group, group) = (Some(number), Some(number));
                (entry, at) = (first.entry.clone(), target);
            } else if role == Role::Extra {
                (entry.uid, entry.gid) = self.owner(tree, &path);
            }
            let body = match entry.kind {
                EntryKind::File { .. } => Body::Beneath(Arc::clone(&upper), at),
                _ => Body::None,
            };
            let known = tree.files().get(&path);
            let names = known
                .filter(|node| (node.entry.uid, node.entry.gid) == (entry.uid, entry.gid))
                .map_or_else(OwnerNames::default, |node| node.names.clone());
            let origin = known.map_or(Origin::Script, |node| node.origin);
            tree.put(path, Node { entry, names, body, origin, group });
        }
        Ok(())
    }

    /// Whose something is that nobody in particular wrote.
    fn owner(&self, tree: &Tree, path: &[u8]) -> (u32, u32) {
        match tree.entry(path) {
            Some(known) => (known.uid, known.gid),
            None => (self.spec.owner.uid, self.spec.owner.gid),
        }
    }

    /// The place in the spec of the line that the shell complains about, or of the commands.
    fn failed(&self, failed: Failed, role: Role, text: &Placed<String>, said: &[u8]) -> Error {
        let Failed { error, line } = failed;
        let source = &self.spec.source;
        // The whole spec may be one line, as programs write JSON.
        if source.slice(text.span).first() == Some(&b'"') {
            return error.at(source, text.span);
        }
        // A shell names the line of what it does not understand, and has read more by then.
        let Some(line) = line_of(said, role.key()).or(line) else {
            return error.at(source, source.line_span(first_line(source, text)));
        };
        let first = first_line(source, text);
        // A shell that misses something at the end names the line behind the last one.
        let lines: Vec<&str> = text.value.lines().collect();
        let line = line.clamp(1, lines.len().max(1));
        let at = first + line - 1;
        // Lines of a text that is folded or escaped are no lines of the spec.
        let stands = lines.get(line - 1).is_some_and(|text| {
            let there = source.line_text(at);
            !text.trim().is_empty() && there.trim() == text.trim()
        });
        let span: Span = source.line_span(if stands { at } else { first });
        error.at(source, span)
    }
}

/// Line of the spec on which the commands begin: a block begins behind its `|`.
fn first_line(source: &crate::source::SourceFile, text: &Placed<String>) -> usize {
    let line = source.line(text.span.start);
    let begins = text.value.lines().next().unwrap_or_default().trim();
    let mut at = line;
    // The text of a block is found where it stands; an escaped one stays on its key's line.
    for candidate in line..line + 20 {
        if source.line_text(candidate).trim() == begins {
            at = candidate;
            break;
        }
    }
    at
}

/// `/dev/pipes/NAME: 3: …` and `/dev/pipes/NAME: line 3: …`.
fn line_of(said: &[u8], name: &str) -> Option<usize> {
    let text = String::from_utf8_lossy(said);
    let prefix = format!("/dev/pipes/{name}: ");
    // The last thing that was said, by the shell before it ended.
    let rest = text.lines().last()?.split_once(&prefix)?.1;
    rest.trim_start_matches("line ").split(':').next()?.trim().parse().ok()
}

/// Bytes of standard error that are looked at for a line.
const SAID: usize = 16 << 10;

fn keep_end(said: &mut Vec<u8>, bytes: &[u8]) {
    said.extend_from_slice(bytes);
    if said.len() > SAID {
        said.drain(..said.len() - SAID);
    }
}

fn memory(run: &Run) -> Vec<(String, Shown)> {
    run.tmpfs.iter().map(|path| (format!("/{}", shown(&relative(path))), Shown::Memory)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_a_shell_names_is_found() {
        for (said, wanted) in [
            ("x\n/dev/pipes/runAsRoot: 3: foo: not found\n", Some(3)),
            ("/dev/pipes/runAsRoot: line 12: syntax error\n", Some(12)),
            ("/dev/pipes/runAsRoot: 3: foo: not found\nmore\n", None),
            ("ls: no such file\n", None),
        ] {
            assert_eq!(line_of(said.as_bytes(), "runAsRoot"), wanted, "{said}");
        }
    }
}
