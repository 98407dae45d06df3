//! Reads a chunk, block by block; damage is a step of its own, and behind it the next good block is found.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::crc32c;
use super::{
    BLOCK_HEADER, BlockHeader, BlockKind, ChunkError, ChunkFault, ChunkHeader, KIND_END, resync,
    u64_at,
};

/// What the reader found next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A whole block; its payload is in the buffer.
    Block {
        /// What the payload is.
        kind: BlockKind,
        /// Where the payload begins in the file, in bytes.
        offset: u64,
    },
    /// Bytes that are not what was written; the reader stands behind them.
    Damage {
        /// Where they begin in the file.
        offset: u64,
        /// How many there are; 0 where something is missing at `offset`.
        bytes: u64,
        /// What happened to them.
        cause: DamageCause,
        /// Expected and found, for people.
        detail: String,
    },
}

/// What happened to a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DamageCause {
    /// Bytes changed, or blocks are missing in between.
    Corrupt,
    /// The end is missing.
    Truncated,
}

impl DamageCause {
    /// The name as it appears in SQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            DamageCause::Corrupt => "corrupt",
            DamageCause::Truncated => "truncated",
        }
    }
}

/// A chunk being read, from a file or anything else that seeks.
#[derive(Debug)]
pub struct ChunkReader<R> {
    from: R,
    path: PathBuf,
    header: ChunkHeader,
    /// Where the next block should begin.
    at: u64,
    /// Bytes of the file when it was opened.
    len: u64,
    /// Index the next block should have.
    index: u32,
    /// Payload bytes of the blocks so far, against the End block; `None` once some were damaged.
    payload: Option<u64>,
    /// CRC work the search for good blocks may still do, so that crafted input cannot make it quadratic.
    budget: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// All blocks so far were whole.
    Whole,
    /// Damage was reported; a jump of the index is explained by it.
    Damaged,
    /// The End block, or the end of the file, has been dealt with.
    Ended,
}

impl ChunkReader<BufReader<File>> {
    /// Opens the chunk `path` and reads its header.
    ///
    /// # Errors
    /// The file cannot be read, is not a chunk, is a newer one, or its header is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ChunkError> {
        let path = path.as_ref();
        let fail = |e: std::io::Error| ChunkError {
            path: path.to_path_buf(),
            offset: 0,
            what: e.into(),
        };
        let file = File::open(path).map_err(fail)?;
        if file.metadata().map_err(fail)?.is_dir() {
            return Err(fail(ErrorKind::IsADirectory.into()));
        }
        Self::new(BufReader::with_capacity(1 << 16, file), path)
    }
}

impl<R: Read + Seek> ChunkReader<R> {
    /// Reads the header of a chunk that stands at the beginning of `from`; `path` names it in errors.
    ///
    /// # Errors
    /// As for [`ChunkReader::open`].
    pub fn new(mut from: R, path: impl Into<PathBuf>) -> Result<Self, ChunkError> {
        let path = path.into();
        let fail = |(offset, what): (u64, ChunkFault)| ChunkError {
            path: path.clone(),
            offset,
            what,
        };
        let len = from
            .seek(SeekFrom::End(0))
            .map_err(|e| fail((0, e.into())))?;
        from.rewind().map_err(|e| fail((0, e.into())))?;
        let (header, at) = ChunkHeader::read(&mut from, len).map_err(fail)?;
        Ok(ChunkReader {
            from,
            path,
            header,
            at,
            len,
            index: 0,
            payload: Some(0),
            budget: resync::budget(len),
            state: State::Whole,
        })
    }

    /// The chunk's header.
    #[must_use]
    pub fn header(&self) -> &ChunkHeader {
        &self.header
    }

    /// The name given for errors.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next block (its payload replaces the contents of `buf`) or damage; `None` at the end of the chunk.
    ///
    /// # Errors
    /// The file cannot be read. Damage is not an error.
    pub fn next_block(&mut self, buf: &mut Vec<u8>) -> Result<Option<Step>, ChunkError> {
        buf.clear();
        if self.state == State::Ended {
            return Ok(None);
        }
        if self.at >= self.len {
            let whole = self.state == State::Whole;
            self.state = State::Ended;
            // Behind damage that reaches the end there is no second report.
            return Ok(whole.then(|| {
                let detail = format!(
                    "expected an End block behind {} blocks, found the end of the file: the recorder was killed or the file cut",
                    self.index
                );
                damage(self.len, 0, DamageCause::Truncated, detail)
            }));
        }
        let block = match self.read_block(buf).map_err(|e| self.fail(e))? {
            Ok(block) => block,
            Err((cause, detail)) => return self.skip(buf, cause, detail).map(Some),
        };
        let start = self.at;
        let end = start + BLOCK_HEADER as u64 + block.padded();
        if self.state == State::Whole && block.index > self.index {
            // Whole blocks are gone without a trace but their number.
            let detail = format!("expected block {}, found block {}", self.index, block.index);
            self.state = State::Damaged;
            self.payload = None;
            buf.clear();
            return Ok(Some(damage(start, 0, DamageCause::Corrupt, detail)));
        }
        if block.index < self.index {
            let detail = format!(
                "expected block {}, found block {} once more",
                self.index, block.index
            );
            self.at = end.min(self.len);
            buf.clear();
            return Ok(Some(damage(
                start,
                self.at - start,
                DamageCause::Corrupt,
                detail,
            )));
        }
        self.at = end.min(self.len);
        self.index = block.index.saturating_add(1);
        if block.kind == KIND_END {
            return Ok(self.end_block(start, block.index, buf));
        }
        let Some(kind) = BlockKind::from_number(block.kind) else {
            self.state = State::Damaged;
            self.payload = None;
            buf.clear();
            let detail = format!("expected block kind 1 to {KIND_END}, found {}", block.kind);
            return Ok(Some(damage(
                start,
                self.at - start,
                DamageCause::Corrupt,
                detail,
            )));
        };
        self.payload = self.payload.map(|sum| sum + block.len as u64);
        let offset = start + BLOCK_HEADER as u64;
        // Only a jump directly behind damage is explained by it.
        self.state = State::Whole;
        Ok(Some(Step::Block { kind, offset }))
    }

