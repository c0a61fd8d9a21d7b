//! build.yml: the text that says what a package is, checked.
//!
//! In: a [`SourceFile`]. Out: a [`BuildYml`] with its defaults filled in, or every mistake found in one go, each with
//! its place. No file is read, so what the text names is not looked for. linuxkit.md §1, and §7 for `depends`.

mod depends;
#[cfg(test)]
mod tests;

pub use depends::{DependTarget, Depends, ImageList, parse_image_list};

use super::{build_args::BuildArg, config};
use crate::{
    dockerfile::suggest,
    error::{Error, Result},
    source::{SourceFile, Span},
    yaml::{self, Entry, Node, Problems},
};
use std::{rc::Rc, sync::Arc};

/// Name of the file in a package directory, unless another is asked for.
pub const FILE_NAME: &str = "build.yml";

/// Architectures of a package that does not say: those of the manuals from 2018 to 2021.
const DEFAULT_ARCHES: &[&str] = &["amd64", "arm64", "s390x"];

/// Go's names of the architectures that Linux runs on.
const GOARCH: &[&str] = &[
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64",
    "ppc64le", "riscv64", "s390x",
];

/// Other names of the common ones.
const OTHER_NAMES: &[(&str, &str)] =
    &[("x86_64", "amd64"), ("x86-64", "amd64"), ("aarch64", "arm64"), ("i386", "386")];

const KEYS: &[&str] = &[
    "image",
    "org",
    "tag",
    "dockerfile",
    "arches",
    "extra-sources",
    "gitrepo",
    "network",
    "disable-cache",
    "disable-content-trust",
    "config",
    "buildArgs",
    "depends",
];

/// What a build.yml says.
#[derive(Clone, Debug)]
pub struct BuildYml {
    /// Name of the image without organisation and tag; never empty.
    pub image: String,
    /// What stands before the image's name; may hold a registry and slashes.
    pub org: String,
    /// Template of the tag, in Go's text/template.
    pub tag: String,
    /// Path of the Dockerfile in the package directory.
    pub dockerfile: String,
    /// Architectures in Go's names, each once. None: the package is skipped.
    pub arches: Vec<String>,
    /// Trees and files from outside the package directory.
    pub extra_sources: Vec<ExtraSource>,
    /// Where the source is kept; only told, never fetched.
    pub gitrepo: String,
    /// Whether RUN may reach the network.
    pub network: bool,
    /// Whether every step runs anew.
    pub disable_cache: bool,
    /// What the key of the older manuals says, when it is there; true: a push goes on though signatures are asked for.
    pub disable_content_trust: Option<bool>,
    /// Value of the label `org.mobyproject.config`.
    pub config: Option<String>,
    /// Build arguments as written.
    pub build_args: Vec<BuildArg>,
    /// Images that are put into the build context.
    pub depends: Option<Depends>,
}

/// An entry of `extra-sources`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraSource {
    /// Path of what is added; relative to the package directory.
    pub source: String,
    /// Where it stands in the build context.
    pub destination: String,
    /// Its place in the build.yml.
    pub span: Span,
}

impl Default for BuildYml {
    fn default() -> Self {
        Self {
            image: String::new(),
            org: "linuxkit".to_owned(),
            tag: "{{.Hash}}".to_owned(),
            dockerfile: "Dockerfile".to_owned(),
            arches: DEFAULT_ARCHES.iter().map(|&arch| arch.to_owned()).collect(),
            extra_sources: Vec::new(),
            gitrepo: "https://github.com/linuxkit/linuxkit".to_owned(),
            network: false,
            disable_cache: false,
            disable_content_trust: None,
            config: None,
            build_args: Vec::new(),
            depends: None,
        }
    }
}

/// Reads the text of a build.yml. All its mistakes come back as one error (see [`Error::several`]).
pub fn parse(source: &Arc<SourceFile>) -> Result<BuildYml> {
    let mut problems = Problems::new(source);
    let mut yml = BuildYml::default();
    let Some(root) = yaml::parse(&mut problems)? else {
        let error = Error::package("the file is empty").at(source, Span::new(0, 0));
        return Err(error.hint("name the image at least: `image: NAME`"));
    };
    let (mut name, mut name_is_wrong) = (root.span, false);
    let entries = problems.entries(&root, "");
    for entry in entries.unwrap_or_default() {
        if entry.name() == "image" {
            name = entry.key.span;
            name_is_wrong = entry.value.scalar().is_none();
        }
        yml.read(entry, &mut problems);
    }
    // A list or text instead of a mapping has been noted; null is a file that says nothing.
    let says_something_else = entries.is_none() && !root.is_null();
    if yml.image.is_empty() && !name_is_wrong && !says_something_else {
        let error = Error::package("`image` is required").hint("name it: `image: NAME`");
        problems.push(name, error);
    }
    problems.finish()?;
    Ok(yml)
}

