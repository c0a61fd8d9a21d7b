//! What a registry tells about a repository besides images: raw documents, tags, referrers; and deleting.
//!
//! In: a [`Reference`]; out: checked documents or plain lists. distribution-spec 1.1: Content Discovery, Listing
//! Referrers, Content Management.

use super::failure::{NetError, NetResult, Trouble};
use super::http::Payload;
use super::manifest;
use super::pull;
use super::registry::{Registry, manifest_path, small, whom};
use super::wish::{Access, Path, Wish};
use crate::error::{Error, ErrorKind};
use crate::oci::media::OCI_INDEX;
use crate::oci::spec::{self, Descriptor, ImageIndex};
use crate::oci::{Digest, Reference};
use serde::Deserialize;
use std::collections::BTreeSet;

/// A page of tags or referrers.
const MAX_PAGE: u64 = 16 << 20;
const MAX_PAGES: usize = 10_000;
/// Names or descriptors together.
const MAX_ITEMS: usize = 1_000_000;

/// What refers to a manifest, and how the registry keeps it.
#[derive(Clone, Debug, Default)]
pub struct Referrers {
    /// Descriptors with `artifactType` and annotations.
    pub list: Vec<Descriptor>,
    /// Whether the registry has the referrers API; else they are below the tag `sha256-HEX`, which clients keep.
    pub api: bool,
}

impl Registry {
    /// The manifest or index that a name leads to: its descriptor, and its bytes as served.
    pub fn document(&self, reference: &Reference) -> NetResult<(Descriptor, Vec<u8>)> {
        self.may_pull(reference)?;
        let document = manifest::fetch(self, reference, None)?;
        Ok((document.descriptor(), document.bytes))
    }

    /// A manifest or index that another one names; `None` when the registry does not have it.
    pub fn part(&self, of: &Reference, descriptor: &Descriptor) -> NetResult<Option<Vec<u8>>> {
        let reference = of.with_digest(digest_of(descriptor)?);
        found(manifest::fetch(self, &reference, Some(descriptor)).map(|document| document.bytes))
    }

    /// A blob of at most 8 MiB; `None` when the registry does not have it.
    pub fn small_blob(
        &self,
        of: &Reference,
        descriptor: &Descriptor,
    ) -> NetResult<Option<Vec<u8>>> {
        found(pull::small_blob(self, of, descriptor))
    }

    /// All tags of the repository of `reference`, sorted, over as many pages as there are.
    pub fn tags(&self, reference: &Reference) -> NetResult<Vec<String>> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let mut all = BTreeSet::new();
        let doing =
            |error: NetError| error.wrap(format!("cannot list tags of `{}`", reference.name()));
        self.pages(reference, "tags/list?n=1000", &[], |bytes| {
            let page: Page = spec::from_json("the list of tags", bytes)?;
            all.extend(page.tags.unwrap_or_default());
            Ok(all.len())
        })
        .map_err(doing)?
        .ok_or_else(|| {
            let error = Error::image(format!("{} has no such repository", whom(reference)));
            doing(NetError::new(Trouble::NotFound, error))
        })?;
        Ok(all.into_iter().collect())
    }

    /// What refers to the manifest of `digest`, of one artifact type when that is given.
    pub fn referrers(
        &self,
        reference: &Reference,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> NetResult<Referrers> {
        let mut list = Vec::new();
        let doing = |error: NetError| error.wrap(format!("cannot list what refers to {digest}"));
        let mut add = |bytes: &[u8]| {
            let index: ImageIndex = spec::from_json("the list of referrers", bytes)?;
            list.extend(index.manifests().iter().cloned());
            Ok(list.len())
        };
        // The filter of a registry is optional, so it is not asked for: the rest is sorted out below.
        let path = format!("referrers/{digest}");
        let api = self.pages(reference, &path, &[OCI_INDEX], &mut add).map_err(doing)?.is_some();
        if !api {
            let tagged = Reference {
                tag: Some(format!("sha256-{}", digest.hex())),
                digest: None,
                ..reference.clone()
            };
            if let Some((_, bytes)) = self.current(&tagged).map_err(doing)? {
                add(&bytes).map_err(|error| doing(NetError::new(Trouble::Broken, error)))?;
            }
        }
        if let Some(wanted) = artifact_type {
            list.retain(|found| {
                found.artifact_type().as_ref().is_some_and(|found| found.as_ref() == wanted)
            });
        }
        Ok(Referrers { list, api })
    }

    /// Deletes a manifest by digest, or a tag alone; false where the registry cannot delete tags.
    pub fn delete(&self, reference: &Reference) -> NetResult<bool> {
        let whom = whom(reference);
        let answer = self.ask_origin(&Wish {
            reference,
            method: "DELETE",
            path: Path::Below(&manifest_path(reference)),
            accept: &[],
            headers: &[],
            from: 0,
            payload: Payload::None,
            access: Access::Delete,
        })?;
        match answer.status {
            200 | 202 | 204 => Ok(true),
            400 | 405 if reference.digest.is_none() => Ok(false),
            405 => {
                let error = Error::registry(format!("{whom} does not delete"))
                    .cause(format!("DELETE {}: status 405", answer.url))
                    .hint("deleting must be switched on in the registry's configuration, or done there");
                Err(NetError::new(Trouble::Refused, error))
            }
            _ => Err(answer.refusal(&whom)),
        }
        .map_err(|error| error.wrap(format!("cannot delete `{reference}`")))
    }

    /// Reads a list page by page by its `Link` headers; `take` gives the number of items so far. `None` when there is
    /// no such list.
    fn pages(
        &self,
        reference: &Reference,
        first: &str,
        accept: &[&str],
        mut take: impl FnMut(&[u8]) -> crate::error::Result<usize>,
    ) -> NetResult<Option<()>> {
        let whom = whom(reference);
        let mut path = first.to_owned();
        let mut seen = BTreeSet::new();
        for _ in 0..MAX_PAGES {
            let answer = self.ask(reference, "GET", &path, accept, 0)?;
            match answer.status {
                200 => {}
                404 if seen.is_empty() => return Ok(None),
                _ => return Err(answer.refusal(&whom)),
            }
            let next = answer.header("link").and_then(next_page).map(str::to_owned);
            let page = small(answer, &whom, MAX_PAGE, self.document_time())?;
            let count = take(&page.bytes).map_err(|error| NetError::new(Trouble::Broken, error))?;
            if count > MAX_ITEMS {
                break;
            }
            seen.insert(path);
            let Some(next) = next else { return Ok(Some(())) };
            path = same_list(&next, first).ok_or_else(|| {
                NetError::broken(format!("{whom} has a list whose next page is elsewhere"))
            })?;
            if seen.contains(&path) {
                return Err(NetError::broken(format!("{whom} has a list that leads to itself")));
            }
        }
        Err(NetError::broken(format!("{whom} has a list without an end")))
    }
}

