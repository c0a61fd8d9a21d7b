//! Uploads that a process left behind, and what the next one makes of them.

use super::push::{Uploads, range};
use super::*;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

const HALF: usize = 600_000;
const SESSION: &str = "/v2/app/blobs/uploads/0";

fn layer() -> Vec<u8> {
    (0..2 * HALF).map(|at| (at % 251) as u8).collect()
}

/// A registry that half of a layer came to, and what the process remembered that did not get further.
struct Scene {
    fake: Fake,
    uploads: Arc<Mutex<Uploads>>,
    dir: tempfile::TempDir,
}

impl Scene {
    /// `other` gives answers that are to be others than the proper ones.
    fn new(
        other: impl Fn(&Request, &mut Uploads) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::within(dir, other)
    }

    fn within(
        dir: tempfile::TempDir,
        other: impl Fn(&Request, &mut Uploads) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let uploads = Arc::<Mutex<Uploads>>::default();
        let (seen, down) = (Arc::clone(&uploads), Arc::<AtomicBool>::default());
        let is_down = Arc::clone(&down);
        let began = AtomicBool::new(false);
        let fake = Fake::start(move |request| {
            let mut uploads = seen.lock().unwrap();
            if request.body.len() == 2 * HALF && !began.swap(true, Ordering::SeqCst) {
                uploads.sessions.get_mut(SESSION).unwrap().extend(&request.body[..HALF]);
                is_down.store(true, Ordering::SeqCst);
            }
            if is_down.load(Ordering::SeqCst) {
                return Reply::closed();
            }
            other(request, &mut uploads).unwrap_or_else(|| uploads.reply(request))
        });
        let scene = Self { fake, uploads, dir };
        scene.push().unwrap_err();
        down.store(false, Ordering::SeqCst);
        scene.fake.take_log();
        scene
    }

    /// As another process would.
    fn push(&self) -> NetResult<Vec<String>> {
        let uploads = Some(self.dir.path().join("uploads"));
        let client = Client::with(NetConfig { uploads, ..NetConfig::default() });
        let image = client.image(&[&layer()]);
        client.push(&image, &[&format!("{}/app:1", self.fake.host())])
    }

