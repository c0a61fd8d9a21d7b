//! What people may leave out or write otherwise (design §10.5): `nativebuild DIR` means `build DIR`, or `pkg build DIR`
//! for a LinuxKit package; under `pkg` and `cache` long options may have one dash, as in LinuxKit's older manuals.

use super::args::Cli;
use crate::error::{Error, Result};
use clap::CommandFactory;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::Path;

const VERBS: [&str; 23] = [
    "archive",
    "assemble",
    "build",
    "cache",
    "completion",
    "debug",
    "diff",
    "doctor",
    "executor",
    "export",
    "help",
    "image",
    "kaniko-executor",
    "login",
    "logout",
    "man",
    "manifest",
    "package",
    "pkg",
    "prune",
    "pull",
    "version",
    "with-rootfs",
];
/// Names under which the program is kaniko's executor.
const KANIKO: [&str; 2] = ["executor", "kaniko-executor"];
/// Verbs with LinuxKit's options.
const LINUXKIT: [&str; 3] = ["cache", "package", "pkg"];
/// A switch of all verbs.
const OFFLINE: &str = "--offline";
const OWN_FLAGS: [&str; 4] = ["-h", "--help", "-V", "--version"];

/// Puts the verb in where it was left out. A verb wins over a directory of that name.
pub(super) fn expand(mut args: Vec<OsString>) -> Result<Vec<OsString>> {
    let called = args.first().and_then(|arg| Path::new(arg).file_name()?.to_str());
    if called.is_some_and(|name| KANIKO.contains(&name)) {
        // kaniko has a verb of that name, and no other that anybody pastes.
        if args.get(1).is_none_or(|arg| arg != "version") {
            args.insert(1, "kaniko-executor".into());
        }
        return Ok(args);
    }
    // It belongs to no verb, and none is to be guessed from it.
    let offline = args.iter().skip(1).take_while(|arg| *arg == OFFLINE).count();
    args.drain(1..=offline);
    let mut args = expand_verb(args)?;
    if offline > 0 {
        args.insert(1, OFFLINE.into());
    }
    Ok(args)
}

fn expand_verb(mut args: Vec<OsString>) -> Result<Vec<OsString>> {
    let Some(first) = args.get(1) else { return Ok(args) };
    let text = first.to_string_lossy().into_owned();
    if OWN_FLAGS.contains(&text.as_str()) {
        return Ok(args);
    }
    if !VERBS.contains(&text.as_str()) {
        let verb = verb(&args, &text)?;
        args.splice(1..1, verb.iter().map(OsString::from));
    }
    if LINUXKIT.iter().any(|verb| args[1] == *verb) {
        double_dashes(&mut args);
    }
    Ok(args)
}

/// The verb that was left out.
fn verb(args: &[OsString], first: &str) -> Result<&'static [&'static str]> {
    let given = &args[1..];
    if given.iter().any(|arg| Path::new(arg).join("build.yml").is_file()) {
        return Ok(&["pkg", "build"]);
    }
    if first.starts_with('-') && first != "-" {
        return Ok(&["build"]);
    }
    let path = Path::new(&given[0]);
    if path.is_dir() {
        let has_file = |arg: &OsString| {
            let arg = arg.to_string_lossy();
            arg.starts_with("-f") || arg.starts_with("--file")
        };
        if ["Dockerfile", "dockerfile", "Containerfile"].iter().any(|name| path.join(name).exists())
            || given.iter().any(has_file)
        {
            return Ok(&["build"]);
        }
        return Err(Error::usage(format!(
            "the directory `{first}` has no Dockerfile and no build.yml"
        ))
        .hint("name a Dockerfile with `nativebuild build -f PATH DIR`"));
    }
    let error = Error::usage(format!("`{first}` is neither a verb nor a directory"));
    let near = VERBS.iter().find(|verb| distance(verb, first) <= 2);
    Err(match near {
        Some(verb) => error.hint(format!("did you mean `nativebuild {verb}`?")),
        None => error.hint("`nativebuild --help` lists the verbs"),
    })
}

/// Turns `-org=x` into `--org=x` where `org` is a long option.
fn double_dashes(args: &mut [OsString]) {
    let known = long_options();
    for arg in args.iter_mut().skip(2) {
        if arg == "--" {
            break;
        }
        let bytes = arg.as_encoded_bytes();
        if bytes.len() < 3 || bytes[0] != b'-' || bytes[1] == b'-' {
            continue;
        }
        let text = arg.to_string_lossy();
        let name = text[1..].split('=').next().unwrap_or_default();
        if known.contains(name) {
            let mut double = OsString::from("-");
            double.push(OsStr::new(&*arg));
            *arg = double;
        }
    }
}

fn long_options() -> BTreeSet<String> {
    let cli = Cli::command();
    let mut waiting: Vec<&clap::Command> =
        cli.get_subcommands().filter(|verb| LINUXKIT.contains(&verb.get_name())).collect();
    let mut known = BTreeSet::from([OFFLINE.trim_start_matches('-').to_owned()]);
    while let Some(command) = waiting.pop() {
        known.extend(command.get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned)));
        waiting.extend(command.get_subcommands());
    }
    known
}

/// Number of single-character edits between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut previous = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (previous + usize::from(x != *y)).min(above + 1).min(row[j] + 1);
            previous = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(args: &[&str]) -> std::result::Result<Vec<String>, String> {
        let args = std::iter::once("nativebuild").chain(args.iter().copied());
        expand(args.map(OsString::from).collect())
            .map(|args| args.into_iter().skip(1).map(|a| a.into_string().unwrap()).collect())
            .map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn a_directory_with_a_dockerfile_means_build() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        assert!(expanded(&[path]).unwrap_err().contains("has no Dockerfile and no build.yml"));
        std::fs::write(dir.path().join("Dockerfile"), "").unwrap();
        assert_eq!(expanded(&[path]).unwrap(), ["build", path]);
        assert_eq!(expanded(&["--no-cache", path]).unwrap(), ["build", "--no-cache", path]);
        assert_eq!(expanded(&["--version"]).unwrap(), ["--version"]);
        assert_eq!(expanded(&["image", "ls"]).unwrap(), ["image", "ls"]);
        assert_eq!(expanded(&["--offline", path]).unwrap(), ["--offline", "build", path]);
        let twice = expanded(&["--offline", "--offline", "image", "ls"]);
        assert_eq!(twice.unwrap(), ["--offline", "image", "ls"]);
        assert_eq!(expanded(&["--offline"]).unwrap(), ["--offline"]);
        assert!(expanded(&["biuld", "."]).unwrap_err().contains("nativebuild build"));
    }
    #[test]
    fn a_directory_with_a_build_yml_means_pkg_build() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        std::fs::write(dir.path().join("Dockerfile"), "").unwrap();
        std::fs::write(dir.path().join("build.yml"), "image: x").unwrap();
        assert_eq!(expanded(&[path]).unwrap(), ["pkg", "build", path]);
        assert_eq!(expanded(&["-org=a", path]).unwrap(), ["pkg", "build", "--org=a", path]);
        assert_eq!(
            expanded(&["pkg", "build", "-force", "-hash", "-x", "--", "-org=b"]).unwrap(),
            ["pkg", "build", "--force", "--hash", "-x", "--", "-org=b"]
        );
        assert_eq!(expanded(&["build", "-force", path]).unwrap(), ["build", "-force", path]);
    }
}
