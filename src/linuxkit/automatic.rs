//! Labels and build arguments that every package gets (linuxkit.md §4.3).

/// What is known of a package besides its build.yml.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// `ORG/IMAGE`.
    pub image: String,
    /// `gitrepo`; may be empty.
    pub gitrepo: String,
    /// Hash with its dirty suffix; empty outside git.
    pub hash: String,
    /// Commit of HEAD, in git and not dirty.
    pub revision: Option<String>,
    /// Version that Go programs are given, in git.
    pub go_version: Option<String>,
    /// True inside a git work tree.
    pub in_git: bool,
    /// JSON of `config`.
    pub config: Option<String>,
}

type Pairs = Vec<(String, String)>;

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// The labels, which win over those of the Dockerfile.
pub fn labels(known: &Known) -> Pairs {
    // Our own version stands for LinuxKit's; a revision would change digests with every commit of ours.
    let version = env!("CARGO_PKG_VERSION");
    let mut labels = Pairs::new();
    if known.in_git && !known.gitrepo.is_empty() {
        labels.push(pair("org.opencontainers.image.source", &known.gitrepo));
    }
    if let Some(revision) = &known.revision {
        labels.push(pair("org.opencontainers.image.revision", revision));
    }
    if let Some(config) = &known.config {
        labels.push(pair("org.mobyproject.config", config));
    }
    labels.push(pair("org.mobyproject.linuxkit.version", version));
    labels.push(pair("org.mobyproject.linuxkit.revision", version));
    labels
}

/// The build arguments: the user's, and those automatic ones that the user has not set.
pub fn build_args(known: &Known, given: Pairs) -> Pairs {
    let mut automatic = Pairs::new();
    if !known.gitrepo.is_empty() {
        automatic.push(pair("SOURCE", &known.gitrepo));
    }
    if let Some(revision) = &known.revision {
        automatic.push(pair("REVISION", revision));
    }
    if let Some(version) = &known.go_version {
        automatic.push(pair("GOPKGVERSION", version));
    }
    if !known.hash.is_empty() {
        automatic.push(pair("PKG_HASH", &known.hash));
    }
    automatic.push(pair("PKG_IMAGE", &known.image));
    automatic.retain(|(name, _)| !given.iter().any(|(known, _)| known == name));
    automatic.into_iter().chain(given).collect()
}

/// Proxies as build arguments: each name as it was set, lower and upper case alike.
pub fn proxies(variable: impl Fn(&str) -> Option<String>) -> Pairs {
    let names = ["http_proxy", "https_proxy", "no_proxy", "ftp_proxy", "all_proxy"];
    let both = names.iter().flat_map(|name| [(*name).to_owned(), name.to_uppercase()]);
    both.filter_map(|name| variable(&name).map(|value| (name, value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pairs: &Pairs) -> Vec<String> {
        pairs.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    fn known() -> Known {
        Known {
            image: "acme/foo".to_owned(),
            gitrepo: "https://example.com/r".to_owned(),
            hash: "abc".to_owned(),
            revision: Some("c0ffee".to_owned()),
            go_version: Some("v0.0.0-x".to_owned()),
            in_git: true,
            config: Some("{}".to_owned()),
        }
    }

    #[test]
    fn labels_and_arguments_of_a_clean_package() {
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            shown(&labels(&known())),
            [
                "org.opencontainers.image.source=https://example.com/r",
                "org.opencontainers.image.revision=c0ffee",
                "org.mobyproject.config={}",
                &format!("org.mobyproject.linuxkit.version={version}"),
                &format!("org.mobyproject.linuxkit.revision={version}"),
            ]
        );
        let given = vec![pair("REVISION", "mine"), pair("X", "")];
        assert_eq!(
            shown(&build_args(&known(), given)),
            [
                "SOURCE=https://example.com/r",
                "GOPKGVERSION=v0.0.0-x",
                "PKG_HASH=abc",
                "PKG_IMAGE=acme/foo",
                "REVISION=mine",
                "X=",
            ]
        );
    }

    #[test]
    fn outside_git_only_what_the_package_itself_says_is_left() {
        let outside =
            Known { image: "a/b".to_owned(), gitrepo: "r".to_owned(), ..Known::default() };
        assert_eq!(shown(&build_args(&outside, Vec::new())), ["SOURCE=r", "PKG_IMAGE=a/b"]);
        assert_eq!(labels(&outside).len(), 2);
    }

    #[test]
    fn proxies_are_taken_in_both_spellings() {
        let set =
            |name: &str| matches!(name, "http_proxy" | "NO_PROXY").then(|| format!("<{name}>"));
        assert_eq!(shown(&proxies(set)), ["http_proxy=<http_proxy>", "NO_PROXY=<NO_PROXY>"]);
    }
}
