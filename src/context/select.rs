//! From source paths to [`Selected`] nodes: cleaning, wildcards, links, and good errors for what is not there.
//!
//! In: sources as expanded, with their places; out: what each came to, in source order, matches sorted. All sources
//! are looked at before an error is given, so one run names all that are missing. Wildcards are matched part by part
//! (none crosses a `/`); only the part before the first wildcard, and each match itself, follows links. Spec:
//! dockerfile §1.7 (1-4, 13, 14), design §8 and §10.10.

use std::sync::Arc;

use crate::context::ignore::IgnoreRules;
use crate::context::pattern::{Pattern, has_wildcard};
use crate::context::resolve::{Resolved, read_link, resolve};
use crate::context::tree::{FileTree, Selected, show};
use crate::error::{Error, Result};
use crate::source::{SourceFile, Span};
use crate::sys::fs::{self, Kind, Stat};
use crate::sys::root;

/// Most names of a directory that are looked through for a similar one.
const MAX_SIBLINGS: usize = 5000;

/// How sources are to be read.
#[derive(Clone, Copy, Debug, Default)]
pub struct SelectOptions<'a> {
    /// Instruction, for messages: `COPY` or `ADD`.
    pub instruction: &'a str,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude` patterns.
    pub exclude: &'a [String],
    /// The Dockerfile, to which the spans of the sources belong.
    pub dockerfile: Option<&'a Arc<SourceFile>>,
}

impl FileTree {
    /// Resolves sources. A wildcard may come to nothing; a plain path must be there.
    pub fn select(
        &self,
        sources: &[(String, Span)],
        options: SelectOptions<'_>,
    ) -> Result<Vec<Selected>> {
        let exclude = match options.exclude {
            [] => None,
            values => Some(Arc::new(IgnoreRules::from_flag("--exclude", values)?)),
        };
        let mut all = Vec::new();
        let mut errors = Vec::new();
        for (index, (text, span)) in sources.iter().enumerate() {
            let mut source = Source { tree: self, text, index, options, found: Vec::new() };
            match source.find(exclude.as_ref()) {
                Ok(()) => all.append(&mut source.found),
                Err(error) => errors.push(match options.dockerfile {
                    Some(dockerfile) => error.at(dockerfile, *span),
                    None => error,
                }),
            }
        }
        match Error::several(errors) {
            None => Ok(all),
            Some(error) => Err(error),
        }
    }
}

/// One source path.
struct Source<'a> {
    tree: &'a FileTree,
    text: &'a str,
    index: usize,
    options: SelectOptions<'a>,
    found: Vec<Selected>,
}

impl<'a> Source<'a> {
    fn find(&mut self, exclude: Option<&Arc<IgnoreRules>>) -> Result<()> {
        let (base, kept) = self.split_pivot();
        let base = clean_rooted(base);
        if has_wildcard(&base) {
            self.expand(&base)?;
        } else {
            let found = self.follow(&base, None)?;
            self.found.extend(found);
        }
        if let Some(kept) = kept {
            self.keep_parents(&clean_rooted(kept))?;
        }
        for selected in &mut self.found {
            selected.exclude = exclude.cloned();
        }
        // Unlike a directory, a file is matched by its own name.
        self.found.retain(|selected| match exclude {
            Some(rules) if !selected.is_dir() => rules.decide(&selected.name).included,
            _ => true,
        });
        Ok(())
    }

    /// Under `--parents`: the part before the first `/./`, from which paths are kept, and the part after it.
    fn split_pivot(&self) -> (&'a str, Option<&'a str>) {
        if !self.options.parents {
            return (self.text, None);
        }
        // A leading `./` is as good as none, but a pivot right after it counts: `./x/./y`.
        match self.text.find("/./") {
            Some(at) => (&self.text[..at], Some(&self.text[at + 3..])),
            None => ("", Some(self.text)),
        }
    }

    /// Turns what was found into starting points of which only what `pattern` names is taken.
    fn keep_parents(&mut self, pattern: &[u8]) -> Result<()> {
        self.found.retain(Selected::is_dir);
        let include = match pattern {
            b"" => None,
            pattern => Some(Arc::new(IgnoreRules::single(pattern)?)),
        };
        for selected in &mut self.found {
            selected.parents = true;
            selected.include.clone_from(&include);
        }
        if !has_wildcard(pattern) {
            for selected in &self.found {
                self.require(&selected.path, pattern)?;
            }
        }
        Ok(())
    }

