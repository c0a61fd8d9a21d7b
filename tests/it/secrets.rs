//! `RUN --mount=type=secret` and `type=ssh`: what a RUN sees of them, and that nothing else ever does.

use crate::support::leaks::leaks;
use crate::support::{Said, World, peer, program};
use std::fs;
use std::io::Read;
use std::process::{Child, Command};

/// Builds with a variable in the environment of the program.
fn build(world: &World, dockerfile: &str, args: &[&str], variable: (&str, &str)) -> Said {
    world.file("Dockerfile", dockerfile);
    let mut command = world.command(program());
    command.args(["build", "--progress", "plain"]).args(args).arg(world.context());
    Said::of(command.env(variable.0, variable.1).output().unwrap())
}

#[test]
fn a_secret_is_a_file_or_a_variable_of_its_run_alone() {
    for world in World::each() {
        let world = world.with_base();
        let file = world.path("secret");
        fs::write(&file, "from a file").unwrap();
        world.give();
        let source = format!("id=file,src={}", file.display());
        let dockerfile = "FROM base\nENV E=stage\n\
            RUN --mount=type=secret,id=file stat -c '%a %u:%g %F' /run/secrets/file && cat /run/secrets/file && echo\n\
            RUN --mount=type=secret,id=file,target=/a/b/c,mode=0644,uid=1,gid=2 stat -c '%a %u:%g' /a/b/c; ! echo > /a/b/c\n\
            RUN --mount=type=secret,id=token,env=E echo $E; test ! -e /run/secrets\n\
            RUN --mount=type=secret,id=token,env=F,target=/t echo $F $(cat /t)\n\
            RUN --mount=type=secret,id=gone test ! -e /run/secrets/gone\n\
            RUN --mount=type=secret,target=/x/token cat /x/token && echo; grep -c ' /x/token tmpfs' /proc/mounts\n\
            RUN echo $E; test ! -e /run/secrets -a ! -e /a -a ! -e /t -a ! -e /x\n";
        let said = build(
            &world,
            dockerfile,
            &["-t", "app", "--secret", &source, "--secret", "id=token,env=TOKEN"],
            ("TOKEN", "from a variable"),
        );
        assert_eq!(said.code, 0, "{}", said.stderr);
        let lines: Vec<&str> = said
            .stderr
            .lines()
            .filter_map(|line| line.strip_prefix('#')?.split_once(' '))
            .map(|(_, text)| text)
            .filter(|text| !text.contains("RUN ") && !text.starts_with("DONE"))
            .collect();
        assert_eq!(
            lines,
            [
                "400 0:0 regular file",
                "from a file",
                "644 1:2",
                "/bin/sh: can't create /a/b/c: Read-only file system",
                "from a variable",
                "from a variable from a variable",
                "from a variable",
                "1",
                "stage",
            ]
        );
        world.validate("app");
        let env = world.config("app")["config"]["Env"].to_string();
        assert!(env.contains("E=stage") && !env.contains("variable"), "{env}");
    }
}

#[test]
fn statement_61_a_secret_that_is_missing_is_an_error_only_when_it_is_required() {
    let world = World::new().with_base();
    let optional = "FROM base\nRUN --mount=type=secret,id=npm test ! -e /run/secrets && echo ran\n";
    let said = world.build(optional, &[]);
    assert!(said.stderr.contains("\n#1 ran\n"), "{}", said.stderr);
    said.ok();
    let said = world.build("FROM base\nRUN --mount=type=secret,id=npm,required true\n", &[]);
    assert_eq!(
        said.failed(2).split("error: ").nth(1).unwrap(),
        "secret npm: not found\n  --> Dockerfile:2:1\n   |\n 2 | RUN --mount=type=secret,id=npm,required true\n   | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\nhelp: give it with `--secret id=npm,src=FILE` or `--secret id=npm,env=NAME`\n"
    );
    let said = world.build("FROM base\nRUN --mount=type=ssh,required true\n", &[]);
    let text = said.failed(2);
    assert!(text.contains("error: ssh agent default: not found\n"), "{text}");
    assert!(text.contains("help: give it with `--ssh default`\n"), "{text}");
    world.build("FROM base\nRUN --mount=type=ssh test -z \"$SSH_AUTH_SOCK\"\n", &[]).ok();
}

#[test]
fn neither_a_secret_nor_a_key_is_in_any_key_but_their_names_are() {
    let world = World::new().with_base();
    let text =
        |id: &str| format!("FROM base\nRUN --mount=type=secret,id={id},env=S test -n \"$S\"\n");
    let run = |id: &str, value: &str| {
        let secret = format!("id={id},env=TOKEN");
        build(&world, &text(id), &["--secret", &secret], ("TOKEN", value))
    };
    assert_eq!(run("a", "1").done(), 1);
    assert_eq!(run("a", "2").cached(), 1);
    assert_eq!(run("b", "2").done(), 1);
    // What is cached needs no secret any more.
    assert_eq!(world.build(&text("a"), &[]).cached(), 1);
}

