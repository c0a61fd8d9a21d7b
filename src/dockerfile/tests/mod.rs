//! Tests of the whole front end: statements of dockerfile.md §6, golden files, and no panic on anything.

mod dump;
mod golden;
mod size;

use super::{
    ast::{Dockerfile, InstructionKind},
    heredoc::{RunScript, run_script},
    parse, parse_trigger,
};
use crate::source::{SourceFile, Span};
use proptest::prelude::*;
use std::sync::Arc;

fn source(text: impl Into<Vec<u8>>) -> Arc<SourceFile> {
    Arc::new(SourceFile::new("Dockerfile", text.into()))
}

fn parsed(text: &str) -> Dockerfile {
    parse(&source(text)).unwrap_or_else(|error| panic!("{text:?}: {error:?}"))
}

/// The instructions behind `FROM scratch`, dumped, without their places.
fn check(text: &str, expect: &[&str]) {
    let dump = dump::file(&parsed(&format!("FROM scratch\n{text}")));
    let lines: Vec<_> = dump
        .lines()
        .skip(1)
        .map(|line| {
            let line = line.trim_start();
            let first = line.split_once(' ').map_or(line, |(first, _)| first);
            if first.contains(':') { line[first.len()..].trim_start() } else { line }
        })
        .collect();
    assert_eq!(lines, expect, "{text:?}");
}

/// All errors of a file.
fn fails(text: impl Into<Vec<u8>>, expect: &[&str]) {
    let source = source(text);
    let error = parse(&source).err().unwrap_or_else(|| panic!("{source:?} parses"));
    let found: Vec<_> =
        std::iter::once(&error).chain(error.others()).map(ToString::to_string).collect();
    assert_eq!(found, expect, "{:?}", String::from_utf8_lossy(source.text()));
}

/// The one error of a line behind `FROM scratch`, without its place.
fn line_fails(line: &str, expect: &str) {
    let error = parse(&source(format!("FROM scratch\n{line}\nCMD x\n")))
        .err()
        .unwrap_or_else(|| panic!("{line:?} parses"));
    assert_eq!((error.message(), error.others().len()), (expect, 0), "{line:?}");
}

#[test]
fn statements_1_to_3_continuation() {
    let file = parsed("FROM scratch\nRUN echo a \\\n# c\n\n  b");
    assert_eq!(
        dump::file(&file),
        "1:1 FROM \"scratch\"\n  2:1 RUN shell \"echo a   b\"\nwarning 5:3 NoEmptyContinuation: Empty \
         continuation line\n"
    );
    assert_eq!(file.stages[0].instructions[0].text, "RUN echo a   b");
    assert_eq!(file.stages[0].instructions[0].span, Span::new(13, 34));
    check("RUN echo a \\  \nb", &["RUN shell \"echo a b\""]);
    check("RUN echo a\\\\\nCMD b", &["RUN shell \"echo a\\\\\\\\\"", "CMD shell \"b\""]);
}

#[test]
fn statements_4_to_8_file_level() {
    assert_eq!(parsed("# x=1\n# escape=`\nFROM a").directives.escape, '\\');
    fails(
        "#escape=x\nFROM a",
        &["Dockerfile:1:9: invalid escape token 'x' does not match ` or \\"],
    );
    fails(
        "# escape=`\n#escape=`\nFROM a",
        &["Dockerfile:2:9: only one escape parser directive can be used"],
    );
    assert_eq!(parsed("\u{feff}fRoM scratch").stages.len(), 1);
    let crlf = dump::file(&parsed("FROM a\r\nRUN b \\\r\n  c\r\n"));
    assert_eq!(crlf, dump::file(&parsed("FROM a\nRUN b \\\n  c\n")));
    let long = format!("FROM a\nRUN {}", "x".repeat(65_531));
    assert_eq!(parsed(&long).stages[0].instructions.len(), 1);
    fails(
        format!("{long}x\nFNORD"),
        &[
            "Dockerfile:2:1: dockerfile line greater than max allowed size of 65535",
            "Dockerfile:3:1: unknown instruction: FNORD",
        ],
    );
    let continued = format!("FROM a\nRUN {}", ("x".repeat(60_000) + " \\\n").repeat(40));
    assert_eq!(parsed(&continued).stages[0].instructions.len(), 1);
}

#[test]
fn statement_9_json_or_shell() {
    check("RUN ['a']", &["RUN shell \"['a']\""]);
    check("CMD []random", &["CMD shell \"[]random\""]);
    check("ENTRYPOINT []", &["ENTRYPOINT exec []"]);
    check("CMD [ \"a\", \"b c\" ]", &["CMD exec [\"a\", \"b c\"]"]);
    check("RUN\nCMD", &["RUN shell \"\"", "CMD shell \"\""]);
    line_fails(
        "RUN [\"a\", 1]",
        "when using JSON array syntax, arrays must be comprised of strings only",
    );
}

