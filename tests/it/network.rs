//! The default network of RUNs: one of their own where a program for it is there, else the host's.

use crate::support::{Said, World, have, peer, program, write_program};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;

/// Needs /dev/net/tun, which on many machines only root may open.
fn world() -> Option<World> {
    let tun = fs::File::open("/dev/net/tun").is_ok();
    have("root", tun).then(World::root).flatten().map(World::with_base)
}

/// Builds with a PATH that holds nothing but one program.
fn build(world: &World, name: &str, dockerfile: &str, network: &str) -> Said {
    let bin = world.path(&format!("bin-{name}"));
    fs::create_dir_all(&bin).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    if let (Some(found), false) = (found, bin.join(name).exists()) {
        symlink(found, bin.join(name)).unwrap();
    }
    world.file("Dockerfile", dockerfile);
    let mut command = world.command(program());
    command.args(["build", "--progress", "plain", "--no-cache", "--network", network]);
    command.arg(world.context()).env("PATH", &bin).env_remove("NATIVEBUILD_NETWORK");
    Said::of(command.output().unwrap())
}

fn lines<'a>(said: &'a Said, start: &str) -> Vec<&'a str> {
    assert_eq!(said.code, 0, "{}", said.stderr);
    said.stderr.lines().filter_map(|line| line.strip_prefix(start)).collect()
}

/// Command lines of processes whose program lies in a directory of the world.
fn running_from(world: &World) -> Vec<String> {
    let own = world.path("bin-").into_os_string().into_string().unwrap();
    let lines = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let line = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).into_owned())
    });
    lines.filter(|line| line.starts_with(&own)).collect()
}

#[test]
fn a_network_of_its_own_reaches_neither_the_hosts_loopback_nor_the_cloud() {
    let Some(world) = world() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Whoever comes is sent away again; the thread ends with the test program.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let dockerfile = format!(
        "FROM base\nRUN for a in 169.254.169.254 100.100.100.200 127.0.0.1; do \\\n\
         nc -w 5 $a {port} </dev/null 2>&1 && echo $a is reached; done; \\\n\
         cat /etc/resolv.conf | grep nameserver; ls /sys/class/net | grep -c .\n\
         RUN ip route | grep -c ^default\n"
    );
    for name in ["slirp4netns", "pasta"] {
        if !peer(name) {
            continue;
        }
        let said = build(&world, name, &dockerfile, "default");
        let isolation = said.stderr.lines().next().unwrap();
        assert_eq!(isolation, format!("isolation: namespaces, ids: real, network: {name}"));
        let output: Vec<&str> = lines(&said, "#1 ")
            .into_iter()
            .filter(|line| !line.starts_with('[') && !line.starts_with("DONE"))
            .collect();
        assert_eq!(
            output,
            [
                "nc: can't connect to remote host (169.254.169.254): No route to host",
                "nc: can't connect to remote host (100.100.100.200): No route to host",
                "nc: can't connect to remote host (127.0.0.1): Connection refused",
                "nameserver 10.0.2.3",
                "2",
            ],
            "{name}"
        );
        assert_eq!(lines(&said, "#2 ")[1], "1", "{name}: one network for all commands");
        assert_eq!(running_from(&world), Vec::<String>::new());
        // The same without it, to show that the test can see something.
        let said = build(&world, name, &dockerfile, "host");
        assert!(lines(&said, "#1 ").contains(&"127.0.0.1 is reached"), "{}", said.stderr);
    }
}

#[test]
fn without_a_program_the_line_says_why_it_is_the_hosts() {
    let Some(world) = world() else { return };
    let said = build(&world, "no-such-program", "FROM base\nRUN true\n", "default");
    let expected =
        "isolation: namespaces, ids: real, network: host (neither slirp4netns nor pasta)";
    assert_eq!(said.stderr.lines().next(), Some(expected), "{}", said.stderr);
    // One that does not work is no reason to fail.
    let broken = world.path("bin-slirp4netns");
    fs::create_dir_all(&broken).unwrap();
    let script = broken.join("slirp4netns");
    write_program(&script, "#!/bin/sh\necho 'no luck today' >&2\nexit 1\n");
    let said = build(&world, "slirp4netns", "FROM base\nRUN true\n", "default");
    assert_eq!(
        said.stderr.lines().next(),
        Some(&*format!(
            "isolation: namespaces, ids: real, network: host (starting {}: no luck today)",
            script.display()
        )),
        "{}",
        said.stderr
    );
}

/// Networks without anything are used by one RUN after another, as long as nothing can be left in them.
#[test]
fn a_run_without_a_network_finds_a_loopback_that_nobody_used() {
    for world in World::each() {
        let world = world.with_base();
        let look = "echo lo $(grep lo: /proc/net/dev) $(readlink /proc/self/ns/net)";
        let refused = "nc -w 5 127.0.0.1 9 </dev/null; true";
        world.file(
            "Dockerfile",
            format!("FROM base\n{0}{0}{0}RUN {refused}; {look}\n{0}{0}", format!("RUN {look}\n")),
        );
        let mut command = world.command(program());
        command.args(["build", "--progress", "plain", "--no-cache", "--network", "none"]);
        let said = Said::of(command.arg(world.context()).output().unwrap());
        assert_eq!(said.code, 0, "{}", said.stderr);
        let lines = said.stderr.lines().filter_map(|line| line.split_once(" lo lo: "));
        let looks: Vec<Vec<&str>> = lines.map(|(_, rest)| rest.split(' ').collect()).collect();
        let is_untouched = |look: &Vec<&str>| look[..16].iter().all(|counter| *counter == "0");
        let untouched: Vec<bool> = looks.iter().map(is_untouched).collect();
        assert_eq!(untouched, [true, true, true, false, true, true], "{}", said.stderr);
        // Two namespaces serve the first four in turn: the next command's process is in one while a command is in the other.
        assert_eq!((looks[0][16], looks[1][16]), (looks[2][16], looks[3][16]), "{}", said.stderr);
    }
}
