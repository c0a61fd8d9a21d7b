//! Other people's programs read our images: umoci, skopeo, podman and dockerd see the tree that the build saw.

use crate::support::bases::bases;
use crate::support::peers::{Dockerd, Peers};
use crate::support::{World, peer};

/// Packages with what packages have: scripts, configuration files, hard links, links, setuid, empty directories.
const PACKAGES: &str = r#"set -eu
umask 022
for name in nb-one nb-two nb-three; do
	mkdir -p "$name/DEBIAN" "$name/etc/$name" "$name/usr/lib/$name/empty" "$name/usr/share/doc/$name"
	printf 'Package: %s\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <nobody@example.com>\nDescription: test\n' "$name" > "$name/DEBIAN/control"
	printf '/etc/%s/conf\n' "$name" > "$name/DEBIAN/conffiles"
	printf '#!/bin/sh\nset -e\necho "$1" > /var/lib/%s.state\n' "$name" > "$name/DEBIAN/postinst"
	echo conf > "$name/etc/$name/conf"
	echo doc > "$name/usr/share/doc/$name/README"
	echo program > "$name/usr/lib/$name/program"
	ln "$name/usr/lib/$name/program" "$name/usr/lib/$name/alias"
	ln -s program "$name/usr/lib/$name/link"
	chmod 755 "$name/DEBIAN/postinst"
	chmod 4755 "$name/usr/lib/$name/program"
	dpkg-deb --root-owner-group --build "$name" "$1/$name.deb" >/dev/null
done
"#;

