//! The mounts of `RUN --mount`, made ready for a sandbox or put into a tree by hand.

use super::bind_copies::Copied;
use super::caches::{CacheMounts, Note};
use super::devices::Edits;
use super::secrets::{Placed, Private};
use crate::error::{Error, ErrorKind, Result};
use crate::executor::Bequest;
use crate::executor::mounts::{DEVICES, MountOp};
use crate::executor::plant::{Garden, Thing};
use crate::sys::fs::{self};
use crate::sys::mount::{self, MountFlags};
use crate::sys::{SysResultExt, root};
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The mounts of `RUN --mount`, ready to attach, or to be put into a tree by hand where nothing can be mounted.
#[derive(Debug, Default)]
pub(super) struct Binds {
    by_hand: bool,
    list: Vec<Bind>,
    /// Held until the RUN is over.
    caches: CacheMounts,
    /// Copies that go away afterwards.
    copies: Vec<Arc<Copied>>,
    /// Secrets and agents.
    private: Private,
    env: Vec<(String, String)>,
    groups: Vec<u32>,
}

#[derive(Debug)]
struct Bind {
    target: String,
    is_dir: bool,
    source: Source,
}

/// True for a target in the /dev that every sandbox makes anew: it is not missing in the rootfs but there.
fn is_in_dev(target: &str) -> bool {
    target.starts_with("/dev/")
}

#[derive(Debug)]
enum Source {
    Mount(OwnedFd),
    /// Size and mode.
    Tmpfs(Option<u64>, u32),
    /// A file or directory of the store that is moved into the tree, and back when it is not a copy for this RUN alone.
    Path(PathBuf, bool),
    /// What is moved into the tree to this path already, since nothing can be in two places.
    Link(String),
    /// A device node like this one.
    Device((u32, u32)),
}

impl Binds {
    /// None yet. `by_hand`: nothing can be mounted.
    pub(super) fn new(by_hand: bool) -> Self {
        Self { by_hand, ..Self::default() }
    }

    /// What must not stay in a tree whatever happens, innermost first.
    pub(super) fn bequest(&mut self) -> Vec<Bequest> {
        self.list.sort_by_key(|bind| bind.target.matches('/').count());
        let list = self.list.iter().rev();
        list.filter_map(|bind| match &bind.source {
            Source::Path(path, back) if *back || !bind.is_dir => {
                Some(Bequest { path: bind.target.clone(), home: back.then(|| path.clone()) })
            }
            _ => None,
        })
        .collect()
    }

    /// Puts everything into a tree, outer targets before those inside them.
    pub(super) fn plant(
        &mut self,
        garden: &mut Garden,
        store: &Path,
        snapshot: &str,
    ) -> Result<Vec<Note>> {
        self.list.sort_by_key(|bind| bind.target.matches('/').count());
        let mut notes = Vec::new();
        for bind in self.list.drain(..) {
            let what = || format!("cannot put what is mounted on `{}` into the tree", bind.target);
            let thing = match bind.source {
                Source::Mount(_) => return Err(Error::internal("a mount where there are none")),
                Source::Tmpfs(_, mode) => Thing::NewDirectory(mode),
                Source::Link(place) => Thing::Link(place),
                Source::Device(number) => Thing::Device { number, mode: 0o666 },
                Source::Path(path, back) => {
                    if back {
                        notes.push(Note::leave(store, &path, snapshot, &bind.target)?);
                    }
                    let dir = fs::open_dir_path(path.parent().unwrap_or(&path));
                    let dir = dir.or_error(ErrorKind::Environment, what)?;
                    let name = path.file_name().unwrap_or_default().as_bytes().to_vec();
                    Thing::Moved { dir, name, back }
                }
            };
            garden.put(&bind.target, thing).or_error(ErrorKind::Environment, what)?;
        }
        Ok(notes)
    }

    /// Targets that must exist: path, true for a directory.
    pub(super) fn targets(&self) -> Vec<(String, bool)> {
        let list = self.list.iter().filter(|bind| !is_in_dev(&bind.target));
        list.map(|bind| (bind.target.clone(), bind.is_dir)).collect()
    }

