//! `tar`: the members of an archive, as a layer has them: owners, times and attributes are its own, whiteouts remove.

use super::{Filler, relative};
use crate::assemble::place;
use crate::assemble::spec::TarContent;
use crate::assemble::tree::{Body, Node, Origin, OwnerNames, Tree, join, split};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::layers::compress::guarded;
use crate::layers::tar_read::{Limits, TarEntry, for_each};
use crate::layers::whiteout::Whiteout;
use crate::layers::{EntryKind, ImagePath};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::sync::Arc;

/// Where the bytes of an archive's files go: archives may be packed, and are read in order.
struct Spool {
    out: BufWriter<File>,
    file: Arc<File>,
    at: u64,
}

impl Filler<'_> {
    pub(super) fn tar(&mut self, origin: Origin, item: &TarContent) -> Result<()> {
        let shown = item.path.value.display().to_string();
        let placed = |error: Error| match error.place() {
            None => error.at(&self.spec.source, item.path.span),
            Some(_) => error,
        };
        let file = File::open(self.host(&item.path.value))
            .or_error(ErrorKind::Context, || format!("cannot read the archive `{shown}`"))
            .map_err(placed)?;
        let mut spool = Spool::new(self.tmp)?;
        let mut reader = Members {
            origin,
            item,
            groups: HashMap::new(),
            made: std::collections::HashSet::new(),
            opaque: std::collections::HashSet::new(),
            spool: &mut spool,
        };
        let limits = Limits::default();
        guarded(BufReader::with_capacity(256 << 10, file), limits.ratio)
            .and_then(|plain| {
                for_each(plain, &limits, |entry, body| reader.take(self, entry, body))
            })
            .map_err(|error| error.wrap(format!("cannot use the archive `{shown}`")))?;
        spool.finish()
    }
}

impl Spool {
    fn new(tmp: &std::path::Path) -> Result<Self> {
        let what = || "cannot make a temporary file in the store".to_owned();
        let file = tempfile::tempfile_in(tmp).or_error(ErrorKind::Environment, what)?;
        let copy = file.try_clone().or_error(ErrorKind::Environment, what)?;
        Ok(Self { out: BufWriter::with_capacity(256 << 10, file), file: Arc::new(copy), at: 0 })
    }

    fn keep(&mut self, body: &mut dyn Read) -> Result<Body> {
        let at = self.at;
        let what = || "cannot unpack an archive".to_owned();
        self.at += std::io::copy(body, &mut self.out).or_error(ErrorKind::Environment, what)?;
        Ok(Body::Part(Arc::clone(&self.file), at))
    }

    fn finish(mut self) -> Result<()> {
        let what = || "cannot unpack an archive".to_owned();
        self.out.flush().or_error(ErrorKind::Environment, what)?;
        self.out.rewind().or_error(ErrorKind::Environment, what)
    }
}

struct Members<'a> {
    origin: Origin,
    item: &'a TarContent,
    groups: HashMap<ImagePath, u64>,
    /// What this archive brought: its whiteouts only mean what is below.
    made: std::collections::HashSet<ImagePath>,
    /// Directories that show nothing of what is below the archive.
    opaque: std::collections::HashSet<ImagePath>,
    spool: &'a mut Spool,
}

impl Members<'_> {
    fn take(
        &mut self,
        filler: &mut Filler<'_>,
        member: &TarEntry,
        body: &mut dyn Read,
    ) -> Result<()> {
        if member.path.is_empty() {
            return Ok(());
        }
        let path = join(&relative(&self.item.to), &member.path);
        // A directory is where a link of its name leads, as it is for what lies in it.
        let place = match member.entry.kind {
            EntryKind::Directory => place::directory,
            _ => place::name,
        };
        let path = place(&filler.tree, &path, self.item.dir_symlinks)?;
        match &member.whiteout {
            Some(Whiteout::Remove(hidden)) => {
                let hidden = join(split(&path).0, hidden);
                if !self.made.contains(&hidden) {
                    filler.tree.remove(&hidden);
                }
                return Ok(());
            }
            Some(Whiteout::Opaque) => {
                self.hide_below(&mut filler.tree, split(&path).0);
                return Ok(());
            }
            Some(Whiteout::Reserved) => return Ok(()),
            None => {}
        }
        super::check_names(&path)?;
        let node = self.node(filler, member, body)?;
        let above = filler.plain_dir(self.origin);
        filler.tree.make_parents(&path, &above);
        filler.tree.put(path.clone(), node);
        self.made.insert(path);
        Ok(())
    }

    /// What the archive itself brought stays. Once is enough: below there is then only what the archive brought.
    fn hide_below(&mut self, tree: &mut Tree, path: &[u8]) {
        if !self.opaque.insert(path.to_vec()) {
            return;
        }
        let own = crate::assemble::tree::keys_below(tree.files(), path);
        let kept: Vec<_> = own
            .into_iter()
            .filter(|path| self.made.contains(path))
            .filter_map(|path| Some((path.clone(), tree.files().get(&path)?.clone())))
            .collect();
        tree.remove_below(path);
        for (path, node) in kept {
            tree.put(path, node);
        }
    }

    fn node(
        &mut self,
        filler: &mut Filler<'_>,
        member: &TarEntry,
        body: &mut dyn Read,
    ) -> Result<Node> {
        let mut entry = member.entry.clone();
        if let EntryKind::Hardlink { target } = &entry.kind {
            let target = join(&relative(&self.item.to), target);
            let target = place::name(&filler.tree, &target, self.item.dir_symlinks)?;
            let tree = &mut filler.tree;
            let group = *self.groups.entry(target.clone()).or_insert_with(|| tree.new_group());
            let Some(first) = tree.files_mut().get_mut(&target).filter(|node| !node.is_dir())
            else {
                let (path, target) = (place::shown(&member.path), place::shown(&target));
                return Err(Error::integrity(format!(
                    "`{path}` is a link to `{target}`, which the archive does not have"
                )));
            };
            let group = *first.group.get_or_insert(group);
            return Ok(first.clone()).inspect(|_| {
                self.groups.insert(target, group);
            });
        }
        let body = match entry.kind {
            EntryKind::File { .. } => self.spool.keep(body)?,
            _ => Body::None,
        };
        entry.xattrs.sort();
        Ok(Node { entry, names: OwnerNames::default(), body, origin: self.origin, group: None })
    }
}
