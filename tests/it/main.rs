//! All integration tests in one binary: the program as a user runs it, as root and as an ordinary user.
//!
//! A test whose need is absent says so and passes, unless `NATIVEBUILD_REQUIRE` names the need (as CI does); then it fails.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a test binary has no users")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test may stop at once and reads its own environment"
)]

mod support;

mod assemble;
mod attacks;
mod basics;
mod cached;
mod care;
mod checks;
mod clocks;
mod conformance;
mod contexts;
mod debug;
mod depth;
mod diamond;
mod differential;
mod dockertools;
mod doctor;
mod downloads;
mod edits;
mod emulated_builds;
mod emulation;
mod emulators;
mod entitlements;
mod environments;
mod errors;
mod explain;
mod faults;
mod following;
mod forms;
mod handlers;
mod hostile;
mod images;
mod index;
mod interrupted;
mod killed;
mod lean;
mod links;
mod linuxkit;
mod linuxkit_images;
mod linuxkit_packages;
mod linuxkit_push;
mod linuxkit_registry;
mod load;
mod logins;
mod many_files;
mod matrix;
mod mounts;
mod network;
mod offline;
mod options;
mod outputs;
mod packages;
mod packing;
mod peers;
mod planned;
mod platforms;
mod podman;
mod projects;
mod push;
mod registries;
mod registry_faults;
mod registry_peers;
mod remote;
mod reproducible;
mod results;
mod runs;
mod sandbox;
mod scheduling;
mod secrets;
mod sharing_basics;
mod sharing_killed;
mod sharing_kinds;
mod sharing_lies;
mod sharing_mounts;
mod sharing_silence;
mod single_ids;
mod statements;
mod timings;
mod transport;
mod transports;
mod unpacking;
mod unread;
mod verbs_archive;
mod verbs_diff;
mod verbs_export;
mod verbs_pull;
mod verbs_rootfs;
