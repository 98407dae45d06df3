//! What can go wrong when something else than raw chunks is to become a recording.

use std::path::{Path, PathBuf};

use pgtrace_capture::chunk::ChunkError;

use crate::error::IngestError;

/// A file that cannot be translated. Nothing of it reaches a dataset.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file cannot be read, or the temporary folder not be written.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's own words.
        cause: std::io::Error,
    },
    /// The file as a whole is not what it should be.
    #[error("{}: expected {expected}, found {found}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The file cannot be parsed.
    #[error("{}: {what}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The parser's own words, with the place.
        what: String,
    },
    /// A column that `refs` does not have.
    #[error("{}: no column of refs is called {column:?}{} (--ignore-unknown-columns leaves it out)", path.display(), near_ones(near))]
    UnknownColumn {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// Columns whose names are nearly the same.
        near: Vec<&'static str>,
    },
    /// A value that cannot be used.
    #[error("{}: row {row}: column {column}: expected {expected}, found {found}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The row, from 1, the header not counted.
        row: u64,
        /// The column.
        column: &'static str,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// More names than memory allows: they are kept until the last reference.
    #[error(
        "{}: {names} processes and objects (with their texts {found} bytes) are too many for {limit} bytes, a quarter of the memory limit (--memory)",
        path.display()
    )]
    Names {
        /// The file.
        path: PathBuf,
        /// Names so far.
        names: u64,
        /// Bytes they take, about.
        found: u64,
        /// Bytes they may take.
        limit: u64,
    },
    /// What was named cannot be found.
    #[error(transparent)]
    Place(Box<IngestError>),
    /// The recording in the temporary folder cannot be written.
    #[error("cannot write a temporary recording (TMPDIR says where): {0}")]
    Chunk(#[from] ChunkError),
}

impl SourceError {
    pub(super) fn io(path: &Path, cause: std::io::Error) -> Self {
        let path = path.into();
        Self::Io { path, cause }
    }

    pub(super) fn format(
        path: &Path,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::Format {
            path: path.into(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    pub(super) fn parse(path: &Path, what: impl ToString) -> Self {
        Self::Parse {
            path: path.into(),
            what: what.to_string(),
        }
    }
}

fn near_ones(near: &[&'static str]) -> String {
    match near {
        [] => String::new(),
        near => format!("; did you mean {}?", near.join(" or ")),
    }
}
