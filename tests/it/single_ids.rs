//! Builds in which one user id stands for all: layers are those of real root, byte for byte, and a RUN notices little.

use crate::support::bases::bases;
use crate::support::{Said, World, peer};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Fixed times, so that layers can be compared.
const EPOCH: [&str; 2] = ["--source-date-epoch", "1700000000"];

/// What is the same in all trees here.
const PASSWD: &str = "echo 'www:x:33:33::/:/bin/sh' >> /etc/passwd; echo 'www:x:33:' >> /etc/group";

struct Both {
    real: World,
    single: World,
}

/// Root, and an ordinary user with one id.
fn both() -> Option<Both> {
    let (real, single) = (World::root()?.with_base(), World::user()?.with_base());
    Some(Both { real, single })
}

fn build(world: &World, ids: &str, dockerfile: &str, more: &[&str]) -> Said {
    let fixed = ["--no-cache", "-t", "app", "--ids", ids];
    world.build(dockerfile, &[&fixed[..], &EPOCH, more].concat())
}

/// What the last build printed, without its own lines, and in the order of the alphabet: two streams have none.
fn printed(said: &Said) -> Vec<String> {
    let line = |line: &str| {
        let (number, text) = line.strip_prefix('#')?.split_once(' ')?;
        let own = text.starts_with('[') || text.starts_with("DONE ");
        (number.parse::<u32>().is_ok() && !own).then(|| text.to_owned())
    };
    let mut lines: Vec<String> = said.stderr.lines().filter_map(line).collect();
    lines.sort();
    lines
}

/// Builds in both worlds; what is printed and what is made must be the same.
#[track_caller]
fn same(dockerfile: &str) {
    let Some(Both { real, single }) = both() else { return };
    let expected = build(&real, "real", dockerfile, &[]);
    let said = build(&single, "single", dockerfile, &[]);
    assert_eq!((expected.code, said.code), (0, 0), "{}\n{}", expected.stderr, said.stderr);
    assert_eq!(printed(&said), printed(&expected));
    assert_eq!(single.listing("app"), real.listing("app"));
    let layers = |world: &World| world.config("app")["rootfs"]["diff_ids"].clone();
    assert_eq!(layers(&single), layers(&real));
    single.validate("app");
}

#[test]
fn owners_modes_and_special_bits_are_those_of_root() {
    same(
        "FROM base\n\
         RUN mkdir /d; touch /d/f; chown 33:44 /d/f; chown 5:6 /d; stat -c '%u:%g %a %n' /d /d/f\n\
         RUN ln -s x /l; chown -h 7:8 /l; mkfifo /p; chown 9:10 /p; stat -c '%u:%g %n' /l /p\n\
         RUN cp /bin/busybox /s; chown 33:33 /s; chmod 6755 /s; stat -c %a /s; chown 33:34 /s; stat -c %a /s\n\
         RUN chmod 4711 /s; chown 0:0 /d; chown -h 11:12 /l; chown :13 /p; stat -c '%u:%g %a %n' /s /d /l /p\n\
         RUN touch /a; chown 1:2 /a; ln /a /b; mv /a /c; chown 3 /b; stat -c '%u:%g %h %n' /b /c\n\
         RUN cd /d; ln -s /d/f abs; ln -s ../d/f rel; chown 50 abs; chown 51 ./../d/rel; stat -c %u:%g f; chown -h 52 abs; stat -c %u abs\n\
         RUN chown 9:9 /missing || chown 9:9 /d/f/x || echo refused\n",
    );
}

#[test]
fn who_drops_root_owns_what_it_makes() {
    let steps = format!(
        "FROM base\nRUN {PASSWD}; mkdir -p /home/app; chown app:app /home/app\n\
         RUN su app -c 'cd /home/app; id; touch f; mkdir -p d/e; ln -s f l; mkfifo p; echo hi > g; cp g h; \
         umask 027; touch secret; mkdir closed; ln -s made dangling; echo x > dangling; \
         chown 0 f || mknod n c 1 3 || echo refused; stat -c \"%u:%g %a %n\" *'\n\
         RUN start-stop-daemon -S -c www -x /bin/touch -- /tmp/w; stat -c %u:%g /tmp/w\n\
         RUN cp -a /home/app /home/copy; tar -C /home -cf /t app; mkdir /x; tar -C /x -xf /t; rm /t; stat -c '%u:%g %n' /home/copy/* /x/app/*\n"
    );
    same(&steps);
}

