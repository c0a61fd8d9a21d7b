//! Statements 85 to 90: what makes a step run again.

use super::{build, world};
use crate::support::{Said, World};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

/// `R` for a step that ran and `C` for one from the cache, in the order of the file.
fn steps(said: &Said) -> String {
    let mut found: Vec<(u32, char)> = said
        .stderr
        .lines()
        .filter_map(|line| {
            let (number, text) = line.strip_prefix('#')?.split_once(' ')?;
            let kind = match text {
                "CACHED" => 'C',
                _ if text.starts_with("DONE ") => 'R',
                _ => return None,
            };
            Some((number.parse().ok()?, kind))
        })
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, kind)| kind).collect()
}

fn ran(world: &World, text: &str, args: &[&str]) -> String {
    steps(&build(world, text, args))
}

#[test]
fn statement_85_times_of_files_do_not_count_but_their_modes_do() {
    let world = world();
    world.file("f", "f\n").file("g", "g\n").file(".dockerignore", "Dockerfile\n");
    let text = "FROM base\nRUN echo 1 > /1\nCOPY f /f\nRUN echo 2 > /2\nCOPY . /all/\n";
    assert_eq!(ran(&world, text, &[]), "RRRR");
    for name in ["f", "g"] {
        let file = File::options().write(true).open(world.context().join(name)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    }
    assert_eq!(ran(&world, text, &[]), "CCCC");
    world.file("unrelated", "u\n");
    assert_eq!(ran(&world, text, &[]), "CCCR");
    fs::set_permissions(world.context().join("f"), Permissions::from_mode(0o755)).unwrap();
    assert_eq!(ran(&world, text, &[]), "CRRR");
}

#[test]
fn statement_86_names_that_a_pattern_matched_count() {
    let world = world();
    world.file("file1", "1\n");
    let text = "FROM base\nRUN true\nCOPY file* /d/\n";
    assert_eq!(ran(&world, text, &[]), "RR");
    fs::rename(world.context().join("file1"), world.context().join("file2")).unwrap();
    assert_eq!(ran(&world, text, &[]), "CR");
    assert_eq!(ran(&world, text, &[]), "CC");
}

#[test]
fn statement_87_an_argument_counts_for_what_runs_behind_it() {
    let world = world();
    world.file("f", "f\n");
    let with = |text: &str, value: &str| ran(&world, text, &["--build-arg", &format!("V={value}")]);
    let behind = "FROM base\nRUN true\nARG V\n";
    assert_eq!((with(behind, "1"), with(behind, "2")), ("R".to_owned(), "C".to_owned()));
    let before = "FROM base\nARG V\nCOPY f /f\nWORKDIR /w\nRUN true\n";
    assert_eq!((with(before, "1"), with(before, "2")), ("RRR".to_owned(), "CCR".to_owned()));
    assert_eq!(with(before, "1"), "CCC");
}

#[test]
fn statement_88_comments_and_names_of_stages_do_not_count() {
    let world = world();
    let first = "# one\nFROM base AS x\nRUN echo 1 > /1\nFROM x AS last\nCOPY --from=x /1 /2\n";
    let second =
        "# other\n\nFROM base AS y\n# here\nRUN echo 1 > /1\nFROM y\n\nCOPY --from=y /1 /2\n";
    let (before, after) = (build(&world, first, &[]), build(&world, second, &[]));
    assert_eq!((steps(&before), steps(&after)), ("RR".to_owned(), "CC".to_owned()));
    assert_eq!(before.ok(), after.ok());
}

#[test]
fn statement_89_what_is_copied_counts_and_not_how_it_was_made() {
    let world = world();
    let text = |how: &str| {
        format!(
            "FROM base AS b\nRUN echo {how} > /y; echo x > /x\nFROM base\nCOPY --from=b /x /x\nRUN true\n"
        )
    };
    assert_eq!(ran(&world, &text("1"), &[]), "RRR");
    assert_eq!(ran(&world, &text("2"), &[]), "RCC");
}

#[test]
fn statement_90_proxies_and_contents_of_secrets_do_not_count() {
    let world = world();
    let text = "FROM base\nRUN --mount=type=secret,id=s cat /run/secrets/s | wc -c\nRUN true\n";
    let source = format!("id=s,src={}", world.path("secret").display());
    let with = |secret: &str, proxy: &str| {
        fs::write(world.path("secret"), secret).unwrap();
        world.give();
        build(&world, text, &["--secret", &source, "--build-arg", proxy])
    };
    let first = with("one", "http_proxy=http://a");
    let second = with("another", "HTTPS_PROXY=http://b");
    assert_eq!((steps(&first), steps(&second)), ("RR".to_owned(), "CC".to_owned()));
    assert_eq!(first.ok(), second.ok());
}
