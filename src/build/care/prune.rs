//! Removing what nobody uses, beside running builds.
//!
//! What may go is chosen without any lock. Then, while nobody else can find out that something is missing, each thing
//! is looked at once more, moved to `trash/`, looked at again in case somebody used it in between, and put back if so.
//! `trash/` is emptied afterwards.

use super::lease::Lease;
use super::usage::{self, Kind, Object, Time};
use crate::build::cache::StepRecord;
use crate::build::store::Store;
use crate::error::{ErrorKind, Result, ResultExt};
use crate::layers::blocks::LIVE;
use crate::layers::snapshot::{described, random_id};
use crate::oci::layout::Layout;
use crate::oci::spec::digest_of;
use crate::oci::{Digest, blobs};
use crate::sys::{SysResultExt, fs as sys};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// What may go. Named images never do, and nothing that another process uses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Policy {
    /// Everything, not only what was left behind.
    pub all: bool,
    /// Only what was not used since, seconds since 1970; by itself, all of that.
    pub before: Option<i64>,
    /// The least recently used, until no more than so many bytes are left.
    pub keep: Option<u64>,
    /// What this process uses stays, too.
    pub own: bool,
    /// Only say what would go.
    pub dry_run: bool,
}

/// What went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// How many and how many bytes, by kind.
    pub removed: BTreeMap<Kind, (usize, u64)>,
    /// Bytes that are left.
    pub left: u64,
}

impl Pruned {
    /// Bytes of everything that went.
    pub fn bytes(&self) -> u64 {
        self.removed.values().map(|(_, bytes)| bytes).sum()
    }
}

/// Removes what the policy says. Trees of subordinate ids can only be removed inside the namespaces of a worker.
pub fn run(store: &Store, policy: &Policy) -> Result<Pruned> {
    let what = || format!("cannot clean the store {}", store.path().display());
    let one_at_a_time = lock(&store.sub("locks/prune")).or_error(ErrorKind::Environment, what)?;
    let objects = usage::objects(store)?;
    let whole: u64 = objects.iter().map(|object| object.size).sum();
    let chosen = choose(&objects, policy, whole, &named(store)?);
    // From here on nobody can find that something is missing, and nobody can begin.
    let gate = lock(&Lease::gate(store.path())).or_error(ErrorKind::Environment, what)?;
    if !policy.dry_run {
        crate::build::caches::bring_all_back(store.path());
    }
    let began = oldest(store, policy).or_error(ErrorKind::Environment, what)?;
    let mut mover = Mover {
        store,
        named: named(store)?,
        began,
        children: children(&objects),
        dry_run: policy.dry_run,
        trash: Vec::new(),
        pruned: Pruned::default(),
    };
    for object in &chosen {
        if policy.keep.is_some_and(|keep| whole - mover.pruned.bytes() <= keep)
            && object.kind != Kind::Leftover
        {
            continue;
        }
        mover.take(object);
    }
    mover.pruned.left = whole - mover.pruned.bytes();
    let Mover { trash, pruned, .. } = mover;
    if !policy.dry_run {
        forget_lost(store, &pruned);
    }
    drop(gate);
    let dir = sys::open_dir_path(&store.sub("trash")).or_error(ErrorKind::Environment, what)?;
    for name in trash {
        sys::remove_tree(&dir, name.as_bytes()).or_error(ErrorKind::Environment, what)?;
    }
    drop(one_at_a_time);
    Ok(pruned)
}

fn lock(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).append(true).open(path)?;
    file.lock()?;
    Ok(file)
}

/// What was used since then is in use.
fn oldest(store: &Store, policy: &Policy) -> io::Result<Option<Time>> {
    let others = store.lease().oldest_other(store.path())?;
    let own = if policy.own { Some(store.lease().began()?) } else { None };
    Ok(others.into_iter().chain(own).min())
}

/// Digests of everything that named images need; parts that are missing or damaged need nothing.
fn named(store: &Store) -> Result<BTreeSet<String>> {
    // Without stamps: looking is no use.
    let layout = Layout::open(store.images().root())?;
    let mut found = BTreeSet::new();
    for entry in layout.entries()? {
        found.insert(digest_of(&entry.descriptor)?.hex().to_owned());
        let Ok(reachable) = blobs::reachable(&layout, &entry.descriptor) else { continue };
        for blob in reachable.blobs {
            found.insert(digest_of(&blob)?.hex().to_owned());
        }
    }
    Ok(found)
}

