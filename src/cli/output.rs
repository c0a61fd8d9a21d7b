//! `--output`, `--load` and `--push` as typed → [`OutputSpec`], and the names and annotations that outputs carry.

use super::environment::Environment;
use crate::build::request::{OutputKind, OutputSpec};
use crate::error::{Error, Result};
use crate::layers::compress::{GZIP_LEVEL, ZSTD_LEVEL};
use crate::net::EngineConfig;
use std::path::PathBuf;

/// What the outputs of a build say together.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    pub(super) specs: Vec<OutputSpec>,
    /// Names of `name=`, which the image gets as by `--tag`.
    pub(super) names: Vec<String>,
    /// Annotations of `annotation.KEY=`, spelt as for `--annotation`.
    pub(super) annotations: Vec<String>,
    /// `oci-mediatypes=false`.
    pub(super) docker_types: bool,
    /// `rewrite-timestamp=false`.
    pub(super) keep_times: bool,
    /// `push-by-digest=true`.
    pub(super) by_digest: bool,
    /// `registry.insecure=true`: the registries of all names may speak plain http or show any certificate.
    pub(super) insecure: bool,
}

/// All outputs of a build: those that are spelt out, and those of `--load` and `--push`.
pub(super) fn all(
    texts: &[String],
    further: &[(bool, OutputKind)],
    build: &BuildCompression<'_>,
) -> Result<Outputs> {
    let mut all = Outputs::default();
    for text in texts {
        let spec = parse(text, build, &mut all)?;
        all.specs.push(spec);
    }
    for (wanted, kind) in further {
        let there = all.specs.iter().any(|spec| spec.kind == *kind);
        all.specs.extend((*wanted && !there).then_some(OutputSpec { kind: *kind, dest: None }));
    }
    Ok(all)
}

/// Compression of the layers of a build, as its flags spell it.
#[derive(Clone, Copy, Debug)]
pub(super) struct BuildCompression<'a> {
    pub(super) name: &'a str,
    pub(super) level: Option<i32>,
}

impl BuildCompression<'_> {
    /// The level that layers get: the usual one where none is named.
    fn level_of_layers(&self) -> Option<i32> {
        match self.name {
            "gzip" => self.level.or(Some(i32::from(GZIP_LEVEL))),
            "zstd" => self.level.or(Some(ZSTD_LEVEL)),
            _ => None,
        }
    }
}

/// The engines that the outputs may need; where they need none, the environment may say what it likes.
pub(super) fn engine(outputs: &[OutputSpec], environment: &Environment) -> Result<EngineConfig> {
    if outputs.iter().any(|output| output.kind == OutputKind::Load) {
        return environment.engine();
    }
    Ok(EngineConfig::default())
}

/// `type=…,dest=…`, or just a path: a directory for the root file system, `-` for its tar.
fn parse(text: &str, build: &BuildCompression<'_>, all: &mut Outputs) -> Result<OutputSpec> {
    if !text.contains('=') {
        return Ok(match text {
            "-" => OutputSpec { kind: OutputKind::Tar, dest: None },
            path => OutputSpec { kind: OutputKind::Local, dest: Some(path.into()) },
        });
    }
    let (mut kind, mut dest, mut tar, mut push) = (None, None, None, false);
    for part in fields(text).map_err(|why| bad(text, why))? {
        let (key, value) = part
            .split_once('=')
            .ok_or_else(|| bad(text, &format!("`{part}` is no `key=value`")))?;
        match key.trim().to_ascii_lowercase().as_str() {
            "type" => kind = Some(value.to_owned()),
            "dest" => dest = Some(value.to_owned()),
            "tar" => tar = Some(boolean(text, "tar", value)?),
            "name" => {
                let list = value.split(',').map(str::trim).filter(|name| !name.is_empty());
                all.names.extend(list.map(str::to_owned));
            }
            key if key.starts_with("annotation") => {
                // The key of an annotation keeps its case.
                all.annotations.push(annotation(text, part.trim(), value)?);
            }
            key @ "push" => push |= boolean(text, key, value)?,
            key @ "push-by-digest" => all.by_digest |= boolean(text, key, value)?,
            key @ "registry.insecure" => all.insecure |= boolean(text, key, value)?,
            key @ "oci-mediatypes" => all.docker_types |= !boolean(text, key, value)?,
            key @ "rewrite-timestamp" => all.keep_times |= !boolean(text, key, value)?,
            key => further(text, key, value, build)?,
        }
    }
    let kind = kind.ok_or_else(|| bad(text, "it has no `type`"))?;
    let kind = match &*kind {
        "image" if push => "registry",
        kind if push && kind != "registry" => {
            return Err(bad(text, &format!("`{kind}` cannot be pushed"))
                .hint("use `type=registry` besides it"));
        }
        kind => kind,
    };
    finish(text, kind, dest.as_deref(), tar)
}

