//! `nativebuild with-rootfs`: words → [`crate::build::rootfs`]; its exit code is the program's.

use super::args::WithRootfsArgs;
use super::export::base;
use super::need::{self, Need};
use super::{access, location, platform};
use crate::build::rootfs::{self, Work};
use crate::build::worker::Worker;
use crate::cli::environment::Environment;
use crate::cli::report::Style;
use crate::error::Result;
use crate::executor::emulation::Places;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

pub(in crate::cli) fn run(
    args: WithRootfsArgs,
    environment: &Environment,
    style: Style,
) -> Result<u8> {
    let opened = need::open(Need::All, &args.place, environment)?;
    let store = &opened.store;
    let access = access(store, &args.place, environment, style)?;
    let wanted = platform(args.platform.as_deref())?;
    let base = base(store, &access, &location(&args.image)?, wanted.as_ref())?;
    let account = args.isolation.account(environment, access.emitter())?;
    let worker = Worker::enter(store, &account, &Places::default())?;
    let env = environment.all().iter().cloned();
    let work = Work {
        writable: args.rw,
        layer: args.layer,
        before: args.pre.map(OsString::into_vec),
        after: args.post.map(OsString::into_vec),
        argv: args.program.into_iter().map(OsString::into_vec).collect(),
        env: env.map(|(name, value)| (name.into_vec(), value.into_vec())).collect(),
    };
    let ended = rootfs::with(store, &base, &worker, &work)?;
    Ok(u8::try_from(ended.code()).unwrap_or(1))
}
