//! Tests of word expansion: every operator, quoting, escapes, and what is refused.

use super::*;
use proptest::prelude::*;

fn env(name: &str) -> Option<String> {
    let value = match name {
        "A" => "old",
        "E" => "",
        "P" => "1 2/udp",
        "V" => "a/b/a/b",
        "F" => "x.tar.gz",
        "I" => "idlebox",
        "U" => "a  b",
        "é" => "accent",
        "12" => "digits",
        "G" => "*/",
        _ => return None,
    };
    Some(value.to_owned())
}

/// `input` with the backslash as escape; an expectation that starts with `!` is an error.
fn check(input: &str, expect: &str) {
    check_with('\\', input, expect);
}

fn check_with(escape: char, input: &str, expect: &str) {
    let found = expand(input, escape, &env).unwrap_or_else(|error| format!("!{error}"));
    assert_eq!(found, expect, "{input:?}");
}

#[test]
fn plain_variables() {
    check("$A", "old");
    check("${A}x", "oldx");
    check("$Ax", "");
    check("$A.x", "old.x");
    check("$E|${E}|$NONE|${NONE}", "|||");
    check("$.", "$.");
    check("$", "$");
    check("a$ b", "a$ b");
    check("$12x", "digitsx");
    check("$1x", "x");
    check("$@$*$#$?$-$$$!$0|", "|");
    check("$é", "accent");
    check("busy${I#idle}", "busybox");
}

#[test]
fn defaults() {
    check("${X:-z}|${E:-z}|${A:-z}", "z|z|old");
    check("${X-z}|${E-z}|${A-z}", "z||old");
    check("${X:+z}|${E:+z}|${A:+z}", "||z");
    check("${X+z}|${E+z}|${A+z}", "|z|z");
    check("${X:-${Y:-z}}", "z");
    check("${X:-\"a }\" b}", "a } b");
    check("${X:-'$A'}", "$A");
    check("${X:-\\}}", "}");
    check("${X:+}", "");
    check("${A?}", "old");
    check("${X?}", "!X: is not allowed to be unset");
    check("${X:?}", "!X: is not allowed to be unset");
    check("${E:?}", "!E: is not allowed to be empty");
    check("${E?}", "");
    check("${X:?need $A}", "!X: need old");
}

#[test]
fn patterns() {
    check("${V#*/}|${V##*/}|${V%/*}|${V%%/*}", "b/a/b|b|a/b/a|a");
    check("${F%.gz}|${F%%.*}", "x.tar|x");
    check("${V#}|${V##}|${V%}", "a/b/a/b|a/b/a/b|a/b/a/b");
    check("${V/a\\/b/c}|${V//a\\/b/c}", "c/a/b|c/c");
    check("${V/a/$A}|${V//a/}", "old/b/a/b|/b//b");
    check("${V/$G/-}", "-b");
    check("${V//\\//\\/}", "a\\/b\\/a\\/b");
    check("${V/\"a\"/'q'}", "q/b/a/b");
    check("${V#\\a}", "!invalid pattern (\\a) in substitution: invalid escape '\\a'");
    check("${X#a}${X/a/b}", "");
    check("${V//x}", "!syntax error: missing '/' in ${}");
    check("${V/x}", "!syntax error: missing '/' in ${}");
    check("${V/x/y", "!syntax error: missing '}'");
    check("${V///}", "a/b/a/b");
}

#[test]
fn wrong_braces() {
    check("${}", "!syntax error: bad substitution");
    check("${:x}", "!syntax error: bad substitution");
    check("${{A}}", "!syntax error: bad substitution");
    check("${A=x}", "!unsupported modifier (=) in substitution");
    check("${A:#p}", "!unsupported modifier (:#) in substitution");
    check("${A:x}", "!unsupported modifier (:x) in substitution");
    check("${A b}", "!unsupported modifier ( ) in substitution");
    check("${", "!syntax error: missing '}'");
    check("${A", "!syntax error: missing '}'");
    check("${A:", "!syntax error: missing '}'");
    check("${A:-x", "!syntax error: missing '}'");
    check("${A:-x\\", "!syntax error: missing '}'");
    let deep = "${x:-".repeat(200_000);
    check(&deep, "!variables are nested deeper than 100 levels");
    let quoted = "\"${x:-".repeat(200_000);
    check(&quoted, "!variables are nested deeper than 100 levels");
}

