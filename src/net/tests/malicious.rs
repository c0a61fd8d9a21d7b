//! Registries that want more than to fail: secrets, memory, time, or another image in place of the one that was asked for.
//! Each is refused with a text that says what it did, and nothing of it is stored.

use super::*;

/// All that a user is told, with the host replaced.
fn told(error: &NetError, fake: &Fake) -> String {
    let error = error.error();
    let lines = [error.message()].into_iter().chain(error.causes().iter().map(String::as_str));
    lines.collect::<Vec<_>>().join("\n").replace(&fake.host(), "HOST")
}

/// Pulls what a registry has as `app:1`; what is told, and nothing stored.
#[track_caller]
fn refused(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> String {
    let fake = Fake::start(move |request| match request.path.as_str() {
        "/v2/" => Reply::ok("{}"),
        _ => handler(request),
    });
    let client = Client::new();
    let error = client.pull(&format!("{}/app:1", fake.host())).unwrap_err();
    let stored = std::fs::read_dir(client.layout.root().join("blobs/sha256")).unwrap();
    assert_eq!(stored.count(), 0);
    told(&error, &fake)
}

fn store() -> (Store, Value) {
    let mut store = Store::default();
    let manifest = image(&mut store, &[b"layer"], Some("1"));
    (store, manifest)
}

#[test]
fn a_manifest_that_is_swapped_is_refused() {
    // HEAD speaks of one image, GET gives another: by its digest nobody gets it.
    let (mut first, manifest) = store();
    let digest = manifest["digest"].as_str().unwrap().to_owned();
    let mut second = Store::default();
    let other = image(&mut second, &[b"evil"], Some("1"));
    let other = other["digest"].as_str().unwrap().to_owned();
    let bytes = second.files[&format!("/v2/app/manifests/{other}")].clone();
    first.files.insert(format!("/v2/app/manifests/{digest}"), bytes);
    for said in [&digest, &other] {
        let (store, said) = (first.clone(), said.clone());
        let fake = Fake::start(move |request| {
            let mut reply = store.reply(request);
            reply.headers.retain(|(name, _)| name != "docker-content-digest");
            reply.with("docker-content-digest", &said)
        });
        let client = Client::new();
        let name = format!("{}/app:1@{digest}", fake.host());
        let error = client.pull(&name).unwrap_err();
        assert_eq!(
            told(&error, &fake),
            format!(
                "cannot pull `HOST/app:1@{digest}`\n\
                 manifest has the wrong content: expected {digest}, found {other}\n\
                 GET http://HOST/v2/app/manifests/{digest}"
            )
        );
        assert!(!client.layout.has_blob(&Digest::of(b"evil")));
    }
}

#[test]
fn media_types_cannot_be_confused() {
    let (store, manifest) = store();
    let (_, bytes) = store.files["/v2/app/manifests/1"].clone();
    // The index calls an index what is a manifest.
    let mut listed = manifest.clone();
    listed["mediaType"] = json!(OCI_INDEX);
    let digest = listed["digest"].as_str().unwrap().to_owned();
    let index = json!({"schemaVersion": 2, "manifests": [listed]}).to_string();
    let text = refused(move |request| {
        if request.path.ends_with("/1") {
            return Reply::ok(index.clone()).with("content-type", OCI_INDEX);
        }
        Reply::ok(bytes.clone()).with("content-type", OCI_INDEX)
    });
    assert_eq!(
        text,
        format!(
            "cannot pull `HOST/app:1`\n\
             registry `HOST` has no image there that can be used\n\
             its media type and the registry's word for it differ\n\
             GET http://HOST/v2/app/manifests/{digest}"
        )
    );
    let both = json!({"schemaVersion": 2, "manifests": [], "layers": [], "config": manifest});
    let text = refused(move |_| Reply::ok(both.to_string()).with("content-type", OCI_INDEX));
    assert_eq!(text.lines().nth(2).unwrap(), "it is a manifest and an index at once");
}

#[test]
fn foreign_addresses_of_layers_are_never_asked() {
    let bait = Fake::start(|_| Reply::ok("layer"));
    let mut store = Store::default();
    let config = store.blob(OCI_CONFIG, b"{}");
    let mut layer = store.blob(OCI_LAYER, b"layer");
    store.files.remove(&format!("/v2/app/blobs/{}", Digest::of(b"layer")));
    layer["urls"] = json!([format!("http://{}/layer", bait.host())]);
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
    store.document(OCI_MANIFEST, &manifest, Some("1"));
    let fake = Fake::start(move |request| store.reply(request));
    let client = Client::new();
    client.pull(&format!("{}/app:1", fake.host())).unwrap();
    assert!(!client.has(&layer));
    assert_eq!(bait.take_log().len(), 0);
}

#[test]
fn a_login_is_for_its_registry_only() {
    let (store, _) = store();
    let blobs = store.clone();
    // It gives what is asked for, but would like to know who asks.
    let bait = Fake::start(move |request| {
        assert_eq!(request.header("authorization"), "");
        let realm = format!("http://{}/token", request.header("host"));
        match request.path.split_once("/ask") {
            Some(_) => Reply::status(401)
                .with("www-authenticate", &format!("Bearer realm=\"{realm}\""))
                .with("www-authenticate", "Basic realm=\"x\""),
            None => blobs.reply(request),
        }
    });
    let away = bait.host();
    let fake = Fake::start(move |request| {
        if request.path == "/v2/" {
            return Reply::ok("{}");
        }
        if request.header("authorization") != "Basic bWU6c2VjcmV0" {
            return Reply::status(401).with("www-authenticate", "Basic realm=\"x\"");
        }
        if request.path.ends_with(Digest::of(b"layer").hex()) {
            return Reply::status(307).with("location", &format!("http://{away}/ask"));
        }
        if request.path.contains("/blobs/") {
            return Reply::status(307).with("location", &format!("//{away}{}", request.path));
        }
        store.reply(request)
    });
    let config = NetConfig {
        credentials: Credentials::parse(&[format!("{}=me:secret", fake.host())]).unwrap(),
        ..NetConfig::default()
    };
    let client = Client { registry: Registry::new(&config).unwrap(), ..Client::new() };
    let error = client.pull(&format!("{}/app:1", fake.host())).unwrap_err();
    let text = told(&error, &fake).replace(&bait.host(), "BAIT");
    assert!(!text.contains("secret"), "{text}");
    assert_eq!(
        text,
        format!(
            "cannot pull `HOST/app:1`\ncannot get blob {}\nregistry `HOST` refuses access\n\
             GET http://BAIT/ask: status 401",
            Digest::of(b"layer")
        )
    );
    let asked: Vec<String> = bait.lines();
    assert!(asked.iter().all(|line| !line.contains("token")), "{asked:?}");
}

#[test]
fn what_never_ends_is_left() {
    let long = "HTTP/1.1 200 OK\ncontent-type: application/vnd.oci.image.index.v1+json\n\n";
    let text = refused(move |_| Reply::endless(long, " "));
    assert_eq!(
        text,
        "cannot pull `HOST/app:1`\nregistry `HOST` sends a document of more than 8388608 bytes\n\
         GET http://HOST/v2/app/manifests/1"
    );
    // Words of an error.
    let text = refused(|_| Reply::endless("HTTP/1.1 404 No\n\n", "no "));
    assert_eq!(
        text,
        "cannot pull `HOST/app:1`\nregistry `HOST` does not have it\n\
         GET http://HOST/v2/app/manifests/1: status 404"
    );
    // A token.
    let text = refused(|request| {
        if request.path.starts_with("/token") {
            return Reply::endless("HTTP/1.1 200 OK\n\n{\"token\":\"", "t");
        }
        let realm = format!("Bearer realm=\"http://{}/token\"", request.header("host"));
        Reply::status(401).with("www-authenticate", &realm)
    });
    assert_eq!(
        text,
        "cannot pull `HOST/app:1`\nthe token service of registry `HOST` sends a document of more than 1048576 bytes\n\
         GET http://HOST/token?…"
    );
    // Headers.
    let text =
        refused(|_| Reply::endless("HTTP/1.1 200 OK\n", "x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n"));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[1], "registry `HOST` does not speak http");
    let text = refused(|_| Reply::endless("HTTP/1.1 200 OK\nx: ", "y"));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[1], "registry `HOST` does not speak http");
    // A challenge.
    let text =
        refused(|_| Reply::status(401).with("www-authenticate", &"Bearer a=\"b\",".repeat(2000)));
    assert!(text.contains("registry `HOST` refuses access"), "{text}");
}

