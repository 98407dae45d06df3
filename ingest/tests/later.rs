//! A recording that comes chunk by chunk, in any order and in several runs, is the recording that comes at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};

use common::read::{self, everything};
use common::{Fabric, Random, run, small};
use pgtrace_capture::record::{ActivePage, Clock, Record};
use pgtrace_ingest::pipeline::Options;
use pgtrace_ingest::schema::Table;

fn sets_back(seed: u64) -> bool {
    seed % 7 == 5
}

/// A recording of many small chunks, with marks, losses, names that come late and a clock that is set in between.
fn recording(folder: &Path, id: u128, cpus: u16, n: u64, seed: u64) -> Vec<PathBuf> {
    let mut fabric = Fabric::random(id, cpus, n, 7, seed);
    fabric.block = 40;
    fabric.chunk = 3;
    let mut dice = Random(seed);
    for cpu in &mut fabric.cpus {
        let refs = std::mem::take(&mut cpu.refs);
        cpu.next_ref = 0;
        for (i, record) in refs.into_iter().enumerate() {
            let time_ns = record.stamp().time_ns;
            match record {
                Record::Ref(r) => cpu.push_ref(r),
                other => cpu.push_to_refs(other),
            }
            match dice.below(60) {
                0 => cpu.lose(1 + dice.below(5), time_ns, time_ns + 1),
                1 => cpu.skip(1 + dice.below(3)),
                2 | 3 => cpu.push_to_refs(Record::Active(ActivePage {
                    stamp: common::stamp(0, 0, time_ns),
                    tgid: 100 + (i % 7) as u32,
                    object: 1,
                    addr: 0x1000,
                    page: i as u64,
                    page_order: 0,
                    since_ns: time_ns / 2,
                    dirtied: true,
                    rereferenced: false,
                    gone: false,
                })),
                4 => cpu.push_name(Record::Process(common::process(
                    time_ns,
                    100 + dice.below(7) as u32,
                    5,
                    &format!("late{}", dice.below(100)),
                ))),
                5 => cpu.push_name(Record::Object(common::file_object(
                    time_ns,
                    1 + dice.below(12) as u32,
                    &format!("/late/{}", dice.below(50)),
                ))),
                6 => cpu.push_name(Record::Clock(Clock {
                    stamp: common::stamp(0, 0, time_ns),
                    monotonic_ns: time_ns,
                    // The wall clock is set: forward, or with every seventh seed back, too.
                    realtime_ns: 1_700_000_000_000_000_000
                        + time_ns
                        + if sets_back(seed) {
                            dice.below(10_000)
                        } else {
                            time_ns / 7
                        },
                    boottime_ns: time_ns,
                })),
                _ => {}
            }
        }
    }
    fabric.write(folder)
}

fn shuffled<T>(mut items: Vec<T>, dice: &mut Random) -> Vec<T> {
    for i in (1..items.len()).rev() {
        items.swap(i, dice.below(i as u64 + 1) as usize);
    }
    items
}

fn compare(at_once: &Path, bit_by_bit: &Path, seed: u64, what: &str) {
    let (mut one, mut other) = (everything(at_once), everything(bit_by_bit));
    if sets_back(seed) {
        // One time of a wall clock may be two moments then, and a mark has no number that tells them apart.
        for rows in [&mut one.1, &mut other.1] {
            rows.retain(|row| !row.starts_with("marks: "));
        }
    }
    assert_eq!(one.0.len(), other.0.len(), "{what}");
    for (a, b) in one.0.iter().zip(&other.0) {
        assert_eq!(a, b, "{what}");
    }
    for (a, b) in one.1.iter().zip(&other.1) {
        assert_eq!(a, b, "{what}");
    }
    assert_eq!(one.1.len(), other.1.len(), "{what}");
}

#[test]
fn chunks_in_any_order_and_number_of_runs_are_one_run() {
    for seed in 0..12 {
        let folder = tempfile::tempdir().unwrap();
        let mut dice = Random(seed + 100);
        let cpus = 1 + dice.below(4) as u16;
        let chunks = recording(&folder.path().join("raw"), 9, cpus, 1_500, seed);
        let options = || Options {
            slice_rows: Some(200 + seed * 50),
            ..small()
        };
        let at_once = folder.path().join("once");
        run(&chunks, &at_once, &options()).unwrap();
        // In order of time, as they are recorded; or in any order.
        let mut order = chunks.clone();
        order.sort_by_key(|p| std::fs::read(p).unwrap()[64..72].to_vec());
        if seed % 3 != 0 {
            order = shuffled(order, &mut dice);
        }
        let to = folder.path().join("later");
        let mut left = order.as_slice();
        while !left.is_empty() {
            let n = (1 + dice.below(4) as usize).min(left.len());
            run(&left[..n], &to, &options()).unwrap();
            left = &left[n..];
        }
        compare(
            &at_once,
            &to,
            seed,
            &format!("seed {seed}, {} chunks", chunks.len()),
        );
        // Once more, all of them: nothing is new.
        let version = read::manifest(&to).version;
        let again = run(&chunks, &to, &options()).unwrap();
        assert_eq!(again.already, chunks.len() as u64);
        assert_eq!(read::manifest(&to).version, version);
    }
}

#[test]
fn a_chunk_that_has_grown_replaces_what_it_was() {
    for seed in 0..6 {
        let folder = tempfile::tempdir().unwrap();
        let chunks = recording(&folder.path().join("raw"), 9, 2, 800, seed);
        let at_once = folder.path().join("once");
        run(&chunks, &at_once, &small()).unwrap();
        let to = folder.path().join("grown");
        let mut dice = Random(seed);
        let young = folder.path().join("young");
        std::fs::create_dir(&young).unwrap();
        for part in [1, 2, 3] {
            // Each as far as it was written by then.
            let cut: Vec<PathBuf> = chunks
                .iter()
                .map(|chunk| {
                    let bytes = std::fs::read(chunk).unwrap();
                    let to = young.join(chunk.file_name().unwrap());
                    let end = 1024 + (bytes.len() - 1024) * part / 4 + dice.below(7) as usize;
                    std::fs::write(&to, &bytes[..end.min(bytes.len())]).unwrap();
                    to
                })
                .collect();
            run(&cut, &to, &small()).unwrap();
        }
        run(&chunks, &to, &small()).unwrap();
        compare(&at_once, &to, seed, &format!("seed {seed}"));
    }
}

#[test]
fn slices_before_what_is_new_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut fabric = Fabric::random(9, 1, 4_000, 3, 1);
    fabric.block = 100;
    fabric.chunk = 2;
    let chunks = fabric.write(&folder.path().join("raw"));
    let options = Options {
        slice_rows: Some(500),
        ..small()
    };
    let to = folder.path().join("dataset");
    let (first, last) = chunks.split_at(chunks.len() - 2);
    run(first, &to, &options).unwrap();
    let before = read::manifest(&to);
    run(last, &to, &options).unwrap();
    let after = read::manifest(&to);
    let kept = before
        .files(Table::Refs)
        .iter()
        .filter(|f| after.files(Table::Refs).contains(f));
    assert!(
        kept.count() * 2 > before.files(Table::Refs).len(),
        "most files stay"
    );
    assert!(
        !after.retired.is_empty(),
        "what was replaced is there for those who read it"
    );
    for file in &after.retired {
        assert!(to.join(&file.path).exists(), "{}", file.path);
    }
    assert_eq!(read::refs(&to).len(), 4_000);
}
