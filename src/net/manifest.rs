//! Manifests and indexes as they come from a registry: bounded, checked against their digest, and of one kind.
//!
//! In: a name or a descriptor; out: a [`Document`] whose bytes are what the digest promises. A document that could be
//! read as an index and as a manifest is refused, since two readers would see two images.

use super::failure::{NetError, NetResult, Trouble, printable};
use super::registry::{Registry, Small, whom};
use crate::error::Error;
use crate::oci::media::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use crate::oci::spec::{self, Descriptor, ImageIndex, ImageManifest, MediaType};
use crate::oci::{Digest, Reference};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// What we can read.
pub(super) const ACCEPT: &[&str] = &[OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];

/// Registries must take manifests of 4 MiB; twice that is more than any has been seen with.
const MAX_DOCUMENT: u64 = 8 << 20;

/// A checked manifest or index.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) digest: Digest,
    pub(super) media_type: String,
    pub(super) bytes: Vec<u8>,
    pub(super) kind: Kind,
}

/// What a document lists.
#[derive(Debug)]
pub(super) enum Kind {
    /// Manifests, or further indexes.
    Index(Vec<Descriptor>),
    /// Config and layers.
    Manifest(Vec<Descriptor>),
}

impl Document {
    /// Descriptor of these bytes.
    pub(super) fn descriptor(&self) -> Descriptor {
        let media_type = MediaType::from(self.media_type.as_str());
        spec::descriptor(media_type, &self.digest, self.bytes.len() as u64)
    }
}

/// Whether a descriptor's media type is that of an index.
pub(super) fn is_index(descriptor: &Descriptor) -> bool {
    matches!(descriptor.media_type().as_ref(), OCI_INDEX | DOCKER_LIST)
}

/// Fetches what `reference` names and checks it against its digest and, when known, the size in `promised`.
pub(super) fn fetch(
    registry: &Registry,
    reference: &Reference,
    promised: Option<&Descriptor>,
) -> NetResult<Document> {
    let limit = promised.map_or(MAX_DOCUMENT, |promised| promised.size().min(MAX_DOCUMENT));
    checked(reference, promised, registry.manifest(reference, limit)?)
}

/// The same from the registry itself, as one who is about to write there.
pub(super) fn fetch_current(registry: &Registry, reference: &Reference) -> NetResult<Document> {
    checked(reference, None, registry.manifest_at_origin(reference, MAX_DOCUMENT)?)
}

fn checked(
    reference: &Reference,
    promised: Option<&Descriptor>,
    got: Small,
) -> NetResult<Document> {
    if let Some(promised) = promised
        && promised.size() != got.bytes.len() as u64
    {
        let (wanted, found) = (promised.size(), got.bytes.len());
        let message = format!(
            "manifest {} has the wrong size: expected {wanted} bytes, found {found}",
            promised.digest()
        );
        return Err(broken(message, &got));
    }
    let digest = Digest::of(&got.bytes);
    let said = got.digest.as_deref().and_then(|said| Digest::parse(said).ok());
    for wanted in [reference.digest.as_ref(), said.as_ref()].into_iter().flatten() {
        if *wanted != digest {
            let message =
                format!("manifest has the wrong content: expected {wanted}, found {digest}");
            return Err(broken(message, &got));
        }
    }
    let (media_type, kind) = read(&got.bytes, got.content_type.as_deref()).map_err(|reason| {
        let error =
            Error::image(format!("{} has no image there that can be used", whom(reference)))
                .cause(reason)
                .cause(format!("GET {}", got.url));
        NetError::new(Trouble::Broken, error)
    })?;
    Ok(Document { digest, media_type, bytes: got.bytes, kind })
}

/// The content that a descriptor carries in its `data` field (image-spec descriptor.md); `None` when there is none.
pub(super) fn inlined(descriptor: &Descriptor) -> NetResult<Option<Vec<u8>>> {
    let Some(text) = descriptor.data() else { return Ok(None) };
    let digest = descriptor.digest();
    let bytes = BASE64_STANDARD.decode(text).map_err(|error| {
        let error = Error::integrity(format!("the data field of {digest} is not base64"))
            .cause(printable(&error.to_string(), 100).to_lowercase());
        NetError::new(Trouble::Broken, error)
    })?;
    let found = Digest::of(&bytes);
    if found.as_str() != digest.to_string() || bytes.len() as u64 != descriptor.size() {
        return Err(NetError::broken(format!(
            "the data field of {digest} has other content: expected {} bytes, found {} with {found}",
            descriptor.size(),
            bytes.len()
        )));
    }
    Ok(Some(bytes))
}

/// A document that was stored before; `None` when it is not what the descriptor calls it.
pub(super) fn stored(bytes: Vec<u8>, descriptor: &Descriptor) -> Option<Document> {
    let (media_type, kind) = read(&bytes, Some(descriptor.media_type().as_ref())).ok()?;
    Some(Document { digest: Digest::of(&bytes), media_type, bytes, kind })
}

