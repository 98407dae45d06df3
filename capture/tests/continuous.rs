#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
//! Recordings that keep only their newest part on disk, and those that end before the disk is full.

mod common;

use std::path::Path;
use std::process::Command;

use common::*;
use pgtrace_capture::chunk::BlockKind;
use pgtrace_capture::record::Record;

const SIGINT: i32 = 2;

/// Bytes of all chunks now.
fn total(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).unwrap();
    files
        .map(|f| f.unwrap())
        .filter(|f| f.path().extension().is_some_and(|e| e == "pgt"))
        // A chunk may be deleted between the two calls.
        .map(|f| f.metadata().map_or(0, |m| m.len()))
        .sum()
}

fn seqs(records: &[Record]) -> Vec<u64> {
    records.iter().map(|r| r.stamp().seq).collect()
}

#[test]
fn the_newest_bytes_are_kept_and_read_with_all_names() {
    const LIMIT: u64 = 1 << 20;
    let fake = Fake::new(2);
    let recorder = fake.record(&["--pid", "42", "--keep-last", "1MiB"]);
    fake.wait_for("start");
    fake.status("recording", 1, "");
    fake.emit("names0", &[object(0, 0, 1, "/a")]);
    // The oldest of all, on a CPU that then rests: they go first.
    fake.emit("refs0", &refs(0, 0, 2500));
    let oldest = fake.out().join("cpu000-000000.pgt");
    wait_until("the end of cpu 0's first chunk", || {
        oldest.exists() && Chunk::read(&oldest).damage.is_empty()
    });
    let mut made = 0;
    for round in 1..=24 {
        fake.emit("refs1", &refs(1, made, made + 2500));
        made += 2500;
        let next = fake.out().join(format!("cpu001-{round:06}.pgt"));
        wait_until("a rotation", || next.exists());
        let total = total(&fake.out());
        assert!(total <= LIMIT, "{total} bytes in round {round}");
    }
    recorder.signal(SIGINT);
    let (code, text) = recorder.end();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("older chunks ("), "{text}");
    assert!(total(&fake.out()) <= LIMIT);

    let chunks = fake.chunks();
    assert!(!oldest.exists());
    assert!(!fake.out().join("cpu001-000000.pgt").exists());
    // About as much is kept as was allowed, and it is the end of what there was.
    let kept = seqs(&decoded(&fake.stored(BlockKind::Refs, 1)));
    assert!(kept.len() as u64 * 64 > LIMIT / 2, "{}", kept.len());
    assert_eq!(kept, (made - kept.len() as u64..made).collect::<Vec<_>>());
    for chunk in &chunks {
        assert_eq!(chunk.damage, [] as [&str; 0], "{}", chunk.name);
        let repeated = chunk.records(BlockKind::Repeated);
        assert_eq!(repeated, [object(0, 0, 1, "/a")], "{}", chunk.name);
        assert_eq!(chunk.header.settings.keep_last, "1MiB");
        assert_eq!(chunk.header.settings.rotate_bytes, LIMIT / 8);
    }
    for cpu in 0..2 {
        let last = chunks.iter().rfind(|c| c.header.cpu == cpu).unwrap();
        assert!(last.totals().unwrap().complete);
    }
}

#[test]
fn what_has_become_too_old_is_deleted() {
    let fake = Fake::new(1);
    let recorder = fake.record(&["--pid", "42", "--keep-last", "800ms"]);
    fake.wait_for("start");
    fake.status("recording", 1, "");
    fake.emit("names0", &[object(0, 0, 1, "/a")]);
    let mut seq = 0;
    assert!(fake.out().join("cpu000-000000.pgt").exists());
    wait_until("the first chunk to go", || {
        fake.emit("refs0", &refs(0, seq, seq + 5));
        seq += 5;
        std::thread::sleep(std::time::Duration::from_millis(50));
        seq > 5 && !fake.out().join("cpu000-000000.pgt").exists()
    });
    recorder.signal(SIGINT);
    let (code, text) = recorder.end();
    assert_eq!(code, 0, "{text}");
    let kept = seqs(&decoded(&fake.stored(BlockKind::Refs, 0)));
    assert!(!kept.is_empty() && kept[0] > 0, "{kept:?}");
    assert_eq!(kept, (kept[0]..seq).collect::<Vec<_>>());
    for chunk in fake.chunks() {
        let repeated = chunk.records(BlockKind::Repeated);
        assert!(repeated.contains(&object(0, 0, 1, "/a")), "{}", chunk.name);
        assert_eq!(chunk.header.settings.keep_last, "800ms");
    }
}

#[test]
fn too_little_to_keep_is_refused() {
    let fake = Fake::new(2);
    let recorder = fake.record(&["--pid", "42", "--keep-last", "100KiB"]);
    let (code, text) = recorder.end();
    assert_eq!(code, 2, "{text}");
    assert!(
        text.contains("--keep-last: expected at least 5") && text.contains("for 2 CPUs"),
        "{text}"
    );
    assert!(!fake.out().exists());
}

/// Bytes free on the file system of `dir`.
fn free(dir: &Path) -> u64 {
    let args = ["--output=avail", "-B1"];
    let output = Command::new("df").args(args).arg(dir).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().nth(1).unwrap().trim().parse().unwrap()
}

#[test]
fn it_ends_in_order_before_the_disk_is_full() {
    const ROOM: u64 = 8 << 20;
    // Memory: few others write there.
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let out = dir.path().join("raw");
    let limit = free(dir.path()) - ROOM;
    let fake = Fake::new(1);
    let mut recorder = fake.record_to(&out, &["--pid", "42", "--min-free", &format!("{limit}B")]);
    fake.wait_for("start");
    fake.status("recording", 1, "");
    let mut made = 0;
    while recorder.is_running() && made < 600_000 {
        fake.emit("refs0", &refs(0, made, made + 10_000));
        made += 10_000;
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(
        made < 600_000,
        "38 MB were written to a disk with 8 MB of room"
    );
    let (code, text) = recorder.end();
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("warning: the disk of ")
            && text.contains("(--min-free): the recording was ended in order"),
        "{text}"
    );
    assert_eq!(fake.commands().last().unwrap(), "stop");
    let chunk = Chunk::read(&out.join("cpu000-000000.pgt"));
    assert_eq!(chunk.damage, [] as [&str; 0]);
    assert_eq!(chunk.totals().unwrap().ended_by, "disk");
    // All that was drained is there.
    let kept = chunk.records(BlockKind::Refs).len() as u64;
    assert_eq!(chunk.records(BlockKind::Refs), refs(0, 0, kept));
    assert!(kept * 64 > ROOM / 2, "{kept}");
}

#[test]
fn a_disk_without_room_is_told_before_anything_is_recorded() {
    let fake = Fake::new(1);
    let (code, text) = fake.record(&["--pid", "42", "--min-free", "8000TiB"]).end();
    assert_eq!(code, 2, "{text}");
    assert!(
        text.contains("left of") && text.contains("make room, or give another --output"),
        "{text}"
    );
    assert!(!fake.out().exists());
    assert_eq!(fake.commands(), [] as [&str; 0]);
}
