//! A registry on loopback whose every answer a test decides, with a log of what it was asked.

use crate::oci::Digest;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What came in.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// With the query.
    pub(super) path: String,
    /// Names in lowercase.
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// `GET /v2/…`, for comparing.
    pub(super) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// What goes out.
#[derive(Clone, Debug, Default)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Only so much of the body is sent, under the length of the whole.
    pub(super) cut: Option<usize>,
    /// Bytes instead of an answer; empty closes the connection.
    pub(super) raw: Option<Vec<u8>>,
    /// Sent again and again after `raw`, until nobody listens.
    pub(super) endless: Vec<u8>,
}

impl Reply {
    pub(super) fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(super) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, body: body.into(), ..Self::default() }
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// A head, and a body that consists of the same over and over.
    pub(super) fn endless(head: &str, piece: &str) -> Self {
        let raw = Some(head.replace('\n', "\r\n").into_bytes());
        Self { raw, endless: piece.repeat(1 + 8192 / piece.len()).into_bytes(), ..Self::default() }
    }

    pub(super) fn closed() -> Self {
        Self { raw: Some(Vec::new()), ..Self::default() }
    }
}

type Handler = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

/// The server; gone when dropped.
pub(super) struct Fake {
    address: SocketAddr,
    log: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    pub(super) fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (log, stop) = (Arc::<Mutex<Vec<Request>>>::default(), Arc::<AtomicBool>::default());
        let handler: Handler = Arc::new(handler);
        let (seen, stopped) = (Arc::clone(&log), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (handler, seen) = (Arc::clone(&handler), Arc::clone(&seen));
                std::thread::spawn(move || serve(&stream, &handler, &seen));
            }
        });
        Self { address, log, stop, thread: Some(thread) }
    }

    /// `127.0.0.1:port`
    pub(super) fn host(&self) -> String {
        self.address.to_string()
    }

    /// All requests but the look at `/v2/`, and forgets them.
    pub(super) fn take_log(&self) -> Vec<Request> {
        let mut log = std::mem::take(&mut *self.log.lock().unwrap());
        log.retain(|request| request.path != "/v2/");
        log
    }

    /// The same as lines.
    pub(super) fn lines(&self) -> Vec<String> {
        self.take_log().iter().map(Request::line).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the listener.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn serve(stream: &TcpStream, handler: &Handler, seen: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader) {
        seen.lock().unwrap().push(request.clone());
        let reply = handler(&request);
        // The client may have gone, which is its right.
        if !write_reply(stream, &request, &reply).unwrap_or(false) {
            return;
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.take(8192).read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        line.clear();
        reader.take(8192).read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let all: &mut String = headers.entry(name.to_ascii_lowercase()).or_default();
        all.push_str(value.trim());
        all.push(';');
    }
    for value in headers.values_mut() {
        value.pop();
    }
    let mut body = Vec::new();
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    reader.take(length).read_to_end(&mut body).ok()?;
    Some(Request { method, path, headers, body })
}

/// True when the connection goes on.
fn write_reply(mut stream: &TcpStream, request: &Request, reply: &Reply) -> std::io::Result<bool> {
    if let Some(raw) = &reply.raw {
        stream.write_all(raw)?;
        while !reply.endless.is_empty() {
            stream.write_all(&reply.endless)?;
        }
        return Ok(false);
    }
    let mut head = format!("HTTP/1.1 {} X\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", reply.body.len()));
    stream.write_all(head.as_bytes())?;
    if request.method != "HEAD" {
        stream.write_all(&reply.body[..reply.cut.unwrap_or(reply.body.len())])?;
    }
    Ok(reply.cut.is_none())
}

/// Documents and blobs of the repository `app`, as a well-behaved registry gives them.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    /// Path → media type, bytes.
    pub(super) files: HashMap<String, (String, Vec<u8>)>,
}

impl Store {
    /// Adds a blob; gives its descriptor.
    pub(super) fn blob(&mut self, media_type: &str, bytes: &[u8]) -> serde_json::Value {
        let digest = Digest::of(bytes);
        self.files.insert(
            format!("/v2/app/blobs/{digest}"),
            ("application/octet-stream".to_owned(), bytes.to_vec()),
        );
        serde_json::json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Adds a manifest or an index under its digest and, if given, a tag; gives its descriptor.
    pub(super) fn document(
        &mut self,
        media_type: &str,
        value: &serde_json::Value,
        tag: Option<&str>,
    ) -> serde_json::Value {
        let bytes = serde_json::to_vec(value).unwrap();
        let digest = Digest::of(&bytes);
        for name in [Some(digest.as_str()), tag].into_iter().flatten() {
            let file = (media_type.to_owned(), bytes.clone());
            self.files.insert(format!("/v2/app/manifests/{name}"), file);
        }
        serde_json::json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// The proper answer.
    pub(super) fn reply(&self, request: &Request) -> Reply {
        if request.path == "/v2/" {
            return Reply::ok("{}");
        }
        let path = request.path.split('?').next().unwrap();
        let Some((media_type, bytes)) = self.files.get(path) else {
            return Reply::status(404)
                .body(r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#);
        };
        let reply = Reply::ok(bytes.clone()).with("content-type", media_type);
        if path.contains("/manifests/") {
            return reply.with("docker-content-digest", Digest::of(bytes).as_str());
        }
        reply
    }
}
