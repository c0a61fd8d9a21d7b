//! Options that people paste from other builders: those that mean something here, and those that only look so.

use crate::support::{World, copy_program, is_root, program};
use std::fs;

#[test]
fn names_limits_and_shared_memory_are_those_that_were_asked_for() {
    let dockerfile = "FROM base
RUN cat /etc/hosts > /hosts; df -k /dev/shm | awk 'END { print $2 }' > /shm
RUN echo $(ulimit -n) $(ulimit -Hn) $(ulimit -c) > /limits
";
    for world in World::each() {
        let world = world.with_base();
        let args = [
            "--add-host=a;b:10.0.0.1",
            "--add-host",
            "c=[::2]",
            "--shm-size=1m",
            "--ulimit",
            "nofile=64:65",
            "--ulimit=core=0",
        ];
        let root = world.path("out/root");
        let output = format!("type=local,dest={}", root.display());
        world.build(dockerfile, &[&args[..], &["-o", &output]].concat()).ok();
        let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
        assert_eq!(
            read("hosts"),
            "127.0.0.1\tlocalhost buildkitsandbox
::1\tlocalhost ip6-localhost ip6-loopback
10.0.0.1\ta
10.0.0.1\tb
::2\tc
"
        );
        assert_eq!((read("shm"), read("limits")), ("1024\n".to_owned(), "64 65 0\n".to_owned()));
        // Names count for the cache, their addresses do not.
        let changed = |from: &str, to: &str| {
            let args = args.map(|arg| arg.replace(from, to));
            world.build(dockerfile, &args.each_ref().map(String::as_str)).cached()
        };
        assert_eq!(changed("10.0.0.1", "10.0.0.9"), 2);
        assert_eq!(changed("a;b", "a;z"), 0);
        assert_eq!(changed("1m", "2m"), 0);
        assert_eq!(changed("64:65", "63:65"), 0);
    }
}

#[test]
fn a_limit_that_may_not_be_raised_is_told_before_anything_is_built() {
    let Some(world) = World::user() else { return };
    let said = world.build("FROM scratch\n", &["--ulimit", "rtprio=99"]);
    assert_eq!(
        said.failed(3),
        "error: cannot raise the limit `rtprio` to what `rtprio=99` says
 cause: this user's hard limit is 0
help: only root may raise it; `ulimit -H` shows it
"
    );
}

#[test]
fn only_the_stages_that_are_named_ignore_the_cache() {
    let dockerfile = "FROM base AS one\nRUN echo 1\nFROM base AS two\nRUN echo 2\nFROM base
COPY --from=one /etc /a\nCOPY --from=two /etc /b\n";
    let world = World::new().with_base();
    world.build(dockerfile, &[]).ok();
    assert_eq!(world.build(dockerfile, &[]).cached(), 4);
    let said = world.build(dockerfile, &["--no-cache-filter", "ONE,three"]);
    assert_eq!((said.cached(), said.done()), (3, 1), "{}", said.stderr);
    assert!(said.stderr.contains("warning: `--no-cache-filter` names no stage: `three`\n"));
}

#[test]
fn a_push_that_cannot_be_is_refused_before_anything_is_built() {
    let world = World::new().with_base();
    for args in [vec!["--push"], vec!["-o", "type=registry"], vec!["--output=type=image,push=true"]]
    {
        let said = world.build("FROM base\nRUN echo no\n", &args);
        assert_eq!(
            said.failed(2),
            "error: there is no name to push the image under\nhelp: name the image with `--tag REGISTRY/NAME:TAG`\n"
        );
    }
    let said = world.build("FROM base\nRUN echo no\n", &["--push", "-t", "127.0.0.1:1/a"]);
    assert_eq!(
        said.failed(3),
        "error: cannot push `127.0.0.1:1/a:latest`
 cause: registry `127.0.0.1:1` cannot be reached
 cause: GET http://127.0.0.1:1/v2/: connection refused
help: check the name of the registry, the network and the proxy settings\n"
    );
    assert_eq!(world.build("FROM base\n", &["--push=false"]).code, 0);
}

#[test]
fn an_output_gives_the_image_its_names_and_annotations() {
    let world = World::new().with_base();
    let spec = "type=image,name=a:1\\,b,annotation.k=v";
    world.build("FROM base\n", &["-t", "b", "-o", spec]).ok();
    let names = world.run(["image", "ls"]).ok();
    assert_eq!(names.lines().count(), 4, "{names}");
    let inspected = world.run(["image", "inspect", "--json", "a:1"]).ok();
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected["manifest"]["annotations"]["k"], "v");
}

