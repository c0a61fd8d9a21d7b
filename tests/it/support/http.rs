//! A web server on loopback with the files that a test gives it, and a log of what it was asked.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A file behind a path.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub body: Vec<u8>,
    /// Sent as they are; `etag` and `last-modified` are compared with what a request has.
    pub headers: Vec<(String, String)>,
    /// Value of Authorization without which there is no answer.
    pub wants: Option<String>,
    /// Another address instead of the body.
    pub moved: Option<String>,
}

impl Page {
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

type Pages = Arc<Mutex<BTreeMap<String, Page>>>;

/// The server; it ends with the test's process.
pub struct Web {
    address: SocketAddr,
    pages: Pages,
    log: Arc<Mutex<Vec<String>>>,
}

impl Web {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (pages, log) = (Pages::default(), Arc::<Mutex<Vec<String>>>::default());
        let (shown, noted) = (Arc::clone(&pages), Arc::clone(&log));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (pages, log) = (Arc::clone(&shown), Arc::clone(&noted));
                std::thread::spawn(move || while answer(&stream, &pages, &log).is_some() {});
            }
        });
        Self { address, pages, log }
    }

    pub fn put(&self, path: &str, page: Page) -> &Self {
        self.pages.lock().unwrap().insert(path.to_owned(), page);
        self
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// `GET /path STATUS` of all requests so far, and forgets them.
    pub fn log(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }
}

fn answer(mut stream: &TcpStream, pages: &Pages, log: &Mutex<Vec<String>>) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut asked = BTreeMap::new();
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        asked.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let page = pages.lock().unwrap().get(&path).cloned();
    let (status, page) = match page {
        None => (404, Page::default()),
        Some(page)
            if page.wants.as_ref().is_some_and(|w| asked.get("authorization") != Some(w)) =>
        {
            (401, Page::default())
        }
        Some(page) if page.moved.is_some() => {
            let to = page.moved.clone().unwrap();
            (302, Page::default().with("location", &to))
        }
        Some(page) if is_known(&page, &asked) => (304, Page { body: Vec::new(), ..page }),
        Some(page) => (200, page),
    };
    log.lock().unwrap().push(format!("{method} {path} {status}"));
    let mut text = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", page.body.len());
    for (name, value) in &page.headers {
        text += &format!("{name}: {value}\r\n");
    }
    stream.write_all((text + "\r\n").as_bytes()).ok()?;
    stream.write_all(&page.body).ok()
}

fn is_known(page: &Page, asked: &BTreeMap<String, String>) -> bool {
    let pairs = [("if-none-match", "etag"), ("if-modified-since", "last-modified")];
    pairs.iter().any(|(question, mark)| {
        let value = page.headers.iter().find(|(name, _)| name == mark).map(|(_, value)| value);
        value.is_some() && asked.get(*question) == value
    })
}
