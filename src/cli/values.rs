//! Values of `build`'s flags as typed → what a request holds.

use super::args::{BuildArgs, CompressionName};
use super::environment::Environment;
use super::output::BuildCompression;
use crate::build::annotations::Annotation;
use crate::build::request::OutputSpec;
use crate::error::{Error, ErrorKind, Result};
use crate::layers::compress::Compression;
use crate::oci::{Platform, Reference};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where CDI specs are.
pub(super) fn cdi_directories(given: &[PathBuf]) -> Vec<PathBuf> {
    match given {
        [] => ["/etc/cdi", "/var/run/cdi"].map(PathBuf::from).to_vec(),
        given => given.to_vec(),
    }
}

/// The platforms of comma lists, each once, in the order given; docker's own variable counts when there is no flag.
pub(super) fn platforms(lists: &[String], environment: &Environment) -> Result<Vec<Platform>> {
    const VARIABLE: &str = "DOCKER_DEFAULT_PLATFORM";
    if lists.is_empty() {
        return match environment.text(VARIABLE) {
            Some(text) => platform_list(&[text])
                .map_err(|error| error.wrap(format!("bad value of {VARIABLE} in the environment"))),
            None => Ok(Vec::new()),
        };
    }
    platform_list(lists)
}

fn platform_list(lists: &[String]) -> Result<Vec<Platform>> {
    let mut platforms: Vec<Platform> = Vec::new();
    for word in lists.iter().flat_map(|list| list.split(',')) {
        let platform = match word.trim() {
            "local" => Platform::host(),
            word => Platform::parse(word).map_err(|error| error.with_kind(ErrorKind::Usage))?,
        };
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    if let Some(other) = platforms.iter().find(|platform| platform.os != platforms[0].os) {
        return Err(Error::usage(format!(
            "one build cannot be for two operating systems: `{}` and `{other}`",
            platforms[0]
        ))
        .hint(
            "build one after the other; `nativebuild image import --add` joins their platforms",
        ));
    }
    Ok(platforms)
}

pub(super) fn annotations<'a>(texts: impl Iterator<Item = &'a String>) -> Result<Vec<Annotation>> {
    let mut all = Vec::new();
    for text in texts {
        all.extend(Annotation::parse(text).map_err(|error| error.with_kind(ErrorKind::Usage))?);
    }
    Ok(all)
}

pub(super) fn tag_reference(text: &str) -> Result<Reference> {
    let reference = Reference::parse(text).map_err(|error| error.with_kind(ErrorKind::Usage))?;
    if reference.digest.is_some() {
        return Err(Error::usage(format!("a tag cannot hold a digest: `{text}`")));
    }
    Ok(reference)
}

/// The names of an image, each once.
pub(super) fn tags<'a>(texts: impl Iterator<Item = &'a String>) -> Result<Vec<Reference>> {
    let mut tags = Vec::new();
    for text in texts {
        let tag = tag_reference(text)?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
}

pub(super) fn one_stdout(outputs: &[OutputSpec]) -> Result<()> {
    if outputs.iter().filter(|output| output.is_stdout()).count() > 1 {
        return Err(Error::usage("only one output can go to standard output"));
    }
    Ok(())
}

/// `NAME=VALUE`, or `NAME` with its value from elsewhere; a name without any value is left out.
pub(super) fn pairs(
    list: &[String],
    elsewhere: impl Fn(&str) -> Option<String>,
) -> Vec<(String, String)> {
    list.iter()
        .filter_map(|text| match text.split_once('=') {
            Some((name, value)) => Some((name.to_owned(), value.to_owned())),
            None => elsewhere(text).map(|value| (text.clone(), value)),
        })
        .collect()
}

pub(super) fn labels(list: &[String]) -> Result<Vec<(String, String)>> {
    if list.iter().any(|label| label.starts_with('=') || label.is_empty()) {
        return Err(Error::usage("a label has no name"));
    }
    Ok(pairs(list, |_| Some(String::new())))
}

pub(super) fn build_compression(args: &BuildArgs) -> BuildCompression<'static> {
    let name = match args.compression {
        CompressionName::Gzip => "gzip",
        CompressionName::Zstd => "zstd",
        CompressionName::None => "none",
    };
    BuildCompression { name, level: args.compression_level }
}

pub(super) fn compression(args: &BuildArgs) -> Result<Compression> {
    let BuildCompression { name, level } = build_compression(args);
    Compression::parse(name, level).map_err(|error| error.with_kind(ErrorKind::Usage))
}

pub(super) fn jobs(given: Option<usize>) -> Result<usize> {
    match given {
        Some(0) => Err(Error::usage("`--jobs` must be at least 1")),
        Some(jobs) => Ok(jobs),
        None => Ok(std::thread::available_parallelism().map_or(1, usize::from)),
    }
}

