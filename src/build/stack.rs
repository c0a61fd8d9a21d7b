//! The layers on which one stands, as far as it is known what they unpack to.
//!
//! A record and a shared cache say of each layer what it stands on ([`keys::stands_on`]), since a key says what the steps
//! below were given, not what they left.

use super::jobs::Pending;
use super::keys;
use crate::oci::{ChainId, DiffId};
use std::sync::Arc;

/// Layers, bottom first; some of them may still be written.
#[derive(Clone, Debug, Default)]
pub(super) struct Stack(Arc<[Unpacked]>);

/// What one layer unpacks to.
#[derive(Clone, Debug)]
pub(super) struct Unpacked {
    pub(super) layer: Arc<Pending>,
    /// Where that is known of one that is not here.
    pub(super) foretold: Option<DiffId>,
}

impl Unpacked {
    /// What it is, when that is known by now.
    fn diff_id(&self) -> Option<DiffId> {
        self.layer.get().map(|layer| layer.diff_id).or_else(|| self.foretold.clone())
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.layer, &other.layer)
            || self.diff_id().is_some_and(|diff_id| Some(diff_id) == other.diff_id())
    }
}

impl Stack {
    /// A stack of these.
    pub(super) fn of(layers: impl Iterator<Item = Unpacked>) -> Self {
        Self(layers.collect())
    }

    /// What all of them unpack to, when that is known by now.
    pub(super) fn diff_ids(&self) -> Option<Vec<DiffId>> {
        self.0.iter().map(Unpacked::diff_id).collect()
    }

    /// What a layer on top of them stands on, when that is known by now.
    pub(super) fn chain(&self) -> Option<ChainId> {
        self.diff_ids().map(|diff_ids| keys::stands_on(ChainId::of(&diff_ids)))
    }

    /// Whether another one is known to have the same layers. Two that are still being written are the same only when one
    /// run of a step gave them.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&*other.0).all(|(one, two)| one.is(two))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::Layer;
    use crate::oci::Digest;

    fn diff_id(text: &str) -> DiffId {
        DiffId(Digest::of(text.as_bytes()))
    }

    fn layer(text: &str) -> Layer {
        let diff_id = diff_id(text);
        Layer { digest: diff_id.0.clone(), size: 1, diff_id, media_type: String::new() }
    }

    fn written(text: &str) -> Unpacked {
        Unpacked { layer: Pending::ready(layer(text)), foretold: None }
    }

    fn stack(layers: &[&Unpacked]) -> Stack {
        Stack::of(layers.iter().map(|layer| (*layer).clone()))
    }

    #[test]
    fn a_stack_is_what_it_unpacks_to() {
        let foretold = Unpacked { layer: Arc::default(), foretold: Some(diff_id("a")) };
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
        let open = || Unpacked { layer: Arc::default(), foretold: None };
        let (one, two) = (open(), open());
        assert!(stack(&[&one]).is(&stack(&[&one.clone()])));
        assert!(!stack(&[&one]).is(&stack(&[&two])));
        assert!(!stack(&[&one]).is(&stack(&[&written("a")])));
        assert_eq!(stack(&[&one]).chain(), None);
        one.layer.set(Ok(layer("a")));
        assert!(stack(&[&one]).is(&stack(&[&written("a")])));
    }
}
