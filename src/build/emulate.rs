//! Foreign platforms of a build: which stages run commands for them, and what runs those.
//!
//! Emulators are looked for once, right after the isolation is entered and only for RUNs that the cache does not have,
//! so that a platform nothing can run ends the build before any work is lost. A stage without RUN asks for none.

use super::finder::Finder;
use super::stage::Builder;
use super::tree;
use super::worker::Worker;
use crate::error::{Error, Result};
use crate::executor::emulation::arch::{self, Architecture};
use crate::executor::emulation::interpreter;
use crate::executor::emulation::way::Way;
use crate::executor::emulation::ways::{Bench, FromImage, Said};
use crate::oci::{Platform, resolve};
use crate::plan::step::{BaseRef, StageBase, Step, StepKind};
use crate::progress::Event;
use crate::sys::root;
use std::fs::File;
use std::path::PathBuf;
use std::sync::PoisonError;

/// Where images keep programs.
const PLACES: [&str; 4] = ["usr/bin/", "usr/local/bin/", "bin/", ""];

impl Builder<'_> {
    /// What the programs of a stage are made for: the image below it says so, whatever the stage is asked to be.
    pub(super) fn machine(&self, stage: usize) -> Result<Platform> {
        let plan = &self.plan.stages[stage];
        match &plan.base {
            StageBase::Scratch => Ok(plan.platform.clone()),
            StageBase::Stage(below) => self.machine(*below),
            StageBase::Image(base) => {
                let found = Platform::of_config(&self.image(base)?.config);
                let known = !found.os.is_empty() && !found.architecture.is_empty();
                Ok(if known { found } else { plan.platform.clone() })
            }
        }
    }

    /// What runs the commands of a stage.
    pub(super) fn way(&self, stage: usize, worker: &Worker) -> Result<Way> {
        if let Some(error) = &worker.isolation.no_commands {
            return Err(error.clone());
        }
        let machine = self.machine(stage)?;
        let staging = self.staging()?;
        let from_image = |arch: &Architecture| self.emulator_in_image(arch, worker);
        let bench = bench(worker, &staging, &from_image);
        let (way, said) =
            worker.ways.of(&machine, &bench).map_err(|error| self.with_choices(error, stage))?;
        self.tell(&said);
        Ok(way)
    }

    /// Finds the ways of all platforms with commands to run; fails at the first RUN that surely has to run and cannot.
    pub(super) fn prepare_ways(&self, worker: &Worker) -> Result<()> {
        let mut wanted = Vec::new();
        for stage in 0..self.plan.stages.len() {
            if self.open_run(stage).is_some() && worker.isolation.no_commands.is_none() {
                wanted.push(self.machine(stage)?);
            }
        }
        let staging = self.staging()?;
        let from_image = |arch: &Architecture| self.emulator_in_image(arch, worker);
        let said = worker.ways.prepare(&wanted, &bench(worker, &staging, &from_image))?;
        self.tell(&said);
        for stage in 0..self.plan.stages.len() {
            let Some(step) = self.open_run(stage) else { continue };
            let Err(error) = self.way(stage, worker) else { continue };
            if self.surely_open(stage) {
                return Err(self.placed(error, step, stage));
            }
            // What it copies decides whether the cache has it, and that is not known yet.
            let text = format!(
                "{}; the build fails if the cache does not have this step",
                error.message()
            );
            let place =
                format!("{}:{}", self.plan.source.name(), self.plan.source.line(step.span.start));
            self.emitter.emit(Event::Warning { text, place: Some(place) });
        }
        Ok(())
    }

    /// Whether a command may have to run.
    pub(super) fn runs_commands(&self) -> bool {
        (0..self.plan.stages.len()).any(|stage| self.open_run(stage).is_some())
    }

    /// The next RUN of a stage that is not complete.
    fn open_run(&self, stage: usize) -> Option<&Step> {
        if self.states.complete(stage).is_some() {
            return None;
        }
        let next = self.states.get(stage).map_or(0, |state| state.next);
        let mut steps = self.plan.stages[stage].steps[next..].iter();
        steps.find(|step| matches!(step.kind, StepKind::Run(_)))
    }

    /// True when the cache is known not to have the next step of the stage, or one of a stage below it.
    fn surely_open(&self, stage: usize) -> bool {
        if self.request.no_cache {
            return true;
        }
        let missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stage = stage;
        loop {
            if missing.contains(&stage) {
                return true;
            }
            match self.plan.stages[stage].base {
                StageBase::Stage(below) => stage = below,
                StageBase::Scratch | StageBase::Image(_) => return false,
            }
        }
    }

    fn tell(&self, said: &Said) {
        if !said.how.is_empty() {
            let text = format!("emulation: {}", said.how.join(", "));
            self.emitter.emit(Event::Isolation { text });
        }
        for warning in &said.warnings {
            self.emitter.warn(warning);
        }
    }

    /// Adds what the base image has instead.
    fn with_choices(&self, error: Error, stage: usize) -> Error {
        let mut stage = stage;
        while let StageBase::Stage(below) = self.plan.stages[stage].base {
            stage = below;
        }
        let StageBase::Image(base) = &self.plan.stages[stage].base else { return error };
        let mut platforms: Vec<String> =
            self.index_of(base).unwrap_or_default().iter().map(Platform::to_string).collect();
        platforms.sort();
        platforms.dedup();
        match platforms.len() {
            0 | 1 => error,
            _ => error.hint(format!(
                "the base image `{}` is there for {}",
                base.reference,
                platforms.join(", ")
            )),
        }
    }

    fn index_of(&self, base: &BaseRef) -> Option<Vec<Platform>> {
        let reference = crate::oci::Reference::parse(&base.reference).ok()?;
        let descriptor = match self.downloads.named(&reference) {
            Some(pulled) => pulled.clone(),
            None => self.store.images().find(&reference).ok()??.descriptor,
        };
        resolve::platforms(&self.downloads.expected(self.store), &descriptor).ok()
    }

    /// The emulator of an architecture out of the image that the user named.
    fn emulator_in_image(&self, arch: &Architecture, worker: &Worker) -> Result<Option<File>> {
        let (Some(name), Some(image)) = (&self.request.qemu_image, self.qemu_image.get()) else {
            return Ok(None);
        };
        let lost = || format!("cannot use the image `{}` of `--qemu-image`", name.familiar());
        let known = self.qemu_tree.lock().unwrap_or_else(PoisonError::into_inner);
        // All architectures ask at the same time; the first one unpacks it for all.
        let root = tree::view(self.store, &tree::base_state(image), worker)
            .map_err(|error| error.wrap(lost()))?;
        drop(known);
        let names = arch.program_names();
        for path in names.iter().flat_map(|name| PLACES.map(|dir| format!("{dir}{name}"))) {
            let Ok(file) = root::open_read(&root, path.as_bytes()) else { continue };
            return match interpreter::check(&file) {
                Ok(()) => Ok(Some(file)),
                Err(why) => Err(Error::image(lost()).cause(format!("its /{path} {why}"))),
            };
        }
        Err(Error::image(lost()).cause(format!("it has no {}", names.join(" and no "))))
    }

    /// Finds the image of `--qemu-image` when commands for foreign platforms have to run. Called before signals are
    /// caught, so that they end a slow download.
    pub(super) fn find_qemu_image(&self) -> Result<()> {
        let Some(name) = &self.request.qemu_image else { return Ok(()) };
        let host = Platform::host();
        let mut foreign = false;
        for stage in 0..self.plan.stages.len() {
            let machine = self.machine(stage)?;
            foreign |= self.open_run(stage).is_some() && machine.architecture != host.architecture;
        }
        if foreign && self.qemu_image.get().is_none() {
            let base = BaseRef { reference: name.familiar(), platform: host };
            let finder = Finder::new(self.store, self.request, self.emitter);
            let found = finder.find_whole(&base);
            let image = found.map_err(|error| {
                error.wrap(format!("cannot use the image `{}` of `--qemu-image`", name.familiar()))
            })?;
            let _only_now = self.qemu_image.set(image);
        }
        Ok(())
    }

    /// The directory on which sandboxes attach their rootfs.
    pub(super) fn staging(&self) -> Result<PathBuf> {
        use crate::error::{ErrorKind, ResultExt};
        let staging = self.store.sub("tmp").join("rootfs");
        std::fs::create_dir_all(&staging)
            .or_error(ErrorKind::Environment, || format!("cannot make {}", staging.display()))?;
        Ok(staging)
    }
}

fn bench<'a>(
    worker: &'a Worker,
    staging: &'a std::path::Path,
    from_image: FromImage<'a>,
) -> Bench<'a> {
    let kind = worker.isolation.kind;
    Bench { spawner: &worker.spawner, staging, kind, cancel: &worker.cancel, from_image }
}

/// True for a machine with 32-bit programs.
pub(super) fn is_32_bit(machine: &Platform) -> bool {
    arch::of(machine).is_some_and(|arch| arch.class == arch::Class::Elf32)
}
