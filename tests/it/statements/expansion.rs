//! Statements 20 to 34: variables, and where ARG and ENV are seen.

use super::{
    PATH, build, config, diff_ids, env, history, layers, output, printed, refused, world, worlds,
};
use serde_json::json;

#[test]
fn statements_20_and_21_forms_of_variables() {
    let world = world();
    let steps = "ENV A=${X:-${Y:-z}} B=[${X:+}] C=[${X}]\nENV V=a/b\nENV W=${V/a\\/b/c} H=${V#}\n";
    output(&world, steps);
    assert_eq!(env(&world), ["A=z", "B=[]", "C=[]", "V=a/b", "W=c", "H=a/b"]);
    assert_eq!(
        refused(&world, "FROM base\nENV A=${X?}\n", &[]),
        "2:7: X: is not allowed to be unset"
    );
    assert_eq!(
        refused(&world, "FROM base\nENV V=1\nENV A=${V//x}\n", &[]),
        "3:7: syntax error: missing '/' in ${}"
    );
}

#[test]
fn statement_22_a_pattern_in_the_name_of_an_image() {
    let world = world();
    let tar = world.path("base.tar");
    world.run(["image", "import", "busybox", tar.to_str().unwrap()]).ok();
    world.run(["image", "rm", "base"]).ok();
    let said = build(&world, "ARG i=idlebox\nFROM busy${i#idle}\nRUN echo it\n", &[]);
    assert_eq!(printed(&said), ["it"]);
}

#[test]
fn statement_23_only_expose_splits_what_it_expanded() {
    let world = world();
    build(&world, "FROM base\nARG P=\"1 2/udp\" U=\"a b\"\nEXPOSE $P\nUSER $U\n", &[]);
    assert_eq!(
        config(&world),
        json!({"Env": [PATH], "ExposedPorts": {"1/tcp": {}, "2/udp": {}}, "User": "a b"})
    );
    assert_eq!(history(&world)[2], "empty USER a b");
}

#[test]
fn statement_24_a_source_that_expands_to_nothing_is_the_whole_context() {
    let world = world();
    world.file("f", "f\n");
    build(&world, "FROM base\nCOPY $E f /x\n", &[]);
    assert_eq!(
        layers(&world),
        [["x dir 755 0:0 0", "x/Dockerfile file 644 0:0 23", "x/f file 644 0:0 2"]]
    );
    assert_eq!(history(&world), ["layer COPY  f /x # buildkit"]);
}

#[test]
fn statement_25_a_working_directory_in_quotes() {
    for world in worlds() {
        assert_eq!(output(&world, "WORKDIR \"/a b\"\nRUN pwd\n"), ["/a b"]);
        assert_eq!(layers(&world)[0], ["a b dir 755 0:0 0"]);
        assert_eq!(config(&world)["WorkingDir"], "/a b");
        assert_eq!(history(&world)[0], "layer WORKDIR /a b");
    }
}

#[test]
fn statement_26_no_variable_names_a_stage() {
    let world = world();
    assert_eq!(
        refused(&world, "FROM base AS x\nFROM base\nCOPY --from=$X /f /x\n", &[]),
        "3:13: variable expansion is not supported for --from, define a new stage with FROM using ARG from \
         global scope as a workaround"
    );
    assert_eq!(
        refused(&world, "FROM base\nRUN --mount=from=$X,target=/m true\n", &[]),
        "2:13: 'from' doesn't support variable expansion, define alias stage instead"
    );
}

#[test]
fn statement_27_the_last_of_arg_and_env_wins_until_the_next_stage() {
    for world in worlds() {
        let text = "FROM base AS that\nENV F=a\nARG F=b G=g\nRUN echo $F $G\nARG H=1\nENV H=2\nRUN echo $H\n\
                    FROM that\nRUN echo $F $G\n";
        assert_eq!(printed(&build(&world, text, &[])), ["b g", "2", "a g"]);
        assert_eq!(env(&world), ["F=a", "H=2"]);
        assert_eq!(
            history(&world),
            [
                "empty ENV F=a",
                "empty ARG F=b G=g",
                "layer RUN |2 F=b G=g /bin/sh -c echo $F $G # buildkit",
                "empty ARG H=1",
                "empty ENV H=2",
                "layer RUN |3 F=b G=g H=2 /bin/sh -c echo $H # buildkit",
                "layer RUN |3 F=a G=g H=2 /bin/sh -c echo $F $G # buildkit",
            ]
        );
    }
}

