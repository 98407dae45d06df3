#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
//! What is encoded is decoded; what is broken is said, with place and reason, and never panics.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;

use super::{ByteOrder, DecodeError, Fault, HEADER_LEN, Item, decode, encode, frame, run_of_64};
use crate::record::*;

const NATIVE: ByteOrder = ByteOrder::NATIVE;

fn stamp() -> impl Strategy<Value = Stamp> {
    any::<(u16, u64, u64)>().prop_map(|(cpu, seq, time_ns)| Stamp { cpu, seq, time_ns })
}

fn path() -> impl Strategy<Value = Option<String>> {
    prop::option::of("[a-zA-Z0-9/ ._\u{e4}-\u{fc}]{1,40}")
}

fn page_ref() -> impl Strategy<Value = PageRef> {
    let numbers = any::<([u32; 4], [u64; 2])>();
    let place = (0u64..1 << 52, 0u8..32);
    let how = (select(Event::ALL), select(Access::ALL), any::<[bool; 4]>());
    (stamp(), numbers, place, how).prop_map(
        |(
            stamp,
            ([tgid, tid, uid, object], [addr, ip]),
            (page, page_order),
            (event, access, bits),
        )| {
            let fault = matches!(event, Event::Fault | Event::Retouch);
            PageRef {
                stamp,
                tgid,
                tid,
                uid,
                object,
                addr,
                ip,
                page,
                page_order,
                event,
                access,
                major: (bits[0] || fault).then_some(bits[0]),
                kernel: bits[1],
                gup: bits[2],
                present: bits[3],
            }
        },
    )
}

