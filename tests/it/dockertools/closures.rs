//! Closures: the same layers however their references are known, what of them shows in `/`, and what a base has already.

use super::Seven;
use serde_json::{Value, json};

/// All ways to know references, under names for images.
fn ways() -> [(&'static str, Value); 5] {
    [
        ("by-graph", json!({"graph": "graph"})),
        ("by-attrs", json!({"graph": "attrs.json", "graphKey": "closure"})),
        ("by-path-info", json!({"graph": "path-info"})),
        ("by-registration", json!({"registration": "registration"})),
        ("by-scan", json!({"scan": true})),
    ]
}

#[test]
fn an_image_is_the_same_however_its_references_are_known() {
    let Some(seven) = Seven::new() else { return };
    for strategy in ["one", "popularity", "balanced"] {
        let layers = json!({"layers": {"strategy": strategy, "max": 5}, "name": "app"});
        let made: Vec<String> = ways()
            .iter()
            .map(|(way, how)| {
                let name = format!("{way}-{strategy}");
                seven.assemble(&name, json!([seven.closure("a", how)]), &layers)
            })
            .collect();
        assert_eq!(made, vec![made[0].clone(); 5], "{strategy}");
    }
}

#[test]
fn part_of_a_graph_is_the_closure_of_the_paths_that_are_named() {
    let Some(seven) = Seven::new() else { return };
    for (way, how) in ways() {
        seven.assemble(way, json!([seven.closure("d", &how)]), &json!({}));
        let files = seven.files(way);
        let tops: Vec<&str> = files
            .iter()
            .filter_map(|line| line.split(' ').next())
            .filter(|path| path.len() == 1)
            .collect();
        assert_eq!(tops, ["d", "f"], "{way}");
    }
}

#[test]
fn a_closure_shows_in_the_root_as_links_as_copies_or_not() {
    let Some(seven) = Seven::new() else { return };
    let store = [
        "g dir 555 0:0 0",
        "g/share dir 555 0:0 0",
        "g/share/g dir 555 0:0 0",
        "g/share/g/references file 444 0:0 1",
        "g/share/g/zeros file 444 0:0 70",
        "nix dir 755 0:0 0",
        "nix/store dir 755 0:0 0",
    ];
    let links = [
        "share dir 755 0:0 0",
        "share/g dir 755 0:0 0",
        "share/g/references symlink 777 0:0 /g/share/g/references",
        "share/g/zeros symlink 777 0:0 /g/share/g/zeros",
    ];
    let copies = [
        "share dir 555 0:0 0",
        "share/g dir 555 0:0 0",
        "share/g/references file 444 0:0 1",
        "share/g/zeros file 444 0:0 70",
    ];
    for (how, wanted) in [
        (json!({}), [&store[..], &links].concat()),
        (json!({"link": "symlink"}), [&store[..], &links].concat()),
        (json!({"link": "copy"}), [&store[..], &copies].concat()),
        (json!({"link": "none"}), store.to_vec()),
        (json!({"store": "omit"}), links.to_vec()),
        (json!({"store": "omit", "link": "copy"}), copies.to_vec()),
    ] {
        seven.assemble("app", json!([seven.closure("g", &how)]), &json!({}));
        assert_eq!(seven.files("app"), wanted, "{how}");
        seven.nix.ok("rm -r app");
    }
}

/// Layers of an image, and how many of them are its base's.
fn new_layers(seven: &Seven, base: &str, image: &str) -> Vec<String> {
    let ids = |name: &str| seven.config(name)["rootfs"]["diff_ids"].as_array().unwrap().clone();
    let (below, all) = (ids(base), ids(image));
    assert_eq!(all[..below.len()], below[..]);
    let comments = seven.comments(image);
    assert_eq!(comments.len(), all.len());
    comments[below.len()..].to_vec()
}

#[test]
fn what_a_base_has_of_a_closure_is_in_no_layer_above_it() {
    let Some(seven) = Seven::new() else { return };
    let popular = json!({"layers": {"strategy": "popularity"}});
    let quiet = json!({"link": "none"});
    seven.assemble("base", json!([seven.closure("c", &quiet)]), &popular);
    assert_eq!(seven.comments("base"), ["f", "d", "e", "c"]);
    for strategy in ["popularity", "balanced"] {
        let on_base = json!({"from": {"image": "oci:base"}, "layers": {"strategy": strategy}});
        seven.assemble(strategy, json!([seven.closure("a", &quiet)]), &on_base);
        let mut new = new_layers(&seven, "base", strategy);
        new.sort();
        assert_eq!(new, ["a", "b", "g"], "{strategy}");
    }
    // Nothing new at all is no layer at all.
    let on_base = json!({"from": {"image": "oci:base"}});
    seven.assemble("same", json!([seven.closure("c", &quiet)]), &on_base);
    assert_eq!(new_layers(&seven, "base", "same"), Vec::<String>::new());
    let all = json!({"from": {"image": "oci:base"}, "layers": {"dedup": "none"}});
    seven.assemble("twice", json!([seven.closure("c", &quiet)]), &all);
    assert_eq!(new_layers(&seven, "base", "twice"), ["closure c"]);
}

#[test]
fn what_a_prebuilt_layer_has_of_a_closure_is_in_no_layer_above_it() {
    let Some(seven) = Seven::new() else { return };
    let quiet = json!({"link": "none"});
    for (name, letters) in [("lower", "d"), ("upper", "c")] {
        let prebuilt = if name == "upper" { json!(["lower-layer"]) } else { json!([]) };
        let spec = json!({
            "version": 1,
            "contents": [seven.closure(letters, &quiet)],
            "layers": {"prebuilt": prebuilt},
        });
        seven.nix.file(&format!("{name}.json"), spec.to_string());
        seven
            .nix
            .ok(&format!("nativebuild assemble -q --layer-only -f {name}.json -o {name}-layer"));
    }
    let count = |layer: &str| {
        seven.letters(&seven.nix.ok(&format!("tar -tf {layer}/layer.tar.gz | grep zeros")))
    };
    assert_eq!(count("lower-layer").lines().count(), 2);
    assert_eq!(count("upper-layer").lines().count(), 2);
    let prebuilt =
        json!({"layers": {"prebuilt": ["lower-layer", "upper-layer"], "strategy": "popularity"}});
    seven.assemble("app", json!([seven.closure("a", &quiet)]), &prebuilt);
    assert_eq!(seven.comments("app"), ["closure d", "closure c", "b", "g", "a"]);
    // The same files as in one layer.
    seven.assemble("whole", json!([seven.closure("a", &quiet)]), &json!({}));
    assert_eq!(seven.files("app"), seven.files("whole"));
}

/// Closures that overlap are one, whichever item came first.
#[test]
fn two_closures_share_what_both_have() {
    let Some(seven) = Seven::new() else { return };
    let quiet = json!({"link": "none"});
    let both = json!([seven.closure("c", &quiet), seven.closure("b", &quiet)]);
    seven.assemble("both", both, &json!({"layers": {"strategy": "per-content"}}));
    assert_eq!(seven.comments("both"), ["closure c", "closure b"]);
    let files = seven.files("both");
    assert_eq!(files.iter().filter(|line| line.contains("/zeros ")).count(), 5);
    seven.assemble("one", json!([seven.closure("b", &quiet)]), &json!({}));
    assert_eq!(files, seven.files("one"));
}

#[test]
fn broken_descriptions_of_closures_are_told() {
    let Some(seven) = Seven::new() else { return };
    let (nix, a) = (&seven.nix, seven.path('a'));
    nix.ok("head -n 3 graph > short; sed 's/^0$/x/' graph > counts");
    nix.ok("head -n 4 registration > short-registration; sed 's/^[0-9a-f]\\{64\\}$/beef/' registration > hashes");
    nix.ok("head -c 300 attrs.json > short.json; echo '{\"closure\": 1}' > other.json");
    nix.file("gone", "/nix/store/00000000000000000000000000000000-gone\n\n0\n");
    nix.ok(&format!("printf '%s\\n\\n1\\n%s\\n' {a} {} > partial", seven.path('b')));
    let said = |how: Value| {
        let said = seven.try_assemble("app", json!([seven.closure("a", &how)]), &json!({}));
        let text = said.failed(1);
        let lines = text
            .lines()
            .filter(|line| ["error:", " cause:"].iter().any(|start| line.starts_with(start)));
        seven.letters(&lines.collect::<Vec<_>>().join("\n"))
    };
    let all: Vec<String> = [
        json!({"graph": "short"}),
        json!({"graph": "counts"}),
        json!({"registration": "short-registration"}),
        json!({"registration": "hashes"}),
        json!({"graph": "short.json"}),
        json!({"graph": "other.json", "graphKey": "closure"}),
        json!({"graph": "attrs.json", "graphKey": "closures"}),
        json!({"graph": "gone"}),
        json!({"graph": "partial"}),
        json!({"graph": "absent"}),
    ]
    .into_iter()
    .map(said)
    .collect();
    let wanted = [
        "error: cannot use `short`\n cause: line 3 of the reference graph\n cause: it ends where a reference should be",
        "error: cannot use `counts`\n cause: line 8 of the reference graph\n cause: `x` is not a number of references",
        "error: cannot use `short-registration`\n cause: line 4 of the registration\n cause: it ends where a number of \
         references should be",
        "error: cannot use `hashes`\n cause: line 2 of the registration\n cause: `beef` is no sha256 hash",
        "error: cannot use `short.json`\n cause: the graph of store paths is not JSON\n cause: EOF while parsing a string \
         at line 1 column 300",
        "error: cannot use `other.json`\n cause: the graph of store paths is neither list nor object",
        "error: cannot use `attrs.json`\n cause: there is no `closures` with a graph of store paths",
        "error: `a` is not in the closure",
        "error: cannot use `partial`\n cause: the closure is not complete: it lacks `b`\n cause: `a` refers to it",
        "error: cannot read `absent`\n cause: no such file or directory",
    ];
    assert_eq!(all, wanted);
}

/// The bug: a damaged registration was taken for a graph, and the message spoke of store paths instead of hashes. A
/// registration without hashes, as in 2017, is read all the same.
#[test]
fn a_registration_without_hashes_is_as_good_as_a_graph() {
    let Some(seven) = Seven::new() else { return };
    let made = ["registration", "graph"].map(|kind| {
        let item = seven.closure("a", &json!({kind: "graph"}));
        seven.assemble(&format!("by-{kind}"), json!([item]), &json!({"name": "app"}))
    });
    assert_eq!(made[0], made[1]);
}

/// What is in the graph and not in the store, and what cannot be shown in `/`.
#[test]
fn paths_that_cannot_be_put_into_the_image_are_told() {
    let Some(seven) = Seven::new() else { return };
    let file = seven.nix.ok("nix-store --add default.nix");
    let closure = |paths: Value, more: &Value| {
        let mut item = json!({"paths": paths});
        super::merge(&mut item, more);
        json!([{"closure": item}])
    };
    let said = seven.try_assemble("app", closure(json!([file]), &json!({})), &json!({})).failed(1);
    assert!(said.contains("is no directory, and cannot be shown in `/`"), "{said}");
    seven.assemble("app", closure(json!([file]), &json!({"link": "none"})), &json!({}));
    let gone = "/nix/store/00000000000000000000000000000000-gone";
    seven.nix.file("gone", format!("{gone}\n\n0\n"));
    let how = json!({"graph": "gone"});
    let said = seven.try_assemble("app", closure(json!([gone]), &how), &json!({})).failed(1);
    assert!(said.contains(&format!("cannot put `{gone}` into the image")), "{said}");
    let said = seven.try_assemble("app", closure(json!(["/nix/var"]), &json!({})), &json!({}));
    assert!(said.failed(1).contains("`/nix/var` is no store path"));
}
