//! Statements 1 to 19: what is built from lines, flags, quotes and JSON.

use super::{PATH, added, build, config, diff_ids, env, history, output, printed, refused, world};
use serde_json::json;

#[test]
fn statements_1_to_3_a_line_goes_on_behind_one_escape_with_blanks() {
    let world = world();
    let text =
        "FROM base\nRUN echo a \\\n# c\n\n  b\nRUN echo a \\  \t\n c\nRUN echo a\\\\\nENV B=1\n";
    let said = build(&world, text, &[]);
    assert_eq!(printed(&said), ["a b", "a c", "a\\"]);
    let warnings: Vec<_> = said.stderr.lines().filter(|l| l.starts_with("warning: ")).collect();
    assert_eq!(warnings, ["warning: NoEmptyContinuation: Empty continuation line (Dockerfile:5)"]);
    assert_eq!(
        history(&world),
        [
            "layer RUN /bin/sh -c echo a   b # buildkit",
            "layer RUN /bin/sh -c echo a  c # buildkit",
            "layer RUN /bin/sh -c echo a\\\\ # buildkit",
            "empty ENV B=1",
        ]
    );
}

#[test]
fn statements_4_to_8_directives_marks_ends_and_lengths_of_lines() {
    let world = world();
    let escaped = build(&world, "# x=1\n# escape=`\nFROM base\nRUN echo a \\\n b\n", &[]);
    assert_eq!(printed(&escaped), ["a b"]);
    assert_eq!(
        refused(&world, "#escape=x\nFROM base\n", &[]),
        "1:9: invalid escape token 'x' does not match ` or \\"
    );
    assert_eq!(
        refused(&world, "# escape=`\n# escape=`\nFROM base\n", &[]),
        "2:10: only one escape parser directive can be used"
    );
    build(&world, "\u{feff}FROM base\nLABEL a=b\n", &[]);
    assert_eq!(config(&world)["Labels"], json!({"a": "b"}));
    let said = build(&world, "fRoM scratch\nLABEL a=b\n", &[]);
    let warnings: Vec<_> = said.stderr.lines().filter(|l| l.starts_with("warning: ")).collect();
    assert_eq!(
        warnings,
        [
            "warning: ConsistentInstructionCasing: Command 'fRoM' should match the case of the command \
             majority (uppercase) (Dockerfile:1)"
        ]
    );
    let lines = "FROM base\nRUN echo a \\\n  b > /f\nLABEL a=b \\\n c=d\n";
    let epoch = ["--source-date-epoch", "1"];
    let unix = build(&world, lines, &epoch).ok();
    let dos = build(&world, &lines.replace('\n', "\r\n"), &epoch);
    assert_eq!((dos.cached(), dos.done()), (1, 0), "{}", dos.stderr);
    assert_eq!(dos.ok(), unix);
    // 65535 bytes are a line, one more is not; many lines are as long as they like.
    let value = "x".repeat(65_529);
    build(&world, &format!("FROM scratch\nENV A={value}\n"), &[]);
    assert_eq!(config(&world)["Env"], json!([PATH, format!("A={value}")]));
    assert_eq!(
        refused(&world, &format!("FROM scratch\nENV A={value}x\n"), &[]),
        "2:1: dockerfile line greater than max allowed size of 65535"
    );
    let long = format!("x{} \\\n", "y".repeat(60_000));
    let label = format!("FROM scratch\nLABEL k=\"{}\"\n", long.repeat(40));
    build(&world, &label, &[]);
    let found = config(&world)["Labels"]["k"].as_str().unwrap().len();
    assert_eq!(found, 40 * 60_002);
}

#[test]
fn statement_9_what_is_no_json_is_for_the_shell() {
    let world = world();
    assert_eq!(
        refused(&world, "FROM base\nRUN ['a']\n", &[]),
        "2:1: process `/bin/sh -c ['a']` did not complete successfully: exit code: 127"
    );
    let text = world.build("FROM base\nRUN echo first\nRUN [\"a\", 1]\n", &[]).failed(1);
    assert_eq!(
        text,
        "error: when using JSON array syntax, arrays must be comprised of strings only\n\
         \x20 --> Dockerfile:3:11\n   |\n 3 | RUN [\"a\", 1]\n   |           ^\n\
         help: put every element into double quotes\n"
    );
    build(&world, "FROM base\nCMD []random\n", &[]);
    assert_eq!(
        config(&world),
        json!({"ArgsEscaped": true, "Cmd": ["/bin/sh", "-c", "[]random"], "Env": [PATH]})
    );
    assert_eq!(history(&world), ["empty CMD [\"/bin/sh\" \"-c\" \"[]random\"]"]);
}

