//! Tables for both pattern dialects, and properties against hostile patterns.

use super::*;
use proptest::prelude::*;

fn glob(pattern: &str, path: &str) -> bool {
    Pattern::glob(pattern.as_bytes()).unwrap().matches(path.as_bytes())
}

fn ignore(pattern: &str, path: &str) -> bool {
    Pattern::ignore(pattern.as_bytes()).unwrap().matches(path.as_bytes())
}

#[test]
fn glob_matches_as_go_does() {
    let table = [
        ("abc", "abc", true),
        ("*", "abc", true),
        ("*c", "abc", true),
        ("a*", "a", true),
        ("a*", "ab/c", false),
        ("a*/b", "abc/b", true),
        ("a*/b", "a/c/b", false),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
        ("a*b?c*x", "abxbbxdbxebxczzx", true),
        ("a*b?c*x", "abxbbxdbxebxczzy", false),
        ("ab[c]", "abc", true),
        ("ab[b-d]", "abc", true),
        ("ab[e-g]", "abc", false),
        ("ab[^c]", "abc", false),
        ("ab[^e-g]", "abc", true),
        ("a\\*b", "a*b", true),
        ("a\\*b", "ab", false),
        ("a?b", "a☺b", true),
        ("a[^a]b", "a☺b", true),
        ("a???b", "a☺b", false),
        ("[a-ζ]*", "α", true),
        ("a?b", "a/b", false),
        ("a*b", "a/b", false),
        ("[\\]a]", "]", true),
        ("[x\\-]", "-", true),
        ("[!a]", "!", true),
        ("*x", "xxx", true),
        ("**", "a", true),
        ("**", "a/b", false),
        ("arr[[]0].txt", "arr[0].txt", true),
        ("arr[0].txt", "arr0.txt", true),
        ("arr[0].txt", "arr[0].txt", false),
        ("", "", true),
        ("", "a", false),
    ];
    for (pattern, path, expected) in table {
        assert_eq!(glob(pattern, path), expected, "{pattern} on {path}");
    }
}

#[test]
fn bad_patterns_are_refused_by_both() {
    for bad in ["[", "[^", "a[", "[]a]", "[-]", "[x-]", "[a-b-c]", "[-x]", "a\\", "[\\", "*["] {
        assert!(Pattern::glob(bad.as_bytes()).is_err(), "{bad}");
        assert!(Pattern::ignore(bad.as_bytes()).is_err(), "{bad}");
    }
    assert!(Pattern::ignore(&vec![b'a'; 5000]).is_err());
}

#[test]
fn ignore_matches_as_moby_does() {
    let table = [
        ("**", "anything/at/all", true),
        ("**", "x", true),
        ("**/x", "x", true),
        ("**/x", "a/x", true),
        ("**/x", "a/b/x", true),
        ("**/x", "ax", false),
        ("x/**", "x", false),
        ("x/**", "x/y", true),
        ("x/**", "x/y/z", true),
        ("x/**", "xy/z", false),
        ("**.md", "a/b.md", true),
        ("**.md", "b.md", true),
        ("**file", "myfile", true),
        ("**file", "dir/myfile", true),
        ("dir**", "dirx/y", true),
        ("dir**", "dir", true),
        ("dir**", "adir", false),
        ("a**.md", "ab.md", false),
        ("a**.md", "a.md", true),
        ("a**.md", "ax/.md", true),
        ("**f*e", "xfe", false),
        ("**f*e", "x/fe", true),
        ("**f*e", "fxe", true),
        ("**/*.txt", "a.txt", true),
        ("**/*.txt", "x/y/a.txt", true),
        ("a/**/b", "a/b", true),
        ("a/**/b", "a/x/y/b", true),
        ("a/**/b", "axb", false),
        ("*/**", "a", false),
        ("*/**", "a/b/c", true),
        ("**/**", "a", true),
        ("*.txt", "a.txt", true),
        ("*.txt", "x/a.txt", false),
        ("a.b", "axb", false),
        ("a+b(c)|{}$", "a+b(c)|{}$", true),
        ("a+*", "a+x", true),
        ("a+*", "aax", false),
        ("[a-c]?", "bx", true),
        ("[^a]", "a", false),
        ("\\*", "*", true),
        ("\\*", "x", false),
        ("abc", "abc", true),
        ("abc", "abcd", false),
        ("***", "a/b", true),
    ];
    for (pattern, path, expected) in table {
        assert_eq!(ignore(pattern, path), expected, "{pattern} on {path}");
    }
}

