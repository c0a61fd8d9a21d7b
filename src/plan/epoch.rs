//! The time that stands for "now": SOURCE_DATE_EPOCH in all its forms (dockerfile.md §1.5).
//!
//! In: the request and the Dockerfile; out: a time, or the source whose time it is.

use super::remote::RemoteSource;
use super::{Inputs, PlanRequest, scope};
use crate::dockerfile::ast::{Dockerfile, InstructionKind, Stage};
use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// What an epoch is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Epoch {
    /// There is none.
    None,
    /// Seconds since 1970.
    At(i64),
    /// The time of a file or a commit, which has to be asked for.
    Of(RemoteSource),
}

impl Epoch {
    /// The time, when it is known without asking anybody.
    pub fn known(&self) -> Option<i64> {
        match self {
            Self::At(epoch) => Some(*epoch),
            Self::None | Self::Of(_) => None,
        }
    }
}

/// The epoch that a build has: the request's, else the value of SOURCE_DATE_EPOCH as build argument or as default of
/// an ARG before the first FROM. It is a number, or `context`, or the name of a context or of a stage that only
/// fetches something.
pub fn epoch(dockerfile: &Dockerfile, request: &PlanRequest) -> Result<Epoch> {
    if let Some(epoch) = request.epoch {
        return Ok(Epoch::At(epoch));
    }
    let bases = BTreeMap::new();
    let inputs = Inputs::new(dockerfile, request, &bases)?;
    let given = inputs.globals.build_arg(scope::EPOCH).map(str::to_owned);
    let Some(text) = given.or_else(|| inputs.globals.get(scope::EPOCH)) else {
        return Ok(Epoch::None);
    };
    if text.is_empty() {
        return Ok(Epoch::None);
    }
    if let Ok(epoch) = text.parse() {
        return Ok(Epoch::At(epoch));
    }
    if text == "context" || request.contexts.contains_key(&text) {
        // A directory of this machine has no time of its own.
        return Ok(request.times.get(&text).map_or(Epoch::None, |time| Epoch::At(*time)));
    }
    let named = |stage: &&Stage| {
        stage.from.name.as_ref().is_some_and(|name| name.text.eq_ignore_ascii_case(&text))
    };
    let stage = dockerfile.stages.iter().rev().find(named);
    stage.and_then(fetched_by).map(Epoch::Of).ok_or_else(|| {
        Error::dockerfile(format!("invalid SOURCE_DATE_EPOCH: {text}")).hint(
            "it is a whole number of seconds since 1970, `context`, or the name of a context or of a stage that is nothing but one ADD of a URL",
        )
    })
}

/// The one thing that a stage out of nothing fetches.
fn fetched_by(stage: &Stage) -> Option<RemoteSource> {
    if stage.from.base.text != "scratch" {
        return None;
    }
    let mut found = None;
    for instruction in &stage.instructions {
        match &instruction.kind {
            InstructionKind::Arg(_) => {}
            InstructionKind::Add(add) if found.is_none() => match &add.copy.sources[..] {
                [source] => found = RemoteSource::parse(&source.text, None, false).ok()?,
                _ => return None,
            },
            _ => return None,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Platform;
    use crate::plan::contexts::NamedContext;
    use crate::plan::step::NetworkMode;
    use crate::source::SourceFile;
    use std::sync::Arc;

    fn found(text: &str, value: &str) -> std::result::Result<Epoch, String> {
        let source = Arc::new(SourceFile::new("Dockerfile", text.as_bytes().to_vec()));
        let contexts = [("local", NamedContext::Files), ("git", NamedContext::Files)];
        let request = PlanRequest {
            build_args: vec![("SOURCE_DATE_EPOCH".to_owned(), value.to_owned())],
            target: None,
            labels: Vec::new(),
            platform: None,
            build_platform: Platform::host(),
            network: NetworkMode::Default,
            epoch: None,
            contexts: contexts.into_iter().map(|(name, kind)| (name.to_owned(), kind)).collect(),
            times: [("git".to_owned(), 7), ("context".to_owned(), 8)].into(),
        };
        let dockerfile = crate::dockerfile::parse(&source).unwrap();
        epoch(&dockerfile, &request).map_err(|error| error.to_string())
    }

    #[test]
    fn an_epoch_is_a_number_a_context_or_a_stage() {
        let text = "FROM scratch AS src\nARG X\nADD http://h/x /\nFROM scratch AS more\nADD http://h/x /\nADD a /\nFROM scratch\n";
        assert_eq!(found(text, "12"), Ok(Epoch::At(12)));
        assert_eq!(found(text, ""), Ok(Epoch::None));
        assert_eq!(found(text, "context"), Ok(Epoch::At(8)));
        assert_eq!(found(text, "git"), Ok(Epoch::At(7)));
        assert_eq!(found(text, "local"), Ok(Epoch::None));
        let source = RemoteSource::parse("http://h/x", None, false).unwrap().unwrap();
        assert_eq!(found(text, "src"), Ok(Epoch::Of(source)));
        for wrong in ["more", "tomorrow", "1.5"] {
            assert_eq!(found(text, wrong), Err(format!("invalid SOURCE_DATE_EPOCH: {wrong}")));
        }
        let default = "ARG SOURCE_DATE_EPOCH=9\nFROM scratch\n";
        assert_eq!(found(default, "1"), Ok(Epoch::At(1)));
    }
}
