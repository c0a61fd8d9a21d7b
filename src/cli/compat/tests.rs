//! Tests of the tables: what is told, and the counts of docs/compat.md.

use super::{Fate, Foreign, Table};
use crate::cli::args::Cli;
use crate::cli::compat::BuildTable;
use crate::cli::kaniko::KanikoTable;
use crate::progress::{Emitter, Event, Sink};
use clap::{CommandFactory, Parser};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// Command, file below testdata/flags, our command, its table.
const PEERS: [(&str, &str, &str, &[Foreign]); 5] = [
    ("docker build", "docker-build", "build", BuildTable::FLAGS),
    ("docker buildx build", "buildx-build", "build", BuildTable::FLAGS),
    ("buildah bud", "buildah-bud", "build", BuildTable::FLAGS),
    ("podman build", "podman-build", "build", BuildTable::FLAGS),
    ("kaniko executor", "kaniko", "kaniko-executor", KanikoTable::FLAGS),
];

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// What becomes of each option of a peer: done, accepted with a warning, an error.
fn sorted(file: &str, command: &str, table: &[Foreign]) -> [Vec<String>; 3] {
    let folder = path("testdata/flags");
    let text = std::fs::read_to_string(folder.join(format!("{file}.txt"))).unwrap();
    let cli = Cli::command();
    let command = cli.find_subcommand(command).unwrap();
    let mut lists = [const { Vec::new() }; 3];
    for name in text.lines().filter_map(|line| line.strip_prefix("--")) {
        let is = |arg: &&clap::Arg| {
            let aliases = arg.get_all_aliases().unwrap_or_default();
            arg.get_long() == Some(name) || aliases.contains(&name)
        };
        let arg = command.get_arguments().find(is);
        let row = table.iter().find(|row| arg.is_some_and(|arg| arg.get_id() == row.id));
        let list = match (arg, row.map(|row| row.fate)) {
            (None, _) | (_, Some(Fate::Refused(_))) => 2,
            (Some(_), Some(Fate::Ignored(_))) => 1,
            (Some(_), None | Some(Fate::Granted)) => 0,
        };
        lists[list].push(format!("`--{name}`"));
    }
    lists
}

fn section() -> String {
    let mut text = "| command | options | done | accepted with a warning | an error |\n|---|---|---|---|---|\n".to_owned();
    let mut lists = String::new();
    for (name, file, command, table) in PEERS {
        let [done, warned, refused] = sorted(file, command, table);
        let all = done.len() + warned.len() + refused.len();
        let counts = format!("{} | {} | {}", done.len(), warned.len(), refused.len());
        writeln!(text, "| [{name}](../testdata/flags/{file}.txt) | {all} | {counts} |").unwrap();
        writeln!(lists, "\n`{name}`\n").unwrap();
        for (what, list) in [("done", done), ("with a warning", warned), ("an error", refused)] {
            let names = if list.is_empty() { "none".to_owned() } else { list.join(", ") };
            writeln!(lists, "* {what}: {names}").unwrap();
        }
    }
    text + &lists
}

#[test]
fn the_manual_counts_the_options_of_other_tools() {
    let path = path("docs/compat.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- options: begin -->\n", "<!-- options: end -->\n");
    let (before, rest) = text.split_once(begin).unwrap();
    let (found, after) = rest.split_once(end).unwrap();
    let wanted = section();
    #[allow(clippy::disallowed_methods, reason = "how all golden files are blessed")]
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, format!("{before}{begin}{wanted}{end}{after}")).unwrap();
        return;
    }
    assert_eq!(found, wanted, "docs/compat.md (UPDATE_EXPECT=1 rewrites it)");
}

#[test]
fn every_option_of_the_tables_is_sorted_and_known() {
    Cli::command().debug_assert();
    for table in [BuildTable::FLAGS, KanikoTable::FLAGS] {
        assert!(table.is_sorted_by_key(|row| row.name));
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Sink for Heard {
    fn event(&self, event: Event) {
        if let Event::Warning { text, .. } = event {
            self.0.lock().unwrap().push(text.clone());
        }
    }
}

/// Warnings, or the error.
fn told(args: &[&str]) -> Result<Vec<String>, String> {
    let words = ["nativebuild", "build", "."].iter().chain(args);
    let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
    let crate::cli::args::Command::Build(build) = cli.command else { panic!("{args:?}") };
    let heard = Arc::new(Heard::default());
    build.foreign.tell(&Emitter::new(Arc::clone(&heard) as Arc<_>)).map_err(|e| e.to_string())?;
    let said = heard.0.lock().unwrap().clone();
    Ok(said)
}

#[test]
fn one_warning_tells_one_reason() {
    let none = Vec::<String>::new();
    assert_eq!(
        told(&["--memory", "1g", "--squash", "-c", "2", "--cpus=1", "--layers=false"]).unwrap(),
        [
            "`--cpu-shares`, `--cpus`, `--memory` have no effect: RUNs share the builder's processors and memory",
            "`--layers`, `--squash` have no effect: every step keeps its layer",
        ]
    );
    let granted = ["--rm", "--layers", "--provenance=false", "--attest", "type=sbom,disabled=true"];
    assert_eq!(told(&granted), Ok(none));
    assert_eq!(
        told(&["--provenance", "mode=max"]).unwrap(),
        ["`--provenance` has no effect: no attestations are made for now"]
    );
    assert_eq!(told(&["-v", "a:b"]), Err("not yet supported: `--volume`".to_owned()));
    assert!(told(&["--squish"]).unwrap_err().contains("a similar argument exists: '--squash'"));
}
