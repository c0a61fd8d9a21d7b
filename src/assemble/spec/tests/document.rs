//! docs/assemble.md: its examples are valid, its mistakes are told so, and no key or word is missing.

use super::{schema::MAPPINGS, validator::validate, *};
use crate::layers::compress::ZSTD_LEVEL;

const DOCUMENT: &str = include_str!("../../../../docs/assemble.md");

/// Blocks of a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    DOCUMENT.split(&fence).skip(1).filter_map(|rest| rest.split_once("```")).map(|b| b.0).collect()
}

#[test]
fn the_examples_of_the_document_are_valid() {
    let schema = serde_json::from_str(SCHEMA).unwrap();
    let examples = blocks("yaml");
    assert!(examples.len() >= 5);
    for text in examples {
        let (_, warnings) = read(text, &[]).unwrap_or_else(|error| panic!("{text}\n{error:?}"));
        assert_eq!(warnings, Vec::<String>::new());
        let json = yaml::to_json(&Arc::new(SourceFile::new("f", text))).unwrap();
        assert_eq!(validate(&schema, &json), Ok(()), "{text}");
    }
}

#[test]
fn the_document_has_every_key_and_word() {
    let keys = MAPPINGS.iter().flat_map(|(_, keys)| *keys);
    let words = ["store", "bind", "now", "source-date-epoch", "from-git", "keep", "drop"];
    for name in keys.chain(&words).chain(keys::PRESETS).chain(keys::INHERIT) {
        let shown = [
            format!("`{name}`"),
            format!("`{name}:"),
            format!("type: {name}"),
            format!("{name}: "),
        ];
        assert!(shown.iter().any(|form| DOCUMENT.contains(form)), "{name}");
    }
    for (name, _) in keys::STRATEGIES {
        assert!(DOCUMENT.contains(&format!("`{name}`")), "{name}");
    }
}

/// The code still had the level from before docs/adr/0003; found by reading.
#[test]
fn the_usual_levels_are_those_of_the_documents() {
    let level = |rest: &str| {
        let text = format!("version: 1\nname: a\n{rest}");
        read(&text, &[]).unwrap().0.compression.1
    };
    let gzip = Some(i32::from(GZIP_LEVEL));
    for rest in ["", "compression: {}\n", "compression: {kind: gzip}\n"] {
        assert_eq!(level(rest), gzip, "{rest}");
    }
    assert_eq!(level("compression: {kind: zstd}\n"), Some(ZSTD_LEVEL));
    assert!(SCHEMA.contains(&format!("; {GZIP_LEVEL} and {ZSTD_LEVEL} without it.")));
    assert!(DOCUMENT.contains(&format!("| {GZIP_LEVEL}, {ZSTD_LEVEL} | level |")));
}

#[test]
fn the_mistakes_of_the_document_are_told_so() {
    let text = "version: 1\nname: a\nconfig: {Entrypont: [/bin/sh]}\ncontents:\n- dir: ./rootfs\n  tar: ./files.tar\n";
    let error = read(text, &["layers.max=many"]).unwrap_err();
    assert_eq!(error.others().len(), 2);
    for error in std::iter::once(&error).chain(error.others()) {
        let place = error.place().unwrap();
        let (line, column) = place.source.line_column(place.span.start);
        let mut lines = vec![
            format!("error: {}", error.message()),
            format!("--> {}:{line}:{column}", place.source.name()),
            format!(" {line} | {}", place.source.line_text(line)),
        ];
        lines.extend(error.hints().iter().map(|hint| format!("help: {hint}")));
        lines.extend(error.causes().iter().map(|cause| format!(" cause: {cause}")));
        for line in lines {
            assert!(DOCUMENT.contains(&format!("{line}\n")), "{line}");
        }
    }
}
