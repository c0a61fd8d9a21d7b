//! What is asked of a registry, wherever that is.

use super::http::Payload;
use super::url::Url;
use crate::oci::Reference;

/// What is asked of a registry, wherever that is.
pub(super) struct Wish<'a> {
    pub(super) reference: &'a Reference,
    pub(super) method: &'static str,
    pub(super) path: Path<'a>,
    pub(super) accept: &'a [&'a str],
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) from: u64,
    pub(super) payload: Payload<'a>,
    pub(super) access: Access<'a>,
}

/// Where a request goes.
#[derive(Clone, Copy)]
pub(super) enum Path<'a> {
    /// Below the repository.
    Below(&'a str),
    /// Where an answer of the registry said.
    At(&'a Url),
}

/// What a token must be good for.
#[derive(Clone, Copy)]
pub(super) enum Access<'a> {
    /// What the registry asks for, else reading.
    Read,
    /// Reading and writing the repository, and reading another one of this registry.
    Write { from: Option<&'a str> },
    /// Removing from the repository.
    Delete,
}

impl Access<'_> {
    /// Scopes of a token; none where the registry's word counts.
    pub(super) fn scopes(self, repository: &str) -> Vec<String> {
        match self {
            Self::Read => Vec::new(),
            Self::Write { from } => {
                let other = from.map(|from| format!("repository:{from}:pull"));
                let own = format!("repository:{repository}:pull,push");
                [own].into_iter().chain(other).collect()
            }
            Self::Delete => vec![format!("repository:{repository}:pull,delete")],
        }
    }
}
