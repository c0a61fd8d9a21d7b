//! `nativebuild build`: arguments as typed → [`BuildRequest`] → digest.

use super::args::{BuildArgs, Network, Progress, Pull};
use super::call::{self, Call, Method, Teller};
use super::contexts::Opened;
use super::environment::Environment;
use super::network::net_config;
use super::output::{self, Outputs};
use super::progress::{Form, Printer};
use super::report::Style;
use super::timings::TimingsFile;
use super::trust::Asked;
use super::{contexts, locks, print_data, private, values};
use crate::build::lock::{LockMode, Locks};
use crate::build::request::{
    BuildOutcome, BuildRequest, Explain, OutputKind, OutputSpec, PullPolicy,
};
use crate::build::store::Store;
use crate::build::{self};
use crate::context::{FileTree, IgnoreRules};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::executor::emulation::Places;
use crate::executor::settings::RunSettings;
use crate::net::{Mirror, NetConfig};
use crate::plan;
use crate::plan::step::NetworkMode;
use crate::progress::Emitter;
use crate::source::SourceFile;
use crate::sys::{SysResultExt, fs};
use crate::timings::{Phase, Timings};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) fn run(args: BuildArgs, environment: &Environment, style: Style) -> Result<()> {
    carry_out(args, environment, style).map(drop)
}

/// Builds; nothing was built when only a plan, a check or an outline was asked for.
pub(super) fn carry_out(
    args: BuildArgs,
    environment: &Environment,
    style: Style,
) -> Result<Option<BuildOutcome>> {
    let call = call::parse(&args)?;
    let timings = TimingsFile::open(args.timings.as_deref())?;
    timings.finish(carry_out_timed(args, call, timings.timings(), environment, style))
}

fn carry_out_timed(
    args: BuildArgs,
    call: Call,
    timings: &Timings,
    environment: &Environment,
    style: Style,
) -> Result<Option<BuildOutcome>> {
    let builds = call.method == Method::Build && !args.print_plan;
    if let Some(path) =
        builds.then_some(args.iidfile.as_ref()).flatten().filter(|path| path.is_file())
    {
        // That of an earlier build is not that of one which fails. In a directory that is not ours it can only be emptied.
        if std::fs::remove_file(path).is_err() {
            write_file(path, b"")?;
        }
    }
    let form = form(&args, environment, style)?;
    let emitter = Emitter::new(Arc::new(Printer::new(form, style))).timed(timings.clone());
    let store = environment.store(args.root.as_ref()).and_then(|path| Store::open(&path));
    let limit = environment.store_limit(args.max_store.as_ref())?;
    let store = store.map(|store| Arc::new(store.limited(limit)));
    // Checking also works where there is no place for a store.
    let store = if call.method == Method::Build { Some(store?) } else { store.ok() };
    let locks = locks::open(&args)?;
    let opening = emitter.span(Phase::Context);
    let mut opened = contexts::open(&args, environment, store.as_deref(), &locks, &emitter)?;
    drop(opening);
    // Here until the end: the contexts lie in it.
    let _fetched = std::mem::take(&mut opened.fetched);
    let mut request = request(&args, opened, environment, &emitter)?;
    request.net.uploads = store.as_deref().map(Store::uploads);
    let store = match (call.method, store) {
        (Method::Build, Some(store)) => store,
        (_, store) => {
            let teller = Teller { emitter: &emitter, form, style };
            return call::run(call, &request, store.as_deref(), &teller).map(|()| None);
        }
    };
    if args.print_plan {
        let plan = build::plan_only(&request, &store, &emitter)?;
        return print_data(plan::print_plan(&plan).as_bytes()).map(|()| None);
    }
    let outcome = build::build(&request, &store, &emitter)?;
    write_results(&args, &request, &outcome)?;
    Ok(Some(outcome))
}

/// Brings what a build needs into the store, and builds nothing; gives its lock file.
pub(super) fn prefetch(
    args: &BuildArgs,
    mirrors: Vec<Mirror>,
    environment: &Environment,
    (store, emitter): (&Arc<Store>, &Emitter),
) -> Result<Arc<Locks>> {
    let locks = locks::open_as(args, LockMode::Collect, "image prefetch")?;
    let mut opened = contexts::open(args, environment, Some(store), &locks, emitter)?;
    let _fetched = std::mem::take(&mut opened.fetched);
    let mut request = request(args, opened, environment, emitter)?;
    request.net.mirrors = mirrors;
    build::prefetch::collect(&request, store, emitter)?;
    Ok(locks)
}

