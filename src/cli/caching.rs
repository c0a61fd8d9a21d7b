//! `--cache-to` and `--cache-from` as typed → [`SharedCaches`].
//!
//! The spellings are buildx's: `type=…,key=value,…`, or a bare name of a registry. What would change nothing is
//! accepted; kinds of caches that only one vendor's service has are refused.

use super::environment::Environment;
use super::output::fields;
use super::values;
use crate::boolean;
use crate::build::sharing::{
    CacheFrom, CacheKey, CacheTo, FromPlace, Inline, Mode, Mounts, Pick, SharedCaches, ToPlace,
};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::oci::{Digest, Reference};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The key of all caches that name none.
const KEY_FILE: &str = "NATIVEBUILD_CACHE_KEY_FILE";
/// Build argument of BuildKit that asks for an inline cache.
const INLINE_ARGUMENT: &str = "BUILDKIT_INLINE_CACHE";
/// Name of a cache in a layout, as BuildKit has it.
const TAG: &str = "latest";

/// The caches of a build, and registries that may speak plain http or show any certificate.
#[derive(Debug, Default)]
pub(super) struct Caching {
    pub(super) shared: SharedCaches,
    pub(super) insecure: Vec<String>,
}

/// Which of the two flags.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flag {
    To,
    From,
}

/// What one flag says.
#[derive(Default)]
struct Said {
    kind: String,
    reference: Option<String>,
    dir: Option<String>,
    tag: Option<String>,
    digest: Option<String>,
    mode: Option<Mode>,
    ignore_error: bool,
    mounts: Mounts,
    insecure: bool,
    key: Option<PathBuf>,
}

/// Reads both flags.
pub(super) fn parse(
    (to, from): (&[String], &[String]),
    build_args: &[(String, String)],
    environment: &Environment,
) -> Result<Caching> {
    let mut all = Caching::default();
    let usual = environment.get(KEY_FILE).map(PathBuf::from);
    let usual = usual.filter(|path| !path.as_os_str().is_empty());
    let key = |said: &Said| match said.key.as_ref().or(usual.as_ref()) {
        Some(path) => read_key(path).map(Some),
        None => Ok(None),
    };
    for text in to {
        for said in read(text, Flag::To)? {
            if said.kind == "inline" {
                said.check_inline(text)?;
                all.shared.inline = Some(Inline { key: key(&said)? });
                continue;
            }
            let place = said.written_place(text)?;
            all.note_insecure(&said)?;
            let (mode, key) = (said.mode.unwrap_or_default(), key(&said)?);
            let (ignore_error, mounts) = (said.ignore_error, said.mounts.clone());
            if all.shared.to.iter().any(|known| known.place == place) {
                return Err(bad(text, Flag::To, "that cache is written already"));
            }
            all.shared.to.push(CacheTo { place, mode, ignore_error, mounts, key });
        }
    }
    let inline = build_args.iter().rev().find(|(name, _)| name == INLINE_ARGUMENT);
    if all.shared.inline.is_none()
        && inline.is_some_and(|(_, value)| boolean::parse(value) == Some(true))
    {
        all.shared.inline = Some(Inline { key: key(&Said::default())? });
    }
    for text in from {
        for said in read(text, Flag::From)? {
            let place = said.read_place(text)?;
            all.note_insecure(&said)?;
            let key = key(&said)?;
            all.shared.from.push(CacheFrom { place, key });
        }
    }
    Ok(all)
}

