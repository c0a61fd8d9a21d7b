//! A cache inside an image's own config: the records of its layers, under a member that other tools pass over.
//!
//! The image stays what it is for everybody else. With an epoch the times in the records are the epoch, too. Layers that
//! are not in the image always have other diff ids ([`veiled`]), also in what others stand on, so that the same input still
//! gives the same image.

use super::artifact::among;
use super::export::{Exports, Noted, Notes, Selected};
use super::key::CacheKey;
use super::record::{Document, StepEntry};
use crate::build::keys;
use crate::build::stack::{Folded, Stack, Unpacked};
use crate::build::stage::Builder;
use crate::error::{Error, Result};
use crate::oci::digest::FieldHasher;
use crate::oci::spec::{self, ImageConfig, ImageManifest};
use crate::oci::{ChainId, DiffId, Digest};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;

/// Member of the config.
const MEMBER: &str = "nativebuild.cache.v1";

/// `type=inline`.
#[derive(Clone, Debug)]
pub struct Inline {
    /// What the records are signed with.
    pub key: Option<CacheKey>,
}

/// What stands in the config.
#[derive(Serialize, Deserialize)]
struct Member {
    records: Value,
    #[serde(rename = "hmac-sha256", default, skip_serializing_if = "Option::is_none")]
    signature: Option<String>,
}

/// Puts the records of a target's steps into its config; those of its base image are of no use there.
pub(in crate::build) fn put(
    builder: &Builder<'_>,
    target: usize,
    config: &mut ImageConfig,
) -> Result<()> {
    config.other.remove(MEMBER);
    let Some(inline) = &builder.request.shared.inline else { return Ok(()) };
    let mut document = builder.exports.of_target(builder, target);
    if let Some(epoch) = builder.epoch {
        document.steps.iter_mut().for_each(|entry| at(entry, epoch.max(0)));
    }
    let bytes = document.to_bytes()?;
    let member = Member {
        records: spec::from_json("records", &bytes)?,
        signature: inline.key.as_ref().map(|key| key.sign(&bytes)),
    };
    let member = serde_json::to_value(member)
        .map_err(|error| Error::internal("JSON of an inline cache").cause(error))?;
    config.other.insert(MEMBER.to_owned(), member);
    Ok(())
}

fn at(entry: &mut StepEntry, epoch: i64) {
    entry.created = epoch.saturating_mul(1_000_000_000);
    entry.started = (epoch.min(i64::MAX / 1_000_000_000), 0);
}

/// The records in an image's config, without layers that the image does not have; how many these were.
pub(super) fn records(
    manifest: &ImageManifest,
    config: &[u8],
    key: Option<&CacheKey>,
) -> Result<(Document, usize)> {
    let config: Value = spec::from_json("the config of the image", config)?;
    let member = config
        .get(MEMBER)
        .ok_or_else(|| Error::image("it is an image without an inline cache of nativebuild"))?;
    let wrong = |error| Error::integrity("its inline cache is none of nativebuild").cause(error);
    let member: Member = serde_json::from_value(member.clone()).map_err(wrong)?;
    let bytes = spec::to_json(&member.records)?;
    if let Some(key) = key {
        key.check(&bytes, member.signature.as_deref())?;
    }
    Ok(among(Document::parse(&bytes)?, manifest.layers()))
}

impl Exports {
    /// The steps on which a target stands: those whose layers are in it with these, the others without.
    fn of_target(&self, builder: &Builder<'_>, target: usize) -> Document {
        let below = super::need::below(builder.plan, target);
        let wanted = |stage: usize| super::export::is_below(builder.plan, target, stage);
        let known = |stage: usize| below.contains(&stage);
        let document = self.document(&builder.variant, &known, &wanted, &mut |_, _| None);
        veiled(document, &self.notes())
    }
}

