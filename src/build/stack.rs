//! The layers on which one stands, as far as it is known what they unpack to.
//!
//! A record and a shared cache say of each layer what it stands on ([`keys::stands_on`]), since a key says what the steps
//! below were given, not what they left.

use super::jobs::Pending;
use super::keys;
use crate::oci::{ChainId, DiffId, Digest};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// Layers, some of which may still be written. Each is there once, however many stand on it, and its chain id is computed
/// once: a build of very many steps takes no more of both for each of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Stack(Option<Arc<Node>>);

#[derive(Debug)]
struct Node {
    top: Unpacked,
    below: Stack,
    depth: usize,
    /// Of all of them, once it is known.
    chain: OnceLock<ChainId>,
}

/// What [`Stack::fold`] found of layers and all below them, by the place of their node, which stays while this is there.
#[derive(Debug)]
pub(super) struct Folded<T>(HashMap<*const Node, (Stack, T)>);

impl<T> Default for Folded<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

/// What one layer unpacks to.
#[derive(Clone, Debug)]
pub(super) struct Unpacked {
    pub(super) layer: Arc<Pending>,
    /// Where that is known of one that is not here.
    pub(super) foretold: Option<DiffId>,
    /// Key of its step's record; none for a layer of an image.
    pub(super) step: Option<Digest>,
}

impl Unpacked {
    /// What it is, when that is known by now.
    pub(super) fn diff_id(&self) -> Option<DiffId> {
        self.layer.get().map(|layer| layer.diff_id).or_else(|| self.foretold.clone())
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.layer, &other.layer)
            || self.diff_id().is_some_and(|diff_id| Some(diff_id) == other.diff_id())
    }
}

impl Stack {
    /// The same with one more on top.
    pub(super) fn with(self, top: Unpacked) -> Self {
        let depth = self.depth() + 1;
        Self(Some(Arc::new(Node { top, below: self, depth, chain: OnceLock::new() })))
    }

    /// How many layers they are.
    pub(super) fn depth(&self) -> usize {
        self.0.as_ref().map_or(0, |node| node.depth)
    }

    /// The topmost, and what is below it.
    fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        std::iter::successors(self.0.as_ref(), |node| node.below.0.as_ref())
    }

    /// What a layer on top of them stands on, when that is known by now.
    pub(super) fn chain(&self) -> Option<ChainId> {
        let unknown: Vec<&Arc<Node>> =
            self.nodes().take_while(|node| node.chain.get().is_none()).collect();
        let mut chain = self.nodes().nth(unknown.len()).and_then(|node| node.chain.get().cloned());
        for node in unknown.into_iter().rev() {
            let next = ChainId::next(chain.as_ref(), &node.top.diff_id()?);
            chain = Some(node.chain.get_or_init(|| next).clone());
        }
        Some(keys::stands_on(chain))
    }

    /// Goes over them from the bottom up, beginning with `first`. What they have in common with stacks that `known` was
    /// there for is not gone over again.
    pub(super) fn fold<T: Clone>(
        &self,
        known: &mut Folded<T>,
        first: T,
        next: &mut dyn FnMut(T, &Unpacked) -> T,
    ) -> T {
        let seen = |node: &Arc<Node>| known.0.get(&Arc::as_ptr(node));
        let fresh: Vec<&Arc<Node>> = self.nodes().take_while(|node| seen(node).is_none()).collect();
        let below = self.nodes().nth(fresh.len()).and_then(seen);
        let mut found = below.map_or(first, |(_, found)| found.clone());
        for node in fresh.into_iter().rev() {
            found = next(found, &node.top);
            let kept = (Self(Some(Arc::clone(node))), found.clone());
            known.0.insert(Arc::as_ptr(node), kept);
        }
        found
    }

    /// Whether another one is this very list.
    #[cfg(test)]
    pub(super) fn shares_all_with(&self, other: &Self) -> bool {
        self.nodes().zip(other.nodes()).next().is_some_and(|(one, two)| Arc::ptr_eq(one, two))
    }

    /// Whether another one is known to have the same layers. Two that are still being written are the same only when one
    /// run of a step gave them.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.depth() == other.depth()
            && self
                .nodes()
                .zip(other.nodes())
                // What is one is the same further below, too.
                .take_while(|(one, two)| !Arc::ptr_eq(one, two))
                .all(|(one, two)| one.top.is(&two.top))
    }
}

