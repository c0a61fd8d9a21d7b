//! `RUN --mount=`: one comma-separated record to a mount.
//!
//! In: the flag's value, and a function that expands variables in it. Out: [`Mount`] with names not yet resolved
//! (stages are `graph`'s matter), or BuildKit's error. Keys and rules: dockerfile.md §1.8.

use super::csv;
use super::step::CacheSharing;
use crate::dockerfile::suggest::nearest;
use crate::error::{Error, Result};

/// All keys, for the suggestion in an error.
const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "size",
    "env",
];

/// A mount as written, variables expanded, rules checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) kind: Kind,
    /// Stage, image or context; empty when not given.
    pub(super) from: String,
    pub(super) source: String,
    pub(super) target: String,
    /// `None` when neither `ro` nor `rw` was given.
    pub(super) read_only: bool,
    /// `id`; empty when not given.
    pub(super) id: String,
    pub(super) sharing: CacheSharing,
    /// `env` of secret.
    pub(super) env: Option<String>,
    /// `required` of secret and ssh.
    pub(super) required: bool,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Mode; the kind's default when not given.
    pub(super) mode: u32,
    /// `size` of tmpfs.
    pub(super) size: Option<u64>,
}

/// `type=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Cache => "cache",
            Self::Tmpfs => "tmpfs",
            Self::Secret => "secret",
            Self::Ssh => "ssh",
        }
    }
}

/// The `from` of a mount before any variable is known, for the graph of stages.
pub(super) fn from_of(text: &str) -> Result<Option<String>> {
    let mut from = None;
    for field in fields(text)? {
        let Some((key, value)) = field.split_once('=') else { continue };
        if key.eq_ignore_ascii_case("from") {
            if value.find('$').is_some_and(|at| at + 1 < value.len()) {
                return Err(Error::dockerfile(
                    "'from' doesn't support variable expansion, define alias stage instead",
                ));
            }
            from = Some(value.to_owned());
        }
    }
    Ok(from.filter(|from| !from.is_empty()))
}

/// Parses the value of one `--mount=`.
pub(super) fn parse(text: &str, expand: impl Fn(&str) -> Result<String>) -> Result<Mount> {
    let mut reader = Reader::default();
    for field in fields(text)? {
        match field.split_once('=') {
            None => reader.bare(&field)?,
            Some((key, value)) => {
                let key = key.to_lowercase();
                let value = if key == "from" { value.to_owned() } else { expand(value)? };
                reader.pair(&field, &key, value)?;
            }
        }
    }
    reader.finish()
}

fn fields(text: &str) -> Result<Vec<String>> {
    csv::fields(text).map_err(|why| Error::dockerfile(format!("failed to parse csv mounts: {why}")))
}

/// What has been read so far; keys apply in order, so `type` has to come before the keys that depend on it.
#[derive(Debug)]
struct Reader {
    kind: Kind,
    from: String,
    source: String,
    target: String,
    read_only: Option<bool>,
    id: String,
    sharing: Option<CacheSharing>,
    required: bool,
    uid: Option<u32>,
    gid: Option<u32>,
    mode: Option<u32>,
    size: Option<u64>,
    env: Option<String>,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            kind: Kind::Bind,
            from: String::new(),
            source: String::new(),
            target: String::new(),
            read_only: None,
            id: String::new(),
            sharing: None,
            required: false,
            uid: None,
            gid: None,
            mode: None,
            size: None,
            env: None,
        }
    }
}

impl Reader {
    /// A key without a value.
    fn bare(&mut self, field: &str) -> Result<()> {
        match field.to_lowercase().as_str() {
            "readonly" | "ro" => self.read_only = Some(true),
            "readwrite" | "rw" => self.read_only = Some(false),
            "required" => {
                self.only_for("required", &[Kind::Secret, Kind::Ssh])?;
                self.required = true;
            }
            _ => {
                return Err(Error::dockerfile(format!(
                    "invalid field '{field}' must be a key=value pair"
                )));
            }
        }
        Ok(())
    }

    fn pair(&mut self, field: &str, key: &str, value: String) -> Result<()> {
        match key {
            "type" => self.kind = parse_kind(&value)?,
            "from" => self.from = value,
            "source" | "src" => self.source = value,
            "target" | "dst" | "destination" => self.target = value,
            "readonly" | "ro" => self.read_only = Some(boolean(key, &value)?),
            "readwrite" | "rw" => self.read_only = Some(!boolean(key, &value)?),
            "required" => {
                self.only_for(key, &[Kind::Secret, Kind::Ssh])?;
                self.required = boolean(key, &value)?;
            }
            "size" => {
                self.only_for(key, &[Kind::Tmpfs])?;
                let size = parse_size(&value);
                self.size = Some(size.ok_or_else(|| invalid_value(key, &value))?);
            }
            "id" => self.id = value,
            "env" => {
                self.only_for(key, &[Kind::Secret])?;
                self.env = Some(value).filter(|name| !name.is_empty());
            }
            "sharing" => self.sharing = Some(parse_sharing(&value)?),
            "mode" => self.mode = Some(number(key, &value, 8)?),
            "uid" => self.uid = Some(number(key, &value, 10)?),
            "gid" => self.gid = Some(number(key, &value, 10)?),
            _ => {
                let message = format!("unexpected key '{key}' in '{field}'");
                return Err(did_you_mean(message, key, &KEYS));
            }
        }
        Ok(())
    }

