//! Where a result goes, and what the command says about it.

use crate::support::{World, base, program};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const DOCKERFILE: &str = "FROM base\nRUN echo 1 > /a\nCMD [\"/a\"]\n";

#[test]
fn several_outputs_of_one_build_hold_the_same_image() {
    for world in World::each() {
        let world = world.with_base();
        let out = |name: &str| world.path(&format!("out/{name}")).to_str().unwrap().to_owned();
        let specs = [
            format!("type=oci,dest={}", out("app.oci")),
            format!("type=oci,dest={},tar=false", out("layout")),
            format!("type=docker,dest={}", out("docker.tar")),
            format!("type=tar,dest={}", out("root.tar")),
            format!("type=local,dest={}", out("root")),
        ];
        let mut args = vec!["-t", "app:7"];
        args.extend(specs.iter().flat_map(|spec| ["-o", spec.as_str()]));
        let digest = world.build(DOCKERFILE, &args).ok();
        for name in ["app.oci", "layout"] {
            assert_eq!(world.run(["image", "import", "again", &out(name)]).ok(), digest, "{name}");
        }
        assert_eq!(world.run(["image", "load", &out("docker.tar")]).code, 0);
        for name in ["app.oci", "layout", "docker.tar"] {
            assert_eq!(world.run(["image", "validate", &out(name)]).ok(), "valid\n", "{name}");
        }
        let index = fs::read(world.path("out/layout/index.json")).unwrap();
        let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
        let annotations = &index["manifests"][0]["annotations"];
        assert_eq!(annotations["org.opencontainers.image.ref.name"], "7");
        assert_eq!(annotations["io.containerd.image.name"], "docker.io/library/app:7");
        let listing = base::list_tar(&fs::read(out("root.tar")).unwrap());
        assert!(listing.iter().any(|line| line == "a file 644 0:0 2"), "{listing:#?}");
        assert_eq!(fs::read_to_string(world.path("out/root/a")).unwrap(), "1\n");
        // Nothing half-written is left beside the outputs.
        assert_eq!(fs::read_dir(world.path("out")).unwrap().count(), 5);
    }
}

#[test]
fn a_build_that_fails_leaves_nothing_where_its_output_was_to_be() {
    for world in World::each() {
        let world = world.with_base();
        let out = world.path("mine");
        fs::create_dir(&out).unwrap();
        fs::set_permissions(&out, fs::Permissions::from_mode(0o777)).unwrap();
        let output = format!("type=oci,tar=false,dest={}", out.join("layout").display());
        let big = "RUN head -c 5000000 /dev/urandom > /big";
        let args = ["--no-cache", "-o", output.as_str()];
        let dockerfile = format!("FROM base\n{big}\nRUN true\nRUN false\n");
        assert_eq!(world.build(&dockerfile, &args).code, 1);
        assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
        let dockerfile = format!("FROM base\n{big}\nRUN true\nRUN touch /last\n");
        let digest = world.build(&dockerfile, &args).ok();
        assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
        let layout = out.join("layout");
        let layout = layout.to_str().unwrap();
        assert_eq!(world.run(["image", "validate", layout]).ok(), "valid\n");
        assert_eq!(world.run(["image", "import", "again", layout]).ok(), digest);
    }
}

#[test]
fn standard_output_carries_one_output_and_nothing_else() {
    let world = World::new().with_base();
    world.file("Dockerfile", DOCKERFILE);
    let context = world.context();
    for spec in ["type=oci,dest=-", "type=docker,dest=-", "type=tar,dest=-", "-"] {
        let mut command = world.command(program());
        let output = command.args(["build", "-o", spec]).arg(&context).output().unwrap();
        assert!(output.status.success());
        assert!(!base::list_tar(&output.stdout).is_empty(), "{spec}");
    }
    world.build(DOCKERFILE, &["-o", "-", "-o", "type=oci,dest=-"]).failed(2);
}

#[test]
fn an_image_without_a_tag_has_no_name() {
    let world = World::new().with_base();
    let path = world.path("out/layout");
    let spec = format!("type=oci,dest={},tar=false", path.display());
    let digest = world.build(DOCKERFILE, &["-o", &spec]).ok();
    let index = fs::read_to_string(path.join("index.json")).unwrap();
    assert!(index.contains(digest.trim()) && !index.contains("ref.name"), "{index}");
    assert_eq!(world.run(["image", "ls"]).ok().lines().count(), 2);
}

#[test]
fn digests_are_written_where_scripts_look_for_them() {
    let world = World::new().with_base();
    let (iid, metadata) = (world.path("out/iid"), world.path("out/metadata"));
    let files = ["--iidfile", iid.to_str().unwrap(), "--metadata-file", metadata.to_str().unwrap()];
    let digest = world.build(DOCKERFILE, &[&files[..], &["-t", "app", "-t", "x:2"]].concat()).ok();
    assert_eq!(fs::read_to_string(iid).unwrap(), digest.trim());
    let found: serde_json::Value = serde_json::from_slice(&fs::read(metadata).unwrap()).unwrap();
    let inspected = world.run(["image", "inspect", "--json", "app"]).ok();
    let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    let mut descriptor = inspected["descriptor"].clone();
    descriptor.as_object_mut().unwrap().remove("annotations");
    let expected = serde_json::json!({
        "containerimage.config.digest": inspected["manifest"]["config"]["digest"],
        "containerimage.descriptor": descriptor,
        "containerimage.digest": digest.trim(),
        "image.name": "docker.io/library/app:latest,docker.io/library/x:2",
    });
    assert_eq!(found, expected);
}

