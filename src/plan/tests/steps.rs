//! RUN, COPY and ADD: what their steps hold, and what is refused.

use super::*;
use crate::plan::step::{CacheSharing, Chmod, RunMountKind};

#[test]
fn run_forms() {
    let plan = planned("FROM b\nUSER u\nWORKDIR /w\nRUN a  b\nRUN [\"c\", \"d e\"]\nRUN\n");
    let argvs: Vec<Vec<String>> = runs(&plan).into_iter().map(|run| run.argv.clone()).collect();
    assert_eq!(argvs, [vec!["/bin/sh", "-c", "a  b"], vec!["c", "d e"], vec!["/bin/sh", "-c", ""]]);
    assert_eq!((runs(&plan)[0].user.as_str(), runs(&plan)[0].cwd.as_str()), ("u", "/w"));
    assert_eq!(history(&plan)[3], "RUN c d e # buildkit");
}

#[test]
fn a_path_is_always_there() {
    let env = &runs(&planned("FROM scratch\nRUN x\n"))[0].env.clone();
    assert_eq!(env, &[("PATH".to_owned(), crate::oci::spec::DEFAULT_PATH.to_owned())]);
}

#[test]
fn networks_and_security() {
    let request = PlanRequest { network: NetworkMode::None, ..request() };
    let plan = planned_for(
        "FROM b\nRUN x\nRUN --network=host x\nRUN --network=default --security=insecure x\n",
        &request,
    );
    let modes: Vec<Option<NetworkMode>> = runs(&plan).into_iter().map(|run| run.network).collect();
    assert_eq!(modes, [NetworkMode::None, NetworkMode::Host, NetworkMode::Default].map(Some));
    let insecure: Vec<bool> = runs(&plan).into_iter().map(|run| run.insecure).collect();
    assert_eq!(insecure, [false, false, true]);
}

#[test]
fn mounts_are_carried() {
    let plan = planned_for(
        "FROM b AS s\nFROM b\nWORKDIR /w\nENV D=cc\n\
         RUN --mount=target=in --mount=type=bind,from=s,source=../x,target=/y,rw \
         --mount=type=cache,target=/$D/ --mount=type=cache,id=i,target=/k,sharing=locked,from=s,mode=0700 \
         --mount=type=tmpfs,target=/t,size=1m x\n",
        &with_args(&[("BUILDKIT_CACHE_MOUNT_NS", "ns")]),
    );
    let run = runs(&plan)[0];
    let shown: Vec<(&str, bool, RunMountKind)> =
        run.mounts.iter().map(|m| (m.target.as_str(), m.read_only, m.kind.clone())).collect();
    let cache = |id: &str, from, sharing, mode| RunMountKind::Cache {
        id: id.to_owned(),
        from,
        inside: String::new(),
        sharing,
        owner: (0, 0, mode),
    };
    let root = || "/".to_owned();
    assert_eq!(
        shown,
        [
            ("/w/in", true, RunMountKind::Bind { from: CopyFrom::Context, source: root() }),
            ("/y", false, RunMountKind::Bind { from: CopyFrom::Stage(0), source: "/x".to_owned() }),
            ("/cc", false, cache("ns//cc", None, CacheSharing::Shared, 0o755)),
            (
                "/k",
                false,
                cache("ns/i", Some((CopyFrom::Stage(0), root())), CacheSharing::Locked, 0o700)
            ),
            ("/t", false, RunMountKind::Tmpfs { size: Some(1 << 20) }),
        ]
    );
}

