//! From the request to one plan: a plan for each platform with the base images it needs, then all of them joined.

use super::check;
use super::coming::Asked;
use super::downloads::Downloads;
use super::finder::Finder;
use super::images::{self, BaseImage};
use super::remote;
use super::request::{BuildRequest, ContextSource, Entitlement};
use super::store::Store;
use crate::dockerfile::{self, ast::Dockerfile, lint::Warning};
use crate::error::{Error, Result};
use crate::oci::spec::ImageConfig;
use crate::oci::{Platform, platform};
use crate::plan::contexts::NamedContext;
use crate::plan::step::{BaseRef, BuildPlan, NetworkMode, RunDevice, StepKind};
use crate::plan::{self, Epoch, PlanRequest, Planned};
use crate::progress::{Emitter, Event};
use crate::source::Span;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

/// Images by how the plan names them.
pub(super) type Images = BTreeMap<BaseRef, BaseImage>;

/// A plan and what it stands on.
#[derive(Debug)]
pub(super) struct PlannedBuild {
    pub(super) plan: BuildPlan,
    pub(super) images: Images,
    /// What of the images is still to come.
    pub(super) downloads: Downloads,
    pub(super) epoch: Option<i64>,
    /// What the checks found in base images.
    pub(super) checks: Vec<Warning>,
}

/// What is asked of the planner, for no platform yet and with the epoch of the request.
pub(super) fn plan_request(request: &BuildRequest) -> PlanRequest {
    PlanRequest {
        build_args: request.build_args.clone(),
        target: request.target.clone(),
        labels: request.labels.clone(),
        platform: None,
        build_platform: Platform::host(),
        network: request.network,
        epoch: request.epoch,
        contexts: request
            .contexts
            .iter()
            .map(|(name, source)| (name.clone(), named(source)))
            .collect(),
        times: request.times.clone(),
    }
}

/// Plans for every platform of the request; base images are looked up on the way, and of those that have to be pulled the
/// manifests and configs.
pub(super) fn plan_all(
    dockerfile: &Dockerfile,
    request: &BuildRequest,
    store: &Store,
    emitter: &Emitter,
) -> Result<PlannedBuild> {
    let mut asked = plan_request(request);
    asked.epoch = match plan::epoch(dockerfile, &asked)? {
        Epoch::None => None,
        Epoch::At(epoch) => Some(epoch),
        Epoch::Of(source) => remote::time_of(&source, request, store, emitter)?,
    };
    let mut bases = Bases {
        dockerfile,
        finder: Finder::new(store, request, emitter),
        images: Images::new(),
        checks: Vec::new(),
    };
    let mut platforms: Vec<Option<Platform>> =
        request.platforms.iter().cloned().map(Some).collect();
    if platforms.is_empty() {
        platforms.push(None);
    }
    let mut plans = Vec::with_capacity(platforms.len());
    for platform in platforms {
        asked.platform = platform;
        plans.push(bases.plan(&asked)?);
    }
    let plan = plan::join(plans).ok_or_else(|| Error::internal("no platform was planned"))?;
    let Bases { finder, images, checks, .. } = bases;
    let downloads = finder.into_downloads();
    Ok(PlannedBuild { plan, images, downloads, epoch: asked.epoch, checks })
}

fn named(source: &ContextSource) -> NamedContext {
    match source {
        ContextSource::Image(reference) => NamedContext::Image(reference.clone()),
        ContextSource::Files(_) => NamedContext::Files,
    }
}

struct Bases<'a> {
    dockerfile: &'a Dockerfile,
    finder: Finder<'a>,
    images: Images,
    checks: Vec<Warning>,
}

impl Bases<'_> {
    /// The plan for one platform.
    fn plan(&mut self, asked: &PlanRequest) -> Result<BuildPlan> {
        let dockerfile = self.dockerfile;
        let plan = loop {
            let configs =
                self.images.iter().map(|(base, image)| (base.clone(), image.config.clone()));
            match plan::plan(dockerfile, asked, &configs.collect())? {
                Planned::Ready(plan) => break plan,
                Planned::Needs(bases) => {
                    for base in bases {
                        let span = from_of(dockerfile, &base);
                        let place = span.map(|span| (Arc::clone(&dockerfile.source), span));
                        let image = self.finder.find(&base, &Asked { place, hint: None })?;
                        let span = span.unwrap_or_default();
                        self.checks.extend(check::wrong_platform(&base, &image.config, span));
                        self.images.insert(base, image);
                    }
                }
            }
        };
        for (base, span) in images::copied_from(&plan) {
            if let Entry::Vacant(entry) = self.images.entry(base) {
                let hint = meant_stage(dockerfile, &entry.key().reference);
                let place = Some((Arc::clone(&plan.source), span));
                let image = self.finder.find(entry.key(), &Asked { place, hint })?;
                entry.insert(image);
            }
        }
        Ok(plan)
    }
}

