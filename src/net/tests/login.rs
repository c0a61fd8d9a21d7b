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

/// One name that it does not give to us, and it was not asked for any other. Found in review.
#[test]
fn a_mirror_that_refuses_one_repository_is_asked_for_others() {
    let (store, manifest) = app();
    let origin_store = store.clone();
    let origin = Fake::start(move |request| origin_store.reply(request));
    let mirror = Fake::start(move |request| {
        if request.path.starts_with("/v2/other/") {
            let realm = format!("Bearer realm=\"http://{}/token\"", request.header("host"));
            return Reply::status(401).with("www-authenticate", &realm);
        }
        if request.path.starts_with("/token") { Reply::status(403) } else { store.reply(request) }
    });
    let mirrors = [format!("{}=http://{}", origin.host(), mirror.host())];
    let asking = client(&[], &mirrors);
    assert_eq!(asking.head(&format!("{}/other:1", origin.host())).unwrap(), None);
    assert_eq!(origin.lines(), ["HEAD /v2/other/manifests/1"]);
    let pulled = asking.pull(&format!("{}/app:1", origin.host())).unwrap();
    assert_eq!(pulled.root, parsed(&manifest));
    assert_eq!(origin.lines(), Vec::<String>::new());
    assert_eq!(asking.registry.take_warnings(), Vec::<String>::new());
}

/// It cost a request for each document and blob, and nobody heard of it. Found in review.
#[test]
fn a_mirror_that_refuses_the_login_is_asked_once_for_each_repository_and_told_once() {
    let (store, manifest) = app();
    let origin = Fake::start(move |request| store.reply(request));
    let mirror = Fake::start(|request| {
        if request.path == "/v2/" {
            return Reply::ok("{}");
        }
        let realm = format!("Bearer realm=\"http://{}/token\"", request.header("host"));
        Reply::status(401).with("www-authenticate", &realm)
    });
    let mirrors = [format!("{}=http://{}", origin.host(), mirror.host())];
    let asking = client(&[format!("{}=me:old", mirror.host())], &mirrors);
    for _ in 0..2 {
        assert_eq!(asking.head(&format!("{}/other:1", origin.host())).unwrap(), None);
    }
    assert_eq!(mirror.lines().len(), 2);
    let said = asking.registry.take_warnings();
    assert_eq!(said.len(), 1, "{said:?}");
    let start = format!("mirror `{}` refuses `other` to the login for it", mirror.host());
    assert!(said[0].starts_with(&start) && said[0].contains("status 401"), "{said:?}");
    let pulled = asking.pull(&format!("{}/app:1", origin.host())).unwrap();
    assert_eq!(pulled.root, parsed(&manifest));
    let lines = mirror.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0], "GET /v2/app/manifests/1");
    assert_eq!(asking.registry.take_warnings(), Vec::<String>::new());
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

/// A client that looks for logins in this text of a file.
fn with_file(text: &str, programs: &std::path::Path) -> (Client, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let place = AuthPlace {
        path: file.path().to_owned(),
        form: AuthForm::Docker,
        named: true,
        required: true,
    };
    let places = AuthPlaces { files: vec![place], programs: vec![programs.to_owned()] };
    let credentials = Credentials::default().or_look_in(places);
    let config = NetConfig { credentials, pause: Pause::with(|_| {}), ..NetConfig::default() };
    (Client { registry: Registry::new(&config).unwrap(), ..Client::new() }, file)
}

fn nowhere() -> &'static std::path::Path {
    "/nonexistent".as_ref()
}

