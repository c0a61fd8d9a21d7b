//! Files that appear when they are whole, and only with the bytes that were expected.

use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::oci::digest::HashingWriter;
use crate::oci::{Digest, hash_forms};
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, Write};
use std::path::Path;

const BUFFER: usize = 256 << 10;

/// Writes a file; `-` is standard output. Gives the digest of its bytes; with other bytes than `expect` there is an
/// error and no file. `tmp` is for what cannot be taken back.
pub(super) fn write(
    path: &Path,
    expect: Option<&Digest>,
    tmp: &Path,
    produce: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<Digest> {
    let fail = || format!("cannot write `{}`", path.display());
    let stdout = path == Path::new("-");
    // A rename would put a file in the place of /dev/null or of a pipe that somebody reads from.
    let special = fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir());
    if path.is_dir() {
        return Err(Error::usage(fail()).cause("it is a directory"));
    }
    if stdout || special {
        let out: Box<dyn Write> = if stdout {
            Box::new(io::stdout().lock())
        } else {
            Box::new(File::options().write(true).open(path).or_error(ErrorKind::Environment, fail)?)
        };
        return match expect {
            None => hashed(out, fail, produce).map(|(_, digest)| digest),
            Some(expect) => spooled(out, expect, tmp, fail, produce),
        };
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let file = tempfile::Builder::new()
        .prefix(".nativebuild-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(parent)
        .or_error(ErrorKind::Environment, fail)?;
    let (file, digest) = hashed(file, fail, produce)?;
    check(expect, &digest)?;
    file.persist(path).map_err(|error| error.error).or_error(ErrorKind::Environment, fail)?;
    Ok(digest)
}

/// To a file first, and on only when the bytes are right.
fn spooled(
    mut out: Box<dyn Write>,
    expect: &Digest,
    tmp: &Path,
    fail: impl Fn() -> String,
    produce: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<Digest> {
    let file = tempfile::tempfile_in(tmp).or_error(ErrorKind::Environment, &fail)?;
    let (mut file, digest) = hashed(file, &fail, produce)?;
    check(Some(expect), &digest)?;
    let copied =
        file.rewind().and_then(|()| io::copy(&mut file, &mut out)).and_then(|_| out.flush());
    copied.or_error(ErrorKind::Environment, &fail)?;
    Ok(digest)
}

fn hashed<W: Write>(
    out: W,
    fail: impl Fn() -> String,
    produce: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<(W, Digest)> {
    let mut out = HashingWriter::new(BufWriter::with_capacity(BUFFER, out));
    produce(&mut out)?;
    let (out, digest, _) = out.finish();
    let out = out.into_inner().map_err(io::IntoInnerError::into_error);
    let mut out = out.or_error(ErrorKind::Environment, &fail)?;
    out.flush().or_error(ErrorKind::Environment, &fail)?;
    Ok((out, digest))
}

/// The error for other bytes than expected.
pub(super) fn check(expect: Option<&Digest>, found: &Digest) -> Result<()> {
    match expect {
        Some(expect) if expect != found => Err(Error::integrity(format!(
            "the result is not what is expected: expected {expect}, found {found}"
        ))
        .cause(format!(
            "as SRI: expected {}, found {}",
            hash_forms::sri(expect),
            hash_forms::sri(found)
        ))
        .hint("nothing was written")),
        _ => Ok(()),
    }
}
