//! The one setting that would give more, for each place in which builds run. Pure.

use super::{IdMode, Isolation, Kind, Trees};
use serde::Serialize;

/// Something better, and how to get it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// What would be better, and why it is not.
    pub goal: String,
    /// Name of a place and the setting there.
    pub settings: Vec<(&'static str, String)>,
}

/// The places that are named.
pub const PLACES: [&str; 7] =
    ["Docker", "Podman", "Kubernetes", "GitLab", "GitHub", "Tekton", "OpenShift"];

/// What would be better than what is there; nothing when there is nothing.
pub fn advice(isolation: Option<&Isolation>, store: &str, user: &str) -> Vec<Advice> {
    let Some(isolation) = isolation.filter(|isolation| isolation.kind != Kind::Files) else {
        return vec![user_namespaces("commands could run")];
    };
    let mut all = Vec::new();
    match isolation.kind {
        Kind::Chroot => all.push(user_namespaces("commands would be kept apart by namespaces")),
        Kind::SharedPid => all.push(unmasked_proc()),
        Kind::Namespaces | Kind::Files => {}
    }
    if isolation.ids == IdMode::Single && isolation.kind != Kind::Chroot {
        all.push(subordinate_ids(user));
    }
    if isolation.trees == Trees::Whole && isolation.kind != Kind::Chroot {
        all.push(volume(store));
    }
    all
}

fn with(goal: &str, texts: [&str; 7]) -> Advice {
    let settings = PLACES.iter().zip(texts).map(|(place, text)| (*place, text.to_owned()));
    Advice { goal: goal.to_owned(), settings: settings.collect() }
}

fn user_namespaces(what: &str) -> Advice {
    with(
        &format!("if user namespaces were allowed, {what}"),
        [
            "`docker run --security-opt seccomp=unconfined` (on Ubuntu also `--security-opt apparmor=unconfined`)",
            "the default allows them; `--security-opt seccomp=unconfined` where the default was changed",
            "`securityContext: {seccompProfile: {type: Unconfined}}` of the container",
            "Docker executor: `security_opt = [\"seccomp=unconfined\"]` in `[runners.docker]`; Kubernetes executor: `seccomp_profile = {type = \"Unconfined\"}` in `[runners.kubernetes.build_container_security_context]`",
            "`container: {options: --security-opt seccomp=unconfined}` of the job; on a hosted Ubuntu machine `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
            "`securityContext: {seccompProfile: {type: Unconfined}}` of the step",
            "a SecurityContextConstraints with `seccompProfiles: ['*']`, and `seccompProfile: {type: Unconfined}` in the pod",
        ],
    )
}

fn unmasked_proc() -> Advice {
    with(
        "with an unmasked /proc, commands would have process numbers of their own",
        [
            "`docker run --security-opt systempaths=unconfined`",
            "`podman run --security-opt unmask=ALL`",
            "`hostUsers: false` in the pod and `securityContext: {procMount: Unmasked}` of the container",
            "Docker executor: `security_opt = [\"systempaths=unconfined\"]` in `[runners.docker]`; Kubernetes executor: `proc_mount = \"Unmasked\"` in `[runners.kubernetes.build_container_security_context]`",
            "`container: {options: --security-opt systempaths=unconfined}` of the job",
            "`hostUsers: false` in the pod template and `securityContext: {procMount: Unmasked}` of the step",
            "a SecurityContextConstraints for pods with `hostUsers: false`, and `procMount: Unmasked` in the container",
        ],
    )
}

fn subordinate_ids(user: &str) -> Advice {
    let ids = format!(
        "in the image: the package `uidmap`, and `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}`"
    );
    let escalation = format!("{ids}; and `allowPrivilegeEscalation: true`");
    with(
        "with subordinate ids, owners would be real ones (builds are a little faster)",
        [&ids, &ids, &escalation, &ids, &ids, &escalation, &escalation],
    )
}

fn volume(store: &str) -> Advice {
    let (run, emptydir) =
        (format!("`-v nativebuild:{store}`"), format!("an `emptyDir` volume mounted on {store}"));
    let gitlab = format!(
        "Docker executor: `volumes = [\"{store}\"]` in `[runners.docker]`; Kubernetes executor: `[[runners.kubernetes.volumes.empty_dir]]` with `mount_path = \"{store}\"`"
    );
    let github = format!("`container: {{volumes: [\"nativebuild:{store}\"]}}` of the job");
    with(
        "with the store on a volume, trees would be stacked by overlayfs, and steps would be faster",
        [&run, &run, &emptydir, &gitlab, &github, &emptydir, &emptydir],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::refusal::Refusal;

    fn of(kind: Kind, ids: IdMode, trees: Trees) -> Vec<String> {
        let isolation = Isolation {
            kind,
            ids,
            user_namespace: true,
            own_ids: false,
            trees,
            no_overlay: Some(Refusal::said("using overlayfs on the store", "no")),
            devices: false,
            why_single: None,
            no_commands: None,
        };
        let all = advice(Some(&isolation), "/store", "me");
        for one in &all {
            let places: Vec<&str> = one.settings.iter().map(|(place, _)| *place).collect();
            assert_eq!(places, PLACES);
        }
        all.iter().map(|one| one.settings[0].1.clone()).collect()
    }

    #[test]
    fn each_weakness_has_one_setting_for_each_place() {
        assert_eq!(of(Kind::Namespaces, IdMode::Range, Trees::Overlay), Vec::<String>::new());
        let chroot = of(Kind::Chroot, IdMode::Real, Trees::Whole);
        assert_eq!(chroot.len(), 1);
        assert!(chroot[0].starts_with("`docker run --security-opt seccomp=unconfined`"));
        let pod = of(Kind::SharedPid, IdMode::Single, Trees::Whole);
        assert_eq!(pod[0], "`docker run --security-opt systempaths=unconfined`");
        assert!(pod[1].ends_with("--add-subgids 100000-165535 me`"), "{}", pod[1]);
        assert_eq!(pod[2], "`-v nativebuild:/store`");
        assert_eq!(advice(None, "/store", "me").len(), 1);
    }
}
