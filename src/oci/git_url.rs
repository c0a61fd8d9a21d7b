//! Addresses of Git repositories as ADD and build contexts have them (dockerfile.md §1.7.18, §1.10); pure.
//!
//! In: a text; out: [`GitUrl`], nothing when it is no such address, or what is wrong with one. What stands behind `#` or
//! `?` says which commit and which directory, and never goes to git as part of the address.

use crate::error::{Error, Result};

/// What to fetch.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GitUrl {
    /// Address for git.
    pub remote: String,
    /// Branch, tag or commit; the remote's HEAD when `None`. `refs/heads/…` and `refs/tags/…` when said exactly.
    pub reference: Option<String>,
    /// Directory of the repository that is wanted; empty for all of it.
    pub subdir: String,
    /// Commit that it must be, or the beginning of its name.
    pub checksum: Option<String>,
    /// `.git` stays; `None` when the address does not say.
    pub keep_git_dir: Option<bool>,
    /// Submodules are fetched, too.
    pub submodules: bool,
    /// Files have the time of the commit instead of that of the checkout.
    pub commit_time: bool,
}

/// Places whose addresses need no scheme, for contexts.
const FORGES: [&str; 1] = ["github.com/"];

impl GitUrl {
    /// Reads a source of ADD.
    pub fn parse(text: &str) -> Option<Result<Self>> {
        is_git(text).then(|| read(text))
    }

    /// Reads a build context, for which `github.com/owner/name` is an address as well.
    pub fn parse_context(text: &str) -> Option<Result<Self>> {
        if FORGES.iter().any(|forge| text.starts_with(forge)) {
            let (name, rest) = text.split_at(text.find(['#', '?']).unwrap_or(text.len()));
            let dot = if ends_in_git(name) { "" } else { ".git" };
            return Some(read(&format!("https://{name}{dot}{rest}")));
        }
        Self::parse(text)
    }
}

/// By scheme, by `user@host:path`, or by an http path that ends in `.git`.
fn is_git(text: &str) -> bool {
    if text.starts_with("git://") || text.starts_with("ssh://") || text.starts_with("git+ssh://") {
        return true;
    }
    let path = text.split(['#', '?']).next().unwrap_or_default();
    if is_http(text) { ends_in_git(path) } else { is_scp(path) }
}

fn ends_in_git(path: &str) -> bool {
    path.strip_suffix(".git").is_some()
}

/// `http://` or `https://`.
pub fn is_http(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// `user@host:path`, as ssh's own copying program writes it.
fn is_scp(path: &str) -> bool {
    let Some((user, rest)) = path.split_once('@') else { return false };
    let Some((host, path)) = rest.split_once(':') else { return false };
    let word = |text: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !text.is_empty() && !text.starts_with('-') && text.chars().all(plain)
    };
    word(user) && word(host) && !path.is_empty() && !path.starts_with("//")
}

fn read(text: &str) -> Result<GitUrl> {
    let bad = |why: String| {
        Error::dockerfile(format!("`{text}` is no address of a Git repository")).cause(why)
    };
    let (address, fragment) = match text.split_once('#') {
        Some((address, fragment)) => (address, Some(fragment)),
        None => (text, None),
    };
    let (remote, query) = match address.split_once('?') {
        Some((remote, query)) => (remote, Some(query)),
        None => (address, None),
    };
    let mut url = GitUrl { remote: remote.to_owned(), submodules: true, ..GitUrl::default() };
    if remote.contains(|c: char| c.is_control() || c == ' ') {
        return Err(bad("it holds blanks or control characters".to_owned()));
    }
    if let Some(fragment) = fragment {
        let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
        url.reference = some(reference);
        subdir.clone_into(&mut url.subdir);
    }
    for field in query.iter().flat_map(|query| query.split('&')).filter(|field| !field.is_empty()) {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        url.set(key, value, fragment.is_some()).map_err(bad)?;
    }
    check_reference(&url).map_err(bad)?;
    Ok(url)
}

impl GitUrl {
    /// One field of a query.
    fn set(
        &mut self,
        key: &str,
        value: &str,
        has_fragment: bool,
    ) -> std::result::Result<(), String> {
        let switch = |value: &str| {
            let known = if value.is_empty() { Some(true) } else { crate::boolean::parse(value) };
            known.ok_or_else(|| format!("invalid value `{value}` of `{key}`"))
        };
        match key {
            "ref" | "branch" | "tag" | "commit" => {
                let prefix = match key {
                    "branch" if !value.starts_with("refs/") => "refs/heads/",
                    "tag" if !value.starts_with("refs/") => "refs/tags/",
                    _ => "",
                };
                let wanted = some(value).map(|value| format!("{prefix}{value}"));
                if key == "commit" {
                    return self.must_be(wanted.unwrap_or_default());
                }
                if has_fragment || self.reference.is_some() {
                    return Err(format!("`{key}` conflicts with another reference"));
                }
                self.reference = wanted;
            }
            "checksum" => return self.must_be(value.to_owned()),
            "subdir" if has_fragment && !self.subdir.is_empty() => {
                return Err("`subdir` conflicts with the one behind `#`".to_owned());
            }
            "subdir" => value.clone_into(&mut self.subdir),
            "keep-git-dir" => self.keep_git_dir = Some(switch(value)?),
            "submodules" => self.submodules = switch(value)?,
            // Whether the server gives commits by name is found out anyway.
            "fetch-by-commit" => drop(switch(value)?),
            "mtime" => {
                self.commit_time = match value {
                    "commit" => true,
                    "checkout" => false,
                    _ => return Err(format!("invalid value `{value}` of `mtime`")),
                };
            }
            _ => return Err(format!("unexpected query `{key}`")),
        }
        Ok(())
    }

