//! Commands of a spec: what they see, what they may, what of it is kept, and how their failures are told.

use super::{HEAD, ON_BASE, app, assemble};
use crate::errors::normal;
use crate::support::outer::Outer;
use crate::support::{Who, World, program};
use std::fs;
use std::os::unix::fs::symlink;

#[test]
fn extra_commands_have_no_rights_no_network_and_write_only_the_layer() {
    let spec = format!(
        "{HEAD}owner: {{uid: 3, gid: 4}}
contents:
- file: {{path: /given, text: x, uid: 7, mode: '4755'}}
extraCommands: |
  {{
    chown 5 . || echo no chown
    touch /etc/x || echo no etc
    touch /usr/x || echo no usr
    mknod n b 1 3 || echo no node
    ls /home || echo no home
    touch /build/x || echo no build
    id -u; id -g; pwd; umask
    tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '
    echo $HOME $TMPDIR $SOURCE_DATE_EPOCH
    touch /tmp/t
    ls -A . /build
  }} > /tmp/said 2>/dev/null
  mv /tmp/said said
  mkdir -m 2750 d; ln -s / root; ln -s ../../../../etc/passwd up; echo x > f; chmod 4755 f; ln f g; mkfifo q
  ! echo x > up
  cd -P root/..; test \"$(pwd)\" = /
"
    );
    let said = "no chown\nno etc\nno usr\nno node\nno home\nno build\n1000\n1000\n/build/layer\n0022\nlo\n/tmp /tmp 1\n\
                .:\ngiven\n\n/build:\nlayer\n";
    for world in World::each() {
        let made = app(&world, &spec);
        let wanted = [
            "d dir 2750 3:4 0",
            "f file 4755 3:4 2",
            "g link 4755 3:4 f",
            "given file 4755 7:4 1",
            "q fifo 644 3:4 0",
            "root symlink 777 3:4 /",
            &format!("said file 644 3:4 {}", said.len()),
            "up symlink 777 3:4 ../../../../etc/passwd",
        ];
        assert_eq!(String::from_utf8(made.bytes("said")).unwrap(), said);
        assert_eq!(made.list(), [wanted]);
    }
}

#[test]
fn fake_root_commands_have_owners_modes_and_devices() {
    let spec = format!(
        "{HEAD}contents:
- dir: src
- file: {{path: /kept, text: x, uid: 7, gid: 8}}
extraCommands: rm a/gone
fakeRootCommands: |
  test $(id -u) = 0
  ! touch /etc/x
  ! chown 5 /etc
  test \"$(stat -c %u:%g kept)\" = 7:8
  chown 5:6 a/f
  ln -s f a/l; chown -h 9:10 a/l
  mknod null c 1 3
  mkdir -m 2755 sg; chown 0:50 sg; touch sg/x
  chmod 4711 a/tool; chown 1 a/tool; chmod u+s a/tool
"
    );
    for world in World::each() {
        world.file("src/a/f", "f").file("src/a/tool", "tool").file("src/a/gone", "");
        let made = app(&world, &spec);
        let wanted = [
            "a dir 755 0:0 0",
            "a/f file 644 5:6 1",
            "a/l symlink 777 9:10 f",
            "a/tool file 4711 1:0 4",
            "kept file 644 7:8 1",
            "null char 644 0:0 0",
            "sg dir 2755 0:50 0",
            "sg/x file 644 0:50 0",
        ];
        assert_eq!(made.list(), [wanted]);
        let device = made.of_top(|entry| entry.header().device_major().unwrap());
        let device = device.into_iter().find(|(path, _)| path == "null").unwrap();
        assert_eq!(device.1, Some(1));
    }
}

