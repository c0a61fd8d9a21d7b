//! A package as it is going to be built: its build.yml, its tag, and what flags say instead.

use super::build_yml::{self, BuildYml};
use super::tag::{self, PackageTag, TagRequest};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::source::SourceFile;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest file of a package that is read, in bytes.
const LARGEST: u64 = 16 << 20;

/// What all verbs take from the command line and the environment.
#[derive(Clone, Debug, Default)]
pub struct PackageOptions {
    /// Absolute; what relative paths start from.
    pub working_dir: PathBuf,
    /// Name of the package file, below the package's directory.
    pub build_yml: PathBuf,
    /// `--org` or LINUXKIT_PKG_ORG.
    pub org: Option<String>,
    /// Name of the user, for `--dev`.
    pub user: Option<String>,
    /// `--hash`; empty is none.
    pub hash: String,
    /// `--hash-commit`.
    pub hash_commit: String,
    /// `--hash-path`.
    pub hash_path: Option<PathBuf>,
    /// `--tag`; empty is none.
    pub tag: String,
    /// `--dev`.
    pub dev: bool,
    /// `--force-dirty`.
    pub force_dirty: bool,
}

/// A package.
#[derive(Clone, Debug)]
pub struct Package {
    /// Its directory, as the user wrote it.
    pub shown: PathBuf,
    /// Its directory, absolute.
    pub dir: PathBuf,
    /// Its build.yml.
    pub yml: BuildYml,
    /// Text of the build.yml, for places.
    pub source: Arc<SourceFile>,
    /// Its tag.
    pub tag: PackageTag,
}

impl Package {
    /// Reads the build.yml of a directory and computes the tag.
    pub fn load(dir: &Path, options: &PackageOptions) -> Result<Self> {
        let source = read_source(&dir.join(&options.build_yml))?;
        let yml = build_yml::parse(&source)?;
        let dev = options.dev.then(|| options.user.clone()).flatten();
        let org = options.org.clone().or(dev).unwrap_or_else(|| yml.org.clone());
        let tag = tag::package_tag(&TagRequest {
            working_dir: options.working_dir.clone(),
            package: dir.to_owned(),
            hash: options.hash.clone(),
            hash_commit: options.hash_commit.clone(),
            hash_path: options.hash_path.clone(),
            tag_flag: options.tag.clone(),
            tag_key: yml.tag.clone(),
            dev: options.dev,
            force_dirty: options.force_dirty,
            extra_sources: yml.extra_sources.iter().map(|extra| (&extra.source).into()).collect(),
            org,
            image: yml.image.clone(),
        })?;
        let shown = dir.to_owned();
        Ok(Self { shown, dir: options.working_dir.join(dir), yml, source, tag })
    }

    /// The extra sources with their places in the context.
    pub fn extra_sources(&self) -> Vec<(PathBuf, String)> {
        let place = |extra: &build_yml::ExtraSource| {
            (self.dir.join(&extra.source), extra.destination.clone())
        };
        self.yml.extra_sources.iter().map(place).collect()
    }
}

/// Those of several directories that are packages, and the others, for a line that names them. A single directory is
/// taken as it is, so that what is wrong with it is told.
pub fn packages(dirs: &[PathBuf], build_yml: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    if dirs.len() < 2 {
        return (dirs.to_vec(), Vec::new());
    }
    dirs.iter().cloned().partition(|dir| dir.join(build_yml).is_file())
}

/// A text file that a package consists of.
pub fn read_source(path: &Path) -> Result<Arc<SourceFile>> {
    let shown = path.display().to_string();
    let what = || format!("cannot read `{shown}`");
    let mut text = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut text))
        .or_error(ErrorKind::Package, what)?;
    if text.len() as u64 > LARGEST {
        return Err(Error::package(format!("`{shown}` is larger than 16 MiB")));
    }
    Ok(Arc::new(SourceFile::new(shown, text)))
}
