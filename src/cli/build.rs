//! `nativebuild build`: arguments as typed → [`BuildRequest`] → digest.

use super::args::{BuildArgs, Ids, Network, Progress, Pull};
use super::environment::Environment;
use super::output::{self, Outputs};
use super::progress::{Form, Printer};
use super::report::Style;
use super::{print_data, private, values};
use crate::build::request::{BuildOutcome, BuildRequest, OutputSpec, PullPolicy};
use crate::build::store::Store;
use crate::build::{self};
use crate::context::{FileTree, IgnoreRules};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::executor::emulation::Places;
use crate::executor::settings::RunSettings;
use crate::net::NetConfig;
use crate::plan;
use crate::plan::step::NetworkMode;
use crate::progress::Emitter;
use crate::source::SourceFile;
use crate::sys::{SysResultExt, fs};
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest Dockerfile that is read, in bytes.
const LARGEST_DOCKERFILE: u64 = 16 << 20;

pub(super) fn run(args: BuildArgs, environment: &Environment, style: Style) -> Result<()> {
    carry_out(args, environment, style).map(drop)
}

/// Builds; nothing was built when only the plan was asked for.
pub(super) fn carry_out(
    args: BuildArgs,
    environment: &Environment,
    style: Style,
) -> Result<Option<BuildOutcome>> {
    let emitter = Emitter::new(Arc::new(Printer::new(form(&args, environment, style)?, style)));
    let request = request(&args, environment, &emitter)?;
    let store = Arc::new(Store::open(&environment.store(args.root.as_ref())?)?);
    if args.print_plan {
        let plan = build::plan_only(&request, &store, &emitter)?;
        return print_data(plan::print_plan(&plan).as_bytes()).map(|()| None);
    }
    let outcome = build::build(&request, &store, &emitter)?;
    write_results(&args, &request, &outcome)?;
    Ok(Some(outcome))
}

/// For what is told before a build begins.
pub(super) fn emitter(progress: Progress, style: Style) -> Emitter {
    Emitter::new(Arc::new(Printer::new(form_of(progress, style), style)))
}

fn form(args: &BuildArgs, environment: &Environment, style: Style) -> Result<Form> {
    let progress = environment.progress(args.progress)?;
    Ok(if args.quiet { Form::Quiet } else { form_of(progress, style) })
}

/// True when errors are told as JSON too.
pub(super) fn tells_json(args: &BuildArgs, environment: &Environment) -> bool {
    environment.progress(args.progress).is_ok_and(|progress| progress == Progress::Json)
}

/// How progress is shown for a flag's word.
pub(super) fn form_of(progress: Progress, style: Style) -> Form {
    match progress {
        Progress::Quiet => Form::Quiet,
        Progress::Json => Form::Json,
        Progress::Tty => Form::Tty,
        Progress::Auto if style.colour && std::io::stderr().is_terminal() => Form::Tty,
        Progress::Auto | Progress::Plain => Form::Plain,
    }
}