fn broken(message: String, got: &Small) -> NetError {
    let error = Error::integrity(message).cause(format!("GET {}", got.url));
    NetError::new(Trouble::Broken, error)
}

/// The media type and the lists of a document, or why it is none of ours.
fn read(bytes: &[u8], content_type: Option<&str>) -> Result<(String, Kind), String> {
    let value: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|error| format!("not JSON: {error}"))?;
    let stated = value.get("mediaType").and_then(|text| text.as_str()).map(str::to_owned);
    let served = content_type
        .map(|text| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    let ours = |text: &Option<String>| text.as_deref().is_some_and(|text| ACCEPT.contains(&text));
    if ours(&stated) && ours(&served) && stated != served {
        return Err("its media type and the registry's word for it differ".to_owned());
    }
    let (lists, parts) = (value.get("manifests").is_some(), value.get("layers").is_some());
    if lists && (parts || value.get("config").is_some()) {
        return Err("it is a manifest and an index at once".to_owned());
    }
    let known = [&stated, &served].into_iter().find(|text| ours(text)).cloned().flatten();
    let media_type = match (known, lists, parts) {
        (Some(known), ..) => known,
        (None, true, _) => OCI_INDEX.to_owned(),
        (None, _, true) => OCI_MANIFEST.to_owned(),
        _ => return Err(foreign(&value, stated.or(served))),
    };
    let index = matches!(media_type.as_str(), OCI_INDEX | DOCKER_LIST);
    let wrong = |error: crate::error::Error| error.to_string();
    let kind = if index {
        let index: ImageIndex = spec::from_json("index", bytes).map_err(wrong)?;
        Kind::Index(index.manifests().clone())
    } else {
        let manifest: ImageManifest = spec::from_json("manifest", bytes).map_err(wrong)?;
        let mut all = vec![manifest.config().clone()];
        all.extend(manifest.layers().iter().cloned());
        Kind::Manifest(all)
    };
    Ok((media_type, kind))
}

fn foreign(value: &serde_json::Value, media_type: Option<String>) -> String {
    if value.get("schemaVersion").and_then(serde_json::Value::as_u64) == Some(1) {
        return "it is in the old schema 1 form, which has no digests for its layers' content; push it again with a present-day tool".to_owned();
    }
    let media_type = media_type.unwrap_or_default();
    format!("it is of type `{}`", printable(&media_type, 100))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest() -> String {
        Digest::of(b"x").to_string()
    }

    fn descriptor() -> String {
        format!(r#"{{"mediaType":"m","digest":"{}","size":1}}"#, digest())
    }

    fn seen(text: &str, served: Option<&str>) -> Result<(String, &'static str, usize), String> {
        read(text.as_bytes(), served).map(|(media_type, kind)| match kind {
            Kind::Index(all) => (media_type, "index", all.len()),
            Kind::Manifest(all) => (media_type, "manifest", all.len()),
        })
    }

    #[test]
    fn kinds_are_told_apart() {
        let one = descriptor();
        let manifest = format!(r#"{{"schemaVersion":2,"config":{one},"layers":[{one}]}}"#);
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{one}]}}"#);
        let ok = |media_type: &str, kind, n| Ok((media_type.to_owned(), kind, n));
        assert_eq!(seen(&manifest, None), ok(OCI_MANIFEST, "manifest", 2));
        assert_eq!(seen(&index, Some("text/plain")), ok(OCI_INDEX, "index", 1));
        assert_eq!(
            seen(&manifest, Some(&format!("{DOCKER_MANIFEST}; charset=x"))),
            ok(DOCKER_MANIFEST, "manifest", 2)
        );
        let stated = index.replacen('{', &format!(r#"{{"mediaType":"{DOCKER_LIST}","#), 1);
        assert_eq!(seen(&stated, Some("application/json")), ok(DOCKER_LIST, "index", 1));
    }

    #[test]
    fn doubtful_documents_are_refused() {
        let one = descriptor();
        let both =
            format!(r#"{{"schemaVersion":2,"manifests":[{one}],"config":{one},"layers":[{one}]}}"#);
        let stated = format!(r#"{{"mediaType":"{OCI_MANIFEST}","config":{one},"layers":[]}}"#);
        let reason = |text: &str, served| seen(text, served).unwrap_err();
        assert_eq!(reason(&both, Some(OCI_INDEX)), "it is a manifest and an index at once");
        assert_eq!(
            reason(&stated, Some(OCI_INDEX)),
            "its media type and the registry's word for it differ"
        );
        assert!(reason(r#"{"schemaVersion":1,"fsLayers":[]}"#, None).contains("schema 1"));
        assert_eq!(reason("{}", Some("text/html")), "it is of type `text/html`");
        assert!(reason("<html>", None).starts_with("not JSON"));
        assert!(reason("[]", Some(OCI_INDEX)).contains("index"));
        assert!(reason(r#"{"manifests":[{"digest":"../x"}]}"#, None).contains("index"));
    }
}
