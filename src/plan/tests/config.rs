//! What instructions do to the config and to history (statements 73 to 79).

use super::*;
use crate::oci::spec::DEFAULT_PATH;

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn entrypoint_clears_an_inherited_cmd_only() {
    let own = planned("FROM b AS a\nCMD [\"x\"]\nENTRYPOINT [\"e\"]\n");
    let config = &target(&own).config.config;
    assert_eq!(config.cmd, Some(strings(&["x"])));
    assert_eq!(config.entrypoint, Some(strings(&["e"])));
    let child =
        planned("FROM b AS a\nCMD [\"x\"]\nENTRYPOINT [\"e\"]\nFROM a\nENTRYPOINT [\"f\"]\n");
    let config = &target(&child).config.config;
    assert_eq!((config.cmd.clone(), config.args_escaped), (None, Some(true)));
    let empty = planned("FROM b AS a\nCMD [\"x\"]\nENTRYPOINT [\"e\"]\nFROM a\nCMD []\n");
    let config = &target(&empty).config.config;
    assert_eq!((config.cmd.clone(), config.entrypoint.clone()), (None, Some(strings(&["e"]))));
    let image = planned("FROM b\nENTRYPOINT e\n");
    assert_eq!(target(&image).config.config.cmd, None);
}

#[test]
fn shell_applies_to_what_follows_and_to_derived_stages() {
    let plan = planned(
        "FROM b AS a\nSHELL [\"/bin/sh\",\"-ec\"]\nCMD x\nHEALTHCHECK CMD y\nFROM a\nRUN z\n",
    );
    let config = &target(&plan).config.config;
    assert_eq!(config.cmd, Some(strings(&["/bin/sh", "-ec", "x"])));
    assert_eq!(config.healthcheck.as_ref().unwrap().test, ["CMD-SHELL", "y"]);
    assert_eq!(runs(&plan)[0].argv, ["/bin/sh", "-ec", "z"]);
    assert_eq!(config.shell, ["/bin/sh", "-ec"]);
}

#[test]
fn exposed_ports() {
    let plan = planned("FROM b\nARG P=\"1 2/udp\"\nEXPOSE 8000-8002 90\nEXPOSE $P\n");
    let ports: Vec<&str> =
        target(&plan).config.config.exposed_ports.keys().map(String::as_str).collect();
    assert_eq!(ports, ["1/tcp", "2/udp", "8000/tcp", "8001/tcp", "8002/tcp", "90/tcp"]);
    let sorted = planned("FROM b\nEXPOSE 5000 2375 1234/udp\n");
    assert_eq!(history(&sorted), ["EXPOSE [1234/udp 2375/tcp 5000/tcp]"]);
    assert_eq!(error("FROM b\nEXPOSE 80 70000\n"), "2:11: invalid containerPort: 70000");
    assert_eq!(error("FROM b\nEXPOSE 80/foo\n"), "2:8: invalid proto: foo");
}

#[test]
fn stop_signals_are_stored_as_written() {
    for signal in ["9", "SIGRTMIN+3", "term"] {
        let plan = planned(&format!("FROM b\nSTOPSIGNAL {signal}\n"));
        assert_eq!(target(&plan).config.config.stop_signal.as_deref(), Some(signal));
    }
    assert_eq!(error("FROM b\nSTOPSIGNAL BAD\n"), "2:12: invalid signal: BAD");
}

#[test]
fn volumes_make_no_layer() {
    let plan = planned("FROM b\nVOLUME /a /b\nVOLUME [\"/c d\"]\n");
    let volumes: Vec<&str> =
        target(&plan).config.config.volumes.keys().map(String::as_str).collect();
    assert_eq!(volumes, ["/a", "/b", "/c d"]);
    let steps: Vec<String> = target(&plan).steps.iter().map(shown).collect();
    assert_eq!(steps, ["config true: VOLUME [/a /b]", "config true: VOLUME [/c d]"]);
    assert_eq!(error("FROM b\nVOLUME $X\n"), "2:8: VOLUME specified can not be an empty string");
}