    /// A plain `--parents` path must be there, without any link on the way.
    fn require(&self, base: &[u8], path: &[u8]) -> Result<()> {
        let full = join(base, path);
        let above = resolve(self.tree.root(), root::split_last(&full).0)?;
        if let Some(link) = above.links.first() {
            return Err(self
                .absent(&show(&full))
                .cause(format!("`{}` is a symbolic link", show(link)))
                .hint(
                    "name the path that the link leads to: `--parents` follows no links on the way",
                ));
        }
        let stat = root::lstat_opt(self.tree.root(), &full);
        match stat.map_err(|error| self.tree.unreadable(&full, &error))? {
            Some(stat) if self.tree.is_visible(&full, &stat)? => Ok(()),
            stat => {
                let missing = above.missing.or_else(|| Some(full.clone()));
                let found = Resolved { path: full.clone(), missing, ..Resolved::default() };
                Err(self.missing(&full, &found, stat.as_ref())?)
            }
        }
    }

    /// What a plain path, or a match, leads to.
    fn follow(&self, path: &[u8], matched: Option<&[u8]>) -> Result<Option<Selected>> {
        let found = resolve(self.tree.root(), path)?;
        let mut hidden_link = false;
        if let Some(rules) = self.tree.ignore() {
            hidden_link = found.links.iter().any(|link| !rules.decide(link).included);
        }
        match found.stat {
            Some(stat) if !hidden_link && self.tree.is_visible(&found.path, &stat)? => {
                let mut selected = Selected::whole(&found.path, stat);
                selected.source = self.index;
                selected.name = root::split_last(path).1.unwrap_or_default().to_vec();
                selected.matched = matched.map(<[u8]>::to_vec);
                // A socket in a rootfs is in no layer.
                let is_nothing = stat.kind == Kind::Socket && !self.tree.is_context();
                Ok(Some(selected).filter(|_| !is_nothing))
            }
            stat => Err(self.missing(path, &found, stat.as_ref())?),
        }
    }

    /// Finds the matches of a path with wildcards.
    fn expand(&mut self, path: &[u8]) -> Result<()> {
        let parts: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
        let plain = parts.iter().position(|part| has_wildcard(part)).unwrap_or(parts.len());
        let patterns = parts[plain..]
            .iter()
            .map(|part| Pattern::glob(part))
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(|bad| {
                Error::dockerfile(format!("`{}` is no valid pattern", self.text))
                    .cause(bad)
                    .hint("write `[[]` for a `[` that stands for itself")
            })?;
        let base = resolve(self.tree.root(), &parts[..plain].join(&b'/'))?;
        let Some(stat) = base.stat.filter(Stat::is_dir) else { return Ok(()) };
        if !self.tree.is_visible(&base.path, &stat)? {
            return Ok(());
        }
        // Messages and digests name a match as the source spells it: relative to the plain part.
        let mut open = vec![(base.path.clone(), Vec::new())];
        for (level, pattern) in patterns.iter().enumerate() {
            let is_last = level + 1 == patterns.len();
            let mut next = Vec::new();
            for (dir, matched) in &open {
                self.matches_in(dir, matched, pattern, is_last, &mut next)?;
            }
            open = next;
        }
        for (full, matched) in open {
            let found = self.follow(&full, Some(&matched))?;
            self.found.extend(found);
        }
        Ok(())
    }

