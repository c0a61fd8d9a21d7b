//! Which files go into which layer, how many layers there may be, and layers that are made apart.

use super::{HEAD, ON_BASE, app, assemble, at, sha256};
use crate::errors::{normal, transcript};
use crate::support::World;
use serde_json::Value;
use std::fs;

const TWO: &str = "contents:\n- file: {path: /d/a, text: a}\n- file: {path: /d/b, text: b}\n";

#[test]
fn contents_go_into_one_layer_or_each_into_its_own() {
    for world in World::each() {
        let world = world.with_base();
        let of = |strategy: &str| {
            let made =
                app(&world, &format!("{ON_BASE}{TWO}runAsRoot: rm /usr/share/doc/a\n{strategy}"));
            made.list()[1..].to_vec()
        };
        let (a, b) = ("d/a file 644 0:0 1", "d/b file 644 0:0 1");
        let gone = "usr/share/doc/.wh.a file 0 0:0 0";
        let parents =
            ["usr dir 755 0:0 0", "usr/share dir 755 0:0 0", "usr/share/doc dir 755 0:0 0", gone];
        let d = "d dir 755 0:0 0";
        let one = [[&[d, a, b][..], &parents].concat()];
        assert_eq!(of(""), one);
        for strategy in ["one", "popularity", "balanced"] {
            assert_eq!(of(&format!("layers: {{strategy: {strategy}}}\n")), one, "{strategy}");
        }
        // What is gone from the base goes with the last of them.
        let each = of("layers: {strategy: per-content}\n");
        assert_eq!(each, [vec![d, a], [&[d, b][..], &parents].concat()]);
        let groups = of("layers: {strategy: explicit, groups: [[/d/b], [/d]]}\n");
        assert_eq!(groups, [vec![d, b], [&[d, a][..], &parents].concat()]);
    }
}

#[test]
fn there_are_as_many_layers_as_are_allowed_and_no_more() {
    for world in World::each() {
        let spec = |max: u32| format!("{HEAD}{TWO}layers: {{strategy: per-content, max: {max}}}\n");
        assert_eq!(app(&world, &spec(2)).layers.len(), 2);
        assert_eq!(app(&world, &spec(3)).layers.len(), 2);
        let wanted = "\
error: the image would have 2 layers
  --> context/image.yaml:6:38
   |
 6 | layers: {strategy: per-content, max: 1}
   |                                      ^
 cause: 0 are of the base, 2 are new, and 1 are allowed
help: `max` must be at least 2
";
        assert_eq!(assemble(&world, &spec(1), &[]).failed(1), wanted);
        let said = assemble(&world, &spec(128), &[]);
        assert!(said.stderr.contains("`layers.max` is 128, and engines take 127 layers at most"));
        said.ok();
    }
}

/// 127 layers are what engines take.
#[test]
fn a_base_of_126_layers_takes_one_more() {
    let files = |from: usize, count: usize| -> String {
        let files: Vec<String> = (from..from + count)
            .map(|n| format!("- file: {{path: /f{n}, text: '{n}'}}\n"))
            .collect();
        format!("contents:\n{}layers: {{strategy: per-content}}\n", files.concat())
    };
    for world in World::each() {
        assert_eq!(app(&world, &format!("{HEAD}{}", files(0, 126))).layers.len(), 126);
        world.run(["image", "tag", "app", "deep"]).ok();
        let on_deep = format!("{HEAD}from: {{image: deep}}\n");
        let made = app(&world, &format!("{on_deep}{}", files(200, 1)));
        assert_eq!(made.top(), ["f200 file 644 0:0 3"]);
        assert_eq!(world.listing("app").len(), 127);
        let said = assemble(&world, &format!("{on_deep}{}", files(200, 2)), &[]).failed(1);
        let wanted = "\
error: the image would have 128 layers
  --> context/image.yaml:7:20
   |
 7 | layers: {strategy: per-content}
   |                    ^^^^^^^^^^^
 cause: 126 are of the base, 2 are new, and 127 are allowed
help: engines take no more; choose another `strategy`, or flatten the base
";
        assert_eq!(said, wanted);
        // What the base has already is no layer.
        assert_eq!(app(&world, &format!("{on_deep}{}", files(124, 3))).layers.len(), 127);
    }
}