#[test]
fn directories_with_the_setgid_bit_give_their_group() {
    same(
        "FROM base\n\
         RUN mkdir /sg; chown 0:50 /sg; chmod 2777 /sg; cd /sg; touch f; mkdir d; touch d/g; ln -s x l; mkfifo p; \
         echo a > f; echo a >> new; stat -c '%u:%g %a %n' * d/*\n\
         RUN cd /sg/d; mkdir -p a/b/c; touch a/b/c/f; stat -c '%u:%g %a %n' a a/b a/b/c a/b/c/f\n",
    );
}

#[test]
fn links_and_fifos_of_earlier_steps_keep_their_owners() {
    same(
        "FROM base\n\
         RUN for n in 1 2 3 4 5; do ln -s x /l$n; mkfifo -m 640 /p$n; chown -h $n:9 /l$n /p$n; done; mkdir /d\n\
         RUN mv /l1 /moved; ln /l2 /linked; touch -h -d @1000000000 /l3; mv /p1 /d/p; mv /l4 /d; rm /l5; \
         stat -c '%u:%g %a %h %n' /moved /l2 /linked /l3 /d/p /d/l4 /p2\n\
         RUN mv /d/p /d/l4 /; chown -h 30:30 /l4; mv /l4 /l5; stat -c '%u:%g %a %h %n' /l5 /p /linked\n",
    );
}

#[test]
fn device_nodes_are_there_for_those_who_look() {
    same(
        "FROM base AS one\n\
         RUN mknod /zero c 1 5; mknod -m 660 /blk b 8 1; chown 0:6 /blk; chmod 640 /zero; \
         stat -c '%n %F %t:%T %a %u:%g' /zero /blk; [ -c /zero ] && [ -b /blk ] && echo yes; mknod /wh c 0 0 || echo no\n\
         RUN mv /zero /one; cp -a /blk /blk2; ln /one /two; stat -c '%n %F %t:%T %h' /one /two /blk2; chmod 600 /two\n\
         FROM base\nCOPY --from=one /one /two /blk /dev2/\nRUN stat -c '%n %F %t:%T %a %u:%g' /dev2/*\n",
    );
}

#[test]
fn users_stages_and_directories_have_their_owners() {
    let steps = format!(
        "FROM base AS one\nRUN {PASSWD}; mkdir -p /home/app/d; cd /home/app; echo a > f; ln -s f l; mkfifo p; \
         chown -Rh app:app /home/app; chown -h 4:5 l\n\
         FROM one\nCOPY --from=one /home/app /from\nCOPY --from=one --chown=5:app /home/app/l /home/app/f /from2/\n\
         COPY --chown=www:7 Dockerfile /from3/\nADD --chown=8 Dockerfile /from4\n\
         USER 1000\nWORKDIR /srv/dir\nRUN id; echo $HOME; touch a; chown 0 a || echo refused; stat -c '%u:%g %n' . .. a\n\
         USER 4711:50\nRUN id; touch /tmp/z; stat -c %u:%g /tmp/z\n\
         USER www\nWORKDIR /home/app/new\n\
         USER 0\nRUN chown -h 20:21 ../l; cd ../d; chown 8:9 ../d/../f; stat -c '%u:%g %n' ../l ../f /from/* /from2/* /from3 /from3/*\n"
    );
    same(&steps);
}