#[test]
fn statements_10_to_12_unknown_instructions_and_bad_stages() {
    let world = world();
    let text = world.build("FROM base\nFNTRYPOINT x\n", &[]).failed(1);
    assert_eq!(
        text,
        "error: unknown instruction: FNTRYPOINT\n  --> Dockerfile:2:1\n   |\n 2 | FNTRYPOINT x\n   | \
         ^^^^^^^^^^\nhelp: did you mean `ENTRYPOINT`?\n"
    );
    for (text, expected) in [
        ("RUN true\nFROM base\n", "1:1: no build stage in current context"),
        ("FROM a b\n", "1:6: FROM requires either one or three arguments"),
        (
            "FROM base AS 1a\n",
            "1:14: invalid name for build stage: \"1a\", name can't start with a number or contain symbols",
        ),
    ] {
        assert_eq!(refused(&world, text, &[]), expected, "{text}");
    }
}

#[test]
fn statements_13_and_14_flags_have_values_and_end() {
    let world = world();
    world.file("--weird", "w\n").file("x", "x\n");
    assert_eq!(
        refused(&world, "FROM base\nCOPY --chown x /d\n", &[]),
        "2:6: missing a value on flag: --chown"
    );
    build(&world, "FROM base\nCOPY -- --weird /d/\n", &[]);
    assert_eq!(added(&world), ["d dir 755 0:0 0", "d/--weird file 644 0:0 2"]);
    assert_eq!(history(&world), ["layer COPY --weird /d/ # buildkit"]);
}

#[test]
fn statements_15_to_18_quotes_and_escapes_of_env_and_label() {
    let world = world();
    for (line, expected) in [
        ("ENV a", "2:5: ENV must have two arguments"),
        ("ENV a=b c", "2:9: syntax error - can't find = in \"c\", must be of the form: name=value"),
        ("ENV =b", "2:5: ENV names can not be blank"),
    ] {
        assert_eq!(refused(&world, &format!("FROM base\n{line}\n"), &[]), expected);
    }
    let steps = r#"ENV A=1
ENV LEG one   two "three" $A
ENV A=2 D='$A' E="$A" F=\$A C=a\ b
RUN for n in LEG A D E F C; do eval "echo \"$n=\$$n\""; done
LABEL k3='$A' "k"="v w"
"#;
    let expected = ["LEG=one   two three 1", "A=2", "D=$A", "E=1", "F=$A", "C=a b"];
    assert_eq!(output(&world, steps), expected);
    // A new value stands where the old one stood.
    let stored = ["A=2", "LEG=one   two three 1", "D=$A", "E=1", "F=$A", "C=a b"];
    assert_eq!(env(&world), stored);
    assert_eq!(config(&world)["Labels"], json!({"k": "v w", "k3": "$A"}));
    let texts = history(&world);
    assert_eq!(
        texts[1..3],
        ["empty ENV LEG=one   two three 1", "empty ENV A=2 D=$A E=1 F=$A C=a b"]
    );
    assert_eq!(texts[4], "empty LABEL k3=$A k=v w");
}

#[test]
fn statement_19_volumes_are_words_or_json() {
    let world = world();
    build(&world, "FROM base\nVOLUME [\"/v3 x\"]\n", &[]);
    assert_eq!(config(&world)["Volumes"], json!({"/v3 x": {}}));
    build(&world, "FROM base\nVOLUME /a /b\n", &[]);
    assert_eq!(config(&world)["Volumes"], json!({"/a": {}, "/b": {}}));
    assert_eq!(history(&world), ["empty VOLUME [/a /b]"]);
    assert_eq!(diff_ids(&world), [""; 0]);
}
