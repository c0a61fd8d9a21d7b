//! RUN: from the syntax tree to a [`RunStep`].
//!
//! In: the instruction, the state of the stage before it, and where a mount's `from` leads. Out: argv, environment,
//! mounts. What this builder cannot do yet is an error here, before any step runs; dockerfile.md §1.8.

use super::image_config::{command_words, with_shell};
use super::mounts::{self, Kind, Mount};
use super::paths;
use super::stage::StageBuilder;
use super::step::{
    CopyFrom, Env, NetworkMode, RunAgent, RunDevice, RunMount, RunMountKind, RunSecret, RunStep,
};
use crate::dockerfile::ast::{RunInstruction, Word};
use crate::dockerfile::heredoc::{RunScript, run_script};
use crate::error::{Error, Result};
use crate::oci::spec::DEFAULT_PATH;

/// Where a script of a heredoc with `#!` is shown to the RUN.
const SCRIPTS: &str = "/dev/pipes";

/// Where secrets are, unless their mount says otherwise.
const SECRETS: &str = "/run/secrets";

/// Where sockets of ssh agents are, with a number behind.
const AGENTS: &str = "/run/buildkit/ssh_agent";

/// Build argument that keeps cache mounts of projects apart.
const CACHE_NAMESPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";

/// Build argument that names the host of every RUN.
const HOSTNAME: &str = "BUILDKIT_SANDBOX_HOSTNAME";

/// The kernel takes no longer name.
const LONGEST_HOSTNAME: usize = 64;

/// The name goes into /etc/hosts too, so it must be one word there.
fn hostname(value: Option<&str>) -> Result<Option<String>> {
    let Some(name) = value.filter(|name| !name.is_empty()) else { return Ok(None) };
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if name.len() > LONGEST_HOSTNAME || !name.bytes().all(fits) {
        return Err(Error::usage(format!("`{HOSTNAME}={name}` names no host")).hint(format!(
            "a host name has at most {LONGEST_HOSTNAME} letters, digits, `-`, `.` and `_`"
        )));
    }
    Ok(Some(name.to_owned()))
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
pub(super) fn run(stage: &StageBuilder<'_>, run: &RunInstruction) -> Result<RunStep> {
    let inputs = stage.inputs;
    let source = &inputs.dockerfile.source;
    let network = run.network.as_ref().map(network_mode).transpose()?;
    let device = |word| device(word).map_err(|error| error.at(source, word.span));
    let devices = run.devices.iter().map(device).collect::<Result<Vec<_>>>()?;
    let mut seen = Mounts::default();
    for word in &run.mounts {
        seen.add(stage, word).map_err(|error| error.at(source, word.span))?;
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
        mounts: seen.plain,
        secrets: seen.secrets,
        agents: seen.agents,
        hostname: hostname(inputs.globals.build_arg(HOSTNAME))?,
        devices,
        scripts,
    };
    Ok(step)
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

/// `NAME[,required]`, where `name=` may stand before the name.
fn device(word: &Word) -> Result<RunDevice> {
    let (name, rest) = word.text.split_once(',').unwrap_or((&word.text, ""));
    let name = name.strip_prefix("name=").unwrap_or(name);
    let mut required = false;
    for key in rest.split(',').filter(|key| !key.is_empty()) {
        required = match key {
            "required" | "required=true" => true,
            "required=false" => false,
            _ => {
                let message = format!("unexpected key '{key}' of a device");
                return Err(Error::dockerfile(message)
                    .hint("write `--device=VENDOR/CLASS=NAME[,required]`"));
            }
        };
    }
    if !name.split('=').next().is_some_and(|kind| kind.contains('/')) {
        return Err(Error::dockerfile(format!("`{name}` is no CDI name of a device"))
            .hint("write `--device=VENDOR/CLASS=NAME[,required]`"));
    }
    Ok(RunDevice { name: name.to_owned(), required, span: word.span })
}

/// The mounts of one RUN.
#[derive(Default)]
struct Mounts {
    plain: Vec<RunMount>,
    secrets: Vec<RunSecret>,
    agents: Vec<RunAgent>,
}

impl Mounts {
    fn add(&mut self, stage: &StageBuilder<'_>, word: &Word) -> Result<()> {
        let expander = stage.inputs.expander();
        let lookup = stage.state.lookup(&stage.inputs.seen);
        let mount = mounts::parse(&word.text, |value| expander.text(value, word.span, &lookup))?;
        let target = paths::absolute(&stage.state.cwd(), &mount.target);
        let owner = (mount.uid, mount.gid, mount.mode & 0o7777);
        match mount.kind {
            Kind::Secret => {
                let id = [&mount.id, &mount.source].into_iter().find(|id| !id.is_empty());
                let id = id.map_or_else(|| base_name(&mount.target), String::as_str).to_owned();
                let target = match (mount.target.is_empty(), &mount.env) {
                    (false, _) => Some(not_root(target)?),
                    (true, Some(_)) => None,
                    (true, None) => Some(format!("{SECRETS}/{}", base_name(&id))),
                };
                let (env, required) = (mount.env, mount.required);
                self.secrets.push(RunSecret { id, target, env, required, owner });
            }
            Kind::Ssh => {
                let id = if mount.id.is_empty() { "default".to_owned() } else { mount.id.clone() };
                let target = match mount.target.as_str() {
                    "" => format!("{AGENTS}.{}", self.agents.len()),
                    _ => not_root(target)?,
                };
                self.agents.push(RunAgent { id, target, required: mount.required, owner });
            }
            Kind::Bind | Kind::Cache | Kind::Tmpfs => {
                let (target, span) = (not_root(target)?, word.span);
                let kind = mount_kind(stage, &mount)?;
                self.plain.push(RunMount { kind, target, read_only: mount.read_only, span });
            }
        }
        Ok(())
    }
}

fn not_root(target: String) -> Result<String> {
    if target == "/" {
        return Err(Error::dockerfile("invalid mount target \"/\"")
            .hint("give the mount a directory with `target=`"));
    }
    Ok(target)
}

fn base_name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

fn mount_kind(stage: &StageBuilder<'_>, mount: &Mount) -> Result<RunMountKind> {
    let source = paths::absolute("/", &mount.source);
    Ok(match mount.kind {
        Kind::Tmpfs => RunMountKind::Tmpfs { size: mount.size.filter(|size| *size > 0) },
        Kind::Cache => {
            // From nothing is what a cache starts with anyway.
            let nothing = mount.from == "scratch";
            let from = if nothing { CopyFrom::Context } else { stage.copy_from_mount(mount)? };
            let (seed, inside) = match from {
                CopyFrom::Context => (None, source.trim_start_matches('/').to_owned()),
                from => (Some((from, source)), String::new()),
            };
            RunMountKind::Cache {
                id: cache_id(stage, mount),
                from: seed,
                inside,
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
