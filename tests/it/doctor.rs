//! `doctor registry`: the way to Debian's docker-registry as a report.

use crate::support::certificates::{Authority, NOW};
use crate::support::registry::Registry;
use crate::support::{Said, World, peer, program};
use crate::transport::{HERE, copy, fill, host_dir, worlds};
use std::fs;

/// `doctor registry` with what differs from run to run replaced.
fn doctor(world: &World, registry: &Registry, args: &[&str]) -> Said {
    let mut command = world.command(program());
    command.args(["doctor", "registry"]).args(args);
    let mut said = Said::of(command.output().unwrap());
    let dir = world.path("");
    let dir = dir.to_str().unwrap().trim_end_matches('/').to_owned();
    for text in [&mut said.stdout, &mut said.stderr] {
        let clean = text.replace(&dir, "DIR").replace(&registry.address, "HOST");
        // Settings of the machine that the test runs on.
        let lines = clean.lines().filter(|line| {
            let theirs = ["settings   /etc", "note       /etc"];
            !theirs.iter().any(|start| line.starts_with(start)) && !line.contains(" aliases for ")
        });
        *text = lines.fold(String::new(), |text, line| text + line + "\n");
    }
    said
}

#[test]
fn doctor_shows_the_way_to_a_registry() {
    for world in worlds() {
        let authority = Authority::new(&world, "authority");
        let registry = Registry::secure(&world, "registry", &authority.issue("s", HERE, NOW), "");
        let host = registry.address.clone();
        let dir = host_dir(&world, ".config/containers/certs.d", &registry);
        copy(&authority.certificate(), &dir.join("ca.crt"));
        let conf = "odd = 1\n[[registry]]\nprefix = \"company.invalid\"\nlocation = \"HOST/there\"\n\
                    [[registry.mirror]]\nlocation = \"127.0.0.1:1\"\n[aliases]\nfedora = \"a.example/fedora\"\n";
        let path = world.path(".config/containers/registries.conf");
        fs::write(path, conf.replace("HOST", &host)).unwrap();
        world.give();
        fill(&world, "company.invalid/app:1", &[]);
        let said = doctor(&world, &registry, &["company.invalid/app:1"]).ok();
        let wanted = "\
settings   DIR/.config/containers/registries.conf
note       DIR/.config/containers/registries.conf:1: `odd` has no meaning here
mirror     127.0.0.1:1/app (DIR/.config/containers/registries.conf:5)
  address  127.0.0.1:1
  proxy    none
  login    none
  problem  mirror `127.0.0.1:1` cannot be reached
  cause    GET http://127.0.0.1:1/v2/: connection refused
  help     check the name of the registry, the network and the proxy settings
registry   https://HOST/there/app (DIR/.config/containers/registries.conf:2)
  address  HOST
  proxy    none
  tls      CN=server, issued by CN=authority, from 2020-01-01T00:00:00Z to 2049-01-01T00:00:00Z
  tls      ends in CN=authority of DIR/.config/containers/certs.d/HOST/ca.crt
  /v2/     200, HTTP/1.1
  login    none
  manifest 200
";
        assert_eq!(said, wanted);
        let json = world.run(["doctor", "registry", "--json", &host]).ok();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let way = &json["ways"][0];
        assert_eq!(way["address"], format!("https://{host}"));
        assert_eq!(way["tls"]["chain"][0]["subject"], "CN=server");
        assert_eq!(way["status"], 200);
        // Nothing that is trusted, and nothing that is there.
        fs::remove_file(dir.join("ca.crt")).unwrap();
        let said = doctor(&world, &registry, &[&host]);
        assert!(
            said.stdout.contains("  tls      ends in nothing that is trusted\n"),
            "{}",
            said.stdout
        );
        assert!(said.failed(3).contains("shows a certificate of an unknown authority"));
        let said = doctor(&world, &registry, &["--tls-verify=false", &host]).ok();
        assert!(said.contains("  insecure certificates are not checked"), "{said}");
        drop(registry);
        assert!(
            Said::of(
                world.command(program()).args(["doctor", "registry", &host]).output().unwrap()
            )
            .failed(3)
            .contains("cannot be reached")
        );
    }
}

/// Who is asked for, and who we are.
#[test]
fn doctor_shows_who_is_asked_for() {
    for world in worlds() {
        if !peer("perl") {
            return;
        }
        let (registry, certificate) = Registry::private(&world);
        let creds = format!("{}=me:pass:word", registry.address);
        let name = format!("{}/app", registry.address);
        let known = ["--tls-ca", certificate.to_str().unwrap()];
        let said = doctor(&world, &registry, &[&known[..], &[&name]].concat());
        assert!(said.stdout.contains("  /v2/     401, HTTP/1.1\n  auth     Basic, realm `test`\n  login    none\n  manifest 401\n"), "{}", said.stdout);
        said.failed(3);
        let said =
            doctor(&world, &registry, &[&known[..], &["--registry-creds", &creds, &name]].concat())
                .ok();
        assert!(said.contains("  login    `me`; the login was given on the command line or in the environment\n  manifest 404\n"), "{said}");
        assert!(!said.contains("pass"), "{said}");
    }
}
