//! Archives of store paths in podman.

use super::Seven;
use crate::support::nix::{NIXPKGS, Nix, Sandbox};
use crate::support::peers::Peers;
use crate::support::{World, peer};
use serde_json::{Value, json};

#[test]
fn podman_loads_an_archive_of_store_paths_with_the_same_layers() {
    if !peer("podman") || !peer("runc") {
        return;
    }
    let Some(seven) = Seven::new() else { return };
    let layers = json!({"layers": {"strategy": "popularity"}});
    seven.assemble("app", json!([seven.closure("a", &json!({}))]), &layers);
    seven.nix.ok("nativebuild assemble -q -f app.json -o docker-archive:- > app.tar");
    let peers = Peers { world: &seven.nix.world };
    let archive = peers.path("app.tar");
    peers.podman(&["load", "--quiet", "--input", &archive]);
    let told: Value =
        serde_json::from_str(&peers.podman(&["image", "inspect", "app:latest"])).unwrap();
    assert_eq!(told[0]["RootFS"]["Layers"], seven.config("app")["rootfs"]["diff_ids"]);
    let ours = peers.path("app");
    // Podman makes a root directory of its own mode where no layer says one.
    let differences = peers.differences(&[], &ours, &peers.mounted("app:latest"));
    assert_eq!(differences, "tree\t/\tmode\t0755 | 0555\n");
}

#[test]
fn podman_runs_a_program_of_the_store_on_a_base() {
    if !peer("podman") || !peer("runc") {
        return;
    }
    let Some(nix) = Nix::new(Sandbox::Off) else { return };
    let Some(base) = World::root().map(World::with_base) else { return };
    let archive = format!("docker-archive:{}", nix.path("base.tar").display());
    base.run(["image", "copy", "base", &archive]).ok();
    nix.file("nixpkgs/default.nix", NIXPKGS);
    let hello =
        nix.ok("nix-build '<nixpkgs>' -A hello --no-out-link 2>log || { cat log >&2; exit 1; }");
    let spec = json!({
        "version": 1,
        "name": "hello",
        "from": {"image": "docker-archive:base.tar"},
        "config": {"Cmd": ["/bin/hello"]},
        "contents": [{"closure": {"paths": [hello]}}],
        "nixDatabase": {},
    });
    nix.file("spec.json", spec.to_string());
    nix.ok("nativebuild assemble -q -f spec.json -o docker-archive:hello.tar");
    let peers = Peers { world: &nix.world };
    peers.podman(&["load", "--quiet", "--input", &peers.path("hello.tar")]);
    assert_eq!(peers.podman(&["run", "--rm", "--network", "none", "hello"]), "hi\n");
}