#[test]
fn setuid_programs_run_as_their_owner() {
    let Some(Both { real, single }) = both() else { return };
    let source = "#include <fcntl.h>\n#include <stdio.h>\n#include <unistd.h>\n\
        int main(int n, char **v) { printf(\"%d %d %d %d\\n\", getuid(), geteuid(), getgid(), getegid());\
        close(open(v[1], O_CREAT | O_WRONLY, 0644)); return setuid(0) ? 0 : puts(\"root\"), 0; }";
    let steps = "FROM base\nCOPY --chmod=4755 program /s\nCOPY --chmod=6755 --chown=5:7 program /d\n\
         RUN /d /tmp/1; stat -c %u:%g /tmp/1\n\
         USER app\nRUN /s /tmp/2; /d /tmp/3; sh -c '/s /tmp/4; id -u'; stat -c %u:%g /tmp/*\n";
    let mut seen = Vec::new();
    for (world, ids) in [(&real, "real"), (&single, "single")] {
        if !compiled(world, source) {
            return;
        }
        let said = build(world, ids, steps, &[]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        seen.push((printed(&said), said.stdout));
    }
    assert_eq!(seen[0], seen[1]);
}

#[test]
fn a_later_build_finds_the_owners_of_an_earlier_one() {
    let Some(Both { single, .. }) = both() else { return };
    let base = "FROM base\nRUN ln -s x /l; chown -h 7:8 /l; mkfifo /p; chown 9:9 /p; touch /f; chown 1:2 /f\n";
    let args = ["-t", "app", "--ids", "single", "--progress", "plain"];
    single.build(base, &args).ok();
    let said = single.build(&format!("{base}RUN stat -c '%n %u:%g' /l /p /f\n"), &args);
    assert_eq!(said.cached(), 1);
    assert_eq!(printed(&said)[..3], ["/f 1:2", "/l 7:8", "/p 9:9"]);
    // The same from the blobs alone.
    single
        .run([
            "image",
            "save",
            "app",
            "--format",
            "oci-archive",
            "-o",
            single.path("a.tar").to_str().unwrap(),
        ])
        .ok();
}

#[test]
fn trees_that_are_written_have_the_recorded_owners() {
    let Some(Both { real, single }) = both() else { return };
    let steps = "FROM base\nRUN touch /f; chown 33:34 /f; ln -s f /l; chown -h 5:6 /l; mknod /n c 1 3; chown 1 /n\n";
    let tar = |world: &World, ids: &str| {
        let path = world.path("out/tree.tar");
        let output = format!("type=tar,dest={}", path.display());
        build(world, ids, steps, &["-o", &output]).ok();
        crate::support::base::list_tar(&fs::read(path).unwrap())
    };
    assert_eq!(tar(&single, "single"), tar(&real, "real"));
    let out = single.path("out/tree");
    let output = format!("type=local,dest={}", out.display());
    build(&single, "single", steps, &["-o", &output]).ok();
    // An ordinary user can give nothing away; nothing of ours is left on the files either.
    assert!(out.join("f").exists() && out.join("l").is_symlink() && !out.join("n").exists());
    if peer("getfattr") {
        let dump = Command::new("getfattr").args(["-hRd", "-m", "nativebuild"]).arg(&out).output();
        assert_eq!(String::from_utf8_lossy(&dump.unwrap().stdout), "");
    }
}

#[test]
fn waiting_for_the_disk_can_be_kept() {
    let Some(Both { single, .. }) = both() else { return };
    for more in [&[][..], &["--keep-fsync"]] {
        let said = build(
            &single,
            "single",
            "FROM base\nRUN echo x > /f; sync /f && sync && echo synced\n",
            more,
        );
        assert_eq!(printed(&said), ["synced"], "{}", said.stderr);
    }
}

/// A static program out of C.
fn compiled(world: &World, source: &str) -> bool {
    if !peer("gcc") {
        return false;
    }
    let (from, to) = (world.path("program.c"), world.path("program"));
    fs::write(&from, source).unwrap();
    let args = ["-static", "-O1", "-pthread", "-w", "-o"];
    let done = Command::new("gcc").args(args).arg(&to).arg(&from).status().unwrap();
    assert!(done.success());
    world.file("program", fs::read(&to).unwrap());
    true
}

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/single-ids").join(name);
    fs::read_to_string(path).unwrap()
}

