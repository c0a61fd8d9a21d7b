//! Plain http by way of a proxy.

use super::*;

/// A client that goes through `proxy` with `login@`, or without.
fn client(login: &str, proxy: &Fake) -> Client {
    let proxy = Some(format!("http://{login}{}", proxy.host()));
    let config = NetConfig {
        https_proxy: proxy.clone(),
        http_proxy: proxy,
        insecure: vec!["r.invalid:5000".to_owned()],
        pause: Pause::with(|_| {}),
        ..NetConfig::default()
    };
    Client { registry: Registry::new(&config).unwrap(), ..Client::new() }
}

/// Makes no tunnel but to port 443, as many do; else asks the server itself.
fn proxy(wants: &'static str, server: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Fake {
    Fake::start(move |request| {
        if request.header("proxy-authorization") != wants {
            return Reply::status(407);
        }
        if request.method == "CONNECT" {
            return Reply::status(403);
        }
        let path = request.path.strip_prefix("http://r.invalid:5000").unwrap().to_owned();
        assert_eq!(request.header("host"), "r.invalid:5000");
        server(&Request { path, ..request.clone() })
    })
}

/// A plain registry was asked by CONNECT, which this proxy makes to port 443 only.
#[test]
fn a_plain_registry_is_asked_by_its_whole_address() {
    let mut store = Store::default();
    let manifest = image(&mut store, &[b"one", b"two"], Some("1"));
    let proxy = proxy("Basic bWU6c2VjcmV0", move |request| store.reply(request));
    let pulling = client("me:secret@", &proxy);
    let pulled = pulling.pull("r.invalid:5000/app:1").unwrap();
    assert_eq!(pulled.root, parsed(&manifest));
    let mut lines = proxy.lines();
    lines.sort();
    assert_eq!(lines[0], "CONNECT r.invalid:5000");
    assert_eq!(lines.len(), 6, "{lines:?}");
    assert!(lines[1..5].iter().all(|line| line.starts_with("GET http://r.invalid:5000/v2/")));
    // Bodies pass as they are, on a connection that was used before.
    let error = pulling
        .registry
        .push(
            &pulling.layout,
            &pulled.root,
            &[Reference::parse("r.invalid:5000/other:1").unwrap()],
            &Emitter::silent(),
        )
        .unwrap_err();
    assert!(error.error().causes().join("").contains("status 404"), "{error:?}");
    assert!(
        proxy
            .lines()
            .iter()
            .any(|line| { line.starts_with("POST http://r.invalid:5000/v2/other/blobs/uploads/") })
    );
}

#[test]
fn a_proxy_that_wants_a_login_is_told_from_the_registry() {
    let proxy = proxy("Basic bWU6c2VjcmV0", |_| Reply::ok("{}"));
    let error = client("", &proxy).pull("r.invalid:5000/app:1").unwrap_err();
    let causes = error.error().causes().join("\n").replace(&proxy.host(), "PROXY");
    assert_eq!(
        causes,
        "registry `r.invalid:5000` cannot be reached\n\
         GET https://r.invalid:5000/v2/: status 407, from the proxy `PROXY`"
    );
    let hint = "write the name and the password that it wants in front of its host: `http://USER:PASSWORD@HOST:PORT`";
    assert_eq!(error.error().hints(), [hint]);
    // The same where there is no tunnel.
    let url = Some(format!("http://{}", proxy.host()));
    let config = NetConfig { http_proxy: url, ..NetConfig::default() };
    let fetched = Fetcher::new(&config).unwrap();
    let error = fetched.get("http://r.invalid/f", None, None).err().unwrap();
    let causes = error.error().causes().join("\n").replace(&proxy.host(), "PROXY");
    assert_eq!(causes, "GET http://r.invalid/f: status 407, from the proxy `PROXY`");
}
