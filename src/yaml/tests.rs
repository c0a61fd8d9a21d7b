//! The tree of a text in a short form, whole errors, and texts made to cost much.

use super::*;
use proptest::prelude::*;
use std::fmt::Write as _;

/// `{key: value}` and `[element]`, scalars with their type: `'text'`, `12`, `true`, `null`.
fn shown(node: &Node) -> String {
    let mut out = String::new();
    show(&mut out, node);
    out
}

fn show(out: &mut String, node: &Node) {
    match (&node.value, node.scalar()) {
        (Value::List(items), _) => {
            out.push('[');
            for item in items {
                show(out, item);
                out.push(' ');
            }
            out.push(']');
        }
        (Value::Map(entries), _) => {
            out.push('{');
            for entry in entries {
                write!(out, "{}: ", entry.name()).unwrap();
                show(out, &entry.value);
                out.push(' ');
            }
            out.push('}');
        }
        (_, Some(Scalar::Text(text))) => write!(out, "{text:?}").unwrap(),
        (_, Some(Scalar::Int(value))) => write!(out, "{value}").unwrap(),
        (_, Some(Scalar::Float(value))) => write!(out, "{value:?}").unwrap(),
        (_, Some(Scalar::Bool(value))) => write!(out, "{value}").unwrap(),
        (_, Some(Scalar::Null) | None) => out.push_str("null"),
    }
}

fn read(text: &[u8]) -> Result<Option<String>> {
    let mut problems = Problems::new(&Arc::new(SourceFile::new("f", text)));
    let tree = parse(&mut problems)?;
    problems.finish()?;
    Ok(tree.map(|root| shown(&root)))
}

fn good(text: &str, expect: &str) {
    assert_eq!(read(text.as_bytes()).unwrap().as_deref(), Some(expect), "{text}");
}

fn bad(text: &str, expect: &str) {
    assert_eq!(format!("{:?}", read(text.as_bytes()).unwrap_err()), expect, "{text}");
}

#[test]
fn only_the_first_document_counts() {
    for empty in ["", "\n", "# c\n", "\u{feff}"] {
        assert_eq!(read(empty.as_bytes()).unwrap(), None);
    }
    good("---\n", "null");
    good("---\n---\na: 1\n", "null");
    good("a: 1\n---\nb: [", "{a: 1 }");
    good("%YAML 1.1\n---\na: 1\n...\n- [", "{a: 1 }");
}

