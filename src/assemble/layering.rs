//! Which paths go into which layer.
//!
//! In: the paths to write; out: [`Plan`]s, bottom first, that share no path but directories above others. Each layer is a
//! canonical change stream by itself, so that any of them can be put anywhere above what it needs.
//! assemble-trust.md A4, A7.

use super::contents::{Closures, relative};
use super::place;
use super::spec::{ContentKind, DirSymlinks, Layers, Placed, Spec, Strategy};
use super::tree::{Node, Origin, Tree, ancestors};
use crate::error::{Error, Result};
use crate::layers::tar_stream::{Content, Member, Names};
use crate::layers::{Change, ChangeKind, Entry, EntryKind, ImagePath, path_order};
use crate::nix::layering;
use crate::nix::store_path::StorePath;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Layers that engines take.
pub(super) const MOST: usize = 127;
/// Layers of the strategies for store paths when the spec does not say.
const DEFAULT: usize = 100;

/// One layer to write.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) changes: Vec<Change>,
    /// What is in it, for the history.
    pub(super) about: String,
}

impl Plan {
    /// Everything that was put in, with what is gone when that is asked for.
    pub(super) fn whole(tree: &Tree, with_deletions: bool) -> Self {
        let deleted = if with_deletions { tree.deleted() } else { Vec::new() };
        let paths = tree.files().keys().cloned().collect();
        Self { changes: changes(tree, paths, &deleted), about: String::new() }
    }

    /// What a tar of it is made of.
    pub(super) fn members<'a>(&'a self, tree: &'a Tree) -> impl Iterator<Item = Member<'a>> {
        self.changes.iter().map(|change| {
            let node = match &change.kind {
                ChangeKind::Present(_) => tree.files().get(&change.path),
                ChangeKind::Deleted => None,
            };
            let names = node.map_or(Names::default(), Node::names);
            let content = node.map_or(Content::None, Node::content);
            Member { path: &change.path, kind: &change.kind, names, content }
        })
    }
}

/// Puts the paths into layers. `below` is the number of layers that are there already.
pub(super) fn plan(
    spec: &Spec,
    tree: &Tree,
    closures: &Closures,
    paths: Vec<ImagePath>,
    below: usize,
) -> Result<Vec<Plan>> {
    let wanted = Wanted { spec, tree, closures };
    let groups = match spec.layers.strategy.value {
        Strategy::One => vec![(paths, wanted.about_all())],
        Strategy::PerContent => wanted.per_content(paths),
        Strategy::Explicit => wanted.explicit(paths)?,
        Strategy::Popularity | Strategy::Balanced => wanted.store_paths(paths, below)?,
    };
    let deleted = tree.deleted();
    let mut groups: Vec<_> = groups.into_iter().filter(|(paths, _)| !paths.is_empty()).collect();
    if groups.is_empty() && !deleted.is_empty() {
        groups.push((Vec::new(), wanted.about_all()));
    }
    check(&spec.layers, spec, below, groups.len())?;
    let last = groups.len().saturating_sub(1);
    if let Some((_, about)) = groups.last_mut().filter(|_| !deleted.is_empty()) {
        // Only commands and archives delete, and archives are told.
        let commands = wanted.about(Origin::Script);
        if spec.scripts.is_some() && !about.ends_with(&commands) {
            about.push_str(&format!(" {commands}"));
        }
    }
    let plan = |(at, (paths, about)): (usize, (Vec<ImagePath>, String))| Plan {
        changes: changes(tree, paths, if at == last { &deleted } else { &[] }),
        about,
    };
    Ok(groups.into_iter().enumerate().map(plan).collect())
}

fn check(layers: &Layers, spec: &Spec, below: usize, new: usize) -> Result<()> {
    let most = layers.max.as_ref().map_or(MOST, |max| max.value);
    if below + new <= most {
        return Ok(());
    }
    let span = layers.max.as_ref().map_or(layers.strategy.span, |max| max.span);
    let error = Error::image(format!("the image would have {} layers", below + new))
        .cause(format!("{below} are of the base, {new} are new, and {most} are allowed"));
    Err(match layers.max {
        Some(_) => error.hint(format!("`max` must be at least {}", below + new)),
        None => error.hint("engines take no more; choose another `strategy`, or flatten the base"),
    }
    .at(&spec.source, span))
}

struct Wanted<'a> {
    spec: &'a Spec,
    tree: &'a Tree,
    closures: &'a Closures,
}

type Group = (Vec<ImagePath>, String);

