//! Named contexts (`--build-context`): what a name means instead of a stage or an image (dockerfile.md §1.10).
//!
//! Names are compared as references of images, without `:latest`; `NAME::PLATFORM` is for one platform and wins.
//! A stage of such a name is replaced: nothing of it is done, and what it needs is not needed.

use super::PlanRequest;
use crate::dockerfile::ast::Dockerfile;
use crate::oci::{Platform, Reference};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What a named context is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedContext {
    /// An image, by its reference.
    Image(String),
    /// Files, which the caller has under this name.
    Files,
}

/// Contexts by their names, as given.
pub type NamedContexts = BTreeMap<String, NamedContext>;

/// Names that mean something else in any case.
const RESERVED: [&str; 2] = ["scratch", "context"];

/// The context for a name, with the name that it was given under.
pub(super) fn find<'a>(
    contexts: &'a NamedContexts,
    name: &str,
    platform: &Platform,
) -> Option<(&'a str, &'a NamedContext)> {
    if contexts.is_empty() || RESERVED.contains(&name) {
        return None;
    }
    let wanted = normal(name);
    let mut for_all = None;
    for (given, context) in contexts {
        let (plain, only) = match given.split_once("::") {
            Some((plain, only)) => (plain, Some(only)),
            None => (given.as_str(), None),
        };
        if normal(plain) != wanted {
            continue;
        }
        match only.map(Platform::parse) {
            None => for_all = Some((given.as_str(), context)),
            Some(Ok(only)) if only == *platform => return Some((given.as_str(), context)),
            Some(_) => {}
        }
    }
    for_all
}

/// A name as all its spellings have it.
fn normal(name: &str) -> String {
    let lower = name.to_lowercase();
    match Reference::parse(&lower) {
        Ok(reference) => {
            let full = reference.to_string();
            full.strip_suffix(":latest").map_or(full.clone(), str::to_owned)
        }
        Err(_) => lower,
    }
}

/// The file without the instructions of stages that a context replaces.
pub(super) fn without_replaced<'a>(
    dockerfile: &'a Dockerfile,
    request: &PlanRequest,
) -> Cow<'a, Dockerfile> {
    let contexts = &request.contexts;
    let platform = request.platform.as_ref().unwrap_or(&request.build_platform);
    let is_replaced = |name: &str| find(contexts, name, platform).is_some();
    let replaced: Vec<usize> = dockerfile
        .stages
        .iter()
        .enumerate()
        .filter(|(_, stage)| stage.from.name.as_ref().is_some_and(|name| is_replaced(&name.text)))
        .map(|(number, _)| number)
        .collect();
    if replaced.is_empty() {
        return Cow::Borrowed(dockerfile);
    }
    let mut changed = dockerfile.clone();
    for number in replaced {
        changed.stages[number].instructions.clear();
        changed.stages[number].from.platform = None;
    }
    Cow::Owned(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_references() {
        let contexts: NamedContexts = ["alpine", "q.io/a/b:1", "base::linux/arm64", "base"]
            .into_iter()
            .map(|name| (name.to_owned(), NamedContext::Image(name.to_owned())))
            .collect();
        let amd = Platform::new("linux", "amd64", "");
        let found = |name: &str, platform: &Platform| find(&contexts, name, platform).map(|f| f.0);
        for name in ["alpine", "alpine:latest", "docker.io/library/alpine", "ALPINE"] {
            assert_eq!(found(name, &amd), Some("alpine"), "{name}");
        }
        assert_eq!(found("alpine:3", &amd), None);
        assert_eq!(found("q.io/a/b:1", &amd), Some("q.io/a/b:1"));
        assert_eq!(found("base", &amd), Some("base"));
        assert_eq!(found("base", &Platform::new("linux", "arm64", "")), Some("base::linux/arm64"));
        assert_eq!(found("scratch", &amd), None);
    }
}
