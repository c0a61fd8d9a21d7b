//! Any bytes as a `.dockerignore` and a path: what a walk is told agrees with what a path is told.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nativebuild::context::IgnoreRules;
use nativebuild::context::pattern::{Pattern, clean};
use nativebuild::source::SourceFile;
use std::sync::Arc;

// The path is what stands before the first NUL.
fuzz_target!(|bytes: &[u8]| {
    let at = bytes.iter().position(|byte| *byte == 0).unwrap_or(0);
    let (path, text) = (clean(&bytes[..at]), &bytes[at..]);
    let _any_answer = Pattern::glob(text).map(|pattern| pattern.matches(&path));
    let source = Arc::new(SourceFile::new(".dockerignore", text.strip_prefix(b"\0").unwrap_or(text)));
    let Ok(rules) = IgnoreRules::parse(&source) else { return };
    if path.starts_with(b"/") || path.starts_with(b"..") || path == b"." {
        return;
    }
    let decision = rules.decide(&path);
    if decision.included && decision.by.is_some() {
        // Something took it back, so no walk may leave out the directories above.
        for (end, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let above = &path[..end];
            assert!(rules.decide(above).included || rules.may_take_back_below(above));
        }
    }
});
