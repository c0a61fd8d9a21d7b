//! Any bytes as a graph of store paths: a closure that keeps its promises, in any number of layers, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nativebuild::nix::{Closure, layering};

fuzz_target!(|bytes: &[u8]| {
    let Ok(closure) = Closure::parse(bytes, None) else { return };
    assert!(closure.paths().is_sorted_by(|a, b| a.path < b.path));
    let order = layering::popularity(&closure);
    assert_eq!(order.len(), closure.paths().len());
    let _any_answer = layering::balanced(&closure, 3);
});
