//! `file`, `symlink`, `directory` and `preset`: things that the spec itself describes.

use super::trees::{on_merged, with_merged_base};
use super::{HEAD, ON_BASE, app, assemble};
use crate::support::World;
use std::fs;

#[test]
fn files_links_and_directories_are_as_described() {
    for world in World::each() {
        world.file("note", b"\xff\0bytes");
        let spec = format!(
            "{HEAD}owner: {{uid: 3, gid: 4}}
contents:
- file: {{path: /a/text, text: \"hi\\n\"}}
- file: {{path: /a/bytes, base64: /wBieXRlcw==, mode: '0600', uid: 1, gid: 2}}
- file: {{path: /a/source, source: note, mode: '4755'}}
- file: {{path: /a/empty, text: ''}}
- symlink: {{path: /a/link, target: ../x y, uid: 5}}
- directory: {{path: /d/e, mode: '1777', gid: 6}}
"
        );
        let made = app(&world, &spec);
        let wanted = [
            "a dir 755 3:4 0",
            "a/bytes file 600 1:2 7",
            "a/empty file 644 3:4 0",
            "a/link symlink 777 5:4 ../x y",
            "a/source file 4755 3:4 7",
            "a/text file 644 3:4 3",
            "d dir 755 3:4 0",
            "d/e dir 1777 3:6 0",
        ];
        assert_eq!(made.list(), [wanted]);
        assert_eq!(made.bytes("a/text"), b"hi\n");
        assert_eq!(made.bytes("a/bytes"), b"\xff\0bytes");
        assert_eq!(made.bytes("a/source"), b"\xff\0bytes");
    }
}

#[test]
fn a_link_is_replaced_by_a_file_and_followed_by_a_directory() {
    for world in World::each() {
        let world = with_merged_base(world);
        let contents = "\
- symlink: {path: /bin, target: elsewhere}
- file: {path: /lib, text: x}
- file: {path: /out/f, text: y}
- directory: {path: /out, mode: '0700'}
";
        let made = app(&world, &on_merged(contents));
        let wanted = [
            "bin symlink 777 0:0 elsewhere",
            "etc dir 700 0:0 0",
            "etc/f file 644 0:0 1",
            "lib file 644 0:0 1",
        ];
        assert_eq!(made.top(), wanted);
        let listing = world.listing("app");
        assert!(listing.contains(&"etc/conf file 644 0:0 4".to_owned()), "{listing:?}");
        assert!(listing.contains(&"usr/bin/old file 644 0:0 3".to_owned()), "{listing:?}");
    }
}

#[test]
fn presets_bring_what_most_images_need() {
    for world in World::each() {
        world.file("bundle", "certificates");
        let spec = format!(
            "{HEAD}contents:
- preset: [fake-nss, tmp, {{bin-sh: {{target: /bin/dash}}}}, {{usr-bin-env: {{target: /x/env}}}}]
- preset: {{ca-certificates: {{source: bundle}}}}
"
        );
        let made = app(&world, &spec);
        let wanted = [
            "bin dir 755 0:0 0",
            "bin/sh symlink 777 0:0 /bin/dash",
            "etc dir 755 0:0 0",
            "etc/group file 644 0:0 26",
            "etc/nsswitch.conf file 644 0:0 17",
            "etc/passwd file 644 0:0 77",
            "etc/pki dir 755 0:0 0",
            "etc/pki/tls dir 755 0:0 0",
            "etc/pki/tls/certs dir 755 0:0 0",
            "etc/pki/tls/certs/ca-bundle.crt symlink 777 0:0 /etc/ssl/certs/ca-certificates.crt",
            "etc/ssl dir 755 0:0 0",
            "etc/ssl/certs dir 755 0:0 0",
            "etc/ssl/certs/ca-bundle.crt symlink 777 0:0 /etc/ssl/certs/ca-certificates.crt",
            "etc/ssl/certs/ca-certificates.crt file 644 0:0 12",
            "tmp dir 1777 0:0 0",
            "usr dir 755 0:0 0",
            "usr/bin dir 755 0:0 0",
            "usr/bin/env symlink 777 0:0 /x/env",
            "var dir 755 0:0 0",
            "var/empty dir 755 0:0 0",
            "var/tmp dir 1777 0:0 0",
        ];
        assert_eq!(made.list(), [wanted]);
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/var/empty:/bin/sh\n";
        assert_eq!(made.bytes("etc/passwd"), passwd.as_bytes());
        assert_eq!(made.bytes("etc/group"), b"root:x:0:\nnobody:x:65534:\n");
        let shadow =
            app(&world, &format!("{HEAD}contents:\n- preset: {{shadow: {{shell: /bin/zsh}}}}\n"));
        let wanted = [
            "etc dir 755 0:0 0",
            "etc/group file 644 0:0 10",
            "etc/gshadow file 600 0:0 9",
            "etc/login.defs file 644 0:0 0",
            "etc/pam.d dir 755 0:0 0",
            "etc/pam.d/other file 644 0:0 135",
            "etc/passwd file 644 0:0 27",
            "etc/shadow file 600 0:0 15",
        ];
        assert_eq!(shadow.list(), [wanted]);
        assert_eq!(shadow.bytes("etc/passwd"), b"root:x:0:0::/root:/bin/zsh\n");
        assert_eq!(shadow.bytes("etc/shadow"), b"root:!x:::::::\n");
    }
}

#[test]
fn presets_replace_nothing_that_is_there() {
    for world in World::each() {
        let world = world.with_base();
        let spec =
            format!("{ON_BASE}contents:\n- preset: [fake-nss, shadow, tmp, bin-sh, usr-bin-env]\n");
        let made = app(&world, &spec);
        let wanted = [
            "etc dir 755 0:0 0",
            "etc/login.defs file 644 0:0 0",
            "etc/nsswitch.conf file 644 0:0 17",
            "etc/pam.d dir 755 0:0 0",
            "etc/pam.d/other file 644 0:0 135",
            "usr dir 755 0:0 0",
            "usr/bin dir 755 0:0 0",
            "usr/bin/env symlink 777 0:0 /bin/env",
            "var dir 755 0:0 0",
            "var/empty dir 755 0:0 0",
            "var/tmp dir 1777 0:0 0",
        ];
        assert_eq!(made.top(), wanted);
    }
}

#[test]
fn a_program_that_is_nowhere_is_told() {
    for world in World::each() {
        let said = assemble(&world, &format!("{HEAD}contents:\n- preset: bin-sh\n"), &[]).failed(1);
        let wanted = "\
error: nothing in the image can be `/bin/sh`
  --> context/image.yaml:4:11
   |
 4 | - preset: bin-sh
   |           ^^^^^^
 cause: no store path and no directory has a program `sh`
help: put the preset behind the item that brings the program, or give it a `target`
";
        assert_eq!(said, wanted);
    }
}

#[test]
fn a_derivation_becomes_the_environment_of_its_builder() {
    for world in World::each() {
        let derivation = "{\"/nix/store/x.drv\": {\"builder\": \"/nix/store/b/bin/bash\", \"env\": {\
            \"buildCommand\": \"a\\nb\", \"name\": \"hello\", \"passAsFile\": \"buildCommand\", \"stdenv\": \"/s\"}}}";
        world.file("drv.json", derivation);
        let spec = format!(
            "{HEAD}config: {{User: '7'}}\ncontents:\n- preset: {{nix-shell: {{env: drv.json}}}}\n"
        );
        let made = app(&world, &spec);
        let config = &made.config["config"];
        assert_eq!(config["User"], "7");
        assert_eq!(config["WorkingDir"], "/build");
        let cmd = serde_json::json!(["/nix/store/b/bin/bash", "--rcfile", "/etc/nix-shell.rc"]);
        assert_eq!(config["Cmd"], cmd);
        let env: Vec<&str> =
            config["Env"].as_array().unwrap().iter().map(|pair| pair.as_str().unwrap()).collect();
        for pair in
            ["name=hello", "stdenv=/s", "buildCommandPath=/build/.attr-buildCommand", "HOME=/build"]
        {
            assert!(env.contains(&pair), "{env:?}");
        }
        assert_eq!(made.bytes("build/.attr-buildCommand"), b"a\nb");
        let wanted = [
            "build dir 755 1000:1000 0",
            "build/.attr-buildCommand file 644 0:0 3",
            "etc dir 755 0:0 0",
            "etc/group file 644 0:0 42",
            "etc/nix-shell.rc file 644 0:0 120",
            "etc/passwd file 644 0:0 114",
            "tmp dir 1777 0:0 0",
            "var dir 755 0:0 0",
            "var/tmp dir 1777 0:0 0",
        ];
        assert_eq!(made.list(), [wanted]);
        fs::write(world.context().join("drv.json"), "[]").unwrap();
        let said = assemble(&world, &spec, &[]).failed(1);
        assert!(said.starts_with("error: cannot use `drv.json` as a derivation\n"), "{said}");
    }
}
