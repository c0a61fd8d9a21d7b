//! `nativebuild diff`: the text of `image diff`, and a layer that umoci and our own import put on the first image.

use crate::support::peers::Peers;
use crate::support::{World, base, peer};
use crate::verbs_export::LAYERS;
use std::fs;

/// Deletions, a directory made again, one replaced by a file, a link cut, a time and a mode changed.
const CHANGES: &str = "FROM one
RUN rm /d/a && rm -r /home && mkdir /home && echo x > /home/x && rm -r /usr/share/doc && echo doc > /usr/share/doc
RUN rm /f && cp -p /e /f && touch -d @5 /bin/busybox && chmod 700 /var && mkdir -p /n/m && ln /e /n/m/e
";

fn images(world: World) -> World {
    let world = world.with_base();
    world.build(LAYERS, &["-t", "one"]).ok();
    world.build(CHANGES, &["-t", "two"]).ok();
    for name in ["one", "two"] {
        world.validate(name);
    }
    world
}

fn export(world: &World, image: &str) -> Vec<u8> {
    world.run(["export", image, "-o", "out/export.tar"]).ok();
    fs::read(world.path("out/export.tar")).unwrap()
}

/// The layer between two images makes the second tree of the first one: `Dockerfile`s can ADD no layer, an OCI layout can.
#[test]
fn the_layer_between_two_images_leads_from_one_to_the_other() {
    for world in World::each() {
        let world = images(world);
        for (from, to) in [("one", "two"), ("two", "one"), ("base", "two"), ("two", "two")] {
            let said = world.run(["diff", from, to, "-o", "out/layer.tar"]);
            let text = world.run(["image", "diff", from, to]);
            assert_eq!((said.code, text.code), (0, i32::from(from != to)), "{}", said.stderr);
            assert_eq!(said.stdout, text.stdout);
            let layer = fs::read(world.path("out/layer.tar")).unwrap();
            let mut command = world.command(crate::support::program());
            let piped = command.args(["diff", from, to, "-o", "-"]).output().unwrap();
            assert!(piped.status.success() && piped.stdout == layer);
            assert_eq!(base::list_tar(&layer).is_empty(), from == to);
            put_on(&world, from, &layer);
            assert!(
                export(&world, "docker-archive:out/stacked.tar") == export(&world, to),
                "{from} {to}"
            );
        }
        let json = world.run(["diff", "one", "two", "--json"]);
        let same = world.run(["image", "diff", "one", "two", "--json"]);
        assert_eq!((json.code, json.stdout), (1, same.stdout));
        assert_eq!(world.run(["diff", "one", "one"]).ok(), "");
    }
}

/// A docker-archive of an image with one layer more.
pub fn put_on(world: &World, image: &str, layer: &[u8]) {
    world.run(["image", "save", image, "--format", "docker-archive", "-o", "out/base.tar"]).ok();
    let bytes = fs::read(world.path("out/base.tar")).unwrap();
    let diff_id = nativebuild::oci::Digest::of(layer);
    let mut out = tar::Builder::new(Vec::new());
    let mut add = |name: &str, body: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(body.len() as u64);
        header.set_mode(0o644);
        out.append_data(&mut header, name, body).unwrap();
    };
    let mut manifest = serde_json::Value::Null;
    let mut config = Vec::new();
    for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let mut body = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut body).unwrap();
        match &name[..] {
            "manifest.json" => manifest = serde_json::from_slice(&body).unwrap(),
            name if name.strip_suffix(".json").is_some() => config = body,
            name => add(name, &body),
        }
    }
    let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    config["rootfs"]["diff_ids"].as_array_mut().unwrap().push(diff_id.as_str().into());
    config.as_object_mut().unwrap().remove("history");
    add("config.json", &serde_json::to_vec(&config).unwrap());
    add("added.tar", layer);
    manifest[0]["Config"] = "config.json".into();
    manifest[0]["Layers"].as_array_mut().unwrap().push("added.tar".into());
    add("manifest.json", &serde_json::to_vec(&manifest).unwrap());
    fs::write(world.path("out/stacked.tar"), out.into_inner().unwrap()).unwrap();
    world.give();
}

#[test]
fn umoci_puts_the_layer_on_the_first_image() {
    let Some(world) = World::root() else { return };
    if !["umoci", "python3"].into_iter().all(peer) {
        return;
    }
    let world = images(world);
    let peers = Peers { world: &world };
    world.run(["diff", "one", "two", "-o", "out/layer.tar"]).ok();
    world.run(["image", "copy", "one", "oci:out/l:x"]).ok();
    let image = format!("{}:x", peers.path("out/l"));
    peers.run("umoci", &["raw", "add-layer", "--image", &image, &peers.path("out/layer.tar")]);
    assert_eq!(world.run(["image", "validate", "oci:out/l:x"]).ok(), "valid\n");
    world.run(["export", "two", "-o", "out/two.tar"]).ok();
    let ours = format!("tar:{}", peers.path("out/two.tar"));
    assert!(export(&world, "oci:out/l:x") == fs::read(world.path("out/two.tar")).unwrap());
    peers.run("umoci", &["raw", "unpack", "--image", &image, &peers.path("out/tree")]);
    let tree = format!("tree:{}", peers.path("out/tree"));
    peers.same(&[], &ours, &tree);
}
