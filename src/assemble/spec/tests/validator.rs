//! As much of JSON Schema (draft 2020-12) as the published schema uses; any other keyword is an error of the schema.

use regex_lite::Regex;
use serde_json::{Map, Value};

/// Keywords that say nothing about what is valid.
const REMARKS: &[&str] =
    &["$schema", "$id", "$defs", "title", "description", "default", "deprecated", "then", "else"];

/// Whether a value is valid, or the first reason why it is not, with its place.
pub(super) fn validate(root: &Value, value: &Value) -> Result<(), String> {
    Validator { root }.check(root, value, "")
}

struct Validator<'a> {
    root: &'a Value,
}

impl Validator<'_> {
    fn check(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        let Value::Object(schema) = schema else { panic!("{at}: {schema} is no schema") };
        schema.iter().try_for_each(|(keyword, rule)| self.keyword(schema, keyword, rule, value, at))
    }

    fn keyword(
        &self,
        schema: &Map<String, Value>,
        keyword: &str,
        rule: &Value,
        value: &Value,
        at: &str,
    ) -> Result<(), String> {
        let holds = |schema: &Value| self.check(schema, value, at).is_ok();
        let number = value.as_f64();
        let limit = || rule.as_f64().unwrap();
        let length = value.as_str().map(|text| size(text.chars().count()));
        let good = match keyword {
            _ if REMARKS.contains(&keyword) => true,
            "$ref" => return self.check(self.target(rule), value, at),
            "type" => list(rule).iter().any(|kind| is_kind(value, kind)),
            "enum" => list(rule).contains(value),
            "const" => value == rule,
            "minimum" => number.is_none_or(|number| number >= limit()),
            "maximum" => number.is_none_or(|number| number <= limit()),
            "minLength" => length.is_none_or(|length| length >= limit()),
            "maxLength" => length.is_none_or(|length| length <= limit()),
            "pattern" => value.as_str().is_none_or(|text| pattern(rule).is_match(text)),
            "minItems" => value.as_array().is_none_or(|items| size(items.len()) >= limit()),
            "maxItems" => value.as_array().is_none_or(|items| size(items.len()) <= limit()),
            "minProperties" => value.as_object().is_none_or(|map| size(map.len()) >= limit()),
            "maxProperties" => value.as_object().is_none_or(|map| size(map.len()) <= limit()),
            "allOf" => return list(rule).iter().try_for_each(|all| self.check(all, value, at)),
            "anyOf" => list(rule).iter().any(holds),
            "oneOf" => list(rule).iter().filter(|one| holds(one)).count() == 1,
            "not" => !holds(rule),
            "if" => {
                let branch = if holds(rule) { "then" } else { "else" };
                return schema.get(branch).map_or(Ok(()), |then| self.check(then, value, at));
            }
            _ => return self.parts(schema, keyword, rule, value, at),
        };
        if good {
            Ok(())
        } else {
            Err(format!("{at}: {value} is not valid by `{keyword}`: {rule}"))
        }
    }

    /// Keywords about what is inside lists and mappings.
    fn parts(
        &self,
        schema: &Map<String, Value>,
        keyword: &str,
        rule: &Value,
        value: &Value,
        at: &str,
    ) -> Result<(), String> {
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let nothing = Map::new();
        let map = value.as_object().unwrap_or(&nothing);
        match keyword {
            "items" | "prefixItems" => {
                let first = if keyword == "items" { 0 } else { items.len() };
                let rest = items.iter().skip(first).map(|item| (rule, item));
                let prefix = rule.as_array().map(Vec::as_slice).unwrap_or_default();
                let mut pairs = prefix.iter().zip(items).chain(rest);
                pairs.try_for_each(|(rule, item)| self.check(rule, item, &format!("{at}/-")))
            }
            "required" => match list(rule).iter().find(|key| !map.contains_key(text(key))) {
                Some(key) if value.is_object() => Err(format!("{at}: {key} is missing")),
                _ => Ok(()),
            },
            "properties" => map.iter().try_for_each(|(key, part)| match rule.get(key) {
                Some(rule) => self.check(rule, part, &format!("{at}/{key}")),
                None => Ok(()),
            }),
            "propertyNames" => map.keys().try_for_each(|key| {
                self.check(rule, &Value::from(key.as_str()), &format!("{at}/{key}"))
            }),
            "additionalProperties" => map.iter().try_for_each(|(key, part)| {
                let known = schema.get("properties").and_then(|known| known.get(key));
                match (known, rule) {
                    (None, Value::Bool(false)) => Err(format!("{at}: `{key}` is not known")),
                    (None, rule) => self.check(rule, part, &format!("{at}/{key}")),
                    (Some(_), _) => Ok(()),
                }
            }),
            _ => panic!("the keyword `{keyword}` is not known here"),
        }
    }

    fn target(&self, reference: &Value) -> &Value {
        let path = text(reference).strip_prefix('#').unwrap();
        self.root.pointer(path).unwrap_or_else(|| panic!("{path} is not there"))
    }
}

fn size(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// A list, or a list of the one value.
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice)
}

fn pattern(rule: &Value) -> Regex {
    Regex::new(text(rule)).unwrap()
}

fn is_kind(value: &Value, kind: &Value) -> bool {
    match text(kind) {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the type `{other}` is not known here"),
    }
}
