//! Where a chunk's bytes are: a file, an object of a store, or what came by standard input.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pgtrace_capture::chunk::{ChunkError, ChunkReader};
use tempfile::TempDir;

use super::object::{Object, ObjectReader};

/// Where a chunk's bytes are. It shows itself as the user knows it.
#[derive(Clone, Debug)]
pub enum Place {
    /// A file.
    File(PathBuf),
    /// An object of a store.
    Object(Arc<Object>),
    /// A chunk that came by standard input, kept in a file for this run.
    Spooled {
        /// The file.
        file: PathBuf,
        /// Where the chunk began in the input, in bytes.
        at: u64,
        /// The folder, which vanishes with its last chunk.
        folder: Arc<TempDir>,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Object(object) => f.write_str(object.url()),
            Self::Spooled { at, .. } => write!(f, "standard input from byte {at}"),
        }
    }
}

impl Place {
    /// What errors call the place, where they expect a path.
    pub fn label(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            other => other.to_string().into(),
        }
    }

    /// Its last part; `None`: it has no name of its own.
    pub fn name(&self) -> Option<String> {
        match self {
            Self::File(path) => path.file_name().map(|n| n.to_string_lossy().into_owned()),
            Self::Object(object) => object.path().filename().map(Into::into),
            Self::Spooled { .. } => None,
        }
    }

    /// Bytes that a reader of this place holds in memory, at most, beside a file's small buffer.
    pub fn read_ahead(&self) -> u64 {
        match self {
            Self::Object(_) => ObjectReader::MOST_BYTES,
            Self::File(_) | Self::Spooled { .. } => 0,
        }
    }

    /// Opens the bytes.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn open(&self) -> io::Result<Input> {
        match self {
            Self::File(path) | Self::Spooled { file: path, .. } => open_file(path),
            Self::Object(object) => Ok(Input::Object(ObjectReader::new(object.clone()))),
        }
    }

    /// Opens the chunk and reads its header.
    ///
    /// # Errors
    /// It cannot be read, is not a chunk, is a newer one, or its header is damaged.
    pub fn chunk(&self) -> Result<ChunkReader<Input>, ChunkError> {
        let input = self.open().map_err(|e| ChunkError {
            path: self.label(),
            offset: 0,
            what: e.into(),
        })?;
        ChunkReader::new(input, self.label())
    }
}

/// Bytes read from a file at once.
const FILE_BUFFER: usize = 1 << 16;

fn open_file(path: &Path) -> io::Result<Input> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(Input::File(BufReader::with_capacity(FILE_BUFFER, file)))
}

/// The bytes of a place, being read.
#[derive(Debug)]
pub enum Input {
    /// From a file.
    File(BufReader<File>),
    /// From an object store.
    Object(ObjectReader),
}

impl Read for Input {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buf),
            Self::Object(object) => object.read(buf),
        }
    }
}

impl Seek for Input {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::File(file) => file.seek(to),
            Self::Object(object) => object.seek(to),
        }
    }

    // A `BufReader`'s own ones keep its buffer; `seek` throws it away.
    fn stream_position(&mut self) -> io::Result<u64> {
        match self {
            Self::File(file) => file.stream_position(),
            Self::Object(object) => object.stream_position(),
        }
    }

    fn seek_relative(&mut self, by: i64) -> io::Result<()> {
        match self {
            Self::File(file) => file.seek_relative(by),
            Self::Object(object) => object.seek_relative(by),
        }
    }
}
