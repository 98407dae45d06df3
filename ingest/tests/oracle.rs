//! The whole pipeline against brute force: random recordings, every column of every row.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;

use common::read::{self, RefRow};
use common::{Fabric, file_object, page_ref, process, run, small};
use pgtrace_capture::record::{
    Access, Around, CleanPass, Clock, Event, Exit, Level, LevelChange, Mapping, PageRef, Record,
};
use pgtrace_ingest::manifest::{PartitionKey, Span};
use pgtrace_ingest::pipeline::Options;
use pgtrace_ingest::schema::Table;
use proptest::prelude::*;

/// One thing that happens on a CPU.
#[derive(Clone, Debug)]
struct Happening {
    cpu: usize,
    /// Time goes by (or back).
    dt: i64,
    pid: u32,
    object: u32,
    page: u64,
    event: usize,
    access: usize,
    major: Option<bool>,
    addr: bool,
    /// So many are lost before it.
    lost: u64,
    /// A mark stands before it in the refs channel.
    mark: bool,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let who = (0usize..3, -40i64..100, 0u32..4, 1u32..6, 0u64..40);
    let what = (
        0usize..5,
        0usize..4,
        any::<Option<bool>>(),
        any::<bool>(),
        prop_oneof![9 => Just(0u64), 1 => 1u64..9],
        any::<bool>(),
    );
    let one = (who, what).prop_map(
        |((cpu, dt, pid, object, page), (event, access, major, addr, lost, mark))| Happening {
            cpu,
            dt,
            pid,
            object,
            page,
            event,
            access,
            // Only faults know whether they needed I/O.
            major: (event < 2).then_some(major.unwrap_or(false)),
            addr,
            lost,
            mark,
        },
    );
    proptest::collection::vec(one, 0..120)
}

const MS: u64 = 1_000_000;

/// Pids 10, 11 and 12 are described (11 twice over: it is reused), 13 never is.
/// Objects 1 to 4 are described, 5 never is.
fn fabricate(happenings: &[Happening]) -> Fabric {
    let mut fabric = Fabric::new(0xabc, 3);
    fabric.block = 7;
    fabric.chunk = 3;
    let base = 10 * MS;
    let mut clock = [base; 3];
    for h in happenings {
        let cpu = &mut fabric.cpus[h.cpu];
        // Steps of a tenth of a ms, so that processes change in between.
        let now = clock[h.cpu].saturating_add_signed(h.dt * 100_000).max(base);
        clock[h.cpu] = now;
        if h.lost > 0 {
            cpu.lose(h.lost, now, now);
        }
        if h.mark {
            cpu.push_to_refs(Record::Around(Around {
                stamp: common::stamp(0, 0, now),
                tgid: 10 + h.pid,
                tid: 10 + h.pid,
                object: h.object,
                pages: 16,
                addr: h.page << 12,
                page: h.page,
                touched: (h.page << 12) + 5,
            }));
        }
        let r = page_ref(now, 10 + h.pid, h.object, h.page);
        cpu.push_ref(PageRef {
            tid: 10 + h.pid + (h.page % 2) as u32,
            uid: 1000 + h.pid % 2,
            addr: if h.addr { r.addr } else { 0 },
            ip: h.page % 3 * 0x1000,
            page_order: if h.page == 7 { 9 } else { 0 },
            event: Event::ALL[h.event],
            access: Access::ALL[h.access],
            major: h.major,
            ..r
        });
    }
    let names = [
        Record::Process(process(11 * MS, 10, 5 * MS, "sh")),
        Record::Process(process(14 * MS, 10, 5 * MS, "cat")),
        Record::Process(process(9 * MS, 11, 8 * MS, "first")),
        Record::Process(process(16 * MS, 11, 13 * MS, "second")),
        Record::Process(process(12 * MS, 12, 0, "old")),
        Record::Exit(Exit {
            stamp: common::stamp(0, 0, 12 * MS),
            tgid: 11,
            code: 256,
        }),
        Record::Object(file_object(13 * MS, 1, "/one")),
        Record::Object(file_object(11 * MS, 2, "/two")),
        Record::Object(file_object(12 * MS, 2, "/two-renamed")),
        Record::Object(pgtrace_capture::record::Object {
            deleted: true,
            ..file_object(20 * MS, 3, "/three")
        }),
        Record::Object(pgtrace_capture::record::Object {
            kind: pgtrace_capture::record::ObjectKind::Anon,
            path: None,
            dev_major: 0,
            dev_minor: 0,
            ino: 0,
            ..file_object(12 * MS, 4, "")
        }),
        Record::Mapping(Mapping {
            stamp: common::stamp(0, 0, 15 * MS),
            tgid: 11,
            object: 1,
            start: 0x1000,
            end: 0x3000,
            page: 2,
            read: true,
            write: false,
            exec: true,
            shared: false,
        }),
        Record::Level(LevelChange {
            stamp: common::stamp(0, 0, 10 * MS),
            from: Level::Off,
            to: Level::Full,
            clean_ms: 500,
        }),
        Record::Clean(CleanPass {
            stamp: common::stamp(0, 0, 13 * MS),
            tgid: 10,
            pass: 1,
            start_ns: 12 * MS,
            end_ns: 13 * MS,
            scanned: 9,
            cleaned: 4,
        }),
        // The wall clock is set forward by a second at 12 ms.
        Record::Clock(Clock {
            stamp: common::stamp(0, 0, 12 * MS),
            monotonic_ns: 12 * MS,
            realtime_ns: UTC + SECOND + 12 * MS,
            boottime_ns: 0,
        }),
    ];
    for (i, record) in names.into_iter().enumerate() {
        fabric.cpus[i % 3].push_name(record);
    }
    fabric
}