impl Drop for Node {
    /// One after the other: a stack may be deeper than the calls that a thread can nest.
    fn drop(&mut self) {
        let mut next = self.below.0.take();
        while let Some(mut node) = next.and_then(Arc::into_inner) {
            next = node.below.0.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::Layer;

    fn diff_id(text: &str) -> DiffId {
        DiffId(Digest::of(text.as_bytes()))
    }

    fn layer(text: &str) -> Layer {
        let diff_id = diff_id(text);
        Layer { digest: diff_id.0.clone(), size: 1, diff_id, media_type: String::new() }
    }

    fn written(text: &str) -> Unpacked {
        Unpacked { layer: Pending::ready(layer(text)), foretold: None, step: None }
    }

    fn stack(layers: &[&Unpacked]) -> Stack {
        layers.iter().fold(Stack::default(), |stack, layer| stack.with((*layer).clone()))
    }

    #[test]
    fn a_stack_is_what_it_unpacks_to() {
        let foretold = Unpacked { layer: Arc::default(), foretold: Some(diff_id("a")), step: None };
        let (a, b) = (written("a"), written("b"));
        assert!(stack(&[&a, &b]).is(&stack(&[&foretold, &written("b")])));
        assert!(!stack(&[&a, &b]).is(&stack(&[&b, &a])));
        assert!(!stack(&[&a]).is(&stack(&[&a, &b])));
        assert!(Stack::default().is(&stack(&[])));
        let chains = [stack(&[]), stack(&[&a]), stack(&[&b]), stack(&[&a, &b]), stack(&[&b, &a])]
            .map(|stack| stack.chain().unwrap());
        let different: std::collections::BTreeSet<&ChainId> = chains.iter().collect();
        assert_eq!(different.len(), chains.len());
        assert_eq!(stack(&[&foretold]).chain(), stack(&[&a]).chain());
    }

    #[test]
    fn what_is_still_written_is_the_same_for_one_run_only() {
        let open = || Unpacked { layer: Arc::default(), foretold: None, step: None };
        let (one, two) = (open(), open());
        assert!(stack(&[&one]).is(&stack(&[&one.clone()])));
        assert!(!stack(&[&one]).is(&stack(&[&two])));
        assert!(!stack(&[&one]).is(&stack(&[&written("a")])));
        assert_eq!(stack(&[&one]).chain(), None);
        one.layer.set(Ok(layer("a")));
        assert!(stack(&[&one]).is(&stack(&[&written("a")])));
    }

    #[test]
    fn what_stacks_have_in_common_is_gone_over_once() {
        let (a, b) = (written("a"), written("b"));
        let below = stack(&[&a, &b]);
        let (mut known, mut count) = (Folded::default(), 0);
        let mut diff_ids = |stack: &Stack| {
            stack.fold(&mut known, Vec::<DiffId>::new(), &mut |mut all, layer| {
                count += 1;
                all.extend(layer.diff_id());
                all
            })
        };
        let ids = |all: &[&str]| all.iter().map(|text| diff_id(text)).collect::<Vec<DiffId>>();
        assert_eq!(diff_ids(&Stack::default()), ids(&[]));
        assert_eq!(diff_ids(&below), ids(&["a", "b"]));
        assert_eq!(diff_ids(&below.clone().with(a.clone())), ids(&["a", "b", "a"]));
        assert_eq!(diff_ids(&below.clone().with(b)), ids(&["a", "b", "b"]));
        assert_eq!(diff_ids(&below), ids(&["a", "b"]));
        assert_eq!(count, 4);
    }

    #[test]
    fn deep_stacks_share_what_is_below_and_go_without_deep_calls() {
        let (a, open) =
            (written("a"), Unpacked { layer: Arc::default(), foretold: None, step: None });
        let deep = (0..200_000).fold(Stack::default(), |stack, _| stack.with(a.clone()));
        let (one, two) = (deep.clone().with(a.clone()), deep.clone().with(a.clone()));
        assert!(one.is(&two));
        assert_eq!(one.chain(), two.chain());
        let higher = deep.clone().with(open.clone()).with(a);
        assert_eq!(higher.chain(), None);
        open.layer.set(Ok(layer("b")));
        assert_ne!(higher.chain().unwrap(), one.chain().unwrap());
        assert_eq!(higher.depth(), 200_002);
    }
}
