//! Checks that planning makes: which lines they name, and above all where they say nothing.

use super::*;
use crate::dockerfile::lint::Rule;

/// `LINE RULE` of everything that planning all stages finds; images but `unknown` are known.
fn found_with(text: &str, request: &PlanRequest) -> Vec<String> {
    let source = Arc::new(SourceFile::new("Dockerfile", text));
    let dockerfile = crate::dockerfile::parse(&source).unwrap();
    let known = bases(&dockerfile, request).unwrap().into_iter().map(|(base, _)| base);
    let known = known.filter(|base| base.reference != "unknown").map(|base| (base, base_config()));
    let plan = check(&dockerfile, request, &known.collect()).unwrap();
    let mut found: Vec<_> = check_froms(&dockerfile, request).unwrap();
    found.extend(plan.checks);
    found.iter().map(|it| format!("{} {}", source.line(it.span.start), it.rule)).collect()
}

#[track_caller]
fn finds(text: &str, expect: &[(usize, Rule)]) {
    let expect: Vec<String> = expect.iter().map(|(line, rule)| format!("{line} {rule}")).collect();
    assert_eq!(found_with(text, &request()), expect, "{text}");
}

#[test]
fn variables_are_defined_by_arg_env_the_base_and_the_platform() {
    finds("FROM b\nARG foo\nCOPY Dockerfile${foo} .\n", &[]);
    finds("FROM b AS base\nARG foo=1\nFROM base\nCOPY $foo .\n", &[]);
    finds("FROM b\nENV PATH=$PATH:/x\n", &[]);
    finds("FROM scratch\nENV PATH=$PATH:/x\n", &[]);
    finds("FROM b\nARG TARGETARCH\nENV A=$TARGETARCH\n", &[]);
    finds("FROM b\nENV A=$TARGETARCH\n", &[(2, Rule::UndefinedVar)]);
    finds("ARG G=1\nFROM b\nENV A=$G\n", &[(3, Rule::UndefinedVar)]);
    finds("FROM b\nENV A=1 B=$A\n", &[(2, Rule::UndefinedVar)]);
}

#[test]
fn variables_count_wherever_they_are_expanded_and_nowhere_else() {
    finds("FROM b\nRUN echo $x\nCMD [\"$x\"]\nENTRYPOINT [\"$x\"]\n", &[]);
    finds("FROM b\nCOPY <<'EOF' /f\n$x\nEOF\n", &[]);
    finds("FROM b\nCOPY <<EOF /f\n$x $x\nEOF\n", &[(2, Rule::UndefinedVar)]);
    finds("FROM b\nRUN --mount=target=/a$x true\n", &[(2, Rule::UndefinedVar)]);
    finds("FROM b\nENV A=${x:-1}\n", &[(2, Rule::UndefinedVar)]);
    finds("FROM b\nONBUILD COPY $x /\nFROM scratch\n", &[]);
    finds("FROM b AS a\nONBUILD COPY $x /\nFROM a\n", &[(2, Rule::UndefinedVar)]);
}

#[test]
fn nothing_is_known_of_variables_on_an_unknown_base() {
    finds("FROM unknown AS a\nCOPY $x /\nFROM a\nENV A=$x\n", &[]);
    finds("FROM unknown\nWORKDIR a\n", &[(2, Rule::WorkdirRelativePath)]);
}

#[test]
fn arguments_of_from_are_declared_or_predefined() {
    finds("ARG base=b\nFROM $base\n", &[]);
    finds("FROM --platform=$BUILDPLATFORM b\n", &[]);
    finds("ARG v=''\nFROM b:stable$v\n", &[]);
    finds("FROM b:1$v\n", &[(1, Rule::UndefinedArgInFrom)]);
    let given = with_args(&[("V", "1")]);
    assert_eq!(found_with("ARG V\nFROM b:$V\n", &given), ["2 InvalidDefaultArgInFrom"]);
    assert_eq!(found_with("ARG V\nFROM b:1$V\n", &given), [""; 0]);
    assert_eq!(found_with("ARG V=2\nFROM b:$V\n", &given), [""; 0]);
}

#[test]
fn a_build_only_checks_the_stages_that_it_needs() {
    let plan = planned("FROM b AS one\nENV a b\nFROM b\nLABEL a b\n");
    let rules: Vec<Rule> = plan.checks.iter().map(|it| it.rule).collect();
    assert_eq!((rules.as_slice(), plan.checks.len()), (&[Rule::LegacyKeyValueFormat][..], 1));
}