const UTC: u64 = 1_700_000_000_000_000_000 - 1000;
const SECOND: u64 = 1_000_000_000;

fn who(pid: u32, t: u64) -> (u64, Option<&'static str>) {
    let upid = |start_ms: u64| (start_ms << 22) | u64::from(pid);
    match pid {
        10 if t < 14 * MS => (upid(5), Some("sh")),
        10 => (upid(5), Some("cat")),
        11 if t < 13 * MS => (upid(8), Some("first")),
        11 => (upid(13), Some("second")),
        12 => (upid(0), Some("old")),
        _ => (u64::from(pid), None),
    }
}

/// The definition, done the slow way: the least head by (time, CPU) is next. Rows of refs, and of the marks among them
/// (CPU, upid, page).
fn oracle(fabric: &Fabric) -> (Vec<RefRow>, Vec<(u64, u64, u64)>) {
    let mut left: Vec<Vec<Record>> = fabric
        .cpus
        .iter()
        .map(|c| {
            let all = c.refs.iter().filter(|r| !matches!(r, Record::Lost(_)));
            all.cloned().collect()
        })
        .collect();
    let (mut rows, mut marks) = (Vec::new(), Vec::new());
    while let Some(cpu) = (0..3)
        .filter(|&c: &usize| !left[c].is_empty())
        .min_by_key(|&c| (left[c][0].stamp().time_ns, c))
    {
        let r = match left[cpu].remove(0) {
            Record::Ref(r) => r,
            Record::Around(a) => {
                marks.push((cpu as u64, who(a.tgid, a.stamp.time_ns).0, a.page));
                continue;
            }
            other => panic!("{other:?}"),
        };
        let t = r.stamp.time_ns;
        let used = r.event != Event::Insert && r.event != Event::Evict;
        let (upid, comm) = who(r.tgid, t);
        let (path, kind) = match r.object {
            1 => (Some("/one"), Some("file")),
            2 => (Some("/two"), Some("file")),
            3 => (Some("/three"), Some("file")),
            4 => (None, Some("anon")),
            _ => (None, None),
        };
        let utc = UTC + t + if t >= 12 * MS { SECOND } else { 0 };
        rows.push(RefRow {
            capture_id: fabric.capture_id.to_string(),
            seq: rows.len() as u64,
            ts: utc as i64,
            cpu: cpu as u16,
            uid: r.uid,
            pid: r.tgid,
            tid: r.tid,
            upid,
            comm: comm.map(Into::into),
            path: path.map(Into::into),
            object_kind: kind.map(Into::into),
            event: r.event.as_str().into(),
            access: (used && r.access != Access::Unknown).then(|| r.access.as_str().into()),
            major: r.major,
            addr: (used && r.addr != 0).then_some(r.addr),
            ip: (used && r.ip != 0).then_some(r.ip),
            object_id: r.object.into(),
            page: r.page,
            page_order: r.page_order,
        });
    }
    (rows, marks)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn rows_are_the_definition(happenings in happenings(), layout in 0usize..4, slice_rows in 1u64..40, open in 1usize..4) {
        let folder = tempfile::tempdir().unwrap();
        let (raw, to) = (folder.path().join("raw"), folder.path().join("dataset"));
        let fabric = fabricate(&happenings);
        fabric.write(&raw);
        use PartitionKey::{Pid, Slice, Uid};
        let keys = [vec![Uid, Pid, Slice], vec![Slice, Uid], vec![Pid], vec![]][layout].clone();
        let options = Options {
            partition_by: Some(keys.clone()),
            slice_rows: Some(slice_rows),
            max_open_files: open,
            ..small()
        };
        let report = run(&[raw], &to, &options).unwrap();
        let (expected, expected_marks) = oracle(&fabric);
        let found = read::refs(&to);
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(marks_among_refs(&to), expected_marks);
        prop_assert_eq!(report.captures[0].emitted, Some(fabric.emitted()));
        prop_assert_eq!(fabric.emitted(), found.len() as u64 + read::lost_refs(&to));
        check_files(&to, &keys, slice_rows);
        check_small_tables(&to);
    }
}

