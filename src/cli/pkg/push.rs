//! `pkg push`, `pkg manifest`, `pkg remote-tag`, `pkg digest`: words of the command line → [`crate::linuxkit::publish`].

use super::args::{PkgBuildArgs, PkgCommon};
use super::trust::trusted;
use super::{emitter, options as package_options, say};
use crate::build::store::Store;
use crate::cli::args::Progress;
use crate::cli::environment::Environment;
use crate::cli::print_data;
use crate::cli::report::Style;
use crate::error::{Error, Result};
use crate::linuxkit::cache::{self, PkgCache};
use crate::linuxkit::package::Package;
use crate::linuxkit::pipeline::PushOptions;
use crate::linuxkit::publish::{Publisher, Tags, line_of};
use crate::linuxkit::remote::Remote;
use crate::oci::Digest;
use crate::progress::Emitter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The manuals write `pkg build -org=wombat push`: a last word `push` that is no directory means `--push`.
pub(super) fn last_word(args: &mut PkgBuildArgs) {
    let is_word = |dir: &PathBuf| dir == Path::new("push") && !dir.exists();
    if args.dirs.last().is_some_and(is_word) {
        args.dirs.pop();
        args.switches.push = true;
        if args.dirs.is_empty() {
            args.dirs.push(".".into());
        }
    }
}

/// Combinations that leave nothing to do, or contradict each other.
pub(super) fn refuse(args: &PkgBuildArgs) -> Result<()> {
    let (switches, push) = (args.switches, args.push_switches);
    if switches.force && switches.nobuild {
        return Err(Error::usage("`--force` and `--nobuild` exclude each other"));
    }
    if switches.nobuild && !switches.push {
        return Err(Error::usage("there is nothing to do with `--nobuild` alone")
            .hint("with `--push` it pushes what the cache has"));
    }
    if switches.push && !push.image && !push.manifest {
        return Err(Error::usage(
            "there is nothing to push with `--image=false` and `--manifest=false`",
        ));
    }
    if switches.push && !push.manifest && switches.no_arch_tags {
        return Err(Error::usage(
            "there is nothing to push with `--manifest=false` and `--no-arch-tags`",
        ));
    }
    Ok(())
}

pub(super) fn options(args: &PkgBuildArgs) -> Option<PushOptions> {
    args.switches.push.then(|| PushOptions {
        tags: Tags { index: args.push_switches.manifest, arches: !args.switches.no_arch_tags },
        nobuild: args.switches.nobuild,
        manifest_only: !args.push_switches.image,
        release: args.release.clone().filter(|release| !release.is_empty()),
    })
}

/// Cache, registries and where lines go, for verbs that build nothing.
struct Session {
    cache: Arc<PkgCache>,
    remote: Remote,
    emitter: Emitter,
    quiet: bool,
}

impl Session {
    fn new(common: &PkgCommon, environment: &Environment, style: Style) -> Result<Self> {
        let emitter = emitter(common.quiet, Progress::Auto, environment, style)?;
        let store = Arc::new(Store::open(&environment.store(common.root.as_ref())?)?);
        let directory = environment.linuxkit_cache(common.cache.as_ref())?;
        let cache = Arc::new(PkgCache::open_or_create(directory)?);
        let net = trusted(common, environment)?;
        let remote = Remote::new(store, Arc::clone(&cache), net, emitter.clone());
        Ok(Self { cache, remote, emitter, quiet: common.quiet })
    }

    fn with(&self, act: impl FnOnce(&Publisher<'_>) -> Result<()>) -> Result<()> {
        let say = |line: &str| say(self.quiet, line);
        act(&Publisher::new(&self.cache, &self.remote, &self.emitter, &say))
    }
}

pub(super) fn manifest(
    dir: &Path,
    release: Option<&str>,
    common: &PkgCommon,
    environment: &Environment,
    style: Style,
) -> Result<()> {
    let package = Package::load(dir, &package_options(common, environment)?)?;
    let name = package.tag.canonical();
    let release = release.map(|release| package.tag.release(release)).transpose()?;
    Session::new(common, environment, style)?.with(|publisher| {
        publisher.manifest(&name)?;
        release.map_or(Ok(()), |release| publisher.manifest(&cache::canonical(&release)))
    })
}

pub(super) fn remote_tag(
    from: &str,
    to: &str,
    common: &PkgCommon,
    environment: &Environment,
    style: Style,
) -> Result<()> {
    let session = Session::new(common, environment, style)?;
    session.with(|publisher| publisher.remote_tag(&cache::canonical(from), &cache::canonical(to)))
}

/// Digest and size of each package: of the registry, else of the cache.
pub(super) fn digests(
    dirs: &[PathBuf],
    common: &PkgCommon,
    environment: &Environment,
    style: Style,
) -> Result<()> {
    let session = Session::new(common, environment, style)?;
    let options = package_options(common, environment)?;
    let mut text = String::new();
    for dir in dirs {
        let name = Package::load(dir, &options)?.tag.canonical();
        let found = match session.remote.descriptor(&name)? {
            Some(found) => Some(found),
            None => session.cache.find(&name)?,
        };
        let found = found.ok_or_else(|| {
            Error::package(format!("{name} is neither in its registry nor in the cache"))
                .hint("build it with `pkg build`, or push it with `pkg push`")
        })?;
        let digest = Digest::parse(found.digest().as_ref())?;
        text += &format!("{}\n", line_of(&name, &digest, found.size())?);
    }
    print_data(text.as_bytes())
}

/// `cache push`: names of the cache, as they are there, joined with what the registry has.
pub(super) fn cached(
    names: &[String],
    cache: &PkgCache,
    remote: &Remote,
    emitter: &Emitter,
) -> Result<()> {
    let say = |line: &str| say(false, line);
    let publisher = Publisher::new(cache, remote, emitter, &say);
    for name in names {
        let full = cache::canonical(name);
        if !publisher.push(&full, Tags { index: true, arches: false })? {
            return Err(Error::package(format!("`{full}` is not in the cache"))
                .hint("`nativebuild cache ls` lists what is there"));
        }
    }
    Ok(())
}
