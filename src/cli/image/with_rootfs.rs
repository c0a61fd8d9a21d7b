//! `nativebuild with-rootfs`: words → [`crate::build::rootfs`]; its exit code is the program's.

use super::args::{LOCATIONS, PlaceArgs};
use super::export::base;
use super::need::{self, Need};
use super::{access, location, platform};
use crate::build::rootfs::{self, Work};
use crate::build::worker::Worker;
use crate::cli::environment::Environment;
use crate::cli::isolation::IsolationArgs;
use crate::cli::report::Style;
use crate::error::Result;
use crate::executor::emulation::Places;
use clap::Args;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// `nativebuild with-rootfs`.
#[derive(Debug, Args)]
#[command(after_help = LOCATIONS)]
pub struct WithRootfsArgs {
    /// Image
    pub image: String,
    /// Let the program write to the tree; the image stays as it is
    #[arg(long)]
    pub rw: bool,
    /// Write what the program changed as a layer; `-` writes it to standard output
    #[arg(long, value_name = "PATH", requires = "rw")]
    pub layer: Option<PathBuf>,
    /// Text for the shell of this machine, run before the tree is mounted
    #[arg(long, value_name = "CMD")]
    pub pre: Option<OsString>,
    /// Text for the shell of this machine, run after the tree is unmounted
    #[arg(long, value_name = "CMD")]
    pub post: Option<OsString>,
    /// Which platform of an image for several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// How the tree is kept, and who its users are here.
    #[command(flatten)]
    pub isolation: IsolationArgs,
    /// Where things are.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Program of this machine and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub program: Vec<OsString>,
}

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
