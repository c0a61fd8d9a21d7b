//! A client that is stopped while it waits for a server.

use super::patience::Silent;
use super::*;
use crate::error::ErrorKind;
use rustix::event::{PollFd, PollFlags, poll};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

/// A registry that falls silent behind so many bytes of a blob.
fn silent_behind(store: Store, digest: &Digest, bytes: usize) -> Silent {
    let silent = format!("/v2/app/blobs/{digest}");
    Silent::start(move |line| {
        let path = line.split(' ').nth(1).unwrap();
        let (kind, body) =
            store.files.get(path).cloned().unwrap_or(("text/plain".to_owned(), Vec::new()));
        let sent = if path == silent { &body[..bytes] } else { &body };
        let text = String::from_utf8(sent.to_vec()).unwrap();
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{text}",
            body.len()
        )
    })
}

#[test]
fn what_is_under_way_ends_and_what_came_of_it_stays() {
    const CAME: usize = 300_000;
    let bytes = "0123456789".repeat(40_000);
    let digest = Digest::of(bytes.as_bytes());
    let mut store = Store::default();
    image(&mut store, &[bytes.as_bytes()], Some("1"));
    let server = silent_behind(store, &digest, CAME);
    let name = format!("{}/app:1", server.host);
    let client = Client::new();
    let part = client.layout.root().join(format!("blobs/sha256/.tmp-part-{}", digest.hex()));
    let came = || std::fs::metadata(&part).map_or(0, |part| part.len());
    let error = std::thread::scope(|scope| {
        let pulling = scope.spawn(|| client.pull(&name));
        while came() < CAME as u64 {
            std::thread::yield_now();
        }
        client.registry.stop();
        pulling.join().unwrap().unwrap_err()
    });
    assert_eq!(error.trouble(), Trouble::Unreachable);
    assert_eq!(error.error().kind(), ErrorKind::Interrupted(0));
    assert_eq!(error.to_string(), format!("cannot pull `{name}`: it was stopped"));
    assert_eq!((came(), client.waits()), (CAME as u64, 0));
    assert!(!client.layout.has_blob(&digest));
    let error = client.head(&name).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot look up `{name}`: it was stopped"));
}

/// A listener that has no room for another connection, which then gets no answer, and what fills it.
fn full() -> (TcpListener, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let first = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    poll(&mut [PollFd::new(&listener, PollFlags::IN)], None).unwrap();
    (listener, first)
}

/// Whether somebody here waits for a connection to this port of this machine.
fn is_connecting(port: u16) -> bool {
    let (text, port) = (std::fs::read_to_string("/proc/net/tcp").unwrap(), format!(":{port:04X}"));
    text.lines().any(|line| {
        // Number, our address, theirs, and 02 for a connection that is asked for.
        let words: Vec<&str> = line.split_whitespace().take(4).collect();
        matches!(words[..], [_, _, to, "02"] if to.ends_with(&port))
    })
}

/// It was waited for, for up to 15 seconds, as for the address of a name. Found in review.
#[test]
fn a_connection_that_is_being_made_is_left_alone() {
    let (listener, _first) = full();
    let port = listener.local_addr().unwrap().port();
    let patience = Patience { connection: Duration::from_hours(1), ..Patience::default() };
    let client = Client::with(NetConfig { patience, ..NetConfig::default() });
    let name = format!("127.0.0.1:{port}/app:1");
    let error = std::thread::scope(|scope| {
        let pulling = scope.spawn(|| client.pull(&name));
        let begun = Instant::now();
        while !is_connecting(port) {
            assert!(begun.elapsed() < Duration::from_mins(1), "nobody connects");
            std::thread::yield_now();
        }
        client.registry.stop();
        pulling.join().unwrap().unwrap_err()
    });
    // Nothing but the stop ended the waiting.
    assert!(is_connecting(port));
    assert_eq!(error.to_string(), format!("cannot pull `{name}`: it was stopped"));
    assert_eq!(client.waits(), 0);
}
