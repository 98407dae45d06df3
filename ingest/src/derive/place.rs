//! Where results are written until they are whole.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rayon::prelude::*;
use uuid::Uuid;

use super::DeriveError;
use super::output::Output;
use crate::dataset::{Dataset, folder_of};
use crate::local::{self, Held};
use crate::manifest::Manifest;
use crate::runs::Marker;
use crate::schema::Table;
use crate::store::is_url;

/// Files synced at the same time: waiting for the disk, they share its writes.
const SYNCS: usize = 32;
/// How often, and how far apart, it is tried to remove what a failed run wrote.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);
/// Parts the name of what is to be from the name of the run.
const INFIX: &str = ".pgtrace-";
/// End of the name of the file whose lock says that the run lives.
const LOCK: &str = ".lock";

/// A place in which one dataset, or a folder of datasets, is being made.
#[derive(Debug)]
pub struct Place {
    location: String,
    command: String,
    root: Root,
}

#[derive(Debug)]
enum Root {
    /// A folder that gets its name in the end.
    Folder {
        staged: PathBuf,
        to: PathBuf,
        lock: Held,
    },
    /// An object store, where one dataset is made.
    Store {
        dataset: Box<Dataset>,
        marker: Marker,
    },
}

impl Place {
    /// Begins to write to `location`, where nothing may be yet, what `command` makes of the dataset `from`; removes what
    /// killed runs for the same place have left. `one`: a dataset; else a folder of several.
    ///
    /// # Errors
    /// [`DeriveError`]: the place is in use, lies in the dataset it is made of, or cannot be written.
    pub async fn begin(
        location: &str,
        command: &str,
        from: &Dataset,
        one: bool,
    ) -> Result<Self, DeriveError> {
        let root = match folder_of(location) {
            Some(folder) => begin_folder(location, command, &folder, from)?,
            None if one => begin_store(location, command, from).await?,
            None => {
                return Err(DeriveError::NotLocal {
                    location: location.into(),
                });
            }
        };
        Ok(Self {
            location: location.into(),
            command: command.into(),
            root,
        })
    }

    /// The dataset that is made here; `part`: the dataset of that name, in the folder that is made here. Laid out as `new`
    /// says.
    ///
    /// # Errors
    /// Its folder cannot be made.
    pub fn output(&self, part: Option<&str>, new: Manifest) -> Result<Output, DeriveError> {
        match &self.root {
            Root::Folder { staged, .. } => {
                let folder = part.map_or(staged.clone(), |part| staged.join(part));
                let name = format!("{}-{}", self.command, Uuid::new_v4().simple());
                let name = name.get(..self.command.len() + 13).unwrap_or(&name).into();
                Ok(Output::new(Dataset::unborn(&folder, new)?, name))
            }
            Root::Store { dataset, marker } => {
                let mut dataset = Dataset::clone(dataset);
                dataset.lay_out(new);
                Ok(Output::new(dataset, marker.file_name(&self.command)))
            }
        }
    }

    /// Writes a file beside the datasets of a folder.
    ///
    /// # Errors
    /// It cannot be written, or this is no folder of datasets.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), DeriveError> {
        let Root::Folder { staged, .. } = &self.root else {
            return Err(DeriveError::NotLocal {
                location: self.location.clone(),
            });
        };
        let path = staged.join(name);
        std::fs::write(&path, bytes).map_err(|cause| DeriveError::file(&path, cause))
    }

    /// Ends one dataset: in a folder its manifest is written, and nobody sees it before [`Place::publish`]; in a store
    /// that is the commit.
    ///
    /// # Errors
    /// The manifest cannot be written.
    pub async fn commit(&mut self, output: Output) -> Result<Manifest, DeriveError> {
        let (mut made, manifest) = output.into_manifest();
        match &mut self.root {
            Root::Folder { .. } => made.write_unsynced(&manifest)?,
            Root::Store { marker, .. } => marker.commit(&mut made, manifest.clone()).await?,
        }
        Ok(manifest)
    }

    /// Puts all in place, for good: when this returns it is on disk.
    ///
    /// # Errors
    /// Somebody else has put something there meanwhile, or the disk failed; nothing is visible then.
    pub async fn publish(self) -> Result<(), DeriveError> {
        let (staged, to, lock) = match self.root {
            Root::Folder { staged, to, lock } => (staged, to, lock),
            Root::Store { marker, .. } => {
                marker.end().await;
                return Ok(());
            }
        };
        let location = self.location;
        let publish = move || {
            let failed = |cause| DeriveError::file(&staged, cause);
            let done = sync_all(&staged).map_err(failed).and_then(|()| {
                // A folder that is empty is replaced, any other one is not.
                std::fs::rename(&staged, &to).map_err(|cause| match cause.kind() {
                    ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists => {
                        DeriveError::NotEmpty {
                            location,
                            found: first_in(&to).unwrap_or_default(),
                        }
                    }
                    _ => DeriveError::file(&to, cause),
                })
            });
            match done {
                Ok(()) => {
                    // The folder above need not be ours to open.
                    let _ = to.parent().map(local::sync_folder);
                    // What stays is unlocked, and the next run's to remove.
                    let _ = lock.remove();
                    Ok(())
                }
                Err(e) => {
                    discard(&staged, lock);
                    Err(e)
                }
            }
        };
        let done = tokio::task::spawn_blocking(publish).await;
        done.map_err(|e| DeriveError::file(Path::new("."), io::Error::other(e)))?
    }

    /// Removes what was written, after a failure.
    pub async fn abandon(self) {
        match self.root {
            Root::Folder { staged, lock, .. } => {
                let _ = tokio::task::spawn_blocking(move || discard(&staged, lock)).await;
            }
            Root::Store {
                mut dataset,
                marker,
            } => marker.abandon(&mut dataset).await,
        }
    }
}

