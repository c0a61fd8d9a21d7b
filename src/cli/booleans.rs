//! Switches with a value, as docker's and kaniko's have: `--load=true`, `--no-cache=false`.
//!
//! clap's switches take none, so before it sees the words `=true` is taken off, and a switch that is off in the end is
//! taken out, with all that turned it on before.

use crate::boolean;
use clap::{ArgAction, Command};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};

/// The arguments with switches as clap wants them. Other values of a switch stay, for clap to complain about.
pub(super) fn settle(root: impl FnOnce() -> Command, args: Vec<OsString>) -> Vec<OsString> {
    if !args.iter().any(|arg| split(arg).is_some()) {
        return args;
    }
    let switches = switches(&root(), &args);
    let mut out: Vec<OsString> = Vec::with_capacity(args.len());
    let mut words = args.into_iter();
    for arg in words.by_ref() {
        if arg == "--" {
            out.push(arg);
            break;
        }
        match split(&arg).filter(|(name, _)| switches.contains(*name)) {
            Some((name, true)) => out.push(format!("--{name}").into()),
            Some((name, false)) => {
                let name = format!("--{name}");
                out.retain(|arg| *arg != *name);
            }
            None => out.push(arg),
        }
    }
    out.extend(words);
    out
}

/// Name and value of what looks like a switch with a value.
fn split(arg: &OsStr) -> Option<(&str, bool)> {
    let (name, value) = arg.to_str()?.strip_prefix("--")?.split_once('=')?;
    Some((name, boolean::parse(value)?))
}

/// Long names of the switches of the command that the arguments name.
fn switches(root: &Command, args: &[OsString]) -> BTreeSet<String> {
    let mut command = root;
    for word in args.iter().skip(1).take_while(|arg| *arg != "--") {
        if let Some(below) = word.to_str().and_then(|word| command.find_subcommand(word)) {
            command = below;
        }
    }
    let is_switch = |arg: &&clap::Arg| matches!(arg.get_action(), ArgAction::SetTrue);
    let names = |arg: &clap::Arg| {
        let aliases = arg.get_all_aliases().unwrap_or_default();
        let all = arg.get_long().into_iter().chain(aliases).map(str::to_owned);
        all.collect::<Vec<_>>()
    };
    let global = root.get_arguments().filter(|arg| arg.is_global_set());
    command.get_arguments().chain(global).filter(is_switch).flat_map(names).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Cli;
    use clap::CommandFactory;

    #[test]
    fn a_switch_may_have_a_value_and_the_last_one_counts() {
        let check = |given: &[&str], wanted: &[&str]| {
            let args = given.iter().map(OsString::from).collect();
            assert_eq!(settle(Cli::command, args), wanted, "{given:?}");
        };
        check(&["n", "build", "--load=true", "."], &["n", "build", "--load", "."]);
        check(&["n", "build", "--no-cache", "--no-cache=0", "."], &["n", "build", "."]);
        check(&["n", "build", "--quiet=F", "--quiet=T", "."], &["n", "build", "--quiet", "."]);
        check(&["n", "build", "--load=maybe"], &["n", "build", "--load=maybe"]);
        check(&["n", "build", "--target=true"], &["n", "build", "--target=true"]);
        check(&["n", "build", "--", "--load=true"], &["n", "build", "--", "--load=true"]);
        check(&["n", "image", "ls", "--json=true"], &["n", "image", "ls", "--json"]);
        check(&["n", "image", "ls", "--offline=true"], &["n", "image", "ls", "--offline"]);
        check(&["n", "build", "--squash=false", "--pull=true"], &["n", "build", "--pull=true"]);
    }
}
