//! The program inside of Nix's build sandbox: one id, no network, and unless that is switched off a filter that refuses
//! extended attributes, set-id bits and what would make them.

use crate::support::nix::{NIXPKGS, Nix, Sandbox};
use crate::support::{Said, World, copy_program, program};
use std::fs;

/// Images by name; each is a directory with the archive, the spec and the graph.
const EXPRESSION: &str = r#"
let
  pkgs = import <nixpkgs> { };
  inherit (pkgs) runCommand hello;
  nativebuild = runCommand "nativebuild" { } "install -D ${./nativebuild} $out/bin/nativebuild";
  image = name: spec: runCommand name {
    nativeBuildInputs = [ nativebuild ];
    exportReferencesGraph = [ "graph" hello ];
    passAsFile = [ "json" ];
    json = builtins.toJSON ({
      version = 1; inherit name;
      contents = [ { closure = { paths = [ "${hello}" ]; graph = "graph"; }; } ];
    } // spec);
  } ''
    mkdir $out
    cp $jsonPath spec.json
    cp spec.json graph $out
    nativebuild assemble -f spec.json -o docker-archive:$out/image.tar
  '';
in {
  plain = image "plain" { layers.strategy = "balanced"; nixDatabase.gcroots = "docker"; };
  extra = image "extra" { extraCommands = "mkdir -p data; cat bin/hello > data/hello; chmod 700 data"; };
  perms = image "perms" { perms = [ { path = "/bin"; uid = 7; gid = 8; mode = "4755"; } ]; };
  root = image "root" {
    from.image = "docker-archive:${./base.tar}";
    runAsRoot = "mkdir /data; rm /etc/group; hello > /data/greeting; ls -A / > /data/root";
  };
  fake = image "fake" { fakeRootCommands = "mkdir data; chown 7:8 data; ln -s x l; chown -h 9:9 l"; };
  built = runCommand "built" { nativeBuildInputs = [ nativebuild ]; } ''
    nativebuild image copy docker-archive:${./base.tar} base
    printf 'FROM base\nRUN echo x > /x && chown 7:8 /x\n' > Dockerfile
    nativebuild build --progress plain -o type=docker,dest=$out .
  '';
  bits = image "bits" { fakeRootCommands = "mkdir data; chmod 4755 data"; };
}
"#;

/// The sandbox with all that the images need.
fn lab(sandbox: Sandbox) -> Option<Nix> {
    let nix = Nix::new(sandbox)?;
    copy_program(program(), &nix.path("nativebuild"));
    let world = World::root()?.with_base();
    let base = format!("docker-archive:{}", nix.path("base.tar").display());
    world.run(["image", "copy", "base", &base]).ok();
    nix.file("nixpkgs/default.nix", NIXPKGS).file("default.nix", EXPRESSION);
    Some(nix)
}

fn build(nix: &Nix, name: &str, more: &str) -> Said {
    nix.run(&format!("nix-build -A {name} --no-out-link {more}"))
}

/// The image, after it was made twice in the sandbox and once outside of it.
fn three_times(nix: &Nix, name: &str) -> String {
    let out = build(nix, name, "").ok().trim_end().to_owned();
    build(nix, name, "--check").ok();
    let outside = format!(
        "mkdir {name} && cd {name} && cp {out}/spec.json {out}/graph . && \
         ../nativebuild assemble -q -f spec.json -o docker-archive:image.tar && \
         cmp image.tar {out}/image.tar && sha256sum < image.tar"
    );
    nix.ok(&outside)
}

/// What needs no owners is the same in the sandbox as Nix has it by default, in one without the filter, and as root outside
/// of both.
#[test]
fn an_image_made_in_the_sandbox_is_the_one_made_outside() {
    let Some(nix) = lab(Sandbox::On) else { return };
    let Some(unfiltered) = lab(Sandbox::Unfiltered) else { return };
    for name in ["plain", "extra", "perms", "root"] {
        assert_eq!(three_times(&nix, name), three_times(&unfiltered, name), "{name}");
    }
}

/// Without the filter of system calls owners, modes and set-id bits are recorded as anywhere.
#[test]
fn commands_give_owners_in_the_sandbox_when_nothing_is_filtered() {
    let Some(nix) = lab(Sandbox::Unfiltered) else { return };
    for name in ["fake", "bits"] {
        three_times(&nix, name);
    }
}

/// The bug: owners could not be recorded behind the filter, so that `extraCommands` failed, and a chown of the other commands
/// had no effect on the image, without a word. Found by building in a real sandbox.
#[test]
fn owners_that_the_filter_makes_impossible_are_told() {
    let Some(nix) = lab(Sandbox::On) else { return };
    let said = build(&nix, "fake", "");
    assert_eq!(said.code, 0, "{}", said.stderr);
    let warning = "owners that `fakeRootCommands` gives to files are lost here: extended attributes, in which they would \
                   be recorded, are refused; `perms` gives owners anywhere";
    assert!(said.stderr.contains(warning), "{}", said.stderr);
    let said = build(&nix, "built", "");
    assert_eq!(said.code, 0, "{}", said.stderr);
    let warning = "warning: owners that commands give to files are lost here: extended attributes, in which they would be \
                   recorded, are refused";
    assert!(said.stderr.contains(warning), "{}", said.stderr);
    let said = build(&nix, "bits", "");
    assert_eq!(said.code, 100, "{}", said.stderr);
    let why = "chmod: changing permissions of 'data': Operation not permitted";
    let place = r#""fakeRootCommands":"mkdir data; chmod 4755 data","#;
    assert!(said.stderr.contains(why) && said.stderr.contains(place), "{}", said.stderr);
    // The place is that of the commands, not that of the line, which is the whole spec.
    let carets = said.stderr.lines().find(|line| line.contains('^'));
    assert_eq!(carets.map(|line| line.matches('^').count()), Some(29), "{}", said.stderr);
}

/// The bug: the home of Nix's builders was made, and Nix builds nothing outside of a sandbox once it is there.
#[test]
fn a_home_that_is_not_there_is_not_made() {
    let Some(world) = World::user() else { return };
    let home = world.path("shelter");
    let mut command = world.command(program());
    command.env("HOME", &home).env("TMPDIR", world.path("out")).env_remove("NATIVEBUILD_ROOT");
    fs::write(world.path("tar"), [0; 1024]).unwrap();
    Said::of(command.args(["image", "import", "empty", "tar"]).output().unwrap()).ok();
    assert!(!home.exists());
    assert_eq!(fs::read_dir(world.path("out")).unwrap().count(), 1);
}
