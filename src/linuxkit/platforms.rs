//! For which platforms a package is built, and by which builders: `--platforms`, `--skip-platforms`, `--builders`
//! (linuxkit.md §3, §4.2). All of them mean this machine.

use crate::error::{Error, Result};
use crate::oci::Platform;
use std::path::{Path, PathBuf};

/// The platforms of `--platforms` or, without it, of the package's architectures; without those to skip.
pub fn wanted(arches: &[String], only: &[String], skip: &[String]) -> Result<Vec<Platform>> {
    if !only.is_empty() && !skip.is_empty() {
        return Err(Error::usage("`--platforms` and `--skip-platforms` exclude each other"));
    }
    let skip = list(skip)?;
    if !only.is_empty() {
        return list(only);
    }
    let mut platforms = Vec::new();
    for arch in arches {
        add(&mut platforms, platform(&format!("linux/{arch}"))?);
    }
    platforms.retain(|platform| !skip.iter().any(|other| same(platform, other)));
    Ok(platforms)
}

/// LinuxKit knows no variants.
fn same(one: &Platform, other: &Platform) -> bool {
    one.os == other.os && one.architecture == other.architecture
}

fn add(platforms: &mut Vec<Platform>, platform: Platform) {
    if !platforms.contains(&platform) {
        platforms.push(platform);
    }
}

fn list(words: &[String]) -> Result<Vec<Platform>> {
    let mut platforms = Vec::new();
    for word in words.iter().flat_map(|list| list.split(',')).filter(|word| !word.is_empty()) {
        add(&mut platforms, platform(word.trim())?);
    }
    Ok(platforms)
}

fn platform(word: &str) -> Result<Platform> {
    let bad = || format!("invalid target platform specification `{word}`");
    if !word.contains('/') {
        return Err(Error::usage(bad()).hint(format!("write it in full: `linux/{word}`")));
    }
    let platform = Platform::parse(word)
        .map_err(|error| error.with_kind(crate::error::ErrorKind::Usage).wrap(bad()))?;
    if platform.os != "linux" {
        return Err(Error::usage(bad()).cause("packages are for linux"));
    }
    Ok(platform)
}

/// A docker context, as its file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerContext {
    /// Name.
    pub name: String,
    /// Address of its engine, for example `ssh://host`.
    pub host: String,
}

/// Reads the contexts of a docker configuration directory; what cannot be read is not there.
pub fn docker_contexts(config: &Path) -> Vec<DockerContext> {
    let Ok(entries) = std::fs::read_dir(config.join("contexts/meta")) else { return Vec::new() };
    let files = entries.filter_map(|entry| Some(entry.ok()?.path().join("meta.json")));
    let mut contexts: Vec<DockerContext> = files.take(1000).filter_map(read_context).collect();
    contexts.sort_by(|a, b| a.name.cmp(&b.name));
    contexts
}

fn read_context(file: PathBuf) -> Option<DockerContext> {
    use std::io::Read;
    let mut text = Vec::new();
    std::fs::File::open(file).ok()?.take(1 << 20).read_to_end(&mut text).ok()?;
    let value: serde_json::Value = serde_json::from_slice(&text).ok()?;
    Some(DockerContext {
        name: value.get("Name")?.as_str()?.to_owned(),
        host: value.pointer("/Endpoints/docker/Host")?.as_str()?.to_owned(),
    })
}

/// Checks who is asked to build the platforms; returns warnings. `source` is where `builders` came from, for errors.
pub fn check_builders(
    builders: Option<(&str, &str)>,
    platforms: &[Platform],
    contexts: &[DockerContext],
) -> Result<Vec<String>> {
    let mut named: Vec<(Platform, &str)> = Vec::new();
    if let Some((source, text)) = builders {
        for word in text.split(',').filter(|word| !word.is_empty()) {
            let in_source = |error: Error| error.wrap(format!("error in {source}"));
            let Some((platform, builder)) = word.split_once('=').filter(|(_, to)| !to.is_empty())
            else {
                return Err(in_source(Error::usage(format!(
                    "invalid platform=builder specification `{word}`"
                ))));
            };
            let parsed = Platform::parse(platform).ok().filter(|_| platform.contains('/'));
            let parsed = parsed.ok_or_else(|| {
                in_source(Error::usage(format!("invalid platform specification `{platform}`")))
            })?;
            local(builder, contexts).map_err(in_source)?;
            named.push((parsed, builder));
        }
    }
    let mut warnings = Vec::new();
    for platform in platforms {
        if named.iter().any(|(known, _)| same(known, platform)) {
            continue;
        }
        let (os, arch) = (&platform.os, &platform.architecture);
        let usual = [format!("linuxkit-{os}-{arch}"), format!("linuxkit-{arch}")];
        if let Some(found) = contexts.iter().find(|context| usual.contains(&context.name)) {
            warnings.push(format!(
                "the docker context `{}` is not used: {platform} is built on this machine",
                found.name
            ));
        }
    }
    Ok(warnings)
}

