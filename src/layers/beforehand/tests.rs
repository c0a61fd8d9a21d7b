//! What was packed beforehand is found, and changes nothing.

use super::super::samples::{noise, text};
use super::super::tests::blob_of;
use super::*;
use crate::oci::layout::Layout;
use std::fs;
use std::path::Path;

const NOW: Patience = Patience { command: Duration::ZERO, file: Duration::ZERO };

struct Tree {
    dir: tempfile::TempDir,
    layout: Layout,
    blocks: Arc<Blocks>,
}

impl Tree {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("upper")).unwrap();
        let layout = Layout::create(dir.path().join("images")).unwrap();
        fs::create_dir_all(layout.blob_dir()).unwrap();
        fs::create_dir(dir.path().join("indexes")).unwrap();
        let blocks = Blocks::open(&dir.path().join("indexes"), &layout.blob_dir(), 4).unwrap();
        Self { dir, layout, blocks }
    }

    fn upper(&self) -> std::path::PathBuf {
        self.dir.path().join("upper")
    }

    fn write(&self, name: &str, content: &[u8]) {
        let path = self.upper().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn watch(&self) -> Upper {
        Upper::new(crate::sys::fs::open_dir_path(&self.upper()).unwrap())
    }

    /// Looks again, whenever that would be due.
    fn look(&self, upper: &Upper) {
        upper.look.lock().unwrap().due = None;
        upper.look(&self.blocks, NOW, &|| true);
    }

    /// Names and sizes of files in a directory.
    fn files(dir: &Path) -> Vec<(String, u64)> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let mut found: Vec<(String, u64)> = entries
            .map(|entry| {
                (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len())
            })
            .collect();
        found.sort();
        found
    }

    fn spilled(&self) -> u64 {
        Self::files(&self.layout.blob_dir()).into_iter().map(|(_, size)| size).sum()
    }

    /// The layer with and without what is known, and how many of its blocks were.
    fn layer(&self) -> (u64, bool) {
        let (plain, _) = blob_of(&self.upper(), None);
        let mut journal = self.blocks.journal("none");
        let before = self.blocks.count();
        let (known, _) = blob_of(&self.upper(), Some(&mut journal));
        (self.blocks.count() - before, plain == known)
    }
}

#[test]
fn large_files_are_packed_and_the_layer_finds_them() {
    let tree = Tree::new();
    tree.write("a", &text(3 << 20));
    tree.write("deep/er/b", &text(100_000));
    tree.write("small", &text(30_000));
    // Noise costs nothing to pack, and nobody looks for it.
    tree.write("noise", &noise(1 << 20));
    std::os::unix::fs::symlink("/etc/services", tree.upper().join("link")).unwrap();
    let upper = tree.watch();
    tree.look(&upper);
    let spilled = tree.spilled();
    assert!(spilled > 100_000, "{spilled}");
    // All is packed: nothing more to do.
    tree.look(&upper);
    assert_eq!(tree.spilled(), spilled);
    upper.end();
    // The file has no name any more, and can be read all the same.
    assert_eq!(Tree::files(&tree.layout.blob_dir()), []);
    assert_eq!(Tree::files(&tree.dir.path().join("indexes")), []);
    assert_eq!(tree.layer(), (4, true));
    drop(upper);
}

#[test]
fn without_the_loan_nothing_is_found() {
    let tree = Tree::new();
    tree.write("a", &text(3 << 20));
    let upper = tree.watch();
    tree.look(&upper);
    upper.end();
    drop(upper);
    assert_eq!(tree.layer(), (0, true));
}

#[test]
fn what_changed_afterwards_is_packed_anew() {
    let tree = Tree::new();
    let mut content = text(3 << 20);
    tree.write("a", &content);
    let upper = tree.watch();
    tree.look(&upper);
    // One byte in the second block, in place and with the same time.
    let path = tree.upper().join("a");
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    content[(1 << 20) + 7] ^= 1;
    fs::write(&path, &content).unwrap();
    fs::File::options().append(true).open(&path).unwrap().set_modified(time).unwrap();
    upper.end();
    assert_eq!(tree.layer(), (2, true));
}

#[test]
fn of_a_file_that_grows_all_but_the_end_is_packed() {
    let tree = Tree::new();
    let busy = Patience { file: Duration::from_hours(1), ..NOW };
    let content = text(7 << 20);
    tree.write("a", &content[..5 << 20]);
    let upper = tree.watch();
    upper.look(&tree.blocks, busy, &|| true);
    let first = tree.spilled();
    assert!(first > 0);
    tree.write("a", &content);
    upper.look.lock().unwrap().due = None;
    upper.look(&tree.blocks, busy, &|| true);
    assert!(tree.spilled() > first);
    upper.end();
    // The last two MiB were left alone.
    assert_eq!(tree.layer(), (5, true));
}