    fn must_be(&mut self, commit: String) -> std::result::Result<(), String> {
        let is_name = commit.len() >= 4 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_name || commit.len() > 64 {
            return Err(format!("`{commit}` is no name of a commit"));
        }
        match &self.checksum {
            Some(other) if !other.starts_with(&commit) && !commit.starts_with(other.as_str()) => {
                Err("it asks for two different commits".to_owned())
            }
            _ => {
                self.checksum = Some(commit.to_ascii_lowercase());
                Ok(())
            }
        }
    }
}

/// What git would take for something else.
fn check_reference(url: &GitUrl) -> std::result::Result<(), String> {
    if let Some(reference) = &url.reference {
        let strange = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
        if reference.starts_with('-') || reference.contains(strange) || reference.contains("..") {
            return Err(format!("`{reference}` is no branch, tag or commit"));
        }
    }
    if url.remote.starts_with('-') {
        return Err("it begins with a dash".to_owned());
    }
    Ok(())
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> GitUrl {
        GitUrl::parse(text).unwrap_or_else(|| panic!("{text}")).unwrap()
    }

    fn plain(remote: &str) -> GitUrl {
        GitUrl { remote: remote.to_owned(), submodules: true, ..GitUrl::default() }
    }

    #[test]
    fn addresses_are_told_from_other_sources() {
        for text in [
            "https://h/r.git",
            "http://h/r.git#main:sub",
            "https://h/r.git?branch=a",
            "git@h:r.git",
            "me@h.example:a/b",
            "ssh://h/r",
            "git://h/r",
            "git+ssh://h/r",
        ] {
            assert!(GitUrl::parse(text).is_some(), "{text}");
        }
        for text in [
            "https://h/x.tar.gz",
            "https://h/x.git/file",
            "r.git",
            "dir/a@b:c",
            "a@b",
            "@b:c",
            "-o@h:c",
            "github.com/a/b",
        ] {
            assert!(GitUrl::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn fragments_and_queries_say_what_is_wanted() {
        let url = plain("https://h/r.git");
        assert_eq!(parsed("https://h/r.git"), url);
        let main = GitUrl { reference: Some("main".to_owned()), ..url.clone() };
        assert_eq!(parsed("https://h/r.git#main"), main);
        let sub = GitUrl { subdir: "a/b".to_owned(), ..main.clone() };
        assert_eq!(parsed("https://h/r.git#main:a/b"), sub);
        assert_eq!(parsed("https://h/r.git?ref=main&subdir=a/b"), sub);
        assert_eq!(parsed("https://h/r.git#:a/b"), GitUrl { reference: None, ..sub });
        let branch = GitUrl { reference: Some("refs/heads/x".to_owned()), ..url.clone() };
        assert_eq!(parsed("https://h/r.git?branch=x"), branch);
        let tag = GitUrl {
            reference: Some("refs/tags/v1".to_owned()),
            checksum: Some("abcd12".to_owned()),
            keep_git_dir: Some(true),
            submodules: false,
            commit_time: true,
            ..url
        };
        assert_eq!(
            parsed("https://h/r.git?tag=v1&checksum=ABCD12&keep-git-dir&submodules=0&mtime=commit"),
            tag
        );
    }

    #[test]
    fn contexts_know_forges() {
        let url = |text: &str| GitUrl::parse_context(text).unwrap().unwrap();
        assert_eq!(url("github.com/a/b"), plain("https://github.com/a/b.git"));
        let main =
            GitUrl { reference: Some("main".to_owned()), ..plain("https://github.com/a/b.git") };
        assert_eq!(url("github.com/a/b.git#main"), main);
        assert!(GitUrl::parse_context("https://h/x.tar").is_none());
    }

    #[test]
    fn conflicts_and_oddities_are_errors() {
        for (text, why) in [
            ("https://h/r.git?ref=a#b", "`ref` conflicts with another reference"),
            ("https://h/r.git?branch=a&tag=b", "`tag` conflicts with another reference"),
            ("https://h/r.git?subdir=a#b:c", "`subdir` conflicts with the one behind `#`"),
            ("https://h/r.git?checksum=xyz1", "`xyz1` is no name of a commit"),
            ("https://h/r.git?checksum=abcd&commit=abce", "it asks for two different commits"),
            ("https://h/r.git?depth=1", "unexpected query `depth`"),
            ("https://h/r.git?submodules=maybe", "invalid value `maybe` of `submodules`"),
            ("https://h/r.git#--upload-pack=x", "`--upload-pack=x` is no branch, tag or commit"),
            ("https://h/r.git#a..b", "`a..b` is no branch, tag or commit"),
            ("https://h/a b.git", "it holds blanks or control characters"),
        ] {
            let error = GitUrl::parse(text).unwrap().unwrap_err();
            assert_eq!(error.causes(), [why], "{text}");
        }
    }
}
