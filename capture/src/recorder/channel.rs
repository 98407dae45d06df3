//! One relay channel of one CPU: bytes out of the kernel, cut at record boundaries.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::wire::{self, Fault, HEADER_LEN};

/// The longest record there can be: the part of one that may have to wait for its rest.
const LONGEST_RECORD: usize = 1 << 16;

/// A channel being drained. The bytes are never changed; only the records' framing is looked at.
#[derive(Debug)]
pub(super) struct Channel {
    path: PathBuf,
    file: File,
    /// First `carried` bytes: a record whose rest has not been read yet.
    buf: Vec<u8>,
    carried: usize,
    /// Bytes read at a time.
    step: usize,
    /// Whole records seen.
    pub(super) records: u64,
    /// Bytes read.
    pub(super) bytes: u64,
    /// Set once the framing made no sense; from then on bytes are passed as they come.
    pub(super) unframed: Option<(u64, Fault)>,
}

/// What one read gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Got {
    /// Bytes read.
    pub(super) read: usize,
    /// Bytes of whole records in the buffer.
    pub(super) whole: usize,
    /// There may be more at once.
    pub(super) more: bool,
}

/// What [`Channel::span`] found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    /// Where the young records begin.
    pub(super) begin: usize,
    pub(super) records: u64,
    /// Records before `begin`.
    pub(super) older: u64,
    /// Time of the last record.
    pub(super) last_ns: u64,
}

impl Channel {
    /// Opens a relay file whose sub-buffers have `subbuf` bytes.
    pub(super) fn open(path: &Path, subbuf: u64) -> io::Result<Channel> {
        // Non-blocking means nothing to relay files; the stand-ins of the tests are FIFOs and files.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)?;
        let step = subbuf.clamp(1 << 16, 4 << 20) as usize;
        Ok(Channel {
            path: path.to_path_buf(),
            file,
            buf: vec![0; step + LONGEST_RECORD],
            carried: 0,
            step,
            records: 0,
            bytes: 0,
            unframed: None,
        })
    }

    /// Reads once. Whole records are in [`Channel::whole`] until [`Channel::consume`].
    pub(super) fn read(&mut self) -> io::Result<Got> {
        let into = self.buf.get_mut(self.carried..).unwrap_or_default();
        let limit = into.len().min(self.step);
        let into = into.get_mut(..limit).unwrap_or_default();
        let read = loop {
            match self.file.read(into) {
                Ok(n) => break n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break 0,
                Err(e) => return Err(e),
            }
        };
        self.bytes += read as u64;
        let filled = self.carried + read;
        let whole = self.framed(filled);
        self.carried = filled - whole;
        Ok(Got {
            read,
            whole,
            more: read == limit,
        })
    }

    /// The `n` whole bytes of the last read.
    pub(super) fn whole(&self, n: usize) -> &[u8] {
        self.buf.get(..n).unwrap_or_default()
    }

    /// Moves the tail behind the `n` whole bytes to the front.
    pub(super) fn consume(&mut self, n: usize) {
        self.buf.copy_within(n..n + self.carried, 0);
    }

    /// Whether the last read ended inside a record.
    pub(super) fn has_part(&self) -> bool {
        self.carried > 0
    }

    /// Where the records that are not older than `since_ns` begin in whole records of one CPU, whose time never goes
    /// backwards. Bytes that are no records count as young.
    pub(super) fn span(bytes: &[u8], since_ns: u64) -> Span {
        let mut span = Span::default();
        let mut at = 0;
        while let Some(Ok(frame)) = bytes.get(at..).map(|rest| wire::frame(rest, false)) {
            at += usize::from(frame.len);
            span.records += 1;
            span.last_ns = frame.time_ns;
            if frame.time_ns < since_ns {
                span.older += 1;
                span.begin = at.min(bytes.len());
            }
        }
        span
    }

    /// What is left at the very end: part of a record whose rest never came.
    pub(super) fn rest(&mut self) -> &[u8] {
        let n = std::mem::take(&mut self.carried);
        self.whole(n)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Bytes of whole records among the first `filled`; counts them.
    fn framed(&mut self, filled: usize) -> usize {
        if self.unframed.is_some() {
            return filled;
        }
        let mut at = 0;
        while let Some(rest) = self.buf.get(at..filled).filter(|rest| !rest.is_empty()) {
            let run = wire::run_of_64(rest);
            if run > 0 {
                at += run * 64;
                self.records += run as u64;
                continue;
            }
            match wire::frame(rest, false) {
                Ok(frame) if usize::from(frame.len) <= rest.len() => {
                    at += usize::from(frame.len);
                    self.records += 1;
                }
                Ok(_) => return at,
                Err(Fault::ShortHeader { .. }) if rest.len() < HEADER_LEN => return at,
                Err(what) => {
                    self.unframed = Some((self.bytes - (filled - at) as u64, what));
                    return filled;
                }
            }
        }
        at
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::record::{Exit, Record, Stamp};
    use std::io::Write;

    fn records(n: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for seq in 0..n {
            let stamp = Stamp {
                cpu: 0,
                seq,
                time_ns: seq,
            };
            wire::encode(
                &Record::Exit(Exit {
                    stamp,
                    tgid: 1,
                    code: 2,
                }),
                &mut bytes,
            );
        }
        bytes
    }

    #[test]
    fn reads_that_end_inside_a_record_carry_it_over() {
        let all = records(100);
        // Every split of the stream into two reads, and some into three.
        for first in (0..all.len()).step_by(7) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("refs0");
            let mut file = File::create(&path).unwrap();
            let mut channel = Channel::open(&path, 4096).unwrap();
            let mut got = Vec::new();
            let second = first + (all.len() - first) / 2;
            for part in [&all[..first], &all[first..second], &all[second..]] {
                file.write_all(part).unwrap();
                let read = channel.read().unwrap();
                assert_eq!((read.read, read.more), (part.len(), false));
                assert_eq!(read.whole % 32, 0);
                got.extend_from_slice(channel.whole(read.whole));
                channel.consume(read.whole);
            }
            assert_eq!(got, all);
            assert_eq!((channel.records, channel.bytes), (100, all.len() as u64));
            assert!(channel.rest().is_empty());
        }
    }

    #[test]
    fn old_records_are_told_from_young_ones() {
        let all = records(10);
        for since in 0..12 {
            let older = since.min(10);
            let span = Channel::span(&all, since);
            assert_eq!((span.records, span.older, span.last_ns), (10, older, 9));
            assert_eq!(span.begin, older as usize * 32);
        }
        let garbage = b"no record at all, but longer than a header";
        assert_eq!(Channel::span(garbage, 5), Span::default());
        assert_eq!(Channel::span(&[], 5), Span::default());
    }

    #[test]
    fn bytes_that_are_no_records_pass_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("refs0");
        let all = [
            records(2),
            b"no record at all, but longer than a header".to_vec(),
            records(1),
        ]
        .concat();
        std::fs::write(&path, &all).unwrap();
        let mut channel = Channel::open(&path, 4096).unwrap();
        let read = channel.read().unwrap();
        assert_eq!(channel.whole(read.whole), all);
        assert_eq!(channel.records, 2);
        let (at, what) = channel.unframed.unwrap();
        assert_eq!(
            (at, what.to_string().as_str()),
            (64, "expected magic 0xa7, found 0x6e")
        );
    }
}
