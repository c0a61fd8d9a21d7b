//! Any text as the value of `RUN --mount=`, through the parser and the planner.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nativebuild::dockerfile;
use nativebuild::oci::Platform;
use nativebuild::plan::step::NetworkMode;
use nativebuild::plan::{self, PlanRequest, Planned};
use nativebuild::source::SourceFile;
use std::collections::BTreeMap;
use std::sync::Arc;

fuzz_target!(|value: &str| {
    let mut flag = String::new();
    for c in value.chars().filter(|c| *c != '\n' && *c != '\r') {
        if c.is_whitespace() || matches!(c, '\\' | '"' | '\'') {
            flag.push('\\');
        }
        flag.push(c);
    }
    let text = format!("ARG G=g\nFROM scratch AS a\nFROM scratch\nARG V=v\nRUN --mount={flag} x\n");
    let source = Arc::new(SourceFile::new("Dockerfile", text));
    let Ok(file) = dockerfile::parse(&source) else { return };
    let request = PlanRequest {
        build_args: vec![("V".to_owned(), "1,2".to_owned())],
        target: None,
        labels: Vec::new(),
        platform: None,
        build_platform: Platform::host(),
        network: NetworkMode::Default,
        epoch: None,
        contexts: BTreeMap::new(),
        times: BTreeMap::new(),
    };
    if let Ok(Planned::Ready(made)) = plan::plan(&file, &request, &BTreeMap::new()) {
        assert!(!plan::print_plan(&made).is_empty());
    }
});
