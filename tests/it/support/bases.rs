//! Base images made by `scripts/make-base-images`, once for all test runs of a target directory.

use super::{Said, have, is_root, peer};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A path of the project.
pub fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The directory with `NAME.tar` and `NAME.oci` of both base images; none where they cannot be made.
pub fn bases() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bases");
    let made =
        dir.join("busybox.oci/index.json").exists() && dir.join("debian.oci/index.json").exists();
    if !made {
        if !have("root", is_root()) || !peer("mmdebstrap") {
            return None;
        }
        let output = Command::new(project("scripts/make-base-images")).arg(&dir).output();
        Said::of(output.unwrap()).ok();
    }
    Some(dir)
}
