//! Nix's database in images, as Nix sees it: `nix-store --verify --check-contents` and queries in the exported root.

use super::Seven;
use crate::support::Said;
use serde_json::{Value, json};
use std::fs;

/// A command in the root of an image, which is exported once.
fn within(seven: &Seven, name: &str, command: &str) -> Said {
    let root = format!("{name}-root");
    if !seven.nix.path(&root).exists() {
        seven.nix.ok(&format!("nativebuild assemble -q -f {name}.json -o type=local,dest={root}"));
    }
    seven.nix.run(&format!("export NIX_REMOTE=\"local?root=$PWD/{root}\"; {command}"))
}

fn database(seven: &Seven, name: &str) -> Vec<u8> {
    within(seven, name, "true").ok();
    fs::read(seven.nix.path(&format!("{name}-root/nix/var/nix/db/db.sqlite"))).unwrap()
}

const WITH: &str = r#"{"nixDatabase": {"gcroots": "docker"}}"#;

fn with() -> Value {
    serde_json::from_str(WITH).unwrap()
}

#[track_caller]
fn verified(seven: &Seven, name: &str) {
    let said = within(seven, name, "nix-store --verify --check-contents 2>&1");
    assert!(said.code == 0 && !said.stdout.contains("error"), "{name}: {said:?}");
}

#[test]
fn nix_finds_the_closure_in_the_image_and_nothing_wrong_with_it() {
    let Some(seven) = Seven::new() else { return };
    seven.assemble("app", json!([seven.closure("a", &json!({"graph": "graph"}))]), &with());
    verified(&seven, "app");
    let requisites = format!("nix-store -qR {}", seven.path('a'));
    assert_eq!(within(&seven, "app", &requisites).ok(), seven.nix.run(&requisites).ok());
    let references = format!("nix-store -q --references {}", seven.path('c'));
    assert_eq!(within(&seven, "app", &references).ok(), seven.nix.run(&references).ok());
    let link = format!("app-root/nix/var/nix/gcroots/docker/{}", &seven.path('a')[11..]);
    assert_eq!(fs::read_link(seven.nix.path(&link)).unwrap().to_str(), Some(seven.path('a')));
    let file = format!("app-root{}/share/a/zeros", seven.path('a'));
    seven.nix.ok(&format!("printf x >> {file}"));
    let said = within(&seven, "app", "nix-store --verify --check-contents 2>&1");
    assert_eq!(said.code, 1, "{said:?}");
    let wanted = format!("path '{}' was modified! expected hash", seven.path('a'));
    assert!(said.stdout.contains(&wanted), "{said:?}");
}

#[test]
fn a_database_is_the_same_however_references_are_known_and_whoever_asks() {
    let Some(seven) = Seven::new() else { return };
    let ways = [
        ("first", json!({"graph": "graph"})),
        ("again", json!({"graph": "graph"})),
        ("by-attrs", json!({"graph": "attrs.json", "graphKey": "closure"})),
        ("by-scan", json!({"scan": true})),
    ];
    let made = ways.map(|(name, how)| {
        seven.assemble(name, json!([seven.closure("a", &how)]), &with());
        database(&seven, name)
    });
    assert!(made.iter().all(|bytes| *bytes == made[0]), "{:?}", made.each_ref().map(Vec::len));
    // A registration knows derivers as well.
    let registration = json!({"registration": "registration"});
    seven.assemble("registered", json!([seven.closure("a", &registration)]), &with());
    verified(&seven, "registered");
    let deriver = format!("nix-store -q --deriver {}", seven.path('a'));
    assert_eq!(within(&seven, "registered", &deriver).ok(), seven.nix.run(&deriver).ok());
}

/// The bug of buildImageWithNixDb: the database of an upper layer hid the base's.
#[test]
fn paths_of_the_base_stay_valid_unless_they_are_not_wanted() {
    let Some(seven) = Seven::new() else { return };
    seven.assemble("base", json!([seven.closure("g", &json!({}))]), &with());
    let on_base = |merge: bool| json!({"from": {"image": "oci:base"}, "nixDatabase": {"gcroots": "docker", "mergeBase": merge}});
    for (name, merged) in [("merged", true), ("alone", false)] {
        seven.assemble(name, json!([seven.closure("d", &json!({}))]), &on_base(merged));
        verified(&seven, name);
        let query = |letter: char| format!("nix-store -q --hash {}", seven.path(letter));
        assert_eq!(within(&seven, name, &query('d')).ok(), seven.nix.run(&query('d')).ok());
        let of_base = within(&seven, name, &query('g'));
        assert_eq!(of_base.code == 0, merged, "{of_base:?}");
        let roots =
            fs::read_dir(seven.nix.path(&format!("{name}-root/nix/var/nix/gcroots/docker")));
        assert_eq!(roots.unwrap().count(), 2, "links of the base are files as any other");
    }
}

/// A base whose database Nix itself wrote.
#[test]
fn rows_that_nix_wrote_are_kept() {
    let Some(seven) = Seven::new() else { return };
    let (g, nix) = (seven.path('g'), &seven.nix);
    nix.ok(&format!(
        "mkdir -p theirs/nix/store && cp -a {g} theirs/nix/store && nix-store --dump-db {g} > g.dump && \
         NIX_REMOTE=\"local?root=$PWD/theirs\" nix-store --load-db < g.dump"
    ));
    seven.assemble("theirs-image", json!([{"dir": "theirs"}]), &json!({}));
    let on_theirs = json!({"from": {"image": "oci:theirs-image"}, "nixDatabase": {}});
    seven.assemble("ours", json!([seven.closure("d", &json!({}))]), &on_theirs);
    verified(&seven, "ours");
    for letter in ['d', 'f', 'g'] {
        let query = format!("nix-store -qR {}", seven.path(letter));
        assert_eq!(within(&seven, "ours", &query).ok(), nix.run(&query).ok());
    }
}
