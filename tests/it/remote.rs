//! ADD of URLs and Git repositories, from servers on loopback.

use crate::support::base::list_tar;
use crate::support::http::{Page, Web};
use crate::support::leaks::leaks;
use crate::support::{Said, World, peer, program};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

const MODIFIED: &str = "Wed, 21 Oct 2015 07:28:00 GMT";
const EPOCH: [&str; 2] = ["--source-date-epoch", "1700000000"];

fn sha256(bytes: &[u8]) -> String {
    nativebuild::oci::Digest::of(bytes).to_string()
}

fn blob_of(world: &World, digest: &str) -> PathBuf {
    world.store().join("images/blobs").join(digest.replace(':', "/"))
}

fn archive() -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o640);
    header.set_size(3);
    header.set_mtime(1_000_000_000);
    let mut tar =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    tar.append_data(&mut header, "in/file", &b"abc"[..]).unwrap();
    tar.into_inner().unwrap().finish().unwrap()
}

/// Path, mode, owner, size and time of all entries of an image.
fn times(world: &World, image: &str) -> Vec<String> {
    let tar = world.path("out/times.tar");
    world.run(["image", "export", image, "-o", tar.to_str().unwrap()]).ok();
    let mut archive = tar::Archive::new(fs::File::open(tar).unwrap());
    let entries = archive.entries().unwrap().map(Result::unwrap);
    entries
        .filter(|entry| entry.header().entry_type().is_file())
        .map(|entry| {
            let path = entry.path().unwrap().display().to_string();
            format!(
                "{path} {:o} {}",
                entry.header().mode().unwrap(),
                entry.header().mtime().unwrap()
            )
        })
        .collect()
}

