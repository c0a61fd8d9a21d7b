//! The way to a registry: certificates, registries.conf and proxies, against Debian's docker-registry.

use crate::support::certificates::{Authority, NOW, Pair};
use crate::support::proxy::ConnectProxy;
use crate::support::registry::Registry;
use crate::support::{Said, World, peer, program};
use std::fs;
use std::path::Path;

pub const HERE: &str = "DNS:localhost,IP:127.0.0.1";

pub fn worlds() -> Vec<World> {
    if !["openssl", "docker-registry"].into_iter().all(peer) {
        return Vec::new();
    }
    World::each()
}

/// Puts a small image into a registry; gives its digest.
pub fn fill(world: &World, name: &str, flags: &[&str]) -> String {
    let args = [&["--push", "-t", name], flags].concat();
    let said = world.build("FROM scratch\nCOPY Dockerfile /d\n", &args).ok();
    said.lines().next().unwrap().to_owned()
}

/// Builds upon an image, which is asked of its registry.
fn pull(world: &World, name: &str, flags: &[&str]) -> Said {
    pull_with(world, name, flags, &[])
}

fn pull_with(world: &World, name: &str, flags: &[&str], environment: &[(&str, &str)]) -> Said {
    world.file("Dockerfile", format!("FROM {name}\nCOPY Dockerfile /e\n"));
    let mut command = world.command(program());
    command.args(["build", "--progress", "plain", "--pull"]).args(flags).arg(world.context());
    command.envs(environment.iter().copied());
    Said::of(command.output().unwrap())
}

/// What is said of a failure behind the excerpt of the Dockerfile.
fn told(said: Said, registry: &Registry) -> String {
    let text = said.failed(3).replace(&registry.address, "HOST");
    let text = text.replace(registry.address.rsplit(':').next().unwrap(), "PORT");
    let lines = text
        .lines()
        .filter(|line| ["cause", " caus", "help:"].contains(&&line[..line.len().min(5)]));
    let mut told: Vec<String> = lines.map(|line| line.trim().to_owned()).collect();
    for line in &mut told {
        if let Some((before, rest)) = line.split_once("; it is ") {
            *line = format!("{before}; it is NOW {}", rest.split_once(' ').unwrap().1);
        }
    }
    told.join("\n")
}

/// A directory for the registry below one with directories for hosts.
pub fn host_dir(world: &World, below: &str, registry: &Registry) -> std::path::PathBuf {
    let dir = world.path(&format!("{below}/{}", registry.address));
    fs::create_dir_all(&dir).unwrap();
    dir
}

pub fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap();
}

#[test]
fn every_certificate_problem_has_its_own_hint() {
    for world in worlds() {
        let authority = Authority::new(&world, "authority");
        let other = Authority::new(&world, "other");
        let trusted = authority.certificate();
        let expired = ("20200101000000Z", "20200102000000Z");
        let future = ("20480101000000Z", "20490101000000Z");
        let way = "`/etc/docker/certs.d/HOST/ca.crt` (or `~/.config/containers/certs.d/HOST/ca.crt`), or name its file with `--tls-ca`";
        let cause = |what: &str, why: &str| {
            format!(
                "cause: registry `HOST` shows a certificate {what}\ncause: GET https://HOST/v2/app/manifests/1: {why}"
            )
        };
        let cases: Vec<(Pair, String)> = vec![
            (
                authority.issue("name", "DNS:registry.example,DNS:*.lan", NOW),
                cause(
                    "for another name",
                    "the certificate is for `registry.example`, `*.lan`, not for `127.0.0.1`",
                ) + "\nhelp: use a name that the certificate has, or have it made anew with subjectAltName `IP:127.0.0.1`",
            ),
            (
                authority.issue("expired", HERE, expired),
                cause(
                    "that has expired",
                    "a certificate of the chain ended at 2020-01-02T00:00:00Z; it is NOW now",
                ) + "\nhelp: renew it on the server; if that time is wrong, set the clock of this machine",
            ),
            (
                authority.issue("future", HERE, future),
                cause(
                    "that is not valid yet",
                    "a certificate of the chain begins at 2048-01-01T00:00:00Z; it is NOW now",
                ) + "\nhelp: if that time is wrong, set the clock of this machine",
            ),
            (
                other.issue("unknown", HERE, NOW),
                cause(
                    "of an unknown authority",
                    "the certificate was issued by `CN=other`, which is not trusted here",
                ) + &format!(
                    "\nhelp: if it is the right one, put the certificate of that authority into {way}"
                ),
            ),
            (
                other.own_root("own", HERE, NOW),
                cause("that it signed itself", "nobody vouches for the certificate of `CN=server`")
                    + &format!(
                        "\nhelp: if it is the right one, put this very certificate into {way}"
                    ),
            ),
        ];
        for (number, (pair, wanted)) in cases.iter().enumerate() {
            let registry = Registry::secure(&world, &format!("registry-{number}"), pair, "");
            let name = format!("{}/app:1", registry.address);
            let said = pull(&world, &name, &["--tls-ca", trusted.to_str().unwrap()]);
            let told = told(said, &registry);
            assert!(told.contains(wanted), "{told}\n{wanted}");
        }
    }
}

