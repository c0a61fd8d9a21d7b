//! Tags over pages, referrers by API and by tag, deleting.

use super::*;
use crate::oci::Reference;

fn name(fake: &Fake) -> Reference {
    Reference::parse(&format!("{}/app:1", fake.host())).unwrap()
}

#[test]
fn tags_come_from_all_pages() {
    let fake = Fake::start(|request: &Request| match request.path.as_str() {
        "/v2/" => Reply::ok("{}"),
        "/v2/app/tags/list?n=1000" => Reply::ok(r#"{"name":"app","tags":["b","a"]}"#)
            .with("link", "</v2/app/tags/list?n=1000&last=b>; rel=\"next\""),
        "/v2/app/tags/list?n=1000&last=b" => Reply::ok(r#"{"name":"app","tags":["c"]}"#)
            // Whatever host it names, it is asked here.
            .with(
                "link",
                "<https://elsewhere.example/v2/app/tags/list?n=1000&last=c>; rel=\"next\"",
            ),
        "/v2/app/tags/list?n=1000&last=c" => Reply::ok(r#"{"name":"app","tags":null}"#),
        _ => Reply::status(404),
    });
    let client = Client::new();
    assert_eq!(client.registry.tags(&name(&fake)).unwrap(), ["a", "b", "c"]);
}

#[test]
fn pages_that_lead_astray_are_refused() {
    for (link, why) in [
        ("</v2/app/tags/list?n=1000>; rel=\"next\"", "a list that leads to itself"),
        ("</v2/other/tags/list>; rel=\"next\"", "whose next page is elsewhere"),
        ("</v2/app/../other/tags/list>; rel=\"next\"", "whose next page is elsewhere"),
    ] {
        let fake = Fake::start(move |request: &Request| match request.path.as_str() {
            "/v2/" => Reply::ok("{}"),
            _ => Reply::ok(r#"{"tags":["a"]}"#).with("link", link),
        });
        let error = Client::new().registry.tags(&name(&fake)).unwrap_err();
        let text = format!("{} {:?}", error.error(), error.error().causes());
        assert!(text.contains(why), "{text}");
    }
}

#[test]
fn a_repository_that_is_not_there_is_said_to_be_so() {
    let fake = Fake::start(|request: &Request| match request.path.as_str() {
        "/v2/" => Reply::ok("{}"),
        _ => Reply::status(404),
    });
    let error = Client::new().registry.tags(&name(&fake)).unwrap_err();
    assert_eq!(error.trouble(), Trouble::NotFound);
}

#[test]
fn referrers_come_from_the_api_else_from_the_tag() {
    let digest = Digest::of(b"subject");
    let list = |kind: &str| {
        let one = json!({"mediaType": OCI_MANIFEST, "digest": Digest::of(b"x"), "size": 1, "artifactType": kind});
        json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [one]}).to_string()
    };
    let (api, tagged) = (list("by/api"), list("by/tag"));
    for with_api in [true, false] {
        let (api, tagged, tag) =
            (api.clone(), tagged.clone(), format!("/v2/app/manifests/sha256-{}", digest.hex()));
        let fake = Fake::start(move |request: &Request| match request.path.as_str() {
            "/v2/" => Reply::ok("{}"),
            path if path.starts_with("/v2/app/referrers/") && with_api => {
                Reply::ok(api.clone()).with("content-type", OCI_INDEX)
            }
            path if path == tag => Reply::ok(tagged.clone()).with("content-type", OCI_INDEX),
            _ => Reply::status(404),
        });
        let client = Client::new();
        let found = client.registry.referrers(&name(&fake), &digest, None).unwrap();
        assert_eq!(found.api, with_api);
        let wanted = if with_api { "by/api" } else { "by/tag" };
        assert_eq!(found.list[0].artifact_type().as_ref().unwrap().as_ref(), wanted);
        let none = client.registry.referrers(&name(&fake), &digest, Some("other")).unwrap();
        assert!(none.list.is_empty());
    }
}

#[test]
fn deleting_goes_to_the_registry_and_says_what_it_could_not() {
    let fake = Fake::start(|request: &Request| match request.path.as_str() {
        "/v2/" => Reply::ok("{}"),
        "/v2/app/manifests/1" => Reply::status(405),
        path if path.contains("/manifests/sha256:") => Reply::status(202),
        _ => Reply::status(404),
    });
    let client = Client::new();
    let tag = name(&fake);
    assert!(!client.registry.delete(&tag).unwrap());
    let exact = Reference { tag: None, digest: Some(Digest::of(b"x")), ..tag.clone() };
    assert!(client.registry.delete(&exact).unwrap());
    let digest = Digest::of(b"x");
    assert_eq!(
        fake.lines(),
        ["DELETE /v2/app/manifests/1".to_owned(), format!("DELETE /v2/app/manifests/{digest}")]
    );
    let gone = Reference { tag: Some("2".to_owned()), ..tag };
    assert_eq!(client.registry.delete(&gone).unwrap_err().trouble(), Trouble::NotFound);
}
