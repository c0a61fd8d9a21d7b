//! One stage: its instructions in order, each seeing what those before it left.
//!
//! In: the state of the base (config and variables), the instructions, the graph. Out: steps and the state after the
//! last one. Every instruction of the language passes through [`StageBuilder::apply`]; dockerfile.md §1.5, §1.6.

use super::budget::{STEP_COST, STRING_COST};
use super::graph::Graph;
use super::lint::StageLint;
use super::mounts::Mount;
use super::state::{self, State};
use super::step::{CopyFrom, CopyStep, PlanWarning, Step, StepKind, WorkdirStep};
use super::{Inputs, copy, history, image_config, paths, ports, run};
use crate::dockerfile::ast::{
    ArgInstruction, FromInstruction, Instruction, InstructionKind, Pair, RunInstruction, Word,
};
use crate::dockerfile::lint::Warning;
use crate::error::{Error, Result};
use crate::source::Span;
use serde_json::Value;

/// Carries out the instructions of one stage on its state.
pub(super) struct StageBuilder<'a> {
    pub(super) inputs: &'a Inputs<'a>,
    graph: &'a Graph,
    /// Place of each stage in the plan, by number.
    stage_index: &'a [Option<usize>],
    number: usize,
    pub(super) state: State,
    /// A CMD was seen in this stage.
    cmd_set: bool,
    steps: Vec<Step>,
    warnings: Vec<PlanWarning>,
    lint: StageLint,
}

/// What an instruction comes to.
struct Effect {
    kind: StepKind,
    created_by: Option<String>,
    empty_layer: bool,
}

impl Effect {
    fn config(created_by: String) -> Self {
        Self { kind: StepKind::Config, created_by: Some(created_by), empty_layer: true }
    }
}

/// Everything that a stage gives.
pub(super) struct Built {
    pub(super) state: State,
    pub(super) steps: Vec<Step>,
    pub(super) warnings: Vec<PlanWarning>,
    pub(super) checks: Vec<Warning>,
}

/// Builds stage `number`; `states` holds those of the stages before it.
pub(super) fn build(
    inputs: &Inputs<'_>,
    graph: &Graph,
    stage_index: &[Option<usize>],
    number: usize,
    states: &[Option<State>],
) -> Result<Built> {
    let state = state::start(inputs, graph, number, states)?;
    let source = &inputs.dockerfile.source;
    let stage = &inputs.dockerfile.stages[number];
    inputs.budget.charge(state.size(), source, stage.from.span)?;
    let mut builder = StageBuilder {
        inputs,
        graph,
        stage_index,
        number,
        state,
        cmd_set: false,
        steps: Vec::new(),
        warnings: Vec::new(),
        lint: StageLint::default(),
    };
    for instruction in graph.nodes[number].triggers.iter().chain(&stage.instructions) {
        builder.step(instruction).map_err(|error| error.at(source, instruction.span))?;
    }
    let StageBuilder { state, steps, warnings, lint, .. } = builder;
    Ok(Built { state, steps, warnings, checks: lint.warnings })
}

/// The files of a named context as the layer that a stage starts with.
pub(super) fn files_of_context(name: &str, from: &FromInstruction) -> Step {
    let copy = CopyStep {
        from: CopyFrom::Named(name.to_owned()),
        sources: vec![("/".to_owned(), from.base.span)],
        remotes: Vec::new(),
        heredocs: Vec::new(),
        destination: "/".to_owned(),
        cwd: "/".to_owned(),
        chown: None,
        chmod: None,
        exclude: Vec::new(),
        parents: false,
        link: false,
        unpack: false,
        unpack_remote: false,
        add: false,
    };
    let text = format!("FROM {name}");
    let created_by = Some(text.clone());
    Step { kind: StepKind::Copy(copy), span: from.span, text, created_by, empty_layer: false }
}

