//! Names on small histories that can be checked by eye.
#![allow(clippy::unwrap_used)]

use pgtrace_capture::record::{Channel, Exit, Mapping, Object, ObjectKind, Process, Record, Stamp};
use pgtrace_capture::wire::{self, ByteOrder};

use super::{Collected, collect, order_byte, upid};
use crate::spill::{Key, Merged, Room, Sorter, Temp};

/// Names in the order in which they are read.
#[derive(Default)]
struct All(Vec<(Channel, Record)>);

impl All {
    fn add(&mut self, channel: Channel, record: Record) {
        self.0.push((channel, record));
    }

    fn finish(self) -> Collected {
        let room = Room::default();
        let temp = Temp::new(&room);
        let mut sorter = Sorter::new(&temp, &room, 1);
        for (channel, record) in self.0 {
            let mut bytes = vec![order_byte(ByteOrder::NATIVE)];
            wire::encode(&record, &mut bytes);
            sorter.push(Key::new(channel, record.stamp()), &[&bytes]);
        }
        let runs = sorter.finish().unwrap();
        let merged = Merged::new(&temp, runs, room.memory).unwrap();
        collect(merged, &temp, |_, _| {}).unwrap()
    }
}

fn stamp(seq: u64, time_ns: u64) -> Stamp {
    Stamp {
        cpu: 0,
        seq,
        time_ns,
    }
}

fn process(seq: u64, time_ns: u64, tgid: u32, start_ms: u64, comm: &str) -> Record {
    Record::Process(Process {
        stamp: stamp(seq, time_ns),
        tgid,
        ppid: 1,
        uid: 0,
        gid: 0,
        start_ns: start_ms * 1_000_000,
        start_boot_ns: start_ms * 1_000_000,
        attached: false,
        forked: true,
        execed: false,
        detached: false,
        comm: comm.into(),
        exe: None,
        cwd: None,
        cgroup: None,
    })
}

fn object(seq: u64, time_ns: u64, path: Option<&str>, deleted: bool) -> Record {
    Record::Object(Object {
        stamp: stamp(seq, time_ns),
        object: 5,
        tgid: 7,
        dev_major: 8,
        dev_minor: 1,
        ino: 99,
        generation: 3,
        kind: ObjectKind::File,
        path: path.map(Into::into),
        deleted,
        truncated: false,
    })
}

const MS: u64 = 1_000_000;

#[test]
fn exec_changes_the_name_and_not_the_incarnation() {
    let mut all = All::default();
    all.add(Channel::Names, process(0, 12 * MS, 7, 10, "sh"));
    all.add(Channel::Names, process(1, 20 * MS, 7, 10, "cat"));
    let all = all.finish();
    let names = &all.names;
    let comm = |t| &*names.who(7, t).unwrap().comm;
    assert_eq!(comm(11 * MS), "sh", "before the record, behind the start");
    assert_eq!(comm(20 * MS - 1), "sh");
    assert_eq!(comm(20 * MS), "cat");
    assert_eq!(names.processes.len(), 1);
    let life = &names.processes[&upid(10 * MS, 7)];
    assert_eq!(&*life.last.comm, "cat");
    assert!(names.who(8, 0).is_none());
    assert_eq!(names.upid_at(8, 0), 8);
}

#[test]
fn a_reused_pid_is_another_process() {
    let mut all = All::default();
    all.add(Channel::Names, process(0, 12 * MS, 7, 10, "old"));
    all.add(
        Channel::Names,
        Record::Exit(Exit {
            stamp: stamp(1, 30 * MS),
            tgid: 7,
            code: 256,
        }),
    );
    // Written 5 ms after the new process began.
    all.add(Channel::Names, process(2, 45 * MS, 7, 40, "new"));
    let all = all.finish();
    let names = &all.names;
    let (old, new) = (upid(10 * MS, 7), upid(40 * MS, 7));
    assert_ne!(old, new);
    assert_eq!(names.upid_at(7, 39 * MS), old);
    assert_eq!(
        names.upid_at(7, 41 * MS),
        new,
        "its first record came later"
    );
    assert_eq!(names.processes[&old].exit, Some((30 * MS, 256)));
    assert_eq!(names.processes[&new].exit, None);
}

#[test]
fn copies_count_once_and_the_first_path_stays() {
    let mut all = All::default();
    all.add(Channel::Names, object(3, 5, Some("/new"), true));
    all.add(Channel::Names, object(1, 1, None, false));
    all.add(Channel::Names, object(2, 2, Some("/old"), false));
    all.add(Channel::Names, object(2, 2, Some("/old"), false));
    let mapping = Mapping {
        stamp: stamp(9, 3),
        tgid: 7,
        object: 5,
        start: 0x1000,
        end: 0x2000,
        page: 0,
        read: true,
        write: false,
        exec: false,
        shared: true,
    };
    all.add(Channel::Names, Record::Mapping(mapping));
    all.add(Channel::Names, Record::Mapping(mapping));
    let all = all.finish();
    let names = &all.names;
    let file = &names.objects[&5];
    assert_eq!(file.path.as_deref(), Some("/old"));
    assert!(file.deleted);
    let mut mappings = all.told.mappings();
    let mut next = || mappings.next_name().unwrap().map(|(_, record)| record);
    assert_eq!(next(), Some(Record::Mapping(mapping)));
    assert_eq!(next(), None);
}