#[test]
fn statement_28_an_argument_before_from_has_to_be_asked_for() {
    let world = world();
    let text = "ARG G=1\nFROM base\nRUN echo G=$G\nARG G\nRUN echo G=$G\n";
    assert_eq!(printed(&build(&world, text, &[])), ["G=", "G=1"]);
}

#[test]
fn statement_29_a_default_is_not_looked_at_when_there_is_a_value() {
    let world = world();
    let text = "FROM base\nARG B=${F:?x}\nRUN echo $B\n";
    assert_eq!(printed(&build(&world, text, &["--build-arg", "B=1"])), ["1"]);
    assert_eq!(refused(&world, text, &[]), "2:7: F: x");
}

#[test]
fn statement_30_an_undeclared_build_argument_changes_nothing() {
    let world = world();
    let text = "FROM base\nRUN echo Z=$Z\n";
    let said = build(&world, text, &["--build-arg", "Z=1"]);
    assert!(
        said.stderr
            .starts_with("warning: build argument `Z` is declared by no ARG and has no effect\n"),
        "{}",
        said.stderr
    );
    assert_eq!(printed(&said), ["Z="]);
    let again = build(&world, text, &[]);
    assert_eq!((again.cached(), again.done()), (1, 0), "{}", again.stderr);
    assert_eq!(again.ok(), said.ok());
}

#[test]
fn statement_31_an_argument_without_value_is_no_variable() {
    let world = world();
    let steps = "ARG X\nRUN env | grep -c '^X' || :\nARG X=\nRUN env | grep '^X'\n";
    assert_eq!(output(&world, steps), ["0", "X="]);
    assert_eq!(env(&world), [""; 0]);
}

#[test]
fn statement_32_a_proxy_is_seen_by_run_alone() {
    for world in worlds() {
        let text = "FROM base\nRUN env | grep -i proxy | sort\n";
        let said = build(&world, text, &["--build-arg", "http_proxy=p"]);
        assert_eq!(printed(&said), ["HTTP_PROXY=p", "http_proxy=p"]);
        assert_eq!(env(&world), [""; 0]);
        assert_eq!(history(&world), ["layer RUN /bin/sh -c env | grep -i proxy | sort # buildkit"]);
        let without = build(&world, text, &[]);
        assert_eq!((without.cached(), without.done()), (1, 0), "{}", without.stderr);
        assert_eq!(without.ok(), said.ok());
    }
}

#[test]
fn statement_33_history_has_each_argument_once() {
    let world = world();
    output(&world, "ARG foo=bar\nARG bar=123\nARG foo=bar2\nRUN true\n");
    assert_eq!(
        history(&world),
        [
            "empty ARG foo=bar",
            "empty ARG bar=123",
            "empty ARG foo=bar2",
            "layer RUN |2 foo=bar2 bar=123 /bin/sh -c true # buildkit",
        ]
    );
    assert_eq!(diff_ids(&world), [super::EMPTY_LAYER]);
}

#[test]
fn statement_34_the_target_stage_has_to_be_asked_for() {
    let world = world();
    let steps = "RUN echo =$TARGETSTAGE\nARG TARGETSTAGE\nRUN echo =$TARGETSTAGE\n";
    assert_eq!(output(&world, steps), ["=", "=default"]);
    let named = format!("FROM base AS one\n{steps}FROM base AS two\n{steps}");
    let target = |args: &[&str]| printed(&build(&world, &named, &[&["--no-cache"], args].concat()));
    assert_eq!(target(&["--target", "one"]), ["=", "=one"]);
    assert_eq!(target(&[]), ["=", "=two"]);
}
