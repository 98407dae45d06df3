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
use pgtrace_capture::record::{Channel, PageRef};
use pgtrace_ingest::merge::{Happening, Merge};
use pgtrace_ingest::source::{Chunk, Recording, find};
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
        path,
        id: String::new(),
        bytes: 0,
        header,
    }];
    recording
}

fn plain(r: &PageRef) -> Reference {
    let ids = [r.tgid, r.tid, r.uid, r.object];
    let numbers = [r.stamp.seq, r.stamp.time_ns, r.addr, r.ip, r.page];
    (numbers, ids)
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
    let whole = find(&[demo(0), demo(1)], false)
        .unwrap()
        .recordings
        .remove(0);
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
        while let Some((_, happening)) = merge.next_one().unwrap() {
            if let Happening::Ref(r) = happening {
                rows.push(plain(&r));
            }
        }
        // One CPU's rows come by its own order, whatever its clock does.
        let blocks = || original.blocks.iter().enumerate();
        let wanted = blocks().filter(|(i, _)| !gone.contains(i));
        let wanted: Vec<Reference> = wanted.flat_map(|(_, b)| b.references.clone()).collect();
        assert!(rows == wanted, "{what}: {} of {}", rows.len(), wanted.len());
        assert_eq!(survey.rows[&(cpu as u16)], rows.len() as u64, "{what}");

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
