//! A registry on loopback with the images that a test gives it. Blobs can be held back, and are let go when the test says so.

use nativebuild::oci::media::{OCI_CONFIG, OCI_LAYER, OCI_MANIFEST};
use nativebuild::oci::{Digest, Platform};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// Nothing takes so long.
pub const MINUTE: Duration = Duration::from_mins(1);

/// The server; it ends with the test's process.
pub struct Shelf {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Media type and bytes, by path.
    files: BTreeMap<String, (&'static str, Vec<u8>)>,
    /// How many bytes come of a blob before it is let go, by digest.
    held: BTreeMap<String, usize>,
    /// Digests of blobs of which nothing more comes now.
    waiting: BTreeSet<String>,
    /// Last part of the path and value of Range of every request.
    asked: Vec<(String, String)>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Waits until something is so.
    fn wait(&self, what: &str, is_so: impl Fn(&State) -> bool) {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, MINUTE, |state| !is_so(state));
        assert!(!waited.unwrap().1.timed_out(), "{what}");
    }

    /// Waits as long as a blob is held.
    fn wait_for_release(&self, digest: &str) {
        let mut state = self.lock();
        state.waiting.insert(digest.to_owned());
        self.changed.notify_all();
        while state.held.contains_key(digest) {
            state = self.changed.wait(state).unwrap();
        }
    }
}

impl Shelf {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        shared.lock().files.insert("/v2/".to_owned(), ("application/json", b"{}".to_vec()));
        let served = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&served);
                std::thread::spawn(move || while answer(&stream, &shared).is_some() {});
            }
        });
        Self { address, shared }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Puts an image for this machine with these tars as layers into a repository; gives its name.
    pub fn put(&self, repository: &str, layers: &[&[u8]]) -> String {
        let mut state = self.shared.lock();
        let mut put = |kind: &'static str, bytes: &[u8]| {
            let digest = Digest::of(bytes);
            let path = format!("/v2/{repository}/blobs/{digest}");
            state.files.insert(path, (kind, bytes.to_vec()));
            json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
        };
        let layers: Vec<Value> = layers.iter().map(|layer| put(OCI_LAYER, layer)).collect();
        let diff_ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
        let history = vec![json!({"created_by": "a test"}); layers.len()];
        let architecture = Platform::host().architecture;
        let config = json!({"architecture": architecture, "os": "linux", "config": {},
            "history": history, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = put(OCI_CONFIG, config.to_string().as_bytes());
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config,
            "layers": layers});
        let bytes = manifest.to_string().into_bytes();
        for name in [Digest::of(&bytes).to_string(), "1".to_owned()] {
            let path = format!("/v2/{repository}/manifests/{name}");
            state.files.insert(path, (OCI_MANIFEST, bytes.clone()));
        }
        format!("{}/{repository}:1", self.host())
    }

    /// Takes a blob away.
    pub fn remove(&self, repository: &str, blob: &[u8]) {
        let path = format!("/v2/{repository}/blobs/{}", Digest::of(blob));
        assert!(self.shared.lock().files.remove(&path).is_some());
    }

    /// Of this blob only so many bytes come, until it is let go; of one that is not there no answer.
    pub fn hold(&self, blob: &[u8], bytes: usize) {
        self.shared.lock().held.insert(Digest::of(blob).to_string(), bytes);
    }

    /// Lets go of a blob.
    pub fn release(&self, blob: &[u8]) {
        let digest = Digest::of(blob).to_string();
        let mut state = self.shared.lock();
        state.held.remove(&digest);
        state.waiting.remove(&digest);
        self.shared.changed.notify_all();
    }

    /// Waits until somebody waits for a blob that is held.
    pub fn wait_until_held(&self, blob: &[u8]) {
        let digest = Digest::of(blob).to_string();
        self.shared.wait("a blob is asked for", |state| state.waiting.contains(&digest));
    }

    /// Waits until a blob was asked for.
    pub fn wait_until_asked(&self, blob: &[u8]) {
        let digest = Digest::of(blob).to_string();
        let asked = |state: &State| state.asked.iter().any(|(name, _)| *name == digest);
        self.shared.wait("a blob is asked for", asked);
    }

    /// Values of Range of the requests for a blob.
    pub fn asked(&self, blob: &[u8]) -> Vec<String> {
        let digest = Digest::of(blob).to_string();
        let state = self.shared.lock();
        let asked = state.asked.iter().filter(|(name, _)| *name == digest);
        asked.map(|(_, range)| range.clone()).collect()
    }
}

/// One request; none when the client is gone.
fn answer(mut stream: &TcpStream, shared: &Shared) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?, words.next()?);
    let mut range = String::new();
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("range: ") {
            value.clone_into(&mut range);
        }
    }
    let name = path.rsplit('/').next()?.to_owned();
    let mut state = shared.lock();
    let (file, held) = (state.files.get(path).cloned(), state.held.get(&name).copied());
    state.asked.push((name.clone(), range.clone()));
    drop(state);
    shared.changed.notify_all();
    let Some((kind, body)) = file else {
        if held.is_some() {
            shared.wait_for_release(&name);
        }
        return stream.write_all(b"HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n").ok();
    };
    let from = range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
    let from: usize = from.map_or(0, |from| from.parse().unwrap());
    let rest = &body[from..];
    let status = if from == 0 { 200 } else { 206 };
    let mut head = format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n");
    head += &format!("docker-content-digest: {}\r\n", Digest::of(&body));
    if from > 0 {
        let (last, all) = (body.len() - 1, body.len());
        head += &format!("content-range: bytes {from}-{last}/{all}\r\n");
    }
    head += &format!("content-length: {}\r\n\r\n", rest.len());
    stream.write_all(head.as_bytes()).ok()?;
    if method == "HEAD" {
        return Some(());
    }
    let (now, later) = rest.split_at(held.unwrap_or(rest.len()).min(rest.len()));
    stream.write_all(now).ok()?;
    if !later.is_empty() {
        shared.wait_for_release(&name);
    }
    stream.write_all(later).ok()
}

/// A tar with one file.
pub fn layer(name: &str, content: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_mtime(1_600_000_000);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, name, content.as_bytes()).unwrap();
    tar.into_inner().unwrap()
}
