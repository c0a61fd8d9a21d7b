//! Statements 55 to 60, 62 to 68 and 70 to 72: heredocs, RUN and its mounts.

use super::{
    EMPTY_LAYER, build, config, diff_ids, env, history, layer_of, layers, output, printed, refused,
    world, worlds,
};
use crate::support::base;
use crate::support::processes::{self, Marker};
use std::fs;

#[test]
fn statement_55_bodies_of_copied_heredocs() {
    for world in worlds() {
        let steps = "ENV X=val\nCOPY <<EOF /f\nit's \"$X\" \\$X \\\\\na\\\nb\nEOF\n\
                     COPY <<'EOF' /g\nit's \"$X\" \\$X \\\\\nEOF\n\
                     COPY <<-EOF /h\n\t\ta\n\t  \tb\n  \tc\n\tEOF\n\
                     RUN cat /f; echo; cat /g; echo; cat -t /h\n";
        let expected = [
            "it's \"val\" $X \\",
            "a",
            "b",
            "",
            "it's \"$X\" \\$X \\\\",
            "",
            "a",
            "  ^Ib",
            "  ^Ic",
        ];
        assert_eq!(output(&world, steps), expected);
        assert_eq!(
            layers(&world)[..3],
            [["f file 644 0:0 20"], ["g file 644 0:0 17"], ["h file 644 0:0 12"]]
        );
        assert_eq!(history(&world)[1], "layer COPY <<EOF /f # buildkit");
    }
}

#[test]
fn statements_56_to_58_heredocs_that_run() {
    for world in worlds() {
        let steps = "ENV X=val\nRUN <<EOF\n#!/bin/awk -f\nBEGIN { print \"awk\", 1+1 > \"/awk\" }\nEOF\n\
                     RUN <<'EOF'\necho \"$0 $X\" > /q\nEOF\n\
                     RUN cat <<A > /a && cat <<B > /b\none\nA\ntwo\nB\n\
                     RUN cat /awk /q /a /b; test ! -e /dev/pipes/EOF\n";
        assert_eq!(output(&world, steps), ["awk 2", "/bin/sh val", "one", "two"]);
        assert_eq!(
            layers(&world),
            [
                vec!["awk file 644 0:0 6"],
                vec!["q file 644 0:0 12"],
                vec!["a file 644 0:0 4", "b file 644 0:0 4"],
                vec![],
            ]
        );
        assert_eq!(
            history(&world)[1..4],
            [
                "layer RUN /bin/sh -c /dev/pipes/EOF # buildkit",
                "layer RUN /bin/sh -c echo \"$0 $X\" > /q\n # buildkit",
                "layer RUN /bin/sh -c cat <<A > /a && cat <<B > /b\none\nA\ntwo\nB # buildkit",
            ]
        );
    }
}

#[test]
fn statement_59_writes_to_a_bind_mount_and_its_mount_point_vanish() {
    for world in worlds() {
        let steps = "RUN --mount=target=/c,rw touch /c/q && ls /c\nRUN test ! -e /c\nRUN --mount=target=/c ls /c\n";
        assert_eq!(output(&world, steps), ["Dockerfile", "q", "Dockerfile"]);
        assert_eq!(diff_ids(&world), [EMPTY_LAYER; 3]);
        assert!(!world.context().join("q").exists());
    }
}

#[test]
fn statement_60_directories_made_for_a_mount_are_not_in_the_layer() {
    for world in worlds() {
        let steps = "RUN mkdir /old && touch -d @1000 / /old\n\
                     RUN --mount=type=tmpfs,target=/x/y/z --mount=type=tmpfs,target=/old/y touch /x/y/z/f\n\
                     RUN stat -c %Y / /old; test ! -e /x -a ! -e /old/y\n";
        assert_eq!(output(&world, steps), ["1000", "1000"]);
        assert_eq!(diff_ids(&world)[1..], [EMPTY_LAYER; 2]);
    }
}

#[test]
fn statement_62_a_secret_in_a_variable_is_for_one_run() {
    for world in worlds() {
        fs::write(world.path("secret"), "hidden").unwrap();
        world.give();
        let source = format!("id=s,src={}", world.path("secret").display());
        let text = "FROM base\nENV E=stage\n\
                    RUN --mount=type=secret,id=s,env=E echo $E | tr a-z A-Z; test ! -e /run\nRUN echo $E\n";
        let said = build(&world, text, &["--secret", &source]);
        assert_eq!(printed(&said), ["HIDDEN", "stage"]);
        assert_eq!(env(&world), ["E=stage"]);
        assert_eq!(diff_ids(&world), [EMPTY_LAYER; 2]);
    }
}

#[test]
fn statement_63_a_cache_is_known_by_its_clean_target() {
    for world in worlds() {
        let text = "FROM base AS one\nRUN --mount=type=cache,target=/c echo kept > /c/f && touch /done\n\
                    FROM base\nCOPY --from=one /done /\n\
                    RUN --mount=type=cache,target=/c/ cat /c/f\n\
                    RUN --mount=type=cache,target=/other ls -A /other | wc -l\n";
        assert_eq!(printed(&build(&world, text, &[])), ["kept", "0"]);
        assert_eq!(diff_ids(&world)[1..], [EMPTY_LAYER; 2]);
    }
}

