//! The program: hands its arguments to `cli` while the process still has one thread.

use std::process::ExitCode;

fn main() -> ExitCode {
    nativebuild::cli::run(std::env::args_os().collect())
}
