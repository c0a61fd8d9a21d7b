//! The client against registries that behave and registries that do not.

mod arrive;
mod catalog;
mod engine;
mod fake;
mod hostile;
mod login;
mod malicious;
mod patience;
mod peer;
mod proxy;
mod push;
mod resumed;
mod stop;
mod uploads;

use super::*;
use crate::oci::layout::Layout;
use crate::oci::media::{
    DOCKER_LIST, DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST,
};
use crate::oci::spec::{self, Descriptor};
use crate::oci::{Digest, Platform, Reference};
use crate::progress::{Emitter, Event, Sink};
use fake::{Fake, Reply, Request, Store};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A client that notes how long it would have waited.
struct Client {
    registry: Registry,
    waits: Arc<Mutex<Vec<Duration>>>,
    _dir: tempfile::TempDir,
    layout: Layout,
}

impl Client {
    fn new() -> Self {
        Self::with(NetConfig::default())
    }

    fn with(config: NetConfig) -> Self {
        let waits = Arc::<Mutex<Vec<Duration>>>::default();
        let noted = Arc::clone(&waits);
        let pause = Pause::with(move |time| noted.lock().unwrap().push(time));
        let config = NetConfig { pause, ..config };
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path().join("images")).unwrap();
        Self { registry: Registry::new(&config).unwrap(), waits, _dir: dir, layout }
    }

    fn pull(&self, name: &str) -> NetResult<Pulled> {
        self.pull_as(name, &Wanted::All)
    }

    fn pull_as(&self, name: &str, wanted: &Wanted) -> NetResult<Pulled> {
        let reference = Reference::parse(name).unwrap();
        self.registry.pull(&reference, wanted, &self.layout, &Emitter::silent())
    }

    fn head(&self, name: &str) -> NetResult<Option<Digest>> {
        self.registry.head(&Reference::parse(name).unwrap())
    }

    fn has(&self, value: &Value) -> bool {
        self.layout.has(&parsed(value))
    }

    fn waits(&self) -> usize {
        self.waits.lock().unwrap().len()
    }
}

fn parsed(value: &Value) -> Descriptor {
    spec::from_json("descriptor", &serde_json::to_vec(value).unwrap()).unwrap()
}

/// An image with `layers` and its descriptor.
fn image(store: &mut Store, layers: &[&[u8]], tag: Option<&str>) -> Value {
    let config = store.blob(OCI_CONFIG, format!("{{\"layers\":{}}}", layers.len()).as_bytes());
    let layers: Vec<Value> = layers.iter().map(|layer| store.blob(OCI_LAYER, layer)).collect();
    let manifest =
        json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers});
    store.document(OCI_MANIFEST, &manifest, tag)
}

fn on(mut descriptor: Value, os: &str, architecture: &str) -> Value {
    descriptor["platform"] = json!({"os": os, "architecture": architecture});
    descriptor
}

fn amd64() -> Wanted {
    Wanted::One(Platform::new("linux", "amd64", ""))
}

#[test]
fn an_image_comes_whole_and_only_once() {
    let mut store = Store::default();
    let manifest = image(&mut store, &[b"one", b"", b"three"], Some("1"));
    let files: Vec<Value> = store.files.values().map(|(kind, bytes)| {
        json!({"mediaType": kind, "digest": Digest::of(bytes), "size": bytes.len()})
    }).collect();
    let fake = Fake::start(move |request| store.reply(request));
    let client = Client::new();
    let name = format!("{}/app:1", fake.host());
    let pulled = client.pull(&name).unwrap();
    assert_eq!(pulled, Pulled { root: parsed(&manifest), image: parsed(&manifest) });
    assert!(files.iter().all(|file| client.has(file)));
    assert_eq!(fake.take_log().len(), 5);
    assert_eq!(client.pull(&name).unwrap(), pulled);
    assert_eq!(fake.lines(), ["GET /v2/app/manifests/1"]);
    assert_eq!(
        client.head(&name).unwrap().as_ref().map(Digest::as_str),
        manifest["digest"].as_str()
    );
    assert_eq!(fake.lines(), ["HEAD /v2/app/manifests/1"]);
    assert_eq!(client.waits(), 0);
}

