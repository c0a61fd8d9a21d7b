//! `--format`: what a template says about a JSON value, in the part of Go's language that people use with images.
//!
//! `{{.a.b}}` a member, in any case of letters; `{{json .a}}`, `{{len .a}}`, `{{index .a 0}}`, `{{join .a ","}}`;
//! `{{range .a}}…{{end}}` with `.` for each item; `\n` and `\t` outside.

use crate::error::{Error, Result};
use serde_json::Value;

/// Templates nest no deeper.
const MAX_DEPTH: usize = 16;

/// The text of a template for a value, with a line end.
pub(super) fn render(template: &str, value: &Value) -> Result<String> {
    let mut words = split(template)?;
    words.reverse();
    let mut out = String::new();
    let parsed = parse(&mut words, 0)?;
    if !words.is_empty() {
        return Err(bad("there is an `end` too many"));
    }
    write(&parsed, value, &mut out)?;
    out.push('\n');
    Ok(out)
}

fn bad(why: &str) -> Error {
    Error::usage(format!("bad template: {why}")).hint(
        "for example `{{.digest}}`, `{{json .config}}`, `{{range .layers}}{{.digest}}\\n{{end}}`",
    )
}

enum Word {
    Text(String),
    Action(Vec<String>),
}

enum Node {
    Text(String),
    Show(Vec<String>),
    Range(Vec<String>, Vec<Node>),
}

fn split(template: &str) -> Result<Vec<Word>> {
    let mut words = Vec::new();
    let mut rest = template;
    while let Some((text, after)) = rest.split_once("{{") {
        words.push(Word::Text(unescaped(text)));
        let (action, after) = after.split_once("}}").ok_or_else(|| bad("`}}` is missing"))?;
        words.push(Word::Action(arguments(action)?));
        rest = after;
    }
    words.push(Word::Text(unescaped(rest)));
    Ok(words)
}

fn unescaped(text: &str) -> String {
    text.replace("\\n", "\n").replace("\\t", "\t")
}

/// Words of an action; a text in quotes is one, with its quotes in front.
fn arguments(action: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = action.trim();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (text, after) = quoted.split_once('"').ok_or_else(|| bad("a quote is missing"))?;
            words.push(format!("\"{}", unescaped(text)));
            rest = after.trim_start();
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            words.push(rest[..end].to_owned());
            rest = rest[end..].trim_start();
        }
    }
    if words.is_empty() { Err(bad("an action is empty")) } else { Ok(words) }
}

/// Up to the end or an `end`; `words` are in reverse.
fn parse(words: &mut Vec<Word>, depth: usize) -> Result<Vec<Node>> {
    let mut nodes = Vec::new();
    loop {
        match words.pop() {
            None if depth > 0 => return Err(bad("an `end` is missing")),
            None => return Ok(nodes),
            Some(Word::Text(text)) => nodes.push(Node::Text(text)),
            Some(Word::Action(action)) => match &action[..] {
                [end] if end == "end" && depth > 0 => return Ok(nodes),
                [end] if end == "end" => return Err(bad("there is an `end` too many")),
                [range, rest @ ..] if range == "range" && depth < MAX_DEPTH => {
                    let inner = parse(words, depth + 1)?;
                    nodes.push(Node::Range(rest.to_vec(), inner));
                }
                _ => nodes.push(Node::Show(action)),
            },
        }
    }
}

fn write(nodes: &[Node], value: &Value, out: &mut String) -> Result<()> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Show(action) => out.push_str(&show(action, value)?),
            Node::Range(action, inner) => match evaluate(action, value)? {
                Value::Array(items) => {
                    items.iter().try_for_each(|item| write(inner, item, out))?;
                }
                Value::Object(members) => {
                    members.values().try_for_each(|item| write(inner, item, out))?;
                }
                Value::Null => {}
                _ => return Err(bad("`range` wants a list")),
            },
        }
    }
    Ok(())
}