#[test]
fn names_that_are_no_utf8_count_byte_by_byte() {
    let matches = |pattern: &[u8], path: &[u8]| Pattern::glob(pattern).unwrap().matches(path);
    assert!(matches(b"a\xff?", b"a\xff\xfe"));
    assert!(!matches(b"a\xff", b"a\xfe"));
    assert!(matches(b"*", b"\xff\xfe"));
    assert!(!matches(b"?", b"\xff\xfe"));
}

#[test]
fn hostile_patterns_take_bounded_time() {
    let pattern = Pattern::ignore(format!("{}[b]", "**/*a?".repeat(600)).as_bytes()).unwrap();
    assert!(!pattern.matches(&vec![b'a'; 4000]));
    assert!(!glob(&format!("{}[b]", "a*".repeat(1000)), &"a".repeat(4000)));
}

#[test]
fn below_is_only_denied_when_impossible() {
    let below = |pattern: &str, dir: &str| {
        Pattern::ignore(pattern.as_bytes()).unwrap().may_match_below(dir.as_bytes())
    };
    assert!(below("a/b/c", "a"));
    assert!(below("a/b/c", "a/b"));
    assert!(!below("a/b/c", "b"));
    assert!(!below("abc/d", "ab"));
    assert!(below("ab*/d", "abc"));
    assert!(below("**/x", "y"));
    assert!(below("src/**/*.txt", "src/deep"));
    assert!(!below("src/**/*.txt", "doc"));
    assert!(below("x", ""));
}

#[test]
fn clean_works_as_go_does() {
    for (path, expected) in [
        ("", "."),
        ("a/./b//c/", "a/b/c"),
        ("a/../b", "b"),
        ("../x", "../x"),
        ("a/../../x", "../x"),
        ("/../x", "/x"),
        ("/", "/"),
        ("./", "."),
    ] {
        assert_eq!(clean(path.as_bytes()), expected.as_bytes(), "{path}");
    }
}

/// Patterns of the characters that matter, and paths of the same ones.
fn text() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(
        proptest::sample::select(b"ab/*?[]^-\\.!\xff\xc3\xa4".to_vec()),
        0..24,
    )
}

proptest! {
    #[test]
    fn no_pattern_panics(pattern in text(), path in text()) {
        for compiled in [Pattern::glob(&pattern), Pattern::ignore(&pattern)].into_iter().flatten() {
            compiled.matches(&path);
            compiled.may_match_below(&path);
        }
        prop_assert_eq!(Pattern::glob(&pattern).is_err(), Pattern::ignore(&pattern).is_err());
    }

    #[test]
    fn literal_patterns_match_themselves_only(a in "[a-zäß+.(){}/]{0,12}", b in "[a-zäß+.(){}/]{0,12}") {
        for compiled in [Pattern::glob(a.as_bytes()).unwrap(), Pattern::ignore(a.as_bytes()).unwrap()] {
            prop_assert!(compiled.matches(a.as_bytes()));
            prop_assert_eq!(compiled.matches(b.as_bytes()), a == b);
        }
    }

    #[test]
    fn escaped_patterns_match_their_text(name in proptest::collection::vec(1_u8..=255, 0..12)) {
        let valid = String::from_utf8_lossy(&name).into_owned();
        let escaped: String = valid.chars().flat_map(|c| ['\\', c]).collect();
        prop_assert!(Pattern::glob(escaped.as_bytes()).unwrap().matches(valid.as_bytes()));
        prop_assert!(Pattern::ignore(escaped.as_bytes()).unwrap().matches(valid.as_bytes()));
    }

    #[test]
    fn a_match_below_a_directory_was_announced(pattern in text(), dir in "[ab]{1,3}", name in "[ab/.]{1,6}") {
        if let Ok(compiled) = Pattern::ignore(&pattern) {
            let path = format!("{dir}/{name}");
            prop_assert!(!compiled.matches(path.as_bytes()) || compiled.may_match_below(dir.as_bytes()));
        }
    }
}
