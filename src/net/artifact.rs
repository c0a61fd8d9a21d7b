//! Documents and single blobs of a repository, for what is kept there and is no image.
//!
//! Everything that comes is checked against its digest; what a document means is the caller's to find out.

use super::blob::Source;
use super::failure::{NetError, NetResult, Trouble};
use super::manifest;
use super::registry::Registry;
use crate::oci::Reference;
use crate::oci::layout::Layout;
use crate::oci::spec::{self, Descriptor};
use std::sync::atomic::AtomicBool;

impl Registry {
    /// The manifest or index that a name means now, by mirrors too.
    pub fn look_up(&self, reference: &Reference) -> NetResult<(Descriptor, Vec<u8>)> {
        self.may_pull(reference)?;
        let document = manifest::fetch(self, reference, None)?;
        Ok((document.descriptor(), document.bytes))
    }

    /// The same for an entry of an index, whose size must be right, too.
    pub fn look_up_entry(&self, reference: &Reference, entry: &Descriptor) -> NetResult<Vec<u8>> {
        let exact = reference.with_digest(digest_of(entry)?);
        Ok(manifest::fetch(self, &exact, Some(entry))?.bytes)
    }

    /// Brings a blob into a layout, checked for size and digest; one that breaks off goes on where it stopped, now or
    /// when it is asked for the next time.
    pub fn fetch_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        layout: &Layout,
    ) -> NetResult<()> {
        let digest = digest_of(blob)?;
        let (size, never) = (blob.size(), AtomicBool::new(false));
        let source = Source { registry: self, reference, digest: &digest, size, over: &never };
        source.store(layout)
    }
}

fn digest_of(descriptor: &Descriptor) -> NetResult<crate::oci::Digest> {
    spec::digest_of(descriptor).map_err(|error| NetError::new(Trouble::Broken, error))
}
