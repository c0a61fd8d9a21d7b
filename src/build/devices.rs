//! `RUN --device`: devices by their CDI names (Container Device Interface 0.6 to 1.0), as nodes, mounts and variables.
//!
//! In: names, and the directories of this machine that hold CDI specs; out: what a sandbox gets. Hooks are programs of the
//! host that would run outside of the sandbox, so a device that needs one is an error and not half a device. A spec that
//! cannot be read is passed over, with a word, until a device of it is wanted.

use crate::error::{Error, Result};
use crate::source::SourceFile;
use crate::yaml;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest spec that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// What a device changes in a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Edits {
    pub(super) env: Vec<String>,
    pub(super) device_nodes: Vec<Node>,
    pub(super) mounts: Vec<Mount>,
    hooks: Vec<serde_json::Value>,
    #[serde(rename = "additionalGIDs")]
    pub(super) additional_gids: Vec<u32>,
}

/// A device node: the one of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Node {
    /// Path in the sandbox.
    pub(super) path: String,
    host_path: String,
}

impl Node {
    /// Path on this machine.
    pub(super) fn host(&self) -> &str {
        if self.host_path.is_empty() { &self.path } else { &self.host_path }
    }
}

/// A file or directory of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Mount {
    pub(super) host_path: String,
    pub(super) container_path: String,
    options: Vec<String>,
}

impl Mount {
    /// Read-only, unless the spec says it may be written.
    pub(super) fn is_read_only(&self) -> bool {
        !self.options.iter().any(|option| option == "rw")
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    kind: String,
    devices: Vec<Device>,
    container_edits: Edits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Device {
    name: String,
    container_edits: Edits,
}

/// The devices of this machine.
#[derive(Debug, Default)]
pub(super) struct HostDevices {
    specs: Vec<Spec>,
    /// Files that could not be read, with why.
    broken: Vec<(PathBuf, String)>,
}

impl HostDevices {
    /// Reads all specs of the directories.
    pub(super) fn read(directories: &[PathBuf]) -> Self {
        let mut found = Self::default();
        for directory in directories {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
            files.sort();
            for file in files {
                let kind = file.extension().and_then(|ending| ending.to_str());
                let spec = match kind {
                    Some("json") => read_text(&file).and_then(|text| parse_json(&text)),
                    Some("yaml" | "yml") => {
                        read_text(&file).and_then(|text| parse_yaml(&file, text))
                    }
                    _ => continue,
                };
                match spec {
                    Ok(spec) => found.specs.push(spec),
                    Err(why) => found.broken.push((file, why)),
                }
            }
        }
        found
    }

    /// What the device `vendor/class=name` changes; `None` when there is no such device. `name` may be `*`.
    pub(super) fn find(&self, wanted: &str) -> Result<Option<Edits>> {
        let (kind, name) = wanted.split_once('=').unwrap_or((wanted, "*"));
        let mut all = Edits::default();
        let mut seen = BTreeSet::new();
        for spec in self.specs.iter().rev().filter(|spec| spec.kind == kind) {
            let fits = |device: &&Device| name == "*" || device.name == name;
            let devices: Vec<&Device> = spec.devices.iter().filter(fits).collect();
            for device in &devices {
                if seen.insert(device.name.as_str()) {
                    all.add(&device.container_edits);
                }
            }
            if !devices.is_empty() {
                all.add(&spec.container_edits);
            }
        }
        if seen.is_empty() {
            return match self.broken.first() {
                Some((file, why)) => {
                    Err(Error::environment(format!("cannot read {}", file.display()))
                        .cause(why)
                        .hint(format!("the device `{wanted}` may be in it")))
                }
                None => Ok(None),
            };
        }
        if !all.hooks.is_empty() {
            return Err(Error::environment(format!("the device `{wanted}` needs hooks of the host"))
                .hint("hooks would run outside of the sandbox and are not supported; generate its CDI spec without them"));
        }
        Ok(Some(all))
    }
}

impl Edits {
    fn add(&mut self, other: &Self) {
        self.env.extend(other.env.iter().cloned());
        self.device_nodes.extend(other.device_nodes.iter().cloned());
        self.mounts.extend(other.mounts.iter().cloned());
        self.hooks.extend(other.hooks.iter().cloned());
        self.additional_gids.extend(&other.additional_gids);
    }
}

fn read_text(file: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let mut text = Vec::new();
    let opened = std::fs::File::open(file).map_err(|error| error.to_string())?;
    opened.take(LARGEST).read_to_end(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

fn parse_json(text: &[u8]) -> Result<Spec, String> {
    serde_json::from_slice(text).map_err(|error| error.to_string())
}

fn parse_yaml(file: &Path, text: Vec<u8>) -> Result<Spec, String> {
    let source = Arc::new(SourceFile::new(file.display().to_string(), text));
    let value = yaml::to_json(&source).map_err(|error| error.to_string())?;
    serde_json::from_value(value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{"cdiVersion":"0.6.0","kind":"acme/gpu","containerEdits":{"env":["ALL=1"]},
        "devices":[{"name":"0","containerEdits":{"deviceNodes":[{"path":"/dev/gpu0","hostPath":"/dev/null"}]}},
                   {"name":"1","containerEdits":{"mounts":[{"hostPath":"/lib/x","containerPath":"/x","options":["ro","bind"]}]}},
                   {"name":"h","containerEdits":{"hooks":[{"hookName":"createContainer","path":"/bin/x"}]}}]}"#;
    const YAML: &str = "cdiVersion: 0.5.0\nkind: acme/net\ndevices:\n- name: a\n  containerEdits:\n    additionalGIDs: [7]\n    env:\n    - A=b=c\n    deviceNodes:\n    - path: /dev/zero\n";

    #[test]
    fn devices_are_found_in_specs_of_both_forms() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("gpu.json"), JSON).unwrap();
        std::fs::write(dir.path().join("net.yaml"), YAML).unwrap();
        std::fs::write(dir.path().join("README"), "no spec").unwrap();
        let devices = HostDevices::read(&[dir.path().to_owned(), "/nonexistent".into()]);
        let gpu = devices.find("acme/gpu=0").unwrap().unwrap();
        assert_eq!((gpu.env, gpu.device_nodes[0].host()), (vec!["ALL=1".to_owned()], "/dev/null"));
        let both = devices.find("acme/gpu=1").unwrap().unwrap();
        assert!(both.mounts[0].is_read_only());
        let net = devices.find("acme/net=a").unwrap().unwrap();
        assert_eq!((net.env, net.additional_gids), (vec!["A=b=c".to_owned()], vec![7]));
        assert_eq!(net.device_nodes[0].host(), "/dev/zero");
        assert_eq!(devices.find("acme/net").unwrap().unwrap().device_nodes.len(), 1);
        assert_eq!(devices.find("acme/gpu=9").unwrap(), None);
        assert_eq!(devices.find("other/gpu=0").unwrap(), None);
        let hooks = devices.find("acme/gpu=h").unwrap_err().to_string();
        assert_eq!(hooks, "the device `acme/gpu=h` needs hooks of the host");
    }

    #[test]
    fn a_damaged_spec_is_told_only_when_a_device_may_be_in_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("bad.json"), "{").unwrap();
        std::fs::write(dir.path().join("gpu.json"), JSON).unwrap();
        let devices = HostDevices::read(&[dir.path().to_owned()]);
        assert!(devices.find("acme/gpu=0").unwrap().is_some());
        assert!(devices.find("acme/other=0").unwrap_err().to_string().contains("bad.json"));
    }
}
