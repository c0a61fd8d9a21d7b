//! Untrusted texts: every byte string is either a spec or an error.

use super::*;
use proptest::prelude::*;

/// Words of specs and pieces of YAML, so that texts get far.
const PIECES: &[&str] = &[
    "version: 1\n",
    "name: ",
    "tag: ",
    "from:\n",
    "contents:\n",
    "perms:\n",
    "layers:\n",
    "config:\n",
    "run:\n",
    "  image: ",
    "  Env: ",
    "  ExposedPorts: ",
    "  strategy: ",
    "  groups: ",
    "  max: ",
    "- file: ",
    "- dir: ",
    "- closure: ",
    "- preset: ",
    "  path: ",
    "  mode: ",
    "  regex: ",
    "{path: /a, text: b}",
    "{",
    "}",
    "[",
    "]",
    ", ",
    ": ",
    "\n",
    "  ",
    "- ",
    "\"",
    "'",
    "|\n",
    "&a ",
    "*a",
    "<<: ",
    "null",
    "0644",
    "1e9",
    "-1",
    "/nix/store/",
    "é",
    "\t",
    "\\u0000",
    "created: ",
    "now",
    "(a{9}){9}",
    "0x",
    "compression: {kind: gzip, level: 9}\n",
    "\0",
    "#",
];

/// `--set` words that get far.
const WORDS: &[&str] = &[
    "tag=x",
    "config.Env[0]=A=b",
    "contents[0].dir=x",
    "a\\.b=c",
    "[0]=1",
    "[",
    "=",
    "",
    "a",
    "a[b]=1",
    "layers.max=",
    "contents[1]={file: {path: /a, text: b}}",
    "x=[",
    "name.a=1",
    "..=1",
    "config.Labels.a\\=b=c",
    "é=\u{7f}",
    "a]=1",
];

/// A spec whose places lie in its texts, or mistakes that do.
fn either(text: &[u8], set: &[String]) {
    match parse(&Arc::new(SourceFile::new("image.yaml", text)), set) {
        Ok((spec, _)) => {
            for content in &spec.contents {
                let (home, span) = spec.source.home(content.span);
                assert!(span.end <= home.text().len(), "{content:?}");
            }
        }
        Err(error) => {
            for error in std::iter::once(&error).chain(error.others()) {
                let place = error.place().unwrap_or_else(|| panic!("no place: {error:?}"));
                assert!(place.span.start <= place.source.text().len(), "{error:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_make_it_panic(
        text in proptest::collection::vec(any::<u8>(), 0..200),
        set in proptest::collection::vec(".{0,20}", 0..3),
    ) {
        either(&text, &set);
    }

    #[test]
    fn no_text_like_a_spec_makes_it_panic(
        pieces in proptest::collection::vec(0..PIECES.len(), 0..30),
        words in proptest::collection::vec(0..WORDS.len(), 0..3),
    ) {
        let text: String = pieces.into_iter().map(|piece| PIECES[piece]).collect();
        let set: Vec<String> = words.into_iter().map(|word| WORDS[word].to_owned()).collect();
        either(text.as_bytes(), &set);
        either(format!("version: 1\n{text}").as_bytes(), &set);
    }
}

#[test]
fn long_texts_give_short_messages() {
    let long = "x".repeat(100_000);
    for text in [
        format!("{long}: 1"),
        format!("version: 1\n{long}: 1"),
        format!("version: 1\nname: {long}"),
        format!("version: 1\ntag: {long}"),
        format!("version: 1\ncreated: {long}"),
        format!("version: 1\nlayers: {{strategy: {long}}}"),
        format!("version: 1\ncontents: [{{preset: [{long}]}}]"),
        format!("version: 1\ncontents: [{{dir: x, to: {long}}}]"),
        format!("version: 1\nperms: [{{path: /, mode: {long}}}]"),
        format!("version: 1\nperms: [{{path: /, uid: 0, regex: ({long}}}]"),
        format!("version: 1\nconfig: {{Env: [{long}], ExposedPorts: [{long}], Volumes: [{long}]}}"),
        format!("version: 1\nconfig: {{Env: {{{long}: [], =: b}}}}"),
        format!("version: 1\nfrom: {{image: x, platform: {long}, digest: {long}}}"),
    ] {
        let error = parse(&Arc::new(SourceFile::new("f", text)), &[]).unwrap_err();
        let length =
            std::iter::once(&error).chain(error.others()).map(|e| e.to_string().len()).max();
        assert!(
            length.unwrap() < 3000,
            "{}",
            error.to_string().chars().take(300).collect::<String>()
        );
    }
}