/// `--source-date-epoch`, the build argument, or the environment, in this order; empty means none. So does a word that is
/// the build argument: whether it names a context or a stage is for [`crate::plan::epoch`] to say.
pub(super) fn epoch(
    args: &BuildArgs,
    environment: &Environment,
    build_args: &[(String, String)],
) -> Result<Option<i64>> {
    let given = build_args.iter().rev().find(|(name, _)| name == "SOURCE_DATE_EPOCH");
    let may_be_a_name = args.source_date_epoch.is_none() && given.is_some();
    let text = args
        .source_date_epoch
        .clone()
        .or_else(|| given.map(|(_, value)| value.clone()))
        .or_else(|| environment.text("SOURCE_DATE_EPOCH"));
    match text.as_deref().map(str::trim) {
        None | Some("" | "context") => Ok(None),
        Some("git") => commit_time(&args.context).map(Some),
        Some(text) => match text.parse::<i64>() {
            Ok(epoch) => Ok(Some(epoch)),
            Err(_) if may_be_a_name => Ok(None),
            Err(_) => Err(Error::usage(format!("invalid SOURCE_DATE_EPOCH: `{text}`"))
                .hint("it is a number of seconds since 1970, or `git`")),
        },
    }
}

pub(super) fn commit_time(context: &Path) -> Result<i64> {
    let what = "cannot get the commit time of the build context from git";
    let output = Command::new("git")
        .arg("-C")
        .arg(context)
        .args(["log", "-1", "--format=%ct"])
        .output()
        .map_err(|error| {
            Error::environment(what).cause(super::build::plain(&error)).hint("install git")
        })?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    text.parse().map_err(|_| {
        Error::context(what).cause(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    })
}

/// The name of an image that a flag asks for.
pub(super) fn image_name(text: &str) -> Result<Reference> {
    Reference::parse(text).map_err(|error| error.with_kind(ErrorKind::Usage))
}

/// Directories that a flag names; they must be there.
pub(super) fn directories(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    if let Some(path) = paths.iter().find(|path| !path.is_dir()) {
        return Err(Error::usage(format!("`--qemu-dir {}` is no directory", path.display())));
    }
    Ok(paths.to_vec())
}
/// A number of bytes: `10GB`, `512m`.
pub(super) fn bytes(text: &str, from: &str) -> Result<u64> {
    crate::plan::size(text.trim()).ok_or_else(|| {
        Error::usage(format!("bad size `{text}` of {from}"))
            .hint("write a number and perhaps k, m or g behind it, for example `20g`")
    })
}

/// A time in seconds: `90s`, `24h`, `1h30m`, `7d`.
pub(super) fn age(text: &str, from: &str) -> Result<i64> {
    let bad = || {
        Error::usage(format!("bad time `{text}` of {from}"))
            .hint("write numbers and s, m, h, d or w behind them, for example `24h` or `7d`")
    };
    let mut seconds: i64 = 0;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let unit = match rest.as_bytes()[end] {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            b'w' => 7 * 86_400,
            _ => return Err(bad()),
        };
        let number: i64 = rest[..end].parse().map_err(|_| bad())?;
        let more = number.checked_mul(unit).ok_or_else(bad)?;
        seconds = seconds.checked_add(more).ok_or_else(bad)?;
        rest = &rest[end + 1..];
    }
    if text.trim().is_empty() { Err(bad()) } else { Ok(seconds) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{self, Cli};
    use clap::Parser;

    fn epoch_of(flags: &[&str], set: &[(&str, &str)]) -> std::result::Result<Option<i64>, String> {
        let words = ["nativebuild", "build", "."].iter().chain(flags);
        let command = Cli::try_parse_from(words).unwrap().command;
        let args::Command::Build(args) = command else { panic!("{flags:?}") };
        let environment = Environment::of(set);
        let given = pairs(&args.build_args, |name| environment.text(name));
        epoch(&args, &environment, &given).map_err(|error| error.to_string())
    }

    /// It was a usage error whoever said it, so no name ever reached the plan; found by reading.
    #[test]
    fn only_a_build_argument_may_name_what_has_the_epoch() {
        let variable = |value| [("SOURCE_DATE_EPOCH", value)];
        let (number, name) = ("SOURCE_DATE_EPOCH=7", "SOURCE_DATE_EPOCH=stage");
        assert_eq!(epoch_of(&["--build-arg", number], &variable("9")), Ok(Some(7)));
        assert_eq!(epoch_of(&["--build-arg", name], &variable("9")), Ok(None));
        assert_eq!(epoch_of(&["--build-arg", "SOURCE_DATE_EPOCH"], &variable("9")), Ok(Some(9)));
        assert_eq!(epoch_of(&["--build-arg", name, "--source-date-epoch", "8"], &[]), Ok(Some(8)));
        let wrong = Err("invalid SOURCE_DATE_EPOCH: `soon`".to_owned());
        assert_eq!(epoch_of(&["--build-arg", name, "--source-date-epoch", "soon"], &[]), wrong);
        assert_eq!(epoch_of(&[], &variable("soon")), wrong);
    }
}
