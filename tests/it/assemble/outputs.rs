//! Where images go: every form of `-o`, streams, `--print-digest`, `--check`, and the ways to give a spec.

use super::{HEAD, Made, ON_BASE, app, assemble, json, of_layout, read};
use crate::support::{Said, World, base, peer, program};
use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;

const FILE: &str = "contents:\n- file: {path: /x, text: hi}\nrunAsRoot: rm /usr/share/doc/a\n";

fn spec() -> String {
    format!("{ON_BASE}{FILE}")
}

/// The index of a layout, and the `RepoTags` of an archive.
fn names(path: &std::path::Path) -> String {
    if path.is_dir() {
        let index = json(&fs::read(path.join("index.json")).unwrap());
        return index["manifests"][0]["annotations"].to_string();
    }
    let bytes = fs::read(path).unwrap();
    for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        match name.as_str() {
            "manifest.json" => return json(&bytes)[0]["RepoTags"].to_string(),
            "index.json" => return json(&bytes)["manifests"][0]["annotations"].to_string(),
            _ => {}
        }
    }
    String::new()
}

#[test]
fn every_output_has_the_image_under_the_name_that_is_asked_for() {
    let annotations = |name: &str, tag: &str| {
        format!(
            "{{\"io.containerd.image.name\":\"docker.io/library/{name}\",\"org.opencontainers.image.ref.name\":\"{tag}\"}}"
        )
    };
    let own = annotations("app:latest", "latest");
    let short = "{\"org.opencontainers.image.ref.name\":\"v2\"}".to_owned();
    for world in World::each() {
        let world = world.with_base();
        let stored = app(&world, &spec());
        let config = stored.manifest["config"]["digest"].as_str().unwrap().to_owned();
        for (n, (output, wanted)) in [
            ("oci:@", own.clone()),
            ("oci:@:v2", short.clone()),
            ("oci-archive:@", own.clone()),
            ("oci-archive:@:v2", short.clone()),
            ("docker-archive:@", "[\"app:latest\"]".to_owned()),
            ("docker-archive:@:other:v3", "[\"other:v3\"]".to_owned()),
            ("type=oci,dest=@", own.clone()),
            ("type=oci,dest=@,name=z:1", annotations("z:1", "1")),
            ("type=oci,dest=@.tar", own.clone()),
            ("type=oci-archive,dest=@", own.clone()),
            ("type=docker,dest=@", "[\"app:latest\"]".to_owned()),
            ("type=docker-archive,dest=@,name=z:1", "[\"z:1\"]".to_owned()),
        ]
        .into_iter()
        .enumerate()
        {
            let path = world.path(&format!("out/{n}"));
            let typed = output.replace('@', path.to_str().unwrap());
            let digest = assemble(&world, &spec(), &["-o", &typed]).ok();
            let is_docker = output.contains("docker");
            assert_eq!(
                digest.trim_end(),
                if is_docker { &config } else { &stored.digest },
                "{output}"
            );
            let path = if output.contains("@.tar") { path.with_extension("tar") } else { path };
            assert_eq!(names(&path), wanted, "{output}");
            assert_eq!(world.run(["image", "validate", path.to_str().unwrap()]).ok(), "valid\n");
            world.run(["image", "import", "back", path.to_str().unwrap()]).ok();
            let back = read(&world, "back");
            assert_eq!((&back.config, &back.layers), (&stored.config, &stored.layers), "{output}");
        }
    }
}

#[test]
fn a_stream_has_the_bytes_of_a_saved_archive() {
    for world in World::each() {
        let world = world.with_base();
        let said = |args: &[&str]| {
            let mut command = world.command(program());
            let output = command.args(["assemble", "-f", "context/image.yaml"]).args(args).output();
            let output = output.unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            output.stdout
        };
        app(&world, &spec());
        let saved = world.path("out/saved");
        for (form, output) in
            [("docker-archive", "docker-archive:-"), ("oci-archive", "oci-archive:-")]
        {
            let args = ["image", "save", "app", "--format", form, "-o", saved.to_str().unwrap()];
            world.run(args).ok();
            let bytes = fs::read(&saved).unwrap();
            assert!(said(&["-o", output]) == bytes, "{output}");
            assert!(said(&["-o", &format!("type={form},dest=-")]) == bytes, "{form}");
            // Nothing else is on standard output, and other outputs are written besides.
            let more = world.path(&format!("out/{form}"));
            let second = format!("oci:{}", more.display());
            assert!(said(&["-o", output, "-o", &second]) == bytes, "{form}");
            assert_eq!(of_layout(&more), read(&world, "app"));
        }
        // What is only streamed leaves nothing behind.
        let before = blobs(&world);
        said(&["-o", "docker-archive:-", "--set", "contents[0].file.text=other"]);
        assert_eq!(blobs(&world), before);
    }
}

