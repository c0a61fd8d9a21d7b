//! One piece of work by name, for `bench/instructions`, which runs it under callgrind; and the walk that `bench/run`
//! puts beside rebuilds.
//!
//!     hot-paths nothing | data | tar | gzip | hash | parse | expansion
//!     hot-paths tree DIRECTORY | walk DIRECTORY | lstat DIRECTORY
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a benchmark has no users")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it answers one question")]

mod work;

use nativebuild::layers::compress::Workers;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let Some(answer) = done(&words) else {
        eprintln!("hot-paths: no such piece of work: {words:?}");
        return ExitCode::from(2);
    };
    println!("{answer}");
    ExitCode::SUCCESS
}

fn done(words: &[&str]) -> Option<usize> {
    Some(match words {
        ["nothing"] => 0,
        ["tar"] => {
            let mut out = Vec::new();
            work::tar(&work::changes(2000, 512), &work::data(512), &mut out).ok()?;
            out.len()
        }
        ["gzip"] => work::gzip(&Workers::new(1), &work::data(4 << 20)) as usize,
        ["hash"] => work::hash(&work::data(4 << 20)),
        // What the two above need before they begin.
        ["data"] => work::data(4 << 20).len(),
        ["parse"] => work::parse(&work::text(1000)),
        ["expansion"] => work::expansion(2000),
        ["tree", directory] => work::make_tree(Path::new(directory), 2000).map(|()| 2000).ok()?,
        ["walk", directory] => work::walk(Path::new(directory)),
        ["lstat", directory] => work::lstat(Path::new(directory)).ok()?,
        _ => return None,
    })
}
