//! `nativebuild debug`: what its verbs print, and their exit codes.

use crate::support::{Said, World, program};
use std::fs;
use std::io::Write;
use std::process::Stdio;

#[test]
fn the_raw_tree_is_printed_from_a_file_or_a_pipe() {
    let world = World::new();
    let text = "FROM a\nCOPY --user=me foo /tmp/\nENV a=1 b=2\nLABEL k v w\nONBUILD RUN [\"echo\", \"test\"]\n";
    let tree = "(from \"a\")\n(copy [\"--user=me\"] \"foo\" \"/tmp/\")\n(env \"a\" \"1\" \"=\" \"b\" \"2\" \"=\")\n(label \"k\" \"v w\" \"\")\n(onbuild (run \"echo\" \"test\"))\n";
    fs::write(world.path("D"), text).unwrap();
    world.give();
    assert_eq!(world.run(["debug", "ast", "D"]).ok(), tree);
    let mut child = world
        .command(program())
        .args(["debug", "ast", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert_eq!(Said::of(child.wait_with_output().unwrap()).ok(), tree);
    fs::write(world.path("D"), "FROM a\nENV x\n").unwrap();
    assert_eq!(
        world.run(["debug", "ast", "D"]).failed(1),
        "\
error: ENV must have two arguments
  --> D:2:5
   |
 2 | ENV x
   |     ^
"
    );
    assert_eq!(
        world.run(["debug", "ast", "gone"]).failed(1),
        "error: cannot read `gone`\n cause: no such file or directory\n"
    );
}

#[test]
fn a_word_a_path_and_a_platform_are_answered_in_one_line() {
    let world = World::new();
    let said = |args: &[&str]| world.run([&["debug"], args].concat());
    assert_eq!(said(&["expand", "--env", "A=1 2", "--", "'$A' \"$A\" ${B:-x}"]).ok(), "$A 1 2 x\n");
    assert_eq!(said(&["expand", "--env=A=1 2", "--words", "--", "$A '3 4'"]).ok(), "1\n2\n3 4\n");
    assert_eq!(said(&["expand", "--escape", "`", "--", "a\\`$b"]).ok(), "a\\$b\n");
    assert_eq!(said(&["expand", "--", "--x"]).ok(), "--x\n");
    assert_eq!(
        said(&["expand", "--", "${A:?}"]).failed(1),
        "error: A: is not allowed to be unset\n"
    );
    fs::write(world.path("ignore"), "# c\n*.md\n!a.md\n").unwrap();
    world.give();
    assert_eq!(
        said(&["ignore", "--file", "ignore", "--", "a.md", "b.md", "c"]).ok(),
        "keep a.md\ndrop b.md line:2 *.md\nkeep c\n"
    );
    fs::write(world.path("ignore"), "[\n").unwrap();
    assert_eq!(said(&["ignore", "--file", "ignore", "--", "a"]).code, 1);
    assert_eq!(said(&["platform", "Linux/AArch64/v8"]).ok(), "linux/arm64\n");
    assert_eq!(
        said(&["platform", "linux/amd46"]).failed(1).lines().next().unwrap(),
        "error: unknown architecture `amd46` in platform `linux/amd46`"
    );
}
