//! A scanner of Rust text that knows just enough for the house rules: comments, literals, test code, paths.
//!
//! In: the text of a file. Out: the same text with parts blanked out (every byte but line ends becomes a blank, so
//! that offsets and line numbers stay right), and the paths that it names. It is no parser; macros may fool it.

/// The text of a file in the forms that rules look at.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Without comments, without the insides of literals, without test code.
    pub(crate) code: String,
    /// Without comments and test code, literals kept.
    pub(crate) text: String,
    /// Number of lines that are no test code, comments and blank lines included.
    pub(crate) lines: usize,
}

impl Scan {
    pub(crate) fn new(source: &str) -> Self {
        let (mut code, mut text) = blank(source);
        let mut lines = source.lines().count();
        for (start, end) in test_regions(&code) {
            wipe(&mut code, start, end);
            wipe(&mut text, start, end);
            lines -= source[start..end].lines().count();
        }
        Self { code: into_text(code), text: into_text(text), lines }
    }
}

/// Line of a byte offset, from 1.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].bytes().filter(|byte| *byte == b'\n').count() + 1
}

fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("whole characters are blanked or kept")
}

fn wipe(bytes: &mut [u8], start: usize, end: usize) {
    for byte in &mut bytes[start..end] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

/// Blanks comments out of both results and the insides of literals out of the first.
fn blank(source: &str) -> (Vec<u8>, Vec<u8>) {
    let (mut code, mut text) = (source.as_bytes().to_vec(), source.as_bytes().to_vec());
    let bytes = source.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if let Some(end) = comment_end(bytes, at) {
            wipe(&mut code, at, end);
            wipe(&mut text, at, end);
            at = end;
        } else if let Some(end) = literal_end(bytes, at) {
            wipe(&mut code, at, end);
            at = end;
        } else {
            at += word_length(bytes, at);
        }
    }
    (code, text)
}

/// Length of the identifier at `at`, or 1: literal prefixes inside a word are no prefixes.
fn word_length(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().take_while(|byte| is_word(**byte)).count().max(1)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn comment_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        return Some(at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with(b"/*") {
        return None;
    }
    let (mut depth, mut end) = (1, at + 2);
    while depth > 0 && end < bytes.len() {
        if bytes[end..].starts_with(b"/*") {
            (depth, end) = (depth + 1, end + 2);
        } else if bytes[end..].starts_with(b"*/") {
            (depth, end) = (depth - 1, end + 2);
        } else {
            end += 1;
        }
    }
    Some(end)
}

fn literal_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let prefix = rest.iter().take_while(|byte| matches!(byte, b'b' | b'c' | b'r')).count();
    let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
    let raw = prefix > 0 && rest[prefix - 1] == b'r';
    if raw && prefix <= 2 && rest.get(prefix + hashes) == Some(&b'"') {
        let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
        let body = at + prefix + hashes + 1;
        let length = bytes[body..].windows(close.len()).position(|window| window == close);
        return Some(length.map_or(bytes.len(), |length| body + length + close.len()));
    }
    if !raw && prefix <= 1 && rest.get(prefix) == Some(&b'"') {
        return Some(closing(bytes, at + prefix + 1, b'"'));
    }
    if !raw && prefix <= 1 && rest.get(prefix) == Some(&b'\'') {
        let body = at + prefix + 1;
        let next = *bytes.get(body)?;
        let width = match next {
            0..0xc0 => 1,
            0xc0..0xe0 => 2,
            0xe0..0xf0 => 3,
            _ => 4,
        };
        // A lifetime has no closing quote.
        let is_char = next == b'\\' || bytes.get(body + width) == Some(&b'\'');
        return is_char.then(|| closing(bytes, body, b'\''));
    }
    None
}

/// Just past the next `quote` that no backslash stands before.
fn closing(bytes: &[u8], mut at: usize, quote: u8) -> usize {
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// Items behind `#[cfg(test)]`, from the attribute to the closing brace or semicolon.
fn test_regions(code: &[u8]) -> Vec<(usize, usize)> {
    const MARK: &[u8] = b"#[cfg(test)]";
    let mut regions = Vec::new();
    let mut at = 0;
    while let Some(found) = code[at..].windows(MARK.len()).position(|window| window == MARK) {
        let start = at + found;
        let end = item_end(code, start + MARK.len());
        regions.push((start, end));
        at = end;
    }
    regions
}

fn item_end(code: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < code.len() {
        match code[at] {
            b'{' | b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
        at += 1;
    }
    at
}

/// A path that code names, `use` trees taken apart, and where it begins.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NamedPath {
    pub(crate) segments: Vec<String>,
    pub(crate) offset: usize,
}

impl NamedPath {
    pub(crate) fn starts_with(&self, prefix: &[&str]) -> bool {
        self.segments.len() >= prefix.len() && self.segments.iter().zip(prefix).all(|(a, b)| a == b)
    }
}

/// All paths of more than one segment in blanked code, in `use` items and elsewhere.
pub(crate) fn paths(code: &str) -> Vec<NamedPath> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let length = word_length(bytes, at);
        let is_start = is_word(bytes[at]) && !code[..at].ends_with("::");
        if is_start && code[at + length..].trim_start().starts_with("::") {
            at = read_tree(code, at, &[], &mut found);
        } else {
            at += length;
        }
    }
    found
}