fn marks_among_refs(to: &std::path::Path) -> Vec<(u64, u64, u64)> {
    let mut marks = Vec::new();
    for b in read::table(to, Table::Marks) {
        for i in 0..b.num_rows() {
            if read::text(&b, "kind", i).as_deref() == Some("around") {
                let number = |column| read::number(&b, column, i).unwrap();
                marks.push((number("cpu"), number("upid"), number("page")));
            }
        }
    }
    marks
}

/// Every file: its folder, its order, and what the manifest says of it.
fn check_files(to: &std::path::Path, keys: &[PartitionKey], slice_rows: u64) {
    let manifest = read::manifest(to);
    for entry in manifest.files(Table::Refs) {
        let rows: Vec<RefRow> = read::file(to, entry)
            .iter()
            .flat_map(read::rows_of)
            .collect();
        assert_eq!(rows.len() as u64, entry.rows);
        assert!(rows.is_sorted_by(|a, b| a.seq < b.seq), "{}", entry.path);
        for row in &rows {
            let mut folder = String::from("refs/");
            for key in keys {
                folder += &match key {
                    PartitionKey::Uid => format!("uid={}/", row.uid),
                    PartitionKey::Pid => format!("pid={}/", row.pid),
                    PartitionKey::Slice => format!("slice={:06}/", row.seq / slice_rows),
                };
            }
            assert_eq!(
                entry.path.rsplit_once('/').unwrap().0.to_string() + "/",
                folder
            );
        }
        let span = |f: fn(&RefRow) -> u64| {
            let values = || rows.iter().map(f);
            Some(Span {
                min: values().min().unwrap(),
                max: values().max().unwrap(),
            })
        };
        let wide = |s: Option<Span<u32>>| {
            s.map(|s| Span {
                min: s.min.into(),
                max: s.max.into(),
            })
        };
        assert_eq!(entry.seq, span(|r| r.seq));
        assert_eq!(
            entry.ts.map(|s| Span {
                min: s.min as u64,
                max: s.max as u64
            }),
            span(|r| r.ts as u64)
        );
        assert_eq!(wide(entry.uid), span(|r| r.uid.into()));
        assert_eq!(wide(entry.pid), span(|r| r.pid.into()));
        let mut objects: BTreeMap<u64, Span<u64>> = BTreeMap::new();
        for r in &rows {
            objects
                .entry(r.object_id)
                .or_insert(Span::of(r.page))
                .include(r.page);
        }
        let extents = entry.objects.iter();
        let extents = extents.map(|o| {
            (
                o.object_id,
                Span {
                    min: o.min_page,
                    max: o.max_page,
                },
            )
        });
        assert_eq!(extents.collect::<BTreeMap<_, _>>(), objects);
    }
}

