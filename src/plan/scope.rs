//! ARG and ENV: which names have which values where.
//!
//! In: the request's build arguments, meta ARGs, and a stage's declarations in order. Out: look-ups for expansion,
//! the environment of RUN, the `|N` list of history. The last of ARG and ENV wins; dockerfile.md §1.5.

use super::budget::STRING_COST;
use super::step::Env;
use super::{Inputs, PlanRequest, expander::Expander};
use crate::dockerfile::ast::Dockerfile;
use crate::error::Result;
use crate::oci::platform::Platform;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Proxy variables that need no ARG; each also in lower case.
const PROXIES: [&str; 5] = ["ALL_PROXY", "FTP_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"];

/// Declared with ARG these show in history but are no environment variables.
const NEVER_IN_ENV: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// The build argument that an epoch of the request stands for.
pub(super) const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Variables outside stages: build arguments, platform arguments, meta ARGs.
#[derive(Debug)]
pub(super) struct Globals {
    build_args: BTreeMap<String, String>,
    /// Platform arguments and meta ARGs with a value.
    values: BTreeMap<String, String>,
    /// Names of the platform arguments.
    predefined: BTreeSet<&'static str>,
    proxy: Env,
}

impl Globals {
    /// Evaluates the meta ARGs of a file.
    pub(super) fn new(
        dockerfile: &Dockerfile,
        request: &PlanRequest,
        expander: &Expander<'_>,
    ) -> Result<Self> {
        let mut build_args: BTreeMap<String, String> = request.build_args.iter().cloned().collect();
        if let Some(epoch) = request.epoch {
            build_args.insert(EPOCH.to_owned(), epoch.to_string());
        }
        let mut globals = Self {
            proxy: proxy_env(&build_args),
            build_args,
            values: BTreeMap::new(),
            predefined: BTreeSet::new(),
        };
        for (name, value) in platform_args(dockerfile, request) {
            globals.predefined.insert(name);
            let value = globals.build_arg(name).map_or(value, str::to_owned);
            globals.values.insert(name.to_owned(), value);
        }
        for argument in dockerfile.meta_args.iter().flat_map(|meta| &meta.args) {
            let name = expander.word(&argument.name, &|name| globals.get(name))?;
            let value = match (globals.build_arg(&name), &argument.default) {
                (Some(value), _) => Some(value.to_owned()),
                (None, Some(default)) => Some(expander.word(default, &|name| globals.get(name))?),
                (None, None) => None,
            };
            if let Some(value) = value {
                globals.values.insert(name, value);
            }
        }
        Ok(globals)
    }

    /// What they would be without any build argument.
    pub(super) fn of_defaults(inputs: &Inputs<'_>) -> Result<Self> {
        let request = PlanRequest { build_args: Vec::new(), ..inputs.request.clone() };
        Self::new(inputs.dockerfile, &request, &inputs.expander())
    }

    /// Names of the platform arguments.
    pub(super) fn predefined(&self) -> impl Iterator<Item = &str> {
        self.predefined.iter().copied()
    }

    /// Value for FROM lines, and for `ARG name` without a default.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.values.get(name).cloned()
    }

    /// Value given with the request.
    pub(super) fn build_arg(&self, name: &str) -> Option<&str> {
        self.build_args.get(name).map(String::as_str)
    }

    /// Proxy variables given as build arguments, each name in both spellings.
    pub(super) fn proxy(&self) -> &Env {
        &self.proxy
    }

    /// Names of build arguments that neither `declared` nor the builder itself knows.
    pub(super) fn unused<'a>(&'a self, declared: &BTreeSet<String>) -> Vec<&'a str> {
        let known = |name: &str| {
            declared.contains(name)
                || self.predefined.contains(name)
                || name == EPOCH
                || name.starts_with("BUILDKIT_")
                || is_proxy(name)
        };
        self.build_args.keys().map(String::as_str).filter(|name| !known(name)).collect()
    }
}

fn is_proxy(name: &str) -> bool {
    PROXIES.iter().any(|proxy| *proxy == name || proxy.to_lowercase() == name)
}

