//! Go's text form of durations, as HEALTHCHECK's flags have it: `1h30m`, `1.5s`, `300ms`.

/// Nanoseconds of a duration; `Err` is a message.
pub(super) fn parse(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid duration `{text}`");
    let (negative, rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    let mut rest = rest;
    while !rest.is_empty() {
        let whole = digits(rest);
        let mut after = &rest[whole.len()..];
        let mut fraction = "";
        if let Some(behind) = after.strip_prefix('.') {
            fraction = digits(behind);
            after = &behind[fraction.len()..];
        }
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let length = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(length);
        if unit.is_empty() {
            return Err(format!("missing unit in duration `{text}`"));
        }
        let scale =
            scale(unit).ok_or_else(|| format!("unknown unit `{unit}` in duration `{text}`"))?;
        total += amount(whole, fraction, scale).ok_or_else(invalid)?;
        if total > i128::from(i64::MAX) {
            return Err(invalid());
        }
        rest = next;
    }
    let signed = if negative { -total } else { total };
    i64::try_from(signed).map_err(|_| invalid())
}

fn digits(text: &str) -> &str {
    &text[..text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())]
}

fn scale(unit: &str) -> Option<i128> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `whole.fraction` units in nanoseconds, cut; digits beyond a millionth of a nanosecond count nothing.
fn amount(whole: &str, fraction: &str, scale: i128) -> Option<i128> {
    let whole = if whole.is_empty() { 0 } else { whole.parse::<i64>().ok()? };
    let fraction = &fraction[..fraction.len().min(18)];
    let parts = if fraction.is_empty() { 0 } else { fraction.parse::<i128>().ok()? };
    Some(i128::from(whole) * scale + parts * scale / 10_i128.pow(fraction.len() as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations() {
        let second = 1_000_000_000;
        let ok = |text, expect| assert_eq!(parse(text), Ok(expect), "{text}");
        ok("0", 0);
        ok("-0", 0);
        ok("30s", 30 * second);
        ok("1h30m", 5400 * second);
        ok("1.5s", 1_500_000_000);
        ok(".5m", 30 * second);
        ok("1.s", second);
        ok("300ms", 300_000_000);
        ok("7us", 7_000);
        ok("7\u{b5}s", 7_000);
        ok("1ns", 1);
        ok("-5s", -5 * second);
        ok("+5s", 5 * second);
        ok("0.000000000000000000000000001h", 0);
        let bad = |text, expect: &str| assert_eq!(parse(text), Err(expect.to_owned()), "{text}");
        bad("", "invalid duration ``");
        bad("-", "invalid duration `-`");
        bad("30", "missing unit in duration `30`");
        bad("30x", "unknown unit `x` in duration `30x`");
        bad("s", "invalid duration `s`");
        bad(".s", "invalid duration `.s`");
        bad("9999999999999h", "invalid duration `9999999999999h`");
        bad("99999999999999999999s", "invalid duration `99999999999999999999s`");
        bad("1s2", "missing unit in duration `1s2`");
        bad("1 s", "unknown unit ` s` in duration `1 s`");
    }
}
