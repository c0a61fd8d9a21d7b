//! Pieces of work that the micro-benchmarks time and whose instructions are counted: fixed inputs, public functions.
//!
//! Inputs come from a seed, so that two machines and two years do the same work. Each piece gives a number that depends
//! on its result, so that none of it can be left out.

use nativebuild::context::walk::{Visitor, WalkEntry};
use nativebuild::context::{FileTree, SelectOptions};
use nativebuild::dockerfile::{self, expand};
use nativebuild::error::Result;
use nativebuild::layers::compress::{Compression, Workers, compress_layer};
use nativebuild::layers::tar_write::{TimePolicy, write_stream};
use nativebuild::layers::{Change, ChangeKind, Entry, EntryKind};
use nativebuild::oci::Digest;
use nativebuild::source::{SourceFile, Span};
use nativebuild::sys::fs::open_dir_path;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

const TIMES: TimePolicy = TimePolicy { epoch: Some(1_700_000_000), started: (1_700_000_000, 0) };

/// Words and noise, a quarter of it noise.
pub fn data(bytes: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let words: Vec<String> = (0..512).map(|_| format!("{:x} ", next() >> (next() % 40))).collect();
    let mut out = Vec::with_capacity(bytes + 64);
    while out.len() < bytes {
        let noisy = out.len() / 65536 % 4 == 3;
        if noisy {
            out.extend_from_slice(&next().to_le_bytes());
        } else {
            out.extend_from_slice(words[next() as usize % words.len()].as_bytes());
        }
    }
    out.truncate(bytes);
    out
}

/// Makes a directory of `files` files in a hundred directories.
pub fn make_tree(top: &Path, files: usize) -> io::Result<()> {
    for number in 0..files {
        let directory = top.join(format!("d{:02}", number % 100));
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join(format!("file{number}")), format!("content {number}\n"))?;
    }
    Ok(())
}

struct Counter(usize);

impl Visitor for Counter {
    fn enter(&mut self, _: &WalkEntry<'_>) -> Result<()> {
        self.0 += 1;
        Ok(())
    }
    fn leaf(&mut self, _: &WalkEntry<'_>) -> Result<()> {
        self.0 += 1;
        Ok(())
    }
    fn leave(&mut self, _: &WalkEntry<'_>) -> Result<()> {
        Ok(())
    }
}

/// Walks a context as COPY of all of it does.
pub fn walk(top: &Path) -> usize {
    let root = open_dir_path(top).expect("the tree was made");
    let tree = FileTree::context(root, None);
    let sources = [(".".to_owned(), Span::new(0, 0))];
    let options = SelectOptions { instruction: "COPY", ..SelectOptions::default() };
    let selected = tree.select(&sources, options).expect("the tree is there");
    let mut counter = Counter(0);
    for one in &selected {
        tree.walk(one, &mut counter).expect("the tree is readable");
    }
    counter.0
}

/// One lstat of everything below a directory, by the standard library: what any rebuild has to do at least.
pub fn lstat(top: &Path) -> io::Result<usize> {
    let mut todo = vec![top.to_owned()];
    let mut seen = 0;
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            seen += 1;
            if entry.metadata()?.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    Ok(seen)
}

/// A change stream of `files` files of `size` bytes.
pub fn changes(files: usize, size: u64) -> Vec<Change> {
    let entry = |kind| Entry {
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: (1_600_000_000, 0),
        xattrs: Vec::new(),
    };
    let mut all = vec![Change {
        path: b"tree".to_vec(),
        kind: ChangeKind::Present(entry(EntryKind::Directory)),
    }];
    all.extend((0..files).map(|number| Change {
        path: format!("tree/file{number:06}").into_bytes(),
        kind: ChangeKind::Present(entry(EntryKind::File { size })),
    }));
    all
}

/// Writes the tar of a change stream into `out`; bodies are the beginning of `data`.
pub fn tar(changes: &[Change], data: &[u8], out: &mut dyn Write) -> Result<()> {
    let mut bodies = |_: &[u8], size: u64, out: &mut dyn Write| {
        out.write_all(&data[..size as usize]).expect("memory takes it");
        Ok(())
    };
    write_stream(changes, &mut bodies, &TIMES, out)
}

/// Packs and hashes bytes as a layer is.
pub fn gzip(workers: &Workers, data: &[u8]) -> u64 {
    let gzip = Compression::parse("gzip", None).expect("a known name");
    let produce = |out: &mut dyn Write| {
        out.write_all(data).expect("memory takes it");
        Ok(())
    };
    compress_layer(gzip, workers, io::sink(), produce).expect("nothing can fail here").1.size
}

/// Hashes bytes.
pub fn hash(data: &[u8]) -> usize {
    Digest::of(data).as_str().len()
}

/// A Dockerfile of `steps` instructions after its FROM.
pub fn text(steps: usize) -> String {
    let mut text = String::from("FROM busybox AS one\nARG VERSION=1.2.3\n");
    for number in 0..steps {
        text += &match number % 4 {
            0 => format!(
                "RUN --mount=type=cache,target=/c echo {number} && \\\n  touch /f{number}\n"
            ),
            1 => format!("COPY --chown=1:2 a{number} b{number} /data/\n"),
            2 => format!("ENV NAME{number}=\"value ${{VERSION}} {number}\" OTHER='x'\n"),
            _ => format!("LABEL label.{number}=\"${{NAME{}:-none}}\"\n", number - 1),
        };
    }
    text
}

/// Reads a Dockerfile.
pub fn parse(text: &str) -> usize {
    let source = Arc::new(SourceFile::new("Dockerfile", text));
    dockerfile::parse(&source).expect("it is valid").stages.len()
}

/// Expands one word `times` times.
pub fn expansion(times: usize) -> usize {
    let lookup = |name: &str| (name != "UNSET").then(|| format!("value-of-{name}"));
    let word = r#"/opt/${NAME}/"$VERSION"/${UNSET:-default}/${PATH#value-}'$kept'\$x"#;
    (0..times).map(|_| expand::expand(word, '\\', &lookup).expect("it is valid").len()).sum()
}
