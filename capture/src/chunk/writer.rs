//! Writes a chunk, block by block, so that a killed recorder leaves whole blocks behind.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{
    BLOCK_HEADER, BlockHeader, BlockKind, ChunkError, ChunkFault, ChunkHeader, END_LEN, KIND_END,
    MAX_BLOCK,
};

/// Bytes handed to the kernel at a time. Some kernels (6.12, files in memory) look through all the rest of a write for
/// each page that they copy; the system calls that smaller pieces take cost nothing beside it.
const AT_A_TIME: usize = 256 << 10;

/// A chunk being written. Every block reaches the file before `block` returns.
#[derive(Debug)]
pub struct ChunkWriter {
    path: PathBuf,
    file: File,
    /// Bytes of the file up to the last whole block.
    len: u64,
    blocks: u32,
    payload: u64,
}

impl ChunkWriter {
    /// Begins the chunk `path`, which must not exist yet, with its header.
    ///
    /// # Errors
    /// The file cannot be created or written. A file whose header could not be written is removed again.
    pub fn create(path: impl AsRef<Path>, header: &ChunkHeader) -> Result<ChunkWriter, ChunkError> {
        let path = path.as_ref().to_path_buf();
        let fail = |what| ChunkError {
            path: path.clone(),
            offset: 0,
            what,
        };
        let bytes = header.encode().map_err(fail)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|e| fail(e.into()))?;
        if let Err(e) = file.write_all(&bytes) {
            let _ = std::fs::remove_file(&path); // the first error is the one to tell
            return Err(fail(e.into()));
        }
        Ok(ChunkWriter {
            path,
            file,
            len: bytes.len() as u64,
            blocks: 0,
            payload: 0,
        })
    }

    /// Appends one block.
    ///
    /// # Errors
    /// The payload exceeds [`MAX_BLOCK`], or the file cannot be written; what was written of the block is cut off
    /// again, so the chunk ends in whole blocks.
    pub fn block(&mut self, kind: BlockKind, payload: &[u8]) -> Result<(), ChunkError> {
        self.append(kind.number(), payload)
    }

    /// Ends the chunk; gives the file's bytes.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(mut self) -> Result<u64, ChunkError> {
        let mut end = [0; END_LEN];
        end[0..8].copy_from_slice(&u64::from(self.blocks).to_le_bytes());
        end[8..16].copy_from_slice(&self.payload.to_le_bytes());
        self.append(KIND_END, &end)?;
        Ok(self.len)
    }

    /// As [`ChunkWriter::finish`], and returns only when the disk has it all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish_durably(self) -> Result<u64, ChunkError> {
        let file = self.file.try_clone();
        let (path, offset) = (self.path.clone(), self.len);
        let len = self.finish()?;
        file.and_then(|file| file.sync_all())
            .map_err(|e| ChunkError {
                path,
                offset,
                what: e.into(),
            })?;
        Ok(len)
    }

    /// Bytes of a chunk without blocks: its header and its end. What [`ChunkWriter::create`] refuses takes none.
    #[must_use]
    pub fn empty_bytes(header: &ChunkHeader) -> u64 {
        header
            .encode()
            .map_or(0, |header| (header.len() + BLOCK_HEADER + END_LEN) as u64)
    }

    /// Bytes that a block with this payload takes in the file.
    #[must_use]
    pub fn block_bytes(payload: &[u8]) -> u64 {
        (BLOCK_HEADER + payload.len().next_multiple_of(8)) as u64
    }

    /// Bytes of the file so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.len
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn append(&mut self, kind: u16, payload: &[u8]) -> Result<(), ChunkError> {
        if payload.len() > MAX_BLOCK {
            let found = payload.len() as u64;
            return Err(self.fail(ChunkFault::BlockTooLarge { found }));
        }
        let header = BlockHeader::encode(kind, self.blocks, payload);
        let padding = payload.len().next_multiple_of(8) - payload.len();
        let written = self
            .file
            .write_all(&header)
            .and_then(|()| {
                payload
                    .chunks(AT_A_TIME)
                    .try_for_each(|piece| self.file.write_all(piece))
            })
            .and_then(|()| self.file.write_all(&[0; 8][..padding]));
        if let Err(e) = written {
            // Best effort: the reader copes with half a block too.
            let _ = self.file.set_len(self.len);
            let _ = self.file.seek(SeekFrom::Start(self.len));
            return Err(self.fail(e.into()));
        }
        self.len += (BLOCK_HEADER + payload.len() + padding) as u64;
        self.blocks += 1;
        self.payload += payload.len() as u64;
        Ok(())
    }

    fn fail(&self, what: ChunkFault) -> ChunkError {
        ChunkError {
            path: self.path.clone(),
            offset: self.len,
            what,
        }
    }
}
