//! Servers that say nothing, from the start or in the middle, and a client that has little patience.

use super::*;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A server that answers connections by the rule and then holds them, silent.
pub(super) struct Silent {
    pub(super) host: String,
    connections: Arc<AtomicUsize>,
}

impl Silent {
    /// `say` gives what is said to each request's first line; nothing more comes after an empty answer or one that is cut.
    pub(super) fn start(say: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let connections = Arc::<AtomicUsize>::default();
        let (count, say) = (Arc::clone(&connections), Arc::new(say));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let say = Arc::clone(&say);
                std::thread::spawn(move || serve(stream, &*say));
            }
        });
        Self { host, connections }
    }
}

fn serve(mut stream: TcpStream, say: &dyn Fn(&str) -> String) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n) = stream.read(&mut buffer) {
        if n == 0 {
            return;
        }
        request.extend_from_slice(&buffer[..n]);
        if request.ends_with(b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&request).into_owned();
            let _gone = stream.write_all(say(text.lines().next().unwrap_or_default()).as_bytes());
            request.clear();
        }
    }
}

/// For servers of which nothing is to come in time.
fn soon() -> Patience {
    let soon = Duration::from_millis(100);
    Patience { answer: soon, silence: soon, ..Patience::short() }
}

fn reference(name: &str) -> Reference {
    Reference::parse(name).unwrap()
}

#[test]
fn a_registry_that_never_answers_is_asked_once() {
    let server = Silent::start(|_| String::new());
    let patient = NetConfig { patience: soon(), ..NetConfig::default() };
    let client = Client::with(patient.clone());
    let name = reference(&format!("{}/app:1", server.host));
    let url = format!("http://{}/v2/", server.host);
    let wanted =
        format!("registry `{}` cannot be reached\nGET {url}: no answer in time", server.host);
    let text = |error: &NetError| {
        let error = error.error();
        format!("{}\n{}", error.message(), error.causes().join("\n"))
    };
    assert_eq!(text(&client.registry.look_up(&name).unwrap_err()), wanted);
    // Neither for another repository, nor by another client that may know of it.
    let other = reference(&format!("{}/other:1", server.host));
    assert_eq!(text(&client.registry.look_up(&other).unwrap_err()), wanted);
    let twin = Client::with(patient);
    let denied = twin.registry.check_push(&other).unwrap_err();
    assert_eq!(text(&denied), format!("cannot push `{other}`\n{wanted}"));
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    assert_eq!((client.waits(), twin.waits()), (0, 0));
}

type Try = fn(&Client, &Reference, &Descriptor) -> NetError;

#[test]
fn an_answer_that_stops_in_the_middle_is_the_last() {
    let patience = Patience { silence: Duration::from_millis(100), ..Patience::short() };
    // A manifest, a config, and a layer of which some bytes come.
    let digest = Digest::of(b"some blob");
    let server = Silent::start(|line| match line.split(' ').nth(1).unwrap_or_default() {
        "/v2/" => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned(),
        _ => "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nsome".to_owned(),
    });
    let name = reference(&format!("{}/app:1", server.host));
    let descriptor = spec::descriptor(OCI_CONFIG.into(), &digest, 9);
    let of_blob = format!("GET http://{}/v2/app/blobs/{digest}", server.host);
    let of_manifest = format!("GET http://{}/v2/app/manifests/1", server.host);
    let tries: [(&str, Try); 3] = [
        (&of_manifest, |client, name, _| client.registry.look_up(name).unwrap_err()),
        (&of_blob, |client, name, blob| client.registry.config(name, blob).unwrap_err()),
        (&of_blob, |client, name, blob| {
            client.registry.fetch_blob(name, blob, &client.layout).unwrap_err()
        }),
    ];
    for (address, attempt) in tries {
        let client = Client::with(NetConfig { patience, ..NetConfig::default() });
        for _ in 0..2 {
            let error = attempt(&client, &name, &descriptor);
            assert_eq!(error.trouble(), Trouble::Unreachable);
            let wanted = format!("{address}: the answer does not come to its end");
            assert_eq!(error.error().causes().last(), Some(&wanted), "{error:?}");
        }
        assert_eq!(client.waits(), 0);
    }
}

/// What drips in time, byte by byte, is not kept up for longer than a document may take.
#[test]
fn a_document_that_drips_has_an_end() {
    let fake = Fake::start(|request| match request.path.as_str() {
        "/v2/" => Reply::ok(""),
        _ => Reply::endless("HTTP/1.1 200 OK\ncontent-length: 8000000\n\n", "x"),
    });
    let patience = Patience { document: Duration::ZERO, ..Patience::short() };
    let client = Client::with(NetConfig { patience, ..NetConfig::default() });
    let name = reference(&format!("{}/app:1", fake.host()));
    let error = client.registry.look_up(&name).unwrap_err();
    let wanted = format!(
        "GET http://{}/v2/app/manifests/1: the answer does not come to its end",
        fake.host()
    );
    assert_eq!(error.error().causes(), [wanted]);
}

#[test]
fn a_blob_that_a_registry_misses_after_all_is_sent_whatever_it_says() {
    let blob = b"some blob";
    let digest = Digest::of(blob);
    let fake = Fake::start(move |request| match request.method.as_str() {
        "HEAD" => Reply::status(200),
        "POST" => Reply::status(202).with("location", "/upload"),
        "PUT" if request.path.starts_with("/upload") => Reply::status(201),
        "PUT" => Reply::status(404).body(format!(
            r#"{{"errors":[{{"code":"MANIFEST_BLOB_UNKNOWN","detail":{{"digest":"{digest}"}}}}]}}"#
        )),
        _ => Reply::ok(""),
    });
    let client = Client::new();
    let blob = client.layout.put_document(OCI_LAYER, blob).unwrap();
    let name = reference(&format!("{}/app:1", fake.host()));
    let silent = Emitter::silent();
    let send = || client.registry.push_blob(&client.layout, &blob, &name, &silent).unwrap();
    send();
    assert!(client.registry.has_blob(&blob, &name).unwrap());
    let error = client.registry.put_manifest(&name, OCI_MANIFEST, b"{}").unwrap_err();
    client.registry.doubt(&name, error.unknown_blobs().unwrap());
    assert!(!client.registry.has_blob(&blob, &name).unwrap());
    fake.take_log();
    send();
    let upload = format!("PUT /upload?digest={}", blob.digest().to_string().replace(':', "%3A"));
    assert_eq!(fake.lines(), ["POST /v2/app/blobs/uploads/".to_owned(), upload]);
    assert!(client.registry.has_blob(&blob, &name).unwrap());
    assert_eq!(fake.lines(), Vec::<String>::new());
}