fn check_small_tables(to: &std::path::Path) {
    let batch = |table| read::table(to, table).remove(0);
    let texts = |b: &arrow::array::RecordBatch, column| -> Vec<Option<String>> {
        (0..b.num_rows())
            .map(|i| read::text(b, column, i))
            .collect()
    };
    let some = |texts: &[&str]| -> Vec<Option<String>> {
        texts
            .iter()
            .map(|t| (!t.is_empty()).then(|| t.to_string()))
            .collect()
    };
    let p = batch(Table::Processes);
    // By upid: start in ms, then pid.
    assert_eq!(texts(&p, "comm"), some(&["old", "cat", "first", "second"]));
    assert_eq!(
        texts(&p, "exe"),
        some(&["/bin/old", "/bin/cat", "/bin/first", "/bin/second"])
    );
    let ends: Vec<_> = (0..4).map(|i| read::time(&p, "end_ts", i)).collect();
    let end = (UTC + SECOND + 12 * MS) as i64;
    assert_eq!(ends, [None, None, Some(end), None]);
    assert_eq!(read::number(&p, "exit_code", 2), Some(256));

    let o = batch(Table::Objects);
    assert_eq!(texts(&o, "path"), some(&["/one", "/two", "/three", ""]));
    assert_eq!(texts(&o, "dev"), some(&["8:1", "8:1", "8:1", ""]));
    let deleted: Vec<_> = (0..4)
        .map(|i| read::flag(&o, "deleted", i).unwrap())
        .collect();
    assert_eq!(deleted, [false, false, true, false]);

    let m = batch(Table::Mappings);
    assert_eq!(
        m.num_rows(),
        1,
        "copies in later chunks are the same record"
    );
    assert_eq!(read::number(&m, "upid", 0), Some((13 << 22) | 11));

    let marks = batch(Table::Marks);
    let of_names: Vec<usize> = (0..marks.num_rows())
        .filter(|&i| read::text(&marks, "kind", i).as_deref() != Some("around"))
        .collect();
    let of_names = |column| -> Vec<Option<String>> {
        let texts = of_names.iter().map(|&i| read::text(&marks, column, i));
        texts.collect()
    };
    let kinds = "fork level fork fork exit clock clean fork fork";
    let kinds: Vec<&str> = kinds.split(' ').collect();
    assert_eq!(of_names("kind"), some(&kinds));
    let comms = ["first", "", "sh", "old", "", "", "", "cat", "second"];
    assert_eq!(of_names("comm"), some(&comms));
    let clean = (0..marks.num_rows()).find(|&i| read::number(&marks, "pass", i).is_some());
    assert_eq!(
        read::number(&marks, "duration_ns", clean.unwrap()),
        Some(MS)
    );

    let c = batch(Table::Captures);
    assert_eq!(texts(&c, "level"), some(&["full"]));
    assert_eq!(
        read::number(&c, "refs", 0),
        Some(read::refs(to).len() as u64)
    );
    assert_eq!(read::number(&c, "lost", 0), Some(read::lost_refs(to)));
}