#[test]
fn cache_ids_are_the_cleaned_target() {
    let plan = planned(
        "FROM b\nRUN --mount=type=cache,target=/c --mount=type=cache,from=scratch,target=/c/ x\n",
    );
    let ids: Vec<&str> = runs(&plan)[0]
        .mounts
        .iter()
        .map(|mount| match &mount.kind {
            RunMountKind::Cache { id, .. } => id.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids, ["/c", "/c"]);
}

#[test]
fn secrets_and_agents_have_their_usual_places() {
    let text = "FROM b\nWORKDIR /w\nRUN --mount=type=secret,id=a/s --mount=type=secret,source=t,env=E \
                --mount=type=secret,target=x/y,uid=1,gid=2,mode=0440,required --mount=type=ssh \
                --mount=type=ssh,id=i,target=s,required x\n";
    let plan = planned(text);
    let run = runs(&plan)[0];
    let secrets: Vec<_> = run
        .secrets
        .iter()
        .map(|s| (s.id.as_str(), s.target.as_deref(), s.env.as_deref(), s.required, s.owner))
        .collect();
    assert_eq!(
        secrets,
        [
            ("a/s", Some("/run/secrets/s"), None, false, (0, 0, 0o400)),
            ("t", None, Some("E"), false, (0, 0, 0o400)),
            ("y", Some("/w/x/y"), None, true, (1, 2, 0o440)),
        ]
    );
    let agents: Vec<_> = run
        .agents
        .iter()
        .map(|a| (a.id.as_str(), a.target.as_str(), a.required, a.owner))
        .collect();
    let first = ("default", "/run/buildkit/ssh_agent.0", false, (0, 0, 0o600));
    assert_eq!(agents, [first, ("i", "/w/s", true, (0, 0, 0o600))]);
}

#[test]
fn devices_are_names_that_may_be_required() {
    let plan = planned("FROM b\nRUN --device=v/c=d --device=name=v/c=*,required --device=v/c x\n");
    let devices: Vec<_> =
        runs(&plan)[0].devices.iter().map(|d| (d.name.as_str(), d.required)).collect();
    assert_eq!(devices, [("v/c=d", false), ("v/c=*", true), ("v/c", false)]);
}

#[test]
fn run_errors() {
    for (line, expected) in [
        ("RUN --mount=typ=bind x", "2:13: unexpected key 'typ' in 'typ=bind' (did you mean type?)"),
        ("RUN --mount=type=cache x", "2:13: invalid mount target \"/\""),
        ("RUN --mount=target=/.. x", "2:13: invalid mount target \"/\""),
        ("RUN --device=d x", "2:14: `d` is no CDI name of a device"),
        ("RUN --device=v/c=d,need x", "2:14: unexpected key 'need' of a device"),
    ] {
        assert_eq!(error(&format!("FROM b\n{line}\n")), expected, "{line}");
    }
}

#[test]
fn heredocs_of_run() {
    let plan = planned(
        "FROM b\nRUN <<EOF\necho $A\nEOF\nRUN <<'S'\n#!/bin/awk -f\nx\nS\nRUN cat <<A > /a\n\tbody\nA\n",
    );
    let runs = runs(&plan);
    assert_eq!(runs[0].argv, ["/bin/sh", "-c", "echo $A\n"]);
    assert_eq!(runs[1].argv, ["/bin/sh", "-c", "/dev/pipes/S"]);
    assert_eq!(runs[1].scripts, [("S".to_owned(), "#!/bin/awk -f\nx\n".to_owned())]);
    assert_eq!(runs[2].argv[2], "cat <<A > /a\n\tbody\nA");
}

#[test]
fn copy_flags() {
    let plan = planned(
        "FROM b\nWORKDIR /w\nENV D=\"d x\" M=755 U=\n\
         COPY --chown=$U --chmod=0$M --link --exclude=*.$M a$M $U \"$D\"/\n\
         COPY --parents --chown=1:2 --chmod=u=rwX,go=rX a b/./c dst\nADD --unpack=false x.tar /\nADD y.tar /\n",
    );
    let [first, second, third, fourth] = copies(&plan)[..] else { panic!("four copies") };
    let sources = |copy: &CopyStep| -> Vec<String> {
        copy.sources.iter().map(|(source, _)| source.clone()).collect()
    };
    assert_eq!(sources(first), ["a755", ""]);
    assert_eq!((first.destination.as_str(), first.cwd.as_str()), ("d x/", "/w"));
    assert_eq!((first.chown.clone(), first.chmod.clone()), (None, Some(Chmod::Octal(0o755))));
    assert_eq!(
        (first.link, first.parents, &first.exclude[..]),
        (true, false, &["*.$M".to_owned()][..])
    );
    assert_eq!(second.chmod, Some(Chmod::Symbolic("u=rwX,go=rX".to_owned())));
    assert_eq!((third.add, third.unpack, fourth.add, fourth.unpack), (true, false, true, true));
    assert_eq!(
        history(&plan)[2..],
        [
            "COPY --chmod=0755 a755  d x/ # buildkit",
            "COPY --parents --chown=1:2 --chmod=u=rwX,go=rX a b/./c dst # buildkit",
            "ADD x.tar / # buildkit",
            "ADD y.tar / # buildkit",
        ]
    );
}

#[test]
fn heredocs_of_copy_are_expanded_unless_quoted() {
    let plan = planned(
        "FROM b\nENV X=val\nCOPY <<EOF <<'Q' /d/\nit's \"$X\" \\$X \\\\\nEOF\n$X\nQ\n\
         COPY <<-T f /t\n\t\ttab\n\tT\n",
    );
    let bodies = |copy: &CopyStep| -> Vec<(String, String)> {
        copy.heredocs.iter().map(|h| (h.name.clone(), h.body.clone())).collect()
    };
    let pair = |name: &str, body: &str| (name.to_owned(), body.to_owned());
    assert_eq!(bodies(copies(&plan)[0]), [pair("EOF", "it's \"val\" $X \\\n"), pair("Q", "$X\n")]);
    assert_eq!(bodies(copies(&plan)[1]), [pair("T", "tab\n")]);
    assert_eq!(history(&plan)[1], "COPY <<EOF <<Q /d/ # buildkit");
    assert_eq!(history(&plan)[2], "COPY f <<T /t # buildkit");
}

#[test]
fn copy_errors() {
    for (line, expected) in [
        ("COPY http://h/x /", "2:6: source can't be a URL for COPY"),
        (
            "ADD https://h/r.git?x=1 /",
            "2:5: `https://h/r.git?x=1` is no address of a Git repository",
        ),
        ("ADD --checksum=md5:1 http://h/x /", "2:22: unsupported checksum `md5:1`"),
        ("ADD --checksum=sha256:1 x /", "2:16: checksum requires HTTP(S) or Git sources"),
        ("ADD --checksum=sha256:1 x y /", "2:16: checksum can't be specified for multiple sources"),
        (
            "COPY --chmod=64a x /",
            "2:14: invalid chmod parameter: '64a'. it should be octal string and between 0 and 07777",
        ),
        ("COPY ${X:?no} /", "2:6: X: no"),
    ] {
        assert_eq!(error(&format!("FROM b\n{line}\n")), expected, "{line}");
    }
}
