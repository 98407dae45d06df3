//! A sequence of pieces of bytes, written once from begin to end, and read as often as is wanted.

use std::io;
use std::sync::Arc;

use super::Temp;
use crate::error::IngestError;

/// Bytes that are written at a time, and read.
const PIECES: usize = 64 << 10;
/// Bytes before each piece: its length.
const LENGTH: usize = size_of::<u32>();

/// A sequence that is complete; a copy is the same one.
#[derive(Clone, Debug)]
pub(crate) struct Tape(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    temp: Temp,
    /// Whole pieces in the temporary file: where they begin and end.
    stretches: Vec<(u64, u64)>,
    /// What follows, in memory.
    rest: Vec<u8>,
    /// Bytes of memory that `temp` counts for it.
    held: u64,
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.temp.give_back(self.held);
    }
}

/// Writes a [`Tape`].
#[derive(Debug)]
pub(crate) struct TapeWriter {
    temp: Temp,
    stretches: Vec<(u64, u64)>,
    waiting: Vec<u8>,
    /// Bytes of memory that `temp` counts for it.
    held: u64,
    /// Told at the end: whoever adds pieces has no use for it.
    failure: Option<io::Error>,
}

impl TapeWriter {
    /// An empty sequence.
    pub(crate) fn new(temp: &Temp) -> Self {
        Self {
            temp: temp.clone(),
            stretches: Vec::new(),
            waiting: Vec::new(),
            held: 0,
            failure: None,
        }
    }

    /// Adds a piece, given in parts.
    pub(crate) fn push(&mut self, parts: &[&[u8]]) {
        let bytes: usize = parts.iter().map(|p| p.len()).sum();
        let Ok(length) = u32::try_from(bytes) else {
            // Nothing of that size comes in one piece: blocks of chunks are smaller.
            self.failure
                .get_or_insert(io::ErrorKind::FileTooLarge.into());
            return;
        };
        self.waiting.extend_from_slice(&length.to_le_bytes());
        parts.iter().for_each(|p| self.waiting.extend_from_slice(p));
        let more = (self.waiting.len() as u64).saturating_sub(self.held);
        if more >= PIECES as u64 {
            self.settle(more);
        }
    }

    /// Keeps what waits, so many bytes more of it, if there is room for that.
    fn settle(&mut self, more: u64) {
        match self.temp.spare(more) {
            true => self.held += more,
            false => self.spill(),
        }
    }

    fn spill(&mut self) {
        // What failed once fails again, and no more is needed of it.
        if self.failure.is_none() {
            match self.temp.write(&self.waiting) {
                Ok(at) => {
                    let end = at + self.waiting.len() as u64;
                    match self.stretches.last_mut() {
                        Some(last) if last.1 == at => last.1 = end,
                        _ => self.stretches.push((at, end)),
                    }
                }
                Err(e) => self.failure = Some(e),
            }
        }
        self.waiting.clear();
        self.temp.give_back(std::mem::take(&mut self.held));
    }

    /// Ends the sequence; what waits still stays in memory, if there is room.
    ///
    /// # Errors
    /// The temporary file could not be written.
    pub(crate) fn finish(mut self) -> Result<Tape, IngestError> {
        self.settle((self.waiting.len() as u64).saturating_sub(self.held));
        self.waiting.shrink_to_fit();
        let tape = Tape(Arc::new(Parts {
            temp: self.temp.clone(),
            stretches: self.stretches,
            rest: self.waiting,
            held: self.held,
        }));
        match self.failure {
            Some(cause) => Err(self.temp.failed(cause)),
            None => Ok(tape),
        }
    }
}

impl Tape {
    /// Reads from the begin, `buffer` bytes at a time or a little more.
    pub(crate) fn read_by(&self, buffer: usize) -> TapeReader {
        TapeReader {
            tape: self.clone(),
            buffer: buffer.clamp(LENGTH, PIECES),
            stretch: 0,
            from: self.0.stretches.first().map_or(0, |s| s.0),
            read: Vec::new(),
            at: 0,
            in_rest: false,
        }
    }

    /// Reads from the begin.
    pub(crate) fn read(&self) -> TapeReader {
        self.read_by(PIECES)
    }
}

/// Reads a [`Tape`].
#[derive(Debug)]
pub(crate) struct TapeReader {
    tape: Tape,
    buffer: usize,
    /// The stretch that is being read, and where its next bytes are.
    stretch: usize,
    from: u64,
    /// Bytes of it, and where in them the next piece begins; of the rest in memory, once `in_rest`.
    read: Vec<u8>,
    at: usize,
    in_rest: bool,
}