#[test]
fn quotes_and_escapes() {
    check("'$A'", "$A");
    check("\"$A\"", "old");
    check("\\$A", "$A");
    check("a\\ b", "a b");
    check("\"a\\b\\\"\\$A\\\\\"", "a\\b\"$A\\");
    check("a\\nb", "anb");
    check("'a\\'", "a\\");
    check("a\\", "a");
    check("\"/a b\"", "/a b");
    check("one   two \"three\" $E", "one   two three ");
    check("\"'\"'\"'", "'\"");
    check("'a", "!unexpected end of statement while looking for matching single-quote");
    check("\"a", "!unexpected end of statement while looking for matching double-quote");
    check("\"a\\", "!unexpected end of statement while looking for matching double-quote");
    check_with('`', "`$A \\$A \"`\"\"", "$A \\old \"");
    check_with('`', "C:\\a`", "C:\\a");
    check_with('`', "${V#a\\/}", "b/a/b");
    check("$U", "a  b");
}

#[test]
fn words_are_split_after_expansion() {
    let words = |text: &str| expand_words(text, '\\', &env).unwrap();
    assert_eq!(words("$P"), ["1", "2/udp"]);
    assert_eq!(words("\"$P\" 3"), ["1 2/udp", "3"]);
    assert_eq!(words("8$P"), ["81", "2/udp"]);
    assert_eq!(words("a\\ b ''"), ["a b"]);
    assert_eq!(words("$E"), Vec::<String>::new());
    assert!(expand_words("${", '\\', &env).is_err());
}

#[test]
fn heredoc_bodies_know_no_quotes() {
    let body = |text: &str| expand_heredoc(text, &env).unwrap();
    assert_eq!(body("it's \"$A\" \\$A \\\\\n"), "it's \"old\" $A \\\n");
    assert_eq!(body("'$A'\n"), "'old'\n");
    assert_eq!(body("\\\n"), "\n");
    assert_eq!(body("${X:-'q'}"), "'q'");
    assert_eq!(body("a\r\n"), "a\r\n");
}

#[test]
fn tabs_are_chomped_and_blanks_are_not() {
    assert_eq!(chomp("\ta\n\t\tb\n \tc\n\t\nd\te"), "a\nb\n \tc\n\nd\te");
    assert_eq!(chomp(""), "");
}

#[test]
fn values_that_grow_without_end_are_refused() {
    let big = "x".repeat(3 << 20);
    let lookup = |_: &str| Some(big.clone());
    for (text, most) in [("$A$A", 4), ("\"$A$A\"", 4), ("${A//x/yyyy}", 1), ("${A:+$A}", 1)] {
        let message = format!("the value is longer than {most} MiB");
        assert_eq!(expand(text, '\\', &lookup).unwrap_err().message, message, "{text}");
    }
    let body = "y".repeat(9 << 20);
    assert_eq!(expand_heredoc(&format!("{body}$A"), &lookup).unwrap().len(), 12 << 20);
}

proptest! {
    #[test]
    fn expansion_never_panics(text in "(\\PC|[$\\{\\}:/#%?*+'\"\\\\` \n\tAVE-]){0,60}", tick: bool) {
        let escape = if tick { '`' } else { '\\' };
        drop(expand(&text, escape, &env));
        drop(expand_words(&text, escape, &env));
        drop(expand_heredoc(&text, &env));
    }

    #[test]
    fn braces_never_panic(inner in "[$\\{\\}:/#%?*+'\"\\\\é한V-]{0,20}") {
        drop(expand(&format!("${{V{inner}}}"), '\\', &env));
    }

    #[test]
    fn single_quotes_keep_anything(text in "[^']{0,40}") {
        prop_assert_eq!(expand(&format!("'{text}'"), '\\', &env), Ok(text));
    }
}
