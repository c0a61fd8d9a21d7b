//! The syntax tree as short text, one instruction a line, for golden files.

use crate::{
    dockerfile::ast::{
        AddInstruction, ArgInstruction, CommandLine, CopyInstruction, Dockerfile,
        HealthcheckInstruction, Heredoc, Instruction, InstructionKind, Pair, RunInstruction, Word,
    },
    error::Error,
    source::{SourceFile, Span},
};
use std::fmt::Write;

struct Dump<'a> {
    source: &'a SourceFile,
    out: String,
}

/// Whole tree of a file.
pub(super) fn file(file: &Dockerfile) -> String {
    let mut dump = Dump { source: &file.source, out: String::new() };
    let directives = &file.directives;
    dump.option("syntax", directives.syntax.as_ref());
    dump.option("check", directives.check.as_ref());
    if directives.escape != '\\' {
        dump.add(format!(" escape={}", directives.escape));
    }
    if !dump.out.is_empty() {
        dump.out = format!("directives{}\n", dump.out);
    }
    for arg in &file.meta_args {
        dump.place("meta ", arg.span);
        dump.arg(arg);
        dump.add("\n");
    }
    for stage in &file.stages {
        dump.place("", stage.from.span);
        dump.add("FROM");
        dump.option("platform", stage.from.platform.as_ref());
        dump.word(&stage.from.base);
        dump.option("name", stage.from.name.as_ref());
        dump.add("\n");
        for instruction in &stage.instructions {
            dump.add("  ");
            dump.instruction(instruction);
        }
    }
    for warning in &file.warnings {
        dump.place("warning ", warning.span);
        dump.add(format!("{}: {}\n", warning.rule, warning.message));
    }
    dump.out
}

/// One instruction, for triggers.
pub(super) fn instruction(instruction: &Instruction, source: &SourceFile) -> String {
    let mut dump = Dump { source, out: String::new() };
    dump.instruction(instruction);
    dump.out
}

/// All errors: place, message, the text they point at, hints.
pub(super) fn errors(error: &Error) -> String {
    let mut out = String::new();
    for error in std::iter::once(error).chain(error.others()) {
        let _ = writeln!(out, "{error}");
        if let Some(place) = error.place() {
            let text = String::from_utf8_lossy(place.source.slice(place.span)).into_owned();
            if !text.is_empty() && text.len() < 200 {
                let _ = writeln!(out, "  at {text:?}");
            }
        }
        for hint in error.hints() {
            let _ = writeln!(out, "  help: {hint}");
        }
    }
    out
}

