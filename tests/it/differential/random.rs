//! Random contexts and Dockerfiles out of a seed: bounded, mostly valid, the same on every machine.
//!
//! Paths come from small pools, so that instructions meet: files where directories were, links in the way, names that
//! are deleted and made again. What is known to differ between BuildKit 0.8 and now (buildkit-differences.txt) is not
//! made: no flags on archives, no wildcard in a directory that is not there, no FIFO, no `${x-y}`.

use super::cases::{Case, Source};
use std::fmt::Write as _;

/// Places of the image that instructions fight over.
const PLACES: &[&str] = &[
    "/w",
    "/w/a",
    "/w/a/b",
    "/w/a/c",
    "/x",
    "/x/y",
    "/tmp/t",
    "/usr/share/base/dir",
    "/usr/share/base/two",
    "/usr/share/base/one",
    "/usr/share/base/dir.soft",
    "/usr/share/base/dir/sub",
    "/usr/share/base",
];
const USERS: &[&str] = &["daemon", "root", "1234", "nobody:users", "55:66", "root", "0"];
const OWNERS: &[&str] = &["1:2", "daemon", "7", "nobody:wheel", "nosuch", "0:0", "root:users"];

/// SplitMix64: small, known, and good enough to choose with.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }
}

struct Writer {
    dice: Dice,
    files: Vec<(String, String)>,
    prepare: String,
    dockerfile: String,
    /// Paths of the context that can be copied: files, and directories.
    sources: Vec<String>,
    directories: Vec<String>,
    stages: Vec<String>,
    wild: bool,
    /// For words and numbers that are used only once: a step that changes nothing is judged differently by 0.8.
    count: usize,
}

/// The build that belongs to a seed.
pub fn case(seed: u64) -> Case {
    let mut writer = Writer {
        dice: Dice(seed),
        files: Vec::new(),
        prepare: String::new(),
        dockerfile: String::new(),
        sources: Vec::new(),
        directories: Vec::new(),
        stages: Vec::new(),
        wild: seed.is_multiple_of(3),
        count: 0,
    };
    writer.context();
    for number in 0..=writer.dice.below(3) {
        writer.stage(number);
    }
    let mut files = writer.files;
    files.push(("Dockerfile".to_owned(), writer.dockerfile));
    files.push(("prepare".to_owned(), writer.prepare));
    if writer.dice.one_in(3) {
        files.push(("args".to_owned(), "--build-arg\nA1=given\n".to_owned()));
    }
    Case {
        name: format!("random-{seed}"),
        group: "random".to_owned(),
        source: Source::Files(files),
    }
}

/// The case as `*.cases` has it, to be put there when it has found something.
pub fn as_text(case: &Case) -> String {
    let Source::Files(files) = &case.source else { return String::new() };
    let mut text = format!("=== {}\n{}", case.name, case.dockerfile());
    for (path, content) in files.iter().filter(|(path, _)| path != "Dockerfile") {
        let what = if path == "prepare" || path == "args" { "" } else { "file " };
        write!(text, "--- {what}{path}\n{content}").unwrap();
    }
    text
}

impl Writer {
    fn word(&mut self) -> String {
        self.count += 1;
        let stem = self.dice.pick(&["alpha", "beta", "gamma", "x", "long-word"]);
        format!("{stem}{}", self.count)
    }

    fn context(&mut self) {
        for directory in ["d0", "d0/e", "d1", "d1/e/deep"] {
            if self.dice.one_in(4) && directory != "d0" {
                continue;
            }
            self.directories.push(directory.to_owned());
            writeln!(self.prepare, "mkdir -p {directory}").unwrap();
            for name in ["a.txt", "b.c", "g"] {
                if !self.dice.one_in(3) {
                    self.add_file(format!("{directory}/{name}"));
                }
            }
        }
        for name in ["f0.txt", "f1.txt", "f2.c", "g", "with blank"] {
            self.add_file(name.to_owned());
        }
        for (number, mode) in ["600", "755", "4755", "440", "2711"].into_iter().enumerate() {
            if self.dice.one_in(2) {
                // What is left of these bits by `--chmod` was another thing in 0.8: not for f0.txt.
                let path = self.source().replace("f0.txt", "f1.txt");
                writeln!(self.prepare, "chmod {mode} '{path}' # {number}").unwrap();
            }
        }
        if self.dice.one_in(2) {
            self.prepare += "chmod 750 d0\n";
        }
        for line in [
            "ln -s f0.txt l0",
            "ln -s d0 l1",
            "ln -s ../f0.txt d0/up",
            "ln -s nowhere d0/dangling",
            "ln f0.txt hard",
            "mkdir -p d0/empty",
        ] {
            if self.dice.one_in(2) {
                writeln!(self.prepare, "{line}").unwrap();
                let made = line.split(' ').nth(3).unwrap_or_default();
                if ["l0", "l1"].contains(&made) {
                    self.sources.push(made.to_owned());
                }
            }
        }
        self.prepare +=
            "tar --owner=3 --group=4 --numeric-owner --mtime=@1000000000 -cf t.tar d0\n";
        // Only what no instruction names is ignored: `COPY .` shows what is left.
        for path in ["x.log", "d0/y.log", "d0/e/z.log", "ignored/a.log", "ignored/b"] {
            let text = format!("{}\n", self.word());
            self.files.push((path.to_owned(), text));
        }
        let patterns = [
            "*.log",
            "**/y.log",
            "ignored",
            "ignored/*",
            "!ignored/b",
            "d0/*.log",
            "# x.log",
            "[w-z].log",
        ];
        let chosen: Vec<&str> = patterns.into_iter().filter(|_| self.dice.one_in(3)).collect();
        if self.dice.one_in(2) {
            self.files.push((".dockerignore".to_owned(), chosen.join("\n") + "\n"));
        }
    }

