//! Images for several platforms: a small base for any of them, and looking into results.

use super::{World, base};
use serde_json::Value;
use std::fs;
use std::io::Read;
use tar::{Builder, Header};

/// A root file system that says in a file `platform` which one it is.
fn tree_of(platform: &str) -> Vec<u8> {
    let text = format!("{platform}\n");
    let mut header = Header::new_ustar();
    header.set_mode(0o644);
    header.set_mtime(1_600_000_000);
    header.set_size(text.len() as u64);
    let mut tar = Builder::new(Vec::new());
    tar.append_data(&mut header, "platform", text.as_bytes()).unwrap();
    tar.into_inner().unwrap()
}

impl World {
    /// Imports an index in which each platform's tree is a file that names it. No program is in it.
    pub fn with_platforms(self, name: &str, platforms: &[&str]) -> Self {
        for platform in platforms {
            let tar = self.path("platform.tar");
            fs::write(&tar, tree_of(platform)).unwrap();
            self.give();
            let tar = tar.to_str().unwrap();
            self.run(["image", "import", "--add", name, tar, "--platform", platform]).ok();
        }
        self
    }

    fn export(&self, image: &str, platform: &str) -> Vec<u8> {
        let to = self.path("out/export.tar");
        let args = ["image", "export", image, "--platform", platform, "-o", to.to_str().unwrap()];
        self.run(args).ok();
        fs::read(to).unwrap()
    }

    /// The root file system of one platform of an image, as lines.
    pub fn tree(&self, image: &str, platform: &str) -> Vec<String> {
        base::list_tar(&self.export(image, platform))
    }

    /// A file of one platform of an image; no text when it is not there.
    pub fn read(&self, image: &str, platform: &str, path: &str) -> String {
        let tar = self.export(image, platform);
        let mut archive = tar::Archive::new(&tar[..]);
        let mut found = String::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            if &*entry.path_bytes() == path.as_bytes() {
                entry.read_to_string(&mut found).unwrap();
            }
        }
        found
    }

    /// The manifest or index of an image.
    pub fn raw(&self, image: &str) -> Value {
        serde_json::from_str(&self.run(["image", "inspect", "--raw", image]).ok()).unwrap()
    }

    /// What `image inspect` says of one platform.
    pub fn inspect(&self, image: &str, platform: &str) -> Value {
        let said = self.run(["image", "inspect", "--json", image, "--platform", platform]);
        serde_json::from_str(&said.ok()).unwrap()
    }

    /// Platforms of an image, as `image ls` shows them.
    pub fn platforms(&self, image: &str) -> Vec<String> {
        let listed: Value =
            serde_json::from_str(&self.run(["image", "ls", "--json"]).ok()).unwrap();
        let name = format!("docker.io/library/{image}:latest");
        let found = listed.as_array().unwrap().iter().find(|row| row["name"] == *name).unwrap();
        let words = found["platforms"].as_array().unwrap().iter();
        words.map(|word| word.as_str().unwrap().to_owned()).collect()
    }
}