/// Puts kind and place together.
fn finish(text: &str, kind: &str, dest: Option<&str>, tar: Option<bool>) -> Result<OutputSpec> {
    let path = dest.filter(|dest| *dest != "-").map(PathBuf::from);
    let directory =
        tar == Some(false) || (tar.is_none() && path.as_ref().is_some_and(|p| p.is_dir()));
    let kind = match kind {
        "oci" if directory => OutputKind::OciDirectory,
        "oci" => OutputKind::OciArchive,
        "docker" if dest.is_none() => OutputKind::Load,
        "docker" => OutputKind::Docker,
        "tar" => OutputKind::Tar,
        "local" => OutputKind::Local,
        "image" => OutputKind::Image,
        "registry" => OutputKind::Registry,
        other => {
            return Err(bad(text, &format!("unknown type `{other}`"))
                .hint("the types are oci, docker, tar, local, image and registry"));
        }
    };
    let needs_path = matches!(kind, OutputKind::Local | OutputKind::OciDirectory);
    if needs_path && path.is_none() {
        return Err(bad(text, "a directory needs `dest`"));
    }
    let nowhere = matches!(kind, OutputKind::Image | OutputKind::Load | OutputKind::Registry);
    if dest.is_none() && !nowhere {
        return Err(bad(text, "it has no `dest`").hint("`dest=-` writes to standard output"));
    }
    Ok(OutputSpec { kind, dest: path })
}

/// Options of BuildKit's exporters that ask for what is done anyway; any other wish is an error, never overheard.
fn further(text: &str, key: &str, value: &str, build: &BuildCompression<'_>) -> Result<()> {
    let same = match key {
        "store" => boolean(text, key, value)?,
        "force-compression" | "unpack" => !boolean(text, key, value)?,
        "compression" => {
            let name = if value == "uncompressed" { "none" } else { value };
            if !["none", "gzip", "zstd", "estargz"].contains(&name) {
                return Err(bad(text, &format!("unknown compression `{value}`")));
            }
            if name == "estargz" {
                return Err(not_yet(text, key).hint(
                    "eStargz is not written; `--compression gzip` and `--compression zstd` count for all outputs",
                ));
            }
            if name != build.name {
                return Err(not_yet(text, key)
                    .hint(format!("`--compression {name}` counts for all outputs")));
            }
            true
        }
        "compression-level" => {
            let level: i32 =
                value.parse().map_err(|_| bad(text, "`compression-level` is no number"))?;
            if Some(level) != build.level_of_layers() {
                return Err(not_yet(text, key)
                    .hint(format!("`--compression-level {level}` counts for all outputs")));
            }
            true
        }
        "attestation-prefix"
        | "context"
        | "dangling-name-prefix"
        | "name-canonical"
        | "oci-artifact"
        | "platform-split"
        | "mode" => false,
        other => {
            return Err(bad(text, &format!("unknown key `{other}`"))
                .hint("the keys are `type`, `dest`, `tar`, `name`, `annotation.KEY`, and those of docs/cli.md"));
        }
    };
    if same { Ok(()) } else { Err(not_yet(text, key)) }
}

