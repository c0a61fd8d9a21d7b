//! Registries that fail, lie, or want to lead the client elsewhere.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A server that gives `first` for requests of `path` as long as it returns something, then what `store` says.
fn upset(
    store: Store,
    path: &'static str,
    first: impl Fn(usize, &Request) -> Option<Reply> + Send + Sync + 'static,
) -> Fake {
    let count = AtomicUsize::new(0);
    Fake::start(move |request| {
        if request.path.contains(path)
            && let Some(reply) = first(count.fetch_add(1, Ordering::SeqCst), request)
        {
            return reply;
        }
        store.reply(request)
    })
}

fn one_image() -> (Store, Value) {
    let mut store = Store::default();
    let manifest = image(&mut store, &[b"0123456789"], Some("1"));
    (store, manifest)
}

fn blob() -> Digest {
    Digest::of(b"0123456789")
}

fn causes(client: &Client, fake: &Fake) -> (Trouble, Vec<String>) {
    let error = client.pull(&format!("{}/app:1", fake.host())).unwrap_err();
    let hide = |text: &String| text.replace(&fake.host(), "HOST");
    (error.trouble(), error.error().causes().iter().map(hide).collect())
}

#[test]
fn passing_trouble_passes() {
    let (store, manifest) = one_image();
    let first = |at: usize, _: &Request| match at {
        0 => Some(Reply::status(429).with("retry-after", "7")),
        1 => Some(Reply::status(503).with("retry-after", "99999999")),
        2 => Some(Reply::closed()),
        _ => None,
    };
    let fake = upset(store, "/manifests/1", first);
    let client = Client::new();
    client.pull(&format!("{}/app:1", fake.host())).unwrap();
    assert!(client.has(&manifest));
    let waits = client.waits.lock().unwrap().clone();
    assert_eq!(waits[..2], [Duration::from_secs(7), Duration::from_mins(1)]);
    assert_eq!(waits.len(), 3);
    assert!(waits[2] >= Duration::from_secs(2) && waits[2] < Duration::from_secs(3));
}

#[test]
fn lasting_trouble_is_unreachable() {
    for status in [429, 500, 502, 503, 504] {
        let (store, _) = one_image();
        let fake = upset(store, "/manifests/1", move |_, _| Some(Reply::status(status)));
        let client = Client::new();
        let (trouble, causes) = causes(&client, &fake);
        assert_eq!(trouble, Trouble::Unreachable, "{causes:?}");
        assert_eq!(causes[1], format!("GET http://HOST/v2/app/manifests/1: status {status}"));
        assert_eq!(client.waits(), 9);
        let waited: Duration = client.waits.lock().unwrap().iter().sum();
        assert!(waited < Duration::from_mins(1), "{waited:?}");
    }
    let (store, _) = one_image();
    let fake = upset(store, "/blobs/", |_, _| Some(Reply::closed()));
    let client = Client::new();
    assert_eq!(causes(&client, &fake).0, Trouble::Unreachable);
}

#[test]
fn a_blob_that_breaks_off_goes_on() {
    for ranges in [true, false] {
        let (store, _) = one_image();
        let answers = store.clone();
        let first = move |at: usize, request: &Request| {
            let mut reply = answers.reply(request);
            if !request.path.ends_with(blob().hex()) {
                return Some(reply);
            }
            let range = request.header("range").to_owned();
            if ranges && !range.is_empty() {
                let from: usize = range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()?;
                let part = reply.body.split_off(from);
                reply.body = part;
                reply.status = 206;
                reply = reply.with("content-range", &format!("bytes {from}-9/10"));
            }
            // A little more each time.
            let sent = if ranges { 2 } else { 2 + at };
            reply.cut = (sent < reply.body.len()).then_some(sent);
            Some(reply)
        };
        let fake = upset(store, "/blobs/", first);
        let client = Client::new();
        client.pull(&format!("{}/app:1", fake.host())).unwrap();
        assert_eq!(std::fs::read(client.layout.blob_path(&blob())).unwrap(), b"0123456789");
        assert!(client.waits() > 2);
    }
}

