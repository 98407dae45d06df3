//! `recorder.json` beside the chunks: how `pgtrace-capture snapshot` learns what the running recorder did.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::control::{ControlError, Module};
use crate::sys;

const FILE: &str = "recorder.json";
/// How often it is looked whether a snapshot is complete.
const TICK: Duration = Duration::from_millis(20);

/// What a recorder tells of itself and its snapshots.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Note {
    /// The recorder.
    pid: u32,
    /// Snapshots begun, those that failed included.
    pub(super) begun: u64,
    /// The last one that is complete, or failed.
    pub(super) done: u64,
    /// Its chunks.
    pub(super) chunks: Vec<PathBuf>,
    /// Why there is none.
    pub(super) failure: Option<String>,
    #[serde(skip)]
    dir: PathBuf,
    /// Kept open: it is how others find the folder.
    #[serde(skip)]
    open: Option<File>,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The module cannot be asked, or nothing is being recorded.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The recorder is not to be found.
    #[error(
        "the recorder (process {pid}) is not to be found: it may run in another container, or belong to another user"
    )]
    NoRecorder {
        /// Who it should be.
        pid: u32,
    },
    /// The recorder cannot be signalled.
    #[error("the recorder (process {pid}) cannot be asked: {cause}")]
    Signal {
        /// The recorder.
        pid: u32,
        /// What the system said.
        cause: io::Error,
    },
    /// The recorder ended before the snapshot was complete.
    #[error("the recording ended meanwhile: its last snapshot is in {}", dir.display())]
    Ended {
        /// Its folder.
        dir: PathBuf,
    },
    /// The recorder could not take it.
    #[error("{0}")]
    Failed(String),
}

impl Note {
    /// Begins to tell, in the folder of the chunks.
    pub(super) fn new(dir: &Path) -> io::Result<Note> {
        let dir = dir.canonicalize()?;
        let note = Note {
            pid: std::process::id(),
            open: Some(File::open(&dir)?),
            dir,
            ..Note::default()
        };
        note.write();
        Ok(note)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whoever reads sees all of it or nothing. A failure costs those who wait the answer, not the recording.
    pub(super) fn write(&self) {
        let new = self.dir.join(".recorder.json.new");
        let json = serde_json::to_vec(self).unwrap_or_default();
        let _ =
            std::fs::write(&new, json).and_then(|()| std::fs::rename(&new, self.dir.join(FILE)));
    }

    pub(super) fn remove(&self) {
        if self.open.is_some() {
            let _ = std::fs::remove_file(self.dir.join(FILE)); // at worst it names a process that is gone
        }
    }

    fn read(dir: &Path) -> Option<Note> {
        serde_json::from_slice(&std::fs::read(dir.join(FILE)).ok()?).ok()
    }
}

/// The folder a recorder writes to, as this process sees it.
fn folder_of(pid: u32) -> Option<PathBuf> {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
        .filter(|path| path.is_absolute())
        .find(|path| Note::read(path).is_some_and(|note| note.pid == pid))
}

/// Asks the running recorder for a snapshot. With `wait`, returns its chunks when they are on disk.
///
/// # Errors
/// There is no recorder, it cannot be asked, or it cannot take a snapshot.
pub fn snapshot(module: &Module, wait: bool) -> Result<Vec<PathBuf>, SnapshotError> {
    let status = module.status()?;
    if !status.is_recording() {
        return Err(ControlError::NotRecording.into());
    }
    let pid = status.recorder;
    let dir = folder_of(pid).ok_or(SnapshotError::NoRecorder { pid })?;
    let before = Note::read(&dir).unwrap_or_default();
    sys::ask_for_snapshot(pid).map_err(|cause| SnapshotError::Signal { pid, cause })?;
    if !wait {
        return Ok(Vec::new());
    }
    // One that runs already may have begun before the caller asked.
    let number = before.begun + 1;
    let mut looked = Instant::now();
    loop {
        std::thread::sleep(TICK);
        if let Some(note) = Note::read(&dir).filter(|note| note.pid == pid) {
            match note.failure {
                Some(why) if note.done >= number => return Err(SnapshotError::Failed(why)),
                None if note.done >= number => return Ok(note.chunks),
                Some(_) | None => {}
            }
        }
        if looked.elapsed() > Duration::from_millis(500) {
            looked = Instant::now();
            if folder_of(pid).is_none() {
                return Err(SnapshotError::Ended { dir });
            }
        }
    }
}
