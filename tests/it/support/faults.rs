//! A proxy on loopback between the program and a registry, which fails by a rule of the test's and counts what it carries.
//!
//! One request of the client is one connection to the registry. What a rule does to a request is a [`Fault`]; requests
//! without one are passed on as they are. At a [`Trap`]'s byte everything stops until the test says how it goes on.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// What happens to one request. Fractions are of 256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection is reset before anything is passed on.
    Reset,
    /// So much of the request's body is passed on, then both connections are reset.
    CutRequest(u8),
    /// The registry does what it was asked to, and nobody hears of it.
    LoseAnswer,
    /// So much of the answer's body is passed on, then the connection is reset.
    CutAnswer(u8),
    /// So much of the answer's body, as if it were the whole.
    Short(u8),
    /// One byte of the answer's body is another.
    Damage,
    /// This status, before the request's body was read, and seconds for Retry-After.
    Status(u16, Option<u32>),
    /// 307 to the same path at this address.
    Redirect(SocketAddr),
    /// A body without end.
    Endless,
    /// Everything in small pieces.
    Slow,
    /// These bytes instead of an answer.
    Raw(Arc<Vec<u8>>),
}

/// A request as the rule sees it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// With the query.
    pub path: String,
    /// How often this method and this path were asked for before; names of upload sessions count as one.
    pub before: u32,
    /// Length of the body.
    pub length: u64,
    pub authorization: bool,
}

impl Asked {
    /// True for requests that carry a blob one way or the other.
    pub fn is_blob(&self) -> bool {
        self.path.contains("/blobs/")
    }
}

type Rule = Arc<dyn Fn(&Asked) -> Option<Fault> + Send + Sync>;

/// Requests and bytes of bodies.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub requests: u64,
    /// Requests that met a fault.
    pub faults: u64,
    /// Bytes of blobs that the client sent.
    pub sent: u64,
    /// Bytes of blobs that the client got.
    pub received: u64,
    /// Bytes of each blob that the client got, by digest.
    pub blobs: BTreeMap<String, u64>,
    /// `METHOD path` of everything, and the value of Range where there is one.
    pub lines: Vec<String>,
}

struct State {
    upstream: SocketAddr,
    rule: Rule,
    counts: Mutex<Counts>,
    seen: Mutex<BTreeMap<String, u32>>,
    trap: Mutex<Option<Trap>>,
    open: Condvar,
}

/// Stops everything once so many bytes of blobs went either way.
struct Trap {
    at: u64,
    hit: Sender<()>,
    sprung: bool,
}

/// The proxy; it ends with the test's process.
pub struct Faults {
    address: SocketAddr,
    state: Arc<State>,
}

impl Faults {
    /// A proxy before `upstream` (`host:port`) that fails by `rule`.
    pub fn before(
        upstream: &str,
        rule: impl Fn(&Asked) -> Option<Fault> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            upstream: upstream.parse().unwrap(),
            rule: Arc::new(rule),
            counts: Mutex::default(),
            seen: Mutex::default(),
            trap: Mutex::default(),
            open: Condvar::new(),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // A connection that breaks is what this is for.
                std::thread::spawn(move || while serve(&state, &client).unwrap_or(false) {});
            }
        });
        Self { address, state }
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What happened since the last call.
    pub fn take(&self) -> Counts {
        std::mem::take(&mut *self.state.counts.lock().unwrap())
    }

    /// After so many further bytes of blobs nothing moves any more. The receiver tells when that is.
    pub fn trap(&self, at: u64) -> Receiver<()> {
        let (hit, told) = channel();
        *self.state.trap.lock().unwrap() = Some(Trap { at, hit, sprung: false });
        told
    }

    /// Lets go of what a trap holds, and takes it away.
    pub fn release(&self) {
        *self.state.trap.lock().unwrap() = None;
        self.state.open.notify_all();
    }
}

