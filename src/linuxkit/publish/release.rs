//! `--release`: what a package is in the registry gets a second name, that of a release (linuxkit.md §6.5).
//!
//! Nothing is uploaded: everything is in the repository already. The release is the index as all machines made it, not
//! what this one happens to have; a release that is there stays what it is.

use super::{Publisher, rules, with_arch};
use crate::error::{Error, Result};
use crate::net::Pushed;
use crate::oci::Reference;
use crate::oci::spec::{self, Descriptor};

impl Publisher<'_> {
    /// Names the index `name` of the registry `release`, and its images `release-<arch>`.
    pub fn release(&self, name: &str, release: &str, arches: bool) -> Result<()> {
        let (from, to) = (Reference::parse(name)?, Reference::parse(release)?);
        if self.client()?.current(&to)?.is_some() {
            return (self.say)(&format!("{to} is in the registry already, not changed"));
        }
        let Some((descriptor, bytes)) = self.client()?.current(&from)? else {
            return Err(Error::package(format!(
                "{name} is not in the registry, so it cannot be released"
            ))
            .hint("push it first"));
        };
        if arches {
            let index = spec::from_json("an index", &bytes)?;
            for entry in rules::entries(&index) {
                self.release_arch(&from, &to, entry)?;
            }
        }
        self.client()?.put_manifest(&to, descriptor.media_type().as_ref(), &bytes)?;
        self.told(&Pushed { name: to, descriptor })?;
        if self.cache.find(name)?.is_none() {
            (self.say)(&format!("Pulling {name} into local cache for release..."))?;
            self.remote.bring_all(name)?;
        }
        let Some(local) = self.cache.find(name)? else { return Ok(()) };
        self.cache.writer()?.set(&[(release.to_owned(), local)])
    }

    fn release_arch(
        &self,
        from: &Reference,
        to: &Reference,
        entry: &serde_json::Value,
    ) -> Result<()> {
        let arch = entry["platform"]["architecture"].as_str().unwrap_or("unknown");
        if arch == "unknown" {
            return Ok(());
        }
        let descriptor: Descriptor = serde_json::from_value(entry.clone()).map_err(|error| {
            Error::registry(format!("the index {from} is damaged")).cause(error)
        })?;
        let digest = spec::digest_of(&descriptor)?;
        let by_digest = Reference { tag: None, ..from.with_digest(digest) };
        let Some((descriptor, bytes)) = self.client()?.current(&by_digest)? else { return Ok(()) };
        let name = with_arch(to, arch);
        if self.client()?.current(&name)?.is_none() {
            self.client()?.put_manifest(&name, descriptor.media_type().as_ref(), &bytes)?;
            self.told(&Pushed { name, descriptor })?;
        }
        Ok(())
    }
}
