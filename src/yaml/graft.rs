//! Puts a value into a tree at a path: what `--set` does.
//!
//! In: a tree, steps, a value. Out: a new tree that shares what did not change. Mappings and lists on the way are made
//! when there is nothing (or null) there; what is there and is something else is an error.

use super::{Entry, Node, Problems, Value, shorten};
use crate::{
    error::{Error, Result},
    source::Span,
};
use std::rc::Rc;

/// One step of a path, with its place.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// To the value of a key.
    Key(String, Span),
    /// To an element, counted from 0; the one after the last is added.
    Index(usize, Span),
}

/// The tree with `value` at the end of the path; without a path it is the value.
pub(crate) fn graft(
    problems: &Problems,
    tree: Option<&Rc<Node>>,
    path: &[Step],
    value: Rc<Node>,
) -> Result<Rc<Node>> {
    let Some((step, rest)) = path.split_first() else { return Ok(value) };
    let there = tree.filter(|node| !node.is_null());
    let (span, made) = match step {
        Step::Key(name, span) => {
            let mut entries = match there.map(|node| &node.value) {
                None => Vec::new(),
                Some(Value::Map(entries)) => entries.clone(),
                Some(_) => return Err(not_inside(problems, *span, name)),
            };
            let key = Value::Scalar { text: name.clone(), plain: false };
            let key = Rc::new(Node::new(*span, key));
            match entries.iter_mut().find(|entry| entry.name() == name) {
                Some(entry) => {
                    entry.value = graft(problems, Some(&entry.value), rest, value)?;
                    if rest.is_empty() {
                        entry.key = key;
                    }
                }
                None => {
                    entries.push(Entry { key, value: graft(problems, None, rest, value)? });
                }
            }
            (*span, Value::Map(entries))
        }
        Step::Index(index, span) => {
            let mut items = match there.map(|node| &node.value) {
                None => Vec::new(),
                Some(Value::List(items)) => items.clone(),
                Some(_) => return Err(not_inside(problems, *span, &format!("[{index}]"))),
            };
            if *index > items.len() {
                let message = format!("there is no element [{index}]");
                let hint = format!("the list has {}; the next one is [{0}]", items.len());
                return Err(Error::usage(message).hint(hint).at(problems.source(), *span));
            }
            let element = graft(problems, items.get(*index), rest, value)?;
            match items.get_mut(*index) {
                Some(item) => *item = element,
                None => items.push(element),
            }
            (*span, Value::List(items))
        }
    };
    // What was there keeps its place.
    let node = Node::new(there.map_or(span, |node| node.span), made);
    node.check(problems.source())?;
    Ok(Rc::new(node))
}

fn not_inside(problems: &Problems, span: Span, step: &str) -> Error {
    let message = format!("`{}` leads into a value that has no such parts", shorten(step));
    let error = Error::usage(message).at(problems.source(), span);
    error.hint("a key leads into a mapping, and `[N]` into a list")
}
