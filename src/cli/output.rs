//! `--output` and `--load` as typed → [`OutputSpec`].

use super::environment::Environment;
use crate::build::request::{OutputKind, OutputSpec};
use crate::error::{Error, Result};
use crate::net::EngineConfig;
use std::path::PathBuf;

/// All outputs of a build.
pub(super) fn all(texts: &[String], load: bool) -> Result<Vec<OutputSpec>> {
    let mut outputs = texts.iter().map(|text| parse(text)).collect::<Result<Vec<_>>>()?;
    outputs.extend(load.then_some(OutputSpec { kind: OutputKind::Load, dest: None }));
    Ok(outputs)
}

/// The engines that the outputs may need; where they need none, the environment may say what it likes.
pub(super) fn engine(outputs: &[OutputSpec], environment: &Environment) -> Result<EngineConfig> {
    if outputs.iter().any(|output| output.kind == OutputKind::Load) {
        return environment.engine();
    }
    Ok(EngineConfig::default())
}

/// `type=…,dest=…`, or just a path: a directory for the root file system, `-` for its tar.
pub(super) fn parse(text: &str) -> Result<OutputSpec> {
    if !text.contains('=') {
        return Ok(match text {
            "-" => OutputSpec { kind: OutputKind::Tar, dest: None },
            path => OutputSpec { kind: OutputKind::Local, dest: Some(path.into()) },
        });
    }
    let (mut kind, mut dest, mut tar) = (None, None, None);
    for part in text.split(',') {
        let (key, value) = part
            .split_once('=')
            .ok_or_else(|| bad(text, &format!("`{part}` is no `key=value`")))?;
        match key.trim() {
            "type" => kind = Some(value.to_owned()),
            "dest" => dest = Some(value.to_owned()),
            "tar" => {
                tar = Some(value.parse::<bool>().map_err(|_| bad(text, "`tar` is true or false"))?);
            }
            other => {
                return Err(bad(text, &format!("unknown key `{other}`"))
                    .hint("the keys are `type`, `dest` and `tar`"));
            }
        }
    }
    let kind = kind.ok_or_else(|| bad(text, "it has no `type`"))?;
    let path = dest.as_ref().filter(|dest| *dest != "-").map(PathBuf::from);
    let directory =
        tar == Some(false) || (tar.is_none() && path.as_ref().is_some_and(|p| p.is_dir()));
    let kind = match kind.as_str() {
        "oci" if directory => OutputKind::OciDirectory,
        "oci" => OutputKind::OciArchive,
        "docker" if dest.is_none() => OutputKind::Load,
        "docker" => OutputKind::Docker,
        "tar" => OutputKind::Tar,
        "local" => OutputKind::Local,
        "image" => OutputKind::Image,
        other => {
            return Err(bad(text, &format!("unknown type `{other}`"))
                .hint("the types are oci, docker, tar, local and image"));
        }
    };
    let needs_path = matches!(kind, OutputKind::Local | OutputKind::OciDirectory);
    if needs_path && path.is_none() {
        return Err(bad(text, "a directory needs `dest`"));
    }
    if dest.is_none() && !matches!(kind, OutputKind::Image | OutputKind::Load) {
        return Err(bad(text, "it has no `dest`").hint("`dest=-` writes to standard output"));
    }
    Ok(OutputSpec { kind, dest: path })
}

fn bad(text: &str, why: &str) -> Error {
    Error::usage(format!("bad output `{text}`: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read_as_buildx_reads_them() {
        let check = |text: &str, kind, dest: Option<&str>| {
            let dest = dest.map(PathBuf::from);
            assert_eq!(parse(text).unwrap(), OutputSpec { kind, dest }, "{text}");
        };
        check("type=oci,dest=x.tar", OutputKind::OciArchive, Some("x.tar"));
        check(
            "type=oci,dest=/nonexistent,tar=false",
            OutputKind::OciDirectory,
            Some("/nonexistent"),
        );
        check("type=oci,dest=/", OutputKind::OciDirectory, Some("/"));
        check("type=docker,dest=-", OutputKind::Docker, None);
        check("type=docker", OutputKind::Load, None);
        check("out", OutputKind::Local, Some("out"));
        check("-", OutputKind::Tar, None);
        for bad in
            ["type=oci", "type=zip,dest=x", "dest=x", "type=local,dest=-", "type=oci,x", "a=b"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
