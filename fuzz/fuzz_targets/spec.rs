//! Any bytes as the spec of an image with words of `--set`: a spec whose places lie in its texts, or errors that do.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nativebuild::assemble::spec::{self, PathPattern};
use nativebuild::source::SourceFile;
use std::sync::Arc;

// Words stand before the first NUL, one a line; the spec is what follows it.
fuzz_target!(|bytes: &[u8]| {
    let at = bytes.iter().position(|byte| *byte == 0).unwrap_or(0);
    let (words, text) = (String::from_utf8_lossy(&bytes[..at]), &bytes[at..]);
    let set: Vec<String> = words.lines().map(str::to_owned).collect();
    let source = Arc::new(SourceFile::new("image.yaml", text.strip_prefix(b"\0").unwrap_or(text)));
    match spec::parse(&source, &set) {
        Ok((spec, _)) => {
            for content in &spec.contents {
                let (home, span) = spec.source.home(content.span);
                assert!(span.end <= home.text().len());
            }
            for perm in &spec.perms {
                let pattern = perm.regex.as_ref().map(|regex| PathPattern::parse(&regex.value));
                assert!(pattern.is_none_or(|pattern| pattern.is_ok()));
            }
        }
        Err(error) => {
            for error in std::iter::once(&error).chain(error.others()) {
                let place = error.place().expect("every mistake has a place");
                assert!(place.span.start <= place.source.text().len());
            }
        }
    }
});