#[test]
fn working_directories() {
    let plan = planned(
        "FROM b\nWORKDIR /\nWORKDIR a/./b/\nUSER u\nWORKDIR ../c\nWORKDIR \"/x y\"\nWORKDIR /..\nRUN z\n",
    );
    let steps: Vec<String> = target(&plan).steps.iter().map(shown).collect();
    assert_eq!(
        steps,
        [
            "config true: WORKDIR /",
            "workdir false: WORKDIR /a/b",
            "config true: USER u",
            "workdir false: WORKDIR /a/c",
            "workdir false: WORKDIR /x y",
            "config true: WORKDIR /",
            "run false: RUN /bin/sh -c z # buildkit",
        ]
    );
    let StepKind::Workdir(workdir) = &target(&plan).steps[3].kind else { panic!("a WORKDIR") };
    assert_eq!((workdir.path.as_str(), workdir.user.as_str()), ("/a/c", "u"));
}

#[test]
fn scratch_has_a_path_and_a_directory() {
    let plan = planned("FROM scratch\nLABEL a=b\n");
    let stage = target(&plan);
    assert_eq!(stage.config.config.env, [format!("PATH={DEFAULT_PATH}")]);
    assert_eq!(stage.config.config.working_dir, "/");
    assert_eq!((stage.config.os.as_str(), stage.config.architecture.as_str()), ("linux", "amd64"));
    assert_eq!(stage.base, StageBase::Scratch);
}

#[test]
fn bases_keep_what_we_do_not_know_and_lose_what_build_fills_in() {
    let text = br#"{"architecture":"amd64","os":"linux","created":"x","moby.z":1,"author":"me",
        "history":[{"created_by":"y"}],"config":{"Env":["A=1"],"WorkingDir":"w/","Odd":2}}"#;
    let images = BTreeMap::from([("b".to_owned(), from_json("config", text).unwrap())]);
    let plan = try_plan("FROM b\nENV A=2\nRUN x\n", &request(), &images).unwrap();
    let config = &target(&plan).config;
    assert_eq!((config.created.clone(), config.history.len()), (None, 0));
    assert_eq!(
        (config.other["moby.z"].clone(), config.config.other["Odd"].clone()),
        (1.into(), 2.into())
    );
    assert_eq!(config.config.env, ["A=2".to_owned(), format!("PATH={DEFAULT_PATH}")]);
    assert_eq!(runs(&plan)[0].cwd, "/w");
    assert_eq!(config.author.as_deref(), Some("me"));
}

#[test]
fn labels_of_the_request_come_last_and_only_to_the_target() {
    let request = PlanRequest {
        labels: vec![("a".to_owned(), "2".to_owned()), ("c".to_owned(), "3".to_owned())],
        ..request()
    };
    let plan = planned_for("FROM b AS x\nLABEL a=1 b=1\nFROM x\n", &request);
    let shown = |index: usize| -> Vec<String> {
        let labels = plan.stages[index].config.config.labels.iter();
        labels.map(|(key, value)| format!("{key}={value}")).collect()
    };
    assert_eq!(shown(0), ["a=1", "b=1"]);
    assert_eq!(shown(1), ["a=2", "b=1", "c=3"]);
}

#[test]
fn history_texts() {
    let plan = planned(
        "FROM b\nMAINTAINER me too\nENV A=1 B=\"x y\"\nLABEL \"k\"='$A' l=$A\nCMD echo \"$A\"\n\
         ENTRYPOINT [\"e\", \"\\t\"]\nSHELL [\"/bin/bash\", \"-c\"]\nSTOPSIGNAL 9\nUSER $A\n\
         HEALTHCHECK --interval=1s --retries=5 CMD x\nHEALTHCHECK NONE\nONBUILD RUN t\n",
    );
    assert_eq!(
        history(&plan),
        [
            "MAINTAINER me too",
            "ENV A=1 B=x y",
            "LABEL k=$A l=1",
            r#"CMD ["/bin/sh" "-c" "echo \"$A\""]"#,
            r#"ENTRYPOINT ["e" "\t"]"#,
            "SHELL [/bin/bash -c]",
            "STOPSIGNAL 9",
            "USER 1",
            "HEALTHCHECK {Test:[CMD-SHELL x] Interval:1s Timeout:0s StartPeriod:0s StartInterval:0s Retries:5}",
            "HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
        ]
    );
    assert_eq!(target(&plan).config.author.as_deref(), Some("me too"));
    assert_eq!(target(&plan).config.config.on_build, ["RUN t"]);
}
