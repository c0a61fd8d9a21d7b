//! Texts of history entries (`created_by`), as BuildKit writes them.
//!
//! In: expanded values. Out: one line of text for each instruction. Cached rebuilds and comparisons of images depend
//! on every byte here; dockerfile.md §2.1.

use super::step::CopyStep;
use crate::oci::spec::Healthcheck;

/// RUN: ARGs declared so far as `name=value`, then the command.
pub(super) fn run(args: &[String], argv: &[String]) -> String {
    let mut words = Vec::with_capacity(args.len() + argv.len() + 1);
    if !args.is_empty() {
        words.push(format!("|{}", args.len()));
        words.extend_from_slice(args);
    }
    words.extend_from_slice(argv);
    format!("RUN {} # buildkit", words.join(" "))
}

/// ENV and LABEL: pairs as expanded.
pub(super) fn pairs(keyword: &str, pairs: &[(String, String)]) -> String {
    let shown: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{keyword} {}", shown.join(" "))
}

/// ARG: names, with values where they have one.
pub(super) fn arg(args: &[(String, Option<String>)]) -> String {
    let shown: Vec<String> = args
        .iter()
        .map(|(name, value)| match value {
            Some(value) => format!("{name}={value}"),
            None => name.clone(),
        })
        .collect();
    format!("ARG {}", shown.join(" "))
}

/// COPY and ADD: `--from`, `--link` and `--exclude` do not show; `chmod` is the value as expanded.
pub(super) fn copy(step: &CopyStep, chmod: Option<&str>) -> String {
    let mut text = String::from(if step.add { "ADD" } else { "COPY" });
    if step.parents {
        text.push_str(" --parents");
    }
    if let Some(chown) = &step.chown {
        text.push_str(&format!(" --chown={chown}"));
    }
    if let Some(chmod) = chmod {
        text.push_str(&format!(" --chmod={chmod}"));
    }
    for (source, _) in &step.sources {
        text.push_str(&format!(" {source}"));
    }
    for heredoc in &step.heredocs {
        text.push_str(&format!(" <<{}", heredoc.name));
    }
    text.push_str(&format!(" {} # buildkit", step.destination));
    text
}

/// CMD and ENTRYPOINT: a list of quoted strings with blanks between them.
pub(super) fn quoted_list(keyword: &str, words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
    format!("{keyword} [{}]", quoted.join(" "))
}

/// EXPOSE, VOLUME and SHELL: a list of bare strings.
pub(super) fn list(keyword: &str, words: &[String]) -> String {
    format!("{keyword} [{}]", words.join(" "))
}

/// HEALTHCHECK.
pub(super) fn healthcheck(check: &Healthcheck) -> String {
    format!(
        "HEALTHCHECK {{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        check.test.join(" "),
        duration(check.interval),
        duration(check.timeout),
        duration(check.start_period),
        duration(check.start_interval),
        check.retries
    )
}

/// A string in Go's `%q` form.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            ' '..='~' => out.push(c),
            c if (c as u32) < 0x80 => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if is_printable(c) => out.push(c),
            c if (c as u32) < 0x10000 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push_str(&format!("\\U{:08x}", c as u32)),
        }
    }
    out.push('"');
    out
}

/// Whether a non-ASCII character is shown as it is. The standard library only says so through its debug form, which
/// also escapes a combining character unless something stands before it.
fn is_printable(c: char) -> bool {
    let mut probe = String::from("a");
    probe.push(c);
    probe.escape_debug().nth(1) == Some(c)
}

/// Nanoseconds in Go's form: `1m30s`, `1.5s`, `100ms`, `0s`.
fn duration(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let total = nanoseconds.unsigned_abs();
    let below_second = |unit: u64, name: &str| format!("{sign}{}{name}", decimal(total, unit));
    match total {
        0 => "0s".to_owned(),
        1..1_000 => below_second(1, "ns"),
        1_000..1_000_000 => below_second(1_000, "µs"),
        1_000_000..1_000_000_000 => below_second(1_000_000, "ms"),
        _ => {
            const SECOND: u64 = 1_000_000_000;
            let (hours, minutes) = (total / (3600 * SECOND), total / (60 * SECOND) % 60);
            let seconds = decimal(total % (60 * SECOND), SECOND);
            match (hours, minutes) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// `value / unit` as a decimal number without zeros at its end; `unit` is a power of ten.
fn decimal(value: u64, unit: u64) -> String {
    let (whole, rest) = (value / unit, value % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let digits = unit.ilog10() as usize;
    format!("{whole}.{}", format!("{rest:0digits$}").trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn run_lists_arguments_only_when_there_are_any() {
        let argv = strings(&["/bin/sh", "-c", "true"]);
        assert_eq!(run(&[], &argv), "RUN /bin/sh -c true # buildkit");
        assert_eq!(
            run(&strings(&["foo=bar2", "bar=123"]), &argv),
            "RUN |2 foo=bar2 bar=123 /bin/sh -c true # buildkit"
        );
    }

    #[test]
    fn quote_is_go_quote() {
        for (text, expected) in [
            ("a b", r#""a b""#),
            ("\"\\", r#""\"\\""#),
            ("\t\n\r\u{7}\u{8}\u{b}\u{c}\u{1}\u{7f}", r#""\t\n\r\a\b\v\f\x01\x7f""#),
            ("é日\u{301}", "\"é日\u{301}\""),
            ("\u{a0}\u{200b}\u{e0001}", r#""\u00a0\u200b\U000e0001""#),
        ] {
            assert_eq!(quote(text), expected);
        }
        assert_eq!(
            quoted_list("CMD", &strings(&["/bin/sh", "-c", "x"])),
            r#"CMD ["/bin/sh" "-c" "x"]"#
        );
        assert_eq!(quoted_list("CMD", &[]), "CMD []");
    }

    #[test]
    fn durations_are_go_durations() {
        for (nanoseconds, expected) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (100_000_000, "100ms"),
            (1_000_000_000, "1s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (3_661_001_000_000, "1h1m1.001s"),
            (-1_000_000, "-1ms"),
        ] {
            assert_eq!(duration(nanoseconds), expected);
        }
    }

    #[test]
    fn healthcheck_shows_all_fields() {
        let check = Healthcheck {
            test: strings(&["CMD-SHELL", "x"]),
            interval: 1_000_000_000,
            retries: 5,
            ..Healthcheck::default()
        };
        assert_eq!(
            healthcheck(&check),
            "HEALTHCHECK {Test:[CMD-SHELL x] Interval:1s Timeout:0s StartPeriod:0s StartInterval:0s Retries:5}"
        );
    }
}