fn record() -> impl Strategy<Value = Record> {
    let process = (
        (
            stamp(),
            any::<[u32; 4]>(),
            any::<[u64; 2]>(),
            any::<[bool; 4]>(),
        ),
        ("[a-z:/-]{0,16}", path(), path(), path()),
    )
        .prop_map(|((stamp, n, t, b), (comm, exe, cwd, cgroup))| {
            Record::Process(Process {
                stamp,
                tgid: n[0],
                ppid: n[1],
                uid: n[2],
                gid: n[3],
                start_ns: t[0],
                start_boot_ns: t[1],
                attached: b[0],
                forked: b[1],
                execed: b[2],
                detached: b[3],
                comm,
                exe,
                cwd,
                cgroup,
            })
        });
    let mapping = (
        stamp(),
        any::<[u32; 2]>(),
        any::<[u64; 3]>(),
        any::<[bool; 4]>(),
    )
        .prop_map(|(stamp, n, a, b)| {
            Record::Mapping(Mapping {
                stamp,
                tgid: n[0],
                object: n[1],
                start: a[0],
                end: a[1],
                page: a[2],
                read: b[0],
                write: b[1],
                exec: b[2],
                shared: b[3],
            })
        });
    let object = (
        stamp(),
        any::<[u32; 5]>(),
        any::<(u64, bool, bool)>(),
        select(ObjectKind::ALL),
        path(),
    )
        .prop_map(|(stamp, n, (ino, deleted, truncated), kind, path)| {
            Record::Object(Object {
                stamp,
                object: n[0],
                tgid: n[1],
                dev_major: n[2],
                dev_minor: n[3],
                ino,
                generation: n[4],
                kind,
                path,
                deleted,
                truncated,
            })
        });
    let lost = (
        stamp(),
        any::<[u64; 4]>(),
        select(Channel::ALL),
        select(LostCause::ALL),
    )
        .prop_map(|(stamp, n, channel, cause)| {
            Record::Lost(Lost {
                stamp,
                count: n[0],
                first_seq: n[1],
                first_ns: n[2],
                last_ns: n[3],
                channel,
                cause,
            })
        });
    let level = (
        stamp(),
        select(Level::ALL),
        select(Level::ALL),
        any::<u32>(),
    )
        .prop_map(|(stamp, from, to, clean_ms)| {
            Record::Level(LevelChange {
                stamp,
                from,
                to,
                clean_ms,
            })
        });
    let clean = (stamp(), any::<[u32; 2]>(), any::<[u64; 4]>()).prop_map(|(stamp, n, t)| {
        Record::Clean(CleanPass {
            stamp,
            tgid: n[0],
            pass: n[1],
            start_ns: t[0],
            end_ns: t[1],
            scanned: t[2],
            cleaned: t[3],
        })
    });
    let clock = (stamp(), any::<[u64; 3]>()).prop_map(|(stamp, t)| {
        Record::Clock(Clock {
            stamp,
            monotonic_ns: t[0],
            realtime_ns: t[1],
            boottime_ns: t[2],
        })
    });
    let exit = (stamp(), any::<[u32; 2]>()).prop_map(|(stamp, n)| {
        Record::Exit(Exit {
            stamp,
            tgid: n[0],
            code: n[1],
        })
    });
    let policy = (stamp(), select(Policy::ALL), any::<(u8, bool, u32, u32)>()).prop_map(
        |(stamp, policy, (grain, overwrite, clean_ms, fifo))| {
            Record::Policy(PolicyChange {
                stamp,
                policy,
                grain,
                overwrite,
                clean_ms,
                fifo,
            })
        },
    );
    let map = (
        stamp(),
        select(MapOp::ALL),
        any::<[u32; 3]>(),
        any::<[u64; 5]>(),
        any::<[bool; 4]>(),
    )
        .prop_map(|(stamp, op, n, a, b)| {
            Record::Map(MapChange {
                stamp,
                tgid: n[0],
                tid: n[1],
                object: n[2],
                op,
                read: b[0],
                write: b[1],
                exec: b[2],
                shared: b[3],
                start: a[0],
                end: a[1],
                page: a[2],
                old_start: a[3],
                old_end: a[4],
            })
        });
    let around = (stamp(), any::<[u32; 4]>(), any::<[u64; 3]>()).prop_map(|(stamp, n, a)| {
        Record::Around(Around {
            stamp,
            tgid: n[0],
            tid: n[1],
            object: n[2],
            pages: n[3],
            addr: a[0],
            page: a[1],
            touched: a[2],
        })
    });
    let active = (
        stamp(),
        any::<[u32; 2]>(),
        any::<[u64; 2]>(),
        (0u64..1 << 52, 0u8..32),
        any::<[bool; 3]>(),
    )
        .prop_map(|(stamp, n, a, (page, page_order), b)| {
            Record::Active(ActivePage {
                stamp,
                tgid: n[0],
                object: n[1],
                addr: a[0],
                page,
                page_order,
                since_ns: a[1],
                dirtied: b[0],
                rereferenced: b[1],
                gone: b[2],
            })
        });
    prop_oneof![
        page_ref().prop_map(Record::Ref),
        process,
        mapping,
        object,
        exit,
        lost,
        level,
        clean,
        clock,
        policy,
        map,
        around,
        active
    ]
}

fn encoded(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        encode(record, &mut bytes);
    }
    bytes
}