#[test]
fn statements_10_to_12_instructions_and_stages() {
    let error = parse(&source("FROM a\nFNTRYPOINT x")).unwrap_err();
    assert_eq!(error.to_string(), "Dockerfile:2:1: unknown instruction: FNTRYPOINT");
    assert_eq!(error.hints(), ["did you mean `ENTRYPOINT`?"]);
    fails("RUN true\nUSER x\nFROM a", &["Dockerfile:1:1: no build stage in current context"]);
    fails("FROM a b", &["Dockerfile:1:6: FROM requires either one or three arguments"]);
    fails("FORM a\nRUN b", &["Dockerfile:1:1: unknown instruction: FORM"]);
    fails(
        "ARG\nRUN b",
        &[
            "Dockerfile:1:1: ARG requires at least one argument",
            "Dockerfile:2:1: no build stage in current context",
        ],
    );
    fails("FROM --platform x a", &["Dockerfile:1:6: missing a value on flag: --platform"]);
    fails("FROM", &["Dockerfile:1:1: FROM requires either one or three arguments"]);
    fails("FROM a is b", &["Dockerfile:1:6: FROM requires either one or three arguments"]);
    fails(
        "FROM a AS 1a",
        &[
            "Dockerfile:1:11: invalid name for build stage: \"1a\", name can't start with a number or \
           contain symbols",
        ],
    );
    let name = parsed("FROM a as My-Stage_1.x").stages[0].from.name.clone().unwrap();
    assert_eq!((name.text.as_str(), name.span), ("my-stage_1.x", Span::new(10, 22)));
    fails("", &["Dockerfile:1:1: the Dockerfile cannot be empty"]);
    fails("\u{feff}", &["Dockerfile:1:1: the Dockerfile cannot be empty"]);
    fails("\n# only\n", &["Dockerfile:1:1: file with no instructions"]);
    fails("ARG a\n", &["Dockerfile:1:1: dockerfile contains no stages to build"]);
}

#[test]
fn statements_13_and_14_flags() {
    line_fails("COPY --chown x /d", "missing a value on flag: --chown");
    line_fails("COPY --chown=a --chown=b x /d", "duplicate flag specified: --chown");
    line_fails("COPY --link= x /d", "missing a value on flag: --link");
    line_fails("COPY --link=1 x /d", "expecting boolean value for flag --link, not: 1");
    line_fails("COPY --chonw=a x /d", "unknown flag: --chonw");
    line_fails("CMD --x", "unknown flag: --x");
    check("COPY -- --weird /d/", &["COPY \"--weird\" -> \"/d/\""]);
    check("CMD -- --x", &["CMD shell \"--x\""]);
    check("COPY --link --parents=FALSE x /d", &["COPY \"x\" -> \"/d\" link"]);
    check("COPY --chown= x /d", &["COPY \"x\" -> \"/d\""]);
}

