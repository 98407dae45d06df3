//! Entries of the 2005 kit: any bytes, in each of the four layouts, against a second reading of their fields.

use std::collections::{HashMap, HashSet};

use pgtrace_capture::record::{Access, ObjectKind, PageRef, Record};
use pgtrace_capture::wire::ByteOrder;
use pgtrace_capture::wire::v0::{Decoder, Fault, Layout};
use pgtrace_ingest::source::kind::by_name;

use super::translated::translate;
use super::wire::round_trip;

/// First byte: the layout, and whether the bytes are read as a file, too; the rest: entries.
pub(super) fn entries(data: &[u8]) {
    let Some((&first, bytes)) = data.split_first() else {
        return;
    };
    let layout = Layout::ALL[usize::from(first % 4)];
    let len = layout.entry_len();
    let mut account = Account::default();
    let mut decoder = Decoder::new(layout);
    // What a machine of the other byte order would have written is the same.
    let mut mirrored = Decoder::new(Layout {
        order: match layout.order {
            ByteOrder::Little => ByteOrder::Big,
            ByteOrder::Big => ByteOrder::Little,
        },
        ..layout
    });
    let (mut refs, mut bad) = (Vec::new(), 0);
    for entry in bytes.chunks(len) {
        let (mut names, mut same) = (Vec::new(), Vec::new());
        let found = decoder.entry(entry, &mut names);
        if entry.len() == len {
            let words = entry.chunks_exact(len / 7);
            let swapped: Vec<u8> = words.flat_map(|w| w.iter().rev().copied()).collect();
            assert_eq!(mirrored.entry(&swapped, &mut same), found);
            assert_eq!(same, names);
        }
        match found {
            Ok(r) => {
                account.check(layout, &fields(layout, entry), &names, &r);
                refs.push(r);
            }
            Err(fault) => {
                assert!(names.is_empty() && !fault.to_string().is_empty());
                let short = matches!(fault, Fault::Short { .. });
                assert_eq!(short, entry.len() < len);
                bad += 1;
            }
        }
    }
    let whole = (bytes.len() / len) as u64;
    assert_eq!(layout.plausible(bytes), (refs.len() as u64, whole));
    if first & 0x80 != 0 && !bytes.is_empty() {
        file(layout, bytes, &refs, bad);
    }
}

/// The file's references are the entries', and what cannot be read is counted.
fn file(layout: Layout, bytes: &[u8], refs: &[PageRef], bad: u64) {
    let from = by_name(layout.name()).expect("a source for each layout");
    let made = translate(bytes, Some(from), false).expect("entries of this layout, good or bad");
    let made = made.expect("a source that was named");
    assert_eq!((made.refs.len(), made.unread), (refs.len(), bad));
    for (made, r) in made.refs.iter().zip(refs) {
        let mut made = *made;
        made.stamp.seq = 0;
        assert_eq!(made, *r);
    }
    // Sniffing may find no layout, or another one.
    let _ = translate(bytes, by_name("v0"), false);
}

/// The seven fields of a whole entry.
fn fields(layout: Layout, entry: &[u8]) -> [u64; 7] {
    let mut fields = [0; 7];
    for (field, word) in fields.iter_mut().zip(entry.chunks_exact(entry.len() / 7)) {
        let mut bytes = [0; 8];
        *field = match layout.order {
            ByteOrder::Little => {
                bytes[..word.len()].copy_from_slice(word);
                u64::from_le_bytes(bytes)
            }
            ByteOrder::Big => {
                bytes[8 - word.len()..].copy_from_slice(word);
                u64::from_be_bytes(bytes)
            }
        };
    }
    fields
}

/// What entries have said so far.
#[derive(Default)]
struct Account {
    /// The number of each object, by file system and inode, or by process.
    objects: HashMap<(u64, u64), u32>,
    processes: HashSet<u64>,
    /// Time and tstamp of the entry before.
    before: Option<(u64, u64)>,
}

impl Account {
    fn check(&mut self, layout: Layout, fields: &[u64; 7], names: &[Record], r: &PageRef) {
        let [inode, bdev, offset, _, prot, pid, tstamp] = *fields;
        assert_eq!((r.page, u64::from(r.tgid), r.tid), (offset, pid, r.tgid));
        let expected = match prot {
            0 | 8 => Access::Unknown,
            1 | 9 => Access::Read,
            2 | 3 | 10 | 11 => Access::Write,
            _ => Access::Exec,
        };
        assert_eq!(r.access, expected);

        let backing = if inode == 0 {
            (u64::MAX, pid)
        } else {
            (bdev, inode)
        };
        let new_process = self.processes.insert(pid);
        let new_object = !self.objects.contains_key(&backing);
        assert_eq!(
            names.len(),
            usize::from(new_process) + usize::from(new_object)
        );
        for name in names {
            match name {
                Record::Process(p) => assert!(new_process && u64::from(p.tgid) == pid),
                Record::Object(o) => {
                    assert!(new_object && !self.objects.values().any(|n| *n == o.object));
                    let kind = if inode == 0 {
                        ObjectKind::Anon
                    } else {
                        ObjectKind::File
                    };
                    assert_eq!((o.kind, o.ino), (kind, inode));
                    let device = u64::from(o.dev_major) << 20 | u64::from(o.dev_minor);
                    assert!(inode == 0 || device == bdev);
                    self.objects.insert(backing, o.object);
                }
                other => panic!("{other:?}"),
            }
            round_trip(name);
        }
        assert_eq!(self.objects.get(&backing), Some(&r.object));
        round_trip(&Record::Ref(*r));
        self.time(layout, tstamp, r.stamp.time_ns);
    }

    /// Times differ as the ticks do, by the shorter way around, as far as there are such times.
    fn time(&mut self, layout: Layout, tstamp: u64, ns: u64) {
        const TICK: u64 = 1_000_000;
        const LAST: u64 = i64::MAX as u64;
        assert!(ns <= LAST);
        match self.before {
            None => assert_eq!(ns, tstamp.saturating_mul(TICK).min(LAST)),
            Some((before, then)) => {
                let known = |ns| (1..LAST).contains(&ns);
                if known(before) && known(ns) {
                    let step = tstamp.wrapping_sub(then);
                    let step = match layout.wide {
                        true => i128::from(step as i64),
                        false => i128::from(step as u32 as i32),
                    };
                    let passed = i128::from(ns) - i128::from(before);
                    assert_eq!(passed, step * i128::from(TICK));
                }
            }
        }
        self.before = Some((ns, tstamp));
    }
}
