//! Loading into engines that behave and engines that do not.

use super::super::engine::{Engine, EngineConfig};
use crate::error::{Error, Result};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

const AGENT: &str = concat!("user-agent: nativebuild/", env!("CARGO_PKG_VERSION"), "\r\n");
const PONG: &str = "HTTP/1.1 200 OK\r\nLibpod-Api-Version: 4.3.1\r\nContent-Length: 2\r\n\r\nOK";

fn ping() -> String {
    format!("GET /_ping HTTP/1.1\r\n{AGENT}host: localhost\r\n\r\n")
}

fn post() -> String {
    format!(
        "POST /images/load?quiet=1 HTTP/1.1\r\ntransfer-encoding: chunked\r\n{AGENT}host: localhost\r\ncontent-type: application/x-tar\r\n\r\n"
    )
}

/// What the engine does with one connection.
enum Turn {
    /// Reads the request to its end and sends this.
    Answer(String),
    /// Reads the head only, sends this and closes.
    Hasty(String),
}

/// A request as it came, its body decoded; `None` when the body broke off.
type Seen = (String, Option<Vec<u8>>);

struct Fake {
    dir: tempfile::TempDir,
    thread: JoinHandle<Vec<Seen>>,
}

impl Fake {
    /// Takes one connection for each turn.
    fn start(turns: impl IntoIterator<Item = Turn>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("engine")).unwrap();
        let turns: Vec<Turn> = turns.into_iter().collect();
        let thread = std::thread::spawn(move || {
            turns.into_iter().map(|turn| serve(&listener, turn)).collect()
        });
        Self { dir, thread }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("engine")
    }

    /// What came in; no more connections were made than there were turns for.
    fn seen(self) -> Vec<Seen> {
        self.thread.join().unwrap()
    }
}

fn serve(listener: &UnixListener, turn: Turn) -> Seen {
    let (mut stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
    }
    let (body, answer) = match turn {
        Turn::Answer(answer) if head.contains("chunked") => (unchunked(&mut reader), answer),
        Turn::Answer(answer) => (Some(Vec::new()), answer),
        Turn::Hasty(answer) => (None, answer),
    };
    // The client may have gone.
    let _gone = stream.write_all(answer.as_bytes());
    (head, body)
}

fn unchunked(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let size = usize::from_str_radix(line.strip_suffix("\r\n")?, 16).unwrap();
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).ok()?;
        assert_eq!(chunk.split_off(size), b"\r\n");
        if size == 0 {
            return Some(body);
        }
        body.append(&mut chunk);
    }
}

/// An answer of the whole length.
fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn config(sockets: &[&Path]) -> EngineConfig {
    let sockets = sockets.iter().map(|path| (*path).to_owned()).collect();
    EngineConfig { sockets, ..EngineConfig::default() }
}