/// The target of `<target>; rel="next"` (RFC 8288).
fn next_page(link: &str) -> Option<&str> {
    let mut rest = link;
    while let Some(start) = rest.find('<') {
        let (target, after) = rest[start + 1..].split_once('>')?;
        let parameters = after.split(',').next().unwrap_or_default();
        let is_next = parameters.split(';').any(|parameter| {
            let parameter = parameter.trim().replace(['"', ' '], "");
            parameter.eq_ignore_ascii_case("rel=next")
        });
        if is_next {
            return Some(target);
        }
        rest = after;
    }
    None
}

/// A page's address as a path below the repository. Only the query counts, whatever host and repository the address names:
/// what is asked is always the list that was asked first, which may have another name there.
fn same_list(target: &str, first: &str) -> Option<String> {
    let list = first.split('?').next().unwrap_or_default();
    let (path, query) = target.split_once('?')?;
    let plain = query.bytes().all(|b| b.is_ascii_graphic());
    (path.ends_with(&format!("/{list}")) && plain).then(|| format!("{list}?{query}"))
}

/// `None` for what is not there.
fn found<T>(result: NetResult<T>) -> NetResult<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.trouble() == Trouble::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn digest_of(descriptor: &Descriptor) -> NetResult<Digest> {
    spec::digest_of(descriptor)
        .map_err(|error| NetError::new(Trouble::Broken, error.with_kind(ErrorKind::Integrity)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_a_next_page() {
        assert_eq!(
            next_page("</v2/a/tags/list?last=x&n=2>; rel=\"next\""),
            Some("/v2/a/tags/list?last=x&n=2")
        );
        assert_eq!(next_page("</a>; rel=prev, </b>; title=x; rel=next"), Some("/b"));
        assert_eq!(next_page("</a>; rel=prev"), None);
        assert_eq!(next_page("<"), None);
        let page = |target| same_list(target, "tags/list?n=1000");
        let wanted = Some("tags/list?last=x".to_owned());
        assert_eq!(page("/v2/a/b/tags/list?last=x"), wanted);
        assert_eq!(page("https://elsewhere/v2/other/tags/list?last=x"), wanted);
        for bad in ["/v2/a/b/tags/list", "/v2/a/b/c?last=x", "tags/list?x", "/v2/tags/list?x y", ""]
        {
            assert_eq!(page(bad), None, "{bad}");
        }
    }
}
