//! Which places names lead to, and what mistakes in settings files are answered with.

use super::conf::MirrorRule;
use super::toml::Origin;
use super::*;
use crate::source::SourceFile;
use std::fs;
use std::sync::Arc;

/// Settings from texts: `registries.conf`, drop-ins in order, `daemon.json`.
fn settings(conf: &str, drop_ins: &[&str], daemon: &str) -> Result<Settings> {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir(path("registries.conf.d")).unwrap();
    fs::write(path("registries.conf"), conf).unwrap();
    for (number, text) in drop_ins.iter().enumerate() {
        fs::write(path(&format!("registries.conf.d/{number}.conf")), text).unwrap();
    }
    fs::write(path("registries.conf.d/readme.txt"), "[[").unwrap();
    let mut files = HostFiles {
        registries: vec![path("none"), path("registries.conf"), path("not-read")],
        drop_ins: vec![path("registries.conf.d"), path("none.d")],
        ..HostFiles::default()
    };
    fs::write(path("not-read"), "[[").unwrap();
    if !daemon.is_empty() {
        fs::write(path("daemon.json"), daemon).unwrap();
        files.daemon = vec![path("none"), path("daemon.json")];
    }
    let mut read = Settings::read(&files)?;
    let shorten = |origin: &mut Origin| {
        origin.file = Path::new(&*origin.file).file_name().unwrap().to_string_lossy().into();
    };
    for rule in &mut read.conf.rules {
        shorten(&mut rule.origin);
        rule.mirrors.iter_mut().for_each(|mirror: &mut MirrorRule| shorten(&mut mirror.origin));
    }
    read.daemon.origin.iter_mut().for_each(shorten);
    Ok(read)
}

/// Where a name leads: `*` marks a mirror, `!` an insecure place.
fn ways(settings: &Settings, name: &str) -> Vec<String> {
    let flags = [Mirror::parse("quay.io=https://flag.example").unwrap()];
    let reference = Reference::parse(name).unwrap();
    let mirrors = match settings.mirrors(&flags, &reference) {
        Ok(mirrors) => mirrors,
        Err(error) => return vec![error.to_string()],
    };
    let origin = settings.origin(&reference).unwrap();
    let shown = |way: &Way| {
        let marks = [(way.is_mirror, "*"), (way.insecure, "!")];
        let marks: String = marks.iter().filter(|(set, _)| *set).map(|(_, mark)| *mark).collect();
        let host = way.base.as_ref().unwrap_or(&way.host);
        let by = way.origin.as_deref().map_or_else(String::new, |by| format!(" ({by})"));
        format!("{marks}{host}/{}{by}", way.repository)
    };
    mirrors.iter().chain([&origin]).map(shown).collect()
}

const CONF: &str = r#"
unqualified-search-registries = ["registry.example"]
short-name-mode = "enforcing"
strange = 1
[[registry]]
prefix = "example.com/foo"
location = "internal.example:5000/bar/"
  [[registry.mirror]]
  location = "m0.example/mirror-for-foo"
  [[registry.mirror]]
  location = "m1.example"
  insecure = true
  pull-from-mirror = "digest-only"
  [[registry.mirror]]
  location = "m2.example"
  pull-from-mirror = "tag-only"
[[registry]]
prefix = "example.com/foo/bad"
location = "example.com/foo/bad"
blocked = true
[[registry]]
location = "example.com"
insecure = true
[[registry]]
prefix = "*.wild.example"
mirror-by-digest-only = true
mirror = [{ location = "w.example/all" }]
[[registry]]
prefix = "*.sub.wild.example"
location = "docker.io"
[[registry]]
location = "quay.io"
mirror = [{ location = "q.example" }]
[[registry]]
prefix = "docker.io/library"
location = "hub.example"
[aliases]
fedora = "registry.example/fedora"
"#;

