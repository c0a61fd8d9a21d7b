//! `nativebuild assemble`: a spec and outputs as typed → [`crate::assemble`].

pub mod args;
mod target;

use super::environment::Environment;
use super::progress::{Form, Printer};
use super::report::Style;
use super::timings::TimingsFile;
use super::trust::Asked;
use super::{pkg, print_data, values};
use crate::assemble::spec::{self, Spec};
use crate::assemble::{Assembled, Assembly, Request, Times};
use crate::build::store::Store;
use crate::build::worker::Worker;
use crate::build::{images, output, tree};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::executor::emulation::Places;
use crate::net::NetConfig;
use crate::oci::layout::Origin;
use crate::oci::{Platform, Reference};
use crate::progress::Emitter;
use crate::source::SourceFile;
use crate::timings::{Phase, Timings};
use crate::transfer::copy::Delivered;
use crate::transfer::{Access, Location};
use args::AssembleArgs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use target::{Target, nameless};

/// Names of specs.
const FILES: [&str; 3] = ["image.yaml", "image.yml", "image.json"];

pub(super) fn run(args: AssembleArgs, environment: &Environment, style: Style) -> Result<()> {
    if args.schema {
        return print_data(spec::SCHEMA.as_bytes());
    }
    let timings = TimingsFile::open(args.timings.as_deref())?;
    timings.finish(run_timed(&args, timings.timings(), environment, style))
}

fn run_timed(
    args: &AssembleArgs,
    timings: &Timings,
    environment: &Environment,
    style: Style,
) -> Result<()> {
    let form = if args.quiet { Form::Quiet } else { Form::Plain };
    let emitter = Emitter::new(Arc::new(Printer::new(form, style))).timed(timings.clone());
    let (source, dir) = read(args.file.as_deref())?;
    let (spec, warnings) = spec::parse(&source, &args.set)?;
    for warning in warnings {
        emitter.warn(warning);
    }
    if args.layer_only {
        return layer_only(args, &spec, &dir, environment, &emitter);
    }
    let mut targets =
        args.outputs.iter().map(|text| Target::parse(text)).collect::<Result<Vec<_>>>()?;
    if args.push {
        targets.push(Target::Registry(None));
    }
    Target::check(&targets, spec.name.is_some())?;
    if targets.is_empty() && spec.name.is_none() && !args.print_digest && !args.check {
        return Err(nameless("the store"));
    }
    with_request(args, &spec, &dir, (environment, &emitter), |request| {
        if args.check {
            return Assembly::check(request);
        }
        let planning = emitter.span(Phase::Plan);
        let assembly = Assembly::prepare(request)?;
        drop(planning);
        if args.print_digest {
            let made = assembly.store()?;
            return print_data(format!("{}\n", made.descriptor.digest()).as_bytes());
        }
        Delivery { request, assembly: &assembly }.all(&targets, environment)
    })
}

/// Opens what an assembly needs.
fn with_request(
    args: &AssembleArgs,
    spec: &Spec,
    dir: &Path,
    (environment, emitter): (&Environment, &Emitter),
    work: impl FnOnce(&Request<'_>) -> Result<()>,
) -> Result<()> {
    let path = environment.store(args.place.root.as_ref())?;
    let store = Arc::new(Store::open(&path)?);
    let net = pkg::net_config(&args.place.net, environment)?;
    let net = Asked::of(args.place.disable_content_trust, environment).put_into(net);
    let net = NetConfig { uploads: Some(store.uploads()), ..net };
    let access = Access::new(store.images(), store.sub("tmp"), net, emitter.clone());
    let account = args.isolation.account(environment, emitter)?;
    let emulators = Places { path: environment.path(), ..Places::default() };
    let request = Request {
        spec,
        dir,
        store: &store,
        access: &access,
        account: &account,
        emulators: &emulators,
        path: &environment.text("PATH").unwrap_or_default(),
        times: times(args, spec, dir, environment)?,
        allow_tag: args.allow_tag,
        emitter,
    };
    work(&request)
}

fn times(args: &AssembleArgs, spec: &Spec, dir: &Path, environment: &Environment) -> Result<Times> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let of_environment = match environment.text("SOURCE_DATE_EPOCH") {
        None => None,
        Some(text) if text.is_empty() => None,
        Some(text) => Some(text.parse().map_err(|_| {
            Error::usage(format!("SOURCE_DATE_EPOCH is `{text}`, which is no number of seconds"))
        })?),
    };
    Ok(Times {
        now: now.map_or(0, |now| now.as_secs() as i64),
        epoch: args.source_date_epoch.or(of_environment),
        git: spec.asks_for_git().then(|| values::commit_time(dir).ok()).flatten(),
    })
}

