//! Damaged chunks: what is whole arrives, what is not is counted to the last record.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use common::{Fabric, Random, page_ref, read, run, small};
use pgtrace_capture::chunk::{BlockKind, ChunkReader, ChunkWriter, Step, file_name};
use pgtrace_capture::record::{Channel, Lost, LostCause, Record};
use pgtrace_capture::wire::{ByteOrder, Item, decode};
use pgtrace_ingest::error::IngestError;

/// What identifies a reference through all of this.
type Mark = (u16, u64);

/// A block of a whole chunk.
struct Block {
    kind: BlockKind,
    /// Where it lies.
    range: std::ops::Range<u64>,
    /// The references in it.
    marks: Vec<Mark>,
    /// The LOST records in it.
    lost_records: u64,
}

fn blocks(path: &Path) -> Vec<Block> {
    let mut reader = ChunkReader::open(path).unwrap();
    let mut payload = Vec::new();
    let mut blocks = Vec::new();
    while let Some(step) = reader.next_block(&mut payload).unwrap() {
        let Step::Block { kind, offset } = step else {
            panic!("{step:?}");
        };
        let end = offset + payload.len().next_multiple_of(8) as u64;
        let (mut marks, mut lost_records) = (Vec::new(), 0);
        if kind == BlockKind::Refs {
            for item in decode(&payload, ByteOrder::NATIVE) {
                match item.unwrap() {
                    Item::Record(Record::Ref(r)) => marks.push((r.stamp.cpu, r.page)),
                    _ => lost_records += 1,
                }
            }
        }
        // 24 bytes of block header stand before the payload.
        let range = offset - 24..end;
        blocks.push(Block {
            kind,
            range,
            marks,
            lost_records,
        });
    }
    blocks
}

/// Two CPUs, several chunks; every reference has a page of its own.
fn fabric() -> Fabric {
    let mut fabric = Fabric::new(0xda, 2);
    fabric.block = 10;
    fabric.chunk = 6;
    for cpu in 0..2usize {
        for i in 0..250u64 {
            let mut r = page_ref(10_000 + i * 100 + cpu as u64, 20, 1, i);
            r.tid = 21;
            fabric.cpus[cpu].push_ref(r);
            if i % 90 == 80 {
                fabric.cpus[cpu].lose(7, 10_000 + i * 100, 10_000 + i * 100 + 50);
            }
        }
        let name = Record::Process(common::process(9_000, 20, 5_000, "worker"));
        fabric.cpus[cpu].push_name(name);
    }
    fabric
}

fn found(to: &Path) -> BTreeSet<Mark> {
    let rows = read::refs(to);
    let marks: BTreeSet<Mark> = rows.iter().map(|r| (r.cpu, r.page)).collect();
    assert_eq!(marks.len(), rows.len(), "no reference twice");
    assert!(
        rows.iter().enumerate().all(|(i, r)| r.seq == i as u64),
        "dense seq"
    );
    marks
}

/// Damages one chunk by `harm` and checks the whole account.
fn trial(chunk: usize, harm: impl Fn(&mut Vec<u8>) -> std::ops::Range<u64>) {
    let folder = tempfile::tempdir().unwrap();
    let (raw, to) = (folder.path().join("raw"), folder.path().join("dataset"));
    let fabric = fabric();
    let paths = fabric.write(&raw);
    let victim = &paths[chunk % paths.len()];
    let whole: Vec<(PathBuf, _)> = paths.iter().map(|p| (p.clone(), blocks(p))).collect();
    let mut bytes = std::fs::read(victim).unwrap();
    let before = bytes.clone();
    let hurt = harm(&mut bytes);
    std::fs::write(victim, &bytes).unwrap();
    let what = format!("{} bytes {hurt:?}", victim.display());

    let report = match run(std::slice::from_ref(&raw), &to, &small()) {
        Ok(report) => report,
        Err(e) => {
            // Only a damaged header makes a chunk unusable, and then nothing is there.
            let first = blocks(&paths[(chunk + 1) % paths.len()])[0].range.start;
            assert!(matches!(e, IngestError::Chunk(_)), "{what}: {e}");
            assert!(hurt.start < first, "{what}: {e}");
            assert!(!to.exists(), "{what}");
            return;
        }
    };
    let rows = found(&to);
    let mut must = BTreeSet::new();
    let mut all = BTreeSet::new();
    let mut told_gone = 0;
    for (path, blocks) in &whole {
        for block in blocks {
            all.extend(block.marks.iter().copied());
            let (range, here) = (&block.range, path == victim);
            if !(here && range.start < hurt.end && hurt.start < range.end) {
                must.extend(block.marks.iter().copied());
            }
            // A LOST record that is gone itself cannot be told from a lost reference.
            if !block.marks.iter().all(|m| rows.contains(m)) {
                told_gone += block.lost_records;
            }
        }
    }
    assert!(rows.is_superset(&must), "{what}: whole blocks arrive");
    assert!(rows.is_subset(&all), "{what}: nothing is made up");
    let lost = read::lost_refs(&to);
    let emitted = fabric.emitted() + told_gone;
    assert_eq!(rows.len() as u64 + lost, emitted, "{what}: accounted");
    assert_eq!(report.captures[0].emitted, Some(emitted), "{what}");
    if rows.len() < all.len() {
        let causes: Vec<String> = read::losses(&to).into_iter().map(|l| l.2).collect();
        assert!(
            causes.iter().any(|c| c == "corrupt" || c == "truncated"),
            "{what}: {causes:?}"
        );
    }
    // Damage that was seen is never kept quiet.
    if bytes != before && rows.len() < all.len() {
        assert!(report.has_losses(), "{what}");
    }
}

