//! `depends.docker-images`: images that a package wants as archives in its directory (linuxkit.md §7).

use super::build_yml::{DependTarget, Depends, ImageList, parse_image_list};
use super::package::{Package, read_source};
use crate::build::lock::Locks;
use crate::build::store::Store;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::net::{NetConfig, Registry, Wanted};
use crate::oci::archive::{self, Output, SaveFormat, SaveImage, SaveOptions};
use crate::oci::layout::Origin;
use crate::oci::spec::Descriptor;
use crate::oci::{Platform, Reference, resolve};
use crate::progress::Emitter;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// What fetching needs.
pub(super) struct Fetch<'a> {
    pub(super) store: &'a Store,
    pub(super) locks: &'a Locks,
    pub(super) net: &'a NetConfig,
    pub(super) emitter: &'a Emitter,
    pub(super) say: &'a dyn Fn(&str) -> Result<()>,
}

/// Archives in a package directory. What was not there before is removed with this value: git would call a tree dirty
/// that has it, and the next build of the same package would get another tag.
#[derive(Debug)]
pub(super) struct Brought {
    /// The directory or archive, when it was not there.
    path: Option<PathBuf>,
    /// Directories above it that were not there, the lowest first.
    parents: Vec<PathBuf>,
}

impl Brought {
    fn new(package: &Path, path: &Path) -> Self {
        let is_new = |path: &Path| fs::symlink_metadata(path).is_err();
        let above = path.ancestors().skip(1).take_while(|above| *above != package && is_new(above));
        let parents = above.map(Path::to_owned).collect();
        Self { path: is_new(path).then(|| path.to_owned()), parents }
    }
}

impl Drop for Brought {
    fn drop(&mut self) {
        let Some(path) = &self.path else { return };
        // What cannot be removed is seen by git, and said in the tag.
        let _seen = match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(path),
            _ => fs::remove_file(path),
        };
        let _part = fs::remove_file(part_of(path));
        for above in &self.parents {
            // Not when somebody put something else there.
            let _kept = fs::remove_dir(above);
        }
    }
}

/// The name of an archive that is being written.
fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

impl Fetch<'_> {
    /// Writes the archives of a package. As with docker the images are those of this machine's platform, whatever is
    /// built.
    pub(super) fn all(&self, package: &Package, depends: &Depends) -> Result<Brought> {
        let images = listed(package, depends)?;
        let (DependTarget::Directory(path) | DependTarget::Archive(path)) = &depends.target;
        let path = package.dir.join(path);
        let brought = Brought::new(&package.dir, &path);
        match &depends.target {
            DependTarget::Directory(_) => self.each(&images, &path)?,
            DependTarget::Archive(_) => self.together(&images, &path)?,
        }
        Ok(brought)
    }

    /// Each image in a file of its own; what the directory held goes away.
    fn each(&self, images: &[Reference], dir: &Path) -> Result<()> {
        let what = || format!("cannot make {}", dir.display());
        match fs::symlink_metadata(dir) {
            Ok(found) if found.is_dir() => {
                fs::remove_dir_all(dir).or_error(ErrorKind::Environment, what)?;
            }
            Ok(_) => fs::remove_file(dir).or_error(ErrorKind::Environment, what)?,
            Err(_) => {}
        }
        fs::create_dir_all(dir).or_error(ErrorKind::Environment, what)?;
        for image in images {
            let found = self.find(image)?;
            let last = image.repository.rsplit('/').next().unwrap_or_default();
            let digest = image.digest.as_ref().map_or_else(String::new, |d| format!("@{d}"));
            let name = format!("{last}{digest}.tar");
            (self.say)(&format!("Adding \"{name}\" as dependency"))?;
            self.write(&[(found, image.clone())], &dir.join(name))?;
        }
        Ok(())
    }

    /// All images in one file, under their names without tags and digests.
    fn together(&self, images: &[Reference], file: &Path) -> Result<()> {
        let mut found = Vec::new();
        for image in images {
            let plain = Reference { tag: None, digest: None, ..image.clone() };
            found.push((self.find(image)?, plain));
        }
        self.write(&found, file)
    }

    /// Has the images in the store, and writes nothing.
    pub(super) fn prefetch(&self, package: &Package, depends: &Depends) -> Result<()> {
        listed(package, depends)?.iter().try_for_each(|image| self.find(image).map(drop))
    }

    /// The image by its digest: out of the store, else pulled.
    fn find(&self, image: &Reference) -> Result<Descriptor> {
        let failed = |error: Error| error.wrap(format!("failed to pull `{image}`"));
        let layout = self.store.images();
        let host = Platform::host();
        let note = |root: &Descriptor| self.locks.note_image(image, &host, root);
        if let Some(stored) = layout.find(image)?
            && let Ok(here) = resolve::resolve(layout, &stored.descriptor, &host)
        {
            note(&stored.descriptor)?;
            return Ok(here.manifest_descriptor);
        }
        let registry = Registry::new(self.net).map_err(failed)?;
        let pulled = registry
            .pull(image, &Wanted::One(host.clone()), layout, self.emitter)
            .map_err(|error| failed(error.into()))?;
        layout.set_name(image, &pulled.root, Origin::Pulled)?;
        note(&pulled.root)?;
        Ok(pulled.image)
    }

    fn write(&self, images: &[(Descriptor, Reference)], path: &Path) -> Result<()> {
        let what = || format!("cannot write {}", path.display());
        let name = part_of(path);
        let mut out = BufWriter::new(File::create(&name).or_error(ErrorKind::Environment, what)?);
        let all: Vec<SaveImage<'_>> = images
            .iter()
            .map(|(descriptor, name)| SaveImage { descriptor, names: std::slice::from_ref(name) })
            .collect();
        let options = SaveOptions::new(SaveFormat::DockerArchive);
        archive::save(self.store.images(), &all, &options, Output::Stream(&mut out))?;
        out.flush().or_error(ErrorKind::Environment, what)?;
        fs::rename(&name, path).or_error(ErrorKind::Environment, what)
    }
}

/// The images that a package wants.
fn listed(package: &Package, depends: &Depends) -> Result<Vec<Reference>> {
    match &depends.images {
        ImageList::Given(images) => Ok(images.clone()),
        ImageList::File { path, span } => {
            let file = read_source(&package.shown.join(path))
                .map_err(|error| error.at(&package.source, *span))?;
            parse_image_list(&file)
        }
    }
}
