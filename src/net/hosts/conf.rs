//! `registries.conf` of the containers tools, version 2 (containers-registries.conf(5)): text into rules.

use super::toml::{Origin, Reader, Value};
use crate::error::Result;
use crate::source::{SourceFile, Span};
use std::sync::Arc;

/// A `[[registry]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Beginning of names, or `*.` and a domain.
    pub(crate) prefix: String,
    /// What stands in its place; `None` leaves names as they are.
    pub(crate) location: Option<String>,
    pub(crate) insecure: bool,
    pub(crate) blocked: bool,
    pub(crate) mirrors: Vec<MirrorRule>,
    pub(crate) origin: Origin,
}

/// A `[[registry.mirror]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MirrorRule {
    pub(crate) location: String,
    pub(crate) insecure: bool,
    pub(crate) pull: PullFrom,
    pub(crate) origin: Origin,
}

/// `pull-from-mirror`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PullFrom {
    All,
    DigestOnly,
    TagOnly,
}

/// What one file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conf {
    pub(crate) rules: Vec<Rule>,
    /// `unqualified-search-registries`.
    pub(crate) search: Option<(Vec<String>, Origin)>,
    /// `[aliases]`; an empty value takes one away.
    pub(crate) aliases: Vec<(String, String, Origin)>,
    /// Settings without a meaning here.
    pub(crate) unknown: Vec<(Origin, String)>,
}

impl Conf {
    pub(super) fn parse(source: &Arc<SourceFile>) -> Result<Self> {
        let mut reader = Reader::new(Arc::clone(source));
        let text = reader.text(source)?;
        let table = reader.table(text)?;
        let mut conf = Self::default();
        for (key, value) in &table {
            match &**key.get_ref() {
                "registry" => {
                    for item in reader.list("registry", value)? {
                        let rule = rule(&mut reader, item)?;
                        conf.add(&reader, rule, item)?;
                    }
                }
                "registries" => {
                    return Err(reader.bad(key.span().into(), "`[registries…]` is version 1 of this format").hint(
                        "write `[[registry]]` with `location`, `insecure` and `blocked`, and `unqualified-search-registries`",
                    ));
                }
                name @ "unqualified-search-registries" => {
                    let list = reader.strings(name, value)?;
                    conf.search = Some((list, reader.origin(key.span().into())));
                }
                name @ "short-name-mode" => {
                    let mode = reader.string(name, value)?;
                    if !matches!(&*mode, "" | "enforcing" | "permissive" | "disabled") {
                        return Err(reader
                            .bad(
                                value.span().into(),
                                format!("`{mode}` is no mode for short names"),
                            )
                            .hint("the modes are `enforcing`, `permissive` and `disabled`"));
                    }
                }
                "aliases" => {
                    for (name, value) in reader.inner("aliases", value)? {
                        let target = reader.string(name.get_ref(), value)?;
                        let origin = reader.origin(name.span().into());
                        conf.aliases.push((name.get_ref().to_string(), target, origin));
                    }
                }
                // Of logins.
                "credential-helpers" => {}
                _ => reader.unknown(key),
            }
        }
        conf.unknown = reader.unknown;
        Ok(conf)
    }

    fn add(&mut self, reader: &Reader, rule: Rule, item: &Value<'_>) -> Result<()> {
        if let Some(other) = self.rules.iter().find(|other| other.prefix == rule.prefix) {
            let why = format!(
                "`{}` has a `[[registry]]` at line {} already",
                rule.prefix, other.origin.line
            );
            return Err(reader.bad(head(item), why));
        }
        self.rules.push(rule);
        Ok(())
    }

    /// Takes over what a later file says: a prefix counts as the later file has it.
    pub(super) fn overlay(&mut self, later: Self) {
        for rule in later.rules {
            self.rules.retain(|known| known.prefix != rule.prefix);
            self.rules.push(rule);
        }
        for alias in later.aliases {
            self.aliases.retain(|known| known.0 != alias.0);
            self.aliases.push(alias);
        }
        self.search = later.search.or(self.search.take());
        self.unknown.extend(later.unknown);
    }

    /// The rule with the longest prefix of `name`, which is `registry/repository`.
    pub(super) fn rule(&self, name: &str) -> Option<&Rule> {
        let fitting = self.rules.iter().filter(|rule| rule.covers(name).is_some());
        fitting.max_by_key(|rule| rule.prefix.len())
    }
}

impl Rule {
    /// What of `name` is behind the prefix.
    pub(super) fn covers<'n>(&self, name: &'n str) -> Option<&'n str> {
        if let Some(domain) = self.prefix.strip_prefix('*') {
            let end = name.find('/').unwrap_or(name.len());
            let (host, rest) = name.split_at(end);
            let bare = host.split(':').next().unwrap_or_default();
            return (bare.len() > domain.len() && bare.ends_with(domain)).then_some(rest);
        }
        let rest = name.strip_prefix(&*self.prefix)?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    }

    /// `name` where it really is.
    pub(super) fn rewritten(&self, name: &str) -> Option<String> {
        let rest = self.covers(name)?;
        Some(match &self.location {
            Some(location) => format!("{location}{rest}"),
            None => name.to_owned(),
        })
    }
}

/// Where an item of `[[…]]` begins: its header, not all of it.
fn head(item: &Value<'_>) -> Span {
    let span = item.span();
    Span::new(span.start, span.start.saturating_add(1))
}

