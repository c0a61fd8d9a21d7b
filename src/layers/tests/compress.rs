//! Blobs do not depend on threads or write sizes, and every compression reads back.

use super::open;
use crate::error::{Error, Result};
use crate::layers::Layer;
use crate::layers::compress::{Compression, Workers, compress_layer, decompressor};
use crate::oci::Digest;
use crate::oci::decompress::{Detected, detect};
use std::io::{self, BufReader, Cursor, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// 3.5 MiB that compress neither to nothing nor not at all.
fn sample() -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u32
    };
    let words: Vec<String> = (0..500).map(|_| format!("{:x} ", next())).collect();
    let mut out = Vec::new();
    while out.len() < 3_500_000 {
        out.extend_from_slice(words[next() as usize % words.len()].as_bytes());
    }
    out.truncate(3_500_000);
    out
}

fn blob(
    compression: Compression,
    workers: &Workers,
    input: &[u8],
    step: usize,
) -> (Vec<u8>, Layer) {
    compress_layer(compression, workers, Vec::new(), |out| {
        for part in input.chunks(step) {
            out.write_all(part).unwrap();
        }
        Ok(())
    })
    .unwrap()
}

const ALL: [Compression; 3] =
    [Compression::None, Compression::Gzip { level: 4 }, Compression::Zstd { level: 3 }];

#[test]
fn bytes_depend_on_nothing_but_the_input() {
    let input = sample();
    for compression in ALL {
        let first = blob(compression, &Workers::new(1), &input, input.len());
        assert_eq!(first.1.diff_id.0, Digest::of(&input));
        assert_eq!(first.1.digest, Digest::of(&first.0));
        assert_eq!(first.1.size, first.0.len() as u64);
        assert_eq!(first.1.media_type, compression.media_type());
        for (threads, step) in [(1, 1000), (2, 65_536), (3, 1 << 20), (4, 1_048_577)] {
            let again = blob(compression, &Workers::new(threads), &input, step);
            assert_eq!(again, first, "{compression:?}, {threads} threads, writes of {step}");
        }
    }
}

/// Takes nothing until whoever gives waits, and notes how far that ever got ahead of what came here.
struct Reluctant<'a> {
    given: &'a AtomicUsize,
    furthest: &'a AtomicUsize,
    taken: usize,
}

/// More than the blocks of two windows.
const BOUND: usize = 16 << 20;

/// Who gives nothing for so long waits.
const PATIENCE: Duration = Duration::from_millis(100);

impl Write for Reluctant<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (mut seen, mut since) = (0, Instant::now());
        while self.taken == 0 && since.elapsed() < PATIENCE {
            let given = self.given.load(Ordering::SeqCst);
            if given != seen {
                (seen, since) = (given, Instant::now());
            }
            std::thread::yield_now();
        }
        let ahead = self.given.load(Ordering::SeqCst).saturating_sub(self.taken);
        self.furthest.fetch_max(ahead, Ordering::SeqCst);
        self.taken += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whoever gives waits for a slow disk: a layer of any size takes the memory of some blocks.
#[test]
fn whoever_reads_files_does_not_get_far_ahead_of_who_writes_the_blob() {
    let mut noise = vec![0; 64 << 10];
    let mut state = 7_u64;
    for byte in &mut noise {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = (state >> 56) as u8;
    }
    for (compression, size) in
        [(Compression::None, 256 << 20), (Compression::Gzip { level: 1 }, 48 << 20)]
    {
        let (given, furthest) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let out = Reluctant { given: &given, furthest: &furthest, taken: 0 };
        let workers = Workers::new(1);
        compress_layer(compression, &workers, out, |out| {
            for _ in 0..size / noise.len() {
                out.write_all(&noise).unwrap();
                given.fetch_add(noise.len(), Ordering::SeqCst);
            }
            Ok(())
        })
        .unwrap();
        let furthest = furthest.into_inner();
        assert!((1 << 20..BOUND).contains(&furthest), "{compression:?}: {furthest} bytes ahead");
    }
}

#[test]
fn one_pool_serves_several_layers_at_once() {
    let input = sample();
    let workers = Workers::new(2);
    let alone = blob(Compression::default(), &workers, &input, 4096);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                assert_eq!(blob(Compression::default(), &workers, &input, 4096), alone);
            });
        }
    });
}

#[test]
fn every_blob_reads_back_and_so_do_several_in_a_row() {
    let workers = Workers::new(2);
    for input in [Vec::new(), vec![0; 1024], sample()] {
        for compression in ALL {
            let (bytes, _) = blob(compression, &workers, &input, 1 << 20);
            for times in [1, 2] {
                let reader = OneByOne(Cursor::new(bytes.repeat(times)));
                let reader = BufReader::with_capacity(1000, reader);
                let mut out = Vec::new();
                decompressor(reader).unwrap().read_to_end(&mut out).unwrap();
                assert!(out == input.repeat(times), "{compression:?}");
            }
        }
    }
}

/// Gives one byte first: what is recognised must not depend on how much is at hand.
struct OneByOne(Cursor<Vec<u8>>);