#[test]
fn certificates_are_found_in_all_their_places() {
    for world in worlds() {
        let authority = Authority::new(&world, "authority");
        let registry = Registry::secure(&world, "registry", &authority.issue("s", HERE, NOW), "");
        let (name, trusted) = (format!("{}/app:1", registry.address), authority.certificate());
        let pem = trusted.to_str().unwrap();
        fs::create_dir(world.path("certs")).unwrap();
        copy(&trusted, &world.path("certs/ca.crt"));
        world.give();
        fill(&world, &name, &["--tls-ca", pem]);
        assert!(pull(&world, &name, &[]).failed(3).contains("unknown authority"));
        let certs = world.path("certs");
        let certs = certs.to_str().unwrap();
        for flags in [["--tls-ca", pem], ["--cert-file", pem], ["--cert-dir", certs]] {
            pull(&world, &name, &flags).ok();
        }
        for variable in [("SSL_CERT_FILE", pem), ("SSL_CERT_DIR", certs)] {
            pull_with(&world, &name, &[], &[variable]).ok();
        }
        for below in [".config/containers/certs.d", ".config/docker/certs.d", ".docker/certs.d"] {
            let dir = host_dir(&world, below, &registry);
            copy(&trusted, &dir.join("mine.crt"));
            world.give();
            pull(&world, &name, &[]).ok();
            fs::remove_file(dir.join("mine.crt")).unwrap();
        }
        // Not checked at all, which is said.
        let host = &registry.address;
        for (flags, flag) in [
            (["--tls-verify=false", "--quiet=false"], "--tls-verify=false"),
            (["--insecure-registry", host], "--insecure-registry"),
        ] {
            world.run(["image", "rm", &name]).ok();
            let said = pull(&world, &name, &flags);
            let warning =
                format!("registry `{host}` is asked without checking its certificate (`{flag}`)");
            assert!(said.stderr.contains(&warning), "{}", said.stderr);
            said.ok();
        }
        // That is for this host and no other.
        let said = pull(&world, &name, &["--insecure-registry", "localhost"]).failed(3);
        assert!(said.contains("unknown authority"), "{said}");
        assert_eq!(pull(&world, &name, &["--tls-ca", "/nonexistent"]).code, 2);
        assert_eq!(pull(&world, &name, &["--tls-verify=maybe"]).code, 2);
    }
}

/// As docker does: the certificate is in the list, so it is the right one.
#[test]
fn a_certificate_that_is_its_own_root_is_trusted_byte_for_byte() {
    for world in worlds() {
        let authority = Authority::new(&world, "authority");
        let own = authority.own_root("own", HERE, NOW);
        let registry = Registry::secure(&world, "registry", &own, "");
        let name = format!("{}/app:1", registry.address);
        fill(&world, &name, &["--tls-ca", own.certificate.to_str().unwrap()]);
        // Another one with the same names, by the same hand.
        let twin = authority.own_root("twin", HERE, NOW);
        let said = pull(&world, &name, &["--tls-ca", twin.certificate.to_str().unwrap()]);
        assert!(said.failed(3).contains("signed itself"));
        for (file, names, when, what) in [
            ("elsewhere", "DNS:elsewhere", NOW, "for another name"),
            ("old", HERE, ("20200101000000Z", "20200102000000Z"), "that has expired"),
        ] {
            let own = authority.own_root(file, names, when);
            let registry = Registry::secure(&world, file, &own, "");
            let name = format!("{}/app:1", registry.address);
            let said = pull(&world, &name, &["--tls-ca", own.certificate.to_str().unwrap()]);
            assert!(said.failed(3).contains(what));
        }
    }
}

