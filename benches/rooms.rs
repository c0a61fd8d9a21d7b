//! Micro-benchmarks: `cargo bench --bench rooms`. What is timed is in `work`.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a benchmark has no users")]
#![allow(clippy::wildcard_imports, reason = "the work is all of it")]

mod work;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use nativebuild::layers::compress::Workers;
use std::io;

const MEGABYTE: usize = 1 << 20;

fn main() {
    divan::main();
}

#[divan::bench(args = [1000, 10_000])]
fn walk(bencher: Bencher<'_, '_>, files: usize) {
    let top = tempfile::tempdir().expect("a temporary directory");
    work::make_tree(top.path(), files).expect("room for small files");
    bencher.counter(ItemsCount::new(files)).bench_local(|| work::walk(black_box(top.path())));
}

#[divan::bench(args = [1000, 10_000])]
fn lstat(bencher: Bencher<'_, '_>, files: usize) {
    let top = tempfile::tempdir().expect("a temporary directory");
    work::make_tree(top.path(), files).expect("room for small files");
    bencher.counter(ItemsCount::new(files)).bench_local(|| work::lstat(black_box(top.path())));
}

#[divan::bench(args = [0, 512, 65536])]
fn tar(bencher: Bencher<'_, '_>, size: usize) {
    let changes = work::changes(1000, size as u64);
    let data = work::data(65536);
    bencher
        .counter(ItemsCount::new(1000_usize))
        .bench_local(|| work::tar(black_box(&changes), &data, &mut io::sink()));
}

#[divan::bench(args = [1, 2])]
fn gzip(bencher: Bencher<'_, '_>, threads: usize) {
    let data = work::data(16 * MEGABYTE);
    let workers = Workers::new(threads);
    bencher
        .counter(BytesCount::new(data.len()))
        .bench_local(|| work::gzip(&workers, black_box(&data)));
}

#[divan::bench]
fn hash(bencher: Bencher<'_, '_>) {
    let data = work::data(16 * MEGABYTE);
    bencher.counter(BytesCount::new(data.len())).bench_local(|| work::hash(black_box(&data)));
}

#[divan::bench(args = [100, 1000])]
fn parse(bencher: Bencher<'_, '_>, steps: usize) {
    let text = work::text(steps);
    bencher.counter(ItemsCount::new(steps)).bench_local(|| work::parse(black_box(&text)));
}

#[divan::bench]
fn expansion(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(100_usize)).bench_local(|| work::expansion(black_box(100)));
}
