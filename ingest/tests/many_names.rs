//! Names many times larger than the memory allowed: it is kept, and the tables are those of a run that has enough.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Fabric, Random, peak_of, read, run, stamp};
use pgtrace_capture::chunk::{BlockKind, ChunkWriter, file_name};
use pgtrace_capture::record::{Mapping, Policy, PolicyChange, Record};
use pgtrace_capture::wire::encode;
use pgtrace_ingest::pipeline::Options;
use pgtrace_ingest::schema::Table;

const MIB: u64 = 1 << 20;
/// `--memory` of the runs that are measured.
const CAP: u64 = 32 * MIB;
/// The program itself, code and all, as in `limits.rs`.
const BESIDES: u64 = 48 * MIB;
const MAPPINGS: u64 = 450_000;
const MARKS: u64 = 22_500;

/// Two chunks a CPU: half of the references and names in each, and copies of the names of the first half, from all CPUs,
/// at the begin of the second.
fn recording(folder: &Path) -> Vec<PathBuf> {
    let mut fabric = Fabric::random(1, 2, 4_000, 5, 3);
    let mut dice = Random(7);
    for i in 0..MAPPINGS {
        let start = 0x1000_0000_0000 + (i << 14);
        // Not in order of time: a CPU's clock may step back, and the other's be behind.
        let time_ns = 1_000 + i * 2 + dice.below(1_000);
        fabric.cpus[dice.below(2) as usize].push_name(Record::Mapping(Mapping {
            stamp: stamp(0, 0, time_ns),
            tgid: 100 + dice.below(7) as u32,
            object: 1 + dice.below(9) as u32,
            start,
            end: start + 4096,
            page: i,
            read: true,
            write: i % 3 == 0,
            exec: false,
            shared: i % 5 == 0,
        }));
        if i % (MAPPINGS / MARKS) == 0 {
            fabric.cpus[dice.below(2) as usize].push_name(Record::Policy(PolicyChange {
                stamp: stamp(0, 0, time_ns),
                policy: Policy::Fifo,
                grain: 0,
                overwrite: false,
                clean_ms: 0,
                fifo: i as u32,
            }));
        }
    }
    std::fs::create_dir_all(folder).unwrap();
    let half = |records: &[Record], index: usize| {
        let middle = records.len() / 2;
        if index == 0 {
            records[..middle].to_vec()
        } else {
            records[middle..].to_vec()
        }
    };
    let mut paths = Vec::new();
    for index in 0..2 {
        for cpu in &fabric.cpus {
            let path = folder.join(file_name(cpu.cpu, index as u32));
            let header = fabric.header(cpu.cpu, index as u32);
            let mut writer = ChunkWriter::create(&path, &header).unwrap();
            let mut write = |kind, records: &[Record]| {
                for few in records.chunks(1_000) {
                    let mut bytes = Vec::new();
                    few.iter().for_each(|r| encode(r, &mut bytes));
                    writer.block(kind, &bytes).unwrap();
                }
            };
            if index == 1 {
                for other in &fabric.cpus {
                    write(BlockKind::Repeated, &half(&other.names, 0));
                }
            }
            write(BlockKind::Names, &half(&cpu.names, index));
            write(BlockKind::Refs, &half(&cpu.refs, index));
            if index == 1 {
                let totals = fabric.totals_json();
                writer.block(BlockKind::Totals, &totals).unwrap();
            }
            writer.finish().unwrap();
            paths.push(path);
        }
    }
    paths
}

/// Runs the program with little memory; gives its peak.
fn ingest(chunks: &[PathBuf], to: &Path) -> u64 {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgtrace-ingest"));
    command.args(chunks).arg("--to").arg(to);
    peak_of(command.args(["--memory", "32MiB", "--threads", "2"]))
}

#[test]
fn names_far_over_the_cap_are_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    let chunks = recording(&folder.path().join("raw"));
    assert!(size_of::<Record>() as u64 * MAPPINGS > 2 * CAP);
    let (roomy, tight, later) = ["roomy", "tight", "later"]
        .map(|name| folder.path().join(name))
        .into();
    run(&chunks, &roomy, &Options::default()).unwrap();
    assert_eq!(read::manifest(&roomy).rows(Table::Mappings), MAPPINGS);
    assert!(read::manifest(&roomy).rows(Table::Marks) >= MARKS);

    let check = |what: &str, peak: u64, to: &Path| {
        println!("{what}: peak {} MiB", peak / MIB);
        assert!(peak < CAP + BESIDES, "{what}: peak {} MiB", peak / MIB);
        assert!(read::refs(to) == read::refs(&roomy), "{what}");
        for table in Table::ALL {
            let (found, wanted) = (read::table(to, table), read::table(&roomy, table));
            let same = found == wanted;
            match table {
                Table::Refs => {}
                // Those of a later run are in a file of their own.
                Table::Marks if !same => {
                    let sorted = |of| {
                        let mut rows = read::texts(of, table);
                        rows.sort();
                        rows
                    };
                    assert!(sorted(to) == sorted(&roomy), "{what}: {table}");
                }
                _ => assert!(same, "{what}: {table}"),
            }
        }
    };
    check("at once", ingest(&chunks, &tight), &tight);
    assert!(read::table(&roomy, Table::Marks) == read::table(&tight, Table::Marks));
    let peak = ingest(&chunks[..2], &later).max(ingest(&chunks[2..], &later));
    check("in two runs", peak, &later);
    let left = std::fs::read_dir(&later).unwrap();
    let left = left.map(|e| e.unwrap().file_name().into_string().unwrap());
    let unknown = left.filter(|n| n != "_pgtrace" && Table::ALL.iter().all(|t| t.name() != n));
    assert_eq!(unknown.collect::<Vec<_>>(), [""; 0], "nothing is left");
}
