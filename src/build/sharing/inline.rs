//! A cache inside an image's own config: the records of its layers, under a member that other tools pass over.
//!
//! The image stays what it is for everybody else. With an epoch the times in the records are the epoch, too, so that the
//! same input still gives the same image.

use super::artifact::among;
use super::export::Exports;
use super::key::CacheKey;
use super::record::{Document, StepEntry};
use crate::build::stage::Builder;
use crate::error::{Error, Result};
use crate::oci::spec::{self, ImageConfig, ImageManifest};
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// The steps on which a target stands: those whose layers are in it with these, the others by their keys.
    fn of_target(&self, builder: &Builder<'_>, target: usize) -> Document {
        let below = super::need::below(builder.plan, target);
        let wanted = |stage: usize| super::export::is_below(builder.plan, target, stage);
        self.document(&builder.variant, &|stage| below.contains(&stage), &wanted, &mut |_, _| None)
    }
}