fn blobs(world: &World) -> usize {
    let found = fs::read_dir(world.store().join("images/blobs/sha256"));
    found.unwrap().count()
}

#[test]
fn the_tree_of_an_image_comes_out_as_tar_and_as_files() {
    for world in World::each() {
        let world = world.with_base();
        app(&world, &spec());
        let listing = world.listing("app");
        let tar = world.path("out/tree.tar");
        assemble(&world, &spec(), &["-o", &format!("type=tar,dest={}", tar.display())]).ok();
        assert_eq!(base::list_tar(&fs::read(&tar).unwrap()), listing);
        let dir = world.path("out/tree");
        assemble(&world, &spec(), &["-o", &format!("type=local,dest={}", dir.display())]).ok();
        assert_eq!(fs::read(dir.join("x")).unwrap(), b"hi");
        assert!(!dir.join("usr/share/doc/a").exists());
        let skopeo = world.path("out/skopeo");
        let digest = assemble(&world, &spec(), &["-o", &format!("dir:{}", skopeo.display())]).ok();
        let manifest = fs::read(skopeo.join("manifest.json")).unwrap();
        assert_eq!(digest, format!("{}\n", super::sha256(&manifest)));
        if peer("skopeo") {
            let digest_of =
                ["inspect", "--format", "{{.Digest}}", &format!("dir:{}", skopeo.display())];
            assert_eq!(
                Said::of(world.command("skopeo").args(digest_of).output().unwrap()).ok(),
                digest
            );
        }
    }
}

#[test]
fn a_digest_is_printed_and_nothing_is_named() {
    for world in World::each() {
        let world = world.with_base();
        let digest = assemble(&world, &spec(), &["--print-digest"]).ok();
        assert!(!world.run(["image", "ls"]).ok().contains("app"));
        let named = assemble(&world, &spec(), &[]).ok();
        assert_eq!(named, format!("app:latest@{digest}"));
    }
}

#[test]
fn a_check_reads_everything_and_runs_and_writes_nothing() {
    for world in World::each() {
        let world = world.with_base();
        let before = blobs(&world);
        let wrong = spec().replace("rm /", "rm -r /gone /");
        let said = assemble(&world, &wrong, &["--check"]);
        assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (0, "", ""));
        assert_eq!(blobs(&world), before);
        assert!(!world.run(["image", "ls"]).ok().contains("app"));
        let wrong = format!("{HEAD}contents:\n- tar: gone.tar\n");
        let wanted = "\
error: cannot read the archive `gone.tar`
  --> context/image.yaml:4:8
   |
 4 | - tar: gone.tar
   |        ^^^^^^^^
 cause: no such file or directory
";
        assert_eq!(assemble(&world, &wrong, &["--check"]).failed(1), wanted);
        for args in [
            &["--check", "-o", "oci:x"][..],
            &["--check", "--push"],
            &["--print-digest", "-o", "oci:x"],
        ] {
            let said = assemble(&world, &wrong, args).failed(2);
            assert!(said.contains("cannot be used with"), "{said}");
        }
    }
}

/// Runs the program in the context, with the spec on its standard input.
fn piped(world: &World, args: &[&str], spec: &str) -> Said {
    let mut command = world.command(program());
    command.arg("assemble").args(args).current_dir(world.context());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(spec.as_bytes()).unwrap();
    Said::of(child.wait_with_output().unwrap())
}

#[test]
fn a_spec_is_found_named_or_read_from_standard_input() {
    for world in World::each() {
        let spec = format!("{HEAD}contents: [{{file: {{path: /x, source: src}}}}]\n");
        world.file("src", "hi");
        let made: Made = app(&world, &spec);
        let wanted = format!("app:latest@{}\n", made.digest);
        fs::remove_file(world.context().join("image.yaml")).unwrap();
        let said = piped(&world, &[], "").failed(2);
        let none = "error: there is no image.yaml, no image.yml, no image.json here\nhelp: name the spec with `-f`\n";
        assert_eq!(said, none);
        assert_eq!(piped(&world, &["-f", "-"], &spec).ok(), wanted);
        world.file("image.yml", &spec);
        assert_eq!(piped(&world, &[], "").ok(), wanted);
        let as_json = "{\"version\": 1, \"name\": \"app\", \"contents\": [{\"file\": {\"path\": \"/x\", \"source\": \"src\"}}]}";
        world.file("image.json", as_json);
        fs::remove_file(world.context().join("image.yml")).unwrap();
        assert_eq!(piped(&world, &[], "").ok(), wanted);
        let gone = "error: cannot read `gone.yaml`\n cause: no such file or directory\n";
        assert_eq!(piped(&world, &["-f", "gone.yaml"], "").failed(1), gone);
    }
}
