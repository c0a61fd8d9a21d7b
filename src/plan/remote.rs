//! Sources of ADD that are elsewhere: files behind a URL, and Git repositories (dockerfile.md §1.7.17, §1.7.18).
//!
//! In: a source as expanded, and the flags that belong to it; out: a [`RemoteSource`], or nothing for a local path.

use crate::error::{Error, Result};
use crate::oci::Digest;
use crate::oci::git_url::{GitUrl, is_http};

/// A source that is fetched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RemoteSource {
    /// A file.
    Http {
        /// Address.
        url: String,
        /// Name in the destination directory.
        name: String,
        /// `--checksum`.
        checksum: Option<Digest>,
    },
    /// A repository.
    Git(GitUrl),
}

impl RemoteSource {
    /// Reads a source; `None` for a path.
    pub(super) fn parse(
        text: &str,
        checksum: Option<&str>,
        keep_git_dir: bool,
    ) -> Result<Option<Self>> {
        if let Some(url) = GitUrl::parse(text) {
            return git(url?, checksum, keep_git_dir).map(Self::Git).map(Some);
        }
        if !is_http(text) {
            return Ok(None);
        }
        let checksum = checksum.map(file_checksum).transpose()?;
        Ok(Some(Self::Http { url: text.to_owned(), name: file_name(text), checksum }))
    }
}

fn git(mut url: GitUrl, checksum: Option<&str>, keep_git_dir: bool) -> Result<GitUrl> {
    if keep_git_dir && url.keep_git_dir.is_none() {
        url.keep_git_dir = Some(true);
    }
    if let Some(checksum) = checksum {
        let checksum = checksum.to_ascii_lowercase();
        let is_name = checksum.len() >= 4 && checksum.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_name {
            return Err(Error::dockerfile(format!("invalid checksum of a commit: {checksum}"))
                .hint("write the name of the commit, or its beginning"));
        }
        if url.checksum.as_ref().is_some_and(|known| *known != checksum) {
            return Err(Error::dockerfile("the address and `--checksum` ask for two commits"));
        }
        url.checksum = Some(checksum);
    }
    Ok(url)
}

fn file_checksum(text: &str) -> Result<Digest> {
    Digest::parse(text).ok().filter(|digest| digest.as_str().starts_with("sha256:")).ok_or_else(
        || {
            Error::dockerfile(format!("unsupported checksum `{text}`"))
                .hint("write `sha256:` and 64 hexadecimal digits")
        },
    )
}

/// The last part of the path; a path that ends in a slash gives none.
fn file_name(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
    let name = path.map_or("", |(_, path)| path.rsplit('/').next().unwrap_or_default());
    match decoded(name) {
        Some(name) if !matches!(&*name, "" | "." | "..") && !name.contains(['/', '\0']) => name,
        _ => "__unnamed__".to_owned(),
    }
}

/// `%41` is `A`; `None` when what comes out is no text.
fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits = [bytes.next()?, bytes.next()?];
        out.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_by_the_end_of_its_address() {
        for (url, name) in [
            ("http://h/a/b.txt", "b.txt"),
            ("http://h/a/b.txt?x=/y", "b.txt"),
            ("http://h/a%20b", "a b"),
            ("http://h/", "__unnamed__"),
            ("http://h", "__unnamed__"),
            ("http://h/a/", "__unnamed__"),
            ("http://h/a/..", "__unnamed__"),
            ("http://h/%2e%2e%2fpasswd", "__unnamed__"),
            ("http://h/%ff", "__unnamed__"),
        ] {
            assert_eq!(file_name(url), name, "{url}");
        }
    }

    #[test]
    fn checksums_are_sha256_or_commits() {
        let parse = |text: &str, checksum: &str| {
            RemoteSource::parse(text, Some(checksum), false).map_err(|error| error.to_string())
        };
        let digest = Digest::of(b"x");
        assert!(parse("http://h/x", digest.as_str()).is_ok());
        assert!(parse("http://h/x", "md5:0").unwrap_err().starts_with("unsupported checksum"));
        assert!(parse("http://h/x.git", "ABCD").is_ok());
        assert!(parse("http://h/x.git", digest.as_str()).is_err());
        assert!(parse("http://h/x.git?checksum=abcd", "abce").is_err());
        assert_eq!(RemoteSource::parse("dir/x", None, false).unwrap(), None);
    }
}
