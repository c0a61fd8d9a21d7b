//! Any text as a word with variables: a value or an error, never more than the bound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nativebuild::dockerfile::expand;

// The word and the values of two variables are separated by NUL.
fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut parts = text.split('\0');
    let word = parts.next().unwrap_or_default();
    let values: Vec<&str> = parts.take(2).collect();
    let lookup = |name: &str| match name {
        "A" => values.first().map(|value| (*value).to_owned()),
        "B" => values.get(1).map(|value| (*value).to_owned()),
        "E" => Some(String::new()),
        _ => None,
    };
    for escape in ['\\', '`'] {
        if let Ok(value) = expand::expand(word, escape, &lookup) {
            assert!(value.len() <= word.len() + (5 << 20));
        }
        let _any_answer = expand::expand_words(word, escape, &lookup);
    }
    let _any_answer = expand::expand_heredoc(word, &lookup);
    let _any_answer = expand::chomp(word);
});
