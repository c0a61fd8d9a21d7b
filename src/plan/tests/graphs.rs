//! Stages, targets, `--from`, platforms and triggers (statements 26, 54, 75, 83 and 84).

use super::*;

fn numbers(plan: &BuildPlan) -> Vec<usize> {
    plan.stages.iter().map(|stage| stage.number).collect()
}

fn for_target(name: &str) -> PlanRequest {
    PlanRequest { target: Some(name.to_owned()), ..request() }
}

#[test]
fn from_flags_name_earlier_stages_or_images() {
    for (text, expected) in [
        ("FROM b\nCOPY --from=0 x /\n", "2:13: circular dependency detected on stage: stage-0"),
        ("FROM b AS a\nCOPY --from=a x /\n", "2:13: circular dependency detected on stage: a"),
        ("FROM b\nFROM b\nCOPY --from=5 x /\n", "3:13: invalid stage index 5"),
        ("FROM b\nFROM b\nCOPY --from=-1 x /\n", "3:13: invalid stage index -1"),
        (
            "FROM b AS one\nCOPY --from=two x /\nFROM one AS two\n",
            "2:13: cannot copy from stage \"two\", it needs to be defined before current stage \"one\"",
        ),
        (
            "FROM b\nCOPY --from=1 x /\nFROM stage AS s\nCOPY --from=0 x /\n",
            "4:13: circular dependency detected on stage: stage-0",
        ),
        (
            "FROM b AS s0\nCOPY --from=s2 x /\nFROM b AS s1\nCOPY --from=s0 x /\nFROM b AS s2\n\
             COPY --from=s1 x /\n",
            "4:13: circular dependency detected on stage: s0",
        ),
        (
            "FROM b\nCOPY --from=$X x /\n",
            "2:13: variable expansion is not supported for --from, define a new stage with FROM using ARG \
             from global scope as a workaround",
        ),
        (
            "FROM b\nRUN --mount=target=/x,from=$X true\n",
            "2:13: 'from' doesn't support variable expansion, define alias stage instead",
        ),
        (
            "FROM b\nRUN --mount=target=/x,from=0 true\n",
            "2:13: circular dependency detected on stage: stage-0",
        ),
        (
            "FROM b AS one\nRUN --mount=target=/x,from=two true\nFROM one AS two\n",
            "2:13: cannot mount from stage \"two\", it needs to be defined before current stage \"one\"",
        ),
        (
            "FROM b\nCOPY --from=scratch x /\n",
            "2:1: not yet supported: `scratch` as a source of files",
        ),
    ] {
        assert_eq!(error(text), expected, "{text}");
    }
}

#[test]
fn from_flags_ignore_capitals_and_take_numbers() {
    let plan =
        planned("FROM b AS a\nFROM b\nCOPY --from=A x /\nCOPY --from=0 x /\nCOPY --from=img x /\n");
    let from: Vec<&CopyFrom> = copies(&plan).into_iter().map(|copy| &copy.from).collect();
    let image =
        CopyFrom::Image(BaseRef { reference: "img".to_owned(), platform: platform("linux/amd64") });
    assert_eq!(from, [&CopyFrom::Stage(0), &CopyFrom::Stage(0), &image]);
}

#[test]
fn later_stages_of_a_name_hide_earlier_ones() {
    let plan = planned("FROM x AS a\nFROM y AS a\nFROM a\nCOPY --from=a f /\n");
    assert_eq!(numbers(&plan), [1, 2]);
    assert_eq!(target(&plan).base, StageBase::Stage(0));
    assert_eq!(copies(&plan)[0].from, CopyFrom::Stage(0));
}

#[test]
fn stage_names_are_looked_up_as_written() {
    let plan = planned("FROM b AS Up\nFROM Up\n");
    let StageBase::Image(image) = &target(&plan).base else { panic!("not the stage") };
    assert_eq!(image.reference, "Up");
    assert_eq!(numbers(&planned("FROM b AS Up\nFROM up\n")), [0, 1]);
}

#[test]
fn only_needed_stages_are_planned() {
    let text = "FROM b AS a\nFROM nonsense::image AS bogus\nRUN --mount=bad=1 x\nFROM b AS m\n\
                FROM b\nCOPY --from=a x /\nRUN --mount=from=m,target=/m x\n";
    assert_eq!(numbers(&planned(text)), [0, 2, 3]);
    assert_eq!(numbers(&planned_for(text, &for_target("a"))), [0]);
}

#[test]
fn stages_that_are_not_needed_are_still_checked() {
    for (first, expected) in [
        ("FROM $NOTHING\n", "1:6: base name ($NOTHING) should not be blank"),
        ("FROM --platform=a/b/c/d b\n", "1:17: failed to parse platform a/b/c/d"),
        ("FROM --platform=$X b\n", "1:17: empty platform value from expression $X"),
        ("FROM b\nCOPY --from=9 x /\n", "2:13: invalid stage index 9"),
        ("FROM b\nRUN --network=bad x\n", "2:15: invalid network mode `bad`"),
        ("FROM b\nRUN --security=bad x\n", "2:16: invalid security mode `bad`"),
    ] {
        assert_eq!(error(&format!("{first}FROM b\n")), expected, "{first}");
    }
}