fn error(bytes: &[u8]) -> DecodeError {
    decode(bytes, NATIVE).find_map(Result::err).unwrap()
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(records in prop::collection::vec(record(), 0..30)) {
        let bytes = encoded(&records);
        prop_assert_eq!(bytes.len() % 8, 0);
        let found: Vec<Record> = decode(&bytes, NATIVE)
            .map(|item| match item.unwrap() {
                Item::Record(record) => record,
                unknown @ Item::Unknown { .. } => panic!("{unknown:?}"),
            })
            .collect();
        prop_assert_eq!(found, records);
    }

    /// Also reads every offset: an iterator that ends, forwards only, and at an error stands still.
    #[test]
    fn mutated_bytes_never_panic(
        records in prop::collection::vec(record(), 1..6),
        changes in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..8),
        cut in any::<prop::sample::Index>(),
        big in any::<bool>(),
    ) {
        let mut bytes = encoded(&records);
        for (at, value) in changes {
            *at.get_mut(&mut bytes) = value;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        for order in [NATIVE, if big { ByteOrder::Big } else { ByteOrder::Little }] {
            let mut decoder = decode(&bytes, order);
            let mut before = 0;
            while let Some(item) = decoder.next() {
                if let Err(e) = item {
                    prop_assert_eq!(e.offset, before);
                    prop_assert!(decoder.next().is_none());
                    break;
                }
                prop_assert!(decoder.offset() >= before + HEADER_LEN as u64);
                before = decoder.offset();
            }
            prop_assert!(decoder.offset() <= bytes.len() as u64);
        }
    }

    #[test]
    fn random_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400), kind in 0u8..16) {
        // Half-way plausible: magic, version and kind are right, the length is a small one.
        for record in bytes.chunks_mut(64) {
            if let [magic, version, k, _, low, high, ..] = record {
                (*magic, *version, *k) = (0xa7, 1, kind);
                (*low, *high) = (*low & 0xf8, 0);
            }
        }
        decode(&bytes, NATIVE).for_each(drop);
        decode(&bytes, ByteOrder::Big).for_each(drop);
    }
}

fn exit(seq: u64) -> Record {
    Record::Exit(Exit {
        stamp: Stamp {
            cpu: 0,
            seq,
            time_ns: 0,
        },
        tgid: 1,
        code: 2,
    })
}

#[test]
fn each_fault_says_where_expected_and_found() {
    let good = encoded(&[exit(0), exit(1)]);
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    let said = |bytes: &[u8]| error(bytes).to_string();
    assert_eq!(
        said(&with(32, 0)),
        "record at byte 32 of the block: expected magic 0xa7, found 0x00"
    );
    assert_eq!(
        said(&good[..40]),
        "record at byte 32 of the block: expected a header of 24 bytes, found only 8"
    );
    if NATIVE == ByteOrder::Little {
        assert!(said(&with(36, 16)).ends_with("a multiple of 8, found 16"));
        assert!(said(&with(36, 33)).ends_with("a multiple of 8, found 33"));
        assert!(
            said(&with(36, 40))
                .ends_with("expected 40 bytes, found only 32 before the end of the block")
        );
        assert!(said(&with(36, 24)).ends_with("expected at least 32 bytes for kind 5, found 24"));
    }
    // The records before the fault are kept, those behind it are not guessed at.
    assert_eq!(
        decode(&with(32, 0), NATIVE).filter(Result::is_ok).count(),
        1
    );
}

#[test]
fn values_out_of_range_and_long_texts_are_faults() {
    let object = Record::Object(Object {
        stamp: Stamp::default(),
        object: 1,
        tgid: 1,
        dev_major: 0,
        dev_minor: 0,
        ino: 0,
        generation: 0,
        kind: ObjectKind::File,
        path: Some("/a".into()),
        deleted: false,
        truncated: false,
    });
    let mut bytes = encoded(&[object]);
    bytes[52] = 9;
    let what = error(&bytes).what;
    assert_eq!(what.to_string(), "expected object kind in 1..=8, found 9");
    bytes[52] = 1;
    bytes[54..56].copy_from_slice(&9u16.to_ne_bytes());
    assert_eq!(
        error(&bytes).what,
        Fault::TextPastEnd {
            expected: 9,
            found: 8
        }
    );
    // Text that is no UTF-8 is shown as well as it can be.
    bytes[54..56].copy_from_slice(&2u16.to_ne_bytes());
    bytes[57] = 0xff;
    let item = decode(&bytes, NATIVE).next().unwrap().unwrap();
    assert!(
        matches!(item, Item::Record(Record::Object(o)) if o.path.as_deref() == Some("/\u{fffd}"))
    );

    for event in [0u64, 6, 15] {
        let mut bytes = Vec::new();
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let record = page_ref().new_tree(&mut runner).unwrap().current();
        encode(&Record::Ref(record), &mut bytes);
        let page: [u8; 8] = bytes[56..64].try_into().unwrap();
        let page = u64::from_ne_bytes(page) & !(0xf << 57) | event << 57;
        bytes[56..64].copy_from_slice(&page.to_ne_bytes());
        let text = error(&bytes).what.to_string();
        assert_eq!(text, format!("expected event in 1..=5, found {event}"));
    }
}