impl Wanted<'_> {
    fn origin(&self, path: &ImagePath) -> Origin {
        self.tree.files().get(path).map_or(Origin::Script, |node| node.origin)
    }

    fn about_all(&self) -> String {
        let items = (0..self.spec.contents.len()).map(|at| self.about(Origin::Item(at)));
        let mut all: Vec<String> = items.collect();
        if self.spec.scripts.is_some() {
            all.push(self.about(Origin::Script));
        }
        joined(all)
    }

    /// What brought something, as the spec says it.
    fn about(&self, origin: Origin) -> String {
        match origin {
            Origin::Item(at) => {
                self.spec.contents.get(at).map_or(String::new(), |item| about_item(&item.kind))
            }
            Origin::Store(at) => {
                self.closures.paths.get(at).map(ToString::to_string).unwrap_or_default()
            }
            Origin::Script => "commands".to_owned(),
            Origin::Database => "Nix database".to_owned(),
        }
    }

    fn per_content(&self, paths: Vec<ImagePath>) -> Vec<Group> {
        let mut groups: BTreeMap<Origin, Vec<ImagePath>> = BTreeMap::new();
        for path in paths {
            let origin = match self.origin(&path) {
                // The item that a store path came with.
                Origin::Store(at) => self.closures.item(at),
                Origin::Database => Origin::Script,
                other => other,
            };
            groups.entry(origin).or_default().push(path);
        }
        groups.into_iter().map(|(origin, paths)| (paths, self.about(origin))).collect()
    }

    fn explicit(&self, paths: Vec<ImagePath>) -> Result<Vec<Group>> {
        let mut owner: BTreeMap<ImagePath, usize> = BTreeMap::new();
        let mut abouts = Vec::new();
        for (at, group) in self.spec.layers.groups.iter().enumerate() {
            abouts.push(joined(group.iter().map(|path| path.value.clone()).collect()));
            for path in group {
                let key = self.place(path)?;
                if owner.insert(key, at).is_some_and(|other| other != at) {
                    let message = format!("`{}` is in two groups", path.value);
                    return Err(Error::image(message).at(&self.spec.source, path.span));
                }
            }
        }
        let mut groups: Vec<Vec<ImagePath>> = vec![Vec::new(); abouts.len() + 1];
        let mut used: HashSet<ImagePath> = HashSet::new();
        for path in paths {
            let found = ancestors(&path)
                .find_map(|above| owner.get_key_value(above).map(|(key, at)| (key.clone(), *at)));
            let at = found.map_or(abouts.len(), |(key, at)| {
                used.insert(key);
                at
            });
            groups[at].push(path);
        }
        for path in self.spec.layers.groups.iter().flatten() {
            let key = self.place(path)?;
            if !used.contains(&key) && self.tree.entry(&key).is_none() {
                let message = format!("there is no `{}` in the image", path.value);
                return Err(Error::image(message).at(&self.spec.source, path.span));
            }
        }
        abouts.push("everything else".to_owned());
        Ok(groups.into_iter().zip(abouts).collect())
    }

    /// Where a path of a group really is.
    fn place(&self, path: &Placed<String>) -> Result<ImagePath> {
        let placed = |error: Error| error.at(&self.spec.source, path.span);
        let how = DirSymlinks::FollowBase;
        let path_given = relative(&path.value);
        let mut found = place::name(self.tree, &path_given, how).map_err(placed)?;
        // A link to a directory stands for that, any other for itself.
        if let Ok(behind) = place::directory(self.tree, &path_given, how)
            && self.tree.is_dir(&behind)
        {
            found = behind;
        }
        if found.is_empty() {
            return Err(placed(
                Error::image("a group cannot have the root directory")
                    .hint("what no group has is in a layer of its own"),
            ));
        }
        Ok(found)
    }

    /// The common ones of many images in layers of their own, so that images share them; the rest and everything that is
    /// no store path on top.
    fn store_paths(&self, paths: Vec<ImagePath>, below: usize) -> Result<Vec<Group>> {
        let layers = &self.spec.layers;
        let max = layers.max.as_ref().map_or(DEFAULT.max(below + 2), |max| max.value);
        let span = layers.max.as_ref().map_or(layers.strategy.span, |max| max.span);
        let for_store = max.saturating_sub(below + 1);
        let mut by_path: BTreeMap<usize, Vec<ImagePath>> = BTreeMap::new();
        let mut rest = Vec::new();
        for path in paths {
            match self.origin(&path) {
                Origin::Store(at) => by_path.entry(at).or_default().push(path),
                _ => rest.push(path),
            }
        }
        let mut groups: Vec<Group> = Vec::new();
        if !by_path.is_empty() {
            if for_store == 0 {
                let error = Error::image(format!("{max} layers are too few"))
                    .cause(format!("{below} are of the base, and one is for what is no store path"))
                    .hint(format!("`max` must be at least {}", below + 2));
                return Err(error.at(&self.spec.source, span));
            }
            for members in self.split(for_store, &by_path)? {
                let numbers = members.iter().filter_map(|path| self.closures.number_of(path));
                let files: Vec<ImagePath> =
                    numbers.filter_map(|at| by_path.remove(&at)).flatten().collect();
                let about = joined(members.iter().map(ToString::to_string).collect());
                groups.push((files, about));
            }
        }
        groups.push((rest, self.about_all()));
        Ok(groups)
    }

    fn split(
        &self,
        layers: usize,
        there: &BTreeMap<usize, Vec<ImagePath>>,
    ) -> Result<Vec<Vec<StorePath>>> {
        let Some(closure) = &self.closures.all else { return Ok(Vec::new()) };
        // What the base has already needs no layer.
        let is_new = |path: &StorePath| {
            self.closures.number_of(path).is_some_and(|at| there.contains_key(&at))
        };
        if self.spec.layers.strategy.value == Strategy::Balanced {
            let mut groups = layering::balanced(closure, layers)?;
            for group in &mut groups {
                group.retain(is_new);
            }
            groups.retain(|group| !group.is_empty());
            return Ok(groups);
        }
        let mut order = layering::popularity(closure);
        order.retain(is_new);
        layering::split(order, layers)
    }
}

