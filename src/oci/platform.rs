//! Platforms: `os/arch[/variant]` in Go's words, and which image of an index suits one.
//!
//! A [`Platform`] made here is normalised (dockerfile.md §1.10): `arm64` and `amd64` carry no `v8`/`v1`, `arm`
//! always carries its variant. So equality is comparison. Choosing follows containerd: exact first, then lower
//! variants of the same architecture, then the 32-bit one that the processor also runs.

use super::spec::{Descriptor, ImageConfig};
use crate::error::{Error, Result};
use std::fmt;

/// Operating systems that Go, and so the image specification, has names for.
pub(crate) const KNOWN_OS: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "illumos",
    "ios",
    "js",
    "linux",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "wasip1",
    "windows",
];

/// Architectures that Go has names for.
pub(crate) const KNOWN_ARCH: &[&str] = &[
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64",
    "ppc64le", "riscv64", "s390x", "wasm",
];

/// Shown in errors: what people build for.
const COMMON: &str = "linux/amd64, linux/arm64, linux/arm/v7, linux/arm/v6, linux/386, linux/riscv64, linux/s390x, linux/ppc64le, linux/loong64";

/// What an image is made for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    /// GOOS.
    pub os: String,
    /// Version of the operating system, for example `10.0.17763`; empty when none. Only what a user wrote has one: images
    /// are not told apart by it, and it is not shown.
    pub os_version: String,
    /// GOARCH.
    pub architecture: String,
    /// Variant, for example `v7`; empty when none.
    pub variant: String,
}

impl Platform {
    /// Normalised from parts; nothing is refused here, since images may say anything (`unknown/unknown`).
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let (architecture, variant) = normalised_arch(architecture, variant);
        Self { os, os_version: String::new(), architecture, variant }
    }

    /// The platform of this program: Linux on the processor that it was compiled for.
    pub fn host() -> Self {
        let arch = match std::env::consts::ARCH {
            "x86" => "386",
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "loongarch64" => "loong64",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            "mips" if cfg!(target_endian = "little") => "mipsle",
            "mips64" if cfg!(target_endian = "little") => "mips64le",
            other => other,
        };
        Self::new("linux", arch, "")
    }

    /// From a user's words: `os/arch`, `os/arch/variant`, or one of os and arch alone; the os also as `os(version+feature)`.
    pub fn parse(text: &str) -> Result<Self> {
        let shown = text.trim();
        let mut parts: Vec<&str> = shown.split('/').collect();
        let mut version = "";
        if let Some((os, inside)) = parts[0].strip_suffix(')').and_then(|os| os.split_once('(')) {
            parts[0] = os;
            version = inside.split('+').next().unwrap_or_default();
            let is_empty_or_word = |part: &str| part.is_empty() || is_word(part);
            if !inside.split('+').all(is_empty_or_word) {
                return Err(malformed(shown));
            }
        }
        Self::of_parts(&parts, shown)
            .map(|platform| Self { os_version: version.to_owned(), ..platform })
    }

    fn of_parts(parts: &[&str], shown: &str) -> Result<Self> {
        if parts.iter().any(|part| !is_word(part)) {
            return Err(malformed(shown));
        }
        match parts[..] {
            [one] => {
                let lone = Self::new(one, one, "");
                if KNOWN_OS.contains(&lone.os.as_str()) {
                    let host = Self::host();
                    return Ok(Self { os: lone.os, ..host });
                }
                Self::new("linux", one, "").checked(shown)
            }
            [os, arch] => Self::new(os, arch, "").checked(shown),
            [os, arch, variant] => Self::new(os, arch, variant).checked(shown),
            _ => Err(malformed(shown)),
        }
    }

    fn checked(self, shown: &str) -> Result<Self> {
        if !KNOWN_OS.contains(&self.os.as_str()) {
            let message = format!("unknown operating system `{}` in platform `{shown}`", self.os);
            return Err(Error::usage(message)
                .hint(format!("known operating systems: {}", KNOWN_OS.join(", "))));
        }
        if !KNOWN_ARCH.contains(&self.architecture.as_str()) {
            let message =
                format!("unknown architecture `{}` in platform `{shown}`", self.architecture);
            return Err(Error::usage(message)
                .hint(format!("known architectures: {}", KNOWN_ARCH.join(", "))));
        }
        Ok(self)
    }

    /// True when an image of platform `candidate` may be used where this platform is wanted.
    pub fn matches(&self, candidate: &Platform) -> bool {
        self.acceptable().contains(candidate)
    }

    /// This platform and what else it runs, best first.
    fn acceptable(&self) -> Vec<Platform> {
        let with = |arch: &str, variant: &str| Platform::new(&self.os, arch, variant);
        let mut all = vec![Platform::new(&self.os, &self.architecture, &self.variant)];
        match self.architecture.as_str() {
            "amd64" => {
                let level = self.variant.strip_prefix('v').and_then(|n| n.parse::<u8>().ok());
                let lower = (1..level.unwrap_or(1)).rev();
                all.extend(lower.map(|n| with("amd64", &format!("v{n}"))));
                all.push(with("386", ""));
            }
            "arm" => {
                let version = self.variant.strip_prefix('v').and_then(|n| n.parse::<u8>().ok());
                let lower = (5..version.unwrap_or(0).min(9)).rev();
                all.extend(lower.map(|n| with("arm", &format!("v{n}"))));
            }
            "arm64" => {
                all.extend(arm64_below(&self.variant).iter().map(|v| with("arm64", v)));
                all.extend((5..=8).rev().map(|n| with("arm", &format!("v{n}"))));
            }
            _ => {}
        }
        all
    }

    /// Platform in a descriptor of an index, when it says one.
    pub fn of_descriptor(descriptor: &Descriptor) -> Option<Self> {
        let found = descriptor.platform().as_ref()?;
        Some(Self::new(
            &found.os().to_string(),
            &found.architecture().to_string(),
            found.variant().as_deref().unwrap_or_default(),
        ))
    }

    /// Platform that a config blob states.
    pub fn of_config(config: &ImageConfig) -> Self {
        let variant = config.variant.as_deref().unwrap_or_default();
        Self::new(&config.os, &config.architecture, variant)
    }

    /// As it is written into a descriptor.
    pub fn to_oci(&self) -> oci_spec::image::Platform {
        let mut platform = oci_spec::image::Platform::default();
        platform.set_os(self.os.as_str().into());
        platform.set_architecture(self.architecture.as_str().into());
        platform.set_variant((!self.variant.is_empty()).then(|| self.variant.clone()));
        platform
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() {
            return Ok(());
        }
        write!(f, "/{}", self.variant)
    }
}