impl Dump<'_> {
    fn add(&mut self, text: impl AsRef<str>) {
        self.out.push_str(text.as_ref());
    }

    fn place(&mut self, prefix: &str, span: Span) {
        let (line, column) = self.source.line_column(span.start);
        self.add(format!("{prefix}{line}:{column} "));
    }

    /// A word, with the text at its place when that is another.
    fn word(&mut self, word: &Word) {
        let there = String::from_utf8_lossy(self.source.slice(word.span)).into_owned();
        self.add(format!(" {:?}", word.text));
        if there != word.text {
            self.add(format!("@{there:?}"));
        }
    }

    fn words(&mut self, words: &[Word]) {
        for word in words {
            self.word(word);
        }
    }

    fn option(&mut self, name: &str, word: Option<&Word>) {
        if let Some(word) = word {
            self.add(format!(" {name}:"));
            self.word(word);
        }
    }

    fn options(&mut self, name: &str, words: &[Word]) {
        for word in words {
            self.option(name, Some(word));
        }
    }

    fn instruction(&mut self, instruction: &Instruction) {
        self.place("", instruction.span);
        if instruction.on_build {
            self.add("(on build) ");
        }
        self.kind(&instruction.kind);
        self.add("\n");
    }

    fn kind(&mut self, kind: &InstructionKind) {
        match kind {
            InstructionKind::Arg(arg) => self.arg(arg),
            InstructionKind::Env(pairs) => self.pairs("ENV", pairs),
            InstructionKind::Label(pairs) => self.pairs("LABEL", pairs),
            InstructionKind::Run(run) => self.run(run),
            InstructionKind::Copy(copy) => self.copy("COPY", copy),
            InstructionKind::Add(add) => self.add_instruction(add),
            InstructionKind::Cmd(command) => self.command("CMD", command),
            InstructionKind::Entrypoint(command) => self.command("ENTRYPOINT", command),
            InstructionKind::Shell(list) => self.add(format!("SHELL {list:?}")),
            InstructionKind::Expose(words) => self.named("EXPOSE", words),
            InstructionKind::Volume(words) => self.named("VOLUME", words),
            InstructionKind::User(word) => self.named("USER", std::slice::from_ref(word)),
            InstructionKind::Workdir(word) => self.named("WORKDIR", std::slice::from_ref(word)),
            InstructionKind::StopSignal(word) => {
                self.named("STOPSIGNAL", std::slice::from_ref(word));
            }
            InstructionKind::Healthcheck(check) => self.healthcheck(check),
            InstructionKind::OnBuild(on_build) => self.add(format!("ONBUILD {:?}", on_build.text)),
            InstructionKind::Maintainer(name) => self.add(format!("MAINTAINER {name:?}")),
        }
    }

    fn named(&mut self, name: &str, words: &[Word]) {
        self.add(name);
        self.words(words);
    }

    fn command(&mut self, name: &str, command: &CommandLine) {
        match command {
            CommandLine::Shell(text) => self.add(format!("{name} shell {text:?}")),
            CommandLine::Exec(list) => self.add(format!("{name} exec {list:?}")),
        }
    }

    fn arg(&mut self, arg: &ArgInstruction) {
        self.add("ARG");
        for declaration in &arg.args {
            self.word(&declaration.name);
            self.option("default", declaration.default.as_ref());
        }
    }

    fn pairs(&mut self, name: &str, pairs: &[Pair]) {
        self.add(name);
        for pair in pairs {
            self.word(&pair.key);
            self.add(if pair.legacy { " legacy" } else { " =" });
            self.word(&pair.value);
        }
    }

    fn heredocs(&mut self, heredocs: &[Heredoc]) {
        for heredoc in heredocs {
            let fd = heredoc.fd.map(|fd| fd.to_string()).unwrap_or_default();
            let chomp = if heredoc.chomp { "-" } else { "" };
            let quote = if heredoc.expand { "" } else { "'" };
            self.add(format!("\n    {fd}<<{chomp}{quote}{}{quote} ", heredoc.name));
            self.place("", heredoc.span);
            self.add(format!("{:?}", heredoc.body));
        }
    }

    fn run(&mut self, run: &RunInstruction) {
        self.command("RUN", &run.command);
        self.options("mount", &run.mounts);
        self.option("network", run.network.as_ref());
        self.option("security", run.security.as_ref());
        self.options("device", &run.devices);
        self.heredocs(&run.heredocs);
    }

    fn copy(&mut self, name: &str, copy: &CopyInstruction) {
        self.add(name);
        self.words(&copy.sources);
        self.add(" ->");
        self.word(&copy.destination);
        self.option("from", copy.from.as_ref());
        self.option("chown", copy.chown.as_ref());
        self.option("chmod", copy.chmod.as_ref());
        self.add(if copy.link { " link" } else { "" });
        self.add(if copy.parents { " parents" } else { "" });
        self.options("exclude", &copy.exclude);
        self.heredocs(&copy.heredocs);
    }

    fn add_instruction(&mut self, add: &AddInstruction) {
        self.copy("ADD", &add.copy);
        self.option("checksum", add.checksum.as_ref());
        for (name, flag) in [("keep-git-dir", add.keep_git_dir), ("unpack", add.unpack)] {
            if let Some(flag) = flag {
                self.add(format!(" {name}={flag}"));
            }
        }
    }

    fn healthcheck(&mut self, check: &HealthcheckInstruction) {
        let HealthcheckInstruction::Cmd {
            command,
            interval,
            timeout,
            start_period,
            start_interval,
            retries,
        } = check
        else {
            return self.add("HEALTHCHECK none");
        };
        self.command("HEALTHCHECK", command);
        let numbers = [
            ("interval", interval),
            ("timeout", timeout),
            ("start-period", start_period),
            ("start-interval", start_interval),
            ("retries", retries),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                self.add(format!(" {name}={number}"));
            }
        }
    }
}
