//! Tables of `--mount` values.

use super::*;
use proptest::prelude::*;

fn parsed(text: &str) -> Result<Mount> {
    parse(text, |value| Ok(value.replace("$X", "x")))
}

fn message(text: &str) -> String {
    parsed(text).unwrap_err().message().to_owned()
}

fn bind() -> Mount {
    Mount {
        kind: Kind::Bind,
        from: String::new(),
        source: String::new(),
        target: String::new(),
        read_only: true,
        id: String::new(),
        sharing: CacheSharing::Shared,
        env: None,
        required: false,
        uid: 0,
        gid: 0,
        mode: 0o755,
        size: None,
    }
}

#[test]
fn values_and_defaults() {
    let target = || "/c".to_owned();
    for (text, expected) in [
        ("target=/c", Mount { target: target(), ..bind() }),
        ("TARGET=/c,rw", Mount { target: target(), read_only: false, ..bind() }),
        (
            "type=bind,from=a,src=/$X,dst=/c,rw=false",
            Mount { from: "a".to_owned(), source: "/x".to_owned(), target: target(), ..bind() },
        ),
        (
            "type=cache,destination=/c,id=i,sharing=LOCKED,uid=1,gid=2,mode=0700",
            Mount {
                kind: Kind::Cache,
                target: target(),
                read_only: false,
                id: "i".to_owned(),
                sharing: CacheSharing::Locked,
                uid: 1,
                gid: 2,
                mode: 0o700,
                ..bind()
            },
        ),
        ("type=cache,target=/c,ro", Mount { kind: Kind::Cache, target: target(), ..bind() }),
        (
            "type=tmpfs,target=/c,size=128m",
            Mount {
                kind: Kind::Tmpfs,
                target: target(),
                read_only: false,
                size: Some(128 << 20),
                ..bind()
            },
        ),
        (
            "type=secret,id=i,required,env=E",
            Mount {
                kind: Kind::Secret,
                id: "i".to_owned(),
                env: Some("E".to_owned()),
                required: true,
                mode: 0o400,
                ..bind()
            },
        ),
        ("type=ssh,required=0", Mount { kind: Kind::Ssh, mode: 0o600, ..bind() }),
        ("\"target=/a,b\",ro=1", Mount { target: "/a,b".to_owned(), ..bind() }),
    ] {
        assert_eq!(parsed(text).unwrap(), expected, "{text}");
    }
}

#[test]
fn errors_are_buildkits() {
    for (text, expected) in [
        ("", "failed to parse csv mounts: it is empty"),
        ("typ=bind", "unexpected key 'typ' in 'typ=bind' (did you mean type?)"),
        ("zzzzzz=1", "unexpected key 'zzzzzz' in 'zzzzzz=1'"),
        ("type=tmp", "unsupported mount type \"tmp\""),
        ("type=cash", "unsupported mount type \"cash\" (did you mean cache?)"),
        ("type=cache,sharing=share", "unsupported sharing value \"share\" (did you mean shared?)"),
        ("target", "invalid field 'target' must be a key=value pair"),
        ("required", "unexpected key 'required' for mount type 'bind'"),
        ("type=cache,required=true", "unexpected key 'required' for mount type 'cache'"),
        ("size=1m", "unexpected key 'size' for mount type 'bind'"),
        ("type=cache,env=E", "unexpected key 'env' for mount type 'cache'"),
        ("type=tmpfs,size=1x", "invalid value for size: 1x"),
        ("ro=yes", "invalid value for ro: yes"),
        ("rw=2", "invalid value for rw: 2"),
        ("type=cache,mode=9", "invalid value 9 for mode"),
        ("type=cache,uid=-1", "invalid value -1 for uid"),
        ("type=cache,gid=+1", "invalid value +1 for gid"),
        ("target=/a,uid=1", "uid not allowed for \"bind\" type mounts"),
        ("type=tmpfs,target=/a,mode=1", "mode not allowed for \"tmpfs\" type mounts"),
        ("target=/a,sharing=shared", "invalid cache sharing set for bind mount"),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=secret,id=a,source=b", "both source and id can't be set"),
        ("type=secret,id=a,from=b", "secret mount should not have a from"),
        ("type=secret,id=a,sharing=shared", "secret mount should not define sharing"),
    ] {
        assert_eq!(message(text), expected, "{text}");
    }
}

#[test]
fn from_is_read_without_variables() {
    assert_eq!(from_of("type=bind,FROM=a,target=$T").unwrap(), Some("a".to_owned()));
    assert_eq!(from_of("target=/a,from=").unwrap(), None);
    assert_eq!(from_of("from=a$").unwrap(), Some("a$".to_owned()));
    assert_eq!(
        from_of("from=$X").unwrap_err().message(),
        "'from' doesn't support variable expansion, define alias stage instead"
    );
}

#[test]
fn sizes() {
    for (text, expected) in [
        ("0", Some(0)),
        ("1k", Some(1024)),
        ("1.5K", Some(1536)),
        ("2GiB", Some(2 << 30)),
        ("1 mb", Some(1 << 20)),
        ("3b", Some(3)),
        ("", None),
        (".5", None),
        ("1.", None),
        ("1.2.3", None),
        ("-1", None),
        ("9999999999p", None),
    ] {
        assert_eq!(parse_size(text), expected, "{text}");
    }
}

proptest! {
    /// The twin of fuzz/fuzz_targets/mounts.rs.
    #[test]
    fn no_value_panics(
        fields in prop::collection::vec((prop::sample::select(&KEYS[..]), "\\PC{0,8}|[0-9.kmgtpib]{1,6}|true|cache|secret"), 0..6),
        rest in "[a-z=,\"$]{0,12}",
    ) {
        let text = fields.iter().fold(String::new(), |text, (key, value)| text + key + "=" + value + ",");
        drop(parsed(&text));
        drop(parsed(&(text.clone() + &rest)));
        drop(from_of(&(text + &rest)));
    }
}
