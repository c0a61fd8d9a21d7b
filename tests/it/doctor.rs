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
        let name = format!("{}/app", registry.address);
        let known = ["--tls-ca", certificate.to_str().unwrap()];
        let said = doctor(&world, &registry, &[&known[..], &[&name]].concat());
        assert!(said.stdout.contains("  /v2/     401, HTTP/1.1\n  auth     Basic, realm `test`\n  login    none\n  manifest 401\n"), "{}", said.stdout);
        said.failed(3);
        let with = |creds: &str, more: &[&str]| {
            let creds = format!("{}={creds}", registry.address);
            doctor(&world, &registry, &[&known[..], &["--registry-creds", &creds], more].concat())
        };
        let given = "the login was given on the command line or in the environment";
        let said = with("me:pass:word", &[&name]).ok();
        let wanted = format!("  login    `me`; {given}; accepted\n  manifest 404\n");
        assert!(said.contains(&wanted), "{said}");
        assert!(!said.contains("pass"), "{said}");
        // A wrong one was shown as if it were good.
        let said = with("me:wrong", &[&registry.address]);
        let wanted = format!(
            "  login    `me`; {given}; refused\n\
             \x20 problem  registry `HOST` refuses the login\n\
             \x20 cause    GET https://HOST/v2/: status 401: UNAUTHORIZED (authentication required)\n\
             \x20 help     check the name and the password; some registries want a token in its place\n"
        );
        assert!(said.stdout.ends_with(&wanted), "{}", said.stdout);
        assert!(said.failed(3).starts_with("error: registry `HOST` refuses the login\n"));
        let json = |creds: &str| {
            let said = with(creds, &["--json", &registry.address]);
            let json: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
            json["ways"][0].clone()
        };
        let way = json("me:wrong");
        assert_eq!((&way["status"], &way["login"]["accepted"]), (&401.into(), &false.into()));
        assert_eq!(
            way["problem"]["causes"][0],
            "GET https://HOST/v2/: status 401: UNAUTHORIZED (authentication required)"
        );
        let way = json("me:pass:word");
        assert_eq!(
            (&way["login"]["accepted"], &way["problem"]),
            (&true.into(), &serde_json::Value::Null)
        );
        assert!(way["repository"].is_null());
    }
}

/// Nothing was printed with `--json` where a file keeps the host from being asked, and a repository `any` was made up.
#[test]
fn doctor_reports_what_keeps_a_host_from_being_asked() {
    for world in worlds() {
        let registry = Registry::start(&world);
        let file = world.path(".config/containers/registries.conf");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "\n[[registry]]\nlocation = \"blocked.invalid\"\nblocked = true\n")
            .unwrap();
        world.give();
        let said = doctor(&world, &registry, &["blocked.invalid"]);
        let wanted = "\
settings   DIR/.config/containers/registries.conf
registry   blocked.invalid (DIR/.config/containers/registries.conf:2)
  problem  `blocked.invalid` is blocked
  cause    DIR/.config/containers/registries.conf:2: `blocked = true` for `blocked.invalid`
  help     take the image from elsewhere, or change that file
";
        assert_eq!(said.stdout, wanted);
        let text = said.failed(3);
        assert!(text.starts_with("error: `blocked.invalid` is blocked\n"), "{text}");
        let said = doctor(&world, &registry, &["blocked.invalid/a/b:1"]);
        assert!(said.stdout.contains("registry   blocked.invalid/a/b (DIR/"), "{}", said.stdout);
        let json = |name: &str| {
            let said = doctor(&world, &registry, &["--json", name]);
            let json: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
            said.failed(3);
            json["ways"][0].clone()
        };
        let way = json("blocked.invalid");
        assert_eq!(way["blocked"], true);
        assert_eq!(way["address"], "blocked.invalid");
        assert_eq!(way["set_by"], "DIR/.config/containers/registries.conf:2");
        assert_eq!(way["problem"]["message"], "`blocked.invalid` is blocked");
        // Nor with a file that cannot be used.
        fs::write(&file, "[[registry]]\n").unwrap();
        let way = json("r.invalid");
        assert_eq!((&way["blocked"], &way["address"]), (&false.into(), &"r.invalid".into()));
        let message = way["problem"]["message"].as_str().unwrap();
        assert_eq!(message, "DIR/.config/containers/registries.conf cannot be used");
    }
}
