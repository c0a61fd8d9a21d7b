//! A block that is known is not packed again, and whatever an index says, the bytes are right.

use super::super::samples::{noise, text};
use super::super::tests::blob_of;
use super::index::{RECORD, Record, line};
use super::*;
use crate::layers::Layer;
use crate::oci::layout::Layout;
use std::fs;
use std::path::PathBuf;

struct World {
    dir: tempfile::TempDir,
    layout: Layout,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path().join("images")).unwrap();
        fs::create_dir_all(layout.blob_dir()).unwrap();
        let world = Self { dir, layout };
        fs::create_dir(world.tree()).unwrap();
        fs::create_dir(world.indexes()).unwrap();
        for number in 0..6_u8 {
            world.write(&format!("file{number}"), &changed(300_000, number));
        }
        world
    }

    fn tree(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.tree().join(name), content).unwrap();
    }

    fn indexes(&self) -> PathBuf {
        self.dir.path().join("indexes")
    }

    /// As a new process sees it.
    fn blocks(&self) -> Arc<Blocks> {
        Blocks::open(&self.indexes(), &self.layout.blob_dir(), 4).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.indexes()).into_iter().flatten().flatten();
        let mut found: Vec<String> =
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        found.sort();
        found
    }

    /// Stores the layer of the tree; how many of its blocks were known. The bytes are those of a layer of which nothing is.
    fn store(&self, blocks: &Arc<Blocks>) -> (u64, Layer) {
        let (found, bytes, layer, journal) = self.begin(blocks);
        self.place(&bytes, &layer);
        journal.finish(&layer.digest);
        (found, layer)
    }

    fn place(&self, bytes: &[u8], layer: &Layer) {
        fs::write(self.layout.blob_path(&layer.digest), bytes).unwrap();
    }

    fn begin(&self, blocks: &Arc<Blocks>) -> (u64, Vec<u8>, Layer, Journal) {
        let (plain, expected) = blob_of(&self.tree(), None);
        let path = self.layout.blob_dir().join(".tmp-growing");
        fs::write(&path, &plain).unwrap();
        let (mut journal, before) = (blocks.journal(".tmp-growing"), blocks.count());
        let (known, layer) = blob_of(&self.tree(), Some(&mut journal));
        assert!(known == plain, "the bytes are others");
        assert_eq!(layer, expected);
        (blocks.count() - before, known, layer, journal)
    }
}

/// A block as a layer packs it.
fn look(blocks: &Blocks, block: &[u8]) -> Packed {
    pack(block, blocks.level, Some(blocks)).unwrap()
}

/// Text that no other number gives.
fn changed(length: usize, number: u8) -> Vec<u8> {
    text(length).into_iter().map(|byte| byte ^ number).collect()
}

#[test]
fn what_is_in_a_layer_is_not_packed_for_another() {
    let world = World::new();
    assert_eq!(world.store(&world.blocks()).0, 0);
    assert_eq!(world.names().len(), 1);
    // The same again, by the process itself and by another.
    let blocks = world.blocks();
    assert_eq!(world.store(&blocks).0, 6);
    assert_eq!(world.store(&blocks).0, 6);
    world.write("another", &changed(300_000, 9));
    assert_eq!(world.store(&world.blocks()).0, 6);
    assert_eq!(world.names().len(), 2);
    assert_eq!(world.store(&world.blocks()).0, 7);
    // Levels have nothing in common.
    let other = Blocks::open(&world.indexes(), &world.layout.blob_dir(), 6).unwrap();
    let found = look(&other, &changed(300_000, 1));
    assert!(found.is_new());
    assert_eq!(found.bytes(), gzip::pack(&changed(300_000, 1), 6).unwrap());
}

#[test]
fn a_layer_of_one_block_has_no_index_and_noise_is_not_looked_for() {
    let world = World::new();
    fs::remove_dir_all(world.tree()).unwrap();
    fs::create_dir(world.tree()).unwrap();
    world.write("small", &text(20_000));
    assert_eq!(world.store(&world.blocks()).0, 0);
    assert_eq!(world.names(), [""; 0]);
    world.write("noise", &noise(3 << 20));
    world.store(&world.blocks());
    // The small file and the headers.
    assert_eq!(world.store(&world.blocks()).0, 1);
}

