//! How store paths are put into layers.

use super::Seven;
use serde_json::{Value, json};

fn layers(strategy: &str, max: usize) -> Value {
    json!({"layers": {"strategy": strategy, "max": max}})
}

/// What is in the layers, with a last one for what is no store path.
fn made(seven: &Seven, strategy: &str, max: usize) -> Vec<String> {
    let name = format!("{strategy}-{max}");
    seven.assemble(&name, json!([seven.closure("a", &json!({}))]), &layers(strategy, max));
    seven.comments(&name)
}

/// The example of the specification (A4): A1 B2 G2 C3 D4 E5 F9. And the bug of nixpkgs at its edges, where paths that
/// did not fit were dropped: #78744, #80086.
#[test]
fn popular_paths_have_layers_of_their_own_as_long_as_there_are_any() {
    let Some(seven) = Seven::new() else { return };
    let all = ["f", "e", "d", "c", "b", "g", "a", "closure a"];
    assert_eq!(made(&seven, "popularity", 9), all);
    assert_eq!(made(&seven, "popularity", 8), all);
    assert_eq!(made(&seven, "popularity", 7), ["f", "e", "d", "c", "b", "g a", "closure a"]);
    assert_eq!(made(&seven, "popularity", 3), ["f", "e d c b g a", "closure a"]);
    assert_eq!(made(&seven, "popularity", 2), ["f e d c b g a", "closure a"]);
    let whole = seven.files("popularity-9");
    for max in [8, 7, 3, 2] {
        assert_eq!(seven.files(&format!("popularity-{max}")), whole, "{max}");
    }
}

#[test]
fn too_few_layers_are_an_error_that_says_how_many_are_needed() {
    let Some(seven) = Seven::new() else { return };
    let contents = json!([seven.closure("a", &json!({}))]);
    for strategy in ["popularity", "balanced"] {
        let said = seven.try_assemble("app", contents.clone(), &layers(strategy, 1)).failed(1);
        assert!(said.starts_with("error: 1 layers are too few\n"), "{said}");
        assert!(said.contains("help: `max` must be at least 2\n"), "{said}");
    }
    seven.assemble("base", json!([seven.closure("d", &json!({}))]), &layers("popularity", 10));
    let mut on_base = layers("popularity", 4);
    on_base["from"] = json!({"image": "oci:base"});
    let said = seven.try_assemble("app", contents.clone(), &on_base).failed(1);
    assert!(said.contains("cause: 3 are of the base, "), "{said}");
    assert!(said.contains("help: `max` must be at least 5\n"), "{said}");
    on_base["layers"]["max"] = json!(5);
    seven.assemble("app", contents, &on_base);
    assert_eq!(seven.comments("app")[3..], ["e c b g a", "closure a"]);
}

/// The large ones are alone with what only they need.
#[test]
fn balanced_layers_have_no_more_bytes_than_they_must() {
    let Some(seven) = Seven::new() else { return };
    let whole = {
        made(&seven, "popularity", 9);
        seven.files("popularity-9")
    };
    for max in 2..=9 {
        let comments = made(&seven, "balanced", max);
        assert!(comments.len() <= max, "{max}: {comments:?}");
        assert_eq!(comments.last().unwrap(), "closure a");
        let mut letters: Vec<char> = comments[..comments.len() - 1].concat().chars().collect();
        letters.retain(|c| *c != ' ');
        letters.sort_unstable();
        assert_eq!(letters.into_iter().collect::<String>(), "abcdefg", "{max}: {comments:?}");
        assert_eq!(seven.files(&format!("balanced-{max}")), whole, "{max}");
    }
    assert_eq!(seven.comments("balanced-4"), ["f", "e", "a b c d g", "closure a"]);
}

#[test]
fn groups_of_store_paths_are_layers() {
    let Some(seven) = Seven::new() else { return };
    let groups = json!([[seven.path('f')], [seven.path('e'), seven.path('d')], ["/share"]]);
    let explicit = json!({"layers": {"strategy": "explicit", "groups": groups}});
    seven.assemble("app", json!([seven.closure("a", &json!({}))]), &explicit);
    assert_eq!(seven.comments("app"), ["f", "e d", "/share", "everything else"]);
    seven.assemble("whole", json!([seven.closure("a", &json!({}))]), &json!({}));
    assert_eq!(seven.files("app"), seven.files("whole"));
}