#[test]
fn run_as_root_is_in_the_image_with_its_contents_and_alone() {
    let spec = format!(
        "{HEAD}from: {{image: base}}
config: {{Env: {{OF_IMAGE: '1', PATH: '/bin'}}}}
contents:
- file: {{path: /opt/given, text: given, uid: 7}}
run:
  env: {{A: b c}}
  tmpfs: [/t]
  mounts: [{{type: bind, source: src, target: /mnt/src}}]
runAsRoot: |
  {{
    id -u; pwd; umask; echo $A $OF_IMAGE $PATH
    tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '
    cat /mnt/src/f /opt/given; echo
    touch /mnt/src/x || echo no bind
    touch /t/x && ls /t
    ls -A /proc/1/root/etc/motd || echo own root
  }} > /said 2>/dev/null
  mount -t tmpfs x /home 2>/dev/null && exit 1
  mv /opt/given /opt/moved; chown 5:6 /opt/moved; mknod /null c 1 3; rm /usr/share/doc/a
"
    );
    let said = "0\n/\n0022\nb c 1 /bin\nlo\nfgiven\nno bind\nx\nown root\n";
    for world in World::each() {
        let world = world.with_base();
        world.file("src/f", "f");
        let made = app(&world, &spec);
        assert_eq!(String::from_utf8(made.bytes("said")).unwrap(), said);
        let wanted = [
            "null char 644 0:0 0",
            "opt dir 755 0:0 0",
            "opt/moved file 644 5:6 5",
            &format!("said file 644 0:0 {}", said.len()),
            "usr dir 755 0:0 0",
            "usr/share dir 755 0:0 0",
            "usr/share/doc dir 755 0:0 0",
            "usr/share/doc/.wh.a file 0 0:0 0",
        ];
        assert_eq!(made.top(), wanted);
    }
}

/// The order is that of Nix: the image's own commands, then those beside the layer; each sees what the one before left.
#[test]
fn commands_run_one_after_the_other_whatever_their_order_in_the_spec() {
    for world in World::each() {
        let world = world.with_base();
        let spec = format!(
            "{ON_BASE}fakeRootCommands: test ! -e a && cat b && echo 3 > c && chown 9 c
extraCommands: rm a && echo 2 > b && test ! -e usr
runAsRoot: echo 1 > /a && touch /kept
"
        );
        let made = app(&world, &spec);
        assert_eq!(made.top(), ["b file 644 0:0 2", "c file 644 9:0 2", "kept file 644 0:0 0"]);
    }
}

#[test]
fn commands_cannot_leave_their_root() {
    let Some(marker) = tempfile::NamedTempFile::new().ok() else { return };
    let host = marker.path().to_str().unwrap().to_owned();
    for world in World::each() {
        let world = world.with_base();
        symlink("/", world.context().join("out")).unwrap();
        world.give();
        let leave = format!(
            "for p in {host} /../../../..{host} /proc/1/root{host} /proc/self/root{host}; do test ! -e $p; done"
        );
        let spec = format!(
            "{ON_BASE}contents: [{{symlink: {{path: /escape, target: /../../../../tmp}}}}]
runAsRoot: |
  {leave}
  echo x > /escape/from-root
  ln -s /etc/hostname /name
extraCommands: |
  {leave}
  ! echo x > escape/../../etc/from-extra
  touch ../../../../../../tmp/from-extra ../../tmp/from-extra
fakeRootCommands: |
  {leave}
  ! echo x > /etc/from-fake
"
        );
        let made = app(&world, &spec);
        let wanted = [
            "escape symlink 777 0:0 /../../../../tmp",
            "name symlink 777 0:0 /etc/hostname",
            "tmp dir 1777 0:0 0",
            "tmp/from-root file 644 0:0 2",
        ];
        assert_eq!(made.top(), wanted);
    }
    for name in ["/tmp/from-root", "/tmp/from-extra", "/etc/from-extra", "/etc/from-fake"] {
        assert!(!std::path::Path::new(name).exists(), "{name}");
    }
}

