#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
//! Frozen v0 entries, written by a Python program from the field list alone, decode to what was written by hand.

use std::path::Path;

use proptest::prelude::*;

use super::ByteOrder;
use super::v0::{Decoder, Fault, Layout};
use crate::record::{Event, PageRef, Record};

fn frozen(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/v0");
    std::fs::read(folder.join(name)).unwrap()
}

fn ref_line(r: &PageRef) -> String {
    assert_eq!((r.event, r.tid, r.uid), (Event::Fault, r.tgid, 0));
    let ms = r.stamp.time_ns / 1_000_000;
    format!(
        "ref time_ms={ms} pid={} object={} page={} access={}",
        r.tgid, r.object, r.page, r.access
    )
}

fn name_line(record: &Record) -> String {
    let ms = record.stamp().time_ns / 1_000_000;
    match record {
        Record::Process(p) => format!("process time_ms={ms} pid={}", p.tgid),
        Record::Object(o) => format!(
            "object time_ms={ms} object={} {} pid={} dev={}:{} ino={}",
            o.object, o.kind, o.tgid, o.dev_major, o.dev_minor, o.ino
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn frozen_entries_decode_to_what_was_written() {
    let text = String::from_utf8(frozen("v0.txt")).unwrap();
    let expected: Vec<&str> = text.lines().collect();
    for layout in Layout::ALL {
        let bytes = frozen(&format!("{}.bin", layout.name()));
        let (mut decoder, mut names) = (Decoder::new(layout), Vec::new());
        let entries = bytes.chunks(layout.entry_len());
        let refs: Vec<_> = entries
            .map(|e| ref_line(&decoder.entry(e, &mut names).unwrap()))
            .collect();
        let found: Vec<_> = refs
            .into_iter()
            .chain(names.iter().map(name_line))
            .collect();
        assert_eq!(found, expected, "{}", layout.name());
    }
}

#[test]
fn only_the_right_layout_is_plausible() {
    for right in Layout::ALL {
        let bytes = frozen(&format!("{}.bin", right.name()));
        for layout in Layout::ALL {
            let (good, all) = layout.plausible(&bytes);
            assert_eq!(good == all, layout == right, "{layout:?} of {right:?}");
        }
    }
}

#[test]
fn what_no_kernel_writes_is_told() {
    let layout = Layout::ALL[2];
    let good = frozen("v0-x86-64.bin");
    let mut decoder = Decoder::new(layout);
    let mut names = Vec::new();
    let mut fault = |field: usize, value: u64| {
        let mut bytes = good[..layout.entry_len()].to_vec();
        bytes[field * 8..field * 8 + 8].copy_from_slice(&value.to_le_bytes());
        let error = decoder.entry(&bytes, &mut names).unwrap_err().to_string();
        assert!(names.is_empty(), "a bad entry names nothing");
        error
    };
    assert_eq!(
        fault(1, 1 << 32),
        "expected bdev in 0..=4294967295, found 4294967296"
    );
    assert!(fault(2, 1 << 52).starts_with("expected offset in 0..="));
    assert_eq!(fault(4, 16), "expected prot in 0..=15, found 16");
    assert_eq!(fault(5, 0), "expected pid in 1..=4194303, found 0");
    let short = decoder.entry(&good[..55], &mut names);
    assert_eq!(
        short,
        Err(Fault::Short {
            expected: 56,
            found: 55
        })
    );
}

#[test]
fn times_go_back_and_beyond_without_panic() {
    let layout = Layout {
        wide: true,
        order: ByteOrder::Big,
    };
    let mut decoder = Decoder::new(layout);
    let mut times = Vec::new();
    for tstamp in [10, 5, 0, u64::MAX, u64::MAX / 2, 7] {
        let mut bytes = frozen("v0-x86-64-be.bin")[..56].to_vec();
        bytes[48..].copy_from_slice(&u64::to_be_bytes(tstamp));
        times.push(
            decoder
                .entry(&bytes, &mut Vec::new())
                .unwrap()
                .stamp
                .time_ns,
        );
    }
    // From 0 to the largest number is one tick back.
    let end = i64::MAX as u64;
    assert_eq!(times[..4], [10_000_000, 5_000_000, 0, 0]);
    assert!(times[4] == 0 || times[4] == end, "{}", times[4]);
}

proptest! {
    #[test]
    fn garbage_is_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        for layout in Layout::ALL {
            let (mut decoder, mut names) = (Decoder::new(layout), Vec::new());
            let mut good = 0;
            for entry in bytes.chunks(layout.entry_len()) {
                if let Ok(r) = decoder.entry(entry, &mut names) {
                    good += 1;
                    prop_assert!(r.page >> 52 == 0 && r.tgid > 0 && r.object > 0);
                }
            }
            prop_assert_eq!(layout.plausible(&bytes).0, good);
            prop_assert!(names.len() as u64 <= 2 * good);
        }
    }
}
