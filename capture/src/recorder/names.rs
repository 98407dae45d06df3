//! The names a recording has learned so far, kept raw, so that every chunk can repeat what its references need.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::record::Record;
use crate::sys;
use crate::wire::{self, ByteOrder, Item};

/// Bytes of one Repeated block, about.
const PIECE: usize = 1 << 20;
/// Bytes of names that a recording in memory remembers of the past, besides those of what is still there.
const WINDOW: usize = 64 << 20;

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
    /// The latest of each.
    known: HashMap<Key, Known>,
    /// Everything learned since the oldest open chunk, or the window, began: number -> CPU, bytes.
    log: BTreeMap<u64, (u16, Box<[u8]>)>,
    open: Vec<ChunkMark>,
    /// Processes that ended, and when that was learned.
    ended: Vec<(u64, u32)>,
    window: Option<Window>,
}

/// The latest name record of a thing.
#[derive(Debug)]
struct Known {
    number: u64,
    /// The process it goes with.
    owner: Option<u32>,
    bytes: Box<[u8]>,
}

/// Of a recording in memory: from when on names are remembered as of then, like an open chunk that slides.
#[derive(Debug, Default)]
struct Window {
    /// The first number in it.
    begin: u64,
    /// References from here on have all their names, CLOCK_MONOTONIC ns.
    since_ns: u64,
    /// First number, and when it was learned: one entry a block.
    times: VecDeque<(u64, u64)>,
    /// What was replaced since the window began: it was true at its begin, if it had been learned by then.
    replaced: VecDeque<Replaced>,
    /// Bytes of the log and of `replaced`.
    bytes: usize,
    /// Processes that ended, until somebody asks.
    exits: Vec<u32>,
}

/// A record that was the latest until number `until` came.
#[derive(Debug)]
struct Replaced {
    until: u64,
    number: u64,
    bytes: Box<[u8]>,
}

impl Names {
    /// Of a recording in memory, whose references are older than what is open.
    pub(super) fn in_memory() -> Names {
        Names {
            inner: Mutex::new(Inner {
                window: Some(Window::default()),
                ..Inner::default()
            }),
        }
    }

    /// Takes in whole records of a CPU's names channel.
    pub(super) fn learn(&self, cpu: u16, bytes: &[u8]) {
        self.learn_at(cpu, bytes, sys::clocks().monotonic_ns, WINDOW);
    }

    fn learn_at(&self, cpu: u16, bytes: &[u8], now_ns: u64, most: usize) {
        let mut inner = self.lock();
        let first = inner.learned;
        if let Some(window) = &mut inner.window {
            window.times.push_back((first, now_ns));
        }
        let mut decoder = wire::decode(bytes, ByteOrder::NATIVE);
        let mut begin = 0;
        while let Some(Ok(item)) = decoder.next() {
            let end = decoder.offset() as usize;
            if let Item::Record(record) = item {
                inner.add(cpu, &record, bytes.get(begin..end).unwrap_or_default());
            }
            begin = end;
        }
        inner.shrink(most);
    }

    /// Names of what was recorded before this (CLOCK_MONOTONIC ns) are not needed any more.
    pub(super) fn slide(&self, since_ns: u64) {
        self.lock().slide(|_, learned_ns| learned_ns >= since_ns);
    }

    /// References from here on have all their names, CLOCK_MONOTONIC ns; 0: all have.
    pub(super) fn since_ns(&self) -> u64 {
        self.lock().window.as_ref().map_or(0, |w| w.since_ns)
    }

    /// Processes that ended since the last call; of a recording in memory.
    pub(super) fn take_exits(&self) -> Vec<u32> {
        let mut inner = self.lock();
        let window = inner.window.as_mut();
        window
            .map(|w| std::mem::take(&mut w.exits))
            .unwrap_or_default()
    }