/// How many snapshots stand on each.
fn children(objects: &[Object]) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for parent in objects.iter().filter_map(|object| object.parent.clone()) {
        *count.entry(parent).or_default() += 1;
    }
    count
}

/// What may go, in the order in which it should: what was left behind, then the least recently used.
fn choose(
    objects: &[Object],
    policy: &Policy,
    whole: u64,
    named: &BTreeSet<String>,
) -> Vec<Object> {
    let too_large = policy.keep.is_some_and(|keep| whole > keep);
    let beyond = match policy.keep {
        Some(_) => too_large,
        None => policy.all || policy.before.is_some(),
    };
    let depths = depths(objects);
    let mut chosen: Vec<(bool, Time, std::cmp::Reverse<usize>, &Object)> = objects
        .iter()
        .filter(|object| policy.before.is_none_or(|before| object.used.0 < before))
        .filter(|object| object.kind == Kind::Leftover || beyond)
        .filter(|object| object.kind != Kind::Blob || !named.contains(&object.name()))
        .map(|object| {
            let (used, depth) = depths.get(&object.name()).copied().unwrap_or((object.used, 0));
            (object.kind != Kind::Leftover, used, std::cmp::Reverse(depth), object)
        })
        .collect();
    chosen.sort_by(|a, b| (a.0, a.1, a.2, &a.3.path).cmp(&(b.0, b.1, b.2, &b.3.path)));
    chosen.into_iter().map(|(.., object)| object.clone()).collect()
}

/// When each snapshot or one that stands on it was used last, and how many it stands on: the topmost goes first.
fn depths(objects: &[Object]) -> BTreeMap<String, (Time, usize)> {
    let snapshots: BTreeMap<String, &Object> = objects
        .iter()
        .filter(|object| object.kind == Kind::Snapshot)
        .map(|object| (object.name(), object))
        .collect();
    let mut found: BTreeMap<String, (Time, usize)> = BTreeMap::new();
    for (name, object) in &snapshots {
        // Down to one of which it is known already how many are below it; a circle is left where it closes.
        let mut stack = vec![(name.clone(), object.used)];
        let mut below = object.parent.as_ref();
        while let Some(parent) = below.filter(|_| stack.len() < snapshots.len()) {
            if found.contains_key(parent) {
                break;
            }
            let object = snapshots.get(parent);
            stack.push((parent.clone(), object.map_or(Time::default(), |object| object.used)));
            below = object.and_then(|object| object.parent.as_ref());
        }
        let known = below.and_then(|parent| found.get(parent)).map_or(0, |(_, depth)| *depth);
        for (at, (name, used)) in stack.into_iter().rev().enumerate() {
            found.entry(name).or_insert((used, known + at + 1));
        }
    }
    // From the topmost down, what stands on a snapshot is known before itself.
    let mut order: Vec<(usize, &String)> =
        snapshots.keys().filter_map(|name| Some((found.get(name)?.1, name))).collect();
    order.sort_unstable_by_key(|(depth, _)| std::cmp::Reverse(*depth));
    for (_, name) in order {
        let used = found.get(name).map(|(used, _)| *used);
        let parent = snapshots.get(name).and_then(|object| object.parent.as_ref());
        if let (Some(used), Some(entry)) = (used, parent.and_then(|parent| found.get_mut(parent))) {
            entry.0 = entry.0.max(used);
        }
    }
    found
}

struct Mover<'a> {
    store: &'a Store,
    named: BTreeSet<String>,
    began: Option<Time>,
    children: BTreeMap<String, usize>,
    dry_run: bool,
    /// Names in `trash/`.
    trash: Vec<String>,
    pruned: Pruned,
}

