//! The folder a recording is written to.

use std::io;
use std::path::{Path, PathBuf};

use super::RecordError;
use super::drain::holds_chunks;

/// A folder made ready for chunks, and what to take back when nothing comes of the recording.
#[derive(Debug)]
pub(super) struct Output {
    dir: PathBuf,
    /// The first folder that had to be made.
    made: Option<PathBuf>,
}

impl Output {
    /// Makes the folder, or takes an existing one that holds no chunks yet.
    pub(super) fn prepare(dir: &Path) -> Result<Output, RecordError> {
        let fail = |cause| RecordError::Output {
            dir: dir.to_path_buf(),
            cause,
        };
        let made = first_missing(dir);
        std::fs::create_dir_all(dir).map_err(fail)?;
        let output = Output {
            dir: dir.to_path_buf(),
            made,
        };
        if holds_chunks(dir).map_err(fail)? {
            return Err(RecordError::NotEmpty {
                dir: dir.to_path_buf(),
            });
        }
        Ok(output)
    }

    /// Removes the chunks, and the folders that were made for them. What cannot be removed stays: the error that led
    /// here is the one to tell.
    pub(super) fn undo(self, chunks: impl IntoIterator<Item = PathBuf>) {
        for chunk in chunks {
            let _ = std::fs::remove_file(chunk);
        }
        let Some(made) = self.made else { return };
        let mut dir = Some(self.dir.as_path());
        while let Some(here) = dir.filter(|here| here.starts_with(&made)) {
            // Only empty ones go: somebody may have put something there.
            if std::fs::remove_dir(here).is_err() {
                return;
            }
            dir = here.parent();
        }
    }
}

fn first_missing(dir: &Path) -> Option<PathBuf> {
    dir.ancestors()
        .take_while(|a| !a.as_os_str().is_empty() && matches!(a.try_exists(), Ok(false)))
        .last()
        .map(Path::to_path_buf)
}

/// The first line of a file of /proc.
pub(super) fn proc_line(path: &str) -> io::Result<String> {
    Ok(std::fs::read_to_string(path)?.trim().to_string())
}
