//! Damaged and malicious recordings much larger than the memory limit: it is kept, and the program ends in order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Fabric, Random, peak_until_end, read};
use pgtrace_capture::chunk::{BlockKind, ChunkWriter, file_name};
use pgtrace_capture::record::Record;
use pgtrace_ingest::schema::Table;

const MIB: u64 = 1 << 20;
/// `--memory` of all runs.
const CAP: u64 = 32 * MIB;
/// The program itself, code and all, and what the tables of names and losses need.
const BESIDES: u64 = 48 * MIB;

/// Ingests a folder of one large chunk; checks exit code 1 and the peak of resident memory. Gives rows and lost.
fn ingest(raw: &Path, to: &Path, what: &str) -> (u64, u64) {
    let bytes: u64 = std::fs::read_dir(raw)
        .unwrap()
        .map(|e| e.unwrap().metadata().unwrap().len())
        .sum();
    assert!(
        bytes > 2 * CAP,
        "{what}: {bytes} bytes are far over the cap"
    );
    let mut child = Command::new(env!("CARGO_BIN_EXE_pgtrace-ingest"))
        .arg(raw)
        .arg("--to")
        .arg(to)
        .args(["--memory", "32MiB", "--threads", "2"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (peak, _) = peak_until_end(&mut child);
    let out = child.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{what}: {words}");
    println!("{what}: {} MiB, peak {} MiB", bytes / MIB, peak / MIB);
    assert!(peak < CAP + BESIDES, "{what}: peak {} MiB", peak / MIB);
    let sum = (read::manifest(to).rows(Table::Refs), read::lost_refs(to));
    std::fs::remove_dir_all(to).unwrap();
    sum
}

#[test]
fn most_blocks_are_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, to) = (folder.path().join("raw"), folder.path().join("dataset"));
    let fabric = Fabric::random(1, 1, 12_000, 8, 3);
    std::fs::create_dir_all(&raw).unwrap();
    let path = raw.join(file_name(0, 0));
    let mut writer = ChunkWriter::create(&path, &fabric.header(0, 0)).unwrap();
    let mut bytes = Vec::new();
    let mut blocks = Vec::new();
    // 1.2 million references in blocks of 6000.
    for again in 0..100 {
        for few in fabric.cpus[0].refs.chunks(6000) {
            bytes.clear();
            for record in few {
                let Record::Ref(mut r) = record.clone() else {
                    continue;
                };
                r.stamp.seq += again * 12_000;
                r.stamp.time_ns += again * 2_000_000;
                pgtrace_capture::wire::encode(&Record::Ref(r), &mut bytes);
            }
            blocks.push(writer.bytes() as usize);
            writer.block(BlockKind::Refs, &bytes).unwrap();
        }
    }
    writer.finish().unwrap();
    let mut whole = std::fs::read(&path).unwrap();
    let mut random = Random(4);
    for run in 0..6 {
        let mut flipped = Vec::new();
        let mut gone = 0;
        for (i, at) in blocks.iter().enumerate() {
            // The first and the last one stay: between them all is counted.
            if i > 0 && i + 1 < blocks.len() && random.below(12) > 0 {
                flipped.push(at + random.below(24 + 6000 * 64) as usize);
                gone += 6000;
            }
        }
        flipped.iter().for_each(|&at| whole[at] ^= 1);
        std::fs::write(&path, &whole).unwrap();
        flipped.iter().for_each(|&at| whole[at] ^= 1);
        let (rows, lost) = ingest(
            &raw,
            &to,
            &format!("{} blocks gone, run {run}", flipped.len()),
        );
        assert_eq!((rows, lost), (1_200_000 - gone, gone));
    }
}

/// A good header and one good block, then `piece` again and again.
fn made_of(name: &str, piece: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let (raw, to) = (folder.path().join("raw"), folder.path().join("dataset"));
    let paths = Fabric::random(1, 1, 100, 1, 3).write(&raw);
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(&paths[0])
        .unwrap();
    // Its End block is no end any more.
    let len = file.metadata().unwrap().len();
    file.set_len(len - 8).unwrap();
    let many = piece.repeat(MIB as usize / piece.len());
    for _ in 0..70 {
        file.write_all(&many).unwrap();
    }
    drop(file);
    assert_eq!(ingest(&raw, &to, name), (100, 0));
}

fn head(len: u32, index: u32) -> Vec<u8> {
    let numbers = [1u32, len, index, 0x1234_5678, 0];
    [b"PGB\x01".to_vec(), numbers.map(u32::to_le_bytes).concat()].concat()
}

#[test]
fn nothing_but_the_begin_of_blocks() {
    made_of("magics", b"PGB\x01");
    made_of("empty blocks of a wrong sum", &head(0, 9));
    made_of("blocks that claim 16 MiB", &head(16 << 20, 9));
    made_of("blocks that claim 4 GiB", &head(u32::MAX, 9));
    let mut random = Random(5);
    let garbage: Vec<u8> = (0..MIB).map(|_| random.next() as u8).collect();
    made_of("garbage", &garbage);
}

#[test]
fn damage_at_a_million_places() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, to) = (folder.path().join("raw"), folder.path().join("dataset"));
    let paths = Fabric::random(1, 1, 100, 1, 3).write(&raw);
    // The first block of the chunk, again and again: each time a block that was there before.
    let bytes = std::fs::read(&paths[0]).unwrap();
    let at = bytes.windows(4).position(|w| w == b"PGB\x01").unwrap();
    let len = 24 + u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
    let end = bytes.len() - 40;
    let mut file = std::fs::File::create(&paths[0]).unwrap();
    file.write_all(&bytes[..end]).unwrap();
    let many = bytes[at..at + len].repeat(4096);
    for _ in 0..1 + 70 * MIB as usize / many.len() {
        file.write_all(&many).unwrap();
    }
    file.write_all(&bytes[end..]).unwrap();
    drop(file);
    assert_eq!(ingest(&raw, &to, "blocks once more"), (100, 0));
}