#[test]
fn a_registry_may_ask_for_a_client_certificate() {
    for world in worlds() {
        let authority = Authority::new(&world, "authority");
        let stranger = Authority::new(&world, "stranger");
        let trusted = authority.certificate();
        let clients = format!(", clientcas: ['{}']", trusted.display());
        let pair = authority.issue("server", HERE, NOW);
        let registry = Registry::secure(&world, "registry", &pair, &clients);
        let name = format!("{}/app:1", registry.address);
        let dir = host_dir(&world, ".docker/certs.d", &registry);
        copy(&trusted, &dir.join("ca.crt"));
        world.give();
        let told = told(pull(&world, &name, &[]), &registry);
        assert!(told.contains("cause: registry `HOST` asks for a client certificate\n"), "{told}");
        assert!(told.contains("help: put certificate and key into `/etc/docker/certs.d/HOST/client.cert` and `client.key` (or under `~/.config/containers/certs.d`), or name their directory with `--cert-dir`"), "{told}");
        let give = |authority: &Authority| {
            let client = authority.issue("client", "DNS:client", NOW);
            copy(&client.certificate, &dir.join("client.cert"));
            copy(&client.key, &dir.join("client.key"));
            world.give();
        };
        give(&stranger);
        let text = pull(&world, &name, &[]).failed(3);
        assert!(text.contains("refuses our client certificate"), "{text}");
        give(&authority);
        fill(&world, &name, &[]);
        pull(&world, &name, &[]).ok();
        // A key that is another's; a tester's old certificate (X.509 version 1) made the registry seem out of reach, as
        // its key was compared by nobody but the server.
        let old = authority.old("old");
        copy(&old.certificate, &dir.join("client.cert"));
        copy(&old.key, &dir.join("client.key"));
        world.give();
        pull(&world, &name, &[]).ok();
        copy(&pair.key, &dir.join("client.key"));
        let (cert, key) = (dir.join("client.cert"), dir.join("client.key"));
        let wanted = format!(
            "cause: `{}` is not the key of `{}`\nhelp: put the key with which that certificate was asked for beside it",
            key.display(),
            cert.display()
        );
        let wanted = wanted.replace(&registry.address, "HOST");
        for certificate in [old.certificate, authority.issue("again", HERE, NOW).certificate] {
            copy(&certificate, &cert);
            world.give();
            assert_eq!(crate::transport::told(pull(&world, &name, &[]), &registry), wanted);
        }
        // None at all, and a damaged authority: all that is this machine's, not the command's.
        fs::remove_file(key).unwrap();
        let text = pull(&world, &name, &[]).failed(3);
        assert!(text.contains("an authority's certificate ends in `.crt`"), "{text}");
        fs::write(dir.join("ca.crt"), "nothing").unwrap();
        world.give();
        let text = pull(&world, &name, &[]).failed(3);
        let wanted = format!("`{}` holds no certificate\n", dir.join("ca.crt").display());
        assert!(text.contains(&wanted), "{text}");
    }
}