/// Best effort: what stays is unlocked, and the next run's to remove.
fn discard(staged: &Path, lock: Held) {
    if gone(staged) {
        let _ = lock.remove();
    }
}

/// Removes a folder; whether it is gone. A write that had begun may end behind our back, and make it anew.
fn gone(folder: &Path) -> bool {
    let mut quiet = 0;
    for _ in 0..TRIES {
        match std::fs::remove_dir_all(folder) {
            Err(e) if e.kind() == ErrorKind::NotFound => quiet += 1,
            _ => quiet = 0,
        }
        if quiet > 1 {
            return true;
        }
        std::thread::sleep(PAUSE);
    }
    false
}

fn begin_folder(
    location: &str,
    command: &str,
    folder: &Path,
    from: &Dataset,
) -> Result<Root, DeriveError> {
    let failed = |cause| DeriveError::file(folder, cause);
    let folder = std::path::absolute(folder).map_err(failed)?;
    let no_name = || DeriveError::NoName {
        location: location.into(),
        command: command.into(),
    };
    let name = folder
        .file_name()
        .and_then(|n| n.to_str())
        .ok_or_else(no_name)?;
    let parent = folder.parent().ok_or_else(no_name)?;
    if from.folder().is_some_and(|from| folder.starts_with(from)) {
        return Err(DeriveError::Within {
            location: location.into(),
            from: from.location().into(),
        });
    }
    match std::fs::metadata(&folder) {
        Ok(meta) if meta.is_dir() => {
            if let Some(found) = first_in(&folder) {
                return Err(DeriveError::NotEmpty {
                    location: location.into(),
                    found,
                });
            }
        }
        Ok(_) => return Err(failed(io::Error::other("is a file; a result is a folder"))),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        Err(e) => return Err(failed(e)),
    }
    remove_dead(parent, name);
    loop {
        let id = Uuid::new_v4().simple().to_string();
        let staged = parent.join(format!(".{name}{INFIX}{id}"));
        let lock = parent.join(format!(".{name}{INFIX}{id}{LOCK}"));
        // The lock is there before the folder and stays until it is gone: no folder is ever without one.
        if let Some(lock) = Held::create(&lock).map_err(failed)? {
            std::fs::create_dir(&staged).map_err(failed)?;
            return Ok(Root::Folder {
                staged,
                to: folder,
                lock,
            });
        }
    }
}

/// Removes what killed runs for `parent/name` have left, as far as possible.
fn remove_dead(parent: &Path, name: &str) {
    let begin = format!(".{name}{INFIX}");
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let Ok(file) = entry.file_name().into_string() else {
            continue;
        };
        let Some(staged) = file.strip_suffix(LOCK).filter(|s| s.starts_with(&begin)) else {
            continue;
        };
        // One that somebody holds is of a run that lives.
        if let Ok(Some(lock)) = Held::dead(&entry.path()) {
            discard(&parent.join(staged), lock);
        }
    }
}

fn first_in(folder: &Path) -> Option<String> {
    let first = std::fs::read_dir(folder).ok()?.next()?.ok()?;
    Some(first.file_name().to_string_lossy().into_owned())
}

async fn begin_store(location: &str, command: &str, from: &Dataset) -> Result<Root, DeriveError> {
    let below = |a: &str, b: &str| {
        let (a, b) = (a.trim_end_matches('/'), b.trim_end_matches('/'));
        a == b || a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'))
    };
    if is_url(from.location()) && below(location, from.location()) {
        return Err(DeriveError::Within {
            location: location.into(),
            from: from.location().into(),
        });
    }
    let new = Manifest::new(Vec::new(), from.manifest().slice_rows);
    let mut dataset = Dataset::create_or_open(location, new).await?;
    let holds = |dataset: &Dataset| {
        let manifest = dataset.manifest();
        let table = Table::ALL.iter().find(|t| !manifest.files(**t).is_empty());
        table.map(|t| t.name().to_string())
    };
    let not_empty = |found| DeriveError::NotEmpty {
        location: location.into(),
        found,
    };
    if let Some(found) = holds(&dataset) {
        return Err(not_empty(found));
    }
    let (marker, _) = Marker::begin(&mut dataset, command, Duration::MAX).await?;
    if let Some(found) = holds(&dataset) {
        marker.end().await;
        return Err(not_empty(found));
    }
    let dataset = Box::new(dataset);
    Ok(Root::Store { dataset, marker })
}

/// All files and folders below `root` are on disk when this returns: files first, so that a name on disk is the name of a
/// whole file.
fn sync_all(root: &Path) -> io::Result<()> {
    let (mut files, mut folders, mut waiting) = (Vec::new(), Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => waiting.push(entry.path()),
                false => files.push(entry.path()),
            }
        }
        folders.push(folder);
    }
    let threads = rayon::ThreadPoolBuilder::new().num_threads(SYNCS).build();
    threads.map_err(io::Error::other)?.install(|| {
        files.par_iter().try_for_each(|f| local::sync_file(f))?;
        folders.par_iter().try_for_each(|f| local::sync_folder(f))
    })
}
