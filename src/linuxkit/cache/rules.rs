//! The index of a package after a build of some of its platforms (linuxkit.md §5.3). Pure.
//!
//! Works on JSON, so that members of entries that we do not know survive.

use crate::oci::media;
use serde_json::{Value, json};
use std::collections::HashSet;

const SUBJECT: &str = "vnd.docker.reference.digest";

/// The new index. An entry takes the place of the old one of its platform, others keep theirs; what is new follows in
/// the order given, attestations last. Attestations of images that are gone go, too.
pub(super) fn updated(old: Option<Value>, new: Vec<Value>) -> Value {
    let Some(mut index) = old else {
        return json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": new});
    };
    let (mut images, mut others) = (Vec::<(String, Value)>::new(), Vec::new());
    for entry in new {
        match platform_key(&entry) {
            None => others.push(entry),
            Some(key) => match images.iter_mut().find(|(other, _)| *other == key) {
                Some(slot) => slot.1 = entry,
                None => images.push((key, entry)),
            },
        }
    }
    let present = match index.get_mut("manifests").map(Value::take) {
        Some(Value::Array(present)) => present,
        _ => Vec::new(),
    };
    let mut all = Vec::new();
    for entry in present {
        let key = platform_key(&entry);
        // Only the first entry of a platform is replaced: that is what linuxkit does.
        match images.iter().position(|(other, _)| Some(other) == key.as_ref()) {
            Some(at) => all.push(images.remove(at).1),
            None => all.push(entry),
        }
    }
    all.extend(images.into_iter().map(|(_, entry)| entry));
    all.extend(others);
    index["manifests"] = Value::Array(tidied(all));
    index
}

/// Each digest once, and no attestation of something that is not in the list.
fn tidied(all: Vec<Value>) -> Vec<Value> {
    let present: HashSet<String> = all.iter().filter_map(digest).map(str::to_owned).collect();
    let mut seen = HashSet::new();
    let keep = |entry: &Value| {
        let subject = entry.get("annotations").and_then(|all| all.get(SUBJECT)?.as_str());
        subject.is_none_or(|subject| present.contains(subject))
            && digest(entry).is_none_or(|digest| seen.insert(digest.to_owned()))
    };
    let mut all = all;
    all.retain(keep);
    all
}

fn digest(entry: &Value) -> Option<&str> {
    entry.get("digest")?.as_str()
}

/// What makes two images of an index the same one; none for attestations. The variant is no part of it.
fn platform_key(entry: &Value) -> Option<String> {
    let platform = entry.get("platform").filter(|platform| platform.is_object())?;
    let part = |name: &str| platform.get(name).and_then(Value::as_str).unwrap_or_default();
    let (os, architecture) = (part("os"), part("architecture"));
    let known = (os, architecture) != ("unknown", "unknown");
    known.then(|| format!("{os}/{architecture}/{}", part("os.version")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(digest: &str, platform: &str) -> Value {
        let (os, architecture) = platform.split_once('/').unwrap();
        json!({"digest": digest, "platform": {"os": os, "architecture": architecture}})
    }

    fn attestation(digest: &str, subject: &str) -> Value {
        json!({"digest": digest, "platform": {"os": "unknown", "architecture": "unknown"},
            "annotations": {SUBJECT: subject}})
    }

    fn index(manifests: &[Value]) -> Value {
        json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": manifests})
    }

    #[track_caller]
    fn check(old: &[Value], new: &[Value], expected: &[Value]) {
        assert_eq!(updated(Some(index(old)), new.to_vec()), index(expected));
    }

    #[test]
    fn the_first_index_has_the_entries_as_they_come() {
        let new = [image("b", "linux/s390x"), image("a", "linux/amd64"), attestation("c", "gone")];
        assert_eq!(updated(None, new.to_vec()), index(&new));
    }

    #[test]
    fn platforms_are_replaced_in_place_and_new_ones_follow() {
        let [amd64, arm64] = ["linux/amd64", "linux/arm64"];
        check(
            &[image("a", amd64), image("b", arm64)],
            &[image("d", "linux/s390x"), image("c", amd64), image("e", "linux/riscv64")],
            &[
                image("c", amd64),
                image("b", arm64),
                image("d", "linux/s390x"),
                image("e", "linux/riscv64"),
            ],
        );
    }

    #[test]
    fn the_variant_is_no_part_of_the_platform_and_the_version_of_the_system_is() {
        let with = |digest: &str, key: &str, value: &str| {
            let mut entry = image(digest, "linux/arm64");
            entry["platform"][key] = value.into();
            entry
        };
        check(
            &[with("a", "variant", "v8"), with("b", "os.version", "10")],
            &[image("c", "linux/arm64")],
            &[image("c", "linux/arm64"), with("b", "os.version", "10")],
        );
        // Of two old entries that count as one platform the second stays.
        check(
            &[with("a", "variant", "v8"), with("b", "variant", "v9")],
            &[image("c", "linux/arm64"), image("d", "linux/arm64")],
            &[image("d", "linux/arm64"), with("b", "variant", "v9")],
        );
    }

    #[test]
    fn attestations_live_as_long_as_what_they_are_about() {
        check(
            &[
                image("a", "linux/amd64"),
                attestation("of-a", "a"),
                image("b", "linux/arm64"),
                attestation("of-b", "b"),
            ],
            &[attestation("of-c", "c"), image("c", "linux/amd64"), json!({"digest": "x"})],
            &[
                image("c", "linux/amd64"),
                image("b", "linux/arm64"),
                attestation("of-b", "b"),
                attestation("of-c", "c"),
                json!({"digest": "x"}),
            ],
        );
    }

    #[test]
    fn the_same_image_again_changes_nothing() {
        let old = [image("a", "linux/amd64"), attestation("of-a", "a")];
        check(&old, &[image("a", "linux/amd64"), attestation("of-a", "a")], &old);
        check(&old, &[image("a", "linux/386")], &old);
    }

    #[test]
    fn members_that_we_do_not_know_stay() {
        let mut old = index(&[image("a", "linux/amd64")]);
        old["annotations"] = json!({"k": "v"});
        old["manifests"][0]["strange"] = json!([1]);
        let mut expected = old.clone();
        expected["manifests"].as_array_mut().unwrap().push(image("b", "linux/arm64"));
        assert_eq!(updated(Some(old), vec![image("b", "linux/arm64")]), expected);
    }

    #[test]
    fn garbage_is_no_platform() {
        let odd = [json!(5), json!({"platform": 3}), json!({"platform": {"os": 1}}), json!(null)];
        check(&odd, &[], &odd);
        assert_eq!(updated(Some(json!({"manifests": null})), vec![]), json!({"manifests": []}));
    }
}
