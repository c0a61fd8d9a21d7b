//! Uploads that are lost, refused, led astray, or confirmed though they are not there.

use super::push::Uploads;
use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

const LAYER: &[u8] = b"0123456789";

/// A registry of which a test changes some answers; it gives `None` for those that stay.
fn registry(
    other: impl Fn(&Request, usize, &mut Uploads) -> Option<Reply> + Send + Sync + 'static,
) -> Fake {
    let uploads = Mutex::new(Uploads::default());
    let puts = AtomicUsize::new(0);
    Fake::start(move |request| {
        let mut uploads = uploads.lock().unwrap();
        let put = matches!(&*request.method, "PUT" | "PATCH") && request.path.contains("/uploads/");
        let nth =
            if put { puts.fetch_add(1, Ordering::SeqCst) } else { puts.load(Ordering::SeqCst) };
        other(request, nth, &mut uploads).unwrap_or_else(|| uploads.reply(request))
    })
}

/// Pushes an image of one layer: what was asked for its layer, and what is told with the host replaced.
fn push(client: &Client, fake: &Fake) -> (Vec<String>, Result<(), String>) {
    let image = client.image(&[LAYER]);
    let done = client.push(&image, &[&format!("{}/app:1", fake.host())]);
    let lines = fake.take_log().into_iter().filter(|request| !request.path.contains("/manifests/"));
    let lines = lines.map(|request| {
        let path = request.path.split('?').next().unwrap().replace("/v2/app/blobs/", "");
        let path = path.replace(Digest::of(LAYER).as_str(), "LAYER");
        format!("{} {path} {}", request.method, String::from_utf8_lossy(&request.body))
    });
    let lines = lines.take_while(|line| !line.starts_with("HEAD sha256:")).collect();
    let told = done.map(drop).map_err(|error| {
        let error = error.error();
        let all = [error.message()].into_iter().chain(error.causes().iter().map(String::as_str));
        all.collect::<Vec<_>>().join("\n").replace(&fake.host(), "HOST")
    });
    (lines, told)
}

fn refusal(fake: &Fake) -> String {
    let (_, told) = push(&Client::new(), fake);
    told.unwrap_err()
}

#[test]
fn a_mount_that_becomes_an_upload_is_taken_as_one() {
    let fake = registry(|_, _, _| None);
    let client = Client::new();
    let base = Reference::parse(&format!("{}/base", fake.host())).unwrap();
    client.registry.note_home(&base, &Digest::of(LAYER));
    let (lines, told) = push(&client, &fake);
    assert_eq!(told, Ok(()));
    assert_eq!(lines, ["HEAD LAYER ", "POST uploads/ ", "PUT uploads/0 0123456789"]);
    // A repository that may not be read is no reason to fail.
    let fake = registry(|request, _, _| request.path.contains("from=").then(|| Reply::status(403)));
    let client = Client::new();
    let base = Reference::parse(&format!("{}/base", fake.host())).unwrap();
    client.registry.note_home(&base, &Digest::of(LAYER));
    let (lines, told) = push(&client, &fake);
    assert_eq!(told, Ok(()));
    assert_eq!(
        lines,
        ["HEAD LAYER ", "POST uploads/ ", "POST uploads/ ", "PUT uploads/0 0123456789"]
    );
}

#[test]
fn a_token_that_runs_out_is_replaced_and_only_the_rest_is_sent() {
    let fake = registry(|request, nth, uploads| {
        if request.path.starts_with("/token") {
            return Some(Reply::ok(format!("{{\"token\":\"t{nth}\"}}")));
        }
        // The first token is good until something was uploaded.
        let good = if nth == 0 { "Bearer t0" } else { "Bearer t1" };
        let first = nth == 0 && request.method == "PUT";
        if request.path == "/v2/" || (request.header("authorization") == good && !first) {
            return None;
        }
        if first {
            uploads.sessions.get_mut("/v2/app/blobs/uploads/0").unwrap().extend(b"0123");
        }
        let realm = format!("Bearer realm=\"http://{}/token\"", request.header("host"));
        Some(Reply::status(401).with("www-authenticate", &realm))
    });
    let client = Client::new();
    let (lines, told) = push(&client, &fake);
    assert_eq!(told, Ok(()));
    let lines: Vec<String> = lines.into_iter().filter(|line| !line.contains("/token")).collect();
    assert_eq!(
        lines,
        [
            "HEAD LAYER ",
            "HEAD LAYER ",
            "POST uploads/ ",
            "PUT uploads/0 0123456789",
            "GET uploads/0 ",
            "PATCH uploads/0 456789",
            "PUT uploads/0 ",
        ]
    );
}

