//! `COPY --link`: layers that do not depend on what is below them.

use crate::support::{World, base::list_tar};
use std::fs;
use std::io::Read;

/// Digests of the layers of an image.
fn layers(world: &World, image: &str) -> Vec<String> {
    let text = world.run(["image", "inspect", "--json", image]).ok();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let layers = value["manifest"]["layers"].as_array().unwrap();
    layers.iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
}

/// What is in a layer.
fn content(world: &World, digest: &str) -> Vec<String> {
    let path = world.store().join("images/blobs/sha256").join(&digest["sha256:".len()..]);
    let mut tar = Vec::new();
    flate2::read::MultiGzDecoder::new(fs::File::open(path).unwrap()).read_to_end(&mut tar).unwrap();
    list_tar(&tar)
}

#[test]
fn statement_53_a_link_below_is_replaced_by_a_directory() {
    for world in World::each() {
        let world = world.with_base();
        world.file("f", "f\n");
        let text = |copy: &str| {
            format!(
                "FROM base\nRUN mkdir /real && ln -s /real /lnk && mkdir -m 700 /kept && chown 7 /kept && touch /kept/old\n{copy}RUN ls -ld /lnk /kept && ls /kept && test -f /lnk/f\n"
            )
        };
        let said = world.build(
            &text("COPY --link f /lnk/f\nCOPY --link --chown=3:4 f /kept/\n"),
            &["-t", "app"],
        );
        assert_eq!(said.code, 0, "{}", said.stderr);
        let listing = world.listing("app");
        let of = |name: &str| {
            listing.iter().filter(|line| line.starts_with(name)).cloned().collect::<Vec<_>>()
        };
        assert_eq!(of("lnk"), ["lnk dir 755 0:0 0", "lnk/f file 644 0:0 2"]);
        // The layer's own directories win over those below, whose content stays.
        assert_eq!(
            of("kept"),
            ["kept dir 755 3:4 0", "kept/f file 644 3:4 2", "kept/old file 644 0:0 0"]
        );
        assert_eq!(of("real"), ["real dir 755 0:0 0"]);
        world.validate("app");
        let made = layers(&world, "app");
        assert_eq!(content(&world, &made[2]), ["lnk dir 755 0:0 0", "lnk/f file 644 0:0 2"]);
        // With a mode it is a copy like any other.
        world.build(&text("COPY --link --chmod=600 f /lnk/f\n"), &["-t", "app"]).ok();
        assert!(world.listing("app").contains(&"real/f file 600 0:0 2".to_owned()));
        // Names are looked up in nothing, and so are nobody.
        world.build("FROM base\nCOPY --link --chown=daemon f /g\n", &["-t", "app"]).ok();
        assert!(world.listing("app").contains(&"g file 644 0:0 2".to_owned()));
    }
}

#[test]
fn a_linked_layer_is_the_same_on_another_base() {
    for world in World::each() {
        let world = world.with_base();
        world.file("f", "f\n");
        let text = |base: &str| {
            format!(
                "FROM base\nRUN echo {base} > /base\nCOPY --link f /d/f\nRUN cat /base /d/f > /both\n"
            )
        };
        let first = world.build(&text("1"), &["-t", "one"]);
        assert_eq!((first.done(), first.cached()), (3, 0), "{}", first.stderr);
        let second = world.build(&text("2"), &["-t", "two"]);
        assert_eq!((second.done(), second.cached()), (2, 1), "{}", second.stderr);
        let (one, two) = (layers(&world, "one"), layers(&world, "two"));
        assert_eq!(one[2], two[2]);
        assert!(one[1] != two[1] && one[3] != two[3]);
        // All of it again, and the same without any snapshot.
        assert_eq!(world.build(&text("2"), &[]).done(), 0);
        let digest = world.build(&text("2"), &["-t", "two"]).ok();
        let snapshots = world.store().join("snapshots");
        let outcome = world.command("rm").arg("-rf").arg(&snapshots).status().unwrap();
        if outcome.success() {
            let late = world.build(&(text("2") + "RUN test \"$(cat /both | wc -l)\" = 2\n"), &[]);
            assert_eq!((late.code, late.done()), (0, 1), "{}", late.stderr);
        }
        assert_eq!(world.build(&text("2"), &["-t", "two"]).ok(), digest);
        world.validate("two");
    }
}
