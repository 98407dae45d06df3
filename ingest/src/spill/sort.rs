//! Sorting more than fits in memory: sorted runs in the temporary file, merged at the end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use pgtrace_capture::record::{Channel, Stamp};

use super::tape::{Tape, TapeReader, TapeWriter};
use super::{Room, Temp};
use crate::error::IngestError;

/// Runs that are merged at a time.
const RUNS: usize = 64;
/// Least bytes of a run, and the most.
const RUN: std::ops::RangeInclusive<u64> = 64 << 10..=64 << 20;
/// What a record takes while it waits, besides its bytes.
const ENTRY: usize = size_of::<(Key, usize, usize)>();

/// Where a record stands in its recording: the order of names, and what tells copies of a record from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) time_ns: u64,
    pub(crate) cpu: u16,
    pub(crate) seq: u64,
    /// It stood in the refs channel.
    pub(crate) in_refs: bool,
}

impl Key {
    const BYTES: usize = 19;

    pub(crate) fn new(channel: Channel, stamp: Stamp) -> Self {
        Self {
            time_ns: stamp.time_ns,
            cpu: stamp.cpu,
            seq: stamp.seq,
            in_refs: channel == Channel::Refs,
        }
    }

    /// As it stands before a record on a tape.
    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let (time, rest) = bytes.split_at_mut(8);
        let (seq, rest) = rest.split_at_mut(8);
        let (cpu, in_refs) = rest.split_at_mut(2);
        time.copy_from_slice(&self.time_ns.to_le_bytes());
        seq.copy_from_slice(&self.seq.to_le_bytes());
        cpu.copy_from_slice(&self.cpu.to_le_bytes());
        in_refs.fill(self.in_refs.into());
        bytes
    }

    /// Takes it off a piece; `None`: the piece is no record.
    pub(crate) fn split(piece: &[u8]) -> Option<(Self, &[u8])> {
        let (time_ns, rest) = piece.split_first_chunk()?;
        let (seq, rest) = rest.split_first_chunk()?;
        let (cpu, rest) = rest.split_first_chunk()?;
        let (in_refs, rest) = rest.split_first()?;
        let key = Self {
            time_ns: u64::from_le_bytes(*time_ns),
            cpu: u16::from_le_bytes(*cpu),
            seq: u64::from_le_bytes(*seq),
            in_refs: *in_refs != 0,
        };
        Some((key, rest))
    }
}

/// Sorts records by their keys. Of several with the same key the first that came stays.
#[derive(Debug)]
pub(crate) struct Sorter {
    temp: Temp,
    /// Bytes of a run.
    run: usize,
    bytes: Vec<u8>,
    /// Key, begin and end of each record in `bytes`.
    waiting: Vec<(Key, usize, usize)>,
    runs: Vec<Tape>,
    /// Told at the end: whoever adds records has no use for it.
    failure: Option<IngestError>,
}

impl Sorter {
    /// One of so many sorters that share a room.
    pub(crate) fn new(temp: &Temp, room: &Room, sorters: usize) -> Self {
        // A quarter is for what follows: see `Temp::new`.
        let run = room.memory / 2 / sorters.max(1) as u64;
        Self {
            temp: temp.clone(),
            run: run.clamp(*RUN.start(), *RUN.end()) as usize,
            bytes: Vec::new(),
            waiting: Vec::new(),
            runs: Vec::new(),
            failure: None,
        }
    }

    /// Adds a record, given in parts.
    pub(crate) fn push(&mut self, key: Key, parts: &[&[u8]]) {
        let from = self.bytes.len();
        parts.iter().for_each(|p| self.bytes.extend_from_slice(p));
        self.waiting.push((key, from, self.bytes.len()));
        if self.bytes.len() + self.waiting.len() * ENTRY >= self.run
            && let Err(e) = self.end_run()
        {
            self.failure.get_or_insert(e);
        }
    }

    fn end_run(&mut self) -> Result<(), IngestError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        // Stable: of those with the same key the first stays first.
        self.waiting.sort_by_key(|w| w.0);
        self.waiting.dedup_by_key(|w| w.0);
        let mut run = TapeWriter::new(&self.temp);
        for (key, from, to) in self.waiting.drain(..) {
            let record = self.bytes.get(from..to).unwrap_or_default();
            run.push(&[&key.to_bytes(), record]);
        }
        self.bytes.clear();
        if self.failure.is_none() {
            self.runs.push(run.finish()?);
        }
        Ok(())
    }

    /// Ends it: sorted runs, in the order in which their records came.
    ///
    /// # Errors
    /// The temporary file could not be written.
    pub(crate) fn finish(&mut self) -> Result<Vec<Tape>, IngestError> {
        self.end_run()?;
        (self.bytes, self.waiting) = (Vec::new(), Vec::new());
        match self.failure.take() {
            Some(e) => Err(e),
            None => Ok(std::mem::take(&mut self.runs)),
        }
    }
}