#[test]
fn flipped_bytes() {
    let mut random = Random(2005);
    for _ in 0..60 {
        let (chunk, place, bit) = (random.below(64), random.next(), random.below(8));
        trial(chunk as usize, |bytes| {
            let at = place % bytes.len() as u64;
            bytes[at as usize] ^= 1 << bit;
            at..at + 1
        });
    }
}

#[test]
fn runs_of_garbage() {
    let mut random = Random(7);
    for _ in 0..25 {
        let (chunk, place, len) = (random.below(64), random.next(), 1 + random.below(1500));
        let seed = random.next();
        trial(chunk as usize, |bytes| {
            let mut garbage = Random(seed);
            let at = place % bytes.len() as u64;
            let end = (at + len).min(bytes.len() as u64);
            for b in &mut bytes[at as usize..end as usize] {
                *b = garbage.next() as u8;
            }
            at..end
        });
    }
}

#[test]
fn cut_anywhere() {
    let mut random = Random(99);
    for _ in 0..25 {
        let (chunk, place) = (random.below(64), random.next());
        trial(chunk as usize, |bytes| {
            let at = place % bytes.len() as u64;
            let end = bytes.len() as u64;
            bytes.truncate(at as usize);
            at..end
        });
    }
}

#[test]
fn a_missing_chunk_is_missing_references() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, to) = (folder.path().join("raw"), folder.path().join("dataset"));
    let fabric = fabric();
    let paths = fabric.write(&raw);
    let sum = |of: fn(&Block) -> u64| blocks(&paths[1]).iter().map(of).sum::<u64>();
    let (gone, told_gone) = (sum(|b| b.marks.len() as u64), sum(|b| b.lost_records));
    std::fs::remove_file(&paths[1]).unwrap();
    run(&[raw], &to, &small()).unwrap();
    let accounted = found(&to).len() as u64 + read::lost_refs(&to);
    assert_eq!(accounted, fabric.emitted() + told_gone);
    let missing = read::losses(&to).into_iter().filter(|l| l.2 == "missing");
    assert!(
        missing
            .filter(|l| l.3 == "refs")
            .filter_map(|l| l.1)
            .sum::<u64>()
            >= gone
    );
    assert!(gone > 0);
}

#[test]
fn all_chunks_of_a_cpu_missing() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, to) = (folder.path().join("raw"), folder.path().join("dataset"));
    let fabric = fabric();
    for path in fabric.write(&raw) {
        if path
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("cpu001")
        {
            std::fs::remove_file(path).unwrap();
        }
    }
    run(&[raw], &to, &small()).unwrap();
    // A LOST record that is gone itself cannot be told from a lost reference.
    let lost_records = fabric.cpus[1].refs.len() as u64 - 250;
    assert_eq!(
        found(&to).len() as u64 + read::lost_refs(&to),
        fabric.emitted() + lost_records
    );
    assert!(
        read::losses(&to)
            .iter()
            .any(|l| l.0 == 1 && l.2 == "missing" && l.3 == "refs")
    );
}

