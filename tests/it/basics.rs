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