impl Caching {
    /// Directories that are caches, or become ones: what is neither may be a mistake, and is no less a part of a context.
    pub(super) fn directories(&self) -> Vec<PathBuf> {
        let is_layout = |dir: &PathBuf| dir.join("oci-layout").is_file();
        let is_free = |dir: &PathBuf| match std::fs::read_dir(dir) {
            Ok(mut names) => names.next().is_none(),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        };
        let written = self.shared.to.iter().filter_map(|cache| match &cache.place {
            ToPlace::Local { dir, .. } => Some(dir).filter(|dir| is_layout(dir) || is_free(dir)),
            ToPlace::Registry(_) => None,
        });
        let read = self.shared.from.iter().filter_map(|cache| match &cache.place {
            FromPlace::Local { dir, .. } => Some(dir).filter(|dir| is_layout(dir)),
            FromPlace::Registry(_) => None,
        });
        let all: BTreeSet<&PathBuf> = written.chain(read).collect();
        all.into_iter().cloned().collect()
    }

    fn note_insecure(&mut self, said: &Said) -> Result<()> {
        if let (true, Some(reference)) = (said.insecure, &said.reference) {
            self.insecure.push(values::image_name(reference)?.registry);
        }
        Ok(())
    }
}

fn read_key(path: &Path) -> Result<CacheKey> {
    let what = || format!("cannot read the key file {}", path.display());
    let content = std::fs::read(path).or_error(ErrorKind::Usage, what)?;
    CacheKey::parse(&content)
        .map_err(|error| error.wrap(format!("bad key file {}", path.display())))
}

/// One flag; a list of bare names is several.
fn read(text: &str, flag: Flag) -> Result<Vec<Said>> {
    let fields = fields(text).map_err(|why| bad(text, flag, why))?;
    if fields.iter().any(|field| field.trim().is_empty()) {
        return Err(bad(text, flag, "it is empty, or a part of it is"));
    }
    if !text.contains('=') {
        let bare = |name: String| Said {
            kind: "registry".to_owned(),
            reference: Some(name.trim().to_owned()),
            ..Said::default()
        };
        return Ok(fields.into_iter().map(bare).collect());
    }
    let mut said = Said::default();
    for field in fields {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| bad(text, flag, &format!("`{field}` is no `key=value`")))?;
        said.take(&key.trim().to_ascii_lowercase(), value.trim(), (text, flag))?;
    }
    if said.kind.is_empty() {
        return Err(bad(text, flag, "it has no `type`"));
    }
    Ok(vec![said])
}

impl Said {
    fn take(&mut self, key: &str, value: &str, (text, flag): (&str, Flag)) -> Result<()> {
        let truth = || {
            let why = format!("`{key}` is true or false");
            boolean::parse(value).ok_or_else(|| bad(text, flag, &why))
        };
        let given = || Some(value.to_owned());
        match (key, flag) {
            ("type", _) => value.clone_into(&mut self.kind),
            ("ref", _) => self.reference = given(),
            ("dest", Flag::To) | ("src", Flag::From) => self.dir = given(),
            ("tag", _) => self.tag = given(),
            ("digest", Flag::From) => self.digest = given(),
            ("key", _) => self.key = Some(value.into()),
            ("mounts", Flag::To) => self.mounts = self.mounts.and(value),
            ("ignore-error", Flag::To) => self.ignore_error = truth()?,
            ("registry.insecure", _) => self.insecure = truth()?,
            ("mode", Flag::To) => {
                self.mode = Some(match value {
                    "min" => Mode::Min,
                    "max" => Mode::Max,
                    _ => return Err(bad(text, flag, "`mode` is min or max")),
                });
            }
            // Layers are shared as they are in the image.
            ("force-compression" | "oci-mediatypes" | "image-manifest", Flag::To) => {
                truth()?;
            }
            ("compression" | "compression-level", Flag::To) => {}
            _ => return Err(bad(text, flag, &format!("unknown key `{key}`"))),
        }
        Ok(())
    }

    fn check_inline(&self, text: &str) -> Result<()> {
        let others = [("ref", &self.reference), ("dest", &self.dir), ("tag", &self.tag)];
        self.only(&others, text, Flag::To)?;
        if self.mounts != Mounts::None {
            return Err(bad(text, Flag::To, "an image has no cache mounts"));
        }
        if self.mode == Some(Mode::Max) {
            let why = "an image has no layers of other stages";
            return Err(bad(text, Flag::To, why).hint("use a cache of type registry besides it"));
        }
        Ok(())
    }