/// Of both spellings given the lower-case one counts, as in BuildKit.
fn proxy_env(build_args: &BTreeMap<String, String>) -> Env {
    let mut out = Env::new();
    for upper in PROXIES {
        let lower = upper.to_lowercase();
        if let Some(value) = build_args.get(&lower).or_else(|| build_args.get(upper)) {
            out.push((upper.to_owned(), value.clone()));
            out.push((lower, value.clone()));
        }
    }
    out
}

fn platform_args(dockerfile: &Dockerfile, request: &PlanRequest) -> Vec<(&'static str, String)> {
    let target = request.platform.as_ref().unwrap_or(&request.build_platform);
    let build = &request.build_platform;
    let last_name = || {
        let last = dockerfile.stages.last().and_then(|stage| stage.from.name.as_ref());
        last.map_or_else(|| "default".to_owned(), |name| name.text.clone())
    };
    let stage = request.target.clone().filter(|name| !name.is_empty()).unwrap_or_else(last_name);
    let parts = |platform: &Platform| {
        [
            platform.to_string(),
            platform.os.clone(),
            platform.os_version.clone(),
            platform.architecture.clone(),
            platform.variant.clone(),
        ]
    };
    let names = |prefix: [&'static str; 5], platform| prefix.into_iter().zip(parts(platform));
    names(["BUILDPLATFORM", "BUILDOS", "BUILDOSVERSION", "BUILDARCH", "BUILDVARIANT"], build)
        .chain(names(
            ["TARGETPLATFORM", "TARGETOS", "TARGETOSVERSION", "TARGETARCH", "TARGETVARIANT"],
            target,
        ))
        .chain([("TARGETSTAGE", stage)])
        .collect()
}

/// Variables of a stage at one instruction; a stage built on another starts with a copy.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    vars: Ordered,
    /// ARGs in the order of their first declaration, with the value they were declared with.
    args: Ordered,
}

impl Scope {
    /// Current value.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.vars.get(name).map(str::to_owned)
    }

    /// ENV, or a variable of the base image.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.vars.set(name, value);
    }

    /// ARG; without a value the name only goes into history.
    pub(super) fn declare(&mut self, name: &str, value: Option<&str>) {
        self.args.set(name, value.unwrap_or_default());
        if let Some(value) = value
            && !NEVER_IN_ENV.contains(&name)
        {
            self.vars.set(name, value);
        }
    }

    /// `name=value` of every ARG declared so far, with its value of now.
    pub(super) fn arg_list(&self) -> Vec<String> {
        let current = |name: &str, declared: &str| {
            format!("{name}={}", self.vars.get(name).unwrap_or(declared))
        };
        self.args.pairs.iter().map(|(name, declared)| current(name, declared)).collect()
    }

    /// True when `name` was declared with ARG in this stage or one below.
    pub(super) fn is_arg(&self, name: &str) -> bool {
        self.args.get(name).is_some()
    }

    /// Names of variables and ARGs.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.vars.pairs.iter().chain(&self.args.pairs).map(|(name, _)| name.as_str())
    }

    /// All variables in order.
    pub(super) fn env(&self) -> &Env {
        &self.vars.pairs
    }

    /// Bytes that a copy of [`Scope::env`] takes.
    pub(super) fn env_size(&self) -> usize {
        self.vars.size
    }

    /// Bytes that a copy takes, roughly.
    pub(super) fn size(&self) -> usize {
        2 * (self.vars.size + self.args.size)
    }
}

/// Pairs in order of first mention, each name once.
#[derive(Clone, Debug, Default)]
struct Ordered {
    pairs: Env,
    index: HashMap<String, usize>,
    size: usize,
}

impl Ordered {
    fn get(&self, name: &str) -> Option<&str> {
        self.index.get(name).map(|at| self.pairs[*at].1.as_str())
    }

    fn set(&mut self, name: &str, value: &str) {
        if let Some(at) = self.index.get(name) {
            let old = &mut self.pairs[*at].1;
            self.size = self.size - old.len() + value.len();
            value.clone_into(old);
            return;
        }
        self.index.insert(name.to_owned(), self.pairs.len());
        self.pairs.push((name.to_owned(), value.to_owned()));
        self.size += name.len() + value.len() + STRING_COST;
    }
}
