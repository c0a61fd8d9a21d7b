//! Where the Dockerfile is, and its text.

use crate::cli::args::BuildArgs;
use crate::cli::build::plain;
use crate::context::FileTree;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::source::SourceFile;
use crate::sys::root;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest Dockerfile that is read, in bytes.
const LARGEST_DOCKERFILE: u64 = 16 << 20;
/// Names of the Dockerfile that are tried.
const NAMES: [&str; 3] = ["Dockerfile", "dockerfile", "Containerfile"];

/// Where the Dockerfile of a context on this machine is; `None` for one on standard input.
pub(in crate::cli) fn path_of_dockerfile(args: &BuildArgs) -> Option<PathBuf> {
    match &args.file {
        Some(path) if path == Path::new("-") => None,
        Some(path) => Some(path.clone()),
        None => {
            let known = NAMES.map(|name| args.context.join(name));
            Some(known.iter().find(|path| path.exists()).unwrap_or(&known[0]).clone())
        }
    }
}

/// The Dockerfile of a context on this machine, and where it is.
pub(super) fn dockerfile_of_directory(
    args: &BuildArgs,
) -> Result<(Arc<SourceFile>, Option<PathBuf>)> {
    let Some(path) = path_of_dockerfile(args) else { return Ok((dockerfile_of_stdin()?, None)) };
    let shown = path.strip_prefix("./").unwrap_or(&path).display().to_string();
    let file = File::open(&path).map_err(|error| {
        let made =
            Error::dockerfile(format!("cannot read the Dockerfile `{shown}`")).cause(plain(&error));
        if args.file.is_none() && args.context.is_dir() {
            made.hint("name another file with `-f`")
        } else {
            made
        }
    })?;
    let text = read_limited(file, &shown)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = if args.file.is_some() { shown } else { name.unwrap_or(shown) };
    Ok((Arc::new(SourceFile::new(name, text)), Some(path)))
}

/// Standard input as the Dockerfile.
pub(super) fn dockerfile_of_stdin() -> Result<Arc<SourceFile>> {
    let text = read_limited(std::io::stdin().lock(), "standard input")?;
    Ok(Arc::new(SourceFile::new("Dockerfile", text)))
}

/// The Dockerfile of a context that was fetched: links in its path stay inside.
pub(super) fn dockerfile_in(tree: &FileTree, file: Option<&Path>) -> Result<Arc<SourceFile>> {
    let given = file.map(|file| file.to_string_lossy().into_owned());
    let names: Vec<String> =
        given.map_or_else(|| NAMES.map(str::to_owned).to_vec(), |file| vec![file]);
    for name in &names {
        let path = name.trim_start_matches("./").trim_start_matches('/').as_bytes();
        if let Ok(opened) = root::open_read(tree.root(), path) {
            let text = read_limited(opened, name)?;
            return Ok(Arc::new(SourceFile::new(name.clone(), text)));
        }
    }
    Err(Error::dockerfile(format!("there is no `{}` in the context", names[0]))
        .hint("name another file of the context with `-f`"))
}

/// All of a Dockerfile, which is not larger than one may be.
pub(super) fn read_limited(reader: impl Read, what: &str) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    reader
        .take(LARGEST_DOCKERFILE + 1)
        .read_to_end(&mut text)
        .or_error(ErrorKind::Dockerfile, || format!("cannot read the Dockerfile `{what}`"))?;
    if text.len() as u64 > LARGEST_DOCKERFILE {
        return Err(Error::dockerfile(format!("the Dockerfile `{what}` is larger than 16 MiB")));
    }
    Ok(text)
}
