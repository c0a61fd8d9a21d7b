//! Keys of steps (dockerfile.md §3): what a result depends on, length-prefixed, under a version of their own.
//!
//! The parent's key stands for what the steps below were given; file inputs enter by their content digest. What the steps
//! below left is in no key: a record says what it stands on ([`stands_on`]). Not in any key either: isolation, id mode,
//! epoch, compression, proxies, positions in the Dockerfile, names of stages.

use crate::executor::settings::RunSettings;
use crate::layers::compress::Compression;
use crate::oci::digest::FieldHasher;
use crate::oci::{ChainId, Digest, Platform};
use crate::plan::step::{Chmod, CopyStep, NetworkMode, RunMountKind, RunStep, WorkdirStep};

/// Key of a base image: digest of its manifest, or the empty tree.
pub(super) fn base(manifest: Option<&Digest>) -> Digest {
    let mut hasher = FieldHasher::new("nb-base-1");
    hasher.field(manifest.map_or("scratch", Digest::as_str).as_bytes());
    hasher.finish()
}

/// Key of a tree with a layer on top that does not depend on it.
pub(super) fn on_top(parent: &Digest, layer: &Digest) -> Digest {
    let mut hasher = FieldHasher::new("nb-step-1");
    hasher.field(b"on-top").field(parent.as_str().as_bytes()).field(layer.as_str().as_bytes());
    hasher.finish()
}

/// Key of a RUN. `inputs` are the content digests of its bind mounts, in order.
pub(super) fn run(
    parent: &Digest,
    step: &RunStep,
    network: NetworkMode,
    (platform, settings): (&Platform, &RunSettings),
    inputs: &[Digest],
) -> Digest {
    let mut hasher = FieldHasher::new("nb-step-1");
    hasher.field(b"run").field(parent.as_str().as_bytes());
    hasher.list(&step.argv);
    hasher.list(step.env.iter().flat_map(|(name, value)| [name, value]));
    hasher.field(step.cwd.as_bytes()).field(step.user.as_bytes());
    hasher.field(network.as_str().as_bytes()).number(step.insecure.into());
    hasher.field(platform.to_string().as_bytes());
    hasher.list(step.scripts.iter().flat_map(|(name, body)| [name, body]));
    hasher.number(step.mounts.len() as u64);
    for mount in &step.mounts {
        hasher.field(mount.target.as_bytes()).number(mount.read_only.into());
        match &mount.kind {
            RunMountKind::Bind { .. } => hasher.field(b"bind"),
            RunMountKind::Cache { id, inside, .. } => {
                hasher.field(b"cache").field(id.as_bytes());
                // Without it the key is what it was when all of a cache was mounted always.
                if inside.is_empty() { &mut hasher } else { hasher.field(inside.as_bytes()) }
            }
            RunMountKind::Tmpfs { size } => {
                hasher.field(b"tmpfs").number(size.map_or(0, |size| size + 1))
            }
        };
    }
    hasher.list(inputs.iter().map(Digest::as_str));
    // Ids and places count, contents do not. Without any the key is what it was before there were secrets.
    for secret in &step.secrets {
        hasher.field(b"secret").field(secret.id.as_bytes());
        hasher.list(secret.target.iter()).list(secret.env.iter());
        owner(&mut hasher, secret.owner);
    }
    for agent in &step.agents {
        hasher.field(b"ssh").field(agent.id.as_bytes()).field(agent.target.as_bytes());
        owner(&mut hasher, agent.owner);
    }
    for device in &step.devices {
        hasher.field(b"device").field(device.name.as_bytes());
    }
    if let Some(name) = &step.hostname {
        hasher.field(b"hostname").field(name.as_bytes());
    }
    set_for_all(&mut hasher, settings);
    hasher.finish()
}

/// Names count, their addresses do not. Without any setting the key is what it was before there were some.
fn set_for_all(hasher: &mut FieldHasher, settings: &RunSettings) {
    if !settings.hosts.is_empty() {
        hasher.field(b"hosts").list(settings.hosts.iter().map(|(name, _)| name));
    }
    if let Some(bytes) = settings.shm_size {
        hasher.field(b"shm").number(bytes);
    }
    for limit in &settings.limits {
        hasher.field(b"limit").field(limit.name.as_bytes()).number(limit.soft).number(limit.hard);
    }
}

