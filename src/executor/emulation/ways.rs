//! How programs of each architecture are run on this machine: found out once a build, proved by a probe each.
//!
//! In: platforms, places to look for qemu-user. Out: a [`Way`] for each, or the reasons why there is none. Order: the
//! kernel itself, a handler of the host that does all we need, a binfmt_misc of our own in a user namespace of our own,
//! and last a handler of the host with shortcomings. The host's handlers are never changed.

use super::advice::{Facts, Own};
use super::arch::{self, Architecture};
use super::handlers;
use super::interpreter::{self, Rejected, Search};
use super::probe_elf::Verdict;
use super::way::{Emulator, Way, shortcomings};
use super::{Places, probe};
use crate::error::{Error, Result};
use crate::executor::isolation::Kind;
use crate::executor::sandbox::Cancel;
use crate::executor::spawner::Spawner;
use crate::oci::Platform;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Where the host shows its handlers.
const HANDLERS: &str = "/proc/sys/fs/binfmt_misc";

/// Gives the emulator of an architecture out of an image that the user named; `None` when no image was named.
pub type FromImage<'a> = &'a (dyn Fn(&Architecture) -> Result<Option<File>> + Sync);

/// What finding out needs of the build.
#[expect(missing_debug_implementations, reason = "it holds a function")]
#[derive(Clone, Copy)]
pub struct Bench<'a> {
    /// Clones RUNs of this machine's own architecture.
    pub spawner: &'a Spawner,
    /// An empty directory.
    pub staging: &'a Path,
    /// How RUNs are kept apart.
    pub kind: Kind,
    /// Stops everything.
    pub cancel: &'a Cancel,
    /// The emulator out of an image that the user named.
    pub from_image: FromImage<'a>,
}

/// The ways of a build, as far as they were asked for.
#[derive(Debug)]
pub struct Ways {
    places: Places,
    known: Mutex<BTreeMap<&'static str, Result<Way>>>,
}

impl Ways {
    /// Nothing is looked for yet.
    pub fn new(places: Places) -> Self {
        Self { places, known: Mutex::default() }
    }

    /// Finds the ways of several platforms at once; returns lines for the user: how, and what is lacking.
    pub fn prepare(&self, platforms: &[Platform], bench: &Bench<'_>) -> Result<Said> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wanted: Vec<&'static Architecture> = Vec::new();
        for arch in platforms.iter().filter_map(arch::of) {
            let new = !known.contains_key(arch.goarch) && !is_host(arch);
            if new && !wanted.iter().any(|other| other.goarch == arch.goarch) {
                wanted.push(arch);
            }
        }
        if wanted.is_empty() {
            return Ok(Said::default());
        }
        let found = self.find(&wanted, bench)?;
        let mut said = Said::default();
        for (arch, (way, unfit)) in wanted.iter().zip(found) {
            if let Ok(way) = &way {
                said.add(arch, way, &unfit);
            }
            known.insert(arch.goarch, way);
        }
        Ok(said)
    }

    /// The way of a platform; `prepare` is called for it when nobody did before.
    pub fn of(&self, platform: &Platform, bench: &Bench<'_>) -> Result<(Way, Said)> {
        let Some(arch) = arch::of(platform) else { return Err(super::advice::unknown(platform)) };
        if is_host(arch) {
            return Ok((Way::Native, Said::default()));
        }
        let said = self.prepare(std::slice::from_ref(platform), bench)?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let way = known.get(arch.goarch).cloned();
        way.unwrap_or_else(|| Err(Error::internal("a platform was not looked at")))
            .map(|way| (way, said))
    }

    fn find(
        &self,
        wanted: &[&'static Architecture],
        bench: &Bench<'_>,
    ) -> Result<Vec<(Result<Way>, Vec<String>)>> {
        let registered = handlers::list(Path::new(HANDLERS));
        // Most of it is waiting for small processes and reading large files: all architectures at the same time.
        let mut all = at_once(wanted, |arch| {
            let host = probe::run(arch, bench.spawner, bench)?;
            let mut facts = Facts::new(arch, &registered, host);
            self.named(&mut facts, bench);
            if matches!(facts.own, Own::Unneeded) && !complete(host) {
                facts.own = self.usual(arch);
            }
            Ok(facts)
        })?;
        let own = own_instance(&mut all, bench)?;
        Ok(all.into_iter().map(|facts| (decide(&facts, own.as_ref()), facts.unfit)).collect())
    }

    /// Looks for an emulator where the user said, which wins over everything.
    fn named(&self, facts: &mut Facts, bench: &Bench<'_>) {
        let arch = facts.arch;
        let Search { found, rejected } = interpreter::search(arch, &self.places.given);
        if let Some(found) = found {
            facts.own = loaded(arch, found.path, found.file);
            facts.named = true;
            return;
        }
        if !self.places.given.is_empty() {
            let names = arch.program_names().join(" or ");
            facts.unfit.push(format!("`--qemu-dir` has no static {names}"));
            let shown = |file: &Rejected| format!("{} {}", file.path.display(), file.why);
            facts.unfit.extend(rejected.iter().map(shown));
        }
        match (bench.from_image)(arch) {
            Ok(Some(file)) => {
                facts.own = loaded(arch, arch.program_names()[1].clone().into(), file);
                facts.named = true;
            }
            Ok(None) => {}
            Err(error) => {
                facts.unfit.push(error.message().to_owned());
                facts.unfit.extend_from_slice(error.causes());
            }
        }
    }

    /// Looks for an emulator in PATH and the usual places.
    fn usual(&self, arch: &Architecture) -> Own {
        let looked: Vec<PathBuf> = self.places.usual();
        let Search { found, rejected } = interpreter::search(arch, &looked);
        match found {
            Some(found) => loaded(arch, found.path, found.file),
            None => Own::Missing { looked, rejected },
        }
    }
}

/// What `prepare` wants the user to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// How platforms are run: parts of one line.
    pub how: Vec<String>,
    /// What does not work.
    pub warnings: Vec<String>,
}