#[test]
fn statements_15_to_18_env_and_label() {
    line_fails("ENV a", "ENV must have two arguments");
    line_fails("ENV", "ENV requires at least one argument");
    line_fails(
        "ENV a=b c",
        "syntax error - can't find = in \"c\", must be of the form: name=value",
    );
    line_fails("ENV =b", "ENV names can not be blank");
    line_fails("LABEL =b", "LABEL names can not be blank");
    line_fails("ARG a =x", "ARG names can not be blank");
    line_fails("ARG", "ARG requires at least one argument");
    check("ENV LEG one   two \"three\" $A", &[r#"ENV "LEG" legacy "one   two \"three\" $A""#]);
    check(
        r#"ENV D='$A' E="$A" F=\$A C=a\ b"#,
        &[r#"ENV "D" = "'$A'" "E" = "\"$A\"" "F" = "\\$A" "C" = "a\\ b""#],
    );
    check(r"LABEL k3='$A'", &[r#"LABEL "k3" = "'$A'""#]);
    check(r#"LABEL "k"="v w""#, &[r#"LABEL "\"k\"" = "\"v w\"""#]);
    check("ARG a b= 1c=\"x y\"", &[r#"ARG "a" "b" default: "" "1c" default: "\"x y\"""#]);
}

#[test]
fn statements_19_to_26_lists_and_from() {
    check("VOLUME [\"/v3 x\"]", &[r#"VOLUME "/v3 x"@"\"/v3 x\"""#]);
    check("VOLUME /a /b", &["VOLUME \"/a\" \"/b\""]);
    line_fails("VOLUME [\"\"]", "VOLUME specified can not be an empty string");
    line_fails("VOLUME []", "VOLUME requires at least one argument");
    check("EXPOSE $P 80/tcp", &["EXPOSE \"$P\" \"80/tcp\""]);
    check("USER $U", &["USER \"$U\""]);
    check("COPY $E f /x", &["COPY \"$E\" \"f\" -> \"/x\""]);
    check("WORKDIR \"/a b\"", &[r#"WORKDIR "\"/a b\"""#]);
    line_fails(
        "COPY --from=$X a /b",
        "variable expansion is not supported for --from, define a new stage with FROM using ARG from \
         global scope as a workaround",
    );
    line_fails(
        "COPY a",
        "COPY requires at least two arguments, but only one was provided: destination could not be \
         determined",
    );
    line_fails("SHELL sh -c", "SHELL requires the arguments to be in JSON form");
    line_fails("SHELL []", "SHELL requires at least one argument");
    line_fails("WORKDIR", "WORKDIR requires exactly one argument");
}

#[test]
fn healthchecks() {
    check("HEALTHCHECK NONE", &["HEALTHCHECK none"]);
    check(
        "HEALTHCHECK --interval=1m --retries=0 cmd curl x",
        &["HEALTHCHECK shell \"curl x\" interval=60000000000 retries=0"],
    );
    check("HEALTHCHECK CMD [\"a\"]", &["HEALTHCHECK exec [\"a\"]"]);
    line_fails("HEALTHCHECK", "HEALTHCHECK requires at least one argument");
    line_fails("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments");
    line_fails("HEALTHCHECK CMD", "missing command after HEALTHCHECK CMD");
    line_fails("HEALTHCHECK RUN x", "unknown type \"RUN\" in HEALTHCHECK (try CMD)");
    line_fails("HEALTHCHECK --interval=30 CMD x", "missing unit in duration `30`");
    line_fails("HEALTHCHECK --timeout=1us CMD x", "interval \"timeout\" cannot be less than 1ms");
    line_fails("HEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative (-1)");
    line_fails("HEALTHCHECK --retries=x CMD x", "`--retries` is not a number: `x`");
}

#[test]
fn statements_55_to_58_heredocs() {
    check(
        "COPY <<EOF a <<-'B c' /f\nit's \"$X\" \\$X \\\\\nEOF\n\tb\n\tB c\n",
        &[
            "COPY \"a\" -> \"/f\"",
            "<<EOF 3:1 \"it's \\\"$X\\\" \\\\$X \\\\\\\\\\n\"",
            "<<-'B c' 5:1 \"\\tb\\n\"",
        ],
    );
    let script = |text: &str| {
        let file = parsed(&format!("FROM a\n{text}"));
        let InstructionKind::Run(run) = &file.stages[0].instructions[0].kind else { panic!() };
        (run.has_only_heredoc(), run_script(run))
    };
    let command = |text: &str| RunScript::Command(text.to_owned());
    assert_eq!(
        script("RUN <<EOF\n#!/bin/awk -f\n{}\nEOF\n"),
        (
            true,
            RunScript::Script { name: "EOF".to_owned(), body: "#!/bin/awk -f\n{}\n".to_owned() }
        )
    );
    assert_eq!(script("RUN <<'EOF'\nx $y\nEOF"), (true, command("x $y\n")));
    assert_eq!(
        script("RUN cat <<A > /a && cat <<B > /b\n1\nA\n2\nB\n"),
        (false, command("cat <<A > /a && cat <<B > /b\n1\nA\n2\nB"))
    );
    line_fails("COPY <<A <<B\nA\nB", "COPY cannot accept a heredoc as a destination");
    line_fails("COPY <<a/b /d\na/b", "heredoc name `a/b` cannot be the name of a file");
    check("USER <<X", &["USER \"<<X\""]);
    check("RUN [\"<<EOF\"]", &["RUN exec [\"<<EOF\"]"]);
    check("COPY [\"<<EOF\", \"/x\"]", &[r#"COPY "<<EOF"@"\"<<EOF\"" -> "/x"@"\"/x\"""#]);
    check("RUN echo '<<EOF'", &["RUN shell \"echo '<<EOF'\""]);
    fails("FROM a\nRUN cat <<EOF>x\nEOF\n", &["Dockerfile:2:9: unterminated heredoc"]);
    check("RUN <<E\na\r\nE\r\n", &["RUN shell \"<<E\"", "<<E 3:1 \"a\\r\\n\""]);
}

#[test]
fn triggers_that_are_never_allowed_are_refused_where_they_are_written() {
    check("ONBUILD RUN a", &["ONBUILD \"RUN a\""]);
    check(
        "ONBUILD COPY <<A <<-B /d\n1\nA\n\t2\nB",
        &["ONBUILD \"COPY <<A <<-B /d\\n1\\nA\\n\\t2\\nB\""],
    );
    line_fails("ONBUILD", "ONBUILD requires at least one argument");
    line_fails("ONBUILD ONBUILD RUN a", "chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
    line_fails("ONBUILD from a", "FROM isn't allowed as an ONBUILD trigger");
    line_fails("ONBUILD MAINTAINER a", "MAINTAINER isn't allowed as an ONBUILD trigger");
    // Anything else is stored: it is an instruction only where it runs.
    check("ONBUILD COPPY a b", &["ONBUILD \"COPPY a b\""]);
    check("ONBUILD COPY a", &["ONBUILD \"COPY a\""]);
}

#[test]
fn triggers_are_parsed_with_the_default_escape_at_the_place_given() {
    let origin = source("FROM base");
    let span = Span::new(5, 9);
    let dump = |text: &str| match parse_trigger(text, &origin, span) {
        Ok(instruction) => dump::instruction(&instruction, &origin),
        Err(error) => error.to_string(),
    };
    assert_eq!(dump("USER x"), "1:6 (on build) USER \"x\"@\"base\"\n");
    assert_eq!(
        dump("RUN cat <<A\n1\nA"),
        "1:6 (on build) RUN shell \"cat <<A\"\n    <<A 1:6 \"1\\n\"\n"
    );
    assert_eq!(dump("FNORD"), "Dockerfile:1:6: unknown instruction: FNORD");
    assert_eq!(dump("FROM x"), "Dockerfile:1:6: FROM isn't allowed as an ONBUILD trigger");
    assert_eq!(dump(""), "Dockerfile:1:6: an ONBUILD trigger must be one instruction");
    assert_eq!(
        dump("USER a\nUSER b"),
        "Dockerfile:1:6: an ONBUILD trigger must be one instruction"
    );
    assert_eq!(dump("RUN <<X"), "Dockerfile:1:6: unterminated heredoc");
}

#[test]
fn text_that_is_no_utf8_is_an_error_with_its_line() {
    assert!(parse(&source(&b"# caf\xe9\nFROM a\n# \xff"[..])).is_ok());
    fails(
        &b"FROM a\nRUN \\\n a\xff\nFNORD\n"[..],
        &[
            "Dockerfile:3:3: line 3 is not valid UTF-8",
            "Dockerfile:4:1: unknown instruction: FNORD",
        ],
    );
    fails(
        &b"FROM a\nCOPY <<E /f\nx\xff\nE\n"[..],
        &["Dockerfile:3:2: heredoc `E` is not valid UTF-8"],
    );
}

#[test]
fn errors_are_collected_but_not_without_end() {
    let source = source(format!("FROM a\n{}", "FNORD\n".repeat(1000)));
    assert_eq!(parse(&source).unwrap_err().others().len(), 19);
}

const PIECES: &str = "(FROM |RUN |COPY |ADD |ENV |LABEL |ARG |ONBUILD |HEALTHCHECK |CMD |VOLUME |SHELL |--[a-z]{1,4}=?|\
    # escape=`\n|<<-?E|E\n|\\\\\n|`\n|\"|'|\\[|\\]|,|[ \ta-z=$\\{\\}\r]|\n|\\PC)";

proptest! {
    #[test]
    fn parse_never_panics_on_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(parse(&source(bytes)));
    }

    #[test]
    fn parse_never_panics_on_what_looks_like_a_dockerfile(
        pieces in prop::collection::vec(PIECES, 0..40),
        bad in prop::option::of(0usize..100),
    ) {
        let mut bytes = format!("FROM a\n{}", pieces.concat()).into_bytes();
        if let Some(at) = bad.filter(|at| *at < bytes.len()) {
            bytes[at] = 0xff;
        }
        let source = source(bytes);
        if let Ok(file) = parse(&source) {
            drop(dump::file(&file));
            for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
                prop_assert!(instruction.span.end <= source.text().len());
                if let InstructionKind::Run(run) = &instruction.kind {
                    drop(run_script(run));
                }
                if let InstructionKind::OnBuild(trigger) = &instruction.kind {
                    drop(parse_trigger(&trigger.text, &source, trigger.span));
                }
            }
        }
    }

    #[test]
    fn what_has_a_tree_has_a_raw_tree(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let source = source(bytes);
        let raw = crate::dockerfile::dump(&source);
        prop_assert!(parse(&source).is_err() || raw.is_ok());
    }

    #[test]
    fn triggers_never_panic(text in "\\PC{0,60}") {
        drop(parse_trigger(&text, &source("FROM a"), Span::new(0, 4)));
    }
}