/// The document with other diff ids for layers that the image does not have. A stage that is only copied from may leave
/// something else each time, in a log of its own, and the image is still the same where that was not copied. So these
/// layers are told by their steps and by all that was copied anywhere: builds that copied something else have no
/// selection in common. Whether two of them happen to be the same does not show, either.
fn veiled(mut document: Document, notes: &Notes) -> Document {
    let shown = document.steps.iter().filter(|entry| !entry.layers.is_empty());
    let shown = shown.map(|entry| entry.key.clone()).collect();
    let veil = Veil { notes, shown, copied: all_copied(notes) };
    let mut known = Folded::default();
    for entry in &mut document.steps {
        let hidden = veil.of(&entry.key, true);
        entry.diff_ids.iter_mut().for_each(|(_, diff_id)| diff_id.clone_from(&hidden));
        if let Some(noted) = notes.steps.get(&entry.key) {
            let below = veil.stands_on(&noted.stack, &mut known);
            entry.stands_on.iter_mut().for_each(|(_, known)| known.clone_from(&below));
        }
    }
    let selection = |selected: &Selected| {
        let layers = veil.stands_on(&selected.stack, &mut known);
        (keys::selection(&layers, &selected.what), selected.content.clone())
    };
    let selections = notes.selections.iter().map(selection).collect();
    Document::new(document.steps, selections)
}

/// What is said instead of diff ids.
struct Veil<'a> {
    notes: &'a Notes,
    /// Steps whose layers the image has.
    shown: BTreeSet<Digest>,
    copied: Digest,
}

impl Veil<'_> {
    /// What is said of the layer of a step: of the run that there is a record of, or of any other one, which nobody finds.
    fn of(&self, step: &Digest, is_recorded: bool) -> DiffId {
        let mut hasher = FieldHasher::new("nb-veil-2");
        hasher.field(self.copied.as_str().as_bytes()).field(step.as_str().as_bytes());
        hasher.number(is_recorded.into());
        DiffId(hasher.finish())
    }

    /// What is said of a layer below something.
    fn diff_id(&self, layer: &Unpacked) -> Option<DiffId> {
        let diff_id = layer.diff_id();
        let Some(step) = &layer.step else { return diff_id };
        let recorded = self.notes.steps.get(step).and_then(Noted::diff_id);
        let is_recorded = recorded == diff_id;
        if is_recorded && self.shown.contains(step) {
            return diff_id;
        }
        Some(self.of(step, is_recorded))
    }

    /// What something on these layers stands on; it is known what they unpack to.
    fn stands_on(&self, stack: &Stack, known: &mut Folded<Option<ChainId>>) -> ChainId {
        let mut next = |below: Option<ChainId>, layer: &Unpacked| {
            Some(ChainId::next(below.as_ref(), &self.diff_id(layer)?))
        };
        keys::stands_on(stack.fold(known, None, &mut next))
    }
}

