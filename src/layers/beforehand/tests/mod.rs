//! What was packed beforehand is found, and changes nothing.

mod small;

use super::super::blocks::{Loan, Room};
use super::super::diff::{DiffOptions, XattrFlavour};
use super::super::samples::{noise, text};
use super::super::tests::{TIMES, blob_of};
use super::*;
use crate::oci::layout::Layout;
use std::fs;
use std::path::Path;

const AGE: Duration = Duration::from_hours(1);

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
        self.watch_old(Duration::ZERO)
    }

    /// One for which only what is older is finished.
    fn watch_old(&self, age: Duration) -> Upper {
        let options = DiffOptions { flavour: XattrFlavour::User, placeholders: false };
        let manner = Manner { options, times: TIMES };
        let root = crate::sys::fs::open_dir_path(&self.upper()).unwrap();
        let spill = Spill::new(&self.blocks, Room::make(&self.blocks).unwrap()).unwrap();
        Upper::new(root, manner, (Arc::clone(&self.blocks), spill), age)
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

    /// The layer with and without what is known, and how many of its blocks were.
    fn layer(&self) -> (u64, bool) {
        let (plain, _) = blob_of(&self.upper(), None);
        let mut journal = self.blocks.journal("none");
        let before = self.blocks.count();
        let (known, _) = blob_of(&self.upper(), Some(&mut journal));
        (self.blocks.count() - before, plain == known)
    }
}

fn spilled(upper: &Upper) -> u64 {
    upper.spill.room().bytes()
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
    let mut upper = tree.watch();
    upper.look();
    let packed = spilled(&upper);
    assert!(packed > 100_000, "{packed}");
    // All is packed: nothing more to do.
    upper.look();
    assert_eq!(spilled(&upper), packed);
    // Nobody sees it by name.
    assert_eq!(Tree::files(&tree.layout.blob_dir()), []);
    assert_eq!(Tree::files(&tree.dir.path().join("indexes")), []);
    assert_eq!(tree.layer(), (4, true));
}

#[test]
fn without_whoever_packed_nothing_is_found() {
    let tree = Tree::new();
    tree.write("a", &text(3 << 20));
    let mut upper = tree.watch();
    upper.look();
    drop(upper);
    assert_eq!(tree.layer(), (0, true));
}

#[test]
fn what_changed_afterwards_is_packed_anew() {
    let tree = Tree::new();
    let mut content = text(3 << 20);
    tree.write("a", &content);
    let mut upper = tree.watch();
    upper.look();
    // One byte in the second block, in place and with the same time.
    let path = tree.upper().join("a");
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    content[(1 << 20) + 7] ^= 1;
    fs::write(&path, &content).unwrap();
    fs::File::options().append(true).open(&path).unwrap().set_modified(time).unwrap();
    assert_eq!(tree.layer(), (2, true));
}

#[test]
fn of_a_file_that_grows_all_but_the_end_is_packed() {
    let tree = Tree::new();
    let content = text(7 << 20);
    tree.write("a", &content[..5 << 20]);
    let mut upper = tree.watch_old(AGE);
    upper.look();
    let first = spilled(&upper);
    assert!(first > 0);
    tree.write("a", &content);
    upper.look();
    assert!(spilled(&upper) > first);
    // The last two MiB were left alone.
    assert_eq!(tree.layer(), (5, true));
}

#[test]
fn a_file_that_changes_again_and_again_is_let_alone() {
    let tree = Tree::new();
    let mut upper = tree.watch();
    let mut sizes = Vec::new();
    for number in 0..5_u8 {
        let mut content = text(100_000);
        for byte in &mut content {
            *byte ^= number;
        }
        tree.write("a", &content);
        upper.look();
        sizes.push(spilled(&upper));
    }
    assert!(sizes[0] < sizes[1], "{sizes:?}");
    assert_eq!(sizes[2..], [sizes[2]; 3]);
    assert!(tree.layer().1);
}

/// What is complete when the process is killed is lent, wherever it was.
#[test]
fn what_is_packed_at_any_moment_can_be_lent() {
    let tree = Tree::new();
    tree.write("a", &text(3 << 20));
    let mut upper = tree.watch();
    upper.look();
    let [data, records] = upper.spill.room().fds().map(|fd| fd.try_clone_to_owned().unwrap());
    drop(upper);
    assert_eq!(tree.layer(), (0, true));
    let loan = Loan::of(&tree.blocks, Room::of(data, records));
    assert_eq!(tree.layer(), (3, true));
    drop(loan);
    assert_eq!(tree.layer(), (0, true));
}

/// Found in review: it was forgotten, and the tree looked at again and again.
#[test]
fn what_is_too_much_ends_it() {
    let tree = Tree::new();
    tree.write("a", &text(1 << 20));
    let mut upper = tree.watch();
    upper.written = MOST;
    upper.look();
    assert_eq!(spilled(&upper), 0);
    // It would go on for ever otherwise.
    upper.watch(|| {});
}

/// Found in review: it was taken for one that cannot be read.
#[test]
fn a_file_that_is_renamed_meanwhile_is_packed_under_its_new_name() {
    let tree = Tree::new();
    tree.write("a.new", &text(1 << 20));
    let mut upper = tree.watch();
    let found = upper.candidates().unwrap();
    fs::rename(tree.upper().join("a.new"), tree.upper().join("a")).unwrap();
    assert!(upper.pack(&found[0]).is_some());
    assert!(upper.files.is_empty());
    upper.look();
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
    let mut upper = tree.watch();
    upper.look();
    assert_eq!(tree.blocks.count(), 0);
    assert_eq!(upper.files.len(), 1);
    // What is gone is forgotten.
    fs::remove_dir_all(tree.upper()).unwrap();
    fs::create_dir(tree.upper()).unwrap();
    tree.write("c", &text(70_000));
    let mut upper = tree.watch();
    upper.look();
    fs::remove_file(tree.upper().join("c")).unwrap();
    upper.look();
    assert!(upper.files.is_empty());
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
