//! Parser events to nodes: nesting, anchors and aliases, `<<`, equal keys, and the limits that bound all of it.

use super::{Entry, Kind, MAX_DEPTH, Node, Problems, Value, shorten};
use crate::{
    error::{Error, Result},
    source::{SourceFile, Span},
};
use granit_parser::Tag;
use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
    sync::Arc,
};

/// Most nodes and merged entries of one file.
const MAX_NODES: usize = 200_000;

/// Most bytes of text that a node may stand for when its aliases are written out.
const MAX_WEIGHT: usize = 4 << 20;

/// What a node weighs besides its text.
const NODE_WEIGHT: usize = 8;

impl Node {
    /// A node with what its value weighs, and how deep it is.
    pub(crate) fn new(span: Span, value: Value) -> Self {
        let (mut weight, mut depth) = (NODE_WEIGHT, 0);
        let mut add = |child: &Node| {
            weight = child.weight.saturating_add(weight);
            depth = depth.max(child.depth + 1);
        };
        match &value {
            Value::Scalar { text, .. } => weight += text.len(),
            Value::List(items) => items.iter().for_each(|item| add(item)),
            Value::Map(entries) => entries.iter().for_each(|entry| {
                add(&entry.key);
                add(&entry.value);
            }),
        }
        Self { span, value, weight, depth }
    }

    /// An error when the node is too deep or too heavy.
    pub(super) fn check(&self, source: &Arc<SourceFile>) -> Result<()> {
        let message = if self.depth > MAX_DEPTH {
            format!("nested deeper than {MAX_DEPTH}")
        } else if self.weight > MAX_WEIGHT {
            format!("the aliases stand for more than {MAX_WEIGHT} bytes")
        } else {
            return Ok(());
        };
        Err(Error::package(message).at(source, self.span))
    }
}

pub(super) struct Tree<'a> {
    problems: &'a mut Problems,
    open: Vec<Frame>,
    /// Finished nodes with an anchor.
    anchors: HashMap<usize, Rc<Node>>,
    nodes: usize,
    root: Option<Rc<Node>>,
}

/// A list or mapping that is not closed yet.
struct Frame {
    span: Span,
    anchor: usize,
    is_map: bool,
    /// Elements, or keys and values in turn.
    children: Vec<Rc<Node>>,
}

impl<'a> Tree<'a> {
    pub(super) fn new(problems: &'a mut Problems) -> Self {
        let (open, anchors) = (Vec::new(), HashMap::new());
        Self { problems, open, anchors, nodes: 0, root: None }
    }

    pub(super) fn finish(self) -> Option<Rc<Node>> {
        self.root
    }

    /// Tags may only say what is so anyway.
    pub(super) fn check_tag(&mut self, span: Span, tag: Option<&Tag>, kind: Kind) {
        let Some(tag) = tag else { return };
        let fits = match tag.core_suffix() {
            Some("seq") => kind == Kind::List,
            Some("map") => kind == Kind::Map,
            Some(_) => kind == Kind::Scalar,
            None => tag.handle().is_empty() && tag.suffix() == "!",
        };
        if !fits {
            let shown = format!("{}{}", tag.original_handle(), tag.suffix());
            let error = Error::package(format!("the tag `{shown}` means nothing here"));
            self.problems.push(span, error.hint("remove the tag"));
        }
    }

    pub(super) fn leaf(&mut self, span: Span, anchor: usize, value: Value) -> Result<()> {
        let node = self.node(span, value)?;
        self.add(anchor, node);
        Ok(())
    }

    pub(super) fn open(&mut self, span: Span, anchor: usize, is_map: bool) -> Result<()> {
        self.count(span, 1)?;
        self.open.push(Frame { span, anchor, is_map, children: Vec::new() });
        Ok(())
    }