/// A source of `COPY --from` that is no image may be a misspelt stage.
fn meant_stage(dockerfile: &Dockerfile, wanted: &str) -> Option<String> {
    let names = dockerfile.stages.iter().filter_map(|stage| stage.from.name.as_ref());
    let names: Vec<&str> = names.map(|name| name.text.as_str()).collect();
    let name = dockerfile::suggest::nearest(wanted, &names)?;
    Some(format!("did you mean the stage `{name}`?"))
}

/// Where a FROM names this base.
fn from_of(dockerfile: &Dockerfile, base: &BaseRef) -> Option<Span> {
    let froms = || dockerfile.stages.iter().map(|stage| &stage.from.base);
    froms()
        .find(|word| word.text == base.reference)
        .or_else(|| froms().find(|word| word.text.contains('$')))
        .map(|word| word.span)
}

/// The platform of an image when it is another one. An image that is no index is taken whatever it is made for
/// (dockerfile.md §1.10), but not in silence.
pub(super) fn other_platform(base: &BaseRef, config: &ImageConfig) -> Option<Platform> {
    let found = Platform::of_config(config);
    let fits = platform::best(&base.platform, std::iter::once((0, found.clone()))).is_some();
    (!fits).then_some(found)
}

/// Says what the planner remarked.
pub(super) fn warn(plan: &BuildPlan, emitter: &Emitter) {
    let place = |span: Span| format!("{}:{}", plan.source.name(), plan.source.line(span.start));
    for warning in &plan.warnings {
        let text = warning.message.clone();
        emitter.emit(Event::Warning { text, place: warning.span.map(place) });
    }
}

/// A misspelt stage would quietly be taken from the cache.
pub(super) fn warn_of_filter(names: &[String], dockerfile: &Dockerfile, emitter: &Emitter) {
    let known = |name: &String| {
        let stages = dockerfile.stages.iter().filter_map(|stage| stage.from.name.as_ref());
        stages.into_iter().any(|stage| stage.text.eq_ignore_ascii_case(name))
    };
    for name in names.iter().filter(|name| !known(name)) {
        emitter.warn(format!("`--no-cache-filter` names no stage: `{name}`"));
    }
}

/// What RUNs may have only when `--allow` says so: with all capabilities and no filter, a RUN could take over the machine
/// of a root user.
pub(super) fn check_entitlements(plan: &BuildPlan, request: &BuildRequest) -> Result<()> {
    let allowed = |wanted: &Entitlement| {
        let any_device = Entitlement::Device(None);
        request.entitlements.iter().any(|known| {
            known == wanted || (*known == any_device && matches!(wanted, Entitlement::Device(_)))
        })
    };
    for step in plan.stages.iter().flat_map(|stage| &stage.steps) {
        let StepKind::Run(run) = &step.kind else { continue };
        // Whoever asks for the host's network for all RUNs has allowed it.
        let on_host =
            run.network == Some(NetworkMode::Host) && request.network != NetworkMode::Host;
        if request.net.offline && run.network.unwrap_or(request.network) == NetworkMode::Host {
            return Err(Error::dockerfile(
                "a RUN with the network of the host, and this is offline",
            )
            .at(&plan.source, step.span)
            .hint("leave `--network=host` out, or `--offline` and NATIVEBUILD_OFFLINE"));
        }
        let mut needed = Vec::new();
        needed.extend(run.insecure.then_some(Entitlement::Insecure));
        needed.extend(on_host.then_some(Entitlement::HostNetwork));
        let device = |device: &RunDevice| Entitlement::Device(Some(device.name.clone()));
        needed.extend(run.devices.iter().map(device));
        if let Some(missing) = needed.iter().find(|needed| !allowed(needed)) {
            let message = match missing {
                Entitlement::Device(Some(name)) => format!("device {name} is not allowed"),
                other => format!("{other} is not allowed"),
            };
            return Err(Error::dockerfile(message)
                .at(&plan.source, step.span)
                .hint(format!("if you trust this Dockerfile, allow it: `--allow {missing}`")));
        }
    }
    Ok(())
}
