//! What happened around the references: every kind of mark by hand, page-cache events, recordings that keep their newest part.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::read::{self, RefRow};
use common::{Fabric, file_object, page_ref, process, run, small, stamp};
use pgtrace_capture::record::{
    Access, ActivePage, Around, CleanPass, Clock, Event, Exit, Level, LevelChange, MapChange,
    MapOp, PageRef, Policy, PolicyChange, Process, Record,
};
use pgtrace_ingest::schema::Table;

const MS: u64 = 1_000_000;
/// UTC of monotonic 0, see [`Fabric::header`].
const UTC: i64 = 1_700_000_000_000_000_000 - 1000;

fn map(ms: u64, op: MapOp, object: u32) -> Record {
    Record::Map(MapChange {
        stamp: stamp(0, 0, ms * MS),
        tgid: 10,
        tid: 11,
        object,
        op,
        read: true,
        write: false,
        exec: false,
        shared: true,
        start: 4096,
        end: 8192,
        page: 3,
        old_start: 12288,
        old_end: 16384,
    })
}

fn active(ms: u64, gone: bool) -> Record {
    Record::Active(ActivePage {
        stamp: stamp(0, 0, ms * MS),
        tgid: 10,
        object: 1,
        addr: 4096,
        page: 3,
        page_order: 9,
        since_ns: (ms - 1) * MS,
        dirtied: true,
        rereferenced: false,
        gone,
    })
}

fn around(ms: u64, tgid: u32) -> Record {
    Record::Around(Around {
        stamp: stamp(0, 0, ms * MS),
        tgid,
        tid: 11,
        object: 1,
        pages: 16,
        addr: 4096,
        page: 3,
        touched: 4100,
    })
}

fn clean(ms: u64, pass: u32) -> Record {
    Record::Clean(CleanPass {
        stamp: stamp(0, 0, ms * MS),
        tgid: 10,
        pass,
        start_ns: ms * MS - 5,
        end_ns: ms * MS,
        scanned: 9,
        cleaned: 4,
    })
}

fn turn(ms: u64, comm: &str, change: fn(&mut Process)) -> Record {
    let mut p = process(ms * MS, 10, MS, comm);
    p.forked = false;
    change(&mut p);
    Record::Process(p)
}

