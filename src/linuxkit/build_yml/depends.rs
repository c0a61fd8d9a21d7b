//! `depends.docker-images`: images that are saved into the package directory before it is built (linuxkit.md §7).
//!
//! Paths are checked as texts: they must lead into the package directory. Every image must have a digest, since
//! otherwise one tag would stand for many contents.

use crate::yaml::{Node, Problems};
use crate::{
    context::pattern,
    error::{Error, Result},
    oci::reference::Reference,
    source::{SourceFile, Span},
};
use std::sync::Arc;

const KEYS: &[&str] = &["list", "from-file", "target", "target-dir"];

/// Images for the build context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Depends {
    /// Which images.
    pub images: ImageList,
    /// Where they are saved.
    pub target: DependTarget,
}

/// Where the names of the images stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageList {
    /// In the build.yml.
    Given(Vec<Reference>),
    /// In a file of the package directory; [`parse_image_list`] reads its text.
    File {
        /// Path relative to the package directory.
        path: String,
        /// Where the build.yml names it.
        span: Span,
    },
}

/// Where the images are saved, relative to the package directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DependTarget {
    /// All in one archive.
    Archive(String),
    /// Each in an archive of its own; what is in the directory goes away first.
    Directory(String),
}

/// A value and its place.
type Placed = (String, Span);

pub(super) fn read(node: &Node, problems: &mut Problems) -> Option<Depends> {
    let mut depends = None;
    for entry in problems.entries(node, "depends")? {
        if entry.name() == "docker-images" {
            depends = docker_images(&entry.value, problems);
        } else {
            problems.unknown_key(entry, "depends", &["docker-images"]);
        }
    }
    depends
}

fn docker_images(node: &Node, problems: &mut Problems) -> Option<Depends> {
    const HERE: &str = "depends.docker-images";
    let (mut list, mut file, mut archive, mut directory) = (None, None, None, None);
    for entry in problems.entries(node, HERE)? {
        let (key, value) = (entry.name(), &entry.value);
        let what = format!("{HERE}.{key}");
        match key {
            "list" => list = problems.texts(value, &what).filter(|list| !list.is_empty()),
            "from-file" => file = path(value, &what, problems),
            "target" => archive = path(value, &what, problems),
            "target-dir" => directory = path(value, &what, problems),
            _ => problems.unknown_key(entry, HERE, KEYS),
        }
    }
    if let (Some(_), Some((_, span))) = (&list, &file) {
        exclusive(problems, *span, "list", "from-file");
    }
    if let (Some(_), Some((_, span))) = (&archive, &directory) {
        exclusive(problems, *span, "target", "target-dir");
    }
    let images = match (list, file) {
        (Some(list), _) => ImageList::Given(references(list, problems)),
        (None, Some((path, span))) => ImageList::File { path, span },
        (None, None) => return None,
    };
    let target = match (archive, directory) {
        (Some((path, _)), _) => DependTarget::Archive(path),
        (None, Some((path, _))) => DependTarget::Directory(path),
        (None, None) => {
            let error = Error::package(format!("`{HERE}` does not say where to save the images"));
            problems.push(node.span, error.hint("give `target` or `target-dir`"));
            return None;
        }
    };
    Some(Depends { images, target })
}

fn exclusive(problems: &mut Problems, span: Span, one: &str, other: &str) {
    let message = format!("`{one}` and `{other}` of `depends.docker-images` exclude each other");
    problems.push(span, Error::package(message).hint("remove one of them"));
}

/// A path into the package directory, cleaned; an empty one is not there.
fn path(node: &Node, what: &str, problems: &mut Problems) -> Option<Placed> {
    let text = problems.text(node, what).filter(|text| !text.is_empty())?;
    let cleaned = pattern::clean(text.as_bytes());
    let complaint = if text.starts_with('/') {
        "must be relative to the package directory"
    } else if cleaned == b"." {
        "must not be the package directory itself"
    } else if cleaned == b".." || cleaned.starts_with(b"../") {
        "must be within the package directory"
    } else {
        return Some((String::from_utf8_lossy(&cleaned).into_owned(), node.span));
    };
    problems.report(node.span, format!("`{what}` {complaint}: `{text}`"));
    None
}

fn references(list: Vec<Placed>, problems: &mut Problems) -> Vec<Reference> {
    let mut references = Vec::new();
    for (text, span) in list {
        match reference(&text) {
            Ok(reference) => references.push(reference),
            Err(error) => problems.push(span, error),
        }
    }
    references
}

fn reference(text: &str) -> Result<Reference> {
    let reference = Reference::parse(text)?;
    if reference.digest.is_none() {
        let error = Error::package(format!("image `{text}` lacks a digest"));
        return Err(
            error.hint("name it as NAME@sha256:…, so that the package always gets the same image")
        );
    }
    Ok(reference)
}

/// The images of a `from-file`: one a line; empty lines and lines that start with `#` say nothing.
pub fn parse_image_list(source: &Arc<SourceFile>) -> Result<Vec<Reference>> {
    let mut problems = Problems::new(source);
    let text = std::str::from_utf8(source.text()).map_err(|error| {
        let at = error.valid_up_to();
        Error::package("the list of images is not UTF-8 text").at(source, Span::new(at, at + 1))
    })?;
    let lines =
        text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let list = lines.map(|(index, line)| (line.to_owned(), source.line_span(index + 1))).collect();
    let references = references(list, &mut problems);
    problems.finish()?;
    Ok(references)
}
