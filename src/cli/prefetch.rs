//! `nativebuild image prefetch`: everything that builds need, to be carried to a machine without a network
//! (docs/offline.md); and the other end, [`load`].
//!
//! Files become the arguments of `build` or `pkg build`, so that every flag means what it means there.

use super::args::{BuildArgs, Cli, Command, Progress};
use super::environment::Environment;
use super::image::args::PlaceArgs;
use super::report::Style;
use super::{build, pkg, print_data};
use crate::build::carry::{self, Carried};
use crate::build::lock::Locks;
use crate::build::lock::file::LockFile;
use crate::build::store::Store;
use crate::error::{Error, Result};
use clap::{Args, Parser};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `nativebuild image prefetch`.
#[derive(Debug, Args)]
pub struct PrefetchArgs {
    /// Dockerfiles, and build.yml of LinuxKit packages
    #[arg(short, long = "file", value_name = "FILE", required = true, num_args = 1..)]
    pub files: Vec<PathBuf>,
    /// OCI layout to write, or to add to
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// Platforms that will be built, with commas between them; may be repeated
    #[arg(long, alias = "platform", value_name = "OS/ARCH[/VARIANT],…")]
    pub platforms: Vec<String>,
    /// Value of an ARG; without `=VALUE` it comes from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub build_args: Vec<String>,
    /// Stage that will be built [default: the last one]
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// Another context of the build: `NAME=URL`, `NAME=docker-image://IMAGE`; may be repeated
    #[arg(long = "build-context", value_name = "NAME=SOURCE")]
    pub build_contexts: Vec<String>,
    /// Secret with a login for URLs and repositories: `id=NAME,src=FILE` or `id=NAME,env=VARIABLE`; may be repeated
    #[arg(long = "secret", value_name = "SPEC")]
    pub secrets: Vec<String>,
    /// Image with qemu-user programs
    #[arg(long, value_name = "NAME")]
    pub qemu_image: Option<String>,
    /// Organisation of LinuxKit packages
    #[arg(long, value_name = "ORG")]
    pub org: Option<String>,
    /// How progress is shown
    #[arg(long, value_enum, default_value = "auto")]
    pub progress: Progress,
}

pub(super) fn run(
    args: &PrefetchArgs,
    place: &PlaceArgs,
    (store, environment): (&Arc<Store>, &Environment),
    style: Style,
) -> Result<()> {
    let emitter = build::emitter(environment.progress(args.progress)?, style);
    let is_package = |file: &&PathBuf| {
        file.extension().is_some_and(|extension| extension == "yml" || extension == "yaml")
    };
    let mut locks: Vec<Arc<Locks>> = Vec::new();
    for file in args.files.iter().filter(|file| !is_package(file)) {
        let mut words = build_args(args, file)?;
        (words.tls, words.auth) = (place.net.tls.clone(), place.net.auth.clone());
        words.disable_content_trust = place.disable_content_trust;
        let mirrors = pkg::mirrors(&place.net, environment)?;
        let found = build::prefetch(&words, mirrors, environment, (store, &emitter))?;
        locks.push(found);
    }
    // Packages of one call may stand on each other.
    let mut packages: BTreeMap<&OsStr, Vec<&Path>> = BTreeMap::new();
    for file in args.files.iter().filter(is_package) {
        let name = file.file_name().unwrap_or(file.as_os_str());
        packages.entry(name).or_default().push(dir_of(file));
    }
    for (name, dirs) in packages {
        let words = package_words(args, name, &dirs);
        locks.extend(pkg::prefetch(words, place, environment, (store, &emitter))?);
    }
    let (mut pins, mut carried) = (LockFile::default(), Vec::new());
    for lock in &locks {
        pins.pins.extend(lock.noted().pins);
        carried.extend(lock.carried());
    }
    carried.sort_by_key(Carried::line);
    carried.dedup();
    carry::write(store, &carried, &pins, &args.output)?;
    for lock in &locks {
        if lock.save()? {
            emitter.note(format!("wrote {}", lock.path().display()));
        }
    }
    list(&carried)
}

/// Takes in what `image prefetch` wrote; none for any other source.
pub(super) fn load(
    store: &Store,
    source: &str,
    environment: &Environment,
    style: Style,
) -> Result<Option<()>> {
    if !carry::is_collection(Path::new(source)) {
        return Ok(None);
    }
    let emitter = build::emitter(environment.progress(Progress::Auto)?, style);
    list(&carry::load(store, Path::new(source), &emitter)?).map(Some)
}

fn list(carried: &[Carried]) -> Result<()> {
    let lines: String = carried.iter().map(|one| one.line() + "\n").collect();
    print_data(lines.as_bytes())
}

fn dir_of(file: &Path) -> &Path {
    file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn build_args(args: &PrefetchArgs, file: &Path) -> Result<BuildArgs> {
    let mut words = words(&["nativebuild", "build", "--file"]);
    words.push(file.into());
    let several = [
        ("--platform", &args.platforms),
        ("--build-arg", &args.build_args),
        ("--build-context", &args.build_contexts),
        ("--secret", &args.secrets),
    ];
    for (flag, values) in several {
        words.extend(values.iter().map(|value| OsString::from(format!("{flag}={value}"))));
    }
    for (flag, value) in [("--target", &args.target), ("--qemu-image", &args.qemu_image)] {
        words.extend(value.iter().map(|value| OsString::from(format!("{flag}={value}"))));
    }
    words.push("--".into());
    words.push(dir_of(file).into());
    let parsed = Cli::try_parse_from(words)
        .map_err(|error| Error::internal("arguments for `build`").cause(error))?;
    match parsed.command {
        Command::Build(args) => Ok(*args),
        _ => Err(Error::internal("arguments of another verb than `build`")),
    }
}

fn package_words(args: &PrefetchArgs, name: &OsStr, dirs: &[&Path]) -> Vec<OsString> {
    let mut words = words(&["nativebuild", "pkg", "build", "--build-yml"]);
    words.push(name.into());
    let platforms = args.platforms.iter().map(|list| OsString::from(format!("--platforms={list}")));
    words.extend(platforms);
    for (flag, value) in [("--org", &args.org), ("--qemu-image", &args.qemu_image)] {
        words.extend(value.iter().map(|value| OsString::from(format!("{flag}={value}"))));
    }
    words.push("--".into());
    words.extend(dirs.iter().map(OsString::from));
    words
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}
