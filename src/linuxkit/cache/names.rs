//! Names as linuxkit expands them (linuxkit.md §2.5).
//!
//! They are texts, not [`Reference`]s: linuxkit counts slashes, so `a/b/c:1` stays as it is, where Docker's rules
//! would put a registry in front.

use crate::linuxkit::tag;
use crate::oci::Reference;

/// The full name that an image has in the cache. Without tag and digest it gets the tag `latest`.
pub fn canonical(name: &str) -> String {
    let mut full = tag::canonical(name);
    if !name.rsplit('/').next().is_some_and(|last| last.contains([':', '@'])) {
        full.push_str(":latest");
    }
    full
}

/// The names that an image may have in the cache when a Dockerfile says this.
pub fn spellings(reference: &Reference) -> Vec<String> {
    let full = reference.to_string();
    let bare = full.strip_prefix("docker.io/").filter(|bare| bare.matches('/').count() > 1);
    let bare = bare.map(str::to_owned);
    std::iter::once(full).chain(bare).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_expanded_by_counting_their_parts() {
        let table = [
            ("redis", "docker.io/library/redis:latest"),
            ("redis:7", "docker.io/library/redis:7"),
            ("foo/bar", "docker.io/foo/bar:latest"),
            ("linuxkit/init:abc-dirty", "docker.io/linuxkit/init:abc-dirty"),
            ("registry.io/foo:1", "registry.io/foo:1"),
            ("localhost:5000/foo", "localhost:5000/foo:latest"),
            ("localhost/foo:1", "localhost/foo:1"),
            ("a/b/image:tag", "a/b/image:tag"),
            ("foo/bar@sha256:12", "docker.io/foo/bar@sha256:12"),
            ("docker.io/linuxkit/init:1", "docker.io/linuxkit/init:1"),
        ];
        for (given, full) in table {
            assert_eq!(canonical(given), full, "{given}");
        }
    }

    #[test]
    fn a_name_of_a_dockerfile_is_looked_up_as_linuxkit_would_have_stored_it() {
        let of = |name: &str| spellings(&Reference::parse(name).unwrap());
        assert_eq!(of("foo/bar:1"), ["docker.io/foo/bar:1"]);
        assert_eq!(of("a/b/c:1"), ["docker.io/a/b/c:1", "a/b/c:1"]);
        assert_eq!(of("reg.io/a/b/c:1"), ["reg.io/a/b/c:1"]);
    }
}
