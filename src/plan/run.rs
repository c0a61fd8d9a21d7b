//! RUN: from the syntax tree to a [`RunStep`].
//!
//! In: the instruction, the state of the stage before it, and where a mount's `from` leads. Out: argv, environment,
//! mounts. What this builder cannot do yet is an error here, before any step runs; dockerfile.md §1.8.

use super::image_config::{command_words, with_shell};
use super::mounts::{self, Kind, Mount};
use super::paths;
use super::stage::StageBuilder;
use super::step::{CopyFrom, Env, NetworkMode, RunMount, RunMountKind, RunStep};
use crate::dockerfile::ast::{RunInstruction, Word};
use crate::dockerfile::heredoc::{RunScript, run_script};
use crate::error::{Error, Result};
use crate::oci::spec::DEFAULT_PATH;
use crate::source::Span;

/// Where a script of a heredoc with `#!` is shown to the RUN.
const SCRIPTS: &str = "/dev/pipes";

/// Build argument that keeps cache mounts of projects apart.
const CACHE_NAMESPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";

/// A step, and what was left out of it.
pub(super) struct Planned {
    pub(super) step: RunStep,
    /// Optional things that this builder cannot give yet.
    pub(super) skipped: Vec<(String, Span)>,
}

/// `--network=`; the parser has refused other words.
fn network_mode(word: &Word) -> Result<NetworkMode> {
    match word.text.as_str() {
        "default" => Ok(NetworkMode::Default),
        "none" => Ok(NetworkMode::None),
        "host" => Ok(NetworkMode::Host),
        other => Err(Error::dockerfile(format!("invalid network mode `{other}`"))),
    }
}

/// Plans one RUN.
pub(super) fn run(
    stage: &StageBuilder<'_>,
    run: &RunInstruction,
    on_build: bool,
) -> Result<Planned> {
    let inputs = stage.inputs;
    let source = &inputs.dockerfile.source;
    let network = run.network.as_ref().map(network_mode).transpose()?;
    let mut skipped = Vec::new();
    for device in &run.devices {
        skipped.extend(skip_device(device).map_err(|error| error.at(source, device.span))?);
    }
    let mut mounts = Vec::new();
    for word in &run.mounts {
        let (mount, left_out) =
            plan_mount(stage, word, on_build).map_err(|error| error.at(source, word.span))?;
        mounts.extend(mount);
        skipped.extend(left_out);
    }
    let (argv, scripts) = command(stage, run)?;
    let state = &stage.state;
    let mut env = state.scope.env().clone();
    if state.scope.get("PATH").is_none() {
        env.push(("PATH".to_owned(), DEFAULT_PATH.to_owned()));
    }
    let proxy = inputs.globals.proxy().iter();
    let proxy_env: Env = proxy.filter(|(name, _)| !state.scope.is_arg(name)).cloned().collect();
    let step = RunStep {
        argv,
        env,
        proxy_env,
        cwd: state.cwd(),
        user: state.config.config.user.clone(),
        network: Some(network.unwrap_or(inputs.request.network)),
        insecure: run.security.as_ref().is_some_and(|word| word.text == "insecure"),
        mounts,
        scripts,
    };
    Ok(Planned { step, skipped })
}

/// Program and arguments, and scripts to show.
type Command = (Vec<String>, Vec<(String, String)>);

fn command(stage: &StageBuilder<'_>, run: &RunInstruction) -> Result<Command> {
    let config = &stage.state.config.config;
    if run.heredocs.is_empty() {
        let argv = command_words(config, &run.command);
        if argv.is_empty() {
            return Err(Error::dockerfile("RUN [] names no program to run"));
        }
        return Ok((argv, Vec::new()));
    }
    match run_script(run) {
        RunScript::Command(text) => Ok((with_shell(config, &text), Vec::new())),
        RunScript::Script { name, body } => {
            Ok((with_shell(config, &format!("{SCRIPTS}/{name}")), vec![(name, body)]))
        }
    }
}

/// `name[,required]`: a device that is not required may be missing.
fn skip_device(word: &Word) -> Result<Option<(String, Span)>> {
    let (name, rest) = word.text.split_once(',').unwrap_or((&word.text, ""));
    let name = name.strip_prefix("name=").unwrap_or(name);
    let required = rest.split(',').any(|key| matches!(key, "required" | "required=true"));
    if required {
        return Err(Error::dockerfile(format!("not yet supported: RUN --device (`{name}`)")));
    }
    Ok(Some((
        format!("device `{name}` is not available: RUN --device is not yet supported"),
        word.span,
    )))
}

/// A mount, or why it was left out.
type MountOrNot = (Option<RunMount>, Option<(String, Span)>);

fn plan_mount(stage: &StageBuilder<'_>, word: &Word, on_build: bool) -> Result<MountOrNot> {
    let expander = stage.inputs.expander(on_build);
    let scope = &stage.state.scope;
    let mount = mounts::parse(&word.text, |value| {
        expander.text(value, word.span, &|name| scope.get(name))
    })?;
    let secret = match mount.kind {
        Kind::Secret => Some("secret"),
        Kind::Ssh => Some("ssh"),
        _ => None,
    };
    if let Some(secret) = secret {
        let name =
            [&mount.id, &mount.source, &mount.target].into_iter().find(|name| !name.is_empty());
        let name = name.map_or("default", String::as_str);
        if mount.required {
            let message = format!("not yet supported: RUN --mount=type={secret} (`{name}`)");
            return Err(Error::dockerfile(message));
        }
        let text = format!(
            "{secret} `{name}` is not mounted: RUN --mount=type={secret} is not yet supported"
        );
        return Ok((None, Some((text, word.span))));
    }
    let target = paths::absolute(&stage.state.cwd(), &mount.target);
    if target == "/" {
        return Err(Error::dockerfile("invalid mount target \"/\"")
            .hint("give the mount a directory with `target=`"));
    }
    let kind = mount_kind(stage, &mount)?;
    Ok((Some(RunMount { kind, target, read_only: mount.read_only, span: word.span }), None))
}

fn mount_kind(stage: &StageBuilder<'_>, mount: &Mount) -> Result<RunMountKind> {
    let source = paths::absolute("/", &mount.source);
    Ok(match mount.kind {
        Kind::Tmpfs => RunMountKind::Tmpfs { size: mount.size.filter(|size| *size > 0) },
        Kind::Cache => {
            // From nothing is what a cache starts with anyway.
            let nothing = mount.from == "scratch";
            let from = if nothing { CopyFrom::Context } else { stage.copy_from_mount(mount)? };
            let seed = match from {
                CopyFrom::Context if source == "/" => None,
                CopyFrom::Context => {
                    let message = "not yet supported: `source` of a cache mount without `from`";
                    return Err(Error::dockerfile(message));
                }
                from => Some((from, source)),
            };
            RunMountKind::Cache {
                id: cache_id(stage, mount),
                from: seed,
                sharing: mount.sharing,
                owner: (mount.uid, mount.gid, mount.mode & 0o7777),
            }
        }
        _ => RunMountKind::Bind { from: stage.copy_from_mount(mount)?, source },
    })
}

/// The id given, else the target; in a namespace of its own when a build argument says one.
fn cache_id(stage: &StageBuilder<'_>, mount: &Mount) -> String {
    let id = if mount.id.is_empty() { paths::clean(&mount.target) } else { mount.id.clone() };
    match stage.inputs.globals.build_arg(CACHE_NAMESPACE) {
        Some(namespace) if !namespace.is_empty() => format!("{namespace}/{id}"),
        _ => id,
    }
}
