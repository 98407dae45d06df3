//! What can go wrong when raw chunks become a dataset. A message holds its cause, so there is no `source()`.

use std::path::PathBuf;

use pgtrace_capture::chunk::ChunkError;

use crate::dataset::DatasetError;
use crate::store;

/// An ingest that failed. Nothing of it is visible in the dataset.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// A file or folder of the input cannot be read.
    #[error("{}: {cause}", path.display())]
    Input {
        /// The file or folder.
        path: PathBuf,
        /// The system's own words.
        cause: std::io::Error,
    },
    /// The input names no chunk at all.
    #[error("{}: no raw chunks (*.pgt) in this folder", path.display())]
    NoChunks {
        /// The folder, or the URL.
        path: PathBuf,
    },
    /// A pattern of the input fits nothing.
    #[error("{pattern}: no file fits this pattern")]
    NoMatch {
        /// The pattern.
        pattern: String,
    },
    /// A URL of the input is none, or none that can be used.
    #[error("{url}: {detail}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        detail: String,
    },
    /// An object store of the input failed.
    #[error("{url}: {}", store::words(.cause))]
    InputStore {
        /// The URL that was asked for.
        url: String,
        /// The store's own words.
        cause: object_store::Error,
    },
    /// A chunk cannot be used at all.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// Two different files claim the same place in a recording.
    #[error("{}: expected one chunk {index} of CPU {cpu} of capture {capture_id}, found another: {}", second.display(), first.display())]
    SamePlace {
        /// The recording.
        capture_id: String,
        /// The CPU.
        cpu: u16,
        /// Index of the chunk among its CPU's.
        index: u32,
        /// One file.
        first: PathBuf,
        /// The other one.
        second: PathBuf,
    },
    /// A recording is in the dataset already, but not these chunks of it.
    #[error(
        "{location}: capture {capture_id} is in it already, without {new} of these chunks (first: {first}); a recording is ingested whole, so ingest all its chunks into a new dataset"
    )]
    PartlyIngested {
        /// The dataset.
        location: String,
        /// The recording.
        capture_id: String,
        /// Chunks given that the dataset does not hold.
        new: usize,
        /// Name of one of them.
        first: String,
    },
    /// The dataset was made with another layout than the one asked for.
    #[error("{location}: is partitioned by {found}, not by {asked}; a dataset keeps its layout")]
    OtherLayout {
        /// The dataset.
        location: String,
        /// Its layout.
        found: String,
        /// The layout on the command line.
        asked: String,
    },
    /// The memory limit leaves no room to work.
    #[error(
        "a memory limit of {found} bytes is too small: {cpus} CPUs need at least {least} (--memory)"
    )]
    Memory {
        /// The limit given.
        found: u64,
        /// The least that works for this recording.
        least: u64,
        /// CPUs of the recording.
        cpus: usize,
    },
    /// An option has a value that cannot be used.
    #[error("{0}")]
    Options(String),
    /// A chunk was changed while it was being read.
    #[error("{}: changed while it was being ingested: expected {expected} references of CPU {cpu}, found {found}", path.display())]
    Changed {
        /// A chunk of that CPU.
        path: PathBuf,
        /// The CPU.
        cpu: u16,
        /// References of the first reading.
        expected: u64,
        /// References of the second.
        found: u64,
    },
    /// The dataset cannot be opened or committed.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A file of the dataset cannot be written.
    #[error("{location}: cannot write {path}: {}", store::words(.cause))]
    Store {
        /// The dataset.
        location: String,
        /// The file, relative to the dataset.
        path: String,
        /// The store's own words.
        cause: object_store::Error,
    },
    /// A file of the dataset cannot be read.
    #[error("{location}: cannot read {path}: {cause}")]
    Read {
        /// The dataset.
        location: String,
        /// The file, relative to the dataset.
        path: String,
        /// The decoder's own words.
        cause: parquet::errors::ParquetError,
    },
    /// Rows could not be encoded.
    #[error("cannot encode {path}: {cause}")]
    Parquet {
        /// The file, relative to the dataset.
        path: String,
        /// The encoder's own words.
        cause: parquet::errors::ParquetError,
    },
    /// Threads or the runtime could not be started.
    #[error("cannot start worker threads: {0}")]
    Threads(String),
}

impl IngestError {
    /// Rows of the file at `path`, relative to the dataset, could not be encoded.
    pub(crate) fn not_encoded(path: &str, cause: parquet::errors::ParquetError) -> Self {
        Self::Parquet {
            path: path.into(),
            cause,
        }
    }
}

impl From<arrow::error::ArrowError> for IngestError {
    fn from(e: arrow::error::ArrowError) -> Self {
        Self::not_encoded("a batch", e.into())
    }
}