    fn only_for(&self, key: &str, kinds: &[Kind]) -> Result<()> {
        if kinds.contains(&self.kind) {
            return Ok(());
        }
        let kind = self.kind.as_str();
        Err(Error::dockerfile(format!("unexpected key '{key}' for mount type '{kind}'")))
    }

    fn finish(self) -> Result<Mount> {
        let kind = self.kind;
        if matches!(kind, Kind::Bind | Kind::Tmpfs) {
            for (name, value) in [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)] {
                if value.is_some() {
                    return Err(Error::dockerfile(format!(
                        "{name} not allowed for \"{}\" type mounts",
                        kind.as_str()
                    )));
                }
            }
        }
        if kind == Kind::Secret {
            self.check_secret()?;
        }
        if self.sharing.is_some() && kind != Kind::Cache {
            return Err(Error::dockerfile(format!(
                "invalid cache sharing set for {} mount",
                kind.as_str()
            )));
        }
        let default_mode = match kind {
            Kind::Secret => 0o400,
            Kind::Ssh => 0o600,
            _ => 0o755,
        };
        Ok(Mount {
            kind,
            from: self.from,
            source: self.source,
            target: self.target,
            read_only: self.read_only.unwrap_or(!matches!(kind, Kind::Cache | Kind::Tmpfs)),
            id: self.id,
            sharing: self.sharing.unwrap_or(CacheSharing::Shared),
            env: self.env,
            required: self.required,
            uid: self.uid.unwrap_or(0),
            gid: self.gid.unwrap_or(0),
            mode: self.mode.unwrap_or(default_mode),
            size: self.size,
        })
    }

    fn check_secret(&self) -> Result<()> {
        let message = if !self.from.is_empty() {
            "secret mount should not have a from"
        } else if self.sharing.is_some() {
            "secret mount should not define sharing"
        } else if self.source.is_empty() && self.target.is_empty() && self.id.is_empty() {
            "invalid secret mount. one of source, target required"
        } else if !self.source.is_empty() && !self.id.is_empty() {
            "both source and id can't be set"
        } else {
            return Ok(());
        };
        Err(Error::dockerfile(message))
    }
}

fn parse_kind(value: &str) -> Result<Kind> {
    Ok(match value.to_lowercase().as_str() {
        "bind" => Kind::Bind,
        "cache" => Kind::Cache,
        "tmpfs" => Kind::Tmpfs,
        "secret" => Kind::Secret,
        "ssh" => Kind::Ssh,
        _ => {
            let message = format!("unsupported mount type \"{value}\"");
            return Err(did_you_mean(message, value, &["bind", "cache", "tmpfs", "secret", "ssh"]));
        }
    })
}

fn parse_sharing(value: &str) -> Result<CacheSharing> {
    Ok(match value.to_lowercase().as_str() {
        "shared" => CacheSharing::Shared,
        "private" => CacheSharing::Private,
        "locked" => CacheSharing::Locked,
        _ => {
            let message = format!("unsupported sharing value \"{value}\"");
            return Err(did_you_mean(message, value, &["shared", "private", "locked"]));
        }
    })
}

fn did_you_mean(message: String, word: &str, known: &[&str]) -> Error {
    match nearest(word, known) {
        Some(known) => Error::dockerfile(format!("{message} (did you mean {known}?)")),
        None => Error::dockerfile(message),
    }
}

fn invalid_value(key: &str, value: &str) -> Error {
    Error::dockerfile(format!("invalid value for {key}: {value}"))
}

fn boolean(key: &str, value: &str) -> Result<bool> {
    crate::boolean::parse(value).ok_or_else(|| invalid_value(key, value))
}

fn number(key: &str, value: &str, radix: u32) -> Result<u32> {
    // `from_str_radix` takes a sign, the flag does not.
    let plain = !value.starts_with(['+', '-']);
    plain
        .then(|| u32::from_str_radix(value, radix).ok())
        .flatten()
        .ok_or_else(|| Error::dockerfile(format!("invalid value {value} for {key}")))
}

/// Memory sizes as Docker writes them: `64`, `128m`, `1.5g`, `2GiB`, `1 kb`.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) || digits.ends_with('.') {
        return None;
    }
    let amount: f64 = digits.parse().ok()?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let unit = unit.strip_suffix('i').unwrap_or(unit);
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let bytes = amount * 1024_f64.powi(power);
    // 2^63: what Docker's signed number holds.
    (bytes < 9_223_372_036_854_775_808.0).then_some(bytes as u64)
}

#[cfg(test)]
mod tests;
