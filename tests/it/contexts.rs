//! Where the files of a build come from: standard input, archives, URLs, repositories, and named contexts.

use crate::remote::repositories;
use crate::support::http::{Page, Web};
use crate::support::leaks::leaks;
use crate::support::{Said, Who, World, peer, program};
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

/// Builds with something on standard input.
fn with_stdin(world: &World, input: &[u8], args: &[&str]) -> Said {
    let mut command = world.command(program());
    command.args(["build", "--progress", "plain"]).args(args).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A program that fails early does not read all of it.
    let _closed = child.stdin.take().unwrap().write_all(input);
    Said::of(child.wait_with_output().unwrap())
}

fn tar_of(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o4755);
        header.set_uid(1234);
        header.set_gid(5);
        header.set_mtime(1_234_567_890);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

const FILES: [(&str, &str); 4] = [
    ("Dockerfile", "FROM scratch\nCOPY . /d/\n"),
    ("other/Dockerfile", "FROM scratch\nCOPY sub/f /f\n"),
    ("sub/f", "f\n"),
    (".dockerignore", "sub\n"),
];

fn packed(tar: &[u8], by: &str) -> Vec<u8> {
    let mut child = std::process::Command::new(by)
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(tar).unwrap();
    child.wait_with_output().unwrap().stdout
}

#[test]
fn a_context_comes_as_a_tar_of_any_compression() {
    for world in World::each() {
        let tar = tar_of(&FILES);
        let mut inputs = vec![tar.clone()];
        inputs.extend(
            ["gzip", "bzip2", "xz", "zstd"].iter().filter(|by| peer(by)).map(|by| packed(&tar, by)),
        );
        for input in inputs {
            with_stdin(&world, &input, &["-t", "app", "-"]).ok();
            // Ignore rules are the sender's business, owners nobody's.
            assert_eq!(
                world.listing("app"),
                [
                    "d dir 755 0:0 0",
                    "d/.dockerignore file 4755 0:0 4",
                    "d/Dockerfile file 4755 0:0 24",
                    "d/other dir 755 0:0 0",
                    "d/other/Dockerfile file 4755 0:0 27",
                    "d/sub dir 755 0:0 0",
                    "d/sub/f file 4755 0:0 2",
                ]
            );
            with_stdin(&world, &input, &["-t", "app", "-f", "other/Dockerfile", "-"]).ok();
            assert_eq!(world.listing("app"), ["f file 4755 0:0 2"]);
        }
        assert_eq!(
            fs::read_dir(world.store().join("tmp")).unwrap().count(),
            1,
            "only the staging directory"
        );
    }
}

#[test]
fn a_dockerfile_alone_has_an_empty_context() {
    let world = World::new();
    with_stdin(&world, b"FROM scratch\nLABEL a=b\n", &["-t", "app", "-"]).ok();
    assert_eq!(world.config("app")["config"]["Labels"]["a"], "b");
    let text = with_stdin(&world, b"FROM scratch\nCOPY a /\n", &["-"]).failed(1);
    assert!(text.contains("`a` is not in the build context"), "{text}");
    world.file("a", "a");
    let context = world.context();
    let context = context.to_str().unwrap();
    with_stdin(&world, b"FROM scratch\nCOPY a /\n", &["-t", "app", "-f", "-", context]).ok();
    assert_eq!(world.listing("app"), ["a file 644 0:0 1"]);
    with_stdin(&world, b"", &["-f", "-", "-"]).failed(2);
    with_stdin(&world, b"FROM scratch\n", &["-f", "Dockerfile", "-"]).failed(2);
}

#[test]
fn a_hostile_context_stays_inside() {
    let world = World::new();
    let outside = world.path("outside");
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "link", &outside).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(1);
    header.set_mode(0o644);
    tar.append_data(&mut header, "link/file", &b"x"[..]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "Dockerfile", "/etc/passwd").unwrap();
    let said = with_stdin(&world, &tar.into_inner().unwrap(), &["-"]);
    assert_ne!(said.code, 0);
    assert!(!outside.exists() && !said.stderr.contains("root:"), "{}", said.stderr);
}

