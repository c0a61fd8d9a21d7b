//! Patterns of `${v#p}`, `${v%p}` and `${v/p/r}`: `*` and `?`, nothing else.
//!
//! `*` takes any characters, `/` too, but no line feed, and neither does `?`: BuildKit makes regular
//! expressions of them. Matching is by the parts between stars, and a part without `?` is searched for in one pass, so
//! that no pattern takes more than linear time; a part with `?` is bounded instead.
//! dockerfile.md §1.3.

use std::ops::RangeInclusive;

/// A compiled pattern: its parts between stars. One part means no star.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    parts: Vec<Part>,
}

/// What stands between two stars.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    items: Vec<Item>,
    /// Without `?`: for each prefix the length of its longest end that is also its beginning (Knuth, Morris, Pratt).
    borders: Option<Vec<usize>>,
}

/// Items that a part with `?` may have: each is compared at every place.
const MAX_WITH_ANY: usize = 256;

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
                '*' => parts.push(Part::new(std::mem::take(&mut part))?),
                '?' => part.push(Item::Any),
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\' | '}' | '/')) => part.push(Item::Char(c)),
                    Some(c) => return Err(format!("invalid escape '\\{c}'")),
                    None => return Err("invalid escape at the end".to_owned()),
                },
                c => part.push(Item::Char(c)),
            }
        }
        parts.push(Part::new(part)?);
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
            let Some(next) =
                self.parts.first().and_then(|part| part.find(&value, at..=value.len(), false))
            else {
                break;
            };
            out.extend(&value[at..next]);
            at = next;
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
        Self { parts: self.parts.iter().rev().map(Part::reversed).collect() }
    }

    /// End of the match that starts at `start`.
    ///
    /// Taking every part but the last at its first place never loses a match, since what follows may then
    /// start earlier; the last one decides between shortest and longest.
    fn match_at(&self, value: &[char], start: usize, longest: bool) -> Result<usize, Miss> {
        let Some((first, rest)) = self.parts.split_first() else { return Err(Miss::Here) };
        if !first.fits(value, start) {
            return Err(Miss::Here);
        }
        let mut at = start + first.items.len();
        let mut line_end: Option<usize> = None;
        for (index, part) in rest.iter().enumerate() {
            let last = index + 1 == rest.len();
            // A star takes no line feed. The end of the line is looked for once a line, not once a part.
            if line_end.is_none_or(|end| end < at) {
                let length = value[at..].iter().position(|c| *c == '\n');
                line_end = Some(length.map_or(value.len(), |length| at + length));
            }
            let end = line_end.unwrap_or(value.len());
            at = part.find(value, at..=end, last && longest).ok_or(Miss::Line)? + part.items.len();
        }
        Ok(at)
    }
}

impl Item {
    fn takes(self, c: char) -> bool {
        match self {
            Self::Char(wanted) => wanted == c,
            Self::Any => c != '\n',
        }
    }
}

impl Part {
    fn new(items: Vec<Item>) -> Result<Self, String> {
        if !items.contains(&Item::Any) {
            return Ok(Self { borders: Some(borders(&items)), items });
        }
        if items.len() > MAX_WITH_ANY {
            return Err(format!("more than {MAX_WITH_ANY} characters with a `?` among them"));
        }
        Ok(Self { items, borders: None })
    }

    fn reversed(&self) -> Self {
        let items: Vec<Item> = self.items.iter().rev().copied().collect();
        Self { borders: self.borders.as_ref().map(|_| borders(&items)), items }
    }

    fn fits(&self, value: &[char], at: usize) -> bool {
        let piece = value.get(at..at + self.items.len());
        piece.is_some_and(|piece| self.items.iter().zip(piece).all(|(item, c)| item.takes(*c)))
    }

    /// The first or the last of these places at which the part fits.
    fn find(&self, value: &[char], places: RangeInclusive<usize>, last: bool) -> Option<usize> {
        let (from, to) = (*places.start(), *places.end());
        if self.items.is_empty() {
            return if last { places.max() } else { places.min() };
        }
        let Some(borders) = &self.borders else {
            let mut places = places.filter(|place| self.fits(value, *place));
            return if last { places.next_back() } else { places.next() };
        };
        let mut found = None;
        let mut matched = 0;
        for (at, c) in value.iter().enumerate().skip(from) {
            while matched > 0 && (matched == self.items.len() || !self.items[matched].takes(*c)) {
                matched = borders[matched - 1];
            }
            matched += usize::from(self.items[matched].takes(*c));
            let start = at + 1 - matched;
            if start > to {
                break;
            }
            if matched == self.items.len() {
                found = Some(start);
                if !last {
                    break;
                }
            }
        }
        found
    }
}

fn borders(items: &[Item]) -> Vec<usize> {
    let mut all: Vec<usize> = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        let mut length = if at == 0 { 0 } else { all[at - 1] };
        while length > 0 && items[length] != *item {
            length = all[length - 1];
        }
        all.push(length + usize::from(at > 0 && items[length] == *item));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        // A long part was compared at every place: found by reading, while fuzzing.
        let part = "a".repeat(100_000) + "b";
        for text in
            [part.clone(), format!("*{part}"), format!("x*{part}*y"), "*a".repeat(100_000) + "b"]
        {
            let long = pattern(&text);
            assert_eq!(long.strip_prefix(&value, true).len(), value.len());
            assert_eq!(long.strip_suffix(&value, false).len(), value.len());
            assert_eq!(long.replace(&value, "", true, 1 << 20).unwrap().len(), value.len());
        }
        assert_eq!(
            pattern(&part).replace(&(value.clone() + "b"), "", true, 1 << 20).unwrap().len(),
            100_000
        );
        assert_eq!(
            Pattern::parse(&"?".repeat(257)),
            Err("more than 256 characters with a `?` among them".to_owned())
        );
    }

    proptest! {
        #[test]
        fn a_part_is_found_where_it_fits(
            part in "[ab\n]{0,5}",
            value in "[ab\n]{0,20}",
            from in 0_usize..20,
            to in 0_usize..20,
        ) {
            let part = Part::new(part.chars().map(Item::Char).collect()).unwrap();
            let value: Vec<char> = value.chars().collect();
            let (from, to) = (from.min(value.len()), to.min(value.len()));
            let mut places = (from..=to).filter(|place| part.fits(&value, *place));
            let (first, last) = (places.next(), places.next_back());
            prop_assert_eq!(part.find(&value, from..=to, false), first);
            prop_assert_eq!(part.find(&value, from..=to, true), last.or(first));
        }
    }
}