/// Stands for all that was copied: out of which layers, by their steps, what, and its content. It is the same for each
/// image of an index, whichever layers that has.
fn all_copied(notes: &Notes) -> Digest {
    let mut known = Folded::default();
    let mut next = |below: Digest, layer: &Unpacked| {
        let of_image = || layer.diff_id().map(|diff_id| diff_id.0);
        let told = layer.step.clone().or_else(of_image);
        let mut hasher = FieldHasher::new("nb-by-step-1");
        hasher.field(below.as_str().as_bytes()).list(told.as_ref().map(Digest::as_str));
        hasher.finish()
    };
    let one = |selected: &Selected| {
        let layers = selected.stack.fold(&mut known, keys::base(None), &mut next);
        let mut hasher = FieldHasher::new("nb-copied-2");
        for part in [&layers, &selected.what, &selected.content] {
            hasher.field(part.as_str().as_bytes());
        }
        hasher.finish()
    };
    let mut all: Vec<Digest> = notes.selections.iter().map(one).collect();
    all.sort();
    all.dedup();
    let mut hasher = FieldHasher::new("nb-all-copied-1");
    hasher.list(all.iter().map(Digest::as_str));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::jobs::Pending;
    use crate::build::sharing::record::LayerEntry;
    use crate::layers::Layer;
    use std::sync::Arc;

    fn id(text: &str) -> DiffId {
        DiffId(Digest::of(text.as_bytes()))
    }

    /// Layers, each with the name of its step where it has one.
    fn stack(layers: &[(Option<&str>, DiffId)]) -> Stack {
        let foretold = |(step, diff_id): &(Option<&str>, DiffId)| Unpacked {
            layer: Arc::default(),
            foretold: Some(diff_id.clone()),
            step: step.map(|name| Digest::of(name.as_bytes())),
        };
        layers.iter().map(foretold).fold(Stack::default(), Stack::with)
    }

    /// Of an image with one layer, into which `file` was copied out of two stages that also left logs.
    fn written(logs: [&str; 2], file: &str) -> Document {
        let base = || (None, id("base"));
        let left = |at: usize| (Some(["stage", "twin"][at]), id(logs[at]));
        let (mut notes, mut steps) = (Notes::default(), Vec::new());
        for (name, below, diff_id, is_shown) in [
            ("stage", stack(&[base()]), id(logs[0]), false),
            ("twin", stack(&[base()]), id(logs[1]), false),
            ("later", stack(&[base(), left(0)]), id("nothing"), false),
            ("image", stack(&[base()]), id("layer"), true),
        ] {
            let stands_on = vec![("v".to_owned(), below.chain().unwrap())];
            let (key, variant) = (Digest::of(name.as_bytes()), "v".to_owned());
            let (created, started) = (0, (0, 0));
            let (digest, media_type) = (diff_id.0.clone(), String::new());
            let layer = Layer { digest, size: 1, diff_id: diff_id.clone(), media_type };
            let (stages, pending) = (BTreeSet::new(), Pending::ready(layer.clone()));
            let (stack, offer) = (below, None);
            let noted = Noted { stages, created, started, stack, layer: pending, offer };
            notes.steps.insert(key.clone(), noted);
            let (layers, diff_ids) = if is_shown {
                (vec![LayerEntry { variant, layer }], Vec::new())
            } else {
                (Vec::new(), vec![(variant, diff_id)])
            };
            steps.push(StepEntry { key, created, started, layers, diff_ids, stands_on });
        }
        for at in 0..2 {
            let (stack, what) = (stack(&[base(), left(at)]), Digest::of(b"/file"));
            notes.selections.push(Selected { stack, what, content: Digest::of(file.as_bytes()) });
        }
        veiled(Document::new(steps, Vec::new()), &notes)
    }

    #[test]
    fn what_a_stage_left_and_nobody_copied_does_not_show() {
        let one = written(["one log", "another"], "file");
        assert_eq!(one, written(["another log", "a third"], "file"));
        // Two stages may do the same in the same second, and leave what the base or the image has.
        for log in ["a log of both", "base", "layer"] {
            assert_eq!(one, written([log; 2], "file"), "{log}");
        }
        let other = written(["one log", "another"], "another file");
        assert_ne!(one.steps, other.steps);
        assert_ne!(one.selections[0].0, other.selections[0].0);
        // It is found by what is said of the stage.
        let step = |name: &str| {
            let key = Digest::of(name.as_bytes());
            one.steps.iter().find(|entry| entry.key == key).unwrap()
        };
        let (_, diff_id) = &step("stage").diff_ids[0];
        let layers = [id("base"), diff_id.clone()];
        let chain = |layers: &[DiffId]| keys::stands_on(ChainId::of(layers));
        assert_eq!(step("later").stands_on("v"), Some(&chain(&layers)));
        assert_eq!(step("image").stands_on("v"), Some(&chain(&layers[..1])));
        let of_stage = [layers[0].clone(), step("twin").diff_ids[0].1.clone()];
        let mut keys = [layers, of_stage]
            .map(|layers| keys::selection(&chain(&layers), &Digest::of(b"/file")));
        keys.sort();
        assert_eq!(one.selections, keys.map(|key| (key, Digest::of(b"file"))));
    }

    #[test]
    fn two_runs_of_one_step_do_not_pass_for_each_other() {
        let (mut notes, key) = (Notes::default(), Digest::of(b"stage"));
        let diff_id = id("recorded");
        let (digest, media_type) = (diff_id.0.clone(), String::new());
        let layer = Pending::ready(Layer { digest, size: 1, diff_id, media_type });
        let (stages, created, started, offer) = (BTreeSet::new(), 0, (0, 0), None);
        let noted = Noted { stages, created, started, stack: Stack::default(), layer, offer };
        notes.steps.insert(key, noted);
        for run in ["recorded", "another"] {
            let (stack, what) = (stack(&[(Some("stage"), id(run))]), Digest::of(b"/file"));
            notes.selections.push(Selected { stack, what, content: Digest::of(run.as_bytes()) });
        }
        assert_eq!(veiled(Document::default(), &notes).selections.len(), 2);
    }
}
