#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]
//! Chunks survive what happens to files: every flipped byte, every length, garbage.

use std::io::Cursor;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::wire::ByteOrder;

fn header() -> ChunkHeader {
    ChunkHeader {
        capture_id: Uuid::from_u128(0x0123_4567_89ab_cdef_0011_2233_4455_6677),
        boot_id: Uuid::from_u128(7),
        kernel: "6.1.0-40-amd64".into(),
        page_size: 4096,
        byte_order: ByteOrder::Little,
        cpu: 3,
        index: 12,
        monotonic_ns: 1,
        realtime_ns: 2,
        boottime_ns: 3,
        settings: Settings {
            level: "rich".into(),
            clean_ms: 500,
            cpus: vec![0, 1, 2, 3],
            targets: Targets {
                command: vec!["sort".into(), "a b".into()],
                ..Targets::default()
            },
            ..Settings::default()
        },
    }
}

/// Payloads of a small chunk: an empty one, odd lengths, one that holds a whole (earlier) block.
fn payloads() -> Vec<(BlockKind, Vec<u8>)> {
    let inner = BlockHeader::encode(1, 0, b"nested").to_vec();
    vec![
        (BlockKind::Repeated, b"names".to_vec()),
        (BlockKind::Refs, (0..64).collect()),
        (BlockKind::Names, Vec::new()),
        (BlockKind::Refs, [&inner[..], b"nested!!"].concat()),
        (BlockKind::Totals, b"{}".to_vec()),
    ]
}

fn written(blocks: &[(BlockKind, Vec<u8>)]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.pgt");
    let mut writer = ChunkWriter::create(&path, &header()).unwrap();
    for (kind, payload) in blocks {
        writer.block(*kind, payload).unwrap();
    }
    let len = writer.finish().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len() as u64, len);
    bytes
}

/// A finished chunk.
pub(super) fn chunk_bytes() -> Vec<u8> {
    written(&payloads())
}

type Blocks = Vec<(BlockKind, Vec<u8>)>;
type Damages = Vec<(u64, u64, DamageCause, String)>;

fn read(bytes: &[u8]) -> Result<(Blocks, Damages), ChunkError> {
    let mut reader = ChunkReader::new(Cursor::new(bytes), "c.pgt")?;
    let (mut blocks, mut damages) = (Vec::new(), Vec::new());
    let mut buf = Vec::new();
    let mut steps = 0;
    while let Some(step) = reader.next_block(&mut buf)? {
        steps += 1;
        assert!(steps <= 2 * bytes.len() + 2, "the reader does not end");
        assert!(
            buf.capacity() <= 2 * bytes.len() + 64,
            "a lying length took memory"
        );
        match step {
            Step::Block { kind, offset } => {
                let at = offset as usize;
                assert_eq!(bytes.get(at..at + buf.len()).unwrap(), &buf[..]);
                blocks.push((kind, buf.clone()));
            }
            Step::Damage {
                offset,
                bytes: n,
                cause,
                detail,
            } => {
                assert!(offset + n <= bytes.len() as u64);
                damages.push((offset, n, cause, detail));
            }
        }
    }
    Ok((blocks, damages))
}

/// `part` is `whole` with some blocks left out.
fn is_subsequence(part: &Blocks, whole: &Blocks) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|b| rest.any(|w| w == b))
}

#[test]
fn round_trip() {
    let bytes = written(&payloads());
    let (blocks, damages) = read(&bytes).unwrap();
    assert_eq!(blocks, payloads());
    assert_eq!(damages, vec![]);
    let reader = ChunkReader::new(Cursor::new(&bytes), "c.pgt").unwrap();
    assert_eq!(*reader.header(), header());
}

