//! Values out of TOML files, with file and line for whatever is wrong.

use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::source::{SourceFile, Span};
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The largest settings file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// A value with its place.
pub(super) type Value<'a> = Spanned<DeValue<'a>>;

/// Where a setting is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) file: Arc<str>,
    /// From 1; 0 where there are no lines.
    pub(crate) line: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// Reads a settings file whole; `None` when there is none.
pub(super) fn load(path: &Path) -> Result<Option<Arc<SourceFile>>> {
    let shown = path.display();
    let opened = match std::fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened,
    };
    let mut text = Vec::new();
    opened
        .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut text))
        .or_error(ErrorKind::Environment, || format!("cannot read {shown}"))?;
    if text.len() as u64 > LARGEST {
        return Err(Error::environment(format!("{shown} is larger than {LARGEST} bytes")));
    }
    Ok(Some(Arc::new(SourceFile::new(shown.to_string(), text))))
}

/// One file while it is read.
pub(super) struct Reader {
    pub(super) source: Arc<SourceFile>,
    /// What has no meaning here.
    pub(super) unknown: Vec<(Origin, String)>,
}

impl Reader {
    pub(super) fn new(source: Arc<SourceFile>) -> Self {
        Self { source, unknown: Vec::new() }
    }

    pub(super) fn text<'s>(&self, source: &'s SourceFile) -> Result<&'s str> {
        std::str::from_utf8(source.text()).map_err(|error| {
            let at = error.valid_up_to();
            self.bad(Span::new(at, at + 1), "it is not UTF-8")
        })
    }

    pub(super) fn table<'a>(&self, text: &'a str) -> Result<DeTable<'a>> {
        DeTable::parse(text).map(Spanned::into_inner).map_err(|error| {
            let span = error.span().map_or(Span::new(0, 0), Span::from);
            let why = error.message().replace('\n', "; ");
            self.bad(span, why)
        })
    }

    /// The file cannot be used, because of this place.
    pub(super) fn bad(&self, span: Span, why: impl fmt::Display) -> Error {
        Error::environment(format!("{} cannot be used", self.source.name()))
            .at(&self.source, span)
            .cause(why)
    }

    pub(super) fn origin(&self, span: Span) -> Origin {
        Origin { file: self.source.name().into(), line: self.source.line(span.start) }
    }

    pub(super) fn unknown(&mut self, key: &Spanned<std::borrow::Cow<'_, str>>) {
        let found = (self.origin(key.span().into()), format!("`{}`", key.get_ref()));
        self.unknown.push(found);
    }

    pub(super) fn string(&self, key: &str, value: &Value<'_>) -> Result<String> {
        let text = value.get_ref().as_str().map(str::to_owned);
        text.ok_or_else(|| self.wrong(key, "a text", value))
    }

    pub(super) fn boolean(&self, key: &str, value: &Value<'_>) -> Result<bool> {
        value.get_ref().as_bool().ok_or_else(|| self.wrong(key, "`true` or `false`", value))
    }

    pub(super) fn strings(&self, key: &str, value: &Value<'_>) -> Result<Vec<String>> {
        self.list(key, value)?.map(|item| self.string(key, item)).collect()
    }

    /// The items of a list.
    pub(super) fn list<'a, 'i>(
        &self,
        key: &str,
        value: &'a Value<'i>,
    ) -> Result<impl Iterator<Item = &'a Value<'i>> + use<'a, 'i>> {
        let list = value.get_ref().as_array();
        list.map(|list| list.iter()).ok_or_else(|| self.wrong(key, "a list", value))
    }

    pub(super) fn inner<'a, 'i>(&self, key: &str, value: &'a Value<'i>) -> Result<&'a DeTable<'i>> {
        value.get_ref().as_table().ok_or_else(|| self.wrong(key, "a table", value))
    }

    fn wrong(&self, key: &str, wanted: &str, value: &Value<'_>) -> Error {
        self.bad(value.span().into(), format!("`{key}` is not {wanted}"))
    }
}