fn owner(hasher: &mut FieldHasher, (uid, gid, mode): (u32, u32, u32)) {
    hasher.number(uid.into()).number(gid.into()).number(mode.into());
}

/// Key of a COPY or ADD. `inputs` is the content digest of what is copied, `fetched` stand for sources elsewhere.
pub(super) fn copy<'a>(
    parent: &Digest,
    step: &CopyStep,
    inputs: &Digest,
    fetched: impl Iterator<Item = &'a Digest>,
) -> Digest {
    let mut hasher = FieldHasher::new("nb-step-1");
    hasher.field(b"copy").field(parent.as_str().as_bytes());
    hasher.field(step.destination.as_bytes()).field(step.cwd.as_bytes());
    hasher.list(step.chown.iter());
    match &step.chmod {
        None => hasher.field(b""),
        Some(Chmod::Octal(mode)) => hasher.field(format!("{mode:o}").as_bytes()),
        Some(Chmod::Symbolic(clauses)) => hasher.field(clauses.as_bytes()),
    };
    hasher.list(&step.exclude);
    hasher
        .number(u64::from(step.parents) | u64::from(step.link) << 1 | u64::from(step.unpack) << 2);
    hasher.list(step.heredocs.iter().flat_map(|doc| [&doc.name, &doc.body]));
    hasher.field(inputs.as_str().as_bytes());
    for identity in fetched {
        hasher.field(b"fetched").field(identity.as_str().as_bytes());
        hasher.number(step.unpack_remote.into());
    }
    hasher.finish()
}

/// Key of a WORKDIR.
pub(super) fn workdir(parent: &Digest, step: &WorkdirStep) -> Digest {
    let mut hasher = FieldHasher::new("nb-step-1");
    hasher.field(b"workdir").field(parent.as_str().as_bytes());
    hasher.field(step.path.as_bytes()).field(step.user.as_bytes());
    hasher.finish()
}

/// Key of a selection out of a tree with these layers, as [`stands_on`] has them; `what` stands for what is selected.
pub(super) fn selection(layers: &ChainId, what: &Digest) -> Digest {
    let mut hasher = FieldHasher::new("nb-select-2");
    hasher.field(layers.0.as_str().as_bytes()).field(what.as_str().as_bytes());
    hasher.finish()
}

/// What a layer stands on, as records say it: the chain id of all layers below it, or the key of the empty tree.
pub(super) fn stands_on(below: Option<ChainId>) -> ChainId {
    below.unwrap_or_else(|| ChainId(base(None)))
}

/// Name of a kind of layer blob of a step: format, codec, level and epoch.
pub(super) fn variant(compression: Compression, epoch: Option<i64>) -> String {
    let format = compression.layer_format();
    let compression = match compression {
        Compression::None => "none".to_owned(),
        Compression::Gzip { level } => format!("gzip{level}"),
        Compression::Zstd { level } => format!("zstd{level}"),
    };
    let epoch = epoch.map_or_else(|| "none".to_owned(), |epoch| epoch.to_string());
    format!("{format}-{compression}-{epoch}")
}

/// Whether a layer of this variant tells all times: one that is empty for an epoch need not be empty for another.
pub(super) fn has_true_times(variant: &str) -> bool {
    variant.ends_with("-none")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::DiffId;

    #[test]
    fn a_selection_is_one_of_these_layers() {
        let layer = |text: &str| DiffId(Digest::of(text.as_bytes()));
        let (one, two) = (layer("one"), layer("two"));
        let stacks = [
            vec![],
            vec![one.clone()],
            vec![two.clone()],
            vec![one.clone(), two.clone()],
            vec![two, one],
        ];
        let what = [Digest::of(b"/a"), Digest::of(b"/b")];
        let keys: std::collections::BTreeSet<Digest> = stacks
            .iter()
            .map(|layers| stands_on(ChainId::of(layers)))
            .flat_map(|layers| what.each_ref().map(|what| selection(&layers, what)))
            .collect();
        assert_eq!(keys.len(), stacks.len() * what.len());
    }
}
