//! What the image says of itself: config, what of the base's is inherited, name, tag, times, history, annotations.

use super::{HEAD, Made, app, app_with, assemble, read};
use crate::support::{Said, World, program};
use serde_json::{Value, json};
use std::process::Command;

const FILE: &str = "contents:\n- file: {path: /f, text: hi}\n";

/// A base with a bit of everything in its config.
fn world(world: World) -> World {
    let world = world.with_base();
    let dockerfile = "FROM base\nENV A=1 B=2 PATH=/bin\nENTRYPOINT [\"/e\"]\nCMD [\"c\"]\nUSER 5:6\nWORKDIR /var\n\
                      LABEL one=1 two=2\nEXPOSE 80\nVOLUME /data\nSTOPSIGNAL SIGINT\nMAINTAINER me\nONBUILD RUN x\n";
    world.build(dockerfile, &["-t", "full"]).ok();
    world
}

fn spec(more: &str) -> String {
    format!("{HEAD}from: {{image: full}}\n{FILE}{more}")
}

fn config(made: &Made) -> &Value {
    &made.config["config"]
}

#[test]
fn a_base_gives_all_of_its_config_or_what_is_asked_for() {
    let all = json!({
        "ArgsEscaped": true, "Cmd": ["c"], "Entrypoint": ["/e"], "Env": ["PATH=/bin", "A=1", "B=2"],
        "ExposedPorts": {"80/tcp": {}},
        "Labels": {"one": "1", "two": "2"}, "OnBuild": ["RUN x"], "StopSignal": "SIGINT", "User": "5:6",
        "Volumes": {"/data": {}}, "WorkingDir": "/var",
    });
    for world in World::each().into_iter().map(world) {
        for (wish, wanted) in [
            ("", all.clone()),
            ("inherit: docker\n", all.clone()),
            ("inherit: none\n", json!({})),
            ("inherit: []\n", json!({})),
            ("inherit: env\n", json!({"Env": ["PATH=/bin", "A=1", "B=2"]})),
            ("inherit: [Cmd, User]\n", json!({"Cmd": ["c"], "User": "5:6"})),
        ] {
            let made = app(&world, &spec(wish));
            assert_eq!(config(&made), &wanted, "{wish}");
            let author = if wanted == all { json!("me") } else { Value::Null };
            assert_eq!(made.config["author"], author, "{wish}");
        }
        let said = assemble(&world, &spec("inherit: [cmd]\n"), &[]).failed(1);
        assert!(said.contains("help: did you mean `Cmd`?"), "{said}");
    }
}

#[test]
fn the_specs_config_is_merged_with_the_bases() {
    for world in World::each().into_iter().map(world) {
        let more = "author: you
config:
  Env: {B: new, C: '3'}
  Entrypoint: [/own]
  Labels: {two: '22', three: '3'}
  ExposedPorts: ['53/udp', 80]
  Volumes: [/more]
  User: ''
  WorkingDir: /w/
  OnBuild: []
  StopSignal: SIGQUIT
";
        let made = app(&world, &spec(more));
        let wanted = json!({
            "ArgsEscaped": true, "Entrypoint": ["/own"], "Env": ["PATH=/bin", "A=1", "B=new", "C=3"],
            "ExposedPorts": {"53/udp": {}, "80/tcp": {}},
            "Labels": {"one": "1", "three": "3", "two": "22"}, "StopSignal": "SIGQUIT",
            "Volumes": {"/data": {}, "/more": {}}, "WorkingDir": "/w",
        });
        let mut found = config(&made).clone();
        // Empty members are written, or not: both mean the same.
        found
            .as_object_mut()
            .unwrap()
            .retain(|_, value| *value != json!("") && *value != json!([]));
        assert_eq!(found, wanted);
        assert_eq!(made.config["author"], "you");
        let kept = app(&world, &spec("config: {Entrypoint: [/own], Cmd: [d]}\n"));
        assert_eq!(config(&kept)["Cmd"], json!(["d"]));
        let kept = app(&world, &spec("config: {Cmd: [d], Entrypoint: null}\n"));
        assert_eq!(config(&kept)["Entrypoint"], json!(["/e"]));
    }
}

#[test]
fn a_platform_is_the_specs_the_bases_or_this_machines() {
    for world in World::each() {
        let made = app(&world, &format!("{HEAD}architecture: arm\nvariant: v7\n{FILE}"));
        let platform =
            |made: &Made| ["os", "architecture", "variant"].map(|key| made.config[key].clone());
        assert_eq!(platform(&made), [json!("linux"), json!("arm"), json!("v7")]);
        let made = app(&world, &format!("{HEAD}from: {{image: app}}\n{FILE}"));
        assert_eq!(platform(&made), [json!("linux"), json!("arm"), json!("v7")]);
        let said = assemble(&world, &format!("{HEAD}architecture: x86_64\n"), &[]).failed(1);
        assert!(said.contains("help: did you mean `amd64`?"), "{said}");
    }
}

