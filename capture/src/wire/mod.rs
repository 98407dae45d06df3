//! Bytes of the relay channels into [`Record`]s: one file a wire version, one row here.
//!
//! No wire struct leaves this module. Framing (magic, version, kind, length) is the same in every version, so a record
//! of a kind or version this program does not know is skipped by its length and counted, never guessed at.

pub mod v0;
mod v1;

#[cfg(test)]
mod frozen_test;
#[cfg(test)]
mod layout_test;
#[cfg(test)]
mod robust_test;
#[cfg(test)]
mod v0_test;
#[cfg(test)]
mod v2_test;

use crate::record::{PageRef, Record};

/// Newest wire version this program knows, the one the module of the same release writes.
pub const VERSION: u8 = 1;
/// Bytes of the header every record begins with.
pub const HEADER_LEN: usize = 24;

/// The version table: version byte -> decoder of one whole record (the slice is exactly the record). Version 0 had no
/// framing and is read by [`v0`]; `v2_test` shows what adding a version takes.
const VERSIONS: &[(u8, DecodeFn)] = &[(1, v1::decode)];

/// Decodes one record whose framing has been checked. `Ok(None)`: a kind this version does not know.
type DecodeFn = fn(&[u8], bool) -> Result<Option<Record>, Fault>;

/// Byte order of the machine that wrote the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// Least significant byte first (x86-64, arm64).
    Little,
    /// Most significant byte first (s390x).
    Big,
}

impl ByteOrder {
    /// The order of the machine this program runs on.
    pub const NATIVE: ByteOrder = if cfg!(target_endian = "big") {
        ByteOrder::Big
    } else {
        ByteOrder::Little
    };
}

/// What the decoder found at one place of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A record.
    Record(Record),
    /// A well-framed record of a kind or version this program does not know; it was skipped by its length.
    Unknown {
        /// Where it begins, in bytes from the start of the decoded bytes.
        offset: u64,
        /// Its kind byte.
        kind: u8,
        /// Its version byte.
        version: u8,
        /// Its length in bytes.
        len: u16,
        /// Its sequence number in its CPU's channel.
        seq: u64,
    },
}

/// Why a block's bytes from `offset` on cannot be trusted. The decoder ends after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("record at byte {offset} of the block: {what}")]
pub struct DecodeError {
    /// Where the bad record begins, in bytes from the start of the decoded bytes.
    pub offset: u64,
    /// What is wrong with it.
    pub what: Fault,
}

/// What is wrong with a record: expected and found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Too few bytes left for a record header.
    #[error("expected a header of {HEADER_LEN} bytes, found only {found}")]
    ShortHeader {
        /// Bytes left.
        found: u64,
    },
    /// The first byte is not the magic.
    #[error("expected magic {:#04x}, found {found:#04x}", v1::PGT_MAGIC)]
    BadMagic {
        /// The byte found.
        found: u8,
    },
    /// The length is smaller than a header or not a multiple of 8.
    #[error("expected a length of at least {HEADER_LEN} and a multiple of 8, found {found}")]
    BadLength {
        /// The length found.
        found: u16,
    },
    /// The length reaches behind the end of the block.
    #[error("expected {len} bytes, found only {found} before the end of the block")]
    PastEnd {
        /// The record's length.
        len: u16,
        /// Bytes left.
        found: u64,
    },
    /// The record is shorter than its kind's fixed part.
    #[error("expected at least {expected} bytes for kind {kind}, found {found}")]
    ShortRecord {
        /// The kind byte.
        kind: u8,
        /// Bytes of the kind's fixed part.
        expected: u64,
        /// The record's length.
        found: u64,
    },
    /// The texts are longer than the record that holds them.
    #[error("expected {expected} bytes of text inside the record, found room for {found}")]
    TextPastEnd {
        /// Sum of the text lengths.
        expected: u64,
        /// Bytes behind the fixed part.
        found: u64,
    },
    /// A field holds a value this version does not define.
    #[error("expected {field} in {low}..={high}, found {found}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// Smallest value defined.
        low: u32,
        /// Largest value defined.
        high: u32,
        /// Value found.
        found: u32,
    },
}

/// Decodes the bytes of one channel (a block's payload, or several in a row), written in byte order `order`.
///
/// The iterator ends at the end of the bytes, or behind the first [`DecodeError`].
#[must_use]
pub fn decode(bytes: &[u8], order: ByteOrder) -> Decoder<'_> {
    decode_by(bytes, order, VERSIONS)
}

fn decode_by<'a>(
    bytes: &'a [u8],
    order: ByteOrder,
    versions: &'static [(u8, DecodeFn)],
) -> Decoder<'a> {
    Decoder {
        bytes,
        at: 0,
        swap: order != ByteOrder::NATIVE,
        versions,
    }
}

/// Iterator over the records of a block; see [`decode`].
#[derive(Debug, Clone)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
    swap: bool,
    versions: &'static [(u8, DecodeFn)],
}

