//! A small base image out of Debian's static busybox, made the same way each time.

use std::process::Command;
use std::sync::OnceLock;
use tar::{Builder, EntryType, Header};

const BUSYBOX: &str = "/bin/busybox";

/// The tar of its root file system.
pub fn busybox_tar() -> &'static [u8] {
    static TAR: OnceLock<Vec<u8>> = OnceLock::new();
    TAR.get_or_init(make)
}

fn make() -> Vec<u8> {
    let busybox = std::fs::read(BUSYBOX).expect("the package busybox-static is installed");
    let list = Command::new(BUSYBOX).arg("--list").output().unwrap();
    let applets = String::from_utf8(list.stdout).unwrap();
    let mut tar = Builder::new(Vec::new());
    let mut add = |path: &str, kind: EntryType, mode: u32, body: &[u8], link: &str| {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        header.set_size(body.len() as u64);
        if link.is_empty() {
            tar.append_data(&mut header, path, body).unwrap();
        } else {
            tar.append_link(&mut header, path, link).unwrap();
        }
    };
    for (dir, mode) in [
        ("bin/", 0o755),
        ("dev/", 0o755),
        ("etc/", 0o755),
        ("home/", 0o755),
        ("proc/", 0o755),
        ("root/", 0o700),
        ("sys/", 0o755),
        ("tmp/", 0o1777),
        ("usr/", 0o755),
        ("usr/share/", 0o755),
        ("usr/share/doc/", 0o755),
        ("var/", 0o755),
    ] {
        add(dir, EntryType::Directory, mode, b"", "");
    }
    add("bin/busybox", EntryType::Regular, 0o755, &busybox, "");
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        add(&format!("bin/{applet}"), EntryType::Link, 0o755, b"", "bin/busybox");
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/usr/sbin:/bin/false\n\
                  app:x:1000:1000::/home:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n";
    let group = "root:x:0:\ndaemon:x:1:\nwheel:x:10:root\napp:x:1000:\nextra:x:2000:app\nnogroup:x:65534:\n";
    add("etc/passwd", EntryType::Regular, 0o644, passwd.as_bytes(), "");
    add("etc/group", EntryType::Regular, 0o644, group.as_bytes(), "");
    for name in ["a", "b", "c"] {
        add(&format!("usr/share/doc/{name}"), EntryType::Regular, 0o644, name.as_bytes(), "");
    }
    tar.into_inner().unwrap()
}

/// The tar of a root file system with nothing in it but busybox: no directory to mount anything on.
pub fn bare_tar() -> Vec<u8> {
    let busybox = std::fs::read(BUSYBOX).expect("the package busybox-static is installed");
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_600_000_000);
    header.set_size(busybox.len() as u64);
    let mut tar = Builder::new(Vec::new());
    tar.append_data(&mut header, "busybox", &busybox[..]).unwrap();
    tar.into_inner().unwrap()
}

/// A tar with one character device.
pub fn tar_with_device(name: &str, (major, minor): (u32, u32)) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    let mut header = Header::new_ustar();
    header.set_path(name).unwrap();
    header.set_entry_type(EntryType::Char);
    header.set_mode(0o666);
    header.set_device_major(major).unwrap();
    header.set_device_minor(minor).unwrap();
    header.set_size(0);
    header.set_cksum();
    tar.append(&header, &[][..]).unwrap();
    tar.into_inner().unwrap()
}

/// What a tar holds, sorted: `path type mode uid:gid target-or-size`.
pub fn list_tar(bytes: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(bytes);
    let mut lines: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            let path =
                String::from_utf8_lossy(&entry.path_bytes()).trim_end_matches('/').to_owned();
            let kind = match header.entry_type() {
                EntryType::Directory => "dir",
                EntryType::Symlink => "symlink",
                EntryType::Link => "link",
                EntryType::Char => "char",
                EntryType::Block => "block",
                EntryType::Fifo => "fifo",
                _ => "file",
            };
            let extra = match entry.link_name_bytes() {
                Some(link) => String::from_utf8_lossy(&link).into_owned(),
                None => header.size().unwrap().to_string(),
            };
            let (mode, uid, gid) =
                (header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap());
            format!("{path} {kind} {mode:o} {uid}:{gid} {extra}")
        })
        .collect();
    lines.sort();
    lines
}
