//! From the request to one plan: a plan for each platform with the base images it needs, then all of them joined.

use super::images::{self, BaseImage, Finder};
use super::request::BuildRequest;
use super::store::Store;
use crate::dockerfile::{self, ast::Dockerfile};
use crate::error::{Error, Result};
use crate::oci::{Platform, platform};
use crate::plan::step::{BaseRef, BuildPlan, StepKind};
use crate::plan::{self, PlanRequest, Planned};
use crate::progress::{Emitter, Event};
use crate::source::Span;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Images by how the plan names them.
pub(super) type Images = BTreeMap<BaseRef, BaseImage>;

/// A plan and what it stands on.
#[derive(Debug)]
pub(super) struct PlannedBuild {
    pub(super) plan: BuildPlan,
    pub(super) images: Images,
    pub(super) epoch: Option<i64>,
}

/// Plans for every platform of the request; base images are looked up, and pulled, on the way.
pub(super) fn plan_all(
    dockerfile: &Dockerfile,
    request: &BuildRequest,
    store: &Store,
    emitter: &Emitter,
) -> Result<PlannedBuild> {
    let mut asked = PlanRequest {
        build_args: request.build_args.clone(),
        target: request.target.clone(),
        labels: request.labels.clone(),
        platform: None,
        build_platform: Platform::host(),
        network: request.network,
        epoch: request.epoch,
    };
    asked.epoch = plan::epoch(dockerfile, &asked)?;
    let mut bases = Bases {
        dockerfile,
        finder: Finder::new(store, request, emitter),
        images: Images::new(),
        emitter,
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
    Ok(PlannedBuild { plan, images: bases.images, epoch: asked.epoch })
}

struct Bases<'a> {
    dockerfile: &'a Dockerfile,
    finder: Finder<'a>,
    images: Images,
    emitter: &'a Emitter,
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
                        let found = self.finder.find(&base);
                        let image = found.map_err(|error| at_from(error, dockerfile, &base))?;
                        warn_of_platform(&image, &base, dockerfile, self.emitter);
                        self.images.insert(base, image);
                    }
                }
            }
        };
        for (base, span) in images::copied_from(&plan) {
            let wanted = base.reference.clone();
            if let Entry::Vacant(place) = self.images.entry(base) {
                let image = self.finder.find(place.key()).map_err(|error| {
                    meant_stage(error, dockerfile, &wanted).at(&plan.source, span)
                })?;
                place.insert(image);
            }
        }
        Ok(plan)
    }
}

/// Puts an error about a base image at the FROM that names it.
fn at_from(error: Error, dockerfile: &Dockerfile, base: &BaseRef) -> Error {
    match from_of(dockerfile, base) {
        Some(span) => error.at(&dockerfile.source, span),
        None => error,
    }
}

/// A source of `COPY --from` that is no image may be a misspelt stage.
fn meant_stage(error: Error, dockerfile: &Dockerfile, wanted: &str) -> Error {
    let names = dockerfile.stages.iter().filter_map(|stage| stage.from.name.as_ref());
    let names: Vec<&str> = names.map(|name| name.text.as_str()).collect();
    match dockerfile::suggest::nearest(wanted, &names) {
        Some(name) => error.hint(format!("did you mean the stage `{name}`?")),
        None => error,
    }
}

/// Where a FROM names this base.
fn from_of(dockerfile: &Dockerfile, base: &BaseRef) -> Option<Span> {
    let froms = || dockerfile.stages.iter().map(|stage| &stage.from.base);
    froms()
        .find(|word| word.text == base.reference)
        .or_else(|| froms().find(|word| word.text.contains('$')))
        .map(|word| word.span)
}

/// An image that is no index is taken whatever it is made for (dockerfile.md §1.10), but not in silence.
fn warn_of_platform(image: &BaseImage, base: &BaseRef, dockerfile: &Dockerfile, emitter: &Emitter) {
    let found = Platform::of_config(&image.config);
    if platform::best(&base.platform, std::iter::once((0, found.clone()))).is_some() {
        return;
    }
    let text = format!(
        "InvalidBaseImagePlatform: the base image `{}` is made for `{found}`, expected `{}`",
        base.reference, base.platform
    );
    let place = from_of(dockerfile, base)
        .map(|span| format!("{}:{}", dockerfile.source.name(), dockerfile.source.line(span.start)));
    emitter.emit(Event::Warning { text, place });
}

/// Says what the parser and the planner remarked.
pub(super) fn warn(plan: &BuildPlan, dockerfile: &Dockerfile, emitter: &Emitter) {
    let place =
        |span: Span| Some(format!("{}:{}", plan.source.name(), plan.source.line(span.start)));
    for warning in &dockerfile.warnings {
        let text = format!("{}: {}", warning.rule, warning.message);
        emitter.emit(Event::Warning { text, place: place(warning.span) });
    }
    for warning in &plan.warnings {
        let text = warning.message.clone();
        emitter.emit(Event::Warning { text, place: warning.span.and_then(place) });
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

/// A RUN with all capabilities and no filter could take over the machine of a root user; nobody can allow it yet.
pub(super) fn refuse_insecure(plan: &BuildPlan) -> Result<()> {
    for step in plan.stages.iter().flat_map(|stage| &stage.steps) {
        if matches!(&step.kind, StepKind::Run(run) if run.insecure) {
            return Err(Error::dockerfile("security.insecure is not allowed")
                .cause("not yet supported: RUN --security=insecure")
                .at(&plan.source, step.span));
        }
    }
    Ok(())
}
