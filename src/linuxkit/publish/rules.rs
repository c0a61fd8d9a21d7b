//! The index of a package in a registry: what several machines pushed, put together (linuxkit.md §6). Pure.
//!
//! Works on JSON, so that members of entries that we do not know survive.

use crate::oci::media;
use serde_json::{Value, json};
use std::collections::HashSet;

const SUBJECT: &str = "vnd.docker.reference.digest";

/// The index to put, or `None` when the registry's says all of ours already. Our entries come first and win for their
/// platform; attestations of images that are in no index any more go.
pub(super) fn merged(remote: Option<&Value>, ours: &[Value]) -> Option<Value> {
    let Some(remote) = remote else {
        let list = tidied(ours.to_vec());
        return Some(json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": list}));
    };
    let there = entries(remote);
    let has = |entry: &Value| there.iter().any(|other| digest(other) == digest(entry));
    if ours.iter().all(has) {
        return None;
    }
    let mine: HashSet<String> = ours.iter().filter_map(platform).collect();
    let rest = there.iter().filter(|entry| platform(entry).is_none_or(|key| !mine.contains(&key)));
    let mut index = remote.clone();
    index["manifests"] = Value::Array(tidied(ours.iter().chain(rest).cloned().collect()));
    Some(index)
}

/// Those of `found`, entries made of `-<arch>` tags, whose architecture the index has not.
pub(super) fn lacking(index: &Value, found: Vec<Value>) -> Vec<Value> {
    let arch = |entry: &Value| entry["platform"]["architecture"].as_str().map(str::to_owned);
    let there: HashSet<String> = entries(index).iter().filter_map(arch).collect();
    found
        .into_iter()
        .filter(|entry| arch(entry).is_some_and(|arch| !there.contains(&arch)))
        .collect()
}

/// Entries of an index.
pub(super) fn entries(index: &Value) -> &[Value] {
    index.get("manifests").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Each digest once, and no attestation of something that is not in the list.
fn tidied(mut all: Vec<Value>) -> Vec<Value> {
    let present: HashSet<String> = all.iter().filter_map(digest).map(str::to_owned).collect();
    let mut seen = HashSet::new();
    all.retain(|entry| {
        let subject = entry.get("annotations").and_then(|all| all.get(SUBJECT)?.as_str());
        subject.is_none_or(|subject| present.contains(subject))
            && digest(entry).is_none_or(|digest| seen.insert(digest.to_owned()))
    });
    all
}

fn digest(entry: &Value) -> Option<&str> {
    entry.get("digest")?.as_str()
}

/// What makes two images the same one here; none for attestations. Unlike in the cache the variant counts.
fn platform(entry: &Value) -> Option<String> {
    let platform = entry.get("platform").filter(|platform| platform.is_object())?;
    let part = |name: &str| platform.get(name).and_then(Value::as_str).unwrap_or_default();
    let (os, architecture) = (part("os"), part("architecture"));
    let known = (os, architecture) != ("unknown", "unknown");
    known.then(|| format!("{os}/{architecture}/{}/{}", part("variant"), part("os.version")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(digest: &str, architecture: &str) -> Value {
        json!({"digest": digest, "platform": {"os": "linux", "architecture": architecture}})
    }

    fn attestation(digest: &str, subject: &str) -> Value {
        json!({"digest": digest, "platform": {"os": "unknown", "architecture": "unknown"},
            "annotations": {SUBJECT: subject}})
    }

    fn index(manifests: &[Value]) -> Value {
        json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": manifests, "x": 1})
    }

    #[test]
    fn ours_come_first_and_theirs_stay() {
        let remote = index(&[image("a", "amd64"), attestation("n", "a"), image("b", "arm64")]);
        let ours = [image("c", "s390x"), image("d", "arm64")];
        assert_eq!(
            merged(Some(&remote), &ours),
            Some(index(&[
                image("c", "s390x"),
                image("d", "arm64"),
                image("a", "amd64"),
                attestation("n", "a"),
            ]))
        );
        // An attestation goes with its image.
        let ours = [image("e", "amd64")];
        let left = index(&[image("e", "amd64"), image("b", "arm64")]);
        assert_eq!(merged(Some(&remote), &ours), Some(left));
    }

    #[test]
    fn what_is_there_already_changes_nothing() {
        let remote = index(&[image("a", "amd64"), image("b", "arm64")]);
        assert_eq!(merged(Some(&remote), &[image("b", "arm64")]), None);
        assert_eq!(merged(Some(&remote), &[]), None);
        let first = merged(None, &[image("a", "amd64")]).unwrap();
        assert_eq!(first["manifests"], json!([image("a", "amd64")]));
    }

    #[test]
    fn only_architectures_that_are_missing_are_taken_from_tags() {
        let remote = index(&[image("a", "amd64")]);
        let found = vec![image("x", "amd64"), image("y", "arm64")];
        assert_eq!(lacking(&remote, found), [image("y", "arm64")]);
    }
}