    pub(super) fn close(&mut self) -> Result<()> {
        let Some(frame) = self.open.pop() else { return Ok(()) };
        // Blocks begin with an empty span: their first child shows more, unless it is an alias and stands elsewhere.
        let first = frame.children.first().map(|child| child.span);
        let span = first.filter(|at| at.start >= frame.span.start);
        let span = span.map_or(frame.span, |at| frame.span.to(at));
        let value = if frame.is_map {
            Value::Map(self.entries(frame.children)?)
        } else {
            Value::List(frame.children)
        };
        let node = self.node(span, value)?;
        self.add(frame.anchor, node);
        Ok(())
    }

    pub(super) fn alias(&mut self, span: Span, anchor: usize) -> Result<()> {
        self.count(span, 1)?;
        let Some(node) = self.anchors.get(&anchor).map(Rc::clone) else {
            let (home, inside) = self.problems.source().home(span);
            let shown = String::from_utf8_lossy(home.slice(inside)).into_owned();
            let message = format!("`{}` stands inside what it stands for", shown.trim());
            return Err(Error::package(message).at(self.problems.source(), span));
        };
        self.add(0, node);
        Ok(())
    }

    fn count(&mut self, span: Span, nodes: usize) -> Result<()> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            let message = format!("the file has more than {MAX_NODES} values");
            return Err(Error::package(message).at(self.problems.source(), span));
        }
        Ok(())
    }

    /// A finished node, counted and measured.
    fn node(&mut self, span: Span, value: Value) -> Result<Rc<Node>> {
        if let Value::Scalar { .. } = value {
            self.count(span, 1)?;
        }
        let node = Node::new(span, value);
        node.check(self.problems.source())?;
        Ok(Rc::new(node))
    }

    fn add(&mut self, anchor: usize, node: Rc<Node>) {
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        match self.open.last_mut() {
            Some(frame) => frame.children.push(node),
            None => self.root = Some(node),
        }
    }

    /// Keys and values in turn, as entries; equal keys are problems, and `<<` brings in what it names.
    fn entries(&mut self, children: Vec<Rc<Node>>) -> Result<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::with_capacity(children.len() / 2);
        let mut merged = Vec::new();
        let mut first: HashMap<String, Span> = HashMap::new();
        let mut children = children.into_iter();
        while let (Some(key), Some(value)) = (children.next(), children.next()) {
            let Value::Scalar { text, plain } = &key.value else {
                self.problems.report(key.span, "a key must be text");
                continue;
            };
            if key.is_null() {
                self.problems.report(key.span, "a key is missing before the `:`");
                continue;
            }
            if let Some(span) = first.get(text) {
                let line = self.problems.source().line(span.start);
                let error = Error::package(format!("`{}` is given twice", shorten(text)));
                self.problems.push(key.span, error.cause(format!("it was given on line {line}")));
                continue;
            }
            first.insert(text.clone(), key.span);
            if *plain && text == "<<" {
                merged.push(value);
            } else {
                entries.push(Entry { key, value });
            }
        }
        for node in merged {
            self.merge(&mut entries, &node)?;
        }
        Ok(entries)
    }

    /// Adds the entries of a mapping, or of a list of mappings, whose keys are not there yet.
    fn merge(&mut self, entries: &mut Vec<Entry>, from: &Rc<Node>) -> Result<()> {
        let mut names: HashSet<String> =
            entries.iter().map(|entry| entry.name().to_owned()).collect();
        let one = std::slice::from_ref(from);
        let nodes = if let Value::List(items) = &from.value { items } else { one };
        for node in nodes {
            let Value::Map(more) = &node.value else {
                self.problems.report(node.span, "`<<` takes a mapping, or a list of mappings");
                continue;
            };
            // Long keys count more: each is compared.
            self.count(node.span, more.iter().map(|entry| 1 + entry.name().len() / 8).sum())?;
            for entry in more {
                if names.insert(entry.name().to_owned()) {
                    entries.push(entry.clone());
                }
            }
        }
        Ok(())
    }
}