#[test]
fn builds_side_by_side_find_what_the_other_has_packed_so_far() {
    let world = World::new();
    let (first, second) = (world.blocks(), world.blocks());
    assert!(look(&second, &changed(300_000, 1)).is_new());
    let (_, bytes, layer, journal) = world.begin(&first);
    assert_eq!(world.names().len(), 1);
    assert!(!look(&second, &changed(300_000, 2)).is_new());
    world.place(&bytes, &layer);
    journal.finish(&layer.digest);
    assert_eq!(world.names(), [layer.digest.hex()]);
    assert!(!look(&second, &changed(300_000, 3)).is_new());
}

#[test]
fn an_index_of_a_layer_that_failed_is_gone() {
    let world = World::new();
    let (_, _, _, journal) = world.begin(&world.blocks());
    assert_eq!(world.names().len(), 1);
    drop(journal);
    assert_eq!(world.names(), [""; 0]);
}

/// Found in review: one that nobody writes any more was kept open, and kept others out.
#[test]
fn an_index_of_a_process_that_was_killed_is_removed() {
    let world = World::new();
    let (_, _, _, journal) = world.begin(&world.blocks());
    let [live] = &world.names()[..] else { unreachable!("one is written") };
    let path = world.indexes().join(live);
    let text = fs::read(&path).unwrap();
    drop(journal);
    fs::write(&path, text).unwrap();
    look(&world.blocks(), &changed(300_000, 1));
    assert_eq!(world.names(), [""; 0]);
    // One that is about to get its name is nobody's to read.
    fs::write(world.indexes().join("live-.x"), "").unwrap();
    look(&world.blocks(), &changed(300_000, 1));
    assert_eq!(world.names(), ["live-.x"]);
}

#[test]
fn what_another_process_packs_is_found_as_long_as_it_is_lent() {
    let world = World::new();
    // The process that packs knows the store by descriptors.
    let mine = world.blocks();
    let ([dir, blobs], level) = mine.parts();
    let other =
        Blocks::of(dir.try_clone_to_owned().unwrap(), blobs.try_clone_to_owned().unwrap(), level);
    let room = Room::make(&mine).unwrap();
    let [data, records] = room.fds().map(|fd| fd.try_clone_to_owned().unwrap());
    let mut spill = Spill::new(&other, Room::of(data, records)).unwrap();
    for number in 1..4 {
        spill.add(&other.pack_quietly(&changed(300_000, number)).unwrap()).unwrap();
    }
    // It packs nothing twice.
    assert!(!other.pack_quietly(&changed(300_000, 1)).unwrap().is_new());
    // It is killed while it writes one more.
    let [_, records] = room.fds();
    rustix::io::write(records, &[7; RECORD / 2]).unwrap();
    drop(spill);
    assert!(other.pack_quietly(&changed(300_000, 1)).unwrap().is_new());
    assert!(look(&mine, &changed(300_000, 2)).is_new());
    let loan = Loan::of(&mine, room).unwrap();
    for number in 1..4 {
        assert!(!look(&mine, &changed(300_000, number)).is_new());
    }
    assert!(look(&mine, &changed(300_000, 9)).is_new());
    drop(loan);
    assert!(look(&mine, &changed(300_000, 2)).is_new());
    assert!(Loan::of(&mine, Room::make(&mine).unwrap()).is_none());
    // Nobody else sees anything of it.
    assert_eq!(world.names(), [""; 0]);
    assert_eq!(fs::read_dir(world.layout.blob_dir()).unwrap().count(), 0);
}

/// A room that says what is not so costs packing.
#[test]
fn a_room_may_lie() {
    let world = World::new();
    let (mine, block) = (world.blocks(), changed(300_000, 1));
    let packed = mine.pack_quietly(&block).unwrap();
    let record =
        Record { content: hash(&block), length: packed.bytes().len() as u32, sum: packed.sum };
    let lies = [
        (packed.bytes()[1..].to_vec(), record),
        (vec![], record),
        (packed.bytes().to_vec(), Record { sum: 1, ..record }),
        (packed.bytes().to_vec(), Record { length: 5, ..record }),
        (packed.bytes().to_vec(), Record { content: hash(b"other"), ..record }),
    ];
    for (bytes, record) in lies {
        let room = Room::make(&mine).unwrap();
        let [data, records] = room.fds();
        rustix::io::write(data, &bytes).unwrap();
        rustix::io::write(records, &record.to_bytes()).unwrap();
        let _loan = Loan::of(&mine, room);
        assert_eq!(look(&mine, &block).bytes(), packed.bytes());
    }
}