#[test]
fn a_killed_recorder_leaves_a_truncated_trace_of_unknown_loss() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, to) = (folder.path().join("raw"), folder.path().join("dataset"));
    let mut fabric = fabric();
    fabric.totals = false;
    let paths = fabric.write(&raw);
    let last = paths.last().unwrap();
    let all = blocks(last);
    let cut = all.last().unwrap().range.start + 30;
    let bytes = std::fs::read(last).unwrap();
    std::fs::write(last, &bytes[..cut as usize]).unwrap();
    let report = run(&[raw], &to, &small()).unwrap();
    assert_eq!(report.captures[0].emitted, None);
    let losses = read::losses(&to);
    assert!(
        losses.contains(&(1, None, "truncated".into(), "refs".into())),
        "{losses:?}"
    );
}

#[test]
fn a_damaged_name_comes_back_from_its_copy() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, to) = (folder.path().join("raw"), folder.path().join("dataset"));
    let paths = fabric().write(&raw);
    let names = blocks(&paths[0])
        .into_iter()
        .find(|b| b.kind == BlockKind::Names)
        .unwrap();
    let mut bytes = std::fs::read(&paths[0]).unwrap();
    bytes[names.range.start as usize + 60] ^= 0xff;
    std::fs::write(&paths[0], bytes).unwrap();
    let report = run(&[raw], &to, &small()).unwrap();
    assert!(
        read::refs(&to)
            .iter()
            .all(|r| r.comm.as_deref() == Some("worker"))
    );
    // The damage is told, and that it cost nothing.
    let losses = read::losses(&to);
    let names: Vec<_> = losses.iter().filter(|l| l.3 == "names").collect();
    assert!(report.has_losses());
    assert_eq!(
        names.iter().filter_map(|l| l.1).sum::<u64>(),
        0,
        "{losses:?}"
    );
    assert!(names.iter().any(|l| l.2 == "corrupt"), "{losses:?}");
}

#[test]
fn losses_of_every_cause_reach_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, to) = (folder.path().join("raw"), folder.path().join("dataset"));
    std::fs::create_dir_all(&raw).unwrap();
    let mut fabric = Fabric::new(0xca, 1);
    let cpu = &mut fabric.cpus[0];
    for i in 0..5 {
        cpu.push_ref(page_ref(1000 + i, 1, 1, i));
    }
    cpu.lose(3, 1010, 1020);
    cpu.push_ref(page_ref(1030, 1, 1, 9));
    for (cause, count) in [(LostCause::ProbeMissed, 11), (LostCause::NoMemory, 13)] {
        cpu.push_name(Record::Lost(Lost {
            stamp: common::stamp(0, 0, 1040),
            count,
            first_seq: 0,
            first_ns: 1040,
            last_ns: 1040,
            channel: Channel::Refs,
            cause,
        }));
    }
    // refs stayed full until the end: 4 more are lost, told in the names channel.
    cpu.push_name(Record::Lost(Lost {
        stamp: common::stamp(0, 0, 1050),
        count: 4,
        first_seq: cpu.next_ref,
        first_ns: 1050,
        last_ns: 1051,
        channel: Channel::Refs,
        cause: LostCause::BufferFull,
    }));
    cpu.next_ref += 4;
    cpu.refs_lost += 4;
    let mut writer = ChunkWriter::create(raw.join(file_name(0, 0)), &fabric.header(0, 0)).unwrap();
    let mut bytes = Vec::new();
    fabric.cpus[0]
        .names
        .iter()
        .for_each(|r| pgtrace_capture::wire::encode(r, &mut bytes));
    writer.block(BlockKind::Names, &bytes).unwrap();
    let mut bytes = Vec::new();
    fabric.cpus[0]
        .refs
        .iter()
        .for_each(|r| pgtrace_capture::wire::encode(r, &mut bytes));
    // One reference becomes a kind nobody knows: byte 2 of its header.
    bytes[2 * 64 + 2] = 200;
    writer.block(BlockKind::Refs, &bytes).unwrap();
    writer
        .block(BlockKind::Totals, &fabric.totals_json())
        .unwrap();
    writer.finish().unwrap();

    run(&[raw], &to, &small()).unwrap();
    let mut losses = read::losses(&to);
    losses.sort_by(|a, b| (&a.2, a.1).cmp(&(&b.2, b.1)));
    let row = |count, cause: &str| (0u64, Some(count), cause.to_string(), "refs".to_string());
    assert_eq!(
        losses,
        [
            row(3, "buffer_full"),
            row(4, "buffer_full"),
            row(13, "no_memory"),
            row(11, "probe_missed"),
            row(1, "unknown_record"),
        ]
    );
    assert_eq!(read::refs(&to).len(), 5);
}