fn about_item(kind: &ContentKind) -> String {
    let text = |word: &str, what: String| format!("{word} {what}");
    match kind {
        ContentKind::Dir(item) => text("dir", item.path.value.display().to_string()),
        ContentKind::Tar(item) => text("tar", item.path.value.display().to_string()),
        ContentKind::Closure(item) => {
            let paths = item.paths.iter().map(|path| path.value.clone()).collect();
            text("closure", joined(paths))
        }
        ContentKind::File(item) => text("file", item.single.path.value.clone()),
        ContentKind::Symlink(item) => text("symlink", item.single.path.value.clone()),
        ContentKind::Directory(item) => text("directory", item.single.path.value.clone()),
        ContentKind::Preset(_) => "presets".to_owned(),
    }
}

/// Longest text of a history entry.
const LONGEST: usize = 4096;

fn joined(parts: Vec<String>) -> String {
    let mut text = String::new();
    for (at, part) in parts.iter().enumerate() {
        if text.len() + part.len() > LONGEST {
            text.push_str(&format!(" and {} more", parts.len() - at));
            break;
        }
        if at > 0 {
            text.push(' ');
        }
        text.push_str(part);
    }
    text
}

/// The change stream of some paths: with the directories above them, links within the layer only.
fn changes(tree: &Tree, paths: Vec<ImagePath>, deleted: &[ImagePath]) -> Vec<Change> {
    let mut all: HashSet<ImagePath> = HashSet::new();
    for path in paths.iter().chain(deleted) {
        for above in ancestors(path).skip(1) {
            if !all.insert(above.to_vec()) {
                break;
            }
        }
    }
    all.extend(paths);
    let mut all: Vec<ImagePath> = all.into_iter().collect();
    all.sort_by(|a, b| path_order(a, b));
    let mut first: HashMap<u64, ImagePath> = HashMap::new();
    let mut changes: Vec<Change> = Vec::with_capacity(all.len() + deleted.len());
    for path in all {
        let Some(entry) = tree.entry(&path) else { continue };
        let mut entry: Entry = entry.clone();
        let node = tree.files().get(&path);
        if let Some(group) = node.and_then(|node| node.group) {
            match first.get(&group).filter(|at| alike(tree, at, &path)) {
                Some(target) => entry.kind = EntryKind::Hardlink { target: target.clone() },
                None => drop(first.insert(group, path.clone())),
            }
        }
        changes.push(Change { path, kind: ChangeKind::Present(entry) });
    }
    for path in deleted {
        changes.push(Change { path: path.clone(), kind: ChangeKind::Deleted });
    }
    changes.sort_by(|a, b| path_order(&a.path, &b.path));
    changes
}

/// Names of one file are one file only as long as they look the same.
fn alike(tree: &Tree, a: &[u8], b: &[u8]) -> bool {
    let (Some(a), Some(b)) = (tree.files().get(a), tree.files().get(b)) else { return false };
    a.entry == b.entry && a.names == b.names
}
