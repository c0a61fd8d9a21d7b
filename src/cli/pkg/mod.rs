//! `nativebuild pkg` and `nativebuild cache`: LinuxKit's words → [`crate::linuxkit`].

pub(super) mod args;
mod cache;
mod push;

use super::args::{Cli, Command, Progress};
use super::environment::Environment;
use super::image::args::PlaceArgs;
use super::progress::Printer;
use super::report::Style;
use super::timings::TimingsFile;
use super::trust::{Asked, linuxkit_command};
use super::{print_data, values};
use crate::build::lock::{LockMode, Locks};
use crate::build::store::Store;
use crate::error::{Error, ErrorKind, Result};
use crate::linuxkit::automatic;
use crate::linuxkit::cache::PkgCache;
use crate::linuxkit::package::{self, Package, PackageOptions};
use crate::linuxkit::pipeline::{BuildOptions, Builder};
use crate::linuxkit::platforms;
use crate::net::{EngineConfig, Mirror, NetConfig};
use crate::progress::Emitter;
use crate::timings::Timings;
use args::{
    BuilderCommand, CacheArgs, CommonSwitches, NetArgs, PkgArgs, PkgBuildArgs, PkgCommand,
    PkgCommon, Timestamps,
};
use clap::Parser;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

pub(super) fn run(args: PkgArgs, environment: &Environment, style: Style) -> Result<()> {
    let PkgArgs { command, common } = args;
    dispatch(command, &common, environment, style).map_err(as_linuxkit)
}

pub(super) fn run_cache(args: CacheArgs, environment: &Environment, style: Style) -> Result<()> {
    cache::run(args, environment, style).map_err(as_linuxkit)
}

/// Scripts know two exit codes of `linuxkit`.
fn as_linuxkit(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Environment | ErrorKind::Registry => error.with_kind(ErrorKind::Package),
        _ => error,
    }
}

/// True when errors are told as JSON too.
pub(super) fn tells_json(args: &PkgArgs, environment: &Environment) -> bool {
    let flag = match &args.command {
        PkgCommand::Build(build) | PkgCommand::Push(build) => build.progress,
        PkgCommand::Manifest { .. } | PkgCommand::RemoteTag { .. } | PkgCommand::Digest { .. } => {
            Progress::Auto
        }
        // They show none.
        PkgCommand::ShowTag { .. } | PkgCommand::Builder { .. } => return false,
    };
    !args.common.quiet && environment.tells_json(flag)
}

/// The same for `cache`.
pub(super) fn cache_tells_json(args: &CacheArgs, environment: &Environment) -> bool {
    !args.quiet && environment.tells_json(Progress::Auto)
}

fn dispatch(
    command: PkgCommand,
    common: &PkgCommon,
    environment: &Environment,
    style: Style,
) -> Result<()> {
    match command {
        PkgCommand::ShowTag { dirs, canonical } => {
            show_tag(&dirs, canonical, &options(common, environment)?)
        }
        PkgCommand::Build(args) => build(*args, common, environment, style),
        PkgCommand::Push(mut args) => {
            args.switches.push = true;
            build(*args, common, environment, style)
        }
        PkgCommand::Manifest { dir, release } => {
            push::manifest(&dir, release.as_deref(), common, environment, style)
        }
        PkgCommand::RemoteTag { from, to } => {
            push::remote_tag(&from, &to, common, environment, style)
        }
        PkgCommand::Digest { dirs } => push::digests(&dirs, common, environment, style),
        PkgCommand::Builder { command } => builder(command, common, environment),
    }
}

fn options(common: &PkgCommon, environment: &Environment) -> Result<PackageOptions> {
    let working_dir = std::env::current_dir()
        .map_err(|error| Error::environment("there is no working directory").cause(error))?;
    Ok(PackageOptions {
        working_dir,
        build_yml: common.build_yml.clone(),
        org: common.org.clone().or_else(|| environment.text("LINUXKIT_PKG_ORG")),
        user: environment.text("USER").or_else(|| environment.text("LOGNAME")),
        hash: common.hash.clone().unwrap_or_default(),
        hash_commit: common.hash_commit.clone(),
        hash_path: common.hash_path.clone(),
        tag: common.tag.clone().unwrap_or_default(),
        dev: common.switches.dev,
        force_dirty: common.switches.force_dirty,
    })
}

