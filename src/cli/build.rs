//! `nativebuild build`: arguments as typed → [`BuildRequest`] → digest.

use super::args::{BuildArgs, CompressionName, Ids, Network, Progress, Pull};
use super::environment::Environment;
use super::progress::{Form, Printer};
use super::report::Style;
use super::{output, print_data};
use crate::build::annotations::Annotation;
use crate::build::request::{BuildOutcome, BuildRequest, OutputSpec, PullPolicy};
use crate::build::store::Store;
use crate::build::{self};
use crate::context::{FileTree, IgnoreRules};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::executor::emulation::Places;
use crate::executor::namespace::IdMode;
use crate::layers::compress::Compression;
use crate::net::NetConfig;
use crate::oci::{Platform, Reference};
use crate::plan;
use crate::plan::step::NetworkMode;
use crate::progress::Emitter;
use crate::source::SourceFile;
use crate::sys::{SysResultExt, fs};
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// The largest Dockerfile that is read, in bytes.
const LARGEST_DOCKERFILE: u64 = 16 << 20;

pub(super) fn run(args: BuildArgs, environment: &Environment, style: Style) -> Result<()> {
    let emitter = Emitter::new(Arc::new(Printer::new(form(&args, style), style)));
    let request = request(&args, environment, &emitter)?;
    let store = Arc::new(Store::open(&environment.store(args.root.as_ref())?)?);
    if args.print_plan {
        let plan = build::plan_only(&request, &store, &emitter)?;
        return print_data(plan::print_plan(&plan).as_bytes());
    }
    let outcome = build::build(&request, &store, &emitter)?;
    write_results(&args, &request, &outcome)
}

fn form(args: &BuildArgs, style: Style) -> Form {
    match args.progress {
        _ if args.quiet => Form::Quiet,
        Progress::Quiet => Form::Quiet,
        Progress::Json => Form::Json,
        Progress::Tty => Form::Tty,
        Progress::Auto if style.colour && std::io::stderr().is_terminal() => Form::Tty,
        Progress::Auto | Progress::Plain => Form::Plain,
    }
}

fn request(args: &BuildArgs, environment: &Environment, emitter: &Emitter) -> Result<BuildRequest> {
    check_isolation(&args.isolation, emitter)?;
    let (dockerfile, path) = read_dockerfile(args)?;
    let build_args = pairs(&args.build_args, |name| environment.text(name));
    let epoch = epoch(args, environment, &build_args)?;
    let outputs = output::all(&args.outputs, args.load)?;
    one_stdout(&outputs)?;
    Ok(BuildRequest {
        context: open_context(&args.context, path.as_deref())?,
        dockerfile,
        target: args.target.clone().filter(|target| !target.is_empty()),
        labels: labels(&args.labels)?,
        platforms: platforms(&args.platform, environment)?,
        annotations: annotations(&args.annotations)?,
        tags: args.tags.iter().map(|tag| tag_reference(tag)).collect::<Result<_>>()?,
        engine: output::engine(&outputs, environment)?,
        outputs,
        no_cache: args.no_cache,
        network: match args.network {
            Network::Default => NetworkMode::Default,
            Network::None => NetworkMode::None,
            Network::Host => NetworkMode::Host,
        },
        pull: match args.pull {
            Pull::Always => PullPolicy::Always,
            Pull::Check => PullPolicy::Check,
            Pull::Missing => PullPolicy::Missing,
            Pull::Never => PullPolicy::Never,
        },
        epoch,
        compression: compression(args)?,
        jobs: jobs(args)?,
        account: environment.account(args.ids.map(|ids| match ids {
            Ids::Real => IdMode::Real,
            Ids::Range => IdMode::Range,
        })),
        emulators: Places { given: args.qemu_dirs.clone(), path: environment.path() },
        qemu_image: args.qemu_image.clone(),
        images: None,
        net: net_config(environment),
        build_args,
    })
}

/// Docker's and buildah's values mean `auto` (design §10.5).
fn check_isolation(name: &str, emitter: &Emitter) -> Result<()> {
    match name {
        "auto" | "namespaces" => Ok(()),
        "default" | "oci" | "rootless" | "process" | "hyperv" => {
            emitter.warn(format!("`--isolation {name}` is another builder's name; `auto` is used"));
            Ok(())
        }
        "shared-pid" | "chroot" | "traced" => {
            Err(Error::environment(format!("not yet supported: `--isolation {name}`"))
                .hint("`--isolation namespaces` works where user namespaces are allowed"))
        }
        other => Err(Error::usage(format!("unknown isolation `{other}`"))
            .hint("the names are `auto` and `namespaces`")),
    }
}