impl Said {
    /// `unfit` says why what the user named is not used.
    fn add(&mut self, arch: &Architecture, way: &Way, unfit: &[String]) {
        self.how.push(format!("{} {}", arch.goarch, way.shown()));
        if !unfit.is_empty() {
            self.warnings.push(format!(
                "{}; commands for {} are run {}",
                unfit.join(": "),
                arch.goarch,
                way.shown()
            ));
        }
        let lacking = way.emulator().map(|emulator| &emulator.shortcomings[..]);
        for lack in lacking.unwrap_or_default() {
            self.warnings.push(format!("commands for {}: {lack}", arch.goarch));
        }
    }
}

fn is_host(arch: &Architecture) -> bool {
    Architecture::host().is_some_and(|host| host.goarch == arch.goarch)
}

fn complete(verdict: Verdict) -> bool {
    verdict.runs && verdict.argv0 && verdict.setuid
}

/// Takes an emulator into memory: a package upgrade in mid-build does not matter, and no RUN sees its file.
fn loaded(arch: &Architecture, path: PathBuf, file: File) -> Own {
    let name =
        path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let version = interpreter::version(arch, &file);
    // Where programs in memory are forbidden the file itself is registered; it is open, and needs no name either.
    let program = interpreter::into_memory(&file).unwrap_or_else(|_| file.into());
    let emulator = Emulator { name, version, shortcomings: Vec::new() };
    Own::Ready { emulator, path, program: Some(program) }
}

/// Does something for each item, in a thread each; the first error counts.
fn at_once<I: Send, T: Send>(
    items: impl IntoIterator<Item = I>,
    work: impl Fn(I) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            items.into_iter().map(|item| scope.spawn(move || work(item))).collect();
        threads
            .into_iter()
            .map(|thread| {
                thread.join().unwrap_or_else(|_| Err(Error::internal("a thread stopped")))
            })
            .collect()
    })
}

/// Makes the instance when an emulator for some architecture is at hand, and proves each of them.
fn own_instance(all: &mut [Facts], bench: &Bench<'_>) -> Result<Option<Arc<Spawner>>> {
    let mut interpreters: Vec<(&'static str, OwnedFd)> = Vec::new();
    for facts in all.iter_mut() {
        if let Own::Ready { program, .. } = &mut facts.own
            && let Some(program) = program.take()
        {
            interpreters.push((facts.arch.goarch, program));
        }
    }
    if interpreters.is_empty() {
        return Ok(None);
    }
    match bench.spawner.emulating(&interpreters) {
        Ok(spawner) => {
            let ready = all.iter_mut().filter(|facts| matches!(facts.own, Own::Ready { .. }));
            at_once(ready, |facts| {
                let proof = probe::run(facts.arch, &spawner, bench)?;
                facts.proof = Some(proof);
                Ok(())
            })?;
            Ok(Some(Arc::new(spawner)))
        }
        Err(refusal) => {
            for facts in all.iter_mut() {
                if let Own::Ready { path, .. } = &facts.own {
                    facts.own = Own::Refused { path: path.clone(), refusal: refusal.clone() };
                }
            }
            Ok(None)
        }
    }
}

fn decide(facts: &Facts, own: Option<&Arc<Spawner>>) -> Result<Way> {
    if complete(facts.host) && !(facts.named && facts.proof.is_some_and(complete)) {
        return Ok(facts.hosts_way());
    }
    if let (Some(spawner), Own::Ready { emulator, .. }, Some(proof)) =
        (own, &facts.own, facts.proof)
        && proof.runs
        && (complete(proof) || !facts.host.runs)
    {
        let shortcomings = shortcomings(proof);
        let emulator = Emulator { shortcomings, ..emulator.clone() };
        return Ok(Way::Own(emulator, Arc::clone(spawner)));
    }
    if facts.host.runs {
        return Ok(facts.hosts_way());
    }
    Err(facts.advice())
}
