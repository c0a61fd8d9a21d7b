//! Extended attributes, by descriptor and name.

use super::{proc_path, show, xattrat};
use crate::sys::{Named, SysResult, owners};
use rustix::fs as rfs;
use rustix::io::Errno;
use std::os::fd::AsFd;

/// All extended attributes of a name (of a link itself) that this process may read, sorted by name.
pub fn list_xattrs(dir: impl AsFd, name: &[u8]) -> SysResult<Vec<(Vec<u8>, Vec<u8>)>> {
    let dir = dir.as_fd();
    let mut out = Vec::new();
    for key in xattr_names(dir, name)?.split(|b| *b == 0).filter(|key| !key.is_empty()) {
        if let Some(value) = get_xattr(dir, name, key)? {
            // One that could not be set stands under another name.
            let key = key.strip_prefix(owners::ATTRIBUTE_PREFIX).unwrap_or(key);
            out.push((key.to_vec(), value));
        }
    }
    out.sort();
    Ok(out)
}

/// Names of the extended attributes of a name (of a link itself) as the kernel gives them, each ended by NUL.
pub fn xattr_names(dir: impl AsFd, name: &[u8]) -> SysResult<Vec<u8>> {
    // Most files have none, and need no list on the heap.
    let (mut few, mut many) = ([0_u8; 256], Vec::new());
    loop {
        let names = if many.is_empty() { &mut few[..] } else { &mut many[..] };
        match xattrat::list(dir.as_fd(), name, names) {
            Ok(length) => return Ok(names[..length].to_vec()),
            Err(Errno::RANGE) => {
                let more = names.len() * 4;
                many.resize(more, 0);
            }
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(errno) => return Err(errno).named(|| format!("llistxattr({})", show(name))),
        }
    }
}

/// One extended attribute of a name (of a link itself); `None` when it is not there.
pub fn get_xattr(dir: impl AsFd, name: &[u8], key: &[u8]) -> SysResult<Option<Vec<u8>>> {
    let mut value = vec![0_u8; 256];
    loop {
        match xattrat::get(dir.as_fd(), name, key, &mut value) {
            Ok(len) => {
                value.truncate(len);
                return Ok(Some(value));
            }
            Err(Errno::RANGE) => value.resize(value.len() * 16, 0),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            Err(errno) => {
                return Err(errno).named(|| format!("lgetxattr({}, {})", show(name), show(key)));
            }
        }
    }
}

/// Sets an extended attribute of a name (of a link itself).
pub fn set_xattr(dir: impl AsFd, name: &[u8], key: &[u8], value: &[u8]) -> SysResult<()> {
    let path = proc_path(dir.as_fd(), name);
    let set = |key: &[u8]| rfs::lsetxattr(&path[..], key, value, rfs::XattrFlags::empty());
    let set = match set(key) {
        Err(Errno::PERM) if owners::is_all_kept() => set(&[owners::ATTRIBUTE_PREFIX, key].concat()),
        other => other,
    };
    set.named(|| format!("lsetxattr({}, {})", show(name), show(key)))
}

/// Removes an extended attribute of a name (of a link itself).
pub fn remove_xattr(dir: impl AsFd, name: &[u8], key: &[u8]) -> SysResult<()> {
    let path = proc_path(dir.as_fd(), name);
    rfs::lremovexattr(&path[..], key)
        .named(|| format!("lremovexattr({}, {})", show(name), show(key)))
}
