//! `nativebuild kaniko-executor`, and the program under the name `executor`: kaniko's options → those of `build`.
//!
//! Where kaniko has another default, it is kaniko's: no cache without `--cache`, a push unless `--no-push` is given.
//! Design §10.5.

mod flags;

pub use flags::KanikoTable;

use super::args::{BuildArgs, Cli, Command, CompressionName, Progress};
use super::compat::ForeignArgs;
use super::environment::Environment;
use super::report::Style;
use super::{build, values};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use clap::{Args, Parser};
use std::path::{Path, PathBuf};

/// kaniko's options with a meaning.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct KanikoArgs {
    /// Dockerfile, as seen from here or from the context
    #[arg(short = 'f', long, value_name = "PATH", default_value = "Dockerfile")]
    pub dockerfile: PathBuf,
    /// Directory whose files COPY and ADD may take; `dir://` may stand before it
    #[arg(short, long, value_name = "DIR", default_value = "/workspace/")]
    pub context: String,
    /// Directory below it that is taken instead
    #[arg(long, value_name = "DIR")]
    pub context_sub_path: Option<PathBuf>,
    /// Name for the image; may be repeated
    #[arg(short, long = "destination", value_name = "NAME")]
    pub destinations: Vec<String>,
    /// Go on without signatures where the environment asks for them
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub disable_content_trust: Option<bool>,
    /// Do not push the image
    #[arg(long, alias = "noPush")]
    pub no_push: bool,
    /// Value of an ARG; may be repeated
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub build_args: Vec<String>,
    /// Stage to build
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// Label for the image; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<String>,
    /// Annotation of the manifest; may be repeated
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    pub annotations: Vec<String>,
    /// Secret for `RUN --mount=type=secret`; may be repeated
    #[arg(long = "secret", value_name = "SPEC")]
    pub secrets: Vec<String>,
    /// Platform of the image
    #[arg(long, alias = "customPlatform", value_name = "OS/ARCH[/VARIANT]")]
    pub custom_platform: Option<String>,
    /// Take steps from the cache
    #[arg(long)]
    pub cache: bool,
    /// Repository for the steps, or `oci:DIR` [default: the first destination with `/cache` behind it]
    #[arg(long, value_name = "REPOSITORY")]
    pub cache_repo: Option<String>,
    /// Only read from there
    #[arg(long)]
    pub no_push_cache: bool,
    /// Write a docker archive
    #[arg(long, alias = "tarPath", value_name = "FILE")]
    pub tar_path: Option<PathBuf>,
    /// Write an OCI layout
    #[arg(long, value_name = "DIR")]
    pub oci_layout_path: Option<PathBuf>,
    /// Write the image digest to a file
    #[arg(long, value_name = "FILE")]
    pub digest_file: Option<PathBuf>,
    /// Write `NAME@DIGEST` for each destination to a file
    #[arg(long, value_name = "FILE")]
    pub image_name_with_digest_file: Option<PathBuf>,
    /// Write `NAME:TAG@DIGEST` for each destination to a file
    #[arg(long, value_name = "FILE")]
    pub image_name_tag_with_digest_file: Option<PathBuf>,
    /// Compression of new layers
    #[arg(long, value_enum)]
    pub compression: Option<CompressionName>,
    /// Its level
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub compression_level: Option<i32>,
    /// Let all times be 1970, unless SOURCE_DATE_EPOCH says another
    #[arg(long)]
    pub reproducible: bool,
    /// Destinations may speak plain http or show any certificate
    #[arg(long, alias = "skip-tls-verify")]
    pub insecure: bool,
    /// So may registries of base images
    #[arg(long, alias = "skip-tls-verify-pull")]
    pub insecure_pull: bool,
    /// So may this registry; may be repeated
    #[arg(long, alias = "skip-tls-verify-registry", value_name = "HOST[:PORT]")]
    pub insecure_registry: Vec<String>,
    /// Certificates of authorities to trust for one registry; may be repeated
    #[arg(long, value_name = "HOST=FILE")]
    pub registry_certificate: Vec<String>,
    /// Our certificate for one registry, and its key; may be repeated
    #[arg(long, value_name = "HOST=CERT,KEY")]
    pub registry_client_cert: Vec<String>,
    /// Whom to ask first for images of Docker Hub; may be repeated
    #[arg(long, value_name = "HOST[:PORT]")]
    pub registry_mirror: Vec<String>,
    /// Whom to ask first for images of another registry; may be repeated
    #[arg(long, value_name = "REGISTRY=HOST[:PORT][;…]")]
    pub registry_map: Vec<String>,
    /// How much is printed
    #[arg(short, long, value_name = "LEVEL", default_value = "info")]
    pub verbosity: String,
    /// Options without a meaning here.
    #[command(flatten)]
    pub foreign: ForeignArgs<KanikoTable>,
}

