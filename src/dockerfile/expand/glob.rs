//! Patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: `*` and `?`, nothing else.
//!
//! `*` takes any characters, `/` too, but no line feed, and neither does `?`: BuildKit makes regular
//! expressions of them. Matching is by the parts between stars, so that no pattern takes exponential time.
//! dockerfile.md §1.3.

/// A compiled pattern: its parts between stars. One part means no star.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    parts: Vec<Vec<Item>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    Char(char),
    Any,
}

/// Why there is no match at a place.
enum Miss {
    /// The part before the first star does not fit here.
    Here,
    /// A later part is nowhere before the end of the line, so no start on this line can match.
    Line,
}

impl Pattern {
    /// Compiles; `Err` is the reason. `\` makes `*`, `?`, `\`, `}` and `/` ordinary.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut part = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '*' => parts.push(std::mem::take(&mut part)),
                '?' => part.push(Item::Any),
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\' | '}' | '/')) => part.push(Item::Char(c)),
                    Some(c) => return Err(format!("invalid escape '\\{c}'")),
                    None => return Err("invalid escape at the end".to_owned()),
                },
                c => part.push(Item::Char(c)),
            }
        }
        parts.push(part);
        Ok(Self { parts })
    }

    /// `value` without the shortest or longest prefix that matches.
    pub(super) fn strip_prefix(&self, value: &str, longest: bool) -> String {
        let value: Vec<char> = value.chars().collect();
        let end = self.match_at(&value, 0, longest).unwrap_or(0);
        value[end..].iter().collect()
    }

    /// `value` without the shortest or longest suffix that matches.
    pub(super) fn strip_suffix(&self, value: &str, longest: bool) -> String {
        let reversed: Vec<char> = value.chars().rev().collect();
        let end = self.reversed().match_at(&reversed, 0, longest).unwrap_or(0);
        reversed[end..].iter().rev().collect()
    }

    /// `value` with the first or all matches, longest ones, replaced; `None` when that exceeds `limit` bytes.
    pub(super) fn replace(&self, value: &str, by: &str, all: bool, limit: usize) -> Option<String> {
        let value: Vec<char> = value.chars().collect();
        let mut out = String::new();
        let mut at = 0;
        // An empty match right behind a match does not count.
        let mut last_end = None;
        while at <= value.len() && out.len() <= limit {
            match self.match_at(&value, at, true) {
                Ok(end) if end > at || last_end != Some(at) => {
                    out.push_str(by);
                    last_end = Some(end);
                    if end == at {
                        out.extend(value.get(at));
                        at += 1;
                    } else {
                        at = end;
                    }
                    if !all {
                        break;
                    }
                }
                Ok(_) | Err(Miss::Here) => {
                    out.extend(value.get(at));
                    at += 1;
                }
                Err(Miss::Line) => {
                    let rest = &value[at..];
                    let line = rest.iter().position(|c| *c == '\n').map_or(rest.len(), |i| i + 1);
                    out.extend(&rest[..line]);
                    at += line.max(1);
                }
            }
        }
        out.extend(value.get(at..).unwrap_or_default());
        (out.len() <= limit).then_some(out)
    }

    fn reversed(&self) -> Self {
        let parts = self.parts.iter().rev();
        Self { parts: parts.map(|part| part.iter().rev().copied().collect()).collect() }
    }

    /// End of the match that starts at `start`.
    ///
    /// Taking every part but the last at its first place never loses a match, since what follows may then
    /// start earlier; the last one decides between shortest and longest.
    fn match_at(&self, value: &[char], start: usize, longest: bool) -> Result<usize, Miss> {
        let Some((first, rest)) = self.parts.split_first() else { return Err(Miss::Here) };
        if !fits(first, value, start) {
            return Err(Miss::Here);
        }
        let mut at = start + first.len();
        for (index, part) in rest.iter().enumerate() {
            let last = index + 1 == rest.len();
            let mut found = None;
            for place in at..=value.len() {
                if fits(part, value, place) {
                    found = Some(place);
                    if !(last && longest) {
                        break;
                    }
                }
                if value.get(place) == Some(&'\n') {
                    break;
                }
            }
            at = found.ok_or(Miss::Line)? + part.len();
        }
        Ok(at)
    }
}

fn fits(part: &[Item], value: &[char], at: usize) -> bool {
    let Some(piece) = value.get(at..at + part.len()) else { return false };
    part.iter().zip(piece).all(|(item, c)| match item {
        Item::Char(wanted) => wanted == c,
        Item::Any => *c != '\n',
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn prefixes_and_suffixes() {
        let prefix = |p: &str, v: &str, expect: [&str; 2]| {
            let found = [false, true].map(|longest| pattern(p).strip_prefix(v, longest));
            assert_eq!(found, expect, "{p} {v}");
        };
        prefix("a", "aab", ["ab", "ab"]);
        prefix("", "ab", ["ab", "ab"]);
        prefix("*", "ab", ["ab", ""]);
        prefix("*/", "a/b/c", ["b/c", "c"]);
        prefix("*x*y", "xxyyz", ["yz", "z"]);
        prefix("?", "\u{d55c}b", ["b", "b"]);
        prefix("??", "b", ["b", "b"]);
        prefix("*b", "a\nb", ["a\nb", "a\nb"]);
        prefix("*\nb", "a\nbc", ["c", "c"]);
        prefix("\\*\\?\\\\\\}\\/", "*?\\}/x", ["x", "x"]);
        let suffix = |p: &str, v: &str, expect: [&str; 2]| {
            let found = [false, true].map(|longest| pattern(p).strip_suffix(v, longest));
            assert_eq!(found, expect, "{p} {v}");
        };
        suffix(".*", "a.tar.gz", ["a.tar", "a"]);
        suffix("*", "ab", ["ab", ""]);
        suffix("\\**", "a***b", ["a**", "a"]);
        suffix("\\**\\*", "a***yy*", ["a**", "a"]);
        suffix("x", "ab", ["ab", "ab"]);
    }

    #[test]
    fn replacements() {
        let check = |p: &str, v: &str, first: &str, all: &str| {
            let replaced = [false, true].map(|all| pattern(p).replace(v, "_", all, 100).unwrap());
            assert_eq!(replaced, [first, all], "{p} {v}");
        };
        check("a", "banana", "b_nana", "b_n_n_");
        check("", "ab", "_ab", "_a_b_");
        check("*", "ab", "_", "_");
        check("*", "", "_", "_");
        check("n*", "banana", "ba_", "ba_");
        check("a*n", "banana\nan", "b_a\nan", "b_a\n_");
        check("x", "banana", "banana", "banana");
        check("?a", "banana", "_nana", "___");
        check("a*z", "aaaa\naz", "aaaa\n_", "aaaa\n_");
        assert_eq!(pattern("?").replace("abc", "0123456789", true, 29), None);
    }

    #[test]
    fn wrong_escapes_are_errors() {
        assert_eq!(Pattern::parse("a\\x"), Err("invalid escape '\\x'".to_owned()));
        assert_eq!(Pattern::parse("a\\"), Err("invalid escape at the end".to_owned()));
    }

    #[test]
    fn long_values_and_many_stars_are_quick() {
        let value = "a".repeat(200_000);
        assert_eq!(pattern("a*a*a*a*a*b").strip_prefix(&value, true).len(), value.len());
        assert_eq!(pattern("a*b").replace(&value, "", true, 1 << 20).unwrap().len(), value.len());
    }
}
