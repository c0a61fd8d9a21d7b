//! ARG, ENV and build arguments (statements 27 to 34).

use super::*;

#[test]
fn the_last_of_arg_and_env_wins() {
    let arg_last = "FROM b AS a\nENV F=a\nARG F=b\nARG G=g\nRUN x\n";
    assert_eq!(run_env(&planned(arg_last)), ["F=b", "G=g"]);
    assert_eq!(target(&planned(arg_last)).config.config.env, ["PATH=/bin", "F=a"]);
    let child = format!("{arg_last}FROM a\nRUN x\n");
    assert_eq!(run_env(&planned(&child)), ["F=a", "G=g"]);
    let env_last = "FROM b\nARG F=b\nENV F=a\nRUN x\n";
    assert_eq!(run_env(&planned(env_last)), ["F=a"]);
}

#[test]
fn meta_arguments_reach_a_stage_only_by_declaration() {
    for (stage, args, expected) in [
        ("RUN x", vec![], vec![]),
        ("ARG G\nRUN x", vec![], vec!["G=1"]),
        ("ARG G=2\nRUN x", vec![], vec!["G=2"]),
        ("ARG G=2\nRUN x", vec![("G", "3")], vec!["G=3"]),
        ("ARG G\nRUN x", vec![("G", "3")], vec!["G=3"]),
        ("ENV E=$G\nRUN x", vec![], vec!["E="]),
    ] {
        let text = format!("ARG G=1\nFROM b\n{stage}\n");
        assert_eq!(run_env(&planned_for(&text, &with_args(&args))), expected, "{stage}");
    }
}

#[test]
fn a_build_argument_keeps_the_default_from_being_evaluated() {
    let text = "FROM b\nARG B=${F:?x}\nRUN x\n";
    assert_eq!(run_env(&planned_for(text, &with_args(&[("B", "1")]))), ["B=1"]);
    assert_eq!(error(text), "2:7: F: x");
}

#[test]
fn undeclared_build_arguments_warn_and_change_nothing() {
    let text = "FROM b\nARG A\nRUN x\n";
    let known = [("A", "1"), ("http_proxy", "p"), ("TARGETOS", "linux"), ("BUILDKIT_SYNTAX", "x")];
    let plain = planned_for(text, &with_args(&known));
    assert_eq!(plain.warnings, []);
    let with = planned_for(text, &with_args(&[&known[..], &[("NOPE", "2")]].concat()));
    assert_eq!(
        with.warnings,
        [PlanWarning {
            message: "build argument `NOPE` is declared by no ARG and has no effect".to_owned(),
            span: None
        }]
    );
    let quiet = BuildPlan { warnings: Vec::new(), ..with };
    assert_eq!(print_plan(&quiet), print_plan(&plain));
}

/// It is stored as BuildKit stores it, and who builds on the image gets the error.
#[test]
fn a_misspelt_trigger_warns_and_is_stored() {
    let plan = planned("FROM b\nONBUILD rnu x\nONBUILD run y\nONBUILD what\n");
    let warning = |message: &str, start: usize, end: usize| PlanWarning {
        message: format!("ONBUILD stores an unknown instruction: {message}"),
        span: Some((start..end).into()),
    };
    assert_eq!(
        plan.warnings,
        [warning("rnu, did you mean `RUN`?", 15, 20), warning("what", 43, 47)]
    );
    assert_eq!(target(&plan).config.config.on_build, ["rnu x", "run y", "what"]);
}

#[test]
fn an_argument_without_value_is_no_variable_but_an_empty_one_is() {
    let plan = planned("FROM b\nARG X\nARG Y=\nRUN x\n");
    assert_eq!(run_env(&plan), ["Y="]);
    assert_eq!(history(&plan), ["ARG X", "ARG Y=", "RUN |2 X= Y= /bin/sh -c x # buildkit"]);
}

#[test]
fn proxies_are_in_both_spellings_and_nowhere_else() {
    let plan = planned_for("FROM b\nRUN x\n", &with_args(&[("http_proxy", "p")]));
    let pair = |name: &str| (name.to_owned(), "p".to_owned());
    assert_eq!(runs(&plan)[0].proxy_env, [pair("HTTP_PROXY"), pair("http_proxy")]);
    assert_eq!(run_env(&plan), Vec::<String>::new());
    assert_eq!(history(&plan), ["RUN /bin/sh -c x # buildkit"]);
    assert_eq!(target(&plan).config.config.env, ["PATH=/bin"]);
    let declared =
        planned_for("FROM b\nARG http_proxy\nRUN x\n", &with_args(&[("http_proxy", "p")]));
    assert_eq!(runs(&declared)[0].proxy_env, [pair("HTTP_PROXY")]);
    assert_eq!(run_env(&declared), ["http_proxy=p"]);
}

#[test]
fn history_lists_each_argument_once_with_its_value_of_now() {
    let plan = planned("FROM b\nARG foo=bar\nARG bar=123\nARG foo=bar2\nRUN x\nENV bar=e\nRUN y\n");
    assert_eq!(
        history(&plan),
        [
            "ARG foo=bar",
            "ARG bar=123",
            "ARG foo=bar2",
            "RUN |2 foo=bar2 bar=123 /bin/sh -c x # buildkit",
            "ENV bar=e",
            "RUN |2 foo=bar2 bar=e /bin/sh -c y # buildkit",
        ]
    );
}