    fn add_file(&mut self, path: String) {
        let text = format!("{}\n", self.word());
        self.files.push((path.clone(), text));
        self.sources.push(path);
    }

    fn source(&mut self) -> String {
        let at = self.dice.below(self.sources.len());
        self.sources[at].clone()
    }

    fn directory(&mut self) -> String {
        let at = self.dice.below(self.directories.len());
        self.directories[at].clone()
    }

    /// A place in the image: mostly a new one, in wild builds often one that others use.
    fn place(&mut self) -> String {
        if self.dice.one_in(if self.wild { 2 } else { 8 }) {
            return self.dice.pick(PLACES).to_owned();
        }
        self.count += 1;
        let parent = self.dice.pick(&["", "", "/w", "/new/deep", "/usr/share/base/dir"]);
        format!("{parent}/p{}", self.count)
    }

    fn line(&mut self, line: &str) {
        writeln!(self.dockerfile, "{line}").unwrap();
    }

    fn stage(&mut self, number: usize) {
        let from = match self.stages.last() {
            Some(_) if self.dice.one_in(2) => {
                let at = self.dice.below(self.stages.len());
                self.stages[at].clone()
            }
            _ => "nb-base:busybox".to_owned(),
        };
        self.line(&format!("FROM {from} AS s{number}"));
        for _ in 0..3 + self.dice.below(8) {
            match self.dice.below(10) {
                0..3 => self.copy(),
                3..6 => self.run(),
                6 => self.variable(),
                7 => self.place_and_user(),
                8 => self.config(),
                _ => self.copy_of_stage(),
            }
        }
        self.line("USER root");
        self.line("RUN env | sort | grep -E '^(E|A)[0-9]=' > /env; pwd >> /env");
        self.stages.push(format!("s{number}"));
    }

    fn copy(&mut self) {
        let (to, owner) = (self.place(), self.dice.pick(OWNERS));
        let (file, other, directory) = (self.source(), self.source(), self.directory());
        let quoted = |path: &str| format!("\"{path}\"");
        let line = match self.dice.below(13) {
            0 | 1 => format!("COPY [{}, {}]", quoted(&file), quoted(&to)),
            2 => format!("COPY [{}, {}, {}]", quoted(&file), quoted(&other), quoted(&(to + "/"))),
            3 | 4 => format!("COPY {directory} {to}"),
            5 => format!("COPY {directory}/ d0 {to}/"),
            6 => format!("COPY --chown={owner} {directory} {to}"),
            7 => format!("COPY --chown={owner} f* {to}/"),
            8 => {
                self.count += 1;
                format!("COPY --chmod=7{:02o} f0.txt /m{}", self.count % 64, self.count)
            }
            9 => format!("COPY d*/*.txt {to}/"),
            10 => format!("ADD t.tar {to}"),
            11 => format!("COPY . {to}"),
            _ => format!("ADD [{}, {}]", quoted(&file), quoted(&to)),
        };
        self.line(&line);
    }

    fn run(&mut self) {
        let (a, b, c) = (self.place(), self.dice.pick(PLACES), self.dice.pick(PLACES));
        let word = self.word();
        let id = self.count;
        let command = match self.dice.below(14) {
            0 => format!("echo {word} > {a}"),
            1 => format!("mkdir -p {a} && echo {word} > {a}/{word}"),
            2 => format!("rm -rf {b}"),
            3 => format!("rm -rf {b} && mkdir -p {b} && echo {word} > {b}/new"),
            4 => format!("mv {b} {a}"),
            5 => format!("rm -f {a}; ln {b} {a}"),
            6 => format!("ln -sfn {b} {a}"),
            7 => format!("chmod {:o} {b}", 0o400 + id % 256),
            8 => format!("chown {id}:{} {b}", id + 1),
            9 => format!("cp -a {b} {a}"),
            10 => format!("mkdir -p {a}; touch -d @{} {a}/t", 1_000_000_000 + id),
            11 => format!("rm -rf {b}; ln -s {c} {b}"),
            12 => format!("umask 027; mkdir -p {a}/m; echo {word} >> {a}/m/n"),
            _ => format!("echo \"$E1 ${{A1}}\" {word} >> {a}"),
        };
        let mounted = self.dice.one_in(10);
        if mounted {
            self.line(&format!("RUN --mount=target=/sys/fs,rw true; {command}; true"));
        } else if self.dice.one_in(8) {
            self.line(&format!("RUN [\"/bin/sh\", \"-c\", {:?}, \"x\"]", command + "; true"));
        } else {
            self.line(&format!("RUN {command}; true"));
        }
    }

