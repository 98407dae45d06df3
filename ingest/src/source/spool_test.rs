//! Chunks through a pipe: cut where they were put together, whatever happened to one of them.
#![allow(clippy::unwrap_used)]

use pgtrace_capture::chunk::{BlockKind, ChunkHeader, ChunkWriter, Settings};
use pgtrace_capture::wire::ByteOrder;
use uuid::Uuid;

use super::*;

/// A chunk whose payload holds things that look like a chunk's beginning and end.
fn chunk(index: u32, payload: usize) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.pgt");
    let header = ChunkHeader {
        capture_id: Uuid::from_u128(1),
        boot_id: Uuid::from_u128(7),
        kernel: "6.1.0-test".into(),
        page_size: 4096,
        byte_order: ByteOrder::NATIVE,
        cpu: 0,
        index,
        monotonic_ns: 1,
        realtime_ns: 2,
        boottime_ns: 3,
        settings: Settings::default(),
    };
    let mut writer = ChunkWriter::create(&path, &header).unwrap();
    let mut bytes = vec![b'P'; payload];
    bytes.extend_from_slice(&CHUNK_MAGIC);
    bytes.extend_from_slice(&[1, 0, 0, 0, 0, 0, 1, 0]); // a header of 64 KiB, it claims
    bytes.extend_from_slice(&[0; 300]);
    writer.block(BlockKind::Refs, &bytes).unwrap();
    writer.finish().unwrap();
    std::fs::read(&path).unwrap()
}

fn split(input: &[u8]) -> Vec<Vec<u8>> {
    let places = spool(&mut &*input, std::env::temp_dir()).unwrap();
    let mut at = 0;
    let mut chunks = Vec::new();
    for place in &places {
        let Place::Spooled { at: begun, .. } = place else {
            unreachable!()
        };
        assert_eq!(*begun, at);
        let mut bytes = Vec::new();
        place.open().unwrap().read_to_end(&mut bytes).unwrap();
        at += bytes.len() as u64;
        chunks.push(bytes);
    }
    assert!(chunks.concat() == input, "no byte is lost");
    chunks
}

#[test]
fn whole_chunks_of_all_sizes() {
    let near = PIECE - 400;
    let sizes = [0, 1, near, near + 13, near + 64, PIECE, 3 * PIECE + 5];
    let chunks: Vec<_> = (0..).zip(sizes).map(|(i, n)| chunk(i, n)).collect();
    assert!(split(&chunks.concat()) == chunks);
    assert!(split(&chunks[3]) == chunks[3..4]);
}

#[test]
fn a_chunk_cut_anywhere_leaves_the_next_alone() {
    let (first, second) = (chunk(0, 50), chunk(1, 70));
    for cut in 1..first.len() {
        let parts = split(&[&first[..cut], &second[..]].concat());
        assert_eq!(parts.last().unwrap(), &second, "cut at {cut}");
        assert_eq!(parts.len(), 2, "cut at {cut}");
    }
}

#[test]
fn a_flipped_bit_anywhere_leaves_the_others_alone() {
    let (first, second, third) = (chunk(0, 50), chunk(1, 70), chunk(2, 90));
    let header = 200;
    for at in 0..second.len() {
        let mut damaged = second.clone();
        damaged[at] ^= 4;
        let parts = split(&[&first[..], &damaged, &third].concat());
        assert_eq!(parts.last().unwrap(), &third, "byte {at}");
        assert!(parts[0].starts_with(&first), "byte {at}");
        if (8..header).contains(&at) || at > header + 200 {
            assert_eq!(parts.len(), 3, "byte {at}");
        }
    }
}

#[test]
fn garbage_is_a_place_of_its_own() {
    let chunk = chunk(0, 10);
    let parts = split(&[b"garbage", &chunk[..]].concat());
    assert_eq!(parts, [b"garbage".to_vec(), chunk]);
    assert_eq!(split(b"garbage"), [b"garbage".to_vec()]);
}

#[test]
fn an_empty_input_is_an_error() {
    let error = spool(&mut &b""[..], std::env::temp_dir()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "standard input: expected raw chunks, found nothing"
    );
}

#[test]
fn an_input_of_false_beginnings_costs_no_more_than_its_length() {
    let mut one = CHUNK_MAGIC.to_vec();
    one.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0x3f, 0]); // of 4 MiB less 64 KiB
    let input = one.repeat((8 << 20) / one.len());
    let begun = std::time::Instant::now();
    assert_eq!(split(&input).len(), 1);
    // Looking at each would be half a million times 4 MiB.
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let error = spool(&mut &b"x"[..], "/nowhere".into()).unwrap_err();
    assert!(error.to_string().starts_with("/nowhere: "), "{error}");
}