#[test]
fn a_blob_that_never_ends_well_fails() {
    let (store, _) = one_image();
    let answers = store.clone();
    let first = move |_: usize, request: &Request| {
        let mut reply = answers.reply(request);
        reply.cut = Some(1);
        Some(reply)
    };
    let fake = upset(store, "/blobs/", first);
    let client = Client::new();
    let (trouble, causes) = causes(&client, &fake);
    assert_eq!(trouble, Trouble::Unreachable);
    assert!(causes[0].ends_with("breaks off again and again"), "{causes:?}");
    assert!(!client.layout.has_blob(&blob()));
}

#[test]
fn a_large_blob_goes_on_in_the_next_process_where_it_stopped() {
    let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let digest = Digest::of(&bytes);
    let mut store = Store::default();
    image(&mut store, &[&bytes], Some("1"));
    let asked = |fake: &Fake| {
        let log = fake.take_log();
        let blob = log.into_iter().find(|request| request.path.ends_with(digest.hex()));
        blob.map(|request| request.header("range").to_owned()).unwrap()
    };
    for damaged in [false, true] {
        let (cut, answers) = (store.clone(), store.clone());
        let broken = upset(cut, "/blobs/", move |at, request| {
            // One beginning of it, and then nothing but lost connections.
            let mut reply = answers.reply(request);
            let large = reply.body.len() > 1000;
            reply.cut = large.then_some(333_000);
            Some(if large && !request.header("range").is_empty() || at > 50 {
                Reply::closed()
            } else {
                reply
            })
        });
        let client = Client::new();
        assert_eq!(causes(&client, &broken).0, Trouble::Unreachable);
        assert_eq!(asked(&broken), "");
        assert!(!client.layout.has_blob(&digest));
        let dir = client.layout.root().join("blobs/sha256");
        let part = dir.join(format!(".tmp-part-{}", digest.hex()));
        assert_eq!(std::fs::metadata(&part).unwrap().len(), 333_000);
        if damaged {
            std::fs::write(&part, vec![0; 333_000]).unwrap();
        }
        let answers = store.clone();
        let good = Fake::start(move |request| {
            let mut reply = answers.reply(request);
            if request.header("range") == "bytes=333000-" {
                reply.body = reply.body.split_off(333_000);
                reply.status = 206;
                reply = reply.with("content-range", "bytes 333000-399999/400000");
            }
            reply
        });
        client.pull(&format!("{}/app:1", good.host())).unwrap();
        assert_eq!(asked(&good), "bytes=333000-");
        assert_eq!(std::fs::read(client.layout.blob_path(&digest)).unwrap(), bytes);
        assert!(!part.exists());
    }
}