/// The index of the best candidate for `wanted`; the first one of equals. `None` when none is usable.
pub fn best<'a>(
    wanted: &Platform,
    candidates: impl Iterator<Item = (usize, Platform)> + 'a,
) -> Option<usize> {
    let order = wanted.acceptable();
    candidates
        .filter_map(|(index, found)| Some((order.iter().position(|p| *p == found)?, index)))
        .min()
        .map(|(_, index)| index)
}

/// Lower 64-bit ARM versions, best first. Armv9.n includes Armv8.(n+5).
fn arm64_below(variant: &str) -> Vec<String> {
    let spelt = |major: u8, minor: u8| match minor {
        0 => format!("v{major}"),
        _ => format!("v{major}.{minor}"),
    };
    let Some((major, minor)) = variant.strip_prefix('v').and_then(|text| {
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        Some((major.parse::<u8>().ok()?, minor.parse::<u8>().ok()?.min(20)))
    }) else {
        return Vec::new();
    };
    match major {
        8 => (0..minor).rev().map(|m| spelt(8, m)).collect(),
        9 => {
            let nines = (0..minor).rev().map(|m| spelt(9, m));
            nines.chain((0..=minor + 5).rev().map(|m| spelt(8, m))).collect()
        }
        _ => Vec::new(),
    }
}

fn normalised_arch(architecture: &str, variant: &str) -> (String, String) {
    let arch = architecture.to_ascii_lowercase();
    let variant = variant.to_ascii_lowercase();
    let (arch, variant) = match (arch.as_str(), variant.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "" | "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", other) => ("amd64", other),
        ("aarch64" | "arm64", "" | "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64", other) => ("arm64", other),
        ("arm64", "9" | "v9.0") => ("arm64", "v9"),
        ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
        ("armel", _) | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "8") => ("arm", "v8"),
        other => other,
    };
    (arch.to_owned(), variant.to_owned())
}

