//! Building a package into the LinuxKit cache: what is there already is skipped, the rest is one build for all missing
//! platforms (linuxkit.md §4).

mod dry_run;
mod options;
mod request;

pub use options::{BuildOptions, PushOptions};

use super::cache::PkgCache;
use super::dependencies;
use super::package::Package;
use super::platforms;
use super::publish::Publisher;
use crate::build;
use crate::build::lock::{self, Locks};
use crate::build::request::BuildOutcome;
use crate::build::store::Store;
use crate::error::{Error, ErrorKind, Result};
use crate::linuxkit::git::GitView;
use crate::linuxkit::remote::Remote;
use crate::net;
use crate::oci::archive::{self, Output, SaveFormat, SaveImage, SaveOptions};
use crate::oci::{Platform, Reference};
use crate::progress::Emitter;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Several packages built one after the other.
pub struct Builder<'a> {
    store: Arc<Store>,
    cache: Arc<PkgCache>,
    remote: Arc<Remote>,
    /// Full names of all packages of this call: where one is the base of another it is brought into the cache.
    names: Arc<BTreeSet<String>>,
    /// Lock files by their paths.
    locks: Mutex<BTreeMap<PathBuf, Arc<Locks>>>,
    options: &'a BuildOptions,
    emitter: Emitter,
    /// Takes lines for standard output.
    say: &'a dyn Fn(&str) -> Result<()>,
    session: build::Session,
}

impl std::fmt::Debug for Builder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<'a> Builder<'a> {
    /// Nothing is built yet.
    pub fn new(
        store: Arc<Store>,
        cache: PkgCache,
        options: &'a BuildOptions,
        emitter: Emitter,
        say: &'a dyn Fn(&str) -> Result<()>,
    ) -> Self {
        let cache = Arc::new(cache);
        let (net, told) = (options.net.clone(), emitter.clone());
        let remote = Arc::new(Remote::new(Arc::clone(&store), Arc::clone(&cache), net, told));
        let (names, session) = (Arc::default(), build::Session::default());
        let locks = Mutex::default();
        Self { store, cache, remote, names, locks, options, emitter, say, session }
    }

    /// Builds what of packages is missing, in their order; the first failure ends it.
    pub fn build_all(&mut self, packages: &[Package]) -> Result<()> {
        self.names = Arc::new(packages.iter().map(|package| package.tag.canonical()).collect());
        packages.iter().try_for_each(|package| self.build(package))
    }

    fn build(&mut self, package: &Package) -> Result<()> {
        let name = package.tag.reference();
        let options = self.options;
        let wanted =
            platforms::wanted(&package.yml.arches, &options.platforms, &options.skip_platforms)?;
        if wanted.is_empty() {
            return (self.say)(&format!("Skipping {name} with no architectures to build"));
        }
        let builders = options.builders.as_ref().map(|(from, text)| (from.as_str(), text.as_str()));
        for warning in platforms::check_builders(builders, &wanted, &options.contexts)? {
            self.emitter.warn(warning);
        }
        self.refuse(package, &wanted)?;
        if options.push.as_ref().is_some_and(|push| push.manifest_only) {
            return self.publish(package);
        }
        (self.say)(&match &options.push {
            None => format!("Building \"{name}\""),
            Some(push) if push.nobuild => format!("Pushing \"{name}\" without building"),
            Some(_) => format!("Building and pushing \"{name}\""),
        })?;
        let only_push = options.push.as_ref().is_some_and(|push| push.nobuild);
        let missing = if only_push { Vec::new() } else { self.missing(package, &wanted)? };
        if missing.is_empty() {
            self.load_into_engine(package, &wanted)?;
            return self.publish(package);
        }
        let arches: Vec<&str> = missing.iter().map(|p| p.architecture.as_str()).collect();
        (self.say)(&format!("building {name} for arches: {}", arches.join(",")))?;
        if options.dry_run {
            return self.dry_run(package, &missing);
        }
        if options.push.is_some() && !package.tag.dirty {
            // Before the work, not after it.
            let name = Reference::parse(&package.tag.canonical())?;
            self.remote.client()?.check_push(&name)?;
        }
        let outcome = self.build_missing(package, &missing)?;
        self.keep(package, &missing, &outcome)?;
        self.load_into_engine(package, &wanted)?;
        self.publish(package)
    }

