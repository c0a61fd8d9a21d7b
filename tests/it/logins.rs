//! `login`, `logout`, and what builds do with logins: against Debian's docker-registry with passwords and with tokens, in
//! the files that podman, skopeo and docker write and read, and with programs that keep logins.

use crate::support::http::{Page, Web};
use crate::support::leaks::leaks;
use crate::support::registry::{LOGIN, Registry};
use crate::support::tokens::{IDENTITY, Tokens};
use crate::support::{Said, World, peer, program, write_program};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

const PASSWORD: &str = "pass:word";
/// [`LOGIN`] in base64.
const ENCODED: &str = "bWU6cGFzczp3b3Jk";

fn worlds(needs: &[&str]) -> Vec<World> {
    let all = ["docker-registry", "skopeo", "perl"];
    if all.iter().chain(needs).any(|need| !peer(need)) { Vec::new() } else { World::each() }
}

/// The program with this on standard input.
fn feed(world: &World, args: &[&str], input: &str, set: &[(&str, &str)]) -> Said {
    let mut command = world.command(program());
    command.args(args).envs(set.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    Said::of(child.wait_with_output().unwrap())
}

fn run(world: &World, args: &[&str], set: &[(&str, &str)]) -> Said {
    feed(world, args, "", set)
}

/// Puts an image into a registry that knows [`LOGIN`]; gives its name.
fn publish(world: &World, registry: &Registry, name: &str) -> String {
    world
        .build(&format!("FROM scratch\nLABEL name={name}\nCOPY Dockerfile /\n"), &["-t", "one"])
        .ok();
    let (tar, name) = (world.path("one.tar"), format!("{}/{name}", registry.address));
    world.run(["image", "save", "one", "-o", tar.to_str().unwrap()]).ok();
    let mut copy = Command::new("skopeo");
    copy.args(["copy", "--quiet", "--dest-tls-verify=false", "--dest-creds", LOGIN]);
    let copy = copy.arg(format!("oci-archive:{}", tar.display())).arg(format!("docker://{name}"));
    Said::of(copy.output().unwrap()).ok();
    fs::remove_file(tar).unwrap();
    name
}

fn build(world: &World, base: &str, args: &[&str], set: &[(&str, &str)]) -> Said {
    world.file("Dockerfile", format!("FROM {base}\nCOPY Dockerfile /again\n"));
    let context = world.context();
    let fixed = ["build", "--progress", "plain"];
    run(world, &[&fixed, args, &[context.to_str().unwrap()]].concat(), set)
}

/// Nothing of a login is in the store or the outputs.
#[track_caller]
fn expect_no_leak(world: &World, said: &[&str]) {
    for needle in [PASSWORD, ENCODED, IDENTITY] {
        assert_eq!(leaks(world, needle), Vec::<String>::new());
        for text in said {
            assert!(!text.contains(needle), "{needle} in {text}");
        }
    }
}

#[test]
fn a_login_is_checked_kept_used_and_forgotten() {
    for world in worlds(&[]) {
        let registry = Registry::with_password(&world);
        let name = publish(&world, &registry, "team/app:1");
        let host = registry.address.as_str();
        let file = world.path(".docker/config.json");
        let text = build(&world, &name, &[], &[]).failed(3);
        assert!(text.contains("there is no login for it in `"), "{text}");
        assert!(text.contains(&format!("`{}`", file.display())), "{text}");
        let login = ["login", "-u", "me", "--password-stdin", host];
        let text = feed(&world, &login, "wrong\n", &[]).failed(3);
        let wanted = format!(
            "error: registry `{host}` refuses the login\n cause: GET http://{host}/v2/: status 401: UNAUTHORIZED (authentication required)\n\
             help: check the name and the password; some registries want a token in its place\n"
        );
        assert_eq!(text, wanted);
        assert!(!file.exists());
        let said = feed(&world, &login, &format!("{PASSWORD}\n"), &[]);
        let shown = file.display();
        let wanted = format!("the login for {host} is kept in `{shown}`\nLogin Succeeded!\n");
        assert_eq!(
            (said.code, said.stdout.as_str(), said.stderr.as_str()),
            (0, "", wanted.as_str())
        );
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
        let kept = fs::read_to_string(&file).unwrap();
        let wanted = format!(
            "{{\n\t\"auths\": {{\n\t\t\"{host}\": {{\n\t\t\t\"auth\": \"{ENCODED}\"\n\t\t}}\n\t}}\n}}\n"
        );
        assert_eq!(kept, wanted);
        assert_eq!(run(&world, &["login", "--get-login", host], &[]).ok(), "me\n");
        // Builds, packages and pushes find it.
        let made = format!("{host}/made:1");
        let tar = world.path("out/made.tar");
        let output = format!("type=oci,dest={}", tar.display());
        let said = build(&world, &name, &["-t", &made, "--push", "-o", &output], &[]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        let cache = world.path(".linuxkit");
        run(&world, &["cache", "pull", &name], &[]).ok();
        assert!(cache.exists());
        // Other tools read what we wrote.
        let reader = file.to_str().unwrap();
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["inspect", "--raw", "--tls-verify=false", "--authfile", reader]);
        Said::of(skopeo.arg(format!("docker://{made}")).output().unwrap()).ok();
        expect_no_leak(&world, &[&said.stdout, &said.stderr]);
        let said = run(&world, &["logout", host], &[]);
        assert_eq!(said.stderr, format!("removed the login for {host} from `{shown}`\n"));
        assert_eq!(fs::read_to_string(&file).unwrap(), "{\n\t\"auths\": {}\n}\n");
        assert_eq!(
            run(&world, &["logout", host], &[]).stderr,
            format!("not logged in to {host}\n")
        );
        let text = run(&world, &["login", "--get-login", host], &[]).failed(3);
        assert_eq!(
            text,
            format!("error: not logged in to {host}\nhelp: `nativebuild login {host}`\n")
        );
        build(&world, &name, &["--pull", "--no-cache"], &[]).failed(3);
        // Another one that comes before it is told, and what takes that away.
        let before = world.path(".config/containers/auth.json");
        fs::create_dir_all(before.parent().unwrap()).unwrap();
        let other = r#"{"auths": {"HOST": {"auth": "YTpi"}}}"#.replace("HOST", host);
        fs::write(&before, other).unwrap();
        world.give();
        let given = format!("{host}=you:x");
        let set = [("NATIVEBUILD_REGISTRY_CREDS", given.as_str())];
        let removes = format!("`nativebuild logout {host}` removes all");
        for (set, who, remedy) in [
            (&set[..0], "a", removes.as_str()),
            (&set[..], "you", "NATIVEBUILD_REGISTRY_CREDS has it"),
        ] {
            let said = feed(&world, &login, PASSWORD, set);
            let wanted = format!(
                "warning: another login for {host} comes before it, that of `{who}`: {remedy}\n"
            );
            assert!(said.code == 0 && said.stderr.ends_with(&wanted), "{}", said.stderr);
        }
    }
}

#[test]
fn what_podman_and_skopeo_wrote_is_read() {
    for world in worlds(&["podman"]) {
        let registry = Registry::with_password(&world);
        let name = publish(&world, &registry, "team/app:1");
        let host = registry.address.as_str();
        for tool in ["podman", "skopeo"] {
            for key in [host, &format!("{host}/team"), &format!("{host}/team/app")] {
                let file = world.path("auth.json");
                let path = file.to_str().unwrap();
                let mut login = Command::new(tool);
                login.args(["login", "--tls-verify=false", "-u", "me", "-p", PASSWORD]);
                Said::of(login.args(["--authfile", path, key]).output().unwrap()).ok();
                world.give();
                build(&world, &name, &["--pull", "--authfile", path], &[]).ok();
                build(&world, &name, &["--pull"], &[("REGISTRY_AUTH_FILE", path)]).ok();
                run(&world, &["cache", "pull", "--authfile", path, &name], &[]).ok();
                let said = run(&world, &["logout", "--authfile", path, key], &[]);
                assert_eq!(said.stderr, format!("removed the login for {key} from `{path}`\n"));
                build(&world, &name, &["--pull", "--no-cache", "--authfile", path], &[]).failed(3);
                fs::remove_file(file).unwrap();
            }
        }
        // The places without a name, podman's before docker's.
        fs::create_dir_all(world.path("run/containers")).unwrap();
        world.give();
        let session = world.path("run");
        let set = [("XDG_RUNTIME_DIR", session.to_str().unwrap())];
        let login = ["login", "-u", "me", "--password-stdin", host];
        feed(&world, &login, PASSWORD, &set).ok();
        let auth = fs::read_to_string(world.path("run/containers/auth.json")).unwrap();
        assert!(auth.contains(ENCODED));
        let bad = r#"{"auths": {"HOST": {"auth": "YTpi"}}}"#.replace("HOST", host);
        fs::create_dir_all(world.path(".docker")).unwrap();
        fs::write(world.path(".docker/config.json"), bad).unwrap();
        world.give();
        build(&world, &name, &["--pull"], &set).ok();
        let text = build(&world, &name, &["--pull", "--no-cache"], &[]).failed(3);
        let path = world.path(".docker/config.json");
        assert!(text.contains(&format!("the login is from `{}`", path.display())), "{text}");
        // What is given counts more than any file, and the command line most.
        let good = format!("{host}={LOGIN}");
        let wrong = format!("x=y:z\n{host}=me:wrong");
        build(&world, &name, &["--pull"], &[("NATIVEBUILD_REGISTRY_CREDS", &good)]).ok();
        let set = [("NATIVEBUILD_REGISTRY_CREDS", wrong.as_str())];
        let text = build(&world, &name, &["--pull", "--no-cache"], &set).failed(3);
        assert!(text.contains("the login was given on the command line or in the environment"));
        build(&world, &name, &["--pull", "--registry-creds", &good], &set).ok();
        // A login that is not the first is told.
        let said = feed(
            &world,
            &["login", "-u", "you", "-p", "x", "--authfile", "/dev/null", "gone.invalid"],
            "",
            &[],
        );
        assert!(said.failed(3).starts_with("warning: others on this machine can see the password"));
    }
}

#[test]
fn tokens_are_fetched_for_a_password_and_for_an_identity() {
    for world in worlds(&["openssl"]) {
        let (tokens, registry) = Tokens::start(&world);
        let host = registry.address.as_str();
        let name = publish(&world, &registry, "team/app:1");
        tokens.log();
        let login = ["login", "-u", "me", "--password-stdin", host];
        let text = feed(&world, &login, "wrong", &[]).failed(3);
        let wanted = format!(
            "error: registry `{host}` refuses the login\n cause: GET http://{}/token?…: status 401: incorrect username or password\n",
            tokens.address()
        );
        assert!(text.starts_with(&wanted), "{text}");
        feed(&world, &login, PASSWORD, &[]).ok();
        let log = tokens.log();
        let question = log.last().unwrap();
        assert_eq!(
            (question.method.as_str(), question.path.as_str()),
            ("GET", "/token?service=the-service")
        );
        assert_eq!(question.authorization, format!("Basic {ENCODED}"));
        let made = format!("{host}/made:1");
        let said = build(&world, &name, &["--pull", "-t", &made, "--push"], &[]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        let asked: Vec<String> = tokens.log().into_iter().map(|question| question.path).collect();
        assert!(
            asked.iter().any(|path| path.ends_with("&scope=repository%3Ateam%2Fapp%3Apull")),
            "{asked:?}"
        );
        // Nothing is asked for that is not needed.
        assert!(
            asked.iter().all(|path| !path.contains("delete") && !path.contains('*')),
            "{asked:?}"
        );
        run(&world, &["logout", host], &[]).ok();
        build(&world, &name, &["--pull", "--no-cache"], &[]).failed(3);
        tokens.log();
        // An identity token, for one repository only.
        let text = format!(
            r#"{{"auths": {{"{host}/team": {{"auth": "bWU6", "identitytoken": "{IDENTITY}"}}, "{host}": {{"identitytoken": "other"}}}}}}"#
        );
        let file = world.path("auth.json");
        fs::write(&file, text).unwrap();
        world.give();
        let path = file.to_str().unwrap();
        let said = build(&world, &name, &["--pull", "--authfile", path], &[]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        let log = tokens.log();
        let question = &log[0];
        assert_eq!((question.method.as_str(), question.path.as_str()), ("POST", "/token"));
        assert_eq!(question.authorization, "");
        assert_eq!(
            question.body,
            "grant_type=refresh_token&client_id=nativebuild&service=the-service&scope=repository%3Ateam%2Fapp%3Apull&refresh_token=identity%2Ftoken%2B1"
        );
        let text =
            build(&world, &made, &["--pull", "--no-cache", "--authfile", path], &[]).failed(3);
        assert!(text.contains("status 401: no such token"), "{text}");
        assert!(text.contains(&format!("the login is from `{path}`")), "{text}");
        expect_no_leak(&world, &[&said.stdout, &said.stderr, &text]);
    }
}

/// Puts a program into a directory of the world that comes first in PATH; gives that PATH.
fn helper(world: &World, name: &str, script: &str) -> String {
    let bin = world.path("bin");
    fs::create_dir_all(&bin).unwrap();
    let path = bin.join(format!("docker-credential-{name}"));
    write_program(&path, &format!("#!/bin/sh\n{script}\n"));
    world.give();
    format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())
}

#[test]
fn programs_that_keep_logins_are_asked() {
    const SCRIPT: &str = r#"here=$(dirname "$0"); question=$(cat); echo "$*" >> "$here/arguments"
case "$1" in
get) [ -e "$here/kept" ] && cat "$here/kept" && exit; echo "credentials not found in native keychain"; exit 1 ;;
store) echo "$question" > "$here/kept" ;;
erase) rm "$here/kept" ;;
esac"#;
    for world in worlds(&[]) {
        let registry = Registry::with_password(&world);
        let name = publish(&world, &registry, "team/app:1");
        let host = registry.address.as_str();
        let path = helper(&world, "test", SCRIPT);
        let file = world.path(".docker/config.json");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let config = format!(
            "{{\n  \"credHelpers\": {{ \"{host}\": \"test\" }},\n  \"detachKeys\": \"ctrl-x\"\n}}"
        );
        fs::write(&file, &config).unwrap();
        world.give();
        let set = [("PATH", path.as_str())];
        build(&world, &name, &[], &set).failed(3);
        let login = ["login", "-u", "me", "--password-stdin", host];
        let said = feed(&world, &login, PASSWORD, &set);
        assert_eq!(
            said.stderr,
            format!("the login for {host} is kept in `docker-credential-test`\nLogin Succeeded!\n")
        );
        let text = fs::read_to_string(&file).unwrap();
        let entry = format!(",\n  \"auths\": {{\n    \"{host}\": {{}}\n  }}\n}}");
        assert_eq!(text, config.strip_suffix("\n}").unwrap().to_owned() + &entry);
        let said = build(&world, &name, &[], &set);
        assert_eq!(said.code, 0, "{}", said.stderr);
        assert_eq!(run(&world, &["login", "--get-login", host], &set).ok(), "me\n");
        let said = run(&world, &["logout", "--all"], &set);
        assert_eq!(
            said.stderr,
            format!("removed the login for {host} from `docker-credential-test`\n")
        );
        // No secret was an argument.
        let arguments = fs::read_to_string(world.path("bin/arguments")).unwrap();
        assert!(arguments.lines().all(|line| ["get", "store", "erase"].contains(&line)));
        // A program that cannot.
        helper(&world, "test", "echo 'the vault is closed' >&2; exit 7");
        let text = build(&world, &name, &["--pull", "--no-cache"], &set).failed(3);
        let wanted =
            format!("`docker-credential-test` failed for `{host}`\n cause: the vault is closed\n");
        assert!(text.contains(&wanted), "{text}");
        let text = build(&world, &name, &["--pull", "--no-cache"], &[]).failed(3);
        assert!(
            text.contains("the credential helper `docker-credential-test` is not in PATH"),
            "{text}"
        );
        expect_no_leak(&world, &[&text]);
    }
}

