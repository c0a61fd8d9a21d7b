//! What a package asks of a build: its Dockerfile, context, arguments and labels as a request.

use super::Builder;
use crate::build::lock::{self, LockMode};
use crate::build::request::{
    BuildRequest, Explain, ImageSource, OutputKind, OutputSpec, PullPolicy,
};
use crate::build::sharing::SharedCaches;
use crate::build::store::Store;
use crate::dockerfile::{self, ast::InstructionKind};
use crate::error::{Error, Result};
use crate::executor::settings::RunSettings;
use crate::layers::compress::Compression;
use crate::linuxkit::automatic::{self, Known};
use crate::linuxkit::build_args::{self, PackageName};
use crate::linuxkit::build_yml::FILE_NAME;
use crate::linuxkit::git::GitView;
use crate::linuxkit::package::{Package, PackageOptions, read_source};
use crate::linuxkit::{cache, context};
use crate::oci::layout::Origin;
use crate::oci::{Platform, Reference};
use crate::plan::step::NetworkMode;
use crate::source::SourceFile;
use std::collections::BTreeSet;
use std::path::{Component, Path};
use std::sync::Arc;

impl Builder<'_> {
    pub(super) fn dockerfile(&self, package: &Package) -> Result<String> {
        let name = self.options.dockerfile.as_ref().unwrap_or(&package.yml.dockerfile);
        let inside = Path::new(name).components().all(|part| part != Component::ParentDir);
        if !inside || Path::new(name).is_absolute() {
            return Err(Error::package(format!(
                "cannot expand beyond root of context for dockerfile `{name}`"
            ))
            .hint("the Dockerfile is in the package's directory or below it"));
        }
        Ok(name.clone())
    }

    /// The request of a package, with its context, which must live as long.
    pub(super) fn request(
        &self,
        package: &Package,
        missing: &[Platform],
    ) -> Result<(BuildRequest, context::Context)> {
        let options = self.options;
        let name = self.dockerfile(package)?;
        let dockerfile = read_source(&package.shown.join(&name)).map_err(|error| {
            let (name, dir) = (&name, package.shown.display());
            error.wrap(format!(
                "dockerfile `{name}` does not exist or cannot be read in context {dir}"
            ))
        })?;
        let known = known(package)?;
        let declared = declared(&dockerfile)?;
        let given = self.given_args(package)?;
        let mut build_args = automatic::build_args(&known, given.clone());
        // An argument that the Dockerfile does not know means nothing to it; only the user's are worth a warning.
        build_args.retain(|(name, _)| {
            declared.contains(name) || given.iter().any(|(given, _)| given == name)
        });
        // A proxy for everything is not among docker's own arguments: it means something only where an ARG says so.
        let proxies = options
            .proxies
            .iter()
            .filter(|(name, _)| !name.eq_ignore_ascii_case("all_proxy") || declared.contains(name));
        build_args.splice(0..0, proxies.cloned());
        let tree = context::open(&package.dir, &package.extra_sources(), &self.store)?;
        let files = lock::hide(tree.tree.clone(), &package.dir, &super::lock_path(package));
        let network = options.network.unwrap_or(package.yml.network);
        let step_cache = options.step_cache.unwrap_or(!package.yml.disable_cache);
        let request = BuildRequest {
            dockerfile,
            context: files,
            build_args,
            target: None,
            labels: automatic::labels(&known),
            platforms: missing.to_vec(),
            annotations: Vec::new(),
            tags: Vec::new(),
            outputs: vec![OutputSpec { kind: OutputKind::Image, dest: None }],
            no_cache: !step_cache,
            shared: SharedCaches::default(),
            no_cache_stages: Vec::new(),
            explain: Explain {
                wanted: options.explain_cache,
                origin: package.dir.display().to_string(),
            },
            run: RunSettings { keep_fsync: options.keep_fsync, ..RunSettings::default() },
            entitlements: Vec::new(),
            network: if network { NetworkMode::Default } else { NetworkMode::None },
            pull: PullPolicy::Check,
            epoch: match options.epoch {
                Some(epoch) => epoch,
                None => package.tag.last_touched()?,
            },
            docker_types: false,
            keep_times: false,
            push_by_digest: false,
            compression: Compression::default(),
            jobs: options.jobs,
            account: options.account.clone(),
            emulators: options.emulators.clone(),
            qemu_image: options.qemu_image.clone(),
            images: (!options.ignore_cached || options.precache_images)
                .then(|| self.cached_images()),
            contexts: std::collections::BTreeMap::new(),
            times: std::collections::BTreeMap::new(),
            cdi: Vec::new(),
            secrets: Vec::new(),
            locks: self.locks(package)?,
            agents: options.ssh.clone(),
            net: options.net.clone(),
            engine: options.engine.clone(),
        };
        Ok((request, tree))
    }

    /// Build arguments of the build.yml, then of the files; of equal names the last counts.
    fn given_args(&self, package: &Package) -> Result<Vec<(String, String)>> {
        let mut ask = |dir: &Path| {
            let plain = PackageOptions {
                working_dir: self.options.package.working_dir.clone(),
                build_yml: FILE_NAME.into(),
                hash_commit: "HEAD".to_owned(),
                ..PackageOptions::default()
            };
            let other = Package::load(dir, &plain)?;
            Ok(PackageName { image: other.tag.name.clone(), reference: other.tag.reference() })
        };
        let mut all = build_args::resolve(&package.yml.build_args, &package.dir, &mut ask)?;
        for file in &self.options.build_arg_files {
            let args = build_args::parse_file(&read_source(file)?)?;
            let base = self.options.package.working_dir.join(file);
            let base = base.parent().unwrap_or(Path::new("/"));
            all.extend(build_args::resolve(&args, base, &mut ask)?);
        }
        Ok(all)
    }

    /// Images of the cache come before those of the store. A package of this call that only a registry has, and with
    /// `--precache-images` every image, is brought into the cache when it is named.
    fn cached_images(&self) -> ImageSource {
        let (local, store) = (Arc::clone(&self.cache), Arc::clone(&self.store));
        let (remote, names) = (Arc::clone(&self.remote), Arc::clone(&self.names));
        // What is pinned is brought by its digest, never by its name.
        let precache = self.options.precache_images && self.options.lock != LockMode::Required;
        let ignore = self.options.ignore_cached;
        ImageSource(Arc::new(move |reference, platform| {
            let lend = || local.lend_named(store.images(), reference, platform);
            let found = lend()?;
            // As the name would have been stored by whoever put it into the cache.
            let spelt = cache::spellings(reference);
            let listed = spelt.iter().find(|name| names.contains(*name));
            let name = listed.or(spelt.first()).cloned().unwrap_or_default();
            let found = match found {
                None if reference.digest.is_none()
                    && (listed.is_some() || (precache && !own(&store, reference)?))
                    && remote.bring(&name, platform)? =>
                {
                    lend()?
                }
                found => found,
            };
            Ok(found.filter(|_| !ignore))
        }))
    }
}