#[test]
fn a_name_is_put_into_lower_case_with_a_warning_and_tags_are_made() {
    for world in World::each() {
        let body = "from: null\n".to_owned() + FILE;
        let run = |head: &str| assemble(&world, &format!("version: 1\n{head}{body}"), &[]);
        let said = run("name: Reg.Example/Team/App:V1\n");
        let warning = "warning: context/image.yaml:2:7: `name` is put into lower case: `Reg.Example/Team/App` becomes \
                       `Reg.Example/team/app`\n";
        assert_eq!(said.stderr, warning);
        let (name, digest) = said.stdout.trim_end().split_once('@').unwrap();
        assert_eq!(name.to_lowercase(), "reg.example/team/app:v1");
        let made = read(&world, name);
        assert_eq!(made.digest, digest);
        let hex =
            made.manifest["config"]["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        assert_eq!(run("name: app\ntag: null\n").ok(), format!("app:{}@{digest}\n", &hex[..32]));
        let nix = run("name: app\ntag: null\ntagFrom: nix\n").ok();
        assert_eq!(nix, format!("app:{}@{digest}\n", nix_hash(hex)));
        assert_eq!(run("name: app\ntag: V2.x\n").ok(), format!("app:V2.x@{digest}\n"));
        let said = run("name: app:1\ntag: '2'\n").failed(1);
        assert!(said.contains("the tag is given twice: here, and as `1` in `name`"), "{said}");
        let said = run("").failed(2);
        let wanted = "error: the image has no name for the store\n\
                      help: `name:` in the spec gives it one, and so does `--set name=…`\n";
        assert_eq!(said, wanted);
    }
}

/// The first 32 characters of a SHA-256 in Nix's base 32: 5 bits each, the last ones first.
fn nix_hash(hex: &str) -> String {
    const LETTERS: &[u8] = b"0123456789abcdfghijklmnpqrsvwxyz";
    let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..32).map(byte).collect();
    let letter = |n: usize| {
        let (at, shift) = (n * 5 / 8, n * 5 % 8);
        let high = bytes.get(at + 1).map_or(0, |byte| u16::from(*byte) << (8 - shift));
        let digit = (u16::from(bytes[at]) >> shift | high) & 31;
        char::from(LETTERS[usize::from(digit)])
    };
    (0..52).rev().map(letter).take(32).collect()
}

#[test]
fn words_of_the_command_line_change_the_spec() {
    for world in World::each() {
        let spec = format!("{HEAD}config: {{Labels: {{a: '1'}}}}\n{FILE}");
        let set = ["config.Labels.b=x", "contents[0].file.text=changed", "created=5"];
        let args: Vec<&str> = set.iter().flat_map(|word| ["--set", word]).collect();
        let made = app_with(&world, &spec, &args);
        assert_eq!(config(&made)["Labels"], json!({"a": "1", "b": "x"}));
        assert_eq!(made.config["created"], "1970-01-01T00:00:05Z");
        assert_eq!(made.bytes("f"), b"changed");
        let said = assemble(&world, &spec, &["--set", "contents[0].file.mod=1"]).failed(1);
        let wanted = "\
error: unknown key `mod` in `contents[0].file`
  --> --set:1:18
   |
 1 | contents[0].file.mod=1
   |                  ^^^
 cause: given by `--set contents[0].file.mod=1`
help: did you mean `mode`?
";
        assert_eq!(said, wanted);
    }
}

#[test]
fn an_image_is_as_old_as_the_spec_says() {
    for world in World::each() {
        let spec =
            |created: &str| format!("{HEAD}created: {created}\nmtime: source-date-epoch\n{FILE}");
        let epoch = ["--source-date-epoch", "1000000000"];
        let of = |created: &str, args: &[&str]| {
            let made = app_with(&world, &spec(created), args);
            assert_eq!(made.times(), [("f".to_owned(), 1_000_000_000)]);
            assert_eq!(made.config["created"], made.config["history"][0]["created"]);
            made.config["created"].as_str().unwrap().to_owned()
        };
        assert_eq!(of("source-date-epoch", &epoch), "2001-09-09T01:46:40Z");
        assert_eq!(of("86400", &epoch), "1970-01-02T00:00:00Z");
        assert_eq!(of("2020-02-03T04:05:06+01:00", &epoch), "2020-02-03T03:05:06Z");
        let now = of("now", &epoch);
        assert!(now.as_str() > "2026-01-01T00:00:00Z", "{now}");
        let mut command = world.command(program());
        command.args(["assemble", "-f", "context/image.yaml"]);
        let said = Said::of(command.env("SOURCE_DATE_EPOCH", "1000000000").output().unwrap()).ok();
        assert!(said.starts_with("app:latest@sha256:"), "{said}");
        let said = assemble(&world, &spec("source-date-epoch"), &[]).failed(2);
        let wanted = "error: the spec asks for `source-date-epoch`, and there is none\n\
                      help: set SOURCE_DATE_EPOCH, or give `--source-date-epoch`\n";
        assert_eq!(said, wanted);
    }
}

