//! A client that is stopped while it waits for a server.

use super::patience::Silent;
use super::*;
use crate::error::ErrorKind;

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
