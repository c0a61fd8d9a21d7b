//! The same digest in every way to run commands: isolations, id maps, kinds of snapshots.

use super::{HEAD, assemble};
use crate::support::World;
use crate::support::rungs::{MATRIX, MORE, Rung, SINGLE};
use std::sync::OnceLock;

/// A bit of everything that isolations do differently.
const AS_ROOT: &str = "from: {image: base}
contents:
- {dir: src, to: /src}
- file: {path: /given, text: x, uid: 7, gid: 8, mode: '4755'}
runAsRoot: |
  chown 33:34 /home; echo 1 > /f; chown 1:2 /f; chmod 4755 /f
  rm -r /usr/share/doc; mkdir /usr/share/doc; touch /usr/share/doc/new
  mknod /null c 1 3; mkfifo /q; ln -s f /l; chown -h 5:6 /l
  rm -r /var; echo file > /var; mkdir -m 2750 /d; rm /src/a; mv /src/b /src/c; test -u /given
";

const BESIDE: &str = "extraCommands: |
  echo 2 > e; mkdir -m 700 x; echo 3 > f2; ln f2 x/link; chmod 600 src/c; rm -r d
fakeRootCommands: |
  test ! -e d; chown 5:6 e; mknod -m 640 zero c 1 5; chown -h 7:8 l; chmod 2711 x
";

fn digest(rung: &Rung, world: &World, spec: &str) -> String {
    world.file("src/a", "a").file("src/b", "b");
    let args = [rung.flags, &["--print-digest", "-q"]].concat();
    assemble(world, &format!("{HEAD}{spec}"), &args).ok()
}

/// The digests in the first way that there is: with all commands, and with `runAsRoot` only.
fn reference() -> &'static [String; 2] {
    static REFERENCE: OnceLock<[String; 2]> = OnceLock::new();
    REFERENCE.get_or_init(|| {
        let world = World::new().with_base();
        let rung = MATRIX.iter().find(|rung| rung.who == world.who()).expect("a way");
        [format!("{AS_ROOT}{BESIDE}"), AS_ROOT.to_owned()].map(|spec| digest(rung, &world, &spec))
    })
}

fn same(rungs: &[Rung]) {
    for rung in rungs {
        let Some(world) = rung.world().map(World::with_base) else { continue };
        if rung.flags.contains(&"chroot") {
            assert_eq!(digest(rung, &world, AS_ROOT), reference()[1], "{rung:?}");
            continue;
        }
        let found = digest(rung, &world, &format!("{AS_ROOT}{BESIDE}"));
        assert_eq!(found, reference()[0], "{rung:?}");
    }
}

#[test]
fn commands_give_the_same_digest_for_root() {
    same(&MATRIX[..7]);
}

#[test]
fn commands_give_the_same_digest_for_an_ordinary_user() {
    same(&MATRIX[7..]);
}

#[test]
fn commands_give_the_same_digest_in_all_other_ways() {
    same(MORE);
}

#[test]
fn commands_give_the_same_digest_with_one_id() {
    same(SINGLE);
}

/// They want this machine's tools, which have to be mounted.
#[test]
fn commands_beside_the_layer_are_refused_in_a_changed_root_directory() {
    let Some(world) = World::root().map(World::with_base) else { return };
    for key in ["extraCommands", "fakeRootCommands"] {
        let spec = format!("{HEAD}{key}: 'true'\n");
        let said = assemble(&world, &spec, &["--isolation", "chroot", "-q"]).failed(3);
        let wanted = format!(
            "error: `/etc` cannot be shown to a command\n  --> context/image.yaml:3:1\n   |\n 3 | {key}: 'true'\n   \
             | {}\n cause: nothing can be mounted here\nhelp: `nativebuild doctor` says which setting allows it\n",
            "^".repeat(key.len() + 8)
        );
        assert_eq!(said, wanted);
    }
    let bind = "run: {mounts: [{type: bind, source: ., target: /x}]}\nrunAsRoot: 'true'\n";
    let said = assemble(
        &world,
        &format!("{HEAD}from: {{image: base}}\n{bind}"),
        &["--isolation", "chroot"],
    );
    assert!(said.failed(3).contains("error: `/x` cannot be shown to a command\n"));
}