    /// What cannot be meant, or would fail after the work.
    fn refuse(&self, package: &Package, wanted: &[Platform]) -> Result<()> {
        let options = self.options;
        if options.docker && !wanted.iter().any(is_host) {
            return Err(Error::usage(format!(
                "must build for local platform `{}` when targeting docker",
                Platform::host()
            ))
            .hint("add it to `--platforms`, or leave `--docker` out"));
        }
        if let Some(release) = options.push.as_ref().and_then(|push| push.release.as_deref()) {
            // Before anything is built, not after it was pushed under its other name.
            let named = format!("{}:{release}", package.tag.name);
            Reference::parse(&named).map_err(|error| error.with_kind(ErrorKind::Usage))?;
        }
        let trusts_without = package.yml.disable_content_trust == Some(true);
        if let (Some(asked), Some(_), false) = (&options.signing, &options.push, trusts_without) {
            return Err(net::unsigned(asked));
        }
        Ok(())
    }

    /// What comes after the build: nothing, or the push.
    fn publish(&self, package: &Package) -> Result<()> {
        let Some(push) = &self.options.push else {
            return (self.say)("Build complete, not pushing, all done.");
        };
        if self.options.dry_run {
            return Ok(());
        }
        if package.tag.dirty {
            let built = if push.nobuild || push.manifest_only { "" } else { "build complete, " };
            let what = format!("{built}refusing to push dirty package");
            return Err(Error::package(what).hint("commit the changes, then push again"));
        }
        let name = package.tag.canonical();
        let publisher = Publisher::new(&self.cache, &self.remote, &self.emitter, self.say);
        let release = push.release.as_deref().map(|release| package.tag.release(release));
        let release = release.transpose()?.map(|release| super::cache::canonical(&release));
        if push.manifest_only {
            publisher.manifest(&name)?;
        } else if !publisher.push(&name, push.tags)? {
            (self.say)("No new platforms to push, skipping.")?;
        }
        match release {
            Some(release) => publisher.release(&name, &release, push.tags.arches),
            None => Ok(()),
        }
    }

    /// The platforms that the cache does not have whole.
    fn missing(&self, package: &Package, wanted: &[Platform]) -> Result<Vec<Platform>> {
        if self.options.force {
            return Ok(wanted.to_vec());
        }
        let (name, full) = (package.tag.reference(), package.tag.canonical());
        let mut missing = Vec::new();
        (self.say)(&format!("checking for {name} in local cache..."))?;
        for platform in wanted {
            let arch = &platform.architecture;
            if self.cache.complete(&full, platform)? {
                (self.say)(&format!("found {name} {arch} in local cache, skipping build"))?;
                continue;
            }
            if !self.options.dry_run && !self.remote.is_offline() {
                let here = format!("{name} {arch} not found in local cache, checking registry");
                (self.say)(&here)?;
                if self.is_published(&full, platform)? {
                    (self.say)(&format!("found {name} {arch} on registry, skipping build"))?;
                    continue;
                }
            }
            (self.say)(&format!("{name} {arch} not found, will build"))?;
            missing.push(platform.clone());
        }
        Ok(missing)
    }

    /// Whether a registry has the platform; with `--pull` it is in the cache then.
    fn is_published(&self, name: &str, platform: &Platform) -> Result<bool> {
        if self.options.pull {
            return self.remote.bring(name, platform);
        }
        self.remote.has(name, platform)
    }

