//! What commands left, put into the tree.

use super::{Role, Stage};
use crate::assemble::tree::{Body, Node, Origin, OwnerNames, Tree};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::layers::snapshot::Draft;
use crate::layers::times::TimePolicy;
use crate::layers::{ChangeKind, EntryKind, ImagePath};
use std::collections::HashMap;
use std::sync::Arc;

impl Stage<'_> {
    /// What the commands changed.
    pub(super) fn read(&self, draft: Draft<'_>, tree: &mut Tree, role: Role) -> Result<()> {
        let changes =
            draft.changes(self.shop.worker.isolation.placeholders(), &TimePolicy::EXACT)?;
        let snapshot = self.shop.commit(draft)?;
        let upper = snapshot.upper().try_clone_to_owned();
        let upper =
            upper.or_error(ErrorKind::Environment, || "cannot copy a descriptor".to_owned())?;
        let upper = Arc::new(upper);
        tree.keep(snapshot);
        let mut groups: HashMap<ImagePath, u64> = HashMap::new();
        for change in &changes {
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
}
