//! Planning of whole files: helpers for the tables in `tests/`, and golden plans of `testdata/plan`.

mod arguments;
mod checks;
mod config;
mod graphs;
mod hostile;
mod steps;

use super::step::{CopyFrom, CopyStep, RunStep, StagePlan, Step, StepKind};
use super::*;
use crate::oci::spec::from_json;
use crate::source::SourceFile;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn platform(text: &str) -> Platform {
    Platform::parse(text).unwrap()
}

fn request() -> PlanRequest {
    PlanRequest {
        build_args: Vec::new(),
        target: None,
        labels: Vec::new(),
        platform: None,
        build_platform: platform("linux/amd64"),
        network: NetworkMode::Default,
        epoch: None,
        contexts: BTreeMap::new(),
        times: BTreeMap::new(),
    }
}

fn with_args(args: &[(&str, &str)]) -> PlanRequest {
    let build_args = args.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    PlanRequest { build_args, ..request() }
}

/// Config that every image has unless a test says otherwise.
fn base_config() -> ImageConfig {
    let text =
        br#"{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":["sh"]},
        "rootfs":{"type":"layers","diff_ids":[]}}"#;
    from_json("config", text).unwrap()
}

/// Plans to the end; images that `images` does not name have [`base_config`].
fn try_plan(
    text: &str,
    request: &PlanRequest,
    images: &BTreeMap<String, ImageConfig>,
) -> Result<BuildPlan> {
    let source = Arc::new(SourceFile::new("Dockerfile", text));
    let dockerfile = crate::dockerfile::parse(&source)?;
    let mut bases = BTreeMap::new();
    loop {
        match plan(&dockerfile, request, &bases)? {
            Planned::Ready(plan) => return Ok(plan),
            Planned::Needs(missing) => {
                assert!(!missing.is_empty());
                for base in missing {
                    let config = images.get(&base.reference).cloned().unwrap_or_else(base_config);
                    assert!(bases.insert(base, config).is_none(), "asked twice");
                }
            }
        }
    }
}

fn planned(text: &str) -> BuildPlan {
    planned_for(text, &request())
}

fn planned_for(text: &str, request: &PlanRequest) -> BuildPlan {
    try_plan(text, request, &BTreeMap::new()).unwrap()
}

/// `line:column: message` of the error.
fn error_for(text: &str, request: &PlanRequest) -> String {
    let error = try_plan(text, request, &BTreeMap::new()).unwrap_err();
    let message = error.message();
    match error.place() {
        Some(place) => {
            let (line, column) = place.source.line_column(place.span.start);
            format!("{line}:{column}: {message}")
        }
        None => message.to_owned(),
    }
}

fn error(text: &str) -> String {
    error_for(text, &request())
}

fn target(plan: &BuildPlan) -> &StagePlan {
    &plan.stages[plan.targets[0]]
}

fn runs(plan: &BuildPlan) -> Vec<&RunStep> {
    let steps = target(plan).steps.iter();
    steps
        .filter_map(|step| match &step.kind {
            StepKind::Run(run) => Some(run),
            _ => None,
        })
        .collect()
}

fn copies(plan: &BuildPlan) -> Vec<&CopyStep> {
    let steps = target(plan).steps.iter();
    steps
        .filter_map(|step| match &step.kind {
            StepKind::Copy(copy) => Some(copy),
            _ => None,
        })
        .collect()
}

/// Environment of the target's last RUN as `name=value`, without PATH.
fn run_env(plan: &BuildPlan) -> Vec<String> {
    let run = *runs(plan).last().unwrap();
    let env = run.env.iter().filter(|(name, _)| name != "PATH");
    env.map(|(name, value)| format!("{name}={value}")).collect()
}

fn history(plan: &BuildPlan) -> Vec<&str> {
    target(plan).steps.iter().filter_map(|step| step.created_by.as_deref()).collect()
}

/// What stands beside a golden Dockerfile in `request.json`.
#[derive(serde::Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct GoldenRequest {
    build_args: Vec<(String, String)>,
    target: Option<String>,
    labels: Vec<(String, String)>,
    platform: Option<String>,
    platforms: Vec<String>,
    epoch: Option<i64>,
    images: BTreeMap<String, ImageConfig>,
}

fn golden(directory: &Path) -> String {
    let text = fs::read_to_string(directory.join("Dockerfile")).unwrap();
    let wanted: GoldenRequest = match fs::read(directory.join("request.json")) {
        Ok(bytes) => from_json("request.json", &bytes).unwrap(),
        Err(_) => GoldenRequest::default(),
    };
    let request = PlanRequest {
        build_args: wanted.build_args,
        target: wanted.target,
        labels: wanted.labels,
        platform: wanted.platform.as_deref().map(platform),
        epoch: wanted.epoch,
        ..request()
    };
    let of = |request: &PlanRequest| try_plan(&text, request, &wanted.images).unwrap();
    if wanted.platforms.is_empty() {
        return print_plan(&of(&request));
    }
    let each = wanted
        .platforms
        .iter()
        .map(|text| PlanRequest { platform: Some(platform(text)), ..request.clone() });
    print_plan(&join(each.map(|request| of(&request))).unwrap())
}

#[test]
#[expect(clippy::disallowed_methods, reason = "UPDATE_EXPECT=1 rewrites the expected plans")]
fn golden_plans() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/plan");
    let mut cases: Vec<PathBuf> =
        fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 8, "{root:?}");
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    for case in cases {
        let shown = golden(&case);
        let file = case.join("plan.txt");
        if update {
            fs::write(&file, &shown).unwrap();
        }
        assert_eq!(shown, fs::read_to_string(&file).unwrap_or_default(), "{case:?}");
    }
}

#[test]
fn only_bases_of_needed_stages_are_asked_for() {
    let text = "FROM a AS a\nFROM b AS unused\nFROM c\nCOPY --from=a x /\nCOPY --from=d x /\n";
    let source = Arc::new(SourceFile::new("Dockerfile", text));
    let dockerfile = crate::dockerfile::parse(&source).unwrap();
    let Planned::Needs(missing) = plan(&dockerfile, &request(), &BTreeMap::new()).unwrap() else {
        panic!("bases are needed")
    };
    let names: Vec<&str> = missing.iter().map(|base| base.reference.as_str()).collect();
    assert_eq!(names, ["a", "c"]);
}

#[test]
fn images_are_asked_for_again_when_triggers_reach_further() {
    let text = "FROM tools AS tools\nFROM child\n";
    let trigger = RunOnBuild::image("COPY --from=tools /x /x");
    let plan = try_plan(text, &request(), &trigger).unwrap();
    assert_eq!(plan.stages.len(), 2);
    assert_eq!(target(&plan).steps[0].text, "ONBUILD COPY --from=tools /x /x");
}

/// Builds images with triggers.
struct RunOnBuild;

impl RunOnBuild {
    /// An image `child` with one trigger.
    fn image(trigger: &str) -> BTreeMap<String, ImageConfig> {
        let mut config = base_config();
        config.config.on_build = vec![trigger.to_owned()];
        BTreeMap::from([("child".to_owned(), config)])
    }
}

/// Steps as `kind: created_by`.
fn shown(step: &Step) -> String {
    let kind = match &step.kind {
        StepKind::Config => "config",
        StepKind::Run(_) => "run",
        StepKind::Copy(_) => "copy",
        StepKind::Workdir(_) => "workdir",
    };
    format!("{kind} {}: {}", step.empty_layer, step.created_by.as_deref().unwrap_or("-"))
}
