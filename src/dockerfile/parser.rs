//! The whole file: reads line after line, builds the stages, and collects every error on the way.
//!
//! An instruction that is wrong is left out and the next is read, so that one run shows all mistakes.

use super::{
    ast::{Dockerfile, Heredoc, Instruction, InstructionKind, Stage},
    directives,
    heredoc::Token,
    instructions::{self, Heredocs, Typed},
    lexer::{BOM, Line, MAX_LINE, Reader},
    lint::{Rule, Warning},
    node::Node,
};
use crate::{
    error::{Error, Result},
    source::{SourceFile, Span},
};
use std::sync::Arc;

/// More errors than these are not shown: what follows is rarely news.
pub(super) const MAX_ERRORS: usize = 20;

/// See [`super::parse`].
pub(super) fn parse(source: &Arc<SourceFile>) -> Result<Dockerfile> {
    match parse_what_can_be(source) {
        (file, None) => Ok(file),
        (_, Some(error)) => Err(error),
    }
}

/// See [`super::parse_what_can_be`].
pub(super) fn parse_what_can_be(source: &Arc<SourceFile>) -> (Dockerfile, Option<Error>) {
    let mut errors = Vec::new();
    check_line_lengths(source.text(), None, source, &mut errors);
    let directives = directives::read(source, &mut errors);
    let mut parser = Parser {
        source,
        reader: Reader::new(source.text(), directives.escape, None),
        escape: directives.escape,
        file: Dockerfile {
            source: Arc::clone(source),
            directives,
            meta_args: Vec::new(),
            stages: Vec::new(),
            warnings: Vec::new(),
        },
        errors,
        instructions: 0,
        stage_seen: false,
    };
    parser.read();
    parser.finish()
}

/// See [`super::parse_trigger`].
pub(super) fn parse_trigger(
    text: &str,
    origin: &Arc<SourceFile>,
    span: Span,
) -> Result<Instruction> {
    let single =
        || Error::dockerfile("an ONBUILD trigger must be one instruction").at(origin, span);
    let mut errors = Vec::new();
    check_line_lengths(text.as_bytes(), Some(span), origin, &mut errors);
    if let Some(error) = Error::several(errors) {
        return Err(error);
    }
    let mut reader = Reader::new(text.as_bytes(), '\\', Some(span));
    let line = reader.logical().ok_or_else(single)?;
    let node = Node::new(origin, &line, 0..line.text.len(), '\\');
    let heredocs = read_heredocs(&mut reader, &node)?;
    let kind = instructions::trigger(&node, heredocs)?;
    if reader.logical().is_some() {
        return Err(single());
    }
    let text = node.whole_text().to_owned();
    Ok(Instruction { kind, span, text, on_build: true, comments: Vec::new() })
}

struct Parser<'a> {
    source: &'a Arc<SourceFile>,
    reader: Reader<'a>,
    escape: char,
    file: Dockerfile,
    errors: Vec<Error>,
    instructions: usize,
    /// A FROM was read, or something that stands where it should be.
    stage_seen: bool,
}

