//! Images in two parts: the documents at once, the blobs beside other work.

use super::*;
use std::sync::Condvar;

fn documents(client: &Client, name: &str) -> Documents {
    let reference = Reference::parse(name).unwrap();
    client.registry.documents(&reference, &amd64(), &client.layout, &Emitter::silent()).unwrap()
}

#[test]
fn documents_are_stored_when_what_they_name_is_there() {
    let mut store = Store::default();
    let image = on(image(&mut store, &[b"one", b"two"], None), "linux", "amd64");
    let index = json!({"schemaVersion": 2, "manifests": [image]});
    let index = store.document(OCI_INDEX, &index, Some("1"));
    let fake = Fake::start(move |request| store.reply(request));
    let client = Client::new();
    let silent = Emitter::silent();
    let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
    let config = Digest::of(b"{\"layers\":2}");
    let missing = |found: &Documents| [&config, &one, &two].map(|blob| found.missing(blob));

    let mut found = documents(&client, &format!("{}/app:1", fake.host()));
    assert_eq!(found.root(), &parsed(&index));
    assert_eq!(missing(&found), [Some(12), Some(3), Some(3)]);
    for document in [&image, &index] {
        let bytes = found.bytes(&spec::digest_of(&parsed(document)).unwrap()).unwrap();
        assert_eq!(bytes.len() as u64, parsed(document).size());
        assert!(!client.has(document));
    }
    client.registry.fetch_configs(&mut found, &client.layout, &silent).unwrap();
    assert_eq!(missing(&found), [None, Some(3), Some(3)]);
    let here = [&config, &one, &two].map(|blob| client.layout.has_blob(blob));
    assert_eq!(here, [true, false, false]);

    let came = Mutex::new(Vec::new());
    let note = |news: News<'_>| {
        let News::Here(digest) = news else { panic!("all come") };
        assert!(client.layout.has_blob(digest) && !client.has(&image) && !client.has(&index));
        came.lock().unwrap().push(digest.clone());
    };
    let pulled = client.registry.fetch(&found, &client.layout, &silent, &note).unwrap();
    assert_eq!(pulled, Pulled { root: parsed(&index), image: parsed(&image) });
    assert!(client.has(&image) && client.has(&index));
    let mut came = came.into_inner().unwrap();
    came.sort();
    let mut wanted = vec![one, two];
    wanted.sort();
    assert_eq!(came, wanted);
    assert_eq!(fake.take_log().len(), 5);
}

#[test]
fn a_blob_of_two_images_is_fetched_once() {
    let mut store = Store::default();
    image(&mut store, &[b"shared", b"one"], Some("1"));
    image(&mut store, &[b"shared", b"two", b""], Some("2"));
    // What both have comes when each was asked for what it has alone.
    let (alone, asked) = (Mutex::new(0), Condvar::new());
    let fake = Fake::start(move |request| {
        let is = |blob: &[u8]| request.path.ends_with(Digest::of(blob).hex());
        let mut alone = alone.lock().unwrap();
        if is(b"one") || is(b"two") {
            *alone += 1;
            asked.notify_all();
        }
        while is(b"shared") && *alone < 2 {
            alone = asked.wait(alone).unwrap();
        }
        drop(alone);
        store.reply(request)
    });
    let client = Client::new();
    let found = ["1", "2"].map(|tag| documents(&client, &format!("{}/app:{tag}", fake.host())));
    fake.take_log();
    let came = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for found in &found {
            let (client, came) = (&client, &came);
            scope.spawn(move || {
                let note = |news: News<'_>| {
                    let News::Here(digest) = news else { panic!("all come") };
                    came.lock().unwrap().push(digest.clone());
                };
                let silent = Emitter::silent();
                client.registry.fetch(found, &client.layout, &silent, &note).unwrap();
            });
        }
    });
    let shared = Digest::of(b"shared");
    let asked = fake.lines().into_iter().filter(|line| line.ends_with(shared.hex())).count();
    let told = came.into_inner().unwrap().into_iter().filter(|blob| *blob == shared).count();
    assert_eq!((asked, told), (1, 2));
}

/// The others were waited for, however large they are. Found in review.
#[test]
fn a_blob_that_does_not_come_ends_the_others_of_its_image_alone() {
    const ENOUGH: u64 = 1 << 20;
    const SIZE: u64 = 1 << 40;
    let (long, gone) = (Digest::of(b"long"), Digest::of(b"gone"));
    let mut store = Store::default();
    let config = store.blob(OCI_CONFIG, b"{}");
    let layers = [(&long, SIZE), (&gone, 4)]
        .map(|(digest, size)| json!({"mediaType": OCI_LAYER, "digest": digest, "size": size}));
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
    store.document(OCI_MANIFEST, &manifest, Some("1"));
    let client = Client::new();
    let part = client.layout.root().join(format!("blobs/sha256/.tmp-part-{}", long.hex()));
    let came = move || std::fs::metadata(&part).map_or(0, |part| part.len());
    let so_far = came.clone();
    let fake = Fake::start(move |request| {
        if request.path.ends_with(long.hex()) {
            let head = format!("HTTP/1.1 200 OK\ncontent-length: {SIZE}\n\n");
            return Reply::endless(&head, "x");
        }
        while request.path.ends_with(gone.hex()) && so_far() < ENOUGH {
            std::thread::yield_now();
        }
        store.reply(request)
    });
    let name = format!("{}/app:1", fake.host());
    assert_eq!(client.pull(&name).unwrap_err().trouble(), Trouble::NotFound);
    // What came of it stays, and the client goes on.
    assert!(came() >= ENOUGH);
    assert!(client.head(&name).unwrap().is_some());
}
