//! `--annotation`: `[TYPE[PLATFORM][,TYPE…]:]KEY=VALUE`, as buildx reads it, onto manifests, descriptors and the index.

use crate::error::{Error, Result};
use crate::oci::Platform;
use std::collections::HashMap;

/// What an annotation is put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The manifest of each image.
    Manifest,
    /// The index.
    Index,
    /// The descriptor of each manifest in the index.
    ManifestDescriptor,
    /// The descriptor of the index in a layout.
    IndexDescriptor,
}

/// One `--annotation`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// On what.
    pub place: Place,
    /// Only for this platform.
    pub platform: Option<Platform>,
    /// Key.
    pub key: String,
    /// Value.
    pub value: String,
}

impl Annotation {
    /// From a user's words; one word may name several places.
    pub fn parse(text: &str) -> Result<Vec<Self>> {
        let (left, value) = text.split_once('=').ok_or_else(|| bad(text, "it has no `=`"))?;
        let (places, key) = match left.split_once(':') {
            Some((places, key)) => (places, key),
            None => ("manifest", left),
        };
        if key.is_empty() {
            return Err(bad(text, "it has no key"));
        }
        let one = |word: &str| {
            let (place, platform) = place(word.trim()).map_err(|error| error.wrap(shown(text)))?;
            Ok(Self { place, platform, key: key.to_owned(), value: value.to_owned() })
        };
        places.split(',').map(one).collect()
    }
}

fn place(word: &str) -> Result<(Place, Option<Platform>)> {
    let (name, platform) = match word.split_once('[') {
        Some((name, rest)) => {
            let inner = rest.strip_suffix(']').ok_or_else(|| Error::usage("a `]` is missing"))?;
            (name, Some(Platform::parse(inner)?))
        }
        None => (word, None),
    };
    let place = match name {
        "manifest" => Place::Manifest,
        "index" => Place::Index,
        "manifest-descriptor" => Place::ManifestDescriptor,
        "index-descriptor" => Place::IndexDescriptor,
        other => {
            return Err(Error::usage(format!("unknown type `{other}`")).hint(
                "the types are `manifest`, `index`, `manifest-descriptor` and `index-descriptor`",
            ));
        }
    };
    if platform.is_some() && matches!(place, Place::Index | Place::IndexDescriptor) {
        return Err(Error::usage("an index has no platform"));
    }
    Ok((place, platform))
}

fn shown(text: &str) -> String {
    format!("bad annotation `{text}`")
}

fn bad(text: &str, why: &str) -> Error {
    Error::usage(format!("{}: {why}", shown(text)))
        .hint("for example `org.opencontainers.image.title=app` or `index:KEY=VALUE`")
}

/// Those of a place and a platform; of equal keys the last counts. `None` when there are none.
pub(super) fn of(
    all: &[Annotation],
    place: Place,
    platform: Option<&Platform>,
) -> Option<HashMap<String, String>> {
    let fits = |annotation: &&Annotation| {
        annotation.place == place
            && (annotation.platform.is_none() || annotation.platform.as_ref() == platform)
    };
    let found: HashMap<String, String> = all
        .iter()
        .filter(fits)
        .map(|annotation| (annotation.key.clone(), annotation.value.clone()))
        .collect();
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        match Annotation::parse(text) {
            Ok(all) => all
                .iter()
                .map(|a| {
                    let platform = a.platform.as_ref().map(Platform::to_string);
                    format!("{:?} {platform:?} {}={}", a.place, a.key, a.value)
                })
                .collect::<Vec<_>>()
                .join("; "),
            Err(error) => error.message().to_owned(),
        }
    }

    #[test]
    fn words_of_buildx() {
        for (text, expected) in [
            ("a=b=c", "Manifest None a=b=c"),
            ("index:a=", "Index None a="),
            (
                "index,manifest[linux/arm64]:a:b=c",
                "Index None a:b=c; Manifest Some(\"linux/arm64\") a:b=c",
            ),
            ("manifest-descriptor:a=b", "ManifestDescriptor None a=b"),
            ("a", "bad annotation `a`: it has no `=`"),
            ("index:=b", "bad annotation `index:=b`: it has no key"),
            ("layer:a=b", "bad annotation `layer:a=b`"),
            ("index[linux/arm64]:a=b", "bad annotation `index[linux/arm64]:a=b`"),
        ] {
            assert_eq!(parsed(text), expected, "{text}");
        }
    }
}