#[test]
fn targets_ignore_capitals_and_misspelt_ones_are_guessed() {
    let text = "FROM b AS build\nFROM b AS test\nFROM b\n";
    assert_eq!(numbers(&planned_for(text, &for_target("BUILD"))), [0]);
    assert_eq!(numbers(&planned_for(text, &for_target(""))), [2]);
    assert_eq!(
        error_for(text, &for_target("bulid")),
        "target stage \"bulid\" could not be found (did you mean build?)"
    );
    let far = try_plan(text, &for_target("release"), &BTreeMap::new()).unwrap_err();
    assert_eq!(far.message(), "target stage \"release\" could not be found");
    assert_eq!(far.hints(), ["the stages are `build`, `test`"]);
    assert_eq!(error_for(text, &for_target("0")), "target stage \"0\" could not be found");
}

#[test]
fn triggers_of_a_stage_run_in_its_child_and_no_further() {
    let text = "FROM b AS one\nARG V=1\nONBUILD ENV A=$V\nONBUILD RUN t\nFROM one AS two\nRUN own\nFROM two\n";
    let two = planned_for(text, &for_target("two"));
    assert_eq!(
        history(&two),
        ["ENV A=1", "RUN |1 V=1 /bin/sh -c t # buildkit", "RUN |1 V=1 /bin/sh -c own # buildkit"]
    );
    assert_eq!(target(&two).steps[1].text, "ONBUILD RUN t");
    let three = planned(text);
    assert_eq!(history(&three), Vec::<&str>::new());
    assert_eq!(target(&three).config.config.on_build, Vec::<String>::new());
    let one = planned_for(text, &for_target("one"));
    assert_eq!(target(&one).config.config.on_build, ["ENV A=$V", "RUN t"]);
    assert_eq!(history(&one), ["ARG V=1"]);
}

#[test]
fn triggers_of_an_image_run_once() {
    let mut images = RunOnBuild::image("RUN t");
    let plan = try_plan("FROM child\nRUN own\n", &request(), &images).unwrap();
    assert_eq!(history(&plan), ["RUN /bin/sh -c t # buildkit", "RUN /bin/sh -c own # buildkit"]);
    assert_eq!(target(&plan).config.config.on_build, Vec::<String>::new());
    assert_eq!(target(&plan).steps[0].span, target(&plan).span);
    for (trigger, part) in [
        ("ONBUILD RUN x", "trigger `ONBUILD ONBUILD RUN x` of the base cannot be used"),
        ("MAINTAINER x", "trigger `ONBUILD MAINTAINER x` of the base cannot be used"),
        ("FROM x", "trigger `ONBUILD FROM x` of the base cannot be used"),
        ("NONSENSE", "trigger `ONBUILD NONSENSE` of the base cannot be used"),
    ] {
        images = RunOnBuild::image(trigger);
        let error = try_plan("FROM child\n", &request(), &images).unwrap_err();
        assert_eq!(error.message(), part);
        assert!(error.place().is_some());
    }
}

#[test]
fn platforms_of_stages_and_of_the_image() {
    let arm = PlanRequest { platform: Some(platform("linux/arm64")), ..request() };
    let text = "FROM --platform=$BUILDPLATFORM b AS tools\nFROM b\nCOPY --from=tools x /\n\
                COPY --from=img x /\n";
    let plan = planned_for(text, &arm);
    let shown: Vec<String> = plan.stages.iter().map(|stage| stage.platform.to_string()).collect();
    assert_eq!(shown, ["linux/amd64", "linux/arm64"]);
    // Asked for by the user, so it counts even where the base's config says amd64.
    assert_eq!(target(&plan).config.architecture, "arm64");
    assert_eq!(plan.stages[0].config.architecture, "amd64");
    let CopyFrom::Image(image) = &copies(&plan)[1].from else { panic!("an image") };
    assert_eq!(image.platform, platform("linux/arm64"));
}

#[test]
fn without_a_wish_the_image_says_the_platform() {
    let mut config = base_config();
    config.architecture = "arm".to_owned();
    config.variant = Some("v6".to_owned());
    let images = BTreeMap::from([("foreign".to_owned(), config)]);
    let plan = try_plan("FROM foreign\n", &request(), &images).unwrap();
    assert_eq!(target(&plan).platform, platform("linux/arm/v6"));
    assert_eq!(target(&plan).config.variant.as_deref(), Some("v6"));
    let flagged = try_plan("FROM --platform=linux/amd64 foreign\n", &request(), &images).unwrap();
    assert_eq!(target(&flagged).platform, platform("linux/amd64"));
    assert_eq!(target(&flagged).config.architecture, "arm");
    let scratch = planned("FROM --platform=linux/arm/v7 scratch\n");
    assert_eq!(target(&scratch).config.variant.as_deref(), Some("v7"));
}