    /// What the next push asks for the layer, with lengths of bodies. The layer is there then.
    fn again(&self) -> Vec<String> {
        self.push().unwrap();
        let digest = Digest::of(&layer());
        let there = ("app".to_owned(), digest.to_string());
        assert!(self.uploads.lock().unwrap().blobs.contains(&there));
        let lines = self.fake.take_log().into_iter().map(|request| {
            let path = request.path.split('?').next().unwrap().replace("/v2/app/blobs/", "");
            let path = path.replace(digest.as_str(), "LAYER");
            format!("{} {path} {}", request.method, request.body.len())
        });
        lines.take_while(|line| !line.starts_with("HEAD sha256:")).collect()
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.dir.path().join("uploads")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// The one file that there is.
    fn file(&self) -> PathBuf {
        let files = self.files();
        assert_eq!(files.len(), 1);
        files[0].clone()
    }
}

/// What is asked when nothing of what was left is used.
fn anew(session: usize) -> [String; 3] {
    let put = format!("PUT uploads/{session} {}", 2 * HALF);
    ["HEAD LAYER 0".to_owned(), "POST uploads/ 0".to_owned(), put]
}

#[test]
fn the_next_process_sends_only_the_rest() {
    let scene = Scene::new(|_, _| None);
    let file = scene.file();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let record: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let location = format!("http://{}{SESSION}", scene.fake.host());
    assert_eq!(record, json!({"version": 1, "location": location, "min_chunk": 0}));
    let wanted = ["HEAD LAYER 0", "GET uploads/0 0", "PATCH uploads/0 600000", "PUT uploads/0 0"];
    // The registry itself is asked whether it has it now.
    assert_eq!(scene.again(), [&wanted[..], &["HEAD LAYER 0"]].concat());
    assert_eq!(scene.files(), Vec::<PathBuf>::new());
}

#[test]
fn a_session_that_is_gone_or_has_nothing_is_forgotten() {
    let scene = Scene::new(|_, _| None);
    scene.uploads.lock().unwrap().sessions.clear();
    let [head, post, put] = anew(0);
    assert_eq!(scene.again(), [head, "GET uploads/0 0".to_owned(), post, put]);
    assert_eq!(scene.files(), Vec::<PathBuf>::new());
    for said in ["0-0", "0-9223372036854775807", "x"] {
        let scene = Scene::new(move |request, _| {
            let asked = request.method == "GET" && request.path == SESSION;
            asked.then(|| Reply::status(204).with("range", said))
        });
        let [head, post, put] = anew(1);
        assert_eq!(scene.again(), [head, "GET uploads/0 0".to_owned(), post, put], "{said}");
        assert_eq!(scene.files(), Vec::<PathBuf>::new());
    }
}

#[test]
fn wrong_bytes_are_sent_once_more_from_the_start() {
    for status in [400, 404, 409, 416, 422] {
        let scene = Scene::new(move |request, uploads| {
            let path = request.path.split('?').next().unwrap();
            if request.method != "PUT" || !path.contains("/uploads/") {
                return None;
            }
            let bytes = [&uploads.sessions[path][..], &request.body[..]].concat();
            let good = request.path.ends_with(Digest::of(&bytes).hex());
            (!good).then(|| Reply::status(status))
        });
        scene.uploads.lock().unwrap().sessions.get_mut(SESSION).unwrap()[0] ^= 1;
        let [head, post, put] = anew(1);
        let resumed = ["GET uploads/0 0", "PATCH uploads/0 600000", "PUT uploads/0 0"];
        let resumed = resumed.map(str::to_owned);
        assert_eq!(scene.again(), [&[head][..], &resumed, &[post, put]].concat(), "{status}");
        assert_eq!(scene.files(), Vec::<PathBuf>::new());
    }
    // Nothing of the rest is taken.
    let scene = Scene::new(|request, uploads| {
        let reply = || Reply::status(202).with("location", SESSION);
        (request.method == "PATCH")
            .then(|| reply().with("range", &range(&uploads.sessions[SESSION])))
    });
    let [head, post, put] = anew(1);
    let resumed = ["GET uploads/0 0", "PATCH uploads/0 600000"].map(str::to_owned);
    assert_eq!(scene.again(), [&[head][..], &resumed, &[post, put]].concat());
}

#[test]
fn a_file_that_cannot_be_right_is_forgotten() {
    let record = |location: &str| json!({"version": 1, "location": location, "min_chunk": 0});
    let texts = [
        String::new(),
        "[".repeat(1000),
        json!({"version": 2, "location": format!("http://127.0.0.1{SESSION}"), "min_chunk": 0})
            .to_string(),
        record(&"x".repeat(100_000)).to_string(),
        record("file:///etc/passwd").to_string(),
        record(SESSION).to_string(),
        record("http://evil.example/x").to_string(),
        record("https://me:secret@evil.example/x").to_string(),
    ];
    for text in texts {
        let scene = Scene::new(|_, _| None);
        fs::write(scene.file(), &text).unwrap();
        assert_eq!(scene.again(), anew(1), "{text}");
        assert_eq!(scene.files(), Vec::<PathBuf>::new());
    }
    // What is no file is left alone.
    let scene = Scene::new(|_, _| None);
    let (file, other) = (scene.file(), scene.dir.path().join("other"));
    fs::rename(&file, &other).unwrap();
    std::os::unix::fs::symlink(&other, &file).unwrap();
    let before = fs::read(&other).unwrap();
    assert_eq!(scene.again(), anew(1));
    assert_eq!(fs::read(&other).unwrap(), before);
}

#[test]
fn another_host_is_not_believed_to_have_the_blob() {
    let elsewhere = Fake::start(|request| {
        assert_eq!(request.header("authorization"), "");
        match &*request.method {
            "GET" => Reply::status(204).with("range", &format!("0-{}", HALF - 1)),
            "PATCH" => Reply::status(202).with("location", "/x"),
            _ => Reply::status(201),
        }
    });
    let scene = Scene::new(|_, _| None);
    let location = format!("http://{}/x", elsewhere.host());
    let record = json!({"version": 1, "location": location, "min_chunk": 0});
    fs::write(scene.file(), record.to_string()).unwrap();
    let [head, post, put] = anew(1);
    assert_eq!(scene.again(), [head.clone(), head, post, put]);
    assert_eq!(elsewhere.lines().len(), 3);
    assert_eq!(scene.files(), Vec::<PathBuf>::new());
}

#[test]
fn a_session_that_another_process_uses_is_left_to_it() {
    let scene = Scene::new(|_, _| None);
    let file = scene.file();
    let before = fs::read(&file).unwrap();
    let held = File::open(&file).unwrap();
    held.lock().unwrap();
    assert_eq!(scene.again(), anew(1));
    assert_eq!(fs::read(scene.file()).unwrap(), before);
    // It is there now, and the other one is gone.
    drop(held);
    assert_eq!(scene.again(), ["HEAD LAYER 0"]);
    assert_eq!(scene.files(), Vec::<PathBuf>::new());
}

#[test]
fn old_files_go_when_another_is_written() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("uploads")).unwrap();
    for (name, days) in [("old", 8), ("young", 6)] {
        let file = File::create(dir.path().join("uploads").join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_hours(days * 24)).unwrap();
    }
    let scene = Scene::within(dir, |_, _| None);
    let names = scene.files().into_iter().map(|path| path.file_name().unwrap().to_owned());
    let names: Vec<_> = names.filter(|name| name.len() < 64).collect();
    assert_eq!(names, ["young"]);
    assert_eq!(scene.files().len(), 2);
}