/// `annotation.KEY`, `annotation-TYPE.KEY` or `annotation-TYPE[PLATFORM].KEY` as `--annotation` has it.
fn annotation(text: &str, part: &str, value: &str) -> Result<String> {
    let left = part[..part.len() - value.len() - 1].trim();
    let left = &left["annotation".len()..];
    let missing = || bad(text, "an annotation has no key");
    let end = match left.find(']') {
        Some(bracket) => bracket + left[bracket..].find('.').ok_or_else(missing)?,
        None => left.find('.').ok_or_else(missing)?,
    };
    let (place, key) = (&left[..end], &left[end + 1..]);
    if key.is_empty() {
        return Err(missing());
    }
    let place = match (place, place.strip_prefix('-')) {
        ("", _) => "manifest".to_owned(),
        (_, Some(kind)) => kind.to_owned(),
        (place, None) if place.starts_with('[') => format!("manifest{place}"),
        _ => return Err(bad(text, &format!("unknown key `annotation{place}`"))),
    };
    Ok(format!("{place}:{key}={value}"))
}

/// Parts between commas. Quotes around a part, and a backslash before a comma, keep commas in it.
pub(super) fn fields(text: &str) -> std::result::Result<Vec<String>, &'static str> {
    let mut all = Vec::new();
    let mut part = String::new();
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                part.push('"');
            }
            '"' if quoted => {
                quoted = false;
                if !matches!(chars.peek(), None | Some(',')) {
                    return Err("something follows a closing quote");
                }
            }
            '"' if part.is_empty() => quoted = true,
            '\\' if !quoted && chars.peek() == Some(&',') => {
                chars.next();
                part.push(',');
            }
            ',' if !quoted => all.push(std::mem::take(&mut part)),
            c => part.push(c),
        }
    }
    if quoted {
        return Err("a quote is not closed");
    }
    all.push(part);
    Ok(all)
}

fn boolean(text: &str, key: &str, value: &str) -> Result<bool> {
    crate::boolean::parse(value).ok_or_else(|| bad(text, &format!("`{key}` is true or false")))
}

fn not_yet(text: &str, key: &str) -> Error {
    Error::environment(format!("not yet supported: `{key}` of the output `{text}`"))
}