/// Everything that can be wrong with an index or a blob costs packing, and never gives other bytes.
#[test]
fn damage_and_lies_are_no_harm() {
    let world = World::new();
    let (_, layer) = world.store(&world.blocks());
    let (index, blob) =
        (world.indexes().join(layer.digest.hex()), world.layout.blob_path(&layer.digest));
    let (good, bytes) = (fs::read(&index).unwrap(), fs::read(&blob).unwrap());
    let start = line(4, layer.digest.hex()).len();
    let known = |what: &str| {
        let found = world.store(&world.blocks()).0;
        fs::write(&index, &good).unwrap();
        fs::write(&blob, &bytes).unwrap();
        (what.to_owned(), found)
    };
    let expect = |what: &str, count| (what.to_owned(), count);
    let records = |change: &dyn Fn(&mut Vec<Record>)| {
        let mut records: Vec<Record> = good[start..]
            .as_chunks::<RECORD>()
            .0
            .iter()
            .map(|bytes| Record::read(bytes).unwrap())
            .collect();
        change(&mut records);
        let bytes = records.into_iter().flat_map(Record::to_bytes);
        fs::write(&index, good[..start].iter().copied().chain(bytes).collect::<Vec<u8>>()).unwrap();
    };

    fs::write(&blob, &bytes[..bytes.len() / 2]).unwrap();
    let (_, found) = known("half a blob");
    assert!((1..6).contains(&found), "{found}");
    fs::write(&blob, vec![0x5a; bytes.len()]).unwrap();
    assert_eq!(known("garbage in the blob"), expect("garbage in the blob", 0));
    fs::remove_file(&blob).unwrap();
    assert_eq!(known("no blob"), expect("no blob", 0));
    fs::write(&index, &good[..good.len() - 1]).unwrap();
    assert_eq!(known("half a record"), expect("half a record", 6));
    fs::write(&index, "garbage").unwrap();
    assert_eq!(known("garbage"), expect("garbage", 0));
    // A file that has the right bytes, and lies elsewhere.
    fs::write(world.dir.path().join("elsewhere"), &bytes).unwrap();
    fs::remove_file(&blob).unwrap();
    let lie = [line(4, "../../../elsewhere").as_bytes(), &good[start..]].concat();
    fs::write(&index, lie).unwrap();
    assert_eq!(known("another place"), expect("another place", 0));
    let mut damaged = good.clone();
    damaged[start + RECORD + 40] ^= 1;
    fs::write(&index, damaged).unwrap();
    assert_eq!(known("a damaged record"), expect("a damaged record", 0));
    // Records that are whole, and lie: contents changed round, lengths that are too large.
    records(&|records| {
        let contents: Vec<Hash> = records.iter().map(|record| record.content).collect();
        let named: Vec<usize> = (0..records.len()).filter(|at| records[*at].is_named()).collect();
        for (at, from) in named.iter().zip(named.iter().rev()) {
            records[*at].content = contents[*from];
        }
    });
    assert_eq!(known("changed round"), expect("changed round", 0));
    records(&|records| records.iter_mut().for_each(|record| record.length = u32::MAX));
    assert_eq!(known("too long"), expect("too long", 0));
    assert_eq!(known("good"), expect("good", 6));
}

#[test]
fn a_blob_that_is_removed_meanwhile_is_packed_again() {
    let world = World::new();
    let (_, layer) = world.store(&world.blocks());
    let blocks = world.blocks();
    assert!(!look(&blocks, &changed(300_000, 1)).is_new());
    fs::remove_file(world.layout.blob_path(&layer.digest)).unwrap();
    assert!(look(&blocks, &changed(300_000, 1)).is_new());
}
