//! Real chunks, damaged at random places, thousands of times: what is whole arrives, the rest is lost and counted.
//!
//! What must come is read from the whole files by the layouts as they are written down (capture/src/chunk/mod.rs,
//! kmod/pgtrace_api.h), by none of the product's code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "damage_trials/harm.rs"]
mod harm;
#[path = "damage_trials/original.rs"]
mod original;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use common::Random;
use harm::Harm;
use original::{NAMES, Original, REFS, REPEATED, Reference};
use pgtrace_capture::chunk::ChunkReader;
use pgtrace_capture::record::Channel;
use pgtrace_ingest::merge::{Merge, Next};
use pgtrace_ingest::row::Row;
use pgtrace_ingest::source::{Chunk, Place, Recording, recordings};
use pgtrace_ingest::survey::survey;

/// Damaged files tried by each of two threads.
const TRIALS: u64 = 1000;

fn demo(cpu: u16) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/demo");
    PathBuf::from(folder).join(format!("cpu{cpu:03}-000000.pgt"))
}

/// The recording with one CPU's file put elsewhere. It is found by its header; what makes it the same is not asked.
fn recording(whole: &Recording, cpu: u16, path: PathBuf) -> Recording {
    let mut recording = whole.clone();
    let chunks = recording.cpus.get_mut(&cpu).unwrap();
    let header = chunks[0].header.clone();
    *chunks = vec![Chunk {
        place: Place::File(path),
        id: String::new(),
        bytes: 0,
        header,
    }];
    recording
}

/// All but the number in its channel, which a row does not have.
fn plain(r: &Row) -> ([u64; 4], [u32; 4]) {
    let ids = [r.tgid, r.tid, r.uid, r.object];
    ([r.time_ns, r.addr, r.ip, r.page], ids)
}

fn without_number((numbers, ids): &Reference) -> ([u64; 4], [u32; 4]) {
    let [_, rest @ ..] = *numbers;
    (rest, *ids)
}

#[test]
fn whole_blocks_arrive_and_the_rest_is_counted() {
    std::thread::scope(|scope| {
        let halves = [2005, 2026].map(|seed| scope.spawn(move || trials(seed)));
        for half in halves {
            half.join().unwrap();
        }
    });
}

fn trials(seed: u64) {
    let originals = [0, 1].map(|cpu| Original::read(cpu, &demo(cpu)));
    let places = vec![Place::File(demo(0)), Place::File(demo(1))];
    let whole = recordings(places, false).unwrap().recordings.remove(0);
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(seed);
    let (mut hurt, mut kinds) = (0, BTreeMap::new());
    for trial in 0..TRIALS {
        let cpu = random.below(2) as usize;
        let original = &originals[cpu];
        let harms = Harm::some(&mut random, original);
        for harm in &harms {
            *kinds.entry(harm.name()).or_insert(0) += 1;
        }
        let (bytes, gone) = harm::apply(&harms, original);
        let what = format!("seed {seed}, trial {trial}, CPU {cpu}: {harms:?}");
        hurt += gone.len();
        let path = folder.path().join(format!("{}.pgt", trial % 2));
        std::fs::write(&path, &bytes).unwrap();
        if bytes.get(..original.header) != original.bytes.get(..original.header) {
            assert!(ChunkReader::open(&path).is_err(), "{what}");
            continue;
        }
        let recording = recording(&whole, cpu as u16, path);

        let survey = survey(&recording, &|_| {}).unwrap();
        let chunks = recording.cpus[&(cpu as u16)].as_slice();
        let mut merge = Merge::new([(cpu as u16, chunks)].into_iter()).unwrap();
        let mut rows = Vec::new();
        while let Some(next) = merge.next_run().unwrap() {
            if let Next::Rows { rows: run, .. } = next {
                rows.extend(run.iter().map(plain));
            }
        }
        // One CPU's rows come by its own order, whatever its clock does.
        let blocks = || original.blocks.iter().enumerate();
        let wanted = blocks().filter(|(i, _)| !gone.contains(i));
        let wanted = wanted.flat_map(|(_, b)| b.references.iter().map(without_number));
        let wanted: Vec<_> = wanted.collect();
        assert!(rows == wanted, "{what}: {} of {}", rows.len(), wanted.len());
        assert_eq!(survey.fresh[&(cpu as u16)], rows.len() as u64, "{what}");

        let lost = |channel| {
            let of = survey.losses.iter().filter(move |l| l.channel == channel);
            of.map(|l| {
                l.count
                    .unwrap_or_else(|| panic!("the other CPU's totals tell how many"))
            })
        };
        let numbers = |kind: u16, kept: bool, of: &Original| -> BTreeSet<(u16, u64)> {
            let here = of.cpu == original.cpu;
            let blocks = of.blocks.iter().enumerate();
            let of_kind =
                blocks.filter(|(i, b)| b.kind == kind && (here && gone.contains(i)) != kept);
            of_kind
                .flat_map(|(_, b)| b.numbers.iter().copied())
                .collect()
        };
        let refs = numbers(REFS, false, original).len() as u64;
        assert_eq!(lost(Channel::Refs).sum::<u64>(), refs, "{what}");
        // A name is lost if no copy of it is left.
        let mut names = numbers(NAMES, false, original);
        for original in &originals {
            let copies = numbers(REPEATED, true, original);
            names.retain(|n| !copies.contains(n));
        }
        assert_eq!(
            lost(Channel::Names).sum::<u64>(),
            names.len() as u64,
            "{what}"
        );
        let causes: BTreeSet<&str> = survey.losses.iter().map(|l| l.cause).collect();
        let known = BTreeSet::from(["corrupt", "truncated"]);
        assert!(causes.is_subset(&known), "{what}: {causes:?}");
        assert_eq!(
            causes.is_empty(),
            bytes == original.bytes,
            "{what}: damage is told"
        );
    }
    println!("{TRIALS} trials, {hurt} blocks damaged, {kinds:?}");
    assert_eq!(kinds.len(), 6, "{kinds:?}");
}