#[test]
fn a_layer_that_never_ends_is_left_at_its_size() {
    let (store, _) = store();
    let fake = Fake::start(move |request| {
        if request.path.ends_with(Digest::of(b"layer").hex()) {
            return Reply::endless("HTTP/1.1 200 OK\n\n", "layer");
        }
        store.reply(request)
    });
    let client = Client::new();
    let error = client.pull(&format!("{}/app:1", fake.host())).unwrap_err();
    let lines = told(&error, &fake);
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines[1], format!("blob {} is longer than its 5 bytes", Digest::of(b"layer")));
    assert!(!client.layout.has_blob(&Digest::of(b"layer")));
}

#[test]
fn chunks_that_lie_are_no_content() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    for body in [
        "5\r\nla",
        "ffffffffffffffff\r\nlayer",
        "fffffffffffffffffffffffffffff\r\nlayer",
        "-5\r\nlayer\r\n0\r\n\r\n",
        "5;x\r\nlayerlayerlayer",
        "nonsense",
    ] {
        let (store, _) = store();
        let fake = Fake::start(move |request| {
            if request.path.ends_with(Digest::of(b"layer").hex()) {
                let raw = Some([head, body].concat().into_bytes());
                return Reply { raw, ..Reply::default() };
            }
            store.reply(request)
        });
        let client = Client::new();
        let pulled = client.pull(&format!("{}/app:1", fake.host()));
        // All bytes of the blob may have come before the lie.
        let there = client.layout.has_blob(&Digest::of(b"layer"));
        assert_eq!(there, pulled.is_ok(), "{body}");
        assert!(client.waits() <= 20, "{body}: {}", client.waits());
        if let Err(error) = pulled {
            assert!(matches!(error.trouble(), Trouble::Unreachable | Trouble::Broken), "{error}");
        }
    }
}