#[test]
fn statement_52_files_of_urls_have_their_servers_name_and_time() {
    for world in World::each() {
        let web = Web::start();
        web.put("/", Page::new("index"));
        web.put("/a/file.txt", Page::new("text").with("last-modified", MODIFIED));
        web.put("/moved", Page { moved: Some("/a/file.txt".to_owned()), ..Page::default() });
        web.put("/x.tar.gz", Page::new(archive()).with("etag", "\"1\""));
        let url = |path: &str| web.url(path);
        let text = format!(
            "FROM scratch\nADD {} {} /d/\nADD {} /d/new\nADD --chown=7:8 --chmod=0644 {} /plain/\nADD --unpack {} /unpacked\n",
            url("/a/file.txt?query"),
            url("/"),
            url("/moved"),
            url("/x.tar.gz"),
            url("/x.tar.gz")
        );
        web.put("/a/file.txt?query", Page::new("text").with("last-modified", MODIFIED));
        let said = world.build(&text, &["-t", "app"]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        assert_eq!(
            times(&world, "app"),
            [
                "d/__unnamed__ 600 0",
                "d/file.txt 600 1445412480",
                "d/new 600 1445412480",
                "plain/x.tar.gz 644 0",
                "unpacked/in/file 640 1000000000",
            ]
        );
        world.validate("app");
        let listed = list_tar(&fs::read(world.path("out/times.tar")).unwrap());
        assert!(
            listed.iter().any(|line| line.starts_with("plain/x.tar.gz file 644 7:8")),
            "{listed:?}"
        );
        let md5 = format!("FROM scratch\nADD --checksum=md5:00 {} /d/\n", url("/"));
        let refused = world.build(&md5, &[]).failed(1);
        assert!(
            refused.starts_with("error: unsupported checksum `md5:00`\n  --> Dockerfile:2:23\n"),
            "{refused}"
        );
    }
}

#[test]
fn a_file_that_its_server_calls_unchanged_is_not_fetched_again() {
    let world = World::new();
    let web = Web::start();
    web.put("/f", Page::new("one").with("etag", "\"1\""));
    web.put("/plain", Page::new("same"));
    let text = format!("FROM scratch\nADD {} {} /d/\n", web.url("/f"), web.url("/plain"));
    let first = world.build(&text, &[]).ok();
    web.log();
    let again = world.build(&text, &[]);
    assert_eq!((again.cached(), again.stdout.as_str()), (1, first.as_str()));
    assert_eq!(web.log(), ["GET /f 304", "GET /plain 200"]);
    // Other content under the same name is another step; the old content is the old step.
    web.put("/f", Page::new("two").with("etag", "\"2\""));
    let changed = world.build(&text, &["-t", "app"]);
    assert_eq!(changed.done(), 1, "{}", changed.stderr);
    assert_ne!(changed.stdout, first);
    web.put("/f", Page::new("one").with("etag", "\"3\""));
    assert_eq!(world.build(&text, &[]).ok(), first);
    // The cache of files may be lost at any time.
    fs::remove_dir_all(world.store().join("cache/http")).unwrap();
    assert_eq!(world.build(&text, &[]).ok(), first);
}

#[test]
fn a_checksum_is_kept_and_spares_the_request() {
    for world in World::each() {
        let web = Web::start();
        web.put("/f", Page::new("text").with("last-modified", MODIFIED));
        let with = |sum: &str| format!("FROM scratch\nADD --checksum={sum} {} /f\n", web.url("/f"));
        let good = with(&sha256(b"text"));
        let first = world.build(&good, &["-t", "app"]).ok();
        assert_eq!(times(&world, "app"), ["f 600 1445412480"]);
        web.log();
        assert_eq!(world.build(&good, &[]).ok(), first);
        assert_eq!(world.build(&good, &["--no-cache", "-t", "app"]).code, 0);
        assert_eq!(times(&world, "app"), ["f 600 1445412480"]);
        assert_eq!(web.log(), Vec::<String>::new());
        let bad = world.build(&with(&sha256(b"other")), &[]).failed(1);
        assert!(bad.contains("has the wrong content\n"), "{bad}");
        assert!(bad.contains(&format!("expected {}, found {}", sha256(b"other"), sha256(b"text"))));
        let md5 = world.build(&with("md5:00"), &[]).failed(1);
        assert!(md5.contains("unsupported checksum `md5:00`"), "{md5}");
    }
}

/// The bug: what was fetched once was never hashed again, so a damaged disk or a loss of power brought other bytes into the
/// image, in spite of `--checksum` and `--locked`. A review found it.
#[test]
fn a_fetched_file_that_is_damaged_is_fetched_again() {
    for world in World::each() {
        let web = Web::start();
        web.put("/f", Page::new("text").with("last-modified", MODIFIED));
        let (url, digest) = (web.url("/f"), sha256(b"text"));
        let blob = blob_of(&world, &digest);
        let told = format!("what the store had of {url} was damaged");
        let plain = format!("FROM scratch\nADD {url} /f\n");
        let checked = format!("FROM scratch\nADD --checksum={digest} {url} /f\n");
        let build = |text: &str, args: &[&str]| world.build(text, &[&EPOCH[..], args].concat());
        build(&plain, &["--lock"]).ok();
        let (nothing, locked): ([&str; 0], _) = ([], ["--locked"]);
        let asked = ["GET /f 304", "GET /f 200"];
        for (text, flags, asked) in [
            (&plain, &nothing[..], &asked[..]),
            (&plain, &locked[..], &asked[1..]),
            (&checked, &nothing[..], &asked[1..]),
        ] {
            let expected = build(text, flags).ok();
            for damage in ["TEXT", ""] {
                fs::write(&blob, damage).unwrap();
                web.log();
                let said = build(text, &[flags, &["--no-cache"]].concat());
                assert!(said.stderr.contains(&told), "{said:?}");
                assert_eq!(said.ok(), expected);
                assert_eq!(web.log(), asked);
                assert_eq!(fs::read(&blob).unwrap(), b"text");
            }
        }

        fs::write(&blob, "TEXT").unwrap();
        let said = build(&checked, &["--offline", "--no-cache"]).failed(3);
        assert!(said.contains(&format!("{url} is not in the store\n")), "{said}");
        let causes = " cause: this is offline\n cause: what the store had of it was damaged\n";
        assert!(said.contains(causes), "{said}");

        // What is carried to another machine is looked at before.
        build(&plain, &[]).ok();
        fs::write(&blob, "TEXT").unwrap();
        web.log();
        let (file, dir) = (world.context().join("Dockerfile"), world.path("gap"));
        let (file, dir) = (file.to_str().unwrap(), dir.to_str().unwrap());
        let listed = world.run(["image", "prefetch", "-f", file, "-o", dir]).ok();
        assert_eq!(listed, format!("{digest} {url}\n"));
        assert_eq!(web.log(), asked);
        assert_eq!(fs::read(&blob).unwrap(), b"text");
    }
}

#[test]
fn a_kept_context_that_is_damaged_is_fetched_again() {
    for world in World::each() {
        let web = Web::start();
        web.put("/c.tar.gz", Page::new(archive()));
        let url = web.url("/c.tar.gz");
        let far = format!("far={url}");
        let rest = ["--build-context", &far];
        let text = "FROM scratch\nCOPY --from=far in/file /f\n";
        let build = |args: &[&str]| world.build(text, &[&EPOCH[..], &rest, args].concat());
        let expected = build(&["--lock"]).ok();
        let blob = blob_of(&world, &sha256(&archive()));
        for damage in [vec![b'x'; archive().len()], Vec::new()] {
            fs::write(&blob, damage).unwrap();
            web.log();
            let said = build(&["--locked"]);
            let told = format!("what the store had of {url} was damaged");
            assert!(said.stderr.contains(&told), "{said:?}");
            assert_eq!(said.ok(), expected);
            assert_eq!(web.log(), ["GET /c.tar.gz 200"]);
            assert_eq!(fs::read(&blob).unwrap(), archive());
        }
    }
}

#[test]
fn logins_are_secrets_and_go_to_their_host_alone() {
    let world = World::new();
    let (web, other) = (Web::start(), Web::start());
    web.put("/f", Page { wants: Some("Bearer t0ken".to_owned()), ..Page::new("text") });
    other.put("/away", Page { moved: Some(web.url("/f")), ..Page::default() });
    let token = world.path("token");
    fs::write(&token, "t0ken\n").unwrap();
    let secret = format!("id=HTTP_AUTH_TOKEN_127.0.0.1,src={}", token.display());
    let text = |web: &Web, path: &str| format!("FROM scratch\nADD {} /f\n", web.url(path));
    let refused = world.build(&text(&web, "/f"), &[]).failed(3);
    assert!(refused.contains("status 401"), "{refused}");
    world.build(&text(&web, "/f"), &["--secret", &secret]).ok();
    // A redirect to another port is another host.
    world.build(&text(&other, "/away"), &["--secret", &secret]).failed(3);
    if peer("git") {
        let secret = format!("id=GIT_AUTH_TOKEN.127.0.0.1,src={}", token.display());
        let text = format!("FROM scratch\nADD {} /f\n", web.url("/r.git"));
        let said = world.build(&text, &["--secret", &secret]);
        assert!(said.stderr.contains("git cannot get `http://127.0.0.1:"), "{}", said.stderr);
        assert!(!said.failed(3).contains("t0ken"));
        // Base64 of `x-access-token:t0ken`.
        let wants = Some("basic eC1hY2Nlc3MtdG9rZW46dDBrZW4=".to_owned());
        let refs = "/r.git/info/refs?service=git-upload-pack";
        web.put(refs, Page { wants: wants.clone(), ..Page::default() });
        web.log();
        world.build(&text, &["--secret", &secret]);
        assert_eq!(web.log()[0], format!("GET {refs} 200"));
        other.put(refs, Page { wants, ..Page::default() });
        web.put(refs, Page { moved: Some(other.url(refs)), ..Page::default() });
        world.build(&text, &["--secret", &secret]).failed(3);
        assert_eq!(other.log().last().unwrap(), &format!("GET {refs} 401"));
    }
    assert_eq!(leaks(&world, "t0ken"), Vec::<String>::new());
}

#[test]
fn faults_of_urls_are_told_in_their_place() {
    let world = World::new();
    let web = Web::start();
    let gone = web.url("/gone");
    let text = world.build(&format!("FROM scratch\nADD {gone} /f\n"), &[]).failed(1);
    assert!(
        text.contains(&format!("cannot get {gone}")) && text.contains("Dockerfile:2:5"),
        "{text}"
    );
    let two = format!("FROM scratch\nADD --checksum={} {gone} b /f/\n", sha256(b"x"));
    let text = world.build(&two, &[]).failed(1);
    assert!(text.contains("checksum can't be specified for multiple sources"), "{text}");
    let user = world.build("FROM scratch\nADD http://me:secret@127.0.0.1/f /f\n", &[]).failed(1);
    assert!(user.contains("an address has a host and no user name"), "{user}");
    let copy = world.build(&format!("FROM scratch\nCOPY {gone} /f\n"), &[]).failed(1);
    assert!(copy.contains("source can't be a URL for COPY"), "{copy}");
}

/// A server of the repositories below a directory.
pub struct GitDaemon {
    process: Child,
    pub port: u16,
    _dir: tempfile::TempDir,
}

impl Drop for GitDaemon {
    fn drop(&mut self) {
        let _ended = self.process.kill().and_then(|()| self.process.wait());
    }
}

pub fn git(dir: &std::path::Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"]);
    for name in ["GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"] {
        command.env(name, "2021-05-01T00:00:00Z");
    }
    Said::of(command.args(args).current_dir(dir).output().unwrap()).ok()
}

/// Two repositories, one with the other as a submodule, and their server; gives the first commit and the directory.
pub fn repositories() -> (GitDaemon, String, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_owned();
    let (work, part) = (root.join("work"), root.join("part"));
    fs::create_dir_all(work.join("sub")).unwrap();
    fs::create_dir_all(&part).unwrap();
    git(&part, &["init", "-q", "-b", "main"]);
    fs::write(part.join("part.txt"), "part\n").unwrap();
    git(&part, &["add", "-A"]);
    git(&part, &["commit", "-q", "-m", "part"]);
    git(&work, &["init", "-q", "-b", "main"]);
    fs::write(work.join("sub/s.txt"), "s\n").unwrap();
    fs::write(work.join("x.sh"), "x\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(work.join("x.sh"), mode).unwrap();
    std::os::unix::fs::symlink("x.sh", work.join("link")).unwrap();
    git(&work, &["add", "-A"]);
    git(&work, &["commit", "-q", "-m", "one"]);
    git(&work, &["tag", "-a", "-m", "tag", "v1"]);
    let first = git(&work, &["rev-parse", "HEAD"]).trim().to_owned();
    // A free port, which may be lost between asking and taking; then git says so and ends.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    git(&work, &["submodule", "--quiet", "add", part.to_str().unwrap(), "part"]);
    fs::write(
        work.join(".gitmodules"),
        format!("[submodule \"part\"]\n\tpath = part\n\turl = git://127.0.0.1:{port}/part\n"),
    )
    .unwrap();
    fs::write(work.join("new.txt"), "new\n").unwrap();
    git(&work, &["add", "-A"]);
    git(&work, &["commit", "-q", "-m", "two"]);
    git(&work, &["branch", "v1"]);
    let mut daemon = Command::new("git");
    daemon.args([
        "-c",
        "safe.directory=*",
        "daemon",
        "--export-all",
        "--reuseaddr",
        "--listen=127.0.0.1",
    ]);
    daemon.arg(format!("--port={port}")).arg(format!("--base-path={}", root.display()));
    let process = daemon.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let daemon = GitDaemon { process, port, _dir: dir };
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::yield_now();
    }
    (daemon, first, work)
}

#[test]
fn repositories_are_added_by_branch_tag_commit_and_directory() {
    for world in World::each() {
        if !peer("git") {
            return;
        }
        let (daemon, first, work) = repositories();
        let url = format!("git://127.0.0.1:{}/work", daemon.port);
        let text = format!(
            "FROM scratch\nADD {url} /head/\nADD {url}#{first} /commit\nADD {url}?tag=v1&mtime=commit /tag\n\
             ADD {url}#v1:sub /sub/\nADD --checksum={} {url}?branch=v1&submodules=false /plain\n\
             ADD --keep-git-dir --exclude=sub {url}#{first} /kept\n",
            &git(&work, &["rev-parse", "HEAD"])[..12]
        );
        let said = world.build(&text, &["-t", "app"]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        world.validate("app");
        let listed = world.listing("app");
        let below = |dir: &str| -> Vec<String> {
            let inside = listed.iter().filter_map(|line| line.strip_prefix(&format!("{dir}/")));
            inside.filter(|line| !line.starts_with(".git/")).map(str::to_owned).collect()
        };
        let old = [
            "link symlink 777 0:0 x.sh",
            "sub dir 755 0:0 0",
            "sub/s.txt file 644 0:0 2",
            "x.sh file 755 0:0 2",
        ];
        assert_eq!(below("commit"), old);
        assert_eq!(below("tag"), old);
        assert_eq!(below("sub"), ["s.txt file 644 0:0 2"]);
        let head = below("head");
        assert!(head.contains(&"part/part.txt file 644 0:0 5".to_owned()), "{head:?}");
        assert!(
            !head.iter().any(|line| line.contains(".git ") || line.contains(".git/")),
            "{head:?}"
        );
        // A branch and a tag of one name: it was the branch that was asked for.
        let plain = below("plain");
        assert!(plain.contains(&"new.txt file 644 0:0 4".to_owned()), "{plain:?}");
        assert!(!plain.iter().any(|line| line.contains("part.txt")), "{plain:?}");
        let kept = below("kept");
        assert!(kept.iter().any(|line| line.starts_with(".git dir")), "{kept:?}");
        assert!(!kept.iter().any(|line| line.starts_with("sub")), "{kept:?}");
        let tag = times(&world, "app");
        assert!(tag.contains(&"tag/x.sh 755 1619827200".to_owned()), "{tag:?}");
        assert_eq!(world.build(&text, &[]).cached(), 6);

        // Another commit of the branch: what names the branch is done again, what names a commit is not.
        let mut file = fs::File::options().append(true).open(work.join("new.txt")).unwrap();
        file.write_all(b"more\n").unwrap();
        let text = format!("FROM scratch\nADD {url}#{first} /commit\nADD {url}#main /head\n");
        world.build(&text, &[]).ok();
        git(&work, &["commit", "-q", "-am", "three"]);
        let said = world.build(&text, &[]);
        assert_eq!((said.cached(), said.done()), (1, 1), "{}", said.stderr);
    }
}

/// The bug: a tar that was damaged in the store made every build with these files fail. A review found it.
#[test]
fn a_kept_repository_that_is_damaged_is_fetched_again() {
    for world in World::each() {
        if !peer("git") {
            return;
        }
        let (daemon, first, _work) = repositories();
        let remote = format!("git://127.0.0.1:{}/work", daemon.port);
        let text = format!("FROM scratch\nADD {remote}#{first} /r/\n");
        world.file("Dockerfile", &text);
        let (file, dir) = (world.context().join("Dockerfile"), world.path("gap"));
        let (file, dir) = (file.to_str().unwrap(), dir.to_str().unwrap());
        let prefetch = ["image", "prefetch", "-f", file, "-o", dir];
        let listed = world.run(prefetch).ok();
        let tar = blob_of(&world, listed.split_once(' ').unwrap().0);
        let whole = fs::read(&tar).unwrap();
        let build = |args: &[&str]| world.build(&text, &[&EPOCH[..], args].concat());
        let expected = build(&[]).ok();
        for damage in [vec![b'x'; whole.len()], Vec::new()] {
            fs::write(&tar, &damage).unwrap();
            let said = build(&["--no-cache"]);
            let told = format!("what the store had of `{remote}` was damaged");
            assert!(said.stderr.contains(&told), "{said:?}");
            assert_eq!(said.ok(), expected);
            fs::write(&tar, &damage).unwrap();
            assert_eq!(world.run(prefetch).ok(), listed);
            assert_eq!(fs::read(&tar).unwrap(), whole);
        }

        fs::write(&tar, "").unwrap();
        let offline = ["--offline", "--no-cache"];
        let said = build(&offline).failed(3);
        let causes = format!(
            " cause: this is offline, and commit {first} is not here\n \
             cause: what the store had of it was damaged\n"
        );
        assert!(said.contains(&causes), "{said}");
        world.run(["image", "load", dir]).ok();
        assert_eq!(build(&offline).ok(), expected);
    }
}

#[test]
fn faults_of_repositories_are_told_in_their_place() {
    if !peer("git") {
        return;
    }
    let world = World::new();
    let (daemon, first, _work) = repositories();
    let url = format!("git://127.0.0.1:{}/work", daemon.port);
    let fails = |source: &str, code| {
        world.build(&format!("FROM scratch\nADD {source} /x\n"), &[]).failed(code)
    };
    let text = fails(&format!("{url}#gone"), 1);
    assert!(text.contains("has no `gone`") && text.contains("Dockerfile:2:5"), "{text}");
    let text = fails(&format!("git://127.0.0.1:{}/gone", daemon.port), 3);
    assert!(text.contains("git cannot get `git://"), "{text}");
    let text = fails(&format!("{url}#{first}:gone"), 1);
    assert!(
        text.contains("`/gone` is not in `git://") && text.contains("Dockerfile:2:1"),
        "{text}"
    );
    let text = fails(&format!("{url}?checksum=abcdef"), 1);
    assert!(text.contains("is not the commit that was asked for"), "{text}");
    let text = fails(&format!("{url}?depth=1"), 1);
    assert!(text.contains("unexpected query `depth`"), "{text}");
    // A program as transport is never started.
    let text = fails("ssh://-oProxyCommand=touch${IFS}/tmp/owned/r", 3);
    assert!(text.contains("git cannot get"), "{text}");
    assert!(!std::path::Path::new("/tmp/owned").exists());
}

#[test]
fn git_ends_with_a_builder_that_is_killed() {
    for world in World::each() {
        if !peer("git") {
            return;
        }
        // Takes the connection and never answers.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("git://{}/r", listener.local_addr().unwrap());
        world.file("Dockerfile", format!("FROM scratch\nADD {url} /\n"));
        let mut command = world.command(program());
        command.arg("build").arg(world.context()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        // The request, behind its length.
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let length = usize::from_str_radix(std::str::from_utf8(&length).unwrap(), 16).unwrap();
        let mut asked = vec![0; length - 4];
        stream.read_exact(&mut asked).unwrap();
        assert!(String::from_utf8_lossy(&asked).contains("git-upload-pack"), "{asked:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        // The end of the stream comes only when nobody has the connection any more.
        assert_eq!(stream.read_to_end(&mut asked).unwrap(), 0);
    }
}