#[test]
fn a_damaged_blob_is_fetched_again() {
    let mut store = Store::default();
    let manifest = image(&mut store, &[b"one"], Some("1"));
    let fake = Fake::start(move |request| store.reply(request));
    let client = Client::new();
    let name = format!("{}/app:1", fake.host());
    client.pull(&name).unwrap();
    std::fs::write(client.layout.blob_path(&Digest::of(b"one")), "on").unwrap();
    client.pull(&name).unwrap();
    let path = client.layout.blob_path(&Digest::of(b"one"));
    assert_eq!(std::fs::read(path).unwrap(), b"one");
    assert!(client.has(&manifest));
}

#[test]
fn an_index_comes_whole_or_for_one_platform() {
    let mut store = Store::default();
    let amd = on(image(&mut store, &[b"amd"], None), "linux", "amd64");
    let arm = on(image(&mut store, &[b"arm", b"more"], None), "linux", "arm64");
    let note = on(image(&mut store, &[b"note", b"", b""], None), "unknown", "unknown");
    let index = json!({"schemaVersion": 2, "manifests": [note, arm, amd]});
    let index = store.document(OCI_INDEX, &index, Some("1"));
    let fake = Fake::start(move |request| store.reply(request));
    let name = format!("{}/app:1", fake.host());

    let client = Client::new();
    let pulled = client.pull_as(&name, &amd64()).unwrap();
    assert_eq!(pulled, Pulled { root: parsed(&index), image: parsed(&amd) });
    assert!(client.has(&index) && client.has(&amd) && !client.has(&arm) && !client.has(&note));
    assert!(client.layout.has_blob(&Digest::of(b"amd")));
    assert!(!client.layout.has_blob(&Digest::of(b"arm")));

    let pulled = client.pull(&name).unwrap();
    assert_eq!(pulled, Pulled { root: parsed(&index), image: parsed(&index) });
    assert!([&index, &amd, &arm, &note].iter().all(|one| client.has(one)));
    assert!(client.layout.has_blob(&Digest::of(b"more")));

    let wanted = Wanted::One(Platform::new("linux", "s390x", ""));
    let error = client.pull_as(&name, &wanted).unwrap_err();
    assert_eq!(error.trouble(), Trouble::NotFound);
    assert_eq!(
        error.to_string(),
        format!("cannot pull `{name}`: there is no image for linux/s390x under this name")
    );
    assert_eq!(error.error().hints(), ["it is there for: linux/amd64, linux/arm64"]);
}

#[test]
fn docker_lists_and_nested_indexes() {
    let mut store = Store::default();
    let config = store.blob("application/vnd.docker.container.image.v1+json", b"{}");
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": []});
    let amd = on(store.document(DOCKER_MANIFEST, &manifest, None), "linux", "amd64");
    let inner = json!({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [amd]});
    let inner = store.document(DOCKER_LIST, &inner, None);
    let outer = json!({"schemaVersion": 2, "manifests": [inner]});
    let outer = store.document(OCI_INDEX, &outer, Some("1"));
    let fake = Fake::start(move |request| store.reply(request));
    for wanted in [amd64(), Wanted::All] {
        let client = Client::new();
        let pulled = client.pull_as(&format!("{}/app:1", fake.host()), &wanted).unwrap();
        assert_eq!(pulled.root, parsed(&outer));
        assert!([&outer, &inner, &amd, &config].iter().all(|one| client.has(one)));
    }
}

#[test]
fn a_lone_manifest_is_taken_whatever_the_platform() {
    let mut store = Store::default();
    let manifest = image(&mut store, &[b"one"], Some("1"));
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    let index = store.document(OCI_INDEX, &index, Some("index"));
    let fake = Fake::start(move |request| store.reply(request));
    let client = Client::new();
    let pulled = client.pull_as(&format!("{}/app:1", fake.host()), &amd64()).unwrap();
    assert_eq!(pulled.image, parsed(&manifest));
    let pulled = client.pull_as(&format!("{}/app:index", fake.host()), &amd64()).unwrap();
    assert_eq!(pulled, Pulled { root: parsed(&index), image: parsed(&manifest) });
}

