//! Mount targets that the rootfs does not have, and the mounts of `RUN --mount`.
//!
//! A missing target is made in a directory of its own that lies between the base and the upper directory of the
//! overlay. So it exists for the RUN, and nothing has to be taken out of the layer afterwards (design §10.10).

use super::care;
use super::devices::Edits;
use super::secrets::{Placed, Private};
use super::store::Store;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::executor::Bequest;
use crate::executor::mounts::{DEVICES, MountOp};
use crate::executor::plant::{Garden, Thing};
use crate::executor::sandbox::Cancel;
use crate::layers::whiteout;
use crate::oci::Digest;
use crate::plan::step::CacheSharing;
use crate::sys::fs::{self, Stat};
use crate::sys::mount::{self, MountFlags};
use crate::sys::{SysResult, SysResultExt, owners, root};
use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Makes what is missing of `points` (path, true for a directory) below `dir`; `None` when nothing is missing.
/// Directories that the rootfs has are repeated with their metadata, since the topmost one decides.
pub(super) fn make_stubs(
    lower: BorrowedFd<'_>,
    points: &[(String, bool)],
    dir: &Path,
) -> Result<Option<OwnedFd>> {
    let mut missing = Vec::new();
    for (path, is_dir) in points {
        let found = root::canonical(lower, path.as_bytes())
            .or_error(ErrorKind::Image, || format!("cannot find the mount target `{path}`"))?;
        if !found.1 {
            missing.push((found.0, *is_dir));
        }
    }
    if missing.is_empty() {
        return Ok(None);
    }
    let what = || "cannot make mount targets".to_owned();
    std::fs::create_dir(dir).or_error(ErrorKind::Environment, what)?;
    let stubs = fs::open_dir_path(dir).or_error(ErrorKind::Environment, what)?;
    let mut repeated = Vec::new();
    let made = (|| -> SysResult<()> {
        if let Some(stat) = root::stat_opt(lower, b"")? {
            repeat(lower, &stubs, b".", &stat)?;
            repeated.push((b".".to_vec(), stat));
        }
        for (path, is_dir) in &missing {
            make_stub(lower, &stubs, path, *is_dir, &mut repeated)?;
        }
        // Making entries changed the times; deepest first.
        for (path, stat) in repeated.iter().rev() {
            fs::set_mtime(&stubs, path, stat.mtime)?;
        }
        Ok(())
    })();
    made.or_error(ErrorKind::Environment, what)?;
    Ok(Some(stubs))
}

fn make_stub(
    lower: BorrowedFd<'_>,
    stubs: &OwnedFd,
    path: &[u8],
    is_dir: bool,
    repeated: &mut Vec<(Vec<u8>, Stat)>,
) -> SysResult<()> {
    let ends: Vec<usize> =
        (0..=path.len()).filter(|at| *at == path.len() || path[*at] == b'/').collect();
    for end in ends {
        let part = &path[..end];
        if fs::lstat_opt(stubs, part)?.is_some() {
            continue;
        }
        if end == path.len() && !is_dir {
            fs::create_new(stubs, part, 0o644)?;
            continue;
        }
        fs::mkdir(stubs, part, 0o755)?;
        // The mode again: mkdir's is cut by the umask of whoever builds.
        fs::chmod(stubs, part, 0o755)?;
        if let Some(stat) = root::lstat_opt(lower, part)?
            && stat.is_dir()
        {
            repeat(lower, stubs, part, &stat)?;
            repeated.push((part.to_vec(), stat));
        }
    }
    Ok(())
}

fn repeat(lower: BorrowedFd<'_>, stubs: &OwnedFd, path: &[u8], stat: &Stat) -> SysResult<()> {
    let (uid, gid) = owners::of_name(lower, path, stat)?;
    fs::lchown(stubs, path, uid, gid)?;
    fs::chmod(stubs, path, stat.mode)?;
    for (name, value) in fs::list_xattrs(lower, path)? {
        if whiteout::is_private_xattr(&name) {
            continue;
        }
        fs::set_xattr(stubs, path, &name, &value)?;
    }
    Ok(())
}

/// The mounts of `RUN --mount`, ready to attach, or to be put into a tree by hand where nothing can be mounted.
#[derive(Debug, Default)]
pub(super) struct Binds {
    by_hand: bool,
    list: Vec<Bind>,
    /// Held until the RUN is over.
    caches: CacheMounts,
    /// Copies that go away afterwards.
    copies: Vec<tempfile::TempDir>,
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
    Tmpfs(Option<u64>),
    /// A file or directory of the store that is moved into the tree, and back when it is not a copy for this RUN alone.
    Path(PathBuf, bool),
    /// A device node like this one.
    Device((u32, u32)),
}

impl Binds {
    /// None yet. `by_hand`: nothing can be mounted.
    pub(super) fn new(by_hand: bool) -> Self {
        Self { by_hand, ..Self::default() }
    }

