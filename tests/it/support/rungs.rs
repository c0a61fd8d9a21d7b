//! The ways in which this machine can build: user, isolation, ids, snapshots.

use super::{Said, Who, World};

/// One way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rung {
    pub who: Who,
    pub flags: &'static [&'static str],
}

const fn rung(who: Who, flags: &'static [&'static str]) -> Rung {
    Rung { who, flags }
}

/// One of each isolation.
pub const RUNGS: &[Rung] = &[
    rung(Who::Root, &[]),
    rung(Who::Root, &["--isolation", "shared-pid"]),
    rung(Who::Root, &["--isolation", "chroot"]),
    rung(Who::User, &[]),
    rung(Who::User, &["--isolation", "shared-pid", "--snapshots", "whole"]),
    rung(Who::User, &["--ids", "single"]),
];

/// Isolations with id modes and ways to keep trees; the first is what the others are compared with.
pub const MATRIX: &[Rung] = &[
    rung(Who::Root, &[]),
    rung(Who::Root, &["--snapshots", "whole"]),
    rung(Who::Root, &["--snapshots", "memory"]),
    rung(Who::Root, &["--isolation", "shared-pid"]),
    rung(Who::Root, &["--isolation", "chroot"]),
    rung(Who::Root, &["--ids", "range"]),
    rung(Who::Root, &["--ids", "range", "--isolation", "shared-pid", "--snapshots", "whole"]),
    rung(Who::User, &[]),
    rung(Who::User, &["--snapshots", "whole"]),
    rung(Who::User, &["--isolation", "shared-pid"]),
];

/// Those that differ from these in only one thing.
pub const MORE: &[Rung] = &[
    rung(Who::Root, &["--isolation", "shared-pid", "--snapshots", "whole"]),
    rung(Who::Root, &["--ids", "range", "--isolation", "shared-pid"]),
    rung(Who::Root, &["--ids", "range", "--snapshots", "memory"]),
    rung(Who::User, &["--snapshots", "memory"]),
    rung(Who::User, &["--isolation", "shared-pid", "--snapshots", "whole"]),
];

/// The same with one id.
pub const SINGLE: &[Rung] = &[
    rung(Who::Root, &["--ids", "single"]),
    rung(Who::Root, &["--ids", "single", "--isolation", "chroot"]),
    rung(Who::User, &["--ids", "single"]),
    rung(Who::User, &["--ids", "single", "--snapshots", "whole"]),
    rung(Who::User, &["--ids", "single", "--isolation", "shared-pid"]),
];

impl Rung {
    /// A world of its user; none where there is no such user.
    pub fn world(&self) -> Option<World> {
        match self.who {
            Who::Root => World::root(),
            Who::User => World::user(),
        }
    }

    /// Builds the context with this Dockerfile.
    pub fn build(&self, world: &World, dockerfile: &str, args: &[&str]) -> Said {
        world.build(dockerfile, &[self.flags, args].concat())
    }
}