const DEBIAN: &str = r"FROM nb-base:debian
COPY *.deb /tmp/
RUN dpkg -i /tmp/*.deb && rm /tmp/*.deb && dpkg -P nb-one
RUN rm -rf /usr/share/doc /usr/share/zoneinfo /etc/cron.daily /etc/issue && mkdir /usr/share/doc && echo again > /usr/share/doc/README
RUN rm -rf /etc/apt && mkdir -m 2750 /etc/apt && chown 7:8 /etc/apt && echo new > /etc/apt/apt.conf
RUN cp /bin/true /usr/local/bin/bind && setcap cap_net_bind_service+ep /usr/local/bin/bind && ln /usr/local/bin/bind /usr/local/bin/again
RUN ln /bin/ls /bin/ls.hard && chmod u+s /bin/ls && mkfifo /pipe && mknod /null c 1 3 && ln -s nowhere /broken
RUN echo x > $(printf '/odd\377name') && mkdir -m 1777 /sticky && setfattr -n user.note -v hello /odd*
";

#[test]
fn a_debian_image_unpacks_to_the_tree_that_the_build_saw() {
    let Some(world) = World::root() else { return };
    if !["umoci", "skopeo", "podman", "dpkg-deb", "python3"].into_iter().all(peer) {
        return;
    }
    let Some(bases) = bases() else { return };
    let peers = Peers { world: &world };
    let base = format!("{}:latest", bases.join("debian.oci").display());
    world.run(["image", "import", "nb-base:debian", &base]).ok();
    peers.run("sh", &["-c", PACKAGES, "packages", world.context().to_str().unwrap()]);
    let (layout, tree) = (peers.path("out/layout"), peers.path("out/tree.tar"));
    let (archive, copied) = (peers.path("out/docker.tar"), peers.path("out/skopeo.tar"));
    let outputs = [
        format!("type=oci,tar=false,dest={layout}"),
        format!("type=docker,dest={archive}"),
        format!("type=tar,dest={tree}"),
    ];
    let [oci, docker, tar] = outputs.each_ref().map(String::as_str);
    world.build(DEBIAN, &["-t", "deb", "-o", oci, "-o", docker, "-o", tar]).ok();
    world.validate("deb");

    // The tar was read from the mounted tree; the layers must say the same. It has no entry for the root itself.
    let saw = format!("tar:{tree}");
    let root = "tree\t/\tmtime\t0 | 1700000000\n";
    assert_eq!(peers.differences(&["--mtimes"], &saw, &layout), root);
    let bundle = peers.path("out/bundle");
    peers.run("umoci", &["unpack", "--image", &format!("{layout}:latest"), &bundle]);
    let unpacked = format!("tree:{bundle}/rootfs");
    assert_eq!(peers.differences(&["--mtimes"], &saw, &unpacked), root);
    peers.skopeo(&format!("oci:{layout}:latest"), &format!("docker-archive:{copied}:deb:copied"));
    assert_eq!(peers.differences(&["--mtimes"], &saw, &copied), root);
    peers.podman(&["load", "--input", &archive]);
    // The storage driver vfs gives the root directory a time of its own.
    peers.same(&[], &saw, &peers.mounted("localhost/deb:latest"));
}

#[test]
fn every_loader_takes_gzip_members_and_zstd() {
    let Some(world) = World::root() else { return };
    if !["umoci", "skopeo", "podman", "python3"].into_iter().all(peer) {
        return;
    }
    let world = world.with_base();
    let peers = Peers { world: &world };
    // More than one gzip member, and not so regular that it hides a wrong order.
    let big: Vec<u8> =
        (0..700_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    world.file("big", &big);
    let dockerfile = "FROM base\nCOPY big /big\nRUN rm -rf /usr/share/doc /etc/group && mkdir /usr/share/doc\nCMD [\"/bin/true\"]\n";
    let daemon = Dockerd::start(&world);
    // This base has no entry for the root itself; containers/storage makes it with a mode of its own.
    let root = "tree\t/\tmode\t0755 | 0555\n";
    for compression in ["gzip", "zstd"] {
        let (name, layout) =
            (format!("app:{compression}"), peers.path(&format!("out/{compression}")));
        let (archive, flat) = (peers.path("out/docker.tar"), peers.path("out/flat.tar"));
        let oci = format!("type=oci,tar=false,dest={layout}");
        let docker = format!("type=docker,dest={archive}");
        world
            .build(
                dockerfile,
                &["-t", &name, "--compression", compression, "-o", &oci, "-o", &docker],
            )
            .ok();
        world.validate(&name);
        // Unlike the form of today, the flat one keeps layers compressed.
        world.run(["image", "save", "--format", "docker-archive-flat", "-o", &flat, &name]).ok();
        let source = format!("oci:{layout}:{compression}");
        let copied = format!("localhost/copied:{compression}");
        peers.skopeo(&source, &peers.storage(&copied));
        assert_eq!(peers.differences(&[], &layout, &peers.mounted(&copied)), root);
        if compression == "gzip" {
            // Neither umoci nor Docker's media types know zstd.
            let bundle = peers.path("out/bundle");
            peers.run("umoci", &["unpack", "--image", &format!("{layout}:gzip"), &bundle]);
            peers.same(&["--mtimes"], &layout, &format!("tree:{bundle}/rootfs"));
            let copied = peers.path("out/skopeo.tar");
            peers.skopeo(&source, &format!("docker-archive:{copied}:x:y"));
            peers.same(&["--mtimes"], &layout, &copied);
        }
        for file in [&archive, &flat] {
            peers.podman(&["load", "--input", file]);
            let loaded = peers.mounted(&format!("localhost/{name}"));
            assert_eq!(peers.differences(&[], &layout, &loaded), root);
            peers.podman(&["image", "unmount", "--all"]);
            peers.podman(&["rmi", "--force", &format!("localhost/{name}")]);
            if let Some(daemon) = &daemon {
                daemon.docker(&["load", "--input", file]);
                let back = peers.path("out/back.tar");
                daemon.docker(&["save", "--output", &back, &name]);
                peers.same(&["--mtimes"], &layout, &back);
                daemon.docker(&["rmi", &name]);
            }
        }
        std::fs::remove_file(peers.path("out/skopeo.tar")).unwrap_or_default();
    }
}
