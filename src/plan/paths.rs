//! Slash paths inside images as text, by the rules of Go's `path` package (WORKDIR, mount targets).
//!
//! In and out: strings. No file system is looked at: symbolic links are the executor's matter.

/// The shortest path that means the same: no `.`, no `//`, `..` resolved against what is before it, no slash at
/// the end; `.` for nothing. `..` above the root vanishes.
pub(super) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// `path` as an absolute, clean path; a relative one is under `directory`, which itself is under `/`.
pub(super) fn absolute(directory: &str, path: &str) -> String {
    if path.starts_with('/') { clean(path) } else { clean(&format!("/{directory}/{path}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_follows_go() {
        for (path, expected) in [
            ("", "."),
            (".", "."),
            ("/", "/"),
            ("//a//b/", "/a/b"),
            ("/a/./b/../c", "/a/c"),
            ("/../../a", "/a"),
            ("../a/..", ".."),
            ("a/..", "."),
            ("../../x", "../../x"),
        ] {
            assert_eq!(clean(path), expected, "{path:?}");
        }
    }

    #[test]
    fn relative_paths_are_under_the_directory() {
        for (directory, path, expected) in [
            ("/", "a", "/a"),
            ("/w", "../../..", "/"),
            ("w", "", "/w"),
            ("/w/", "x/", "/w/x"),
            ("/w", "/y/../z", "/z"),
            ("", "a b", "/a b"),
        ] {
            assert_eq!(absolute(directory, path), expected, "{directory:?} {path:?}");
        }
    }
}
