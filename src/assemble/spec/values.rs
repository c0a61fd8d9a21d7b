//! Values that have a form: paths here and in the image, modes, ids, names of variables.

use super::Placed;
use super::reader::{Field, Reader};
use crate::yaml::{Value, shorten};
use std::path::PathBuf;

/// Greatest id: the one after it means "unchanged" to the kernel.
pub(super) const MAX_ID: i128 = u32::MAX as i128 - 1;

impl Reader {
    /// A path of this machine.
    pub(super) fn host_path(&mut self, field: &Field) -> Option<Placed<PathBuf>> {
        let Placed { value, span } = self.filled(field)?;
        Some(Placed { value: PathBuf::from(value), span })
    }

    /// A path of the image: absolute, without `..`; `//`, `/./` and a slash at its end are taken out.
    pub(super) fn image_path(&mut self, field: &Field) -> Option<Placed<String>> {
        let Placed { value, span } = self.filled(field)?;
        let shown = shorten(&value);
        if !value.starts_with('/') {
            let message = format!("`{}` must be absolute: `{shown}`", field.what);
            let hint = format!("write it as `/{}`", shown.trim_start_matches("./"));
            let hint = if shown.contains("..") {
                "a path of the image begins with `/` and has no `..`".to_owned()
            } else {
                hint
            };
            self.wrong(span, message, &hint);
            return None;
        }
        let parts: Vec<&str> =
            value.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if parts.contains(&"..") {
            let message = format!("`{}` may not hold `..`: `{shown}`", field.what);
            self.wrong(span, message, "write the path that is meant");
            return None;
        }
        Some(Placed { value: format!("/{}", parts.join("/")), span })
    }

    /// An image path below the root.
    pub(super) fn path_below_root(&mut self, field: &Field) -> Option<Placed<String>> {
        let path = self.image_path(field)?;
        if path.value == "/" {
            self.problems.report(path.span, format!("`{}` is the root of the image", field.what));
            return None;
        }
        Some(path)
    }

    /// Permission bits: octal digits, in quotes or with a 0 in front.
    pub(super) fn mode(&mut self, field: &Field) -> Option<u32> {
        let text = self.filled(field)?;
        let plain = matches!(field.node.value, Value::Scalar { plain: true, .. });
        let digits = text.value.strip_prefix("0o").unwrap_or(&text.value);
        let octal = digits.len() <= 5 && digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
        let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| octal && *mode <= 0o7777);
        let shown = shorten(&text.value);
        if mode.is_none() {
            let message = format!("`{}` must be permission bits, not `{shown}`", field.what);
            self.wrong(text.span, message, "write them in octal digits, for example \"0755\"");
        } else if plain && !text.value.starts_with('0') {
            let message = format!("`{}` is a decimal number: `{shown}`", field.what);
            self.wrong(text.span, message, "permission bits are octal: begin with 0, in quotes");
            return None;
        }
        mode
    }

    /// Number of a user or group.
    pub(super) fn id(&mut self, field: &Field) -> Option<u32> {
        let id = self.problems.integer(&field.node, &field.what, &(0..=MAX_ID))?;
        u32::try_from(id).ok()
    }

    /// Name of a user or group, as a tar has it.
    pub(super) fn owner_name(&mut self, field: &Field) -> Option<String> {
        let name = self.filled(field)?;
        if name.value.contains([':', '\n', '/']) {
            let message = format!("`{}` is no name: `{}`", field.what, shorten(&name.value));
            self.problems.report(name.span, message);
            return None;
        }
        Some(name.value)
    }

    /// Whether a text can be the name of a variable; if not, that is noted.
    pub(super) fn variable_name(&mut self, name: &Placed<String>, what: &str) -> bool {
        let shown = shorten(&name.value);
        let good = !name.value.is_empty() && !name.value.contains(['=', '\0']);
        if name.value.is_empty() {
            self.problems.report(name.span, format!("a variable in `{what}` has no name"));
        } else if !good {
            let message = format!("`{shown}` in `{what}` is no name of a variable");
            self.problems.report(name.span, message);
        }
        good
    }
}
