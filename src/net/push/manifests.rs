//! Putting manifests and indexes under a digest or a tag, and what registries say when they do not want them.

use super::plan::Plan;
use crate::error::{Error, ErrorKind};
use crate::net::failure::{NetError, NetResult, Trouble};
use crate::net::http::{Answer, Payload};
use crate::net::registry::{Registry, manifest_path, whom};
use crate::net::wish::{Access, Path, Wish};
use crate::net::{manifest, pull};
use crate::oci::spec::Descriptor;
use crate::oci::{Digest, Reference};
use std::time::Duration;

/// QUIRK(docker-registry): while another client writes the same tag, it may read its own half-written link and call our
/// digest invalid, of which we sent none. So many times it is asked again.
const MIXED_UP: u32 = 6;

fn is_digest_invalid(error: &NetError) -> bool {
    error.error().causes().iter().any(|cause| cause.contains("DIGEST_INVALID"))
}

impl Registry {
    /// Puts a manifest or an index whose parts the repository has already. `target` has a tag, or a digest that must
    /// be that of the bytes.
    pub fn put_manifest(
        &self,
        target: &Reference,
        media_type: &str,
        bytes: &[u8],
    ) -> NetResult<()> {
        self.may_push()?;
        let mut retry = self.retry(MIXED_UP);
        let answer = loop {
            let answer = self.ask_origin(&Wish {
                reference: target,
                method: "PUT",
                path: Path::Below(&manifest_path(target)),
                accept: &[],
                headers: &[("content-type", media_type)],
                from: 0,
                payload: Payload::Bytes(bytes),
                access: Access::Write { from: None },
            })?;
            if matches!(answer.status, 200..=204) {
                break answer;
            }
            let mixed_up = answer.status == 400 && target.digest.is_none();
            let refused = refusal(answer, target);
            if !mixed_up || !is_digest_invalid(&refused) {
                return Err(refused);
            }
            let Some(wait) = retry.after_failure(Duration::ZERO) else { return Err(refused) };
            self.wait(&whom(target), "another push came between", wait);
        };
        stored_as(&answer, &Digest::of(bytes), "manifest", target)
    }

    /// What the registry itself has under a name now, without mirrors: for changes that must not lose what others did.
    /// `None` when it has nothing there.
    pub fn current(&self, reference: &Reference) -> NetResult<Option<(Descriptor, Vec<u8>)>> {
        match manifest::fetch_current(self, reference) {
            Ok(document) => Ok(Some((document.descriptor(), document.bytes))),
            Err(error) if error.trouble() == Trouble::NotFound => Ok(None),
            Err(error) => Err(error.wrap(format!("cannot look up `{reference}`"))),
        }
    }

    /// Bytes of the config of an image, checked against its descriptor; nothing is stored.
    pub fn config(&self, reference: &Reference, config: &Descriptor) -> NetResult<Vec<u8>> {
        pull::small_blob(self, reference, config)
            .map_err(|error| error.wrap(format!("cannot look up `{reference}`")))
    }

    pub(super) fn put_root(&self, plan: &Plan, target: &Reference) -> NetResult<()> {
        self.put_manifest(target, &plan.top.media_type, &plan.top.bytes)
    }
}

/// Fails when a registry says that it stored something else than it was sent. It need not say anything.
pub(super) fn stored_as(
    answer: &Answer,
    digest: &Digest,
    what: &str,
    target: &Reference,
) -> NetResult<()> {
    match answer.header("docker-content-digest").map(Digest::parse) {
        // A portal in the way says yes to everything; a registry says 201, or at least what it has.
        None if answer.status == 200 => {
            let error =
                Error::registry(format!("{} does not say that it has the {what}", whom(target)))
                    .cause(format!("PUT {}: status 200 instead of 201", answer.url))
                    .hint("look whether it is a registry that answers there");
            Err(NetError::new(Trouble::Broken, error))
        }
        Some(Ok(stored)) if stored != *digest => {
            let whom = whom(target);
            let message =
                format!("{whom} stored another {what}: expected {digest}, found {stored}");
            Err(NetError::broken(message))
        }
        _ => Ok(()),
    }
}

/// A refused upload, with what can be done about it.
pub(super) fn refusal(answer: Answer, target: &Reference) -> NetError {
    let (status, whom) = (answer.status, whom(target));
    let error = answer.refusal(&whom);
    let unknown = error.unknown_blobs().map(<[_]>::to_vec);
    let said = error.error().causes().join(" ").to_ascii_lowercase();
    let new = |message: String, hint: &str| {
        let mut new = Error::new(ErrorKind::Registry, message);
        for cause in error.error().causes() {
            new = new.cause(cause);
        }
        let trouble = if status == 429 { Trouble::Unreachable } else { Trouble::Refused };
        NetError::new(trouble, new.hint(hint)).unknown(unknown.clone())
    };
    if said.contains("immutable") || said.contains("already exists") {
        let message = format!("{whom} does not let this tag change");
        return new(message, "tags of this repository are immutable: push under another tag");
    }
    // A quota of requests is another matter.
    if (said.contains("quota") && status != 429) || status == 507 {
        let hint = "remove images from the repository, or ask for more space";
        return new(format!("{whom} has no space left for this repository"), hint);
    }
    match status {
        401 | 403 => new(
            format!("{whom} does not let you write to `{}`", target.repository),
            "log in as somebody who may push there: `nativebuild login`; some registries want the repository made first",
        ),
        404 => new(
            format!("{whom} has no repository `{}`", target.repository),
            "make the repository first, or check its name for typing errors",
        ),
        405 => new(
            format!("{whom} takes no uploads"),
            "it may be a mirror or read-only; push to the registry itself",
        ),
        400 | 409 | 411 | 412 | 415 | 422 => new(
            format!("{whom} refuses what it was sent"),
            "its own words are above; it may allow fewer parts in a name, or not every kind of image",
        ),
        429 => new(format!("{whom} has had too many requests"), "try again later"),
        413 => new(
            format!("{whom} takes no request of this size"),
            "a proxy before it may have a limit: raise that, or make the layer smaller",
        ),
        _ => error,
    }
}