#[test]
fn files_are_read_when_a_registry_asks_and_a_damaged_one_is_named() {
    for world in worlds(&[]) {
        let registry = Registry::with_password(&world);
        let name = publish(&world, &registry, "team/app:1");
        let file = world.path("auth.json");
        fs::write(&file, "{\n  \"auths\": {\n    \"x\": secret\n  }\n}\n").unwrap();
        world.give();
        let path = file.to_str().unwrap();
        // Nobody asks here.
        build(&world, "scratch", &["--authfile", path], &[]).ok();
        build(&world, "one", &["--authfile", path], &[]).ok();
        let text = build(&world, &name, &["--authfile", path], &[]).failed(3);
        let wanted = format!(
            "the file with logins `{path}` is damaged\n cause: line 3: it is no JSON: expected value\n"
        );
        assert!(text.contains(&wanted), "{text}");
        assert!(!text.contains("secret"), "{text}");
        let login =
            ["login", "-u", "me", "--password-stdin", "--authfile", path, &registry.address];
        let text = feed(&world, &login, PASSWORD, &[]).failed(3);
        assert!(
            text.starts_with(&format!("error: the file with logins `{path}` is damaged")),
            "{text}"
        );
        let text = build(&world, &name, &["--authfile", "/nonexistent"], &[]).failed(2);
        assert!(text.starts_with("error: there is no file `/nonexistent`\n"), "{text}");
    }
}