/// The records of several runs in order, each once; of several with the same key the one of the first run.
#[derive(Debug)]
pub(crate) struct Merged {
    runs: Vec<TapeReader>,
    /// The next record of each run but the one that gave last.
    heads: BinaryHeap<Reverse<(Key, usize)>>,
    records: Vec<Vec<u8>>,
    last: Option<(Key, usize)>,
}

impl Merged {
    /// Merges runs, a few of them at a time, so that their buffers stay within `memory`.
    ///
    /// # Errors
    /// The temporary file cannot be written or read.
    pub(crate) fn new(temp: &Temp, mut runs: Vec<Tape>, memory: u64) -> Result<Self, IngestError> {
        let buffer = memory as usize / 4 / RUNS;
        while runs.len() > RUNS {
            let mut fewer = Vec::new();
            for some in runs.chunks(RUNS) {
                let mut merged = Self::of(some, buffer)?;
                let mut run = TapeWriter::new(temp);
                while let Some((key, record)) = merged.next_record()? {
                    run.push(&[&key.to_bytes(), record]);
                }
                fewer.push(run.finish()?);
            }
            runs = fewer;
        }
        Self::of(&runs, buffer)
    }

    fn of(runs: &[Tape], buffer: usize) -> Result<Self, IngestError> {
        let mut merged = Self {
            runs: runs.iter().map(|run| run.read_by(buffer)).collect(),
            heads: BinaryHeap::new(),
            records: vec![Vec::new(); runs.len()],
            last: None,
        };
        for index in 0..runs.len() {
            merged.push_head(index)?;
        }
        Ok(merged)
    }

    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// The temporary file cannot be read.
    pub(crate) fn next_record(&mut self) -> Result<Option<(Key, &[u8])>, IngestError> {
        let before = self.last.take();
        if let Some((_, index)) = before {
            self.push_head(index)?;
        }
        while let Some(Reverse((key, index))) = self.heads.pop() {
            if before.is_some_and(|(last, _)| last == key) {
                self.push_head(index)?;
                continue;
            }
            self.last = Some((key, index));
            return Ok(self.records.get(index).map(|r| (key, r.as_slice())));
        }
        Ok(None)
    }

    fn push_head(&mut self, index: usize) -> Result<(), IngestError> {
        if let (Some(run), Some(to)) = (self.runs.get_mut(index), self.records.get_mut(index))
            && let Some((key, record)) = run.next_piece()?.and_then(Key::split)
        {
            to.clear();
            to.extend_from_slice(record);
            self.heads.push(Reverse((key, index)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(time_ns: u64) -> Key {
        Key {
            time_ns,
            cpu: 0x1234,
            seq: time_ns / 3,
            in_refs: time_ns.is_multiple_of(2),
        }
    }

    /// Sorts keys by two sorters, half each, every record telling when it came; gives keys and what they tell.
    fn sort(times: &[u64], memory: u64) -> (Vec<(Key, u64)>, u64) {
        let room = Room {
            memory,
            ..Room::default()
        };
        let temp = Temp::new(&room);
        let mut runs = Vec::new();
        for (half, times) in times.chunks(times.len().div_ceil(2).max(1)).enumerate() {
            let mut sorter = Sorter::new(&temp, &room, 2);
            for (i, &time) in times.iter().enumerate() {
                let came = (half * 1_000_000 + i) as u64;
                sorter.push(
                    key(time),
                    &[&came.to_le_bytes()[..3], &came.to_le_bytes()[3..]],
                );
            }
            runs.extend(sorter.finish().unwrap());
        }
        let mut merged = Merged::new(&temp, runs, memory).unwrap();
        let mut all = Vec::new();
        while let Some((key, record)) = merged.next_record().unwrap() {
            all.push((key, u64::from_le_bytes(*record.first_chunk().unwrap())));
        }
        (all, temp.on_disk())
    }

    #[test]
    fn sorted_and_each_once_whatever_the_memory() {
        let mut random = 1_u64;
        let mut next = || {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            random >> 33
        };
        let times: Vec<u64> = (0..300_000).map(|_| next() % 200_000).collect();
        let (in_memory, nothing) = sort(&times, 1 << 30);
        // More runs than are merged at a time.
        let (spilled, on_disk) = sort(&times, 0);
        assert_eq!(nothing, 0);
        assert!(on_disk > 300_000 * 27, "{on_disk}");
        assert!(in_memory == spilled);
        let mut expected = std::collections::BTreeMap::new();
        for (i, &time) in times.iter().enumerate() {
            let came = (i / 150_000 * 1_000_000 + i % 150_000) as u64;
            expected.entry(key(time)).or_insert(came);
        }
        assert!(spilled == expected.into_iter().collect::<Vec<_>>());
        assert!(sort(&[], 0).0.is_empty());
    }

    #[test]
    fn a_key_to_bytes_and_back() {
        for time in [0, 7, 1 << 60] {
            let bytes = [key(time).to_bytes().as_slice(), b"rest"].concat();
            assert_eq!(Key::split(&bytes), Some((key(time), b"rest".as_slice())));
            assert_eq!(Key::split(&bytes[..18]), None);
        }
    }
}