/// The spec, and the directory against which its paths are.
fn read(file: Option<&Path>) -> Result<(Arc<SourceFile>, PathBuf)> {
    let usual = || FILES.iter().map(PathBuf::from).find(|path| path.is_file());
    let file = file.map(Path::to_owned).or_else(usual).ok_or_else(|| {
        Error::usage(format!("there is no {} here", FILES.join(", no ")))
            .hint("name the spec with `-f`")
    })?;
    let mut text = Vec::new();
    if file == Path::new("-") {
        std::io::stdin()
            .lock()
            .read_to_end(&mut text)
            .or_error(ErrorKind::Context, || "cannot read standard input".to_owned())?;
        return Ok((Arc::new(SourceFile::new("standard input", text)), PathBuf::from(".")));
    }
    let shown = file.display().to_string();
    std::fs::File::open(&file)
        .and_then(|mut open| open.read_to_end(&mut text))
        .or_error(ErrorKind::Context, || format!("cannot read `{shown}`"))?;
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.map_or_else(|| PathBuf::from("."), Path::to_owned);
    Ok((Arc::new(SourceFile::new(shown, text)), dir))
}

fn layer_only(
    args: &AssembleArgs,
    spec: &Spec,
    dir: &Path,
    environment: &Environment,
    emitter: &Emitter,
) -> Result<()> {
    let [out] = &args.outputs[..] else {
        return Err(Error::usage("`--layer-only` writes into one directory").hint("add `-o DIR`"));
    };
    if Target::parse(out).is_ok() {
        return Err(Error::usage(format!("`-o {out}` is no directory"))
            .cause("`--layer-only` writes a layer and its description, and no image"));
    }
    with_request(args, spec, dir, (environment, emitter), |request| {
        let layer = Assembly::prepare(request)?.layer_only(Path::new(out))?;
        print_data(format!("{}\n", layer.digest).as_bytes())
    })
}

/// Brings an image to where it is to go.
struct Delivery<'a> {
    request: &'a Request<'a>,
    assembly: &'a Assembly<'a>,
}

impl Delivery<'_> {
    fn all(&self, targets: &[Target], environment: &Environment) -> Result<()> {
        // What is only streamed is never stored.
        let only_streams = !targets.is_empty() && targets.iter().all(Target::streams);
        let stored = if only_streams { None } else { Some(self.assembly.store()?) };
        if let (Some(made), true) = (&stored, targets.is_empty()) {
            return self.name_in_store(made);
        }
        let mut told = stored.as_ref().map(|made| made.descriptor.digest().to_string());
        let mut to_stdout = false;
        for target in targets {
            if let Target::File { path: None, .. } | Target::Tree { path: None, .. } = target {
                to_stdout = true;
            }
            let _span = self.request.emitter.span(Phase::Output);
            match (target, &stored) {
                (Target::File { path, name, .. }, _) if target.streams() => {
                    let digest = self.stream(path.as_deref(), name.as_ref())?;
                    told.get_or_insert(digest);
                }
                (target, Some(made)) => self.one(target, made, environment)?,
                (_, None) => {
                    return Err(Error::internal("an output of an image that is not stored"));
                }
            }
        }
        match told {
            Some(digest) if !to_stdout => print_data(format!("{digest}\n").as_bytes()),
            _ => Ok(()),
        }
    }

    fn name_in_store(&self, made: &Assembled) -> Result<()> {
        let name = made.name.as_ref().ok_or_else(|| nameless("the store"))?;
        self.request.store.images().set_name(name, &made.descriptor, Origin::Built)?;
        let line = format!("{}@{}\n", name.familiar(), made.descriptor.digest());
        print_data(line.as_bytes())
    }

    fn stream(&self, path: Option<&Path>, name: Option<&Reference>) -> Result<String> {
        let mut digest = None;
        output::to_path(path, |out| {
            digest = Some(self.assembly.stream(name, out)?);
            Ok(())
        })?;
        Ok(digest.map(|digest| digest.to_string()).unwrap_or_default())
    }

    fn one(&self, target: &Target, made: &Assembled, environment: &Environment) -> Result<()> {
        let images = self.request.store.images();
        match target {
            Target::File { format, path, name } => {
                let names: Vec<Reference> =
                    name.clone().or(made.name.clone()).into_iter().collect();
                output::save_from(images, &made.descriptor, &names, *format, path.as_deref())
            }
            Target::Registry(name) => {
                let name = name.as_ref().or(made.name.as_ref());
                let name = name.ok_or_else(|| nameless("a registry"))?.clone();
                let pushed =
                    self.request.access.write(&made.descriptor, &Location::Registry(name))?;
                if let Delivered::Pushed(pushed) = pushed {
                    for one in pushed {
                        self.request.emitter.note(one.line());
                    }
                }
                Ok(())
            }
            Target::Copy(to) => self.request.access.write(&made.descriptor, to).map(drop),
            Target::Tree { path, directory } => {
                self.tree(made, path.as_deref(), *directory, environment)
            }
        }
    }

    fn tree(
        &self,
        made: &Assembled,
        path: Option<&Path>,
        directory: bool,
        environment: &Environment,
    ) -> Result<()> {
        let store = self.request.store;
        let platform = Platform::of_descriptor(&made.descriptor).unwrap_or_else(Platform::host);
        let image = images::open(store, &made.descriptor, &platform)?;
        let entered;
        let worker = if let Some(worker) = self.assembly.worker() {
            worker
        } else {
            entered = Worker::enter(store, &environment.account(), &Places::default())?;
            &entered
        };
        let tree = tree::of_image(store, &image, worker)?;
        output::write_tree(worker, tree.as_ref(), path, directory, None)
    }
}