/// What DOCKER_CONFIG names was passed over with a warning that only pulls and pushes printed.
#[test]
fn a_file_that_a_variable_names_must_be_readable() {
    for world in worlds(&[]) {
        let registry = Registry::start(&world);
        let name = publish(&world, &registry, "team/app:1");
        let image = format!("docker://{name}");
        let digest = ["image", "digest", "--tls-verify=false", &image];
        let dir = world.path("docker");
        fs::create_dir(&dir).unwrap();
        world.give();
        let set = [("DOCKER_CONFIG", dir.to_str().unwrap())];
        run(&world, &digest, &set).ok();
        // Not even root can read this.
        fs::create_dir(dir.join("config.json")).unwrap();
        world.give();
        let private = Registry::with_password(&world);
        let asked = format!("docker://{}/x", private.address);
        let text = run(&world, &["image", "digest", &asked], &set).failed(3);
        let file = dir.join("config.json");
        let wanted = format!(
            "error: cannot look up `{}/x:latest`\n cause: cannot read the logins in `{}`\n cause: is a directory\nhelp: make it readable, or change what names it: \
             `--authfile`, REGISTRY_AUTH_FILE (a file) or DOCKER_CONFIG (a directory)\n",
            private.address,
            file.display()
        );
        assert_eq!(text, wanted);
        let set = [("REGISTRY_AUTH_FILE", dir.to_str().unwrap())];
        let text = run(&world, &["image", "digest", &asked], &set).failed(3);
        assert!(text.contains(&format!("cannot read the logins in `{}`", dir.display())), "{text}");
        // One that nobody named is told once by every command.
        let usual = world.path(".docker/config.json");
        fs::create_dir_all(&usual).unwrap();
        world.give();
        let wanted = format!(
            "warning: cannot read the logins in `{}`: is a directory; they are not used\n",
            usual.display()
        );
        for args in [
            &["image", "digest", &asked][..],
            &["image", "ls-tags", &asked],
            &["image", "copy", &asked, "oci:x"],
            &["login", "--get-login", &private.address],
            &["doctor", "registry", &private.address],
            &["cache", "pull", &asked[9..]],
        ] {
            let said = run(&world, args, &[]);
            assert_eq!(said.stderr.matches(&wanted).count(), 1, "{args:?}: {}", said.stderr);
        }
        let said = build(&world, &asked[9..], &["--pull"], &[]);
        assert_eq!(said.stderr.matches(&wanted).count(), 1, "{}", said.stderr);
    }
}