#[test]
fn the_longest_prefix_decides_where_a_name_leads() {
    let all = settings(CONF, &[], "").unwrap();
    let digest = format!("sha256:{}", "a".repeat(64));
    for (name, wanted) in [
        (
            "example.com/foo/app:1".to_owned(),
            &[
                "*m0.example/mirror-for-foo/app (registries.conf:8)",
                "*m2.example/app (registries.conf:14)",
                "internal.example:5000/bar/app (registries.conf:5)",
            ][..],
        ),
        (
            format!("example.com/foo/app@{digest}"),
            &[
                "*m0.example/mirror-for-foo/app (registries.conf:8)",
                "*!m1.example/app (registries.conf:10)",
                "internal.example:5000/bar/app (registries.conf:5)",
            ],
        ),
        ("example.com/foobar".to_owned(), &["!example.com/foobar (registries.conf:21)"]),
        (
            "example.com/foo/bad/app".to_owned(),
            &[
                "`example.com/foo/bad/app` is blocked: registries.conf:17: `blocked = true` for `example.com/foo/bad`",
            ],
        ),
        ("a.wild.example:5000/x".to_owned(), &["a.wild.example:5000/x"]),
        (
            format!("a.b.wild.example/x@{digest}"),
            &["*w.example/all/x (registries.conf:27)", "a.b.wild.example/x"],
        ),
        ("wild.example/x".to_owned(), &["wild.example/x"]),
        ("a.sub.wild.example/x".to_owned(), &["docker.io/library/x (registries.conf:28)"]),
        (
            "quay.io/a/b".to_owned(),
            &[
                "*https://flag.example/a/b (`--mirror`)",
                "*q.example/a/b (registries.conf:33)",
                "quay.io/a/b",
            ],
        ),
        // Short names stay Docker's.
        ("fedora".to_owned(), &["hub.example/fedora (registries.conf:34)"]),
        ("a/b".to_owned(), &["docker.io/a/b"]),
    ] {
        assert_eq!(ways(&all, &name), wanted, "{name}");
    }
    let (search, origin) = all.conf.search.unwrap();
    assert_eq!((search, origin.line), (vec!["registry.example".to_owned()], 2));
    assert_eq!(all.conf.aliases[0].1, "registry.example/fedora");
    let unknown: Vec<String> =
        all.conf.unknown.iter().map(|(at, what)| format!("{}: {what}", at.line)).collect();
    assert_eq!(unknown, ["4: `strange`"]);
    assert_eq!(all.files.len(), 1);
}

#[test]
fn later_files_replace_whole_registries() {
    let first =
        "[[registry]]\nlocation = \"example.com\"\ninsecure = true\n[aliases]\na = \"x.io/a\"";
    let later = "unqualified-search-registries = []\n[[registry]]\nlocation = \"example.com\"\n[aliases]\na = \"\"";
    let other = "[[registry]]\nlocation = \"other.example\"\nblocked = true";
    let all = settings(first, &[other, later], "").unwrap();
    assert_eq!(ways(&all, "example.com/x"), ["example.com/x"]);
    assert_eq!(
        ways(&all, "other.example/x"),
        ["`other.example/x` is blocked: 0.conf:1: `blocked = true` for `other.example`"]
    );
    assert_eq!(all.conf.aliases.len(), 1);
    assert_eq!(all.conf.search.unwrap().0, Vec::<String>::new());
    assert_eq!(all.files.len(), 3);
}

#[test]
fn docker_has_mirrors_of_its_hub_and_insecure_registries() {
    let daemon = r#"{
        "registry-mirrors": ["https://hub.example/", "http://10.1.2.3:5000"],
        "insecure-registries": ["10.0.0.0/8", "R.example:5000"],
        "dns": ["1.1.1.1"]
    }"#;
    let all = settings("", &[], daemon).unwrap();
    assert_eq!(
        ways(&all, "busybox"),
        [
            "*https://hub.example/library/busybox (daemon.json)",
            "*!http://10.1.2.3:5000/library/busybox (daemon.json)",
            "docker.io/library/busybox"
        ]
    );
    assert_eq!(ways(&all, "r.example:5000/x"), ["!r.example:5000/x"]);
    assert_eq!(ways(&all, "r.example/x"), ["r.example/x"]);
    assert_eq!(ways(&all, "10.9.9.9/x"), ["!10.9.9.9/x"]);
    assert_eq!(ways(&all, "11.9.9.9:5000/x"), ["11.9.9.9:5000/x"]);
}

/// What is said of a file that cannot be used: `LINE: why | what to do`.
fn said(text: &str) -> String {
    let source = Arc::new(SourceFile::new("registries.conf", text));
    let error = Conf::parse(&source).unwrap_err();
    let place = error.place().expect("a place");
    let line = place.source.line(place.span.start);
    let hints = error.hints().join("; ");
    assert_eq!(error.message(), "registries.conf cannot be used");
    format!("{line}: {} | {hints}", error.causes().join("; "))
}