impl Decoder<'_> {
    /// Bytes consumed so far; after an error, where the bad record begins.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.at as u64
    }

    /// Gives the page references that stand next, one after the other, to `take`, until it says no, something else
    /// stands there, or one of them is not as it should be: [`Iterator::next`] tells which. Nearly all records are page
    /// references, and this is several times as fast as taking each as an [`Item`].
    #[inline]
    pub fn page_refs(&mut self, mut take: impl FnMut(&PageRef) -> bool) {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let (records, _) = rest.as_chunks::<{ v1::REF_LEN }>();
        for record in records {
            if !v1::is_page_ref(record, self.swap) {
                return;
            }
            let Ok(page_ref) = v1::page_ref(record, self.swap) else {
                return;
            };
            self.at += record.len();
            if !take(&page_ref) {
                return;
            }
        }
    }

    #[cold]
    fn fail(&mut self, what: Fault) -> Option<Result<Item, DecodeError>> {
        let offset = self.at as u64;
        self.bytes = self.bytes.get(..self.at).unwrap_or_default();
        Some(Err(DecodeError { offset, what }))
    }
}

impl Iterator for Decoder<'_> {
    type Item = Result<Item, DecodeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return None;
        }
        let frame = match frame(rest, self.swap) {
            Ok(frame) => frame,
            Err(what) => return self.fail(what),
        };
        let Some(record) = rest.get(..usize::from(frame.len)) else {
            return self.fail(Fault::PastEnd {
                len: frame.len,
                found: rest.len() as u64,
            });
        };
        let decoded = if frame.version == VERSION {
            v1::decode(record, self.swap)
        } else {
            match self.versions.iter().find(|row| row.0 == frame.version) {
                Some((_, decode)) => decode(record, self.swap),
                None => Ok(None),
            }
        };
        match decoded {
            Ok(Some(record)) => {
                self.at += usize::from(frame.len);
                Some(Ok(Item::Record(record)))
            }
            Ok(None) => {
                let offset = self.at as u64;
                self.at += usize::from(frame.len);
                Some(Ok(Item::Unknown {
                    offset,
                    kind: frame.kind,
                    version: frame.version,
                    len: frame.len,
                    seq: frame.seq,
                }))
            }
            Err(what) => self.fail(what),
        }
    }
}

/// The part of a record that every version shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) version: u8,
    pub(crate) kind: u8,
    /// Whole record in bytes; at least a header, a multiple of 8.
    pub(crate) len: u16,
    pub(crate) seq: u64,
    /// CLOCK_MONOTONIC.
    pub(crate) time_ns: u64,
}

/// Reads and checks a record's framing; does not look whether the whole record is there.
#[inline]
pub(crate) fn frame(bytes: &[u8], swap: bool) -> Result<Frame, Fault> {
    let Some(h) = v1::header(bytes, swap) else {
        // Say the more telling thing: garbage is garbage, even when it is short.
        return Err(match bytes.first() {
            Some(&found) if found != v1::PGT_MAGIC => Fault::BadMagic { found },
            Some(_) | None => Fault::ShortHeader {
                found: bytes.len() as u64,
            },
        });
    };
    if h.magic != v1::PGT_MAGIC {
        return Err(Fault::BadMagic { found: h.magic });
    }
    if usize::from(h.len) < HEADER_LEN || h.len % 8 != 0 {
        return Err(Fault::BadLength { found: h.len });
    }
    Ok(Frame {
        version: h.version,
        kind: h.kind,
        len: h.len,
        seq: h.seq,
        time_ns: h.time_ns,
    })
}

/// How many records of 64 bytes (the length of a page reference) in native byte order `bytes` begin with, looking at their
/// framing only. Nearly all there are are such: [`frame`] is for the others.
pub(crate) fn run_of_64(bytes: &[u8]) -> usize {
    // Magic, version, kind, flags, length, CPU: the first and the fifth and sixth byte count.
    const LOOK: u64 = u64::from_ne_bytes([0xff, 0, 0, 0, 0xff, 0xff, 0, 0]);
    let len = 64_u16.to_ne_bytes();
    let want = u64::from_ne_bytes([v1::PGT_MAGIC, 0, 0, 0, len[0], len[1], 0, 0]);
    let (records, _) = bytes.as_chunks::<64>();
    records
        .iter()
        .take_while(|r| r.first_chunk().map(|h| u64::from_ne_bytes(*h) & LOOK) == Some(want))
        .count()
}

/// Appends `record` to `out` in the newest wire version and native byte order. For the sources that are not the module
/// (which itself writes what the recorder stores), and for tests.
///
/// Texts that do not fit (a record has at most 65,528 bytes, a command name 16) are cut.
pub fn encode(record: &Record, out: &mut Vec<u8>) {
    v1::encode(record, out);
}
