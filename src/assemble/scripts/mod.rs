//! Commands of a spec: in the layer's own directory with this machine's tools, or in the whole image as its root.
//!
//! In: the tree so far; out: the tree that the commands leave, read back as any step of a build is: whiteouts both ways,
//! device nodes as what they are, owners as the id map has them. Nothing of it needs a virtual machine or a size to guess.

mod command;
mod fault;
mod left;

use super::base::Base;
use super::layering::Plan;
use super::spec::{Placed, Spec};
use super::tree::Tree;
use super::workshop::Workshop;
use crate::build::script::run_script;
use crate::build::store::Store;
use crate::build::tree;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::layers::ChangeKind;
use crate::layers::apply::{ApplyOptions, apply};
use crate::layers::snapshot::{Draft, Snapshot};
use crate::layers::tar_stream::write_members;
use crate::oci::Platform;
use crate::plan::step::Env;
use crate::progress::{Emitter, Event, StepId};
use crate::sys::SysResultExt;
use crate::sys::fs;
use std::io::BufReader;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

/// Whom commands beside the layer run as; what they make gets the spec's owner.
const NOBODY: u32 = 1000;

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
        let keeps_owners = self.shop.worker.keeps_owners(self.store)?;
        let all = [
            (Role::Root, &scripts.run_as_root),
            (Role::Extra, &scripts.extra),
            (Role::FakeRoot, &scripts.fake_root),
        ];
        for (role, text) in all {
            let Some(text) = text else { continue };
            let (source, span) = self.spec.source.home(text.span);
            self.emitter.emit(Event::StepStarted {
                id: role.step(),
                position: role.key().to_owned(),
                platform: None,
                name: role.key().to_owned(),
                line: source.line(span.start),
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
                fault::keep_end(&mut said, bytes);
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
}