#[test]
fn mistakes_have_a_line_and_a_reason() {
    for (text, wanted) in [
        (
            "[registries.search]\nregistries = ['a.io']",
            "1: `[registries…]` is version 1 of this format | write `[[registry]]` with `location`, `insecure` and `blocked`, and `unqualified-search-registries`",
        ),
        ("\n[[registry]]\nprefix = 1", "3: `prefix` is not a text | "),
        (
            "[[registry]]\n",
            "1: a registry has neither `prefix` nor `location` | add `location = \"HOST[:PORT][/PATH]\"`",
        ),
        (
            "[[registry]]\nprefix='a.io'",
            "1: the registry with the prefix `a.io` has no `location` | add `location = \"HOST[:PORT][/PATH]\"`, which may be `a.io` itself; only a prefix with `*.` needs none",
        ),
        (
            "[[registry]]\nlocation = 'https://a.io'",
            "2: `https://a.io` is no location | leave out the scheme; `insecure = true` allows http",
        ),
        (
            "[[registry]]\nlocation = 'a.io/x:1'",
            "2: `a.io/x:1` is no location | a tag or a digest cannot be in it",
        ),
        (
            "[[registry]]\nlocation = 'a b'",
            "2: `a b` is no location | write it as `host[:port][/path]`",
        ),
        (
            "[[registry]]\nprefix = '*.a.io/x'",
            "2: `*.a.io/x` is no prefix | behind `*.` stands a domain, without a port and without a path",
        ),
        (
            "[[registry]]\nlocation = 'a.io'\ninsecure = 'yes'",
            "3: `insecure` is not `true` or `false` | ",
        ),
        (
            "[[registry]]\nlocation = 'a.io'\npull-from-mirror = 'all'",
            "3: `pull-from-mirror` belongs into a `[[registry.mirror]]` | ",
        ),
        (
            "[[registry]]\nlocation = 'a.io'\nmirror = [{}]",
            "3: a mirror has no `location` | add `location = \"HOST[:PORT][/PATH]\"`",
        ),
        (
            "[[registry]]\nlocation = 'a.io'\nmirror = [{location = 'b.io', pull-from-mirror = 'tags'}]",
            "3: `pull-from-mirror` is not `tags` | it is `all`, `digest-only` or `tag-only`",
        ),
        (
            "[[registry]]\nlocation = 'a.io'\nmirror-by-digest-only = true\nmirror = [{location = 'b.io', pull-from-mirror = 'all'}]",
            "1: `mirror-by-digest-only` and `pull-from-mirror` exclude each other | ",
        ),
        (
            "[[registry]]\nlocation = 'a.io'\n[[registry]]\nlocation = 'a.io'",
            "3: `a.io` has a `[[registry]]` at line 1 already | ",
        ),
        (
            "short-name-mode = 'loose'",
            "1: `loose` is no mode for short names | the modes are `enforcing`, `permissive` and `disabled`",
        ),
        (
            "unqualified-search-registries = 'a.io'",
            "1: `unqualified-search-registries` is not a list | ",
        ),
        ("registry = 1", "1: `registry` is not a list | "),
        ("aliases = 1", "1: `aliases` is not a table | "),
        ("a = 1\na = 2", "2: duplicate key | "),
    ] {
        assert_eq!(said(text), wanted, "{text}");
    }
    assert!(said("\n[[registry").starts_with("2: "), "{}", said("\n[[registry"));
    let source = Arc::new(SourceFile::new("r", b"a = '\xff'".to_vec()));
    assert!(Conf::parse(&source).unwrap_err().to_string().contains("it is not UTF-8"));
    // Deep nesting ends.
    let deep = format!("a = {}", "[".repeat(100_000));
    assert!(Conf::parse(&Arc::new(SourceFile::new("r", deep))).is_err());
}

#[test]
fn a_named_file_must_be_there() {
    let files = HostFiles { named: Some("/nonexistent/r.conf".into()), ..HostFiles::default() };
    assert_eq!(
        Settings::read(&files).unwrap_err().to_string(),
        "there is no file /nonexistent/r.conf: CONTAINERS_REGISTRIES_CONF names it"
    );
}

#[test]
fn a_damaged_daemon_json_has_a_line() {
    let error = settings("", &[], "{\n\"registry-mirrors\": 1}").unwrap_err();
    let place = error.place().unwrap();
    assert_eq!(place.source.line(place.span.start), 2);
    let error = settings("", &[], r#"{"registry-mirrors": ["hub.example"]}"#).unwrap_err();
    assert!(error.to_string().contains("must start with http:// or https://"), "{error}");
}