/// Pulls with the layer's answer replaced, and gives the first cause.
fn with_layer(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> (Trouble, String) {
    let (store, _) = one_image();
    let first = move |_: usize, request: &Request| {
        request.path.ends_with(blob().hex()).then(|| reply(request))
    };
    let fake = upset(store, "/blobs/", first);
    let client = Client::new();
    let (trouble, causes) = causes(&client, &fake);
    assert!(!client.layout.has_blob(&blob()));
    let names = std::fs::read_dir(client.layout.root().join("blobs/sha256")).unwrap();
    // At most the config: no manifest of an image that is not whole, and nothing half done.
    assert!(names.count() <= 1);
    assert!(client.layout.names().unwrap().is_empty());
    (trouble, causes[0].clone())
}

#[test]
fn wrong_blobs_are_refused() {
    let digest = blob();
    let (broken, message) = with_layer(|_| Reply::ok("012345678x"));
    assert_eq!(broken, Trouble::Broken);
    assert_eq!(
        message,
        format!(
            "blob has the wrong content: expected {digest}, found {}",
            Digest::of(b"012345678x")
        )
    );
    let (broken, message) = with_layer(|_| Reply::ok("01234"));
    assert_eq!(broken, Trouble::Broken);
    assert_eq!(message, format!("blob {digest} is cut short: expected 10 bytes, found 5"));
    let (broken, message) = with_layer(|_| Reply::ok("0123456789more"));
    assert_eq!(broken, Trouble::Broken);
    assert_eq!(message, format!("blob {digest} is longer than its 10 bytes"));
    let (missing, _) = with_layer(|_| Reply::status(404));
    assert_eq!(missing, Trouble::NotFound);
    let (broken, message) = with_layer(|request| {
        if request.header("range").is_empty() {
            let mut cut = Reply::ok("0123456789");
            cut.cut = Some(3);
            return cut;
        }
        let mut other = Reply::status(206).with("content-range", "bytes 0-6/10");
        other.body = b"0123456".to_vec();
        other
    });
    assert_eq!(broken, Trouble::Broken);
    assert!(message.contains("sends another part of blob"), "{message}");
}

#[test]
fn wrong_manifests_are_refused() {
    let (store, manifest) = one_image();
    let (_, honest) = store.files["/v2/app/manifests/1"].clone();
    let check = |reply: Reply, wanted: &str| {
        let fake = upset(store.clone(), "/manifests/1", move |_, _| Some(reply.clone()));
        let client = Client::new();
        let (trouble, causes) = causes(&client, &fake);
        assert_eq!(trouble, Trouble::Broken, "{causes:?}");
        assert!(causes.iter().any(|cause| cause.contains(wanted)), "{wanted}: {causes:?}");
        assert_eq!(fake.lines().len(), 1);
    };
    check(
        Reply::ok(honest.clone()).with("docker-content-digest", blob().as_str()),
        "manifest has the wrong content",
    );
    check(Reply::ok(honest.clone()).with("content-type", OCI_INDEX), "differ");
    check(Reply::ok("{}").with("content-type", "text/html"), "it is of type `text/html`");
    check(Reply::ok("<html>").with("content-type", OCI_MANIFEST), "not JSON");
    check(Reply::ok(r#"{"schemaVersion":1}"#), "schema 1");
    check(Reply::ok(vec![b' '; (8 << 20) + 1]), "more than 8388608 bytes");
    check(Reply::status(204), "status 204");
    let deep = "[".repeat(100_000);
    check(Reply::ok(deep), "not JSON");
    let evil = json!({"schemaVersion": 2, "config": {"mediaType": "m", "digest": "sha256:../../x", "size": 1}, "layers": []});
    check(Reply::ok(evil.to_string()), "manifest");
    let long = json!({"schemaVersion": 2, "config": {"mediaType": "m", "digest": format!("sha512:{}", "a".repeat(128)), "size": 1}, "layers": []});
    check(Reply::ok(long.to_string()), "is no sha256 digest");
    let mut twice = manifest.clone();
    twice["size"] = json!(3);
    let two_sizes = json!({"schemaVersion": 2, "config": manifest, "layers": [twice]});
    check(Reply::ok(two_sizes.to_string()), "two different sizes");
}

#[test]
fn children_are_what_the_index_says() {
    for wrong in ["size", "content"] {
        let (mut store, manifest) = one_image();
        let mut listed = manifest.clone();
        let path = format!("/v2/app/manifests/{}", manifest["digest"].as_str().unwrap());
        if wrong == "size" {
            listed["size"] = json!(manifest["size"].as_u64().unwrap() - 1);
        } else {
            let file = store.files.get_mut(&path).unwrap();
            let at = file.1.len() - 1;
            file.1[at] = b' ';
        }
        store.document(OCI_INDEX, &json!({"schemaVersion": 2, "manifests": [listed]}), Some("1"));
        let fake = Fake::start(move |request| {
            let mut reply = store.reply(request);
            reply.headers.retain(|(name, _)| name != "docker-content-digest");
            reply
        });
        let client = Client::new();
        let (trouble, causes) = causes(&client, &fake);
        assert_eq!(trouble, Trouble::Broken);
        let wanted = if wrong == "size" { "more than" } else { "manifest has the wrong content" };
        assert!(causes[0].contains(wanted), "{causes:?}");
    }
}

#[test]
fn an_index_that_never_ends_is_left() {
    // Each level is another index; a cycle is impossible, since names are digests.
    let mut store = Store::default();
    let mut inner = image(&mut store, &[], None);
    for _ in 0..7 {
        let index = json!({"schemaVersion": 2, "manifests": [inner]});
        inner = store.document(OCI_INDEX, &index, Some("1"));
    }
    let fake = Fake::start(move |request| store.reply(request));
    let client = Client::new();
    let name = format!("{}/app:1", fake.host());
    assert_eq!(client.pull(&name).unwrap_err().trouble(), Trouble::Broken);
    assert_eq!(client.pull_as(&name, &amd64()).unwrap_err().trouble(), Trouble::NotFound);
}

#[test]
fn redirects_lead_nowhere_bad() {
    let (store, _) = one_image();
    for (location, wanted) in [
        ("", "redirects to no usable address"),
        ("file:///etc/passwd", "redirects to no usable address"),
        ("http://registry.example/x?secret=1", "leads to plain http"),
        ("http://169.254.169.254/latest/meta-data", "leads to plain http"),
        ("?again", "redirects too often"),
    ] {
        let fake = upset(store.clone(), "/blobs/", move |_, _| {
            Some(Reply::status(302).with("location", location))
        });
        let client = Client::new();
        let (trouble, causes) = causes(&client, &fake);
        assert_eq!(trouble, Trouble::Broken);
        assert!(causes[0].contains(wanted), "{location}: {causes:?}");
        assert!(!causes.iter().any(|cause| cause.contains("secret")), "{causes:?}");
        assert_eq!(client.waits(), 0);
    }
}

#[test]
fn token_services_elsewhere_are_https() {
    let fake = Fake::start(|request| match request.path.as_str() {
        "/v2/" => Reply::ok("{}"),
        _ => {
            Reply::status(401).with("www-authenticate", "Bearer realm=\"http://tokens.example/t\"")
        }
    });
    let client = Client::new();
    let (trouble, causes) = causes(&client, &fake);
    assert_eq!(trouble, Trouble::Broken);
    assert_eq!(causes[0], "`http://tokens.example/t` is no address to get a token from");
}

#[test]
fn tokens_that_would_break_a_header_are_refused() {
    for token in [r#"{"token":"a\r\nx: y"}"#, r#"{"token":""}"#, "<html>"] {
        let (store, _) = one_image();
        let inner = guarded(store, |_| Reply::status(500));
        let fake = Fake::start(move |request| {
            if request.path.starts_with("/token") { Reply::ok(token) } else { inner(request) }
        });
        let client = Client::new();
        assert_eq!(causes(&client, &fake).0, Trouble::Broken, "{token}");
    }
}

#[test]
fn what_does_not_speak_http_is_no_registry() {
    // Looks like a server that wants TLS: an alert, whatever is asked. The TLS that is then tried fails as well.
    let fake = Fake::start(|_| Reply {
        raw: Some(b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n".to_vec()),
        ..Reply::default()
    });
    let client = Client::new();
    let error = client.head(&format!("{}/app:1", fake.host())).unwrap_err();
    assert!(matches!(error.trouble(), Trouble::Broken | Trouble::Unreachable), "{error:?}");
}

#[test]
fn proxies_are_checked_without_showing_them() {
    let config = NetConfig { https_proxy: Some("no//such:secret".into()), ..NetConfig::default() };
    let error = Registry::new(&config).unwrap_err();
    assert_eq!(error.kind().exit_code(), 2);
    assert!(!format!("{error:?}").contains("secret"));
}
