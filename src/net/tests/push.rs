//! Pushing: the order of things, what is not sent, and what happens when the registry or the way there is odd.

use super::*;
use crate::oci::media::OCI_LAYER;
use std::collections::{BTreeMap, BTreeSet};

/// A registry that takes uploads.
#[derive(Default)]
pub(super) struct Uploads {
    /// Repository and digest.
    pub(super) blobs: BTreeSet<(String, String)>,
    pub(super) sessions: BTreeMap<String, Vec<u8>>,
    pub(super) manifests: BTreeMap<String, Vec<u8>>,
}

impl Uploads {
    /// The proper answer.
    pub(super) fn reply(&mut self, request: &Request) -> Reply {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        if path == "/v2/" {
            return Reply::ok("{}");
        }
        let rest = path.strip_prefix("/v2/").unwrap();
        let (repository, what) =
            ["/blobs/", "/manifests/"].iter().find_map(|part| rest.split_once(part)).unwrap();
        let parameter = |name: &str| {
            let found = query.split('&').find_map(|part| part.strip_prefix(&format!("{name}=")));
            found.map(|value| value.replace("%3A", ":").replace("%2F", "/"))
        };
        match (&*request.method, what) {
            ("HEAD", digest) => {
                let there = self.blobs.contains(&(repository.to_owned(), digest.to_owned()));
                Reply::status(if there { 200 } else { 404 })
            }
            ("POST", _) => {
                let from = parameter("from").zip(parameter("mount"));
                if from.is_some_and(|from| self.blobs.contains(&from)) {
                    let digest = parameter("mount").unwrap();
                    self.blobs.insert((repository.to_owned(), digest));
                    return Reply::status(201);
                }
                let session = format!("/v2/{repository}/blobs/uploads/{}", self.sessions.len());
                self.sessions.insert(session.clone(), Vec::new());
                Reply::status(202).with("location", &session)
            }
            ("GET", _) => match self.sessions.get(path) {
                Some(bytes) => Reply::status(204).with("range", &range(bytes)),
                None => Reply::status(404),
            },
            ("PATCH", _) => {
                let bytes = self.sessions.get_mut(path).unwrap();
                let from = request.header("content-range").split('-').next().unwrap();
                assert_eq!(from.parse(), Ok(bytes.len()));
                bytes.extend(&request.body);
                Reply::status(202).with("location", path).with("range", &range(bytes))
            }
            ("PUT", _) if path.contains("/manifests/") => {
                let digest = Digest::of(&request.body);
                self.manifests.insert(path.to_owned(), request.body.clone());
                Reply::status(201).with("docker-content-digest", digest.as_str())
            }
            ("PUT", _) => {
                let mut bytes = self.sessions.remove(path).unwrap();
                bytes.extend(&request.body);
                let digest = parameter("digest").unwrap();
                assert_eq!(Digest::of(&bytes).as_str(), digest);
                self.blobs.insert((repository.to_owned(), digest));
                Reply::status(201)
            }
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn range(bytes: &[u8]) -> String {
    format!("0-{}", bytes.len().saturating_sub(1))
}

impl Client {
    /// An image whose layers have these bytes, in the layout.
    pub(super) fn image(&self, layers: &[&[u8]]) -> Descriptor {
        let blob = |kind: &str, bytes: &[u8]| {
            let digest = self.layout.put_blob(bytes).unwrap();
            json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
        };
        let config = blob(OCI_CONFIG, format!("{{\"layers\":{}}}", layers.len()).as_bytes());
        let layers: Vec<Value> = layers.iter().map(|layer| blob(OCI_LAYER, layer)).collect();
        self.document(
            OCI_MANIFEST,
            &json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}),
        )
    }

    pub(super) fn document(&self, kind: &str, value: &Value) -> Descriptor {
        self.layout.put_document(kind, &serde_json::to_vec(value).unwrap()).unwrap()
    }

    pub(super) fn push(&self, root: &Descriptor, names: &[&str]) -> NetResult<Vec<String>> {
        let names: Vec<Reference> =
            names.iter().map(|name| Reference::parse(name).unwrap()).collect();
        let pushed = self.registry.push(&self.layout, root, &names, &Emitter::silent())?;
        Ok(pushed.iter().map(Pushed::line).collect())
    }
}

/// Lines of a log with numbers for digests, in the order of their first use, and without the query.
pub(super) fn numbered(fake: &Fake) -> Vec<String> {
    let mut known: Vec<String> = Vec::new();
    let mut number = |line: String| {
        let Some(at) = line.find("sha256:") else { return line };
        let digest = line[at..at + 71].to_owned();
        if !known.contains(&digest) {
            known.push(digest.clone());
        }
        let number = known.iter().position(|one| *one == digest).unwrap();
        line.replace(&digest, &format!("#{number}"))
    };
    let lines = fake.lines();
    lines.into_iter().map(|line| number(line.split('?').next().unwrap().to_owned())).collect()
}

#[test]
fn layers_come_before_configs_before_manifests_before_names() {
    let uploads = Mutex::new(Uploads::default());
    let fake = Fake::start(move |request| uploads.lock().unwrap().reply(request));
    let client = Client::new();
    let image = client.image(&[b"layer"]);
    let index = client.document(
        OCI_INDEX,
        &json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [image]}),
    );
    let (host, digest, size) = (fake.host(), index.digest(), index.size());
    let lines = client.push(&index, &[&format!("{host}/app:1"), &format!("{host}/app:2")]).unwrap();
    assert_eq!(
        lines,
        [format!("1: digest: {digest} size: {size}"), format!("2: digest: {digest} size: {size}")]
    );
    let blob = |number: usize, session: usize| {
        [
            format!("HEAD /v2/app/blobs/#{number}"),
            "POST /v2/app/blobs/uploads/".to_owned(),
            format!("PUT /v2/app/blobs/uploads/{session}"),
        ]
    };
    let mut wanted: Vec<String> = blob(0, 0).into_iter().chain(blob(1, 0)).collect();
    wanted.push("PUT /v2/app/manifests/#2".to_owned());
    wanted.extend(["PUT /v2/app/manifests/1".to_owned(), "PUT /v2/app/manifests/2".to_owned()]);
    assert_eq!(numbered(&fake), wanted);
    // All of it is known now.
    client.push(&index, &[&format!("{host}/app:3")]).unwrap();
    assert_eq!(numbered(&fake), ["PUT /v2/app/manifests/#0", "PUT /v2/app/manifests/3"]);
}