/// For what is told before a build begins.
pub(super) fn emitter(progress: Progress, style: Style) -> Emitter {
    Emitter::new(Arc::new(Printer::new(form_of(progress, style), style)))
}

/// How a build shows its progress.
pub(super) fn form(args: &BuildArgs, environment: &Environment, style: Style) -> Result<Form> {
    let progress = environment.progress(args.progress)?;
    Ok(if args.quiet { Form::Quiet } else { form_of(progress, style) })
}

/// True when errors are told as JSON too.
pub(super) fn tells_json(args: &BuildArgs, environment: &Environment) -> bool {
    environment.tells_json(args.progress)
}

/// How progress is shown for a flag's word.
fn form_of(progress: Progress, style: Style) -> Form {
    match progress {
        Progress::Quiet => Form::Quiet,
        Progress::Json => Form::Json,
        Progress::Tty => Form::Tty,
        Progress::Auto if style.colour && std::io::stderr().is_terminal() => Form::Tty,
        Progress::Auto | Progress::Plain => Form::Plain,
    }
}

fn request(
    args: &BuildArgs,
    opened: Opened,
    environment: &Environment,
    emitter: &Emitter,
) -> Result<BuildRequest> {
    args.foreign.tell(emitter)?;
    args.real.check()?;
    check_offline(args, environment)?;
    let build_args = values::pairs(&args.build_args, |name| environment.text(name));
    let epoch = values::epoch(args, environment, &build_args)?;
    let further = [(args.load, OutputKind::Load), (args.push, OutputKind::Registry)];
    let Outputs {
        specs: outputs,
        names,
        annotations,
        docker_types,
        keep_times,
        by_digest,
        insecure,
    } = output::all(&args.outputs, &further, &values::build_compression(args))?;
    values::one_stdout(&outputs)?;
    let platforms: Vec<String> =
        args.platform.iter().cloned().chain(args.real.platform()).collect();
    let mut request = BuildRequest {
        context: opened.tree,
        dockerfile: opened.dockerfile,
        contexts: opened.named,
        times: opened.times,
        target: args.target.clone().filter(|target| !target.is_empty()),
        labels: values::labels(&args.labels)?,
        platforms: values::platforms(&platforms, environment)?,
        annotations: values::annotations(args.annotations.iter().chain(&annotations))?,
        tags: values::tags(args.tags.iter().chain(&names))?,
        engine: output::engine(&outputs, environment)?,
        outputs,
        no_cache: args.no_cache,
        shared: opened.caching.shared,
        no_cache_stages: Vec::new(),
        explain: explain(args),
        run: RunSettings::default(),
        entitlements: Vec::new(),
        network: match args.network {
            Network::Default => NetworkMode::Default,
            Network::None => NetworkMode::None,
            Network::Host => NetworkMode::Host,
        },
        pull: match args.real.pull(args.pull) {
            Pull::Always => PullPolicy::Always,
            Pull::Check => PullPolicy::Check,
            Pull::Missing => PullPolicy::Missing,
            Pull::Never => PullPolicy::Never,
        },
        epoch,
        docker_types,
        keep_times,
        push_by_digest: by_digest,
        compression: values::compression(args)?,
        jobs: values::jobs(args.jobs)?,
        account: args.isolation.account(environment, emitter)?,
        emulators: Places {
            given: values::directories(&args.qemu_dirs)?,
            path: environment.path(),
        },
        qemu_image: args.qemu_image.as_deref().map(values::image_name).transpose()?,
        images: opened.images,
        cdi: values::cdi_directories(&args.cdi_dirs),
        secrets: opened.secrets,
        agents: private::agents(&args.ssh, environment)?,
        net: Asked::of(args.disable_content_trust, environment).put_into(NetConfig {
            mirrors: args.mirror.iter().map(|word| Mirror::parse(word)).collect::<Result<_>>()?,
            ..net_config(&args.tls, &args.auth, environment)?
        }),
        locks: opened.locks,
        build_args,
    };
    if insecure {
        let registries = request.tags.iter().map(|name| name.registry.clone());
        request.net.insecure.extend(registries);
    }
    request.net.insecure.extend(opened.caching.insecure);
    args.real.apply(&mut request)?;
    request.run.keep_fsync = args.keep_fsync;
    Ok(request)
}

