//! Chunks that come end to end through a pipe (`cat *.pgt | pgtrace-ingest -`): kept in files, one a chunk,
//! because a chunk is read more than once.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use pgtrace_capture::chunk::{Begins, CHUNK_MAGIC, END_BLOCK, EXTENSION, begins, ends};
use tempfile::TempDir;

use super::Place;
use crate::error::IngestError;

/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// Reads `input` to its end into a folder below `temp`; gives its chunks in order.
///
/// A chunk begins where a whole header stands, wherever that is, so that a chunk that is cut off or damaged does not
/// take its successor with it.
///
/// # Errors
/// The input cannot be read, or the folder not be written; an input without any bytes.
pub(super) fn spool(input: &mut dyn Read, temp: PathBuf) -> Result<Vec<Place>, IngestError> {
    let made = tempfile::Builder::new()
        .prefix("pgtrace-ingest-")
        .tempdir_in(&temp);
    let folder = made.map_err(|e| IngestError::Input {
        path: temp,
        cause: io::Error::new(e.kind(), format!("no place for standard input: {e}")),
    })?;
    let mut splitter = Splitter {
        folder: Arc::new(folder),
        chunks: Vec::new(),
        out: None,
        tail: Vec::new(),
        at: 0,
        budget: 4 * PIECE,
    };
    let mut held = Vec::new();
    let mut ended = false;
    while !ended {
        let before = held.len();
        let read = (&mut *input).take(PIECE as u64).read_to_end(&mut held);
        read.map_err(|cause| IngestError::Input {
            path: "standard input".into(),
            cause,
        })?;
        ended = held.len() == before;
        splitter.budget += 4 * (held.len() - before);
        let used = splitter.take(&held, ended)?;
        held.drain(..used);
    }
    match splitter.chunks.is_empty() {
        true => Err(IngestError::Input {
            path: "standard input".into(),
            cause: io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "expected raw chunks, found nothing",
            ),
        }),
        false => Ok(splitter.chunks),
    }
}

struct Splitter {
    folder: Arc<TempDir>,
    chunks: Vec<Place>,
    out: Option<File>,
    /// The last bytes of the chunk that is open.
    tail: Vec<u8>,
    /// Bytes of the input so far.
    at: u64,
    /// Bytes that may still be looked at in vain: an input made of false magics would cost its length squared.
    budget: usize,
}

impl Splitter {
    /// Writes what can be told apart in `bytes`; gives how many bytes that is.
    fn take(&mut self, bytes: &[u8], ended: bool) -> Result<usize, IngestError> {
        let (mut written, mut from) = (0, 0);
        loop {
            let rest = bytes.get(from..).unwrap_or_default();
            let found = rest
                .windows(CHUNK_MAGIC.len())
                .position(|w| w == CHUNK_MAGIC);
            let Some(seam) = found.map(|i| from + i) else {
                // A magic may stand across the seam of two reads.
                let keep = if ended { 0 } else { CHUNK_MAGIC.len() - 1 };
                let until = bytes.len().saturating_sub(keep).max(written);
                self.append(bytes.get(written..until).unwrap_or_default())?;
                return Ok(until);
            };
            let candidate = bytes.get(seam..).unwrap_or_default();
            let begin = match begins(candidate.get(..self.budget).unwrap_or(candidate)) {
                Begins::Unknown { need } if !ended && need <= self.budget => {
                    self.append(bytes.get(written..seam).unwrap_or_default())?;
                    return Ok(seam);
                }
                Begins::Chunk => true,
                Begins::Unknown { .. } => self.in_vain(candidate.len()),
                Begins::Other { looked_at } => self.in_vain(looked_at),
            };
            self.append(bytes.get(written..seam).unwrap_or_default())?;
            written = seam;
            // Behind a chunk's end something that begins like a chunk is one, whatever is wrong with it.
            if begin || ends(&self.tail) {
                self.begin()?;
            }
            from = seam + 1;
        }
    }

    /// Not a beginning, and it took a look at so many bytes to tell.
    fn in_vain(&mut self, looked_at: usize) -> bool {
        self.budget -= looked_at.min(self.budget);
        false
    }

    /// Appends to the chunk that is open; to the first one, if there is none.
    fn append(&mut self, bytes: &[u8]) -> Result<(), IngestError> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.out.is_none() {
            self.begin()?;
        }
        if let Some(out) = &mut self.out {
            out.write_all(bytes).map_err(|e| self.full(e))?;
        }
        self.at += bytes.len() as u64;
        let kept = self.tail.len().min(END_BLOCK.saturating_sub(bytes.len()));
        self.tail.drain(..self.tail.len() - kept);
        let last = bytes.len().saturating_sub(END_BLOCK);
        self.tail
            .extend_from_slice(bytes.get(last..).unwrap_or_default());
        Ok(())
    }

    fn begin(&mut self) -> Result<(), IngestError> {
        let name = format!("{:06}.{EXTENSION}", self.chunks.len());
        let file = self.folder.path().join(name);
        self.out = Some(File::create_new(&file).map_err(|e| self.full(e))?);
        self.tail.clear();
        self.chunks.push(Place::Spooled {
            file,
            at: self.at,
            folder: self.folder.clone(),
        });
        Ok(())
    }

    fn full(&self, cause: io::Error) -> IngestError {
        IngestError::Input {
            path: self.folder.path().into(),
            cause: io::Error::new(
                cause.kind(),
                format!("cannot keep standard input (TMPDIR says where): {cause}"),
            ),
        }
    }
}

#[cfg(test)]
#[path = "spool_test.rs"]
mod tests;