impl BuildYml {
    fn read(&mut self, entry: &Entry, problems: &mut Problems) {
        let (what, node) = (entry.name(), &entry.value);
        match what {
            "image" => set(&mut self.image, problems.text(node, what)),
            "org" => set(&mut self.org, problems.text(node, what)),
            "tag" => {
                let given = problems.text(node, what).filter(|tag| !tag.is_empty());
                set(&mut self.tag, given);
            }
            "dockerfile" => set(&mut self.dockerfile, dockerfile(node, problems)),
            "arches" => self.arches = arches(node, problems),
            "extra-sources" => self.extra_sources = extra_sources(node, problems),
            "gitrepo" => set(&mut self.gitrepo, problems.text(node, what)),
            "network" => set(&mut self.network, problems.boolean(node, what)),
            "disable-cache" => set(&mut self.disable_cache, problems.boolean(node, what)),
            "disable-content-trust" => {
                self.disable_content_trust = problems.boolean(node, what);
            }
            "config" => self.config = config::label(node, problems),
            "buildArgs" => self.build_args = build_args(node, problems),
            "depends" => self.depends = depends::read(node, problems),
            _ => problems.unknown_key(entry, "", KEYS),
        }
    }
}

/// A value that is not there (null) leaves the default, as Go does.
fn set<T>(field: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *field = given;
    }
}

fn dockerfile(node: &Node, problems: &mut Problems) -> Option<String> {
    let path = problems.text(node, "dockerfile")?;
    if path.is_empty() {
        problems.report(node.span, "`dockerfile` is empty");
    } else if path.contains("..") {
        // Any two dots: the tool that this follows refuses `a..b`, too.
        let message = format!("`dockerfile` may not hold `..`: `{path}`");
        let hint = "the Dockerfile must stand in the package directory";
        problems.push(node.span, Error::package(message).hint(hint));
    }
    Some(path)
}

/// The list takes the place of the default, also when it is null.
fn arches(node: &Node, problems: &mut Problems) -> Vec<String> {
    let mut arches = Vec::new();
    for (arch, span) in problems.texts(node, "arches").unwrap_or_default() {
        if problems.is_full() {
            break;
        }
        if !GOARCH.contains(&arch.as_str()) {
            let other = OTHER_NAMES.iter().find(|(other, _)| *other == arch);
            let near = other.map(|(_, name)| *name).or_else(|| suggest::nearest(&arch, GOARCH));
            let hint = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known architectures are {}", GOARCH.join(", ")),
            };
            let message = format!("unknown architecture `{arch}`");
            problems.push(span, Error::package(message).hint(hint));
        } else if !arches.contains(&arch) {
            arches.push(arch);
        }
    }
    arches
}

fn extra_sources(node: &Node, problems: &mut Problems) -> Vec<ExtraSource> {
    let mut sources = Vec::new();
    for (text, span) in problems.texts(node, "extra-sources").unwrap_or_default() {
        match text.split_once(':').filter(|(_, destination)| !destination.contains(':')) {
            Some((source, destination)) if !source.is_empty() && !destination.is_empty() => {
                let (source, destination) = (source.to_owned(), destination.to_owned());
                sources.push(ExtraSource { source, destination, span });
            }
            _ => {
                let message = format!("`{text}` is not of the form SOURCE:DESTINATION");
                let hint = "for example `../shared:src/shared`";
                problems.push(span, Error::package(message).hint(hint));
            }
        }
    }
    sources
}

fn build_args(node: &Rc<Node>, problems: &mut Problems) -> Vec<BuildArg> {
    let mut args = Vec::new();
    for (text, span) in problems.texts(node, "buildArgs").unwrap_or_default() {
        match BuildArg::parse(&text, problems.source(), span) {
            Ok(arg) => args.push(arg),
            Err(error) => problems.push(span, error),
        }
    }
    args
}