#[test]
fn registries_conf_says_where_a_name_leads() {
    for world in worlds() {
        let registry = Registry::start(&world);
        let host = registry.address.clone();
        let digest = fill(&world, &format!("{host}/there/app:1"), &[]);
        let conf = |text: &str| {
            let dir = world.path(".config/containers");
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("registries.conf"), text.replace("HOST", &host)).unwrap();
            world.give();
        };
        // The name stays; nobody listens on port 1.
        conf("[[registry]]\nprefix = \"company.invalid/team\"\nlocation = \"HOST/there\"\n");
        pull(&world, "company.invalid/team/app:1", &[]).ok();
        assert!(world.run(["image", "ls"]).ok().contains("company.invalid/team/app:1"));
        let pushed = ["--push", "-t", "company.invalid/team/pushed:1"];
        world.build("FROM scratch\nCOPY Dockerfile /p\n", &pushed).ok();
        pull(&world, &format!("{host}/there/pushed:1"), &[]).ok();
        // A repository beside it takes the blobs from there, by the names that the registry knows.
        let beside = ["--push", "-t", "company.invalid/team/x:1", "-t", "company.invalid/team/y:1"];
        world.build("FROM scratch\nCOPY Dockerfile /q\n", &beside).ok();
        for name in ["x", "y"] {
            pull(&world, &format!("{host}/there/{name}:1"), &[]).ok();
            let tags = format!("docker://company.invalid/team/{name}");
            assert_eq!(world.run(["image", "ls-tags", &tags]).ok(), "1\n");
        }
        // A mirror, by tag and by digest only.
        let mirror = |more: &str| {
            conf(&format!(
                "[[registry]]\nlocation = \"127.0.0.1:1\"\n[[registry.mirror]]\nlocation = \"HOST/there\"\n{more}"
            ));
        };
        mirror("");
        pull(&world, "127.0.0.1:1/app:1", &[]).ok();
        world.run(["image", "rm", "127.0.0.1:1/app:1"]).ok();
        mirror("pull-from-mirror = \"digest-only\"\n");
        let text = pull(&world, "127.0.0.1:1/app:1", &[]).failed(3);
        assert!(text.contains("registry `127.0.0.1:1` cannot be reached"), "{text}");
        pull(&world, &format!("127.0.0.1:1/app@{digest}"), &[]).ok();
        // Blocked, and a mistake, which costs nobody anything who needs no registry.
        conf("\n[[registry]]\nlocation = \"HOST\"\nblocked = true\n");
        let said = pull(&world, &format!("{host}/there/app:1"), &[]);
        let file = world.path(".config/containers/registries.conf");
        let told = told(said, &registry);
        assert_eq!(
            told,
            format!(
                "cause: `HOST/there/app` is blocked\ncause: {}:2: `blocked = true` for `HOST`\nhelp: take the image from elsewhere, or change that file",
                file.display()
            )
        );
        conf("[[registry]]\nlocation = \"https://HOST\"\n");
        let text = pull(&world, &format!("{host}/there/app:1"), &[]).failed(3);
        let line = "registries.conf cannot be used";
        assert!(text.contains(line) && text.contains("leave out the scheme"), "{text}");
        // What the store has is of no help then, and was offered all the same.
        let text = pull(&world, "nowhere.invalid/app:1", &[]).failed(3);
        let help = "help: leave out the scheme; `insecure = true` allows http\n";
        assert!(text.ends_with(help) && text.matches("help:").count() == 1, "{text}");
        world
            .build(&format!("FROM {host}/there/app:1\nCOPY Dockerfile /e\n"), &["--pull=missing"])
            .ok();
        // Certificates are not checked where the file says so.
        let authority = Authority::new(&world, "authority");
        let secure = Registry::secure(&world, "secure", &authority.issue("s", HERE, NOW), "");
        let name = format!("{}/app:1", secure.address);
        conf(&format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", secure.address));
        fill(&world, &name, &[]);
        pull(&world, &name, &[]).ok();
    }
}

#[test]
fn a_proxy_is_used_unless_the_host_is_excepted() {
    for world in worlds() {
        let authority = Authority::new(&world, "authority");
        let registry = Registry::secure(&world, "registry", &authority.issue("s", HERE, NOW), "");
        let (name, trusted) = (format!("{}/app:1", registry.address), authority.certificate());
        let flags = ["--tls-ca", trusted.to_str().unwrap()];
        fill(&world, &name, &flags);
        let proxy = ConnectProxy::start();
        let url = format!("http://me:secret@{}", proxy.address);
        let connect = vec![format!("CONNECT {} HTTP/1.1", registry.address)];
        for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            pull_with(&world, &name, &flags, &[(variable, &url)]).ok();
            assert_eq!(proxy.take(), connect, "{variable}");
        }
        for except in ["127.0.0.0/8", "*", "localhost,127.0.0.1"] {
            for variable in ["NO_PROXY", "no_proxy"] {
                let both = [("HTTPS_PROXY", &*url), (variable, except)];
                pull_with(&world, &name, &flags, &both).ok();
                assert_eq!(proxy.take(), Vec::<String>::new(), "{variable}={except}");
            }
        }
        // It says no, and its password stays unsaid.
        for url in
            [format!("http://me:topsecret@{}", proxy.address), "http://me:topsecret@".to_owned()]
        {
            let said = pull_with(&world, &name, &flags, &[("HTTPS_PROXY", &url)]);
            assert_ne!(said.code, 0);
            assert!(!said.stderr.contains("topsecret"), "{}", said.stderr);
            assert!(said.stderr.contains("proxy"), "{}", said.stderr);
        }
        let said = pull_with(&world, &name, &flags, &[("HTTPS_PROXY", "socks5://127.0.0.1:1")]);
        assert!(said.failed(3).contains("cannot be reached"));
    }
}