#[test]
fn platform_arguments_need_a_declaration_in_stages() {
    let request = PlanRequest { platform: Some(platform("linux/arm/v7")), ..request() };
    let undeclared = planned_for("FROM b\nENV A=$TARGETSTAGE$TARGETOS\nRUN x\n", &request);
    assert_eq!(run_env(&undeclared), ["A="]);
    let text = "FROM b\nARG TARGETPLATFORM TARGETOS TARGETOSVERSION TARGETARCH TARGETVARIANT\n\
                ARG BUILDPLATFORM BUILDVARIANT TARGETSTAGE\nRUN x\n";
    assert_eq!(
        run_env(&planned_for(text, &request)),
        [
            "TARGETPLATFORM=linux/arm/v7",
            "TARGETOS=linux",
            "TARGETOSVERSION=",
            "TARGETARCH=arm",
            "TARGETVARIANT=v7",
            "BUILDPLATFORM=linux/amd64",
            "BUILDVARIANT=",
            "TARGETSTAGE=default",
        ]
    );
}

#[test]
fn a_version_of_the_operating_system_has_an_argument_of_its_own() {
    let request = PlanRequest { platform: Some(platform("linux(6.7)/arm64")), ..request() };
    let text = "FROM b\nARG TARGETPLATFORM TARGETOSVERSION\nRUN x\n";
    let expected = ["TARGETPLATFORM=linux/arm64", "TARGETOSVERSION=6.7"];
    assert_eq!(run_env(&planned_for(text, &request)), expected);
}

#[test]
fn platform_arguments_are_overridden_one_by_one() {
    let text = "FROM b\nARG TARGETOS TARGETPLATFORM\nRUN x\n";
    let plan = planned_for(text, &with_args(&[("TARGETOS", "freebsd")]));
    assert_eq!(run_env(&plan), ["TARGETOS=freebsd", "TARGETPLATFORM=linux/amd64"]);
}

#[test]
fn target_stage_is_the_wanted_or_the_last_name() {
    let text = "FROM b AS one\nARG TARGETSTAGE\nRUN x\nFROM b AS two\nARG TARGETSTAGE\nRUN x\n";
    assert_eq!(run_env(&planned(text)), ["TARGETSTAGE=two"]);
    let one = PlanRequest { target: Some("one".to_owned()), ..request() };
    assert_eq!(run_env(&planned_for(text, &one)), ["TARGETSTAGE=one"]);
}

#[test]
fn expansion_sees_the_variables_before_the_instruction() {
    let text =
        "FROM b\nENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc\nARG x=$ghi y=$x\nRUN x\n";
    assert_eq!(run_env(&planned(text)), ["abc=bye", "def=hello", "ghi=bye", "x=bye", "y="]);
}

#[test]
fn meta_arguments_see_earlier_ones_and_name_images() {
    let text = "ARG i=idlebox\nARG j=${i#idle}\nFROM busy$j\nRUN x\n";
    let plan = planned(text);
    let base = &target(&plan).base;
    let StageBase::Image(image) = base else { panic!("{base:?}") };
    assert_eq!(image.reference, "busybox");
}

#[test]
fn the_epoch_is_a_build_argument() {
    let request = PlanRequest { epoch: Some(7), ..with_args(&[("SOURCE_DATE_EPOCH", "context")]) };
    let text = "FROM b\nARG SOURCE_DATE_EPOCH\nRUN x\n";
    assert_eq!(run_env(&planned_for(text, &request)), ["SOURCE_DATE_EPOCH=7"]);
    assert_eq!(planned_for("FROM b\n", &request).warnings, []);
}

#[test]
fn sbom_arguments_show_in_history_only() {
    let plan = planned("FROM b\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nRUN x\n");
    assert_eq!(run_env(&plan), Vec::<String>::new());
    assert_eq!(history(&plan)[1], "RUN |1 BUILDKIT_SBOM_SCAN_STAGE=true /bin/sh -c x # buildkit");
}

#[test]
fn the_epoch_comes_from_the_request_or_the_file() {
    let epoch_of = |text: &str, request: &PlanRequest| {
        let source = Arc::new(SourceFile::new("Dockerfile", text));
        epoch(&crate::dockerfile::parse(&source).unwrap(), request)
    };
    let given = |value: &str| with_args(&[("SOURCE_DATE_EPOCH", value)]);
    let file = "ARG A=4\nARG SOURCE_DATE_EPOCH=${A}2\nFROM b\n";
    assert_eq!(epoch_of(file, &request()).unwrap(), Epoch::At(42));
    assert_eq!(epoch_of(file, &given("7")).unwrap(), Epoch::At(7));
    assert_eq!(epoch_of(file, &given("")).unwrap(), Epoch::None);
    assert_eq!(
        epoch_of(file, &PlanRequest { epoch: Some(9), ..given("7") }).unwrap(),
        Epoch::At(9)
    );
    assert_eq!(epoch_of("FROM b\n", &given("context")).unwrap(), Epoch::None);
    let error = epoch_of("FROM b\n", &given("now")).unwrap_err();
    assert_eq!(error.message(), "invalid SOURCE_DATE_EPOCH: now");
}