/// A login for a registry is none for files of that host.
#[test]
fn add_and_contexts_get_no_login_of_a_registry() {
    let world = World::new();
    let web = Web::start();
    let wants = Some(format!("Basic {ENCODED}"));
    web.put("/f", Page { wants, ..Page::new("x") });
    let url = web.url("/f");
    let host = url.strip_prefix("http://").unwrap().split('/').next().unwrap();
    let file = world.path("auth.json");
    fs::write(&file, format!(r#"{{"auths": {{"{host}": {{"auth": "{ENCODED}"}}}}}}"#)).unwrap();
    world.give();
    let path = file.to_str().unwrap();
    let creds = format!("{host}={LOGIN}");
    let flags = ["--authfile", path, "--registry-creds", &creds];
    world.build(&format!("FROM scratch\nADD {url} /\n"), &flags).failed(3);
    run(&world, &[&["build"], &flags[..], &[&url]].concat(), &[]).failed(3);
    assert!(web.log().iter().all(|line| line == "GET /f 401"));
}

#[test]
fn what_is_missing_is_asked_at_a_terminal_or_is_an_error() {
    let world = World::new();
    let usage = |args: &[&str]| run(&world, &[&["login"], args].concat(), &[]).failed(2);
    let text = usage(&["r.invalid"]);
    let wanted = "error: no terminal to ask for a name and a password\n\
                  help: write `nativebuild login -u NAME --password-stdin r.invalid < FILE`\n";
    assert_eq!(text, wanted);
    assert!(usage(&["-u", "me", "r.invalid"]).contains("no terminal to ask for a password"));
    assert!(
        usage(&["--password-stdin", "r.invalid"]).contains("`--password-stdin` needs `--username`")
    );
    assert!(
        usage(&["-u", "me", "--password-stdin", "r.invalid"]).contains("the password is empty")
    );
    assert!(usage(&["-u", "a:b", "-p", "x", "r.invalid"]).contains("has no colon"));
    assert!(
        usage(&["-u", "a", "-p", "x", "u:pw@h"])
            .starts_with("error: this is no name of a registry")
    );
    if !["docker-registry", "perl", "script"].into_iter().all(peer) {
        return;
    }
    let registry = Registry::with_password(&world);
    let typed = at_terminal(&world, &registry.address, &["me\n", "pass:wordd\x7f\n"]);
    assert!(typed.contains("Login Succeeded!"), "{typed}");
    assert!(!typed.contains("pass"), "{typed}");
    assert!(Path::new(&world.path(".docker/config.json")).exists());
    assert_eq!(run(&world, &["login", "--get-login", &registry.address], &[]).ok(), "me\n");
    // The login is still good.
    let said = run(&world, &["login", &registry.address], &[]);
    assert!(said.stderr.ends_with("Login Succeeded!\n"), "{}", said.stderr);
    run(&world, &["logout", "--all"], &[]).ok();
    let typed = at_terminal(&world, &registry.address, &["me\n", "pass\x03"]);
    assert!(typed.contains("interrupted") && !typed.contains("Succeeded"), "{typed}");
}

/// Logs in at a terminal, typing each answer when a question was asked; gives what the terminal showed.
fn at_terminal(world: &World, registry: &str, answers: &[&str]) -> String {
    let line = format!("{} login {registry}", program().display());
    let mut script = world.command("script");
    script.args(["--quiet", "--command", &line, "/dev/null"]);
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut shown = Vec::new();
    for answer in answers {
        let before = shown.len();
        while !shown[before..].ends_with(b": ") {
            let mut byte = [0];
            assert_eq!(screen.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&shown));
            shown.push(byte[0]);
        }
        keys.write_all(answer.as_bytes()).unwrap();
    }
    screen.read_to_end(&mut shown).unwrap();
    drop(keys);
    child.wait().unwrap();
    String::from_utf8(shown).unwrap()
}

#[test]
fn a_collection_of_images_uses_logins_and_mirrors_that_are_given() {
    for world in worlds(&[]) {
        let registry = Registry::with_password(&world);
        let name = publish(&world, &registry, "team/app:1");
        let host = registry.address.as_str();
        let (_, rest) = name.split_once('/').unwrap();
        world
            .file("Dockerfile", format!("FROM {name}\n"))
            .file("far", format!("FROM 127.0.0.1:1/{rest}\n"));
        let collect = |file: &str, given: &[&str]| {
            let file = world.context().join(file);
            let fixed = ["image", "prefetch", "-f", file.to_str().unwrap(), "-o", "collected"];
            run(&world, &[&fixed, given].concat(), &[])
        };
        let text = collect("Dockerfile", &[]).failed(3);
        assert!(text.contains("there is no login for it"), "{text}");
        let login = format!("{host}={LOGIN}");
        collect("Dockerfile", &["--registry-creds", &login]).ok();
        let mirror = format!("127.0.0.1:1=http://{host}");
        collect("far", &["--registry-creds", &login]).failed(3);
        collect("far", &["--registry-creds", &login, "--mirror", &mirror]).ok();
    }
}
