//! Packages in registries: `pkg push`, `pkg manifest`, `pkg remote-tag`, `cache push` (linuxkit.md §6).
//!
//! In: names in the cache; out: images, their `-<arch>` tags and the index over them in the registry. Many machines push
//! one index, each its own architectures, and a registry has no way to change an index in one step. So nobody believes
//! in a PUT: it is read again, and put again with what is missing. An entry that another machine overwrote comes back by
//! its `-<arch>` tag, which is pushed before the last look: whoever puts the index last has seen the tags of all others.

mod release;
mod rules;

use super::cache::PkgCache;
use super::remote::Remote;
use crate::error::{Error, ErrorKind, Result};
use crate::net::{Pushed, Registry};
use crate::oci::blobs::{self, Blobs, Parsed};
use crate::oci::media::{self, Document};
use crate::oci::spec::{self, Descriptor, ImageConfig, ImageManifest};
use crate::oci::{Digest, Platform, Reference};
use crate::progress::Emitter;
use serde_json::Value;

/// Architectures whose tags are looked for.
pub const ARCHES: [&str; 9] =
    ["amd64", "arm64", "s390x", "riscv64", "ppc64le", "arm", "386", "loong64", "mips64le"];
/// Times that an index is put again.
const MAX_ROUNDS: usize = 50;

/// What of a package is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tags {
    /// The index under the name itself.
    pub index: bool,
    /// `NAME-<arch>` for each image.
    pub arches: bool,
}

/// The way from the cache to registries.
pub struct Publisher<'a> {
    cache: &'a PkgCache,
    remote: &'a Remote,
    emitter: &'a Emitter,
    say: &'a dyn Fn(&str) -> Result<()>,
}

impl std::fmt::Debug for Publisher<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("cache", &self.cache).finish_non_exhaustive()
    }
}

/// A manifest with its platform, as an index names it.
struct Entry {
    value: Value,
    descriptor: Descriptor,
    platform: Option<Platform>,
}

impl<'a> Publisher<'a> {
    /// Connects to nothing yet.
    pub fn new(
        cache: &'a PkgCache,
        remote: &'a Remote,
        emitter: &'a Emitter,
        say: &'a dyn Fn(&str) -> Result<()>,
    ) -> Self {
        Self { cache, remote, emitter, say }
    }

    /// Pushes what the cache has under a canonical name; false when it has nothing there.
    pub fn push(&self, name: &str, tags: Tags) -> Result<bool> {
        let Some(root) = self.cache.find(name)? else { return Ok(false) };
        let target = Reference::parse(name)?;
        let bytes = self.cache.layout().required(&root)?;
        if matches!(blobs::parse(&root, &bytes)?, Parsed::Manifest(_)) {
            self.push_lone(&root, &target)?;
            return Ok(true);
        }
        let ours = self.complete(&spec::from_json("an index", &bytes)?)?;
        if !ours.iter().any(|entry| entry.platform.is_some()) {
            return Ok(false);
        }
        self.push_entries(&ours, &target)?;
        let values: Vec<Value> = ours.iter().map(|entry| entry.value.clone()).collect();
        if tags.index {
            self.put_index(&target, &values)?;
        }
        if tags.arches {
            for entry in &ours {
                self.tag_arch(&target, entry)?;
            }
        }
        if tags.index {
            if tags.arches {
                self.settle(&target, &values)?;
            }
            self.tell_index(&target)?;
        }
        Ok(true)
    }

    /// `pkg manifest`: the index out of the `-<arch>` tags that the registry has.
    pub fn manifest(&self, name: &str) -> Result<()> {
        let target = Reference::parse(name)?;
        let mut found = Vec::new();
        for arch in ARCHES {
            match self.of_arch(&target, arch)? {
                Some(entry) => found.push(entry),
                None => self.emitter.note(format!("{name}-{arch} is not in the registry, skipped")),
            }
        }
        if found.is_empty() {
            return Err(Error::package(format!("no image of {name} is in the registry"))
                .cause(format!("none of the tags {} is there", tag_names(&target)))
                .hint("push the images first: `pkg push`, or `pkg push --manifest=false` on each machine"));
        }
        self.put_index(&target, &found)?;
        self.tell_index(&target)
    }