#[test]
fn an_image_is_as_old_as_the_last_commit() {
    for world in World::each() {
        let spec = format!("{HEAD}created: from-git\nmtime: from-git\n{FILE}");
        let said = assemble(&world, &spec, &[]).failed(2);
        let wanted = "error: the spec asks for `from-git`, and its directory is in no repository\n\
                      help: give a time, or `source-date-epoch`\n";
        assert_eq!(said, wanted);
        let date = "2010-01-02T03:04:05Z";
        let git = |args: &[&str]| {
            let mut git: Command = world.command("git");
            git.args(["-c", "user.name=me", "-c", "user.email=me@example.com"]).args(args);
            git.env("GIT_COMMITTER_DATE", date).env("GIT_AUTHOR_DATE", date);
            Said::of(git.current_dir(world.context()).output().unwrap()).ok()
        };
        git(&["init", "-q"]);
        git(&["add", "."]);
        git(&["commit", "-q", "-m", "x"]);
        let made = app(&world, &spec);
        assert_eq!(made.config["created"], date);
        assert_eq!(made.times(), [("f".to_owned(), 1_262_401_445)]);
    }
}

#[test]
fn files_keep_their_times_up_to_that_of_the_image() {
    for world in World::each() {
        world.file("src/old", "1").file("src/new", "2");
        for (name, time) in [("old", "@1000.5"), ("new", "@4000000000")] {
            let path = world.context().join("src").join(name);
            let done = Command::new("touch").args(["-d", time]).arg(path).status();
            assert!(done.unwrap().success());
        }
        let spec = |created: u32| {
            format!(
                "{HEAD}created: {created}\nmtime: keep\ncontents:\n- dir: src\n- file: {{path: /own, text: x}}\n"
            )
        };
        let times = |created| app(&world, &spec(created)).times();
        let named = |times: [(&str, u64); 3]| times.map(|(name, time)| (name.to_owned(), time));
        let wanted = named([("new", 2_000_000_000), ("old", 1000), ("own", 0)]);
        assert_eq!(times(2_000_000_000), wanted);
        assert_eq!(times(999), named([("new", 999), ("old", 999), ("own", 0)]));
    }
}

#[test]
fn history_says_what_is_in_each_layer() {
    for world in World::each().into_iter().map(world) {
        let contents = "- symlink: {path: /l, target: f}\nlayers: {strategy: per-content}\n";
        let made = app(&world, &spec(contents));
        let history = made.config["history"].as_array().unwrap();
        let base = world.config("full")["history"].as_array().unwrap().clone();
        assert_eq!(history[..base.len()], base);
        let entry = |about: &str| json!({"comment": about, "created": "1970-01-01T00:00:01Z", "created_by": "nativebuild assemble"});
        assert_eq!(history[base.len()..], [entry("file /f"), entry("symlink /l")]);
        let made = app(&world, &spec(&format!("{contents}history: plain\n")));
        let history = made.config["history"].as_array().unwrap();
        let plain =
            json!({"created": "1970-01-01T00:00:01Z", "created_by": "nativebuild assemble"});
        assert_eq!(history[base.len()..], [plain.clone(), plain]);
    }
}

#[test]
fn layers_are_packed_as_asked_and_annotations_are_the_manifests() {
    for world in World::each() {
        let of = |compression: &str| {
            let spec =
                format!("{HEAD}{FILE}annotations: {{a.b: c}}\ncompression: {{{compression}}}\n");
            let made = app(&world, &spec);
            assert_eq!(made.manifest["annotations"], json!({"a.b": "c"}));
            let kind = made.manifest["layers"][0]["mediaType"].as_str().unwrap();
            let kind =
                kind.strip_prefix("application/vnd.oci.image.layer.v1.tar").unwrap().to_owned();
            (kind, made.layers)
        };
        let (kind, layers) = of("kind: none");
        assert_eq!(kind, "");
        for (compression, wanted) in [
            ("kind: gzip", "+gzip"),
            ("level: 9", "+gzip"),
            ("kind: zstd", "+zstd"),
            ("kind: zstd, level: 19", "+zstd"),
        ] {
            assert_eq!(of(compression), (wanted.to_owned(), layers.clone()), "{compression}");
        }
    }
}
