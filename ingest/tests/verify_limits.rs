//! `verify` and `inspect` of much: memory stays within what was asked, whatever the input.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Fabric, peak_until_end, run, small, stamp};
use pgtrace_capture::record::{MapChange, MapOp, Record};

const MIB: u64 = 1 << 20;

/// Runs the program, its output counted and thrown away; gives its peak resident memory in bytes and its lines.
fn run_it(arguments: &[&str], raw: &Path) -> (u64, u64, Duration) {
    let started = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_pgtrace-ingest"))
        .args(arguments)
        .arg(raw)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let lines = std::thread::spawn(move || {
        let (mut lines, mut buffer) = (0_u64, vec![0; 1 << 16]);
        loop {
            match std::io::Read::read(&mut out, &mut buffer).unwrap() {
                0 => return lines,
                n => lines += buffer[..n].iter().filter(|&&b| b == b'\n').count() as u64,
            }
        }
    });
    let (peak, code) = peak_until_end(&mut child);
    let error = child.wait_with_output().unwrap().stderr;
    assert!(code.success(), "{}", String::from_utf8_lossy(&error));
    (peak, lines.join().unwrap(), started.elapsed())
}

#[test]
fn memory_stays_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, to) = (folder.path().join("raw"), folder.path().join("dataset"));
    let n = 1_200_000;
    let mut fabric = Fabric::random(1, 2, n, 40, 3);
    // Names repeated at each chunk's start, and a map record for every mapping that ever was.
    let maps = 300_000;
    for i in 0..maps {
        let start = 0x1000_0000_0000 + (i << 14);
        fabric.cpus[1].push_to_refs(Record::Map(MapChange {
            stamp: stamp(0, 0, 1000 * n + i),
            tgid: 100,
            tid: 100,
            object: 1,
            op: MapOp::Mmap,
            read: true,
            write: false,
            exec: false,
            shared: true,
            start,
            end: start + 4096,
            page: i,
            old_start: 0,
            old_end: 0,
        }));
    }
    fabric.write(&raw);
    drop(fabric);
    run(std::slice::from_ref(&raw), &to, &small()).unwrap();
    let verify = ["verify", "--memory", "16MiB", "--threads", "2"];
    // The references alone are 77 MB raw. The program itself takes about 20 MB.
    let (peak, lines, took) = run_it(&verify, &raw);
    println!("verify raw: {} MiB, {took:?}", peak / MIB);
    assert!(peak < 64 * MIB, "peak {} MiB", peak / MIB);
    assert!(lines > 6);
    let (peak, _, took) = run_it(&verify, &to);
    println!("verify dataset: {} MiB, {took:?}", peak / MIB);
    assert!(peak < 160 * MIB, "peak {} MiB", peak / MIB);
    let names = 40 + 5;
    for (options, wanted) in [
        (&["inspect", "--merge"][..], n + maps + names),
        (&["inspect", "--format", "ndjson", "--kind", "ref"], n),
        (&["inspect", "--kind", "process"], 40),
    ] {
        let (peak, lines, took) = run_it(options, &raw);
        println!("{options:?}: {} MiB, {took:?}", peak / MIB);
        assert!(peak < 64 * MIB, "{options:?}: peak {} MiB", peak / MIB);
        assert_eq!(lines, wanted, "{options:?}");
    }
}