/// Fails `percent` of the requests, by chance that depends on the seed, the request and how often it came.
pub fn at_random(seed: u64, percent: u8) -> impl Fn(&Asked) -> Option<Fault> + Send + Sync {
    move |asked| {
        let text = format!("{seed} {} {} {}", asked.method, stable(&asked.path), asked.before);
        let mut dice = Dice::new(&text);
        if asked.path == "/v2/" || dice.next(100) >= u64::from(percent) {
            return None;
        }
        let part = dice.next(256) as u8;
        Some(match dice.next(20) {
            3..=5 => Fault::CutRequest(part),
            6..=7 => Fault::LoseAnswer,
            8..=11 => Fault::CutAnswer(part),
            12..=13 => Fault::Status(503, None),
            14 => Fault::Status(500, None),
            15 => Fault::Status(502, None),
            16..=17 => Fault::Status(429, Some(part.into())),
            18 if asked.method == "GET" && asked.is_blob() => Fault::Short(part),
            19 if asked.method == "GET" && asked.is_blob() => Fault::Damage,
            _ => Fault::Reset,
        })
    }
}

/// A repeatable source of numbers.
pub struct Dice(u64);

impl Dice {
    pub fn new(text: &str) -> Self {
        // FNV-1a.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(hash)
    }

    /// A number below `limit`, by splitmix64.
    pub fn next(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let words = (0..count.div_ceil(8)).flat_map(|_| self.next(u64::MAX).to_le_bytes());
        words.take(count).collect()
    }
}

/// A path without what a registry makes up.
fn stable(path: &str) -> String {
    match path.split_once("/blobs/uploads/") {
        Some((repository, rest)) if !rest.is_empty() && !rest.starts_with('?') => {
            let digest = rest.split_once("digest=").map_or("", |(_, digest)| digest);
            format!("{repository}/blobs/uploads/*{digest}")
        }
        _ => path.to_owned(),
    }
}

struct Head {
    first: String,
    fields: Vec<(String, String)>,
}

impl Head {
    fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(None);
        }
        let mut fields = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Some(Self { first: first.trim_end().to_owned(), fields }))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn set(&mut self, name: &str, value: &str) {
        self.fields.retain(|(known, _)| known != name);
        self.fields.push((name.to_owned(), value.to_owned()));
    }

    fn length(&self) -> Option<u64> {
        self.get("content-length")?.parse().ok()
    }

    fn write(&self, mut to: &TcpStream) -> io::Result<()> {
        let mut text = format!("{}\r\n", self.first);
        for (name, value) in &self.fields {
            text += &format!("{name}: {value}\r\n");
        }
        to.write_all((text + "\r\n").as_bytes())
    }
}

/// One request; true when the connection goes on.
fn serve(state: &State, client: &TcpStream) -> io::Result<bool> {
    let mut reader = BufReader::with_capacity(64 << 10, client);
    let Some(head) = Head::read(&mut reader)? else { return Ok(false) };
    let mut words = head.first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let key = format!("{method} {}", stable(path));
    let before = {
        let mut seen = state.seen.lock().unwrap();
        let count = seen.entry(key).or_default();
        *count += 1;
        *count - 1
    };
    let asked = Asked {
        method: method.to_owned(),
        path: path.to_owned(),
        before,
        length: head.length().unwrap_or(0),
        authorization: head.get("authorization").is_some(),
    };
    let fault = (state.rule)(&asked);
    {
        let mut counts = state.counts.lock().unwrap();
        counts.requests += 1;
        counts.faults += u64::from(fault.is_some());
        let range = head.get("range").map_or(String::new(), |range| format!(" {range}"));
        counts.lines.push(format!("{method} {path}{range}"));
    }
    match fault {
        Some(Fault::Reset) => reset(client),
        Some(Fault::Status(status, wait)) => {
            let mut answer =
                format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\nconnection: close\r\n");
            if let Some(wait) = wait {
                answer += &format!("retry-after: {wait}\r\n");
            }
            (&*client).write_all((answer + "\r\n").as_bytes())?;
            Ok(false)
        }
        Some(Fault::Redirect(to)) => {
            let text = format!(
                "HTTP/1.1 307 There\r\nlocation: http://{to}{path}\r\ncontent-length: 0\r\n\r\n"
            );
            (&*client).write_all(text.as_bytes())?;
            Ok(asked.length == 0)
        }
        Some(Fault::Endless) => {
            let text = b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n\r\n";
            (&*client).write_all(text)?;
            loop {
                (&*client).write_all(&[b'x'; 8192])?;
            }
        }
        Some(Fault::Raw(bytes)) => {
            (&*client).write_all(&bytes)?;
            Ok(false)
        }
        other => forward(state, client, reader, head, &asked, other),
    }
}