    /// Adds the nodes of one directory that match; directories only, unless it is the last part.
    fn matches_in(
        &self,
        dir: &[u8],
        matched: &[u8],
        pattern: &Pattern,
        is_last: bool,
        next: &mut Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<()> {
        let unreadable = |error: &_| self.tree.unreadable(dir, error);
        let fd = root::open_dir(self.tree.root(), dir).map_err(|error| unreadable(&error))?;
        for name in fs::list(&fd).map_err(|error| unreadable(&error))? {
            if !pattern.matches(&name) {
                continue;
            }
            let Some(stat) = fs::lstat_opt(&fd, &name).map_err(|error| unreadable(&error))? else {
                continue;
            };
            let full = join(dir, &name);
            let may_hold = || stat.is_dir() && !self.tree.hides(&full);
            if (is_last && self.tree.is_visible(&full, &stat)?) || (!is_last && may_hold()) {
                next.push((full, join(matched, &name)));
            }
        }
        Ok(())
    }

    fn absent(&self, shown: &str) -> Error {
        let (instruction, label) = (self.options.instruction, self.tree.label());
        let what = format!("`{shown}` is not in {label}");
        let message = match instruction {
            "" => what,
            instruction => format!("{instruction} failed: {what}"),
        };
        Error::new(self.tree.blame(), message)
    }

    /// The error for a path that is not there, or is there but hidden (`stat`).
    fn missing(&self, path: &[u8], found: &Resolved, stat: Option<&Stat>) -> Result<Error> {
        let shown = if self.text.starts_with("..") { show(path) } else { self.text.to_owned() };
        let error = self.absent(&shown);
        if stat.is_some()
            && let Some(error) = self.hidden(path, found, error.clone())
        {
            return Ok(error);
        }
        let missing = found.missing.as_deref().unwrap_or(path);
        if let Some(link) = found.links.last() {
            let target = read_link(self.tree.root(), link)?;
            return Ok(error.cause(format!(
                "`{}` is a symbolic link to `{}`, and `{}` does not exist in {}",
                show(link),
                show(&target),
                show(missing),
                self.tree.label()
            )));
        }
        let mut error = error.cause(format!("\"/{}\": not found", String::from_utf8_lossy(path)));
        if let Some(similar) = self.similar(missing) {
            error = error.hint(format!("did you mean `{}`?", show(&similar)));
        }
        if self.text.split('/').any(|part| part == "..") {
            error = error.hint(format!(
                "`..` ends at the root of {}: nothing outside it can be copied",
                self.tree.label()
            ));
        }
        Ok(error)
    }

    /// Says which rule hides the node, if one does.
    fn hidden(&self, path: &[u8], found: &Resolved, error: Error) -> Option<Error> {
        let rules = self.tree.ignore()?;
        let (hidden, line) = found
            .links
            .iter()
            .chain([&found.path])
            .find_map(|path| rules.decide(path).by.map(|line| (path, line)))?;
        let named = show(hidden);
        if let Some(why) = rules.hidden_for(hidden) {
            return Some(error.cause(why));
        }
        let mut error = error.cause(format!("excluded by {}", rules.cite(line)));
        if *hidden != path {
            error = error.cause(format!("`{}` leads to `{named}`", show(path)));
        }
        Some(error.hint(format!("add `!{named}` to {}", rules.name())))
    }

    /// A visible neighbour of a missing path with a similar name.
    fn similar(&self, missing: &[u8]) -> Option<Vec<u8>> {
        let (parent, name) = root::split_last(missing);
        let name = name?;
        let dir = root::open_dir(self.tree.root(), parent).ok()?;
        let names = fs::list(&dir).ok()?;
        let allowed = 1 + name.len() / 4;
        let parent = parent.strip_suffix(b"/").unwrap_or(parent);
        names
            .into_iter()
            .take(MAX_SIBLINGS)
            .map(|other| (distance(name, &other), join(parent, &other)))
            .filter(|(distance, path)| {
                *distance <= allowed
                    && self.tree.ignore().is_none_or(|rules| rules.decide(path).included)
            })
            .min()
            .map(|(_, path)| path)
    }
}

/// Edits (insert, delete, replace, not counting case) between two names; long names are not compared.
fn distance(a: &[u8], b: &[u8]) -> usize {
    if a.len().max(b.len()) > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(!x.eq_ignore_ascii_case(y));
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Cleans a source as if it started at `/`; relative, empty for the root.
fn clean_rooted(text: &str) -> Vec<u8> {
    let cleaned = crate::context::pattern::clean(format!("/{text}").as_bytes());
    cleaned[1..].to_vec()
}

pub(super) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    match (dir, name) {
        (b"", path) | (path, b"") => path.to_vec(),
        (dir, name) => [dir, b"/", name].concat(),
    }
}