#[test]
fn what_another_repository_has_is_mounted() {
    let uploads = Mutex::new(Uploads::default());
    let fake = Fake::start(move |request| uploads.lock().unwrap().reply(request));
    let client = Client::new();
    let image = client.image(&[b"layer"]);
    let host = fake.host();
    client.push(&image, &[&format!("{host}/one:1"), &format!("{host}/two:1")]).unwrap();
    let second: Vec<String> =
        fake.lines().into_iter().filter(|line| line.contains("/two/")).collect();
    let (layer, config) = (Digest::of(b"layer"), Digest::of(b"{\"layers\":1}"));
    assert_eq!(
        second,
        [
            format!("HEAD /v2/two/blobs/{layer}"),
            format!("POST /v2/two/blobs/uploads/?mount={layer}&from=one"),
            format!("HEAD /v2/two/blobs/{config}"),
            format!("POST /v2/two/blobs/uploads/?mount={config}&from=one"),
            "PUT /v2/two/manifests/1".to_owned(),
        ]
    );
}

#[test]
fn only_the_rest_is_sent_after_a_loss() {
    let uploads = Mutex::new(Uploads::default());
    let broken = Mutex::new(false);
    let fake = Fake::start(move |request| {
        let mut uploads = uploads.lock().unwrap();
        let first = request.method == "PUT" && request.body == b"0123456789";
        if first && !std::mem::replace(&mut *broken.lock().unwrap(), true) {
            // Four bytes arrived.
            let path = request.path.split('?').next().unwrap();
            uploads.sessions.get_mut(path).unwrap().extend(b"0123");
            return Reply::closed();
        }
        uploads.reply(request)
    });
    let client = Client::new();
    let image = client.image(&[b"0123456789"]);
    client.push(&image, &[&format!("{}/app:1", fake.host())]).unwrap();
    let sent: Vec<(String, String)> = fake
        .take_log()
        .into_iter()
        .filter(|request| request.path.contains("/uploads/0"))
        .map(|request| (request.method, String::from_utf8(request.body).unwrap()))
        .collect();
    let sent: Vec<(&str, &str)> = sent.iter().map(|(a, b)| (&**a, &**b)).collect();
    assert_eq!(sent[..4], [("PUT", "0123456789"), ("GET", ""), ("PATCH", "456789"), ("PUT", "")]);
    assert_eq!(client.waits(), 1);
}

