//! Build arguments of a package: `NAME=VALUE` from build.yml and from files, and values that name other packages.
//!
//! [`parse_file`] reads a `--build-arg-file`; [`resolve`] replaces `@lkt:pkg:PATH` and `@lkt:pkgs:GLOB` by the tags of
//! the packages, which a function of the caller finds out. Which of two equal names wins is the caller's matter: here
//! all of them stay, in order. linuxkit.md §1.3.

mod glob;
#[cfg(test)]
mod tests;

use crate::yaml::Problems;
use crate::{
    error::{Error, Place, Result},
    source::{SourceFile, Span},
};
use std::{path::Path, sync::Arc};

/// What a value that is computed starts with.
const COMPUTED: &str = "@lkt:";

/// A build argument as written, with its place.
#[derive(Clone, Debug)]
pub struct BuildArg {
    /// Name; never empty.
    pub name: String,
    /// Value, perhaps one that [`resolve`] computes.
    pub value: String,
    /// Where it is written.
    pub place: Place,
}

/// A package by the names that its build gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageName {
    /// Organisation and image, `linuxkit/foo`.
    pub image: String,
    /// The same with the tag, `linuxkit/foo:TAG`.
    pub reference: String,
}

impl BuildArg {
    /// Splits at the first `=`; nothing is trimmed.
    pub fn parse(text: &str, source: &Arc<SourceFile>, span: Span) -> Result<Self> {
        let wrong = |message: String| {
            let error = Error::package(message).at(source, span);
            Err(error.hint("write it as NAME=VALUE; the value may be empty"))
        };
        match text.split_once('=') {
            Some(("", _)) => wrong(format!("build argument `{text}` has no name")),
            Some((name, value)) => Ok(Self {
                name: name.to_owned(),
                value: value.to_owned(),
                place: Place { source: Arc::clone(source), span },
            }),
            None => wrong(format!("build argument `{text}` has no `=`")),
        }
    }
}

/// Reads the text of a `--build-arg-file`: one argument a line, spaces around name and value do not count.
pub fn parse_file(source: &Arc<SourceFile>) -> Result<Vec<BuildArg>> {
    let text = std::str::from_utf8(source.text()).map_err(|error| {
        let at = error.valid_up_to();
        Error::package("the build arguments are not UTF-8 text").at(source, Span::new(at, at + 1))
    })?;
    let mut problems = Problems::new(source);
    let mut args = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let span = source.line_span(index + 1);
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            let what = if line.is_empty() { "empty lines" } else { "comments" };
            let error = Error::package(format!("a file of build arguments has no {what}"));
            problems.push(span, error.hint("remove the line"));
            continue;
        }
        match BuildArg::parse(line, source, span) {
            Ok(arg) => {
                let (name, value) = (arg.name.trim().to_owned(), arg.value.trim().to_owned());
                args.push(BuildArg { name, value, ..arg });
            }
            Err(error) => problems.push(span, error),
        }
    }
    problems.finish()?;
    Ok(args)
}

/// Names and values with everything computed.
///
/// `base` is the directory of the file that holds the arguments, absolute: relative paths start there. `package` is
/// asked for the names of the package in a directory.
pub fn resolve(
    args: &[BuildArg],
    base: &Path,
    package: &mut dyn FnMut(&Path) -> Result<PackageName>,
) -> Result<Vec<(String, String)>> {
    let mut resolved = Vec::new();
    for arg in args {
        let at_arg = |error: Error| error.at(&arg.place.source, arg.place.span);
        let mut ask = |directory: &Path| {
            let failed = || format!("build argument `{}` cannot be computed", arg.name);
            package(directory).map_err(|error| at_arg(error.wrap(failed())))
        };
        let Some(computed) = arg.value.strip_prefix(COMPUTED) else {
            resolved.push((arg.name.clone(), arg.value.clone()));
            continue;
        };
        if let Some(path) = computed.strip_prefix("pkg:") {
            let named = ask(&glob::join(base, path))?;
            resolved.push((arg.name.clone(), named.reference));
        } else if let Some(pattern) = computed.strip_prefix("pkgs:") {
            for directory in directories(arg, base, pattern).map_err(at_arg)? {
                let named = ask(&directory)?;
                let name = arg.name.replace('%', &as_name(&named.image));
                resolved.push((name, named.reference));
            }
        } else {
            let message = format!("unknown computed value `{}`", arg.value);
            let hint = "`@lkt:pkg:PATH` and `@lkt:pkgs:PATTERN` are known";
            return Err(at_arg(Error::package(message).hint(hint)));
        }
    }
    Ok(resolved)
}

/// The package directories that a pattern names.
fn directories(arg: &BuildArg, base: &Path, pattern: &str) -> Result<Vec<std::path::PathBuf>> {
    if !arg.name.contains('%') {
        let message = format!("build argument `{}` needs a `%` in its name", arg.name);
        let hint = "a pattern may name several packages; `%` stands for the name of each";
        return Err(Error::package(message).hint(hint));
    }
    let hidden = |path: &Path| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    };
    let mut found = glob::glob(base, pattern)
        .map_err(|reason| Error::package(format!("bad pattern `{pattern}`")).cause(reason))?;
    found.retain(|path| path.is_dir() && !hidden(path));
    if found.is_empty() {
        let error = Error::package(format!("no package matches `{pattern}`"));
        return Err(error.cause(format!("searched from `{}`", base.display())));
    }
    Ok(found)
}

/// What `%` stands for: `acme/my-app` is `ACME_MY_APP`.
fn as_name(image: &str) -> String {
    image.replace(['/', '-'], "_").to_uppercase()
}
