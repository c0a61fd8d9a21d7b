//! `regex` of `perms`: a pattern for paths of the image.
//!
//! Matching takes time in proportion to the path, whatever the pattern. A pattern matches anywhere in the path unless it
//! has `^` or `$`; `.` is any character, also a line's end. Bytes that are no UTF-8 count as one strange character.

use crate::error::{Error, Result};
use regex_lite::{Regex, RegexBuilder};

/// Longest pattern.
const MAX_LENGTH: usize = 4096;

/// Most memory of a compiled pattern: repetitions such as `(a{1000}){1000}` would take more.
const MAX_SIZE: usize = 1 << 20;

/// Deepest nesting of groups.
const MAX_NESTING: u32 = 50;

/// A pattern for paths.
#[derive(Clone, Debug)]
pub struct PathPattern(Regex);

impl PathPattern {
    /// Compiles the text.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| Error::package("the pattern is not valid").cause(why);
        if text.len() > MAX_LENGTH {
            return Err(wrong(&format!("it is longer than {MAX_LENGTH} bytes")));
        }
        let mut builder = RegexBuilder::new(text);
        builder.dot_matches_new_line(true).size_limit(MAX_SIZE).nest_limit(MAX_NESTING);
        builder.build().map(Self).map_err(|error| wrong(&error.to_string()))
    }

    /// Whether a path matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.0.is_match(&String::from_utf8_lossy(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_anywhere_in_a_path() {
        for (pattern, path, expect) in [
            (".*", &b"/a\nb"[..], true),
            ("^/data/.*\\.sh$", b"/data/x/run.sh", true),
            ("^/data/.*\\.sh$", b"/x/data/run.sh", false),
            ("b", b"/abc", true),
            ("^/.$", b"/\xff", true),
            ("^/é$", "/é".as_bytes(), true),
            ("^/a$", b"/a\n", false),
        ] {
            assert_eq!(PathPattern::parse(pattern).unwrap().matches(path), expect, "{pattern}");
        }
    }

    #[test]
    fn patterns_that_are_wrong_or_too_large_are_errors() {
        let deep = format!("{}a{}", "(".repeat(60), ")".repeat(60));
        let long = "a".repeat(5000);
        for pattern in ["(", "a{1000}{1000}{1000}", "[z-a]", "(?=a)", &deep, &long] {
            let error = PathPattern::parse(pattern).unwrap_err();
            assert_eq!(error.message(), "the pattern is not valid", "{pattern}");
            assert_eq!(error.causes().len(), 1);
        }
    }

    #[test]
    fn no_pattern_takes_long_on_a_long_path() {
        let pattern = PathPattern::parse("^(/?(a*)*)*b$").unwrap();
        assert!(!pattern.matches(&b"/a".repeat(2048)));
    }
}