    /// A CPU begins a chunk: all that is known, for its first blocks.
    pub(super) fn begin_chunk(&self, cpu: u16) -> (ChunkMark, Vec<Vec<u8>>) {
        let mut inner = self.lock();
        let mark = ChunkMark {
            cpu,
            begin: inner.learned,
        };
        inner.open.push(mark);
        (mark, pieces(inner.all().into_iter()))
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
        let number = self.learned;
        if let Some(window) = &mut self.window {
            window.bytes += bytes.len();
            if let Record::Exit(r) = record {
                window.exits.push(r.tgid);
            }
        }
        if let Some(key) = key {
            let known = Known {
                number,
                owner: owner(record),
                bytes: bytes.into(),
            };
            let before = self.known.insert(key, known);
            if let (Some(window), Some(before)) = (&mut self.window, before) {
                window.bytes += before.bytes.len();
                window.replaced.push_back(Replaced {
                    until: number,
                    number: before.number,
                    bytes: before.bytes,
                });
            }
        }
        self.log.insert(number, (cpu, bytes.into()));
        self.learned += 1;
    }

    /// All that a chunk beginning now needs, in the order it was learned.
    fn all(&self) -> Vec<&[u8]> {
        let (begin, replaced) = match &self.window {
            Some(w) => (w.begin, Some(&w.replaced)),
            None => (u64::MAX, None),
        };
        let mut known: Vec<_> = self.known.values().filter(|k| k.number < begin).collect();
        known.sort_unstable_by_key(|k| k.number);
        let replaced = replaced.into_iter().flatten();
        let replaced = replaced.filter(|r| r.number < begin).map(|r| &*r.bytes);
        let known = known.into_iter().map(|k| &*k.bytes);
        let log = self.log.range(begin..).map(|(_, (_, bytes))| &**bytes);
        replaced.chain(known).chain(log).collect()
    }

    /// Moves the window's begin to the first block for which `stays` (first number, when it was learned) says so.
    fn slide(&mut self, stays: impl Fn(u64, u64) -> bool) {
        let Some(window) = &mut self.window else {
            return;
        };
        let before = window.begin;
        while let Some(&(first, learned_ns)) = window.times.front() {
            if stays(first, learned_ns) {
                break;
            }
            window.times.pop_front();
            let next = window.times.front();
            window.begin = next.map_or(self.learned, |t| t.0);
            window.since_ns = learned_ns;
        }
        if window.begin != before {
            self.forget();
        }
    }

    /// Keeps the window's bytes below `most`, by giving up the names of what is oldest.
    fn shrink(&mut self, most: usize) {
        let Some(window) = self.window.as_ref().filter(|w| w.bytes > most) else {
            return;
        };
        let (mut excess, mut begin) = (window.bytes - most / 2, self.learned);
        for (number, (_, bytes)) in self.log.range(window.begin..) {
            match excess.checked_sub(bytes.len()) {
                Some(rest) => excess = rest,
                None => {
                    begin = *number;
                    break;
                }
            }
        }
        self.slide(|first, _| first >= begin);
    }

    /// Drops what no open chunk needs: the log before the oldest began, and processes that had ended by then. (Not
    /// earlier: another CPU's channel may still hold references of a process that ended here.)
    fn forget(&mut self) {
        let oldest = self
            .open
            .iter()
            .map(|m| m.begin)
            .chain(self.window.as_ref().map(|w| w.begin))
            .min()
            .unwrap_or(self.learned);
        let rest = self.log.split_off(&oldest);
        let gone = std::mem::replace(&mut self.log, rest);
        if let Some(window) = &mut self.window {
            let still = window.replaced.partition_point(|r| r.until < oldest);
            let gone = gone.values().map(|(_, bytes)| bytes.len());
            let replaced = window.replaced.drain(..still).map(|r| r.bytes.len());
            let bytes: usize = gone.chain(replaced).sum();
            window.bytes = window.bytes.saturating_sub(bytes);
        }
        let (gone, ended) = self.ended.iter().partition(|e| e.0 < oldest);
        self.ended = ended;
        let gone: HashMap<u32, u64> = Vec::into_iter(gone)
            .map(|(number, tgid)| (tgid, number))
            .collect();
        if !gone.is_empty() {
            // A pid used again was learned after the end of its first user.
            self.known.retain(|_, known| {
                let end = known.owner.and_then(|tgid| gone.get(&tgid));
                end.is_none_or(|end| known.number > *end)
            });
        }
    }
}

/// The process that a name goes with: it itself, its mappings, its anonymous memory.
fn owner(record: &Record) -> Option<u32> {
    match record {
        Record::Process(r) => Some(r.tgid),
        Record::Mapping(r) => Some(r.tgid),
        Record::Object(r) if (r.dev_major, r.dev_minor, r.ino) == (0, 0, 0) => Some(r.tgid),
        _ => None,
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