#[test]
fn a_policy_and_an_operation_nobody_defined_are_faults() {
    let policy = Record::Policy(PolicyChange {
        stamp: Stamp::default(),
        policy: Policy::Fifo,
        grain: 0,
        overwrite: false,
        clean_ms: 0,
        fifo: 16,
    });
    let mut bytes = encoded(&[policy]);
    bytes[24] = 3;
    let what = error(&bytes).what;
    assert_eq!(what.to_string(), "expected policy in 0..=2, found 3");

    let map = Record::Map(MapChange {
        stamp: Stamp::default(),
        tgid: 1,
        tid: 1,
        object: 0,
        op: MapOp::Mmap,
        read: true,
        write: false,
        exec: false,
        shared: false,
        start: 0,
        end: 4096,
        page: 0,
        old_start: 0,
        old_end: 0,
    });
    for op in [0, 7] {
        let mut bytes = encoded(std::slice::from_ref(&map));
        bytes[36] = op;
        let what = error(&bytes).what;
        assert_eq!(
            what.to_string(),
            format!("expected mapping operation in 1..=6, found {op}")
        );
    }
}

#[test]
fn texts_too_long_for_a_record_are_cut() {
    let long = |c: &str| Some(c.repeat(40_000));
    let record = Record::Process(Process {
        stamp: Stamp::default(),
        tgid: 1,
        ppid: 0,
        uid: 0,
        gid: 0,
        start_ns: 0,
        start_boot_ns: 0,
        attached: false,
        forked: false,
        execed: false,
        detached: false,
        comm: "longer than sixteen".into(),
        exe: long("e"),
        cwd: long("c"),
        cgroup: long("g"),
    });
    let bytes = encoded(&[record]);
    let Item::Record(Record::Process(p)) = decode(&bytes, NATIVE).next().unwrap().unwrap() else {
        panic!("not a process");
    };
    assert_eq!(p.comm, "longer than sixt");
    assert_eq!(p.exe.unwrap().len() + p.cwd.unwrap().len(), 65_528 - 80);
    assert_eq!(p.cgroup, None);
}

#[test]
fn a_run_of_references_is_what_framing_finds_one_by_one() {
    // Records of 64 bytes, then something else: another length, another magic, a tail.
    let reference = |cpu: u16| {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&[0xa7, 1, 1, 0]);
        bytes.extend_from_slice(&64_u16.to_ne_bytes());
        bytes.extend_from_slice(&cpu.to_ne_bytes());
        bytes.resize(64, 0x5a);
        bytes
    };
    let mut longer = reference(3);
    longer[4..6].copy_from_slice(&72_u16.to_ne_bytes());
    let mut foreign = reference(3);
    foreign[0] = 0xa6;
    for n in 0..5 {
        for other in [vec![], longer.clone(), foreign.clone(), vec![0xa7; 63]] {
            let bytes: Vec<u8> = (0..n).flat_map(reference).chain(other).collect();
            let (mut at, mut framed) = (0, 0);
            while let Ok(frame) = frame(&bytes[at..], false) {
                if frame.len != 64 || bytes.len() - at < 64 {
                    break;
                }
                at += 64;
                framed += 1;
            }
            assert_eq!(run_of_64(&bytes), framed, "{n} references");
        }
    }
}