fn show(action: &[String], value: &Value) -> Result<String> {
    match action {
        [json, rest @ ..] if json == "json" => Ok(evaluate(rest, value)?.to_string()),
        action => Ok(plain(&evaluate(action, value)?)),
    }
}

fn evaluate(action: &[String], value: &Value) -> Result<Value> {
    match action {
        [path] if path.starts_with('.') => Ok(member(value, path)),
        [len, path] if len == "len" => Ok(match member(value, path) {
            Value::Array(items) => items.len().into(),
            Value::Object(members) => members.len().into(),
            Value::String(text) => text.len().into(),
            _ => 0.into(),
        }),
        [index, path, key] if index == "index" => {
            let found = member(value, path);
            Ok(match (key.strip_prefix('"'), key.parse::<usize>()) {
                (Some(key), _) => found.get(key).cloned().unwrap_or_default(),
                (None, Ok(at)) => found.get(at).cloned().unwrap_or_default(),
                _ => return Err(bad("`index` wants a number or a text in quotes")),
            })
        }
        [join, path, separator] if join == "join" => {
            let separator = separator.strip_prefix('"').unwrap_or(separator);
            let Value::Array(items) = member(value, path) else {
                return Err(bad("`join` wants a list"));
            };
            let items: Vec<String> = items.iter().map(plain).collect();
            Ok(items.join(separator).into())
        }
        [] => Err(bad("a value is missing")),
        [first, ..] => Err(bad(&format!("`{first}` is not known"))),
    }
}

/// The member that `.a.b` means; null when there is none.
fn member(value: &Value, path: &str) -> Value {
    let mut at = value;
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let found = at.as_object().and_then(|members| {
            members.get(part).or_else(|| {
                let mut all = members.iter();
                all.find(|(key, _)| key.eq_ignore_ascii_case(part)).map(|(_, value)| value)
            })
        });
        match found {
            Some(found) => at = found,
            None => return Value::Null,
        }
    }
    at.clone()
}

/// As Go prints it.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(" "))
        }
        Value::Object(members) => {
            let all = members.iter().map(|(key, value)| format!("{key}:{}", plain(value)));
            format!("map[{}]", all.collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn value() -> Value {
        json!({"digest": "sha256:x", "config": {"Env": ["A=b", "C=d"], "Labels": {"k": "v"}},
               "layers": [{"digest": "1", "size": 2}, {"digest": "3", "size": 4}], "n": null})
    }

    #[test]
    fn templates_that_people_write() {
        for (template, wanted) in [
            ("{{.Digest}}", "sha256:x\n"),
            ("{{ .digest }} {{len .layers}}", "sha256:x 2\n"),
            ("{{json .config.Env}}", "[\"A=b\",\"C=d\"]\n"),
            ("{{.config.env}}", "[A=b C=d]\n"),
            ("{{.config.labels}}", "map[k:v]\n"),
            ("{{index .config.labels \"k\"}}{{index .config.env 1}}", "vC=d\n"),
            ("{{join .config.env \", \"}}", "A=b, C=d\n"),
            ("{{range .layers}}{{.digest}}:{{.size}}\\n{{end}}", "1:2\n3:4\n\n"),
            ("{{range .config.env}}{{.}};{{end}}", "A=b;C=d;\n"),
            ("{{.missing.at.all}}{{range .n}}x{{end}}", "<no value>\n"),
            ("plain", "plain\n"),
        ] {
            assert_eq!(render(template, &value()).unwrap(), wanted, "{template}");
        }
    }

    #[test]
    fn templates_that_are_wrong() {
        for (template, why) in [
            ("{{.digest", "`}}` is missing"),
            ("{{}}", "an action is empty"),
            ("{{range .layers}}", "an `end` is missing"),
            ("{{end}}", "an `end` too many"),
            ("{{printf .digest}}", "`printf` is not known"),
            ("{{range .digest}}{{end}}", "`range` wants a list"),
            ("{{join .layers \"}}", "a quote is missing"),
        ] {
            let error = render(template, &value()).unwrap_err();
            assert!(error.to_string().contains(why), "{template}: {error}");
        }
    }
}
