//! `nativebuild DIR` means `nativebuild build DIR` (design §10.5).

use crate::error::{Error, Result};
use std::ffi::OsString;
use std::path::Path;

const VERBS: [&str; 4] = ["build", "image", "prune", "help"];
const OWN_FLAGS: [&str; 4] = ["-h", "--help", "-V", "--version"];

/// Puts the verb in where it was left out. A verb wins over a directory of that name.
pub(super) fn expand(mut args: Vec<OsString>) -> Result<Vec<OsString>> {
    let Some(first) = args.get(1) else { return Ok(args) };
    let text = first.to_string_lossy().into_owned();
    if VERBS.contains(&text.as_str()) || OWN_FLAGS.contains(&text.as_str()) {
        return Ok(args);
    }
    if text.starts_with('-') && text != "-" {
        args.insert(1, "build".into());
        return Ok(args);
    }
    let path = Path::new(first);
    if path.is_dir() {
        if ["Dockerfile", "dockerfile"].iter().any(|name| path.join(name).exists())
            || args.iter().any(|arg| {
                let arg = arg.to_string_lossy();
                arg.starts_with("-f") || arg.starts_with("--file")
            })
        {
            args.insert(1, "build".into());
            return Ok(args);
        }
        return Err(Error::usage(format!("the directory `{text}` has no Dockerfile"))
            .hint("name one with `nativebuild build -f PATH DIR`"));
    }
    let error = Error::usage(format!("`{text}` is neither a verb nor a directory"));
    let near = VERBS.iter().find(|verb| distance(verb, &text) <= 2);
    Err(match near {
        Some(verb) => error.hint(format!("did you mean `nativebuild {verb}`?")),
        None => error.hint("`nativebuild --help` lists the verbs"),
    })
}

/// Number of single-character edits between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut previous = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (previous + usize::from(x != *y)).min(above + 1).min(row[j] + 1);
            previous = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(args: &[&str]) -> std::result::Result<Vec<String>, String> {
        let args = std::iter::once("nativebuild").chain(args.iter().copied());
        expand(args.map(OsString::from).collect())
            .map(|args| args.into_iter().skip(1).map(|a| a.into_string().unwrap()).collect())
            .map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn a_directory_with_a_dockerfile_means_build() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        assert!(expanded(&[path]).unwrap_err().contains("has no Dockerfile"));
        std::fs::write(dir.path().join("Dockerfile"), "").unwrap();
        assert_eq!(expanded(&[path]).unwrap(), ["build", path]);
        assert_eq!(expanded(&["--no-cache", path]).unwrap(), ["build", "--no-cache", path]);
        assert_eq!(expanded(&["--version"]).unwrap(), ["--version"]);
        assert_eq!(expanded(&["image", "ls"]).unwrap(), ["image", "ls"]);
        assert!(expanded(&["biuld", "."]).unwrap_err().contains("nativebuild build"));
    }
}