#[test]
fn a_layer_is_made_apart_and_used_again() {
    for world in World::each() {
        let layer = at(&world, "layer");
        let out = layer.to_str().unwrap().to_owned();
        let a = "contents:\n- file: {path: /d/a, text: a}\n";
        let digest =
            assemble(&world, &format!("version: 1\n{a}"), &["--layer-only", "-o", &out]).ok();
        let told: Value = super::json(&fs::read(layer.join("layer.json")).unwrap());
        let blob = fs::read(layer.join("layer.tar.gz")).unwrap();
        let plain = super::plain(&blob);
        assert_eq!(digest, format!("{}\n", sha256(&blob)));
        let wanted = serde_json::json!({
            "about": "file /d/a", "diffId": sha256(&plain), "digest": sha256(&blob), "file": "layer.tar.gz",
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "size": blob.len(), "version": 1,
        });
        assert_eq!(told, wanted);
        let b = "contents:\n- file: {path: /d/b, text: b}\n- file: {path: /d/a, text: a}\n";
        let made = app(&world, &format!("{HEAD}{b}layers: {{prebuilt: [layer]}}\n"));
        assert_eq!(made.layers[0], plain);
        assert_eq!(made.top(), ["d dir 755 0:0 0", "d/b file 644 0:0 1"]);
        assert_eq!(made.config["history"][0]["comment"], "file /d/a");
        for (kind, name) in [("none", "layer.tar"), ("zstd", "layer.tar.zst")] {
            let spec = format!("version: 1\n{a}compression: {{kind: {kind}}}\n");
            assemble(&world, &spec, &["--layer-only", "-o", &out]).ok();
            assert_eq!(super::plain(&fs::read(layer.join(name)).unwrap()), plain);
            let made = app(&world, &format!("{HEAD}layers: {{prebuilt: [layer]}}\n"));
            assert_eq!(made.layers, std::slice::from_ref(&plain));
        }
    }
}

#[test]
fn a_layer_that_lies_is_refused() {
    for world in World::each() {
        let layer = at(&world, "layer");
        let args = ["--layer-only", "-o", layer.to_str().unwrap()];
        assemble(&world, &format!("version: 1\n{TWO}"), &args).ok();
        let told = fs::read_to_string(layer.join("layer.json")).unwrap();
        let value: Value = super::json(told.as_bytes());
        let zeros = format!("sha256:{}", "0".repeat(64));
        let lie = |key: &str, other: &str| told.replace(value[key].as_str().unwrap(), other);
        let mut found = String::new();
        let mut say = |what: &str, spec: &str| {
            let said = assemble(&world, spec, &[]);
            found += &format!("== {what}\n{}\n", normal(&world, &said));
        };
        let spec = format!("{HEAD}layers: {{prebuilt: [layer]}}\n");
        for (what, text) in [
            ("digest", lie("digest", &zeros)),
            ("diff id", lie("diffId", &zeros)),
            ("size", told.replace("\"size\":", "\"size\":1")),
            ("media type", lie("mediaType", "application/vnd.oci.image.layer.v1.tar+zstd")),
            ("another file", lie("file", "../image.yaml")),
            ("no such file", lie("file", "gone.tar")),
            ("version", told.replace("\"version\":1", "\"version\":2")),
            ("no description", "{}".to_owned()),
        ] {
            fs::write(layer.join("layer.json"), text).unwrap();
            say(what, &spec);
        }
        say("no directory", &spec.replace("[layer]", "[gone]"));
        say(
            "a group of nothing",
            &format!("{HEAD}{TWO}layers: {{strategy: explicit, groups: [[/gone]]}}\n"),
        );
        // Sizes differ from one version of a library to the next.
        let found = found.replace(&value["size"].to_string(), "SIZE");
        transcript("assemble-layers", &found);
        let two = format!("{HEAD}{TWO}layers: {{strategy: per-content}}\n");
        let wanted = "error: `--layer-only` writes one layer, and there are 2\nhelp: use `layers: {strategy: one}`\n";
        assert_eq!(assemble(&world, &two, &args).failed(2), wanted);
        let wanted = "error: `--layer-only` writes into one directory\nhelp: add `-o DIR`\n";
        assert_eq!(assemble(&world, &two, &["--layer-only"]).failed(2), wanted);
    }
}
