//! Statements 73 to 79: what instructions leave in the config.

use super::{
    EMPTY_LAYER, PATH, added, build, config, diff_ids, history, output, printed, refused, world,
    worlds,
};
use serde_json::json;

#[test]
fn statement_73_entrypoint_clears_a_cmd_that_its_stage_did_not_set() {
    let world = world();
    let text = "FROM base AS one\nCMD [\"x\"]\nENTRYPOINT [\"e\"]\nFROM one AS two\nENTRYPOINT [\"f\"]\n\
                FROM one AS three\nCMD []\n";
    for (target, expected) in [
        ("one", json!({"ArgsEscaped": true, "Cmd": ["x"], "Entrypoint": ["e"], "Env": [PATH]})),
        ("two", json!({"ArgsEscaped": true, "Entrypoint": ["f"], "Env": [PATH]})),
        ("three", json!({"ArgsEscaped": true, "Entrypoint": ["e"], "Env": [PATH]})),
    ] {
        build(&world, text, &["--target", target]);
        assert_eq!(config(&world), expected, "{target}");
    }
    assert_eq!(history(&world), ["empty CMD [\"x\"]", "empty ENTRYPOINT [\"e\"]", "empty CMD []"]);
}

#[test]
fn statement_74_a_shell_is_for_commands_and_not_for_health_checks() {
    let world = world();
    let steps = "SHELL [\"/bin/sh\", \"-ec\"]\nCMD x\nHEALTHCHECK CMD y\n";
    build(&world, &format!("FROM base\n{steps}"), &[]);
    assert_eq!(
        config(&world),
        json!({
            "ArgsEscaped": true,
            "Cmd": ["/bin/sh", "-ec", "x"],
            "Env": [PATH],
            "Healthcheck": {"Test": ["CMD-SHELL", "y"]},
            "Shell": ["/bin/sh", "-ec"],
        })
    );
    assert_eq!(
        history(&world),
        [
            "empty SHELL [/bin/sh -ec]",
            "empty CMD [\"/bin/sh\" \"-ec\" \"x\"]",
            "empty HEALTHCHECK {Test:[CMD-SHELL y] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s \
             Retries:0}",
        ]
    );
    let text = format!("FROM base\n{steps}RUN false; true\n");
    assert_eq!(
        refused(&world, &text, &[]),
        "5:1: process `/bin/sh -ec false; true` did not complete successfully: exit code: 1"
    );
}

#[test]
fn statement_75_triggers_of_a_stage_run_in_its_child_alone() {
    for world in worlds() {
        let text = "FROM base AS one\nONBUILD RUN echo ran >> /ran\nRUN test ! -e /ran\n\
                    FROM one AS two\nRUN cat /ran\nFROM two\nRUN cat /ran\n";
        assert_eq!(printed(&build(&world, text, &[])), ["ran", "ran"]);
        assert_eq!(
            history(&world),
            [
                "layer RUN /bin/sh -c test ! -e /ran # buildkit",
                "layer RUN /bin/sh -c echo ran >> /ran # buildkit",
                "layer RUN /bin/sh -c cat /ran # buildkit",
                "layer RUN /bin/sh -c cat /ran # buildkit",
            ]
        );
        assert_eq!(config(&world), json!({"Env": [PATH]}));
        // The stage itself hands its triggers on.
        build(&world, text, &["--target", "one"]);
        assert_eq!(config(&world)["OnBuild"], json!(["RUN echo ran >> /ran"]));
    }
}

#[test]
fn statement_76_ranges_of_ports() {
    let world = world();
    build(&world, "FROM base\nEXPOSE 8000-8002 90\n", &[]);
    assert_eq!(
        config(&world)["ExposedPorts"],
        json!({"8000/tcp": {}, "8001/tcp": {}, "8002/tcp": {}, "90/tcp": {}})
    );
    assert_eq!(
        refused(&world, "FROM base\nEXPOSE 70000\n", &[]),
        "2:8: invalid containerPort: 70000"
    );
    assert_eq!(refused(&world, "FROM base\nEXPOSE 80/foo\n", &[]), "2:8: invalid proto: foo");
}

#[test]
fn statement_77_stop_signals_are_kept_as_written() {
    let world = world();
    for signal in ["9", "SIGRTMIN+3"] {
        build(&world, &format!("FROM base\nSTOPSIGNAL {signal}\n"), &[]);
        assert_eq!(config(&world), json!({"Env": [PATH], "StopSignal": signal}));
    }
    assert_eq!(refused(&world, "FROM base\nSTOPSIGNAL BAD\n", &[]), "2:12: invalid signal: BAD");
}

/// VOLUME makes no directory (dockerfile.md §1.6), so there must be one for a file in it.
#[test]
fn statement_78_changes_below_a_volume_are_kept() {
    for world in worlds() {
        output(&world, "VOLUME /v\nRUN test ! -e /v && mkdir /v\nRUN echo > /v/f\n");
        assert_eq!(added(&world), ["v dir 755 0:0 0", "v/f file 644 0:0 1"]);
        assert_eq!(config(&world)["Volumes"], json!({"/v": {}}));
    }
}

#[test]
fn statement_79_a_working_directory_is_a_layer_unless_it_is_the_root() {
    for world in worlds() {
        output(&world, "WORKDIR /\nWORKDIR /tmp\nWORKDIR ../etc/.\n");
        assert_eq!(
            history(&world),
            ["empty WORKDIR /", "layer WORKDIR /tmp", "layer WORKDIR /etc"]
        );
        assert_eq!(diff_ids(&world), [EMPTY_LAYER; 2]);
        assert_eq!(config(&world)["WorkingDir"], "/etc");
        world.validate("app");
    }
}