fn request(args: &BuildArgs, environment: &Environment, emitter: &Emitter) -> Result<BuildRequest> {
    args.foreign.tell(emitter)?;
    args.real.check()?;
    values::check_isolation(&args.isolation, emitter)?;
    let (dockerfile, path) = read_dockerfile(args)?;
    let build_args = values::pairs(&args.build_args, |name| environment.text(name));
    let epoch = values::epoch(args, environment, &build_args)?;
    let Outputs { specs: outputs, names, annotations } =
        output::all(&args.outputs, args.load, &values::build_compression(args))?;
    values::one_stdout(&outputs)?;
    let platforms: Vec<String> =
        args.platform.iter().cloned().chain(args.real.platform()).collect();
    let mut request = BuildRequest {
        context: open_context(&args.context, path.as_deref(), args.real.ignorefile.as_deref())?,
        dockerfile,
        target: args.target.clone().filter(|target| !target.is_empty()),
        labels: values::labels(&args.labels)?,
        platforms: values::platforms(&platforms, environment)?,
        annotations: values::annotations(args.annotations.iter().chain(&annotations))?,
        tags: values::tags(args.tags.iter().chain(&names))?,
        engine: output::engine(&outputs, environment)?,
        outputs,
        no_cache: args.no_cache,
        no_cache_stages: Vec::new(),
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
        compression: values::compression(args)?,
        jobs: values::jobs(args.jobs)?,
        account: environment.account(args.ids.map(Ids::mode)),
        emulators: Places {
            given: values::directories(&args.qemu_dirs)?,
            path: environment.path(),
        },
        qemu_image: args.qemu_image.as_deref().map(values::image_name).transpose()?,
        images: None,
        secrets: private::secrets(&args.secrets, environment)?,
        agents: private::agents(&args.ssh, environment)?,
        net: net_config(environment),
        build_args,
    };
    args.real.apply(&mut request)?;
    Ok(request)
}

fn read_dockerfile(args: &BuildArgs) -> Result<(Arc<SourceFile>, Option<PathBuf>)> {
    if args.file.as_deref() == Some(Path::new("-")) {
        let text = read_limited(std::io::stdin().lock(), "standard input")?;
        return Ok((Arc::new(SourceFile::new("Dockerfile", text)), None));
    }
    let path = args.file.clone().unwrap_or_else(|| {
        let names = ["Dockerfile", "dockerfile", "Containerfile"];
        let mut paths = names.iter().map(|name| args.context.join(name));
        paths.find(|path| path.exists()).unwrap_or_else(|| args.context.join(names[0]))
    });
    let shown = path.strip_prefix("./").unwrap_or(&path).display().to_string();
    let file = std::fs::File::open(&path).map_err(|error| {
        let made =
            Error::dockerfile(format!("cannot read the Dockerfile `{shown}`")).cause(plain(&error));
        if args.file.is_none() && args.context.is_dir() {
            made.hint("name another file with `-f`")
        } else {
            made
        }
    })?;
    let text = read_limited(file, &shown)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = if args.file.is_some() { shown } else { name.unwrap_or(shown) };
    Ok((Arc::new(SourceFile::new(name, text)), Some(path)))
}

pub(super) fn plain(error: &std::io::Error) -> String {
    error.to_string().split(" (os error").next().unwrap_or_default().to_lowercase()
}

fn read_limited(reader: impl Read, what: &str) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    reader
        .take(LARGEST_DOCKERFILE + 1)
        .read_to_end(&mut text)
        .or_error(ErrorKind::Dockerfile, || format!("cannot read the Dockerfile `{what}`"))?;
    if text.len() as u64 > LARGEST_DOCKERFILE {
        return Err(Error::dockerfile(format!("the Dockerfile `{what}` is larger than 16 MiB")));
    }
    Ok(text)
}

/// The context with its ignore rules: those of `--ignorefile`, else `<Dockerfile>.dockerignore` beside the Dockerfile,
/// else `.dockerignore`; podman's names come after docker's.
fn open_context(
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

/// Proxies of the environment, for pulling.
pub(super) fn net_config(environment: &Environment) -> NetConfig {
    let either = |name: &str| {
        environment.text(name).or_else(|| environment.text(&name.to_ascii_lowercase()))
    };
    NetConfig {
        https_proxy: either("HTTPS_PROXY").or_else(|| either("ALL_PROXY")),
        no_proxy: either("NO_PROXY").unwrap_or_default(),
        ..NetConfig::default()
    }
}

/// Digest on standard output (unless an output went there), `--iidfile`, `--metadata-file`.
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
    let taken = request.outputs.iter().any(OutputSpec::is_stdout);
    if taken { Ok(()) } else { print_data(format!("{digest}\n").as_bytes()) }
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes)
        .or_error(ErrorKind::Environment, || format!("cannot write {}", path.display()))
}
