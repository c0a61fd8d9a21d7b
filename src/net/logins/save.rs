//! Logins that are kept, and forgotten: in a file, or by the program that the file names.
//!
//! In: a place, what the login is for, and the login; out: where it went. A file is written beside itself and renamed, mode
//! 0600; everything in it that is not this login stays as it was. Two that write at once wait for each other.

use super::file::{AuthFile, Wanted, key_for};
use super::helper::Helper;
use super::{AuthForm, AuthPlace, AuthPlaces, LoginTarget};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Where a login was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saved {
    /// In this file.
    File(PathBuf),
    /// With this program.
    Helper(String),
}

/// A login that is gone: what it was for, and where it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// Registry or part of one.
    pub name: String,
    /// File or program.
    pub place: Saved,
}

impl AuthPlaces {
    /// Keeps a login in a place.
    pub fn save(
        &self,
        place: &AuthPlace,
        target: &LoginTarget,
        user: &str,
        password: &str,
    ) -> Result<Saved> {
        let path = real_path(&place.path)?;
        let _lock = lock(&path)?;
        let place = AuthPlace { path, required: false, named: true, form: place.form };
        let mut file = match AuthFile::read(&place, &mut Vec::new())? {
            Some(file) => file,
            None => AuthFile::empty(&place)?,
        };
        // Fails when it is no object, before anything is stored.
        file.auths()?;
        let helper = file.helper(target)?;
        let saved = match &helper {
            // In its place it would be the login of the whole registry.
            Some(wanted) if is_of_the_whole(wanted, target) => {
                return Err(Error::usage(format!(
                    "`docker-credential-{}` keeps logins for registries, not for parts of them",
                    wanted.name
                ))
                .cause(format!("{} names it for {}", wanted.place, target.name()))
                .hint(format!(
                    "log in to {}, or name a file of its own with `--authfile`",
                    target.registry
                )));
            }
            Some(wanted) => {
                let helper = self.helper(wanted)?;
                helper.store(&wanted.server, user, password)?;
                Saved::Helper(helper.shown())
            }
            None => Saved::File(place.path.clone()),
        };
        let auth = BASE64_STANDARD.encode(format!("{user}:{password}"));
        let fields = [("auth", auth.as_str())];
        // Docker marks what a program has by an entry without content.
        let fields = if helper.is_some() { &fields[..0] } else { &fields[..] };
        let key = key_for(place.form, target);
        let others = |known: &str| known != key && file.is_for(known, target);
        let before = file.text.clone();
        let mut text = before.clone();
        text.remove(Some("auths"), others);
        text.put("auths", &key, fields);
        file.text = text;
        if file.text.as_str() != before.as_str() {
            write(&place.path, file.text.as_str())?;
        }
        Ok(saved)
    }

    /// Forgets the login for a target, or all logins, in every file and with every program that a file names.
    pub fn forget(&self, target: Option<&LoginTarget>) -> Result<Vec<Forgotten>> {
        let mut gone = Vec::new();
        for place in &self.files {
            let path = real_path(&place.path)?;
            if !path.exists() {
                continue;
            }
            let _lock = lock(&path)?;
            let place = AuthPlace { path, ..place.clone() };
            let Some(mut file) = AuthFile::read(&place, &mut Vec::new())? else { continue };
            self.forget_in(&mut file, target, &mut gone)?;
        }
        Ok(gone)
    }