    /// Adds the mounts to the list of a sandbox, outer ones before those inside them, whatever order the flags have.
    /// What keeps them alive stays in `self`, which the caller holds.
    pub(super) fn append(&mut self, list: &mut Vec<MountOp>, fds: &mut Vec<OwnedFd>) {
        let mut made = BTreeSet::new();
        let several = self.list.len() > 1;
        self.list.sort_by_key(|bind| bind.target.matches('/').count());
        for bind in self.list.drain(..) {
            let target = bind.target;
            if is_in_dev(&target) {
                make_in_dev(&target, bind.is_dir, &mut made, list);
            } else if several {
                // Nothing to do unless an earlier one hid what the rootfs has.
                list.push(MountOp::Point { path: target.clone(), is_dir: bind.is_dir });
            }
            match bind.source {
                // Only where nothing can be mounted.
                Source::Path(..) | Source::Link(_) | Source::Device(_) => {}
                Source::Mount(mount) => {
                    list.push(MountOp::Given { fd: fds.len(), target });
                    fds.push(mount);
                }
                Source::Tmpfs(size, mode) => {
                    let mut options = vec![("mode".to_owned(), format!("{mode:o}"))];
                    options.extend(size.map(|size| ("size".to_owned(), size.to_string())));
                    let flags = MountFlags { nosuid: true, nodev: true, ..MountFlags::default() };
                    let kind = "tmpfs".to_owned();
                    list.push(MountOp::Fresh { kind, options, flags, target });
                }
            }
        }
    }

    /// A tmpfs of at most `size` bytes.
    pub(super) fn add_tmpfs(&mut self, target: &str, size: Option<u64>) {
        let source = Source::Tmpfs(size, 0o755);
        self.list.push(Bind { target: target.to_owned(), is_dir: true, source });
    }

    /// A tmpfs in which everybody may write.
    pub(super) fn add_shared_tmpfs(&mut self, target: &str) {
        let source = Source::Tmpfs(None, 0o1777);
        self.list.push(Bind { target: target.to_owned(), is_dir: true, source });
    }

    /// A path of the host (a private copy or a cache), without devices.
    pub(super) fn add_path(
        &mut self,
        target: &str,
        path: &Path,
        read_only: bool,
        copy: Option<Arc<Copied>>,
    ) -> Result<()> {
        let what = || format!("cannot mount on `{target}`");
        if self.by_hand {
            self.add_moved(target, path, copy.is_none());
            self.copies.extend(copy);
            return Ok(());
        }
        let clone = mount::clone_tree_path(path, false).or_error(ErrorKind::Environment, what)?;
        self.copies.extend(copy);
        self.add_mount(target, clone, read_only)
    }

    /// What lies at `inside` below a cache; links in it lead nowhere else.
    pub(super) fn add_inside(
        &mut self,
        target: &str,
        path: &Path,
        inside: &str,
        read_only: bool,
    ) -> Result<()> {
        if inside.is_empty() {
            return self.add_path(target, path, read_only, None);
        }
        let what = || format!("cannot mount on `{target}`");
        let cache = fs::open_dir_path(path).or_error(ErrorKind::Environment, what)?;
        if self.by_hand {
            let found = root::canonical(&cache, inside.as_bytes());
            let (inside, there) = found.or_error(ErrorKind::Environment, what)?;
            if !there {
                let message = format!("`{}` is not in the cache", String::from_utf8_lossy(&inside));
                return Err(Error::dockerfile(message));
            }
            self.add_moved(target, &path.join(std::ffi::OsStr::from_bytes(&inside)), true);
            return Ok(());
        }
        let found = root::open_path(&cache, inside.as_bytes()).map_err(|error| {
            Error::dockerfile(format!("`{inside}` is not in the cache")).cause(error)
        })?;
        let clone = mount::clone_tree(&found, b"", false).or_error(ErrorKind::Environment, what)?;
        self.add_mount(target, clone, read_only)
    }

    fn add_moved(&mut self, target: &str, path: &Path, back: bool) {
        let is_dir = path.is_dir();
        let place = if back { self.place_of(path) } else { None };
        let source = place.map_or_else(|| Source::Path(path.to_owned(), back), Source::Link);
        self.list.push(Bind { target: target.to_owned(), is_dir, source });
    }

    /// Where something of a cache will be in the tree when an earlier mount of the RUN brings it.
    fn place_of(&self, path: &Path) -> Option<String> {
        self.list.iter().find_map(|bind| {
            let Source::Path(moved, true) = &bind.source else { return None };
            let inside = path.strip_prefix(moved).ok()?.to_str()?;
            Some(root_clean(&format!("{}/{inside}", bind.target)))
        })
    }

    fn add_mount(&mut self, target: &str, mount: OwnedFd, read_only: bool) -> Result<()> {
        let what = || format!("cannot mount on `{target}`");
        let flags = MountFlags { read_only, nosuid: true, nodev: true, noexec: false };
        mount::set_flags(&mount, flags, false).or_error(ErrorKind::Environment, what)?;
        let is_dir = fs::fstat(&mount).or_error(ErrorKind::Environment, what)?.is_dir();
        self.list.push(Bind { target: target.to_owned(), is_dir, source: Source::Mount(mount) });
        Ok(())
    }