/// The platforms of comma lists, each once, in the order given; docker's own variable counts when there is no flag.
fn platforms(lists: &[String], environment: &Environment) -> Result<Vec<Platform>> {
    let default: Vec<String> = match lists {
        [] => environment.text("DOCKER_DEFAULT_PLATFORM").into_iter().collect(),
        _ => Vec::new(),
    };
    let mut platforms: Vec<Platform> = Vec::new();
    for word in lists.iter().chain(&default).flat_map(|list| list.split(',')) {
        let platform = match word.trim() {
            "local" => Platform::host(),
            word => Platform::parse(word).map_err(|error| error.with_kind(ErrorKind::Usage))?,
        };
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    if let Some(other) = platforms.iter().find(|platform| platform.os != platforms[0].os) {
        return Err(Error::usage(format!(
            "one build cannot be for two operating systems: `{}` and `{other}`",
            platforms[0]
        ))
        .hint(
            "build one after the other; `nativebuild image import --add` joins their platforms",
        ));
    }
    Ok(platforms)
}

fn annotations(texts: &[String]) -> Result<Vec<Annotation>> {
    let mut all = Vec::new();
    for text in texts {
        all.extend(Annotation::parse(text).map_err(|error| error.with_kind(ErrorKind::Usage))?);
    }
    Ok(all)
}

fn tag_reference(text: &str) -> Result<Reference> {
    let reference = Reference::parse(text).map_err(|error| error.with_kind(ErrorKind::Usage))?;
    if reference.digest.is_some() {
        return Err(Error::usage(format!("a tag cannot hold a digest: `{text}`")));
    }
    Ok(reference)
}

fn one_stdout(outputs: &[OutputSpec]) -> Result<()> {
    if outputs.iter().filter(|output| output.is_stdout()).count() > 1 {
        return Err(Error::usage("only one output can go to standard output"));
    }
    Ok(())
}

/// `NAME=VALUE`, or `NAME` with its value from elsewhere; a name without any value is left out.
fn pairs(list: &[String], elsewhere: impl Fn(&str) -> Option<String>) -> Vec<(String, String)> {
    list.iter()
        .filter_map(|text| match text.split_once('=') {
            Some((name, value)) => Some((name.to_owned(), value.to_owned())),
            None => elsewhere(text).map(|value| (text.clone(), value)),
        })
        .collect()
}

fn labels(list: &[String]) -> Result<Vec<(String, String)>> {
    if list.iter().any(|label| label.starts_with('=') || label.is_empty()) {
        return Err(Error::usage("a label has no name"));
    }
    Ok(pairs(list, |_| Some(String::new())))
}

fn compression(args: &BuildArgs) -> Result<Compression> {
    let name = match args.compression {
        CompressionName::Gzip => "gzip",
        CompressionName::Zstd => "zstd",
        CompressionName::None => "none",
    };
    Compression::parse(name, args.compression_level)
        .map_err(|error| error.with_kind(ErrorKind::Usage))
}

fn jobs(args: &BuildArgs) -> Result<usize> {
    match args.jobs {
        Some(0) => Err(Error::usage("`--jobs` must be at least 1")),
        Some(jobs) => Ok(jobs),
        None => Ok(std::thread::available_parallelism().map_or(1, usize::from)),
    }
}

fn read_dockerfile(args: &BuildArgs) -> Result<(Arc<SourceFile>, Option<PathBuf>)> {
    if args.file.as_deref() == Some(Path::new("-")) {
        let text = read_limited(std::io::stdin().lock(), "standard input")?;
        return Ok((Arc::new(SourceFile::new("Dockerfile", text)), None));
    }
    let path = args.file.clone().unwrap_or_else(|| {
        let (upper, lower) = (args.context.join("Dockerfile"), args.context.join("dockerfile"));
        if !upper.exists() && lower.exists() { lower } else { upper }
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

fn plain(error: &std::io::Error) -> String {
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

/// The context with its ignore rules: `<Dockerfile>.dockerignore` beside the Dockerfile wins over `.dockerignore`.
fn open_context(context: &Path, dockerfile: Option<&Path>) -> Result<FileTree> {
    let shown = context.display();
    let dir = fs::open_dir_path(context)
        .or_error(ErrorKind::Context, || format!("cannot open the build context `{shown}`"))?;
    let own = dockerfile.map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    let candidates = own.into_iter().chain([context.join(".dockerignore")]);
    for path in candidates {
        match std::fs::read(&path) {
            Ok(text) => {
                let name =
                    path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
                let rules = IgnoreRules::parse(&Arc::new(SourceFile::new(name, text)))?;
                return Ok(FileTree::context(dir, Some(rules)));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(
                    Error::context(format!("cannot read {}", path.display())).cause(plain(&error))
                );
            }
        }
    }
    Ok(FileTree::context(dir, None))
}

/// `--source-date-epoch`, the build argument, or the environment, in this order; empty means none, and so does
/// BuildKit's `context`, since a local directory has no time of its own.
fn epoch(
    args: &BuildArgs,
    environment: &Environment,
    build_args: &[(String, String)],
) -> Result<Option<i64>> {
    let given = build_args.iter().rev().find(|(name, _)| name == "SOURCE_DATE_EPOCH");
    let text = args
        .source_date_epoch
        .clone()
        .or_else(|| given.map(|(_, value)| value.clone()))
        .or_else(|| environment.text("SOURCE_DATE_EPOCH"));
    match text.as_deref().map(str::trim) {
        None | Some("" | "context") => Ok(None),
        Some("git") => commit_time(&args.context).map(Some),
        Some(text) => text.parse().map(Some).map_err(|_| {
            Error::usage(format!("invalid SOURCE_DATE_EPOCH: `{text}`"))
                .hint("it is a number of seconds since 1970, or `git`")
        }),
    }
}

fn commit_time(context: &Path) -> Result<i64> {
    let what = "cannot get the commit time of the build context from git";
    let output = Command::new("git")
        .arg("-C")
        .arg(context)
        .args(["log", "-1", "--format=%ct"])
        .output()
        .map_err(|error| Error::environment(what).cause(plain(&error)).hint("install git"))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    text.parse().map_err(|_| {
        Error::context(what).cause(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    })
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