    /// Puts everything into a tree, outer targets before those inside them; what must not stay there whatever happens is
    /// given back, innermost first.
    pub(super) fn plant(&mut self, garden: &mut Garden) -> Result<Vec<Bequest>> {
        self.list.sort_by_key(|bind| bind.target.matches('/').count());
        let mut bequest = Vec::new();
        for bind in self.list.drain(..) {
            let what = || format!("cannot put what is mounted on `{}` into the tree", bind.target);
            let thing = match bind.source {
                Source::Mount(_) => return Err(Error::internal("a mount where there are none")),
                Source::Tmpfs(_) => Thing::NewDirectory(0o755),
                Source::Device(number) => Thing::Device { number, mode: 0o666 },
                Source::Path(path, back) => {
                    if back || !bind.is_dir {
                        let home = back.then(|| path.clone());
                        bequest.push(Bequest { path: bind.target.clone(), home });
                    }
                    let dir = fs::open_dir_path(path.parent().unwrap_or(&path));
                    let dir = dir.or_error(ErrorKind::Environment, what)?;
                    let name = path.file_name().unwrap_or_default().as_bytes().to_vec();
                    Thing::Moved { dir, name, back }
                }
            };
            garden.put(&bind.target, thing).or_error(ErrorKind::Environment, what)?;
        }
        bequest.reverse();
        Ok(bequest)
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
                Source::Path(..) | Source::Device(_) => {}
                Source::Mount(mount) => {
                    list.push(MountOp::Given { fd: fds.len(), target });
                    fds.push(mount);
                }
                Source::Tmpfs(size) => {
                    let mut options = vec![("mode".to_owned(), "755".to_owned())];
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
        let source = Source::Tmpfs(size);
        self.list.push(Bind { target: target.to_owned(), is_dir: true, source });
    }

    /// A path of the host (a private copy or a cache), without devices.
    pub(super) fn add_path(
        &mut self,
        target: &str,
        path: &Path,
        read_only: bool,
        copy: Option<tempfile::TempDir>,
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
        let source = Source::Path(path.to_owned(), back);
        self.list.push(Bind { target: target.to_owned(), is_dir, source });
    }

    fn add_mount(&mut self, target: &str, mount: OwnedFd, read_only: bool) -> Result<()> {
        let what = || format!("cannot mount on `{target}`");
        let flags = MountFlags { read_only, nosuid: true, nodev: true, noexec: false };
        mount::set_flags(&mount, flags, false).or_error(ErrorKind::Environment, what)?;
        let is_dir = fs::fstat(&mount).or_error(ErrorKind::Environment, what)?.is_dir();
        self.list.push(Bind { target: target.to_owned(), is_dir, source: Source::Mount(mount) });
        Ok(())
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

/// The cache directories of one RUN, with the locks that their `sharing` asks for.
#[derive(Debug, Default)]
pub(super) struct CacheMounts {
    list: Vec<CacheMount>,
    by_hand: bool,
}

#[derive(Debug)]
struct CacheMount {
    id: String,
    sharing: CacheSharing,
    /// The directory may not exist yet.
    path: PathBuf,
    /// Held as long as the value lives.
    _lock: Option<File>,
}

impl CacheMounts {
    /// Takes the locks, in the order of the ids, so that two RUNs never wait for each other; each one once, so that a
    /// RUN never waits for itself.
    /// The ids are those of [`super::stage::Builder::cache_id`].
    pub(super) fn take(
        store: &Store,
        mut wanted: Vec<(String, CacheSharing)>,
        by_hand: bool,
        cancel: &Cancel,
    ) -> Result<Self> {
        if by_hand {
            // A directory that is moved about is only in one place.
            let shared = wanted.iter_mut().filter(|(_, sharing)| *sharing == CacheSharing::Shared);
            shared.for_each(|(_, sharing)| *sharing = CacheSharing::Locked);
        }
        wanted.sort_by(|a, b| (&a.0, a.1 as u8).cmp(&(&b.0, b.1 as u8)));
        wanted.dedup();
        let mut list = Vec::new();
        for (id, sharing) in wanted {
            let (path, lock) = cache_directory(store, &id, sharing, cancel)?;
            list.push(CacheMount { id, sharing, path, _lock: lock });
        }
        Ok(Self { list, by_hand })
    }

    /// The directory of a mount.
    pub(super) fn path(&self, id: &str, sharing: CacheSharing) -> Result<&Path> {
        self.list
            .iter()
            .find(|cache| cache.id == id && (cache.sharing == sharing || self.by_hand))
            .map(|cache| cache.path.as_path())
            .ok_or_else(|| Error::internal("a cache mount was not looked up"))
    }
}

fn cache_directory(
    store: &Store,
    id: &str,
    sharing: CacheSharing,
    cancel: &Cancel,
) -> Result<(PathBuf, Option<File>)> {
    // The id is hashed: it may hold `../` or anything else.
    let name = Digest::of(id.as_bytes()).hex()[..32].to_owned();
    for number in 0..1000 {
        let name = if number == 0 { name.clone() } else { format!("{name}-{number}") };
        let path = store.sub("mounts").join(&name);
        let what = || format!("cannot lock the cache mount `{id}`");
        let stamp = store.sub("locks").join(format!("mount-{name}"));
        let lock = File::options()
            .create(true)
            .append(true)
            .open(&stamp)
            .or_error(ErrorKind::Environment, what)?;
        // Its time says when the mount was used last.
        care::touch(&stamp);
        if sharing == CacheSharing::Shared {
            return Ok((path, None));
        }
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok((path, Some(lock))),
                Err(TryLockError::Error(error)) => {
                    return Err(error).or_error(ErrorKind::Environment, what);
                }
                Err(TryLockError::WouldBlock) if sharing == CacheSharing::Private => break,
                Err(TryLockError::WouldBlock) => {}
            }
            // No call that blocks: Ctrl-C must end the waiting.
            cancel.check()?;
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Err(Error::environment(format!("1000 builds use the private cache mount `{id}`")))
}
