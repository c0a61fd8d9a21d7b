//! The command line: the only room that reads the environment and prints.
//!
//! Arguments as typed ([`args`]) become requests; errors and progress become text ([`report`], [`progress`]).
//! Standard output carries data only.

pub mod args;
pub mod assemble;
mod booleans;
mod build;
mod caching;
mod call;
pub mod compat;
mod contexts;
pub mod debug;
pub mod doctor;
pub mod du;
mod environment;
pub mod image;
pub mod isolation;
pub mod kaniko;
mod locks;
pub mod login;
pub mod logins;
mod machine;
pub mod manual;
pub mod network;
mod output;
mod pkg;
pub mod prefetch;
mod private;
mod progress;
mod prune;
mod report;
mod shorthand;
mod terminal;
mod timings;
mod trust;
mod values;

use crate::error::{Error, ErrorKind, Result};
use crate::progress::Emitter;
use crate::sys::signals;
use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use environment::Environment;
use progress::{Form, Printer};
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

/// Runs the program with these arguments (the program's name first).
pub fn run(args: Vec<OsString>) -> ExitCode {
    std::panic::set_hook(Box::new(|info| {
        let error = Error::internal(format!("internal error: {info}"));
        let text = report::render(&error, report::Style { colour: false });
        let _closed = std::io::stderr().write_all(text.as_bytes());
        crate::sys::process::exit_now(error.kind().exit_code().into());
    }));
    let interrupted = Error::new(ErrorKind::Interrupted(2), "interrupted");
    signals::set_last_words(&text_of(&interrupted, report::Style { colour: false }, false));
    signals::exit_on_signals();
    let mut environment = Environment::read();
    let style = report::Style::for_stderr(&environment);
    let args = match shorthand::expand(args) {
        Ok(args) => args,
        Err(error) => return fail(&error, style, false),
    };
    let cli = match Cli::try_parse_from(booleans::settle(Cli::command, args)) {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { 2 } else { 0 };
            // A closed terminal is no reason to fail differently.
            let _closed = error.print();
            return ExitCode::from(code);
        }
    };
    if cli.offline {
        environment.go_offline();
    }
    let json = tells_json(&cli.command, &environment);
    signals::set_last_words(&text_of(&interrupted, style, json));
    let form = match &cli.command {
        // A form that is no form is told by the build itself.
        Command::Build(build) => build::form(build, &environment, style).unwrap_or(Form::Plain),
        _ => Form::Plain,
    };
    let result = match cli.command {
        Command::Build(arguments) => build::run(*arguments, &environment, style),
        Command::Assemble(arguments) => assemble::run(*arguments, &environment, style),
        Command::Image(arguments) => image::run(*arguments, &environment, style),
        Command::Pull(arguments) => image::pull::run(&arguments, &environment, style),
        Command::Archive(arguments) => image::archive::run(arguments, &environment),
        Command::Diff(arguments) => image::diff::run(&arguments, &environment, style),
        Command::WithRootfs(arguments) => {
            match image::with_rootfs::run(*arguments, &environment, style) {
                Ok(0) => Ok(()),
                Ok(code) => {
                    signals::drop_last_words();
                    return ExitCode::from(code);
                }
                Err(error) => Err(error),
            }
        }
        Command::Export(arguments) => image::export::run(*arguments, &environment, style),
        Command::Manifest(arguments) => image::run_manifest(*arguments, &environment, style),
        Command::Pkg(arguments) => pkg::run(*arguments, &environment, style),
        Command::Cache(arguments) => pkg::run_cache(arguments, &environment, style),
        Command::Login(arguments) => login::login(&arguments, &environment, style),
        Command::Logout(arguments) => login::logout(&arguments, &environment, style),
        Command::Prune(arguments) => prune::run(&arguments, &environment),
        Command::Doctor(arguments) => doctor::run(arguments, &environment),
        Command::Version => print_data(manual::version().as_bytes()),
        Command::Completion(arguments) => manual::complete(&arguments),
        Command::Man(arguments) => manual::man(&arguments),
        Command::KanikoExecutor(arguments) => kaniko::run(*arguments, &environment, style),
        Command::Debug(arguments) => debug::run(&arguments),
    };
    // What nobody told on the way.
    let printer = Emitter::new(Arc::new(Printer::new(form, style)));
    environment.warnings().take().into_iter().for_each(|text| printer.warn(text));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, style, json),
    }
}

/// True when errors are told as JSON, as progress is.
fn tells_json(command: &Command, environment: &Environment) -> bool {
    match command {
        Command::Build(build) => build::tells_json(build, environment),
        Command::Image(image) => image::tells_json(image, environment),
        Command::Pkg(pkg) => pkg::tells_json(pkg, environment),
        Command::Cache(cache) => pkg::cache_tells_json(cache, environment),
        _ => false,
    }
}

fn fail(error: &Error, style: report::Style, json: bool) -> ExitCode {
    let _closed = std::io::stderr().write_all(text_of(error, style, json).as_bytes());
    signals::drop_last_words();
    ExitCode::from(error.kind().exit_code())
}

fn text_of(error: &Error, style: report::Style, json: bool) -> String {
    if json { report::json(error) } else { report::render(error, style) }
}

/// Writes data to standard output; a closed pipe ends quietly, as with `head`.
fn print_data(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::environment("cannot write to standard output").cause(error))
        }
        _ => Ok(()),
    }
}