#[test]
fn every_kind_of_mark_is_a_row_in_order_of_time() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, to) = (folder.path().join("raw"), folder.path().join("dataset"));
    let mut fabric = Fabric::new(0xaa, 2);
    let [one, two] = &mut fabric.cpus[..] else {
        panic!("two CPUs");
    };
    one.push_name(Record::Level(LevelChange {
        stamp: stamp(0, 0, MS),
        from: Level::Off,
        to: Level::Rich,
        clean_ms: 7,
    }));
    one.push_name(Record::Policy(PolicyChange {
        stamp: stamp(0, 0, 2 * MS),
        policy: Policy::Fifo,
        grain: 9,
        overwrite: true,
        clean_ms: 0,
        fifo: 64,
    }));
    one.push_name(turn(3, "sh", |p| p.attached = true));
    // A record that only describes a process is no mark, and neither is one of a thing.
    one.push_name(turn(4, "sh", |_| ()));
    one.push_name(Record::Object(file_object(4 * MS, 1, "/one")));
    one.push_name(turn(5, "cat", |p| p.execed = true));
    // Recordings older than version 1's second part told the cleaner's passes here.
    one.push_name(clean(6, 1));
    two.push_name(Record::Clock(Clock {
        stamp: stamp(0, 0, 14 * MS),
        monotonic_ns: 14 * MS,
        realtime_ns: UTC as u64 + 14 * MS,
        boottime_ns: 0,
    }));
    two.push_name(turn(20, "cat", |p| p.detached = true));
    two.push_name(Record::Exit(Exit {
        stamp: stamp(0, 0, 21 * MS),
        tgid: 10,
        code: 256,
    }));
    two.push_name(turn(22, "new", |p| {
        (p.tgid, p.forked) = (12, true);
        p.start_boot_ns = 2 * MS;
    }));

    one.push_to_refs(map(7, MapOp::Mmap, 0));
    one.push_ref(page_ref(8 * MS, 10, 1, 3));
    one.push_to_refs(map(9, MapOp::Munmap, 1));
    one.push_to_refs(map(10, MapOp::Mremap, 1));
    two.push_to_refs(map(11, MapOp::Brk, 2));
    two.push_to_refs(map(12, MapOp::Stack, 3));
    one.push_to_refs(map(13, MapOp::Mprotect, 1));
    one.push_to_refs(around(15, 10));
    one.push_to_refs(active(16, false));
    two.push_to_refs(active(17, true));
    two.push_to_refs(clean(18, 2));
    // Of a process nobody described.
    two.push_to_refs(around(19, 77));
    // Names may stand in a refs channel: they are names all the same.
    two.push_to_refs(Record::Object(file_object(23 * MS, 2, "/two")));
    fabric.write(&raw);

    let report = run(&[raw], &to, &small()).unwrap();
    let whose = "pid=10";
    let upid = format!("upid={}", (1 << 22) | 10);
    let place = "start_addr=4096 end_addr=8192";
    let may = "read=true write=false exec=false shared=true";
    let expected = [
        "level ts=1 cpu=0 level=rich clean_ms=7".to_string(),
        "policy ts=2 cpu=0 policy=fifo clean_ms=0 fifo=64 grain=9 overwrite=true".into(),
        format!("attach ts=3 cpu=0 {whose} {upid} comm=sh"),
        format!("exec ts=5 cpu=0 {whose} {upid} comm=cat"),
        format!("clean ts=6 cpu=0 {whose} {upid} pass=1 scanned=9 cleaned=4 duration_ns=5"),
        format!("mmap ts=7 cpu=0 {whose} tid=11 {upid} {place} {may} page=3"),
        format!("munmap ts=9 cpu=0 {whose} tid=11 {upid} object_id=1 {place} page=3"),
        format!(
            "mremap ts=10 cpu=0 {whose} tid=11 {upid} object_id=1 {place} old_start_addr=12288 old_end_addr=16384 {may} page=3"
        ),
        format!("brk ts=11 cpu=1 {whose} tid=11 {upid} object_id=2 {place} {may} page=3"),
        format!("stack ts=12 cpu=1 {whose} tid=11 {upid} object_id=3 {place} {may} page=3"),
        format!("mprotect ts=13 cpu=0 {whose} tid=11 {upid} object_id=1 {place} {may} page=3"),
        format!("clock ts=14 cpu=1 monotonic_ns={} utc_ns={}", 14 * MS, UTC as u64 + 14 * MS),
        format!("around ts=15 cpu=0 {whose} tid=11 {upid} object_id=1 start_addr=4096 addr=4100 page=3 pages=16"),
        format!(
            "active ts=16 cpu=0 {whose} {upid} object_id=1 addr=4096 page=3 page_order=9 since_ts=15 dirtied=true rereferenced=false gone=false"
        ),
        format!("active ts=17 cpu=1 {whose} {upid} object_id=1 addr=4096 page=3 page_order=9 since_ts=16 gone=true"),
        format!("clean ts=18 cpu=1 {whose} {upid} pass=2 scanned=9 cleaned=4 duration_ns=5"),
        "around ts=19 cpu=1 pid=77 tid=11 upid=77 object_id=1 start_addr=4096 addr=4100 page=3 pages=16".into(),
        format!("detach ts=20 cpu=1 {whose} {upid} comm=cat"),
        format!("exit ts=21 cpu=1 {whose} {upid} exit_code=256"),
        format!("fork ts=22 cpu=1 pid=12 upid={} comm=new", (2 << 22) | 12),
    ];
    assert_eq!(read::marks(&to, UTC), expected);
    assert_eq!(read::manifest(&to).rows(Table::Objects), 2);
    // One row of refs, and no loss: marks have numbers of the refs channel, and are no references.
    assert_eq!(read::refs(&to).len(), 1);
    assert_eq!(report.captures[0].emitted, Some(1));
    assert!(!report.has_losses(), "{:?}", read::losses(&to));
}

#[test]
fn a_page_that_enters_or_leaves_the_cache_has_no_address_and_maybe_no_process() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, to) = (folder.path().join("raw"), folder.path().join("dataset"));
    let mut fabric = Fabric::new(0xbb, 1);
    let cpu = &mut fabric.cpus[0];
    cpu.push_name(turn(1, "sh", |p| p.attached = true));
    cpu.push_name(Record::Object(file_object(MS, 1, "/one")));
    let event = |ms: u64, tgid, event| PageRef {
        event,
        access: Access::Read,
        major: None,
        page_order: 9,
        uid: if tgid == 0 { 0 } else { 1000 },
        ..page_ref(ms * MS, tgid, 1, 512)
    };
    cpu.push_ref(event(2, 10, Event::Insert));
    cpu.push_ref(event(3, 0, Event::Evict));
    fabric.write(&raw);
    run(&[raw], &to, &small()).unwrap();
    let none = RefRow {
        capture_id: fabric.capture_id.to_string(),
        seq: 0,
        ts: UTC + 2 * MS as i64,
        cpu: 0,
        uid: 1000,
        pid: 10,
        tid: 10,
        upid: (1 << 22) | 10,
        comm: Some("sh".into()),
        path: Some("/one".into()),
        object_kind: Some("file".into()),
        event: "insert".into(),
        access: None,
        major: None,
        addr: None,
        ip: None,
        object_id: 1,
        page: 512,
        page_order: 9,
    };
    let nobody = RefRow {
        seq: 1,
        ts: UTC + 3 * MS as i64,
        uid: 0,
        pid: 0,
        tid: 0,
        upid: 0,
        comm: None,
        event: "evict".into(),
        ..none.clone()
    };
    assert_eq!(read::refs(&to), [none, nobody]);
    // Rows they are, references they are not.
    let capture = read::table(&to, Table::Captures).remove(0);
    assert_eq!(read::number(&capture, "refs", 0), Some(2));
    assert_eq!(read::number(&capture, "cache_events", 0), Some(2));
}

