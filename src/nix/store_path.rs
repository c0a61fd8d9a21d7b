//! The path of one store object: `/nix/store/<32 digits of base 32>-<name>`.
//!
//! Only checked bytes become a [`StorePath`], so it is one component below the store, without anything that a shell, a
//! database or a line of text could misread. Paths inside an object are bytes of any kind and are not this type.

use super::{STORE_DIR, base32, shown};
use crate::error::{Error, Result};
use std::fmt;

/// Digits of the hash in a store path.
const HASH_LEN: usize = 32;

// SPEC: a name has at most 211 bytes, so that the hash, a `.lock` and the like still fit into a file name.
const MAX_NAME: usize = 211;

/// A checked store path. Its order is that of its bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePath(Vec<u8>);

impl StorePath {
    /// Checks a whole path: nothing may stand below it.
    pub fn parse(path: &[u8]) -> Result<Self> {
        let refuse =
            |why: &str| Err(Error::integrity(format!("{} is no store path: {why}", shown(path))));
        let Some(base) = path.strip_prefix(PREFIX.as_bytes()) else {
            return refuse(&format!("it is not below `{STORE_DIR}`"));
        };
        if base.contains(&b'/') {
            return refuse("it leads into a store object");
        }
        match check_base(base) {
            Ok(()) => Ok(Self(path.to_vec())),
            Err(why) => refuse(why),
        }
    }

    /// From `<hash>-<name>`, as newer JSON and file names have it.
    pub fn from_base(base: &[u8]) -> Result<Self> {
        Self::parse(&[PREFIX.as_bytes(), base].concat())
    }

    /// The store object that a path is in, and the way from it: `bin/sh`, empty for the object itself.
    pub fn of_inside(path: &[u8]) -> Result<(Self, Vec<u8>)> {
        let base_len = path
            .strip_prefix(PREFIX.as_bytes())
            .map(|rest| rest.iter().position(|b| *b == b'/').unwrap_or(rest.len()));
        let end = base_len.map_or(path.len(), |len| PREFIX.len() + len);
        let object = Self::parse(&path[..end])?;
        let mut rest: Vec<&[u8]> = path[end..].split(|b| *b == b'/').collect();
        rest.retain(|part| !part.is_empty() && *part != b".");
        if rest.contains(&&b".."[..]) || path.contains(&0) {
            let message = format!("{} leads out of its store object", shown(path));
            return Err(Error::integrity(message));
        }
        Ok((object, rest.join(&b'/')))
    }

    /// The whole path.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The whole path as text; its bytes are ASCII.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// `<hash>-<name>`: the name of its file in the store.
    pub fn name(&self) -> &[u8] {
        &self.0[PREFIX.len()..]
    }

    /// The 32 digits.
    pub fn hash_part(&self) -> &[u8] {
        &self.name()[..HASH_LEN]
    }

    /// The name without the hash.
    pub fn pname(&self) -> &[u8] {
        &self.name()[HASH_LEN + 1..]
    }
}

/// [`STORE_DIR`] and a slash.
const PREFIX: &str = "/nix/store/";

fn check_base(base: &[u8]) -> Result<(), &'static str> {
    let (hash, rest) = base.split_at(base.len().min(HASH_LEN));
    if hash.len() < HASH_LEN || !hash.iter().all(|b| base32::is_digit(*b)) {
        return Err("it does not begin with a hash of 32 digits");
    }
    let Some(name) = rest.strip_prefix(b"-") else {
        return Err("no `-` follows its hash");
    };
    if name.is_empty() {
        return Err("it has no name");
    }
    if name.len() > MAX_NAME {
        return Err("its name is longer than 211 bytes");
    }
    if !name.iter().all(|b| b.is_ascii_alphanumeric() || b"+-._?=".contains(b)) {
        return Err("its name has a character that Nix does not allow");
    }
    Ok(())
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HELLO: &[u8] = b"/nix/store/s5w08jzmjzm7qbq2xi0v5y4yxcd23d5n-hello-2.12";

    #[test]
    fn a_path_has_its_parts() {
        let path = StorePath::parse(HELLO).unwrap();
        assert_eq!(path.as_bytes(), HELLO);
        assert_eq!(path.name(), b"s5w08jzmjzm7qbq2xi0v5y4yxcd23d5n-hello-2.12");
        assert_eq!(path.hash_part(), b"s5w08jzmjzm7qbq2xi0v5y4yxcd23d5n");
        assert_eq!(path.pname(), b"hello-2.12");
        assert_eq!(path.to_string().as_bytes(), HELLO);
        assert_eq!(StorePath::from_base(path.name()).unwrap(), path);
    }

    #[test]
    fn what_is_none_is_refused_with_its_reason() {
        let hash = "s5w08jzmjzm7qbq2xi0v5y4yxcd23d5n";
        let refused = |path: &str| StorePath::parse(path.as_bytes()).unwrap_err().to_string();
        let cases = [
            ("/bin/sh".to_owned(), "it is not below `/nix/store`"),
            ("/nix/store".to_owned(), "it is not below `/nix/store`"),
            (format!("/nix/store/{hash}-a/b"), "it leads into a store object"),
            ("/nix/store/..".to_owned(), "it does not begin with a hash of 32 digits"),
            (format!("/nix/store/{}-a", &hash[1..]), "it does not begin with a hash of 32 digits"),
            (format!("/nix/store/e{}-a", &hash[1..]), "it does not begin with a hash of 32 digits"),
            (format!("/nix/store/{hash}"), "no `-` follows its hash"),
            (format!("/nix/store/{hash}a-b"), "no `-` follows its hash"),
            (format!("/nix/store/{hash}-"), "it has no name"),
            (format!("/nix/store/{hash}-{}", "a".repeat(212)), "its name is longer than 211 bytes"),
            (format!("/nix/store/{hash}-a b"), "its name has a character that Nix does not allow"),
            (format!("/nix/store/{hash}-a\n"), "its name has a character that Nix does not allow"),
        ];
        for (path, why) in cases {
            let shown = shown(path.as_bytes());
            assert_eq!(refused(&path), format!("{shown} is no store path: {why}"));
        }
        assert!(
            StorePath::parse(format!("/nix/store/{hash}-{}", "a".repeat(211)).as_bytes()).is_ok()
        );
    }

    #[test]
    fn a_path_inside_names_its_object_and_the_way_from_it() {
        let inside = |rest: &str| StorePath::of_inside(&[HELLO, rest.as_bytes()].concat());
        for (rest, way) in [("", ""), ("/", ""), ("/bin/hello", "bin/hello"), ("/./a//b/", "a/b")] {
            let (path, found) = inside(rest).unwrap();
            assert_eq!((path.as_bytes(), &found[..]), (HELLO, way.as_bytes()));
        }
        assert!(inside("/../x").unwrap_err().message().ends_with("leads out of its store object"));
        assert!(StorePath::of_inside(b"/etc/passwd").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            for path in [bytes.clone(), [HELLO, &bytes].concat()] {
                if let Ok(found) = StorePath::parse(&path) {
                    prop_assert_eq!(found.as_bytes(), path);
                }
                drop(StorePath::of_inside(&bytes));
            }
        }
    }
}