fn is_word(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

fn malformed(shown: &str) -> Error {
    let error = Error::usage(format!("`{shown}` is no platform: expected `os/arch[/variant]`"));
    if shown.contains('(') {
        return error
            .hint("a version stands behind the operating system: `windows(10.0.17763)/amd64`");
    }
    if shown.contains(',') {
        return error.hint("only one platform can be given here");
    }
    error.hint(format!("for example {COMMON}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> String {
        Platform::parse(text).map_or_else(|error| format!("{error:?}"), |p| p.to_string())
    }

    #[test]
    fn words_of_users_are_normalised() {
        let table = [
            ("linux/amd64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/x86_64/v3", "linux/amd64/v3"),
            ("Linux/AArch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
            ("macos/arm64", "darwin/arm64"),
            ("s390x", "linux/s390x"),
            ("x86-64", "linux/amd64"),
            ("windows(10.0.17763)/x86_64", "windows/amd64"),
            ("windows(10.0.17763+win32k)/amd64", "windows/amd64"),
            ("linux()/arm", "linux/arm/v7"),
        ];
        for (given, wanted) in table {
            assert_eq!(parse(given), wanted, "{given}");
        }
        assert_eq!(parse("linux"), Platform::host().to_string());
    }

    #[test]
    fn bad_words_are_named_with_the_known_ones() {
        assert!(parse("linux/amd46").contains("unknown architecture `amd46`"));
        assert!(parse("linux/amd46").contains("riscv64"));
        assert!(parse("linx/amd64").contains("unknown operating system `linx`"));
        assert!(parse("nonsense").contains("unknown architecture `nonsense`"));
        assert!(parse("linux/amd64,linux/arm64").contains("only one platform"));
        for bad in [
            "",
            "/",
            "linux/",
            "a/b/c/d",
            "linux/amd64/",
            "windows(10.0/amd64",
            "windows(a b)/amd64",
            "linux/amd64(1)",
        ] {
            assert!(parse(bad).contains("expected `os/arch[/variant]`"), "{bad}");
        }
    }

    fn choose(wanted: &str, candidates: &[&str]) -> Option<String> {
        let all = candidates.iter().map(|text| Platform::parse(text).unwrap()).enumerate();
        best(&Platform::parse(wanted).unwrap(), all).map(|at| candidates[at].to_owned())
    }

    #[test]
    fn the_best_candidate_is_exact_then_lower() {
        let table: &[(&str, &[&str], Option<&str>)] = &[
            ("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6"], Some("linux/arm/v6")),
            ("linux/arm/v6", &["linux/arm/v7"], None),
            ("linux/arm64", &["linux/arm/v7", "linux/arm/v8"], Some("linux/arm/v8")),
            ("linux/arm64", &["linux/arm/v7", "linux/arm64"], Some("linux/arm64")),
            ("linux/arm64/v9", &["linux/arm64", "linux/arm64/v8.5"], Some("linux/arm64/v8.5")),
            ("linux/amd64", &["linux/386"], Some("linux/386")),
            ("linux/amd64", &["linux/amd64/v3"], None),
            ("linux/amd64/v4", &["linux/amd64", "linux/amd64/v2"], Some("linux/amd64/v2")),
            ("linux/amd64", &["linux/arm64", "windows/amd64"], None),
        ];
        for (wanted, candidates, chosen) in table {
            assert_eq!(choose(wanted, candidates).as_deref(), *chosen, "{wanted} {candidates:?}");
        }
    }

    #[test]
    fn round_trip_through_a_descriptor() {
        for text in ["linux/arm/v7", "linux/arm64", "linux/386", "linux/loong64"] {
            let platform = Platform::parse(text).unwrap();
            let json = serde_json::to_string(&platform.to_oci()).unwrap();
            let back: oci_spec::image::Platform = serde_json::from_str(&json).unwrap();
            assert_eq!(back.architecture().to_string(), platform.architecture, "{json}");
            assert_eq!(back, platform.to_oci());
        }
    }
}
