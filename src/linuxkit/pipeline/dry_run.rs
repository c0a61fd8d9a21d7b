//! `--dry-run`: what would be built, in the words of docker.

use super::Builder;
use crate::error::Result;
use crate::linuxkit::package::Package;
use crate::oci::Platform;
use crate::plan::step::NetworkMode;

impl Builder<'_> {
    /// For each platform the line that would do the same; arguments are quoted for a shell.
    pub(super) fn dry_run(&self, package: &Package, missing: &[Platform]) -> Result<()> {
        let (request, _context) = self.request(package, missing)?;
        for platform in missing {
            let arch = &platform.architecture;
            let mut words = vec!["docker buildx build".to_owned()];
            words.push(format!("--platform {platform}"));
            words.push(format!("-t {}-{arch}", package.tag.reference()));
            for (name, value) in &request.build_args {
                words.push(format!("--build-arg {}", quoted(&format!("{name}={value}"))));
            }
            for (name, value) in &request.labels {
                words.push(format!("--label {}", quoted(&format!("{name}={value}"))));
            }
            if request.network == NetworkMode::None {
                words.push("--network none".to_owned());
            }
            if request.no_cache {
                words.push("--no-cache".to_owned());
            }
            let dockerfile = package.shown.join(self.dockerfile(package)?);
            words.push(format!("-f {}", quoted(&dockerfile.display().to_string())));
            words.push(quoted(&package.shown.display().to_string()));
            (self.say)(&words.join(" "))?;
        }
        Ok(())
    }
}

/// A word as a shell takes it for one.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@+%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}