#[test]
fn what_a_chunk_takes_is_known_before_it_is_written() {
    let blocks = payloads();
    let told: u64 = blocks
        .iter()
        .map(|(_, payload)| ChunkWriter::block_bytes(payload))
        .sum();
    assert_eq!(
        ChunkWriter::empty_bytes(&header()) + told,
        written(&blocks).len() as u64
    );
    assert_eq!(
        ChunkWriter::empty_bytes(&header()),
        written(&[]).len() as u64
    );
}

#[test]
fn layout_is_the_documented_one() {
    let bytes = written(&payloads());
    assert_eq!(&bytes[0..8], b"PGTRACE\n");
    assert_eq!(u32_at(&bytes, 8), 1);
    let len = u32_at(&bytes, 12) as usize;
    assert_eq!(len % 8, 0);
    assert_eq!(&bytes[16..32], header().capture_id.as_bytes());
    assert_eq!((u32_at(&bytes, 48), bytes[52], bytes[53]), (4096, 1, 1));
    assert_eq!((u16_at(&bytes, 54), u32_at(&bytes, 56)), (3, 12));
    assert_eq!(
        (u64_at(&bytes, 64), u64_at(&bytes, 72), u64_at(&bytes, 80)),
        (1, 2, 3)
    );
    assert_eq!(&bytes[128..142], b"6.1.0-40-amd64");
    assert_eq!(u32_at(&bytes, len - 4), crc32c::crc32c(&bytes[..len - 4]));
    assert_eq!(&bytes[len..len + 4], b"PGB\x01");
    // CRC32C's own check value, so that it is that polynomial and no other.
    assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(
        crc32c::crc32c_append(crc32c::crc32c(b"1234"), b"56789"),
        0xe306_9283
    );
}

#[test]
fn every_flipped_bit_is_found_and_costs_one_block() {
    let good = written(&payloads());
    let header_len = u32_at(&good, 12) as usize;
    let mut unnoticed = 0;
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            match read(&bad) {
                Err(_) => assert!(at < header_len, "byte {at}: a damaged block is no error"),
                Ok((blocks, damages)) => {
                    assert!(at >= header_len, "byte {at}: header damage went unnoticed");
                    assert!(is_subsequence(&blocks, &payloads()), "byte {at}");
                    if damages.is_empty() {
                        assert_eq!(blocks, payloads());
                        unnoticed += 1;
                    } else {
                        assert!(
                            blocks.len() + 1 >= payloads().len(),
                            "byte {at}: {damages:?}"
                        );
                    }
                }
            }
        }
    }
    // Only the padding is not covered: of "names" 3 bytes, of "{}" 6, none elsewhere.
    assert_eq!(unnoticed, 8 * (3 + 6));
}

#[test]
fn every_truncation_is_found_and_keeps_the_whole_blocks() {
    let good = written(&payloads());
    let header_len = u32_at(&good, 12) as usize;
    for len in 0..good.len() {
        match read(&good[..len]) {
            Err(e) => {
                assert!(len < header_len, "{len}: {e}");
                let text = e.to_string();
                let wanted = if len == 0 {
                    "empty file"
                } else {
                    "truncated header"
                };
                assert!(text.contains(wanted), "{len}: {text}");
            }
            Ok((blocks, damages)) => {
                assert!(len >= header_len);
                assert_eq!(blocks, payloads()[..blocks.len()], "{len}");
                assert_eq!(damages.len(), 1, "{len}: {damages:?}");
                assert_eq!(damages[0].2, DamageCause::Truncated, "{len}: {damages:?}");
            }
        }
    }
}

#[test]
fn missing_repeated_and_trailing_blocks_are_found() {
    let good = written(&payloads());
    let h = u32_at(&good, 12) as usize;
    // The first block: 24 bytes of header, "names" padded to 8.
    let without_first = [&good[..h], &good[h + 32..]].concat();
    let (blocks, damages) = read(&without_first).unwrap();
    assert_eq!(blocks, payloads()[1..]);
    assert_eq!(damages[0].3, "expected block 0, found block 1");

    let first_twice = [&good[..h + 32], &good[h..]].concat();
    let (blocks, damages) = read(&first_twice).unwrap();
    assert_eq!(blocks, payloads());
    assert_eq!((damages[0].0, damages[0].1), (h as u64 + 32, 32));

    let trailing = [&good[..], b"more"].concat();
    let (blocks, damages) = read(&trailing).unwrap();
    assert_eq!(blocks, payloads());
    assert_eq!(damages[0].1, 4);
}

