//! What a local folder has and an object store has not: locks, `fsync`, and staged files that listings hide.
//!
//! A process that is killed lets go of its locks at once. So a file that is locked belongs to
//! somebody who lives, and one that is not, to nobody: nothing has to be guessed from times.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file that is locked as long as this lives.
#[derive(Debug)]
pub(crate) struct Held {
    path: PathBuf,
    file: File,
}

impl Held {
    /// Makes the file and locks it; `None`: the name is taken.
    ///
    /// Where the file system knows no locks, the file is held without one, and
    /// [`Held::dead`] takes it for alive for ever: litter stays, nothing is lost.
    pub(crate) fn create(path: &Path) -> io::Result<Option<Self>> {
        let file = match OpenOptions::new().write(true).create_new(true).open(path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(None),
            other => other?,
        };
        // A clean-up may find the file before it is locked, and take it for dead.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Ok(None);
        }
        let id = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
        let same = match std::fs::metadata(path) {
            Ok(there) => id(there) == id(file.metadata()?),
            Err(e) if e.kind() == ErrorKind::NotFound => false,
            Err(e) => return Err(e),
        };
        Ok(same.then(|| Self {
            path: path.into(),
            file,
        }))
    }

    /// Takes over a file that nobody holds any more; `None`: somebody does, or it is gone.
    pub(crate) fn dead(path: &Path) -> io::Result<Option<Self>> {
        // For writing, because NFS locks no other.
        let file = match OpenOptions::new().write(true).open(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        Ok(file.try_lock().is_ok().then(|| Self {
            path: path.into(),
            file,
        }))
    }

    /// Writes the file's content.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Removes the file, and only then lets go of it.
    pub(crate) fn remove(self) -> io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// Makes `path` with this content, all at once and for good: written beside it and synced, given
/// its name only if nobody has it, and the folder synced. `false`: somebody has it.
pub(crate) fn publish(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder)?;
    let mut number = 1u64;
    let mut staged = loop {
        // The form of a name that listings leave out.
        match Held::create(&with_suffix(path, &format!("#{number}")))? {
            Some(staged) => break staged,
            None => number += 1,
        }
    };
    let named = staged
        .write(bytes)
        .and_then(|()| staged.file.sync_all())
        .and_then(|()| match std::fs::hard_link(&staged.path, path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
            other => other.map(|()| true),
        });
    // What stays is unlocked soon, and the next run's to remove.
    let _ = staged.remove();
    let named = named?;
    sync_folder(folder)?;
    Ok(named)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Whether a file is one on its way to its name, `NAME#3`; the name.
pub(crate) fn staged(file_name: &str) -> Option<&str> {
    let (name, number) = file_name.rsplit_once('#')?;
    (!number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())).then_some(name)
}

/// The content of a file is on disk when this returns.
pub(crate) fn sync_file(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The names in a folder are on disk when this returns.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    match sync_file(path) {
        // Some network file systems cannot, and need not.
        Err(e) if [ErrorKind::InvalidInput, ErrorKind::Unsupported].contains(&e.kind()) => Ok(()),
        other => other,
    }
}

/// All files below `folder` of `root`, staged ones too, relative to `root` with `/`. Links are
/// not followed, and names that are no text are left out: neither is ours.
pub(crate) fn files(root: &Path, folder: &str) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_string()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(root.join(&folder)) {
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let path = format!("{folder}/{name}");
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Removes a file, and the folders above it that are empty then; it may be gone already.
pub(crate) fn remove(root: &Path, relative: &str) -> io::Result<()> {
    let path = root.join(relative);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let above = path.ancestors().skip(1);
    for folder in above.take_while(|folder| *folder != root) {
        if std::fs::remove_dir(folder).is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_held_file_is_alive_until_it_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let held = Held::create(&path).unwrap().unwrap();
        assert!(Held::create(&path).unwrap().is_none(), "the name is taken");
        assert!(Held::dead(&path).unwrap().is_none(), "it is held");
        drop(held);
        let dead = Held::dead(&path).unwrap().unwrap();
        dead.remove().unwrap();
        assert!(!path.exists() && Held::dead(&path).unwrap().is_none());
    }

    #[test]
    fn one_of_many_publishes_and_nothing_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/m.json");
        let won: usize = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..8)
                .map(|i| {
                    let path = &path;
                    scope.spawn(move || publish(path, format!("{i}").as_bytes()).unwrap())
                })
                .collect();
            tries
                .into_iter()
                .map(|t| usize::from(t.join().unwrap()))
                .sum()
        });
        assert_eq!(won, 1);
        assert_eq!(std::fs::read(&path).unwrap().len(), 1);
        assert_eq!(files(folder.path(), "deep").unwrap(), ["deep/er/m.json"]);
    }

    #[test]
    fn staged_names() {
        assert_eq!(staged("a.parquet#12"), Some("a.parquet"));
        for other in ["a.parquet", "a#", "#x", "a#1b"] {
            assert_eq!(staged(other), None, "{other}");
        }
    }
}
