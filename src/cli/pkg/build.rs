//! `pkg build` and `pkg push`: words → [`crate::linuxkit::pipeline`].

use super::args::{PkgArgs, PkgBuildArgs, PkgCommand, PkgCommon, Timestamps};
use super::trust::{Trust, asked};
use super::{emitter, net_config, push, say};
use crate::build::lock::{LockMode, Locks};
use crate::build::store::Store;
use crate::cli::args::{Cli, Command};
use crate::cli::environment::Environment;
use crate::cli::image::args::PlaceArgs;
use crate::cli::report::Style;
use crate::cli::timings::TimingsFile;
use crate::cli::trust::Asked;
use crate::cli::{locks, print_data, private, values};
use crate::error::{Error, Result};
use crate::executor::emulation::Places;
use crate::linuxkit::automatic;
use crate::linuxkit::cache::PkgCache;
use crate::linuxkit::package::{self, Package};
use crate::linuxkit::pipeline::{BuildOptions, Builder};
use crate::linuxkit::platforms;
use crate::net::EngineConfig;
use crate::progress::Emitter;
use crate::timings::Timings;
use clap::Parser;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

pub(super) fn run(
    mut args: PkgBuildArgs,
    common: &PkgCommon,
    environment: &Environment,
    style: Style,
) -> Result<()> {
    push::last_word(&mut args);
    let timings = TimingsFile::open(args.timings.as_deref())?;
    timings.finish(run_timed(&args, common, timings.timings(), environment, style))
}

fn run_timed(
    args: &PkgBuildArgs,
    common: &PkgCommon,
    timings: &Timings,
    environment: &Environment,
    style: Style,
) -> Result<()> {
    let emitter = emitter(common.quiet, args.progress, environment, style)?.timed(timings.clone());
    refuse(args)?;
    warn(args, &emitter);
    let options = options(args, common, environment, &emitter)?;
    let (dirs, skipped) = package::packages(&args.dirs, &common.build_yml);
    for dir in skipped {
        let shown = dir.display();
        print_data(
            format!("Skipping {shown}: it has no {}\n", common.build_yml.display()).as_bytes(),
        )?;
    }
    if options.package.hash_commit != "HEAD" {
        return Err(Error::usage("cannot build from commit hash != HEAD")
            .hint("check the commit out; `show-tag` takes any commit"));
    }
    // All packages are read before the first one is built.
    let packages =
        dirs.iter().map(|dir| Package::load(dir, &options.package)).collect::<Result<Vec<_>>>()?;
    let limit = environment.store_limit(args.max_store.as_ref())?;
    let store = Store::open(&environment.store(common.root.as_ref())?)?.limited(limit);
    let store = Arc::new(store);
    let cache = PkgCache::open_or_create(environment.linuxkit_cache(common.cache.as_ref())?)?;
    let say = |line: &str| say(common.quiet, line);
    let mut builder = Builder::new(store, cache, &options, emitter, &say);
    builder.build_all(&packages)
}

/// Brings what packages need into the store, and builds nothing; gives their lock files.
pub(in crate::cli) fn prefetch(
    words: Vec<OsString>,
    place: &PlaceArgs,
    environment: &Environment,
    (store, emitter): (&Arc<Store>, &Emitter),
) -> Result<Vec<Arc<Locks>>> {
    let parsed = Cli::try_parse_from(words)
        .map_err(|error| Error::internal("arguments for `pkg build`").cause(error))?;
    let Command::Pkg(arguments) = parsed.command else {
        return Err(Error::internal("arguments of another verb than `pkg`"));
    };
    let PkgArgs { command, mut common } = *arguments;
    common.net = place.net.clone();
    common.switches.disable_content_trust = place.disable_content_trust == Some(true);
    let PkgCommand::Build(args) = command else {
        return Err(Error::internal("arguments of another verb than `pkg build`"));
    };
    let mut options = options(&args, &common, environment, emitter)?;
    options.lock = LockMode::Collect;
    // Here the flag may have a value, and asks for what is pulled, too.
    options.net = Asked::of(place.disable_content_trust, environment).put_into(options.net);
    let load = |dir: &PathBuf| Package::load(dir, &options.package);
    let packages = args.dirs.iter().map(load).collect::<Result<Vec<_>>>()?;
    let cache = PkgCache::open_or_create(environment.linuxkit_cache(common.cache.as_ref())?)?;
    let say = |_: &str| Ok(());
    Builder::new(Arc::clone(store), cache, &options, emitter.clone(), &say).prefetch(&packages)
}

