//! What an unquoted scalar means: the rules of Go's yaml.v3 (linuxkit.md §1.2).
//!
//! That is YAML 1.2 with two leftovers: `0666` is octal, and `_` may stand between digits. Dates stay text.

/// A scalar with its type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scalar<'a> {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(&'a str),
}

/// The type of an unquoted text.
pub(super) fn resolve(text: &str) -> Scalar<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
        "true" | "True" | "TRUE" => Scalar::Bool(true),
        "false" | "False" | "FALSE" => Scalar::Bool(false),
        ".nan" | ".NaN" | ".NAN" => Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Scalar::Float(f64::NEG_INFINITY),
        _ if text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => {
            number(text).unwrap_or(Scalar::Text(text))
        }
        _ => Scalar::Text(text),
    }
}

/// Numbers are short; anything longer is text, and need not be copied.
const MAX_NUMBER: usize = 128;

fn number(text: &str) -> Option<Scalar<'static>> {
    if text.len() > MAX_NUMBER {
        return None;
    }
    let digits = if text.starts_with('.') { text.to_owned() } else { text.replace('_', "") };
    if let Some(value) = integer(&digits) {
        return Some(Scalar::Int(value));
    }
    if !is_float(&digits) {
        return None;
    }
    digits.parse().ok().filter(|value: &f64| value.is_finite()).map(Scalar::Float)
}

/// Go's integers with a prefix for the base, if they fit 64 bits.
fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (base, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let value = i128::from_str_radix(digits, base).ok()?;
    let value = if negative { -value } else { value };
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&value).then_some(value)
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let exponent_fits = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let some_digit = !whole.is_empty() || !fraction.is_empty();
    exponent_fits && some_digit && digits(whole) && digits(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unquoted_scalars_have_the_types_of_go() {
        let check = |text, expect: Scalar<'_>| assert_eq!(resolve(text), expect, "{text}");
        for text in ["", "~", "null", "Null", "NULL"] {
            check(text, Scalar::Null);
        }
        for (text, value) in [("true", true), ("True", true), ("FALSE", false)] {
            check(text, Scalar::Bool(value));
        }
        for text in ["yes", "on", "tRUE", "nULL", "-", "+", ".", "..", "0x", "0b2", "1e", "e1"] {
            check(text, Scalar::Text(text));
        }
        for text in ["2001-01-01", "1.2.3", "1:30", "-.e1", "+-1", "0x_g", "1e999", "._5", "nan"] {
            check(text, Scalar::Text(text));
        }
        for (text, value) in [
            ("0", 0),
            ("-800", -800),
            ("+5", 5),
            ("1_000", 1000),
            ("0666", 438),
            ("0o17", 15),
            ("-0x1F", -31),
            ("0B101", 5),
            ("18446744073709551615", u64::MAX.into()),
            ("-9223372036854775808", i64::MIN.into()),
        ] {
            check(text, Scalar::Int(value));
        }
        for (text, value) in [
            ("1.5", 1.5),
            (".5", 0.5),
            ("5.", 5.0),
            ("-1e3", -1000.0),
            ("08", 8.0),
            ("18446744073709551616", 18_446_744_073_709_551_616.0),
        ] {
            check(text, Scalar::Float(value));
        }
        assert!(matches!(resolve(".NaN"), Scalar::Float(value) if value.is_nan()));
        check("-.inf", Scalar::Float(f64::NEG_INFINITY));
        let long = "1".repeat(1 << 20);
        check(&long, Scalar::Text(&long));
    }
}