/// An image that was imported or built here; its name wins over a registry's (design §10.1).
fn own(store: &Store, reference: &Reference) -> Result<bool> {
    let stored = store.images().find(reference)?;
    Ok(stored.is_some_and(|stored| stored.origin != Origin::Pulled))
}

fn known(package: &Package) -> Result<Known> {
    let tag = &package.tag;
    let facts = tag.git.as_ref().map(GitView::head_facts).transpose()?;
    Ok(Known {
        image: tag.name.clone(),
        gitrepo: package.yml.gitrepo.clone(),
        hash: tag.hash.clone(),
        revision: tag.head().filter(|_| !tag.dirty).map(str::to_owned),
        go_version: facts.map(|facts| facts.go_version),
        in_git: tag.in_git(),
        config: package.yml.config.clone(),
    })
}

/// Names that an ARG of the Dockerfile declares.
fn declared(source: &Arc<SourceFile>) -> Result<BTreeSet<String>> {
    let file = dockerfile::parse(source)?;
    let in_stages = file.stages.iter().flat_map(|stage| &stage.instructions);
    let args = in_stages.filter_map(|instruction| match &instruction.kind {
        InstructionKind::Arg(arg) => Some(arg),
        _ => None,
    });
    let all = file.meta_args.iter().chain(args).flat_map(|arg| &arg.args);
    Ok(all.map(|arg| arg.name.text.clone()).collect())
}
