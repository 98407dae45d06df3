#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
use super::*;
use crate::record::*;

fn stamp(cpu: u16, seq: u64) -> Stamp {
    Stamp {
        cpu,
        seq,
        time_ns: seq,
    }
}

fn process(cpu: u16, seq: u64, tgid: u32, comm: &str) -> Record {
    Record::Process(Process {
        stamp: stamp(cpu, seq),
        tgid,
        ppid: 1,
        uid: 0,
        gid: 0,
        start_ns: 5,
        start_boot_ns: 5,
        attached: false,
        forked: false,
        execed: false,
        detached: false,
        comm: comm.into(),
        exe: None,
        cwd: None,
        cgroup: None,
    })
}

fn exit(cpu: u16, seq: u64, tgid: u32) -> Record {
    Record::Exit(Exit {
        stamp: stamp(cpu, seq),
        tgid,
        code: 0,
    })
}

fn learn(names: &Names, cpu: u16, records: &[Record]) {
    let mut bytes = Vec::new();
    records.iter().for_each(|r| wire::encode(r, &mut bytes));
    names.learn(cpu, &bytes);
}

/// Each record as `kind cpu:seq`.
fn told(pieces: &[Vec<u8>]) -> Vec<String> {
    wire::decode(&pieces.concat(), ByteOrder::NATIVE)
        .map(|item| match item.unwrap() {
            Item::Record(r) => format!("{} {}:{}", r.kind(), r.stamp().cpu, r.stamp().seq),
            other @ Item::Unknown { .. } => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_chunk_begins_with_the_latest_and_ends_with_what_was_learned() {
    let names = Names::default();
    let (a, first) = names.begin_chunk(0);
    assert!(first.is_empty());
    learn(
        &names,
        0,
        &[process(0, 0, 7, "sh"), process(0, 1, 7, "sort")],
    );
    let (b, first) = names.begin_chunk(1);
    assert_eq!(told(&first), ["process 0:1"]);
    learn(&names, 1, &[process(1, 0, 8, "cat"), exit(1, 1, 8)]);
    // CPU 0's own records stand in its Names blocks; CPU 1 gets both of what it missed nothing of.
    assert_eq!(
        told(&names.end_chunk(a, names.now())),
        ["process 1:0", "exit 1:1"]
    );
    assert!(names.end_chunk(b, names.now()).is_empty());
}

#[test]
fn own_records_behind_the_chunks_last_block_are_repeated() {
    let names = Names::default();
    let (a, _) = names.begin_chunk(0);
    learn(&names, 0, &[process(0, 0, 7, "in")]);
    let until = names.now();
    learn(&names, 0, &[process(0, 1, 8, "behind")]);
    assert_eq!(told(&names.end_chunk(a, until)), ["process 0:1"]);
}

#[test]
fn ended_processes_are_forgotten_once_every_chunk_began_after() {
    let names = Names::default();
    let (a, _) = names.begin_chunk(0);
    learn(&names, 0, &[process(0, 0, 7, "sh"), exit(0, 1, 7)]);
    let (b, first) = names.begin_chunk(1);
    assert_eq!(
        told(&first),
        ["process 0:0"],
        "chunk of CPU 0 is open still"
    );
    names.end_chunk(a, names.now());
    // The pid is used again.
    learn(&names, 0, &[process(0, 2, 7, "new")]);
    let (c, first) = names.begin_chunk(0);
    assert_eq!(told(&first), ["process 0:2"]);
    names.end_chunk(b, names.now());
    names.end_chunk(c, names.now());
    let inner = names.lock();
    assert!(inner.log.is_empty() && inner.ended.is_empty() && inner.open.is_empty());
}

#[test]
fn many_names_come_in_pieces_that_fit_a_block() {
    let names = Names::default();
    for i in 0..60 {
        let mut p = process(0, i, i as u32, "x");
        if let Record::Process(p) = &mut p {
            p.exe = Some("e".repeat(60_000));
        }
        learn(&names, 0, &[p]);
    }
    let (_, first) = names.begin_chunk(0);
    assert_eq!(told(&first).len(), 60);
    assert!(first.len() > 1 && first.iter().all(|piece| piece.len() <= PIECE));
}

fn anon(cpu: u16, seq: u64, object: u32, tgid: u32) -> Record {
    Record::Object(Object {
        stamp: stamp(cpu, seq),
        object,
        tgid,
        dev_major: 0,
        dev_minor: 0,
        ino: 0,
        generation: 0,
        kind: ObjectKind::Anon,
        path: None,
        deleted: false,
        truncated: false,
    })
}

fn learn_at(names: &Names, now_ns: u64, records: &[Record]) {
    let mut bytes = Vec::new();
    records.iter().for_each(|r| wire::encode(r, &mut bytes));
    names.learn_at(records[0].stamp().cpu, &bytes, now_ns, usize::MAX);
}

#[test]
fn a_processs_memory_is_forgotten_with_it_and_files_are_not() {
    let names = Names::default();
    let mut file = anon(0, 2, 2, 7);
    if let Record::Object(o) = &mut file {
        o.ino = 5;
    }
    learn(
        &names,
        0,
        &[
            process(0, 0, 7, "sh"),
            anon(0, 1, 1, 7),
            file,
            exit(0, 3, 7),
        ],
    );
    let (a, first) = names.begin_chunk(0);
    assert_eq!(told(&first), ["process 0:0", "object 0:1", "object 0:2"]);
    names.end_chunk(a, names.now());
    assert_eq!(told(&names.begin_chunk(0).1), ["object 0:2"]);
}

#[test]
fn in_memory_names_are_as_of_the_window() {
    let names = Names::in_memory();
    learn_at(
        &names,
        100,
        &[process(0, 0, 7, "sh"), process(0, 1, 8, "dd")],
    );
    learn_at(&names, 200, &[process(1, 0, 7, "sort"), anon(1, 1, 1, 8)]);
    learn_at(&names, 300, &[exit(0, 2, 8), process(0, 3, 7, "uniq")]);
    let now = |names: &Names| {
        let (mark, first) = names.begin_chunk(0);
        names.end_chunk(mark, 0);
        told(&first)
    };
    let all = [
        "process 0:0",
        "process 0:1",
        "process 1:0",
        "object 1:1",
        "exit 0:2",
        "process 0:3",
    ];
    assert_eq!(
        (now(&names), names.since_ns()),
        (all.map(String::from).to_vec(), 0)
    );
    // What was true at 150 is: "sh" until "sort" took its place.
    names.slide(150);
    assert_eq!(
        (now(&names), names.since_ns()),
        (all.map(String::from).to_vec(), 100)
    );
    // At 250 it was "sort", and process 8 lived.
    names.slide(250);
    assert_eq!(
        now(&names),
        [
            "process 1:0",
            "process 0:1",
            "object 1:1",
            "exit 0:2",
            "process 0:3"
        ]
    );
    // Now only "uniq" is left.
    names.slide(350);
    assert_eq!(now(&names), ["process 0:3"]);
    assert_eq!(names.since_ns(), 300);
    let inner = names.lock();
    let window = inner.window.as_ref().unwrap();
    assert_eq!(
        (window.bytes, window.replaced.len(), window.times.len()),
        (0, 0, 0)
    );
    assert!(inner.log.is_empty() && inner.ended.is_empty() && inner.known.len() == 1);
}

#[test]
fn in_memory_the_past_is_bounded_and_what_lives_stays() {
    const MOST: usize = 10_000;
    let names = Names::in_memory();
    learn_at(&names, 1, &[process(0, 0, 7, "sh")]);
    for i in 1..1000u64 {
        let tgid = 100 + i as u32;
        let mut bytes = Vec::new();
        for record in [
            process(0, 3 * i, tgid, "x"),
            anon(0, 3 * i + 1, tgid, tgid),
            exit(0, 3 * i + 2, tgid),
        ] {
            wire::encode(&record, &mut bytes);
        }
        names.learn_at(0, &bytes, 1000 + i, MOST);
        let inner = names.lock();
        let held: usize = inner.log.values().map(|(_, b)| b.len()).sum();
        assert_eq!(inner.window.as_ref().unwrap().bytes, held);
        assert!(held <= MOST && inner.known.len() < 200);
    }
    // Only references from then on have all their names; whoever lives is known all the same.
    assert!(names.since_ns() > 1900, "{}", names.since_ns());
    let (_, first) = names.begin_chunk(0);
    let told = told(&first);
    assert_eq!(told[0], "process 0:0");
    assert_eq!(told.last().unwrap(), "exit 0:2999");
    assert_eq!(names.take_exits().len(), 999);
}
