//! A plan as text, for `--print-plan` and golden tests.
//!
//! In: a [`BuildPlan`]. Out: lines that only change when the plan does. Values that are empty or the default are left
//! out; control characters are escaped.

use super::history::quote;
use super::remote::RemoteSource;
use super::step::{
    BuildPlan, CacheSharing, Chmod, CopyFrom, CopyStep, Env, NetworkMode, RunMount, RunMountKind,
    RunStep, StageBase, StagePlan, Step, StepKind,
};
use crate::oci::spec::{ImageConfig, to_json};
use std::fmt::Write as _;

/// The plan as text: stages, their bases and platforms, steps with line numbers and what each does, final configs.
pub fn print_plan(plan: &BuildPlan) -> String {
    let mut printer = Printer { plan, out: String::new() };
    for (index, stage) in plan.stages.iter().enumerate() {
        printer.stage(index, stage);
    }
    for warning in &plan.warnings {
        let line = warning.span.map(|span| plan.source.line(span.start));
        match line {
            Some(line) => printer.line(0, &format!("warning, line {line}: {}", warning.message)),
            None => printer.line(0, &format!("warning: {}", warning.message)),
        }
    }
    printer.out
}

struct Printer<'a> {
    plan: &'a BuildPlan,
    out: String,
}

impl Printer<'_> {
    fn line(&mut self, indent: usize, text: &str) {
        let text = if text.chars().any(char::is_control) { escape(text) } else { text.to_owned() };
        writeln!(self.out, "{:indent$}{}", "", text.trim_end()).expect("a String takes any text");
    }

    fn field(&mut self, name: &str, value: &str) {
        self.line(4, &format!("{name:<9} {value}"));
    }

    fn stage(&mut self, index: usize, stage: &StagePlan) {
        let target = if self.plan.targets.contains(&index) { " (target)" } else { "" };
        let line = self.plan.source.line(stage.span.start);
        let shown = self.shown(index);
        self.line(0, &format!("stage {shown}{target}, line {line}: {}", stage.text));
        let base = match &stage.base {
            StageBase::Scratch => "scratch".to_owned(),
            StageBase::Image(image) => format!("image {} {}", image.reference, image.platform),
            StageBase::Stage(index) => format!("stage {}", self.shown(*index)),
        };
        self.line(2, &format!("base {base}"));
        self.line(2, &format!("platform {}", stage.platform));
        for (number, step) in stage.steps.iter().enumerate() {
            self.step(number + 1, step);
        }
        self.line(2, &format!("config {}", config_json(&stage.config)));
    }

    /// Number of a stage in the file and its name; the platform too where the plan has it for several.
    fn shown(&self, index: usize) -> String {
        let Some(stage) = self.plan.stages.get(index) else { return format!("?{index}") };
        let mut shown = match &stage.name {
            Some(name) => format!("{} `{name}`", stage.number),
            None => stage.number.to_string(),
        };
        if self.plan.stages.iter().filter(|other| other.number == stage.number).count() > 1 {
            shown.push_str(&format!(" for {}", self.plan.shown_platform(index)));
        }
        shown
    }

    fn step(&mut self, number: usize, step: &Step) {
        let line = self.plan.source.line(step.span.start);
        let layer = if step.empty_layer { "" } else { " [layer]" };
        self.line(2, &format!("step {number}, line {line}: {}{layer}", step.text));
        match &step.created_by {
            Some(text) => self.field("history", text),
            None => self.field("history", "none"),
        }
        match &step.kind {
            StepKind::Config => {}
            StepKind::Run(run) => self.run(run),
            StepKind::Copy(copy) => self.copy(copy),
            StepKind::Workdir(workdir) => {
                self.field("directory", &workdir.path);
                self.optional("user", &workdir.user);
            }
        }
    }

    fn optional(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.field(name, value);
        }
    }

    fn run(&mut self, run: &RunStep) {
        let argv: Vec<String> = run.argv.iter().map(|word| quote(word)).collect();
        self.field("argv", &argv.join(" "));
        self.env("env", &run.env);
        self.env("proxy", &run.proxy_env);
        self.field("cwd", &run.cwd);
        self.optional("user", &run.user);
        if let Some(mode) = run.network.filter(|mode| *mode != NetworkMode::Default) {
            self.field("network", mode.as_str());
        }
        if run.insecure {
            self.field("security", "insecure");
        }
        for mount in &run.mounts {
            let text = self.mount(mount);
            self.field("mount", &text);
        }
        for secret in &run.secrets {
            let target = secret.target.as_deref().unwrap_or("-");
            let env = secret.env.as_ref().map(|env| format!(" env {env}")).unwrap_or_default();
            let required = if secret.required { " required" } else { "" };
            self.field("secret", &format!("{} -> {target}{env}{required}", secret.id));
        }
        for agent in &run.agents {
            let required = if agent.required { " required" } else { "" };
            self.field("ssh", &format!("{} -> {}{required}", agent.id, agent.target));
        }
        for device in &run.devices {
            let required = if device.required { " required" } else { "" };
            self.field("device", &format!("{}{required}", device.name));
        }
        for (name, body) in &run.scripts {
            self.field("script", &format!("{name} {}", quote(body)));
        }
    }

    fn env(&mut self, name: &str, env: &Env) {
        for (key, value) in env {
            self.field(name, &format!("{key}={value}"));
        }
    }

    fn mount(&self, mount: &RunMount) -> String {
        let access = if mount.read_only { "ro" } else { "rw" };
        let what = match &mount.kind {
            RunMountKind::Bind { from, source } => format!("bind {}:{source}", self.from(from)),
            RunMountKind::Cache { id, from, inside, sharing, owner: (uid, gid, mode) } => {
                let sharing = match sharing {
                    CacheSharing::Shared => "shared",
                    CacheSharing::Private => "private",
                    CacheSharing::Locked => "locked",
                };
                let seed = match from {
                    Some((from, source)) => format!(" seed {}:{source}", self.from(from)),
                    None => String::new(),
                };
                let part =
                    if inside.is_empty() { String::new() } else { format!(" part {inside}") };
                format!("cache id {id}{part} {sharing} {uid}:{gid} {mode:04o}{seed}")
            }
            RunMountKind::Tmpfs { size } => match size {
                Some(size) => format!("tmpfs {size} bytes"),
                None => "tmpfs".to_owned(),
            },
        };
        format!("{} {access} {what}", mount.target)
    }

    fn from(&self, from: &CopyFrom) -> String {
        match from {
            CopyFrom::Context => "context".to_owned(),
            CopyFrom::Named(name) => format!("context `{name}`"),
            CopyFrom::Stage(index) => format!("stage {}", self.shown(*index)),
            CopyFrom::Image(image) => format!("image {} {}", image.reference, image.platform),
        }
    }

    fn copy(&mut self, copy: &CopyStep) {
        let from = self.from(&copy.from);
        self.field("from", &from);
        for (source, _) in &copy.sources {
            self.field("source", &quote(source));
        }
        for heredoc in &copy.heredocs {
            self.field("heredoc", &format!("{} {}", heredoc.name, quote(&heredoc.body)));
        }
        self.field("to", &quote(&copy.destination));
        self.field("cwd", &copy.cwd);
        self.optional("chown", copy.chown.as_deref().unwrap_or_default());
        match &copy.chmod {
            Some(Chmod::Octal(mode)) => self.field("chmod", &format!("{mode:04o}")),
            Some(Chmod::Symbolic(clauses)) => self.field("chmod", clauses),
            None => {}
        }
        for pattern in &copy.exclude {
            self.field("exclude", &quote(pattern));
        }
        for (at, remote) in &copy.remotes {
            let (text, _) = &copy.sources[*at];
            match remote {
                RemoteSource::Http { name, checksum, .. } => {
                    let checksum = checksum.as_ref().map(|c| format!(" {c}")).unwrap_or_default();
                    self.field("fetched", &format!("{} as {}{checksum}", quote(text), quote(name)));
                }
                RemoteSource::Git(url) => {
                    let commit = url.checksum.as_ref().map(|c| format!(" {c}")).unwrap_or_default();
                    self.field("git", &format!("{}{commit}", quote(text)));
                }
            }
        }
        let flags = [
            (copy.parents, "parents"),
            (copy.link, "link"),
            (copy.unpack, "unpack"),
            (copy.unpack_remote, "unpack-fetched"),
        ];
        let set: Vec<&str> = flags.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        self.optional("flags", &set.join(" "));
    }
}

/// Platform and `config` member; the rest is not the plan's.
fn config_json(config: &ImageConfig) -> String {
    let platform = match &config.variant {
        Some(variant) => format!("{}/{}/{variant}", config.os, config.architecture),
        None => format!("{}/{}", config.os, config.architecture),
    };
    let author = config.author.as_ref().map(|author| format!(" author {}", quote(author)));
    // Strings, numbers and maps with string keys always have a JSON form.
    let json = to_json(&config.config).unwrap_or_default();
    format!("{platform}{} {}", author.unwrap_or_default(), String::from_utf8_lossy(&json))
}

fn escape(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}