#[test]
fn failing_commands_are_told_with_the_line_of_the_spec() {
    let mut found = String::new();
    for world in World::each() {
        let world = world.with_base();
        let mut all = String::new();
        for spec in [
            "runAsRoot: |\n  true\n  exit 7\n",
            "runAsRoot: |\n  true\n  nosuch a\n  true\n",
            "runAsRoot: |\n  if true\n  then\n",
            "runAsRoot: >\n  true;\n  nosuch\n",
            "runAsRoot: 'nosuch'\n",
            "runAsRoot: \"true\\nnosuch\"\n",
            "run: {shell: [/bin/nosuch, -x]}\nrunAsRoot: 'true'\n",
            "run: {timeout: 1}\nrunAsRoot: sleep 100\n",
            "run: {mounts: [{type: bind, source: gone, target: /x}]}\nrunAsRoot: 'true'\n",
            "extraCommands: |\n  false\n",
            "fakeRootCommands: |\n  true\n  echo text >&2\n  exit 3\n",
        ] {
            let said = assemble(&world, &format!("{ON_BASE}{spec}"), &[]);
            all += &format!("== {}{}\n", spec.replace("\\n", "\\\\n"), normal(&world, &said));
        }
        assert!(found.is_empty() || found == all, "{:?}\n{all}", world.who());
        found = all;
    }
    crate::errors::transcript("assemble-commands", &found);
}

#[test]
fn an_image_without_a_shell_cannot_run_commands() {
    for world in World::each() {
        let said = assemble(&world, &format!("{HEAD}runAsRoot: 'true'\n"), &[]).failed(1);
        let wanted = "\
error: process `/bin/sh -e -v /dev/pipes/runAsRoot` did not complete successfully: exit code: 127
  --> context/image.yaml:3:1
   |
 3 | runAsRoot: 'true'
   | ^^^^^^^^^^^^^^^^^
 cause: `/bin/sh` does not exist in the image, or the interpreter that it names does not
";
        assert!(said.ends_with(wanted), "{said}");
    }
}

#[test]
fn the_store_is_shown_where_there_is_one_and_refused_where_there_is_none() {
    let spec = format!(
        "{ON_BASE}run: {{mounts: [{{type: store}}]}}\nrunAsRoot: ls /nix/store && ! touch /nix/store/x 2>/dev/null\n"
    );
    let args = [program().to_str().unwrap(), "assemble", "-f", "context/image.yaml"];
    for world in World::each() {
        let world = world.with_base();
        world.file("image.yaml", &spec);
        let hide = "mkdir -p /nix 2>/dev/null; mount -t tmpfs none /nix";
        let Some(without) = Outer::new() else { return };
        if world.who() == Who::User || !fs::exists("/nix").unwrap() {
            continue;
        }
        let said = without.then(hide).run(&world, &args).failed(1);
        let wanted = "\
error: this machine has no /nix/store to show
  --> context/image.yaml:4:16
   |
 4 | run: {mounts: [{type: store}]}
   |                ^^^^^
";
        assert!(said.ends_with(wanted), "{said}");
        let with = Outer::new().unwrap().then(&format!("{hide}; mkdir -p /nix/store/path-x"));
        let said = with.run(&world, &args);
        assert!(said.stderr.contains("#1 path-x\n"), "{}", said.stderr);
        said.ok();
        assert!(!world.listing("app").iter().any(|line| line.starts_with("nix")));
    }
}

#[test]
fn commands_have_the_network_only_when_it_is_asked_for() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // A connection that is closed at once lets the client end.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    for world in World::each() {
        let world = world.with_base();
        for (network, wanted) in [("", "alone\n"), ("none", "alone\n"), ("host", "reached\n")] {
            let run = if network.is_empty() {
                String::new()
            } else {
                format!("run: {{network: {network}}}\n")
            };
            let spec = format!(
                "{ON_BASE}{run}runAsRoot: if nc -w 5 127.0.0.1 {port} < /dev/null; then echo reached; else echo alone; fi > /said\n"
            );
            assert_eq!(
                String::from_utf8(app(&world, &spec).bytes("said")).unwrap(),
                wanted,
                "{network}"
            );
        }
    }
}