    /// The lock file of the package's repository: one for all packages in it. Outside git it is the package's own.
    fn locks(&self, package: &Package) -> Result<Arc<Locks>> {
        let path = lock_path(package);
        let mut known = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(locks) = known.get(&path) {
            return Ok(Arc::clone(locks));
        }
        let own = self.names.as_ref().clone();
        let locks = Locks::open(self.options.lock, &path, own)?;
        known.insert(path, Arc::clone(&locks));
        Ok(locks)
    }

    fn build_missing(&mut self, package: &Package, missing: &[Platform]) -> Result<BuildOutcome> {
        let fetch = |depends| self.fetch(self.locks(package)?.as_ref()).all(package, depends);
        // Here until the build ends, however it does.
        let _brought = package.yml.depends.as_ref().map(fetch).transpose()?;
        let (request, _context) = self.request(package, missing)?;
        self.session.build(&request, &self.store, &self.emitter)
    }

    fn fetch<'f>(&'f self, locks: &'f Locks) -> dependencies::Fetch<'f> {
        let (store, net) = (&self.store, &self.options.net);
        dependencies::Fetch { store, locks, net, emitter: &self.emitter, say: self.say }
    }

    /// Brings all that packages need into the store and builds nothing; gives their lock files.
    pub fn prefetch(&mut self, packages: &[Package]) -> Result<Vec<Arc<Locks>>> {
        self.names = Arc::new(packages.iter().map(|package| package.tag.canonical()).collect());
        let options = self.options;
        for package in packages {
            let arches = &package.yml.arches;
            let wanted = platforms::wanted(arches, &options.platforms, &options.skip_platforms)?;
            if let Some(depends) = &package.yml.depends {
                self.fetch(self.locks(package)?.as_ref()).prefetch(package, depends)?;
            }
            let (request, _context) = self.request(package, &wanted)?;
            build::prefetch::collect(&request, &self.store, &self.emitter)?;
        }
        let locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(locks.values().cloned().collect())
    }

    /// Takes what was built into the cache.
    fn keep(
        &self,
        package: &Package,
        platforms: &[Platform],
        outcome: &BuildOutcome,
    ) -> Result<()> {
        let writer = self.cache.writer()?;
        let mut arches = Vec::new();
        for image in &outcome.images {
            writer.adopt(self.store.images(), image)?;
            let built = Platform::of_descriptor(image);
            let platform = platforms.iter().find(|platform| Some(*platform) == built.as_ref());
            let platform = platform.ok_or_else(|| Error::internal("an image has no platform"))?;
            arches.push((platform.clone(), image.clone()));
        }
        writer.write(&package.tag.canonical(), &arches).map(drop)
    }

    /// `--docker`: every platform under its own tag, this machine's also under the plain one.
    fn load_into_engine(&self, package: &Package, platforms: &[Platform]) -> Result<()> {
        if !self.options.docker || self.options.dry_run {
            return Ok(());
        }
        let engine = crate::net::Engine::find(&self.options.engine)?;
        let full = package.tag.canonical();
        for platform in platforms {
            let image = self.cache.image_named(&full, platform)?;
            let mut names = vec![Reference::parse(&format!("{full}-{}", platform.architecture))?];
            if is_host(platform) {
                names.push(Reference::parse(&full)?);
            }
            let images = [SaveImage { descriptor: &image.manifest_descriptor, names: &names }];
            let layout = self.cache.layout();
            let loaded = engine.load(None, |out| {
                let options = SaveOptions::new(SaveFormat::DockerArchive);
                archive::save(layout, &images, &options, Output::Stream(out))
            })?;
            (self.say)(&format!("loaded {} into {engine}", loaded.join(", ")))?;
        }
        Ok(())
    }
}

/// Where the lock file of a package is or would be.
fn lock_path(package: &Package) -> PathBuf {
    let top = package.tag.git.as_ref().map_or(package.dir.as_path(), GitView::top);
    top.join(lock::FILE_NAME)
}

fn is_host(platform: &Platform) -> bool {
    platform.architecture == Platform::host().architecture
}