    /// A file or directory of this machine with all that is mounted below it, only to be read.
    pub(super) fn add_host(&mut self, target: &str, path: &Path) -> Result<()> {
        let what = || format!("cannot show {} to a command", path.display());
        let clone = mount::clone_tree_path(path, true).or_error(ErrorKind::Environment, what)?;
        let flags = MountFlags { read_only: true, nosuid: true, ..MountFlags::default() };
        mount::set_flags(&clone, flags, true).or_error(ErrorKind::Environment, what)?;
        let is_dir = fs::fstat(&clone).or_error(ErrorKind::Environment, what)?.is_dir();
        let target = root_clean(target);
        self.list.push(Bind { target, is_dir, source: Source::Mount(clone) });
        Ok(())
    }

    /// A tree to be written.
    pub(super) fn add_tree(&mut self, target: &str, tree: &OwnedFd) -> Result<()> {
        let what = || format!("cannot mount on `{target}`");
        let clone = mount::clone_tree(tree, b"", false).or_error(ErrorKind::Environment, what)?;
        self.add_mount(target, clone, false)
    }

    /// Secrets and agents, with their variables.
    pub(super) fn add_private(&mut self, mut private: Private) {
        for (target, file) in private.files.drain(..) {
            let source = match file {
                Placed::Mount(mount) => Source::Mount(mount),
                Placed::File(path) => Source::Path(path, false),
            };
            self.list.push(Bind { target, is_dir: false, source });
        }
        self.env.append(&mut private.env);
        self.private = private;
    }

    /// Groups that come with devices.
    pub(super) fn groups(&self) -> &[u32] {
        &self.groups
    }

    /// Variables that come with the mounts.
    pub(super) fn env(&self) -> &[(String, String)] {
        &self.env
    }

    /// Everything that a device brings: nodes, mounts, variables, groups.
    pub(super) fn add_edits(&mut self, edits: &Edits) -> Result<()> {
        let node = MountFlags { nosuid: true, noexec: true, ..MountFlags::default() };
        for device in &edits.device_nodes {
            self.add_device(&device.path, Path::new(device.host()), node)?;
        }
        for mount in &edits.mounts {
            let read_only = mount.is_read_only();
            let flags = MountFlags { read_only, nosuid: true, nodev: true, noexec: false };
            self.add_device(&mount.container_path, Path::new(&mount.host_path), flags)?;
        }
        let pair = |text: &String| text.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
        self.env.extend(edits.env.iter().filter_map(pair));
        self.groups.extend(&edits.additional_gids);
        Ok(())
    }

    /// A device node of this machine, or a file or directory that belongs to a device.
    pub(super) fn add_device(
        &mut self,
        target: &str,
        host: &Path,
        flags: MountFlags,
    ) -> Result<()> {
        let what = || format!("cannot show {} to a command", host.display());
        if self.by_hand {
            let node = fs::lstat(rustix::fs::CWD, host.as_os_str().as_bytes());
            let node = node.or_error(ErrorKind::Environment, what)?;
            if node.kind != fs::Kind::CharDevice {
                let cause = "it is no character device, and nothing can be mounted here";
                return Err(Error::environment(what()).cause(cause));
            }
            let source = Source::Device(node.rdev);
            self.list.push(Bind { target: root_clean(target), is_dir: false, source });
            return Ok(());
        }
        let clone = mount::clone_tree_path(host, false).or_error(ErrorKind::Environment, what)?;
        mount::set_flags(&clone, flags, false).or_error(ErrorKind::Environment, what)?;
        let is_dir = fs::fstat(&clone).or_error(ErrorKind::Environment, what)?.is_dir();
        let target = root_clean(target);
        self.list.push(Bind { target, is_dir, source: Source::Mount(clone) });
        Ok(())
    }

    /// Holds the locks of cache mounts until the RUN is over.
    pub(super) fn hold(&mut self, caches: CacheMounts) {
        self.caches = caches;
    }
}

/// An absolute path without `.`, `..` and doubled slashes.
fn root_clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Makes what a mount below /dev needs to stand on.
fn make_in_dev(target: &str, is_dir: bool, made: &mut BTreeSet<String>, list: &mut Vec<MountOp>) {
    let own = ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/pipes"];
    let inner = target.match_indices('/').map(|(at, _)| &target[..at]);
    for dir in inner.filter(|dir| dir.len() > "/dev".len() && !own.contains(dir)) {
        if made.insert(dir.to_owned()) {
            list.push(MountOp::Directory { path: dir.to_owned(), mode: 0o755 });
        }
    }
    let there = DEVICES.iter().any(|name| target.strip_prefix("/dev/") == Some(name));
    if !there && !own.contains(&target) && made.insert(target.to_owned()) {
        let path = target.to_owned();
        list.push(if is_dir {
            MountOp::Directory { path, mode: 0o755 }
        } else {
            MountOp::File { path }
        });
    }
}
