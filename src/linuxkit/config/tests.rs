//! Labels as whole texts, one group of fields after the other, and whole errors.

use super::*;
use crate::{error::Result, source::SourceFile, yaml};
use std::sync::Arc;

/// The label of a `config`, given as its own YAML text.
fn label_of(yaml: &str) -> Result<Option<String>> {
    let mut problems = Problems::new(&Arc::new(SourceFile::new("build.yml", yaml)));
    let root = yaml::parse(&mut problems)?.expect("a document");
    let label = label(&root, &mut problems);
    problems.finish()?;
    Ok(label)
}

fn good(yaml: &str, expect: &str) {
    assert_eq!(label_of(yaml).unwrap().as_deref(), Some(expect), "{yaml}");
}

fn bad(yaml: &str, expect: &str) {
    assert_eq!(format!("{:?}", label_of(yaml).unwrap_err()), expect, "{yaml}");
}

#[test]
fn the_checked_example_is_written_as_go_does() {
    let yaml = "\
capabilities: [CAP_SYS_ADMIN]
binds.add:
  - /a:/b
devices:
  - path: all
    type: b
  - path: /dev/x
    type: c
    major: 5
    minor: 1
    mode: 0666
uid: 1000
gid: \"staff\"
additionalGids: [1, users]
sysctl: {b: \"2\", a: \"1\"}
oomScoreAdj: -800
readonly: false
env: []
cwd: \"\"
net: host
annotations: {x: \"<&>\"}
mounts:
  - type: tmpfs
    destination: /t
    options: [rw]
runtime:
  mkdir: [/x]
  bindNS:
    net: /run/ns
  interfaces:
    - name: vethin
      add: veth
";
    let expect = concat!(
        r#"{"capabilities":["CAP_SYS_ADMIN"],"mounts":[{"destination":"/t","type":"tmpfs","options":["rw"]}],"#,
        r#""binds.add":["/a:/b"],"devices":[{"path":"all","type":"b","major":0,"minor":0},"#,
        r#"{"path":"/dev/x","type":"c","major":5,"minor":1,"mode":"0666"}],"env":[],"net":"host","#,
        r#""readonly":false,"uid":1000,"gid":"staff","additionalGids":[1,"users"],"oomScoreAdj":-800,"#,
        r#""sysctl":{"a":"1","b":"2"},"annotations":{"x":"\u003c\u0026\u003e"},"runtime":{"mkdir":["/x"],"#,
        r#""interfaces":[{"name":"vethin","add":"veth","createInRoot":false}],"bindNS":{"net":"/run/ns"}}}"#,
    );
    good(yaml, expect);
}

#[test]
fn nothing_given_is_nothing_written() {
    good("{}", "{}");
    good("capabilities:\nruntime: ~\nuid:\nnet:\n", "{}");
    assert_eq!(label_of("~").unwrap(), None);
}

#[test]
fn given_but_empty_pointers_stay_and_plain_texts_go() {
    let lists = ["capabilities", "capabilities.add", "ambient", "mounts", "binds", "binds.add"];
    let lists = lists.iter().chain(&["devices", "tmpfs", "command", "env"]);
    let yaml: Vec<String> = lists.clone().map(|key| format!("{key}: []\n")).collect();
    let expect: Vec<String> = lists.map(|key| format!("\"{key}\":[]")).collect();
    good(&yaml.concat(), &format!("{{{}}}", expect.join(",")));
    good("{cwd: '', net: '', pid: '', ipc: '', uts: '', userns: '', hostname: ''}", "{}");
    let yaml = "{runtime: {}, annotations: {}, gidMappings: [], uidMappings: [], rlimits: [], sysctl: {}, \
                resources: {}, cgroupsPath: '', rootfsPropagation: '', oomScoreAdj: 0, noNewPrivileges: no, \
                additionalGids: [], gid: '', uid: 0, readonlyPaths: [], maskedPaths: [], readonly: off}";
    let expect = concat!(
        r#"{"readonly":false,"maskedPaths":[],"readonlyPaths":[],"uid":0,"gid":"","additionalGids":[],"#,
        r#""noNewPrivileges":false,"oomScoreAdj":0,"rootfsPropagation":"","cgroupsPath":"","resources":{},"#,
        r#""sysctl":{},"rlimits":[],"uidMappings":[],"gidMappings":[],"annotations":{},"runtime":{"bindNS":{}}}"#,
    );
    good(yaml, expect);
}

#[test]
fn texts_keep_their_spelling() {
    let yaml = "{cwd: 1.50, net: yes, pid: 0x10, ipc: '~', uts: \"a\\n\", userns: host, hostname: é, \
                tmpfs: [1e3, ~, true], rootfsPropagation: shared, cgroupsPath: a/b, command: [sh, -c, 'a \"b\"']}";
    let expect = concat!(
        r#"{"tmpfs":["1e3","true"],"command":["sh","-c","a \"b\""],"cwd":"1.50","net":"yes","pid":"0x10","#,
        r#""ipc":"~","uts":"a\n","userns":"host","hostname":"é","rootfsPropagation":"shared","cgroupsPath":"a/b"}"#,
    );
    good(yaml, expect);
}

#[test]
fn values_of_any_type_keep_it() {
    for (yaml, json) in [
        ("0", "0"),
        ("0666", "438"),
        ("1_0", "10"),
        ("18446744073709551615", "18446744073709551615"),
        ("1.5", "1.5"),
        ("1e3", "1000"),
        ("\"1000\"", "\"1000\""),
        ("yes", "\"yes\""),
        ("true", "true"),
        ("[a, ~, [1]]", "[\"a\",null,[1]]"),
        ("{b: 1, a: {}}", "{\"a\":{},\"b\":1}"),
    ] {
        good(&format!("uid: {yaml}"), &format!("{{\"uid\":{json}}}"));
        good(&format!("additionalGids: [{yaml}]"), &format!("{{\"additionalGids\":[{json}]}}"));
    }
    good("additionalGids: [~, 5]", r#"{"additionalGids":[null,5]}"#);
    bad("gid: .nan", "Package: build.yml:1:6: `config.gid` must be a finite number");
    bad(
        "gid: {1: a}",
        "Package: build.yml:1:7: the keys of `config.gid` must be text, not `1` [help: write the key in quotes]",
    );
}

#[test]
fn maps_are_sorted_by_bytes() {
    let yaml = "{sysctl: {b: 1, é: 2, Z: 3, a.b: ~, a: x}, annotations: {'\"': yes}}";
    let expect = concat!(
        r#"{"sysctl":{"Z":"3","a":"x","a.b":"","b":"1","é":"2"},"#,
        r#""annotations":{"\"":"yes"}}"#,
    );
    good(yaml, expect);
}

#[test]
fn devices_mounts_and_id_mappings() {
    good("devices: [{}, ~]", r#"{"devices":[{"path":"","type":"","major":0,"minor":0}]}"#);
    let yaml = "{mounts: [{}, {destination: /d, source: s, options: [], uidmappings: [{containerid: 1}], \
                gidmappings: []}], uidMappings: [{size: 3, hostid: 2, containerid: 1}], gidMappings: [{}]}";
    let expect = concat!(
        r#"{"mounts":[{"destination":""},{"destination":"/d","source":"s","#,
        r#""uidMappings":[{"containerID":1,"hostID":0,"size":0}]}],"#,
        r#""uidMappings":[{"containerID":1,"hostID":2,"size":3}],"#,
        r#""gidMappings":[{"containerID":0,"hostID":0,"size":0}]}"#,
    );
    good(yaml, expect);
}

#[test]
fn the_runtime_part() {
    let yaml = "runtime: {cgroups: [], mounts: [{destination: /d}], mkdir: [], interfaces: [{}, {peer: p, \
                createInRoot: on}], namespace: '', bindNS: {cgroup: c, ipc: '', mnt: m, net: n, pid: ~, user: u, uts: t}}";
    let expect = concat!(
        r#"{"runtime":{"cgroups":[],"mounts":[{"destination":"/d"}],"mkdir":[],"#,
        r#""interfaces":[{"createInRoot":false},{"peer":"p","createInRoot":true}],"#,
        r#""bindNS":{"cgroup":"c","ipc":"","mnt":"m","net":"n","user":"u","uts":"t"},"namespace":""}}"#,
    );
    good(yaml, expect);
}

#[test]
fn memory_and_cpu() {
    let yaml = "resources: {memory: {limit: 1, reservation: 2, swap: -1, kernel: 4, kerneltcp: 5, swappiness: 6, \
                disableoomkiller: true, usehierarchy: false, checkbeforeupdate: true}, cpu: {shares: 1, quota: -2, \
                burst: 3, period: 4, realtimeruntime: 5, realtimeperiod: 6, cpus: 0-1, mems: 0, idle: 1}}";
    let expect = concat!(
        r#"{"resources":{"memory":{"limit":1,"reservation":2,"swap":-1,"kernel":4,"kernelTCP":5,"swappiness":6,"#,
        r#""disableOOMKiller":true,"useHierarchy":false,"checkBeforeUpdate":true},"#,
        r#""cpu":{"shares":1,"quota":-2,"burst":3,"period":4,"realtimeRuntime":5,"realtimePeriod":6,"#,
        r#""cpus":"0-1","mems":"0","idle":1}}}"#,
    );
    good(yaml, expect);
    good("resources: {memory: {}, cpu: {cpus: ''}}", r#"{"resources":{"memory":{},"cpu":{}}}"#);
}

#[test]
fn block_devices_take_both_spellings() {
    let yaml = "resources: {blockio: {weight: 10, leafweight: 0, weightdevice: [{major: 8, minor: 1, weight: 5}, \
                {linuxblockiodevice: {major: 8, minor: 0}, leafweight: 6}], throttlereadbpsdevice: [{major: 1, rate: 2}], \
                throttlewritebpsdevice: [{}], throttlereadiopsdevice: [], throttlewriteiopsdevice: [{rate: 3}]}}";
    let expect = concat!(
        r#"{"resources":{"blockIO":{"weight":10,"leafWeight":0,"#,
        r#""weightDevice":[{"major":8,"minor":1,"weight":5},{"major":8,"minor":0,"leafWeight":6}],"#,
        r#""throttleReadBpsDevice":[{"major":1,"minor":0,"rate":2}],"#,
        r#""throttleWriteBpsDevice":[{"major":0,"minor":0,"rate":0}],"#,
        r#""throttleWriteIOPSDevice":[{"major":0,"minor":0,"rate":3}]}}}"#,
    );
    good(yaml, expect);
}

#[test]
fn the_other_resources() {
    let yaml = "resources: {devices: [{}, {allow: yes, type: c, major: 1, minor: 3, access: rwm}], pids: {}, \
                hugepagelimits: [{pagesize: 2MB, limit: 9}], network: {classid: 7, priorities: [{name: eth0, priority: 1}]}, \
                rdma: {m: {hcahandles: 1, hcaobjects: 2}, a: ~}, unified: {memory.high: 1}}";
    let expect = concat!(
        r#"{"resources":{"devices":[{"allow":false},{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"}],"#,
        r#""pids":{"limit":0},"hugepageLimits":[{"pageSize":"2MB","limit":9}],"#,
        r#""network":{"classID":7,"priorities":[{"name":"eth0","priority":1}]},"#,
        r#""rdma":{"a":{},"m":{"hcaHandles":1,"hcaObjects":2}},"unified":{"memory.high":"1"}}}"#,
    );
    good(yaml, expect);
    let yaml = "resources: {devices: [], hugepagelimits: [], network: {priorities: []}, rdma: {}, unified: {}}";
    good(yaml, r#"{"resources":{"network":{}}}"#);
}

#[test]
fn mistakes_are_found_together_with_their_places() {
    bad(
        "capabilites: []\ncapabilities: all\nreadonly: 'true'\noomScoreAdj: 1.5\nuidMappings:\n  - containerID: 1\n    \
         hostid: -1\nresources: {blockio: {weight: 65536}}\nbinds: [{a: b}]\nruntime: []\nsysctl:\n  a: [1]\n",
        "Package: build.yml:1:1: unknown key `capabilites` in `config` [help: did you mean `capabilities`?]\n\
         Package: build.yml:2:15: `config.capabilities` must be a list, not the text `all` \
         [help: for a list of one element write `[all]`]\n\
         Package: build.yml:3:11: `config.readonly` must be true or false, not the text `true` \
         [help: write it without quotes]\n\
         Package: build.yml:4:14: `config.oomScoreAdj` must be a whole number, not the number `1.5`\n\
         Package: build.yml:6:5: unknown key `containerID` in `config.uidMappings[]` [help: did you mean `containerid`?]\n\
         Package: build.yml:7:13: `config.uidMappings[].hostid` must be from 0 to 4294967295\n\
         Package: build.yml:8:31: `config.resources.blockio.weight` must be from 0 to 65535\n\
         Package: build.yml:9:9: `config.binds[]` must be text, not a mapping\n\
         Package: build.yml:10:10: `config.runtime` must be a mapping of keys to values, not a list\n\
         Package: build.yml:12:6: `config.sysctl.a` must be text, not a list",
    );
    bad("[]", "Package: build.yml:1:1: `config` must be a mapping of keys to values, not a list");
}