fn show_tag(dirs: &[PathBuf], canonical: bool, options: &PackageOptions) -> Result<()> {
    let mut text = String::new();
    for dir in dirs {
        let tag = Package::load(dir, options)?.tag;
        text += &if canonical { tag.canonical() } else { tag.reference() };
        text.push('\n');
    }
    print_data(text.as_bytes())
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

fn build(
    mut args: PkgBuildArgs,
    common: &PkgCommon,
    environment: &Environment,
    style: Style,
) -> Result<()> {
    push::last_word(&mut args);
    let timings = TimingsFile::open(args.timings.as_deref())?;
    timings.finish(build_timed(&args, common, timings.timings(), environment, style))
}

fn build_timed(
    args: &PkgBuildArgs,
    common: &PkgCommon,
    timings: &Timings,
    environment: &Environment,
    style: Style,
) -> Result<()> {
    let progress =
        if common.quiet { Progress::Quiet } else { environment.progress(args.progress)? };
    let form = super::build::form_of(progress, style);
    let emitter = Emitter::new(Arc::new(Printer::new(form, style))).timed(timings.clone());
    refuse(args)?;
    warn(args, &emitter);
    let options = build_options(args, common, environment, &emitter)?;
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
    let say = |line: &str| {
        let text = if common.quiet { String::new() } else { format!("{line}\n") };
        print_data(text.as_bytes())
    };
    let mut builder = Builder::new(store, cache, &options, emitter, &say);
    builder.build_all(&packages)
}

/// Brings what packages need into the store, and builds nothing; gives their lock files.
pub(super) fn prefetch(
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
    let mut options = build_options(&args, &common, environment, emitter)?;
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

/// The way to registries: proxies of the environment, mirrors, authorities, logins.
pub(super) fn net_config(args: &NetArgs, environment: &Environment) -> Result<NetConfig> {
    let mirrors = mirrors(args, environment)?;
    Ok(NetConfig { mirrors, ..super::network::net_config(&args.tls, &args.auth, environment)? })
}

/// Mirrors of the command line, else of LINUXKIT_MIRROR.
pub(super) fn mirrors(args: &NetArgs, environment: &Environment) -> Result<Vec<Mirror>> {
    match environment.text("LINUXKIT_MIRROR") {
        Some(list) if args.mirror.is_empty() => {
            let words = list.split([',', ' ']).filter(|word| !word.is_empty());
            words
                .map(Mirror::parse)
                .collect::<Result<_>>()
                .map_err(|error| error.wrap("bad value of LINUXKIT_MIRROR in the environment"))
        }
        _ => args.mirror.iter().map(|word| Mirror::parse(word)).collect(),
    }
}

/// What the flags of a verb say of signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// `--disable-content-trust` or `--sign=false`, which win.
    Off,
    /// `--enable-content-trust`.
    On,
    /// Nothing.
    Unsaid,
}

impl Trust {
    /// `sign` is that of `--sign`, where a verb has it.
    fn of(switches: CommonSwitches, sign: bool) -> Self {
        match (switches.disable_content_trust || !sign, switches.enable_content_trust) {
            (true, _) => Self::Off,
            (false, true) => Self::On,
            (false, false) => Self::Unsaid,
        }
    }
}

/// The way to registries, with what asks for signatures.
fn trusted(common: &PkgCommon, environment: &Environment) -> Result<NetConfig> {
    let asked = asked(Trust::of(common.switches, true), environment)?;
    Ok(asked.put_into(net_config(&common.net, environment)?))
}

/// What asks for signatures, LinuxKit's own settings included.
fn asked(trust: Trust, environment: &Environment) -> Result<Asked> {
    let asked = Asked::of((trust == Trust::Off).then_some(true), environment);
    let push = match (trust, asked.push) {
        (Trust::On, _) => Some("--enable-content-trust".to_owned()),
        (Trust::Unsaid, None) => linuxkit_command(environment)?,
        (_, push) => push,
    };
    Ok(Asked { pull: asked.pull, push })
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

fn build_options(
    args: &PkgBuildArgs,
    common: &PkgCommon,
    environment: &Environment,
    emitter: &Emitter,
) -> Result<BuildOptions> {
    let switches = common.switches;
    let asked = asked(Trust::of(switches, args.push_switches.sign), environment)?;
    let from_flag = args.builders.clone().map(|text| ("--builders flag".to_owned(), text));
    let from_environment = || {
        let text = environment.text("LINUXKIT_BUILDERS")?;
        Some(("environment variable LINUXKIT_BUILDERS".to_owned(), text))
    };
    Ok(BuildOptions {
        package: options(common, environment)?,
        platforms: args.platforms.clone(),
        skip_platforms: args.skip_platforms.clone(),
        builders: from_flag.or_else(from_environment),
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
        ssh: super::private::agents(&args.ssh, environment)?,
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
        emulators: crate::executor::emulation::Places {
            given: values::directories(&args.qemu_dirs)?,
            path: environment.path(),
        },
        qemu_image: args.qemu_image.as_deref().map(values::image_name).transpose()?,
        signing: asked.push,
        // Of pushes `signing` knows: packages may say that they go without.
        net: Asked { pull: asked.pull, push: None }.put_into(net_config(&common.net, environment)?),
        lock: super::locks::mode(args.switches.lock, args.switches.locked),
        engine: engine(args.switches.docker, environment)?,
    })
}

/// The engines that `--docker` may mean; without it the environment may say what it likes.
fn engine(docker: bool, environment: &Environment) -> Result<EngineConfig> {
    if docker { environment.engine() } else { Ok(EngineConfig::default()) }
}

/// The builder that LinuxKit means is BuildKit's; ours is the store.
fn builder(command: BuilderCommand, common: &PkgCommon, environment: &Environment) -> Result<()> {
    let prune = super::args::PruneArgs {
        all: true,
        root: common.root.clone(),
        ..super::args::PruneArgs::default()
    };
    match command {
        BuilderCommand::Prune => super::prune::run(&prune, environment),
        BuilderCommand::Du => {
            let path = environment.store(common.root.as_ref())?;
            let mut text = String::new();
            let mut total = 0;
            for part in ["images", "snapshots", "cache", "mounts"] {
                let bytes = size(&path.join(part));
                total += bytes;
                text += &format!("{part}\t{bytes}\n");
            }
            print_data(format!("{text}total\t{total}\n").as_bytes())
        }
    }
}

/// Bytes of all files below a directory, as far as they can be read.
fn size(path: &std::path::Path) -> u64 {
    let Ok(found) = std::fs::symlink_metadata(path) else { return 0 };
    if !found.is_dir() {
        return found.len();
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| size(&entry.path())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `--enable-content-trust` counted for builds alone, and `--sign=false` not for what they pull; found by reading.
    #[test]
    fn flags_decide_about_signatures_before_the_environment_does() {
        let who = |disable, enable, sign| {
            let switches = CommonSwitches {
                disable_content_trust: disable,
                enable_content_trust: enable,
                ..CommonSwitches::default()
            };
            let environment = Environment::of(&[("DOCKER_CONTENT_TRUST", "1")]);
            let asked = asked(Trust::of(switches, sign), &environment).unwrap();
            [asked.pull.unwrap_or_default(), asked.push.unwrap_or_default()]
        };
        let (variable, flag) = ("DOCKER_CONTENT_TRUST=1", "--enable-content-trust");
        assert_eq!(who(false, false, true), [variable, variable]);
        assert_eq!(who(false, true, true), [variable, flag]);
        assert_eq!(who(true, true, true), ["", ""]);
        assert_eq!(who(true, false, true), ["", ""]);
        assert_eq!(who(false, true, false), ["", ""]);
    }
}