pub(super) fn run(args: KanikoArgs, environment: &Environment, style: Style) -> Result<()> {
    let progress = progress(&args.verbosity)?;
    args.foreign.tell(&build::emitter(progress, style))?;
    let elsewhere = args.tar_path.is_some() || args.oci_layout_path.is_some();
    if !args.no_push && args.destinations.is_empty() && !elsewhere {
        return Err(Error::usage("there is no `--destination`").hint("or use `--no-push`"));
    }
    let build_args = BuildArgs { progress, ..as_build(&args, environment)? };
    let Some(outcome) = build::carry_out(build_args, environment, style)? else { return Ok(()) };
    let digest = outcome.descriptor.digest();
    for (path, with_tag) in
        [(&args.image_name_with_digest_file, false), (&args.image_name_tag_with_digest_file, true)]
    {
        let Some(path) = path else { continue };
        let mut text = String::new();
        for name in &args.destinations {
            let mut reference = values::tag_reference(name)?;
            if !with_tag {
                reference.tag = None;
            }
            text.push_str(&format!("{}@{digest}\n", shown(&reference.to_string(), with_tag)));
        }
        std::fs::write(path, text)
            .or_error(ErrorKind::Environment, || format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// A full name, without the tag that a missing one stands for.
fn shown(name: &str, with_tag: bool) -> &str {
    if with_tag { name } else { name.strip_suffix(":latest").unwrap_or(name) }
}

/// The same build in the words of `nativebuild build`.
fn as_build(args: &KanikoArgs, environment: &Environment) -> Result<BuildArgs> {
    let context = context(&args.context, args.context_sub_path.as_deref())?;
    let mut build = plain(context.clone())?;
    let below = context.join(&args.dockerfile);
    build.file = match args.dockerfile.exists() {
        true => Some(args.dockerfile.clone()),
        // The default name may be spelt otherwise, which `build` knows.
        false if args.dockerfile == Path::new("Dockerfile") => None,
        false => Some(below),
    };
    build.tags.clone_from(&args.destinations);
    build.tls.tls_verify = args.insecure_pull.then_some(false);
    build.tls.insecure.clone_from(&args.insecure_registry);
    for text in &args.registry_certificate {
        build.tls.of_host.push(certificate(text)?);
    }
    for text in &args.registry_client_cert {
        build.tls.clients.push(client(text)?);
    }
    build.mirror = mirrors(args)?;
    if args.insecure {
        let repository = args.cache_repo.iter().filter(|name| !name.starts_with("oci:"));
        for name in args.destinations.iter().chain(repository) {
            build.tls.insecure.push(values::tag_reference(name)?.registry);
        }
    }
    build.build_args.clone_from(&args.build_args);
    build.target.clone_from(&args.target);
    build.labels.clone_from(&args.labels);
    build.annotations.clone_from(&args.annotations);
    build.secrets.clone_from(&args.secrets);
    build.platform = args.custom_platform.iter().cloned().collect();
    build.no_cache = !args.cache;
    share(args, &mut build)?;
    let quoted =
        |path: &Path| format!("\"dest={}\"", path.display().to_string().replace('"', "\"\""));
    build.outputs.extend(args.tar_path.iter().map(|path| format!("type=docker,{}", quoted(path))));
    build.outputs.extend(
        args.oci_layout_path.iter().map(|path| format!("type=oci,tar=false,{}", quoted(path))),
    );
    build.disable_content_trust = args.disable_content_trust;
    build.push = !args.no_push && !args.destinations.is_empty();
    build.iidfile.clone_from(&args.digest_file);
    build.compression = args.compression.unwrap_or(CompressionName::Gzip);
    build.compression_level = args.compression_level.filter(|level| *level >= 0);
    build.auth.authfile = logins(environment).filter(|path| path.exists());
    if args.reproducible && environment.text("SOURCE_DATE_EPOCH").is_none() {
        build.source_date_epoch = Some("0".to_owned());
    }
    Ok(build)
}

/// The cache of other machines in the words of `build`. As in kaniko, one that cannot be written is a warning.
fn share(args: &KanikoArgs, build: &mut BuildArgs) -> Result<()> {
    if !args.cache {
        return Ok(());
    }
    let place = match (&args.cache_repo, args.destinations.first()) {
        (Some(repository), _) => match repository.strip_prefix("oci:") {
            Some(dir) => {
                let dir = dir.replace('"', "\"\"");
                let to = format!("type=local,mode=max,\"dest={dir}\"");
                (to, format!("type=local,\"src={dir}\""))
            }
            None => in_registry(repository)?,
        },
        (None, Some(name)) if !args.no_push => {
            let name = values::tag_reference(name)?;
            in_registry(&format!("{}/{}/cache", name.registry, name.repository))?
        }
        _ => return Ok(()),
    };
    let (to, from) = place;
    build.real.cache_from.push(from);
    if !args.no_push_cache {
        build.real.cache_to.push(format!("{to},ignore-error=true"));
    }
    Ok(())
}

/// All steps under one tag, which kaniko's own, a hash for each step, never is.
fn in_registry(repository: &str) -> Result<(String, String)> {
    let name = values::tag_reference(repository)?;
    if repository.contains('@') || !repository.ends_with(&name.repository) {
        return Err(Error::usage(format!("`--cache-repo {repository}` is no repository"))
            .hint("write `REGISTRY/NAME`, without a tag"));
    }
    let spec = format!("type=registry,ref={}/{}:nativebuild", name.registry, name.repository);
    Ok((spec.clone() + ",mode=max", spec))
}

/// Mirrors in the words of `build`, those of a map first.
fn mirrors(args: &KanikoArgs) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for pair in args.registry_map.iter().flat_map(|text| text.split(';')) {
        let parts = pair.split_once('=').filter(|(from, to)| !from.is_empty() && !to.is_empty());
        let (from, to) = parts.ok_or_else(|| {
            Error::usage(format!("`--registry-map {pair}` names no two registries"))
                .hint("write `REGISTRY=HOST[:PORT]`, several with `;` between them")
        })?;
        all.push(mirror(from, to));
    }
    all.extend(args.registry_mirror.iter().map(|host| mirror("docker.io", host)));
    Ok(all)
}

fn mirror(registry: &str, host: &str) -> String {
    let near = ["localhost", "127.", "[::1]"].iter().any(|start| host.starts_with(start));
    let scheme = if near { "http" } else { "https" };
    format!("{registry}={scheme}://{host}")
}

/// `HOST=FILE`.
fn certificate(text: &str) -> Result<(String, PathBuf)> {
    let parts = text.split_once('=').filter(|(host, file)| !host.is_empty() && !file.is_empty());
    let (host, file) = parts.ok_or_else(|| {
        Error::usage(format!("`--registry-certificate {text}` names no host and file"))
            .hint("write `HOST[:PORT]=FILE`")
    })?;
    Ok((host.to_owned(), file.into()))
}

/// `HOST=CERT,KEY`.
fn client(text: &str) -> Result<(String, PathBuf, PathBuf)> {
    let bad = || {
        Error::usage(format!("`--registry-client-cert {text}` names no host and two files"))
            .hint("write `HOST[:PORT]=CERTIFICATE,KEY`")
    };
    let (host, files) = text.split_once('=').ok_or_else(bad)?;
    let (file, key) = files.split_once(',').ok_or_else(bad)?;
    if [host, file, key].contains(&"") {
        return Err(bad());
    }
    Ok((host.to_owned(), file.into(), key.into()))
}

/// Where kaniko's users put their logins, when no variable names another place.
fn logins(environment: &Environment) -> Option<PathBuf> {
    let named =
        ["REGISTRY_AUTH_FILE", "DOCKER_CONFIG"].iter().any(|name| environment.get(name).is_some());
    (!named).then(|| PathBuf::from("/kaniko/.docker/config.json"))
}

fn progress(verbosity: &str) -> Result<Progress> {
    match verbosity {
        "panic" | "fatal" | "error" => Ok(Progress::Quiet),
        "warn" | "warning" | "info" | "debug" | "trace" => Ok(Progress::Plain),
        other => Err(Error::usage(format!("unknown verbosity `{other}`"))
            .hint("the levels are trace, debug, info, warn, error, fatal and panic")),
    }
}

/// `build` of a context with nothing but defaults.
fn plain(context: PathBuf) -> Result<BuildArgs> {
    let words = ["nativebuild", "build", "--"].map(std::ffi::OsString::from);
    let parsed = Cli::try_parse_from(words.into_iter().chain([context.into_os_string()]));
    match parsed.map(|cli| cli.command) {
        Ok(Command::Build(build)) => Ok(*build),
        _ => Err(Error::internal("`build` does not take a context")),
    }
}

fn context(text: &str, below: Option<&Path>) -> Result<PathBuf> {
    let path = match text.split_once("://") {
        None => text,
        Some(("dir", path)) => path,
        Some((scheme, _)) => {
            return Err(Error::environment(format!("not yet supported: `--context {scheme}://…`"))
                .hint("fetch it and name the directory"));
        }
    };
    Ok(below.map_or_else(|| PathBuf::from(path), |below| Path::new(path).join(below)))
}
