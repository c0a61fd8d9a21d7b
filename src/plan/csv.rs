//! One comma-separated record, as Go's `encoding/csv` reads it (`--mount=` values).
//!
//! In: the text of a flag. Out: its fields without quotes, or what is wrong with it.

/// Fields of a record; an empty text has none and is an error.
pub(super) fn fields(text: &str) -> Result<Vec<String>, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    let mut out = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => bare_field(rest)?,
        };
        out.push(field);
        match after {
            Some(after) => rest = after,
            None => return Ok(out),
        }
    }
}

/// A field and the text after its comma, if there was one.
type Field<'a> = Result<(String, Option<&'a str>), &'static str>;

fn bare_field(text: &str) -> Field<'_> {
    let (field, after) = match text.split_once(',') {
        Some((field, after)) => (field, Some(after)),
        None => (text, None),
    };
    if field.contains('"') {
        return Err("bare `\"` in a field that does not begin with one");
    }
    Ok((field.to_owned(), after))
}

fn quoted_field(text: &str) -> Field<'_> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let Some((before, after)) = rest.split_once('"') else {
            return Err("missing closing `\"`");
        };
        field.push_str(before);
        match after.chars().next() {
            None => return Ok((field, None)),
            Some(',') => return Ok((field, Some(&after[1..]))),
            Some('"') => {
                field.push('"');
                rest = &after[1..];
            }
            Some(_) => return Err("text after a closing `\"`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        for (text, expected) in [
            ("a", Ok(vec!["a"])),
            ("a,b=c,", Ok(vec!["a", "b=c", ""])),
            (r#""a,b",c"#, Ok(vec!["a,b", "c"])),
            (r#""a""b""#, Ok(vec![r#"a"b"#])),
            ("", Err("it is empty")),
            (r#"a"b"#, Err("bare `\"` in a field that does not begin with one")),
            (r#""a"#, Err("missing closing `\"`")),
            (r#""a"b"#, Err("text after a closing `\"`")),
        ] {
            let expected = expected.map(|list: Vec<&str>| {
                list.into_iter().map(str::to_owned).collect::<Vec<String>>()
            });
            assert_eq!(fields(text), expected, "{text}");
        }
    }
}
