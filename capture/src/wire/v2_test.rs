#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
//! A wire version of the future: what adding one takes (this file as `v2.rs`, and its row in `VERSIONS`), and what a
//! program without it makes of such a recording.
//!
//! Version 2 has one more field on the page reference, the NUMA node of the page, and a kind that version 1 lacks.

use super::{ByteOrder, DecodeFn, Fault, Item, VERSIONS, decode, decode_by, encode, v1};
use crate::record::{Access, Event, Exit, PageRef, Record, Stamp};

/// The version table as it will be.
const WITH_V2: &[(u8, DecodeFn)] = &[(1, v1::decode), (2, decode_v2)];

/// Kind of a record that only version 2 may one day know.
const KIND_NEW: u8 = 99;
/// Where version 2's own field stands: behind all of version 1's.
const NODE_AT: usize = 64;
const MAX_NODE: u32 = 1023;

/// The decoder of version 2: version 1's fields are where they were, and one is new.
fn decode_v2(bytes: &[u8], swap: bool) -> Result<Option<Record>, Fault> {
    let record = v1::decode(bytes, swap)?;
    if let Some(Record::Ref(_)) = record {
        let node = bytes
            .get(NODE_AT..NODE_AT + 4)
            .and_then(|b| b.try_into().ok());
        let node = node.map(u32::from_ne_bytes).ok_or(Fault::ShortRecord {
            kind: v1::PGT_KIND_REF,
            expected: NODE_AT as u64 + 8,
            found: bytes.len() as u64,
        })?;
        let node = if swap { node.swap_bytes() } else { node };
        if node > MAX_NODE {
            return Err(Fault::OutOfRange {
                field: "node",
                low: 0,
                high: MAX_NODE,
                found: node,
            });
        }
    }
    Ok(record)
}

fn page_ref(seq: u64) -> PageRef {
    PageRef {
        stamp: Stamp {
            cpu: 0,
            seq,
            time_ns: 6,
        },
        tgid: 1,
        tid: 2,
        uid: 3,
        object: 4,
        addr: 5 << 12,
        ip: 6,
        page: 7,
        page_order: 9,
        event: Event::Retouch,
        access: Access::Write,
        major: Some(true),
        kernel: false,
        gup: false,
        present: true,
    }
}

/// A page reference of version 2.
fn reference(seq: u64, node: u32) -> (Record, Vec<u8>) {
    let record = Record::Ref(page_ref(seq));
    let mut bytes = Vec::new();
    encode(&record, &mut bytes);
    bytes.extend_from_slice(&node.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    (record, of_version_2(bytes, v1::PGT_KIND_REF))
}

/// Writes version, kind and length into the header of a record.
fn of_version_2(mut bytes: Vec<u8>, kind: u8) -> Vec<u8> {
    let len = (bytes.len() as u16).to_ne_bytes();
    bytes[1] = 2;
    bytes[2] = kind;
    bytes[4..6].copy_from_slice(&len);
    bytes
}

/// An exit of version 1, two references of version 2 and, between them, a record of a kind nobody knows.
fn stream() -> (Vec<u8>, [Record; 3]) {
    let exit = Record::Exit(Exit {
        stamp: Stamp {
            cpu: 0,
            seq: 0,
            time_ns: 5,
        },
        tgid: 7,
        code: 0,
    });
    let mut bytes = Vec::new();
    encode(&exit, &mut bytes);
    let (first, a) = reference(1, 0);
    let (second, b) = reference(3, MAX_NODE);
    let mut unknown = Vec::new();
    encode(&exit, &mut unknown);
    let mut unknown = of_version_2(unknown, KIND_NEW);
    unknown[8..16].copy_from_slice(&2_u64.to_ne_bytes());
    bytes.extend(a.into_iter().chain(unknown).chain(b));
    (bytes, [exit, first, second])
}

fn unknown(item: &Item) -> Option<(u64, u8, u8)> {
    match item {
        Item::Unknown {
            seq, kind, version, ..
        } => Some((*seq, *kind, *version)),
        Item::Record(_) => None,
    }
}

#[test]
fn a_program_without_version_2_counts_its_records_and_goes_on() {
    assert!(
        VERSIONS.iter().all(|row| row.0 != 2),
        "then this file has had its day"
    );
    let (bytes, [exit, ..]) = stream();
    let items: Vec<Item> = decode(&bytes, ByteOrder::NATIVE)
        .map(Result::unwrap)
        .collect();
    assert_eq!(items[0], Item::Record(exit));
    let skipped: Vec<_> = items.iter().filter_map(unknown).collect();
    assert_eq!(skipped, [(1, 1, 2), (2, KIND_NEW, 2), (3, 1, 2)]);
}

#[test]
fn with_its_row_version_2_is_read_beside_version_1() {
    let (bytes, records) = stream();
    let items: Vec<Item> = decode_by(&bytes, ByteOrder::NATIVE, WITH_V2)
        .map(Result::unwrap)
        .collect();
    let known: Vec<Record> = items
        .iter()
        .filter_map(|i| match i {
            Item::Record(r) => Some(r.clone()),
            Item::Unknown { .. } => None,
        })
        .collect();
    assert_eq!(known, records);
    let skipped: Vec<_> = items.iter().filter_map(unknown).collect();
    assert_eq!(skipped, [(2, KIND_NEW, 2)], "of its unknown kinds, too");
}

#[test]
fn version_2_checks_its_own_field() {
    let (_, bytes) = reference(1, MAX_NODE + 1);
    let found = decode_by(&bytes, ByteOrder::NATIVE, WITH_V2)
        .next()
        .unwrap();
    assert!(
        found
            .unwrap_err()
            .to_string()
            .contains("expected node in 0..=1023, found 1024")
    );
    // One that ends where version 1 does.
    let mut short = Vec::new();
    encode(&Record::Ref(page_ref(1)), &mut short);
    short[1] = 2;
    let found = decode_by(&short, ByteOrder::NATIVE, WITH_V2)
        .next()
        .unwrap();
    assert!(
        found
            .unwrap_err()
            .to_string()
            .contains("expected at least 72 bytes")
    );
}