#[test]
fn forms_of_scalars_decide_their_type() {
    good("[12, '12', \"12\", !!str 12, ! 12]", r#"[12 "12" "12" "12" "12" ]"#);
    good(
        "[yes, 'yes', true, 1.5, ~, '', !!str , !!int '3']",
        "[\"yes\" \"yes\" true 1.5 null \"\" \"\" 3 ]",
    );
    good("a: |\n  x\n  y\nb: >-\n  q\n  r\n", r#"{a: "x\ny\n" b: "q r" }"#);
    good("a: \"\\x41\\u00e9\\n\"\r\nb: c d\r\n  e\r\n", r#"{a: "Aé\n" b: "c d e" }"#);
    good("\u{feff}é: 1\n", "{é: 1 }");
}

#[test]
fn aliases_and_merged_mappings_are_written_out() {
    good("a: &x [1]\nb: [*x, *x]\n", "{a: [1 ] b: [[1 ] [1 ] ] }");
    good("- &x {a: 1, b: 2}\n- <<: *x\n  b: 3\n  c: 4\n", "[{a: 1 b: 2 } {b: 3 c: 4 a: 1 } ]");
    good("<<: [{a: 1}, {a: 2, b: 2}]\n", "{a: 1 b: 2 }");
    good("'<<': 1\n", "{<<: 1 }");
}

#[test]
fn malformed_texts_are_errors_with_places() {
    bad(
        "a: b: c",
        "Package: f:1:5: the file is not valid YAML: mapping values are not allowed in this context \
         [help: put text that holds `: ` in quotes]",
    );
    bad(
        "a:\n\t- b",
        "Package: f:2:2: the file is not valid YAML: tabs disallowed within this context (block indentation) \
         [help: indent with spaces; YAML takes no tabs there]",
    );
    bad(
        "a: @b",
        "Package: f:1:4: the file is not valid YAML: unexpected character: `@' \
         [help: put text that starts with `@` in quotes]",
    );
    bad("a: [b", "Package: f:1:4: the file is not valid YAML: unclosed bracket '['");
    bad(
        "é: *y",
        "Package: f:1:4: the file is not valid YAML: while parsing node, found unknown anchor",
    );
    bad("a: &x [*x]", "Package: f:1:8: `*x` stands inside what it stands for");
    bad("a: \u{1b}[31m", "Package: f:1:4: control character U+001B in the text");
    let error = read(b"a: b\xff\n").unwrap_err();
    assert_eq!(format!("{error:?}"), "Package: f:1:5: the file is not UTF-8 text");
}

#[test]
fn mistakes_that_leave_a_tree_come_together() {
    bad(
        "a: 1\n? [b]\n: 2\na: 3\n: 4\nc: !foo {}\nd: !!map []\n<<: 5\n",
        "Package: f:2:3: a key must be text\n\
         Package: f:4:1: `a` is given twice: it was given on line 1\n\
         Package: f:5:1: a key is missing before the `:`\n\
         Package: f:6:9: the tag `!foo` means nothing here [help: remove the tag]\n\
         Package: f:7:10: the tag `!!map` means nothing here [help: remove the tag]\n\
         Package: f:8:5: `<<` takes a mapping, or a list of mappings",
    );
}

/// What `make` gives for 0, 1, and so on, in one text.
fn numbered(count: usize, make: impl Fn(usize) -> String) -> String {
    (0..count).map(make).collect::<Vec<_>>().concat()
}

#[test]
fn costly_texts_are_refused_or_quick() {
    let deep = "[".repeat(200);
    bad(&deep, "Package: f:1:65: nested deeper than 64");
    let aliased = numbered(80, |i| format!("- &a{} [*a{i}]\n", i + 1));
    bad(&format!("- &a0 x\n{aliased}"), "Package: f:66:8: nested deeper than 64");
    let bomb = numbered(30, |i| format!("- &a{} [{}]\n", i + 1, format!("*a{i},").repeat(9)));
    let error = read(format!("- &a0 lol\n{bomb}").as_bytes()).unwrap_err();
    assert_eq!(format!("{error}"), "f:7:7: the aliases stand for more than 4194304 bytes");
    let text = format!("- &a {}\n{}", "x".repeat(500_000), "- *a\n".repeat(9));
    let error = read(text.as_bytes()).unwrap_err();
    assert_eq!(format!("{error}"), "f:1:1: the aliases stand for more than 4194304 bytes");
    let keys = numbered(1000, |i| format!("k{i}: , "));
    let merges = format!("- &a {{{keys}}}\n{}", "- <<: *a\n".repeat(1000));
    let error = read(merges.as_bytes()).unwrap_err();
    assert_eq!(format!("{error}"), "f:1:6: the file has more than 200000 values");
    let merges = format!("- &a\n  ? {}\n{}", "k".repeat(300_000), "- <<: *a\n".repeat(10));
    let error = read(merges.as_bytes()).unwrap_err();
    assert_eq!(format!("{error}"), "f:2:3: the file has more than 200000 values");
    let many = "- a\n".repeat(MAX_BYTES / 4);
    let error = read(many.as_bytes()).unwrap_err();
    assert_eq!(format!("{error}"), "f:200000:3: the file has more than 200000 values");
    let error = read(&vec![b'a'; MAX_BYTES + 1]).unwrap_err();
    assert_eq!(format!("{error}"), "f:1:1: the file has 1048577 bytes, more than 1048576");
    assert_eq!(read(&vec![b'a'; MAX_BYTES]).unwrap().unwrap().len(), MAX_BYTES + 2);
    let twice = read("a: 1\n".repeat(40_000).as_bytes()).unwrap_err();
    assert_eq!(twice.others().len(), 19);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_make_it_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(read(&text));
    }

    #[test]
    fn no_yaml_like_text_makes_it_panic(text in "([-?:,\\[\\]{}&*!|>'\"%@#~ \t\r\n0ab<]|: |- |\n  |<<: |&a |\\*a|!!|é){0,80}") {
        drop(read(text.as_bytes()));
    }
}