fn forward(
    state: &State,
    client: &TcpStream,
    mut reader: BufReader<&TcpStream>,
    mut head: Head,
    asked: &Asked,
    fault: Option<Fault>,
) -> io::Result<bool> {
    let server = TcpStream::connect(state.upstream)?;
    head.set("connection", "close");
    head.write(&server)?;
    let slow = fault == Some(Fault::Slow);
    let wanted = match fault {
        Some(Fault::CutRequest(part)) => asked.length * u64::from(part) / 256,
        _ => asked.length,
    };
    let sent = |bytes: u64| state.count(asked, bytes, true);
    pump(&mut reader, &server, wanted, slow, None, &sent)?;
    if matches!(fault, Some(Fault::CutRequest(_))) {
        drop(reset(&server));
        return reset(client);
    }
    let mut answer = BufReader::with_capacity(64 << 10, &server);
    let Some(mut head) = Head::read(&mut answer)? else { return reset(client) };
    let length = if asked.method == "HEAD" { Some(0) } else { head.length() };
    if fault == Some(Fault::LoseAnswer) {
        return reset(client);
    }
    let mut wanted = length.unwrap_or(u64::MAX);
    let part = |part: &u8| length.map_or(0, |length| length * u64::from(*part) / 256);
    match &fault {
        Some(Fault::CutAnswer(cut)) => wanted = part(cut),
        Some(Fault::Short(cut)) if asked.method != "HEAD" => {
            wanted = part(cut);
            head.set("content-length", &wanted.to_string());
        }
        _ => {}
    }
    if length.is_none() {
        head.set("connection", "close");
    } else {
        head.fields.retain(|(name, _)| name != "connection");
    }
    head.write(client)?;
    let damaged = (fault == Some(Fault::Damage)).then_some(wanted / 2);
    let received = |bytes: u64| state.count(asked, bytes, false);
    pump(&mut answer, client, wanted, slow, damaged, &received)?;
    if matches!(fault, Some(Fault::CutAnswer(_))) {
        return reset(client);
    }
    Ok(length.is_some())
}

/// Carries at most so many bytes.
fn pump(
    from: &mut impl Read,
    mut to: &TcpStream,
    mut left: u64,
    slow: bool,
    mut damaged: Option<u64>,
    count: &dyn Fn(u64),
) -> io::Result<()> {
    let mut buffer = vec![0; 32 << 10];
    let piece = if slow { 700 } else { buffer.len() };
    while left > 0 {
        let n = from.read(&mut buffer[..piece.min(usize::try_from(left).unwrap_or(piece))])?;
        if n == 0 {
            break;
        }
        if let Some(at) = damaged {
            damaged = at.checked_sub(n as u64);
            if damaged.is_none() {
                buffer[at as usize] ^= 1;
            }
        }
        count(n as u64);
        to.write_all(&buffer[..n])?;
        left -= n as u64;
    }
    Ok(())
}

impl State {
    /// Counts bytes of a body, and stops at a trap.
    fn count(&self, asked: &Asked, bytes: u64, sent: bool) {
        if !asked.is_blob() {
            return;
        }
        {
            let mut counts = self.counts.lock().unwrap();
            if sent {
                counts.sent += bytes;
            } else if asked.method == "GET" {
                counts.received += bytes;
                let name = asked.path.rsplit('/').next().unwrap_or_default().to_owned();
                *counts.blobs.entry(name).or_default() += bytes;
            }
        }
        let mut trap = self.trap.lock().unwrap();
        while let Some(set) = trap.as_mut() {
            if let Some(left) = set.at.checked_sub(bytes).filter(|_| !set.sprung) {
                set.at = left;
                return;
            }
            if !set.sprung {
                set.sprung = true;
                // The test may have gone.
                let _gone = set.hit.send(());
            }
            trap = self.open.wait(trap).unwrap();
        }
    }
}

/// Closes with a reset instead of an end.
fn reset(stream: &TcpStream) -> io::Result<bool> {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?;
    Err(io::ErrorKind::ConnectionReset.into())
}