    /// Checks the End block against what was read, and that nothing follows it.
    fn end_block(&mut self, start: u64, index: u32, buf: &mut Vec<u8>) -> Option<Step> {
        self.state = State::Ended;
        let (blocks, payload) = (u64_at(buf, 0), u64_at(buf, 8));
        buf.clear();
        // With damaged blocks before it the bytes cannot match; that has been said already.
        let read = self.payload.unwrap_or(payload);
        if blocks != u64::from(index) || payload != read {
            let detail = format!(
                "expected an End block for {index} blocks of {read} bytes, found one for {blocks} of {payload}"
            );
            return Some(damage(
                start,
                self.len - start,
                DamageCause::Corrupt,
                detail,
            ));
        }
        (self.at < self.len).then(|| {
            let bytes = self.len - self.at;
            let detail =
                format!("expected the end of the file behind the End block, found {bytes} bytes");
            damage(self.at, bytes, DamageCause::Corrupt, detail)
        })
    }

    /// Reads the block at `self.at` into `buf`; the inner error says why there is none.
    #[allow(clippy::type_complexity, reason = "an io error outside, damage inside")]
    fn read_block(
        &mut self,
        buf: &mut Vec<u8>,
    ) -> std::io::Result<Result<BlockHeader, (DamageCause, String)>> {
        let left = self.len - self.at;
        let truncated = |expected: u64| {
            let detail = format!("expected {expected} more bytes of a block, found {left}");
            Ok(Err((DamageCause::Truncated, detail)))
        };
        if left < BLOCK_HEADER as u64 {
            return truncated(BLOCK_HEADER as u64);
        }
        seek(&mut self.from, self.at)?;
        let mut header = [0; BLOCK_HEADER];
        if !read_all(&mut self.from, &mut header)? {
            return truncated(BLOCK_HEADER as u64);
        }
        let block = match BlockHeader::decode(&header) {
            Ok(block) => block,
            Err(detail) => return Ok(Err((DamageCause::Corrupt, detail))),
        };
        let whole = BLOCK_HEADER as u64 + block.padded();
        // Checked before the buffer grows: a lying length takes no more memory than the file has.
        if left < whole {
            return truncated(whole);
        }
        buf.resize(block.len, 0);
        if !read_all(&mut self.from, buf)? {
            return truncated(whole);
        }
        let crc = crc32c::crc32c_append(block.seed, buf);
        if crc != block.crc {
            let detail = format!("expected CRC32C {:#010x}, found {crc:#010x}", block.crc);
            return Ok(Err((DamageCause::Corrupt, detail)));
        }
        Ok(Ok(block))
    }

    /// Goes to the next good block behind damage at `self.at`.
    fn skip(
        &mut self,
        buf: &mut Vec<u8>,
        cause: DamageCause,
        detail: String,
    ) -> Result<Step, ChunkError> {
        buf.clear();
        let start = self.at;
        let found = resync::find(
            &mut self.from,
            start + 1,
            self.len,
            self.index,
            &mut self.budget,
        )
        .map_err(|e| self.fail(e))?;
        self.at = found.unwrap_or(self.len);
        self.state = State::Damaged;
        self.payload = None;
        // A block that is cut off is only truncated when nothing follows: otherwise its length lied.
        let cause = if found.is_some() {
            DamageCause::Corrupt
        } else {
            cause
        };
        Ok(damage(start, self.at - start, cause, detail))
    }

    fn fail(&self, e: std::io::Error) -> ChunkError {
        ChunkError {
            path: self.path.clone(),
            offset: self.at,
            what: e.into(),
        }
    }
}

fn damage(offset: u64, bytes: u64, cause: DamageCause, detail: String) -> Step {
    Step::Damage {
        offset,
        bytes,
        cause,
        detail,
    }
}

/// Seeks only when needed: a seek throws a `BufReader`'s buffer away.
pub(super) fn seek(from: &mut impl Seek, to: u64) -> std::io::Result<()> {
    let now = from.stream_position()?;
    if now != to {
        from.seek_relative(to.wrapping_sub(now) as i64)?;
    }
    Ok(())
}

/// Fills `buf`; `false` when the file has become shorter than it was.
pub(super) fn read_all(from: &mut impl Read, buf: &mut [u8]) -> std::io::Result<bool> {
    match from.read_exact(buf) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}