impl TapeReader {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// The temporary file cannot be read.
    pub(crate) fn next_piece(&mut self) -> Result<Option<&[u8]>, IngestError> {
        let Some(length) = self.length()? else {
            return Ok(None);
        };
        self.have(LENGTH + length)?;
        let from = self.at + LENGTH;
        self.at = from + length;
        Ok(self.bytes().get(from..from + length))
    }

    fn bytes(&self) -> &[u8] {
        match self.in_rest {
            true => &self.tape.0.rest,
            false => &self.read,
        }
    }

    /// Bytes of the next piece; `None`: there is none.
    fn length(&mut self) -> Result<Option<usize>, IngestError> {
        loop {
            self.have(LENGTH)?;
            let bytes = self.bytes().get(self.at..);
            if let Some(length) = bytes.and_then(|b| b.first_chunk()) {
                return Ok(Some(u32::from_le_bytes(*length) as usize));
            }
            if self.in_rest {
                return Ok(None);
            }
            self.read.clear();
            self.at = 0;
            self.stretch += 1;
            match self.tape.0.stretches.get(self.stretch) {
                Some(stretch) => self.from = stretch.0,
                None => self.in_rest = true,
            }
        }
    }

    /// Reads on until `wanted` bytes are here, as far as the stretch goes.
    fn have(&mut self, wanted: usize) -> Result<(), IngestError> {
        let stretches = &self.tape.0.stretches;
        let end = stretches.get(self.stretch).map_or(self.from, |s| s.1);
        let here = self.read.len() - self.at.min(self.read.len());
        if self.in_rest || here >= wanted || self.from >= end {
            return Ok(());
        }
        self.read.drain(..self.at.min(self.read.len()));
        self.at = 0;
        let more = ((wanted - here).max(self.buffer) as u64).min(end - self.from);
        self.read.resize(here + more as usize, 0);
        let to = self.read.get_mut(here..).unwrap_or_default();
        let temp = &self.tape.0.temp;
        temp.read(to, self.from).map_err(|e| temp.failed(e))?;
        self.from += more;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Room;
    use super::*;

    fn pieces(tape: &Tape, buffer: usize) -> Vec<Vec<u8>> {
        let mut reader = tape.read_by(buffer);
        let mut all = Vec::new();
        while let Some(piece) = reader.next_piece().unwrap() {
            all.push(piece.to_vec());
        }
        all
    }

    #[test]
    fn what_is_written_is_read_however_much_stays_in_memory() {
        for memory in [0, 1 << 30] {
            let room = Room {
                memory,
                ..Room::default()
            };
            let temp = Temp::new(&room);
            let (mut one, mut other) = (TapeWriter::new(&temp), TapeWriter::new(&temp));
            let piece = |i: usize| vec![i as u8; i * 7919 % 5000 + usize::from(i == 40) * 200_000];
            let all: Vec<_> = (0..100).map(piece).collect();
            for piece in &all {
                // In turns, so that their stretches alternate.
                one.push(&[&piece[..piece.len() / 2], &piece[piece.len() / 2..]]);
                other.push(&[piece]);
            }
            let (one, other) = (one.finish().unwrap(), other.finish().unwrap());
            assert_eq!(one.0.stretches.len() > 1, memory == 0);
            assert_eq!(one.0.rest.is_empty(), memory == 0);
            for buffer in [0, 100, PIECES] {
                assert_eq!(pieces(&one, buffer), all);
                assert_eq!(pieces(&other, buffer), all);
            }
        }
    }

    #[test]
    fn little_makes_no_file() {
        let temp = Temp::new(&Room {
            folder: "/nowhere".into(),
            memory: 4 * PIECES as u64,
        });
        let mut writer = TapeWriter::new(&temp);
        writer.push(&[b"little"]);
        assert_eq!(pieces(&writer.finish().unwrap(), 9), [b"little"]);
        let mut writer = TapeWriter::new(&temp);
        writer.push(&[&[0; PIECES]]);
        writer.push(&[b"more"]);
        let error = writer.finish().unwrap_err().to_string();
        assert!(error.contains("/nowhere"), "{error}");
        let nothing = TapeWriter::new(&temp).finish().unwrap();
        assert!(pieces(&nothing, 9).is_empty());
    }

    #[test]
    fn memory_is_given_back() {
        let temp = Temp::new(&Room {
            memory: 16 * PIECES as u64,
            ..Room::default()
        });
        for round in 0..10 {
            let mut writer = TapeWriter::new(&temp);
            (0..3).for_each(|_| writer.push(&[&[round; PIECES]]));
            assert_eq!(pieces(&writer.finish().unwrap(), 9).len(), 3);
        }
        assert_eq!(temp.on_disk(), 0);
    }
}
