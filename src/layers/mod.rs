//! Trees ⇄ layer blobs: what changed, as data, and its tar form.
//!
//! The whole room speaks one language, the canonical change stream (design §5): a list of [`Change`]s in
//! component-wise path order (`a`, `a/x`, `a-b`), parents always present before their children, deletions as typed
//! changes, a replaced directory as one deletion for each vanished lower name, entries equal to the lower ones left
//! out. Where the tree came from (overlay upper, scan, tar) is not visible in it. Only [`whiteout`] spells `.wh.`
//! names and overlayfs's private marks. Paths are bytes, relative, without `.`/`..`, no trailing slash.

pub mod ahead;
pub mod apply;
pub mod beforehand;
pub mod blocks;
pub mod compress;
pub mod diff;
pub mod entry_table;
pub mod flat;
pub mod fresh;
pub mod planned;
pub mod snapshot;
pub mod tar_read;
pub mod tar_stream;
pub mod tar_write;
pub mod times;
pub mod whiteout;

mod beneath;
mod bits;
mod body;
mod changes;
mod copy_tree;
mod cuts;
mod decompress;
mod gzip;
mod letters;
mod line;
mod node;
mod order;
mod pax;
mod place;
mod scan;
mod settle;
mod unite;
mod workers;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

pub use changes::Changes;

use times::TimePolicy;

/// Extended attribute in which a placeholder records the device node that it stands for (design §3): a user
/// namespace cannot make device nodes. Value: `c` or `b`, `:major:minor:mode(octal)`. Never enters a layer.
pub const PLACEHOLDER_XATTR: &str = "user.nativebuild.node";

/// A path inside an image: bytes, relative to its root, `/` between components.
pub type ImagePath = Vec<u8>;

/// One difference between a tree and the tree below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub path: ImagePath,
    /// What.
    pub kind: ChangeKind,
}

/// What happened at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// The path now is this (new or changed, or the unchanged parent directory of a change).
    Present(Entry),
    /// The path existed below and is gone.
    Deleted,
}

/// Metadata of one path, as a layer records it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Type and what belongs to it.
    pub kind: EntryKind,
    /// Permission bits with setuid, setgid and sticky (07777).
    pub mode: u32,
    /// Owner, as seen inside the image.
    pub uid: u32,
    /// Group, as seen inside the image.
    pub gid: u32,
    /// Modification time: seconds since 1970 (may be negative) and nanoseconds (0..1e9).
    pub mtime: (i64, u32),
    /// Extended attributes, sorted by name; never overlayfs's or our own.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// Whether a layer would say the same of this as it says of what is below.
    pub fn is_same(&self, below: &Self, times: &TimePolicy) -> bool {
        let Self { kind, mode, uid, gid, mtime, xattrs } = self;
        times.same(*mtime, below.mtime)
            && (kind, mode, uid, gid, xattrs)
                == (&below.kind, &below.mode, &below.uid, &below.gid, &below.xattrs)
    }
}

/// Type of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Regular file of this many bytes.
    File {
        /// Bytes.
        size: u64,
    },
    /// Directory.
    Directory,
    /// Symbolic link with its target, verbatim.
    Symlink {
        /// Target bytes.
        target: Vec<u8>,
    },
    /// Another name of a regular file (or other node) that comes earlier in the same stream.
    Hardlink {
        /// Path of that first name.
        target: ImagePath,
    },
    /// Character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// Block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// Named pipe.
    Fifo,
}

/// A finished layer blob.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Layer {
    /// Digest of the blob as stored.
    pub digest: crate::oci::Digest,
    /// Bytes of the blob.
    pub size: u64,
    /// Digest of the uncompressed tar.
    pub diff_id: crate::oci::DiffId,
    /// Media type of the blob.
    pub media_type: String,
}

/// Compares two paths component by component, as a sorted walk meets them: `a`, `a/x`, `a-b`.
pub fn path_order(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    a.split(|c| *c == b'/').cmp(b.split(|c| *c == b'/'))
}