/// kaniko says it by more flags: destinations and base images each have their own.
#[test]
fn an_output_may_say_that_its_registry_is_insecure() {
    for world in worlds() {
        let authority = Authority::new(&world, "authority");
        let registry = Registry::secure(&world, "registry", &authority.issue("s", HERE, NOW), "");
        let output = |more: &str| format!("type=registry,name={}/app:1{more}", registry.address);
        let build =
            |more: &str| world.build("FROM scratch\nCOPY Dockerfile /d\n", &["-o", &output(more)]);
        assert!(build("").failed(3).contains("unknown authority"));
        assert!(build(",registry.insecure=false").failed(3).contains("unknown authority"));
        build(",registry.insecure=true").ok();
        let text = build(",registry.insecure=perhaps").failed(2);
        assert!(text.contains("registry.insecure"), "{text}");
    }
}

#[test]
fn kaniko_may_trust_what_it_is_told_to() {
    for world in worlds() {
        let authority = Authority::new(&world, "authority");
        let registry = Registry::secure(&world, "registry", &authority.issue("s", HERE, NOW), "");
        let name = format!("{}/app:1", registry.address);
        let context = world.context();
        let kaniko = |dockerfile: &str, flags: &[&str]| {
            world.file("Dockerfile", dockerfile);
            let fixed = ["kaniko-executor", "-c", context.to_str().unwrap()];
            world.run([&fixed[..], flags].concat())
        };
        let scratch = "FROM scratch\nCOPY Dockerfile /d\n";
        assert!(kaniko(scratch, &["-d", &name]).failed(3).contains("unknown authority"));
        kaniko(scratch, &["-d", &name, "--skip-tls-verify"]).ok();
        let upon = format!("FROM {name}\nCOPY Dockerfile /e\n");
        world.run(["image", "rm", &name]).ok();
        assert!(
            kaniko(&upon, &["--no-push", "--insecure"]).failed(3).contains("unknown authority")
        );
        for flags in
            [["--insecure-pull", "--no-push"], ["--skip-tls-verify-pull=true", "--no-push"]]
        {
            kaniko(&upon, &flags).ok();
        }
        let host = ["--no-push", "--skip-tls-verify-registry", &registry.address];
        kaniko(&upon, &host).ok();
        // By certificates for one registry, and for one that wants ours.
        world.run(["image", "rm", &name]).ok();
        let trusted = authority.certificate();
        let clients = format!(", clientcas: ['{}']", trusted.display());
        let pair = authority.issue("server", HERE, NOW);
        let strict = Registry::secure(&world, "strict", &pair, &clients);
        let ours = authority.issue("ours", "DNS:client", NOW);
        world.give();
        let authorities = format!("{}={}", strict.address, trusted.display());
        let (file, key) = (ours.certificate.display(), ours.key.display());
        let own = format!("{}={file},{key}", strict.address);
        let name = format!("{}/app:1", strict.address);
        let known = ["-d", &name, "--registry-certificate", &authorities];
        let text = kaniko(scratch, &known).failed(3);
        assert!(text.contains("asks for a client certificate"), "{text}");
        kaniko(scratch, &[&known[..], &["--registry-client-cert", &own]].concat()).ok();
        let other = format!("other.invalid={}", trusted.display());
        let text = kaniko(scratch, &["-d", &name, "--registry-certificate", &other]).failed(3);
        assert!(text.contains("unknown authority"), "{text}");
        let bad = ["-d", &name, "--registry-client-cert", "host=file"];
        let wanted = "error: `--registry-client-cert host=file` names no host and two files\nhelp: write `HOST[:PORT]=CERTIFICATE,KEY`\n";
        assert_eq!(kaniko(scratch, &bad).failed(2), wanted);
    }
}
