//! `--set`: what its words put where, and what is wrong with them.

use super::*;

const TEXT: &str =
    "version: 1\nname: a\nconfig:\n  Labels: {x: '1'}\ncontents:\n- dir: ./x\n  to: /y\n";

fn bad(set: &[&str], expect: &str) {
    assert_eq!(format!("{:?}", read(TEXT, set).unwrap_err()), expect, "{set:?}");
}

#[test]
fn words_replace_and_add() {
    let set = [
        "tag=v2",
        "name=b",
        "config.Labels.x=2",
        "config.Labels.org\\.example\\=a=b=c",
        "config.Env={A: 1}",
        "contents[0].dir=\"./z\"",
        "contents[1].file={path: /f, text: hi}",
        "layers.groups[0][0]=/a",
        "layers.strategy=explicit",
        "layers.max=5",
        "author=",
    ];
    let (spec, warnings) = read(TEXT, &set).unwrap();
    assert!(warnings.is_empty());
    assert_eq!(spec.name.unwrap().value, "b");
    assert_eq!(spec.tag, Tag::Given("v2".to_owned()));
    let config = serde_json::to_string(&spec.config).unwrap();
    assert_eq!(config, r#"{"Env":["A=1"],"Labels":{"org.example=a":"b=c","x":"2"}}"#);
    let ContentKind::Dir(dir) = &spec.contents[0].kind else { panic!("{:?}", spec.contents[0]) };
    assert_eq!((dir.path.value.to_str(), dir.to.as_str()), (Some("./z"), "/y"));
    let (home, span) = spec.source.home(dir.path.span);
    assert_eq!((home.name(), home.slice(span)), ("--set", &b"\"./z\""[..]));
    assert!(matches!(spec.contents[1].kind, ContentKind::File(_)));
    assert_eq!(spec.layers.groups[0][0].value, "/a");
    assert_eq!(spec.layers.max.unwrap().value, 5);
    assert_eq!(spec.author, None);
}

#[test]
fn a_later_word_wins_and_null_takes_away() {
    let (spec, _) = read(TEXT, &["tag=a", "tag=null", "config=null", "contents=[]"]).unwrap();
    assert_eq!(spec.tag, Tag::Digest);
    assert!(spec.config.is_empty() && spec.contents.is_empty());
}

#[test]
fn a_spec_can_be_nothing_but_words() {
    let source = Arc::new(SourceFile::new("-", ""));
    let (spec, _) = parse(&source, &["version=1".to_owned(), "name=a".to_owned()]).unwrap();
    assert_eq!(spec.name.unwrap().value, "a");
}

#[test]
fn wrong_words_are_shown_with_their_places() {
    bad(
        &["tga=v2"],
        "Package: --set:1:1: unknown key `tga`: given by `--set tga=v2` [help: did you mean `tag`?]",
    );
    bad(
        &["tag=.x", "layers.max=[1]"],
        "Package: --set:1:5: `.x` is not a valid tag: given by `--set tag=.x` [help: a tag has letters, digits, `_`, `.` \
         and `-`, at most 128, and does not begin with `.` or `-`]\n\
         Package: --set:1:12: `layers.max` must be a whole number, not a list: given by `--set layers.max=[1]`",
    );
    bad(
        &["contents[0].tar=x"],
        "Package: --set:1:13: `contents[0]` has two kinds: `dir` and `tar`: given by `--set contents[0].tar=x` \
         [help: make two items of it]",
    );
}

#[test]
fn words_that_are_no_assignment_are_errors() {
    let form =
        "[help: write it as KEY=VALUE, for example `config.Labels.a=b` or `contents[0].dir=./x`]";
    let check = |word: &str, column: usize, why: &str| {
        bad(&[word], &format!("Usage: --set:1:{column}: {why}: given by `--set {word}` {form}"));
    };
    check("tag", 4, "there is no `=`");
    check("=x", 1, "a key is missing");
    check("config..x=1", 8, "a key is missing");
    check("[0]=1", 1, "a key is missing");
    check("contents[x]=1", 9, "`[` must be followed by a number and `]`");
    check("contents[1=1", 9, "`[` must be followed by a number and `]`");
    check("contents[0]x=1", 12, "after `]` there must be `.`, `[` or `=`");
    bad(
        &["contents[3]=1"],
        "Usage: --set:1:9: there is no element [3]: given by `--set contents[3]=1` [help: the list has 1; the next one is [1]]",
    );
    bad(
        &["name.x=1"],
        "Usage: --set:1:6: `x` leads into a value that has no such parts: given by `--set name.x=1` \
         [help: a key leads into a mapping, and `[N]` into a list]",
    );
    bad(
        &["config[0]=1"],
        "Usage: --set:1:7: `[0]` leads into a value that has no such parts: given by `--set config[0]=1` \
         [help: a key leads into a mapping, and `[N]` into a list]",
    );
    bad(
        &["config={a"],
        "Package: --set:1:8: the file is not valid YAML: unclosed bracket '{': given by `--set config={a`",
    );
}