    fn forget_in(
        &self,
        file: &mut AuthFile<'_>,
        target: Option<&LoginTarget>,
        gone: &mut Vec<Forgotten>,
    ) -> Result<()> {
        let auths = file.auths()?;
        let fits = |key: &str| target.is_none_or(|target| file.is_for(key, target));
        let found: Vec<_> = auths.iter().filter(|entry| fits(&entry.key)).collect();
        let marked = |fields: &std::ops::Range<usize>| {
            file.text.members(fields).is_some_and(|fields| fields.is_empty())
        };
        for entry in found.iter().filter(|entry| !marked(&entry.value)) {
            let place = Saved::File(file.path().to_owned());
            gone.push(Forgotten { name: entry.key.clone(), place });
        }
        // A program may have a login without a mark.
        let mut asked: Vec<LoginTarget> = target.into_iter().cloned().collect();
        if target.is_none() {
            let helpers = file.helpers()?;
            let keys = found
                .iter()
                .map(|entry| entry.key.as_str())
                .chain(helpers.iter().map(String::as_str));
            asked.extend(keys.filter_map(|key| LoginTarget::parse(key).ok()));
            asked.sort_by_key(LoginTarget::name);
            asked.dedup();
        }
        for target in asked {
            let Some(wanted) = file.helper(&target)? else { continue };
            if is_of_the_whole(&wanted, &target) {
                continue;
            }
            let helper = self.helper(&wanted)?;
            if helper.get(&wanted.server)?.is_some() && helper.erase(&wanted.server)? {
                let place = Saved::Helper(helper.shown());
                gone.push(Forgotten { name: target.name(), place });
            }
        }
        let before = file.text.clone();
        let section = (file.place().form != AuthForm::Legacy).then_some("auths");
        let mut text = before.clone();
        text.remove(section, |key| target.is_none_or(|target| file.is_for(key, target)));
        if text.as_str() != before.as_str() {
            write(file.path(), text.as_str())?;
        }
        file.text = text;
        Ok(())
    }

    fn helper(&self, wanted: &Wanted) -> Result<Helper> {
        let found = Helper::find(&wanted.name, &self.programs, &wanted.place)?;
        found.ok_or_else(|| Helper::missing(&wanted.name, &wanted.place))
    }
}

/// Whether a program would be asked about the registry, though only a part of it is meant.
fn is_of_the_whole(wanted: &Wanted, target: &LoginTarget) -> bool {
    !target.repository.is_empty() && wanted.server == target.server()
}

impl AuthFile<'_> {
    /// Whether a key is another spelling of the target and nothing less.
    fn is_for(&self, key: &str, target: &LoginTarget) -> bool {
        if target.repository.is_empty() {
            return self.host_of(key).as_deref() == Some(&target.registry);
        }
        key.eq_ignore_ascii_case(&target.name())
    }

    /// The keys of `credHelpers`.
    fn helpers(&self) -> Result<Vec<String>> {
        match self.place().form {
            AuthForm::Legacy => Ok(Vec::new()),
            _ => Ok(self.section("credHelpers")?.into_iter().map(|member| member.key).collect()),
        }
    }
}

/// Where a link leads: what it leads to is written, not the link.
#[allow(clippy::disallowed_methods, reason = "a file of the user's, not of a root file system")]
fn real_path(path: &Path) -> Result<PathBuf> {
    match path.canonicalize() {
        Ok(path) => Ok(path),
        Err(_) => std::path::absolute(path)
            .or_error(ErrorKind::Usage, || format!("bad path `{}`", path.display())),
    }
}

/// Others who write to the same directory wait while this is held.
fn lock(path: &Path) -> Result<Option<File>> {
    let Some(dir) = path.parent() else { return Ok(None) };
    let what = || format!("cannot make the directory `{}`", dir.display());
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .or_error(ErrorKind::Environment, what)?;
    let Ok(held) = File::open(dir) else { return Ok(None) };
    // Some file systems have no locks of directories; then there is none.
    Ok(held.lock().is_ok().then_some(held))
}

fn write(path: &Path, text: &str) -> Result<()> {
    let what = || format!("cannot write the logins to `{}`", path.display());
    let dir = path.parent().ok_or_else(|| Error::usage(what()))?;
    // Made with mode 0600.
    let written = tempfile::NamedTempFile::new_in(dir).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        Ok(file)
    });
    let file = written.or_error(ErrorKind::Environment, what)?;
    keep_owner(path, file.as_file());
    file.persist(path).map_err(|failed| failed.error).or_error(ErrorKind::Environment, what)?;
    Ok(())
}

/// root writes for others too, as with `sudo`.
fn keep_owner(path: &Path, file: &File) {
    use std::os::unix::fs::{MetadataExt, fchown};
    if let Ok(found) = fs::metadata(path) {
        let _not_root = fchown(file, Some(found.uid()), Some(found.gid()));
    }
}
