//! JSON as Go's encoding/json writes it: what is escaped, and how floating point numbers look.

use std::fmt::Write as _;

/// A string in quotes. `<`, `>`, `&` and the two line separators of Unicode are escaped; other text is not.
pub(super) fn push_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _infallible = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The shortest digits that give the number back; with an exponent when it is very small or large.
pub(super) fn push_float(out: &mut String, value: f64) {
    let size = value.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let sign = if exponent.starts_with('-') { "" } else { "+" };
        let _infallible = write!(out, "{digits}e{sign}{exponent}");
    } else {
        let _infallible = write!(out, "{value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_go_does() {
        let mut out = String::new();
        push_text(&mut out, "a\"\\/\u{8}\u{c}\n\r\t\0\u{1f}\u{7f}<>&\u{2028}\u{2029}é\u{1f600}'");
        let expect = "\"a\\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\u{7f}\\u003c\\u003e\\u0026\\u2028\\u2029é\u{1f600}'\"";
        assert_eq!(out, expect);
    }

    #[test]
    fn floats_look_as_in_go() {
        for (value, expect) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.5, "1.5"),
            (1000.0, "1000"),
            (0.1, "0.1"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (-1.25e300, "-1.25e+300"),
            (1e-6, "0.000001"),
            (9.5e-7, "9.5e-7"),
            (5e-324, "5e-324"),
        ] {
            let mut out = String::new();
            push_float(&mut out, value);
            assert_eq!(out, expect);
        }
    }
}