    fn written_place(&self, text: &str) -> Result<ToPlace> {
        let flag = Flag::To;
        match &*self.kind {
            "registry" => {
                self.only(&[("dest", &self.dir), ("tag", &self.tag)], text, flag)?;
                let reference = self.reference(text, flag)?;
                if reference.digest.is_some() {
                    return Err(bad(text, flag, "a cache is written under a tag, not a digest"));
                }
                Ok(ToPlace::Registry(reference))
            }
            "local" => {
                self.only(&[("ref", &self.reference)], text, flag)?;
                let dir = self.dir.clone().filter(|dir| !dir.is_empty());
                let dir = dir.ok_or_else(|| bad(text, flag, "it has no `dest`"))?;
                Ok(ToPlace::Local { dir: dir.into(), tag: self.layout_tag(text, flag)? })
            }
            other => Err(unknown(other, text, flag)),
        }
    }

    fn read_place(&self, text: &str) -> Result<FromPlace> {
        let flag = Flag::From;
        match &*self.kind {
            "registry" => {
                let others = [("src", &self.dir), ("tag", &self.tag), ("digest", &self.digest)];
                self.only(&others, text, flag)?;
                Ok(FromPlace::Registry(self.reference(text, flag)?))
            }
            "local" => {
                self.only(&[("ref", &self.reference)], text, flag)?;
                let dir = self.dir.clone().filter(|dir| !dir.is_empty());
                let dir = dir.ok_or_else(|| bad(text, flag, "it has no `src`"))?.into();
                let pick = match (&self.digest, &self.tag) {
                    (Some(_), Some(_)) => {
                        return Err(bad(text, flag, "it has a tag and a digest"));
                    }
                    (Some(digest), None) => Pick::Digest(
                        Digest::parse(digest)
                            .map_err(|_| bad(text, flag, "`digest` is no sha256 digest"))?,
                    ),
                    (None, _) => Pick::Tag(self.layout_tag(text, flag)?),
                };
                Ok(FromPlace::Local { dir, pick })
            }
            other => Err(unknown(other, text, flag)),
        }
    }

    /// Fails on keys that belong to another type.
    fn only(&self, others: &[(&str, &Option<String>)], text: &str, flag: Flag) -> Result<()> {
        match others.iter().find(|(_, value)| value.is_some()) {
            Some((key, _)) => {
                Err(bad(text, flag, &format!("the type {} has no `{key}`", self.kind)))
            }
            None => Ok(()),
        }
    }

    fn reference(&self, text: &str, flag: Flag) -> Result<Reference> {
        let name = self.reference.as_deref().ok_or_else(|| bad(text, flag, "it has no `ref`"))?;
        Reference::parse(name).map_err(|error| bad(text, flag, error.message()))
    }

    fn layout_tag(&self, text: &str, flag: Flag) -> Result<String> {
        let tag = self.tag.clone().unwrap_or_else(|| TAG.to_owned());
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if tag.is_empty() || tag.len() > 128 || !tag.bytes().all(plain) {
            return Err(bad(text, flag, "`tag` is no tag"));
        }
        Ok(tag)
    }
}

fn unknown(kind: &str, text: &str, flag: Flag) -> Error {
    let why = match kind {
        "gha" | "s3" | "azblob" => {
            format!("the type {kind} needs a service that only one vendor has")
        }
        _ => format!("unknown type `{kind}`"),
    };
    let types = if flag == Flag::To { "registry, local and inline" } else { "registry and local" };
    bad(text, flag, &why).hint(format!("the types are {types}: docs/cache.md"))
}

