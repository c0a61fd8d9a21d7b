//! Any bytes as a Dockerfile, and what is text as an ONBUILD trigger: a tree or errors, and the same each time.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nativebuild::dockerfile;
use nativebuild::source::{SourceFile, Span};
use std::sync::Arc;

fuzz_target!(|bytes: &[u8]| {
    let source = Arc::new(SourceFile::new("Dockerfile", bytes.to_vec()));
    let parsed = dockerfile::parse(&source);
    let raw = dockerfile::dump(&source);
    // What has a typed tree has a raw one.
    assert!(parsed.is_err() || raw.is_ok());
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _any_answer = dockerfile::parse_trigger(text, &source, Span::default());
    }
});