#[test]
fn json_progress_is_one_object_a_line_in_order() {
    let world = World::new().with_base();
    let said = world.build(DOCKERFILE, &["--progress", "json", "-t", "app"]);
    let events: Vec<serde_json::Value> =
        said.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    let without_layer: Vec<&str> = names.iter().copied().filter(|name| *name != "layer").collect();
    assert_eq!(without_layer, ["isolation", "step-started", "step-done", "built"]);
    assert!(names.contains(&"layer"));
    assert_eq!(events.last().unwrap()["digest"], said.stdout.trim());
    let failed = world.build("FROM base\nRUN exit 3\n", &["--progress", "json"]).failed(1);
    let last: serde_json::Value = serde_json::from_str(failed.lines().last().unwrap()).unwrap();
    assert_eq!((&last["event"], &last["run_exit_code"]), (&"error".into(), &3.into()));
    assert_eq!(last["place"], serde_json::json!({"file": "Dockerfile", "line": 2, "column": 1}));
    assert_eq!(world.build(DOCKERFILE, &["--progress", "quiet"]).stderr, "");
}

#[test]
fn a_directory_alone_means_build() {
    let world = World::new().with_base();
    let digest = world.build(DOCKERFILE, &[]).ok();
    let context = world.context();
    assert_eq!(world.run([context.to_str().unwrap(), "-q"]).ok(), digest);
    assert_eq!(world.run(["-q", context.to_str().unwrap()]).ok(), digest);
}

#[test]
fn flags_reach_the_image() {
    let world = World::new().with_base();
    let dockerfile = "\
ARG TAG=latest
FROM base:$TAG AS first
ARG GIVEN=default
ARG FROM_ENV
RUN echo $GIVEN $FROM_ENV > /args
FROM first AS second
RUN exit 1
";
    let args = ["--target", "first", "--build-arg", "GIVEN=mine", "--build-arg", "FROM_ENV"];
    let labels = ["--label", "a=1", "--label", "b=x=y", "-t", "app", "--compression", "zstd"];
    world.file("Dockerfile", dockerfile);
    let mut command = world.command(program());
    command.env("FROM_ENV", "env").arg("build").args(args).args(labels).arg(world.context());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    world.validate("app");
    let config = world.config("app");
    assert_eq!(config["config"]["Labels"], serde_json::json!({"a": "1", "b": "x=y"}));
    let created_by = config["history"][3]["created_by"].as_str().unwrap();
    assert_eq!(
        created_by,
        "RUN |2 GIVEN=mine FROM_ENV=env /bin/sh -c echo $GIVEN $FROM_ENV > /args # buildkit"
    );
    let inspected = world.run(["image", "inspect", "--json", "app"]).ok();
    assert!(inspected.contains("application/vnd.oci.image.layer.v1.tar+zstd"), "{inspected}");
    world.build("FROM base\nRUN true\n", &["-t", "none", "--compression", "none"]).ok();
    world.validate("none");
}

#[test]
fn a_plan_is_printed_and_nothing_is_run() {
    let world = World::new().with_base();
    let plan = world.build("FROM base AS one\nRUN exit 1\n", &["--print-plan"]).ok();
    assert!(plan.contains("RUN exit 1") && plan.contains("one"), "{plan}");
    assert!(!world.store().join("snapshots/empty").exists());
}

#[test]
fn triggers_and_stages_and_images_are_copied_from() {
    let world = World::new().with_base();
    world.file("f", "context");
    let parent = "FROM base\nONBUILD COPY f /triggered\nONBUILD RUN echo ran >> /triggered\n";
    world.build(parent, &["-t", "parent"]).ok();
    assert_eq!(world.config("parent")["config"]["OnBuild"].as_array().unwrap().len(), 2);
    let child = "\
FROM base AS zero
RUN echo zero > /zero
FROM parent
COPY --from=zero /zero /by-name
COPY --from=0 /zero /by-number
COPY --from=base /etc/passwd /from-image
";
    world.build(child, &["-t", "child"]).ok();
    world.validate("child");
    assert!(world.config("child")["config"].get("OnBuild").is_none());
    let listing = world.listing("child");
    for line in ["triggered file 644 0:0 11", "by-name file 644 0:0 5", "by-number file 644 0:0 5"]
    {
        assert!(listing.iter().any(|found| found == line), "{line} in {listing:#?}");
    }
    assert!(listing.iter().any(|line| line.starts_with("from-image file 644 0:0")));
}