fn rule(reader: &mut Reader, item: &Value<'_>) -> Result<Rule> {
    let (mut prefix, mut location) = (None, None);
    let (mut insecure, mut blocked, mut by_digest) = (false, false, false);
    let mut mirrors = Vec::new();
    for (key, value) in reader.inner("registry", item)? {
        match &**key.get_ref() {
            "prefix" => prefix = Some(prefix_of(reader, value)?).filter(|text| !text.is_empty()),
            name @ "location" => location = some_location(reader, name, value)?,
            name @ "insecure" => insecure = reader.boolean(name, value)?,
            name @ "blocked" => blocked = reader.boolean(name, value)?,
            name @ "mirror-by-digest-only" => by_digest = reader.boolean(name, value)?,
            "pull-from-mirror" => {
                return Err(reader.bad(
                    key.span().into(),
                    "`pull-from-mirror` belongs into a `[[registry.mirror]]`",
                ));
            }
            name @ "mirror" => {
                for item in reader.list(name, value)? {
                    mirrors.push(mirror(reader, item)?);
                }
            }
            _ => reader.unknown(key),
        }
    }
    let prefix = match (prefix, &location) {
        (Some(prefix), None) if !prefix.starts_with("*.") => {
            let why = format!("the registry with the prefix `{prefix}` has no `location`");
            return Err(reader.bad(head(item), why).hint(format!(
                "add `location = \"HOST[:PORT][/PATH]\"`, which may be `{prefix}` itself; only a prefix with `*.` needs none"
            )));
        }
        (Some(prefix), _) => prefix,
        (None, Some(location)) => location.clone(),
        (None, None) => {
            return Err(reader
                .bad(head(item), "a registry has neither `prefix` nor `location`")
                .hint("add `location = \"HOST[:PORT][/PATH]\"`"));
        }
    };
    let mut all = Vec::new();
    for (mirror, pull) in mirrors {
        let pull = match (by_digest, pull) {
            (true, Some(_)) => {
                return Err(reader.bad(
                    head(item),
                    "`mirror-by-digest-only` and `pull-from-mirror` exclude each other",
                ));
            }
            (true, None) => PullFrom::DigestOnly,
            (false, pull) => pull.unwrap_or(PullFrom::All),
        };
        all.push(MirrorRule { pull, ..mirror });
    }
    let origin = reader.origin(head(item));
    Ok(Rule { prefix, location, insecure, blocked, mirrors: all, origin })
}

fn mirror(reader: &mut Reader, item: &Value<'_>) -> Result<(MirrorRule, Option<PullFrom>)> {
    let (mut location, mut insecure, mut pull) = (None, false, None);
    for (key, value) in reader.inner("mirror", item)? {
        match &**key.get_ref() {
            name @ "location" => location = some_location(reader, name, value)?,
            name @ "insecure" => insecure = reader.boolean(name, value)?,
            name @ "pull-from-mirror" => {
                pull = match &*reader.string(name, value)? {
                    "" => None,
                    "all" => Some(PullFrom::All),
                    "digest-only" => Some(PullFrom::DigestOnly),
                    "tag-only" => Some(PullFrom::TagOnly),
                    other => {
                        let why = format!("`{name}` is not `{other}`");
                        return Err(reader
                            .bad(value.span().into(), why)
                            .hint("it is `all`, `digest-only` or `tag-only`"));
                    }
                }
            }
            _ => reader.unknown(key),
        }
    }
    let Some(location) = location else {
        return Err(reader
            .bad(head(item), "a mirror has no `location`")
            .hint("add `location = \"HOST[:PORT][/PATH]\"`"));
    };
    let origin = reader.origin(head(item));
    Ok((MirrorRule { location, insecure, pull: PullFrom::All, origin }, pull))
}

/// `*.domain`, or the beginning of a name up to a repository.
fn prefix_of(reader: &Reader, value: &Value<'_>) -> Result<String> {
    let text = reader.string("prefix", value)?;
    let Some(domain) = text.strip_prefix("*.") else { return location(reader, "prefix", value) };
    if domain.is_empty() || domain.contains(['*', '/', ':', '@']) {
        let why = format!("`{text}` is no prefix");
        return Err(reader
            .bad(value.span().into(), why)
            .hint("behind `*.` stands a domain, without a port and without a path"));
    }
    Ok(text)
}

fn some_location(reader: &Reader, key: &str, value: &Value<'_>) -> Result<Option<String>> {
    location(reader, key, value).map(|text| Some(text).filter(|text| !text.is_empty()))
}

/// `host[:port][/path]`.
fn location(reader: &Reader, key: &str, value: &Value<'_>) -> Result<String> {
    let text = reader.string(key, value)?;
    let text = text.trim_end_matches('/');
    let (host, path) = text.split_once('/').unwrap_or((text, ""));
    let hint = if text.contains("://") {
        "leave out the scheme; `insecure = true` allows http"
    } else if path.contains([':', '@']) {
        "a tag or a digest cannot be in it"
    } else if !plain(host, "[]:.-_") || !plain(path, "/.-_") || path.contains("//") {
        "write it as `host[:port][/path]`"
    } else {
        return Ok(text.to_owned());
    };
    Err(reader.bad(value.span().into(), format!("`{text}` is no {key}")).hint(hint))
}

fn plain(text: &str, others: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}