fn bad(text: &str, flag: Flag, why: &str) -> Error {
    let flag = if flag == Flag::To { "--cache-to" } else { "--cache-from" };
    Error::usage(format!("bad `{flag} {text}`: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(place: &impl std::fmt::Debug) -> String {
        format!("{place:?}")
    }

    fn to(text: &str) -> std::result::Result<String, String> {
        let said = read(text, Flag::To).map_err(|error| error.to_string())?;
        let one = |said: &Said| {
            let place = said.written_place(text).map_err(|error| error.to_string())?;
            Ok(format!("{place} {:?} {}", said.mode.unwrap_or_default(), said.ignore_error))
        };
        said.iter()
            .map(one)
            .collect::<std::result::Result<Vec<_>, String>>()
            .map(|all| all.join("; "))
    }

    fn from(text: &str) -> std::result::Result<String, String> {
        let said = read(text, Flag::From).map_err(|error| error.to_string())?;
        let one = |said: &Said| said.read_place(text).map(|place| place.to_string());
        let all: Result<Vec<String>> = said.iter().map(one).collect();
        all.map(|all| all.join("; ")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_spellings_of_buildx_and_podman_are_read() {
        for (text, wanted) in [
            ("type=registry,ref=r.io/a:b", "r.io/a:b Min false"),
            ("r.io/a:b", "r.io/a:b Min false"),
            (
                "type=registry,ref=r.io/a:b,mode=max,ignore-error=true,image-manifest=true,oci-mediatypes=true,compression=zstd",
                "r.io/a:b Max true",
            ),
            ("type=local,dest=/c,mode=min", "/c:latest Min false"),
            ("type=local,\"dest=/a,b\",tag=main", "/a,b:main Min false"),
        ] {
            assert_eq!(to(text).as_deref(), Ok(wanted), "{text}");
        }
        let digest = Digest::of(b"x");
        for (text, wanted) in [
            ("a", "docker.io/library/a:latest".to_owned()),
            ("r.io/a,r.io/b:2", "r.io/a:latest; r.io/b:2".to_owned()),
            ("type=registry,ref=r.io/a:b", "r.io/a:b".to_owned()),
            ("type=local,src=c", "c:latest".to_owned()),
            (&format!("type=local,src=c,digest={digest}"), format!("c@{digest}")),
        ] {
            assert_eq!(from(text), Ok(wanted), "{text}");
        }
        assert_eq!(shown(&CacheKey::parse(&[b'k'; 16]).unwrap()), "CacheKey");
    }

    #[test]
    fn bad_values_are_wrong_usage() {
        for (text, why) in [
            ("", "it is empty, or a part of it is"),
            ("type=registry,", "it is empty, or a part of it is"),
            ("ref=a", "it has no `type`"),
            ("type=registry", "it has no `ref`"),
            ("type=registry,ref=r.io/a,dest=x", "the type registry has no `dest`"),
            ("type=registry,ref=A B", "`A B` is not a valid image name"),
            ("type=local", "it has no `dest`"),
            ("type=local,src=x", "unknown key `src`"),
            ("type=local,dest=x,tag=a/b", "`tag` is no tag"),
            ("type=registry,ref=a,mode=all", "`mode` is min or max"),
            ("type=registry,ref=a,ignore-error=x", "`ignore-error` is true or false"),
            ("type=gha", "the type gha needs a service that only one vendor has"),
            ("type=x", "unknown type `x`"),
            ("type=registry,x", "`x` is no `key=value`"),
        ] {
            let found = to(text).unwrap_err();
            assert!(found.starts_with(&format!("bad `--cache-to {text}`: {why}")), "{found}");
        }
        for (text, why) in [
            ("type=local", "it has no `src`"),
            ("type=local,src=x,digest=sha256:1", "`digest` is no sha256 digest"),
            ("type=inline", "unknown type `inline`"),
            ("type=registry,ref=a,mode=max", "unknown key `mode`"),
            ("type=s3", "the type s3 needs a service that only one vendor has"),
        ] {
            assert_eq!(from(text), Err(format!("bad `--cache-from {text}`: {why}")));
        }
    }
}