impl Mover<'_> {
    /// Moves an object away unless somebody needs it.
    fn take(&mut self, object: &Object) {
        let name = object.name();
        let is_needed = match object.kind {
            Kind::Blob => self.named.contains(&name),
            Kind::Snapshot => self.children.get(&name).is_some_and(|count| *count > 0),
            Kind::Record | Kind::Mount | Kind::Leftover => false,
        };
        let path = self.store.sub("").join(&object.path);
        let Some(seen) = self.stamp(object, &path) else { return };
        if is_needed || self.began.is_some_and(|began| seen >= began) {
            return;
        }
        if !self.dry_run && !self.move_away(object, &path, seen) {
            return;
        }
        if let Some(parent) = &object.parent
            && let Some(count) = self.children.get_mut(parent)
        {
            *count -= 1;
        }
        let entry = self.pruned.removed.entry(object.kind).or_default();
        *entry = (entry.0 + 1, entry.1 + object.size);
    }

    fn move_away(&mut self, object: &Object, path: &Path, seen: Time) -> bool {
        if object.path.starts_with("trash") {
            self.trash.push(object.name());
            return true;
        }
        let name = random_id();
        let away = self.store.sub("trash").join(&name);
        if fs::rename(path, &away).is_err() {
            return false;
        }
        // Somebody may have taken it just before.
        if self.stamp(object, &away) != Some(seen) {
            // Where it was there may be a new one already; then nobody needs this one.
            if !path.exists() && fs::rename(&away, path).is_ok() {
                return false;
            }
        }
        self.trash.push(name);
        true
    }

    /// When an object was used last; `None` when it is gone.
    fn stamp(&self, object: &Object, path: &Path) -> Option<Time> {
        let seen = fs::symlink_metadata(path).ok()?;
        Some(match object.kind {
            Kind::Blob => usage::last_use(&seen),
            Kind::Snapshot => usage::used(&described(path)?),
            Kind::Mount => {
                let stamp = self.store.sub("locks").join(format!("mount-{}", object.name()));
                let stamp = fs::metadata(stamp).map(|stamp| usage::modified(&stamp));
                stamp.map_or(usage::modified(&seen), |stamp| stamp.max(usage::modified(&seen)))
            }
            Kind::Record | Kind::Leftover => usage::modified(&seen),
        })
    }
}

/// Removes names of snapshots that are gone, indexes of blobs that are, and records of steps of which no blob is left.
fn forget_lost(store: &Store, pruned: &Pruned) {
    // What cannot be removed now is a miss when it is used, and goes another time.
    let each = |dir: PathBuf, is_lost: &dyn Fn(&[u8]) -> bool| {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if fs::read(entry.path()).is_ok_and(|text| is_lost(&text)) {
                let _best_effort = fs::remove_file(entry.path());
            }
        }
    };
    // Snapshots without a description are left over.
    if [Kind::Snapshot, Kind::Leftover].iter().any(|kind| pruned.removed.contains_key(kind)) {
        for entry in fs::read_dir(store.sub("snapshots/chains")).into_iter().flatten().flatten() {
            if described(&entry.path()).is_none() {
                let _best_effort = fs::remove_file(entry.path());
            }
        }
    }
    if pruned.removed.contains_key(&Kind::Blob) {
        for index in fs::read_dir(store.sub("cache/blocks")).into_iter().flatten().flatten() {
            let blob = store.images().blob_dir().join(index.file_name());
            if !index.file_name().as_encoded_bytes().starts_with(LIVE.as_bytes()) && !blob.exists()
            {
                let _best_effort = fs::remove_file(index.path());
            }
        }
        let is_here = |digest: &Digest| store.images().blob_path(digest).exists();
        each(store.sub("cache").join("steps"), &|text| {
            let record = serde_json::from_slice::<StepRecord>(text);
            record.is_ok_and(|record| !record.layers.values().any(|layer| is_here(&layer.digest)))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(name: &str, parent: Option<&str>, used: i64) -> Object {
        Object {
            kind: Kind::Snapshot,
            path: Path::new("snapshots").join(name),
            size: 1,
            used: (used, 0),
            parent: parent.map(str::to_owned),
        }
    }

    #[test]
    fn what_stands_on_a_snapshot_keeps_it_young_and_goes_before_it() {
        let objects = [
            snapshot("b", Some("a"), 2),
            snapshot("a", None, 1),
            snapshot("c", Some("b"), 9),
            snapshot("d", Some("a"), 3),
            snapshot("x", Some("y"), 4),
            snapshot("y", Some("x"), 5),
            snapshot("z", Some("gone"), 6),
        ];
        let found = depths(&objects);
        let of = |name: &str| found.get(name).map(|((used, _), depth)| (*used, *depth));
        assert_eq!(["a", "b", "c", "d"].map(of), [(9, 1), (9, 2), (9, 3), (3, 2)].map(Some));
        // A circle, and one whose parent somebody removed.
        assert_eq!(["x", "y"].map(|name| of(name).is_some()), [true; 2]);
        assert_eq!(of("z"), Some((6, 2)));
    }
}