/// Reads a path or tree at `at` below `parent`; gives the offset after it.
fn read_tree(code: &str, start: usize, parent: &[String], found: &mut Vec<NamedPath>) -> usize {
    let bytes = code.as_bytes();
    let mut segments = parent.to_vec();
    let mut at = start;
    loop {
        at += blanks(bytes, at);
        if bytes.get(at) == Some(&b'{') {
            return read_group(code, at + 1, &segments, found);
        }
        let length = bytes[at..].iter().take_while(|byte| is_word(**byte)).count();
        if length == 0 {
            // `*`, or the `<` of a turbofish: the path so far is what is named.
            found.push(NamedPath { segments, offset: start });
            return at + usize::from(bytes.get(at) == Some(&b'*'));
        }
        segments.push(code[at..at + length].to_owned());
        at += length;
        let gap = blanks(bytes, at);
        if bytes[at + gap..].starts_with(b"::") {
            at += gap + 2;
        } else {
            found.push(NamedPath { segments, offset: start });
            return at;
        }
    }
}

fn read_group(code: &str, start: usize, parent: &[String], found: &mut Vec<NamedPath>) -> usize {
    let bytes = code.as_bytes();
    let mut at = start;
    while at < bytes.len() && bytes[at] != b'}' {
        if is_word(bytes[at]) || bytes[at] == b'*' || bytes[at] == b'{' {
            at = read_tree(code, at, parent, found);
            // `x as y`: the new name is no path.
            let gap = blanks(bytes, at);
            if bytes[at + gap..].starts_with(b"as ") {
                at += bytes[at..].iter().take_while(|byte| !matches!(byte, b',' | b'}')).count();
            }
        } else {
            at += 1;
        }
    }
    at + 1
}

fn blanks(bytes: &[u8], at: usize) -> usize {
    bytes[at.min(bytes.len())..].iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

#[cfg(test)]
mod tests {
    use super::{Scan, paths};

    #[test]
    fn comments_and_literals_are_blanked_and_lines_stay() {
        let source = "let a = \"x // y\"; // z\nlet b = 'c'; /* d /* e */ f */ let g: &'h str = r#\"\"i\"#;\n";
        let scan = Scan::new(source);
        assert_eq!(
            scan.code,
            "let a =         ;     \nlet b =    ;                   let g: &'h str =        ;\n"
        );
        assert_eq!(
            scan.text,
            "let a = \"x // y\";     \nlet b = 'c';                   let g: &'h str = r#\"\"i\"#;\n"
        );
    }

    #[test]
    fn characters_that_look_like_quotes_do_not_open_strings() {
        let source = "f('\"', '\\'', b'\"', '\u{e9}', 'x); g::<'static>(1)";
        assert_eq!(Scan::new(source).code, "f(   ,     ,     ,     , 'x); g::<'static>(1)");
    }

    #[test]
    fn test_modules_are_blanked() {
        let source = "a;\n#[cfg(test)]\nmod tests {\n fn x() { \"}\" }\n}\nb;\n#[cfg(test)]\nmod tests;\nc;\n";
        let scan = Scan::new(source);
        let left: Vec<&str> = scan.code.split_whitespace().collect();
        assert_eq!(left, ["a;", "b;", "c;"]);
        assert_eq!(scan.lines, 3);
    }

    #[test]
    fn use_trees_are_taken_apart() {
        let code = "use crate::{a, b::{c as d, self}, e::*};\nuse std::io; x(super::f::<G>(), h)";
        let found: Vec<String> = paths(code).iter().map(|path| path.segments.join("::")).collect();
        assert_eq!(
            found,
            ["crate::a", "crate::b::c", "crate::b::self", "crate::e", "std::io", "super::f"]
        );
    }
}
