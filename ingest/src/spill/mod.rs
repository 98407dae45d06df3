//! What does not fit in memory waits in a temporary file: sequences of pieces of bytes ([`Tape`]), and sorting them
//! ([`Sorter`]). The file has no name, so nothing of it stays, however the program ends.

mod sort;
mod tape;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use sort::{Key, Merged, Sorter};
pub(crate) use tape::{Tape, TapeReader, TapeWriter};

use crate::error::IngestError;

/// Bytes of memory that names may wait in where nobody says otherwise.
const MEMORY: u64 = 32 << 20;
/// The part of the memory limit that names may wait in.
const SHARE: u64 = 8;

/// How much of what is read may wait in memory, and where the rest goes.
#[derive(Clone, Debug)]
pub struct Room {
    /// Bytes of memory, about.
    pub memory: u64,
    /// Folder of the temporary file.
    pub folder: PathBuf,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            memory: MEMORY,
            folder: std::env::temp_dir(),
        }
    }
}

impl Room {
    /// For a run that writes to a dataset in `folder`, or in an object store, and may use `memory` bytes in all.
    pub(crate) fn of(folder: Option<&Path>, memory: u64) -> Self {
        Self {
            memory: memory / SHARE,
            // Beside the dataset, if that is a folder: /tmp may be memory.
            folder: folder.map_or_else(std::env::temp_dir, Into::into),
        }
    }
}

/// A temporary file that grows by stretches; it is made when the first one comes.
#[derive(Clone, Debug)]
pub(crate) struct Temp(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: Option<File>,
    end: u64,
    /// Bytes that may stay in memory instead.
    spare: u64,
}

impl Temp {
    /// Small things stay in a quarter of the room's memory; the rest of it is for sorting.
    pub(crate) fn new(room: &Room) -> Self {
        let state = State {
            file: None,
            end: 0,
            spare: room.memory / 4,
        };
        Self(Arc::new(Inner {
            folder: room.folder.clone(),
            state: Mutex::new(state),
        }))
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether so many bytes may stay in memory; they count from now on.
    fn spare(&self, bytes: u64) -> bool {
        self.with(|state| match state.spare.checked_sub(bytes) {
            Some(left) => {
                state.spare = left;
                true
            }
            None => false,
        })
    }

    fn give_back(&self, bytes: u64) {
        self.with(|state| state.spare += bytes);
    }

    /// Writes a stretch; gives where it begins.
    fn write(&self, bytes: &[u8]) -> io::Result<u64> {
        self.with(|state| {
            let at = state.end;
            let file = match &mut state.file {
                Some(file) => file,
                None => {
                    let made = tempfile::tempfile_in(&self.0.folder)?;
                    state.file.insert(made)
                }
            };
            file.write_all_at(bytes, at)?;
            state.end += bytes.len() as u64;
            Ok(at)
        })
    }

    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.with(|state| match &state.file {
            Some(file) => file.read_exact_at(bytes, at),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        })
    }

    /// Tells where it went wrong.
    pub(crate) fn failed(&self, cause: io::Error) -> IngestError {
        IngestError::Input {
            path: format!(
                "{}: names that wait, in a temporary file",
                self.0.folder.display()
            )
            .into(),
            cause,
        }
    }

    /// Bytes on disk.
    #[cfg(test)]
    fn on_disk(&self) -> u64 {
        self.with(|state| state.end)
    }
}