#[test]
fn a_token_that_is_never_good_ends_the_upload() {
    let fake = registry(|request, _, _| {
        (request.method == "PUT").then(|| {
            Reply::status(401).body(r#"{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}"#)
        })
    });
    let client = Client::new();
    let (lines, told) = push(&client, &fake);
    assert_eq!(
        told.unwrap_err(),
        format!(
            "cannot push `HOST/app:1`\ncannot upload blob {}\n\
             registry `HOST` does not let you write to `app`\n\
             PUT http://HOST/v2/app/blobs/uploads/0?…: status 401: UNAUTHORIZED (no)",
            Digest::of(LAYER)
        )
    );
    assert_eq!(lines.iter().filter(|line| line.starts_with("PUT")).count(), 2);
}

#[test]
fn a_wait_that_is_asked_for_is_kept() {
    for (status, wait, wanted) in [(429, "7", 7), (503, "11", 11), (429, "99999999", 60)] {
        let fake = registry(move |request, nth, _| {
            let first = nth == 0 && request.method == "PUT";
            first.then(|| Reply::status(status).with("retry-after", wait))
        });
        let client = Client::new();
        let (lines, told) = push(&client, &fake);
        assert_eq!(told, Ok(()));
        assert_eq!(client.waits.lock().unwrap()[0], Duration::from_secs(wanted));
        assert_eq!(
            lines[2..],
            ["PUT uploads/0 0123456789", "GET uploads/0 ", "PUT uploads/0 0123456789"]
        );
    }
}

#[test]
fn a_lost_answer_is_not_a_lost_blob() {
    let fake = registry(|request, nth, uploads| {
        (nth == 0 && request.method == "PUT").then(|| {
            uploads.reply(request);
            Reply::closed()
        })
    });
    let (lines, told) = push(&Client::new(), &fake);
    assert_eq!(told, Ok(()));
    assert_eq!(
        lines,
        [
            "HEAD LAYER ",
            "POST uploads/ ",
            "PUT uploads/0 0123456789",
            "GET uploads/0 ",
            "HEAD LAYER ",
        ]
    );
}

#[test]
fn a_session_that_is_gone_is_opened_anew() {
    let fake = registry(|request, nth, uploads| {
        (nth == 0 && request.method == "PUT").then(|| {
            uploads.sessions.clear();
            Reply::closed()
        })
    });
    let (lines, told) = push(&Client::new(), &fake);
    assert_eq!(told, Ok(()));
    let sent: Vec<&String> = lines.iter().filter(|line| line.contains("0123456789")).collect();
    assert_eq!(sent, ["PUT uploads/0 0123456789"; 2]);
}

#[test]
fn places_that_an_upload_must_not_go_to_are_refused() {
    for (location, wanted) in [
        ("file:///etc/passwd", "registry `HOST` names no usable address for an upload"),
        ("", "registry `HOST` names no usable address for an upload"),
        (
            "http://evil.example/x?signature=secret",
            "registry `HOST` leads to plain http\nPUT http://evil.example/x?…: refused by this client",
        ),
        ("//user:secret@evil.example/x", "registry `HOST` names no usable address for an upload"),
    ] {
        let fake = registry(move |request, _, _| {
            (request.method == "POST").then(|| Reply::status(202).with("location", location))
        });
        let text = refusal(&fake);
        assert_eq!(
            text,
            format!("cannot push `HOST/app:1`\ncannot upload blob {}\n{wanted}", Digest::of(LAYER))
        );
        assert!(!text.contains("secret"), "{text}");
    }
}

#[test]
fn answers_that_would_go_round_in_circles_come_to_an_end() {
    let blob = Digest::of(LAYER);
    // Led from place to place.
    let fake = registry(|request, nth, _| {
        (request.method == "PUT")
            .then(|| Reply::status(307).with("location", &format!("/v2/app/blobs/uploads/{nth}")))
    });
    assert_eq!(
        refusal(&fake),
        format!(
            "cannot push `HOST/app:1`\ncannot upload blob {blob}\n\
             registry `HOST` gave an answer that makes no sense here\n\
             PUT http://HOST/v2/app/blobs/uploads/0?…: status 307"
        )
    );
    // Chunks of which nothing is kept.
    let fake = registry(|request, _, _| match &*request.method {
        "PUT" if request.path.contains("/uploads/") => Some(Reply::closed()),
        "GET" if request.path != "/v2/" => Some(Reply::status(204).with("range", "0-3")),
        "PATCH" => Some(Reply::status(202).with("location", "/v2/app/x").with("range", "0-3")),
        _ => None,
    });
    let client = Client::new();
    let (lines, told) = push(&client, &fake);
    assert_eq!(
        told.unwrap_err(),
        format!(
            "cannot push `HOST/app:1`\ncannot upload blob {blob}\n\
             registry `HOST` keeps nothing of a chunk"
        )
    );
    assert_eq!(lines.iter().filter(|line| line.starts_with("PATCH")).count(), 10);
    // Sessions that are never there.
    let fake = registry(|request, _, uploads| {
        uploads.sessions.clear();
        matches!(&*request.method, "PUT" | "GET" if request.path != "/v2/")
            .then(|| Reply::status(404))
    });
    let client = Client::new();
    let (lines, told) = push(&client, &fake);
    assert!(told.unwrap_err().contains("status 404"));
    assert!(lines.len() < 50, "{lines:?}");
    assert!(client.waits.lock().unwrap().iter().sum::<Duration>() < Duration::from_mins(1));
}

#[test]
fn what_a_registry_says_it_has_is_not_believed_when_it_cannot_be() {
    // More than was sent: from the start.
    let fake = registry(|request, nth, uploads| match &*request.method {
        "PUT" if nth == 0 => Some(Reply::closed()),
        "GET" if request.path.contains("/uploads/0") => {
            uploads.sessions.clear();
            Some(Reply::status(204).with("range", "0-9223372036854775807"))
        }
        _ => None,
    });
    let (lines, told) = push(&Client::new(), &fake);
    assert_eq!(told, Ok(()));
    assert_eq!(lines.iter().filter(|line| line.ends_with("0123456789")).count(), 2);
    // Another blob, another manifest.
    let other = Digest::of(b"other");
    for (part, what, digest) in
        [("/uploads/", "blob", Digest::of(LAYER)), ("/manifests/", "manifest", Digest::of(b""))]
    {
        let said = other.to_string();
        let fake = registry(move |request, _, _| {
            let put = request.method == "PUT" && request.path.contains(part);
            put.then(|| Reply::status(201).with("docker-content-digest", &said))
        });
        let text = refusal(&fake);
        let line = text.lines().last().unwrap();
        let wanted = format!("registry `HOST` stored another {what}: expected ");
        assert!(line.starts_with(&wanted), "{text}");
        assert!(line.ends_with(&format!(", found {other}")), "{text}");
        assert!(what == "manifest" || line.contains(digest.as_str()), "{text}");
    }
}

#[test]
fn odd_sizes_of_chunks_do_no_harm() {
    for size in ["9223372036854775808", "18446744073709551616", "-1", "0", "x"] {
        let fake = registry(move |request, nth, uploads| match &*request.method {
            "POST" => Some(uploads.reply(request).with("oci-chunk-min-length", size)),
            "PUT" if nth == 0 => {
                uploads.sessions.get_mut("/v2/app/blobs/uploads/0").unwrap().extend(b"01");
                Some(Reply::closed())
            }
            _ => None,
        });
        let (lines, told) = push(&Client::new(), &fake);
        assert_eq!(told, Ok(()), "{size}");
        assert_eq!(lines[4..6], ["PATCH uploads/0 23456789", "PUT uploads/0 "], "{size}");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "UPDATE_EXPECT=1 rewrites the texts")]
fn refusals_of_every_status_say_what_to_do() {
    let mut all = String::new();
    for (status, words) in [
        (400, "NAME_INVALID"),
        (401, "UNAUTHORIZED"),
        (403, "DENIED"),
        (404, "NAME_UNKNOWN"),
        (405, "UNSUPPORTED"),
        (413, "SIZE_INVALID"),
        (429, "TOOMANYREQUESTS"),
        (500, "UNKNOWN"),
        (507, ""),
    ] {
        let body = format!(r#"{{"errors":[{{"code":"{words}","message":"its words"}}]}}"#);
        let fake = registry(move |request, _, _| {
            (request.method == "POST").then(|| Reply::status(status).body(body.clone()))
        });
        let client = Client::new();
        let image = client.image(&[LAYER]);
        let error = client.push(&image, &[&format!("{}/app:1", fake.host())]).unwrap_err();
        let (causes, hints) = (error.error().causes(), error.error().hints());
        all += &format!("{}\n  {}\n", causes[1..].join("\n  "), hints.join("\n  "));
        all = all.replace(&fake.host(), "HOST");
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write("src/net/tests/refusals.txt", &all).unwrap();
    }
    assert_eq!(all, std::fs::read_to_string("src/net/tests/refusals.txt").unwrap());
}
