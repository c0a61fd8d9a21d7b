//! Input meant to hurt: never a panic, never more memory than the ceiling allows.

use super::*;
use proptest::prelude::*;

#[test]
fn doubling_variables_stop() {
    let mut text = String::from("FROM b\nENV A=0123456789\n");
    text.push_str(&"ENV A=$A$A\n".repeat(60));
    assert!(error(&text).ends_with("variables or triggers make the build plan too large"));
    let mut args = String::from("ARG A=0123456789\n");
    args.push_str(&"ARG A=$A$A\n".repeat(60));
    args.push_str("FROM b\n");
    assert!(error(&args).ends_with("variables or triggers make the build plan too large"));
}

#[test]
fn many_large_steps_stop() {
    let long = "x".repeat(60_000);
    for text in [
        format!("FROM b\nENV A={long}\n{}", "RUN x\n".repeat(20_000)),
        format!("FROM b\n{}", "EXPOSE 0-65535\n".repeat(2_000)),
        format!("FROM b\n{}", "WORKDIR abcdefghijklmnopqrstuvwxyz\n".repeat(30_000)),
        format!("FROM b AS a\nENV A={long}\n{}", "FROM a AS a\n".repeat(3_000)),
    ] {
        assert!(
            error(&text).ends_with("variables or triggers make the build plan too large"),
            "{}",
            &text[..40]
        );
    }
}

#[test]
fn triggers_times_stages_stop() {
    let mut text = String::from("FROM b AS a\n");
    text.push_str(&"ONBUILD RUN x\n".repeat(2_000));
    let mut copies = String::new();
    for number in 0..2_000 {
        text.push_str(&format!("FROM a AS s{number}\n"));
        copies.push_str(&format!("COPY --from=s{number} x /\n"));
    }
    text.push_str("FROM b\n");
    text.push_str(&copies);
    assert!(error(&text).ends_with("variables or triggers make the build plan too large"));
}

#[test]
fn long_chains_of_stages_need_no_deep_stack() {
    let mut text = String::from("FROM b AS s0\n");
    for number in 1..20_000 {
        text.push_str(&format!("FROM b AS s{number}\nCOPY --from=s{} x /\n", number - 1));
    }
    assert_eq!(planned(&text).stages.len(), 20_000);
}

fn word() -> impl Strategy<Value = String> {
    let parts = prop::sample::select(vec![
        "a",
        "b",
        "/",
        "..",
        "$A",
        "${B}",
        "${A:-x}",
        "${B:+$A}",
        "${A#x*}",
        "\"q q\"",
        "'$A'",
        "\\",
        "é",
        "=",
        ":",
        "1",
        "80-90",
        "*",
        ",",
        "0755",
        "u=rwX",
        "${",
        "$",
        "<<E",
        "http://h/x",
    ]);
    prop::collection::vec(parts, 1..4).prop_map(|parts| parts.concat())
}

fn instruction() -> impl Strategy<Value = String> {
    let keyword = prop::sample::select(vec![
        "FROM b",
        "FROM",
        "FROM s AS",
        "FROM --platform=linux/$A b AS",
        "ARG",
        "ENV K=",
        "ENV",
        "LABEL l=",
        "RUN",
        "RUN --mount=type=cache,target=",
        "RUN --mount=from=",
        "RUN --network=",
        "COPY a",
        "COPY --from=0 a",
        "COPY --from=",
        "COPY --chmod=",
        "ADD a",
        "WORKDIR",
        "USER",
        "EXPOSE",
        "VOLUME",
        "STOPSIGNAL",
        "CMD",
        "ENTRYPOINT [\"",
        "SHELL",
        "HEALTHCHECK CMD",
        "ONBUILD RUN",
        "ONBUILD COPY --from=0 a",
        "ONBUILD ARG",
    ]);
    (keyword, word(), prop::option::of(word())).prop_map(|(keyword, first, second)| {
        let space = if keyword.ends_with('=') { "" } else { " " };
        format!("{keyword}{space}{first} {}\n", second.unwrap_or_default())
    })
}

proptest! {
    #[test]
    fn no_file_panics(
        meta in prop::option::of(word()),
        lines in prop::collection::vec(instruction(), 0..12),
        argument in word(),
        target in prop::option::of(word()),
    ) {
        let meta = meta.map(|word| format!("ARG A={word}\n")).unwrap_or_default();
        let text = format!("{meta}FROM b AS s\n{}", lines.concat());
        let request = PlanRequest { target, ..with_args(&[("B", &argument)]) };
        if let Ok(plan) = try_plan(&text, &request, &BTreeMap::new()) {
            prop_assert!(!print_plan(&plan).is_empty());
            for (index, stage) in plan.stages.iter().enumerate() {
                if let StageBase::Stage(base) = stage.base {
                    prop_assert!(base < index);
                }
            }
        }
    }
}