impl StageBuilder<'_> {
    fn step(&mut self, instruction: &Instruction) -> Result<()> {
        let source = &self.inputs.dockerfile.source;
        self.lint.instruction(source, instruction, &self.state);
        let effect = self.apply(instruction)?;
        self.lint.unset(source, instruction.span, self.inputs.seen.take_unset());
        let text = if instruction.on_build {
            format!("ONBUILD {}", instruction.text)
        } else {
            instruction.text.clone()
        };
        let size = STEP_COST + text.len() + effect.created_by.as_ref().map_or(0, String::len);
        self.inputs.budget.charge(size, source, instruction.span)?;
        self.steps.push(Step {
            kind: effect.kind,
            span: instruction.span,
            text,
            created_by: effect.created_by,
            empty_layer: effect.empty_layer,
        });
        Ok(())
    }

    fn apply(&mut self, instruction: &Instruction) -> Result<Effect> {
        let config = &mut self.state.config.config;
        Ok(match &instruction.kind {
            InstructionKind::Arg(arg) => Effect::config(self.arg(arg)?),
            InstructionKind::Env(pairs) => Effect::config(self.env(pairs)?),
            InstructionKind::Label(pairs) => Effect::config(self.label(pairs)?),
            InstructionKind::Run(run) => self.run(run, instruction.span)?,
            InstructionKind::Copy(copy) => {
                let from = copy.from.as_ref().map(|word| word.text.as_str());
                let from = self.copy_from(from)?;
                self.copied(|place| copy::copy(place, copy, from))?
            }
            InstructionKind::Add(add) => self.copied(|place| copy::add(place, add))?,
            InstructionKind::Cmd(command) => {
                self.cmd_set = true;
                Effect::config(history::quoted_list("CMD", &image_config::set_cmd(config, command)))
            }
            InstructionKind::Entrypoint(command) => {
                let words = image_config::set_entrypoint(config, command, self.cmd_set);
                Effect::config(history::quoted_list("ENTRYPOINT", &words))
            }
            InstructionKind::Shell(words) => {
                config.shell.clone_from(words);
                Effect::config(history::list("SHELL", words))
            }
            InstructionKind::Expose(words) => Effect::config(self.expose(words)?),
            InstructionKind::Volume(words) => Effect::config(self.volume(words)?),
            InstructionKind::User(word) => {
                let user = self.word(word)?;
                self.state.config.config.user.clone_from(&user);
                Effect::config(format!("USER {user}"))
            }
            InstructionKind::Workdir(word) => self.workdir(word)?,
            InstructionKind::StopSignal(word) => {
                let signal = self.word(word)?;
                image_config::check_signal(&signal)
                    .map_err(|error| error.at(&self.inputs.dockerfile.source, word.span))?;
                self.state.config.config.stop_signal = Some(signal.clone());
                Effect::config(format!("STOPSIGNAL {signal}"))
            }
            InstructionKind::Healthcheck(check) => {
                let check = image_config::healthcheck(check);
                let text = history::healthcheck(&check);
                config.healthcheck = Some(check);
                Effect::config(text)
            }
            InstructionKind::OnBuild(trigger) => {
                config.on_build.push(trigger.text.clone());
                Effect { kind: StepKind::Config, created_by: None, empty_layer: true }
            }
            InstructionKind::Maintainer(name) => {
                self.state.config.author = Some(name.clone());
                Effect::config(format!("MAINTAINER {name}"))
            }
        })
    }

    fn word(&self, word: &Word) -> Result<String> {
        self.inputs.expander().word(word, &self.state.lookup(&self.inputs.seen))
    }

    /// All defaults see the variables before the instruction; a build argument keeps its default from being
    /// evaluated at all.
    fn arg(&mut self, arg: &ArgInstruction) -> Result<String> {
        let globals = &self.inputs.globals;
        let mut declared = Vec::with_capacity(arg.args.len());
        for argument in &arg.args {
            let name = self.word(&argument.name)?;
            if name.is_empty() {
                return Err(Error::dockerfile("ARG names can not be blank")
                    .at(&self.inputs.dockerfile.source, argument.name.span));
            }
            let value = match (globals.build_arg(&name), &argument.default) {
                (Some(value), _) => Some(value.to_owned()),
                (None, Some(default)) => Some(self.word(default)?),
                (None, None) => globals.get(&name),
            };
            let size = 2 * value.as_ref().map_or(0, String::len) + STRING_COST;
            self.inputs.budget.charge(size, &self.inputs.dockerfile.source, arg.span)?;
            declared.push((name, value));
        }
        for (name, value) in &declared {
            self.inputs.saw_arg(name, value.as_deref(), arg.span);
            self.state.scope.declare(name, value.as_deref());
        }
        Ok(history::arg(&declared))
    }

    fn pairs(&self, keyword: &str, pairs: &[Pair]) -> Result<Vec<(String, String)>> {
        let mut out = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let key = self.word(&pair.key)?;
            if key.is_empty() {
                return Err(Error::dockerfile(format!("{keyword} names can not be blank"))
                    .at(&self.inputs.dockerfile.source, pair.key.span));
            }
            out.push((key, self.word(&pair.value)?));
        }
        Ok(out)
    }

    fn env(&mut self, pairs: &[Pair]) -> Result<String> {
        let pairs = self.pairs("ENV", pairs)?;
        for (name, value) in &pairs {
            self.state.scope.set(name, value);
            self.state.env.set(name, value);
        }
        Ok(history::pairs("ENV", &pairs))
    }

    fn label(&mut self, pairs: &[Pair]) -> Result<String> {
        let pairs = self.pairs("LABEL", pairs)?;
        let text = history::pairs("LABEL", &pairs);
        self.state.config.config.labels.extend(pairs);
        Ok(text)
    }

    fn expose(&mut self, words: &[Word]) -> Result<String> {
        // Sorted as written, before variables are known: history shows them so.
        let mut words: Vec<&Word> = words.iter().collect();
        words.sort_by(|a, b| a.text.cmp(&b.text));
        let expander = self.inputs.expander();
        let mut all = Vec::new();
        for word in words {
            for text in expander.words(word, &self.state.lookup(&self.inputs.seen))? {
                let source = &self.inputs.dockerfile.source;
                self.lint.port(&text, word.span);
                let found = ports::parse(&text).map_err(|error| error.at(source, word.span))?;
                self.inputs.budget.charge(found.len() * STRING_COST, source, word.span)?;
                all.extend(found);
            }
        }
        let text = history::list("EXPOSE", &all);
        let exposed = &mut self.state.config.config.exposed_ports;
        exposed.extend(all.into_iter().map(|port| (port, Value::Object(serde_json::Map::new()))));
        Ok(text)
    }

    fn volume(&mut self, words: &[Word]) -> Result<String> {
        let mut all = Vec::with_capacity(words.len());
        for word in words {
            let path = self.word(word)?;
            if path.is_empty() {
                return Err(Error::dockerfile("VOLUME specified can not be an empty string")
                    .at(&self.inputs.dockerfile.source, word.span));
            }
            all.push(path);
        }
        let text = history::list("VOLUME", &all);
        let volumes = &mut self.state.config.config.volumes;
        volumes.extend(all.into_iter().map(|path| (path, Value::Object(serde_json::Map::new()))));
        Ok(text)
    }

    fn workdir(&mut self, word: &Word) -> Result<Effect> {
        let written = self.word(word)?;
        if !std::mem::replace(&mut self.state.workdir_set, true) {
            self.lint.first_workdir(&written, word.span);
        }
        let path = paths::absolute(&self.state.cwd(), &written);
        self.state.config.config.working_dir.clone_from(&path);
        let created_by = format!("WORKDIR {path}");
        if path == "/" {
            return Ok(Effect::config(created_by));
        }
        let user = self.state.config.config.user.clone();
        let kind = StepKind::Workdir(WorkdirStep { path, user });
        Ok(Effect { kind, created_by: Some(created_by), empty_layer: false })
    }

    fn run(&mut self, instruction: &RunInstruction, span: Span) -> Result<Effect> {
        let scope = &self.state.scope;
        let size = scope.env_size() + scope.size() + self.place_size();
        self.inputs.budget.charge(size, &self.inputs.dockerfile.source, span)?;
        let step = run::run(self, instruction)?;
        let created_by = history::run(&self.state.scope.arg_list(), &step.argv);
        let kind = StepKind::Run(step);
        Ok(Effect { kind, created_by: Some(created_by), empty_layer: false })
    }

    fn copied(
        &self,
        plan: impl FnOnce(&copy::Place<'_>) -> Result<copy::Copied>,
    ) -> Result<Effect> {
        let span = self.inputs.dockerfile.stages[self.number].from.span;
        self.inputs.budget.charge(self.place_size(), &self.inputs.dockerfile.source, span)?;
        let env = self.state.lookup(&self.inputs.seen);
        let place =
            copy::Place { expander: self.inputs.expander(), env: &env, cwd: &self.state.cwd() };
        let copied = plan(&place)?;
        let created_by = history::copy(&copied.step, copied.chmod.as_deref());
        let step: CopyStep = copied.step;
        Ok(Effect { kind: StepKind::Copy(step), created_by: Some(created_by), empty_layer: false })
    }

    /// Bytes of what every RUN and COPY repeats besides the environment.
    fn place_size(&self) -> usize {
        let config = &self.state.config.config;
        config.working_dir.len() + config.user.len()
    }

    fn copy_from(&self, from: Option<&str>) -> Result<CopyFrom> {
        self.graph.copy_from(self.inputs, self.number, from, self.stage_index)
    }

    /// Where the files of a mount come from; the context when it does not say.
    pub(super) fn copy_from_mount(&self, mount: &Mount) -> Result<CopyFrom> {
        self.copy_from(Some(&mount.from))
    }
}