#[test]
fn a_file_that_changes_again_and_again_is_let_alone() {
    let tree = Tree::new();
    let upper = tree.watch();
    let mut sizes = Vec::new();
    for number in 0..5_u8 {
        let mut content = text(100_000);
        for byte in &mut content {
            *byte ^= number;
        }
        tree.write("a", &content);
        tree.look(&upper);
        sizes.push(tree.spilled());
    }
    assert!(sizes[0] < sizes[1], "{sizes:?}");
    assert_eq!(sizes[2..], [sizes[2]; 3]);
    upper.end();
    assert!(tree.layer().1);
}

#[test]
fn an_end_in_the_middle_ends_it() {
    let tree = Tree::new();
    tree.write("a", &text(8 << 20));
    let upper = tree.watch();
    let asked = std::cell::Cell::new(0);
    upper.look(&tree.blocks, NOW, &|| {
        asked.set(asked.get() + 1);
        if asked.get() == 4 {
            upper.end();
        }
        asked.get() < 5
    });
    assert_eq!(Tree::files(&tree.layout.blob_dir()), []);
    // What was packed by then is found, and what came too late is not.
    assert_eq!(tree.layer(), (2, true));
}

#[test]
fn a_command_that_is_over_soon_is_left_alone() {
    let tree = Tree::new();
    tree.write("a", &text(1 << 20));
    let upper = tree.watch();
    upper.look(&tree.blocks, Patience { command: Duration::from_hours(1), ..NOW }, &|| true);
    upper.look(&tree.blocks, NOW, &|| false);
    assert_eq!(tree.spilled(), 0);
    upper.end();
    upper.look(&tree.blocks, NOW, &|| true);
    assert_eq!(tree.spilled(), 0);
}

/// Found in review: it was forgotten, and the tree looked at again and again.
#[test]
fn what_is_over_stays_over() {
    let tree = Tree::new();
    tree.write("a", &text(1 << 20));
    let upper = tree.watch();
    upper.look.lock().unwrap().written = MOST;
    tree.look(&upper);
    assert_eq!(tree.spilled(), 0);
    upper.look.lock().unwrap().written = 0;
    let asked = std::cell::Cell::new(false);
    upper.look.lock().unwrap().due = None;
    upper.look(&tree.blocks, NOW, &|| asked.replace(true));
    assert!(!asked.get());
    assert_eq!(tree.spilled(), 0);
}

/// Found in review: it was taken for one that cannot be read.
#[test]
fn a_file_that_is_renamed_meanwhile_is_packed_under_its_new_name() {
    let tree = Tree::new();
    tree.write("a.new", &text(1 << 20));
    let upper = tree.watch();
    let mut look = Look::default();
    let found = upper.candidates(&mut look, Duration::ZERO).unwrap();
    fs::rename(tree.upper().join("a.new"), tree.upper().join("a")).unwrap();
    assert!(upper.pack(&mut look, &tree.blocks, &found[0], &|| true).is_some());
    assert!(look.files.is_empty());
    tree.look(&upper);
    upper.end();
    assert_eq!(tree.layer(), (1, true));
}

/// A command that links one file many times had it packed for each name, and from the 257th on a counter overflowed.
/// Found in review.
#[test]
fn a_file_of_many_names_is_packed_once() {
    let tree = Tree::new();
    tree.write("a", &text(100_000));
    for number in 0..300 {
        fs::hard_link(tree.upper().join("a"), tree.upper().join(format!("b{number}"))).unwrap();
    }
    let upper = tree.watch();
    tree.look(&upper);
    assert_eq!(tree.blocks.count(), 0);
    assert_eq!(upper.look.lock().unwrap().files.len(), 1);
    // What is gone is forgotten.
    fs::remove_dir_all(tree.upper()).unwrap();
    fs::create_dir(tree.upper()).unwrap();
    tree.write("c", &text(70_000));
    let upper = tree.watch();
    tree.look(&upper);
    fs::remove_file(tree.upper().join("c")).unwrap();
    tree.look(&upper);
    assert!(upper.look.lock().unwrap().files.is_empty());
}

/// Opening one may do something.
#[test]
fn only_regular_files_are_opened() {
    let tree = Tree::new();
    let path = tree.upper().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let root = crate::sys::fs::open_dir_path(&tree.upper()).unwrap();
    for name in ["fifo", ".", "gone"] {
        assert!(beneath::open_regular(root.as_fd(), name.as_bytes()).is_err(), "{name}");
    }
    std::os::unix::fs::symlink("/etc/passwd", tree.upper().join("link")).unwrap();
    assert!(beneath::open_regular(root.as_fd(), b"link").is_err());
}