/// Whether misses are explained, and what the build is known by.
fn explain(args: &BuildArgs) -> Explain {
    let absolute = |path: &Path| {
        let path = if path.is_dir() { std::path::absolute(path).ok() } else { None };
        path.map(|path| path.display().to_string())
    };
    let context = absolute(&args.context).unwrap_or_else(|| args.context.display().to_string());
    let file = args.file.as_deref().unwrap_or(Path::new(""));
    Explain { wanted: args.explain_cache, origin: format!("{context}\n{}", file.display()) }
}

/// What `--offline` contradicts.
fn check_offline(args: &BuildArgs, environment: &Environment) -> Result<()> {
    if !environment.offline() {
        return Ok(());
    }
    let refused = match (args.network, args.real.pull(args.pull)) {
        (Network::Host, _) => "--network host",
        (_, Pull::Always) => "--pull always",
        _ => return Ok(()),
    };
    Err(Error::usage(format!("`{refused}` and offline exclude each other"))
        .hint("leave one of them out; NATIVEBUILD_OFFLINE counts like `--offline`"))
}

pub(super) fn plain(error: &std::io::Error) -> String {
    error.to_string().split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// The context with its ignore rules: those of `--ignorefile`, else `<Dockerfile>.dockerignore` beside the Dockerfile,
/// else `.dockerignore`; podman's names come after docker's.
pub(super) fn open_context(
    context: &Path,
    dockerfile: Option<&Path>,
    given: Option<&Path>,
) -> Result<FileTree> {
    let shown = context.display();
    let dir = fs::open_dir_path(context)
        .or_error(ErrorKind::Context, || format!("cannot open the build context `{shown}`"))?;
    let endings = [".dockerignore", ".containerignore"];
    let own = dockerfile.into_iter().flat_map(|path| {
        endings.iter().map(|ending| {
            let mut name = path.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        })
    });
    let candidates: Vec<PathBuf> = match given {
        Some(path) => vec![path.to_owned()],
        None => own.chain(endings.iter().map(|name| context.join(name))).collect(),
    };
    for path in candidates {
        match std::fs::read(&path) {
            Ok(text) => {
                let name =
                    path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
                let rules = IgnoreRules::parse(&Arc::new(SourceFile::new(name, text)))?;
                return Ok(FileTree::context(dir, Some(rules)));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && given.is_none() => {}
            Err(error) => {
                return Err(
                    Error::context(format!("cannot read {}", path.display())).cause(plain(&error))
                );
            }
        }
    }
    Ok(FileTree::context(dir, None))
}

/// Digest and what was pushed on standard output (unless an output went there), `--iidfile`, `--metadata-file`.
fn write_results(args: &BuildArgs, request: &BuildRequest, outcome: &BuildOutcome) -> Result<()> {
    let digest = outcome.descriptor.digest().to_string();
    if let Some(path) = &args.iidfile {
        write_file(path, digest.as_bytes())?;
    }
    if let Some(path) = &args.metadata_file {
        let mut value = serde_json::json!({
            "containerimage.descriptor": outcome.descriptor,
            "containerimage.digest": digest,
        });
        if let Some(config) = &outcome.config_digest {
            value["containerimage.config.digest"] = config.as_str().into();
        }
        if !outcome.names.is_empty() {
            value["image.name"] = outcome.names.join(",").into();
        }
        let text = serde_json::to_string_pretty(&value)
            .map_err(|error| Error::internal("JSON of the metadata").cause(error))?;
        write_file(path, (text + "\n").as_bytes())?;
    }
    if request.outputs.iter().any(OutputSpec::is_stdout) {
        return Ok(());
    }
    let mut text = format!("{digest}\n");
    if !args.quiet {
        outcome.pushed.iter().for_each(|pushed| text += &(pushed.line() + "\n"));
    }
    print_data(text.as_bytes())
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes)
        .or_error(ErrorKind::Environment, || format!("cannot write {}", path.display()))
}
