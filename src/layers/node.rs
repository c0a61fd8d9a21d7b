//! One path of a tree as the kernel shows it, and what a layer would say about it.

use super::beneath::shown;
use super::whiteout::{self, DeviceNode};
use super::{Entry, EntryKind};
use crate::error::{ErrorKind, Result};
use crate::sys::SysResultExt;
use crate::sys::fs::{self, Kind, Stat};
use crate::sys::owners;
use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;

/// Everything that was read about a path, private attributes included.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) stat: Stat,
    /// All attributes that could be seen, sorted.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Target of a symbolic link.
    target: Vec<u8>,
    /// Whose it is, where owners are kept as well as where they are set.
    owner: (u32, u32),
}

impl Node {
    /// Reads attributes and link target of `name`, whose `lstat` is `stat`. `path` is for messages.
    pub(super) fn read(dir: BorrowedFd<'_>, name: &[u8], stat: Stat, path: &[u8]) -> Result<Self> {
        let message = || format!("cannot read {}", shown(path));
        let owner = owners::of_name(dir, name, &stat).or_error(ErrorKind::Environment, message)?;
        let mut node = Self { stat, xattrs: Vec::new(), target: Vec::new(), owner };
        if stat.kind == Kind::Symlink {
            // Links have none of the attributes that a layer keeps.
            node.target = fs::readlink(dir, name).or_error(ErrorKind::Environment, message)?;
        } else if represented(&stat) {
            node.xattrs = fs::list_xattrs(dir, name).or_error(ErrorKind::Environment, message)?;
        }
        Ok(node)
    }

    /// Inode and the device that holds it.
    pub(super) fn inode(&self) -> (u64, u64) {
        (self.stat.dev, self.stat.ino)
    }

    /// What a layer says about it; `None` for what no layer can hold (sockets, overlayfs's deletion marks).
    /// With `placeholders`, a file that stands for a device is that device.
    pub(super) fn entry(&self, placeholders: bool) -> Option<Entry> {
        let stat = &self.stat;
        let (major, minor) = stat.rdev;
        let mut mode = stat.mode;
        let kind = match stat.kind {
            _ if !represented(stat) => return None,
            Kind::Socket => return None,
            Kind::File => match whiteout::placeholder(&self.xattrs).filter(|_| placeholders) {
                Some(DeviceNode { block, major, minor, mode: recorded }) => {
                    mode = recorded;
                    if block {
                        EntryKind::BlockDevice { major, minor }
                    } else {
                        EntryKind::CharDevice { major, minor }
                    }
                }
                None => EntryKind::File { size: stat.size },
            },
            Kind::Directory => EntryKind::Directory,
            Kind::Symlink => {
                // Permission bits of a link mean nothing and depend on the file system.
                mode = 0o777;
                EntryKind::Symlink { target: self.target.clone() }
            }
            Kind::CharDevice => EntryKind::CharDevice { major, minor },
            Kind::BlockDevice => EntryKind::BlockDevice { major, minor },
            Kind::Fifo => EntryKind::Fifo,
        };
        let public = self.xattrs.iter().filter(|(name, _)| !whiteout::is_private_xattr(name));
        Some(Entry {
            kind,
            mode,
            uid: self.owner.0,
            gid: self.owner.1,
            mtime: stat.mtime,
            xattrs: public.cloned().collect(),
        })
    }
}

/// False for what no layer can hold.
pub(super) fn represented(stat: &Stat) -> bool {
    stat.kind != Kind::Socket && !whiteout::is_whiteout_node(stat)
}

/// Buffer for reading bodies.
const CHUNK: usize = 128 * 1024;

/// True when two files have the same bytes. Both were just seen to have the same size.
pub(super) fn same_content(mut a: File, mut b: File) -> std::io::Result<bool> {
    let (mut left, mut right) = (vec![0_u8; CHUNK], vec![0_u8; CHUNK]);
    loop {
        let n = a.read(&mut left)?;
        if n == 0 {
            return Ok(b.read(&mut right[..1])? == 0);
        }
        if let Err(error) = b.read_exact(&mut right[..n]) {
            let short = error.kind() == std::io::ErrorKind::UnexpectedEof;
            return if short { Ok(false) } else { Err(error) };
        }
        if left[..n] != right[..n] {
            return Ok(false);
        }
    }
}

/// SHA-256 of a file's bytes.
pub(super) fn content_hash(mut file: File) -> std::io::Result<[u8; 32]> {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    let mut buffer = vec![0_u8; CHUNK];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            n => hash.update(&buffer[..n]),
        }
    }
}