/// A builder that is this machine.
fn local(builder: &str, contexts: &[DockerContext]) -> Result<()> {
    if builder == "default" || builder.starts_with("unix://") {
        return Ok(());
    }
    let Some(context) = contexts.iter().find(|context| context.name == builder) else {
        return Err(Error::usage(format!("provided docker context `{builder}` not found"))
            .hint("`default` means this machine"));
    };
    if context.host.starts_with("unix://") {
        return Ok(());
    }
    Err(Error::environment(format!(
        "the docker context `{builder}` is remote ({}), and remote builders are not available yet",
        context.host
    ))
    .hint("without `--builders` every platform is built on this machine"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    fn said(arches: &[&str], only: &[&str], skip: &[&str]) -> String {
        match wanted(&words(arches), &words(only), &words(skip)) {
            Ok(all) => all.iter().map(Platform::to_string).collect::<Vec<_>>().join(" "),
            Err(error) => error.message().to_owned(),
        }
    }

    #[test]
    fn platforms_come_from_flags_or_the_package() {
        let arches = ["amd64", "arm64", "s390x"];
        assert_eq!(said(&arches, &[], &[]), "linux/amd64 linux/arm64 linux/s390x");
        assert_eq!(said(&arches, &[], &["linux/s390x,linux/amd64"]), "linux/arm64");
        assert_eq!(said(&arches, &["linux/riscv64,linux/s390x"], &[]), "linux/riscv64 linux/s390x");
        assert_eq!(said(&[], &[], &[]), "");
        assert_eq!(said(&arches, &["amd64"], &[]), "invalid target platform specification `amd64`");
        assert_eq!(
            said(&arches, &["windows/amd64"], &[]),
            "invalid target platform specification `windows/amd64`"
        );
        assert_eq!(
            said(&arches, &["linux/amd64"], &["linux/amd64"]),
            "`--platforms` and `--skip-platforms` exclude each other"
        );
        assert_eq!(
            said(&["sparc"], &[], &[]),
            "invalid target platform specification `linux/sparc`"
        );
    }

    #[test]
    fn builders_are_this_machine_or_an_error() {
        let context =
            |name: &str, host: &str| DockerContext { name: name.to_owned(), host: host.to_owned() };
        let contexts = [
            context("away", "ssh://somewhere"),
            context("here", "unix:///run/docker.sock"),
            context("linuxkit-arm64", "ssh://arm"),
        ];
        let platforms = [Platform::new("linux", "amd64", ""), Platform::new("linux", "arm64", "")];
        let said = |text: &str| match check_builders(
            Some(("--builders flag", text)),
            &platforms,
            &contexts,
        ) {
            Ok(warnings) => warnings.join("; "),
            Err(error) => {
                let causes = error.causes().join("; ");
                format!("{}: {causes}", error.message())
            }
        };
        let unused =
            "the docker context `linuxkit-arm64` is not used: linux/arm64 is built on this machine";
        assert_eq!(said("linux/amd64=default"), unused);
        assert_eq!(said("linux/arm64=here,linux/amd64=unix:///x"), "");
        for (text, error) in [
            ("foo", "invalid platform=builder specification `foo`"),
            ("linux=default", "invalid platform specification `linux`"),
            ("linux/amd64=none", "provided docker context `none` not found"),
            (
                "linux/amd64=away",
                "the docker context `away` is remote (ssh://somewhere), and remote builders are not available yet",
            ),
        ] {
            assert_eq!(said(text), format!("error in --builders flag: {error}"));
        }
    }

    #[test]
    fn contexts_are_read_from_dockers_files() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("a", r#"{"Name":"one","Endpoints":{"docker":{"Host":"unix:///s"}}}"#),
            ("b", "garbage"),
            ("c", r#"{"Name":1}"#),
        ] {
            let meta = dir.path().join("contexts/meta").join(name);
            std::fs::create_dir_all(&meta).unwrap();
            std::fs::write(meta.join("meta.json"), text).unwrap();
        }
        let expected = DockerContext { name: "one".to_owned(), host: "unix:///s".to_owned() };
        assert_eq!(docker_contexts(dir.path()), [expected]);
        assert_eq!(docker_contexts(Path::new("/nonexistent")), []);
    }
}
