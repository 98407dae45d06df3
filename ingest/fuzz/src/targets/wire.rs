//! The decoder of wire records, in both byte orders.

use pgtrace_capture::record::{Object, Process, Record};
use pgtrace_capture::wire::{ByteOrder, HEADER_LEN, Item, decode, encode};

/// First byte: the order; the rest: a block's payload.
pub(super) fn decoder(data: &[u8]) {
    let Some((&order, bytes)) = data.split_first() else {
        return;
    };
    let order = if order % 2 == 0 {
        ByteOrder::Little
    } else {
        ByteOrder::Big
    };
    let len_at = |at: usize| {
        let two = [bytes[at + 4], bytes[at + 5]];
        usize::from(match order {
            ByteOrder::Little => u16::from_le_bytes(two),
            ByteOrder::Big => u16::from_be_bytes(two),
        })
    };
    let (mut at, mut failed) = (0, false);
    let mut decoder = decode(bytes, order);
    while let Some(item) = decoder.next() {
        assert!(!failed, "nothing follows a record that cannot be trusted");
        assert!(at < bytes.len());
        match item {
            Ok(item) => {
                let len = len_at(at);
                assert!(len >= HEADER_LEN && len.is_multiple_of(8));
                match item {
                    Item::Record(record) => round_trip(&record),
                    Item::Unknown {
                        offset, len: said, ..
                    } => {
                        assert_eq!((offset as usize, usize::from(said)), (at, len));
                    }
                }
                at += len;
            }
            Err(e) => {
                assert_eq!(e.offset as usize, at);
                assert!(!e.to_string().is_empty());
                failed = true;
            }
        }
        assert_eq!(decoder.offset() as usize, at, "lengths add up");
    }
    assert!(failed || at == bytes.len(), "all bytes are accounted for");
}

/// A record that was understood is written so that it is understood the same.
pub(super) fn round_trip(record: &Record) {
    if texts(record).any(|t| t.contains('\u{fffd}')) {
        return; // it was no UTF-8, and the text is longer now
    }
    let mut bytes = Vec::new();
    encode(record, &mut bytes);
    let again: Vec<_> = decode(&bytes, ByteOrder::NATIVE).collect();
    assert_eq!(again, [Ok(Item::Record(record.clone()))]);
}

fn texts(record: &Record) -> impl Iterator<Item = &str> {
    let texts = match record {
        Record::Process(Process {
            comm,
            exe,
            cwd,
            cgroup,
            ..
        }) => [
            Some(comm.as_str()),
            exe.as_deref(),
            cwd.as_deref(),
            cgroup.as_deref(),
        ],
        Record::Object(Object { path, .. }) => [path.as_deref(), None, None, None],
        _ => [None; 4],
    };
    texts.into_iter().flatten()
}