fn bad(text: &str, why: &str) -> Error {
    Error::usage(format!("bad output `{text}`: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GZIP: BuildCompression<'_> = BuildCompression { name: "gzip", level: None };

    fn one(text: &str) -> std::result::Result<Outputs, String> {
        let texts = [text.to_owned()];
        all(&texts, &[], &GZIP).map_err(|error| format!("{} {error}", error.kind().exit_code()))
    }

    #[test]
    fn outputs_are_read_as_buildx_reads_them() {
        let check = |text: &str, kind, dest: Option<&str>| {
            let dest = dest.map(PathBuf::from);
            assert_eq!(one(text).unwrap().specs, [OutputSpec { kind, dest }], "{text}");
        };
        check("type=oci,dest=x.tar", OutputKind::OciArchive, Some("x.tar"));
        check(
            "type=oci,dest=/nonexistent,tar=false",
            OutputKind::OciDirectory,
            Some("/nonexistent"),
        );
        check("type=oci,dest=/", OutputKind::OciDirectory, Some("/"));
        check("type=oci,\"dest=a,b\"", OutputKind::OciArchive, Some("a,b"));
        check("type=docker,dest=-", OutputKind::Docker, None);
        check("type=docker", OutputKind::Load, None);
        check("type=registry", OutputKind::Registry, None);
        check("type=image,name=a,push=true", OutputKind::Registry, None);
        check("type=registry,push=false,push-by-digest=true", OutputKind::Registry, None);
        assert!(one("type=image,push=true,push-by-digest=true").unwrap().by_digest);
        check("out", OutputKind::Local, Some("out"));
        check("-", OutputKind::Tar, None);
        check(
            "type=image,push=false,oci-mediatypes=true,compression=gzip,force-compression=0,rewrite-timestamp=true",
            OutputKind::Image,
            None,
        );
    }

    #[test]
    fn names_and_annotations_are_those_of_the_image() {
        for text in
            ["type=image,name=a\\,b:2", "type=image,\"name=a,b:2\"", "type=image,name=a,name=b:2"]
        {
            assert_eq!(one(text).unwrap().names, ["a", "b:2"], "{text}");
        }
        let annotated = one("type=image,annotation.a.B=c=d,annotation-index.e=f,annotation-manifest[linux/arm64].g.h=i,annotation[linux/amd64].j=k").unwrap();
        assert_eq!(
            annotated.annotations,
            [
                "manifest:a.B=c=d",
                "index:e=f",
                "manifest[linux/arm64]:g.h=i",
                "manifest[linux/amd64]:j=k"
            ]
        );
    }

    #[test]
    fn media_types_and_times_count_for_all_outputs() {
        let wishes = |text: &str| one(text).map(|all| (all.docker_types, all.keep_times));
        assert_eq!(wishes("type=image"), Ok((false, false)));
        assert_eq!(wishes("type=image,oci-mediatypes=false"), Ok((true, false)));
        assert_eq!(wishes("type=image,oci-mediatypes=1,rewrite-timestamp=0"), Ok((false, true)));
    }

    #[test]
    fn no_wish_is_overheard() {
        for (text, wanted) in [
            ("type=oci", "2 bad output `type=oci`: it has no `dest`"),
            ("type=zip,dest=x", "2 bad output `type=zip,dest=x`: unknown type `zip`"),
            ("dest=x", "2 bad output `dest=x`: it has no `type`"),
            ("type=local,dest=-", "2 bad output `type=local,dest=-`: a directory needs `dest`"),
            ("type=oci,x", "2 bad output `type=oci,x`: `x` is no `key=value`"),
            ("a=b", "2 bad output `a=b`: unknown key `a`"),
            ("type=oci,\"dest=x", "2 bad output `type=oci,\"dest=x`: a quote is not closed"),
            ("type=image,push=x", "2 bad output `type=image,push=x`: `push` is true or false"),
            (
                "type=image,annotation.=x",
                "2 bad output `type=image,annotation.=x`: an annotation has no key",
            ),
            (
                "type=image,annotations.a=x",
                "2 bad output `type=image,annotations.a=x`: unknown key `annotations`",
            ),
            (
                "type=oci,dest=x,push=true",
                "2 bad output `type=oci,dest=x,push=true`: `oci` cannot be pushed",
            ),
            (
                "type=image,compression=zstd",
                "3 not yet supported: `compression` of the output `type=image,compression=zstd`",
            ),
            (
                "type=image,unpack=true",
                "3 not yet supported: `unpack` of the output `type=image,unpack=true`",
            ),
        ] {
            assert_eq!(one(text).map(|_| ()), Err(wanted.to_owned()));
        }
    }

    /// The usual level was another one than the same number, and eStargz came with a flag that does not take it; found by
    /// reading.
    #[test]
    fn compression_is_compared_with_what_layers_get() {
        let said = |name, level, wish: &str| {
            let texts = [format!("type=image,{wish}")];
            let all = all(&texts, &[], &BuildCompression { name, level });
            all.map(drop).map_err(|error| error.hints().join("; "))
        };
        for (name, level, wish) in [
            ("gzip", None, "compression-level=4"),
            ("gzip", Some(9), "compression=gzip,compression-level=9"),
            ("zstd", None, "compression=zstd,compression-level=3"),
            ("none", None, "compression=uncompressed"),
        ] {
            assert_eq!(said(name, level, wish), Ok(()), "{wish}");
        }
        for (name, level, wish, hint) in [
            ("gzip", None, "compression-level=6", "`--compression-level 6` counts for all outputs"),
            (
                "gzip",
                Some(9),
                "compression-level=4",
                "`--compression-level 4` counts for all outputs",
            ),
            ("zstd", None, "compression-level=4", "`--compression-level 4` counts for all outputs"),
            ("gzip", None, "compression=zstd", "`--compression zstd` counts for all outputs"),
            (
                "gzip",
                None,
                "compression=estargz",
                "eStargz is not written; `--compression gzip` and `--compression zstd` count for all outputs",
            ),
        ] {
            assert_eq!(said(name, level, wish), Err(hint.to_owned()), "{wish}");
        }
    }
}