impl Parser<'_> {
    fn read(&mut self) {
        while self.errors.len() < MAX_ERRORS {
            let Some(mut line) = self.reader.logical() else { break };
            let directives = self.file.directives.end;
            line.comments.retain(|(start, _)| *start >= directives);
            self.instructions += 1;
            if line.blank {
                // BuildKit names the line on which the instruction ends.
                let message = "Empty continuation line".to_owned();
                let warning = Warning { rule: Rule::NoEmptyContinuation, message, span: line.last };
                self.file.warnings.push(warning);
            }
            if let Some(span) = line.not_utf8 {
                let message = format!("line {} is not valid UTF-8", self.source.line(span.start));
                self.errors.push(Error::dockerfile(message).at(self.source, span));
                // What the line was is anyone's guess; it may have been a FROM.
                self.stage_seen = true;
                continue;
            }
            if let Err(error) = self.line(&line) {
                self.errors.push(error);
            }
        }
    }

    fn line(&mut self, line: &Line) -> Result<()> {
        let node = Node::new(self.source, line, 0..line.text.len(), self.escape);
        let is_from = node.keyword() == "FROM";
        let is_meta = !self.stage_seen && node.keyword() == "ARG";
        let orphan = !self.stage_seen && !is_from && !is_meta;
        // Orphans are told of once; and a misspelt FROM is not the fault of what follows it.
        self.stage_seen |= !is_meta;
        let heredocs = read_heredocs(&mut self.reader, &node)?;
        let kind = match instructions::parse(&node, heredocs)? {
            Typed::From(from) => {
                self.file.stages.push(Stage { from, instructions: Vec::new() });
                return Ok(());
            }
            Typed::Other(InstructionKind::Arg(arg)) if is_meta => {
                self.file.meta_args.push(arg);
                return Ok(());
            }
            Typed::Other(kind) => kind,
        };
        if orphan {
            return Err(node
                .error_at(node.keyword_span(), "no build stage in current context")
                .hint("only ARG may stand before the first FROM"));
        }
        if let Some(stage) = self.file.stages.last_mut() {
            let (span, text) = (node.whole_span(), node.whole_text().to_owned());
            let comments = node.comments();
            stage.instructions.push(Instruction { kind, span, text, on_build: false, comments });
        }
        Ok(())
    }

    fn finish(mut self) -> (Dockerfile, Option<Error>) {
        if self.errors.is_empty() && self.file.stages.is_empty() {
            let text = self.source.text();
            let error = if text.strip_prefix(BOM).unwrap_or(text).is_empty() {
                Error::dockerfile("the Dockerfile cannot be empty")
            } else if self.instructions == 0 {
                Error::dockerfile("file with no instructions")
            } else {
                Error::dockerfile("dockerfile contains no stages to build")
            };
            let error = error.hint("a Dockerfile needs at least a FROM");
            self.errors.push(error.at(self.source, Span::default()));
        }
        (self.file, Error::several(self.errors))
    }
}

pub(super) fn check_line_lengths(
    bytes: &[u8],
    fixed: Option<Span>,
    source: &Arc<SourceFile>,
    errors: &mut Vec<Error>,
) {
    let mut reader = Reader::new(bytes, '\\', fixed);
    while let Some(range) = reader.physical() {
        if range.len() > MAX_LINE && errors.len() < MAX_ERRORS {
            let start = range.start;
            let message = format!("dockerfile line greater than max allowed size of {MAX_LINE}");
            errors.push(Error::dockerfile(message).at(source, reader.span(start..start)));
        }
    }
}

/// Reads the bodies of the heredocs of a line; they follow it in the order of their tokens.
pub(super) fn read_heredocs(reader: &mut Reader<'_>, node: &Node<'_>) -> Result<Heredocs> {
    let tokens = node.heredoc_tokens();
    let mut bodies = Vec::new();
    for token in &tokens {
        let Some(range) = reader.heredoc_body(&token.name, token.chomp) else {
            return Err(unterminated(node, token));
        };
        let bytes = reader.slice(range.clone());
        let body = match std::str::from_utf8(bytes) {
            Ok(body) => body.to_owned(),
            Err(error) => {
                let at = range.start + error.valid_up_to();
                let message = format!("heredoc `{}` is not valid UTF-8", token.name);
                return Err(node.error_at(reader.span(at..at + 1), message));
            }
        };
        bodies.push(Heredoc {
            name: token.name.clone(),
            expand: token.expand,
            chomp: token.chomp,
            fd: token.fd,
            body,
            span: reader.span(range),
        });
    }
    Ok(Heredocs { tokens, bodies })
}

fn unterminated(node: &Node<'_>, token: &Token) -> Error {
    let error = node.error(token.range.clone(), "unterminated heredoc");
    if token.name.ends_with(')') {
        return error.hint("a shift is written without blanks: `$((1<<2))`");
    }
    if let Some((name, _)) = token.name.split_once(['>', '|', ';', '&']) {
        return error.hint(format!(
            "the name is `{}`: put a blank behind `{name}`, or quote the `<<` if no heredoc is meant",
            token.name
        ));
    }
    error.hint(format!("a line that holds only `{}` must end it", token.name))
}
