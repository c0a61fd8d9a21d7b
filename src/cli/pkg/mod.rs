//! `nativebuild pkg` and `nativebuild cache`: LinuxKit's words → [`crate::linuxkit`].

pub(super) mod args;
mod build;
mod builder;
mod cache;
mod push;
mod trust;

pub(super) use build::prefetch;

use super::args::Progress;
use super::environment::Environment;
use super::print_data;
use super::report::Style;
use crate::error::{Error, ErrorKind, Result};
use crate::linuxkit::package::{Package, PackageOptions};
use crate::net::{Mirror, NetConfig};
use crate::progress::Emitter;
use args::{CacheArgs, NetArgs, PkgArgs, PkgCommand, PkgCommon};
use std::path::PathBuf;

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
        PkgCommand::Build(args) => build::run(*args, common, environment, style),
        PkgCommand::Push(mut args) => {
            args.switches.push = true;
            build::run(*args, common, environment, style)
        }
        PkgCommand::Manifest { dir, release } => {
            push::manifest(&dir, release.as_deref(), common, environment, style)
        }
        PkgCommand::RemoteTag { from, to } => {
            push::remote_tag(&from, &to, common, environment, style)
        }
        PkgCommand::Digest { dirs } => push::digests(&dirs, common, environment, style),
        PkgCommand::Builder { command } => builder::run(command, common, environment),
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

/// For what a verb tells on the way.
fn emitter(
    quiet: bool,
    flag: Progress,
    environment: &Environment,
    style: Style,
) -> Result<Emitter> {
    let progress = if quiet { Progress::Quiet } else { environment.progress(flag)? };
    Ok(super::build::emitter(progress, style))
}

/// A line of what is done, for standard output.
fn say(quiet: bool, line: &str) -> Result<()> {
    let text = if quiet { String::new() } else { format!("{line}\n") };
    print_data(text.as_bytes())
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
