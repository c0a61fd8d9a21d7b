//! What instructions of a stage change: variables, image config, platform.
//!
//! In: the base (nothing, an image's config, or another stage's state). Out: the state a stage begins with;
//! dockerfile.md §1.5, §1.10, §2.2.

use super::budget::STEP_COST;
use super::graph::{Base, Graph};
use super::image_config::{self, ImageEnv};
use super::scope::Scope;
use super::seen::Seen;
use super::{Inputs, Mode, lint, paths};
use crate::error::{Error, Result};
use crate::oci::platform::Platform;
use crate::oci::spec::ImageConfig;

/// What a stage hands to those built on it.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// Variables.
    pub(super) scope: Scope,
    /// Image config; its `Env` is in `env` until the end.
    pub(super) config: ImageConfig,
    /// ENV.
    pub(super) env: ImageEnv,
    /// Platform of the root file system.
    pub(super) platform: Platform,
    /// False when the base image is not known, so that any variable may be set.
    pub(super) is_known: bool,
    /// A WORKDIR was seen.
    pub(super) workdir_set: bool,
}

impl State {
    /// Working directory, absolute.
    pub(super) fn cwd(&self) -> String {
        paths::absolute("/", &self.config.config.working_dir)
    }

    /// The finished config.
    pub(super) fn image_config(&self) -> ImageConfig {
        let mut config = self.config.clone();
        config.config.env = self.env.clone().into_entries();
        config
    }

    /// For expansion; what is not there is noted.
    pub(super) fn lookup<'a>(&'a self, seen: &'a Seen) -> impl Fn(&str) -> Option<String> + 'a {
        |name| {
            let value = self.scope.get(name);
            if value.is_none() && self.is_known && !self.scope.is_arg(name) {
                seen.unset(name, || lint::meant(name, self.scope.names()));
            }
            value
        }
    }

    /// Bytes that a copy takes, roughly.
    pub(super) fn size(&self) -> usize {
        let env: usize = self.env.pairs().map(|(name, value)| name.len() + value.len() + 128).sum();
        STEP_COST + 2 * env + self.scope.size() + image_config::size(&self.config)
    }
}

/// State of stage `number` before its first instruction; `states` holds those of the stages before it.
pub(super) fn start(
    inputs: &Inputs<'_>,
    graph: &Graph,
    number: usize,
    states: &[Option<State>],
) -> Result<State> {
    let node = &graph.nodes[number];
    let platform = node.platform.as_ref().unwrap_or(inputs.target_platform());
    let mut state = match &node.base {
        Base::Stage(stage) => {
            let base = states[*stage]
                .as_ref()
                .ok_or_else(|| Error::internal("a stage is planned before its base"))?;
            let mut state = base.clone();
            state.config.config.on_build.clear();
            state
        }
        Base::Scratch | Base::Files(_) => State {
            scope: Scope::default(),
            config: image_config::scratch(platform),
            env: ImageEnv::new(Vec::new()),
            platform: platform.clone(),
            is_known: true,
            workdir_set: false,
        },
        Base::Image(base) => {
            let found = inputs.bases.get(base);
            let mut config = match found {
                Some(found) => image_config::inherited(found),
                None if inputs.mode == Mode::Build => {
                    return Err(Error::internal("a stage is planned without its base's config"));
                }
                None => image_config::scratch(platform),
            };
            let explicit = node.platform.is_some() || inputs.request.platform.is_some();
            let platform =
                if explicit { platform.clone() } else { own_platform(&config, platform) };
            let env = ImageEnv::new(std::mem::take(&mut config.config.env));
            let (scope, is_known) = (Scope::default(), found.is_some());
            State { scope, config, env, platform, is_known, workdir_set: false }
        }
    };
    let working_dir = &mut state.config.config.working_dir;
    if !working_dir.is_empty() {
        *working_dir = paths::absolute("/", working_dir);
    }
    // The image's variables come again over ARGs of the same name that shadowed them in the base stage.
    for (name, value) in state.env.pairs() {
        state.scope.set(name, value);
    }
    Ok(state)
}

/// Nobody asked for a platform: an image of another one decides.
fn own_platform(config: &ImageConfig, wanted: &Platform) -> Platform {
    let same = config.os == wanted.os && config.architecture == wanted.architecture;
    if same || config.os.is_empty() || config.architecture.is_empty() {
        return wanted.clone();
    }
    Platform {
        os: config.os.clone(),
        os_version: String::new(),
        architecture: config.architecture.clone(),
        variant: config.variant.clone().unwrap_or_default(),
    }
}