#[test]
fn a_token_is_for_both_repositories_and_no_other_host_sees_it() {
    let elsewhere = Fake::start(|request| {
        assert_eq!(request.header("authorization"), "");
        Reply::status(201)
    });
    let away = format!("http://{}/session?x=1", elsewhere.host());
    let fake = Fake::start(move |request| {
        let host = request.header("host");
        if request.path == "/v2/" {
            return Reply::ok("{}");
        }
        if request.path.starts_with("/token") {
            return Reply::ok(r#"{"token":"t"}"#);
        }
        if request.header("authorization") != "Bearer t" {
            let realm = format!("Bearer realm=\"http://{host}/token\",service=\"s\"");
            return Reply::status(401).with("www-authenticate", &realm);
        }
        match &*request.method {
            "HEAD" => Reply::status(404),
            "POST" => Reply::status(202).with("location", &away),
            _ => Reply::status(201),
        }
    });
    let client = Client::new();
    let image = client.image(&[b"layer"]);
    let base = Reference::parse(&format!("{}/base", fake.host())).unwrap();
    client.registry.note_home(&base, &Digest::of(b"layer"));
    client.push(&image, &[&format!("{}/app:1", fake.host())]).unwrap();
    let tokens: Vec<String> =
        fake.lines().into_iter().filter(|line| line.contains("/token")).collect();
    assert_eq!(
        tokens,
        [
            "GET /token?service=s&scope=repository%3Aapp%3Apull%2Cpush",
            "GET /token?service=s&scope=repository%3Aapp%3Apull%2Cpush&scope=repository%3Abase%3Apull",
        ]
    );
    let bodies: Vec<Request> = elsewhere.take_log();
    assert_eq!(bodies.len(), 2);
    assert!(bodies[0].path.starts_with("/session?x=1&digest=sha256%3A"), "{}", bodies[0].path);
}

#[test]
fn a_registry_that_takes_no_large_request_gets_chunks() {
    let uploads = Mutex::new(Uploads::default());
    let fake = Fake::start(move |request| {
        if request.body.len() > 16 << 20 {
            return Reply::status(413);
        }
        uploads.lock().unwrap().reply(request)
    });
    let client = Client::new();
    let layer = vec![7; (16 << 20) + 5];
    let image = client.image(&[&layer]);
    client.push(&image, &[&format!("{}/app:1", fake.host())]).unwrap();
    let ranges: Vec<String> = fake
        .take_log()
        .iter()
        .filter(|request| request.method == "PATCH")
        .map(|request| request.header("content-range").to_owned())
        .collect();
    assert_eq!(ranges, ["0-16777215", "16777216-16777220"]);
}

#[test]
fn a_refusal_says_what_to_do() {
    let said = |status: u16, words: &str| {
        let body = format!(r#"{{"errors":[{{"code":"X","message":"{words}"}}]}}"#);
        let fake = Fake::start(move |request| match &*request.method {
            "PUT" => Reply::status(status).body(body.clone()),
            "HEAD" => Reply::status(200),
            _ => Reply::ok("{}"),
        });
        let client = Client::new();
        let image = client.image(&[]);
        let error = client.push(&image, &[&format!("{}/app:1", fake.host())]).unwrap_err();
        let text = format!("{}: {}", error.error().causes()[0], error.error().hints().join("; "));
        text.replace(&fake.host(), "HOST")
    };
    let denied = "registry `HOST` does not let you write to `app`: log in as somebody who may push there: `nativebuild login`; some registries want the repository made first";
    assert_eq!(said(403, "denied"), denied);
    assert_eq!(
        said(400, "tag is immutable"),
        "registry `HOST` does not let this tag change: tags of this repository are immutable: push under another tag"
    );
    assert_eq!(
        said(412, "exceeds quota"),
        "registry `HOST` has no space left for this repository: remove images from the repository, or ask for more space"
    );
    assert_eq!(
        said(405, "no"),
        "registry `HOST` takes no uploads: it may be a mirror or read-only; push to the registry itself"
    );
}

/// What a hotel's network answers to everything.
#[test]
fn a_portal_is_no_registry() {
    let fake = Fake::start(|_| Reply::ok("<html>welcome</html>").with("content-type", "text/html"));
    let client = Client::new();
    let image = client.image(&[b"layer"]);
    let name = format!("{}/app:1", fake.host());
    assert_eq!(client.push(&image, &[&name]).unwrap_err().trouble(), Trouble::Broken);
    // Even where everything is said to be there, with the right length.
    let fake = Fake::start(|request| match &*request.method {
        "HEAD" => Reply::status(200),
        _ => Reply::ok(""),
    });
    let error = client.push(&image, &[&format!("{}/app:1", fake.host())]).unwrap_err();
    assert_eq!(
        error.error().causes()[0].replace(&fake.host(), "HOST"),
        "registry `HOST` does not say that it has the manifest"
    );
}
