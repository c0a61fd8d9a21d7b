//! The tree of several layers is the same whether each was made on those below or all are unpacked at once.

use crate::support::{Who, World};
use std::fs;

/// Three layers that are worth a thread, with all kinds of changes to what is below them, and one that is not.
const TALL: &str = "FROM base\n\
    RUN head -c 300000 /dev/urandom > /a && mkdir -p /d/e /gone /again/x && echo 1 > /d/e/f && echo 1 > /again/x/y \
      && ln -s d /link && ln /a /d/a && touch -d @1000 /d/e /gone/x\n\
    RUN head -c 300000 /dev/urandom > /d/e/b && rm -r /gone /again && mkdir /again && echo 2 > /again/z \
      && echo 2 > /d/e/f && chmod 700 /d && touch -d @2000 /d\n\
    RUN head -c 300000 /dev/urandom > /link/c && rm /link && mkdir /link && chown 7:8 /link && ln /a /b \
      && rm /again/z && rm -r /d/e && echo 3 > /d/e\n\
    RUN echo 4 > /small\n";

const LISTING: &str = "FROM tall\nRUN find / -xdev ! -path '/etc/*' ! -path '/proc*' ! -path '/sys*' ! -path '/dev*' \
    -exec stat -c '%n %F %a %u:%g %h %s %Y' {} + | sort > /listing; \
    md5sum /a /b /d/* /again/* /small /listing >> /listing 2>/dev/null; true\n\
    FROM scratch\nCOPY --from=0 /listing /\n";

fn listing(world: &World, out: &str, more: &[&str]) -> String {
    let dest = world.path(out);
    let output = format!("type=local,dest={}", dest.display());
    let fixed = ["--no-cache", "--network", "none", "-o", &output];
    world.build(LISTING, &[&fixed[..], more].concat()).ok();
    let text = fs::read_to_string(dest.join("listing")).unwrap();
    // Parents of what the step itself makes.
    text.lines()
        .filter(|line| !line.starts_with("/ ") && !line.contains("listing"))
        .fold(String::new(), |all, line| all + line + "\n")
}

#[test]
fn a_tree_is_the_same_when_its_layers_are_unpacked_beside_each_other() {
    for world in World::each() {
        let world = world.with_base();
        world.build(TALL, &["--network", "none", "-t", "tall"]).ok();
        world.validate("tall");
        let made = listing(&world, "out/made", &[]);
        for kept in ["/d/e regular file 644 0:0 1 2", "/again directory", "/link directory 755 7:8"]
        {
            assert!(made.contains(kept), "{made}");
        }
        fs::remove_dir_all(world.store().join("snapshots")).unwrap();
        assert_eq!(listing(&world, "out/unpacked", &[]), made, "{:?}", world.who());
        if world.who() == Who::User {
            assert_eq!(listing(&world, "out/single", &["--ids", "single"]), made);
        }
        // Only what was unpacked apart has this on its root: a mark of a deletion is in it, and nothing was copied up.
        let is_marked = |entry: &fs::DirEntry| {
            ["user", "trusted"].iter().any(|class| {
                let mut value = [0; 8];
                let name = format!("{class}.overlay.origin");
                rustix::fs::getxattr(entry.path().join("fs"), name, &mut value[..]) == Ok(0)
            })
        };
        let snapshots = fs::read_dir(world.store().join("snapshots")).unwrap();
        let apart = snapshots.filter(|entry| is_marked(entry.as_ref().unwrap())).count();
        let many = std::thread::available_parallelism().unwrap().get() > 1;
        assert_eq!(apart > 0, many, "{:?}", world.who());
    }
}
