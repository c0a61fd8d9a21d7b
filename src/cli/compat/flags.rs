//! The table for `nativebuild build`: options of docker, buildx, buildah and podman that do nothing here.

use super::Fate::{Granted, Ignored, Refused};
use super::Takes::{Maybe, Nothing, Value};
use super::{Foreign, Table};

const LIMITS: &str = "RUNs share the builder's processors and memory";
const AGE: &str = "steps do not get too old; `prune --older-than` removes old ones";
const LAYERS: &str = "every step keeps its layer";
const ATTESTATIONS: &str = "no attestations are made for now";
const NO_DAEMON: &str = "there is no daemon and no other runtime";
const SANDBOX: &str = "the sandbox of RUN has namespaces of its own";
const RESOLVER: &str =
    "a RUN has the search domains and the options in /etc/resolv.conf of this machine";
const RETRIES: &str = "registries are asked again anyway";
const CREDS: &str =
    "say for which registry: `--registry-creds REGISTRY=USER:PASSWORD`, or use `nativebuild login`";

/// Options of the `build` commands of other tools.
#[derive(Debug)]
pub struct BuildTable;

impl Table for BuildTable {
    const FLAGS: &'static [Foreign] = &[
        flag!("add-history", Nothing, Granted),
        flag!("all-platforms", Nothing, Refused("name the platforms with `--platform`")),
        flag!("attest", Value, Ignored(ATTESTATIONS))
            .granted(&["type=provenance,disabled=true", "type=sbom,disabled=true"]),
        flag!("builder", Value, Ignored(NO_DAEMON)),
        flag!("cache-ttl", Value, Ignored(AGE)),
        flag!("cap-add", Value, Refused("a RUN has Docker's default capabilities")),
        flag!("cap-drop", Value, Refused("a RUN has Docker's default capabilities")),
        flag!("cgroup-parent", Value, Ignored(LIMITS)),
        flag!("cgroupns", Value, Ignored(SANDBOX)),
        flag!("compress", Nothing, Granted),
        flag!("cpp-flag", Value, Refused("run the preprocessor before")),
        flag!("cpu-period", Value, Ignored(LIMITS)),
        flag!("cpu-quota", Value, Ignored(LIMITS)),
        flag!("cpu-shares", Value, Ignored(LIMITS)).short('c'),
        flag!("cpus", Value, Ignored(LIMITS)),
        flag!("cpuset-cpus", Value, Ignored(LIMITS)),
        flag!("cpuset-mems", Value, Ignored(LIMITS)),
        flag!("creds", Value, Refused(CREDS)),
        flag!("debug", Nothing, Granted),
        flag!("decryption-key", Value, Refused("decrypt the base image before")),
        flag!("device", Value, Refused("")),
        flag!("disable-compression", Nothing, Granted).short('D'),
        flag!("dns", Value, Refused("a RUN has the name servers of its network")),
        flag!("dns-option", Value, Refused(RESOLVER)),
        flag!("dns-search", Value, Refused(RESOLVER)),
        flag!("env", Value, Refused("write an ENV into the Dockerfile")),
        flag!("force-rm", Maybe, Granted),
        flag!("from", Value, Refused("write `ARG BASE` and `FROM $BASE`, and use `--build-arg`")),
        flag!("hooks-dir", Value, Ignored(NO_DAEMON)),
        flag!("http-proxy", Maybe, Ignored("proxies come with `--build-arg`")).granted(&["false"]),
        flag!("identity-label", Maybe, Ignored("no label names the builder")).granted(&["false"]),
        flag!("ipc", Value, Ignored(SANDBOX)),
        flag!("layers", Maybe, Ignored(LAYERS)).granted(&["", "true"]),
        flag!("logfile", Value, Ignored("progress goes to standard error")),
        flag!("logsplit", Nothing, Ignored("progress goes to standard error")),
        flag!(
            "manifest",
            Value,
            Refused("several platforms make an index by themselves: `-t NAME`")
        ),
        flag!("memory", Value, Ignored(LIMITS)).short('m'),
        flag!("memory-swap", Value, Ignored(LIMITS)),
        flag!("no-hosts", Nothing, Ignored("/etc/hosts of a RUN is never in the image")),
        flag!("omit-history", Nothing, Refused("")),
        flag!("os-feature", Value, Refused("")),
        flag!("os-version", Value, Refused("")),
        flag!("pid", Value, Ignored(SANDBOX)),
        flag!("policy", Value, Refused("")),
        flag!("provenance", Value, Ignored(ATTESTATIONS)).granted(&["false"]),
        flag!("retry", Value, Ignored(RETRIES)),
        flag!("retry-delay", Value, Ignored(RETRIES)),
        flag!("rewrite-timestamp", Maybe, Granted),
        flag!("rm", Maybe, Granted),
        flag!("runtime", Value, Ignored(NO_DAEMON)),
        flag!("runtime-flag", Value, Ignored(NO_DAEMON)),
        flag!("sbom", Value, Ignored(ATTESTATIONS)).granted(&["false"]),
        flag!("security-opt", Value, Ignored("every RUN has Docker's default seccomp profile")),
        flag!("sign-by", Value, Refused("sign the image afterwards")),
        flag!("skip-unused-stages", Maybe, Ignored("only stages that are needed are built"))
            .granted(&["", "true"]),
        flag!("squash", Nothing, Ignored(LAYERS)),
        flag!("squash-all", Nothing, Ignored(LAYERS)),
        flag!("stdin", Nothing, Ignored("standard input of a RUN is empty")),
        flag!("unsetenv", Value, Refused("")),
        flag!("unsetlabel", Value, Refused("")),
        flag!("userns", Value, Ignored(SANDBOX)),
        flag!("userns-gid-map", Value, Ignored(SANDBOX)),
        flag!("userns-gid-map-group", Value, Ignored(SANDBOX)),
        flag!("userns-uid-map", Value, Ignored(SANDBOX)),
        flag!("userns-uid-map-user", Value, Ignored(SANDBOX)),
        flag!("uts", Value, Ignored(SANDBOX)),
        flag!("volume", Value, Refused("use `RUN --mount=type=bind`")).short('v'),
    ];
}
