//! From finished stages to the image: configs, manifests, the index when there are several, names.

use super::annotations::{self, Place};
use super::assemble::{self, Assembled, Form, Types};
use super::care;
use super::output;
use super::request::{BuildOutcome, BuildRequest, OutputKind};
use super::sharing;
use super::stage::{self, Builder};
use crate::error::{Error, Result};
use crate::oci::layout::{Layout, Origin};
use crate::oci::spec::{Descriptor, digest_of};
use crate::oci::{Platform, merge};
use crate::plan::step::BuildPlan;
use crate::progress::Event;

/// Refuses what could only fail after everything was built.
pub(super) fn check(request: &BuildRequest, plan: &BuildPlan) -> Result<()> {
    let one_only = |kind| matches!(kind, OutputKind::Docker | OutputKind::Load);
    if request.outputs.iter().any(|output| one_only(output.kind)) {
        let platforms: Vec<Platform> =
            plan.targets.iter().map(|target| plan.platform_of(*target)).collect();
        output::this_machines(&platforms)?;
    }
    let known =
        |wanted: &Platform| plan.targets.iter().any(|target| plan.platform_of(*target) == *wanted);
    let mut placed =
        request.annotations.iter().filter_map(|noted| Some((noted, noted.platform.as_ref()?)));
    if let Some((noted, platform)) = placed.find(|(_, platform)| !known(platform)) {
        return Err(Error::usage(format!(
            "the annotation `{}` is for {platform}, which is not built",
            noted.key
        )));
    }
    if request.docker_types
        && let Some(lost) = request.annotations.first()
    {
        return Err(Error::usage(format!(
            "the annotation `{}` has no place in an image of Docker's form",
            lost.key
        ))
        .hint("leave `--format docker` and `oci-mediatypes=false` out"));
    }
    let about_index = |place| matches!(place, Place::Index | Place::IndexDescriptor);
    if !has_index(request, plan)
        && let Some(lost) = request.annotations.iter().find(|noted| about_index(noted.place))
    {
        return Err(Error::usage(format!(
            "there is no index for the annotation `{}`: one platform is built",
            lost.key
        ))
        .hint(
            "a build for several platforms makes one, `--build-arg BUILDKIT_MULTI_PLATFORM=1` too",
        ));
    }
    Ok(())
}

fn types(request: &BuildRequest) -> Types {
    if request.docker_types { Types::Docker } else { Types::Oci }
}

/// True when the result is an index: for several platforms, or when BuildKit's argument asks for one.
fn has_index(request: &BuildRequest, plan: &BuildPlan) -> bool {
    let asked = request.build_args.iter().rev().find(|(name, _)| name == "BUILDKIT_MULTI_PLATFORM");
    let truthy = |value: &str| matches!(value.to_ascii_lowercase().as_str(), "1" | "t" | "true");
    plan.targets.len() > 1 || asked.is_some_and(|(_, value)| truthy(value))
}

/// Manifests, index and names of the finished targets.
pub(super) fn finish(builder: &Builder<'_>) -> Result<BuildOutcome> {
    let (plan, request) = (builder.plan, builder.request);
    let made =
        plan.targets.iter().map(|target| image(builder, *target)).collect::<Result<Vec<_>>>()?;
    let mut images: Vec<_> = made.iter().map(|image| image.descriptor.clone()).collect();
    let mut descriptor = images[0].clone();
    if has_index(request, plan) {
        let layout = builder.store.images();
        let noted = |place| annotations::of(&request.annotations, place, None);
        let annotations = noted(Place::Index);
        let kind = types(request).index();
        descriptor = merge::write_index_as(layout, images.clone(), annotations, kind)?;
        descriptor.set_annotations(noted(Place::IndexDescriptor));
        images.sort_by_key(Platform::of_descriptor);
    }
    care::room::check_all(builder.store, builder.emitter)?;
    let names: Vec<String> = request.tags.iter().map(ToString::to_string).collect();
    if request.tags.is_empty() {
        // Whoever is told the digest has it; a name does that by itself.
        make_durable(builder.store.images(), &made, &descriptor)?;
    }
    for tag in &request.tags {
        builder.store.images().set_name(tag, &descriptor, Origin::Built)?;
    }
    let digest = descriptor.digest().to_string();
    builder.emitter.emit(Event::Built { digest, names: names.clone() });
    let config_digest = match &made[..] {
        [one] => Some(one.config_digest.clone()),
        _ => None,
    };
    Ok(BuildOutcome { descriptor, images, config_digest, names, pushed: Vec::new() })
}

/// Configs, manifests and index; the layers are durable already.
fn make_durable(images: &Layout, made: &[Assembled], whole: &Descriptor) -> Result<()> {
    for image in made {
        images.sync_written(&[&image.config_digest, &digest_of(&image.descriptor)?])?;
    }
    images.sync_written(&[&digest_of(whole)?])
}

/// Config and manifest of one target.
fn image(builder: &Builder<'_>, target: usize) -> Result<Assembled> {
    let plan = builder.plan;
    let state = builder.states.complete(target).ok_or_else(stage::stopped)?;
    let layers = state.layers()?;
    if layers.len() > 125 {
        builder.emitter.warn(format!(
            "the image has {} layers; Docker and containerd take at most 125 to 127",
            layers.len()
        ));
    }
    let mut config = plan.stages[target].config.clone();
    config.created = builder.base_created(target)?;
    sharing::inline::put(builder, target, &mut config)?;
    let noted = &builder.request.annotations;
    assemble::assemble(
        builder.store,
        config,
        &state.history,
        &layers,
        &Form { epoch: builder.epoch, annotations: noted, types: types(builder.request) },
    )
}

impl Builder<'_> {
    /// `created` of the image on which a stage finally stands.
    fn base_created(&self, stage: usize) -> Result<Option<String>> {
        Ok(self.image_below(stage)?.and_then(|image| image.config.created.clone()))
    }
}
