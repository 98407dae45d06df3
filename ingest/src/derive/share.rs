//! Files that two datasets have: linked where that can be, else copied.

use std::io::ErrorKind;
use std::path::Path;

use futures::StreamExt;
use object_store::ObjectStoreExt;
use url::{Position, Url};

use super::DeriveError;
use super::output::{Output, Shared};
use crate::dataset::{Dataset, DatasetError};
use crate::manifest::FileEntry;
use crate::store::patiently;
use crate::upload::{PART, Upload};

impl Output {
    /// Makes a file of the dataset `from` one of this dataset, too, at `path`; it does not change, nor is it read if that
    /// can be helped. In local folders of one file system both names are of the same bytes, unless `copy`, and each
    /// dataset may remove its own. One object store copies by itself.
    ///
    /// # Errors
    /// The file is not what the manifest says, or cannot be copied.
    pub async fn share(
        &self,
        from: &Dataset,
        file: &FileEntry,
        path: String,
        copy: bool,
    ) -> Result<(FileEntry, Shared), DeriveError> {
        let shared = match (from.folder(), self.dataset.folder()) {
            (Some(a), Some(b)) => {
                let (a, b) = (a.join(&file.path), b.join(&path));
                let bytes = file.bytes;
                let done = tokio::task::spawn_blocking(move || link(&a, &b, bytes, copy)).await;
                let done = done.map_err(std::io::Error::other).flatten();
                done.map_err(|cause| match cause.kind() {
                    ErrorKind::NotFound | ErrorKind::InvalidData => DeriveError::Damaged {
                        location: from.location().into(),
                        path: file.path.clone(),
                        expected: file.bytes,
                        found: match cause.kind() {
                            ErrorKind::NotFound => "no such file".into(),
                            _ => cause.to_string(),
                        },
                    },
                    _ => DeriveError::File {
                        path: path.clone(),
                        cause,
                    },
                })?
            }
            _ => {
                self.fetch(from, file, &path).await?;
                Shared::Copied
            }
        };
        let entry = FileEntry {
            path,
            ..file.clone()
        };
        Ok((entry, shared))
    }

    /// Copies from one store to another, or within one.
    async fn fetch(&self, from: &Dataset, file: &FileEntry, path: &str) -> Result<(), DeriveError> {
        let failed = |at: &Dataset, cause| DatasetError::Store {
            location: at.location().into(),
            cause,
        };
        let (source, to) = (from.path_of(file), self.dataset.path(path));
        if same_store(from.location(), self.dataset.location()) {
            let copied = patiently(|| self.dataset.store().copy(&source, &to)).await;
            return Ok(copied.map_err(|cause| failed(&self.dataset, cause))?);
        }
        let got = patiently(|| from.store().get(&source)).await;
        let mut bytes = got.map_err(|cause| failed(from, cause))?.into_stream();
        let part = if self.dataset.is_local() { 1 } else { PART };
        let mut upload = Upload::new(self.dataset.store().clone(), to, part);
        while let Some(piece) = bytes.next().await {
            let sent = match piece {
                Ok(piece) => upload.append(piece.to_vec()).await,
                Err(cause) => {
                    upload.abort().await;
                    return Err(failed(from, cause).into());
                }
            };
            if let Err(cause) = sent {
                upload.abort().await;
                return Err(failed(&self.dataset, cause).into());
            }
        }
        let size = upload
            .finish()
            .await
            .map_err(|cause| failed(&self.dataset, cause))?;
        match size == file.bytes {
            true => Ok(()),
            false => Err(DeriveError::Damaged {
                location: from.location().into(),
                path: file.path.clone(),
                expected: file.bytes,
                found: format!("{size} bytes"),
            }),
        }
    }
}

/// Whether one store has both places, so that it can copy by itself.
fn same_store(a: &str, b: &str) -> bool {
    match (Url::parse(a), Url::parse(b)) {
        (Ok(a), Ok(b)) => a[..Position::BeforePath] == b[..Position::BeforePath],
        _ => false,
    }
}

fn link(from: &Path, to: &Path, bytes: u64, copy: bool) -> std::io::Result<Shared> {
    let found = std::fs::metadata(from)?.len();
    if found != bytes {
        let found = format!("{found} bytes");
        return Err(std::io::Error::new(ErrorKind::InvalidData, found));
    }
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder)?;
    }
    if !copy {
        // Another file system, one without links, or a file that has as many as it can.
        match std::fs::hard_link(from, to) {
            Ok(()) => return Ok(Shared::Linked),
            Err(e) if e.kind() == ErrorKind::NotFound => return Err(e),
            Err(_) => {}
        }
    }
    std::fs::copy(from, to)?;
    Ok(Shared::Copied)
}