#[test]
fn statement_61_no_byte_of_a_secret_is_left_behind() {
    for world in World::each() {
        let world = world.with_base();
        let (in_file, in_env) = ("s3cret-in-a-file", "s3cret-in-a-variable");
        let outside = tempfile::tempdir().unwrap();
        let file = outside.path().join("s");
        fs::write(&file, in_file).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(outside.path(), mode).unwrap();
        let source = format!("id=file,src={}", file.display());
        let metadata = world.path("out/metadata.json");
        let archive = world.path("out/app.tar");
        let said = build(
            &world,
            "FROM base\n\
             RUN --mount=type=secret,id=file --mount=type=secret,id=token,env=E test -n \"$E\" && wc -c /run/secrets/file > /size\n\
             RUN --mount=type=secret,id=file cp /run/secrets/file /dev/shm/copy && false || true\n",
            &[
                "-t",
                "app",
                "--secret",
                &source,
                "--secret",
                "id=token,env=TOKEN",
                "--metadata-file",
                metadata.to_str().unwrap(),
                "-o",
                &format!("type=oci,dest={}", archive.display()),
            ],
            ("TOKEN", in_env),
        );
        for secret in [in_file, in_env] {
            assert!(!said.stderr.contains(secret) && !said.stdout.contains(secret));
            assert_eq!(leaks(&world, secret), Vec::<String>::new());
        }
        said.ok();
        // The search finds what there is to be found.
        assert!(!leaks(&world, "/run/secrets/file").is_empty());
    }
}

/// A process that ends with the test.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ended = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// An agent with one key; gives its socket and the key's public half.
fn agent(world: &World) -> (Agent, std::path::PathBuf, String) {
    let (key, socket) = (world.path("key"), world.path("agent"));
    let key = key.to_str().unwrap();
    let run = |program: &str, args: &[&str]| {
        let mut command = world.command(program);
        Said::of(command.args(args).env("SSH_AUTH_SOCK", &socket).output().unwrap()).ok()
    };
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", key]);
    let mut command = world.command("ssh-agent");
    let mut child = command
        .arg("-D")
        .arg("-a")
        .arg(&socket)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // It writes its variables when it listens.
    let mut line = [0; 1];
    child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    let agent = Agent(child);
    run("ssh-add", &["-q", key]);
    let public = fs::read_to_string(format!("{key}.pub")).unwrap();
    (agent, socket, public.split(' ').nth(1).unwrap().to_owned())
}

/// `ssh-add` of this machine with its libraries, in the context.
fn bring_ssh_add(world: &World) -> String {
    let found = |program: &str, args: &[&str]| {
        Said::of(Command::new(program).args(args).output().unwrap()).ok()
    };
    let path = found("sh", &["-c", "command -v ssh-add"]);
    let listed = found("ldd", &[path.trim()]);
    let mut loader = String::new();
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
    for library in libraries.chain([path.trim()]) {
        let name = library.rsplit('/').next().unwrap();
        if name.starts_with("ld-") {
            name.clone_into(&mut loader);
        }
        world.file(&format!("ssh/{name}"), fs::read(library).unwrap());
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(world.context().join("ssh").join(name), mode).unwrap();
    }
    format!("/ssh/{loader} --library-path /ssh /ssh/ssh-add")
}

#[test]
fn a_run_may_ask_the_agent_and_have_something_signed() {
    for world in World::each() {
        if !["ssh-agent", "ssh-add", "ssh-keygen", "ldd"].into_iter().all(peer) {
            return;
        }
        let world = world.with_base();
        let (_agent, socket, public) = agent(&world);
        let ssh_add = bring_ssh_add(&world);
        world.file("key.pub", fs::read(world.path("key.pub")).unwrap());
        let dockerfile = format!(
            "FROM base\nCOPY ssh /ssh\nCOPY key.pub /\n\
             RUN --mount=type=ssh echo $SSH_AUTH_SOCK; stat -c '%a %u:%g %F' $SSH_AUTH_SOCK; {ssh_add} -L; {ssh_add} -T /key.pub && echo signed; {ssh_add} -D && echo emptied || true\n\
             USER daemon\n\
             RUN --mount=type=ssh,id=key,uid=1,mode=0600,target=/s --mount=type=ssh test $SSH_AUTH_SOCK = /s && {ssh_add} -L\n\
             USER root\n\
             RUN test ! -e /run/buildkit -a ! -e /s\n"
        );
        let key = format!("key={}", world.path("key").display());
        let said = build(
            &world,
            &dockerfile,
            &["-t", "app", "--ssh", "default", "--ssh", &key],
            ("SSH_AUTH_SOCK", socket.to_str().unwrap()),
        );
        let text = &said.stderr;
        assert!(text.contains(" /run/buildkit/ssh_agent.0\n"), "{text}");
        assert!(text.contains(" 600 0:0 socket\n"), "{text}");
        assert!(text.contains(" signed\n") && !text.contains(" emptied\n"), "{text}");
        assert_eq!(text.matches(&public).count(), 2, "{text}");
        said.ok();
        world.validate("app");
        assert!(socket.exists());
        let private = fs::read_to_string(world.path("key")).unwrap();
        for line in private.lines().filter(|line| line.len() > 60) {
            assert_eq!(leaks(&world, line), Vec::<String>::new());
        }
        assert!(!leaks(&world, &public).is_empty());
    }
}
