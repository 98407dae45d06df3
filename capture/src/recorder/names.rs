//! The names a recording has learned so far, kept raw, so that every chunk can repeat what its references need.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::record::Record;
use crate::wire::{self, ByteOrder, Item};

/// Bytes of one Repeated block, about.
const PIECE: usize = 1 << 20;

/// What a name record describes; a later record of the same replaces the earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Process { tgid: u32, start_boot_ns: u64 },
    Mapping { tgid: u32, start: u64 },
    Object(u32),
    Level,
    Policy,
    Clock,
}

/// A chunk being written, as far as names go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ChunkMark {
    cpu: u16,
    /// What had been learned when the chunk began.
    begin: u64,
}

/// Shared by all drain threads.
#[derive(Debug, Default)]
pub(super) struct Names {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Count of what was learned; numbers the entries.
    learned: u64,
    /// The latest of each, with its number.
    known: HashMap<Key, (u64, Box<[u8]>)>,
    /// Everything learned since the oldest open chunk began: number -> CPU, bytes.
    log: BTreeMap<u64, (u16, Box<[u8]>)>,
    open: Vec<ChunkMark>,
    /// Processes that ended, and when that was learned.
    ended: Vec<(u64, u32)>,
}

impl Names {
    /// Takes in whole records of a CPU's names channel.
    pub(super) fn learn(&self, cpu: u16, bytes: &[u8]) {
        let mut inner = self.lock();
        let mut decoder = wire::decode(bytes, ByteOrder::NATIVE);
        let mut begin = 0;
        while let Some(Ok(item)) = decoder.next() {
            let end = decoder.offset() as usize;
            if let Item::Record(record) = item {
                inner.add(cpu, &record, bytes.get(begin..end).unwrap_or_default());
            }
            begin = end;
        }
    }

    /// A CPU begins a chunk: all that is known, for its first blocks.
    pub(super) fn begin_chunk(&self, cpu: u16) -> (ChunkMark, Vec<Vec<u8>>) {
        let mut inner = self.lock();
        let mark = ChunkMark {
            cpu,
            begin: inner.learned,
        };
        inner.open.push(mark);
        let mut known: Vec<_> = inner.known.values().collect();
        known.sort_unstable_by_key(|entry| entry.0);
        (mark, pieces(known.into_iter().map(|entry| &*entry.1)))
    }

    /// How much has been learned: what the chunk's own Names blocks hold ends here.
    pub(super) fn now(&self) -> u64 {
        self.lock().learned
    }

    /// A chunk ends: what was learned since it began, for its last blocks, less what its own Names blocks hold (those of
    /// its CPU up to `own_until`).
    pub(super) fn end_chunk(&self, mark: ChunkMark, own_until: u64) -> Vec<Vec<u8>> {
        let mut inner = self.lock();
        let last = pieces(
            inner
                .log
                .range(mark.begin..)
                .filter(|(number, (cpu, _))| *cpu != mark.cpu || **number >= own_until)
                .map(|(_, (_, bytes))| &**bytes),
        );
        if let Some(at) = inner.open.iter().position(|open| *open == mark) {
            inner.open.swap_remove(at);
        }
        inner.forget();
        last
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A thread that panicked is reported when it is joined; the table is consistent between records.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn add(&mut self, cpu: u16, record: &Record, bytes: &[u8]) {
        let key = match record {
            Record::Process(r) => Some(Key::Process {
                tgid: r.tgid,
                start_boot_ns: r.start_boot_ns,
            }),
            Record::Mapping(r) => Some(Key::Mapping {
                tgid: r.tgid,
                start: r.start,
            }),
            Record::Object(r) => Some(Key::Object(r.object)),
            Record::Level(_) => Some(Key::Level),
            Record::Policy(_) => Some(Key::Policy),
            Record::Clock(_) => Some(Key::Clock),
            Record::Exit(r) => {
                self.ended.push((self.learned, r.tgid));
                None
            }
            // Of their own CPU's stream alone: repeated elsewhere they would say something else.
            Record::Ref(_)
            | Record::Lost(_)
            | Record::Clean(_)
            | Record::Map(_)
            | Record::Around(_)
            | Record::Active(_) => return,
        };
        if let Some(key) = key {
            self.known.insert(key, (self.learned, bytes.into()));
        }
        self.log.insert(self.learned, (cpu, bytes.into()));
        self.learned += 1;
    }

    /// Drops what no open chunk needs: the log before the oldest began, and processes that had ended by then. (Not
    /// earlier: another CPU's channel may still hold references of a process that ended here.)
    fn forget(&mut self) {
        let oldest = self
            .open
            .iter()
            .map(|m| m.begin)
            .min()
            .unwrap_or(self.learned);
        self.log = self.log.split_off(&oldest);
        let (gone, ended) = self.ended.iter().partition(|e| e.0 < oldest);
        self.ended = ended;
        let gone: HashMap<u32, u64> = Vec::into_iter(gone)
            .map(|(number, tgid)| (tgid, number))
            .collect();
        if !gone.is_empty() {
            self.known.retain(|key, (number, _)| match key {
                // A pid used again was learned after the end of its first user.
                Key::Process { tgid, .. } | Key::Mapping { tgid, .. } => {
                    gone.get(tgid).is_none_or(|end| *number > *end)
                }
                Key::Object(_) | Key::Level | Key::Policy | Key::Clock => true,
            });
        }
    }
}

/// Joins records to pieces that fit a block.
fn pieces<'a>(records: impl Iterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    for record in records {
        match pieces.last_mut() {
            Some(piece) if piece.len() + record.len() <= PIECE => piece.extend_from_slice(record),
            _ => pieces.push(record.to_vec()),
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
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
}
