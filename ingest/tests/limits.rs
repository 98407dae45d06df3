//! Memory and open files stay within what was asked, and the answer stays the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::process::Command;

use common::read::{self, RefRow};
use common::{Fabric, peak_of, run, small};
use pgtrace_capture::record::{ActivePage, Record};
use pgtrace_ingest::pipeline::Options;
use pgtrace_ingest::schema::Table;

const MIB: u64 = 1 << 20;

#[test]
fn memory_stays_under_the_cap() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, to) = (folder.path().join("raw"), folder.path().join("dataset"));
    // 2 million references would wait in 128 MB; the cap is 32 MiB.
    let n = 2_000_000;
    Fabric::random(1, 2, n, 40, 3).write(&raw);
    let cap = 32 * MIB;
    let peak = peak_of(
        Command::new(env!("CARGO_BIN_EXE_pgtrace-ingest"))
            .arg(&raw)
            .arg("--to")
            .arg(&to)
            .args(["--memory", "32MiB", "--threads", "2"]),
    );
    assert!(n * 64 > 3 * cap, "the input is far over the cap");
    // Without a cap it is 140 MiB. The program itself, code and all, takes about 20.
    assert!(peak < cap + 48 * MIB, "peak {} MiB", peak / MIB);
    assert_eq!(read::manifest(&to).rows(Table::Refs), n);
}

#[test]
fn many_marks_do_not_pile_up() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, to) = (folder.path().join("raw"), folder.path().join("dataset"));
    let mut fabric = Fabric::random(2, 2, 1000, 4, 3);
    let n = 1_000_000;
    for i in 0..n {
        let mark = Record::Active(ActivePage {
            stamp: common::stamp(0, 0, 200_000 + i * 10),
            tgid: 100 + (i % 4) as u32,
            object: 1,
            addr: i << 12,
            page: i,
            page_order: 0,
            since_ns: i * 10,
            dirtied: i % 3 == 0,
            rereferenced: i % 5 == 0,
            gone: false,
        });
        fabric.cpus[(i % 2) as usize].push_to_refs(mark);
    }
    fabric.write(&raw);
    drop(fabric);
    let peak = peak_of(
        Command::new(env!("CARGO_BIN_EXE_pgtrace-ingest"))
            .arg(&raw)
            .arg("--to")
            .arg(&to)
            .args(["--memory", "32MiB", "--threads", "2"]),
    );
    // As records they would take 160 MB.
    assert!(size_of::<Record>() as u64 * n > 4 * 32 * MIB);
    assert!(peak < 80 * MIB, "peak {} MiB", peak / MIB);
    let marks = read::table(&to, Table::Marks);
    assert_eq!(
        marks.iter().map(|b| b.num_rows() as u64).sum::<u64>(),
        n + 4
    );
    let times = marks
        .iter()
        .flat_map(|b| (0..b.num_rows()).map(|i| read::time(b, "ts", i).unwrap()));
    assert!(times.is_sorted());
}

#[test]
fn waiting_rows_stay_within_half_the_cap() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("raw");
    // One process with nearly all rows, and many with a few.
    Fabric::random(1, 2, 300_000, 200, 4).write(&raw);
    let ingest = |name: &str, memory| {
        let to = folder.path().join(name);
        let options = Options { memory, ..small() };
        let report = run(std::slice::from_ref(&raw), &to, &options).unwrap();
        (report.peak_bytes, to)
    };
    let (low, small_to) = ingest("small", 24 * MIB);
    let (high, large_to) = ingest("large", 1024 * MIB);
    assert!(low <= 12 * MIB, "{low}");
    assert!(
        high > 2 * low,
        "the limit made the difference: {low}, {high}"
    );
    assert_same(&small_to, &large_to);
}

#[test]
fn few_open_files_give_the_same_rows_in_more_files() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("raw");
    // So little memory that partitions are written out again and again.
    Fabric::random(1, 2, 250_000, 60, 5).write(&raw);
    let ingest = |name: &str, max_open_files| {
        let to = folder.path().join(name);
        let options = Options {
            max_open_files,
            memory: 24 * MIB,
            ..small()
        };
        run(std::slice::from_ref(&raw), &to, &options).unwrap();
        to
    };
    let few = ingest("few", 2);
    let many = ingest("many", 1024);
    let files = |to: &Path| read::manifest(to).files(Table::Refs).len();
    assert!(
        files(&few) > files(&many),
        "{} > {}",
        files(&few),
        files(&many)
    );
    assert_same(&few, &many);
}

#[test]
fn the_systems_own_limit_is_respected() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, to) = (folder.path().join("raw"), folder.path().join("dataset"));
    Fabric::random(1, 2, 250_000, 150, 6).write(&raw);
    let out = Command::new("bash")
        .args(["-c", "ulimit -n 64; exec \"$@\"", "bash"])
        .arg(env!("CARGO_BIN_EXE_pgtrace-ingest"))
        .arg(&raw)
        .arg("--to")
        .arg(&to)
        .args(["--memory", "24MiB", "--threads", "2"])
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    assert_eq!(read::manifest(&to).rows(Table::Refs), 250_000);
}

fn assert_same(one: &Path, other: &Path) {
    let (one, other): (Vec<RefRow>, Vec<RefRow>) = (read::refs(one), read::refs(other));
    assert!(one == other, "{} and {} rows", one.len(), other.len());
}