/// More than a socket and a pipe hold together.
fn archive() -> Vec<u8> {
    (0..1_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

fn write_archive(out: &mut dyn Write) -> Result<()> {
    out.write_all(&archive()).map_err(|error| Error::environment("the pipe").cause(error))
}

/// Finds the engine and loads; what it did, and what the engine saw after the ping.
fn load(turn: Turn) -> (std::result::Result<Vec<String>, String>, Seen) {
    let fake = Fake::start([Turn::Answer(PONG.to_owned()), turn]);
    let engine = Engine::find(&config(&[&fake.path()])).unwrap();
    let prefix = format!("cannot load the image into {engine}: ");
    let loaded = engine.load(None, write_archive);
    let loaded = loaded.map_err(|error| error.to_string().replace(&prefix, ""));
    let mut seen = fake.seen();
    let last = seen.pop().unwrap();
    assert_eq!(seen, [(ping(), Some(Vec::new()))]);
    (loaded, last)
}

#[test]
fn the_archive_arrives_as_it_was_written() {
    let lines = "{\"status\":\"x\",\"progressDetail\":{\"current\":1}}\r\n{\"stream\":\"Loaded image: app:1\\n\"}\r\n{\"stream\":\"Loaded image: x:2,x:3\"}\n";
    let (loaded, (head, body)) = load(Turn::Answer(answer("200 OK", lines)));
    assert_eq!(loaded.unwrap(), ["app:1", "x:2", "x:3"]);
    assert_eq!(head, post());
    assert!(body.unwrap() == archive());
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n29\r\n{\"stream\":\"Loaded image ID: sha256:ab\\n\"}\r\n0\r\n\r\n";
    assert_eq!(load(Turn::Answer(chunked.to_owned())).0.unwrap(), ["sha256:ab"]);
}

#[test]
fn the_words_of_an_engine_that_refuses_are_passed_on() {
    let disk = "{\"stream\":\"Loaded image: a\"}{\"errorDetail\":{\"message\":\"no space\\u001b[2J left\"},\"error\":\"short\"}";
    let full = "{\"message\":\"disk full\"}";
    for (turn, words) in [
        (Turn::Answer(answer("200 OK", disk)), "no space [2J left"),
        (Turn::Answer(answer("200 OK", "{\"error\":\"short\"}")), "short"),
        (Turn::Answer(answer("500 Oops", full)), "status 500: disk full"),
        (Turn::Answer(answer("503 No", "<html>")), "status 503"),
        // It closes with most of the archive unread.
        (Turn::Hasty(answer("500 Oops", full)), "status 500: disk full"),
        (
            Turn::Answer("HTTP/1.1 307 There\r\nLocation: http://localhost/x\r\n\r\n".to_owned()),
            "status 307",
        ),
    ] {
        assert_eq!(load(turn).0.unwrap_err(), words);
    }
}

#[test]
fn an_answer_that_makes_no_sense_is_no_success() {
    let long = "{\"stream\":\"Loaded image: a\"}".repeat(50_000);
    for (turn, words) in [
        (
            answer("200 OK", "OK\n"),
            "the answer is not an engine's: expected value at line 1 column 1: OK",
        ),
        (answer("200 OK", ""), "the answer does not say what was loaded"),
        (answer("200 OK", "{\"stream\":\"done\"}"), "the answer does not say what was loaded"),
        (answer("200 OK", &long), "the answer is longer than 1048576 bytes"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"stream\":\"Loaded image: a\"}"
                .to_owned(),
            "the answer broke off: peer disconnected",
        ),
        ("what?\r\n\r\n".to_owned(), "the answer is not http"),
    ] {
        assert_eq!(load(Turn::Answer(turn)).0.unwrap_err(), words);
    }
    for turn in [Turn::Answer(String::new()), Turn::Hasty(String::new())] {
        assert_eq!(load(turn).0.unwrap_err(), "the connection was closed without an answer");
    }
}

#[test]
fn a_part_of_an_archive_never_ends_like_a_whole_one() {
    let yes = answer("200 OK", "{\"stream\":\"Loaded image: a\"}");
    let fake = Fake::start([Turn::Answer(PONG.to_owned()), Turn::Answer(yes)]);
    let engine = Engine::find(&config(&[&fake.path()])).unwrap();
    let loaded = engine.load(None, |out| {
        write_archive(out)?;
        Err(Error::integrity("layer x is damaged"))
    });
    assert_eq!(loaded.unwrap_err().to_string(), "layer x is damaged");
    assert_eq!(fake.seen()[1], (post(), None));
}

#[test]
fn loading_stops_when_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("engine");
    // The second connection is never served: what is sent stays in the queue.
    let listener = UnixListener::bind(&path).unwrap();
    let engine = std::thread::scope(|scope| {
        scope.spawn(|| serve(&listener, Turn::Answer(PONG.to_owned())));
        Engine::find(&config(&[&path])).unwrap()
    });
    let (stop, other) = std::io::pipe().unwrap();
    let loaded = engine.load(Some(stop.into()), move |out| {
        drop(other);
        write_archive(out)
    });
    let error = loaded.unwrap_err();
    assert_eq!(error.message(), format!("cannot load the image into {engine}"));
    assert_eq!(error.causes(), ["stopped"]);
}

#[test]
fn the_first_engine_that_answers_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let stale = dir.path().join("stale");
    drop(UnixListener::bind(&stale).unwrap());
    let missing = dir.path().join("missing");
    let stranger =
        Fake::start([Turn::Answer(answer("404 What", "{\"message\":\"page not found\"}"))]);
    let garbage = Fake::start([Turn::Answer("220 mail.example ESMTP\r\n\r\n".to_owned())]);
    let docker = Fake::start([Turn::Answer(answer("200 OK", "OK"))]);
    let unasked = dir.path().join("unasked");
    let sockets = [&missing, &stale, &stranger.path(), &garbage.path(), &docker.path(), &unasked];
    let found = Engine::find(&config(&sockets.map(PathBuf::as_path))).unwrap();
    assert_eq!(found.to_string(), format!("docker (unix://{})", docker.path().display()));
    assert_eq!(docker.seen(), [(ping(), Some(Vec::new()))]);
}

#[test]
fn what_was_tried_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let (missing, stale, long) =
        (dir.path().join("missing"), dir.path().join("stale"), dir.path().join("x".repeat(108)));
    drop(UnixListener::bind(&stale).unwrap());
    let moved = "HTTP/1.1 301 Moved\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n".to_owned();
    let moved = Fake::start([Turn::Answer(moved)]);
    let stranger =
        Fake::start([Turn::Answer(answer("404 What", "{\"message\":\"page not found\"}"))]);
    let closed = Fake::start([Turn::Answer(String::new())]);
    let sockets = [&missing, &stale, &long, &moved.path(), &stranger.path(), &closed.path()];
    let error = Engine::find(&config(&sockets.map(PathBuf::as_path))).unwrap_err();
    assert_eq!(error.message(), "no container engine answers");
    assert_eq!(error.kind().exit_code(), 3);
    let reasons = [
        "no such file or directory",
        "connection refused",
        "file name too long",
        "GET /_ping: status 301",
        "GET /_ping: status 404: page not found",
        "the connection was closed without an answer",
    ];
    let wanted = sockets.iter().zip(reasons);
    let wanted = wanted.map(|(path, why)| format!("unix://{}: {why}", path.display()));
    assert_eq!(error.causes(), wanted.collect::<Vec<_>>());
    assert_eq!(
        error.hints(),
        [
            "start dockerd or `podman system service`, or write a file for `docker load` with `-o type=docker,dest=FILE`"
        ]
    );
    let one = EngineConfig { variable: Some("DOCKER_HOST"), ..config(&[&missing]) };
    let error = Engine::find(&one).unwrap_err();
    assert_eq!(error.message(), "the engine that DOCKER_HOST names does not answer");
}

#[test]
fn an_engine_that_hangs_is_given_up() {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("engine");
    let listener = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    listen(&listener, 0).unwrap();
    let config = EngineConfig { patience: Duration::from_millis(1), ..config(&[&path]) };
    let cause = [format!("unix://{}: no answer in time", path.display())];
    // It takes the connection and is silent; then its queue is full and it does not even do that.
    for _ in 0..2 {
        assert_eq!(Engine::find(&config).unwrap_err().causes(), cause);
    }
}
