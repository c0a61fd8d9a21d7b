//! Logins and mirrors: who gets what, and what happens when a mirror has nothing.

use super::*;

fn client(logins: &[String], mirrors: &[String]) -> Client {
    let config = NetConfig {
        credentials: Credentials::parse(logins).unwrap(),
        mirrors: mirrors.iter().map(|text| Mirror::parse(text).unwrap()).collect(),
        pause: Pause::with(|_| {}),
        ..NetConfig::default()
    };
    Client { registry: Registry::new(&config).unwrap(), ..Client::new() }
}

fn app() -> (Store, Value) {
    let mut store = Store::default();
    let manifest = image(&mut store, &[b"one"], Some("1"));
    (store, manifest)
}

#[test]
fn a_name_and_a_password_go_where_they_are_asked_for() {
    let (store, _) = app();
    let fake = Fake::start(move |request| {
        if request.path == "/v2/" || request.header("authorization") == "Basic bWU6c2VjcmV0" {
            return store.reply(request);
        }
        Reply::status(401).with("www-authenticate", "Basic realm=\"x\"")
    });
    let name = format!("{}/app:1", fake.host());
    let known = client(&[format!("{}=me:secret", fake.host())], &[]);
    known.pull(&name).unwrap();
    let sent: Vec<String> =
        fake.take_log().iter().map(|request| request.header("authorization").to_owned()).collect();
    // Asked once, sent ever after.
    assert_eq!(sent[0], "");
    assert!(sent[1..].iter().all(|sent| sent == "Basic bWU6c2VjcmV0"), "{sent:?}");
    for logins in [&[format!("{}=me:wrong", fake.host())][..], &["other=me:secret".to_owned()], &[]]
    {
        let error = client(logins, &[]).pull(&name).unwrap_err();
        assert_eq!(error.trouble(), Trouble::Refused);
        assert!(!format!("{error:?}").contains("wrong"), "{error:?}");
    }
}

#[test]
fn a_token_service_gets_the_password_and_the_registry_the_token() {
    let (store, _) = app();
    let inner = guarded(store, |request| match request.header("authorization") {
        "Basic bWU6c2VjcmV0" => Reply::ok(r#"{"token":"t"}"#),
        _ => Reply::status(401),
    });
    let fake = Fake::start(inner);
    let name = format!("{}/app:1", fake.host());
    client(&[format!("{}=me:secret", fake.host())], &[]).pull(&name).unwrap();
    for request in fake.take_log() {
        let is_token = request.path.starts_with("/token");
        assert_eq!(is_token, request.header("authorization").starts_with("Basic"), "{request:?}");
    }
    // A token of the user's own is used as it is.
    client(&[format!("{}=t", fake.host())], &[]).pull(&name).unwrap();
    assert!(fake.lines().iter().all(|line| !line.contains("/token")));
}

#[test]
fn a_mirror_is_asked_first_and_the_registry_for_the_rest() {
    let (store, manifest) = app();
    let origin_store = store.clone();
    let origin = Fake::start(move |request| origin_store.reply(request));
    // Has the manifests but lacks the blobs.
    let mirror = Fake::start(move |request| {
        if request.path.contains("/blobs/") { Reply::status(404) } else { store.reply(request) }
    });
    let mirrors = [format!("{}=http://{}", origin.host(), mirror.host())];
    let logins = [format!("{}=me:secret", origin.host())];
    let asking = client(&logins, &mirrors);
    let pulled = asking.pull(&format!("{}/app:1", origin.host())).unwrap();
    assert_eq!(pulled.root, parsed(&manifest));
    assert!(mirror.take_log().iter().all(|request| request.header("authorization").is_empty()));
    assert!(origin.lines().iter().all(|line| line.starts_with("GET /v2/app/blobs/")));
    assert_eq!(asking.registry.take_warnings(), Vec::<String>::new());
}

#[test]
fn a_mirror_that_is_gone_is_passed_over_and_told_once() {
    let (store, _) = app();
    let origin = Fake::start(move |request| store.reply(request));
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let asking = client(&[], &[format!("http://{gone}")]);
    let name = format!("{}/app:1", origin.host());
    assert!(asking.head(&name).unwrap().is_some());
    assert!(asking.head(&name).unwrap().is_some());
    let said = asking.registry.take_warnings();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with(&format!("mirror `{gone}` is passed over: ")), "{said:?}");
}

#[test]
fn a_mirror_cannot_change_what_a_digest_means() {
    let (store, manifest) = app();
    let origin = Fake::start(move |request| store.reply(request));
    let mirror = Fake::start(|request| match request.path.as_str() {
        "/v2/" => Reply::ok("{}"),
        _ => Reply::ok("{}").with("content-type", OCI_MANIFEST),
    });
    let asking = client(&[], &[format!("http://{}", mirror.host())]);
    let name = format!("{}/app@{}", origin.host(), manifest["digest"].as_str().unwrap());
    assert_eq!(asking.pull(&name).unwrap_err().trouble(), Trouble::Broken);
}

#[test]
fn an_image_is_looked_up_without_its_layers() {
    let mut store = Store::default();
    let config = store.blob(OCI_CONFIG, br#"{"os":"linux","architecture":"amd64"}"#);
    let layer = store.blob(OCI_LAYER, b"x");
    let lone =
        json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]});
    let lone = store.document(OCI_MANIFEST, &lone, Some("lone"));
    let index = json!({"schemaVersion": 2, "manifests": [on(lone, "linux", "arm64")]});
    store.document(OCI_INDEX, &index, Some("index"));
    let fake = Fake::start(move |request| store.reply(request));
    let client = Client::new();
    for (tag, arch, wanted) in [
        ("lone", "amd64", true),
        ("lone", "arm64", false),
        ("index", "arm64", true),
        ("index", "amd64", false),
        ("gone", "amd64", false),
    ] {
        let name = Reference::parse(&format!("{}/app:{tag}", fake.host())).unwrap();
        let platform = Platform::new("linux", arch, "");
        let offered = client.registry.offers(&name, &platform, &client.layout).unwrap();
        assert_eq!(offered, wanted, "{tag} {arch}");
    }
    let layer = Digest::of(b"x");
    assert!(fake.lines().iter().all(|line| !line.contains(layer.as_str())));
}
