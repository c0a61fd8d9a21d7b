//! What a RUN may have only when it is allowed: all capabilities, the host's network, devices.

use crate::support::{Who, World};
use std::fs;

/// Its output lines.
fn lines(stderr: &str) -> Vec<String> {
    let ours = stderr.lines().filter_map(|line| line.strip_prefix('#')?.split_once(' '));
    ours.map(|(_, text)| text.to_owned())
        .filter(|text| !text.contains("RUN ") && !text.starts_with("DONE"))
        .collect()
}

/// All there are: root's are those that it has itself, a user namespace has every one.
fn all_capabilities(who: Who) -> String {
    if who == Who::User {
        let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
        return format!("{:016x}", (2_u64 << last.trim().parse::<u32>().unwrap()) - 1);
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap();
    line.trim().to_owned()
}

#[test]
fn statement_69_capabilities_are_dockers_unless_all_are_allowed() {
    for world in World::each() {
        let world = world.with_base();
        let text = "FROM base\nRUN grep CapBnd /proc/self/status\n\
                    RUN --security=insecure grep CapBnd /proc/self/status | grep -v 00000000a80425fb; test -w /proc/sys && echo open\n";
        let said = world.build(text, &["--allow", "security.insecure"]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        let found = lines(&said.stderr);
        assert_eq!(found[0], "CapBnd: 00000000a80425fb");
        assert_eq!(found[1], format!("CapBnd: {}", all_capabilities(world.who())));
        if world.who() == Who::Root {
            assert_eq!(found[2], "open");
        }
        let text = world.build(text, &[]).failed(1);
        assert!(
            text.starts_with("error: security.insecure is not allowed\n  --> Dockerfile:3:1\n"),
            "{text}"
        );
        // A stage that is not needed may ask for whatever it likes.
        let unused = "FROM base AS x\nRUN --security=insecure true\nFROM base\nRUN true\n";
        world.build(unused, &[]).ok();
    }
}

#[test]
fn the_hosts_network_is_allowed_for_one_run_or_for_all() {
    let world = World::new().with_base();
    let text = "FROM base\nRUN --network=host true\n";
    let refused = world.build(text, &[]).failed(1);
    assert!(refused.contains("error: network.host is not allowed\n"), "{refused}");
    assert!(refused.contains("`--allow network.host`"), "{refused}");
    world.build(text, &["--allow", "network.host"]).ok();
    world.build(text, &["--network", "host"]).ok();
}

const SPEC: &str = "cdiVersion: 0.6.0\nkind: acme/dev\ncontainerEdits:\n  env: [ALL=yes]\ndevices:\n\
    - name: zero\n  containerEdits:\n    env: [ONE=1]\n    additionalGIDs: [77]\n    deviceNodes:\n    - path: /dev/acme/zero\n      hostPath: /dev/zero\n\
    - name: file\n  containerEdits:\n    mounts:\n    - {hostPath: DIR/lib, containerPath: /opt/lib, options: [ro]}\n\
    - name: hook\n  containerEdits:\n    hooks: [{hookName: createContainer, path: /bin/true}]\n";

#[test]
fn devices_come_from_cdi_specs_and_have_to_be_allowed() {
    for world in World::each() {
        let world = world.with_base();
        let dir = world.path("cdi");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("lib"), "library\n").unwrap();
        fs::write(dir.join("acme.yaml"), SPEC.replace("DIR", dir.to_str().unwrap())).unwrap();
        world.give();
        let specs = format!("--cdi-spec-dir={}", dir.display());
        let text = "FROM base\n\
            RUN --device=acme/dev=zero,required --device=acme/dev=file echo $ALL $ONE; head -c 2 /dev/acme/zero | wc -c; cat /opt/lib; id -G | tr ' ' '\\n' | grep 77\n\
            RUN --device=acme/dev=gone test ! -e /dev/acme -a ! -e /opt -a -z \"$ALL\"\n";
        let said = world.build(text, &["-t", "app", &specs, "--allow", "device"]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        assert_eq!(lines(&said.stderr), ["yes 1", "2", "library", "77"]);
        assert!(said.stderr.contains("there is no device `acme/dev=gone`"), "{}", said.stderr);
        assert!(!world.listing("app").iter().any(|line| line.starts_with("opt")));
        let fails = |text: &str, allow: &str, code| {
            world
                .build(&format!("FROM base\nRUN {text} true\n"), &[&specs, "--allow", allow])
                .failed(code)
        };
        let text = fails("--device=acme/dev=zero", "device=acme/dev=file", 1);
        assert!(text.contains("device acme/dev=zero is not allowed"), "{text}");
        let text = fails("--device=acme/dev=gone,required", "device", 3);
        assert!(
            text.contains("there is no device `acme/dev=gone`") && text.contains("Dockerfile:2:14"),
            "{text}"
        );
        let text = fails("--device=acme/dev=hook", "device", 3);
        assert!(text.contains("needs hooks of the host"), "{text}");
    }
}