    /// Gives what a registry has under a name another one.
    pub fn remote_tag(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (Reference::parse(from)?, Reference::parse(to)?);
        if to.digest.is_some() {
            return Err(Error::usage(format!("only a tag can be given: `{to}` has a digest")));
        }
        let Some((descriptor, bytes)) = self.client()?.current(&from)? else {
            return Err(Error::new(ErrorKind::Image, format!("`{from}` is not in the registry")));
        };
        if self
            .client()?
            .current(&to)?
            .is_some_and(|(there, _)| there.digest() == descriptor.digest())
        {
            return (self.say)(&format!("{to} is {} already", descriptor.digest()));
        }
        if (&from.registry, &from.repository) == (&to.registry, &to.repository) {
            self.client()?.put_manifest(&to, descriptor.media_type().as_ref(), &bytes)?;
            return self.told(&Pushed { name: to, descriptor });
        }
        let pushed = self.remote.copy(&from, &to)?;
        pushed.iter().try_for_each(|pushed| self.told(pushed))
    }

    fn client(&self) -> Result<&Registry> {
        self.remote.client()
    }

    fn told(&self, pushed: &Pushed) -> Result<()> {
        (self.say)(&pushed.line())
    }

    fn push_lone(&self, root: &Descriptor, target: &Reference) -> Result<()> {
        let there = self.client()?.current(target)?;
        let same = there.is_some_and(|(there, _)| there.digest() == root.digest());
        if same {
            return (self.say)(&format!("{target} is there already"));
        }
        let layout = self.cache.layout();
        let pushed =
            self.client()?.push(layout, root, std::slice::from_ref(target), self.emitter)?;
        pushed.iter().try_for_each(|pushed| self.told(pushed))
    }

    /// The entries of a local index that are here whole, attestations of such images included.
    fn complete(&self, index: &Value) -> Result<Vec<Entry>> {
        let mut found: Vec<Entry> = Vec::new();
        for value in rules::entries(index) {
            let descriptor: Descriptor =
                serde_json::from_value(value.clone()).map_err(|error| {
                    Error::integrity("an index of the cache is damaged").cause(error)
                })?;
            let whole = blobs::reachable(self.cache.layout(), &descriptor)
                .and_then(|found| found.require_one_complete().map(drop));
            match whole {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Integrity => continue,
                Err(error) => return Err(error),
            }
            let attests = media::is_attestation(&descriptor);
            let platform = (!attests).then(|| Platform::of_descriptor(&descriptor)).flatten();
            found.push(Entry { value: value.clone(), descriptor, platform });
        }
        Ok(found)
    }

    /// Blobs and manifests, under their digests.
    fn push_entries(&self, entries: &[Entry], target: &Reference) -> Result<()> {
        for entry in entries {
            let digest = spec::digest_of(&entry.descriptor)?;
            let by_digest = Reference { tag: None, ..target.with_digest(digest) };
            self.client()?.push(
                self.cache.layout(),
                &entry.descriptor,
                &[by_digest],
                self.emitter,
            )?;
        }
        Ok(())
    }

    /// Puts the index with `ours` in it, until the registry has it.
    fn put_index(&self, target: &Reference, ours: &[Value]) -> Result<()> {
        for _ in 0..MAX_ROUNDS {
            let remote = self.index_of(target)?;
            let Some(index) = rules::merged(remote.as_ref(), ours) else { return Ok(()) };
            let bytes = spec::to_json(&index)?;
            let kind = index["mediaType"].as_str().unwrap_or(media::OCI_INDEX).to_owned();
            self.client()?.put_manifest(target, &kind, &bytes)?;
        }
        Err(Error::package(format!("the index {target} changes all the time"))
            .cause(format!("other machines put another one {MAX_ROUNDS} times"))
            .hint("look who pushes it, and push again"))
    }