#[test]
fn podmans_file_names_are_known_and_dockers_come_first() {
    let world = World::new().with_base();
    world.file("Containerfile", "FROM base\nCOPY . /c\n").file(".containerignore", "no\n");
    world.file("no", "").file("yes", "");
    let context = world.context();
    let context = context.to_str().unwrap();
    let build = |args: &[&str]| world.run([&["build", "-t", "app"], args, &[context]].concat());
    let copied = |world: &World| {
        let all = world.listing("app");
        let lines = all.iter().filter(|line| line.starts_with("c/"));
        lines.map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    build(&[]).ok();
    assert_eq!(copied(&world), ["c/.containerignore", "c/Containerfile", "c/yes"]);
    world.file(".dockerignore", "yes\n.*\nC*\n");
    build(&[]).ok();
    assert_eq!(copied(&world), ["c/no"]);
    fs::write(world.path("other"), ".*\nC*\n").unwrap();
    world.give();
    build(&["--ignorefile", "other"]).ok();
    assert_eq!(copied(&world), ["c/no", "c/yes"]);
    world.file("Dockerfile", "FROM base\nCOPY no /c/\n");
    build(&[]).ok();
    assert_eq!(copied(&world), ["c/no"]);
}

#[test]
fn kanikos_executor_understands_its_options() {
    let world = World::new().with_base();
    world.file("sub/Dockerfile", "FROM base\nARG A\nRUN echo $A > /a\n");
    let context = format!("dir://{}", world.context().display());
    let (tar, digests) = (world.path("out/image.tar"), world.path("out/names"));
    let args = [
        "--context",
        &context,
        "--context-sub-path=sub",
        "--destination",
        "example.com/app:1",
        "-d=other",
        "--build-arg",
        "A=b",
        "--tar-path",
        tar.to_str().unwrap(),
        "--image-name-tag-with-digest-file",
        digests.to_str().unwrap(),
        "--reproducible",
        "--no-push",
        "--snapshot-mode=redo",
        "--single-snapshot",
        "--cleanup=true",
        "--cache=false",
    ];
    let said = world.run([&["kaniko-executor"], &args[..]].concat());
    let warning = "warning: `--single-snapshot` has no effect: every step keeps its layer\n";
    assert!(said.stderr.starts_with(warning), "{}", said.stderr);
    let digest = said.ok();
    assert_eq!(
        fs::read_to_string(&digests).unwrap(),
        format!("example.com/app:1@{digest}docker.io/library/other:latest@{digest}")
    );
    assert_eq!(world.run(["image", "validate", tar.to_str().unwrap()]).ok(), "valid\n");
    assert_eq!(world.config("example.com/app:1")["created"], "1970-01-01T00:00:00Z");
    let executor = world.path("out/executor");
    copy_program(program(), &executor);
    world.give();
    let again = crate::support::Said::of(world.command(&executor).args(args).output().unwrap());
    assert_eq!(again.cached(), 0, "{}", again.stderr);
    assert_eq!(again.ok(), digest);
    assert_eq!(
        world.run(["kaniko-executor", "-c", &context]).failed(2),
        "error: there is no `--destination`\nhelp: or use `--no-push`\n"
    );
    assert_eq!(
        world.run(["kaniko-executor", "-c", "s3://bucket/x", "--no-push"]).failed(3),
        "error: not yet supported: `--context s3://…`\nhelp: fetch it and name the directory\n"
    );
}

#[test]
fn the_definition_of_the_command_line_gives_completions_and_manual_pages() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(world.run(["completion", shell]).ok().contains("no-cache-filter"), "{shell}");
    }
    let version = world.run(["version"]).ok();
    assert_eq!(version, world.run(["--version"]).ok());
    assert!(world.run(["man"]).ok().contains("nativebuild\\-build(1)"));
    assert!(world.run(["man", "image", "ls"]).ok().contains(".SH NAME\nnativebuild\\-image\\-ls"));
    world.run(["man", "debug"]).failed(2);
    let pages = world.path("out/man");
    world.run(["man", "--directory", pages.to_str().unwrap()]).ok();
    assert!(
        pages.join("nativebuild-build.1").is_file() && !pages.join("nativebuild-debug.1").exists()
    );
    assert!(is_root() || pages.is_dir());
}