/// Only what is copied is looked into.
#[test]
fn what_lies_beside_may_be_unreadable() {
    for world in World::each() {
        let world = world.with_base();
        world.file("a", "a").file("secret", "x").file("closed/x", "x");
        let close = |name: &str, mode| {
            fs::set_permissions(world.context().join(name), Permissions::from_mode(mode)).unwrap();
        };
        close("secret", 0);
        close("closed", 0);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            world.context().join("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let beside = "FROM base\nCOPY a b* /\nADD [a] /c\n\
            RUN --mount=type=bind,source=a,target=/m cat /a /m\n";
        world.build(beside, &["-t", "app"]).ok();
        world.validate("app");
        if world.who() == Who::User {
            for name in ["secret", "closed"] {
                let dockerfile = format!("FROM base\nCOPY {name} /x\n");
                let said = world.build(&dockerfile, &[]).failed(1);
                assert!(said.contains("Dockerfile:2:"), "{said}");
                assert!(said.contains(name) && said.contains("ermission denied"), "{said}");
            }
        }
        close("closed", 0o755);
    }
}

#[test]
fn a_context_comes_from_a_url_or_a_repository() {
    for world in World::each() {
        let web = Web::start();
        web.put("/c.tar", Page::new(tar_of(&FILES)));
        web.put("/Dockerfile", Page::new("FROM scratch\nLABEL a=url\n"));
        let build = |args: &[&str]| world.run([&["build", "-q", "-t", "app"], args].concat());
        build(&[&web.url("/c.tar")]).ok();
        assert_eq!(world.listing("app").len(), 7);
        build(&[&web.url("/Dockerfile")]).ok();
        assert_eq!(world.config("app")["config"]["Labels"]["a"], "url");
        assert!(build(&[&web.url("/gone")]).failed(1).contains("status 404"));
        if !peer("git") {
            return;
        }
        let (daemon, first, _work) = repositories();
        let url = format!("git://127.0.0.1:{}/work", daemon.port);
        world.file("df", "FROM scratch\nCOPY . /\n");
        let file = world.context().join("df");
        let text = fs::read(&file).unwrap();
        with_stdin(&world, &text, &["-t", "app", "-f", "-", &format!("{url}#{first}")]).ok();
        assert_eq!(
            world.listing("app"),
            [
                "link symlink 777 0:0 x.sh",
                "sub dir 755 0:0 0",
                "sub/s.txt file 644 0:0 2",
                "x.sh file 755 0:0 2"
            ]
        );
        // The commit's time is the context's.
        let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=context"];
        let below = format!("{url}#v1:sub");
        let args = [&["-t", "app", "-f", "-"], &epoch[..], &[&below]].concat();
        with_stdin(&world, &text, &args).ok();
        assert_eq!(world.config("app")["created"], "2021-05-01T00:00:00Z");
        let keep = ["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", "-t", "app", "-f", "-"];
        with_stdin(&world, &text, &[&keep[..], &[&format!("{url}#{first}")]].concat()).ok();
        assert!(world.listing("app").contains(&".git/HEAD file 644 0:0 41".to_owned()));
        let text = build(&["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=x", &url]).failed(2);
        assert!(text.contains("`BUILDKIT_CONTEXT_KEEP_GIT_DIR=x` is neither true nor"), "{text}");
        let text = build(&[&format!("{url}#v1:gone")]).failed(1);
        assert!(text.contains("there is no directory `gone` in"), "{text}");
        let text = build(&[&format!("{url}#v1")]).failed(1);
        assert!(text.contains("there is no `Dockerfile` in the context"), "{text}");
    }
}

#[test]
fn secrets_are_logins_for_contexts_too() {
    let world = World::new();
    let web = Web::start();
    let wants = Some("Bearer t0ken".to_owned());
    web.put("/c.tar", Page { wants, ..Page::new(tar_of(&FILES)) });
    let token = world.path("token");
    fs::write(&token, "t0ken\n").unwrap();
    let secret = format!("id=HTTP_AUTH_TOKEN_127.0.0.1,src={}", token.display());
    let build = |args: &[&str]| world.run([&["build", "-q", "-t", "app"], args].concat());
    assert!(build(&[&web.url("/c.tar")]).failed(3).contains("status 401"));
    build(&["--secret", &secret, &web.url("/c.tar")]).ok();
    assert_eq!(world.listing("app").len(), 7);
    assert_eq!(leaks(&world, "t0ken"), Vec::<String>::new());
}

#[test]
fn a_named_context_replaces_images_and_stages() {
    for world in World::each() {
        let world = world.with_base();
        fs::create_dir(world.path("dir")).unwrap();
        for (name, content) in
            [("file", "named\n"), ("hidden", "x\n"), (".dockerignore", "hidden\n")]
        {
            fs::write(world.path("dir").join(name), content).unwrap();
        }
        world.give();
        let dir = world.path("dir");
        let dir = dir.to_str().unwrap();
        let text = "FROM nowhere.invalid/never:1 AS stage\nRUN exit 1\nCOPY gone /\n\
                    FROM base\nCOPY --from=stage /file /from-stage\nCOPY --from=img:latest /file /from-image\n\
                    RUN --mount=from=stage,target=/m cat /m/file && test ! -e /m/hidden\n\
                    FROM stage AS last\nCOPY --from=1 /from-image /again\n";
        let named = |value: &str| format!("--build-context={value}");
        let (stage, image) =
            (named(&format!("STAGE={dir}")), named(&format!("docker.io/library/img={dir}")));
        let said = world.build(text, &["-t", "app", &stage, &image]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        assert_eq!(
            world.listing("app"),
            [".dockerignore file 644 0:0 7", "again file 644 0:0 6", "file file 644 0:0 6"]
        );
        world.validate("app");
        let config = world.config("app");
        let history = config["history"].as_array().unwrap().len();
        assert_eq!(history, config["rootfs"]["diff_ids"].as_array().unwrap().len());
        assert_eq!(world.build(text, &["-t", "app", &stage, &image]).done(), 0);

        // Images: by reference, and out of a layout that no store has.
        world.build("FROM base\nRUN echo layout > /l\nENV L=1\n", &["-t", "lay"]).ok();
        let layout = world.path("out/lay");
        world.run(["image", "save", "lay", "--format", "oci", "-o", layout.to_str().unwrap()]).ok();
        world.run(["image", "rm", "lay"]).ok();
        let text = "FROM a\nRUN test $L = 1\nCOPY --from=b /l /b\n";
        let from = named(&format!("a=oci-layout://{}", layout.display()));
        let copied = named(&format!("b=oci-layout://{}:latest", layout.display()));
        world.build(text, &["-t", "app", &from, &copied]).ok();
        let alias = named("a=docker-image://app");
        world.build("FROM a\nRUN test -e /b\n", &[&alias]).ok();
        // One platform alone.
        let only = named(&format!("base::linux/mips64={dir}"));
        world.build("FROM base\nRUN true\n", &[&only]).ok();
    }
}

/// Whoever keeps the store in the project, as CI systems want it of what they cache, had it copied into itself until names
/// were too long. Found by building so.
#[test]
fn the_store_is_no_part_of_a_context_that_it_lies_in() {
    for world in World::each() {
        let world = world.with_base();
        let project = world.path("");
        // All else of a world is left out; what is said of the store does not matter.
        let patterns = "*\n!project\n!store\n!store/**\n!**/*.go\n";
        fs::write(project.join(".dockerignore"), patterns).unwrap();
        fs::create_dir(project.join("project")).unwrap();
        fs::write(project.join("project/f"), "f\n").unwrap();
        let dockerfile = project.join("project/Dockerfile");
        // There is a directory in the store that an ordinary user cannot read.
        let text = "FROM base\nRUN mkdir /q && chown 33:33 /q && chmod 700 /q\nCOPY . /c/\n\
                    COPY --from=all project store* */*/*/*/*.go /n/\n\
                    RUN --mount=type=bind,target=/m ls /m >/c/mounted\n";
        fs::write(&dockerfile, text).unwrap();
        world.give();
        let (file, project) = (dockerfile.to_str().unwrap(), project.to_str().unwrap());
        let named = format!("all={project}");
        let build = || {
            let args = ["build", "--progress=plain", "-t", "app", "--build-context", &named];
            world.run([&args[..], &["-f", file, project]].concat())
        };
        assert_eq!(build().done(), 4);
        world.validate("app");
        let mut listing = world.listing("app");
        listing.retain(|line| line.starts_with("c/") || line.starts_with("n/"));
        let of_text = |name: &str| format!("{name} file 644 0:0 {}", text.len());
        assert_eq!(
            listing,
            [
                "c/mounted file 644 0:0 8",
                "c/project dir 755 0:0 0",
                &of_text("c/project/Dockerfile"),
                "c/project/f file 644 0:0 2",
                &of_text("n/Dockerfile"),
                "n/f file 644 0:0 2",
            ]
        );
        assert_eq!(build().done(), 0);
        fs::write(world.path("project/f"), "g\n").unwrap();
        assert_eq!(build().done(), 3);
        fs::write(&dockerfile, "FROM scratch\nCOPY store/version /\n").unwrap();
        let said = build().failed(1);
        assert!(!said.contains("CopyIgnoredFile"), "{said}");
        let wanted = "error: COPY failed: `store/version` is not in the build context\n  --> ";
        assert!(said.contains(wanted), "{said}");
        assert!(said.contains("\n cause: the store is no part of a build context\n"), "{said}");
    }
}

/// As containers have it: the project at one place, and what is kept in it at another.
#[test]
fn a_store_in_the_context_is_known_by_its_mount() {
    let Some(world) = World::root() else { return };
    let world = world.with_base();
    for name in ["project/kept", "src", "kept"] {
        fs::create_dir_all(world.path(name)).unwrap();
    }
    fs::write(world.path("project/f"), "f\n").unwrap();
    let text = "FROM base\nCOPY . /c/\nRUN test -e /c/f && ! test -e /c/kept/store\n";
    fs::write(world.path("project/Dockerfile"), text).unwrap();
    let script = "mount --bind project src && mount --bind project/kept kept && \
                  \"$0\" image import base base.tar && \"$0\" build -q src && \
                  exec \"$0\" build --progress=plain src";
    let mut command = world.command("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(program());
    command.env("NATIVEBUILD_ROOT", world.path("kept/store")).current_dir(world.path(""));
    let said = Said::of(command.output().unwrap());
    assert_eq!(said.done(), 0, "{said:?}");
    said.ok();
    assert!(world.path("project/kept/store/version").exists());
}

/// The manual had it, and the command line refused every word but `context` and `git`; found by reading.
#[test]
fn the_epoch_may_be_that_of_a_named_context_or_of_a_stage() {
    for world in World::each() {
        let web = Web::start();
        let dated = |page: Page, time| page.with("last-modified", time);
        web.put("/f", dated(Page::new("f"), "Wed, 21 Oct 2015 07:28:00 GMT"));
        web.put("/c.tar", dated(Page::new(tar_of(&FILES)), "Thu, 01 Jan 2015 00:00:00 GMT"));
        let text = format!(
            "FROM scratch AS file\nADD {} /\nFROM scratch\nCOPY --from=file /f /\n",
            web.url("/f")
        );
        let context = format!("--build-context=far={}", web.url("/c.tar"));
        let build = |epoch: &str| {
            let argument = format!("--build-arg=SOURCE_DATE_EPOCH={epoch}");
            world.build(&text, &["-t", "app", &context, &argument])
        };
        for (epoch, created) in [("file", "2015-10-21T07:28:00Z"), ("far", "2015-01-01T00:00:00Z")]
        {
            build(epoch).ok();
            assert_eq!(world.config("app")["created"], created, "{epoch}");
        }
        let said = build("soon").failed(1);
        assert!(said.contains("error: invalid SOURCE_DATE_EPOCH: soon\n"), "{said}");
    }
}

#[test]
fn bad_contexts_are_told() {
    let world = World::new();
    let said = |value: &str, code| {
        world.build("FROM scratch\n", &[&format!("--build-context={value}")]).failed(code)
    };
    for (value, why, code) in [
        ("a", "invalid build context `a`", 2),
        ("scratch=x", "`scratch` always means the same and cannot be replaced", 2),
        ("a=ftp://x", "contexts by `ftp://` are not known here", 2),
        ("a=/nonexistent", "cannot open the build context `/nonexistent`", 1),
        ("a=oci-layout:///nonexistent", "build context `a`", 1),
    ] {
        let text = said(value, code);
        assert!(text.contains(why), "{text}");
    }
}
