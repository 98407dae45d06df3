//! Datasets made of another dataset's rows, as `cut`, `filter` and `split` do: where they are written until they are
//! whole, files of theirs that are shared with the other dataset, and files that are written anew.
//!
//! In a local folder all is written beside the place it is for, in a folder that one `rename` puts there: nobody ever sees
//! a part of it. The name next to it, `.NAME.pgtrace-RUN.lock`, is locked as long as the run lives, so what a killed run left is
//! known by its lock, which nobody holds, and removed by the next run for the same place. An object store has no `rename`:
//! there, a new dataset is empty until its one commit, and what a killed run left is removed as after any run (`runs`).

mod output;
mod place;
mod share;
mod write;

pub use output::{Output, Shared};
pub use place::Place;
pub use write::{FileWriter, Origin};

use crate::dataset::DatasetError;
use crate::error::IngestError;

/// What can go wrong where a dataset is made of another one. Nothing of it is visible then.
#[derive(Debug, thiserror::Error)]
pub enum DeriveError {
    /// The place for the result is in use.
    #[error("{location}: is not empty (found {found:?}); a result goes to an empty or a new place")]
    NotEmpty {
        /// The place, as the user named it.
        location: String,
        /// Something that is there.
        found: String,
    },
    /// The place for the result is within the dataset it is made of, or is that dataset.
    #[error("{location}: lies in the dataset that it would be made of, {from}; name another place")]
    Within {
        /// The place, as the user named it.
        location: String,
        /// The dataset.
        from: String,
    },
    /// The place for the result has no name of its own to be written beside, like `/`.
    #[error("{location}: expected the name of a folder that can be made, as in results/{command}")]
    NoName {
        /// The place, as the user named it.
        location: String,
        /// The command that was to write there.
        command: String,
    },
    /// Several datasets at once need a folder that can be put in place whole.
    #[error(
        "{location}: several datasets at once can only be written to a local folder: an object store cannot put all in place in one step"
    )]
    NotLocal {
        /// The place, as the user named it.
        location: String,
    },
    /// A file could not be shared, copied, synced, or put in its place.
    #[error("{path}: {cause}")]
    File {
        /// The file.
        path: String,
        /// The system's own words.
        cause: std::io::Error,
    },
    /// A file of the dataset it is made of is not what the manifest says.
    #[error(
        "{location}: data file {path} is missing or damaged: expected {expected} bytes as the manifest says, found {found}"
    )]
    Damaged {
        /// The dataset it is made of.
        location: String,
        /// The file within it.
        path: String,
        /// Bytes by the manifest.
        expected: u64,
        /// Bytes there are, in words.
        found: String,
    },
    /// The dataset cannot be written.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A file of it cannot be written.
    #[error(transparent)]
    Write(#[from] IngestError),
}

impl DeriveError {
    fn file(path: &std::path::Path, cause: std::io::Error) -> Self {
        Self::File {
            path: path.display().to_string(),
            cause,
        }
    }
}
