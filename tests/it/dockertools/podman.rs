//! Archives of store paths in podman.

use super::Seven;
use crate::support::peer;
use crate::support::peers::Peers;
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