    fn variable(&mut self) {
        let word = self.word();
        let name = self.dice.pick(&["E1", "E2", "E3"]);
        let other = self.dice.pick(&["E1", "E2", "A1", "NOPE"]);
        let line = match self.dice.below(8) {
            0 => format!("ENV {name}={word}"),
            1 => format!("ENV {name}=\"{word} ${other}\" E4=${{{other}:-{word}}}"),
            2 => format!("ENV {name} {word}  and  ${other}"),
            3 => format!("ENV {name}='${other}' E5=\\${other} E6=${{{other}:+set}}"),
            4 => "ARG A1".to_owned(),
            5 => format!("ARG A1={word}"),
            6 => format!("ARG A2=${{{other}:-{word}}}"),
            _ => format!("LABEL {name}=\"${other}\" l.{word}='x y'"),
        };
        self.line(&line);
    }

    fn place_and_user(&mut self) {
        let place = self.place();
        let line = match self.dice.below(5) {
            0 | 1 => format!("WORKDIR {place}"),
            2 => format!("WORKDIR {}", place.trim_start_matches('/')),
            _ => format!("USER {}", self.dice.pick(USERS)),
        };
        self.line(&line);
    }

    fn config(&mut self) {
        let word = self.word();
        let port = 1000 + self.count;
        let line = match self.dice.below(12) {
            0 => format!("CMD [\"{word}\", \"$E1\"]"),
            1 => format!("CMD {word}  \"$E1\""),
            2 => format!("ENTRYPOINT [\"{word}\"]"),
            3 => format!("ENTRYPOINT exec {word}"),
            4 => format!("EXPOSE {port} {port}/udp"),
            5 => format!("VOLUME /v{port} {}", self.dice.pick(PLACES)),
            6 => "STOPSIGNAL SIGINT".to_owned(),
            7 => format!("HEALTHCHECK --interval={port}ms CMD {word} $E1"),
            8 => "SHELL [\"/bin/busybox\", \"sh\", \"-c\"]".to_owned(),
            9 => format!("ONBUILD RUN echo {word} >> /onbuild"),
            10 => format!("ONBUILD ENV E1={word}"),
            _ => format!("MAINTAINER {word}"),
        };
        self.line(&line);
    }

    fn copy_of_stage(&mut self) {
        let Some(last) = self.stages.len().checked_sub(1) else { return self.copy() };
        let stage = if self.dice.one_in(2) {
            self.dice.below(last + 1).to_string()
        } else {
            format!("s{}", self.dice.below(last + 1))
        };
        let (from, to) = (
            self.dice.pick(&["/x*", "/usr/share/base*", "/env", "/etc/passwd", "/w*"]),
            self.place(),
        );
        let flag = if self.dice.one_in(3) { "--chown=3:4 " } else { "" };
        self.line(&format!("COPY --from={stage} {flag}{from} {to}/"));
    }
}

/// Facts without what BuildKit 0.8 writes in another way: flags of COPY and ADD, the value of an ARG, ARGs before the
/// text of a RUN, a HEALTHCHECK; without names that a symbolic link shares, which 0.8 copies apart; and whether a copy of
/// what is there already is a change.
pub fn loosely(facts: &[String]) -> Vec<String> {
    facts.iter().map(|line| loose_line(line)).collect()
}

fn loose_line(line: &str) -> String {
    if line.starts_with("tree ") && line.contains(" -> ") {
        return line.split(" = /").next().unwrap_or_default().to_owned();
    }
    let Some((kind, text)) = line.strip_prefix("history ").and_then(|rest| rest.split_once(' '))
    else {
        return line.to_owned();
    };
    let mut words: Vec<&str> = text.split(' ').collect();
    let kind = match words[0] {
        "ARG" | "HEALTHCHECK" => {
            words.truncate(1);
            kind
        }
        "COPY" | "ADD" => {
            words.retain(|word| !word.starts_with("--ch"));
            if kind == "empty" { "layer" } else { kind }
        }
        "RUN" if words[1].starts_with('|') => {
            // Values may hold blanks; every command of a random build stands below /bin.
            let command = words.iter().position(|word| word.starts_with("/bin/")).unwrap();
            words.drain(1..command);
            kind
        }
        _ => kind,
    };
    format!("history {kind} {}", words.join(" "))
}

#[test]
fn a_seed_always_makes_the_same_build() {
    assert_eq!(as_text(&case(7)), as_text(&case(7)));
    assert_ne!(as_text(&case(7)), as_text(&case(8)));
}

#[test]
fn loose_facts_leave_out_what_an_old_builder_cannot_say() {
    let facts = [
        "history empty COPY --chown=1 a /b # buildkit",
        "history layer RUN |1 A=b /bin/sh -c x",
        "tree /a",
    ];
    let loose = loosely(&facts.map(str::to_owned));
    assert_eq!(
        loose,
        ["history layer COPY a /b # buildkit", "history layer RUN /bin/sh -c x", "tree /a"]
    );
}
