//! Nix's database where there is no Nix to ask.

use crate::support::World;
use std::fs;

#[test]
fn a_database_whose_last_rows_lie_beside_it_is_not_taken() {
    let world = World::new();
    let base = "version: 1\nname: base\ncontents:\n\
        - file: {path: /nix/var/nix/db/db.sqlite, text: x}\n\
        - file: {path: /nix/var/nix/db/db.sqlite-wal, text: y}\n";
    fs::write(world.path("base.yaml"), base).unwrap();
    fs::write(world.path("image.yaml"), "version: 1\nfrom: {image: base}\nnixDatabase: {}\n")
        .unwrap();
    world.run(["assemble", "-f", "base.yaml"]).ok();
    assert_eq!(
        world.run(["assemble", "-f", "image.yaml", "--check"]).failed(1),
        "error: Nix's database of the base image is not whole\n  --> image.yaml:3:14\n   |\n 3 | nixDatabase: {}\n   |              ^\n \
         cause: what was written last stands in `db.sqlite-wal` beside it\n\
         help: `mergeBase: false` begins a new one; any command of Nix in the base makes it whole\n"
    );
}
