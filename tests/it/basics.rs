//! The thin path: a Dockerfile becomes an image, and the second time nothing runs.

use crate::support::World;

#[test]
fn an_image_is_built_cached_and_valid() {
    for world in World::each() {
        let world = world.with_base();
        let dockerfile =
            "FROM base\nENV A=1\nRUN echo $A > /a\nCOPY f /dir/f\nWORKDIR /w\nCMD [\"/a\"]\n";
        world.file("f", "content");
        let first = world.build(dockerfile, &["-t", "app"]);
        assert_eq!((first.cached(), first.done()), (0, 3), "{}", first.stderr);
        let digest = first.ok();
        assert!(digest.starts_with("sha256:"), "{digest}");
        world.validate("app");
        let second = world.build(dockerfile, &["-t", "app"]);
        assert_eq!((second.cached(), second.done()), (3, 0), "{}", second.stderr);
        assert_eq!(second.ok(), digest);
        let listing = world.listing("app");
        for line in
            ["a file 644 0:0 2", "dir dir 755 0:0 0", "dir/f file 644 0:0 7", "w dir 755 0:0 0"]
        {
            assert!(listing.iter().any(|found| found == line), "{line} in {listing:#?}");
        }
    }
}

#[test]
fn a_cached_build_does_not_believe_a_layer_that_was_written_to() {
    let world = World::new().with_base();
    let build =
        || world.build("FROM base\nRUN echo 1 > /a\n", &["-t", "app", "--source-date-epoch", "1"]);
    let digest = build().ok();
    let text = world.run(["image", "inspect", "--json", "app"]).ok();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let layer = value["manifest"]["layers"][1]["digest"].as_str().unwrap()[7..].to_owned();
    let path = world.store().join("images/blobs/sha256").join(layer);
    let size = std::fs::metadata(&path).unwrap().len() as usize;
    std::fs::write(&path, vec![7; size]).unwrap();
    let again = build();
    // The layer is written again from the snapshot, which is still there.
    assert_eq!((again.cached(), again.done()), (1, 0), "{}", again.stderr);
    assert_eq!(again.ok(), digest);
    world.validate("app");
}