#[test]
fn content_in_a_descriptor_is_used_when_it_is_the_right_one() {
    use base64::Engine;
    let encode = |bytes: &[u8]| base64::prelude::BASE64_STANDARD.encode(bytes);
    let (store, manifest) = store();
    let document = |kind: &str| {
        let path = format!("/v2/app/manifests/{}", manifest["digest"].as_str().unwrap());
        let (_, bytes) = store.files[&path].clone();
        let mut parsed: Value = serde_json::from_slice(&bytes).unwrap();
        let mut listed = manifest.clone();
        match kind {
            "config" => parsed["config"]["data"] = json!(encode(b"{\"layers\":1}")),
            "layer" => parsed["layers"][0]["data"] = json!(encode(b"layer")),
            "child" => listed["data"] = json!(encode(&bytes)),
            "size" => {
                parsed["layers"][0]["data"] = json!(encode(b"layer"));
                parsed["layers"][0]["size"] = json!(6);
            }
            "content" => parsed["layers"][0]["data"] = json!(encode(b"other")),
            "code" => parsed["layers"][0]["data"] = json!("!"),
            "page" => listed["data"] = json!(encode(b"<html>")),
            _ => {}
        }
        if kind == "page" {
            listed["digest"] = json!(Digest::of(b"<html>"));
            listed["size"] = json!(6);
        }
        if matches!(kind, "child" | "page") {
            (OCI_INDEX, json!({"schemaVersion": 2, "manifests": [listed]}))
        } else {
            (OCI_MANIFEST, parsed)
        }
    };
    let pull = |kind: &str| {
        let mut store = store.clone();
        let (media_type, value) = document(kind);
        store.document(media_type, &value, Some("1"));
        let fake = Fake::start(move |request| store.reply(request));
        let client = Client::new();
        let done = client.pull(&format!("{}/app:1", fake.host()));
        if done.is_ok() {
            assert!(client.layout.has_blob(&Digest::of(b"layer")));
            assert!(client.layout.has_blob(&Digest::of(b"{\"layers\":1}")));
        }
        (done.map(drop).map_err(|error| told(&error, &fake)), fake.take_log().len())
    };
    assert_eq!(pull("nothing"), (Ok(()), 3));
    for kind in ["config", "layer", "child"] {
        // That one is not asked for.
        let manifests = if kind == "child" { 3 } else { 2 };
        assert_eq!(pull(kind), (Ok(()), manifests), "{kind}");
    }
    let layer = Digest::of(b"layer");
    let other = Digest::of(b"other");
    for (kind, wanted) in [
        (
            "content",
            format!(
                "the data field of {layer} has other content: expected 5 bytes, found 5 with {other}"
            ),
        ),
        (
            "size",
            format!(
                "the data field of {layer} has other content: expected 6 bytes, found 5 with {layer}"
            ),
        ),
        ("code", format!("the data field of {layer} is not base64")),
        (
            "page",
            format!("the data field of {} is no manifest and no index", Digest::of(b"<html>")),
        ),
    ] {
        let (done, asked) = pull(kind);
        assert_eq!(done.unwrap_err().lines().nth(1).unwrap(), wanted);
        assert_eq!(asked, 1, "{kind}");
    }
}

#[test]
fn names_lead_nowhere_else() {
    let tag = "x".repeat(129);
    let path = "a/".repeat(200) + "b";
    for name in [
        "h.example/../app:1",
        "h.example/a/../../b:1",
        "h.example/%2e%2e/app:1",
        "h.example/a//b",
        "h.example/a/.",
        "h.example/app:..",
        "h.example/app:1\nx",
        "h.example/app\r\nhost: evil:1",
        "h.example/app:1?x=1",
        "h.example/app:1#x",
        "user:secret@h.example/app:1",
        "h.example@evil.example/app:1",
        "h.example\\evil/app:1",
        "h.example/app@sha256:../../x",
        &format!("h.example/app:{tag}"),
        &format!("h.example/{path}"),
    ] {
        assert!(Reference::parse(name).is_err(), "{name:?}");
    }
}