#[test]
fn a_name_by_digest_is_asked_for_by_digest() {
    let mut store = Store::default();
    let manifest = image(&mut store, &[], None);
    let fake = Fake::start(move |request| store.reply(request));
    let digest = manifest["digest"].as_str().unwrap();
    let client = Client::new();
    client.pull(&format!("{}/app:tag@{digest}", fake.host())).unwrap();
    assert_eq!(fake.lines()[0], format!("GET /v2/app/manifests/{digest}"));
}

/// A registry that wants the token `t` and a token service beside it.
fn guarded(store: Store, asked: fn(&Request) -> Reply) -> impl Fn(&Request) -> Reply {
    move |request| {
        if request.path.starts_with("/token") {
            return asked(request);
        }
        if request.path != "/v2/" && request.header("authorization") != "Bearer t" {
            let realm = format!("http://{}/token", request.header("host"));
            let challenge =
                format!("Bearer realm=\"{realm}\",service=\"s\",scope=\"repository:app:pull\"");
            return Reply::status(401)
                .with("www-authenticate", &challenge)
                .body(r#"{"errors":[{"code":"UNAUTHORIZED","message":"who?"}]}"#);
        }
        store.reply(request)
    }
}

#[test]
fn a_token_is_fetched_once_and_kept_from_others() {
    let mut store = Store::default();
    let manifest = image(&mut store, &[b"one", b"two"], Some("1"));
    let blobs = store.clone();
    let other = Fake::start(move |request| {
        let mut request = request.clone();
        request.path = request.path.replace("/elsewhere", "");
        blobs.reply(&request)
    });
    let elsewhere = other.host();
    let inner = guarded(store, |_| Reply::ok(r#"{"token":"t"}"#));
    let fake = Fake::start(move |request| {
        let reply = inner(request);
        if reply.status == 200 && request.path.contains("/blobs/") {
            let there = format!("http://{elsewhere}/elsewhere{}?signature=secret", request.path);
            return Reply::status(307).with("location", &there);
        }
        reply
    });
    let client = Client::new();
    client.pull(&format!("{}/app:1", fake.host())).unwrap();
    assert!(client.has(&manifest));
    let lines = fake.lines();
    let token = "GET /token?service=s&scope=repository%3Aapp%3Apull";
    assert_eq!(lines[..3], ["GET /v2/app/manifests/1", token, "GET /v2/app/manifests/1"]);
    assert_eq!(lines.len(), 6);
    let log = other.take_log();
    assert_eq!(log.len(), 3);
    assert!(log.iter().all(|request| request.header("authorization").is_empty()));
    assert!(log.iter().all(|request| request.path.ends_with("?signature=secret")));
}

#[test]
fn refusals_are_told_apart() {
    let store = Store::default();
    let client = Client::new();
    let fake = Fake::start(guarded(store.clone(), |_| Reply::status(403)));
    let error = client.pull(&format!("{}/app:1", fake.host())).unwrap_err();
    assert_eq!(error.trouble(), Trouble::Refused);
    assert_eq!(error.error().message(), format!("cannot pull `{}/app:1`", fake.host()));
    assert_eq!(
        error.error().causes(),
        [
            format!("the token service of registry `{}` refuses access", fake.host()),
            format!("GET http://{}/token?…: status 403", fake.host())
        ]
    );

    let fake = Fake::start(guarded(store.clone(), |_| Reply::ok(r#"{"token":"wrong"}"#)));
    let error = client.pull(&format!("{}/app:1", fake.host())).unwrap_err();
    assert_eq!(error.trouble(), Trouble::Refused);
    assert_eq!(
        error.error().causes()[1],
        format!("GET http://{}/v2/app/manifests/1: status 401: UNAUTHORIZED (who?)", fake.host())
    );

    let fake = Fake::start(|_| Reply::status(401).with("www-authenticate", "Basic realm=\"x\""));
    let error = client.head(&format!("{}/app:1", fake.host())).unwrap_err();
    assert_eq!(error.trouble(), Trouble::Refused);

    let fake = Fake::start(move |request| store.reply(request));
    let name = format!("{}/app:1", fake.host());
    assert_eq!(client.head(&name).unwrap(), None);
    let error = client.pull(&name).unwrap_err();
    assert_eq!(error.trouble(), Trouble::NotFound);
    assert_eq!(
        error.to_string(),
        format!(
            "cannot pull `{name}`: registry `{0}` does not have it: GET http://{0}/v2/app/manifests/1: status 404: MANIFEST_UNKNOWN (manifest unknown)",
            fake.host()
        )
    );
    assert_eq!(client.waits(), 0);
}

#[test]
fn a_registry_that_is_not_there_is_unreachable_at_once() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    drop(listener);
    let client = Client::new();
    for error in [
        client.pull(&format!("{host}/app:1")).unwrap_err(),
        client.head(&format!("{host}/app:1")).unwrap_err(),
    ] {
        assert_eq!(error.trouble(), Trouble::Unreachable);
        let causes = error.error().causes();
        assert_eq!(causes[0], format!("registry `{host}` cannot be reached"));
        assert!(causes[1].ends_with("connection refused"), "{causes:?}");
        assert_eq!(error.error().kind().exit_code(), 3);
    }
    assert_eq!(client.waits(), 0);
}

#[test]
fn a_head_without_a_digest_is_followed_by_a_get() {
    let mut store = Store::default();
    let manifest = image(&mut store, &[], Some("1"));
    let digest = manifest["digest"].as_str().unwrap().to_owned();
    for refused in [false, true] {
        let store = store.clone();
        let fake = Fake::start(move |request| {
            if refused && request.method == "HEAD" {
                return Reply::status(405);
            }
            let mut reply = store.reply(request);
            reply.headers.retain(|(name, _)| name != "docker-content-digest");
            reply
        });
        let client = Client::new();
        let found = client.head(&format!("{}/app:1", fake.host())).unwrap().unwrap();
        assert_eq!(found.as_str(), digest);
        assert_eq!(client.head(&format!("{}/app:2", fake.host())).unwrap(), None);
    }
}

#[test]
fn a_layer_that_must_not_be_copied_may_be_missing() {
    let mut store = Store::default();
    let config = store.blob(OCI_CONFIG, b"{}");
    let mut layer =
        store.blob("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", b"windows");
    store.files.remove(&format!("/v2/app/blobs/{}", Digest::of(b"windows")));
    layer["urls"] = json!(["https://example.invalid/windows"]);
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
    let manifest = store.document(OCI_MANIFEST, &manifest, Some("1"));
    let fake = Fake::start(move |request| store.reply(request));
    let client = Client::new();
    client.pull(&format!("{}/app:1", fake.host())).unwrap();
    assert!(client.has(&manifest) && client.has(&config) && !client.has(&layer));
}

#[test]
fn warnings_are_given_once() {
    #[derive(Default)]
    struct Seen(Mutex<Vec<String>>);
    impl Sink for Seen {
        fn event(&self, event: Event) {
            if let Event::Warning { text, .. } = event {
                self.0.lock().unwrap().push(text);
            }
        }
    }
    let mut store = Store::default();
    image(&mut store, &[b"one"], Some("1"));
    let fake = Fake::start(move |request| {
        store.reply(request).with("warning", "299 - \"going away\"").with("warning", "nonsense")
    });
    let seen = Arc::<Seen>::default();
    let emitter = Emitter::new(Arc::<Seen>::clone(&seen));
    let client = Client::new();
    let reference = Reference::parse(&format!("{}/app:1", fake.host())).unwrap();
    for _ in 0..2 {
        client.registry.pull(&reference, &Wanted::All, &client.layout, &emitter).unwrap();
    }
    let wanted = format!("registry `{}` says: going away", fake.host());
    assert_eq!(*seen.0.lock().unwrap(), [wanted]);
}