impl Read for OneByOne {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = if self.0.position() < 8 { buffer.len().min(1) } else { buffer.len() };
        self.0.read(&mut buffer[..want])
    }
}

#[test]
fn gzip_members_have_a_bare_header() {
    let (bytes, layer) = blob(Compression::default(), &Workers::new(1), &[], 1);
    assert_eq!(bytes[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
    assert_eq!(bytes[bytes.len() - 8..], [0; 8]);
    assert_eq!(layer.diff_id.0, Digest::of(b""));
}

#[test]
fn foreign_compressions_are_recognised_and_damage_is_noticed() {
    let text = b"hello, layers\n";
    let bzip2 = [0x42, 0x5a, 0x68, 0x39, 0x31, 0x41, 0x59, 0x26, 0x53, 0x59];
    assert_eq!(detect(&bzip2), Detected::Bzip2);
    assert_eq!(detect(b"\xfd7zXZ\0"), Detected::Xz);
    assert_eq!(detect(b"\x50\x2a\x4d\x18"), Detected::Zstd);
    assert_eq!(detect(b"BZh"), Detected::Plain);
    assert_eq!(detect(b""), Detected::Plain);
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    encoder.write_all(text).unwrap();
    let packed = encoder.finish().unwrap();
    let mut out = Vec::new();
    decompressor(Cursor::new(packed.repeat(2))).unwrap().read_to_end(&mut out).unwrap();
    assert_eq!(out, text.repeat(2));
    for compression in [Compression::default(), Compression::Zstd { level: 3 }] {
        let (bytes, _) = blob(compression, &Workers::new(1), text, 100);
        let cut = bytes[..bytes.len() - 3].to_vec();
        let garbage = [&bytes[..], b"garbage"].concat();
        for damaged in [cut, garbage] {
            let mut reader = decompressor(Cursor::new(damaged)).unwrap();
            assert!(reader.read_to_end(&mut Vec::new()).is_err(), "{compression:?}");
        }
    }
}

#[test]
fn xz_of_the_system_reads_back() {
    if !super::have_program("xz", "xz") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), "some text").unwrap();
    let status = std::process::Command::new("xz").arg(dir.path().join("f")).status().unwrap();
    assert!(status.success());
    let packed = std::fs::read(dir.path().join("f.xz")).unwrap();
    let mut out = String::new();
    decompressor(Cursor::new(packed)).unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(out, "some text");
    drop(open(dir.path()));
}

/// Takes a few bytes, then fails.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 < bytes.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0 -= bytes.len();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_and_a_failed_producer_are_told_as_they_are() {
    let input = sample().repeat(8);
    let workers = Workers::new(2);
    for compression in ALL {
        let write = |out: &mut dyn Write| -> Result<()> {
            out.write_all(&input).map_err(|error| Error::internal("second").cause(error))
        };
        let error = compress_layer(compression, &workers, Full(100), write).map(|_| ());
        let error = error.unwrap_err();
        assert_eq!(error.message(), "cannot write the layer", "{compression:?}");
        assert_eq!(error.kind().exit_code(), 3);
        assert_eq!(error.hints().len(), 1);
        let fail = |out: &mut dyn Write| -> Result<()> {
            out.write_all(&input[..2_000_000]).unwrap();
            Err(Error::context("file vanished"))
        };
        let error = compress_layer(compression, &workers, Vec::new(), fail).map(|_| ());
        assert_eq!(error.unwrap_err().to_string(), "file vanished");
    }
}

#[test]
fn names_and_levels_are_checked() {
    let check = |name: &str, level: Option<i32>, expect: &str| {
        let shown = match Compression::parse(name, level) {
            Ok(compression) => format!("{compression:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expect);
    };
    check("gzip", None, "Gzip { level: 4 }");
    check("gzip", Some(9), "Gzip { level: 9 }");
    check("gzip", Some(12), "compression level 12 is not one of gzip");
    check("zstd", None, "Zstd { level: 3 }");
    check("zstd", Some(0), "compression level 0 is not one of zstd");
    check("none", None, "None");
    check("none", Some(1), "compression `none` has no levels");
    check("lzma", None, "unknown compression `lzma`");
}

/// Counts what is still on its way, at each write.
struct Behind<'a> {
    produced: &'a AtomicUsize,
    /// Of the input, by the size of what it was packed to.
    written: usize,
    most: usize,
}

impl Write for Behind<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.most = self.most.max(self.produced.load(Ordering::Relaxed) - self.written);
        self.written += 1;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whoever makes the tar waits for those who pack it, on any number of cores.
#[test]
fn what_waits_to_be_written_is_bounded() {
    const BLOCKS: usize = 100;
    let mut block = sample();
    block.truncate(1 << 20);
    for cores in [1, 2, 64] {
        let produced = AtomicUsize::new(0);
        let out = Behind { produced: &produced, written: 0, most: 0 };
        let compression = Compression::Gzip { level: 9 };
        let (out, _) = compress_layer(compression, &Workers::new(cores), out, |out| {
            for _ in 0..BLOCKS {
                out.write_all(&block).unwrap();
                produced.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(out.written, BLOCKS, "{cores}");
        assert!(out.most <= 16, "{cores}: {}", out.most);
    }
}
