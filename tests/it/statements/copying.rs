//! Statements 35 to 42 and 54: sources and destinations of COPY.

use super::{
    EMPTY_LAYER, added, build, diff_ids, history, layer_of, layers, output, refused, world, worlds,
};
use std::os::unix::fs::symlink;

#[test]
fn statement_35_a_pattern_may_match_nothing_a_name_may_not() {
    for world in worlds() {
        build(&world, "FROM base\nCOPY nomatch* /\n", &[]);
        assert_eq!(diff_ids(&world), [EMPTY_LAYER]);
        assert_eq!(history(&world), ["layer COPY nomatch* / # buildkit"]);
        assert_eq!(
            refused(&world, "FROM base\nCOPY nope /\n", &[]),
            "2:6: COPY failed: `nope` is not in the build context"
        );
    }
}

#[test]
fn statement_36_the_last_of_several_files_stays_at_a_destination_without_slash() {
    let world = world();
    world.file("s1", "1\n").file("s2", "two\n");
    assert_eq!(layer_of(&world, "COPY s1 s2 /two"), ["two file 644 0:0 4"]);
}

/// Directories of a stage with owners and modes of their own.
const TREE: &str = "FROM base AS from\n\
    RUN mkdir -p /d/sub /d/s && touch /d/sub/f /d/s/f && chown 5:6 /d && chmod 700 /d && chown 101:201 /d/sub && \
    chmod 711 /d/sub && chown 7:8 /d/sub/f && chown 9:10 /d/s && chmod 750 /d/s\n";

#[test]
fn statement_37_a_new_directory_does_not_take_its_owner_from_the_source() {
    for world in worlds() {
        build(&world, &format!("{TREE}FROM base\nCOPY --from=from /d /new\n"), &[]);
        assert_eq!(
            layers(&world),
            [[
                "new dir 755 0:0 0",
                "new/s dir 750 9:10 0",
                "new/s/f file 644 0:0 0",
                "new/sub dir 711 101:201 0",
                "new/sub/f file 644 7:8 0",
            ]]
        );
    }
}

#[test]
fn statement_38_an_existing_directory_keeps_its_owner_and_those_in_it_do_not() {
    for world in worlds() {
        let text = format!(
            "{TREE}FROM base\nRUN mkdir -p /existing/s/old /existing/own && chown -R 3:4 /existing && chmod 770 /existing\n\
             COPY --from=from /d /existing\n"
        );
        build(&world, &text, &[]);
        assert_eq!(
            added(&world),
            [
                "existing dir 770 3:4 0",
                "existing/own dir 755 3:4 0",
                "existing/s dir 750 9:10 0",
                "existing/s/f file 644 0:0 0",
                "existing/s/old dir 755 3:4 0",
                "existing/sub dir 711 101:201 0",
                "existing/sub/f file 644 7:8 0",
            ]
        );
    }
}

#[test]
fn statement_39_files_and_directories_do_not_replace_each_other() {
    for world in worlds() {
        world.file("f", "f\n").file("d/x", "x\n");
        for (copy, expected) in [
            ("COPY f /file/", "not a directory: `/file`"),
            ("COPY d /file", "cannot copy to non-directory: `/file`"),
            ("COPY f /dd/", "cannot replace to directory `/dd/f` with file"),
        ] {
            let text = format!("FROM base\nRUN touch /file && mkdir -p /dd/f\n{copy}\n");
            assert_eq!(refused(&world, &text, &[]), format!("3:1: {expected}"), "{copy}");
        }
    }
}

#[test]
fn statement_40_links_are_followed_when_they_are_named() {
    for world in worlds() {
        world.file("s2", "two\n").file("dir/target", "t\n");
        symlink("s2", world.context().join("sl")).unwrap();
        symlink("target", world.context().join("dir/link")).unwrap();
        symlink("nowhere", world.context().join("dir/dangling")).unwrap();
        world.give();
        build(&world, "FROM base\nCOPY sl /x\nCOPY dir /y\nCOPY dir/l* /z/\n", &[]);
        assert_eq!(
            layers(&world),
            [
                vec!["x file 644 0:0 4"],
                vec![
                    "y dir 755 0:0 0",
                    "y/dangling symlink 777 0:0 nowhere",
                    "y/link symlink 777 0:0 target",
                    "y/target file 644 0:0 2",
                ],
                vec!["z dir 755 0:0 0", "z/link file 644 0:0 2"],
            ]
        );
    }
}

#[test]
fn statement_41_nothing_is_above_the_context() {
    let world = world();
    world.file("f", "f\n");
    build(&world, "FROM base\nCOPY ../f /up\n", &[]);
    let up = diff_ids(&world);
    assert_eq!(layers(&world), [["up file 644 0:0 2"]]);
    build(&world, "FROM base\nCOPY f /up\n", &["--no-cache"]);
    assert_eq!(diff_ids(&world), up);
}

#[test]
fn statement_42_links_in_the_destination_are_followed_and_stay() {
    for world in worlds() {
        world.file("f", "f\n");
        let steps = "RUN mkdir /real && ln -s /real /lnk && ln -s /tmp/made /dangling\n\
                     COPY f /lnk/f\nCOPY f /dangling\nCOPY f /lnk/new/deep/\n";
        output(&world, steps);
        assert_eq!(
            layers(&world)[1..],
            [
                vec!["real dir 755 0:0 0", "real/f file 644 0:0 2"],
                vec!["tmp dir 1777 0:0 0", "tmp/made file 644 0:0 2"],
                vec![
                    "real dir 755 0:0 0",
                    "real/new dir 755 0:0 0",
                    "real/new/deep dir 755 0:0 0",
                    "real/new/deep/f file 644 0:0 2",
                ],
            ]
        );
        let links: Vec<_> =
            added(&world).into_iter().filter(|line| line.contains(" symlink ")).collect();
        assert_eq!(links, ["dangling symlink 777 0:0 /tmp/made", "lnk symlink 777 0:0 /real"]);
    }
}

#[test]
fn statement_54_stages_are_copied_from_by_number_or_name_when_they_come_first() {
    let world = world();
    let refused = |text: &str, args: &[&str]| refused(&world, text, args);
    assert_eq!(
        refused("FROM base\nCOPY --from=0 /f /g\n", &[]),
        "2:13: circular dependency detected on stage: stage-0"
    );
    assert_eq!(
        refused("FROM base\nFROM base\nCOPY --from=5 /f /g\n", &[]),
        "3:13: invalid stage index 5"
    );
    let later = "FROM base AS a\nCOPY --from=b /f /g\nFROM base AS b\nRUN touch /f\n";
    assert_eq!(
        refused(later, &["--target", "a"]),
        "2:13: cannot copy from stage \"b\", it needs to be defined before current stage \"a\""
    );
    let text =
        "FROM base AS a\nRUN echo a > /a\nFROM base\nCOPY --from=A /a /b\nCOPY --from=0 /a /c\n";
    build(&world, text, &[]);
    assert_eq!(layers(&world), [["b file 644 0:0 2"], ["c file 644 0:0 2"]]);
}