    /// What the registry has under the name; none when there is nothing. An image that is no index would be lost.
    fn index_of(&self, target: &Reference) -> Result<Option<Value>> {
        let Some((descriptor, bytes)) = self.client()?.current(target)? else { return Ok(None) };
        if media::kind_of(descriptor.media_type().as_ref()) == Some(Document::Manifest) {
            return Err(Error::package(format!("`{target}` in the registry is no index"))
                .hint("remove it there, or choose another tag"));
        }
        spec::from_json("an index", &bytes).map(Some)
    }

    fn tag_arch(&self, target: &Reference, entry: &Entry) -> Result<()> {
        let Some(platform) = &entry.platform else { return Ok(()) };
        let name = with_arch(target, &platform.architecture);
        let there = self.client()?.current(&name)?;
        if there.is_none_or(|(there, _)| there.digest() != entry.descriptor.digest()) {
            let bytes = self.cache.layout().required(&entry.descriptor)?;
            let kind = entry.descriptor.media_type().to_string();
            self.client()?.put_manifest(&name, &kind, &bytes)?;
        }
        self.told(&Pushed { name, descriptor: entry.descriptor.clone() })
    }

    /// After the tags are there: entries of ours and of others that a PUT at the same time took away come back.
    fn settle(&self, target: &Reference, ours: &[Value]) -> Result<()> {
        for _ in 0..MAX_ROUNDS {
            let mut found = Vec::new();
            for arch in ARCHES {
                found.extend(self.of_arch(target, arch)?);
            }
            let Some(index) = self.index_of(target)? else { return self.put_index(target, ours) };
            let mut wanted = ours.to_vec();
            wanted.extend(rules::lacking(&index, found));
            if rules::merged(Some(&index), &wanted).is_none() {
                return Ok(());
            }
            self.put_index(target, &wanted)?;
        }
        Ok(())
    }

    /// The entry that a `-<arch>` tag stands for.
    fn of_arch(&self, target: &Reference, arch: &str) -> Result<Option<Value>> {
        let name = with_arch(target, arch);
        let Some((mut descriptor, bytes)) = self.client()?.current(&name)? else { return Ok(None) };
        let Parsed::Manifest(manifest) = blobs::parse(&descriptor, &bytes)? else {
            self.emitter
                .warn(format!("`{name}` in the registry is an index, not an image: passed over"));
            return Ok(None);
        };
        let platform = self.platform_of(&name, &manifest)?;
        if platform.architecture != arch {
            self.emitter.warn(format!("`{name}` in the registry is for {platform}: passed over"));
            return Ok(None);
        }
        descriptor.set_platform(Some(platform.to_oci()));
        let value = serde_json::to_value(&descriptor)
            .map_err(|error| Error::internal("JSON of a descriptor").cause(error))?;
        Ok(Some(value))
    }

    fn platform_of(&self, name: &Reference, manifest: &ImageManifest) -> Result<Platform> {
        let bytes = self.client()?.config(name, manifest.config())?;
        let config: ImageConfig = spec::from_json("image config", &bytes)?;
        Ok(Platform::of_config(&config))
    }

    /// Says what the name means in the registry now.
    fn tell_index(&self, target: &Reference) -> Result<()> {
        let Some((descriptor, _)) = self.client()?.current(target)? else { return Ok(()) };
        self.told(&Pushed { name: target.clone(), descriptor })
    }
}

/// `NAME-<arch>`.
fn with_arch(target: &Reference, arch: &str) -> Reference {
    let tag = target.tag.as_deref().unwrap_or("latest");
    Reference { tag: Some(format!("{tag}-{arch}")), digest: None, ..target.clone() }
}

fn tag_names(target: &Reference) -> String {
    let names: Vec<String> =
        ARCHES.iter().map(|arch| with_arch(target, arch).tag.unwrap_or_default()).collect();
    names.join(", ")
}

/// Digest and size, as `docker push` ends: `TAG: digest: sha256:… size: N`.
pub fn line_of(name: &str, digest: &Digest, size: u64) -> Result<String> {
    let descriptor = spec::descriptor(media::OCI_INDEX.into(), digest, size);
    Ok(Pushed { name: Reference::parse(name)?, descriptor }.line())
}