#[test]
fn records_are_hidden_and_ways_around_are_closed() {
    let Some(Both { single, .. }) = both() else { return };
    if !compiled(&single, &fixture("attributes.c")) {
        return;
    }
    let steps =
        "FROM base\nCOPY --chmod=755 program /program\nRUN touch /f; chown 1:2 /f; /program\n";
    let said = build(&single, "single", steps, &[]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_eq!(printed(&said), ["all as expected"], "{}", said.stderr);
}

#[test]
fn a_hostile_command_harms_only_itself() {
    let Some(Both { single, .. }) = both() else { return };
    if !compiled(&single, &fixture("hostile.c")) {
        return;
    }
    let steps = "FROM base\nCOPY --chmod=755 program /program\nRUN /program\nRUN touch /after; chown 5:6 /after; stat -c %u:%g /after\n";
    let said = build(&single, "single", steps, &[]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_eq!(printed(&said), ["5:6", "survived"]);
}

#[test]
fn debian_packages_install_with_their_owners() {
    let (Some(dir), Some(Both { real, single })) = (bases(), both()) else { return };
    let steps = "FROM debian\nRUN useradd -m tester && mkdir -m 2775 /srv/g && chown root:mail /srv/g && \
         su tester -c 'id; touch /home/tester/x' && touch /srv/g/f && dpkg-statoverride --update --add daemon mail 4710 /bin/true && \
         setpriv --reuid 33 --regid 33 --clear-groups id && chroot --userspec=7:8 / id && \
         setcap cap_net_raw+ep /bin/false && getcap /bin/false\n\
         RUN find / -xdev \\( -not -uid 0 -o -not -gid 0 \\) -not -path /proc -not -path /sys -printf '%U:%G %m %y %p\\n'\n";
    let mut seen = Vec::new();
    for (world, ids) in [(&real, "real"), (&single, "single")] {
        let tar = world.path("debian.tar");
        fs::copy(dir.join("debian.tar"), &tar).unwrap();
        world.give();
        world.run(["image", "import", "debian", tar.to_str().unwrap()]).ok();
        let said = build(world, ids, steps, &[]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        seen.push((printed(&said), world.listing("app")));
    }
    assert_eq!(seen[0].0, seen[1].0);
    assert_eq!(seen[0].1, seen[1].1);
    assert!(seen[0].0.iter().any(|line| line == "1:8 4710 f /usr/bin/true"), "{:#?}", seen[0].0);
}

#[test]
fn programs_of_other_machines_are_answered_too() {
    let foreign = |world: World| {
        let world = world.with_foreign()?;
        let dir = world.emulators(&["s390x"])?;
        Some((world, dir))
    };
    let (Some(real), Some(single)) = (World::root(), World::user()) else { return };
    let (Some(real), Some(single)) = (foreign(real), foreign(single)) else { return };
    let steps = "FROM foreign\nRUN touch /f; chown 33:7000 /f; stat -c '%u:%g %s' /f; ls -ln /f | cut -c1-30; \
         ln -s f /l; chown -h 3:4 /l; cp /bin/busybox /s; chown 5 /s; chmod 4755 /s; id -u\n";
    let mut seen = Vec::new();
    for ((world, dir), ids) in [(&real, "real"), (&single, "single")] {
        let more = ["--platform", "linux/386,linux/s390x", "--qemu-dir", dir];
        let said = build(world, ids, steps, &more);
        assert_eq!(said.code, 0, "{}", said.stderr);
        let mut lines = crate::emulation::output(&said);
        lines.sort_unstable();
        let lines: Vec<String> = lines.into_iter().map(str::to_owned).collect();
        seen.push((lines, said.stdout));
    }
    assert_eq!(seen[0], seen[1]);
}

#[test]
fn device_nodes_can_be_made_with_many_ids_too() {
    let (Some(real), Some(user)) = (World::root(), World::user()) else { return };
    let (real, user) = (real.with_base(), user.with_base());
    let steps = "FROM base\nRUN mknod -m 640 /zero c 1 5; test -c /zero && echo node; chown 0:6 /zero; mknod /wh c 0 0 || echo no\n\
         RUN stat -c '%n %F %t:%T %a %u:%g' /zero; chmod 600 /zero; mv /zero /moved; mkfifo /p\n\
         USER app\nRUN mknod /tmp/x c 1 3 || stat -c '%F %a' /moved /bin/busybox\n";
    let expected = build(&real, "real", steps, &[]);
    let said = build(&user, "range", steps, &[]);
    assert_eq!((expected.code, said.code), (0, 0), "{}\n{}", expected.stderr, said.stderr);
    assert_eq!((printed(&said), said.stdout), (printed(&expected), expected.stdout));
}