/// 40 references and 40 marks in turn, in chunks of 2 blocks of 8 records; a process is named anew every 10.
fn turns(change: impl FnOnce(&mut Fabric)) -> Fabric {
    let mut fabric = Fabric::new(0xcc, 1);
    (fabric.block, fabric.chunk) = (8, 2);
    let cpu = &mut fabric.cpus[0];
    for i in 0..40 {
        if i % 10 == 0 {
            cpu.push_name(turn(1 + i, "sh", |p| p.execed = true));
        }
        cpu.push_ref(page_ref((1 + i) * MS, 10, 1, i));
        cpu.push_to_refs(around(1 + i, 10));
    }
    change(&mut fabric);
    fabric
}

/// Losses as (count, cause, channel), and whether the program would tell of losses.
fn ingested(fabric: &Fabric, remove: &[usize]) -> (Vec<(u64, String, String)>, bool, u64) {
    let folder = tempfile::tempdir().unwrap();
    let (raw, to) = (folder.path().join("raw"), folder.path().join("dataset"));
    let paths = fabric.write(&raw);
    for &index in remove {
        std::fs::remove_file(&paths[index]).unwrap();
    }
    let report = run(&[raw], &to, &small()).unwrap();
    let losses = read::losses(&to);
    let capture = read::table(&to, Table::Captures).remove(0);
    let number = |column| read::number(&capture, column, 0).unwrap();
    let gone = losses
        .iter()
        .filter(|l| l.2 == "overwritten" && l.3 == "refs");
    let gone: u64 = gone.filter_map(|l| l.1).sum();
    assert_eq!(number("emitted"), number("refs") + number("lost") + gone);
    assert_eq!(number("refs"), read::refs(&to).len() as u64);
    let losses = losses.into_iter().map(|l| (l.1.unwrap(), l.2, l.3));
    (losses.collect(), report.has_losses(), number("lost"))
}

fn loss(count: u64, cause: &str, channel: &str) -> (u64, String, String) {
    (count, cause.into(), channel.into())
}

#[test]
fn oldest_chunks_that_were_rotated_away_are_not_lost() {
    // Names are in the first block: chunk 0 has 8 records of refs, and every later one 16.
    let mut fabric = turns(|f| f.settings.keep_last = "60s".into());
    assert_eq!(
        ingested(&fabric, &[0, 1]),
        (vec![loss(24, "overwritten", "refs")], false, 0)
    );
    // A chunk that is not there, between others that are, was not rotated away.
    let (losses, told, lost) = ingested(&fabric, &[0, 2]);
    let expected = [loss(8, "overwritten", "refs"), loss(16, "missing", "refs")];
    assert_eq!((&losses[..], told, lost), (&expected[..], true, 16));
    // And all are to be there in a recording that keeps everything.
    fabric.settings.keep_last.clear();
    assert_eq!(
        ingested(&fabric, &[0]),
        (vec![loss(8, "missing", "refs")], true, 8)
    );
}

#[test]
fn what_no_snapshot_took_is_not_lost() {
    let mut fabric = turns(|f| {
        f.settings.overwrite = true;
        let cpu = &mut f.cpus[0];
        cpu.skip(1000);
        cpu.push_ref(page_ref(50 * MS, 10, 1, 50));
        // Lost while a snapshot was taken: that is a loss.
        cpu.lose(3, 51 * MS, 51 * MS);
        cpu.push_ref(page_ref(52 * MS, 10, 1, 52));
        cpu.skip(20);
    });
    let expected = vec![
        loss(3, "buffer_full", "refs"),
        loss(1000, "overwritten", "refs"),
        loss(20, "overwritten", "refs"),
    ];
    assert_eq!(ingested(&fabric, &[]), (expected, true, 3));
    fabric.settings.overwrite = false;
    let (_, told, lost) = ingested(&fabric, &[]);
    assert!(told && lost == 1023);
}