#[test]
fn files_with_logins_are_not_looked_at_before_a_registry_asks() {
    let (store, _) = app();
    let open = Fake::start(move |request| store.reply(request));
    let (asking, _file) = with_file("damaged", nowhere());
    asking.pull(&format!("{}/app:1", open.host())).unwrap();
    let (store, _) = app();
    let fake = Fake::start(guarded(store, |_| Reply::ok(r#"{"token":"t"}"#)));
    let error = asking.pull(&format!("{}/app:1", fake.host())).unwrap_err();
    assert_eq!(error.trouble(), Trouble::Local);
    assert!(error.error().causes().iter().any(|cause| cause.starts_with("line 1: ")), "{error:?}");
}

#[test]
fn an_identity_token_goes_to_the_token_service_and_no_further() {
    let (store, _) = app();
    let thief = Fake::start(|_| Reply::ok(r#"{"token":"t"}"#));
    let to = format!("http://{}/token", thief.host());
    let fake = Fake::start(guarded(store.clone(), |request| match request.body.as_slice() {
        body if body.ends_with(b"&refresh_token=good") => Reply::ok(r#"{"access_token":"t"}"#),
        body if body.ends_with(b"&refresh_token=gone") => Reply::status(400)
            .body(r#"{"error":"invalid_grant","error_description":"it was taken back"}"#),
        _ => Reply::status(500),
    }));
    let text =
        |token: &str| format!(r#"{{"auths":{{"{}":{{"identitytoken":"{token}"}}}}}}"#, fake.host());
    let name = format!("{}/app:1", fake.host());
    let (asking, _file) = with_file(&text("good"), nowhere());
    asking.pull(&name).unwrap();
    let log = fake.take_log();
    assert!(log.iter().all(|request| request.method == "GET" || request.path == "/token"));
    assert!(log.iter().all(|request| !request.header("authorization").starts_with("Basic")));
    let (asking, file) = with_file(&text("gone"), nowhere());
    let error = asking.pull(&name).unwrap_err();
    assert_eq!(error.trouble(), Trouble::Refused);
    let causes = error.error().causes().join("\n");
    assert!(causes.contains("status 401: it was taken back"), "{causes}");
    let wanted = format!("the login is from `{}`", file.path().display());
    assert!(causes.contains(&wanted) && !causes.contains("gone"), "{causes}");
    // A token service that sends the question on.
    let (store, _) = app();
    let inner = guarded(store, |_| Reply::status(307));
    let leading = Fake::start(move |request| match inner(request) {
        reply if reply.status == 307 => reply.with("location", &to),
        reply => reply,
    });
    let text = text("good").replace(&fake.host(), &leading.host());
    let (asking, _file) = with_file(&text, nowhere());
    asking.pull(&format!("{}/app:1", leading.host())).unwrap_err();
    assert_eq!(thief.take_log().len(), 0);
}

#[test]
fn a_token_of_a_file_is_sent_as_it_is_and_one_that_expired_is_renewed() {
    let (store, _) = app();
    let fake = Fake::start(guarded(store, |_| Reply::status(500)));
    let text = format!(r#"{{"auths":{{"{}/app":{{"registrytoken":"t"}}}}}}"#, fake.host());
    let (asking, _file) = with_file(&text, nowhere());
    asking.pull(&format!("{}/app:1", fake.host())).unwrap();
    assert!(fake.lines().iter().all(|line| !line.contains("/token")));
    // The service's tokens are good for two requests.
    let (store, _) = app();
    let (asked, used) = (Mutex::new(0), Mutex::new(0));
    let fake = Fake::start(move |request| {
        let realm = format!("Bearer realm=\"http://{}/token\"", request.header("host"));
        if request.path.starts_with("/token") {
            assert_eq!(request.header("authorization"), "Basic dTpw");
            *asked.lock().unwrap() += 1;
            *used.lock().unwrap() = 0;
            return Reply::ok(format!(r#"{{"token":"t{}"}}"#, asked.lock().unwrap()));
        }
        let good = format!("Bearer t{}", asked.lock().unwrap());
        let mut used = used.lock().unwrap();
        if request.path != "/v2/" && (request.header("authorization") != good || *used == 2) {
            return Reply::status(401).with("www-authenticate", &realm);
        }
        *used += u32::from(request.path != "/v2/");
        store.reply(request)
    });
    let text = format!(r#"{{"auths":{{"{}":{{"auth":"dTpw"}}}}}}"#, fake.host());
    let (asking, _file) = with_file(&text, nowhere());
    let name = format!("{}/app:1", fake.host());
    for _ in 0..5 {
        assert!(asking.head(&name).unwrap().is_some());
    }
    let tokens = fake.lines().iter().filter(|line| line.contains("/token")).count();
    assert_eq!(tokens, 3);
}

#[test]
fn a_program_for_all_registries_that_is_missing_is_told_once() {
    let (store, _) = app();
    let fake = Fake::start(guarded(store, |_| Reply::ok(r#"{"token":"t"}"#)));
    let (asking, file) = with_file(r#"{"credsStore":"gone"}"#, nowhere());
    let name = format!("{}/app:1", fake.host());
    asking.head(&name).unwrap();
    asking.head(&name).unwrap();
    let wanted = format!(
        "`docker-credential-gone` of `credsStore` in `{}` is not in PATH: no login of it is used",
        file.path().display()
    );
    assert_eq!(asking.registry.take_warnings(), [wanted]);
}

#[test]
fn a_login_is_checked_before_it_is_kept() {
    let fake = Fake::start(|request| {
        if request.header("authorization") == "Basic dTpw" {
            return Reply::ok("{}");
        }
        Reply::status(401).with("www-authenticate", "Basic realm=\"x\"")
    });
    let registry = Registry::new(&NetConfig::default()).unwrap();
    let target = |host: &str| LoginTarget::parse(host).unwrap();
    assert_eq!(registry.verify(&target(&fake.host()), "u", "p").unwrap(), Verified::Good);
    let error = registry.verify(&target(&fake.host()), "u", "planted").unwrap_err();
    assert_eq!(error.trouble(), Trouble::Refused);
    assert!(!format!("{error:?}").contains("planted"), "{error:?}");
    let open = Fake::start(|_| Reply::ok("{}"));
    assert_eq!(registry.verify(&target(&open.host()), "u", "p").unwrap(), Verified::Open);
    let strange = Fake::start(|_| Reply::status(401).with("www-authenticate", "Negotiate"));
    let error = registry.verify(&target(&strange.host()), "u", "p").unwrap_err();
    assert!(error.error().causes().join("").contains("neither Basic nor Bearer"), "{error:?}");
    let none = Fake::start(|_| Reply::status(404));
    assert!(registry.verify(&target(&none.host()), "u", "p").is_err());
    // Where it leads elsewhere nothing is shown.
    let elsewhere =
        Fake::start(|_| Reply::status(401).with("www-authenticate", "Basic realm=\"x\""));
    let to = format!("http://{}/elsewhere", elsewhere.host());
    let leading = Fake::start(move |_| Reply::status(302).with("location", &to));
    assert!(registry.verify(&target(&leading.host()), "u", "p").is_err());
    let log = elsewhere.take_log();
    assert!(
        !log.is_empty() && log.iter().all(|request| request.header("authorization").is_empty())
    );
}