/// What would be misunderstood if it were ignored.
fn refuse(args: &PkgBuildArgs) -> Result<()> {
    if args.switches.lock && args.switches.locked {
        return Err(Error::usage("`--lock` and `--locked` exclude each other"));
    }
    if args.switches.force && args.switches.pull {
        return Err(Error::usage("`--force` and `--pull` exclude each other"));
    }
    push::refuse(args)
}

fn warn(args: &PkgBuildArgs, emitter: &Emitter) {
    if args.release.is_some() && !args.switches.push {
        emitter.warn("`--release` has no effect without `--push`");
    }
    if args.sbom_scanner.as_deref().is_some_and(|scanner| scanner != "false") {
        emitter.warn("`--sbom-scanner` has no effect yet: no SBOM is made");
    }
    let meaningless = [
        (args.builder_name.is_some(), "--builder-name"),
        (args.builder_image.is_some(), "--builder-image"),
        (args.builder_config.is_some(), "--builder-config"),
        (args.switches.builder_restart, "--builder-restart"),
    ];
    for (_, flag) in meaningless.iter().filter(|(given, _)| *given) {
        emitter.warn(format!("`{flag}` has no effect: there is no BuildKit to configure"));
    }
}

fn options(
    args: &PkgBuildArgs,
    common: &PkgCommon,
    environment: &Environment,
    emitter: &Emitter,
) -> Result<BuildOptions> {
    let switches = common.switches;
    let asked = asked(Trust::of(switches, args.push_switches.sign), environment)?;
    Ok(BuildOptions {
        package: super::options(common, environment)?,
        platforms: args.platforms.clone(),
        skip_platforms: args.skip_platforms.clone(),
        builders: builders(args, environment),
        contexts: environment
            .docker_config()
            .map(|dir| platforms::docker_contexts(&dir))
            .unwrap_or_default(),
        force: args.switches.force,
        // What an engine is to have is needed here, not elsewhere.
        pull: args.switches.pull || args.switches.docker,
        docker: args.switches.docker,
        dry_run: args.switches.dry_run,
        push: push::options(args),
        ignore_cached: args.switches.ignore_cached,
        precache_images: args.switches.precache_images,
        ssh: private::agents(&args.ssh, environment)?,
        dockerfile: args.dockerfile.clone(),
        build_arg_files: args.build_arg_file.clone(),
        network: either(switches.network, switches.nonetwork, ("network", "nonetwork"))?,
        step_cache: either(
            switches.enable_cache,
            switches.disable_cache,
            ("enable-cache", "disable-cache"),
        )?,
        epoch: match (args.source_date_epoch, args.timestamps) {
            (Some(epoch), _) => Some(Some(epoch)),
            (None, Timestamps::Real) => Some(None),
            (None, Timestamps::Commit) => None,
        },
        proxies: automatic::proxies(|name| environment.text(name)),
        keep_fsync: args.switches.keep_fsync,
        explain_cache: args.switches.explain_cache,
        jobs: values::jobs(args.jobs)?,
        account: args.isolation.account(environment, emitter)?,
        emulators: Places {
            given: values::directories(&args.qemu_dirs)?,
            path: environment.path(),
        },
        qemu_image: args.qemu_image.as_deref().map(values::image_name).transpose()?,
        signing: asked.push,
        // Of pushes `signing` knows: packages may say that they go without.
        net: Asked { pull: asked.pull, push: None }.put_into(net_config(&common.net, environment)?),
        lock: locks::mode(args.switches.lock, args.switches.locked),
        engine: engine(args.switches.docker, environment)?,
    })
}

/// What LinuxKit's builders are, and who says so.
fn builders(args: &PkgBuildArgs, environment: &Environment) -> Option<(String, String)> {
    let from_flag = args.builders.clone().map(|text| ("--builders flag".to_owned(), text));
    let from_environment = || {
        let text = environment.text("LINUXKIT_BUILDERS")?;
        Some(("environment variable LINUXKIT_BUILDERS".to_owned(), text))
    };
    from_flag.or_else(from_environment)
}

/// Two switches that exclude each other: `None` when neither is given.
fn either(yes: bool, no: bool, names: (&str, &str)) -> Result<Option<bool>> {
    match (yes, no) {
        (true, true) => {
            Err(Error::usage(format!("`--{}` and `--{}` exclude each other", names.0, names.1)))
        }
        (true, false) => Ok(Some(true)),
        (false, true) => Ok(Some(false)),
        (false, false) => Ok(None),
    }
}

/// The engines that `--docker` may mean; without it the environment may say what it likes.
fn engine(docker: bool, environment: &Environment) -> Result<EngineConfig> {
    if docker { environment.engine() } else { Ok(EngineConfig::default()) }
}
