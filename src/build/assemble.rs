//! Layers and config of a finished stage → config blob, manifest, descriptor.

use super::annotations::{self, Annotation, Place};
use super::store::Store;
use crate::error::Result;
use crate::layers::Layer;
use crate::oci::spec::{
    self, Descriptor, History, ImageConfig, ImageManifest, MediaType, RootFs, descriptor,
};
use crate::oci::{Digest, Platform, media};
use jiff::Timestamp;
use oci_spec::image::ImageManifestBuilder;

/// Comment of our history entries, as BuildKit writes it.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// One entry of an image's history, its time still open.
#[derive(Clone, Debug)]
pub(super) enum HistoryItem {
    /// From the base image, kept as it is.
    Inherited(History),
    /// Of one of our instructions.
    Step {
        /// Text.
        created_by: String,
        /// When its layer was made, nanoseconds since 1970; none without a layer.
        created: Option<i64>,
    },
}

/// What [`assemble`] made.
#[derive(Clone, Debug)]
pub(super) struct Assembled {
    /// Of the manifest, with platform.
    pub descriptor: Descriptor,
    /// Of the config.
    pub config_digest: Digest,
}

/// How an image is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form<'a> {
    pub epoch: Option<i64>,
    pub annotations: &'a [Annotation],
    pub types: Types,
}

/// Whose media types: the bytes are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Types {
    Oci,
    Docker,
}

impl Types {
    pub(super) fn manifest(self) -> MediaType {
        self.either(MediaType::ImageManifest, media::DOCKER_MANIFEST)
    }

    pub(super) fn index(self) -> MediaType {
        self.either(MediaType::ImageIndex, media::DOCKER_LIST)
    }

    fn config(self) -> MediaType {
        self.either(MediaType::ImageConfig, media::DOCKER_CONFIG)
    }

    fn either(self, oci: MediaType, docker: &str) -> MediaType {
        match self {
            Self::Oci => oci,
            Self::Docker => MediaType::from(docker),
        }
    }

    /// A layer's type in the words of this one: one manifest speaks one language.
    fn layer(self, name: &str) -> MediaType {
        match self {
            Self::Oci => media::oci_layer(name),
            Self::Docker => media::docker_layer(name),
        }
    }
}

/// Writes config and manifest into the store.
pub(super) fn assemble(
    store: &Store,
    mut config: ImageConfig,
    history: &[HistoryItem],
    layers: &[Layer],
    form: &Form<'_>,
) -> Result<Assembled> {
    let Form { epoch, annotations, types } = *form;
    let base_created = config.created.take();
    config.history = dated(history, epoch, base_created.as_deref());
    config.created = config
        .history
        .last()
        .and_then(|entry| entry.created.clone())
        .or_else(|| epoch.map(|epoch| rfc3339(epoch.saturating_mul(1_000_000_000))))
        .or(base_created);
    config.rootfs = RootFs {
        diff_ids: layers.iter().map(|layer| layer.diff_id.clone()).collect(),
        ..RootFs::default()
    };
    let platform = Platform {
        os: config.os.clone(),
        os_version: String::new(),
        architecture: config.architecture.clone(),
        variant: config.variant.clone().unwrap_or_default(),
    };
    let noted = |place| annotations::of(annotations, place, Some(&platform));
    let config_bytes = spec::to_json(&config)?;
    let config_digest = store.images().put_blob(&config_bytes)?;
    let mut manifest = manifest(&config_digest, config_bytes.len() as u64, layers, types)?;
    manifest.set_annotations(noted(Place::Manifest));
    let bytes = spec::to_json(&manifest)?;
    let digest = store.images().put_blob(&bytes)?;
    let mut made = descriptor(types.manifest(), &digest, bytes.len() as u64);
    made.set_annotations(noted(Place::ManifestDescriptor));
    made.set_platform(Some(platform.to_oci()));
    Ok(Assembled { descriptor: made, config_digest })
}

fn manifest(
    config: &Digest,
    config_size: u64,
    layers: &[Layer],
    types: Types,
) -> Result<ImageManifest> {
    let layers: Vec<Descriptor> = layers
        .iter()
        .map(|layer| descriptor(types.layer(&layer.media_type), &layer.digest, layer.size))
        .collect();
    ImageManifestBuilder::default()
        .schema_version(oci_spec::image::SCHEMA_VERSION)
        .media_type(types.manifest())
        .config(descriptor(types.config(), config, config_size))
        .layers(layers)
        .build()
        .map_err(|error| crate::error::Error::internal("cannot make a manifest").cause(error))
}

/// Gives every entry its time: a layer its own, the others that of the layer before them, and those before the
/// first new layer that of this first one. Without any new layer the base's time stays, so that the same
/// inputs give the same image.
fn dated(items: &[HistoryItem], epoch: Option<i64>, base_created: Option<&str>) -> Vec<History> {
    let first = items.iter().find_map(|item| match item {
        HistoryItem::Step { created: Some(created), .. } => Some(*created),
        _ => None,
    });
    let fallback = base_created.map_or_else(|| rfc3339(0), str::to_owned);
    let mut current = first;
    items
        .iter()
        .map(|item| match item {
            HistoryItem::Inherited(entry) => entry.clone(),
            HistoryItem::Step { created_by, created } => {
                current = created.or(current);
                let time = match (epoch, current) {
                    (Some(epoch), _) => rfc3339(epoch.saturating_mul(1_000_000_000)),
                    (None, Some(nanoseconds)) => rfc3339(nanoseconds),
                    (None, None) => fallback.clone(),
                };
                History {
                    created: Some(time),
                    created_by: Some(created_by.clone()),
                    comment: Some(COMMENT.to_owned()),
                    empty_layer: created.is_none(),
                    ..History::default()
                }
            }
        })
        .collect()
}

/// RFC 3339 in UTC; nanoseconds since 1970.
pub(super) fn rfc3339(nanoseconds: i64) -> String {
    Timestamp::from_nanosecond(nanoseconds.into())
        .map_or_else(|_| "1970-01-01T00:00:00Z".to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(created: Option<i64>) -> HistoryItem {
        HistoryItem::Step { created_by: "x".to_owned(), created }
    }

    fn times(items: &[HistoryItem], epoch: Option<i64>) -> Vec<String> {
        dated(items, epoch, Some("base")).into_iter().filter_map(|entry| entry.created).collect()
    }

    #[test]
    fn entries_without_a_layer_take_their_neighbours_time() {
        let second = 1_000_000_000;
        let items = [step(None), step(Some(second)), step(None), step(Some(2 * second + 1))];
        let (one, two) = ("1970-01-01T00:00:01Z", "1970-01-01T00:00:02.000000001Z");
        assert_eq!(times(&items, None), [one, one, one, two]);
        assert_eq!(times(&items, Some(1)), [one; 4]);
        assert_eq!(times(&[step(None)], None), ["base"]);
    }
}