#[test]
fn bad_headers_say_what_was_expected_and_found() {
    let good = written(&payloads());
    let said = |bytes: &[u8]| read(bytes).unwrap_err().to_string();

    assert!(said(b"").contains("c.pgt: byte 0: expected a pgtrace chunk, found an empty file"));
    let text = said(b"PAR1 and other things");
    assert!(
        text.contains("not a pgtrace chunk") && text.contains("PAR1"),
        "{text}"
    );

    let mut newer = good.clone();
    newer[8] = 9;
    let text = said(&newer);
    assert!(
        text.contains("version 9 is too new") && text.contains("up to 1"),
        "{text}"
    );

    let mut damaged = good.clone();
    damaged[130] ^= 1;
    assert!(
        said(&damaged).contains("damaged header: expected CRC32C"),
        "{}",
        said(&damaged)
    );

    let mut long = good;
    long[15] = 0xff;
    assert!(said(&long).contains("byte 12: bad header: expected a header length"));
}

#[test]
fn a_file_of_false_magics_does_not_hang() {
    let mut bytes = written(&[]);
    let h = u32_at(&bytes, 12) as usize;
    bytes.truncate(h);
    let mut fake = BlockHeader::encode(1, 0, &[]);
    fake[8..12].copy_from_slice(&(1u32 << 20).to_le_bytes());
    for _ in 0..100_000 {
        bytes.extend_from_slice(&fake);
    }
    // Without the budget: 56,000 candidates of 1 MiB each.
    let (blocks, damages) = read(&bytes).unwrap();
    assert!(blocks.is_empty());
    assert_eq!(damages.len(), 1);
    assert_eq!(damages[0].1, (bytes.len() - h) as u64);
}

#[test]
fn settings_and_totals_read_in_both_directions() {
    let newer: Settings = serde_json::from_str(r#"{"level":"rich","colour":"blue"}"#).unwrap();
    assert_eq!((newer.level.as_str(), newer.clean_ms), ("rich", 0));
    let newer: Totals =
        serde_json::from_str(r#"{"cpus":[{"cpu":1,"refs_lost":2,"x":[]}]}"#).unwrap();
    assert_eq!((newer.cpus[0].cpu, newer.cpus[0].refs_lost), (1, 2));
}

proptest! {
    #[test]
    fn any_blocks_round_trip(
        blocks in prop::collection::vec((0u16..4, prop::collection::vec(any::<u8>(), 0..300)), 0..20)
    ) {
        let blocks: Blocks =
            blocks.into_iter().map(|(k, p)| (BlockKind::from_number(k + 1).unwrap(), p)).collect();
        let (found, damages) = read(&written(&blocks)).unwrap();
        prop_assert_eq!(found, blocks);
        prop_assert!(damages.is_empty());
    }

    #[test]
    fn garbage_behind_a_header_is_one_damage_and_then_the_good_block(
        garbage in prop::collection::vec(any::<u8>(), 1..5000)
    ) {
        let good = written(&payloads());
        let h = u32_at(&good, 12) as usize;
        let bytes = [&good[..h], &garbage, &good[h..]].concat();
        let (blocks, damages) = read(&bytes).unwrap();
        prop_assert_eq!(blocks, payloads());
        prop_assert_eq!(damages.len(), 1);
        prop_assert_eq!((damages[0].0, damages[0].1), (h as u64, garbage.len() as u64));
    }

    #[test]
    fn garbage_alone_never_panics(garbage in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(read(&garbage).is_err());
    }
}