#[test]
fn statement_64_no_link_leads_out_of_a_cache() {
    for world in worlds() {
        let fill = "FROM base\nRUN --mount=type=cache,id=c,target=/c mkdir /c/in && touch /c/in/f && ln -s in /c/ok \
                    && ln -s /etc /c/absolute && ln -s ../../etc /c/up\n";
        let inside = format!("{fill}RUN --mount=type=cache,id=c,target=/d,source=/ok ls /d\n");
        assert_eq!(printed(&build(&world, &inside, &[])), ["f"]);
        for name in ["absolute", "up"] {
            let text = format!("{fill}RUN --mount=type=cache,id=c,target=/d,source={name} ls /d\n");
            let expected = format!("3:1: `{name}` is not in the cache");
            assert_eq!(refused(&world, &text, &[]), expected);
        }
    }
}

#[test]
fn statement_65_what_is_in_a_cache_mount_is_in_no_key_but_its_target_is() {
    let world = world();
    let step = |target: &str, word: &str| {
        format!(
            "RUN --mount=type=cache,target={target} echo {word} >> {target}/f; cat {target}/f\n"
        )
    };
    let run = |steps: &[String]| build(&world, &format!("FROM base\n{}", steps.concat()), &[]);
    let first = run(&[step("/c", "a")]);
    assert_eq!((first.cached(), first.done()), (0, 1));
    // The second step changes what the first one finds.
    let second = run(&[step("/c", "a"), step("/c", "b")]);
    assert_eq!((second.cached(), second.done()), (1, 1));
    assert_eq!(printed(&second), ["a", "b"]);
    let again = run(&[step("/c", "a"), step("/c", "b")]);
    assert_eq!((again.cached(), again.done()), (2, 0));
    let text = |target: &str| format!("FROM base\nRUN --mount=type=cache,target={target} true\n");
    assert_eq!(build(&world, &text("/c"), &[]).done(), 1);
    assert_eq!(build(&world, &text("/e"), &[]).done(), 1);
    assert_eq!(build(&world, &text("/c"), &[]).cached(), 1);
}

#[test]
fn statement_66_a_run_that_changes_nothing_has_an_empty_layer_all_the_same() {
    for world in worlds() {
        assert_eq!(layer_of(&world, "RUN true"), [""; 0]);
        assert_eq!(diff_ids(&world), [EMPTY_LAYER]);
        assert_eq!(history(&world), ["layer RUN /bin/sh -c true # buildkit"]);
        world.validate("app");
        // Design §10.10 against BuildKit: places for /proc, /sys and /dev are not in the layer where the base has none.
        fs::write(world.path("bare.tar"), base::bare_tar()).unwrap();
        world.give();
        world.run(["image", "import", "bare", "bare.tar"]).ok();
        build(&world, "FROM bare\nRUN [\"/busybox\", \"true\"]\n", &[]);
        assert_eq!(diff_ids(&world), [EMPTY_LAYER]);
        assert_eq!(history(&world), ["layer RUN /busybox true # buildkit"]);
    }
}

#[test]
fn statement_67_a_user_is_looked_up_when_something_runs() {
    for world in worlds() {
        build(&world, "FROM base\nUSER nosuch\n", &[]);
        assert_eq!(config(&world)["User"], "nosuch");
        assert_eq!(
            refused(&world, "FROM base\nUSER nosuch\nRUN id\n", &[]),
            "3:1: unable to find user nosuch: no matching entries in passwd file"
        );
    }
}

#[test]
fn statement_68_an_unknown_number_runs_with_group_0_and_owns_its_working_directory() {
    for world in worlds() {
        let steps = "USER 1234\nRUN id; echo $HOME\nWORKDIR /w/s\nRUN pwd\n";
        assert_eq!(output(&world, steps), ["uid=1234 gid=0(root) groups=0(root)", "/", "/w/s"]);
        assert_eq!(layers(&world)[1], ["w dir 755 1234:1234 0", "w/s dir 755 1234:1234 0"]);
    }
}

#[test]
fn statement_70_the_host_has_a_name_and_its_files_are_not_in_the_layer() {
    for world in worlds() {
        let steps = "RUN hostname; echo 1.2.3.4 x >> /etc/hosts || echo refused; cat /etc/hosts\nRUN cat /etc/hosts\n";
        let said = output(&world, steps);
        let hosts =
            ["127.0.0.1 localhost buildkitsandbox", "::1 localhost ip6-localhost ip6-loopback"];
        assert_eq!(said[0], "buildkitsandbox");
        assert_eq!(said[said.len() - 2..], hosts);
        assert_eq!(diff_ids(&world), [EMPTY_LAYER; 2]);
    }
}

#[test]
fn statement_71_what_still_runs_in_the_background_ends_with_its_step() {
    for world in worlds() {
        let marker = Marker::new();
        let steps = format!("RUN (sleep {marker}; touch /never) & echo done > /f\n");
        output(&world, &steps);
        processes::wait_until_gone(&marker);
        assert_eq!(layers(&world), [["f file 644 0:0 5"]]);
        world.validate("app");
    }
}

#[test]
fn statement_72_a_failure_tells_the_command_and_its_code_and_is_not_cached() {
    for world in worlds() {
        let text = "FROM base\nRUN echo fine\nRUN echo once && \\\n  exit 3\n";
        let expected = "3:1: process `/bin/sh -c echo once &&   exit 3` did not complete successfully: exit code: 3";
        assert_eq!(refused(&world, text, &[]), expected);
        let again = world.build(text, &["-t", "app"]);
        assert_eq!((again.cached(), again.done()), (1, 0));
        let failed = again.failed(1);
        assert!(failed.contains("\n#2 once\n#2 FAILED exit code 3\n"), "{failed}");
        assert_eq!(world.run(["image", "inspect", "--json", "app"]).code, 1);
    }
}
